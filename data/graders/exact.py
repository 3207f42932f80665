"""Grades by string equality: for labels, codes and other answers that have one spelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from routewright.core.types import InputError


@dataclass(frozen=True, kw_only=True)
class Exact:
    """1 where the answer is the gold answer, character by character, else 0. strip: white space at both ends does not count."""

    needs_gold: ClassVar[bool] = True
    strip: bool = True

    def extract(self, answer: str) -> str | None:
        """The answer itself; None where it is empty."""
        return (answer.strip() if self.strip else answer) or None

    def grade(self, answer: str, gold: str, *, question: str = "") -> float:
        """1 or 0. Raises InputError for an empty gold."""
        right = self.extract(gold)
        if right is None:
            raise InputError("a gold answer is empty", expected="text", found=repr(gold), mend="Leave the row out: nothing can equal it.")
        return float(self.extract(answer) == right)
