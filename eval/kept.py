"""A cascade's run reopened: what it kept, and whether its bundle decides as the replay does, query by query."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from routewright.core import artifact
from routewright.core.arrays import column_means
from routewright.core.contracts import PRIOR, SCORE
from routewright.core.types import Decisions, Floats, InputError, Outcomes
from routewright.eval.cascading import Kept
from routewright.eval.replay import bought
from routewright.eval.scored import Makers

TOLERANCE = 1e-4  # between a prior or score of the run and the bundle's
NEAR = 1e-3  # share of the decisions that may hang on a last digit


class Compared(NamedTuple):
    """How many judged queries, decisions (a query at a point) and calls were compared, and how far priors and scores were apart.

    rounded: decisions that differ, and are the cascade's own for a prior or score that is another in its last digits. scores: those
    compared; inexact: those of them, and of the priors, that are not the same float32; worst: the largest difference.
    """

    queries: int
    decisions: int
    calls: int
    rounded: int
    scores: int
    inexact: int
    worst: float


class Served(Protocol):
    """What is asked of a loaded bundle; gateway.cascade.CascadeBundle is one."""

    described: dict[str, Any]

    def read(self, query: str) -> Any: ...
    def start(self, query: Any, point: str) -> Any: ...


def restored(folder: Path, manifest: Mapping[str, Any], make: Callable[..., Any]) -> Kept:
    """The cascade of a run's folder with its scorers. Raises InputError where the run kept none."""
    from safetensors.numpy import load_file

    artifact.require_weights(folder)
    config = manifest["config"]
    student = partial(make, config["student"]) if config.get("student") else None
    signal = partial(make, config.get("signal"))
    makers = Makers(partial(make, config["router"]), signal, make(config["data"]).said, student=student, **config["scoring"])
    return Kept.restored(partial(make, config["cascade"]), makers, load_file(folder / artifact.WEIGHTS))


def usd_score(kept: Kept, outcomes: Outcomes) -> Floats | None:
    """[m] mean USD of a score on these outcomes, NaN where a model has none; None where scores are free."""
    signal = kept.scorers.signal
    usd = None if signal is None else signal.cost(outcomes)
    return None if usd is None else column_means(usd)


def compare(bundle: Served, kept: Kept, outcomes: Outcomes) -> Compared:
    """Every query at every named point, by the bundle and by the replay: the same calls, the same answer served.

    outcomes: encoded where the cascade's signals read embeddings, with answers. bundle: of this cascade, loaded with the `said` of the
    same data. Raises InputError for the first decision that differs, save for a share NEAR that hang on the last digits of a prior or a
    score; and where one of these is further off than TOLERANCE.
    """
    table = kept.scorers(outcomes)
    points = {name: float(point["knob"]) for name, point in bundle.described["operating_points"].items()}
    replays = {name: bought(kept.cascade, table, knob=knob).decisions for name, knob in points.items()}
    recorded = (bundle.described["scorer"] or {}).get("recorded", [])
    known = {name: outcomes.signals[name] for name in recorded if name in outcomes.signals}
    score = np.full(table.quality.shape, np.nan, dtype=np.float32)
    gaps: list[Floats] = [np.zeros(0, dtype=np.float32)]
    calls = rounded = 0
    for row, text in enumerate(outcomes.queries.text):
        query = bundle.read(text)
        if query.prior is not None:
            gaps.append(query.prior - table.signals[PRIOR][row])
        for name, replayed in replays.items():
            asking = bundle.start(query, name)
            while asking.next is not None:
                answer = None if outcomes.answer is None else outcomes.answer[row, asking.upcoming]
                asking = asking.answered(answer, {key: float(value[row, asking.upcoming]) for key, value in known.items()})
            calls += len(asking.called)
            score[row] = np.where(np.isnan(asking.score), score[row], asking.score)
            if not _same(asking, replayed, row):
                _require_rounding(asking, kept, table, row, replayed, points[name])
                rounded += 1
    told = ~np.isnan(score)
    if told.any():
        gaps.append(score[told] - table.signals[SCORE][told])
    gap = np.abs(np.concatenate(gaps))
    worst, decisions = float(gap.max(initial=0.0)), len(table) * len(points)
    if not worst <= TOLERANCE:
        raise InputError("the bundle scores differently from the run", expected=f"within {TOLERANCE:g}", found=f"{worst:.2g}")
    if rounded > max(1.0, NEAR * decisions):
        expected, found = f"at most {NEAR:.1%}", f"{rounded} of {decisions}"
        raise InputError("too many decisions of the bundle hang on a last digit", expected=expected, found=found)
    return Compared(len(table), decisions, calls, rounded, int(told.sum()), int((gap > 0).sum()), worst)


def _same(asking: Any, replayed: Decisions, row: int) -> bool:
    names = asking.point.models
    return bool((asking.flags == replayed.called[row]).all()) and asking.served.model == names[replayed.served[row]]


def _require_rounding(asking: Any, kept: Kept, table: Outcomes, row: int, replayed: Decisions, knob: float) -> None:
    """Raises InputError unless the replay decides as the bundle did once it is given the bundle's own prior and scores."""
    one = table.take(np.array([row]))
    signals = dict(one.signals)
    if asking.query.prior is not None:
        signals[PRIOR] = asking.query.prior[None, :]
    if SCORE in signals:
        signals[SCORE] = np.where(np.isnan(asking.score), signals[SCORE], asking.score)
    if _same(asking, bought(kept.cascade, replace(one, signals=signals), knob=knob).decisions, 0):
        return
    names = table.pool.name
    raise InputError(
        "the bundle decides differently from the replay",
        where=f"query {table.queries.id[row]!r}, point {asking.point.name}",
        expected=f"{', '.join(names[j] for j in np.flatnonzero(replayed.called[row]))}, serving {names[replayed.served[row]]}",
        found=f"{', '.join(sorted(asking.called, key=names.index))}, serving {asking.served.model}",
        mend="Export with the versions that trained it.",
    )
