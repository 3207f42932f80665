"""Grades by a pattern of the user's: the text it finds is compared with the gold, or finding it is enough."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import regex  # type: ignore[import-untyped]

from routewright.core.types import InputError
from routewright.data.graders._text import tail

if TYPE_CHECKING:
    from regex import Match, Pattern

FLAGS = {"a": regex.ASCII, "i": regex.IGNORECASE, "m": regex.MULTILINE, "s": regex.DOTALL, "x": regex.VERBOSE}
TAKES = ("first", "last")


@dataclass(frozen=True, kw_only=True)
class Regex:
    """1 where the group found in the answer is the gold, white space at both ends aside; with needs_gold=false: 1 where anything is found.

    pattern: of the `regex` package, searched anywhere. group: its number or name; 0 is the whole match. flags: letters of FLAGS.
    take: the first match or the last. timeout_s: a search that takes longer counts as finding nothing, so keep patterns simple: which
    answers run out of time depends on the machine. Reads the last 1,000,000 characters.
    """

    needs_gold: bool = True
    pattern: str
    group: int | str = 0
    flags: str = ""
    take: str = "last"
    timeout_s: float = 1.0

    def extract(self, answer: str) -> str | None:
        """The group's text, stripped; None where the pattern or the group finds nothing. Raises InputError for an unusable pattern."""
        found = self._search(tail(answer))
        return None if found is None or found[self.group] is None else str(found[self.group]).strip()

    def grade(self, answer: str, gold: str, *, question: str = "") -> float:
        """1 or 0. Raises InputError for an unusable pattern, and for an empty gold where one is needed."""
        found = self.extract(answer)
        if not self.needs_gold:
            return float(found is not None)
        if not gold.strip():
            raise InputError("a gold answer is empty", expected="the text that the pattern's group should find", found=repr(gold))
        return float(found == gold.strip())

    @cached_property
    def _compiled(self) -> Pattern[str]:
        unknown = sorted(set(self.flags) - set(FLAGS))
        if unknown or self.take not in TAKES:
            raise InputError(
                "unknown setting of the regex grader",
                expected="flags out of " + "".join(FLAGS) + " and take one of " + ", ".join(TAKES),
                found=f"flags={self.flags!r}, take={self.take!r}",
            )
        flags = 0
        for letter in self.flags:
            flags |= FLAGS[letter]
        try:
            compiled = regex.compile(self.pattern, flags)
        except (regex.error, RecursionError, OverflowError) as error:
            raise InputError("a pattern does not compile", where="the regex grader", found=f"{self.pattern!r}: {error}") from None
        if self.group not in compiled.groupindex and self.group not in range(compiled.groups + 1):
            raise InputError(
                "a pattern has no such group",
                where="the regex grader",
                expected=", ".join([*map(str, range(compiled.groups + 1)), *compiled.groupindex]),
                found=repr(self.group),
            )
        return compiled

    def _search(self, answer: str) -> Match[str] | None:
        compiled, found = self._compiled, None
        end = time.monotonic() + self.timeout_s  # the package's own limit is for one match, this one is for all
        try:
            for match in compiled.finditer(answer, timeout=self.timeout_s):
                found = match
                if self.take == "first":
                    break
                if time.monotonic() > end:
                    return None
        except TimeoutError:
            return None
        return found
