"""An invented world of a few hundred facts, the same every time: whoever answers must have learnt it, for nothing in a question helps."""

from __future__ import annotations

from functools import cache

import numpy as np

RELATIONS = ("capital", "river", "founder", "flower", "color")
FLOWERS = ("rose", "lily", "tulip", "iris", "daisy", "poppy", "lotus", "violet")
COLORS = ("red", "blue", "green", "white", "black", "gold", "silver", "orange")
COUNTRIES = 60

_SEED = 20240601
_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u")


def _name(rng: np.random.Generator, endings: tuple[str, ...]) -> str:
    parts = [_ONSETS[int(rng.integers(len(_ONSETS)))] + _VOWELS[int(rng.integers(len(_VOWELS)))] for _ in range(2)]
    return ("".join(parts) + endings[int(rng.integers(len(endings)))]).capitalize()


@cache
def facts() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(country, its value under each of RELATIONS), the best known country first."""
    rng = np.random.default_rng(_SEED)
    taken: set[str] = set()

    def fresh(*endings: str) -> str:
        while (name := _name(rng, endings)) in taken:
            pass
        taken.add(name)
        return name

    return tuple(
        (
            fresh("land", "nia", "stan"),
            (
                fresh("ton", "ville", "grad"),
                fresh("r", "n", "s"),
                fresh("", "k", "x"),
                FLOWERS[int(rng.integers(len(FLOWERS)))],
                COLORS[int(rng.integers(len(COLORS)))],
            ),
        )
        for _ in range(COUNTRIES)
    )
