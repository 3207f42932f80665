"""The routers on tables small enough to work by hand, and against scikit-learn or brute force where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core import graph
from routewright.core.types import InputError, Outcomes, Pool, Queries
from routewright.routers.base import blocks, column_means, patterns
from routewright.routers.constant import Constant
from routewright.routers.knn import KNN
from routewright.routers.logistic import Logistic
from routewright.routers.random import Random
from routewright.routers.ridge import Ridge, loo_ridge
from tests.conftest import make_outcomes

NAN = np.nan


def table(embedding: object, quality: object) -> Outcomes:
    rows = np.asarray(embedding, dtype=float)
    graded = np.asarray(quality, dtype=float)
    ids = np.array([f"q{i}" for i in range(len(rows))], dtype=object)
    pool = Pool(tuple("abcdef"[: graded.shape[1]]))
    return Outcomes(Queries(ids, ids, ids, rows), pool, graded, np.full(graded.shape, NAN))


def at(*angles: float) -> np.ndarray:
    """Unit vectors in the plane at these degrees: cosines are those of the differences."""
    radians = np.deg2rad(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def asked(embedding: object) -> Queries:
    return table(embedding, np.zeros((len(np.asarray(embedding)), 2))).queries


def with_holes(rng: np.random.Generator, n: int = 80, m: int = 3) -> Outcomes:
    outcomes = make_outcomes(rng, n=n, m=m)
    quality = np.array(outcomes.quality)
    quality[rng.random(quality.shape) < 0.4] = NAN
    return Outcomes(outcomes.queries, outcomes.pool, quality, outcomes.cost)


# constant and random


def test_constant_is_the_mean_of_what_was_observed(rng: np.random.Generator) -> None:
    router = Constant().fit(table(at(0, 90, 180), [[1, 0], [0, 1], [1, NAN]]), rng=rng)
    assert np.allclose(router.predict(asked(at(10, 200))).quality, [[2 / 3, 1 / 2]] * 2, atol=1e-6)


def test_random_scores_every_model_alike(outcomes: Outcomes, rng: np.random.Generator) -> None:
    assert np.array_equal(Random().fit(outcomes, rng=rng).predict(outcomes.queries).quality, np.full((200, 2), 0.5))


def test_random_draws_are_per_text_spread_and_unrelated(rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=3000, d=64)
    router = Random(draw=True).fit(outcomes, rng=np.random.default_rng(1))
    scores = router.predict(outcomes.queries).quality
    assert np.array_equal(router.predict(outcomes.queries.take(np.array([7]))).quality.round(9), scores[[7]].round(9))
    assert scores.min() >= 0
    assert scores.max() <= 1
    # (1 + sin) / 2 of a uniform angle has mean 1/2 and variance 1/8
    assert np.allclose(scores.mean(axis=0), 0.5, atol=0.03)
    assert np.allclose(scores.var(axis=0), 0.125, atol=0.01)
    assert np.abs(np.corrcoef(scores.T, outcomes.quality.T)[0, 1:]).max() < 0.06
    other = Random(draw=True).fit(outcomes, rng=np.random.default_rng(2)).predict(outcomes.queries).quality
    assert not np.allclose(other, scores)
    assert np.abs(graph.run(router.onnx(), {"embedding": outcomes.queries.vectors()}) - scores).max() < 1e-4


# k nearest neighbours


def test_knn_by_hand(rng: np.random.Generator) -> None:
    """Asked at 10 degrees, the two nearest of 0, 30, 90, 180 are 0 and 30; asked at 100 they are 90 and 30."""
    train = table(at(0, 30, 90, 180), [[1, 0], [0, 0], [1, 1], [0, 1]])
    scores = KNN(k=2).fit(train, rng=rng).predict(asked(at(10, 100))).quality
    assert np.allclose(scores, [[0.5, 0], [0.5, 0.5]])
    assert np.allclose(KNN(k=99).fit(train, rng=rng).predict(asked(at(10))).quality, [[0.5, 0.5]])


def test_knn_weights_by_hand(rng: np.random.Generator) -> None:
    """Cosines 1 and cos 60 = .5 at temperature .5 weigh 1 and exp(-1)."""
    train = table(at(0, 60, 180), [[1, 0], [0, 1], [1, 1]])
    scores = KNN(k=2, weights="distance", temperature=0.5).fit(train, rng=rng).predict(asked(at(0))).quality
    far = np.exp(-1)
    assert np.allclose(scores, [[1 / (1 + far), far / (1 + far)]], atol=1e-6)


def test_knn_counts_every_tie_at_the_kth(rng: np.random.Generator) -> None:
    """30 and -30 are equally far from 0: with k = 2 all three count, in any order of the training rows."""
    train = table(at(0, 30, -30, 170), [[1, 0], [0, 1], [0, 0], [1, 1]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        router = KNN(k=2).fit(train.take(np.array(order)), rng=rng)
        assert np.allclose(router.predict(asked(at(0))).quality, [[1 / 3, 1 / 3]], atol=1e-6)
        assert np.allclose(graph.run(router.onnx(), {"embedding": at(0).astype(np.float32)}), [[1 / 3, 1 / 3]], atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0, 3.0])
def test_knn_counts_what_lies_within_the_edge_in_part(share: float, rng: np.random.Generator) -> None:
    """The second neighbour lies `share` of the edge below the first: its weight is what is left of it."""
    cosine = np.cos(np.radians(30)) - share * 0.01
    router = KNN(k=1, edge=0.01).fit(table(at(30, np.degrees(np.arccos(cosine)), 170), [[1, 1], [0, 0], [0, 0]]), rng=rng)
    expected = 1 / (1 + max(0.0, 1 - share))
    assert np.allclose(router.predict(asked(at(0))).quality, expected, atol=1e-4)
    assert np.allclose(graph.run(router.onnx(), {"embedding": at(0).astype(np.float32)}), expected, atol=1e-4)


def test_knn_is_continuous_in_the_embedding(outcomes: Outcomes, rng: np.random.Generator) -> None:
    """What two kernels differ by, 1e-7, moves no score by 1e-4: the exported graph decides as the trained router does."""
    router = KNN(k=20).fit(outcomes, rng=rng)
    vectors = outcomes.queries.vectors()
    moved = vectors + 1e-7 * rng.choice([-1, 1], size=vectors.shape).astype(np.float32)
    scores = router.predict(outcomes.queries).quality
    assert np.abs(router.predict(outcomes.queries.encoded(moved)).quality - scores).max() < 1e-4


def test_knn_looks_for_k_rows_of_each_model(rng: np.random.Generator) -> None:
    """b was not observed on the nearest row, so its two neighbours are the second and the third."""
    train = table(at(0, 20, 40, 120), [[1, NAN], [0, 1], [1, 0], [0, 0]])
    router = KNN(k=2).fit(train, rng=rng)
    assert np.allclose(router.predict(asked(at(0))).quality, [[0.5, 0.5]])
    nearest = KNN(k=1).fit(train, rng=rng)
    assert np.allclose(nearest.predict(asked(at(0))).quality, [[1, 1]])
    assert np.allclose(graph.run(nearest.onnx(), {"embedding": at(0).astype(np.float32)}), [[1, 1]])


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_knn_is_brute_force_for_each_model(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    train, queries = with_holes(rng), make_outcomes(rng, n=5).queries
    scores = KNN(k=k, edge=1e-7).fit(train, rng=rng).predict(queries).quality
    for j in range(3):
        seen = ~np.isnan(train.quality[:, j])
        cosine = queries.vectors().astype(float) @ train.queries.vectors()[seen].T
        nearest = np.argsort(-cosine, axis=1)[:, :k]
        assert np.allclose(scores[:, j], train.quality[seen, j][nearest].mean(axis=1), atol=1e-5)


def test_knn_agrees_with_scikit_learn(outcomes: Outcomes, rng: np.random.Generator) -> None:
    from sklearn.neighbors import KNeighborsRegressor

    queries = make_outcomes(rng, n=50).queries
    theirs = KNeighborsRegressor(20, metric="cosine", algorithm="brute").fit(outcomes.queries.vectors(), outcomes.quality)
    ours = KNN(k=20, edge=1e-7).fit(outcomes, rng=rng).predict(queries).quality
    assert np.allclose(ours, theirs.predict(queries.vectors()), atol=1e-6)


def test_knn_in_blocks_is_knn(outcomes: Outcomes, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    router = KNN(k=20).fit(outcomes, rng=rng)
    whole = router.predict(outcomes.queries).quality
    monkeypatch.setattr("routewright.routers.base.BLOCK", 7 * 200)
    assert np.allclose(router.predict(outcomes.queries).quality, whole, atol=1e-6)


# logistic regression


def test_logistic_agrees_with_scikit_learn(outcomes: Outcomes, rng: np.random.Generator) -> None:
    from sklearn.linear_model import LogisticRegression

    ours = Logistic(C=2.0).fit(outcomes, rng=rng).predict(outcomes.queries).quality
    for j in range(2):
        theirs = LogisticRegression(C=2.0).fit(outcomes.queries.vectors().astype(float), outcomes.quality[:, j])
        assert np.allclose(ours[:, j], theirs.predict_proba(outcomes.queries.vectors())[:, 1], atol=1e-4)


def test_logistic_counts_a_share_of_a_right_answer(rng: np.random.Generator) -> None:
    """A grade of .25 is one right answer and three wrong ones on four copies of the query, at a quarter of the penalty's weight."""
    train = make_outcomes(rng, n=60, binary=False)
    quarters = np.round(train.quality * 4) / 4
    train = Outcomes(train.queries, train.pool, quarters, train.cost)
    copies = np.repeat(np.arange(60), 4)
    votes = (np.tile(np.arange(4), 60)[:, None] < 4 * quarters[copies]).astype(float)
    four = table(train.queries.vectors()[copies], votes)
    ours = Logistic(C=1.0).fit(train, rng=rng).predict(train.queries).quality
    assert np.allclose(ours, Logistic(C=0.25).fit(four, rng=rng).predict(train.queries).quality, atol=1e-3)


