"""A user's CSV, JSONL or Parquet file as raw cells, each with its place, and cells as numbers and text or as problems told by place.

CSV goes through the standard library's reader, not pandas: only it tells the line a row began on and a short row from an empty cell.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.types import Floats, InputError, Ints
from routewright.data.battles import is_battles
from routewright.data.tables import is_outcomes

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "outcomes",
}
SHOWN = 5  # problems told in one message

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


def shown(value: object) -> str:
    """A cell as an error prints it: one line, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True, eq=False)
class Cells:
    """A file as named columns of raw cells. line[rows] is each row's place as the user sees it; unit is "line" or "row"."""

    path: Path
    unit: str
    line: Sequence[int]
    names: Sequence[str]
    column: Callable[[str], Sequence[Any]]

    def __len__(self) -> int:
        return len(self.line)


class Problems:
    """Everything wrong in one file, told in one line: the first problem in full, then how many more and where."""

    def __init__(self, path: Path, unit: str, line: Sequence[int]) -> None:
        self.path, self.unit, self.line = path, unit, line
        self.kept: list[tuple[int, str, InputError]] = []
        self.count: Counter[str] = Counter()

    def place(self, row: int, column: str = "") -> str:
        return f"{self.unit} {self.line[row]}" + (f", column {column!r}" if column else "")

    def add(self, row: int, column: str, what: str, *, expected: str, found: str, mend: str = "") -> None:
        self.count[column] += 1
        if self.count[column] <= SHOWN:
            where = f"{self.path}, {self.place(row, column)}"
            self.kept.append((row, column, InputError(what, where=where, expected=expected, found=found, mend=mend)))

    def check(self) -> None:
        """Raises one InputError where anything was added."""
        if not self.kept:
            return
        self.kept.sort(key=lambda item: item[0])
        first, more = self.kept[0][2], self.count.total() - 1
        mend = first.mend
        if more:
            places = "; ".join(self.place(row, column) for row, column, _ in self.kept[1:SHOWN])
            mend = f"{mend} And {more} more: {places}{' ...' if more >= SHOWN else ''}.".strip()
        raise InputError(first.what, where=first.where, expected=first.expected, found=first.found, mend=mend)


# ---- files to cells


def file_format(path: Path, stated: str = "auto") -> str:
    """csv, jsonl, parquet, outcomes (a file of write_outcomes) or battles (of write_battles).

    Raises InputError for no file, an empty one and an unknown kind.
    """
    if not path.exists():
        raise InputError("there is no such file", where=str(path), expected="a table", mend="Give the path of the table: data.path=my.csv.")
    if path.is_dir():
        raise InputError("the path is a folder", where=str(path), expected="one file", mend="Name the file inside it.")
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=str(path), expected="a table with at least one row", found="0 bytes")
    known = sorted({*FORMATS.values(), "battles"})
    kind = FORMATS.get(path.suffix.lower()) if stated == "auto" else stated
    if kind not in known:
        raise InputError(
            "unknown kind of table",
            where=str(path),
            expected="a name ending in " + ", ".join(FORMATS),
            found=repr(path.suffix if stated == "auto" else stated),
            mend="Say data.format=csv, jsonl, parquet, outcomes or battles.",
        )
    if kind != "parquet":
        return kind
    return "outcomes" if is_outcomes(path) else "battles" if is_battles(path) else kind


def read_cells(path: Path, kind: str, delimiter: str | None = None) -> Cells:
    """The raw cells of a csv, jsonl or parquet file. CSV cells are text; others are JSON or Arrow values, None where missing.

    Raises InputError for broken files: bad UTF-8, ragged rows, open quotes, malformed JSON, repeated columns, no rows.
    """
    if kind == "csv":
        cells = _read_csv(path, delimiter or ("\t" if path.suffix.lower() == ".tsv" else ","))
    else:
        cells = _read_jsonl(path) if kind == "jsonl" else _read_parquet(path)
    repeated = [name for name, times in Counter(cells.names).items() if times > 1]
    if repeated:
        raise InputError(
            "a column stands twice", where=f"{path}, the header", expected="names that differ", found=shown(repeated[0]), mend="Rename one."
        )
    if not len(cells):
        raise InputError("the table has no rows", where=str(path), expected="at least one row below the header", found="only a header")
    return cells


