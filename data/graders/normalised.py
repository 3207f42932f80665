"""Grades short free-text answers by equality after normalisation: case, Unicode forms, white space, punctuation, articles."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import regex  # type: ignore[import-untyped]

from routewright.core.types import InputError
from routewright.data.graders._text import nfkc

STYLES = ("unicode", "squad")
PUNCTUATION = ("keep", "edges", "strip")
LINES = ("all", "last")

_ASCII_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation))
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = regex.compile(r"[\p{P}\p{S}]+")
# what may stand around an answer and is no part of any: not the minus, the currency or the brackets of "-5", "$5", "f(x)"
_EDGES = (
    "*`\"'\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK} \t\n"
)
_TRAILING = _EDGES + ".,;:"
_PREFIX = re.compile(
    rf"(?:[{re.escape(_EDGES)}#]*+(?:so|thus|therefore|hence)?,?\s*+(?:(?:the|my)\s++)?(?:(?:final|correct|right|best)\s++)?"
    rf"answer(?:\s++(?:is|would\s++be)\b\s*+:?|[{re.escape(_EDGES)}]*+:))++"
)


@dataclass(frozen=True, kw_only=True)
class Normalised:
    """1 where the normalised answer is one of the gold alternatives, normalised alike, else 0.

    style: "unicode" folds compatibility forms (NFKC) and case of every script; "squad" folds as SQuAD's evaluation does: lower case, and
    ASCII punctuation where punctuation is stripped. With punctuation=strip, articles=true and prefixes=false it is SQuAD v1.1's
    normalize_answer (Rajpurkar et al. 2016, arXiv 1606.05250). separator: between alternatives in the gold; "" for none.
    """

    needs_gold: ClassVar[bool] = True
    style: str = "unicode"
    punctuation: str = "edges"
    articles: bool = False
    prefixes: bool = True
    line: str = "all"
    separator: str = "|"

    def extract(self, answer: str) -> str | None:
        """The normalised answer; None where nothing is left. Raises InputError for an unknown setting."""
        return self._normalise(self._line(answer)) or None

    def grade(self, answer: str, gold: str, *, question: str = "") -> float:
        """1 or 0. Raises InputError where an alternative of the gold is empty once normalised."""
        right = {}
        for alternative in gold.split(self.separator) if self.separator else [gold]:
            right[self._normalise(alternative)] = alternative
        if "" in right:
            raise InputError(
                "a gold answer is empty once normalised",
                expected="text" + (f", alternatives between {self.separator!r}" if self.separator else ""),
                found=repr(gold),
                mend="Leave the row out, or choose a milder normalisation.",
            )
        return float(self.extract(answer) in right)

    @cached_property
    def _checked(self) -> bool:
        for name, allowed in (("style", STYLES), ("punctuation", PUNCTUATION), ("line", LINES)):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"unknown {name} of the normalised grader", expected="one of " + ", ".join(allowed), found=repr(getattr(self, name))
                )
        return True

    def _line(self, answer: str) -> str:
        if self._checked and self.line == "last":
            return answer.rstrip().rpartition("\n")[2]
        return answer

    def _normalise(self, text: str) -> str:
        text = self._without_prefix(self._fold(text))
        if self.punctuation == "strip":
            text = text.translate(_ASCII_PUNCTUATION) if self.style == "squad" else _PUNCTUATION.sub("", text)
        if self.articles:
            text = _ARTICLES.sub(" ", text)
        return self._without_prefix(self._fold(text))  # what was apart may have become one letter, or a prefix

    def _fold(self, text: str) -> str:
        if self._checked and self.style == "squad":
            return text.lower()
        return nfkc(nfkc(text).casefold()).casefold()  # twice: what NFKC composes may fold again

    def _without_prefix(self, text: str) -> str:
        text = " ".join(text.split())
        if self.prefixes and (prefix := _PREFIX.match(text)):
            text = text[prefix.end() :]
        if self.punctuation == "edges":
            text = text.lstrip(_EDGES).rstrip(_TRAILING)
        return " ".join(text.split())
