"""What a cascade does at one operating point, as plain data: the same code decides in training, in the evaluation and beside a gateway.

A rule decides each row alone. It is total: `select` serves among whatever was called, also where a gateway called a model of its own.
Shapes: n queries, m models, L models of a list. Models are columns of the pool; cost[m] is their mean USD a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from routewright.core.contracts import SAID, SCORE, STOP, Rule
from routewright.core.fields import MEND, Fields, plain
from routewright.core.rules_parts import broken, columns, dearest, depth, grouped, prices, put, table
from routewright.core.rules_sets import Planner, Sets
from routewright.core.types import Bools, Floats, InputError, Ints
from routewright.core.votes import beliefs, most, supporters

__all__ = ["Beliefs", "Checked", "Listed", "Planner", "Rule", "Sets", "Votes", "restored"]


@dataclass(frozen=True, eq=False)
class Listed:
    """Asks models[L] in turn until a score is at least its threshold[L-1]; the last one asked serves.

    A threshold of infinity keeps no answer; a score that is not known reaches none. Raises InputError for data that cannot be.
    """

    models: Ints
    thresholds: Floats
    cost: Floats
    KIND: ClassVar[str] = "listed"

    def __post_init__(self) -> None:
        cost = prices(self.KIND, self.cost)
        models = columns(self.KIND, "models", self.models, len(cost))
        put(self, cost=cost, models=models, thresholds=table(self.KIND, "thresholds", self.thresholds, len(models) - 1, endless=True))

    @property
    def needs(self) -> Sequence[str]:
        return (SCORE,) if len(self.models) > 1 else ()

    def step(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The next model of the list, until a score reaches its threshold or the list ends."""
        asked = called[:, self.models]  # (n, L)
        place = depth(asked)
        going = place < len(self.models)
        if len(self.models) > 1:
            going &= ~((signals[SCORE][:, self.models[:-1]] >= self.thresholds) & asked[:, :-1]).any(axis=1)
        return np.where(going, self.models[np.minimum(place, len(self.models) - 1)], STOP)

    def looks(self, called: Bools, last: Ints) -> Bools:
        """Every score but that of the list's last model, who serves whatever it is."""
        return np.asarray(last != self.models[-1])

    def select(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The last model asked; where none of the list was, the dearest one called."""
        place = depth(called[:, self.models])
        return np.where(place > 0, self.models[np.maximum(place, 1) - 1], dearest(called, self.cost))

    def described(self) -> dict[str, Any]:
        return {"kind": self.KIND, "models": plain(self.models), "thresholds": plain(self.thresholds), "cost": plain(self.cost)}

    @classmethod
    def read(cls, fields: Fields) -> Listed:
        """From the fields of `described`."""
        return cls(fields.counts("models"), fields.numbers("thresholds", endless=True), fields.numbers("cost"))


@dataclass(frozen=True, eq=False)
class Votes:
    """Asks models[L] in turn until so many answers say the same; that answer is served. Raises InputError for data that cannot be."""

    models: Ints
    votes: int
    cost: Floats
    KIND: ClassVar[str] = "votes"

    def __post_init__(self) -> None:
        cost = prices(self.KIND, self.cost)
        put(self, cost=cost, models=columns(self.KIND, "models", self.models, len(cost)))
        if self.votes < 1:
            raise broken(self.KIND, "impossible number of votes", expected="at least 1", found=str(self.votes))

    @property
    def needs(self) -> Sequence[str]:
        return (SAID,) if len(self.models) > 1 else ()

    def step(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The next model of the list, until enough answers agree or the list ends."""
        asked = called[:, self.models]
        place = depth(asked)
        going = place < len(self.models)
        if (rows := np.flatnonzero(going & (place > 0))).size:
            going[rows] = most(signals[SAID][rows][:, self.models]) < self.votes
        return np.where(going, self.models[np.minimum(place, len(self.models) - 1)], STOP)

    def looks(self, called: Bools, last: Ints) -> Bools:
        """No score is bought: none is read."""
        return np.zeros(len(called), dtype=bool)

    def select(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The first of the answers that most agree on; where no two do, that of the dearest model called."""
        alone = dearest(called, self.cost)
        if not self.needs:
            return alone
        count = supporters(np.where(called, signals[SAID], np.nan))
        top = count.max(axis=1, keepdims=True)
        # among equals of the largest group the cheapest stands for it; without a group nobody outvotes the dearest
        voted = np.where(called & (count == top), -self.cost, -np.inf).argmax(axis=1)
        return np.where(top[:, 0] <= 1, alone, voted)

    def described(self) -> dict[str, Any]:
        return {"kind": self.KIND, "models": plain(self.models), "votes": int(self.votes), "cost": plain(self.cost)}

    @classmethod
    def read(cls, fields: Fields) -> Votes:
        """From the fields of `described`."""
        return cls(fields.counts("models"), fields.count("votes"), fields.numbers("cost"))


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Asks models[L] in turn until the belief in one answer is at least its threshold[L-1]; the answer believed most is served.

    wrong: as in core.votes.beliefs. A threshold of infinity is never reached. Raises InputError for data that cannot be.
    """

    models: Ints
    thresholds: Floats
    wrong: float
    cost: Floats
    KIND: ClassVar[str] = "beliefs"

    def __post_init__(self) -> None:
        cost = prices(self.KIND, self.cost)
        models = columns(self.KIND, "models", self.models, len(cost))
        put(self, cost=cost, models=models, thresholds=table(self.KIND, "thresholds", self.thresholds, len(models) - 1, endless=True))
        if not 1 <= self.wrong < np.inf:
            raise broken(self.KIND, "impossible number of wrong answers", expected="at least 1", found=f"{self.wrong:g}")

    @property
    def needs(self) -> Sequence[str]:
        return (SCORE, SAID) if len(self.models) > 1 else ()

    def step(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The next model of the list, until the belief reaches its threshold or the list ends."""
        chosen = np.full(len(called), STOP, dtype=np.int64)
        for rows, places in grouped(called[:, self.models]):
            place = int(places[-1]) + 1 if len(places) else 0
            if place < len(self.models):
                going = not place or self._believed(rows, places, signals).max(axis=1) < self.thresholds[place - 1]
                chosen[rows] = np.where(going, self.models[place], STOP)
        return chosen

    def looks(self, called: Bools, last: Ints) -> Bools:
        """Every answer of a list votes with its score; one that is asked alone needs none."""
        return np.full(len(called), len(self.models) > 1)

    def select(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The answer of the list that is believed most, of equals the first asked; where none was asked, that of the dearest one called."""
        served = dearest(called, self.cost)
        for rows, places in grouped(called[:, self.models]):
            if len(places):
                best = self._believed(rows, places, signals).argmax(axis=1) if len(places) > 1 else 0
                served[rows] = self.models[places][best]
        return served

    def _believed(self, rows: Ints | slice, places: Ints, signals: Mapping[str, Floats]) -> Floats:
        """[rows, places] the belief in every answer at hand."""
        asked = self.models[places]
        # rows first: numpy lays [:, asked] out column by column, and what follows is twice as fast on that
        return beliefs(signals[SCORE][rows][:, asked], signals[SAID][rows][:, asked], self.wrong)

    def described(self) -> dict[str, Any]:
        lists = {"models": plain(self.models), "thresholds": plain(self.thresholds)}
        return {"kind": self.KIND, **lists, "wrong": float(self.wrong), "cost": plain(self.cost)}

    @classmethod
    def read(cls, fields: Fields) -> Beliefs:
        """From the fields of `described`."""
        models, thresholds = fields.counts("models"), fields.numbers("thresholds", endless=True)
        return cls(models, thresholds, fields.number("wrong"), fields.numbers("cost"))


@dataclass(frozen=True, eq=False)
class Checked:
    """Asks `first`; the bin of its score among edges[bins-1] says by action[bins] who is asked then and serves, `first` to keep its answer.

    Raises InputError for data that cannot be.
    """

    first: int
    edges: Floats
    action: Ints
    cost: Floats
    KIND: ClassVar[str] = "checked"

    def __post_init__(self) -> None:
        cost = prices(self.KIND, self.cost)
        action = columns(self.KIND, "action", self.action, len(cost), distinct=False)
        edges = table(self.KIND, "edges", self.edges, len(action) - 1)
        columns(self.KIND, "first", [self.first], len(cost))
        if (edges[1:] < edges[:-1]).any():
            raise broken(self.KIND, "edges fall", expected="rising edges", found=str(edges.tolist()))
        put(self, cost=cost, action=action, edges=edges)

    @property
    def needs(self) -> Sequence[str]:
        return (SCORE,) if self._checks() else ()

    def _checks(self) -> bool:
        """Whether the score can change anything."""
        return bool((self.action != self.first).any())

    def step(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The first model, then what its bin says; a score that is not known counts as 0."""
        asked = called[:, self.first]
        if not self._checks():
            return np.where(asked, STOP, self.first)
        score = np.nan_to_num(signals[SCORE][:, self.first].astype(np.float64))
        then = self.action[np.searchsorted(self.edges, score, side="right")]
        return np.where(~asked, self.first, np.where((then == self.first) | (called.sum(axis=1) > 1), STOP, then))

    def looks(self, called: Bools, last: Ints) -> Bools:
        """Only the first model's answer is checked, and only where the check can change anything."""
        return np.asarray((last == self.first) & self._checks())

    def select(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """The second model's answer where there is one, whose score is not bought."""
        second = called & (np.arange(called.shape[1]) != self.first)
        return np.where(second.any(axis=1), dearest(second, self.cost), self.first)

    def described(self) -> dict[str, Any]:
        bins = {"edges": plain(self.edges), "action": plain(self.action)}
        return {"kind": self.KIND, "first": int(self.first), **bins, "cost": plain(self.cost)}

    @classmethod
    def read(cls, fields: Fields) -> Checked:
        """From the fields of `described`."""
        return cls(fields.count("first"), fields.numbers("edges"), fields.counts("action"), fields.numbers("cost"))


READERS: Mapping[str, Callable[[Fields], Rule]] = {kind.KIND: kind.read for kind in (Listed, Votes, Beliefs, Checked, Sets)}


def restored(described: Mapping[str, Any]) -> Rule:
    """The rule that described itself so. Raises InputError for an unknown kind and for a field that is missing, broken or unknown."""
    kind = described.get("kind") if isinstance(described, Mapping) else None
    if not isinstance(kind, str) or kind not in READERS:
        raise InputError("unknown kind of rule", expected="one of " + ", ".join(READERS), found=repr(kind), mend=MEND)
    fields = Fields(described, f"a rule of kind {kind!r}")
    rule = READERS[kind](fields)
    fields.done()
    return rule
