"""What a router learns from beside the judged data: further comparisons and outcomes, weighted, and kept away from the judged queries.

RouteLLM mixes arena battles with judged ones and removes what comes close to a benchmark's prompts (arXiv 2406.18665, section 4.1).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from routewright.core.text import normalise
from routewright.core.types import Battles, Bools, Floats, InputError, Ints, Outcomes, Queries
from routewright.data import duels
from routewright.data.audit import nearest

OF_BATTLES = "Choose a router of battles: mf, sw_ranking, or bert with router.head=labels."

log = logging.getLogger("routewright")


@dataclass(frozen=True)
class Mixing:
    """How to mix. own: weight of the judged data's own training part (0: learn from the further tables alone). weights: of each further
    table, by its name (1 where not given). names: {a further table's model: the judged model it stands for}. only: leave out models that
    are not judged. nearest: a query whose cosine to a judged one is at least this, or whose text is the same, is left out.
    """

    own: float = 1.0
    weights: Mapping[str, float] | None = None
    names: Mapping[str, str] | None = None
    only: bool = False
    nearest: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", dict(self.weights or {}))
        object.__setattr__(self, "names", dict(self.names or {}))
        assert self.weights is not None
        if self.own < 0 or any(weight <= 0 for weight in self.weights.values()):
            raise InputError("impossible weight", where="mix", expected="own >= 0, others > 0", found=f"{self.own}, {self.weights}")
        if not 0 < self.nearest <= 1:
            raise InputError("the threshold is no cosine", where="mix.nearest", expected="a value in (0, 1]", found=str(self.nearest))

    def weight(self, name: str) -> float:
        """Of this further table's battles."""
        return float((self.weights or {}).get(name, 1.0))

    def check(self, pools: Mapping[str, Sequence[str]]) -> None:
        """Raises InputError for a weight of a table or a name of a model that is not there, and where nothing is left to learn from.

        pools: each further table's models, by its name.
        """
        _among(pools, self.weights, "mix.weights", "a weight belongs to no further table")
        _among(dict.fromkeys(chain(*pools.values())), self.names, "mix.names", "a name belongs to no model of a further table")
        if not self.own and not pools:
            raise InputError("there is nothing to learn from", expected="mix.own above 0, or +data@extra.NAME=SOURCE", found="mix.own=0")


def _among(known: Collection[str], given: Iterable[str] | None, where: str, what: str) -> None:
    """Raises InputError for names given in a setting that are not among those that there are."""
    unknown = [name for name in given or () if name not in known]
    if unknown:
        mend = f"Give one that there is: {where}={{NAME: ...}}." if known else "Add a table: +data@extra.NAME=SOURCE."
        raise InputError(what, where=where, expected=", ".join(known) or "none", found=", ".join(unknown), mend=mend)


@dataclass(frozen=True, eq=False)
class Lesson:
    """learn(train, supervision) for the folds: train with what is mixed in. told: what the manifest says of the further tables."""

    mixing: Mixing
    own_battles: Battles | None
    extra: Mapping[str, Outcomes | Battles]
    told: Mapping[str, Any]

    def __call__(self, train: Outcomes, supervision: str) -> Outcomes | Battles:
        """Battles of the pools' union, or Outcomes of the judged pool; the judged models come first. Raises InputError where the router
        learns from grades and a further table has none, or a weight that grades cannot have.
        """
        if supervision == "outcomes":
            return self._outcomes(train)
        return self._battles(train)

    def _outcomes(self, train: Outcomes) -> Outcomes:
        if self.mixing.own not in (0.0, 1.0):
            raise _weighted("mix.own", self.mixing.own, "0 or 1")
        if self.own_battles is not None and not self.extra:
            return train  # win shares are grades too
        tables = [train] if self.mixing.own else []
        for name, table in self.extra.items():
            if isinstance(table, Battles):
                raise InputError(
                    "this router learns from grades", where=f"extra.{name}", expected="outcomes", found="battles", mend=OF_BATTLES
                )
            if (weight := self.mixing.weight(name)) != 1.0:
                raise _weighted(f"mix.weights.{name}", weight, "1")
            tables.append(table.models(train.pool.name))
        return stacked(tables)

    def _battles(self, train: Outcomes) -> Battles:
        own = train.battles() if self.own_battles is None else fought_on(self.own_battles, train.queries)
        weighed = [(own, self.mixing.own)] if self.mixing.own else []
        weighed += [(_fought(table), self.mixing.weight(name)) for name, table in self.extra.items()]
        if len(weighed) == 1 and self.mixing.own:
            return own
        whole = duels.union(weighed)
        return _judged_first(whole, train.pool.name)


def _weighted(where: str, weight: float, allowed: str) -> InputError:
    return InputError(
        "this router learns from grades, which have no weights", where=where, expected=allowed, found=f"{weight:g}", mend=OF_BATTLES
    )


def lesson(
    outcomes: Outcomes,
    own_battles: Battles | None,
    extra: Mapping[str, Outcomes | Battles],
    mixing: Mixing,
    encode: Callable[[Sequence[str]], Floats] | None,
) -> Lesson:
    """The further tables made ready: renamed, cut to the judged models if asked for, encoded, and without what comes near a judged query.

    encode: texts -> [n,d], None where no embedding is wanted (then only equal texts are left out).
    """
    mixing.check({name: table.pool.name for name, table in extra.items()})
    ready: dict[str, Outcomes | Battles] = {}
    told: dict[str, Any] = {}
    for name, table in extra.items():
        found = _renamed(table, mixing, outcomes.pool.name, name)
        if encode is not None:
            found = replace(found, queries=found.queries.encoded(encode(list(found.queries.text))))
        same, near = _close(found.queries, outcomes.queries, mixing.nearest)
        kept = ~(same | near)
        if not kept.any():
            raise InputError(
                "nothing is left of a further table", where=f"extra.{name}", expected="queries that are not judged", found="none"
            )
        ready[name] = duels.without(found, ~kept) if isinstance(found, Battles) else found.take(kept)
        told[name] = {"queries": int(kept.sum()), "same_text": int(same.sum()), "near": int((near & ~same).sum())}
        log.info("extra.%s: %d queries, %d left out as judged ones, %d as near to one", name, *told[name].values())
    return Lesson(mixing, own_battles, ready, told)


def _renamed(table: Outcomes | Battles, mixing: Mixing, judged: Sequence[str], name: str) -> Outcomes | Battles:
    names = {old: new for old, new in (mixing.names or {}).items() if old in table.pool.name}
    table = _fought(table) if names and isinstance(table, Outcomes) else table
    if names and isinstance(table, Battles):
        table = duels.relabelled(table, names)
    if not mixing.only:
        return table
    kept = [model for model in judged if model in table.pool.name]
    if len(kept) < 2:
        mend = "Say which of its models stand for judged ones: mix.names={its: judged, ...}."
        raise InputError("a further table knows too few judged models", where=f"extra.{name}", expected="two", found=str(kept), mend=mend)
    return table.models(kept) if isinstance(table, Outcomes) else duels.among(table, kept)


def _fought(table: Outcomes | Battles) -> Battles:
    return table.battles() if isinstance(table, Outcomes) else table


def _close(queries: Queries, judged: Queries, threshold: float) -> tuple[Bools, Bools]:
    """(n,) each: whether a query's text is a judged one's, and whether its embedding is as near as `threshold` to one."""
    known = {normalise(text) for text in judged.text}
    same = np.array([normalise(text) in known for text in queries.text], dtype=bool)
    if queries.embedding is None or judged.embedding is None:
        return same, np.zeros_like(same)
    return same, np.asarray(nearest(queries.vectors(), judged.vectors())[0] >= threshold)


def fought_on(battles: Battles, queries: Queries) -> Battles:
    """The battles on these queries, found by id, with these queries' texts and embeddings."""
    row = {name: i for i, name in enumerate(queries.id)}
    at = np.array([row.get(name, -1) for name in battles.queries.id], dtype=np.int64)[battles.query]
    kept = at >= 0
    assert battles.weight is not None
    return Battles(
        queries, battles.pool, at[kept], battles.a[kept], battles.b[kept], battles.outcome[kept], battles.weight[kept], cost=None
    )


def stacked(tables: Sequence[Outcomes]) -> Outcomes:
    """Outcomes of one pool, one under the other; ids that stand twice get the table's number before them. Costs, grades and embeddings
    stay, everything else is left out.
    """
    if len(tables) == 1:
        return tables[0]
    ids = [name for table in tables for name in table.queries.id]
    twice = len(set(ids)) < len(ids)
    marked = [f"{k}/{name}" if twice and k else name for k, table in enumerate(tables) for name in table.queries.id]
    vectors = [table.queries.embedding for table in tables]
    embedding = None if any(v is None for v in vectors) else np.concatenate([v for v in vectors if v is not None])
    text, group = (np.concatenate([getattr(table.queries, name) for table in tables]) for name in ("text", "group"))
    queries = Queries(np.array(marked, dtype=object), text, group, embedding)
    quality, cost = (np.concatenate([getattr(table, name) for table in tables]) for name in ("quality", "cost"))
    return Outcomes(queries, tables[0].pool, quality, cost, usage=tables[0].usage)


def _judged_first(battles: Battles, judged: Sequence[str]) -> Battles:
    """The same battles with the judged models' columns first. Raises InputError for a judged model that the battles do not know."""
    unknown = [name for name in judged if name not in battles.pool.name]
    if unknown:
        mend = "Say which of their models stand for it: mix.names={theirs: judged, ...}."
        found = ", ".join(battles.pool.name[:8])
        raise InputError(
            "the battles know nothing of a judged model", where=", ".join(unknown), expected="a battle", found=found, mend=mend
        )
    order = [battles.pool.index(name) for name in judged]
    order += [j for j in range(len(battles.pool)) if j not in order]
    place: Ints = np.argsort(order)
    cost = None if battles.cost is None else battles.cost[:, order]
    return replace(battles, pool=battles.pool.take(order), a=place[battles.a], b=place[battles.b], cost=cost)
