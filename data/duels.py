"""Tables of battles, put together and cut: other names, two tiers, a union, a filter, pooled repetitions, ties. Pure functions.

They have this in common: a table without battles is refused, given or left over, by one InputError. Battles keep their order and which side
is `a` (a position, where the judge saw one). Queries and models without a battle stay unless a function says otherwise; a router then
refuses a model that never fought. Shapes: n queries, m models, b battles.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routewright.core.types import Battles, Bools, Floats, InputError, Ints, Pool, Queries

PRICES = ("usd_input", "usd_cached_input", "usd_output", "usd_call")
TIES = ("keep", "drop", "half")
ROLES = ("weak", "strong")

log = logging.getLogger("routewright")


# ---- models


def relabelled(battles: Battles, names: Mapping[str, str]) -> Battles:
    """The same battles under other names of models, {old: new}; what is not named keeps its name. Models that get one name become one.

    A merged model stands where the first of its aliases stood, keeps a price or a variant only if all of them agree on it (else unknown),
    and costs on a query the mean of what its aliases are known to cost there. A battle between two aliases is dropped, and the log says how
    many were. Ties, weights and duplicates stay. Raises InputError for a name that is not in the pool, and where nothing is left.
    """
    for name in names:
        battles.pool.index(name)
    new = [names.get(name, name) for name in battles.pool.name]
    unique = list(dict.fromkeys(new))
    return _merged(battles, np.array([unique.index(name) for name in new]), unique)


def as_pair(battles: Battles, weak: Sequence[str], strong: Sequence[str]) -> Battles:
    """Battles between two tiers as battles of the roles ("weak", "strong"), RouteLLM's way to learn from many models (arXiv 2406.18665).

    A battle within a tier, or with a model of neither, is dropped, and the log says how many were. Ties, weights and duplicates stay; so
    does which side was `a`. Prices are those of a tier's models where all agree, and a role costs on a query the mean of what is known of
    its tier. A tier may name models that never fought. Raises InputError for an empty tier, a model in both, an unknown one, and where
    nothing is left.
    """
    if not weak or not strong:
        raise InputError("a tier has no models", expected="at least one weak and one strong", found=f"weak {weak!r}, strong {strong!r}")
    both = [name for name in weak if name in strong]
    if both:
        raise InputError("a model is in both tiers", where=", ".join(both), expected="one tier for each", found="weak and strong")
    column = np.full(len(battles.pool), -1)
    for role, tier in enumerate((weak, strong)):
        column[[battles.pool.index(name) for name in tier]] = role
    return _merged(battles, column, ROLES)


def among(battles: Battles, models: Sequence[str]) -> Battles:
    """Battles between these models alone, in a pool of this order. Ties, weights and duplicates stay, also models that never fought here.

    Raises InputError for an unknown model, and where nothing is left.
    """
    column = np.full(len(battles.pool), -1)
    column[[battles.pool.index(name) for name in models]] = np.arange(len(models))
    return _merged(battles, column, models)


def _merged(battles: Battles, column: Ints, names: Sequence[str]) -> Battles:
    """Battles in the pool `names`, where model j becomes column[j], or leaves where that is -1."""
    a, b = column[battles.a], column[battles.b]
    kept = (a >= 0) & (b >= 0) & (a != b)
    if not kept.all():
        log.info("%d of %d battles are dropped: their two sides are one model now, or one of them is left out", (~kept).sum(), len(kept))
    cut = _rows(battles, kept)
    groups = [np.flatnonzero(column == j) for j in range(len(names))]
    pool = battles.pool
    prices = {name: np.array([_agreed(getattr(pool, name)[group], math.nan) for group in groups]) for name in PRICES}
    variant = tuple(str(_agreed(np.array(pool.variant, dtype=object)[group], "")) for group in groups)
    merged = Pool(tuple(names), **prices, variant=variant)
    cost = None if battles.cost is None else np.column_stack([_row_means(battles.cost[:, group]) for group in groups])
    return replace(cut, pool=merged, a=a[kept], b=b[kept], cost=cost)


def _agreed(values: NDArray[Any], unknown: Any) -> Any:
    return values[0] if (values == values[0]).all() else unknown


def _row_means(cost: Floats) -> Floats:
    """[n]: the mean of what is known in each row, NaN where nothing is."""
    known = ~np.isnan(cost)
    total = np.where(known, cost, 0).sum(axis=1)
    return np.divide(total, known.sum(axis=1), out=np.full(len(cost), np.nan), where=known.any(axis=1))


# ---- several tables


@dataclass
class _United:
    """What a union has gathered so far."""

    models: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> prices and variant
    rows: dict[str, int] = field(default_factory=dict)  # id -> row
    text: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    embedding: list[Floats | None] = field(default_factory=list)

    def model(self, pool: Pool, j: int) -> int:
        """The column of this model. Raises InputError where it has two prices or variants."""
        name = pool.name[j]
        known = self.models.setdefault(name, {"variant": pool.variant[j]} | dict.fromkeys(PRICES, math.nan))
        if known["variant"] != pool.variant[j]:
            raise InputError("one model has two variants", where=name, expected=repr(known["variant"]), found=repr(pool.variant[j]))
        for label in PRICES:
            price = float(getattr(pool, label)[j])
            if not math.isnan(price) and not math.isnan(known[label]) and price != known[label]:
                raise InputError(f"one model has two prices {label}", where=name, expected=str(known[label]), found=str(price))
            known[label] = known[label] if math.isnan(price) else price
        return list(self.models).index(name)

    def query(self, queries: Queries, i: int, part: int) -> int:
        """The row of this query: that of the same id and text, else a new one, its id with the part's number in front while it is taken."""
        name, text = queries.id[i], queries.text[i]
        while name in self.rows and self.text[self.rows[name]] != text:
            name = f"{part}:{name}"
        row = self.rows.setdefault(name, len(self.rows))
        if row == len(self.text):
            self.text.append(text)
            self.group.append(queries.group[i])
            self.embedding.append(None if queries.embedding is None else queries.embedding[i])
        return row

    def pool(self) -> Pool:
        known = list(self.models.values())
        prices = {label: np.array([model[label] for model in known]) for label in PRICES}
        return Pool(tuple(self.models), **prices, variant=tuple(model["variant"] for model in known))


