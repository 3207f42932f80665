"""What an answer's text tells about whether it is right, without knowing the task: a fixed list of numbers for each (query, answer).

NaN where a feature does not apply. Task-agnostic: what holds of sums, options or names is read wherever they stand. Numpy alone, and no
memory between calls, so that a gateway that runs for months keeps nobody's texts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from routewright.core.reading import FINALS, Equation, Question, cut, equations, final, letter, numbers, plain, question, words
from routewright.core.types import Floats

NAN = float("nan")

# phrases, each counted by itself
PHRASES = {
    "refuses": r"as an ai|language model|i'?m sorry|i apologi[sz]e|i (?:do not|don't) have"
    r"|i can(?:not|'t) (?:answer|provide|determine|assist|help)",
    "unknown": r"not (?:possible|enough|clear|specified|provided|sufficient|given)|cannot be determined|unable to|unclear|unknown"
    r"|no (?:record|information|such)|impossible|does not (?:exist|provide)",
    "unlisted": r"not (?:listed|among|one of|in the (?:options|list))|closest|no correct|error in the|typo|mistake in the"
    r"|none of the (?:above|options|given|choices|provided)",
    "hedges": r"\b(?:maybe|perhaps|might|possibl[ey]|likely|probably|approximate(?:ly)?|roughly|about|around|seems?|appears?|may|various"
    r"|generally|typically|usually|could|depends|i think|i believe)\b",
    "assumes": r"\b(?:assum\w{0,5}|suppose|guess|let's say|we (?:can )?refer)\b",
    "turns": r"\b(?:however|but|wait|actually|although|mistake|instead|correction|re-?check|re-?read|re-?calculate|oops)\b",
    "concludes": r"\b(?:therefore|thus|hence|so|finally|in total|altogether|in conclusion)\b",
    "denies": r"\b(?:not|no|never|none|nor|without)\b|n't\b",
    "steps": r"\b(?:first|second|third|then|next|step)\b|^[ \t]{0,4}[0-9]{1,2}[.)]",
    "verifies": r"\b(?:check|verify|confirm|substitut\w{0,4}|plug)\b",
    "estimates": r"\b(?:round\w{0,4}|nearest|estimate\w{0,2})\b",
    "unknowns": r"\b(?:let|denote|equation|solve|variable)\b",
}
ASKS = {
    "who": r"\bwho(?:se|m)?\b",
    "when": r"\b(?:when|what year|what date)\b",
    "where": r"\bwhere\b",
    "how_many": r"\bhow (?:many|much|long|far|old|often)\b",
    "why": r"\b(?:why|how (?:do|does|did|is|are|can))\b",
    "which": r"\bwhich\b",
    "not": r"\b(?:not|except|false|incorrect|least)\b",
    "percent": r"%|percent",
    "fraction": r"\b(?:half|third|quarter|fifth|times|twice|double|triple|ratio|average)\b",
    "compare": r"\b(?:more|less|fewer|than|each|every|per)\b",
    "remain": r"\b(?:left|remain\w{0,3}|rest|still|need)\b",
    "symbols": r"[\\^_{}]",
}
_PHRASES = {name: re.compile(pattern, re.IGNORECASE | re.MULTILINE) for name, pattern in PHRASES.items()}
_ASKS = {name: re.compile(pattern) for name, pattern in ASKS.items()}
_SENTENCE = re.compile(r"[.!?](?=\s|\Z)|\n")
_ENDED = re.compile(r"[.!?})\]\"'`*>]\s*\Z")
_CAPITAL = re.compile(r"(?<![.!?\n] )(?<!\A)(?<!\n)\b[A-Z][a-z]+")
_STOP_WORDS = (
    "the a an of to in is are was were and or for on at by it its that this with as be from has have had he she they his her their i we you"
    " what which who when where how why do does did so then there if not no will would can could should than"
)
_STOP = frozenset(_STOP_WORDS.split())

QUERY = (
    *(f"asks_{name}" for name in ASKS),
    *("q_chars", "q_words", "q_numbers", "q_sentences", "q_largest", "q_options", "q_option_chars", "q_capitals"),
)
SHAPE = (
    *("chars", "words", "lines", "ratio", "sentence_chars", "digits", "capitals", "odd", "repeats", "distinct", "questions"),
    *("ended", "open_brackets", "fence_open", "backslashes", "runs_on", "blank"),
    *PHRASES,
)
SUMS = (
    *("equals", "sums", "sums_exact", "sums_rounded", "sums_wrong", "wrong_share", "last_wrong", "first_wrong_at", "calculator"),
    *("numbers", "number_kinds", "largest", "from_query", "query_used", "query_unused", "from_nowhere", "decimals", "negatives"),
)
FINAL = (
    *(f"final_{kind}" for kind in FINALS),
    *("final_chars", "final_words", "final_at", "finals", "final_letter", "final_seen", "final_in_query", "final_words_in_query"),
    *("final_number", "final_log", "final_whole", "final_decimals", "final_zero", "final_number_in_query", "final_is_result"),
    *("final_is_last_result", "final_is_last_number", "final_seen_times", "final_round", "final_over_largest"),
)
OPTIONS = (
    *("option_known", "option_place", "option_support", "option_margin", "option_rank", "option_quoted", "option_length", "option_number"),
    *("options_mentioned", "letters_mentioned", "option_others_number", "option_all"),
)
NAMES = (*QUERY, *SHAPE, *SUMS, *FINAL, *OPTIONS)


class Asked(NamedTuple):
    """A query, read once for all the answers to it: the question, and the features that are its own."""

    question: Question
    own: tuple[float, ...]


def asked(query: str) -> Asked:
    """What is read of a query."""
    found = question(query)
    return Asked(found, _asked(found))


def features(query: str | Asked, answer: str) -> Floats:
    """(len(NAMES),) float32 of one answer to one query; NaN where one does not apply."""
    known = asked(query) if isinstance(query, str) else query
    text = plain(cut(answer))
    made = known.own + _shape(known.question, answer, text) + _worked(known.question, text, answer)
    assert len(made) == len(NAMES), (len(made), len(NAMES))
    return np.array(made, dtype=np.float32)


def _log(count: float) -> float:
    return math.log1p(max(0.0, count))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else NAN


def _asked(asked: Question) -> tuple[float, ...]:
    options = [len(text) for _, text in asked.options]
    return (
        *(float(bool(pattern.search(asked.low))) for pattern in _ASKS.values()),
        *(_log(len(asked.text)), _log(len(asked.words)), _log(len(asked.numbers)), _log(len(_SENTENCE.findall(asked.text)))),
        _log(max(asked.numbers, default=0)),
        float(len(options)),
        _log(sum(options) / len(options)) if options else NAN,
        _log(len(_CAPITAL.findall(asked.text))),
    )


def _shape(asked: Question, answer: str, text: str) -> tuple[float, ...]:
    said = words(text)
    low = [word.lower() for word in said]
    sentences = [part.strip() for part in _SENTENCE.split(text) if part.strip()]
    size = max(1, len(text))
    return (
        *(_log(len(answer)), _log(len(said)), _log(text.count("\n")), math.log((1 + len(answer)) / (1 + len(asked.text)))),
        _share(sum(map(len, sentences)), len(sentences)),
        sum(map(str.isdigit, text)) / size,
        _share(sum(word[0].isupper() for word in said), len(said)),
        0.0 if text.isascii() else sum(character > "\x7f" for character in text) / size,
        1 - _share(len(set(sentences)), len(sentences)),
        _share(len(set(low)), len(low)),
        _log(text.count("?")),
        float(bool(_ENDED.search(text[-40:]))),
        float(np.sign(sum(map(text.count, "([{")) - sum(map(text.count, ")]}")))),
        float(answer.count("```") % 2 or answer.count("<<") > answer.count(">>")),
        _log(text.count("\\")),
        float("\nQ:" in text or "\nQuestion:" in text),
        float(not text.strip()),
        *(_log(len(pattern.findall(text))) for pattern in _PHRASES.values()),
    )


def _worked(asked: Question, text: str, answer: str) -> tuple[float, ...]:
    sums, found = equations(text), numbers(text)
    said, kind, at, kinds = final(text)
    return (
        *_sums(asked, text, answer, sums, found),
        *_final(asked, text, sums, found, said, kind, at, kinds),
        *_options(asked, text, said, at),
    )


def _sums(asked: Question, text: str, answer: str, sums: list[Equation], found: list[float]) -> tuple[float, ...]:
    wrong = [i for i, each in enumerate(sums) if not each.exact and not each.rounded]
    given, results = set(asked.numbers), {each.right for each in sums}
    distinct = set(found)
    return (
        *(_log(text.count("=")), _log(len(sums)), _log(sum(each.exact for each in sums)), _log(sum(each.rounded for each in sums))),
        _log(len(wrong)),
        _share(len(wrong), len(sums)),
        NAN if not sums else float(bool(wrong) and wrong[-1] == len(sums) - 1),
        NAN if not wrong else wrong[0] / len(sums),
        _log(answer.count("<<")),
        *(_log(len(found)), _log(len(distinct)), _log(max(found, default=0))),
        _share(len(distinct & given), len(distinct)),
        _share(len(distinct & given), len(given)),
        _log(len(given - distinct)),
        _share(len(distinct - given - results), len(distinct)),
        _share(sum(each != int(each) for each in distinct), len(distinct)),
        _log(sum(each.right < 0 for each in sums)),
    )


def _final(
    asked: Question, text: str, sums: list[Equation], found: list[float], said: str, kind: int, at: int, kinds: int
) -> tuple[float, ...]:
    before = text[:at]
    tokens = [word.lower() for word in words(said)]
    amounts = numbers(said)
    amount = amounts[0] if kind < len(FINALS) - 1 and amounts else amounts[-1] if amounts else None
    plain_said = said.lower().strip(" .\"'")
    return (
        *(float(kind == i) for i in range(len(FINALS))),
        *(_log(len(said)), _log(len(tokens)), at / max(1, len(text)), float(min(kinds, 5)), float(bool(letter(said)))),
        float(bool(plain_said) and plain_said in before.lower()),
        float(bool(plain_said) and plain_said in asked.low),
        _share(sum(token in asked.words for token in tokens), len(tokens)),
        *_amount(asked, sums, found, before, said, amount),
    )


def _amount(asked: Question, sums: list[Equation], found: list[float], before: str, said: str, amount: float | None) -> tuple[float, ...]:
    if amount is None:
        return (0.0, *(NAN,) * 11)
    results = [each.right for each in sums]
    times = numbers(before).count(amount)
    largest = max(asked.numbers, default=0)
    return (
        *(1.0, _log(amount), float(amount == int(amount)), float(amount != round(amount, 2)), float(amount == 0)),
        float(amount in asked.numbers),
        float(any(abs(amount - abs(result)) < 1e-6 for result in results)) if results else NAN,
        float(abs(amount - abs(results[-1])) < 1e-6) if results else NAN,
        float(found[-1] == amount) if found else NAN,
        float(min(times, 4)),
        float(amount % 10 == 0 or amount % 5 == 0),
        _log(amount) - _log(largest),
    )


def _options(asked: Question, text: str, said: str, at: int) -> tuple[float, ...]:
    if not asked.options:
        return (NAN,) * len(OPTIONS)
    chosen = letter(said)
    names = [name for name, _ in asked.options]
    before = text[:at]
    low, used = before.lower(), Counter(word for word in words(before.lower()) if word not in _STOP)
    amounts = set(numbers(before))
    support = [_support(option, low, used, amounts) for _, option in asked.options]
    told = [part[0] for part in support]
    quoted = [part[1] for part in support]
    valued = [part[2] for part in support]
    mentioned = (float(sum(quoted)), float(len(set(re.findall(r"\(([A-J])\)", before)))))
    if chosen not in names:
        return (0.0, *(NAN,) * 7, *mentioned, NAN, NAN)
    place = names.index(chosen)
    others = [value for i, value in enumerate(told) if i != place]
    lengths = [len(option) for _, option in asked.options]
    return (
        1.0,
        place / len(names),
        told[place],
        told[place] - max(others),
        float(sum(value > told[place] for value in told)),
        float(quoted[place]),
        lengths[place] / (sum(lengths) / len(lengths)),
        float(valued[place]) if numbers(asked.options[place][1]) else NAN,
        *mentioned,
        float(sum(value for i, value in enumerate(valued) if i != place)),
        float("all of the above" in asked.options[place][1].lower()),
    )


def _support(option: str, low: str, used: Counter[str], amounts: set[float]) -> tuple[float, bool, bool]:
    """(share of the option's words that were used before, whether it stands there word for word, whether its number does)."""
    said = option.lower().strip(" .")
    tokens = [word for word in words(said) if word not in _STOP]
    figures = numbers(said)
    parts = [float(token in used) for token in tokens] + [float(figure in amounts) for figure in figures]
    return (sum(parts) / len(parts) if parts else 0.0), bool(said) and said in low, bool(figures) and figures[0] in amounts
