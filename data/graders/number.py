"""Grades by the final number of an answer, as data/grading.py reads it, within a tolerance, or by whether it lies in a range."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

from routewright.core.types import InputError
from routewright.data.graders._text import tail
from routewright.data.grading import final_number

PERCENTS = ("drop", "fraction")
WIDEST = 1000  # decimal places before and after the point; a longer number is no answer

# 28 digits, as data/grading.py computes, but no exponent overflows and no signal is raised
_ARITHMETIC = Context(prec=28, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_PERCENT = re.compile(r"(?<![0-9/.,])([0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+) ?\\?%")


@dataclass(frozen=True, kw_only=True)
class Number:
    """1 where the final number of the answer is the gold's, else 0. With needs_gold=false: 1 where it lies in [low, high].

    reader: for answers without any mark, one of data.grading.READERS. percent: "drop" reads 25% as 25, "fraction" as 0.25. A number is
    right within max(absolute, relative * |gold|). low and high: of the range; null for none. Reads the last 1,000,000 characters.
    """

    needs_gold: bool = True
    reader: str = "last_number"
    percent: str = "drop"
    absolute: float = 1e-6
    relative: float = 1e-6
    low: float | None = None
    high: float | None = None

    def extract(self, answer: str) -> str | None:
        """The number in decimal digits, rounded to 28 of them: "0.5" for .50, 1/2 and 50/100. Raises InputError for an unknown setting."""
        value = self._read(answer)
        return None if value is None else _spell(value)

    def grade(self, answer: str, gold: str, *, question: str = "") -> float:
        """1 or 0. Raises InputError where the gold holds no number, for an impossible tolerance, and for a range without bounds."""
        value = self._read(answer)
        if not self.needs_gold:
            return float(self._in_range(value))
        right = self._read(gold)
        if right is None:
            raise InputError(
                "a gold answer holds no number", expected=f"text that ends in a number below 10^{WIDEST}", found=repr(gold[:200])
            )
        if not (self.absolute >= 0 and self.relative >= 0):
            raise InputError(
                "a tolerance is impossible",
                expected="absolute >= 0 and relative >= 0",
                found=f"absolute={self.absolute}, relative={self.relative}",
            )
        with localcontext(_ARITHMETIC):
            allowed = max(Decimal(str(self.absolute)), Decimal(str(self.relative)) * abs(right))
            return float(value is not None and abs(value - right) <= allowed)

    def _in_range(self, value: Decimal | None) -> bool:
        if self.low is None and self.high is None:
            raise InputError(
                "the number grader has nothing to compare with",
                expected="low or high, or both, where needs_gold is false",
                found="neither",
                mend="Set grader.low and grader.high.",
            )
        if value is None:
            return False
        return (self.low is None or value >= Decimal(str(self.low))) and (self.high is None or value <= Decimal(str(self.high)))

    def _read(self, text: str) -> Decimal | None:
        if self.percent not in PERCENTS:
            raise InputError("unknown reading of percentages", expected="one of " + ", ".join(PERCENTS), found=repr(self.percent))
        text = tail(text)
        if self.percent == "fraction":
            text = _PERCENT.sub(r"\1/100", text)
        with localcontext(_ARITHMETIC):
            value = final_number(text, reader=self.reader)
            if value is None or not value.is_finite() or (value and abs(value.adjusted()) >= WIDEST):
                return None
            return +value  # rounded as a computed fraction is


def _spell(value: Decimal) -> str:
    """Plain digits without an exponent, superfluous zeros or a negative zero."""
    digits = format(value, "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits in ("-0", "0", "") else digits
