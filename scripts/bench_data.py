"""Made-up battles and texts for bench.py: as many and as long as the real ones, with something in them to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from routewright.core.types import Battles, Outcomes, Pool, Queries

WORDS = (4.04, 0.76)  # mean and deviation of the log of a text's words, in RouteLLM's MMLU


@dataclass(frozen=True)
class Duel:
    """Battles to learn from, those held out, and queries to ask one at a time."""

    train: Battles
    held: Battles
    asked: Queries

    def arrays(self) -> dict[str, Any]:
        """As the published side reads them. Its table of held-out vectors is what it is asked about, too."""
        train, held = self.train, self.held
        assert np.array_equal(train.query, np.arange(len(train)))
        return {
            "m": len(train.pool),
            "vectors": train.queries.vectors(),
            "a": train.a,
            "b": train.b,
            "won": train.outcome,
            "asked": held.queries.vectors(),
            "held_a": held.a,
            "held_b": held.b,
        }


def duel(b: int, m: int, d: int, seed: int = 0) -> Duel:
    """b battles without ties, 95 % to learn from. Who wins hangs on 16 hidden directions of the query, in which each model has its skill,
    and on a level of each model; half a query's squared length is noise, and every query has the same first coordinate.
    """
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(b, 16))
    basis = np.linalg.qr(rng.normal(size=(d - 1, 16)))[0].T
    signal = hidden / np.linalg.norm(hidden, axis=1, keepdims=True) @ basis
    vectors = np.column_stack([np.full(b, 0.5), signal + rng.normal(size=(b, d - 1)) / np.sqrt(d)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    a = rng.integers(m, size=b)
    other = (a + rng.integers(1, m, size=b)) % m
    skill, level = rng.normal(size=(m, 16)), rng.normal(size=m)
    ahead = ((skill[a] - skill[other]) * hidden).sum(axis=1) / 4 + level[a] - level[other]
    won = rng.random(b) < 1 / (1 + np.exp(-ahead))
    cut = round(0.95 * b)
    pool = Pool(tuple(f"model-{j:03d}" for j in range(m)))

    def part(rows: slice) -> Battles:
        names = np.array([str(i) for i in range(len(a[rows]))], dtype=object)
        queries = Queries(names, names, names, vectors[rows].astype(np.float32))
        return Battles(queries, pool, np.arange(len(names)), a[rows], other[rows], won[rows].astype(float))

    held = part(slice(cut, None))
    return Duel(part(slice(cut)), held, held.queries)


def graded(n: int, seed: int = 0) -> Outcomes:
    """Texts of common words as long as MMLU's questions, and grades of two models."""
    rng = np.random.default_rng(seed)
    words = np.array(["the", "of", "a", "in", "which", "is", "to", "and", "following", "value", "water", "law", "cell", "force", "rate"])
    counts = np.clip(np.exp(rng.normal(*WORDS, size=n)), 8, 400).astype(int)
    text = np.array([f"{i} " + " ".join(rng.choice(words, size=count)) for i, count in enumerate(counts)], dtype=object)
    queries = Queries(np.array([str(i) for i in range(n)], dtype=object), text, np.full(n, "one", dtype=object))
    grades = (rng.random((n, 2)) < (0.6, 0.8)).astype(float)
    return Outcomes(queries, Pool(("weak", "strong")), grades, np.full((n, 2), np.nan))
