"""The user's own ungraded queries, what a gateway logs: one a row of a table (column `query`) or one a line of a text file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from routewright.core.files import sha256
from routewright.core.types import Floats, InputError, Queries
from routewright.data.cells import FORMATS, Problems, decoded, read_cells, texts

COLUMN = "query"
SUFFIXES = {suffix: kind for suffix, kind in FORMATS.items() if kind != "outcomes"} | {".txt": "txt"}


class Traffic(NamedTuple):
    """queries (n) in the order of the file and with its repetitions: a query asked often counts often."""

    queries: Queries
    name: str
    sha256: str


def read_traffic(path: str | None, encode: Callable[[list[str]], Floats] | None) -> Traffic | None:
    """The file's queries, encoded where `encode` is given; None for no path. Raises InputError by file and line for what cannot be read."""
    if path is None:
        return None
    place = Path(path).expanduser()
    if not place.is_file():
        raise InputError("there is no such file", where=str(place), expected="a file of your queries", mend="Mend policy.queries=...")
    kind = SUFFIXES.get(place.suffix.lower())
    if kind is None:
        expected = "a name ending in " + ", ".join(SUFFIXES)
        raise InputError(
            "unknown kind of file", where=str(place), expected=expected, found=repr(place.suffix), mend="Rename or convert it."
        )
    text = _lines(place) if kind == "txt" else _column(place, kind)
    if not text:
        raise InputError("the file has no queries", where=str(place), expected="at least one", found="none")
    ids = np.array([f"row {row}" for row in range(len(text))], dtype=object)
    queries = Queries(ids, np.array(text, dtype=object), np.full(len(text), "", dtype=object))
    return Traffic(queries if encode is None else queries.encoded(encode(text)), place.name, sha256(place))


def _lines(path: Path) -> list[str]:
    return [line.rstrip("\r") for line in decoded(path).split("\n") if line.strip()]


def _column(path: Path, kind: str) -> list[str]:
    cells = read_cells(path, kind)
    if COLUMN not in cells.names:
        found = ", ".join(cells.names[:20])
        raise InputError(f"there is no column {COLUMN!r}", where=str(path), expected="the queries", found=found, mend="Rename the column.")
    problems = Problems(cells.path, cells.unit, cells.line)
    text = texts(cells, COLUMN, problems, what="query", strip=False)
    problems.check()
    return text
