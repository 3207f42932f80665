"""The controls by hand: what each knows, and that it knows no more."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from routewright.core import policy
from routewright.core.contracts import Router
from routewright.core.types import Outcomes, Pool, Predictions, Queries
from routewright.data.split import folds
from routewright.eval import controls, metrics
from routewright.eval.crossfit import crossfit
from routewright.eval.ruler import Ruler
from routewright.eval.trial import fit_rivals
from routewright.routers.ridge import Ridge
from tests.conftest import make_outcomes

NAN = float("nan")
RNG = np.random.default_rng(0)


def column(*values: str) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def table(texts: list[str], groups: list[str], quality: list[list[float]], cost: list[list[float]] | None = None) -> Outcomes:
    ids = column(*(f"q{i}" for i in range(len(texts))))
    return Outcomes(Queries(ids, column(*texts), column(*groups)), Pool(("weak", "strong")), quality, cost or [[1.0, 10.0]] * len(texts))


GROUPED = table(
    ["a", "b", "c", "d"], ["math", "math", "chat", "chat"], [[0, 1], [0, NAN], [1, 1], [1, 0]], [[1, 10], [3, 20], [2, NAN], [2, 30]]
)


def test_group_mean_by_hand() -> None:
    """Overall (.5, 2/3). With a pull of two average queries: math weak (0 + 2 * .5) / 4, math strong (1 + 2 * 2/3) / 3 of one seen."""
    control = controls.GroupMean(shrink=2.0).fit(GROUPED, rng=RNG)
    predicted = control.predict(GROUPED.queries)
    math_, chat = [0.25, (1 + 4 / 3) / 3], [(2 + 1) / 4, (1 + 4 / 3) / 4]
    assert predicted.quality == pytest.approx(np.array([math_, math_, chat, chat]))
    assert predicted.cost == pytest.approx(np.array([[2.0, 20.0]] * 4)), "the mean of the costs that are known"


def test_an_unseen_group_is_level_with_the_training_rows() -> None:
    """With a pull of ten: strong in math (1 + 10 * 2/3) / 11, in chat (1 + 10 * 2/3) / 12, two rows each; a new group is their mean."""
    control = controls.GroupMean().fit(GROUPED, rng=RNG)
    new = table(["x", "y"], ["law", "math"], [[0, 0]] * 2).queries
    pulled = 1 + 20 / 3
    assert control.predict(new).quality[0] == pytest.approx([0.5, (pulled / 11 + pulled / 12) / 2])
    assert control.predict(new).quality[0] == pytest.approx(control.predict(GROUPED.queries).quality.mean(axis=0))
    assert control.predict(new.take(np.zeros(0, dtype=np.int64))).quality.shape == (0, 2)


def test_a_group_in_which_a_model_was_not_seen_gets_that_models_mean() -> None:
    data = table(["a", "b", "c"], ["math", "chat", "chat"], [[1, NAN], [0, 1], [0, 0]])
    assert controls.GroupMean().fit(data, rng=RNG).predict(data.queries).quality[0, 1] == pytest.approx(0.5)


def test_a_group_says_nothing_of_the_text() -> None:
    control = controls.GroupMean().fit(GROUPED, rng=RNG)
    other = table(["entirely", "else"], ["math", "math"], [[0, 0]] * 2).queries
    assert control.predict(other).quality[0].tolist() == control.predict(GROUPED.queries).quality[0].tolist()


def test_length_by_hand() -> None:
    """Characters 1, 3, 7: the logarithm of one more is 1, 2, 3 times log 2. Weak falls 1, .5, 0; strong stays."""
    data = table(["x", "xxx", "x" * 7], ["g"] * 3, [[1, 0.5], [0.5, 0.5], [0, 0.5]])
    control = controls.Length().fit(data, rng=RNG)
    assert control.predict(data.queries).quality == pytest.approx(np.array([[1, 0.5], [0.5, 0.5], [0, 0.5]]))
    longer = table(["y" * 15, ""], ["h"] * 2, [[0, 0]] * 2).queries
    assert control.predict(longer).quality == pytest.approx(np.array([[-0.5, 0.5], [1.5, 0.5]]))


def test_length_agrees_with_scikit_learn(outcomes: Outcomes) -> None:
    from sklearn.linear_model import LinearRegression

    texts = column(*("word " * (1 + 7 * i % 50) for i in range(len(outcomes))))
    queries = Queries(outcomes.queries.id, texts, outcomes.queries.group)
    data = Outcomes(queries, outcomes.pool, outcomes.quality, outcomes.cost)
    x = np.log1p([[len(text)] for text in texts])
    expected = LinearRegression().fit(x, outcomes.quality.astype(np.float64)).predict(x)
    assert controls.Length().fit(data, rng=RNG).predict(queries).quality == pytest.approx(expected)


def test_texts_of_one_length_give_the_mean() -> None:
    data = table(["aa", "bb"], ["g", "g"], [[0, 1], [1, 1]])
    assert controls.Length().fit(data, rng=RNG).predict(data.queries).quality == pytest.approx(np.array([[0.5, 1]] * 2))


def ranks(make: partial[Ridge] | partial[controls.ShuffledLabels], rng: np.random.Generator) -> float:
    """AUROC of the predicted gain, on fresh rows, for who wins where exactly one model is right."""
    whole = make_outcomes(rng, n=900)
    router: Router = make()
    fitted = router.fit(whole.take(np.arange(600)), rng=np.random.default_rng(3))
    rest = whole.take(np.arange(600, 900))
    quality = fitted.predict(rest.queries).quality
    apart = rest.quality[:, 0] != rest.quality[:, 1]
    won = rest.quality[apart, 1] > rest.quality[apart, 0]
    return metrics.auroc((quality[:, 1] - quality[:, 0])[apart, None], won[:, None].astype(float))


def test_shuffled_labels_destroy_a_planted_signal() -> None:
    ridge = partial(Ridge, kernel="linear")
    honest, shuffled = [], []
    for seed in range(4):
        honest.append(ranks(ridge, np.random.default_rng(seed)))
        shuffled.append(ranks(partial(controls.ShuffledLabels, ridge), np.random.default_rng(seed)))
    assert min(honest) > 0.65
    assert abs(np.mean(shuffled) - 0.5) < 0.08
    assert np.mean(honest) - np.mean(shuffled) > 0.15


def test_shuffled_labels_keep_the_grades_and_their_costs_together() -> None:
    kept: list[Outcomes] = []

    class Keep(controls.GroupMean):
        def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> Keep:
            kept.append(train)
            return super().fit(train, rng=rng)

    data = table([str(i) for i in range(40)], ["g", "h"] * 20, [[i / 40, 1 - i / 40] for i in range(40)], [[i, 100 + i] for i in range(40)])
    controls.ShuffledLabels(Keep).fit(data, rng=np.random.default_rng(0))
    (train,) = kept
    assert train.queries.id.tolist() == data.queries.id.tolist()
    assert train.quality.tolist() != data.quality.tolist()
    np.testing.assert_array_equal(np.sort(train.quality[:, 0]), data.quality[:, 0])
    assert train.cost[:, 0] / 40 == pytest.approx(train.quality[:, 0])
    assert train.cost[:, 1] - 100 == pytest.approx(train.cost[:, 0])


def test_the_random_curve_is_the_straight_line_of_a_pair(outcomes: Outcomes, rng: np.random.Generator) -> None:
    ruler = Ruler(outcomes, policy="threshold", rng=rng, replicates=100)
    sweep = ruler.sweep(Predictions(rng.random((len(outcomes), 2)), outcomes.cost))
    line = ruler.random_curve(sweep.curve())
    quality, cost = outcomes.quality.astype(np.float64).mean(axis=0), outcomes.cost.mean(axis=0)
    share = line.share[:, 1]
    assert share[0] == 0
    assert share[-1] == pytest.approx(1)
    assert line.quality == pytest.approx(quality[0] + share * (quality[1] - quality[0]))
    assert line.cost == pytest.approx(cost[0] + share * (cost[1] - cost[0]))
    assert metrics.apgr(share, line.quality, quality[0], quality[1])[0] == pytest.approx(0.5)


def test_the_random_curve_is_what_coins_give_on_average(rng: np.random.Generator) -> None:
    """Three models: the router's own shares at a knob, dealt to queries at random, many times."""
    outcomes = make_outcomes(rng, n=60, m=3)
    ruler = Ruler(outcomes, policy="cost_aware", rng=rng, replicates=100)
    curve = ruler.sweep(Predictions(rng.random((60, 3)), outcomes.cost)).curve()
    at = len(curve.knob) // 2
    served = np.repeat(np.arange(3), np.round(60 * curve.share[at]).astype(int))
    drawn = [outcomes.quality[np.arange(60), rng.permutation(served)].mean() for _ in range(3000)]
    assert ruler.random_curve(curve).quality[at] == pytest.approx(np.mean(drawn), abs=5 * np.std(drawn) / np.sqrt(3000))


