"""core/probability.py by hand: base rates, slopes, steps, cells without a score, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from routewright.core.probability import BLEND, ENOUGH, FLAT, UNTOLD, Probability
from routewright.core.types import InputError
from routewright.eval import metrics

NAN = float("nan")


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def sigmoid(x: np.ndarray | float) -> np.ndarray | float:
    return 1 / (1 + np.exp(-np.asarray(x)))


@pytest.mark.parametrize("method", ["auto", "isotonic", "temperature"])
def test_constant_scores_give_the_mean_grade(method: str) -> None:
    found = Probability.fit(np.full((4, 2), 7.0), np.array([[0, 1], [1, 1], [1, 1], [0.5, 1]]), method)
    assert found(np.array([[7.0, 7.0], [-99, 99]])) == pytest.approx(np.array([[0.625, 1.0]] * 2))


def test_two_scores_give_platts_shares() -> None:
    """Score 0: one right of four; score 1: three right of four. Two parameters fit both shares exactly.

    Platt's targets: 4 right and 4 wrong, so right counts as 5/6 and wrong as 1/6; the shares are 1/4 * 5/6 + 3/4 * 1/6 = 1/3, and 2/3.
    """
    found = Probability.fit(column(0, 0, 0, 0, 1, 1, 1, 1), column(1, 0, 0, 0, 1, 1, 1, 0), "temperature")
    assert found(column(0, 1)).ravel() == pytest.approx([1 / 3, 2 / 3])
    # log odds of 1/3 and 2/3 are -log 2 and log 2
    assert found.slope == pytest.approx([2 * np.log(2)])
    assert found.shift == pytest.approx([-np.log(2)])


def test_a_fraction_is_that_share_of_a_right_answer() -> None:
    """A grade of 1/4 on one answer teaches what one right among four does."""
    whole = Probability.fit(column(0, 0, 0, 0, 1, 1, 1, 1), column(1, 0, 0, 0, 1, 1, 1, 0), "temperature")
    shared = Probability.fit(column(0, 0, 0, 0, 1, 1, 1, 1), column(*[0.25] * 4, *[0.75] * 4), "temperature")
    assert shared.slope == pytest.approx(whole.slope)
    assert shared(column(0, 1)) == pytest.approx(whole(column(0, 1)))


def test_steps_by_hand() -> None:
    """Grades 0, 1, 0, 1 of rising scores: the middle two are out of order and share 1/2. Between knots, straight lines."""
    score, grade = column(0, 1, 2, 3), column(0, 1, 0, 1)
    smooth, stepped = (Probability.fit(score, grade, method) for method in ("temperature", "isotonic"))
    steps = np.array([0, 0.5, 0.5, 1])
    assert stepped(score).ravel() == pytest.approx((1 - BLEND) * steps + BLEND * smooth(score).ravel())
    between, beyond = stepped(column(0.5)).item(), stepped(column(9)).item()
    assert between == pytest.approx((1 - BLEND) * 0.25 + BLEND * smooth(column(0.5)).item())
    assert beyond == pytest.approx((1 - BLEND) * 1 + BLEND * smooth(column(9)).item())
    assert (np.diff(stepped(column(*np.linspace(-2, 5, 50))).ravel()) > 0).all(), "scores within a step still differ"


def test_a_score_that_falls_with_the_grade_is_flat_and_keeps_its_order() -> None:
    score, grade = column(0, 1, 2, 3), column(1, 1, 0, 0)
    for method in ("temperature", "isotonic"):
        found = Probability.fit(score, grade, method)
        assert found.slope == pytest.approx([FLAT / score.std()])
        made = found(score).ravel()
        assert made == pytest.approx([0.5] * 4, abs=1e-3)
        assert (np.diff(made) > 0).all()


def test_cells_without_a_score_get_their_own_rate_drawn_to_the_models() -> None:
    """Model 0: 6 right of 10, of its two cells without a score none: (0 + 10 * .6) / (2 + 10). Model 1 always has one: its mean grade."""
    score = np.column_stack([[NAN, NAN, 1, 2, 3, 4, 5, 6, 7, 8], np.arange(10)])
    grade = np.column_stack([[0, 0, 1, 1, 1, 1, 1, 1, 0, 0], [1] * 4 + [0] * 6])
    found = Probability.fit(score, grade)
    assert found(np.array([[NAN, NAN]])) == pytest.approx(np.array([[UNTOLD * 0.6 / (2 + UNTOLD), 0.4]]))


def test_a_model_without_scores_or_without_grades() -> None:
    """Without scores: the rate of its unscored cells, which is its mean. Without grades: the mean of all grades, 3 of 4."""
    score = np.array([[NAN, 1.0], [NAN, 2.0], [NAN, 3.0], [NAN, 4.0]])
    grade = np.array([[1, NAN], [1, NAN], [1, NAN], [0, NAN]])
    assert Probability.fit(score, grade)(np.array([[NAN, 2.0], [5.0, NAN]])) == pytest.approx(np.full((2, 2), 0.75))


def test_ungraded_cells_have_no_say() -> None:
    score, grade = np.arange(8.0)[:, None], column(0, 0, 1, 0, 1, 1, 1, 1)
    more = np.concatenate([score, [[1e6], [-3]]]), np.concatenate([grade, [[NAN], [NAN]]])
    for method in ("temperature", "isotonic"):
        assert Probability.fit(*more, method)(score) == pytest.approx(Probability.fit(score, grade, method)(score))


def test_auto_takes_what_does_better_on_rows_left_out() -> None:
    """Model 0's score is a line in log odds; model 1's is one without a shape, but with too few grades; model 2's the same, with enough."""
    rng = np.random.default_rng(0)
    line = rng.normal(size=600)
    chance = np.column_stack([sigmoid(line), *[sigmoid(4 * np.sign(line))] * 2])
    score = np.column_stack([line, *[-np.exp(-3 * line)] * 2])
    grade = (rng.random((600, 3)) < chance).astype(float)
    grade[ENOUGH - 1 :, 1] = NAN
    found = Probability.fit(score, grade)
    assert found.start.tolist() == [0, 0, 0, len(found.x)]
    assert len(found.x) > 2
    assert metrics.brier(found(score)[:, 2:], chance[:, 2:]) < 0.002