def decoded(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            "the file is not UTF-8",
            where=f"{path}, line {line}",
            expected="UTF-8 text",
            found=f"byte 0x{raw[error.start]:02x} at offset {error.start}",
            mend="Save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 old.csv > new.csv.",
        ) from None


@contextmanager
def _long_fields() -> Iterator[None]:
    """csv refuses cells above 131,072 characters unless told otherwise, and keeps that limit per process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line the row began on, its cells), blank lines left out."""
    reader = csv.reader(io.StringIO(decoded(path), newline=""), delimiter=delimiter, strict=True)
    begun = 1
    try:
        for row in reader:
            if len(row) > 1 or any(cell.strip() for cell in row):
                yield begun, row
            begun = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            "the CSV cannot be read",
            where=f"{path}, line {begun}",
            expected='every quote closed, and quotes inside a cell doubled ("")',
            found=str(error),
            mend="Write the file with a CSV library, for example pandas to_csv.",
        ) from None


def _read_csv(path: Path, delimiter: str) -> Cells:
    with _long_fields():
        rows = list(_csv_rows(path, delimiter))
    if not rows:
        raise InputError("the file is empty", where=str(path), expected="a header and at least one row", found="blank lines")
    header = [name.strip() for name in rows[0][1]]
    line = [begun for begun, _ in rows[1:]]
    problems = Problems(path, "line", line)
    for place, (_, row) in enumerate(rows[1:]):
        if len(row) != len(header):
            problems.add(
                place,
                "",
                "a row has the wrong number of cells",
                expected=f"{len(header)} as in the header",
                found=str(len(row)),
                mend=f"Quote cells that hold {delimiter!r} or a line break.",
            )
    problems.check()
    # the nameless first column that pandas' to_csv writes is its row number
    at = {name: i for i, name in enumerate(header) if name}
    return Cells(path, "line", line, [name for name in header if name], lambda name: [row[at[name]] for _, row in rows[1:]])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError(f"key {Counter(key for key, _ in pairs).most_common(1)[0][0]!r} stands twice")
    return made


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON; use null for not observed")


def _read_jsonl(path: Path) -> Cells:
    text = decoded(path)
    if text.lstrip().startswith("["):
        raise InputError(
            "the file is one JSON array",
            where=str(path),
            expected="one JSON object a line",
            found="[",
            mend=f"Turn it into lines: jq -c '.[]' {path.name} > {path.stem}.jsonl.",
        )
    line = [number for number, content in enumerate(text.split("\n"), 1) if content.strip()]
    problems = Problems(path, "line", line)
    rows: list[dict[str, Any]] = []
    for place, content in enumerate(filter(str.strip, text.split("\n"))):
        try:
            value, fault = json.loads(content, object_pairs_hook=_object, parse_constant=_constant), ""
        except (ValueError, RecursionError) as error:
            value, fault = None, str(error)
        if not isinstance(value, dict):
            found = f"{shown(content)} ({fault})" if fault else shown(value)
            problems.add(place, "", "a line is not a JSON object", expected='one object a line, as {"query": ...}', found=found)
            continue
        rows.append(value)
    problems.check()
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Cells(path, "line", line, names, lambda name: [row.get(name) for row in rows])


def _read_parquet(path: Path) -> Cells:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        found = str(error).splitlines()[0]
        raise InputError("the Parquet file cannot be read", where=str(path), expected="a whole Parquet file", found=found) from None
    # rows count from 0, as pandas prints them
    return Cells(path, "row", range(table.num_rows), table.column_names, lambda name: table.column(name).to_pylist())


# ---- cells to numbers and text


def missing(cell: Any) -> bool:
    """None, an empty or blank cell, and Arrow's NaN: not observed."""
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and math.isnan(cell))


