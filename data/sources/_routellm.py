"""What the three RouteLLM sources share: decontamination, and how its files spell things.

RouteLLM: Ong et al. 2024, arXiv 2406.18665. Its evaluation removes every prompt close to a training prompt; so do we, from its own lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routewright.core.types import InputError
from routewright.data.sources._recorded import RecordedSource, Table

__all__ = ["RouteLLMSource", "Table", "contaminated", "csv_rows", "flag", "json_lines"]


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.strip():
                yield json.loads(line)


def contaminated(path: Path) -> frozenset[str]:
    """The evaluation prompts that RouteLLM found in its training data (cosine >= .95)."""
    return frozenset(row["eval_prompt"] for row in json_lines(path))


def flag(value: str, where: str) -> bool:
    """A correctness flag as the CSV files write it. Raises InputError for anything else."""
    if value not in ("True", "False"):
        raise InputError("unreadable correctness flag", where=where, expected="True or False", found=repr(value))
    return value == "True"


@dataclass(frozen=True, kw_only=True)
class RouteLLMSource(RecordedSource):
    """A RouteLLM benchmark as Outcomes over the pair [weak, strong], decontaminated; subclasses read the rows."""

    def _check(self) -> None:
        super()._check()
        if len(self.models) != 2:
            raise InputError(f"models of {self.name}", expected="[weak, strong]", found=repr(list(self.models)))

    def _one(self, paths: Mapping[str, Path], ending: str) -> Path:
        """The one configured file whose path ends so. Raises InputError where there is none, or more than one."""
        found = [path for name, path in paths.items() if name.endswith(ending)]
        if len(found) != 1:
            raise InputError(f"files of {self.name}", expected=f"one path that ends in {ending}", found=f"{len(found)}")
        return found[0]


def csv_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """These columns of every row, as text. Raises InputError for a missing column or a short row."""
    import csv

    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        missing = [column for column in columns if column not in header]
        if missing:
            raise InputError(f"{path.name} lacks columns", expected=", ".join(columns), found=", ".join(header) or "an empty file")
        pick = [header.index(column) for column in columns]
        rows = []
        for row in reader:
            if len(row) != len(header):
                raise InputError(
                    f"{path.name} has a broken row", where=f"line {reader.line_num}", expected=f"{len(header)} fields", found=f"{len(row)}"
                )
            rows.append([row[i] for i in pick])
    return rows
