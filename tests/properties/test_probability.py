"""core/probability.py for any scores and grades: in [0, 1], never NaN, never another order, scale-free, one model at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routewright.core.probability import METHODS, Probability

NAN = float("nan")
SCORES = st.one_of(st.just(NAN), st.floats(-1e6, 1e6).map(lambda value: round(value, 3)), st.sampled_from([0.0, 0.2, 0.4, 1.0]))
GRADES = st.one_of(st.just(NAN), st.sampled_from([0.0, 1.0]), st.floats(0, 1))


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, str]:
    n, m = draw(st.integers(1, 40)), draw(st.integers(1, 3))
    grade = draw(arrays(float, (n, m), elements=GRADES))
    grade[0, 0] = 1.0 if np.isnan(grade[0, 0]) else grade[0, 0]
    return draw(arrays(float, (n, m), elements=SCORES)), grade, draw(st.sampled_from(METHODS))


@given(tables())
def test_always_a_chance_and_never_another_order(table: tuple[np.ndarray, np.ndarray, str]) -> None:
    score, grade, method = table
    found = Probability.fit(score, grade, method)
    asked = np.concatenate([score, score + 0.5, np.full((1, score.shape[1]), NAN)])
    chance = found(asked)
    assert np.isfinite(chance).all()
    assert ((chance >= 0) & (chance <= 1)).all()
    for given_, made in zip(asked.T, chance.T, strict=True):
        order = np.argsort(given_[~np.isnan(given_)], kind="stable")
        assert (np.diff(made[~np.isnan(given_)][order]) >= -1e-12).all()
    again = Probability.load(found.state())
    assert again(asked).tobytes() == chance.tobytes()


@given(st.integers(0, 10_000), st.sampled_from(METHODS), st.floats(0.01, 100), st.floats(-100, 100))
def test_the_unit_of_a_score_does_not_matter(seed: int, method: str, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=(60, 2))
    grade = (rng.random((60, 2)) < 1 / (1 + np.exp(-score))).astype(float)
    one, two = Probability.fit(score, grade, method), Probability.fit(scale * score + shift, grade, method)
    np.testing.assert_allclose(two(scale * score + shift), one(score), atol=1e-6)


@given(st.integers(0, 10_000), st.sampled_from(METHODS))
def test_every_model_is_fitted_by_itself(seed: int, method: str) -> None:
    rng = np.random.default_rng(seed)
    score, grade = rng.normal(size=(50, 3)), rng.random((50, 3))
    whole = Probability.fit(score, grade, method)(score)
    for j in range(3):
        alone = Probability.fit(score[:, [j]], grade[:, [j]], method)(score[:, [j]])
        np.testing.assert_allclose(whole[:, [j]], alone, atol=1e-12)


@given(st.integers(0, 10_000), st.sampled_from(["isotonic", "temperature"]), st.floats(-2, 2))
def test_on_the_rows_it_was_fitted_on_the_mean_promise_is_the_mean_grade(seed: int, method: str, informative: float) -> None:
    """Exactly for the steps and the likelihood without Platt's targets; they and the blend move it by less than 1 / (n + 2)."""
    rng = np.random.default_rng(seed)
    grade = (rng.random((80, 1)) < 0.6).astype(float)
    score = informative * grade + rng.normal(size=(80, 1))
    assert abs(Probability.fit(score, grade, method)(score).mean() - grade.mean()) < 1 / 22