@pytest.mark.parametrize("m", [2, 3])
def test_shuffled_decisions_keep_the_shares_at_every_knob(m: int, rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=80, m=m)
    scores = Predictions(rng.random((80, m)), np.tile(outcomes.cost.mean(axis=0), (80, 1)))
    shuffled = controls.shuffled_decisions(scores, rng)
    assert not np.array_equal(shuffled.quality, scores.quality)
    for knob in (1e6, 10.0, 1.0, 0.3, 0.0, -0.3):
        shares = [policy.decide(p.quality, p.cost, knob).called.mean(axis=0).tolist() for p in (scores, shuffled)]
        assert shares[0] == shares[1]


def test_the_oracle_is_the_ceiling(rng: np.random.Generator) -> None:
    """At every cost, no router on the same table stands higher, whatever it was told."""
    for m, name in ((2, "threshold"), (3, "cost_aware")):
        whole = make_outcomes(rng, n=120, m=m)
        flat = np.tile(whole.cost.mean(axis=0), (120, 1))
        outcomes = Outcomes(whole.queries, whole.pool, whole.quality, flat)
        ruler = Ruler(outcomes, policy=name, rng=rng, replicates=100)
        ceiling = ruler.sweep(controls.oracle(outcomes), lowest=0.0).curve()
        assert ceiling.quality[-1] == pytest.approx(outcomes.quality.max(axis=1).mean())
        for trial in range(10):
            noise = rng.random((120, m))
            told = Predictions(noise + (trial / 5) * outcomes.quality, flat)
            other = ruler.sweep(told).curve()
            assert np.all(other.quality <= np.interp(other.cost, ceiling.cost, ceiling.quality) + 1e-9)


