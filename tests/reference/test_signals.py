"""Signals and their calibration against someone else's code and figures: scikit-learn's, Python's own arithmetic, recorded baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from routewright.core.probability import BLEND, Probability
from routewright.core.reading import evaluated
from routewright.core.types import Outcomes
from routewright.routers.signals import _pooled, _trees
from routewright.routers.signals.features import Features

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


# ---- core/probability.py


def logistic(score: np.ndarray, grade: np.ndarray) -> LogisticRegression:
    """scikit-learn's unpenalised logistic regression on Platt's targets, each a weighted right and a weighted wrong answer."""
    right, wrong = grade.sum(), (1 - grade).sum()
    target = grade * (right + 1) / (right + 2) + (1 - grade) / (wrong + 2)
    x, y = np.concatenate([score, score])[:, None], np.repeat([1, 0], len(score))
    return LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(x, y, sample_weight=np.concatenate([target, 1 - target]))


@pytest.mark.parametrize("fractional", [False, True])
def test_temperature_is_scikit_learns_maximum_likelihood(fractional: bool) -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(2, 3, size=(150, 2))
    chance = 1 / (1 + np.exp(-0.5 * score + 1))
    grade = chance**2 if fractional else (rng.random((150, 2)) < chance).astype(float)
    found = Probability.fit(score, grade, "temperature")
    for j in range(2):
        theirs = logistic(score[:, j], grade[:, j])
        assert found.slope[j] == pytest.approx(theirs.coef_.item(), rel=1e-4)
        assert found(score)[:, j] == pytest.approx(theirs.predict_proba(score[:, [j]])[:, 1], abs=1e-5)


def test_isotonic_is_scikit_learns_with_its_blend() -> None:
    rng = np.random.default_rng(0)
    score, grade = np.round(rng.normal(size=(500, 1)), 1), rng.random((500, 1))
    grade = np.clip(grade + 0.2 * score, 0, 1)
    asked = np.linspace(-4, 4, 101)[:, None]
    steps = IsotonicRegression(out_of_bounds="clip").fit(score[:, 0], grade[:, 0]).predict(asked[:, 0])
    smooth = Probability.fit(score, grade, "temperature")(asked)[:, 0]
    assert Probability.fit(score, grade, "isotonic")(asked)[:, 0] == pytest.approx((1 - BLEND) * steps + BLEND * smooth, abs=1e-9)


# ---- the learners of signal=features


def holes(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    x = rng.normal(size=(n, k))
    x[rng.random((n, k)) < 0.2] = np.nan
    x[:, 1] = np.nan  # a feature that never applies
    return x


def test_exported_trees_score_as_scikit_learns_do() -> None:
    rng = np.random.default_rng(0)
    x = holes(rng, 600, 6)
    grade = (np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 2]) ** 2 + rng.normal(size=600) > 1).astype(float)
    recipe = {"max_iter": 25, "max_leaf_nodes": 8, "learning_rate": 0.1}
    kept = [0, 2, 3, 4, 5]
    # the same rows in the order in which grow() gives them to the library: right answers first
    order = np.concatenate([np.flatnonzero(grade > 0), np.flatnonzero(grade < 1)])
    theirs = HistGradientBoostingClassifier(early_stopping=False, random_state=3, **recipe).fit(x[order][:, kept], grade[order])
    fresh = holes(rng, 5000, 6)
    ours = _trees.log_odds(_trees.grow(x, grade, 3, **recipe), fresh)
    assert ours == pytest.approx(theirs.decision_function(fresh[:, kept]), abs=1e-9)
    assert np.ptp(ours) > 1


def test_the_pooled_regression_is_one_regression_on_shared_and_own_columns() -> None:
    """The penalty of an own weight is |own|^2 / OWN^2, so its column, scaled by OWN, has the plain one."""
    rng = np.random.default_rng(0)
    x, model = rng.normal(size=(300, 3)), rng.integers(3, size=300)
    grade = (rng.random(300) < 1 / (1 + np.exp(-x[:, 0] - x[:, 1] * (model - 1) - 0.5))).astype(float)
    ours = _pooled.log_odds(_pooled.fit(x, grade, model, 3, 0.3), x, model)
    z = np.column_stack([(x - x.mean(axis=0)) / x.std(axis=0), np.zeros((300, 3)), np.ones(300)])
    own = [np.where((model == j)[:, None], z, 0) * _pooled.OWN for j in range(3)]
    theirs = LogisticRegression(C=0.3, tol=1e-9, max_iter=10_000).fit(np.column_stack([z[:, :-1], *own]), grade)
    assert ours == pytest.approx(theirs.decision_function(np.column_stack([z[:, :-1], *own])), abs=2e-3)


# ---- arithmetic


SUMS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda part: f"({part[0]} {part[1]} {part[2]})"),
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(" ".join),
        inner.map(lambda part: f"-{part}"),
        st.tuples(st.integers(0, 9).map(str), st.just("**"), st.integers(0, 4).map(str)).map(" ".join),
    ),
    max_leaves=8,
)


@given(SUMS)
def test_sums_come_out_as_pythons(text: str) -> None:
    try:
        wanted = eval(text, {"__builtins__": {}})  # figures and operators of the strategy above
    except (ZeroDivisionError, OverflowError):
        assert evaluated(text) == (None, 0)
        return
    found, count = evaluated(text)
    if found is None:  # too large, or a power of something large
        assert abs(wanted) > 1e15 or "**" in text
    else:
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        assert count >= 1


# ---- recorded figures


@pytest.fixture
def gsm8k(mirror: Path) -> Outcomes:
    """RouteLLM's GSM8K with its published labels; skipped without the mirror."""
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("base", overrides=["+data=routellm_gsm8k", "+prices=routellm_2024", "labels=published"])
    return instantiate(cfg.data).load()


def out_of_fold(outcomes: Outcomes) -> np.ndarray:
    score = np.full(outcomes.quality.shape, np.nan)
    for train, test in KFold(5, shuffle=True, random_state=0).split(np.arange(len(outcomes))):
        signal = Features().fit(outcomes.take(train), rng=np.random.default_rng(0))
        score[test] = signal.score(outcomes.take(test))
    return score


def test_features_tell_more_than_the_published_baseline(gsm8k: Outcomes) -> None:
    """22 answer features and logistic regression reach AUROC .794 for Mixtral, the question alone .544."""
    score = out_of_fold(gsm8k)
    assert roc_auc_score(gsm8k.quality[:, 0], score[:, 0]) > 0.81
    assert roc_auc_score(gsm8k.quality[:, 1], score[:, 1]) > 0.82
