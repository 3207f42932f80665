"""Reads an answer without knowing its task: numbers, sums that can be checked, the final answer, options. Nothing is evaluated as code.

Linear in the length of a text: no pattern can be matched from one start in more than one way that matters, and expressions are cut off.
Standard library alone, so that a gateway reads an answer as the training did.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

READ = 24_000  # characters of a text that are read, half of them from its end
TERMS = 64  # numbers and operators of one expression
LARGEST = 1e15  # a number beyond is no quantity of a text's

_CHARS = str.maketrans(
    {
        "\N{MULTIPLICATION SIGN}": "*",
        "\N{DIVISION SIGN}": "/",
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{ASTERISK OPERATOR}": "*",
        "\N{DOT OPERATOR}": "*",
        "\N{ALMOST EQUAL TO}": "=",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "$": None,
        "\u20ac": None,
        "\u00a3": None,
    }
)
_MARKS = re.compile(
    r"(?P<times>\\(?:times|cdot|ast)(?![a-z])|\\\*)|(?P<over>\\div(?![a-z]))|(?P<equal>\\approx(?![a-z]))"
    r"|\\[dt]?frac\{(?P<above>[0-9.,]{1,20})\}\{(?P<below>[0-9.,]{1,20})\}"
    r"|(?P<calculator><<[^<>\n]{0,200}>>)|(?P<drop>\*\*|\\[,!;:()\[\]]|\\(?=[%#&]))|(?P<comma>\{,\})|(?P<line>\\n)"
)
_BETWEEN = re.compile(r"(?<=[0-9)])[ ]?x[ ]?(?=[0-9(])")
# "18 miles * 5": the unit of a number that an operator follows
_UNIT = re.compile(r"(?<=[0-9]) ?[A-Za-z]{2,20}(?:/[A-Za-z]{1,20})?(?= ?[-+*/=])")
_NUMBER = re.compile(r"(?<![\w.])(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![\w.])\.[0-9]+")
_AMOUNT = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
_SEGMENT = re.compile(rf"(?:{_AMOUNT}|[-+*/^(])(?:{_AMOUNT}|[-+*/^()%]| )*+")
_TERM = re.compile(rf"(?P<number>{_AMOUNT})|(?P<mark>\*\*|[-+*/^()%])| +")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_SYMBOL = re.compile(r"(?: ?(?:\\|\(|\[|\{|sqrt|pi\b|log|sin|cos|[a-zA-Z]\b))|[\w!{\\^]")  # what makes a number part of an algebraic term

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve"
NUMBER_WORDS = {word: float(value) for value, word in enumerate(_UNITS.split())}
NUMBER_WORDS |= {"fifteen": 15.0, "twenty": 20.0, "thirty": 30.0, "fifty": 50.0, "hundred": 100.0, "thousand": 1000.0, "dozen": 12.0}
NUMBER_WORDS |= {"half": 0.5, "twice": 2.0, "double": 2.0, "doubled": 2.0, "triple": 3.0, "thrice": 3.0, "quarter": 0.25, "third": 3.0}


def cut(text: str) -> str:
    """The text, or its beginning and end where it is longer than READ."""
    return text if len(text) <= READ else text[: READ // 2] + text[-READ // 2 :]


def plain(text: str) -> str:
    """With plain signs for operators, without currency signs, bold marks, calculator notes and the commonest LaTeX."""
    text = _MARKS.sub(_mark, text.translate(_CHARS))
    return _BETWEEN.sub("*", text)


def _mark(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "below":
        return f"({match['above']})/({match['below']})"
    return {"times": "*", "over": "/", "equal": "=", "comma": ",", "line": "\n"}.get(kind or "", "")


def value(digits: str) -> float:
    """The number of one match; NaN for one without end."""
    if len(digits) > 40:
        return float("nan")
    found = float(digits.replace(",", ""))
    return found if found <= LARGEST else float("nan")


def numbers(text: str) -> list[float]:
    """The numbers of a plain text without their signs, in order."""
    return [found for match in _NUMBER.finditer(text) if (found := value(match[0])) == found]


def words(text: str) -> list[str]:
    return _WORD.findall(text)


# ---- sums


@dataclass(frozen=True)
class Equation:
    """left = right as they stand in a text, both of numbers; exact: they are equal; rounded: right is left in fewer digits; at: where."""

    left: float
    right: float
    exact: bool
    rounded: bool
    at: int


def equations(text: str) -> list[Equation]:
    """Every a = b of a plain text in which both sides are sums of numbers and one of them is more than a number."""
    text = _UNIT.sub("", text)
    found: list[Equation] = []
    before: tuple[int, float | None, int] | None = None  # end, value and terms of the segment before
    for match in _SEGMENT.finditer(text):
        whole, (begin, end) = match[0].rstrip(" (+*/^-"), match.span()
        end = begin + len(whole)
        measured, terms = _segment(text, whole, begin, end)
        if before is not None and measured is not None and before[1] is not None and terms + before[2] > 2:
            gap = text[before[0] : begin]
            if gap.strip() == "=" and len(gap) <= 4:
                found.append(_equation(before[1], measured, whole, begin))
        before = (end, measured, terms)
    return found


def _segment(text: str, whole: str, begin: int, end: int) -> tuple[float | None, int]:
    """(value, terms); None where it is part of an algebraic term."""
    if begin and (text[begin - 1].isalnum() or text[begin - 1] in "\\}_"):
        return None, 0
    if whole[:1] in "+*/^-" and (lead := text[max(0, begin - 2) : begin].rstrip()) and (lead[-1].isalnum() or lead[-1] in ")}"):
        return None, 0
    if _SYMBOL.match(text, end):
        return None, 0
    return evaluated(whole)


def _equation(left: float, right: float, written: str, at: int) -> Equation:
    exact = abs(left - right) <= 1e-6 * max(1.0, abs(left)) or abs(100 * left - right) <= 1e-4 or abs(left - 100 * right) <= 1e-4
    fraction = written.rpartition(".")[2] if "." in written else ""
    decimals = len(fraction) if fraction.isdecimal() else 0
    return Equation(left, right, exact, not exact and abs(left - right) <= 0.51 * 10.0**-decimals and left != round(left), at)


def evaluated(expression: str) -> tuple[float | None, int]:
    """(value, how many numbers) of a sum in figures, + - * / ^ % and brackets; (None, 0) where it is none."""
    output: list[float] = []
    waiting: list[str] = []
    wanted, at, count = True, 0, 0  # wanted: whether a number must come next
    while at < len(expression):
        match = _TERM.match(expression, at)
        if match is None or len(output) + len(waiting) > TERMS:
            return None, 0
        at = match.end()
        if match["number"]:
            if not wanted:
                return None, 0
            output.append(value(match[0]))
            wanted, count = False, count + 1
        elif match["mark"]:
            state = _operator(match["mark"], wanted, output, waiting)
            if state is None:
                return None, 0
            wanted = state
    if wanted:
        return None, 0
    while waiting:
        if waiting[-1] == "(" or not _apply(waiting.pop(), output):
            return None, 0
    known = len(output) == 1 and abs(output[0]) <= LARGEST  # NaN fails
    return (output[0], count) if known else (None, 0)


_RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "~": 3, "^": 4}


def _operator(mark: str, wanted: bool, output: list[float], waiting: list[str]) -> bool | None:
    """Takes one mark in; whether a number must come next, None where it cannot stand here (Dijkstra's shunting yard)."""
    mark = "^" if mark == "**" else mark
    if mark == "(":
        waiting.append("(")
        return True if wanted else None
    if wanted and mark != "-":
        return None
    if wanted:
        waiting.append("~")
        return True
    if mark == "%":
        output[-1] /= 100
        return False
    if mark == ")":
        while waiting and waiting[-1] != "(":
            if not _apply(waiting.pop(), output):
                return None
        return False if waiting and waiting.pop() else None
    while waiting and waiting[-1] != "(" and _RANK[waiting[-1]] >= _RANK[mark] and mark != "^":
        if not _apply(waiting.pop(), output):
            return None
    waiting.append(mark)
    return True


def _apply(mark: str, output: list[float]) -> bool:
    """Works one operator out, where it can be."""
    if mark == "~":
        output[-1] = -output[-1]
        return True
    right, left = output.pop(), output.pop()
    if mark == "/":
        output.append(left / right if right else float("nan"))
    elif mark == "^":
        output.append(left**right if 0 <= right <= 20 and abs(left) <= 1000 else float("nan"))
    else:
        output.append(left * right if mark == "*" else left + right if mark == "+" else left - right)
    return output[-1] == output[-1] and isinstance(output[-1], float)


# ---- the final answer

FINALS = ("json", "hashes", "boxed", "stated", "line")
_JSON = re.compile(r'"answer"\s{0,9}:\s{0,9}(?:"(?P<text>[^"\n]{0,400})"|(?P<bare>[^,}\n"]{1,80}))')
_HASHES = re.compile(r"####([^\n]{0,400})")
_BOXED = re.compile(r"\\boxed ?\{((?:[^{}\n]|\{[^{}\n]{0,80}\}){0,200})\}")
_STATED = re.compile(
    r"\b(?:answer|choice|option|solution|result)(?: (?:is|should be|must be|would be)|:)[ :]{0,3}([^\n]{1,200})", re.IGNORECASE
)
_LETTER = re.compile(r"(?<![A-Za-z0-9'])\(?([A-J])\)?(?![A-Za-z0-9'])")
_OPTION = re.compile(r"^[ \t]{0,8}\(?([A-J])[.):][ \t]{0,8}(\S[^\n]{0,2000})$", re.MULTILINE)


def final(text: str) -> tuple[str, int, int, int]:
    """(final answer, its kind in FINALS, where it stands, how many different ones are stated) of an answer.

    By the clearest mark: a JSON "answer", "####", \\boxed{}, "the answer is ...", else the last line that is not empty.
    """
    for kind, pattern in enumerate((_JSON, _HASHES, _BOXED, _STATED)):
        matches = list(pattern.finditer(text))
        if matches:
            said = [next(part for part in match.groups() if part is not None).strip().rstrip(".") for match in matches]
            return said[-1], kind, matches[-1].start(), len({part.lower() for part in said})
    line = text.rstrip().rpartition("\n")[2]
    return line.strip()[-400:], len(FINALS) - 1, max(0, len(text.rstrip()) - len(line)), 1


def letter(said: str) -> str:
    """The option that a final answer names, "" for none."""
    match = _LETTER.search(said)
    return match[1] if match else ""


# ---- the question


@dataclass(frozen=True)
class Question:
    """What is read of a query once, for all its answers."""

    text: str
    low: str
    words: frozenset[str]
    numbers: tuple[float, ...]
    options: tuple[tuple[str, str], ...]  # (letter, text)


def question(text: str) -> Question:
    """What is read of a query. It keeps nothing: who asks for many answers to one query keeps the result."""
    short = plain(cut(text))
    low = short.lower()
    found = words(low)
    spelled = [NUMBER_WORDS[word] for word in found if word in NUMBER_WORDS]
    options = tuple((match[1], match[2].strip()) for match in _OPTION.finditer(short))
    distinct = options if len(options) > 1 and len({name for name, _ in options}) == len(options) else ()
    return Question(short, low, frozenset(found), tuple(numbers(short) + spelled), distinct)