def test_logistic_on_a_single_class_by_hand(rng: np.random.Generator) -> None:
    """Three right of three: 3.5 / 4. None right of two: .5 / 3."""
    router = Logistic().fit(table(at(0, 10, 20), [[1, 0], [1, 0], [1, NAN]]), rng=rng)
    assert np.allclose(router.predict(asked(at(5, 100))).quality, [[3.5 / 4, 0.5 / 3]] * 2, atol=1e-6)


def test_logistic_on_average_promises_what_it_saw(outcomes: Outcomes, rng: np.random.Generator) -> None:
    """A free intercept makes the mean predicted chance the mean grade."""
    predicted = Logistic().fit(outcomes, rng=rng).predict(outcomes.queries).quality
    assert np.allclose(predicted.mean(axis=0), outcomes.quality.mean(axis=0), atol=1e-3)


# ridge regression


def test_ridge_by_hand(rng: np.random.Generator) -> None:
    """x = -1, 1 and y = 0, 1: slope = sum(x y) / (sum(x x) + alpha) = 1 / (2 + 2) and intercept 1/2."""
    router = Ridge(kernel="linear", alphas=(2.0,)).fit(table([[-1], [1]], [[0, 1], [1, 1]]), rng=rng)
    assert np.allclose(router.predict(asked([[1.0], [-1.0]])).quality, [[0.75, 1], [0.25, 1]])