def test_controls_are_never_exported() -> None:
    with pytest.raises(TypeError, match="GroupMean is a control"):
        controls.GroupMean().onnx()


def test_every_fitted_control_goes_through_the_same_folds(outcomes: Outcomes) -> None:
    make = partial(Ridge, kernel="linear")
    cuts = folds(outcomes.queries, kind="random", test=0.3, calibration=0.2, cv=3, rng=np.random.default_rng(0))
    found = fit_rivals(make, outcomes, cuts, np.random.default_rng(1))
    assert set(found) == {"group", "length", "short_first", "shuffled_labels"} == set(controls.fitted(make))
    rows = crossfit(controls.Length, outcomes, cuts, np.random.default_rng(0))
    np.testing.assert_array_equal(found["length"].quality, rows.predictions.quality)
    alone = Outcomes(
        Queries(outcomes.queries.id, outcomes.queries.text, column(*["one"] * len(outcomes)), outcomes.queries.embedding),
        outcomes.pool,
        outcomes.quality,
        outcomes.cost,
    )
    assert set(fit_rivals(make, alone, cuts, np.random.default_rng(1))) == {"length", "short_first", "shuffled_labels"}


def test_short_first_sends_the_shortest_queries_to_the_dearer_model() -> None:
    """Whatever the grades say: it ranks by length, and only as far as a query's price hangs on it."""
    texts = ["a" * n for n in (5, 50, 500)]
    data = table(["a", "b", "c"], ["x"] * 3, [[1, 0], [0, 1], [1, 1]])
    data = replace(data, queries=replace(data.queries, text=np.array(texts, dtype=object)))
    gain = np.diff(controls.ShortFirst().fit(data, rng=RNG).predict(data.queries).quality, axis=1)[:, 0]
    assert gain[0] > gain[1] > gain[2]
    flipped = replace(data, quality=data.quality[::-1])
    again = np.diff(controls.ShortFirst().fit(flipped, rng=RNG).predict(data.queries).quality, axis=1)[:, 0]
    assert again == pytest.approx(gain)
    unpriced = replace(data, cost=np.full((3, 2), NAN))
    assert np.isfinite(controls.ShortFirst().fit(unpriced, rng=RNG).predict(data.queries).quality).all()