def union(parts: Sequence[tuple[Battles, float]]) -> Battles:
    """Several tables in one, each with a weight that multiplies those of its battles; part after part.

    Models are united by name in order of first appearance, those that never fought too; a price that one part lacks comes from another.
    Queries are united where id and text are the same (group and embedding of the first); a later query of the same id and another text gets
    the number of its part in front: 2:id. Embeddings stay if all parts have them, else none has. cost[n,m] is what the first part to
    know it says, NaN where none does, None where no part has costs. Ties stay, and duplicates: see merged_duplicates.
    Raises InputError for no parts, one without battles, weights that are not finite and > 0, embeddings of two widths, two prices or
    variants of one model.
    """
    if not parts:
        raise InputError("a union needs a table", expected="at least one (battles, weight)", found="none")
    for k, (part, weight) in enumerate(parts, start=1):
        _require(part, f"part {k} of a union")
        if not (math.isfinite(weight) and weight > 0):
            raise InputError("the weight of a part is impossible", where=f"part {k}", expected="a finite number > 0", found=repr(weight))
    widths = {None if part.queries.embedding is None else part.queries.embedding.shape[1] for part, _ in parts}
    if len(widths - {None}) > 1 and None not in widths:
        found = ", ".join(sorted(map(str, widths)))
        raise InputError(
            "the parts have embeddings of two encoders", expected="one width", found=found, mend="Encode all with one encoder."
        )
    united = _United()
    columns = [np.array([united.model(part.pool, j) for j in range(len(part.pool))]) for part, _ in parts]
    rows = [np.array([united.query(part.queries, i, k) for i in range(len(part.queries))]) for k, (part, _) in enumerate(parts, start=1)]
    ids, texts, groups = (np.array([*column, ""], dtype=object)[:-1] for column in (united.rows, united.text, united.group))
    vectors = None if None in widths else np.array(united.embedding)
    tables = [part for part, _ in parts]
    return Battles(
        Queries(ids, texts, groups, vectors),
        united.pool(),
        np.concatenate([row[part.query] for row, part in zip(rows, tables, strict=True)]),
        np.concatenate([column[part.a] for column, part in zip(columns, tables, strict=True)]),
        np.concatenate([column[part.b] for column, part in zip(columns, tables, strict=True)]),
        np.concatenate([part.outcome for part in tables]),
        np.concatenate([_weight(part) * weight for part, weight in parts]),
        _costs(tables, rows, columns, (len(ids), len(united.models))),
    )


def _costs(parts: Sequence[Battles], rows: Sequence[Ints], columns: Sequence[Ints], shape: tuple[int, int]) -> Floats | None:
    """cost[n,m] of a union: the first part that knows a cell decides it."""
    if all(part.cost is None for part in parts):
        return None
    cost = np.full(shape, np.nan)
    for part, row, column in zip(parts, rows, columns, strict=True):
        if part.cost is not None:
            cells = np.ix_(row, column)
            cost[cells] = np.where(np.isnan(cost[cells]), part.cost, cost[cells])
    return cost


