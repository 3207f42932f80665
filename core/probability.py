"""Raw scores to chances: for every model a rising map from a signal's score to P(answer right), fitted on rows it was not trained on.

Kept as small arrays, used with numpy alone. See core/calibrate.py for the affine map of routers, whose gains between models matter instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.types import Floats, InputError, Ints

METHODS = ("auto", "isotonic", "temperature")
ENOUGH = 50  # graded scores of a model from which auto tries isotonic: with fewer its steps follow the noise
FOLDS = 5  # in which auto tries both
BLEND = 0.05  # share of temperature in isotonic
FLAT = 1e-3  # the least slope, in log odds per standard deviation of the score
UNTOLD = 10.0  # answers at the mean grade that a model's cells without a score are counted with
STEPS = 100  # of Newton's method, which needs about six


@dataclass(frozen=True, eq=False)
class Probability:
    """P(answer right) of score[n,m]: in [0, 1], never NaN, and within a model never in another order than its scores.

    Of each model: sigmoid(slope[m] * score + shift[m]), and where it is isotonic the knots (x, y) from start[m] to start[m + 1], joined
    by lines and level beyond the ends, blended with BLEND of that sigmoid, so that scores within one step still differ. untold[m]: of a
    cell without a score.
    """

    slope: Floats
    shift: Floats
    untold: Floats
    start: Ints  # (m + 1,) a model without knots has start[m] = start[m + 1]
    x: Floats
    y: Floats

    @classmethod
    def fit(cls, score: Floats, quality: Floats, method: str = "auto") -> Probability:
        """From score[n,m] (NaN: none) and quality[n,m] in [0, 1] (NaN: not observed), a cell at a time.

        temperature: slope and shift by maximum likelihood, a grade of .3 counted as .3 of a right answer and .7 of a wrong one, with
        Platt's targets (1999, sec. 2.2), which keep separable scores from certainty. A score that falls with the grade gets the slope
        FLAT standard deviations. isotonic: least squares by scikit-learn (Zadrozny and Elkan 2002), which follows scores of any shape, and
        needs more answers. auto: for each model with ENOUGH graded scores the one with the smaller squared error on rows left out, every
        FOLDS-th in turn, else temperature. A model whose scores do not vary gets its mean grade; one without grades, the mean of all.
        Cells without a score get their own mean grade, with UNTOLD answers at the model's mean added. Raises InputError for an unknown
        method, an infinite score, other shapes, and where nothing was graded.
        """
        raw, grade = _checked(score, quality, method)
        base = column_means(grade)
        base = np.where(np.isnan(base), np.nanmean(grade), base)
        made = [_one(raw[:, j], grade[:, j], float(base[j]), method) for j in range(raw.shape[1])]
        slope, shift, untold = (np.array([part[i] for part in made]) for i in range(3))
        start = np.cumsum([0, *(len(part[3]) for part in made)]).astype(np.int64)
        x, y = (np.concatenate([part[i] for part in made]) for i in (3, 4))
        return cls(slope, shift, untold, start, x, y)

    def __call__(self, score: Floats) -> Floats:
        """[n,m] float64. Raises InputError for another number of models."""
        raw = np.asarray(score, dtype=np.float64)
        if raw.ndim != 2 or raw.shape[1] != len(self.slope):
            raise InputError("these scores are of other models", expected=f"(n, {len(self.slope)})", found=str(raw.shape))
        made = np.empty_like(raw)
        for j, column in enumerate(np.where(np.isnan(raw), 0.0, raw).T):
            chance = _sigmoid(_line(column, float(self.slope[j]), float(self.shift[j])))
            knots = slice(self.start[j], self.start[j + 1])
            if knots.stop > knots.start:
                chance = _blend(np.interp(column, self.x[knots], self.y[knots]), chance)
            made[:, j] = chance
        return np.clip(np.where(np.isnan(raw), self.untold, made), 0.0, 1.0)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """The arrays above, by name."""
        return {name: np.asarray(getattr(self, name)) for name in ("slope", "shift", "untold", "start", "x", "y")}

    @classmethod
    def load(cls, state: Mapping[str, np.ndarray[Any, Any]]) -> Probability:
        """The inverse of state()."""
        return cls(**{name: state[name] for name in ("slope", "shift", "untold", "start", "x", "y")})


def _checked(score: Floats, quality: Floats, method: str) -> tuple[Floats, Floats]:
    raw, grade = np.asarray(score, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    if method not in METHODS:
        raise InputError("unknown calibration", where="method", expected="one of " + ", ".join(METHODS), found=repr(method))
    if raw.ndim != 2 or raw.shape != grade.shape:
        raise InputError("scores and grades have different shapes", expected=f"(n, m) {grade.shape}", found=str(raw.shape))
    if np.isinf(raw).any():
        row, column = np.argwhere(np.isinf(raw))[0]
        raise InputError("a score is infinite", where=f"row {row}, model {column}", expected="a number, or NaN for none")
    if np.isnan(grade).all():
        raise InputError("there is nothing to calibrate on", expected="graded answers", found="none")
    return raw, grade


def _one(raw: Floats, grade: Floats, base: float, method: str) -> tuple[float, float, float, Floats, Floats]:
    """(slope, shift, untold, x, y) of one model whose mean grade is `base`."""
    graded, scored = ~np.isnan(grade), ~np.isnan(raw)
    silent = grade[graded & ~scored]
    untold = (silent.sum() + UNTOLD * base) / (len(silent) + UNTOLD)
    score, right = raw[graded & scored], grade[graded & scored]
    none = np.empty(0)
    spread = float(score.std()) if len(score) else 0.0
    if spread <= 1e-9 * float(np.abs(score).max(initial=0.0)):
        mean = float(right.mean()) if len(right) else base
        return 0.0, _log_odds(mean), untold, none, none
    slope, shift = _maximum_likelihood(score, right)
    isotonic = method == "isotonic" or (method == "auto" and len(score) >= ENOUGH and _steps_win(score, right))
    x, y = _isotonic(score, right) if isotonic else (none, none)
    return slope, shift, untold, x, y


def _steps_win(score: Floats, grade: Floats) -> bool:
    """Whether isotonic is nearer to the grades of rows that were left out than temperature is."""
    fold, error = np.arange(len(score)) % FOLDS, np.zeros(2)
    for part in range(FOLDS):
        out = fold == part
        score_in, grade_in = score[~out], grade[~out]
        if np.ptp(score_in) <= 0:
            return False
        slope, shift = _maximum_likelihood(score_in, grade_in)
        smooth = _sigmoid(_line(score[out], slope, shift))
        stepped = _blend(np.interp(score[out], *_isotonic(score_in, grade_in)), smooth)
        error += [((smooth - grade[out]) ** 2).sum(), ((stepped - grade[out]) ** 2).sum()]
    return bool(error[1] < error[0])


def _blend(stepped: Floats, smooth: Floats) -> Floats:
    return (1 - BLEND) * stepped + BLEND * smooth


def _maximum_likelihood(score: Floats, grade: Floats) -> tuple[float, float]:
    """(slope, shift) of sigmoid(slope * score + shift), the slope at least FLAT a standard deviation."""
    center, spread = float(score.mean()), float(score.std())
    z = (score - center) / spread
    right, wrong = float(grade.sum()), float((1 - grade).sum())
    target = grade * (right + 1) / (right + 2) + (1 - grade) / (wrong + 2)
    slope, shift = (float(value) for value in _newton(np.stack([z, np.ones_like(z)], axis=1), target, np.zeros_like(z)))
    if slope < FLAT:
        slope, shift = FLAT, float(_newton(np.ones((len(z), 1)), target, FLAT * z)[0])
    return slope / spread, shift - slope * center / spread


def _newton(design: Floats, target: Floats, offset: Floats) -> Floats:
    """The weights that maximise the likelihood of soft targets strictly between 0 and 1: it has one maximum, and halved steps reach it."""
    weights = np.zeros(design.shape[1])
    loss = _loss(offset, target)
    for _ in range(STEPS):
        chance = _sigmoid(design @ weights + offset)
        gradient = design.T @ (chance - target)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-12 * np.eye(len(weights))
        move, scale = np.linalg.solve(curvature, gradient), 1.0
        while (reached := _loss(design @ (weights - scale * move) + offset, target)) > loss and scale > 1e-9:
            scale /= 2
        weights, gain, loss = weights - scale * move, loss - reached, reached
        if gain <= 1e-13 * abs(loss):
            break
    return weights


def _loss(logit: Floats, target: Floats) -> float:
    return float((np.logaddexp(0, logit) - target * logit).sum())


def _isotonic(score: Floats, grade: Floats) -> tuple[Floats, Floats]:
    """The knots of the rising step function that is nearest to the grades."""
    from sklearn.isotonic import IsotonicRegression

    found = IsotonicRegression(y_min=0.0, y_max=1.0).fit(score, grade)
    return np.asarray(found.X_thresholds_, dtype=np.float64), np.asarray(found.y_thresholds_, dtype=np.float64)


def _line(score: Floats, slope: float, shift: float) -> Floats:
    """slope * score + shift, also where the score is infinite and the slope 0."""
    return slope * score + shift if slope else np.full_like(score, shift)


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -logit)), dtype=np.float64)


def _log_odds(share: float) -> float:
    """Infinite for 0 and 1, and the sigmoid brings them back."""
    with np.errstate(divide="ignore"):
        return float(np.log(share) - np.log1p(-share))
