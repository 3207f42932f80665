"""When two queries are the same question: one rule for splits, leakage and the bootstrap."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def normalise(text: str) -> str:
    """The text as compared: Unicode NFKC, case folded, every run of whitespace one space, none at the ends."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def numbered(values: Iterable[str]) -> list[int]:
    """A number for each distinct value, from 0 in order of first appearance."""
    first: dict[str, int] = {}
    return [first.setdefault(value, len(first)) for value in values]
