"""Further tables to learn from: weights, names, what is kept away from judged queries, and routers that know more models than judged."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from routewright.core import graph
from routewright.core.artifact import load_weights, save_weights
from routewright.core.calibrate import Affine
from routewright.core.columns import Columns
from routewright.core.types import Battles, InputError, Outcomes, Pool, Queries
from routewright.data import split
from routewright.data.load import Division, Loaded
from routewright.data.mix import Mixing, fought_on, lesson, stacked
from routewright.eval.crossfit import crossfit, own
from routewright.routers.knn import KNN
from routewright.routers.mf import MF
from tests.conftest import make_outcomes

RNG = np.random.default_rng


def queries(texts: list[str], vectors: np.ndarray | None = None, prefix: str = "e") -> Queries:
    columns = (np.array(part, dtype=object) for part in ([f"{prefix}{i}" for i in range(len(texts))], texts, [""] * len(texts)))
    return Queries(*columns, embedding=None if vectors is None else vectors.astype(np.float32))


def arena(texts: list[str], vectors: np.ndarray | None = None) -> Battles:
    """Every query fought once: gpt beats llama, and every third time gpt ties with claude."""
    rows = np.arange(len(texts))
    second = np.where(rows % 3 == 2, 2, 1)
    return Battles(
        queries(texts, vectors), Pool(("gpt", "llama", "claude")), rows, np.zeros_like(rows), second, np.where(second == 2, 0.5, 1.0)
    )


def unit(rng: np.random.Generator, n: int, d: int = 16) -> np.ndarray:
    rows = rng.normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def judged() -> Outcomes:
    return make_outcomes(RNG(0), n=60)


NAMES = {"gpt": "model1", "llama": "model0"}


def test_nothing_further_is_the_training_part_itself(judged: Outcomes) -> None:
    learn = lesson(judged, None, {}, Mixing(), None)
    assert learn(judged, "outcomes") is judged
    battles = learn(judged, "battles")
    assert isinstance(battles, Battles)
    assert battles.queries is judged.queries, "then the router needs no columns"
    assert battles.outcome.tolist() == judged.battles().outcome.tolist()


def test_names_weights_and_the_judged_models_first(judged: Outcomes) -> None:
    extra = {"arena": arena([f"arena prompt {i}" for i in range(9)])}
    learn = lesson(judged, None, extra, Mixing(own=0.5, weights={"arena": 2.0}, names=NAMES), lambda texts: unit(RNG(1), len(texts)))
    mixed = learn(judged.take(np.arange(20)), "battles")
    assert isinstance(mixed, Battles)
    assert mixed.pool.name == ("model0", "model1", "claude")
    assert mixed.weight is not None
    assert mixed.weight.tolist() == [0.5] * 20 + [2.0] * 9
    last = mixed.query[20:]
    assert [mixed.queries.text[row] for row in last] == [f"arena prompt {i}" for i in range(9)]
    # gpt was side a and is now model1, in column 1
    assert mixed.a[20:].tolist() == [1] * 9
    assert mixed.b[20:].tolist() == [0, 0, 2] * 3
    assert mixed.outcome[20:].tolist() == [1.0, 1.0, 0.5] * 3
    assert learn.told["arena"] == {"queries": 9, "same_text": 0, "near": 0}


def test_without_its_own_part_only_the_further_tables_are_learned_from(judged: Outcomes) -> None:
    learn = lesson(judged, None, {"arena": arena(["p 1", "p 2", "p 3"])}, Mixing(own=0, names=NAMES), None)
    mixed = learn(judged, "battles")
    assert isinstance(mixed, Battles)
    assert len(mixed) == len(mixed.queries) == 3


def test_judged_queries_and_their_neighbours_are_left_out(judged: Outcomes) -> None:
    vectors = unit(RNG(5), 4)
    vectors[1] = judged.queries.vectors()[7]
    vectors[2] = judged.queries.vectors()[8] + 0.5 * vectors[2]  # cosine about .9
    texts = ["  Question NUMBER 3 ".lower(), "almost the same", "a little like it", "of its own"]
    known = dict(zip(texts, vectors, strict=True))
    table = arena(texts)
    learn = lesson(judged, None, {"arena": table}, Mixing(names=NAMES), lambda asked: np.array([known[text] for text in asked]))
    assert learn.told["arena"] == {"queries": 2, "same_text": 1, "near": 1}
    found = learn.extra["arena"]
    assert found.queries.text.tolist() == texts[2:]
    strict = lesson(
        judged, None, {"arena": table}, Mixing(names=NAMES, nearest=0.8), lambda asked: np.array([known[text] for text in asked])
    )
    assert strict.told["arena"] == {"queries": 1, "same_text": 1, "near": 2}
    plain = lesson(judged, None, {"arena": table}, Mixing(names=NAMES), None)
    assert plain.told["arena"] == {"queries": 3, "same_text": 1, "near": 0}, "without embeddings only equal texts are known"


def test_only_the_judged_models(judged: Outcomes) -> None:
    learn = lesson(judged, None, {"arena": arena([f"p {i}" for i in range(6)])}, Mixing(own=0, names=NAMES, only=True), None)
    mixed = learn(judged, "battles")
    assert mixed.pool.name == ("model0", "model1")
    assert len(mixed) == 4, "two battles were with claude"
    with pytest.raises(InputError, match=r"too few judged models.*mix\.names"):
        lesson(judged, None, {"arena": arena(["p"])}, Mixing(only=True), None)


def test_battles_that_know_nothing_of_a_judged_model(judged: Outcomes) -> None:
    learn = lesson(judged, None, {"arena": arena(["p 1", "p 2"])}, Mixing(own=0, names={"gpt": "model1"}), None)
    with pytest.raises(InputError, match=r"model0.*mix\.names"):
        learn(judged, "battles")


def test_outcomes_are_stacked_for_routers_of_grades(judged: Outcomes) -> None:
    further = make_outcomes(RNG(9), n=10)
    others = Outcomes(
        queries([f"other {i}" for i in range(10)], further.queries.vectors(), "q"), further.pool, further.quality, further.cost
    )
    learn = lesson(judged, None, {"more": others}, Mixing(), None)
    mixed = learn(judged, "outcomes")
    assert isinstance(mixed, Outcomes)
    assert len(mixed) == 70
    assert mixed.queries.id[60] == "1/q0", "an id that stands twice"
    np.testing.assert_array_equal(mixed.quality[60:], others.quality)
    with pytest.raises(InputError, match=r"have no weights in mix\.weights\.more: expected 1, found 2.*router of battles"):
        lesson(judged, None, {"more": others}, Mixing(weights={"more": 2.0}), None)(judged, "outcomes")
    for further in ({}, {"more": others}):
        with pytest.raises(InputError, match=r"have no weights in mix\.own: expected 0 or 1, found 0\.5.*router of battles"):
            lesson(judged, None, further, Mixing(own=0.5), None)(judged, "outcomes")
    assert len(lesson(judged, None, {"more": others}, Mixing(own=0), None)(judged, "outcomes")) == 10
    with pytest.raises(InputError, match=r"learns from grades.*extra\.arena"):
        lesson(judged, None, {"arena": arena(["p"])}, Mixing(names=NAMES), None)(judged, "outcomes")
    battles = learn(judged, "battles")
    assert len(battles) == 70, "a router of battles compares them"


def test_one_table_is_not_stacked(judged: Outcomes) -> None:
    assert stacked([judged]) is judged


def test_the_sources_own_battles_follow_the_training_part() -> None:
    whole = arena([f"p {i}" for i in range(9)], unit(RNG(0), 9))
    part = whole.queries.take(np.array([8, 1, 3]))
    found = fought_on(whole, part)
    assert found.queries is part
    assert found.query.tolist() == [1, 2, 0]
    assert found.outcome.tolist() == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Mixing(own=-1), "impossible weight"),
        (lambda: Mixing(weights={"a": 0.0}), "impossible weight"),
        (lambda: Mixing(nearest=0.0), "no cosine"),
        (lambda: Mixing(own=0).check({}), "nothing to learn from"),
        (lambda: Mixing(weights={"b": 1.0}).check({"a": ["gpt"]}), "belongs to no further table in mix.weights: expected a, found b"),
        (lambda: Mixing(names={"gtp": "m", "llama": "n"}).check({"a": ["gpt"], "b": ["gpt", "llama"]}), "expected gpt, llama, found gtp"),
        (lambda: Mixing(names=NAMES).check({}), r"no model of a further table.*\+data@extra"),
    ],
)
def test_impossible_mixes_are_refused(made: partial[Mixing], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made()


def test_a_judged_table_that_nothing_is_learned_from_is_judged_whole(judged: Outcomes) -> None:
    shares = {"kind": "auto", "test": 0.3, "calibration": 0.1}
    division = Division.of(Loaded(judged, "random", None), judged.queries, shares, None, alone=True, rng=RNG(0))
    (cut,) = division.cuts
    assert len(cut.calibration) == 6
    assert sorted([*cut.calibration, *cut.test]) == list(range(60))
    with pytest.raises(InputError, match="folds need something"):
        Division.of(Loaded(judged, "random", None), judged.queries, shares, 5, alone=True, rng=RNG(0))
    keys = split.text_keys(judged.queries)
    assert not set(keys[cut.calibration]) & set(keys[cut.test])


# ---- a router that knows more models than are judged


def mixed_router(judged: Outcomes) -> Columns:
    extra = {"arena": arena([f"arena prompt {i}" for i in range(30)])}
    learn = lesson(judged, None, extra, Mixing(names=NAMES), lambda texts: unit(RNG(1), len(texts)))
    cuts = split.folds(judged.queries, kind="random", test=0.3, calibration=0.1, rng=RNG(2))
    found = crossfit(lambda: MF(dim=8, epochs=2), judged, cuts, RNG(3), learn).router
    assert isinstance(found, Columns)
    return found


def test_it_is_seen_through_the_judged_models(judged: Outcomes, tmp_path: Path) -> None:
    router = mixed_router(judged)
    inner = router.router.predict(judged.queries)
    seen = router.predict(judged.queries)
    assert inner.quality.shape == (60, 3)
    np.testing.assert_array_equal(seen.quality, inner.quality[:, :2])
    assert np.isfinite(seen.cost).all(), "costs are those of the judged data"
    scored = graph.run(router.onnx(), {"embedding": judged.queries.vectors()})
    assert np.abs(scored - seen.quality).max() < 1e-5
    save_weights(tmp_path, router, Affine.identity(2))
    again, _ = load_weights(tmp_path, MF(dim=8, epochs=2))
    assert again.predict(judged.queries).quality.tobytes() == seen.quality.tobytes()
    assert again.onnx().SerializeToString() == router.onnx().SerializeToString()
    assert (router.supervision, router.reads) == ("battles", "embedding")


def test_columns_may_stand_in_another_order_and_must_exist(judged: Outcomes) -> None:
    router = KNN(k=5).fit(judged, rng=RNG(0))
    turned = Columns(router, [1, 0], np.array([1.0, 2.0]))
    np.testing.assert_array_equal(turned.predict(judged.queries).quality, router.predict(judged.queries).quality[:, ::-1])
    assert turned.predict(judged.queries).cost[0].tolist() == [1.0, 2.0]
    with pytest.raises(InputError, match="does not have these models"):
        Columns(router, [2]).onnx()


def test_without_anything_further_the_router_itself_comes_back(judged: Outcomes) -> None:
    cuts = split.folds(judged.queries, kind="random", test=0.3, calibration=0.1, rng=RNG(2))
    assert isinstance(crossfit(lambda: MF(dim=8, epochs=1), judged, cuts, RNG(3), own).router, MF)
