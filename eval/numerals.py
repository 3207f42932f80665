"""Numbers as text for reports: qualities, percentages, dollars, intervals; a missing value is an en dash, and a cell says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import Any

DASH = "–"
JOINED = "\u00a0"  # a number and its unit stay on one line
NOTHING = 5e-13  # USD; below this a difference is rounding


@dataclass(frozen=True)
class Cell:
    """One value of a table: its text, and a note beside it (an interval, or why the value is missing)."""

    text: str
    note: str = ""


def known(value: Any) -> bool:
    return value is not None and isfinite(value)


def quality(value: Any) -> str:
    return f"{value:.3f}" if known(value) else DASH


def percent(fraction: Any) -> str:
    return f"{100 * fraction:z.1f}{JOINED}%" if known(fraction) else DASH


def share(percentage: Any) -> str:
    return f"{percentage:z.1f}{JOINED}%" if known(percentage) else DASH


def points(difference: Any) -> str:
    """A difference of qualities in points of a hundredth, with its sign."""
    return f"{100 * difference:+z.2f}" if known(difference) else DASH


def usd(value: Any) -> str:
    """Dollars: cents from one dollar on, three digits below."""
    if not known(value):
        return DASH
    size = abs(value)
    if size >= 0.9995 or size < NOTHING:
        return f"{'-' if value < -NOTHING else ''}${size:,.2f}"
    places = 2 - floor(log10(size))
    return f"{'-' if value < 0 else ''}${size:.{places}f}"


def span(ci: Any, form: Callable[[Any], str]) -> str:
    """An interval as [low, high], or nothing where there is none."""
    return f"[{form(ci[0])}, {form(ci[1])}]" if ci is not None and all(known(end) for end in ci) else ""


def cell(value: Any, form: Callable[[Any], str], ci: Any = None, reason: str = "") -> Cell:
    """The value with its interval, or a dash with the reason."""
    return Cell(form(value), span(ci, form)) if known(value) else Cell(DASH, reason)


def legible(text: str) -> str:
    """Text without characters that HTML or UTF-8 forbids: controls and lone surrogates become the replacement sign."""
    return "".join("\ufffd" if _forbidden(ord(c)) and c not in "\t\n" else c for c in text)


def _forbidden(code: int) -> bool:
    return code < 32 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code in (0xFFFE, 0xFFFF)
