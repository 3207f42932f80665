"""What the three RouteLLM sources share: pinned files, decontamination, token estimates, costs and provenance.

RouteLLM: Ong et al. 2024, arXiv 2406.18665. Its evaluation removes every prompt close to a training prompt; so do we, from its own lists.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from routewright.core.prices import PriceBook
from routewright.core.types import Floats, InputError, Outcomes, Pool, Queries
from routewright.data.fetch import RemoteFile, fetch
from routewright.data.tokens import TokenCounter, count_tokens

LABELS = ("clean", "published")


@dataclass(frozen=True)
class Table:
    """One source's rows after decontamination: n queries, the pair's quality (n, 2), token counts by kind (n, 2), answers or None."""

    id: list[str]
    text: list[str]
    group: list[str]
    quality: Floats
    tokens: Mapping[str, Floats]
    answer: np.ndarray[Any, Any] | None


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
class RouteLLMSource(ABC):
    """A RouteLLM benchmark as Outcomes over the pair [weak, strong]; subclasses read the rows.

    name, licence, citation: for the manifest. owner, repo, commit, files {path: sha256}: what is fetched. models: the pair's names in the
    files, weak first. prices: a PriceBook, or None for NaN costs. labels: "clean" or "published". token_counter: texts -> counts
    (None: count_tokens).
    """

    notes: ClassVar[Mapping[str, str]]  # what the labels mean, by label

    name: str
    models: Sequence[str]
    owner: str
    repo: str
    commit: str
    files: Mapping[str, str]
    licence: str
    citation: str
    prices: PriceBook | None = None
    labels: str = "clean"
    token_counter: TokenCounter | None = None

    def load(self) -> Outcomes:
        """Fetches, reads, decontaminates and prices the table. usage is "estimated". Raises InputError for bad labels, files or rows."""
        if self.labels not in LABELS:
            raise InputError(f"labels of {self.name}", expected="one of " + ", ".join(LABELS), found=repr(self.labels))
        if len(self.models) != 2:
            raise InputError(f"models of {self.name}", expected="[weak, strong]", found=repr(list(self.models)))
        table = self._read(self._fetch())
        queries = Queries(*(np.array(column, dtype=object) for column in (table.id, table.text, table.group)))
        if self.prices is None:
            pool, cost = Pool(tuple(self.models)), np.full(table.quality.shape, np.nan)
        else:
            pool = self.prices.pool(list(self.models))
            cost = self.prices.cost(pool, table.tokens, "estimated")
        return Outcomes(queries, pool, table.quality, cost, tokens=table.tokens, usage="estimated", answer=table.answer)

    def split(self) -> Sequence[str] | None:
        """None: RouteLLM's benchmarks are test sets and bring no split of their own."""
        return None

    def provenance(self) -> dict[str, Any]:
        """Licence, citation, pinned revision, files with sha256, which labels and which prices: plain values for the manifest."""
        return {
            "name": self.name,
            "licence": self.licence,
            "citation": self.citation,
            "revision": f"{self.owner}/{self.repo}@{self.commit}",
            "files": dict(self.files),
            "models": list(self.models),
            "labels": self.labels,
            "usage": "estimated",
            "prices": None if self.prices is None else {"date": self.prices.date, "source": self.prices.source},
            "notes": self.notes.get(self.labels, ""),
        }

    @abstractmethod
    def _read(self, paths: Mapping[str, Path]) -> Table:
        """The rows from the fetched files, by upstream path."""

    def _fetch(self) -> dict[str, Path]:
        remote = [RemoteFile(self.owner, self.repo, self.commit, path, digest) for path, digest in self.files.items()]
        return dict(zip(self.files, fetch(remote), strict=True))

    def _count(self, texts: Sequence[str]) -> Floats:
        """Estimated tokens of each text, (n,) float64."""
        counter = count_tokens if self.token_counter is None else self.token_counter
        return np.array(counter(texts), dtype=np.float64)

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
