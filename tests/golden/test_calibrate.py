"""Calibration by hand and as a property: one slope for all models, a shift for each, and no ranking of a pair ever changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.calibrate import WEAKEST, Affine
from routewright.core.types import Outcomes, Pool, Predictions, Queries
from routewright.eval import metrics

NAN = float("nan")


def outcomes(quality: np.ndarray) -> Outcomes:
    n, m = quality.shape
    names = np.array([f"q{i}" for i in range(n)], dtype=object)
    return Outcomes(Queries(names, names, names), Pool(tuple(f"m{j}" for j in range(m))), quality, np.ones((n, m)))


def predictions(score: np.ndarray) -> Predictions:
    return Predictions(score, np.ones(score.shape))


def fitted(score: list[list[float]], quality: list[list[float]]) -> Affine:
    return Affine.fit(predictions(np.array(score)), outcomes(np.array(quality)))


def test_slope_and_shifts_by_hand() -> None:
    """Model 0 deviates by -1, 0, 1 in score and -.5, 0, .5 in grade; model 1 by -3, 0, 3 and -.5, .25, .25."""
    affine = fitted([[1, 2], [2, 5], [3, 8]], [[0, 0.25], [0.5, 1], [1, 1]])
    slope = (0.5 + 0.5 + 1.5 + 0.75) / (1 + 1 + 9 + 9)
    assert affine.scale == pytest.approx(slope)
    assert affine.shift == pytest.approx([0.5 - 2 * slope, 0.75 - 5 * slope])


def test_it_is_least_squares() -> None:
    """The same numbers from numpy's own solver on dummy columns, cells that were not observed left out."""
    rng = np.random.default_rng(0)
    score, quality = rng.normal(size=(40, 3)), rng.random((40, 3))
    quality[rng.random((40, 3)) < 0.3] = NAN
    quality += 0.1 * np.clip(score, -1, 1) * (quality < 0.5)
    quality = np.clip(quality, 0, 1)
    row, column = np.nonzero(~np.isnan(quality))
    design = np.column_stack([score[row, column], np.eye(3)[column]])
    expected = np.linalg.lstsq(design, quality[row, column], rcond=None)[0]
    affine = Affine.fit(predictions(score), outcomes(quality))
    assert expected[0] > 0.01, "the table must have a slope to find"
    assert affine.scale == pytest.approx(expected[0], rel=1e-5)
    assert affine.shift == pytest.approx(expected[1:], abs=1e-6)


def test_what_was_not_observed_has_no_say() -> None:
    """Whatever the score of an unseen cell is, the map is the same."""
    quality = [[0, 1], [1, NAN], [1, 0.5], [NAN, 0.5]]
    maps = [fitted([[0.1, 0.9], [0.6, wild], [0.8, 0.4], [wild, 0.2]], quality) for wild in (0.0, 50.0)]
    assert maps[0].scale == pytest.approx(maps[1].scale, rel=1e-12)
    assert maps[0].shift == pytest.approx(maps[1].shift, rel=1e-9)
    assert np.isfinite(maps[0].shift).all()


def test_constant_scores_become_the_mean_grades() -> None:
    affine = fitted([[3, 7]] * 4, [[0, 1], [1, 1], [0, 1], [0, 0]])
    assert affine.scale == 1.0
    assert affine(predictions(np.array([[3.0, 7.0]]))).quality[0] == pytest.approx([0.25, 0.75])


def test_scores_that_fall_with_quality_keep_their_ranking_with_a_tiny_slope() -> None:
    score = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.6], [0.1, 0.9]])
    quality = np.array([[0.0, 1], [0.25, 0.75], [0.75, 0.5], [1, 0]])
    affine = Affine.fit(predictions(score), outcomes(quality))
    spread = np.sqrt(((quality - quality.mean(0)) ** 2).sum() / ((score - score.mean(0)) ** 2).sum())
    assert affine.scale == pytest.approx(WEAKEST * spread)
    promised = affine(predictions(score)).quality
    assert np.argsort(promised[:, 1] - promised[:, 0]).tolist() == np.argsort(score[:, 1] - score[:, 0]).tolist()
    assert np.ptp(promised, axis=0).max() < 0.01, "what is promised is the mean, nearly"
    assert promised.mean(axis=0) == pytest.approx(quality.mean(axis=0), abs=1e-6)


def test_grades_that_never_vary_still_keep_the_ranking() -> None:
    score = np.array([[0.0, 1.0], [0.5, 0.7], [1.0, 0.2]])
    affine = Affine.fit(predictions(score), outcomes(np.ones((3, 2))))
    assert affine.scale > 0
    assert affine(predictions(score)).quality == pytest.approx(np.ones((3, 2)), abs=1e-6)


def test_state_and_load() -> None:
    affine = fitted([[1, 2], [2, 5], [3, 8]], [[0, 0.25], [0.5, 1], [1, 1]])
    state = affine.state()
    assert {name: array.shape for name, array in state.items()} == {"scale": (1,), "shift": (2,)}
    again = Affine.load({name: array.copy() for name, array in state.items()})
    assert again.scale == affine.scale
    np.testing.assert_array_equal(again.shift, affine.shift)


def test_identity_changes_nothing_and_cost_is_never_touched() -> None:
    given_ = Predictions(np.array([[0.2, 0.9]]), np.array([[1.0, NAN]]))
    same, moved = Affine.identity(2)(given_), Affine(0.5, np.array([1.0, 2.0]))(given_)
    np.testing.assert_array_equal(same.quality, given_.quality)
    assert moved.quality == pytest.approx(np.array([[1.1, 2.45]]))
    for made in (same, moved):
        np.testing.assert_array_equal(made.cost, given_.cost)


@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(0, 0.9))
def test_the_order_of_gains_of_a_pair_never_changes(seed: int, informative: float, unseen: float) -> None:
    """For rising, useless and falling scores alike, and whatever was not observed."""
    rng = np.random.default_rng(seed)
    quality = (rng.random((30, 2)) < 0.6).astype(float)
    score = informative * quality + np.round(rng.normal(size=(30, 2)), 2)
    hidden = np.where(rng.random((30, 2)) < unseen, NAN, quality)
    hidden[0] = quality[0]
    affine = Affine.fit(predictions(score), outcomes(hidden))
    assert affine.scale > 0
    promised = affine(predictions(score)).quality
    before, after = score[:, 1] - score[:, 0], promised[:, 1] - promised[:, 0]
    parted = np.subtract.outer(before, before)
    clear = np.abs(parted) > 1e-6
    assert np.array_equal(np.sign(parted[clear]), np.sign(np.subtract.outer(after, after)[clear]))


@pytest.mark.parametrize(("scale", "shift"), [(3.0, -1.0), (0.2, 0.7), (1.0, 0.3)])
def test_the_calibration_error_on_a_fresh_sample_falls(scale: float, shift: float) -> None:
    """A score whose promises are too bold, too timid or too high, repaired on one sample and judged on another."""
    rng = np.random.default_rng(0)

    def sample() -> tuple[Predictions, np.ndarray]:
        chance = rng.uniform(0.1, 0.9, size=(2000, 2)) * [1.0, 0.8]
        return predictions(scale * chance + shift), (rng.random((2000, 2)) < chance).astype(float)

    score, quality = sample()
    affine = Affine.fit(score, outcomes(quality))
    fresh, truth = sample()
    before, after = metrics.ece(fresh.quality, truth), metrics.ece(affine(fresh).quality, truth)
    assert before > 0.1
    assert after < 0.03
    assert affine.scale == pytest.approx(1 / scale, rel=0.1)
