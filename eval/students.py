"""A student as one more model of the pool: its answers to queries that it has not learned from, graded by what others were graded for.

FrugalGPT's model approximation (Chen et al. 2023, arXiv 2305.05176, section 3). Nobody graded the student, so its grade on a query is that
of a recorded answer to that query which says the same; where none does it is 0. That is conservative: a student that is right where every
recorded answer is wrong gets nothing for it. A student learns what its teacher said and never a grade.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.contracts import Student
from routewright.core.files import write_atomic
from routewright.core.types import Bools, Floats, InputError, Ints, Outcomes, Pool, Queries, Strings
from routewright.eval.crossfit import Cut
from routewright.eval.scored import Makers, splits

NAME, FILE = "student", "student.parquet"
CONFIDENCE = "logprob_mean"  # the recorded signal that holds log(confidence): signals that read log-probabilities read it
LEAST = 1e-12  # of a confidence, so that its logarithm is a number

Said = Callable[[str], str | None]


@dataclass(frozen=True, eq=False)
class Taught:
    """A fitted student, who taught it, and the whole table with its column; without a student the table as it came."""

    table: Outcomes
    student: Student | None = None
    teacher: str = ""


def check(student: Callable[[], Student] | None, *, cascade: bool, alone: bool) -> None:
    """Raises InputError where a student is asked for and cannot be had: without a cascade, or beside tables that know no such model.

    alone: whether all that is learned from is the judged table.
    """
    if student is None:
        return
    if not cascade:
        mend = "Add cascade=..., or leave student out."
        raise InputError("a student is one more model of a cascade", expected="cascade=...", found="a router alone", mend=mend)
    if not alone:
        mend = "Leave out extra and mix.own."
        raise InputError("a student needs the judged data's own training part alone", expected="no further tables", found="some", mend=mend)


def parts(outcomes: Outcomes, said: Said) -> Strings:
    """(n, m) what counts of each recorded answer, None for nothing. Raises InputError where no answers were recorded."""
    if outcomes.answer is None:
        mend = "Take data with the models' answers, name their column (data.answer=...), or collect them with collect.py."
        raise InputError("a student learns from answers, and there are none", expected="the text of every answer", found="none", mend=mend)
    heard = np.full(outcomes.answer.shape, None, dtype=object)
    for cell in np.argwhere(outcomes.answer != None):  # noqa: E711 - elementwise
        heard[tuple(cell)] = said(outcomes.answer[tuple(cell)])
    return heard


def teach(makers: Makers, outcomes: Outcomes, heard: Strings | None, rows: Ints, rng: np.random.Generator, *, clustered: bool) -> Taught:
    """The student of these training rows and the whole table with its answers; the table as it is where makers has no student.

    A training row is answered by a student of the other inner folds (two at least), every other row by the student of all training rows.
    heard: parts(outcomes). Raises InputError for a teacher that is not in the pool, for a pool that has a `student` already, and as the
    student does.
    """
    if makers.student is None:
        return Taught(outcomes)
    assert heard is not None, "what the answers say must have been read"
    train, make = outcomes.take(rows), makers.student
    named = make().teacher
    teacher = int(np.nanargmax(column_means(train.quality))) if named is None else outcomes.pool.index(named)
    inner, last = rng.spawn(2)
    student = make().fit(train.queries, heard[rows, teacher].tolist(), rng=last)
    said, confidence = student.answer(outcomes.queries)
    answer = np.array(said, dtype=object)
    for held, stream in splits(train, max(makers.folds, 2), inner, clustered=clustered):
        kept = np.setdiff1d(np.arange(len(train)), held)
        other = make().fit(train.queries.take(kept), heard[rows[kept], teacher].tolist(), rng=stream)
        answer[rows[held]], confidence[rows[held]] = other.answer(train.queries.take(held))
    quality = grades(answer, outcomes.quality, heard, makers.said)
    table = extended(outcomes, answer, quality, confidence, float(student.usd_call))
    return Taught(table, student, outcomes.pool.name[teacher])


def grades(answer: Strings, quality: Floats, heard: Strings, said: Said) -> Floats:
    """(n,) the grade of each answer[n]: the lowest that a recorded answer which says the same got, 0 where none says it.

    quality (n, m) and heard (n, m) are of the recorded answers. NaN where those that say the same were not graded, or where nothing was.
    """
    same = _same(answer, heard, said)
    graded = ~np.isnan(quality)
    lowest = np.where(same & graded, quality, np.inf).min(axis=1, initial=np.inf)
    unknown = np.where(same.any(axis=1), np.nan, np.where(graded.any(axis=1), 0.0, np.nan))
    return np.where(np.isfinite(lowest), lowest, unknown)


def extended(outcomes: Outcomes, answer: Strings, quality: Floats, confidence: Floats, usd: float) -> Outcomes:
    """The table with one more model, last: answer[n], quality[n], confidence[n] in [0, 1], usd a call; NaN for what it does not have.

    Its confidence stands, as a natural logarithm, in the recorded signal CONFIDENCE, which is NaN for the others where there was none.
    Raises InputError where the pool has a model of that name.
    """
    pool, n = outcomes.pool, len(outcomes)
    if NAME in pool.name:
        mend = "Leave that model out with data.models=[...]."
        raise InputError(f"a model of the pool is called {NAME!r} already", expected="another name", found=NAME, mend=mend)
    assert outcomes.answer is not None

    def beside(table: Floats, column: Floats | float = np.nan) -> Floats:
        return np.column_stack([table, np.broadcast_to(column, n)])

    signals = {name: beside(value) for name, value in outcomes.signals.items()}
    recorded = outcomes.signals.get(CONFIDENCE, np.full(outcomes.quality.shape, np.nan))
    signals[CONFIDENCE] = beside(recorded, np.log(np.maximum(confidence, LEAST)))
    return replace(
        outcomes,
        pool=Pool(
            (*pool.name, NAME),
            usd_input=np.append(pool.usd_input, np.nan),
            usd_cached_input=np.append(pool.usd_cached_input, np.nan),
            usd_output=np.append(pool.usd_output, np.nan),
            usd_call=np.append(pool.usd_call, usd),
            variant=(*pool.variant, ""),
        ),
        quality=beside(outcomes.quality, quality),
        cost=beside(outcomes.cost, usd),
        tokens={kind: beside(value) for kind, value in outcomes.tokens.items()},
        latency=None if outcomes.latency is None else beside(outcomes.latency),
        answer=np.column_stack([outcomes.answer, answer]),
        signals=signals,
    )


def joined(taught: Sequence[Taught], cuts: Sequence[Cut]) -> Outcomes:
    """The table that is judged: each row with the student's answer as the fold that judges it made it, or else as the first fold did."""
    first = taught[0].table
    if taught[0].student is None:
        return first
    maker = np.zeros(len(first), dtype=np.int64)
    for k, cut in enumerate(cuts):
        maker[cut.test] = k
    tables = [part.table for part in taught]

    def patched(column: Callable[[Outcomes], Any]) -> Any:
        made = column(first).copy()
        for k, table in enumerate(tables):
            made[maker == k, -1] = column(table)[maker == k, -1]
        return made

    confidence = patched(lambda table: table.signals[CONFIDENCE])
    return replace(
        first,
        quality=patched(lambda table: table.quality),
        answer=patched(lambda table: table.answer),
        signals={**first.signals, CONFIDENCE: confidence},
    )


