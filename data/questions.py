"""Questions to collect answers for: texts with their gold answers, groups and split, from the user's table or the pocket benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.files import sha256
from routewright.core.types import Bools, InputError, Ints, Queries, Strings
from routewright.data.cells import Cells, Problems, distinct, file_format, missing, read_cells, texts
from routewright.data.pocket import POCKET
from routewright.data.sources.table import hash_id
from routewright.data.split import SIDES


@dataclass(frozen=True, eq=False)
class Questions:
    """n questions: queries, gold[n] ("" where there is none) and split[n] ("" where none is given)."""

    queries: Queries
    gold: Strings
    split: Strings

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: Ints | Bools) -> Questions:
        return Questions(self.queries.take(rows), self.gold[rows], self.split[rows])

    def drawn(self, limit: int | None, rng: np.random.Generator) -> Questions:
        """`limit` of them, drawn without replacement and kept in order; all where limit is None or as large. InputError below 1."""
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise InputError("limit is too small", expected="1 or more, or null for all", found=str(limit))
        return self.take(np.sort(rng.choice(len(self), limit, replace=False)))


@dataclass(kw_only=True, eq=False)
class TableQuestions:
    """A CSV, TSV, JSONL or Parquet file, a row a question.

    query, gold, id, group, split_column: the columns' names; all but query may be missing. split, groups: which rows are asked (None: all).
    """

    path: str
    query: str = "query"
    gold: str = "gold"
    id: str = "id"
    group: str = "group"
    split_column: str = "split"
    split: str | None = None
    groups: Sequence[str] | None = None
    delimiter: str | None = None
    name: str = "table"
    licence: str = "the owner's own"
    whole_: Questions | None = field(default=None, init=False, repr=False)

    def load(self) -> Questions:
        """The questions to ask. Raises InputError that names file, line and column for what is wrong."""
        whole = self._whole()
        keep = np.ones(len(whole), dtype=bool)
        if self.split is not None:
            keep &= whole.split == self.split
        if self.groups is not None:
            unknown = sorted(set(self.groups) - set(whole.queries.group))
            if unknown:
                known = ", ".join(sorted(set(whole.queries.group))[:20])
                raise InputError(f"there is no group {unknown[0]!r}", where=self.path, expected=f"among {known}", found=repr(unknown[0]))
            keep &= np.isin(whole.queries.group.astype(str), list(self.groups))
        if not keep.any():
            raise InputError("no question is left to ask", where=self.path, expected="some of this split and these groups", found="none")
        return whole.take(keep)

    def examples(self) -> Questions:
        """The questions of the train split, gold answers and all: what few-shot prompts may show."""
        whole = self._whole()
        return whole.take((whole.split == "train") & (whole.gold != ""))

    def provenance(self) -> dict[str, Any]:
        """For the manifest."""
        path = Path(self.path).expanduser()
        return {"name": self.name, "licence": self.licence, "files": {path.name: sha256(path)}, "questions": len(self._whole())}

    def _whole(self) -> Questions:
        if self.whole_ is None:
            self.whole_ = self._read()
        return self.whole_

    def _read(self) -> Questions:
        path = Path(self.path).expanduser()
        kind = file_format(path)
        if kind in ("outcomes", "battles"):
            raise InputError(f"this is a file of {kind}", where=str(path), expected="questions: a row each", found=f"a file of {kind}")
        cells = read_cells(path, kind, self.delimiter)
        if self.query not in cells.names:
            mend = "Say which column it is: questions.query=NAME."
            found = ", ".join(cells.names[:20])
            raise InputError(f"there is no column {self.query!r}", where=str(path), expected="the questions", found=found, mend=mend)
        problems = Problems(cells.path, cells.unit, cells.line)
        text = texts(cells, self.query, problems, what="query", strip=False)
        ids = self._optional(cells, self.id, problems)
        group, split = (self._optional(cells, name, problems) or [""] * len(text) for name in (self.group, self.split_column))
        gold = _gold(cells, self.gold)
        if ids is not None:
            distinct(problems, self.id, ids)
        else:
            distinct(problems, self.query, text)
            ids = [hash_id(value) for value in text]
        for row, label in enumerate(split):
            if label not in ("", *SIDES):
                mend = "Rename the labels, or name another column: questions.split_column=NAME."
                problems.add(row, self.split_column, "unknown label of a split", expected=", ".join(SIDES), found=repr(label), mend=mend)
        problems.check()
        column = [np.array(values, dtype=object) for values in (ids, text, group, gold, split)]
        return Questions(Queries(*column[:3]), *column[3:])

    def _optional(self, cells: Cells, name: str, problems: Problems) -> list[str] | None:
        return texts(cells, name, problems, what=name) if name in cells.names else None


@dataclass(kw_only=True, eq=False)
class PocketQuestions(TableQuestions):
    """The pocket benchmark's questions (data/pocket/README.md)."""

    path: str = str(POCKET / "questions.parquet")
    name: str = "pocket"
    licence: str = "Apache-2.0"


def _gold(cells: Cells, name: str) -> list[str]:
    """One gold answer a row, "" where it is missing; numbers and booleans as JSON spells them."""
    import json

    if name not in cells.names:
        return [""] * len(cells)
    return ["" if missing(cell) else cell if isinstance(cell, str) else json.dumps(cell) for cell in cells.column(name)]
