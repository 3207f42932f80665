"""Arms, the columns of a collected table: a model, a few-shot prompt, so many queries a call; the prompts they make, the answers read back.

Prompt adaptation and query concatenation as in FrugalGPT (Chen et al. 2023, arXiv 2305.05176): each variant is one more column with its
own cost, and a router may choose it as it chooses a model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

import numpy as np

from routewright.core.files import sha256
from routewright.core.text import normalise
from routewright.core.types import InputError

QUERY = "{query}"
OWN = ("model", "messages", "temperature", "max_tokens", "logprobs")  # of a request: never in extra
GRAIN = 2**20  # shares are whole multiples of 1/GRAIN of a token, so that floats add up to the call's count exactly, in any order


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One column. Raises InputError for settings that no call could have.

    name: the column's; by default the model, with "+3shot" (examples), "-group" (of the same group first) and "*4" (queries a call).
    template: what is sent, with {query} in it; any other brace is sent as it stands. Where a call carries several queries, {query} is all
    of them, numbered. shots: example turns before the query, each with as many queries as are asked. same_group: examples of the query's
    group come first. max_tokens: of a call. extra: further parameters of the call, JSON values by name.
    """

    model: str
    name: str = ""
    system: str = ""
    template: str = QUERY
    shots: int = 0
    same_group: bool = False
    batch: int = 1
    max_tokens: int = 256
    temperature: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)
        shots = f"+{self.shots}shot" + ("-group" if self.same_group else "") if self.shots else ""
        batch = f"*{self.batch}" if self.batch > 1 else ""
        object.__setattr__(self, "name", self.name or f"{self.model}{shots}{batch}")

    @property
    def variant(self) -> str:
        """What its prompt has beyond the plain query, "" for nothing: "shots=3 batch=4 template=1a2b3c4d" (the start of a sha256)."""
        told = [f"{name}={getattr(self, name)}" for name, plain in (("shots", 0), ("batch", 1)) if getattr(self, name) != plain]
        told += ["same_group"] if self.shots and self.same_group else []
        for name, plain in (("system", ""), ("template", QUERY)):
            value = getattr(self, name)
            told += [f"{name}={sha256(value.encode())[:8]}"] if value != plain else []
        return " ".join(told)


@dataclass(frozen=True)
class Example:
    """A question with its gold answer, to be shown in a few-shot prompt."""

    query: str
    answer: str
    group: str = ""


@dataclass(frozen=True)
class Prompt:
    """The (role, content) messages of one call, and the rows of the queries that it carries, in the order in which they are numbered."""

    messages: tuple[tuple[str, str], ...]
    rows: tuple[int, ...]


def _check(arm: Arm) -> None:
    def refuse(name: str, expected: str) -> NoReturn:
        value = getattr(arm, name)
        raise InputError(f"{name} does not fit", where=f"arm {arm.name or arm.model!r}", expected=expected, found=repr(value))

    for name in ("model", "name", "system", "template"):
        if not isinstance(getattr(arm, name), str):
            refuse(name, "text")
    if not arm.model.strip():
        refuse("model", "the name of a model")
    if QUERY not in arm.template:
        refuse("template", f"text with {QUERY} in it")
    for name, least in (("shots", 0), ("batch", 1), ("max_tokens", 1)):
        value = getattr(arm, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            refuse(name, f"a whole number >= {least}")
    if arm.same_group not in (True, False):
        refuse("same_group", "true or false")
    warm: object = arm.temperature
    if not isinstance(warm, int | float) or isinstance(warm, bool) or not 0 <= warm < np.inf:
        refuse("temperature", "a finite number >= 0")
    _check_extra(arm, refuse)


def _check_extra(arm: Arm, refuse: Callable[[str, str], NoReturn]) -> None:
    extra: object = arm.extra
    if not isinstance(extra, Mapping) or not all(isinstance(key, str) for key in extra):
        refuse("extra", "parameters of the call by name")
    if set(OWN) & set(arm.extra):
        refuse("extra", f"none of {', '.join(OWN)}: they are the arm's own settings or the collection's")
    try:
        json.dumps(dict(arm.extra), allow_nan=False)
    except (TypeError, ValueError):
        refuse("extra", "JSON values")


def read_arms(value: Sequence[str | Mapping[str, Any]], *, max_tokens: int = 256) -> tuple[Arm, ...]:
    """Arms from a configuration: a model's name each, or a mapping of Arm's fields.

    max_tokens: of an answer; an arm that does not say its own gets it as many times as it sends queries in a call.
    Raises InputError for unknown keys, impossible settings, two arms of one name, and none at all.
    """
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence) or not value:
        raise InputError("there are no arms", expected="a list of models, as arms=[small,large]", found=repr(value))
    known = [f.name for f in fields(Arm)]
    arms: dict[str, Arm] = {}
    for place, given in enumerate(value):
        where = f"arms[{place}]"
        if not isinstance(given, str | Mapping):
            raise InputError("an arm cannot be read", where=where, expected="a model's name, or {model: ...}", found=repr(given))
        settings = {"model": given} if isinstance(given, str) else dict(given)
        unknown = [str(key) for key in settings if key not in known]
        if unknown:
            raise InputError(f"unknown key {unknown[0]!r}", where=where, expected="one of " + ", ".join(known), found=", ".join(unknown))
        if "model" not in settings:
            raise InputError("an arm names no model", where=where, expected="model: NAME", found=", ".join(settings) or "nothing")
        batch = settings.get("batch", 1)
        scale = batch if isinstance(batch, int) else 1  # a batch that is no number is refused by the arm itself
        arm = Arm(**{"max_tokens": max_tokens * max(scale, 1), **settings})
        if arm.name in arms:
            raise InputError(
                f"two arms are called {arm.name!r}", where=where, expected="names that differ", mend="Give one of them a name:."
            )
        arms[arm.name] = arm
    return tuple(arms.values())


