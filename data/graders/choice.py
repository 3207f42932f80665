"""Grades multiple-choice answers by the letter they state.

Evidence, strongest first; the first kind that is there decides:

1. A statement: "The answer is (B)", "Answer: B", "\\boxed{B}", "I choose B", "B is correct", "no, B". The last one counts.
2. A last line, or a whole answer, that is a letter alone: "B", "(b).".
3. An answer that begins with an option: "B) Paris", "(B) Paris", "B. Paris".
4. With unmarked=true, the last letter that is mentioned: "(B)", else "B". The article A and the pronoun I are no letters.

Where the deciding place names several letters ("A and B", "A or B"), no answer is read: a guess would be a coin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from routewright.core.types import InputError
from routewright.data.graders._text import nfkc, tail

# what follows an invented next question is no answer to ours
_RUN_ON = re.compile(r"\n[^\S\n]*(?:Q|Question)[^\S\n]*[0-9]*[^\S\n]*:", re.IGNORECASE)
_UNWRAP = (
    (re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathsf|mathit|bm|rm)\b\s*+"), " "),
    (re.compile(r"\\[()\[\],;!: ]|[*`$]|__|\\(?=[()$])|^[ \t]*+#++", re.MULTILINE), " "),
)

_OPENING = (
    r"(?:[\s\"'{<>\u201c\u2018:=]{1,30}+|[-\u2013\u2014>]\s|\\boxed\b|(?:the|option|options|choice|letter|statement|answer|is|be)\b\s)"
)
_HEDGE = (
    r"(?:(?:therefore|thus|likely|most|clearly|definitely|probably|indeed|then|simply|actually|hence|most\s+likely|still|also|"
    r"given\s+by|either|both)\b,?\s)"
)
_LEAD = rf"(?i:(?:{_OPENING}|{_HEDGE}){{0,24}}+)"  # bounded, or a text of such words alone would be read n^2 times
# an answer is stated to be something, after at most a phrase ("the answer to the question is")
_SAID = (
    r"answer(?:s|\s+choice|\s+option|\s+letter)?\b(?:\s+(?:to|for|of|in|from|among)\s[^.:?!\n]{0,120}?)?\s*+"
    r"(?:\b(?:is|are|would\s+be|should\s+be|must\s+be|will\s+be|could\s+be|might\s+be|may\s+be|(?:seems|appears)\s+to\s+be)\b|[:=]|[-\u2013\u2014>])"
    r"|(?:correct|right|best|appropriate|accurate|suitable)\s+(?:option|choice|letter|statement|one)\b"
    r"(?:\s+(?:to|for|of|in|from|among)\s[^.:?!\n]{0,120}?)?\s*+(?:\b(?:is|are|would\s+be|must\s+be|should\s+be)\b|[:=])"
    r"|\\f?boxed\b"
)
# what states a letter loosely: the next word may be an article or a pronoun
_MEANT = (
    r"\bI(?:'ll|\u2019ll|\s+will|\s+would|'d|\u2019d)?\s+"
    r"(?:choose|pick|select|say|go\s+with|went\s+with|chose|vote\s+for|think|believe|guess)\b(?:\s+(?:it\s+is|it's|that)\b)?"
    r"|\b(?:no|wait|rather|instead|correction|sorry|i\s+mean|actually)\b[,:.;!\s-]++"
)
# a mention that goes on with what only a statement goes on with
_AFFIRMED = re.compile(
    r"\s+(?:is|seems|appears\s+to\s+be|must\s+be)\s+(?:(?:clearly|definitely|therefore|thus|also|indeed|probably|most\s+likely)\s+)?"
    r"(?:the\s+)?(?:(?:most|only|one)\s+)?(?:correct|right|best|accurate|appropriate|the\s+answer)\b",
    re.IGNORECASE,
)
_NOT_A_WORD = r"(?<![\w.'\u2019\\^_+/%=\u00b0-])"
_PRONOUN = (
    r"(?!['\u2019]"
    r"|\s+(?:think|believe|am|was|will|would|do|don|did|can|cannot|could|choose|chose|pick|have|know|guess|say|see|need|must)\b)"
)
_LISTED = (
    r"(?:\s*+(?:,\s*(?:and|or)\b|\band/or\b|\band\b|\bor\b|[&/+])\s*"
    r"|\s*+,\s*(?=[(\[]?[A-Za-z][)\]]?\s*(?:[.,;)\]}\n&]|$|\b(?:and|or)\b)))"
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """1 where the letter that the answer states is the gold's, else 0; an answer without one letter is 0.

    letters: of the options, capital. unmarked: whether the last letter that is merely mentioned counts where none is stated. Reads the
    last 1,000,000 characters.
    """

    needs_gold: ClassVar[bool] = True
    letters: str = "ABCDEFGHIJ"
    unmarked: bool = True

    def extract(self, answer: str) -> str | None:
        """The capital letter; None where there is none or there are several. Raises InputError for impossible letters."""
        text = tail(answer)
        for pattern, plain in _UNWRAP:
            text = pattern.sub(plain, text)
        text = nfkc(text).strip()
        own = text[: run_on.start()].rstrip() if (run_on := _RUN_ON.search(text)) else text
        found = self._find(own)
        if not found and own is not text:
            found = self._find(text)
        return found.pop() if len(found) == 1 else None

    def grade(self, answer: str, gold: str, *, question: str = "") -> float:
        """1 or 0. Raises InputError where the gold is not one of the letters, bare or as (B), B. or B)."""
        right = nfkc(gold).strip().strip("()[].:").upper()
        if len(right) != 1 or right not in self.letters:
            raise InputError(
                "a gold answer is no letter of an option",
                expected=f"one of {', '.join(self.letters)}",
                found=repr(gold[:200]),
                mend="Give the letter, or set grader.letters.",
            )
        return float(self.extract(answer) == right)

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        if not self.letters.isalpha() or not self.letters.isascii() or not self.letters.isupper():
            raise InputError("the letters of the options are impossible", expected="capital letters, A to Z", found=repr(self.letters))
        capital, small = self.letters, self.letters.lower()
        end = r"(?![\w'\u2019^(+%#]|\s*=|-\w)"  # of a letter: no word, function, degree or equation goes on
        bare = rf"(?:(?!I\b)[{capital}]{end}|(?:(?=I\b)[{capital}]){end}{_PRONOUN})"
        # small letters are words and variables too, so they count in brackets and before a stop only
        marked = rf"(?:[(\[]\s*[{capital}{small}]\s*[)\]]|[{small}](?=\s*(?:[.,;:)\]}}!\n]|$)){end}|{bare})"
        listed = rf"{marked}(?:{_LISTED}{_LEAD}{marked})*+"
        # "A car" and "I made" are no letters, but "A because" is one
        free = rf"(?:{bare}(?:(?<![AI])|(?<=[AI])(?:(?!\s+[a-z0-9])|(?=\s+(?:and|or|because|since|is|as)\b))))"
        meant = rf"(?:[(\[]\s*[{capital}{small}]\s*[)\]]|{free})"
        loose = rf"{_NOT_A_WORD}{free}"
        return {
            "said": re.compile(rf"(?i:{_SAID}){_LEAD}(?P<said>{listed})"),
            "meant": re.compile(rf"(?i:{_MEANT}){_LEAD}(?P<said>{meant}(?:{_LISTED}{_LEAD}{meant})*+)"),
            "mentioned": re.compile(rf"{_NOT_A_WORD}(?P<said>(?:[(\[][{capital}{small}][)\]]|{bare})(?:{_LISTED}{_LEAD}{marked})*+)"),
            "alone": re.compile(rf"(?:(?:[Oo]ption|[Cc]hoice)\s+)?[(\[{{\"']*([{capital}{small}])[)\]}}\"']*\s*[.:)]?[\"']?"),
            "begins": re.compile(rf"(?:[(\[]([{capital}{small}])[)\]]|([{capital}])(?:[.):](?=\s)|\s+[-\u2013\u2014]\s))"),
            "bracketed": re.compile(rf"(?<![\w)])[(\[]([{capital}])[)\]](?:{_LISTED}{_LEAD}[(\[]?[{capital}]\b[)\]]?)*+"),
            "loose": re.compile(rf"{loose}(?:{_LISTED}{_LEAD}{loose})*+"),
            "letter": re.compile(rf"(?<![A-Za-z])[{capital}{small}](?![A-Za-z])"),
        }

    def _letters_of(self, text: str) -> set[str]:
        return {letter.upper() for letter in self._patterns["letter"].findall(text)}

    def _find(self, text: str) -> set[str]:
        """The letters named at the place that decides: none, one, or several."""
        patterns = self._patterns
        affirmed = (match for match in patterns["mentioned"].finditer(text) if _AFFIRMED.match(text, match.end()))
        statements = (patterns["said"].finditer(text), patterns["meant"].finditer(text), affirmed)
        stated = [last for matches in statements if (last := _last(matches)) is not None]
        if stated:
            return self._letters_of(max(stated, key=lambda match: match.start("said"))["said"])
        if alone := patterns["alone"].fullmatch(text.rpartition("\n")[2].strip()):
            return {alone[1].upper()}
        if begins := patterns["begins"].match(text):
            return {(begins[1] or begins[2]).upper()}
        for kind in ("bracketed", "loose") if self.unmarked else ():
            if (mention := _last(patterns[kind].finditer(text))) is not None:
                return self._letters_of(mention[0])
        return set()


def _last(matches: Iterable[re.Match[str]]) -> re.Match[str] | None:
    found = None
    for match in matches:
        found = match
    return found
