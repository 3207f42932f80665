"""Confidence signals from calls: log-probabilities, agreement of samples, self-reports. Pure functions, NaN where they cannot tell."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction

import numpy as np

from routewright.core.types import InputError

# names in Outcomes.signals; verifier is a grader's that needs no gold answer
SIGNALS = (
    *("logprob_mean", "logprob_min", "logprob_span", "logprob_entropy"),
    *("agreement", "majority", "meaning", "meaning_entropy", "self_reported", "verifier"),
)
KINDS = ("scale", "percent")
NAN = float("nan")
ROUNDING = 1e-4  # a log-probability this much above 0 is a float32's rounding; more is no log-probability
MASS = 1e-3  # probabilities that sum to more than this above 1 are of no one distribution


# ---- log-probabilities (natural logarithms)


def logprob_mean(logprobs: Sequence[float]) -> float:
    """Mean over the tokens of an answer, <= 0; NaN for no tokens and where a value is no finite log-probability."""
    values = _values(logprobs)
    return NAN if values is None else _mean(values)


def logprob_min(logprobs: Sequence[float]) -> float:
    """That of the least likely token, <= 0; NaN as in logprob_mean."""
    values = _values(logprobs)
    return NAN if values is None else float(values.min())


def logprob_span(logprobs: Sequence[float], pieces: Sequence[str], answer_text: str, span_text: str) -> float:
    """Mean over the tokens that overlap what counts in an answer, <= 0.

    pieces: the text of each token. span_text: what a grader extracted. Its last occurrence in answer_text is meant: literal, not within
    a word or a number; else in another case or spacing; else, where it is a number, the last number of the same value in other digits
    ("1,000" for "1000", "1/2" for "0.5"). NaN where there is none (an extraction in words of the grader's own), where the pieces do not
    spell the text, and where a value is no finite log-probability. Of the pieces, spaces and tokens around the text are let go, as are
    the marks of tokenizers for a space; the tokens that make up one character count together.
    """
    if len(logprobs) != len(pieces):
        return NAN
    span = find_span(answer_text, span_text)
    places = None if span is None else align(pieces, answer_text)
    if span is None or places is None:
        return NAN
    inside = [value for value, (begin, end) in zip(logprobs, places, strict=True) if begin < span[1] and end > span[0]]
    return logprob_mean(inside)


def entropy(logprobs: Sequence[float]) -> float:
    """Entropy in nats, >= 0, of a distribution by the log-probabilities of its likeliest outcomes (Shannon 1948); -inf is a chance of 0.

    What they leave of 1 counts as one more outcome: exact where they are all there is, else a lower bound, for outcomes told apart only add
    to an entropy. NaN for no outcomes, for what is no log-probability, and where the probabilities sum to more than 1.
    """
    values = np.asarray(logprobs, dtype=np.float64)
    if not len(values) or np.isnan(values).any() or (values > ROUNDING).any():
        return NAN
    chances = np.exp(np.minimum(values, 0.0))
    rest = 1.0 - float(chances.sum())
    if rest < -MASS:
        return NAN
    known = np.append(chances, max(rest, 0.0))
    known = known[known > 0]
    return max(0.0, float(-(known * np.log(known)).sum()))


def logprob_entropy(entropies: Sequence[float]) -> float:
    """Mean over the tokens of an answer of the entropy (nats, >= 0) of the distribution that each was taken from.

    High where the model saw many ways to go on, whichever it took. NaN for no tokens, and where one's is not known.
    """
    values = np.asarray(entropies, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all() or (values < -ROUNDING).any():
        return NAN
    return _mean(np.maximum(values, 0.0))


def _mean(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """The mean of equal floats may come out below all of them: not here."""
    return float(np.clip(values.mean(), values.min(), values.max()))


def _values(logprobs: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    values = np.asarray(logprobs, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all() or (values > ROUNDING).any():
        return None
    return np.minimum(values, 0.0)


_AMOUNT = re.compile(
    r"(?<![\w.,])[-\N{MINUS SIGN}]?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?:/[0-9]+)?(?![0-9])"
)
_UNSIGNED = r"(?<![^\w)\]][-\N{MINUS SIGN}])(?<!\A[-\N{MINUS SIGN}])"  # 5 is not in -5, but in 10-5 it is


def find_span(text: str, wanted: str) -> tuple[int, int] | None:
    """(begin, end) in characters of the last occurrence of `wanted` as logprob_span means it, or None."""
    words = wanted.split()
    if not words:
        return None
    first, last = words[0][0], words[-1][-1]
    before = r"(?<!\w)(?<![0-9][.,/])" if _worded(first) else r"(?<![\w)\]])" if first in "-\N{MINUS SIGN}" else ""
    before += _UNSIGNED if first.isdecimal() else ""
    after = r"(?!\w)(?![.,/][0-9])" if _worded(last) else ""
    for middle, flags in ((re.escape(wanted.strip()), re.NOFLAG), (r"\s{1,9}".join(map(re.escape, words)), re.IGNORECASE)):
        spans = [match.span() for match in re.finditer(before + middle + after, text, flags)]
        if spans:
            return spans[-1]
    value = _value(wanted.strip())
    if value is None:
        return None
    amounts = reversed(list(_AMOUNT.finditer(text)))
    return next((match.span() for match in amounts if _value(match[0]) == value), None)


def _worded(character: str) -> bool:
    """Whether its script sets words apart, so that an occurrence within one is another word."""
    return character.isdecimal() or character.lower() != character.upper()


def _value(text: str) -> Fraction | None:
    """A plain number, a decimal or a fraction of whole numbers, by its exact value."""
    above, slash, below = text.replace(",", "").replace("\N{MINUS SIGN}", "-").partition("/")
    if not re.fullmatch(r"-?(?:[0-9]{1,50}(?:\.[0-9]{0,50})?|\.[0-9]{1,50})", above) or (slash and not re.fullmatch("[0-9]{1,50}", below)):
        return None
    try:
        return Fraction(Decimal(above)) / (Fraction(below) if slash else 1)
    except (InvalidOperation, ZeroDivisionError):
        return None


# what servers and tokenizers write for a token that is part of a character; U+FFFD stands for one byte of it or up to three
_BYTES = re.compile(r"\ufffd|<0x[0-9A-Fa-f]{2}>|(?:bytes:)?\\x[0-9A-Fa-f]{2}")
_SPACES: tuple[dict[str, str], ...] = (
    {},
    {"\u2581": " "},
    {"\u0120": " ", "\u010a": "\n", "\u0109": "\t"},
)  # SentencePiece, byte-level BPE


def align(pieces: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """The characters (begin, end) of `text` that each piece makes, begin = end for none; None where the pieces do not spell the text."""
    if not text:
        return None
    for marks in _SPACES:
        table = str.maketrans(marks)
        spelled = [piece.translate(table) for piece in pieces]
        at = "".join(spelled).rfind(text)
        if at >= 0:
            edges = np.clip(np.cumsum([0, *map(len, spelled)]) - at, 0, len(text)).tolist()
            return _completed(list(itertools.pairwise(edges)), spelled)
        if any(_BYTES.search(piece) for piece in spelled) and (found := _resynchronised(_trimmed(spelled, text), text)) is not None:
            return _completed(found, spelled)
    return None


def _resynchronised(pieces: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """As align, where some pieces hold parts of characters: a run of parts makes the characters between its neighbours.

    None where a run could end in more than one place.
    """
    parts = [(i, part) for i, piece in enumerate(pieces) for part in _parts(piece)]
    made: list[tuple[int, int] | None] = [None] * len(pieces)
    at = begin = 0  # characters of text explained, the first of them after which the parts of a run are open
    opened: list[tuple[int, str]] = []
    for i, part in [*parts, (-1, "")]:
        if _BYTES.fullmatch(part):
            opened.append((i, part))
            continue
        places = _ends(text, at, [piece for _, piece in opened], part, last=i < 0) if opened else [at]
        if len(places) != 1 or not text.startswith(part, places[0]):
            return None
        begin, at = at, places[0] + len(part)
        for piece, low, high in (*((piece, begin, places[0]) for piece, _ in opened), (i, places[0], at)):
            if piece >= 0:
                before = made[piece]
                made[piece] = (low, high) if before is None else (before[0], high)
        opened = []
    return _filled(made) if at == len(text) else None


def _parts(piece: str) -> list[str]:
    """The piece cut into parts of characters and whole characters between them."""
    cut = [0, *(edge for match in _BYTES.finditer(piece) for edge in match.span()), len(piece)]
    return [piece[low:high] for low, high in itertools.pairwise(cut) if high > low]


def _ends(text: str, at: int, run: Sequence[str], following: str, *, last: bool) -> list[int]:
    """Where a run of parts that begins at `at` can end: after characters of several bytes, as many as it holds, before what follows it."""
    least, most = len(run), sum(3 if part == "\ufffd" else 1 for part in run)
    found: list[int] = []
    size, end = 0, at
    while size <= most:
        if size >= least and (end == len(text) if last else text.startswith(following, end)):
            found.append(end)
        if end == len(text) or text[end] < "\x80":
            break
        size, end = size + len(text[end].encode("utf-8", "surrogatepass")), end + 1
    return found


def _filled(places: Sequence[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """Pieces without a part of their own stand, without text, where the one before them ends."""
    made: list[tuple[int, int]] = []
    for place in places:
        made.append(place or ((made[-1][1],) * 2 if made else (0, 0)))
    return made


def _trimmed(pieces: Sequence[str], text: str) -> list[str]:
    """The pieces without the spaces around the text, where the text has none there; their number stays."""
    made = list(pieces)
    if not text[:1].isspace():
        for i, piece in enumerate(made):
            made[i] = piece.lstrip()
            if made[i]:
                break
    if not text[-1:].isspace():
        for i in reversed(range(len(made))):
            made[i] = made[i].rstrip()
            if made[i]:
                break
    return made


def _completed(places: list[tuple[int, int]], pieces: Sequence[str]) -> list[tuple[int, int]]:
    """A token without text of its own begins the character that the next one completes: both make it."""
    for i in range(len(places) - 2, -1, -1):
        if not pieces[i] and places[i + 1][0] == places[i][0]:
            places[i] = places[i + 1]
    return places


# ---- agreement of samples


def agreement(main: str | None, samples: Sequence[str | None]) -> tuple[float, float]:
    """(share of samples whose extract is the main answer's, share of the most common extract), both over all samples, in [0, 1].

    Self-consistency (Wang et al. 2022, arXiv 2203.11171). The main answer is not one of the samples. None, nothing extracted, agrees with
    nothing, another None included, but counts as a sample. (NaN, NaN) without samples.
    """
    if not samples:
        return NAN, NAN
    counts = Counter(sample for sample in samples if sample is not None)
    same = counts[main] if main is not None else 0
    return same / len(samples), max(counts.values(), default=0) / len(samples)


# ---- self-reports

_ASKED = {
    "scale": (
        "How sure are you that your answer is right? Reply with one whole number and nothing else: "
        "1 for a guess, 2 for more likely wrong than right, 3 for even odds, 4 for likely right, 5 for certain."
    ),
    "percent": (
        "How sure are you that your answer is right? Reply with one whole number from 0 to 100 and nothing else: "
        "out of a hundred answers that you are as sure of as this one, how many would be right?"
    ),
}
_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: float(i) for i, word in enumerate(_UNITS.split())} | {word: 10.0 * i for i, word in enumerate(_TENS.split(), start=2)}
_WORDS |= {f"{ten} {unit}": _WORDS[ten] + _WORDS[unit] for ten in _TENS.split() for unit in _UNITS.split()[1:10]}
_WORDS |= {"hundred": 100.0, "a hundred": 100.0, "one hundred": 100.0}

_LABEL = re.compile(
    r"^(?:my |the )?(?:confidence|certainty|score|rating|probability)?(?: level| score)?(?: is| of)?[ :=]{0,3}", re.IGNORECASE
)
_ECHO = {  # the range of the question, said again
    "scale": re.compile(
        r"(?:between |from )?\b(?:1|one) ?(?:to|-|and) ?(?:5|five)\b|(?<=[\w*]) ?(?:/|out of|of) ?(?:5|five)\b(?![.,]?[0-9])", re.IGNORECASE
    ),
    "percent": re.compile(
        r"(?:between |from )?\b(?:0|zero) ?%? ?(?:to|-|and) ?(?:100|a hundred)\b ?%?"
        r"|(?<=[\w*]) ?(?:/|out of|of) ?(?:100|a hundred)\b(?![.,]?[0-9])",
        re.IGNORECASE,
    ),
}
_FIGURE = re.compile(r"(?<![\w.,])([-+]?)([0-9]+(?:[.,][0-9]+)*|\.[0-9]+)( ?%| ?per ?cent)?(?!\w)", re.IGNORECASE)
# a bound, a denial, or the answer itself given again: no confidence
_HEDGE = re.compile(
    r"\b(?:not|never|less|more|below|above|under|over|at least|at most|neither|nor|cannot)\b|n't\b|\banswer(?: is|:| ?=) ?[-+$]?\.?[0-9]",
    re.IGNORECASE,
)


def confidence_messages(question: str, answer: str, kind: str) -> tuple[tuple[str, str], ...]:
    """The prompt that asks a model how sure it is of its own answer, which stands as its own turn. kind: one of KINDS, else InputError."""
    _known(kind)
    return (("user", question), ("assistant", answer), ("user", _ASKED[kind]))


def read_confidence(text: str, kind: str) -> float:
    """Confidence in [0, 1] from the reply to confidence_messages; NaN where it holds none, or more than one.

    scale: 1 .. 5 becomes 0 .. 1, linearly. percent: 0 .. 100 becomes 0 .. 1; a bare number below 1 with a decimal point ("0.85") is read as
    a share, for nobody means 0.85 %, "0.85%" as it says, "1" as 1 %, and "1.0" is NaN, for it may mean either. A reply's first or last
    line may be the number alone, in digits or words; else the whole text must hold one number, without words that make it a bound or a
    denial ("at least 80", "not 5"). Echoes of the range ("1 to 5", "out of 100") are let go; "between 3 and 4" is NaN.
    """
    _known(kind)
    plain = unicodedata.normalize("NFKC", text[:10_000]).replace("\N{EN DASH}", "-").replace("\N{EM DASH}", "-")
    lines = [_bare(line) for line in plain.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return NAN
    alone = {value for line in {lines[0], lines[-1]} if (value := _alone(line, kind)) is not None}
    if alone:
        return alone.pop() if len(alone) == 1 else NAN
    rest = _ECHO[kind].sub(" ", " ".join(lines))
    found = {_amount(match[1], match[2], match[3], kind) for match in _FIGURE.finditer(rest)}
    return found.pop() if len(found) == 1 and not _HEDGE.search(rest) else NAN


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise InputError("unknown kind of self-report", expected="one of " + ", ".join(KINDS), found=repr(kind))


def _alone(line: str, kind: str) -> float | None:
    """The confidence of a line that is nothing but it; None for any other line."""
    if len(line) > 60:
        return None
    line = _bare(" ".join(_ECHO[kind].sub("", _LABEL.sub("", line, count=1)).split()))
    if match := _FIGURE.fullmatch(line):
        return _amount(match[1], match[2], match[3], kind)
    word = re.sub(r" ?(?:%|per ?cent)$", "", line.lower())
    value = _WORDS.get(word.replace("-", " "))
    return None if value is None else _amount("", f"{value:g}", line.lower().removeprefix(word), kind)


def _bare(line: str) -> str:
    """Without the marks and brackets people put around a number; a leading point is part of it."""
    return line.strip(" \t*_`\"'[](){}").rstrip(".! *_")


def _amount(sign: str, digits: str, unit: str | None, kind: str) -> float:
    """One number as a confidence; NaN where it cannot be one."""
    digits = f"0{digits}" if digits.startswith(".") else digits
    if sign == "-" or not re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,20}|,[0-9]{1,2})?", digits):
        return NAN
    value = float(digits.replace(",", "."))
    if kind == "scale":
        return (value - 1) / 4 if 1 <= value <= 5 and not unit else NAN
    whole = digits.isdecimal()
    if not unit and not whole and 0 < value < 1:
        return value
    if not unit and not whole and value == 1:
        return NAN
    return value / 100 if value <= 100 else NAN