def test_ridge_agrees_with_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.linear_model import RidgeCV

    outcomes = make_outcomes(rng, n=150)
    alphas = (0.03, 0.3, 3.0, 30.0)
    theirs = RidgeCV(alphas).fit(outcomes.queries.vectors().astype(float), outcomes.quality)
    ours = Ridge(kernel="linear", alphas=alphas).fit(outcomes, rng=rng)
    assert ours.alpha_[0] == theirs.alpha_
    assert np.allclose(ours.predict(outcomes.queries).quality, theirs.predict(outcomes.queries.vectors()), atol=1e-4)


def test_leave_one_out_is_that_of_refitting(rng: np.random.Generator) -> None:
    x, y, alphas = rng.normal(size=(12, 4)), rng.normal(size=(12, 2)), np.array([0.1, 5.0])
    _, _, closed = loo_ridge(x, y, alphas)
    for alpha, error in zip(alphas, closed, strict=True):
        total = 0.0
        for row in range(12):
            keep = np.arange(12) != row
            slope, bias, _ = loo_ridge(x[keep], y[keep], np.array([alpha]))
            total += ((y[row] - x[row] @ slope[0] - bias[0]) ** 2).sum()
        assert error == pytest.approx(total)


@pytest.mark.parametrize("landmarks", [10, 1000], ids=["exact solve", "landmarks everywhere"])
def test_kernel_ridge_solves_its_equations(landmarks: int, rng: np.random.Generator) -> None:
    """(K + alpha I) c + b = y with sum(c) = 0, by a dense solve with the distances written out, model by model on its observed rows."""
    train, queries = with_holes(rng), make_outcomes(rng, n=9).queries
    router = Ridge(gamma=0.7, alphas=(0.5,), landmarks=landmarks).fit(train, rng=rng)
    for j in range(3):
        seen = ~np.isnan(train.quality[:, j])
        x, z = train.queries.vectors()[seen].astype(float), queries.vectors().astype(float)
        n = len(x)
        kernel = np.exp(-0.7 * ((x[:, None] - x) ** 2).sum(axis=2))
        system = np.block([[kernel + 0.5 * np.eye(n), np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
        solved = np.linalg.solve(system, np.append(train.quality[seen, j], 0))
        expected = np.exp(-0.7 * ((z[:, None] - x) ** 2).sum(axis=2)) @ solved[:-1] + solved[-1]
        if landmarks == 1000:  # every row carries the function there, those of other models too: a slightly richer space, same penalty
            assert np.abs(router.predict(queries).quality[:, j] - expected).max() < 1e-3
        else:
            assert np.allclose(router.predict(queries).quality[:, j], expected, atol=1e-4)


def test_ridge_above_its_exact_size_solves_for_the_landmarks(rng: np.random.Generator) -> None:
    """Least squares of y on b + K c with penalty alpha c' K_LL c, by its normal equations; K holds similarities to the landmarks."""
    outcomes = make_outcomes(rng, n=300)
    router = Ridge(alphas=(0.5,), landmarks=100, exact=299).fit(outcomes, rng=rng)
    x, chosen = outcomes.queries.vectors().astype(float), router.state()["landmarks_"].astype(float)
    assert chosen.shape == (100, 16)
    kernel = np.exp(-((x[:, None] - chosen) ** 2).sum(axis=2))
    among = np.exp(-((chosen[:, None] - chosen) ** 2).sum(axis=2))
    centred, level = kernel - kernel.mean(axis=0), outcomes.quality.mean(axis=0)
    weights = np.linalg.solve(centred.T @ centred + 0.5 * among, centred.T @ (outcomes.quality - level))
    assert np.abs(router.predict(outcomes.queries).quality - (level + centred @ weights)).max() < 1e-3


@pytest.mark.parametrize(
    "router",
    [
        Ridge(kernel="cubic"),
        Ridge(alphas=()),
        Ridge(alphas=(0.0,)),
        Ridge(gamma=0.0),
        Ridge(landmarks=0),
        KNN(k=0),
        KNN(weights="other"),
        KNN(weights="distance", temperature=0.0),
        Logistic(C=0.0),
    ],
    ids=lambda router: f"{type(router).__name__}-{len(vars(router))}",
)
def test_impossible_options_are_refused(router: Ridge | KNN | Logistic, outcomes: Outcomes, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="expected"):
        router.fit(outcomes, rng=rng)


# what they share


def test_column_means_and_patterns_by_hand() -> None:
    quality = np.array([[1, NAN, 0], [0, NAN, NAN], [1, NAN, 1]])
    means = column_means(quality)
    assert means[0] == pytest.approx(2 / 3)
    assert np.isnan(means[1])
    assert means[2] == 0.5
    distinct, of_model = patterns(quality)
    assert np.array_equal(distinct[of_model], ~np.isnan(quality).T)
    assert len(patterns(np.ones((5, 4)))[0]) == 1


@given(st.integers(0, 500), st.integers(1, 40_000_000))
def test_blocks_cover_every_row_once(n: int, width: int) -> None:
    rows = np.arange(n)
    assert np.array_equal(np.concatenate([rows[block] for block in blocks(n, width)]), rows)
