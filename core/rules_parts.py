"""What the rules of cascades share: checks of their data, how far a list was asked, whose answer serves. Shapes: n queries, m models."""

from __future__ import annotations

from typing import Any

import numpy as np

from routewright.core.types import Bools, Floats, InputError, Ints


def table(kind: str, name: str, value: Any, *shape: int | None, endless: bool = False) -> Floats:
    """float64 of this shape (None: any length), no NaN; endless: infinity is allowed. Raises InputError that names the field."""
    array = np.asarray(value, dtype=np.float64)
    fits = array.ndim == len(shape) and all(size is None or size == got for size, got in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise broken(kind, f"{name} has the wrong shape", expected=wanted, found=str(array.shape))
    values = array.ravel().tolist()  # short, and a replay makes a rule a step: Python is faster than numpy here
    if not all(-np.inf < value < np.inf or (endless and value == np.inf) for value in values):
        raise broken(kind, f"{name} has impossible values", expected="finite numbers", found="others")
    return array


def prices(kind: str, cost: Any) -> Floats:
    """cost[m] as a rule holds it, mean USD a query of every model of the pool; it says how many there are. Raises InputError."""
    array = table(kind, "cost", cost, None)
    if not len(array):
        raise broken(kind, "there are no models", expected="the cost of each", found="none")
    return array


def columns(kind: str, name: str, value: Any, m: int, *, distinct: bool = True) -> Ints:
    """Columns of a pool of m models, at least one; distinct: none twice. Raises InputError that names the field."""
    array = np.asarray(value, dtype=np.int64)
    values = array.ravel().tolist()
    if array.ndim != 1 or not values or not all(0 <= column < m for column in values):
        raise broken(kind, f"{name} names no models", expected=f"a list of columns, 0 .. {m - 1}", found=str(array.tolist()))
    if distinct and len(set(values)) < len(values):
        raise broken(kind, f"{name} names a model twice", expected="each once", found=str(values))
    return array


def broken(kind: str, what: str, *, expected: str, found: str) -> InputError:
    return InputError(what, where=f"a rule of kind {kind!r}", expected=expected, found=found)


def put(owner: object, **fields: Any) -> None:
    """Sets fields of a frozen dataclass while it is being made."""
    for name, value in fields.items():
        object.__setattr__(owner, name, value)


def depth(asked: Bools) -> Ints:
    """[n] the place in a list after the last model asked, for asked[n,L] in the order of the list; 0 where none was."""
    return np.asarray((asked * np.arange(1, asked.shape[1] + 1)).max(axis=1, initial=0))


def dearest(called: Bools, cost: Floats) -> Ints:
    """[n] the model called with the highest mean cost[m]."""
    return np.asarray(np.where(called, cost, -np.inf).argmax(axis=1))


def grouped(asked: Bools) -> list[tuple[Ints | slice, Ints]]:
    """(rows, the places in the list that they were asked) of every way in which a list was asked, for asked[n,L]."""
    places = np.arange(asked.shape[1])
    sets = asked @ (1 << places)
    if len(sets) and (sets == sets[0]).all():  # the usual case: nothing need be copied
        return [(slice(None), np.flatnonzero(asked[0]))]
    return [(np.flatnonzero(sets == key), np.flatnonzero((key >> places) & 1)) for key in np.unique(sets)]
