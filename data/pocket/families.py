"""What a family of questions is: a maker of payloads and the phrasings they are asked in. All chance is a generator's."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from routewright.data.pocket.wordings import WORDINGS

HELD_OUT = 2  # the last two phrasings of every family are asked in test questions only

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Payload:
    """What is asked, before it is worded: the variant of the task, the fields of a phrasing, the answer.

    table: it is one of so few (a multiplication table, a fact) that train and test must share it; their phrasings differ all the same.
    """

    kind: int
    fields: dict[str, str]
    answer: str
    table: bool = False

    @property
    def key(self) -> str:
        """One text for one payload: two phrasings of it are the same problem."""
        return "|".join([str(self.kind), *(f"{name}={value}" for name, value in sorted(self.fields.items()))])


@dataclass(frozen=True)
class Family:
    """One kind of task. recalled: nothing in a question helps, and difficulty is how rarely training speaks of it."""

    name: str
    make: Callable[[np.random.Generator, float], Payload]
    phrasings: tuple[str, ...]
    recalled: bool = False

    def asked(self, side: str) -> tuple[int, ...]:
        """The phrasings of one side of the split; "wide": those of train and the extra WORDINGS."""
        count = len(self.phrasings)
        if side == "wide":
            return (*range(count - HELD_OUT), *range(count, count + len(WORDINGS[self.name])))
        return tuple(range(count - HELD_OUT)) if side == "train" else tuple(range(count - HELD_OUT, count))

    def word(self, phrasing: int, payload: Payload, loosen: np.random.Generator | None = None) -> str:
        """The payload in this phrasing: "[larger|smaller]" is chosen by kind, "{a}" filled. loosen: for training, words may be dropped."""
        template = (*self.phrasings, *WORDINGS.get(self.name, ()))[phrasing]
        if loosen is not None:
            template = _loosened(template, loosen)
        template = _CHOICE.sub(lambda match: match[1].split("|")[payload.kind], template)
        return _FIELD.sub(lambda match: payload.fields[match[1]], template)


def _loosened(template: str, rng: np.random.Generator) -> str:
    """The template with a few words left out, never one that tells variants or holds a field: unseen phrasings are then less strange."""
    pieces = re.findall(r"\S*\[[^\]]*\]\S*|\S+", template)
    drop = rng.random(len(pieces)) < 0.15
    kept = [piece for piece, gone in zip(pieces, drop.tolist(), strict=True) if not gone or not piece.isalpha()]
    return " ".join(kept)


def between(rng: np.random.Generator, low: int, high: float) -> int:
    """A whole number from low to high, both included."""
    return int(rng.integers(low, max(low, int(high)) + 1))


def pick(rng: np.random.Generator, items: tuple[str, ...] | str) -> str:
    return items[int(rng.integers(len(items)))]


def some(rng: np.random.Generator, items: tuple[str, ...] | str, count: int) -> list[str]:
    """`count` distinct items in random order."""
    return [items[i] for i in rng.permutation(len(items))[:count].tolist()]
