"""What an answer says, as a cascade compares answers: sources whose answers are read by a rule of their own override it."""

from __future__ import annotations

from decimal import Decimal

from routewright.core.text import normalise


class Spoken:
    """said() for every source."""

    def said(self, answer: str) -> str | None:
        """The part of an answer that counts, in one spelling: equal strings mean the same answer. By default its normalised text."""
        return normalise(answer) or None


def spelled(number: Decimal | None) -> str | None:
    """One spelling of a number: 3.50, 3.5 and 35e-1 are the same."""
    return None if number is None else format(number.normalize(), "f")
