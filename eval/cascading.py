"""One cascade on trial: scorers and lists fitted over the folds, replayed on answers it has not seen, judged beside the controls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path as Files
from typing import Any, NamedTuple

import numpy as np

from routewright.core import artifact, columns
from routewright.core.calibrate import Affine
from routewright.core.contracts import PRIOR, SCORE, Cascade, Student
from routewright.core.probability import Probability
from routewright.core.types import Floats, InputError, Ints, Outcomes, Predictions
from routewright.eval import students
from routewright.eval.assess import Assessment, Judging, Replayed, assess
from routewright.eval.cascade_points import HeldOut
from routewright.eval.crossfit import Cut, Fitted, crossfit
from routewright.eval.paths import Path
from routewright.eval.ruler import choose_pair
from routewright.eval.scored import Makers, Scorers, fit_scorers, reads
from routewright.eval.students import Taught
from routewright.eval.trial import fit_rivals, scores, withhold


@dataclass(frozen=True, eq=False)
class Kept:
    """What a gateway needs of a cascade: the cascade itself, what makes its signals, and the student where the pool has one."""

    cascade: Cascade
    scorers: Scorers
    student: Student | None = None

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Every array, by name."""
        taught = {} if self.student is None else {f"student.{name}": value for name, value in self.student.state().items()}
        return {f"cascade.{name}": value for name, value in self.cascade.state().items()} | self.scorers.state() | taught

    @classmethod
    def restored(cls, make: Callable[[], Cascade], makers: Makers, state: Mapping[str, np.ndarray[Any, Any]]) -> Kept:
        """The inverse of state(), into fresh parts of the same config."""
        parts: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
        for name, value in state.items():
            owner, _, key = name.partition(".")
            parts.setdefault(owner, {})[key] = value
        cascade = make().load(parts["cascade"])
        guessed, scored = reads(cascade.needs)
        signal = makers.signal() if scored else None
        scorers = Scorers(
            cascade.needs,
            makers.said,
            columns.restored(makers.router(), parts["router"]) if guessed else None,
            Probability.load(parts["prior"]) if guessed else None,
            None if signal is None else signal.load(parts.get("signal", {})),
            Probability.load(parts["score"]) if scored else None,
        )
        return cls(cascade, scorers, makers.student().load(parts["student"]) if makers.student and "student" in parts else None)


class CascadeTrial(NamedTuple):
    """What came out: the judged scores, what was replayed, the judgement, the controls' predictions, and the cascade that is kept.

    outcomes: the table that was judged, with the student's column where there is one.
    """

    fitted: Fitted
    replayed: Replayed
    assessment: Assessment
    rivals: dict[str, Predictions]
    kept: Kept
    outcomes: Outcomes

    def save(self, folder: Files, outcomes: Outcomes, *, keep: bool) -> None:
        """What evaluate.py judges again; keep: the cascade and its scorers too."""
        artifact.save_scores(folder, scores(self, outcomes))
        paths = {f"{kind}{name}": value for kind, path in self.replayed.paths().items() for name, value in path.arrays().items()}
        artifact.save_replay(folder, paths)
        if self.kept.student is not None:
            students.save(folder, outcomes)
        if keep:
            artifact.save_state(folder, self.kept.state())


@dataclass(frozen=True, eq=False)
class _Fold:
    kept: Kept
    path: Path
    shuffled: Path
    held_out: Path
    relabelled: Path | None
    score: Floats  # (t, m) of the test rows


