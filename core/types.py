"""The types everything speaks in: queries, pools, outcomes, battles, predictions, decisions, curves. Imports numpy alone.

Each is frozen and checked once, when it is made; arrays inside are read-only.
Shapes: n queries, m models, b battles, k knobs, d dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]
Strings = NDArray[np.object_]

TOKEN_KINDS = ("input", "cached_input", "output", "reasoning")
USAGE_KINDS = ("measured", "estimated", "nominal", "none")


class InputError(ValueError):
    """Input the user can mend. Says what is wrong, where, what was expected, what was found and how to mend it, in one line."""

    def __init__(self, what: str, *, where: str = "", expected: str = "", found: str = "", mend: str = "") -> None:
        parts = [f"{what} in {where}" if where else what]
        if expected:
            parts.append(f"expected {expected}")
        if found:
            parts.append(f"found {found}")
        text = ": ".join([parts[0], ", ".join(parts[1:])]) if len(parts) > 1 else parts[0]
        super().__init__(f"{text}. {mend}".rstrip() if mend else text)
        self.what, self.where, self.expected, self.found, self.mend = what, where, expected, found, mend


def _array(owner: str, name: str, value: Any, dtype: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """A read-only array of this dtype and shape (None: any length), or an InputError that names the field."""
    try:
        array = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise InputError(f"{owner}.{name} cannot be read as {np.dtype(dtype)}", found=str(error)) from None
    wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
    if array.ndim != len(shape) or any(size is not None and size != got for size, got in zip(shape, array.shape, strict=True)):
        raise InputError(f"{owner}.{name} has the wrong shape", expected=wanted, found=str(array.shape))
    if array is value or array.base is not None:
        array = array.view()
    array.flags.writeable = False
    return array


def _put(owner: object, name: str, value: object) -> None:
    """Sets a field of a frozen dataclass while it is being made."""
    object.__setattr__(owner, name, value)


def _strings(owner: str, name: str, values: Any, n: int | None = None) -> Strings:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    for row, value in enumerate(array):
        if not isinstance(value, str):
            raise InputError(f"{owner}.{name}[{row}] is not text", expected="str", found=f"{type(value).__name__} {value!r}")
    return _array(owner, name, array, object, (n,))


def _unit(owner: str, name: str, array: Floats, labels: Sequence[str] | None = None) -> None:
    """Every value lies in [0, 1] or is NaN, meaning not observed."""
    bad = np.argwhere(~(np.isnan(array) | ((array >= 0) & (array <= 1))))
    if len(bad):
        at = tuple(int(i) for i in bad[0])
        column = f", model {labels[at[-1]]!r}" if labels is not None and len(at) > 1 else ""
        raise InputError(
            f"{owner}.{name} is out of range",
            where=f"row {at[0]}{column}",
            expected="a value in [0, 1], or NaN for not observed",
            found=str(array[at]),
            mend="Rescale the grades to [0, 1].",
        )


def _columns(name: str, index: Ints, m: int) -> None:
    """Every index is a column of the pool."""
    bad = np.flatnonzero((index < 0) | (index >= m))
    if len(bad):
        raise InputError(f"{name} names no model", where=f"row {bad[0]}", expected=f"0 .. {m - 1}", found=str(index[bad[0]]))


@dataclass(frozen=True, eq=False)
class Queries:
    """id[n], text[n], group[n] str and embedding[n,d] float32 unit rows, or None before encoding.

    group is the unit of grouped splits and of the clustered bootstrap: a subject, a task, a tenant.
    Raises InputError for duplicate ids and wrong shapes. Empty texts are legal here; data/audit.py refuses them in training data.
    """

    id: Strings
    text: Strings
    group: Strings
    embedding: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.text)
        _put(self, "text", _strings("Queries", "text", self.text, n))
        _put(self, "id", _strings("Queries", "id", self.id, n))
        _put(self, "group", _strings("Queries", "group", self.group, n))
        first: dict[str, int] = {}
        for row, name in enumerate(self.id):
            if first.setdefault(name, row) != row:
                raise InputError(
                    f"query id {name!r} stands twice",
                    where=f"rows {first[name]} and {row}",
                    expected="one id for each query",
                    mend="Make the ids unique.",
                )
        if self.embedding is not None:
            _put(self, "embedding", _array("Queries", "embedding", self.embedding, np.float32, (n, None)))

    def __len__(self) -> int:
        return len(self.text)

    def take(self, rows: Ints | Bools) -> Queries:
        return Queries(self.id[rows], self.text[rows], self.group[rows], None if self.embedding is None else self.embedding[rows])

    def vectors(self) -> Floats:
        """embedding[n,d]; raises InputError where the queries were not encoded yet."""
        if self.embedding is None:
            raise InputError(
                "these queries have no embedding",
                expected="encoded queries",
                mend="Encode them first: queries.encoded(encoder.encode(queries.text)).",
            )
        return self.embedding

    def encoded(self, embedding: Floats) -> Queries:
        return replace(self, embedding=embedding)


@dataclass(frozen=True, eq=False)
class Pool:
    """The m models to choose from, in order, with USD a token for input, cached input and output, and USD a call; NaN: not known.

    An arm may be a (model, prompt variant): variant[m] is "" for the plain model.
    """

    name: tuple[str, ...]
    usd_input: Floats = field(default_factory=lambda: np.empty(0))
    usd_cached_input: Floats = field(default_factory=lambda: np.empty(0))
    usd_output: Floats = field(default_factory=lambda: np.empty(0))
    usd_call: Floats = field(default_factory=lambda: np.empty(0))
    variant: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _put(self, "name", tuple(self.name))
        m = len(self.name)
        if m == 0 or any(not isinstance(name, str) or not name for name in self.name):
            raise InputError("a pool needs named models", expected="at least one non-empty name", found=repr(self.name))
        if len(set(self.name)) != m:
            raise InputError(
                "a model stands twice in the pool", found=", ".join(self.name), mend="Give prompt variants names of their own."
            )
        for label in ("usd_input", "usd_cached_input", "usd_output", "usd_call"):
            value = getattr(self, label)
            value = np.full(m, np.nan) if len(value) == 0 else value
            array = _array("Pool", label, value, np.float64, (m,))
            if np.any(array < 0) or np.any(np.isinf(array)):
                raise InputError(
                    f"Pool.{label} has an impossible price",
                    expected="finite USD >= 0, or NaN where unknown",
                    found=str(array.tolist()),
                )
            _put(self, label, array)
        _put(self, "variant", tuple(self.variant) or ("",) * m)
        if len(self.variant) != m:
            raise InputError("Pool.variant has the wrong length", expected=str(m), found=str(len(self.variant)))

    def __len__(self) -> int:
        return len(self.name)

    def index(self, name: str) -> int:
        """Column of this model. Raises InputError that lists the models there are."""
        if name not in self.name:
            raise InputError(f"model {name!r} is not in the pool", expected="one of " + ", ".join(self.name), found=repr(name))
        return self.name.index(name)

    def take(self, columns: Sequence[int]) -> Pool:
        pick = list(columns)
        return Pool(
            tuple(self.name[j] for j in pick),
            self.usd_input[pick],
            self.usd_cached_input[pick],
            self.usd_output[pick],
            self.usd_call[pick],
            tuple(self.variant[j] for j in pick),
        )


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What every model did on every query: quality[n,m] in [0,1] (NaN: not observed) and cost[n,m] in USD (NaN: not known).

    tokens: counts by kind (TOKEN_KINDS), each [n,m]. usage: what cost rests on: measured, estimated (a tokenizer), nominal (prices), none.
    latency[n,m] in seconds; answer[n,m] text or None; signals: named [n,m] float32; propensity[n] and logged[n] (a model index): logs only.
    """

    queries: Queries
    pool: Pool
    quality: Floats
    cost: Floats
    tokens: Mapping[str, Floats] = field(default_factory=dict)
    usage: str = "none"
    latency: Floats | None = None
    answer: Strings | None = None
    signals: Mapping[str, Floats] = field(default_factory=dict)
    propensity: Floats | None = None
    logged: Ints | None = None

    def __post_init__(self) -> None:
        n, m = len(self.queries), len(self.pool)
        _put(self, "quality", _array("Outcomes", "quality", self.quality, np.float32, (n, m)))
        _unit("Outcomes", "quality", self.quality, self.pool.name)
        _put(self, "cost", _array("Outcomes", "cost", self.cost, np.float64, (n, m)))
        wrong = np.argwhere((self.cost < 0) | np.isinf(self.cost))
        if len(wrong):
            where = f"row {wrong[0][0]}, model {self.pool.name[wrong[0][1]]!r}"
            raise InputError(
                "Outcomes.cost is no cost", where=where, expected="finite USD >= 0, or NaN", found=str(self.cost[tuple(wrong[0])])
            )
        for kind in self.tokens:
            if kind not in TOKEN_KINDS:
                raise InputError(f"unknown kind of tokens {kind!r}", expected="one of " + ", ".join(TOKEN_KINDS), found=repr(kind))
        _put(
            self,
            "tokens",
            {kind: _array("Outcomes", f"tokens[{kind}]", value, np.float64, (n, m)) for kind, value in self.tokens.items()},
        )
        if self.usage not in USAGE_KINDS:
            raise InputError("Outcomes.usage", expected="one of " + ", ".join(USAGE_KINDS), found=repr(self.usage))
        if self.latency is not None:
            _put(self, "latency", _array("Outcomes", "latency", self.latency, np.float32, (n, m)))
        if self.answer is not None:
            _put(self, "answer", _array("Outcomes", "answer", self.answer, object, (n, m)))
        _put(
            self,
            "signals",
            {name: _array("Outcomes", f"signals[{name}]", value, np.float32, (n, m)) for name, value in self.signals.items()},
        )
        if self.propensity is not None:
            _put(self, "propensity", _array("Outcomes", "propensity", self.propensity, np.float64, (n,)))
            _unit("Outcomes", "propensity", self.propensity)
        if self.logged is not None:
            _put(self, "logged", _array("Outcomes", "logged", self.logged, np.int64, (n,)))
            _columns("Outcomes.logged", self.logged, m)

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: Ints | Bools) -> Outcomes:
        """The same table for some of its queries."""
        cut = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("quality", "cost", "latency", "answer", "propensity", "logged"):
            cut[name] = None if cut[name] is None else cut[name][rows]
        cut["tokens"] = {kind: value[rows] for kind, value in self.tokens.items()}
        cut["signals"] = {name: value[rows] for name, value in self.signals.items()}
        return Outcomes(**{**cut, "queries": self.queries.take(rows)})

    def models(self, names: Sequence[str]) -> Outcomes:
        """The same table for some of its models, in this order; a log that chose another one is dropped. InputError for an unknown one."""
        columns = [self.pool.index(name) for name in names]
        cut = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("quality", "cost", "latency", "answer"):
            cut[name] = None if cut[name] is None else cut[name][:, columns]
        cut["tokens"] = {kind: value[:, columns] for kind, value in self.tokens.items()}
        cut["signals"] = {name: value[:, columns] for name, value in self.signals.items()}
        if self.logged is not None:
            place = np.array([columns.index(j) if j in columns else -1 for j in range(len(self.pool))], dtype=np.int64)
            kept = bool((place[self.logged] >= 0).all())
            cut["logged"], cut["propensity"] = (place[self.logged], self.propensity) if kept else (None, None)
        return Outcomes(**{**cut, "pool": self.pool.take(columns)})

    def observed(self) -> Bools:
        """[n]: the queries for which every model's quality is known."""
        return np.asarray(~np.isnan(self.quality).any(axis=1))

    def encoded(self, embedding: Floats) -> Outcomes:
        return replace(self, queries=self.queries.encoded(embedding))

    def battles(self, *, tolerance: float = 0.0) -> Battles:
        """Every pair of models on every query where both were observed; |difference| <= tolerance is a tie (.5), and ties are kept."""
        parts: list[tuple[Ints, Ints, Ints, Floats]] = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
        for a in range(len(self.pool)):
            for b in range(a + 1, len(self.pool)):
                gap = self.quality[:, a] - self.quality[:, b]
                rows = np.flatnonzero(~np.isnan(gap))
                outcome = np.where(np.abs(gap[rows]) <= tolerance, 0.5, gap[rows] > 0)
                parts.append((rows, np.full(len(rows), a), np.full(len(rows), b), outcome))
        query, first, second, won = (np.concatenate([part[i] for part in parts]) for i in range(4))
        return Battles(self.queries, self.pool, query, first, second, won, cost=self.cost)


