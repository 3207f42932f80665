"""Cascades that compare answers, and AutoMix: by hand on a few queries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.contracts import SAID, SCORE
from routewright.core.types import Outcomes, Pool, Queries
from routewright.eval.replay import realised, replay
from routewright.routers.cascades.agreement import Agreement
from routewright.routers.cascades.automix import AutoMix
from routewright.routers.cascades.base import NOBODY, best_within, padded
from routewright.routers.cascades.consensus import Consensus

NAN = float("nan")


def table(quality: list[list[float]], said: list[list[float]], score: list[list[float]], usd: list[float]) -> Outcomes:
    n, m = np.shape(quality)
    text = np.array([f"q{i}" for i in range(n)], dtype=object)
    signals = {SAID: np.array(said), SCORE: np.array(score)}
    pool = Pool(tuple(f"m{j}" for j in range(m)))
    return Outcomes(Queries(text, text, np.full(n, "", dtype=object)), pool, np.array(quality), np.tile(usd, (n, 1)), signals=signals)


def three() -> Outcomes:
    """Two cheap models and a dear one that is always right. On the first two queries the cheap ones agree, and rightly."""
    quality = [[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1]]
    said = [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 2, 0]]
    score = [[0.9, 0.9, 0.9], [0.9, 0.9, 0.9], [0.6, 0.6, 0.9], [0.6, 0.6, 0.9]]
    return table(quality, said, score, [1.0, 2.0, 10.0])


def test_agreement_by_hand() -> None:
    """With two votes the dear model is asked on the last two: (3 + 3 + 13 + 13) / 4 = 8 USD for every answer right; knob 7/9 buys it."""
    cascade = Agreement(max_length=3).fit(three(), rng=np.random.default_rng(0))
    decisions = replay(cascade, three(), knob=0.8)
    assert decisions.called.tolist() == [[True, True, False], [True, True, False], [True, True, True], [True, True, True]]
    assert decisions.served.tolist() == [0, 0, 1, 2]  # the third is outvoted by two; on the last nobody agrees and the dearest decides
    quality, cost = realised(decisions, three())
    assert quality.tolist() == [1, 1, 1, 1]
    assert cost.tolist() == [3, 3, 13, 13]
    cheaper = replay(cascade, three(), knob=0.77)  # 8 USD are too many
    assert realised(cheaper, three())[1].mean() < 8


def test_answers_that_nobody_can_read_agree_with_nothing() -> None:
    outcomes = three()
    said = outcomes.signals[SAID].copy()
    said[1, :2] = NAN
    cascade = Agreement(max_length=3).fit(three(), rng=np.random.default_rng(0))
    blank = Outcomes(outcomes.queries, outcomes.pool, outcomes.quality, outcomes.cost, signals={SAID: said})
    assert replay(cascade, blank, knob=0.8).called[1].tolist() == [True, True, True]


def consensus(wrong: float = 1.0) -> Consensus:
    cascade = Consensus()
    cascade.wrong_ = np.array([wrong])
    return cascade


def test_beliefs_by_hand() -> None:
    """Two models right with chance .8 and .6, K = 4 wrong answers.

    They agree: .8 * .6 against that both are wrong alike, .2 * .4 / 16 * 4 of them. They do not: .8 * .1, .2 / 4 * .6 and
    (.2 * .4 / 16) * 3.
    """
    signals = {SCORE: np.array([[0.8, 0.6], [0.8, 0.6], [0.8, 0.6]]), SAID: np.array([[0, 0], [0, 1], [NAN, NAN]])}
    found = consensus(4.0)._beliefs(signals, [0, 1])
    alike = 0.48 / (0.48 + 4 * 0.2 / 4 * 0.4 / 4)
    first, second, neither = 0.8 * 0.4 / 4, 0.2 / 4 * 0.6, 3 * (0.2 / 4) * (0.4 / 4)
    assert found[0] == pytest.approx([alike, alike])
    assert found[1] == pytest.approx(np.array([first, second]) / (first + second + neither))
    assert found[2] == pytest.approx(found[1])  # two unreadable answers are two answers
    assert consensus(4.0)._beliefs(signals, [0])[:, 0] == pytest.approx(0.8)


@given(
    st.integers(1, 5).flatmap(
        lambda m: st.tuples(
            st.lists(st.floats(0.01, 0.99), min_size=m, max_size=m), st.lists(st.integers(0, 3), min_size=m, max_size=m), st.floats(1, 50)
        )
    )
)
def test_beliefs_are_chances(drawn: tuple[list[float], list[int], float]) -> None:
    """Of distinct answers they add up to at most one, equal answers share theirs, and the order of the models changes nothing."""
    score, said, wrong = drawn
    wrong = max(wrong, len(set(said)))  # K counts at least the wrong answers that were given
    signals = {SCORE: np.array([score]), SAID: np.array([said], dtype=float)}
    found = consensus(wrong)._beliefs(signals, list(range(len(score))))[0]
    by_answer = dict(zip(said, found, strict=True))
    assert sum(by_answer.values()) <= 1 + 1e-9
    assert found == pytest.approx([by_answer[answer] for answer in said])
    order = list(range(len(score)))[::-1]
    assert consensus(wrong)._beliefs(signals, order)[0] == pytest.approx(found[::-1])


def test_one_more_vote_for_an_answer_never_makes_it_less_likely() -> None:
    rng = np.random.default_rng(0)
    score, said = rng.uniform(0.3, 0.95, size=(200, 3)), rng.integers(0, 3, size=(200, 3)).astype(float)
    two = consensus(5.0)._beliefs({SCORE: score, SAID: said}, [0, 1])
    agreeing = np.column_stack([said[:, :2], said[:, 0]])
    three_ = consensus(5.0)._beliefs({SCORE: score, SAID: agreeing}, [0, 1, 2])
    assert (three_[:, 0] >= two[:, 0] - 1e-12).all()


def test_consensus_by_hand() -> None:
    """Agreement of two makes sure; disagreement asks the dear model, whose answer the others' votes support or not."""
    cascade = Consensus(max_length=3, doubt=0.0).fit(three(), rng=np.random.default_rng(0))
    quality, cost = realised(replay(cascade, three(), knob=0.8), three())
    assert quality.tolist() == [1, 1, 1, 1]
    assert cost.mean() <= 1 + 0.8 * 9


