"""The benchmark's questions, a pure function of a generator, and the endless stream of training examples that avoids them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from routewright.core.text import normalise
from routewright.core.types import InputError
from routewright.data.pocket.families import Family, Payload
from routewright.data.pocket.numbers import NUMBER_FAMILIES
from routewright.data.pocket.words import WORD_FAMILIES

FAMILIES: tuple[Family, ...] = (*NUMBER_FAMILIES, *WORD_FAMILIES)
SEED = 20261124
PER_FAMILY = 600
TEST_SHARE = 0.3

_TRIES = 1000  # draws without a new question before a family counts as exhausted


@dataclass(frozen=True)
class Question:
    """One benchmark question. group: its family. difficulty: in [0, 1], what it was drawn for. phrasing: which of the family's wordings."""

    id: str
    text: str
    group: str
    answer: str
    split: str  # "train" or "test", decided by the phrasing
    difficulty: float
    phrasing: int


@dataclass(frozen=True)
class Benchmark:
    """The questions, and what training must avoid: every text, and each payload of a test question unless it is of a small table."""

    questions: tuple[Question, ...]
    texts: frozenset[str]
    payloads: frozenset[tuple[str, str]]


def questions(rng: np.random.Generator, *, per_family: int = PER_FAMILY) -> list[Question]:
    """`per_family` questions of every family, TEST_SHARE of them in held-out phrasings; no two normalised texts are the same."""
    return list(benchmark(rng, per_family=per_family).questions)


def benchmark(rng: np.random.Generator, *, per_family: int = PER_FAMILY) -> Benchmark:
    """The questions with what training must avoid. Same state of rng, same benchmark. Raises InputError where a family runs out."""
    if per_family < 4:
        raise InputError("too few questions a family", expected="per_family of at least 4", found=str(per_family))
    made: list[Question] = []
    texts: set[str] = set()
    held: set[tuple[str, str]] = set()
    for family in FAMILIES:
        tests = round(TEST_SHARE * per_family)
        rows = []
        for i in range(per_family):
            side = "test" if i < tests else "train"  # the test payloads are drawn first, then kept out of train
            phrasing, payload, text, difficulty = _new(family, side, rng, texts, held)
            texts.add(normalise(text))
            if side == "test" and not payload.table:
                held.add((family.name, payload.key))
            rows.append((text, payload.answer, side, difficulty, phrasing))
        # ids in random order: a head of the table is then a fair sample of the family
        for number, row in enumerate(rng.permutation(len(rows)).tolist(), start=1):
            text, answer, side, difficulty, phrasing = rows[row]
            made.append(Question(f"{family.name}-{number:04d}", text, family.name, answer, side, difficulty, phrasing))
    return Benchmark(tuple(made), frozenset(texts), frozenset(held))


def _new(
    family: Family, side: str, rng: np.random.Generator, texts: set[str], held: set[tuple[str, str]]
) -> tuple[int, Payload, str, float]:
    """A question that is not in `texts`, and not of a held payload if it is for train."""
    phrasings = family.asked(side)
    for _ in range(_TRIES):
        difficulty = round(float(rng.random()), 4)
        payload = family.make(rng, difficulty)
        phrasing = phrasings[int(rng.integers(len(phrasings)))]
        text = family.word(phrasing, payload)
        if normalise(text) not in texts and (side == "test" or (family.name, payload.key) not in held):
            return phrasing, payload, text, difficulty
    raise InputError(
        f"the family {family.name!r} has no more questions",
        expected=f"a new one within {_TRIES} draws",
        found="only repeats",
        mend="Ask for fewer a family.",
    )


@dataclass(frozen=True)
class Example:
    """Training turns: (user, assistant) pairs of one conversation."""

    turns: tuple[tuple[str, str], ...]


def stream(
    avoid: Benchmark, weights: Mapping[str, float], rng: np.random.Generator, *, ease: float = 0.0, side: str = "train"
) -> Iterator[Example]:
    """Examples without end in train phrasings: about 80 % one question, 12 % few-shot, 8 % several questions in one turn.

    weights: how often each family is drawn; a family that is not named is never seen. ease: 0 draws difficulty uniformly, more of it
    draws easy questions more often (as a power, 1 + ease). side: "train", or "wide" with extra wordings. Nothing of `avoid` is ever drawn.
    """
    unknown = sorted(set(weights) - {family.name for family in FAMILIES})
    if unknown:
        raise InputError("unknown families in a mixture", expected="names of FAMILIES", found=", ".join(unknown))
    share = np.array([weights.get(family.name, 0.0) for family in FAMILIES], dtype=np.float64)
    if not (share >= 0).all() or not share.sum() > 0:
        raise InputError("a mixture needs weights", expected="none negative and at least one above 0", found=str(dict(weights)))
    bounds = np.cumsum(share) / share.sum()

    def family() -> Family:
        return FAMILIES[min(int(np.searchsorted(bounds, rng.random(), side="right")), len(FAMILIES) - 1)]

    while True:
        form = rng.random()
        first = family()
        if form < 0.8:
            yield Example((_drawn(first, avoid, rng, ease, side),))
        elif form < 0.92:
            yield Example(tuple(_drawn(first, avoid, rng, ease, side) for _ in range(int(rng.integers(3, 6)))))
        else:
            others = [first, *(first if rng.random() < 0.5 else family() for _ in range(int(rng.integers(1, 3))))]
            pairs = [_drawn(other, avoid, rng, ease, side) for other in others]
            yield Example((tuple(joined([pair[side] for pair in pairs]) for side in (0, 1)),))  # type: ignore[arg-type]


def joined(texts: list[str]) -> str:
    """Several texts as one numbered message: "1: first\\n2: second"."""
    return "\n".join(f"{i}: {text}" for i, text in enumerate(texts, start=1))


def _drawn(family: Family, avoid: Benchmark, rng: np.random.Generator, ease: float, side: str) -> tuple[str, str]:
    """A question and its answer, three in ten with words left out."""
    phrasings = family.asked(side)
    while True:
        # facts: rare ones stay rare, or every fact would be as well known as the next
        power = 1.5 if family.recalled else 1 + ease
        payload = family.make(rng, float(rng.random()) ** power)
        phrasing = phrasings[int(rng.integers(len(phrasings)))]
        text = family.word(phrasing, payload, rng if rng.random() < 0.3 else None)
        if (family.name, payload.key) not in avoid.payloads and normalise(text) not in avoid.texts:
            return text, payload.answer
