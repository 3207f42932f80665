"""Reads plain data back: the fields of something described as JSON, each checked, one clear error for what is broken.

Floats survive JSON exactly, since Python writes the shortest digits that read back as the same float64; infinity is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from routewright.core.types import Floats, InputError, Ints

MEND = "Export it again."
WIDEST = 2**31  # no count is as large
LARGEST = float(np.finfo(np.float64).max)


def plain(array: Floats | Ints) -> list[Any]:
    """A table as nested lists of Python numbers; null for infinity."""
    return list(_written(np.asarray(array).tolist()))


class Fields:
    """The fields of one description. Everything but `kind` must be read before `done`; where names what is read in errors."""

    def __init__(self, described: Mapping[str, Any], where: str) -> None:
        self.described, self.where = described, where
        self._read = {"kind"}

    def word(self, name: str, known: Sequence[str]) -> str:
        """One of a few words."""
        value = self._take(name)
        if value not in known:
            raise self.broken(name, "one of " + ", ".join(known), repr(value))
        return str(value)

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise self.broken(name, "true or false", repr(value))
        return value

    def count(self, name: str) -> int:
        """A whole number from 0 on."""
        return int(self._numbers(name, 0, whole=True))

    def counts(self, name: str) -> Ints:
        """[any] whole numbers from 0 on."""
        return self._numbers(name, 1, whole=True)

    def number(self, name: str, *, endless: bool = False) -> float:
        """A finite number; endless: or null, for infinity."""
        return float(self._numbers(name, 0, endless=endless))

    def numbers(self, name: str, ndim: int = 1, *, endless: bool = False) -> Floats:
        """A table of finite numbers with so many dimensions; endless: or null, for infinity."""
        return self._numbers(name, ndim, endless=endless)

    def done(self) -> None:
        """Raises InputError for a field that nobody asked for."""
        if unknown := [name for name in self.described if name not in self._read]:
            raise InputError(f"field {unknown[0]!r} is unknown", where=self.where, expected=", ".join(sorted(self._read)), mend=MEND)

    def broken(self, name: str, expected: str, found: str) -> InputError:
        return InputError(f"field {name!r} is broken", where=self.where, expected=expected, found=found, mend=MEND)

    def _take(self, name: str) -> Any:
        if name not in self.described:
            raise InputError(f"field {name!r} is missing", where=self.where, found=", ".join(map(str, self.described)), mend=MEND)
        self._read.add(name)
        return self.described[name]

    def _numbers(self, name: str, ndim: int, *, whole: bool = False, endless: bool = False) -> Any:
        value = self._take(name)
        kind = "whole numbers from 0 on" if whole else "finite numbers" + (" or null" if endless else "")
        expected = f"{kind}, {('one', 'a list', 'a list of equal lists')[ndim]}"
        if (found := _first(value, ndim, whole=whole, endless=endless)) is not None:
            raise self.broken(name, expected, found)
        if ndim == 2 and len({len(row) for row in value}) > 1:
            raise self.broken(name, expected, "lists of different lengths")
        if whole:
            return np.array(value, dtype=np.int64)
        return np.array(_filled(value), dtype=np.float64).reshape((0, 0) if ndim == 2 and not value else np.shape(value))


def _written(value: Any) -> Any:
    """Null for infinity, at any depth."""
    return [_written(item) for item in value] if isinstance(value, list) else None if value == np.inf else value


def _filled(value: Any) -> Any:
    """Infinity for null, at any depth."""
    return [_filled(item) for item in value] if isinstance(value, list) else np.inf if value is None else value


def _first(value: Any, ndim: int, *, whole: bool, endless: bool) -> str | None:
    """The first thing in a nested list that does not belong there, in words."""
    if ndim:
        if not isinstance(value, list):
            return f"{type(value).__name__} {value!r:.40}"
        return next((found for item in value if (found := _first(item, ndim - 1, whole=whole, endless=endless)) is not None), None)
    if value is None and endless:
        return None
    fits = isinstance(value, int) and 0 <= value < WIDEST if whole else isinstance(value, int | float) and abs(value) <= LARGEST
    return f"{value!r:.40}" if isinstance(value, bool) or not fits else None