def try_cascade(
    name: str,
    make: Callable[[], Cascade],
    makers: Makers,
    outcomes: Outcomes,
    cuts: Sequence[Cut],
    judging: Judging,
    *,
    fit: np.random.Generator,
    judge: np.random.Generator,
    without: Collection[str] = (),
    refit: bool = True,
) -> CascadeTrial:
    """Fits and judges one cascade. outcomes: encoded, with answers where its signal or the cascade reads them, and every call's cost.

    Beside the controls that every router has stands `router_alone`: the router whose predictions the cascade begins with, which asks once.
    The one on shuffled labels is the whole cascade, its scorers and lists learned from other queries' grades.
    refit: with several folds, whether one more is fitted on all rows, to be kept. A student is taught in every fold on that fold's training
    rows, and stands in the pool of all that is judged. Raises InputError where some cost is not known.
    """
    if not np.isfinite(outcomes.cost).any(axis=0).all():
        mend = "Give the data a cost column or prices=..., or choose data.models=[...]."
        raise InputError(
            "a cascade is judged by what its calls cost", expected="USD for every model", found="models without a cost", mend=mend
        )
    if judging.protocol != "exact":
        raise InputError("protocol 'routellm' is for routers", expected="protocol=exact", found=judging.protocol)
    streams = fit.spawn(len(cuts) + 1)
    makers = replace(makers, said=cache(makers.said))  # every fold reads the same answers
    recorded, heard = outcomes, None if makers.student is None else students.parts(outcomes, makers.said)
    teach = partial(students.teach, makers, recorded, heard, clustered=judging.clustered)
    taught = [teach(cut.train, stream) for cut, stream in zip(cuts, streams, strict=False)]
    outcomes = students.joined(taught, cuts)
    strong = choose_pair(outcomes).strong
    relabel = "shuffled_labels" not in without
    each = zip(taught, cuts, streams, strict=False)
    folds = [_fold(make, makers, part, cut, stream, judging, strong, relabel=relabel) for part, cut, stream in each]
    rows, fold = np.concatenate([cut.test for cut in cuts]), np.repeat(np.arange(len(cuts)), [len(cut.test) for cut in cuts])
    order = np.argsort(rows, kind="stable")
    rows, fold = rows[order], fold[order]
    path, shuffled = (Path.pooled([getattr(part, which) for part in folds], order) for which in ("path", "shuffled"))
    relabelled = Path.pooled([part.relabelled for part in folds if part.relabelled is not None], order) if relabel else None
    replayed = Replayed(path, shuffled, _held_out(cuts, folds, rows, fold, path), relabelled)
    kept = folds[0].kept
    if len(cuts) > 1 and refit:
        every = np.arange(len(recorded))
        kept = _kept(make, makers, teach(every, streams[-1]), every, streams[-1], judging)
    score = np.concatenate([part.score for part in folds])[order]
    predictions = Predictions(score, outcomes.cost[rows])
    # with one inner fold the scorers' router knows less than a router of the whole training part
    ready = [part.kept.scorers.router for part in folds if part.kept.scorers.router is not None and makers.folds > 1]
    alone = crossfit(makers.router, outcomes, cuts, judge.spawn(1)[0], makers.learn, refit=False, ready=ready)
    fitted = Fitted(rows, fold, predictions, Affine.identity(len(outcomes.pool)), alone.router, (), exact=len(cuts) == 1)
    rivals = {"router_alone": alone.predictions}
    rivals |= fit_rivals(makers.router, outcomes, cuts, judge, makers.learn, {*without, "shuffled_labels"})
    judged = assess(name, fitted, outcomes, judging, judge, rivals, replayed=replayed)
    withhold(judged, rivals, without)
    if heard is not None:
        judged.metrics["student"] = students.told(taught, outcomes, heard, rows, makers.said)
    return CascadeTrial(fitted, replayed, judged, rivals, kept, outcomes)


def _kept(make: Callable[[], Cascade], makers: Makers, taught: Taught, rows: Ints, stream: np.random.Generator, judging: Judging) -> Kept:
    cascade = make()
    scorers, table = fit_scorers(makers, taught.table.take(rows), cascade.needs, stream, clustered=judging.clustered)
    return Kept(cascade.fit(table, rng=stream), scorers, taught.student)


def _fold(
    make: Callable[[], Cascade],
    makers: Makers,
    taught: Taught,
    cut: Cut,
    stream: np.random.Generator,
    judging: Judging,
    strong: int,
    *,
    relabel: bool,
) -> _Fold:
    kept = _kept(make, makers, taught, cut.train, stream, judging)
    test, held_out = (kept.scorers(taught.table.take(rows)) for rows in (cut.test, cut.calibration))
    wrong = stream.permutation(len(test))
    strangers = replace(test, signals={name: value[wrong] for name, value in test.signals.items()})
    path, shuffled, away = (Path.of(kept.cascade, table, strong=strong) for table in (test, strangers, held_out))
    score = (test.signals[SCORE] if SCORE in test.signals else test.signals[PRIOR]).astype(np.float64)
    relabelled = None
    if relabel:
        quality = taught.table.quality.copy()
        quality[cut.train] = quality[stream.permutation(cut.train)]
        misled = _kept(make, makers, replace(taught, table=replace(taught.table, quality=quality)), cut.train, stream, judging)
        relabelled = Path.of(misled.cascade, misled.scorers(taught.table.take(cut.test)), strong=strong)
    return _Fold(kept, path, shuffled, away, relabelled, score)


def _held_out(cuts: Sequence[Cut], folds: Sequence[_Fold], rows: Ints, fold: Ints, path: Path) -> tuple[HeldOut, ...]:
    """Where each fold's operating points are chosen: on its calibration rows, or, with several folds, on what the others judged."""
    if len(cuts) == 1:
        return (HeldOut(cuts[0].calibration, folds[0].held_out),) if len(cuts[0].calibration) else ()
    return tuple(HeldOut(rows[fold != k], path.take(fold != k)) for k in range(len(cuts)))