def _number(cell: Any, booleans: bool) -> float | None:
    """The cell as a finite number, or None where it is none."""
    if isinstance(cell, bool):
        return float(cell) if booleans else None
    if isinstance(cell, str):
        text = cell.strip()
        if booleans and text.lower() in ("true", "false"):
            return float(text.lower() == "true")
        value = float(text) if _NUMBER.fullmatch(text) else math.inf
    elif isinstance(cell, int | float | Decimal):
        try:
            value = float(cell)
        except OverflowError:
            return None
    else:
        return None
    return value if math.isfinite(value) else None


def numbers(
    cells: Cells, column: str, problems: Problems, *, high: float = math.inf, whole: bool = False, booleans: bool = False, mend: str = ""
) -> Floats:
    """(rows,) float64 in [0, high], NaN where a cell is missing; everything else goes to problems."""
    values = np.full(len(cells), np.nan)
    span = "a value in [0, 1]" if high == 1 else f"a {'whole ' if whole else ''}number >= 0"
    expected = f"{span}, or an empty cell for not observed"
    for row, cell in enumerate(cells.column(column)):
        if missing(cell):
            continue
        value = _number(cell, booleans)
        if value is None:
            problems.add(row, column, "a cell is not a number", expected=expected, found=shown(cell), mend=mend)
        elif not 0 <= value <= high or (whole and value != int(value)):
            problems.add(row, column, "a number is out of range", expected=expected, found=shown(cell), mend=mend)
        else:
            values[row] = value
    return values


def texts(cells: Cells, column: str, problems: Problems, *, what: str, strip: bool = True) -> list[str]:
    """One non-empty text a row; anything else goes to problems, except that names may be whole numbers when strip is set."""
    made: list[str] = []
    for row, cell in enumerate(cells.column(column)):
        text = str(cell) if strip and isinstance(cell, int) and not isinstance(cell, bool) else cell
        if missing(cell):
            problems.add(row, column, f"the {what} is empty", expected="text", found=shown(cell), mend="Fill the cell or drop the row.")
        elif not isinstance(text, str):
            problems.add(row, column, f"the {what} is not text", expected="text", found=shown(cell), mend="Give plain text.")
        elif _SURROGATE.search(text):
            problems.add(row, column, f"the {what} holds half a character", expected="whole Unicode characters", found=shown(cell))
        made.append(text.strip() if strip and isinstance(text, str) else str(text))
    return made


# ---- rows that belong together


def same(problems: Problems, at: Ints, first: Ints, column: str, values: Sequence[str]) -> None:
    """Every row of one query says the same in this column."""
    for row, query in enumerate(at):
        if values[row] != values[first[query]]:
            problems.add(
                row,
                column,
                "one query has two values",
                expected=f"{shown(values[first[query]])} as in {problems.place(int(first[query]))}",
                found=shown(values[row]),
                mend="Give different queries different ids, and all rows of a query the same group and split.",
            )


def once(problems: Problems, at: Ints, which: Ints, quality: Floats, names: Sequence[str], column: str) -> None:
    """No model answers one query twice."""
    seen: dict[tuple[int, int], int] = {}
    for row, key in enumerate(zip(at.tolist(), which.tolist(), strict=True)):
        before = seen.setdefault(key, row)
        if before != row and key[1] >= 0:
            problems.add(
                row,
                column,
                f"model {names[row]!r} answers one query twice",
                expected="one row for each query and model",
                found=f"quality {quality[row]:g} here and {quality[before]:g} in {problems.place(before)}",
                mend="Keep one of the two rows; if they are different queries of the same text, add an id column.",
            )


def distinct(problems: Problems, column: str, values: Sequence[str]) -> None:
    """In the wide layout a query has one row."""
    seen: dict[str, int] = {}
    for row, value in enumerate(values):
        before = seen.setdefault(value, row)
        if before != row:
            problems.add(
                row,
                column,
                "one query has two rows",
                expected="one row for each query",
                found=f"{shown(value)} here and in {problems.place(before)}",
                mend="Keep one of the two rows; if they are different queries of the same text, add an id column.",
            )