# ---- queries to prompts


def numbered(texts: Sequence[str]) -> str:
    """Several texts as one: "1: first\\n2: second". One text stays as it is."""
    return texts[0] if len(texts) == 1 else "\n".join(f"{i}: {text}" for i, text in enumerate(texts, start=1))


def prompts(
    arm: Arm, texts: Sequence[str], groups: Sequence[str], examples: Sequence[Example], *, rng: np.random.Generator
) -> Iterator[Prompt]:
    """The calls in which `arm` asks `texts` (n), in order, arm.batch queries in each; the last one may carry fewer.

    Examples are user and assistant turns before the query. They are drawn once and are the same in every call, which is what a provider's
    prompt cache wants, except that examples of the asked queries' groups come first under arm.same_group, and that an example which is
    one of the asked queries (core.text.normalise) gives way to the next. Same state of rng, same prompts.
    Raises InputError, before the first prompt where it can, for fewer distinct examples than the arm shows.
    """
    assert len(texts) == len(groups), "a group for each text"
    distinct: list[tuple[str, Example]] = []
    if arm.shots:
        keyed = {normalise(example.query): example for example in reversed(examples)}  # of two with one text, the first is kept
        drawn = [(key, keyed[key]) for key in dict.fromkeys(normalise(example.query) for example in examples)]
        distinct = [drawn[i] for i in rng.permutation(len(drawn)).tolist()]
        needed = arm.shots * min(arm.batch, max(len(texts), 1))
        if len(distinct) < needed:
            raise _too_few(arm, needed, len(distinct))
    return _prompts(arm, texts, groups, distinct)


def _prompts(arm: Arm, texts: Sequence[str], groups: Sequence[str], drawn: Sequence[tuple[str, Example]]) -> Iterator[Prompt]:
    orders: dict[frozenset[str], Sequence[tuple[str, Example]]] = {}
    system = (("system", arm.system),) if arm.system else ()
    for begin in range(0, len(texts), arm.batch):
        rows = tuple(range(begin, min(begin + arm.batch, len(texts))))
        asked = [texts[row] for row in rows]
        near = frozenset(groups[row] for row in rows if groups[row]) if arm.same_group else frozenset()
        if near not in orders:
            orders[near] = sorted(drawn, key=lambda item: item[1].group not in near)  # stable: the drawn order within each half
        turns: list[tuple[str, str]] = []
        shown = _shown(arm, orders[near], {normalise(text) for text in asked} if arm.shots else set(), len(rows))
        for turn in range(0, len(shown), len(rows)):
            part = shown[turn : turn + len(rows)]
            turns.append(("user", _filled(arm, [example.query for example in part])))
            turns.append(("assistant", numbered([example.answer for example in part])))
        yield Prompt((*system, *turns, ("user", _filled(arm, asked))), rows)


def _shown(arm: Arm, order: Sequence[tuple[str, Example]], asked: set[str], size: int) -> list[Example]:
    """The first shots x size examples that are none of the asked queries."""
    needed = arm.shots * size
    found: list[Example] = []
    for key, example in order:
        if len(found) == needed:
            break
        if key not in asked:
            found.append(example)
    if len(found) < needed:
        raise _too_few(arm, needed, len(found))
    return found


def _filled(arm: Arm, queries: Sequence[str]) -> str:
    return arm.template.replace(QUERY, numbered(queries))


def _too_few(arm: Arm, needed: int, found: int) -> InputError:
    return InputError(
        "there are too few examples to show",
        where=f"arm {arm.name!r}",
        expected=f"{needed} distinct questions of the train split with gold answers, other than those asked",
        found=str(found),
        mend="Ask for fewer shots, or give more questions whose split is train.",
    )


# ---- answers back

