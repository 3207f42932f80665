"""The user's own table, CSV, JSONL or Parquet: long (a row for each query and model) or wide (for each query) as Outcomes, or Battles."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from routewright.core.files import sha256
from routewright.core.prices import PriceBook
from routewright.core.types import Battles, Floats, InputError, Ints, Outcomes
from routewright.data import arena
from routewright.data.battles import read_battles
from routewright.data.cells import Cells, Problems, distinct, file_format, numbers, once, read_cells, same, shown, texts
from routewright.data.grid import NUMERIC, TOKENS, Grid, answers, chosen, objects, only_one, spread
from routewright.data.grid import hash_id as hash_id
from routewright.data.sources._spoken import Spoken
from routewright.data.split import SIDES
from routewright.data.tables import read_outcomes, read_split

# what people call these columns, to be proposed when one is missing
OTHER_NAMES = {
    "query": ("prompt", "question", "input", "text", "instruction"),
    "model_a": ("left", "first_model"),
    "model_b": ("right", "second_model"),
    "model": ("model_name", "llm", "engine", "deployment"),
    "quality": ("score", "correct", "is_correct", "accuracy", "grade", "label", "reward", "performance"),
}
LAYOUTS = ("auto", "long", "wide", "battles")
MENDS = {
    "quality": "Rescale the grades to [0, 1], for example divide percentages by 100; true and false count as 1 and 0.",
    "cost": "Give USD for the call, without a currency sign.",
    "latency": "Give seconds.",
}


@dataclass(eq=False)
class Table(Spoken):
    """The source `table`. load() gives Outcomes or Battles, or one InputError that names file, line, column, expected, found and the mend.

    path: CSV, TSV, JSONL, Parquet, or a file of write_outcomes or write_battles, told apart by suffix and content unless format says csv,
    jsonl, parquet, outcomes or battles.
    layout: battles if `model_a`, `model_b` and `winner` (or a one-hot `winner_...`) exist, long if `model` and `quality` do, else wide,
    where a model `m` has the column `quality:m` (or `m` alone if no column of the file starts with `quality:`) and, if known, `cost:m`,
    `answer:m`, `latency:m`, `output_tokens:m` and so on.
    query ... weight: the columns' names in this file; in the wide layout, the part before the colon.
    ties (keep or drop) and bothbad (tie or drop): what to do with battles that nobody won, and with those that both lost.
    split_column: holds train, calibration or test, for split.kind=given and auto; not looked at otherwise.
    prices: a price book; used where the file has token counts and no cost. models: which to keep, in this order (None: all, as they come).
    labels, licence, citation: how the grades were made and whose the data are, for the manifest.
    allow_zero_cost: says that a model whose every call cost nothing is really free.
    """

    path: str
    format: str = "auto"
    layout: str = "auto"
    delimiter: str | None = None
    query: str = "query"
    model: str = "model"
    quality: str = "quality"
    cost: str = "cost"
    id: str = "id"
    group: str = "group"
    answer: str = "answer"
    latency: str = "latency"
    input_tokens: str = "input_tokens"
    cached_input_tokens: str = "cached_input_tokens"
    output_tokens: str = "output_tokens"
    reasoning_tokens: str = "reasoning_tokens"
    model_a: str = "model_a"
    model_b: str = "model_b"
    winner: str = "winner"
    weight: str = "weight"
    ties: str = "keep"
    bothbad: str = "tie"
    prices: PriceBook | None = None
    labels: str = "as given"
    licence: str = "the owner's own"
    citation: str = ""
    models: Sequence[str] | None = None
    allow_zero_cost: bool = False
    split_column: str = "split"
    splits_: tuple[Cells, Ints] | Path | None = field(default=None, init=False, repr=False)
    about_: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def load(self) -> Outcomes | Battles:
        """The table as Outcomes or Battles; raises InputError as the class says."""
        path = Path(self.path).expanduser()
        kind = file_format(path, self.format)
        if kind in ("outcomes", "battles"):
            return self._written(path, kind)
        cells = read_cells(path, kind, self.delimiter)
        layout = self._layout(cells)
        self.splits_ = None
        found: dict[str, Any] = {"format": kind, "layout": layout, "rows": len(cells)}
        made: Outcomes | Battles
        if layout == "battles":
            fights = arena.read(cells, self._columns(), ties=self.ties, bothbad=self.bothbad, models=self.models)
            made, at, used = fights.battles, fights.battles.query, fights.used | {self.split_column}
            cells, found = arena.with_columns(cells, {}, fights.rows), found | fights.counts
        else:
            used = set()
            grid = self._long(cells, used) if layout == "long" else self._wide(cells, used)
            if len(grid.models) < 2:
                only_one(path, grid.models)
            made, at = grid.outcomes(path, self.prices, allow_zero_cost=self.allow_zero_cost), grid.at
        if self.split_column in cells.names:  # the one column that may still be asked for; the others are let go
            labels = cells.column(self.split_column)
            self.splits_ = Cells(cells.path, cells.unit, cells.line, [self.split_column], lambda _: labels), at
        self._describe(path, made, found | {"ignored_columns": [name for name in cells.names if name not in used]})
        return made

    def split(self) -> list[str] | None:
        """train, calibration or test for each query, from `split_column`; None without one. Raises InputError for other labels."""
        if not self.about_:
            self.load()
        if self.splits_ is None:
            return None
        if isinstance(self.splits_, Path):
            return read_split(self.splits_, self.about_["queries"])
        cells, at = self.splits_
        problems = Problems(cells.path, cells.unit, cells.line)
        labels = texts(cells, self.split_column, problems, what="split")
        for row, label in enumerate(labels):
            if label not in SIDES:
                problems.add(
                    row,
                    self.split_column,
                    "unknown label of a split",
                    expected="train, calibration or test",
                    found=shown(label),
                    mend="Rename the labels, or do without them: split.kind=random.",
                )
        first = np.unique(at, return_index=True)[1]
        same(problems, at, first, self.split_column, labels)
        problems.check()
        return [labels[row] for row in first]

    def provenance(self) -> dict[str, Any]:
        """File name, sha256, rows read, what is missing and which columns were ignored, for the manifest."""
        if not self.about_:
            self.load()
        return dict(self.about_)

    def _written(self, path: Path, kind: str) -> Outcomes | Battles:
        """A file of outcomes or of battles."""
        found: dict[str, Any] = {"format": kind}
        made: Outcomes | Battles
        if kind == "outcomes":
            made, self.splits_ = read_outcomes(path), path
            found["rows"] = len(made)
            if self.models is not None:
                made = made.models(chosen(made.pool.name, self.models, path))
        else:
            made, self.splits_ = read_battles(path), None
            found["rows"] = len(made)
            keep = arena.kept(made.outcome, self.ties)
            if self.models is not None or not keep.all():
                made, _ = arena.select(made, keep, self.models, path)
            found |= {"battles": len(made), "ties": int((made.outcome == 0.5).sum()), "repeated": arena.repeated(made)}
        self._describe(path, made, found)
        return made

    def _describe(self, path: Path, made: Outcomes | Battles, found: Mapping[str, Any]) -> None:
        digest = sha256(path)
        # a cost that stands in the file came from no price book, and a file of ours brings prices of its own
        priced = found["format"] not in ("outcomes", "battles") and isinstance(made, Outcomes) and np.isfinite(made.pool.usd_input).any()
        book = self.prices if priced else None
        self.about_ = {
            "name": "table",
            "licence": self.licence,
            "citation": self.citation,
            "revision": digest[:12],
            "files": {path.name: digest},
            "labels": self.labels,
            "usage": made.usage if isinstance(made, Outcomes) else "none",
            "prices": None if book is None else {"date": book.date, "source": book.source},
            "queries": len(made.queries),
            "models": list(made.pool.name),
            **found,
        }
        if isinstance(made, Outcomes):
            self.about_["missing_quality"] = int(np.isnan(made.quality).sum())
            self.about_["missing_cost"] = int(np.isnan(made.cost).sum())

    def _layout(self, cells: Cells) -> str:
        """long, wide or battles, with the columns it cannot do without checked."""
        if self.layout not in LAYOUTS:
            wanted = ", ".join(LAYOUTS)
            raise InputError("unknown layout", expected=f"one of {wanted}", found=repr(self.layout), mend="Say data.layout=auto.")
        if self.query not in cells.names:
            self._missing(cells, "query")
        if self.layout == "battles" or (self.layout == "auto" and arena.is_arena(cells.names, self._columns())):
            for role in ("model_a", "model_b"):
                if getattr(self, role) not in cells.names:
                    self._missing(cells, role)
            return "battles"
        there = [role for role in ("model", "quality") if getattr(self, role) in cells.names]
        if self.layout == "wide" or (self.layout == "auto" and not there):
            return "wide"
        for role in ("model", "quality"):
            if role not in there:
                self._missing(cells, role)
        return "long"

    def _columns(self) -> arena.Columns:
        return arena.Columns(self.query, self.model_a, self.model_b, self.winner, self.weight, self.id, self.group)

    def _missing(self, cells: Cells, role: str) -> NoReturn:
        name = getattr(self, role)
        lower = {column.lower(): column for column in cells.names}
        near = difflib.get_close_matches(name.lower(), lower, 1, 0.7) or [other for other in OTHER_NAMES[role] if other in lower]
        mend = f"Rename a column, or say which one it is: data.{role}={lower[near[0]] if near else 'NAME'}."
        if len(cells.names) == 1 and any(mark in cells.names[0] for mark in ";\t|"):
            mend = "The header holds another separator: say data.delimiter=';' (or the one it is)."
        elif role in ("model", "quality"):
            mend += " For a row a query and a column a model say data.layout=wide."
        raise InputError(
            f"there is no column {name!r}",
            where=str(cells.path),
            expected=f"a column with the {role}",
            found=", ".join(shown(column) for column in cells.names[:20]) + (" ..." if len(cells.names) > 20 else ""),
            mend=mend,
        )

    def _numbers(self, cells: Cells, kind: str, column: str, problems: Problems) -> Floats:
        high = 1.0 if kind == "quality" else np.inf
        mend = MENDS.get(kind, "Give the count as a whole number.")
        if kind == "quality" and ":" not in column and column != self.quality:
            mend = f"If {column!r} is not a model, say data.models=[...] or name the models' columns {self.quality}:<model>. {mend}"
        return numbers(cells, column, problems, high=high, whole=kind in TOKENS, booleans=kind == "quality", mend=mend)

    def _about_rows(self, cells: Cells, problems: Problems, used: set[str]) -> tuple[list[str], list[str], list[str] | None]:
        """text, group ("" without such a column) and id (None without) of every row of the file."""
        used |= {self.query, self.id, self.group, self.split_column} & set(cells.names)
        text = texts(cells, self.query, problems, what="query", strip=False)
        ids = texts(cells, self.id, problems, what="id") if self.id in cells.names else None
        if self.group not in cells.names:
            return text, [""] * len(cells), ids
        return text, texts(cells, self.group, problems, what="group"), ids

    def _long(self, cells: Cells, used: set[str]) -> Grid:
        problems = Problems(cells.path, cells.unit, cells.line)
        text, group, ids = self._about_rows(cells, problems, used)
        names = texts(cells, self.model, problems, what="model")
        columns = {kind: getattr(self, kind) for kind in NUMERIC if getattr(self, kind) in cells.names}
        values = {kind: self._numbers(cells, kind, column, problems) for kind, column in columns.items()}
        problems.check()
        used |= {self.model, *columns.values()}
        models = chosen(names, self.models, cells.path)
        column_of = {name: j for j, name in enumerate(models)}
        keys = text if ids is None else ids
        row_of = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        at = np.array([row_of[key] for key in keys])
        which = np.array([column_of.get(name, -1) for name in names])
        first = np.unique(at, return_index=True)[1]
        if ids is not None:
            same(problems, at, first, self.query, text)
        same(problems, at, first, self.group, group)
        once(problems, at, which, values["quality"], names, self.model)
        problems.check()
        shape = len(first), len(models)
        numeric = {kind: spread(value, at, which, shape, np.nan) for kind, value in values.items()}
        answer = None
        if self.answer in cells.names:
            used.add(self.answer)
            answer = spread(objects(answers(cells, self.answer)), at, which, shape, None)
        names_of = ids or [hash_id(value) for value in text]
        return Grid([names_of[i] for i in first], [text[i] for i in first], [group[i] for i in first], models, numeric, answer, at)

    def _wide(self, cells: Cells, used: set[str]) -> Grid:
        problems = Problems(cells.path, cells.unit, cells.line)
        text, group, ids = self._about_rows(cells, problems, used)
        prefixed = [name.removeprefix(f"{self.quality}:") for name in cells.names if name.startswith(f"{self.quality}:")]
        # a model asked for may stand in a column of its bare name although others are called quality:<model>
        there = [*prefixed, *(name for name in self.models or () if name in cells.names)] if prefixed else self._bare(cells)
        models = chosen(there, self.models, cells.path)
        self._without_quality(cells, models)
        numeric: dict[str, Floats] = {}
        answer = None
        for j, model in enumerate(models):
            for kind in (*NUMERIC, "answer"):
                column = f"{getattr(self, kind)}:{model}"
                if kind == "quality" and column not in cells.names:
                    column = model
                if column not in cells.names:
                    continue
                used.add(column)
                if kind == "answer":
                    answer = np.full((len(cells), len(models)), None, dtype=object) if answer is None else answer
                    answer[:, j] = answers(cells, column)
                else:
                    matrix = numeric.setdefault(kind, np.full((len(cells), len(models)), np.nan))
                    matrix[:, j] = self._numbers(cells, kind, column, problems)
        problems.check()
        distinct(problems, self.id if ids else self.query, ids or text)
        problems.check()
        return Grid(ids or [hash_id(value) for value in text], text, group, models, numeric, answer, np.arange(len(cells)))

    def _bare(self, cells: Cells) -> list[str]:
        """Columns that are models where none is called quality:<model>: all but the known names and those with a known prefix."""
        own = {self.query, self.id, self.group, self.split_column}
        prefixes = tuple(f"{getattr(self, kind)}:" for kind in (*NUMERIC, "answer"))
        models = [name for name in cells.names if name not in own and not name.startswith(prefixes)]
        if not models:
            self._missing(cells, "quality")
        return models

    def _without_quality(self, cells: Cells, models: Sequence[str]) -> None:
        """A model with a cost or an answer but no quality is a slip of the pen, unless models leaves it out."""
        for kind in (*NUMERIC[1:], "answer"):
            prefix = f"{getattr(self, kind)}:"
            for name in cells.names:
                if name.startswith(prefix) and name.removeprefix(prefix) not in models and self.models is None:
                    raise InputError(
                        f"column {name!r} belongs to no model",
                        where=str(cells.path),
                        expected=f"the {kind} of one of {', '.join(models)}",
                        found=repr(name.removeprefix(prefix)),
                        mend=f"Add the column {self.quality}:{name.removeprefix(prefix)}, or say data.models=[...] to leave it out.",
                    )