def told(taught: Sequence[Taught], judged: Outcomes, heard: Strings, rows: Ints, said: Said) -> dict[str, Any]:
    """For metrics.json: who taught it, and on the judged rows how often it says what its teacher says and how often what nobody said.

    heard: parts of the table without the student. Where folds had different teachers, agreement is with any of them.
    """
    table = judged.take(rows)
    assert table.answer is not None
    same = _same(table.answer[:, -1], heard[rows], said)
    teachers = sorted({part.teacher for part in taught})
    return {
        "teacher": ", ".join(teachers),
        "quality": float(column_means(table.quality)[-1]),
        "usd_call": float(table.pool.usd_call[-1]),
        "agrees_with_teacher": float(same[:, [judged.pool.index(name) for name in teachers]].any(axis=1).mean()),
        "said_by_nobody": float((~same.any(axis=1)).mean()),
    }


def _same(answer: Strings, heard: Strings, said: Said) -> Bools:
    """(n, m) whether the recorded answers, of which heard (n, m) counts, say what answer[n] says."""
    told = np.array([said(text) for text in answer], dtype=object)
    return np.asarray((heard == told[:, None]) & (told != None)[:, None], dtype=bool)  # noqa: E711 - elementwise


def save(folder: Path, judged: Outcomes) -> Path:
    """student.parquet: one row a query of the table, with what the student's column holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert judged.answer is not None
    columns = {
        "id": judged.queries.id.tolist(),
        "answer": judged.answer[:, -1].tolist(),
        "quality": judged.quality[:, -1],
        "cost": judged.cost[:, -1],
        CONFIDENCE: judged.signals[CONFIDENCE][:, -1],
    }
    return write_atomic(folder / FILE, lambda stream: pq.write_table(pa.table(columns), stream, compression="zstd"))


def restored(folder: Path, outcomes: Outcomes) -> Outcomes:
    """The inverse of save, given the run's own table without the student; that table itself where the run had none."""
    import pyarrow.parquet as pq

    if not (folder / FILE).is_file():
        return outcomes
    kept = pq.read_table(folder / FILE)
    _require_ids(kept.column("id").to_pylist(), outcomes.queries, folder)
    answer = np.array(kept.column("answer").to_pylist(), dtype=object)
    quality, cost, log = (kept.column(name).to_numpy() for name in ("quality", "cost", CONFIDENCE))
    return extended(outcomes, answer, quality, np.exp(log.astype(np.float64)), float(cost[0]))


def _require_ids(ids: Sequence[str], queries: Queries, folder: Path) -> None:
    if list(ids) != queries.id.tolist():
        raise InputError(
            "the student's answers are of other queries",
            where=str(folder / FILE),
            expected=f"{len(queries)} queries in the order of the data",
            found=f"{len(ids)}",
            mend="Train again.",
        )
