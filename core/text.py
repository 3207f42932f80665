"""Texts as data: when two queries are the same question, and texts that are written short because they are long."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any


def normalise(text: str) -> str:
    """The text as compared: Unicode NFKC, case folded, every run of whitespace one space, none at the ends."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def numbered(values: Iterable[str]) -> list[int]:
    """A number for each distinct value, from 0 in order of first appearance."""
    first: dict[str, int] = {}
    return [first.setdefault(value, len(first)) for value in values]


def unfolded(entry: str | Sequence[Any]) -> str:
    """A golden text as it is meant: a string, or [piece, how often it stands]."""
    return entry if isinstance(entry, str) else str(entry[0]) * int(entry[1])