def test_infinite_scores_are_used_but_not_learned_from() -> None:
    found = Probability.fit(column(0, 1, 2, 3), column(0, 1, 0, 1))
    assert found(column(-np.inf, np.inf)).ravel() == pytest.approx([0, 1])
    with pytest.raises(InputError, match="infinite in row 1"):
        Probability.fit(column(0, np.inf), column(0, 1))


def test_separable_scores_stay_short_of_certainty() -> None:
    made = Probability.fit(column(0, 0, 1, 1), column(0, 0, 1, 1), "temperature")(column(0, 1)).ravel()
    assert made == pytest.approx([1 / 4, 3 / 4])  # two wrong and two right: Platt's targets


def test_state_and_load() -> None:
    rng = np.random.default_rng(0)
    score, grade = rng.normal(size=(320, 3)), (rng.random((320, 3)) < 0.5).astype(float)
    found = Probability.fit(score, grade)
    again = Probability.load({name: array.copy() for name, array in found.state().items()})
    assert again(score).tobytes() == found(score).tobytes()
    assert set(found.state()) == {"slope", "shift", "untold", "start", "x", "y"}


def test_what_it_refuses() -> None:
    score, grade = np.zeros((2, 2)), np.zeros((2, 2))
    with pytest.raises(InputError, match="auto, isotonic, temperature"):
        Probability.fit(score, grade, "platt")
    with pytest.raises(InputError, match="nothing to calibrate on"):
        Probability.fit(score, np.full((2, 2), NAN))
    with pytest.raises(InputError, match="shapes"):
        Probability.fit(score[:, :1], grade)
    with pytest.raises(InputError, match="other models"):
        Probability.fit(score, grade)(np.zeros((2, 3)))


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_promises_hold_on_a_fresh_sample(method: str) -> None:
    rng = np.random.default_rng(0)

    def sample() -> tuple[np.ndarray, np.ndarray]:
        chance = rng.uniform(0.05, 0.95, size=(12_000, 2))
        return np.column_stack([np.log(chance[:, 0] / (1 - chance[:, 0])) * 3 + 5, -5 / chance[:, 1]]), rng.random((12_000, 2)) < chance

    found, (score, grade) = Probability.fit(*sample(), method), sample()
    # the second model's score is no line in log odds, which only isotonic can follow
    off = [metrics.ece(found(score)[:, [j]], grade[:, [j]]) for j in range(2)]
    assert off[0] < 0.02
    assert off[1] < 0.02 if method == "isotonic" else off[1] > 0.04