# ---- queries


def without(battles: Battles, rows: Bools) -> Battles:
    """Without the queries where rows[n] is True, and without their battles and costs: for decontamination.

    Ties, weights, duplicates and models stay, also models that fought nowhere else. Raises InputError for a mask of another length or type,
    and where nothing is left.
    """
    mask = np.asarray(rows)
    if mask.dtype != np.bool_ or mask.shape != (len(battles.queries),):
        raise InputError(
            "a mask over queries does not fit", expected=f"{len(battles.queries)} booleans", found=f"{mask.dtype} of shape {mask.shape}"
        )
    kept = ~mask[battles.query]
    place = np.cumsum(~mask) - 1
    _require(battles, "the table", kept)
    return replace(
        battles,
        queries=battles.queries.take(~mask),
        query=place[battles.query[kept]],
        a=battles.a[kept],
        b=battles.b[kept],
        outcome=battles.outcome[kept],
        weight=_weight(battles)[kept],
        cost=None if battles.cost is None else battles.cost[~mask],
    )


def long_enough(battles: Battles, characters: int = 16) -> Battles:
    """Without the queries whose text is shorter than `characters`, as RouteLLM (arXiv 2406.18665) does to train; else as `without`."""
    if isinstance(characters, bool) or not isinstance(characters, int) or characters < 0:
        raise InputError("a length does not fit", expected="a whole number of characters >= 0", found=repr(characters))
    return without(battles, np.array([len(text) < characters for text in battles.queries.text], dtype=bool))


# ---- battles


def merged_duplicates(battles: Battles) -> Battles:
    """Repeated comparisons of one pair on one text as one battle for each outcome, with the sum of their weights.

    Texts count, not ids: a battle goes to the first query of its text. Which side was `a` does not count (the first battle decides), so
    correct a position bias before. Different outcomes stay apart, ties among them: they are evidence of noise. Order of first appearance;
    queries, even those that gave their battles away, models and costs stay. Raises InputError for no battles.
    """
    _require(battles, "the table")
    first: dict[str, int] = {}
    text = np.array([first.setdefault(text, row) for row, text in enumerate(battles.queries.text)], dtype=np.int64)
    query = text[battles.query]
    low, high = np.minimum(battles.a, battles.b), np.maximum(battles.a, battles.b)
    won = np.where(battles.a < battles.b, battles.outcome, 1 - battles.outcome)
    keys = np.stack([query, low, high, (2 * won).astype(np.int64)])
    _, begun, cell = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    order = np.argsort(begun)
    weight = np.asarray(np.bincount(cell.reshape(-1), _weight(battles)), dtype=np.float64)[order]
    return replace(_rows(replace(battles, query=query), begun[order]), weight=weight)


def ties(battles: Battles, how: str) -> Battles:
    """Ties as they are ("keep"), left out ("drop"), or each as two opposite wins of half its weight, one after the other ("half").

    Weights of decisive battles, duplicates, queries, models and costs stay. Raises InputError for another `how`, and where nothing is left.
    """
    if how not in TIES:
        raise InputError("unknown treatment of ties", expected=", ".join(TIES), found=repr(how))
    _require(battles, "the table")
    if how == "keep":
        return battles
    tie = battles.outcome == 0.5
    if how == "drop":
        return _rows(battles, ~tie)
    row = np.repeat(np.arange(len(battles)), np.where(tie, 2, 1))
    split = _rows(battles, row)
    second = np.concatenate([[False], row[1:] == row[:-1]])
    outcome = np.where(tie[row], np.where(second, 0.0, 1.0), split.outcome)
    return replace(split, outcome=outcome, weight=np.where(tie[row], _weight(split) / 2, _weight(split)))


# ---- shared


def _weight(battles: Battles) -> Floats:
    assert battles.weight is not None
    return battles.weight.astype(np.float64)


def _rows(battles: Battles, rows: Ints | Bools) -> Battles:
    """Some of the battles, by number or mask. Raises InputError where that is none."""
    _require(battles, "the table", rows)
    return replace(
        battles,
        query=battles.query[rows],
        a=battles.a[rows],
        b=battles.b[rows],
        outcome=battles.outcome[rows],
        weight=_weight(battles)[rows],
    )


def _require(battles: Battles, where: str, rows: Ints | Bools | None = None) -> None:
    left = len(battles) if rows is None else len(battles.query[rows])
    if not left:
        found = "0" if not len(battles) else f"0 of {len(battles)}"
        raise InputError("no battles are left", where=where, expected="at least one", found=found)
