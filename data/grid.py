"""A table of grades once its layout no longer matters, and what every reader of tables needs: ids, chosen models, values by cell."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from routewright.core.files import sha256
from routewright.core.prices import PriceBook
from routewright.core.types import Floats, InputError, Ints, Outcomes, Pool, Queries, Strings
from routewright.data.cells import Cells, missing

TOKENS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
NUMERIC = ("quality", "cost", "latency", *TOKENS)
FREE_ROWS = 20  # a model that cost nothing this often has no recorded usage, or is really free


@dataclass(frozen=True, eq=False)
class Grid:
    """n queries, m models, numeric {kind: (n, m)} with kinds of NUMERIC, and the answers (n, m) or None.

    at: (rows,) the query of each row of the file.
    """

    id: list[str]
    text: list[str]
    group: list[str]
    models: list[str]
    numeric: dict[str, Floats]
    answer: Strings | None
    at: Ints

    def outcomes(self, path: Path, prices: PriceBook | None, *, allow_zero_cost: bool = False, usage: str = "measured") -> Outcomes:
        """As Outcomes; token counts are priced only where no cost is given. usage: what costs and counts rest on, where there are any.

        Raises InputError as PriceBook.cost does, and for a model whose every cost is zero unless allow_zero_cost says that it is free.
        """
        n, m = len(self.text), len(self.models)
        tokens = {kind.removesuffix("_tokens"): self.numeric[kind] for kind in TOKENS if kind in self.numeric}
        cost = self.numeric.get("cost", np.full((n, m), np.nan))
        pool, known = Pool(tuple(self.models)), np.isfinite(cost).any() or bool(tokens)
        if tokens and prices is not None and not np.isfinite(cost).any():
            pool = prices.pool(self.models)
            cost = prices.cost(pool, tokens, usage=usage)
        elif not allow_zero_cost:
            _not_free(path, self.models, cost)
        return Outcomes(
            Queries(objects(self.id), objects(self.text), objects(self.group)),
            pool,
            self.numeric["quality"],
            cost,
            tokens=tokens,
            usage=usage if known else "none",
            latency=self.numeric.get("latency"),
            answer=self.answer,
        )


def hash_id(text: str) -> str:
    """An id that stays the same for the same text: q- and 12 hex digits of its sha256."""
    return f"q-{sha256(text.encode())[:12]}"


def spread(values: NDArray[Any], at: Ints, which: Ints, shape: tuple[int, int], empty: float | None) -> NDArray[Any]:
    """(n, m) from one value a row of the file: row i goes to query at[i] and model which[i], or nowhere if that is -1."""
    made, kept = np.full(shape, empty, dtype=values.dtype), which >= 0
    made[at[kept], which[kept]] = values[kept]
    return made


def objects(values: Sequence[str | None]) -> Strings:
    """(n,) an array of these texts."""
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def answers(cells: Cells, column: str) -> list[str | None]:
    """One answer a row, None where the cell is missing."""
    return [None if missing(cell) else str(cell) for cell in cells.column(column)]


def chosen(there: Iterable[str], wanted: Sequence[str] | None, path: Path) -> list[str]:
    """The models to keep, in order of first appearance or as wanted. Raises InputError for one that is not there."""
    models = list(dict.fromkeys(there))
    if wanted is None:
        return models
    for name in wanted:
        if name not in models:
            near = difflib.get_close_matches(name, models, 1)
            raise InputError(
                f"there is no model {name!r}",
                where=str(path),
                expected="one of " + ", ".join(models[:20]),
                found=f"models=[{', '.join(wanted)}]",
                mend=f"Did you mean {near[0]!r}?" if near else "Correct data.models.",
            )
    return list(wanted)


def only_one(path: Path, models: Sequence[str], mend: str = "Add the answers of another model to the same queries.") -> NoReturn:
    """Refuses a table with a single model."""
    raise InputError(
        "the table has only one model",
        where=str(path),
        expected="at least two models: a router needs two to choose from",
        found=", ".join(models),
        mend=mend,
    )


def _not_free(path: Path, models: Sequence[str], cost: Floats) -> None:
    """Refuses a model whose every recorded cost is zero: more often usage that was never recorded than a free model."""
    for j, name in enumerate(models):
        known = cost[~np.isnan(cost[:, j]), j]
        if len(known) >= FREE_ROWS and not known.any():
            raise InputError(
                f"every cost of model {name!r} is zero",
                where=str(path),
                expected="USD for each call",
                found=f"{len(known)} rows of 0",
                mend="Give what the calls cost, or leave the cost empty; if the model is really free, say data.allow_zero_cost=true.",
            )
