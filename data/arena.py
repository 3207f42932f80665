"""Battles from a table in the arena's format: a row for each comparison of two models on one query."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.types import Battles, Bools, Floats, InputError, Ints, Pool, Queries
from routewright.data.cells import Cells, Problems, missing, numbers, same, shown, texts
from routewright.data.grid import chosen, hash_id, objects, only_one

log = logging.getLogger("routewright")

SIDES = ("model_a", "model_b", "tie")
# by their letters alone: people write "tie (bothbad)", "both_bad", "Tie (both bad)"
RESULTS = {"modela": 1.0, "modelb": 0.0, "tie": 0.5, "tiebothbad": 0.5, "bothbad": 0.5}
BOTH_BAD = ("tiebothbad", "bothbad")
WANTED = "model_a, model_b, tie or tie (bothbad)"


@dataclass(frozen=True)
class Columns:
    """The names of the columns in the file. In place of `<winner>`, `<winner>_model_a`, `<winner>_model_b` and `<winner>_tie` are taken."""

    query: str = "query"
    model_a: str = "model_a"
    model_b: str = "model_b"
    winner: str = "winner"
    weight: str = "weight"
    id: str = "id"
    group: str = "group"

    def onehot(self) -> list[str]:
        return [f"{self.winner}_{side}" for side in SIDES]


@dataclass(frozen=True, eq=False)
class Fights:
    """What a table of battles held: those kept, the row of the file of each (b,), the columns that were read, and counts to be told."""

    battles: Battles
    rows: Ints
    used: set[str]
    counts: dict[str, int] = field(default_factory=dict)


def is_arena(names: Iterable[str], columns: Columns) -> bool:
    """Whether a table of these columns is one of battles: two models and who won."""
    there = set(names)
    return {columns.model_a, columns.model_b} <= there and bool(there & {columns.winner, *columns.onehot()})


def first_turn(cell: Any) -> Any:
    """The first turn of a prompt that is a list of turns, as JSON text or as a list; anything else as it is."""
    turns = cell
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            turns = json.loads(cell)
        except (ValueError, RecursionError):
            return cell  # a query may begin with a bracket
    return turns[0] if isinstance(turns, list) and turns and all(isinstance(turn, str) for turn in turns) else cell


def with_columns(cells: Cells, made: dict[str, Sequence[Any]], rows: Ints | None = None) -> Cells:
    """The same file with these columns in place of its own (each as long as the file), and only these rows."""

    def column(name: str) -> Sequence[Any]:
        values = made[name] if name in made else cells.column(name)
        return values if rows is None else [values[row] for row in rows]

    lines = cells.line if rows is None else [cells.line[row] for row in rows]
    return Cells(cells.path, cells.unit, lines, list(dict.fromkeys([*cells.names, *made])), column)


def read(
    cells: Cells, columns: Columns | None = None, *, ties: str = "keep", bothbad: str = "tie", models: Sequence[str] | None = None
) -> Fights:
    """The battles in these cells, in the order of the file; queries and models in order of first appearance, or models as asked for.

    Rows of one id are one query; without ids, rows of one text. Two battles of two models on one query both count, each with its weight.
    ties: keep (outcome .5) or drop; bothbad: tie, or drop the battles that both models lost. Queries without a battle are left out.
    Raises InputError by line and column for what cannot be read, for a model against itself, and as `select` does.
    """
    columns = Columns() if columns is None else columns
    _choice("bothbad", bothbad, ("tie", "drop"))
    whole, lost, used = _parsed(cells, columns)
    battles, rows = select(whole, kept(whole.outcome, ties) & ~(lost & (bothbad == "drop")), models, cells.path)
    counts = {"battles": len(battles), "ties": int((battles.outcome == 0.5).sum()), "both_bad": int(lost[rows].sum())}
    counts |= {"dropped": len(whole) - len(battles), "repeated": repeated(battles)}
    if counts["repeated"]:
        log.info("note: %d battles are between two models that met on the same query before; each of them counts.", counts["repeated"])
    return Fights(battles, rows, used, counts)


def _parsed(cells: Cells, columns: Columns) -> tuple[Battles, Bools, set[str]]:
    """Every row as a battle, which of them both models lost, and the columns that were read."""
    problems = Problems(cells.path, cells.unit, cells.line)
    there = set(cells.names)
    turns = with_columns(cells, {columns.query: [first_turn(cell) for cell in cells.column(columns.query)]})
    text = texts(turns, columns.query, problems, what="query", strip=False)
    ids = texts(cells, columns.id, problems, what="id") if columns.id in there else None
    group = texts(cells, columns.group, problems, what="group") if columns.group in there else [""] * len(cells)
    sides = [texts(cells, name, problems, what="model") for name in (columns.model_a, columns.model_b)]
    outcome, lost, winner = _results(cells, columns, problems)
    weight = _weights(cells, columns.weight, problems) if columns.weight in there else np.ones(len(cells))
    _no_mirror(sides, columns, problems)
    problems.check()
    keys = text if ids is None else ids
    row_of = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    at = np.array([row_of[key] for key in keys])
    first = np.unique(at, return_index=True)[1]
    if ids is not None:
        same(problems, at, first, columns.query, text)
    same(problems, at, first, columns.group, group)
    problems.check()
    names = list(dict.fromkeys(name for pair in zip(*sides, strict=True) for name in pair))
    column_of = {name: j for j, name in enumerate(names)}
    a, b = (np.array([column_of[name] for name in side]) for side in sides)
    id_of = ids or [hash_id(value) for value in text]
    name, words, kind = (objects([values[row] for row in first]) for values in (id_of, text, group))
    used = {columns.query, columns.model_a, columns.model_b, *winner, *({columns.id, columns.group, columns.weight} & there)}
    return Battles(Queries(name, words, kind), Pool(tuple(names)), at, a, b, outcome, weight), lost, used


def kept(outcome: Floats, ties: str) -> Bools:
    """(b,) which battles stay where ties are to be kept or dropped. Raises InputError for another word."""
    _choice("ties", ties, ("keep", "drop"))
    return np.asarray((outcome != 0.5) | (ties == "keep"))


def select(battles: Battles, keep: Bools, models: Sequence[str] | None, path: Path) -> tuple[Battles, Ints]:
    """The battles that are kept between `models` (None: all that fight), and their rows; queries without one of them are left out.

    Raises InputError for a model that is not there or fights no other of `models`, for a single model, and where no battle is left.
    """
    names = battles.pool.name
    wanted = chosen(names, models, path)
    if models is not None and len(wanted) < 2:
        only_one(path, wanted, "Name another model in data.models.")
    place = np.full(len(names), -1)
    place[[names.index(name) for name in wanted]] = np.arange(len(wanted))
    rows = np.flatnonzero(keep & (place[battles.a] >= 0) & (place[battles.b] >= 0))
    if not keep.any():
        mend = "Keep them: data.ties=keep data.bothbad=tie."
        raise InputError("no battle is left", where=str(path), expected="a battle that one side won", found=f"{len(keep)} ties", mend=mend)
    fighting = set(battles.a[rows].tolist()) | set(battles.b[rows].tolist())
    idle = [name for name in wanted if names.index(name) not in fighting]
    if models is not None and idle:
        raise InputError(
            "models that never fight",
            where=str(path),
            expected="a battle of each with another one of data.models",
            found=", ".join(idle),
            mend="Leave them out of data.models, or add their battles.",
        )
    columns = [j for name in wanted if (j := names.index(name)) in fighting]
    place[columns] = np.arange(len(columns))
    left, query = np.unique(battles.query[rows], return_inverse=True)
    assert battles.weight is not None
    a, b, cost = place[battles.a[rows]], place[battles.b[rows]], None if battles.cost is None else battles.cost[left][:, columns]
    queries, pool = battles.queries.take(left), battles.pool.take(columns)
    return Battles(queries, pool, query, a, b, battles.outcome[rows], battles.weight[rows], cost), rows


def repeated(battles: Battles) -> int:
    """How many battles are between two models that met on the same query before."""
    m = len(battles.pool)
    pairs = (battles.query * m + np.minimum(battles.a, battles.b)) * m + np.maximum(battles.a, battles.b)
    return len(pairs) - len(np.unique(pairs))


def _choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"unknown {name}", expected=" or ".join(known), found=repr(value), mend=f"Say data.{name}={known[0]}.")


def _results(cells: Cells, columns: Columns, problems: Problems) -> tuple[Floats, Bools, list[str]]:
    """(rows,) 1, .5 or 0 for a; whether both were bad; and the columns that said so."""
    if columns.winner in cells.names:
        said = [re.sub(r"[^a-z]", "", cell.lower()) if isinstance(cell, str) else None for cell in cells.column(columns.winner)]
        for row, (letters, cell) in enumerate(zip(said, cells.column(columns.winner), strict=True)):
            if letters not in RESULTS:
                mend = f"Write who won: {WANTED}; a row without a winner is no battle and must go."
                problems.add(row, columns.winner, "unknown winner of a battle", expected=WANTED, found=shown(cell), mend=mend)
        outcome = np.array([RESULTS.get(letters or "", 0.5) for letters in said])
        return outcome, np.array([letters in BOTH_BAD for letters in said]), [columns.winner]
    names = columns.onehot()
    lacking = [name for name in names if name not in cells.names]
    if lacking:
        found = ", ".join(shown(name) for name in cells.names[:20])
        wanted = f"a column {columns.winner!r}, or {', '.join(names)}"
        mend = f"Add it, or say which column tells the winner: data.winner={columns.winner}."
        raise InputError(f"there is no column {lacking[0]!r}", where=str(cells.path), expected=wanted, found=found, mend=mend)
    return _onehot(cells, names, problems), np.zeros(len(cells), dtype=bool), names


def _onehot(cells: Cells, names: Sequence[str], problems: Problems) -> Floats:
    flags = np.stack(
        [numbers(cells, name, problems, high=1.0, booleans=True, mend="Write 1 for who won and 0 elsewhere.") for name in names]
    )
    wrong = np.flatnonzero(~(((flags == 0) | (flags == 1)).all(axis=0) & (flags.sum(axis=0) == 1)))
    columns, wanted = [cells.column(name) for name in names], f"a single 1 and two 0 in {', '.join(names)}"
    for row in wrong.tolist():
        found = [column[row] for column in columns]
        if all(missing(cell) or not np.isnan(value) for cell, value in zip(found, flags[:, row], strict=True)):  # else it is told already
            said = ", ".join("empty" if missing(cell) else str(cell) for cell in found)
            problems.add(row, names[0], "a battle without exactly one winner", expected=wanted, found=said, mend="Mark one of the three.")
    return np.asarray(flags[0] + 0.5 * flags[2])


def _weights(cells: Cells, column: str, problems: Problems) -> Floats:
    weight = numbers(cells, column, problems, mend="Give a positive number, or leave the column out.")
    mend = "Give 1 for a usual battle; drop the row of one that is not to count."
    for row, cell in enumerate(cells.column(column)):
        if missing(cell) or weight[row] == 0:
            problems.add(row, column, "a battle has no weight", expected="a number > 0", found=shown(cell), mend=mend)
    return weight


def _no_mirror(sides: Sequence[Sequence[str]], columns: Columns, problems: Problems) -> None:
    for row, (a, b) in enumerate(zip(*sides, strict=True)):
        if a == b and not missing(a):
            mend = "Drop the row, or give the two sides the names they had."
            problems.add(row, columns.model_b, "a model fights itself", expected="two different models", found=shown(a), mend=mend)