@dataclass(frozen=True, eq=False)
class Battles:
    """b comparisons: query[b] row, a[b] and b[b] model columns, outcome[b] in {1, .5, 0} (a wins, tie, b wins), weight[b] > 0.

    cost[n,m] in USD where the battles come from outcomes, else None.
    """

    queries: Queries
    pool: Pool
    query: Ints
    a: Ints
    b: Ints
    outcome: Floats
    weight: Floats | None = None
    cost: Floats | None = None

    def __post_init__(self) -> None:
        size = len(self.query)
        if self.cost is not None:
            _put(self, "cost", _array("Battles", "cost", self.cost, np.float64, (len(self.queries), len(self.pool))))
        for name, dtype in (("query", np.int64), ("a", np.int64), ("b", np.int64), ("outcome", np.float32)):
            _put(self, name, _array("Battles", name, getattr(self, name), dtype, (size,)))
        weight = np.ones(size) if self.weight is None else self.weight
        _put(self, "weight", _array("Battles", "weight", weight, np.float32, (size,)))
        for name, limit in (("query", len(self.queries)), ("a", len(self.pool)), ("b", len(self.pool))):
            column = getattr(self, name)
            if size and not (column.min() >= 0 and column.max() < limit):
                raise InputError(
                    f"Battles.{name} points outside its table",
                    expected=f"0 .. {limit - 1}",
                    found=f"{column.min()} .. {column.max()}",
                )
        if np.any(self.a == self.b):
            raise InputError(
                "a model fights itself",
                where=f"battle {int(np.flatnonzero(self.a == self.b)[0])}",
                expected="two different models",
            )
        if not np.isin(self.outcome, (0, 0.5, 1)).all():
            bad = int(np.flatnonzero(~np.isin(self.outcome, (0, 0.5, 1)))[0])
            raise InputError(
                "unknown outcome of a battle",
                where=f"battle {bad}",
                expected="1 (a wins), 0.5 (tie) or 0 (b wins)",
                found=str(self.outcome[bad]),
            )
        if self.weight is None or not np.all(np.isfinite(self.weight) & (self.weight > 0)):
            raise InputError("Battles.weight has an impossible value", expected="finite weights > 0")

    def __len__(self) -> int:
        return len(self.query)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A router's estimate for every model: quality[n,m] (higher is better) and cost[n,m] in USD (NaN: not known)."""

    quality: Floats
    cost: Floats

    def __post_init__(self) -> None:
        _put(self, "quality", _array("Predictions", "quality", self.quality, np.float64, (None, None)))
        _put(self, "cost", _array("Predictions", "cost", self.cost, np.float64, np.shape(self.quality)))
        if not np.isfinite(self.quality).all():
            row, column = np.argwhere(~np.isfinite(self.quality))[0]
            raise InputError(
                "a predicted quality is not finite",
                where=f"row {row}, model {column}",
                expected="a number for every model",
                found=str(self.quality[row, column]),
            )

    def __len__(self) -> int:
        return len(self.quality)

    def take(self, rows: Ints | Bools) -> Predictions:
        return Predictions(self.quality[rows], self.cost[rows])