def test_automix_by_hand() -> None:
    """Half of the cheap model's answers are wrong, and its score says which: for half of the second model's price all become right."""
    quality, score = [[1, 1]] * 20 + [[0, 1]] * 20, [[0.9, 0.5]] * 20 + [[0.1, 0.5]] * 20
    outcomes = table(quality, [[0, 0]] * 40, score, [1.0, 10.0])
    cascade = AutoMix(bins=2).fit(outcomes, rng=np.random.default_rng(0))
    # 1 + 10 / 2 = 6 USD are 5/9 of the way from 1 to 10
    decisions = replay(cascade, outcomes, knob=0.575)
    assert decisions.called[:, 1].tolist() == [False] * 20 + [True] * 20
    assert realised(decisions, outcomes)[0].mean() == 1
    assert not replay(cascade, outcomes, knob=0.525).called[:, 1].any()
    assert cascade.belief_[0, 0] == pytest.approx([2.5 / 25, 1.0])  # 20 wrong ones, pulled by five at the mean of one half


@pytest.mark.parametrize("meta", ["pomdp", "threshold"])
def test_automix_believes_a_check_that_runs_the_wrong_way(meta: str) -> None:
    """A score that is high where the answer is wrong is as good as one that is low: the paper's reason for a meta-verifier. One threshold
    cannot turn it round."""
    quality, score = [[1, 1]] * 20 + [[0, 1]] * 20, [[0.1, 0.5]] * 20 + [[0.9, 0.5]] * 20
    outcomes = table(quality, [[0, 0]] * 40, score, [1.0, 10.0])
    cascade = AutoMix(meta=meta, bins=2).fit(outcomes, rng=np.random.default_rng(0))
    served = realised(replay(cascade, outcomes, knob=0.575), outcomes)[0].mean()
    assert served == (1.0 if meta == "pomdp" else 0.5)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=12), st.integers(0, 8))
def test_the_best_within_a_budget(rows: list[tuple[int, int]], more: int) -> None:
    """Nothing that is paid for is better, nothing as good is cheaper; of equals the first."""
    cost, quality = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    budget = cost.min() + more
    (row,) = best_within(cost, quality, np.array([budget]))
    wanted = min((i for i in range(len(rows)) if cost[i] <= budget), key=lambda i: (-quality[i], cost[i], i))
    assert row == wanted


def test_lists_are_padded() -> None:
    assert padded([[2], [0, 1]]).tolist() == [[2, NOBODY], [0, 1]]
