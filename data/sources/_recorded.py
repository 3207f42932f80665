"""What the sources of recorded outcomes share: checked rows, token estimates that are kept, costs and their provenance."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from routewright.core.files import cache_dir
from routewright.core.prices import PriceBook
from routewright.core.types import Floats, InputError, Outcomes, Pool, Queries, Strings
from routewright.data.sources._pinned import Pinned
from routewright.data.tokens import TOKENIZER_PACKAGE, TokenCounter, count_tokens
from routewright.data.vectors import cached_rows

ESTIMATE = (
    "Costs are estimates: no usage was recorded. Tokens are counted by a tokenizer that is none of the models' own, the same for all; the "
    "prompt is taken to be the question alone, the output to be the recorded answer."
)


@dataclass(frozen=True)
class Table:
    """A source's rows: n queries, m models' quality (n, m), token counts by kind (n, m), answers (n, m) or None."""

    id: list[str]
    text: list[str]
    group: list[str]
    quality: Floats
    tokens: Mapping[str, Floats]
    answer: Strings | None


@dataclass(frozen=True, kw_only=True)
class RecordedSource(Pinned, ABC):
    """Recorded outcomes of several models at a pinned revision; subclasses read the rows.

    prices: a PriceBook, or None for NaN costs. unpriced: models that nobody sold by the token; their costs are NaN unless the book prices
    them. token_counter: texts -> counts (None: count_tokens, whose counts are kept).
    """

    notes: ClassVar[Mapping[str, str]]  # what the labels mean, by label
    estimate: ClassVar[str] = ""  # what the token counts rest on

    prices: PriceBook | None = None
    unpriced: Sequence[str] = ()
    token_counter: TokenCounter | None = None

    def load(self) -> Outcomes:
        """Fetches, reads and prices the table. usage is "estimated". Raises InputError for bad labels, models, files or rows."""
        self._check()
        table = self._read(self._fetch())
        queries = Queries(*(np.array(column, dtype=object) for column in (table.id, table.text, table.group)))
        pool, cost = self._priced(table)
        return Outcomes(queries, pool, table.quality, cost, tokens=table.tokens, usage="estimated", answer=table.answer)

    def provenance(self) -> dict[str, Any]:
        """As of every pinned source, with which prices, and what the labels mean."""
        return {
            **super().provenance(),
            "usage": "estimated",
            "prices": None if self.prices is None else {"date": self.prices.date, "source": self.prices.source},
            "notes": " ".join(note for note in (self.notes.get(self.labels, ""), self.estimate) if note),
        }

    @abstractmethod
    def _read(self, paths: Mapping[str, Path]) -> Table:
        """The rows from the fetched files, by upstream path."""

    def _check(self) -> None:
        super()._check()
        if not self.models:
            raise InputError(f"models of {self.name}", expected="at least one", found="none")

    def _priced(self, table: Table) -> tuple[Pool, Floats]:
        """The pool at the book's prices and the cost of every call (n, m); NaN for what has no price."""
        names = list(self.models)
        book = self.prices
        sold = [j for j, name in enumerate(names) if book is not None and (name in book.models or name not in self.unpriced)]
        if book is None or not sold:
            return Pool(tuple(names)), np.full(table.quality.shape, np.nan)
        part = book.pool([names[j] for j in sold])

        def column(known: Floats) -> Floats:
            every = np.full(len(names), np.nan)
            every[sold] = known
            return every

        usd_input, usd_cached, usd_output = column(part.usd_input), column(part.usd_cached_input), column(part.usd_output)
        pool = Pool(tuple(names), usd_input, usd_cached, usd_output, column(part.usd_call))
        return pool, book.cost(pool, table.tokens, "estimated")

    def _count(self, texts: Sequence[str]) -> Floats:
        """Estimated tokens of each text, (n,) float64."""
        if self.token_counter is not None:
            return np.array(self.token_counter(texts), dtype=np.float64)
        return kept_values("tokens", _tokenizer_name(), texts, count_tokens)

    def _usage(self, text: Sequence[str], answer: Strings) -> dict[str, Floats]:
        """Estimated counts (n, m) of one call for each answer (n, m): the text goes in and the answer comes out; no answer is 0 tokens."""
        said = [self._count([given or "" for given in column]) for column in answer.T]
        return {"input": np.repeat(self._count(text)[:, None], answer.shape[1], axis=1), "output": np.stack(said, axis=1)}


def kept_values(kind: str, fingerprint: str, texts: Sequence[str], compute: Callable[[list[str]], Iterable[float]]) -> Floats:
    """A number for each text, (n,) float64, computed once for each text and kept below the cache folder.

    fingerprint: names everything the numbers depend on but the text; another one starts afresh.
    """
    if not len(texts):
        return np.zeros(0)

    def rows(missing: list[str]) -> Floats:
        return np.array(list(compute(missing)), dtype=np.float64)[:, None]

    return np.array(cached_rows(cache_dir() / kind / fingerprint, texts, rows)[:, 0])


def _tokenizer_name() -> str:
    """The tokenizer's package and version: a release holds one tokenizer. Where it is missing, counting will say so."""
    try:
        return f"{TOKENIZER_PACKAGE}-{metadata.version(TOKENIZER_PACKAGE)}"
    except metadata.PackageNotFoundError:
        return f"{TOKENIZER_PACKAGE}-missing"


def json_rows(content: bytes, where: str) -> list[dict[str, Any]]:
    """The objects of a JSON list. Raises InputError for anything else."""
    try:
        rows = json.loads(content)
    except ValueError as error:
        raise _broken(where, f"{error}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise _broken(where, "an empty list" if rows == [] else type(rows).__name__)
    return rows


def _broken(where: str, found: str) -> InputError:
    return InputError(
        "a result file is broken", where=where, expected="a JSON list of objects", found=found, mend="Fetch it again, or pin another one."
    )


def field(row: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """row[key], which must be of this kind. Raises InputError that names the row."""
    value = row.get(key)
    if not isinstance(value, kind):
        kinds = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        found = type(value).__name__ if key in row else f"only {', '.join(sorted(row))[:200]}"
        raise InputError(f"{key!r} of a recorded row is not usable", where=where, expected=kinds, found=found)
    return value


def ones(names: Sequence[str], there: Mapping[str, str], source: str) -> dict[str, str]:
    """there[name] for each name. Raises InputError that lists what there is."""
    for name in names:
        if name not in there:
            raise InputError(f"models of {source}", expected="some of " + ", ".join(there), found=repr(name))
    return {name: there[name] for name in names}