@dataclass(frozen=True, eq=False)
class Decisions:
    """called[n,m]: every call that is paid; served[n]: the model whose answer is used; propensity[n]: the chance of that choice."""

    called: Bools
    served: Ints
    propensity: Floats

    def __post_init__(self) -> None:
        _put(self, "called", _array("Decisions", "called", self.called, np.bool_, (None, None)))
        n, m = self.called.shape
        _put(self, "served", _array("Decisions", "served", self.served, np.int64, (n,)))
        _put(self, "propensity", _array("Decisions", "propensity", self.propensity, np.float64, (n,)))
        _columns("Decisions.served", self.served, m)
        if n and not self.called[np.arange(n), self.served].all():
            row = int(np.flatnonzero(~self.called[np.arange(n), self.served])[0])
            raise InputError(
                "an answer is served that was never called", where=f"row {row}", expected="served to be one of the models called"
            )

    @classmethod
    def routing(cls, served: Ints, m: int, propensity: Floats | None = None) -> Decisions:
        """One call a query: a router's decisions among m models."""
        called = np.zeros((len(served), m), dtype=bool)
        called[np.arange(len(served)), served] = True
        return cls(called, served, np.ones(len(served)) if propensity is None else propensity)


@dataclass(frozen=True, eq=False)
class Curve:
    """k operating points from the cheapest on: knob[k] (falling), mean cost[k] USD, mean quality[k], share[k,m] of calls to each model."""

    knob: Floats
    cost: Floats
    quality: Floats
    share: Floats

    def __post_init__(self) -> None:
        k = len(self.knob)
        for name in ("knob", "cost", "quality"):
            _put(self, name, _array("Curve", name, getattr(self, name), np.float64, (k,)))
        _put(self, "share", _array("Curve", "share", self.share, np.float64, (k, None)))
