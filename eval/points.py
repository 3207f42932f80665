"""Named operating points: knobs chosen where the router was not trained, then held to what they promised."""

from __future__ import annotations

import numpy as np

from routewright.core.types import Floats, Outcomes
from routewright.eval.curves import Sweep

NEVER = 1e12  # a knob above every gain: only the cheapest model is called


def cheapest(sweep: Sweep, held_out: Outcomes) -> float:
    """Always the cheapest model."""
    return NEVER


def balanced(sweep: Sweep, held_out: Outcomes) -> float:
    """Half of the way, in cost, from the first operating point to the last useful one (its best quality)."""
    cost, quality, _ = sweep.points()
    last = int(quality.argmax())
    middle = (cost[0] + cost[last]) / 2
    return _knob(sweep, int(np.abs(cost[: last + 1] - middle).argmin()))


def reaching(fraction: float, sweep: Sweep, held_out: Outcomes) -> float:
    """The cheapest knob whose quality reaches this fraction of the best single model's; the best one there is where none does."""
    _, quality, _ = sweep.points()
    goal = fraction * float(held_out.quality.astype(np.float64).mean(axis=0).max())
    enough = np.flatnonzero(quality >= goal - 1e-12)
    return _knob(sweep, int(enough[0]) if len(enough) else int(quality.argmax()))


def choose(sweep: Sweep, held_out: Outcomes) -> dict[str, float]:
    """Every named point's knob, chosen on held-out queries."""
    return {
        "cheapest": cheapest(sweep, held_out),
        "balanced": balanced(sweep, held_out),
        "quality-95": reaching(0.95, sweep, held_out),
    }


def _knob(sweep: Sweep, position: int) -> float:
    knobs: Floats = sweep.knobs()
    return float(knobs[position])
