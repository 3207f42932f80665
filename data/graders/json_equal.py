"""Grades by the JSON value in an answer: equal to the gold's, or, as a verifier, there at all.

Read in this order: the whole answer, the last fenced block that is JSON, the last balanced object or array in the text. Numbers compare by
value (1 and 1.0 are equal), keys without their order. A value with NaN, Infinity, a duplicate key or more than DEEPEST levels is no value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from routewright.core.types import InputError
from routewright.data.graders._text import fenced_blocks, tail

DEEPEST = 100  # levels; far below Python's recursion limit, so that the result does not depend on who calls
PLAIN_ZEROS = 30  # numbers with more zeros at an end are spelled with an exponent
ATTEMPTS = 4  # times the text's length: what may be spent on parsing its parts, so that nested rubbish is not quadratic

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*+"?|[\[\]{}]')
_OPENER = re.compile(r"[\[{]")
_CLOSES = {"]": "[", "}": "{"}


@dataclass(frozen=True, kw_only=True)
class JsonEqual:
    """1 where the JSON value in the answer is the gold's, else 0. With needs_gold=false: 1 where there is one.

    ignore: keys that do not count, at any depth. any_order: lists compare as multisets. partial: where both are objects, the share of
    their keys, taken together, that hold equal values. needs_keys: top-level keys without which an answer is no answer. Reads the last
    1,000,000 characters.
    """

    needs_gold: bool = True
    ignore: Sequence[str] = ()
    any_order: bool = False
    partial: bool = False
    needs_keys: Sequence[str] = ()

    def extract(self, answer: str) -> str | None:
        """The value as JSON with sorted keys and without spaces; None where there is none or it lacks a needed key."""
        found = self._read(answer)
        return None if found is None else self._spell(found[0])

    def grade(self, answer: str, gold: str, *, question: str = "") -> float:
        """The share that is right. Raises InputError where the gold, as a whole, is not JSON."""
        found = self._read(answer)
        if not self.needs_gold:
            return float(found is not None)
        right = _parse(gold)
        if right is None:
            raise InputError(
                "a gold answer is not JSON",
                expected=f"one value without NaN or duplicate keys, at most {DEEPEST} levels deep",
                found=repr(gold[:200]),
            )
        if found is None:
            return 0.0
        if self.partial and isinstance(found[0], dict) and isinstance(right[0], dict):
            return self._share(found[0], right[0])
        return float(self._spell(found[0]) == self._spell(right[0]))

    def _share(self, given: dict[str, Any], right: dict[str, Any]) -> float:
        keys = (given.keys() | right.keys()) - set(self.ignore)
        equal = sum(key in given and key in right and self._spell(given[key]) == self._spell(right[key]) for key in keys)
        return equal / len(keys) if keys else 1.0

    def _read(self, answer: str) -> tuple[Any] | None:
        text = tail(answer)
        found = _parse(text)
        for _, body in reversed(fenced_blocks(text) if found is None else []):
            if (found := _parse(body)) is not None:
                break
        found = _last_balanced(text) if found is None else found
        if found is not None and self.needs_keys and not (isinstance(found[0], dict) and set(self.needs_keys) <= found[0].keys()):
            return None
        return found

    def _spell(self, value: Any) -> str:
        """One text for equal values; recursion is bounded by DEEPEST."""
        if isinstance(value, dict):
            items = (f"{json.dumps(key)}:{self._spell(value[key])}" for key in sorted(value.keys() - set(self.ignore)))
            return "{" + ",".join(items) + "}"
        if isinstance(value, list):
            parts = [self._spell(item) for item in value]
            return "[" + ",".join(sorted(parts) if self.any_order else parts) + "]"
        return _spell_number(value) if isinstance(value, Decimal) else json.dumps(value)


def _parse(text: str) -> tuple[Any] | None:
    """The one JSON value that this text is, in a tuple, or None. Numbers are exact Decimals."""
    if _too_deep(text):
        return None
    try:
        value = json.loads(text, parse_int=Decimal, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_without_duplicates)
    except (ValueError, ArithmeticError):  # ArithmeticError: an exponent that even Decimal cannot hold
        return None
    return (value,)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has a key twice")
    return value


def _too_deep(text: str) -> bool:
    depth = 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        depth += (mark in _CLOSES.values()) - (mark in _CLOSES)
        if depth > DEEPEST:
            return True
    return False


def _last_balanced(text: str) -> tuple[Any] | None:
    """The last object or array in the text that parses, an outer one before those within it."""
    budget = ATTEMPTS * len(text)
    for start, end in reversed(_balanced(text)):
        if (found := _parse(text[start:end])) is not None:
            return found
        budget -= end - start
        if budget < 0:
            break
    return None


def _balanced(text: str) -> list[tuple[int, int]]:
    """[start, end) of every balanced pair of brackets at most DEEPEST deep, ordered by end. Quotes count within brackets only."""
    spans: list[tuple[int, int]] = []
    stack: list[int] = []
    at = 0
    while (token := (_TOKEN if stack else _OPENER).search(text, at)) is not None:
        mark, at = token[0], token.end()
        if mark in _CLOSES.values():
            stack.append(token.start())
        elif mark in _CLOSES:
            if text[stack[-1]] == _CLOSES[mark]:
                spans.append((stack.pop(), at))
            else:
                stack.clear()  # crossed brackets are prose
        elif len(mark) == 1 or not mark.endswith('"'):
            stack.clear()  # and so is a quote that its line does not close
    return spans


def _spell_number(value: Decimal) -> str:
    """A JSON number: one spelling for one value, short for any exponent."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # JSON has no NaN
    plain = "".join(map(str, digits)).lstrip("0")
    stripped = plain.rstrip("0")
    if not stripped:
        return "0"
    exponent += len(plain) - len(stripped)
    minus = "-" if sign else ""
    if 0 <= exponent <= PLAIN_ZEROS:
        return f"{minus}{stripped}{'0' * exponent}"
    if -len(stripped) - PLAIN_ZEROS <= exponent < 0:
        padded = stripped.rjust(1 - exponent, "0")
        return f"{minus}{padded[:exponent]}.{padded[exponent:]}"
    return f"{minus}{stripped}E{exponent:+d}"
