"""Reads the final number out of a free-text answer and compares it with the gold one. Standard library only; nothing is evaluated as code.

The convention is GSM8K's (Cobbe et al. 2021, arXiv 2110.14168): the solution ends in "#### x". Models often leave the mark out, so the next
best evidence follows in order: \\boxed{x}, "the answer is x", and then, by `reader`:

- "last_number": the last number of the text, as GSM8K graders have it. It misreads a closing sentence that repeats the question
  ("Sandy makes $64 from 16 glasses" reads 16).
- "conclusion": the result of the last calculation ("... = 64") where the closing sentence repeats it, else the last number.
"""

from __future__ import annotations

import re
from decimal import Decimal

from routewright.core.types import InputError

READERS = ("last_number", "conclusion")
TOLERANCE = Decimal("1e-6")  # relative: room for 1/3 against .3333333, none for a cent

_MINUS = str.maketrans(dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{FULLWIDTH HYPHEN-MINUS}\N{NON-BREAKING HYPHEN}", "-"))
_GROUP = r"[,\u00a0\u2009\u202f]"  # 1,000 and the thin spaces typesetters use
_DIGITS = rf"(?:[0-9]{{1,3}}(?:{_GROUP}[0-9]{{3}})+(?![0-9])|[0-9]+)"
_NUMBER = re.compile(
    # a minus after a digit, a letter or a bracket is a subtraction or a range
    r"(?:(?<![\w)\]}%.])(?P<minus>-))?(?:[$€£]\s?(?P<late_minus>-)?)?"
    rf"(?<![A-Za-z0-9_.])(?:(?P<whole>{_DIGITS})[ ](?=[0-9]+/[0-9]))?"
    rf"(?P<value>(?:{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,2}}(?![0-9]))?)"
    r"(?:/(?P<below>[0-9]+)(?![0-9]))?"
)
_LATEX = (
    (re.compile(r"\\[dt]?frac\s*\{([0-9.,]+)\}\s*\{([0-9.,]+)\}"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,!;: ]|\*\*"), ""),
    (re.compile(r"\\([$%#])"), r"\1"),
)
# some completions run on into further invented questions: what follows the first one is no answer to ours
_RUN_ON = re.compile(r"\n[^\S\n]*(?:Q|Question)\s*[0-9]*\s*:", re.IGNORECASE)  # from the last line break on, or blank lines cost n^2
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_EQUALS = re.compile(r"[=\N{ALMOST EQUAL TO}]")
_ANSWER_IS = re.compile(r"\banswer(?:\s+is|\s*:)([^\n]*)", re.IGNORECASE)


def _value(match: re.Match[str]) -> Decimal | None:
    """The Decimal of one match of _NUMBER; None for a fraction over zero."""
    value = Decimal(re.sub(_GROUP, "", match["value"]))
    if match["below"] is not None:
        below = Decimal(match["below"])
        if below == 0:
            return None
        value /= below
    if match["whole"] is not None:
        value += Decimal(re.sub(_GROUP, "", match["whole"]))
    return -value if match["minus"] or match["late_minus"] else value


def _numbers(text: str) -> list[Decimal]:
    return [value for match in _NUMBER.finditer(text) if (value := _value(match)) is not None]


def _stated(segment: str) -> Decimal | None:
    """The number a mark points at: the first one, but after the last equals sign where a calculation follows the mark."""
    found = _numbers(_EQUALS.split(segment)[-1]) or _numbers(segment)
    return found[0] if found else None


def _concluded(text: str) -> Decimal | None:
    """The result of the last calculation, if the closing sentence states it; else None."""
    _, *results = _EQUALS.split(text)
    result = _numbers(results[-1]) if results else []
    return result[0] if result and result[0] in _numbers(_SENTENCE.split(text)[-1]) else None


def _clean(text: str) -> str:
    """One answer, with plain minus signs and without LaTeX or bold marks."""
    text = text.strip().translate(_MINUS)
    text = text[: run_on.start()] if (run_on := _RUN_ON.search(text)) else text
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text.strip()


def final_number(text: str, *, reader: str = "last_number") -> Decimal | None:
    """The number this answer ends on, or None where there is none. reader: one of READERS, for answers without any mark.

    Reads thousands separators, $ and %, decimals, fractions (3/4, 1 1/2), negatives with any minus sign, LaTeX and bold marks. Units and
    percent signs are dropped: "25%" is 25. Text after an invented next question ("Q: ...") is not read. Raises InputError for an
    unknown reader.
    """
    if reader not in READERS:
        raise InputError("unknown reader of final numbers", expected="one of " + ", ".join(READERS), found=repr(reader))
    text = _clean(text)
    marked = text.rpartition("####")
    segments = [marked[2].strip().partition("\n")[0]] if marked[1] else []
    for pattern in (_BOXED, _ANSWER_IS):
        segments += [found[-1]] if (found := pattern.findall(text)) else []
    for segment in segments:
        if (number := _stated(segment)) is not None:
            return number
    if reader == "conclusion" and (number := _concluded(text)) is not None:
        return number
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def numbers_equal(answer: str, gold: str, *, reader: str = "last_number") -> bool:
    """Whether the final number of `answer` is the gold number; an answer without a number is wrong.

    Raises InputError where `gold` holds no number.
    """
    right = final_number(gold)
    if right is None:
        raise InputError("a gold answer holds no number", expected="text that ends in a number", found=repr(gold))
    given = final_number(answer, reader=reader)
    return given is not None and abs(given - right) <= TOLERANCE * max(Decimal(1), abs(right))
