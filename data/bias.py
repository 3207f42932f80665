"""Position bias of a pairwise judge: how much it favours the answer shown first, and battles as a neutral judge would have given them.

The model is Bradley-Terry with ties after Rao and Kupper 1967 ("Ties in Paired-Comparison Experiments", JASA 62, 194-204) and one constant
for the first position, additive in log odds (multiplicative in odds: Davidson and Beaver 1977, Biometrics 33, 693-702). In words: the judge
sees z = s_a - s_b + logistic noise, says "first" where z + h > t, "second" where z + h < -t, else "tie"; a neutral judge has h = 0.
Here a battle's `a` is the answer that was shown first. Shapes: m models, b battles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from routewright.core.types import Battles, Floats, InputError, Ints

STRENGTH = 10.0  # log odds: spread of the weak prior that keeps a model which never lost finite
SMALLEST = 1e-6  # share of a verdict's weight below which its part of a split battle is left out
QUANTILE = 1.959963984540054  # of the normal distribution, for 95 %
NEUTRAL = (1.0, 0.5, 0.0)
MEND = "Let the judge see both orders of every pair, or use bias=none."


@dataclass(frozen=True, eq=False)
class PositionBias:
    """What one judge's ordered verdicts say about its bias, as position_bias fitted it.

    advantage (h) of the first position in log odds, with its standard error; threshold (t) of a tie in log odds, 0 for a judge without
    ties; strength[m] of `models` in log odds, of mean 0. share: first wins minus second wins as a share of the verdicts, over those pairs
    alone that were judged in both orders with equal weight, so that strength cancels, with its standard error (both None where no pair
    was); pairs: how many those are.
    """

    advantage: float
    error: float
    threshold: float
    models: tuple[str, ...]
    strength: Floats
    share: float | None
    share_error: float | None
    pairs: int

    def told(self) -> dict[str, Any]:
        """Plain values with 95 % intervals for a manifest."""
        return {
            "advantage_log_odds": self.advantage,
            "advantage_interval": _interval(self.advantage, self.error),
            "first_minus_second": self.share,
            "first_minus_second_interval": None
            if self.share is None or self.share_error is None
            else _interval(self.share, self.share_error),
            "pairs_in_both_orders": self.pairs,
            "model": "Rao-Kupper 1967 with a constant for the first position",
        }

    def neutral(self, a: Ints, b: Ints) -> Floats:
        """posterior[b,3,3]: [k, v, u], the chance that a neutral judge gives u where this one gave v (1, .5, 0 in that order).

        Both see one z, of which v tells the interval: posterior = P(z in u's interval and in v's) / P(z in v's).
        """
        gap = (self.strength[a] - self.strength[b])[:, None, None]
        given = self._edges(self.advantage)
        meant = self._edges(0.0)
        low = np.maximum(given[1:][:, None], meant[1:][None, :])  # (3 verdicts, 3 outcomes)
        high = np.maximum(np.minimum(given[:-1][:, None], meant[:-1][None, :]), low)
        mass = _mass(low - gap, high - gap)
        total = mass.sum(axis=2, keepdims=True)
        # a verdict that the model rules out, a tie without ties, stays what it is
        posterior: Floats = np.divide(mass, total, out=np.tile(np.eye(3), (len(a), 1, 1)), where=total > 0)
        return posterior

    def _edges(self, advantage: float) -> Floats:
        """Falling edges of z between "first", "tie" and "second"."""
        return np.array([np.inf, self.threshold - advantage, -self.threshold - advantage, -np.inf])


def position_bias(battles: Battles) -> PositionBias:
    """Fits the model by maximum likelihood to battles whose `a` was shown first, each counted with its weight.

    The error is the larger of two: from the information, weights scaled to mean 1, and from the sandwich with queries as clusters (verdicts
    on one query share its answers). Strengths have a normal prior of spread STRENGTH, which moves nothing that the data know.
    Raises InputError where the data cannot tell: no battle; a judge whose winners all stand in one position, or that only ties; or verdicts
    in which the advantage is one with the strengths (two models in one order only).
    """
    _require_informative(battles)
    share, share_error, pairs = _both_orders(battles)
    theta, error = _fit(battles)
    m = len(battles.pool)
    return PositionBias(
        float(theta[m]), error, float(theta[m + 1]), battles.pool.name, theta[:m] - theta[:m].mean(), share, share_error, pairs
    )


def corrected(battles: Battles, bias: PositionBias | None = None) -> Battles:
    """Battles as a neutral judge would have given them: an ordered verdict becomes up to three battles, of outcome 1, .5 and 0.

    A battle of weight w and verdict v gets the parts w P(neutral says u | this judge said v) of PositionBias.neutral; parts under SMALLEST
    of w are left out, and the rest sums to w. Averaged over what the judge says, the parts have the neutral judge's chances, so that win
    shares are unbiased where the model holds, even if a pair was judged in one order only. bias: fitted elsewhere to the same pool, such
    as to all verdicts where these are those of one order; None: fitted here. Ties are split as wins are; duplicates stay apart; models
    without a battle, queries and costs stay. Raises InputError for another pool, and as position_bias does.
    """
    if not len(battles):
        raise InputError("there is no battle to correct", expected="at least one battle", found="0")
    bias = position_bias(battles) if bias is None else bias
    if bias.models != battles.pool.name:
        raise InputError(
            "this bias was fitted to other models",
            expected=", ".join(bias.models),
            found=", ".join(battles.pool.name),
            mend="Fit it again.",
        )
    assert battles.weight is not None
    verdict = (2 - 2 * battles.outcome).astype(np.int64)  # 0, 1, 2 for 1, .5, 0
    cells, place = np.unique(np.stack([battles.a, battles.b, verdict]), axis=1, return_inverse=True)
    parts = bias.neutral(cells[0], cells[1])[np.arange(cells.shape[1]), cells[2]]
    parts = np.where(parts < SMALLEST, 0.0, parts)
    parts = (parts / parts.sum(axis=1, keepdims=True))[place.reshape(-1)]
    row, outcome = np.nonzero(parts)
    return replace(
        battles,
        query=battles.query[row],
        a=battles.a[row],
        b=battles.b[row],
        outcome=np.array(NEUTRAL)[outcome],
        weight=battles.weight[row] * parts[row, outcome],
    )


# ---- what the data can tell


def _require_informative(battles: Battles) -> None:
    found = {value: int((battles.outcome == value).sum()) for value in NEUTRAL}
    told = f"{found[1.0]} first, {found[0.0]} second, {found[0.5]} ties"
    if not found[1.0] or not found[0.0]:
        what = "a judge whose winners all stand in one position says nothing of position bias"
        what = what if found[1.0] or found[0.0] else "a judge that names no winner says nothing of position bias"
        raise InputError(what, expected="some wins of the first and of the second position", found=told, mend=MEND)
    ordered = np.unique(np.stack([battles.a, battles.b]), axis=1)
    design = _design(ordered[0], ordered[1], len(battles.pool))
    if np.linalg.matrix_rank(design) == np.linalg.matrix_rank(design[:, :-1]):
        raise InputError(
            "the advantage of the first position cannot be told from the strength of the models",
            expected="pairs judged in both orders",
            found=f"{ordered.shape[1]} ordered pairs, each in one order",
            mend=MEND,
        )


def _both_orders(battles: Battles) -> tuple[float | None, float | None, int]:
    """First wins minus second wins as a share, its error with queries as clusters, and how many pairs were judged alike in both orders."""
    assert battles.weight is not None
    m = len(battles.pool)
    weight = battles.weight.astype(np.float64)
    low, high = np.minimum(battles.a, battles.b), np.maximum(battles.a, battles.b)
    _, cell = np.unique((battles.query * m + low) * m + high, return_inverse=True)
    upward = battles.a < battles.b
    there, back = (np.bincount(cell, weight * side, cell.max() + 1) for side in (upward, ~upward))
    both = np.isclose(there, back, rtol=1e-6)
    kept = both[cell]
    if not kept.any():
        return None, None, 0
    sign = weight * (2 * battles.outcome - 1)
    n = len(battles.queries)
    gain = np.bincount(battles.query[kept], sign[kept], n)
    total = np.bincount(battles.query[kept], weight[kept], n)
    share = gain.sum() / total.sum()
    clusters = int((total > 0).sum())
    residual = gain - share * total
    error = np.sqrt(clusters / (clusters - 1) * (residual**2).sum()) / total.sum() if clusters > 1 else None
    return float(share), None if error is None else float(error), int(both.sum())


# ---- the fit


def _design(a: Ints, b: Ints, m: int) -> Floats:
    """(k, m + 1): the row of a - b, then 1 for the first position."""
    eye = np.eye(m)
    return np.column_stack([eye[a] - eye[b], np.ones(len(a))])


def _fit(battles: Battles) -> tuple[Floats, float]:
    """theta (m + 2): strengths, advantage, threshold; and the standard error of the advantage."""
    from scipy.optimize import minimize

    assert battles.weight is not None
    m = len(battles.pool)
    weight = battles.weight / battles.weight.mean(dtype=np.float64)
    cells, place = np.unique(np.stack([battles.a, battles.b, 2 * battles.outcome]).astype(np.int64), axis=1, return_inverse=True)
    place = place.reshape(-1)
    count = np.asarray(np.bincount(place, weight), dtype=np.float64)
    design = _design(cells[0], cells[1], m)
    said = np.array([cells[2] >= 1, cells[2] <= 1, cells[2] == 1], dtype=np.float64)  # not second, not first, tie
    tied = bool(said[2].any())

    def loss(theta: Floats) -> tuple[float, Floats]:
        value, slope, bend = _terms(design @ theta[:-1], theta[-1], said)
        prior = theta[:m] / STRENGTH**2
        gradient = np.concatenate([design.T @ (count * slope), [count @ bend]])
        gradient[:m] -= prior
        return -(count @ value - (theta[:m] @ prior) / 2) / count.sum(), -gradient / count.sum()

    start = np.concatenate([np.zeros(m + 1), [0.5 if tied else 0.0]])
    bounds: Sequence[tuple[float | None, float | None]] = [*[(None, None)] * (m + 1), (1e-9, None) if tied else (0.0, 0.0)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 10_000})
    theta: Floats = np.asarray(found.x)
    free = m + 2 if tied else m + 1
    assert np.abs(found.jac[:free]).max() < 1e-6, "the log-likelihood is concave: its maximum is found"
    information = _information(design, count, theta, said)[:free, :free]
    _, slope, bend = _terms(design @ theta[:-1], theta[-1], said)
    per_cell = np.column_stack([design * slope[:, None], bend])[:, :free]
    return theta, _error(information, per_cell[place] * weight[:, None], battles.query, m)


def _terms(x: Floats, t: float, said: Floats) -> tuple[Floats, Floats, Floats]:
    """log-likelihood of each cell and its slopes in x and t. Rao-Kupper: P(first) = s(x - t), P(second) = s(-x - t), s the logistic,
    P(tie) = s(x - t) s(-x - t) (e^2t - 1)."""
    first, second, tie = said
    value = -first * np.logaddexp(0, t - x) - second * np.logaddexp(0, t + x)
    up, down = first * _logistic(t - x), second * _logistic(t + x)  # 1 - P(first), 1 - P(second)
    bend = -up - down
    if tie.any():
        value = value + tie * np.log(np.expm1(2 * t))
        bend = bend - tie * 2 / np.expm1(-2 * t)
    return value, up - down, bend


def _information(design: Floats, count: Floats, theta: Floats, said: Floats) -> Floats:
    """Minus the second derivatives of the penalised log-likelihood, (m + 2, m + 2)."""
    first, second, tie = said
    x, t, m = design @ theta[:-1], theta[-1], design.shape[1] - 1
    up, down = (side * _logistic(t + s * x) * _logistic(-t - s * x) for side, s in ((first, -1), (second, 1)))
    bend = up + down
    if tie.any():
        bend = bend + tie * 4 * np.exp(-2 * t) / np.expm1(-2 * t) ** 2
    cross = design.T @ (count * (down - up))
    found = np.block([[design.T @ (design * (count * (up + down))[:, None]), cross[:, None]], [cross[None, :], np.array([[count @ bend]])]])
    found[np.arange(m), np.arange(m)] += 1 / STRENGTH**2
    return found


def _error(information: Floats, scores: Floats, query: Ints, at: int) -> float:
    """The larger standard error of parameter `at`: inverse information, and sandwich with queries as clusters."""
    row = np.linalg.solve(information, np.eye(len(information))[at])
    clusters = len(np.unique(query))
    sandwich = (np.bincount(query, scores @ row) ** 2).sum() * clusters / max(clusters - 1, 1)
    return float(np.sqrt(max(row[at], sandwich)))


def _logistic(x: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(x))


def _mass(low: Floats, high: Floats) -> Floats:
    """Logistic probability of [low, high], from the tail that keeps its digits."""
    upper = low > 0
    return np.where(upper, _logistic(-low) - _logistic(-high), _logistic(high) - _logistic(low))


def _interval(value: float, error: float) -> list[float]:
    return [value - QUANTILE * error, value + QUANTILE * error]
