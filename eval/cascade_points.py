"""Named operating points of a cascade: chosen among its own on held-out rows, then held to what they promised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from routewright.core.types import Bools, InputError, Ints, Outcomes
from routewright.eval import points, stats
from routewright.eval.paths import Path
from routewright.eval.points import ALWAYS, REMEMBERED, WIDE, Chosen, Promise, Served
from routewright.eval.promises import Ask, Asked
from routewright.eval.ruler import Ruler, units


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows of the table that a fold's points may be chosen on, and that fold's cascade, or the other folds', replayed on them."""

    rows: Ints
    path: Path


def cascade_points(
    path: Path, held_out: Sequence[HeldOut], fold: Ints, outcomes: Outcomes, usable: Bools, ruler: Ruler, withheld: dict[str, str],
    asked: Asked, promise: Promise | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The points on the judged rows (docs/METRICS.md). path: on those rows; fold[t]: the fold that judged each.

    promise: points that were chosen earlier. Raises InputError where what is asked cannot be.
    """
    if asked.traffic is not None:
        mend = "Leave policy.queries out: the points are chosen on the calibration split."
        raise InputError("a cascade decides by answers", expected="no policy.queries", found="queries alone", mend=mend)
    if promise is not None:
        knobs = path.knobs()
        at = {name: int(np.abs(knobs - knob).argmin()) for name, knob in promise.knobs.items()}
        chosen = {name: (np.full(int(fold.max()) + 1, index), promise.chosen.get(name, {})) for name, index in at.items()}
    else:
        asked.check(outcomes, held_out=bool(held_out))
        if not held_out:
            withheld["operating_points"] = "there is no calibration split to choose them on: set split.calibration above 0"
            return {}
        kept = [(outcomes.take(part.rows[usable[part.rows]]), part.path.take(usable[part.rows])) for part in held_out]
        names = dict.fromkeys([*ALWAYS, *(ask.name for ask in asked.points)])
        wanted = {ask.name for ask in asked.points}
        chosen = {name: _choose(name, kept, ruler, asked=name in wanted) for name in names}
    out = {}
    for name, (index, facts) in chosen.items():
        own, rows = index[fold], np.arange(len(fold))
        served = Served(path.quality[own, rows], path.cost[own, rows], path.called_at(own))
        out[name] = points.judged_point(name, Chosen(path.knob[own, rows], facts), served, ruler)
    return out


def _choose(name: str, kept: Sequence[tuple[Outcomes, Path]], ruler: Ruler, *, asked: bool) -> tuple[Ints, dict[str, Any]]:
    """(index of the point for each fold, what is remembered of the choice)."""
    index = np.array([_index(name, table, path, ruler) for table, path in kept])
    on = {"what": "calibration split" if len(kept) == 1 else "other folds", "n": round(sum(len(table) for table, _ in kept) / len(kept))}
    facts: dict[str, Any] = dict.fromkeys(REMEMBERED) | {"asked": asked, "chosen_on": on}
    ask = Ask.parse(name)
    if ask is not None:
        reached = [_reached(ask.kind, table, path, int(at), ruler) for (table, path), at in zip(kept, index, strict=True)]
        value, error = np.mean(reached, axis=0)
        facts |= {"reachable": float(value), "reachable_error": float(WIDE * error)}
        if ask.kind == "quality" and value < ask.value - 1e-9:
            facts["note"] = f"{100 * value:.1f} % is the most that was reached where it was chosen"
    return index, facts


def _index(name: str, table: Outcomes, path: Path, ruler: Ruler) -> int:
    if name == "cheapest":
        return 0
    return int(np.abs(path.knobs() - points.choose(name, path, table, ruler.pair)).argmin())


def _reached(kind: str, table: Outcomes, path: Path, at: int, ruler: Ruler) -> tuple[float, float]:
    """What the point gives here of what it promises, and the standard error of that."""
    above, below = points.parts(kind, Served(path.quality[at], path.cost[at], path.calls(at)), table, ruler.pair)
    value = float(points.ratio(above, below, np.ones((1, len(above))))[0])
    together = units(table.queries, clustered=ruler.clustered)
    return value, stats.standard_error((above - value * below) / below.mean(), together) if np.isfinite(value) else np.nan
