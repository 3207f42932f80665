"""What must hold of every chosen share: the nearest that a threshold reaches, monotone in what is asked, and never behind a quantile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core import policy
from routewright.core.types import Outcomes, Pool, Predictions, Queries
from routewright.eval.curves import Sweep
from routewright.eval.points import sharing
from routewright.eval.promises import Ask
from routewright.eval.ruler import Pair

PAIR = Pair(0, 1, 1)
FRACTIONS = st.floats(0, 1, allow_nan=False)
GAINS = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40)
TIED = st.lists(st.sampled_from([-0.5, -0.1, 0.0, 0.2, 0.4]), min_size=1, max_size=40)


def swept(gains: np.ndarray) -> tuple[Sweep, Outcomes]:
    """A pair with these predicted gains, a dollar and ten a call."""
    n = len(gains)
    names = np.array([f"q{i}" for i in range(n)], dtype=object)
    outcomes = Outcomes(Queries(names, names, names), Pool(("weak", "strong")), np.tile([0.2, 0.8], (n, 1)), np.tile([1.0, 10.0], (n, 1)))
    scores = Predictions(np.column_stack([np.zeros(n), gains]), outcomes.cost)
    return Sweep(scores, outcomes, policy="threshold", weak=0, strong=1), outcomes


def share_at(knob: float, gains: np.ndarray) -> float:
    """As a gateway would decide it."""
    n = len(gains)
    return float(policy.decide(np.column_stack([np.zeros(n), gains]), np.tile([0.0, 1.0], (n, 1)), knob).served.mean())


@given(GAINS | TIED, FRACTIONS, st.sampled_from(["strong_share", "spend"]))
def test_the_share_reached_is_the_nearest_that_any_threshold_reaches(values: list[float], asked: float, kind: str) -> None:
    gains = np.array(values)
    path, outcomes = swept(gains)
    reached = share_at(sharing(Ask(kind, asked), path, outcomes, PAIR), gains)
    # a threshold at each gain and one below all of them: every share there is, up to gains that differ by rounding only
    thresholds = [*gains, gains.min() - 1]
    reachable = np.array([(gains > at + 1e-9 * max(1, abs(at))).mean() for at in thresholds])
    nearest = np.abs(reachable - asked).min()
    assert abs(reached - asked) == pytest.approx(nearest, abs=1e-9)
    assert reached == pytest.approx(reachable[np.abs(reachable - asked) <= nearest + 1e-9].min()), "of two equally near the cheaper"


@given(GAINS | TIED, FRACTIONS, FRACTIONS, st.sampled_from(["strong_share", "spend"]))
def test_asking_for_more_never_gives_less(values: list[float], one: float, two: float, kind: str) -> None:
    path, outcomes = swept(np.array(values))
    knobs = [sharing(Ask(kind, asked), path, outcomes, PAIR) for asked in sorted((one, two))]
    assert knobs[0] >= knobs[1]
    low, high = (share_at(knob, np.array(values)) for knob in knobs)
    assert low <= high


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(0, 60))
def test_of_scores_that_differ_the_knob_is_a_quantile(seed: int, n: int, calls: int) -> None:
    """Hazen's rule puts the quantile in the middle between the last query called and the first one not called."""
    gains = np.random.default_rng(seed).normal(size=n)
    path, outcomes = swept(gains)
    share = min(calls, n) / n
    knob = sharing(Ask("strong_share", share), path, outcomes, PAIR)
    assert share_at(knob, gains) == pytest.approx(share)
    if 0 < share < 1:
        assert knob == pytest.approx(np.quantile(gains, 1 - share, method="hazen"))


@given(st.integers(0, 10_000), st.integers(1, 60), FRACTIONS, st.sampled_from(["linear", "lower", "higher", "weibull", "median_unbiased"]))
def test_no_quantile_comes_nearer(seed: int, n: int, asked: float, method: str) -> None:
    gains = np.random.default_rng(seed).normal(size=n)
    path, outcomes = swept(gains)
    ours = abs(share_at(sharing(Ask("strong_share", asked), path, outcomes, PAIR), gains) - asked)
    assert ours <= abs((gains > np.quantile(gains, 1 - asked, method=method)).mean() - asked) + 1e-9
    assert ours <= 0.5 / n + 1e-9


@given(st.integers(0, 10_000), FRACTIONS, FRACTIONS)
def test_spend_of_many_models_never_falls_as_more_is_asked(seed: int, one: float, two: float) -> None:
    """Costs differ by query, so that a dearer model is cheaper on some; nothing that is skipped was nearer than what was taken."""
    rng = np.random.default_rng(seed)
    n, m = 30, 4
    names = np.array([f"q{i}" for i in range(n)], dtype=object)
    cost = rng.lognormal(np.arange(m), 1.0, size=(n, m))
    outcomes = Outcomes(Queries(names, names, names), Pool(tuple("abcd")), rng.random((n, m)), cost)
    scores = Predictions(rng.integers(6, size=(n, m)) / 5, np.tile(cost.mean(axis=0), (n, 1)))
    order = np.argsort(cost.mean(axis=0))
    pair = Pair(int(order[0]), int(order[-1]), int(order[-1]))
    path = Sweep(scores, outcomes, policy="cost_aware", weak=pair.weak, strong=pair.strong)
    knobs = [sharing(Ask("spend", asked), path, outcomes, pair) for asked in sorted((one, two))]
    assert knobs[0] >= knobs[1]


@given(st.floats(0, 1, allow_nan=False, exclude_min=True), st.sampled_from(["strong_share", "spend", "quality"]))
def test_a_name_parses_back_to_the_very_number(value: float, kind: str) -> None:
    assert Ask.parse(Ask(kind, value).name) == Ask(kind, value)