# a number at the start of a line with what people put around it: "1:", "1.", "1)", "(1)", "**1.**", "## 1.", "- 1:", "Answer 1:", "Q1:"
_NUMBER = re.compile(
    r"^(?P<indent>[ \t]{0,20})(?:[-*>]{1,2}[ \t]{1,4}|\#{1,6}[ \t]{0,4})?(?P<bold>[*_]{1,3})?"
    r"(?P<word>(?:final[ \t]{1,4})?(?:answer|question|query|[aq])[ \t]{0,4})?\#?[(\[]?"
    r"(?P<number>[0-9]{1,4})(?P<closed>(?(bold)[*_]{0,3}))(?P<mark>[:.)\]]):?(?P<late>(?(bold)[*_]{0,3}))(?P<gap>[ \t]*)",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class _Mark:
    number: int
    begin: int  # where its line begins
    end: int  # where what it numbers begins
    style: tuple[str, ...]
    bold: str  # emphasis that was opened before the number and is still open


def split_answers(text: str, k: int) -> list[str | None]:
    """The k answers in the reply to a call that carried k queries: stripped text, "" after a bare number, None for a number that is absent.

    Answers are found by their numbers at the starts of lines, in one style if one style has as many numbers as any mixture ("1:" outside
    and "1." inside is a list within an answer). The longest rising run of numbers wins, the earliest of several; a number outside it is
    taken where it first stands, so that answers in another order keep their numbers. What follows a complete list under a further number
    is let go: the model ran on. Text before the first number is let go too. k=1: the query went without a number, and the whole text is
    its answer.
    """
    if k == 1:
        return [text.strip() or None]
    marks = _marks(text)
    styles: dict[tuple[str, ...], list[_Mark]] = {}
    for mark in marks:
        styles.setdefault(mark.style, []).append(mark)
    best: dict[int, _Mark] = {}
    used = marks
    for candidate in (*styles.values(), marks):
        found = _chosen(candidate, k)
        if len(found) > len(best):
            best, used = found, candidate
    return _between(text, best, used, k)


def _marks(text: str) -> list[_Mark]:
    """Everything that may number an answer; "1.5" and "1.a" do not."""
    made: list[_Mark] = []
    for m in _NUMBER.finditer(text):
        apart = bool(m["gap"]) or text[m.end() : m.end() + 1] in ("", "\n", "\r")
        if m["mark"] == "." and not apart and not m["late"]:
            continue
        style = (m["indent"], (m["word"] or "").strip().lower(), m["mark"], "apart" if apart else "close")
        open_bold = "" if m["closed"] or m["late"] else m["bold"] or ""
        made.append(_Mark(int(m["number"]), m.start(), m.end(), style, open_bold))
    return made


def _chosen(marks: Sequence[_Mark], k: int) -> dict[int, _Mark]:
    """number -> the mark that is meant."""
    # ends[v]: the longest rising run that ends in number v, the earliest of those, as (length, mark, the run before it)
    ends: dict[int, tuple[int, _Mark, Any]] = {}
    first: dict[int, _Mark] = {}
    for mark in marks:
        if not 1 <= mark.number <= k:
            continue
        first.setdefault(mark.number, mark)
        before = max((ends[v] for v in range(1, mark.number) if v in ends), key=lambda run: (run[0], -run[1].begin), default=None)
        length = 1 + (before[0] if before else 0)
        if mark.number not in ends or length > ends[mark.number][0]:
            ends[mark.number] = (length, mark, before)
    run = max(ends.values(), key=lambda run: (run[0], -run[1].begin), default=None)
    chosen: dict[int, _Mark] = {}
    while run:
        chosen[run[1].number] = run[1]
        run = run[2]
    return {**first, **chosen}


def _between(text: str, best: Mapping[int, _Mark], used: Sequence[_Mark], k: int) -> list[str | None]:
    """What stands between the chosen marks; after the last of a complete list, up to any further mark."""
    order = sorted(best.values(), key=lambda mark: mark.begin)
    stops = [mark.begin for mark in order[1:]]
    further = [mark.begin for mark in used if order and mark.begin > order[-1].begin and len(best) == k]
    stops += [further[0] if further else len(text)]
    made: list[str | None] = [None] * k
    for mark, stop in zip(order, stops, strict=False):
        answer = text[mark.end : stop].strip()
        made[mark.number - 1] = answer.removesuffix(mark.bold) if mark.bold else answer
    return made


# ---- tokens


def shares(tokens: Mapping[str, int] | None, k: int, lengths: Sequence[float] | None = None) -> list[dict[str, float]]:
    """How the tokens of one call are divided over its k queries: k dicts by kind; empty ones where usage is not known.

    Everything is divided evenly: the prompt that the queries share is paid for all of them. lengths (k, none negative, such as the
    characters of each answer): output tokens are divided in this proportion instead, evenly if all are 0. For every kind the shares add
    up to the call's count exactly, in floating point and in any order; they are multiples of 1/GRAIN of a token.
    """
    if tokens is None:
        return [{} for _ in range(k)]
    weights = [1.0] * k if lengths is None or not any(lengths) else [float(length) for length in lengths]
    assert len(weights) == k, "a length for each answer"
    assert min(weights) >= 0, "no negative lengths"
    made: list[dict[str, float]] = [{} for _ in range(k)]
    for kind, count in tokens.items():
        edges = np.concatenate([[0.0], np.cumsum(weights if kind == "output" else [1.0] * k)])
        grains = [int(count * GRAIN * edge / edges[-1]) for edge in edges[:-1]] + [count * GRAIN]
        for share, low, high in zip(made, grains[:-1], grains[1:], strict=True):
            share[kind] = (high - low) / GRAIN
    return made
