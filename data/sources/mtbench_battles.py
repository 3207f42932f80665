"""MT-Bench scores as battles: on each of 80 questions, the model whose answers GPT-4 scored higher beats the other.

The scores are those of data/sources/routellm_mtbench.py, read from the same pinned files by the same code.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from routewright.core.types import Battles, Floats, InputError, Outcomes, Pool, Queries
from routewright.data.sources._pinned import Pinned, PinnedBattles
from routewright.data.sources._routellm import contaminated, json_lines
from routewright.data.sources.routellm_mtbench import TURNS, RouteLLMMtBench

UNIT = 16  # scores, halves and quarters of them are exact in float32 as shares of a power of two, so that a margin is met exactly
CHOSEN = (*TURNS, "mean")


@dataclass(frozen=True, kw_only=True)
class _Recorded(RouteLLMMtBench):
    """The reader of the recorded scores."""

    def scored(self, decontaminated: bool) -> tuple[Queries, Floats]:
        """Questions by their first turn, with the category as group, and GPT-4's scores (n, m models, 2 turns)."""
        paths = self._fetch()
        dropped = contaminated(self._one(paths, "contaminated_prompts.jsonl")) if decontaminated else frozenset()
        rows = [row for row in json_lines(self._one(paths, "question.jsonl")) if not dropped.intersection(row["turns"])]
        score, _ = self._judged(rows, self._one(paths, "judgements.jsonl"))
        columns = ([f"mtbench-{row['question_id']}" for row in rows], [row["turns"][0] for row in rows], [row["category"] for row in rows])
        return Queries(*(np.array(column, dtype=object) for column in columns)), score


@dataclass(frozen=True, kw_only=True)
class MtBenchBattles(PinnedBattles):
    """MT-Bench as Battles between every two of `models`, in this order; the file of RouteLLM holds two. Weight 1, no costs.

    Each answer was scored by itself, so that there is no position and no position bias. Clean labels are the published ones. turn: 1, 2 or
    "mean" of both: which score counts. margin: a difference of at most that, in points of 1 to 10, is a tie. decontaminated: without the 8
    questions that RouteLLM found close to its own training data. False by default, for these are battles to train on; a router trained on
    them knows `routellm_mtbench`.
    """

    turn: int | str = "mean"
    margin: float = 0.0
    decontaminated: bool = False

    def load(self) -> Battles:
        """Fetches and compares the scores. Raises InputError for settings that cannot be, and for a missing or unreadable score."""
        self._check()
        queries, score = self._recorded().scored(self.decontaminated)
        one = score.mean(axis=2) if self.turn == "mean" else score[:, :, TURNS.index(int(self.turn))]
        compared = Outcomes(queries, Pool(tuple(self.models)), one / UNIT, np.full(one.shape, np.nan))
        return replace(compared.battles(tolerance=self.margin / UNIT), cost=None)

    def provenance(self) -> dict[str, Any]:
        """As of the outcomes, with settings and `battles`: how many there are by outcome. They have no order, hence no position bias."""
        outcome = Counter(self.load().outcome.tolist())
        counts = {name: outcome[value] for name, value in (("a_wins", 1.0), ("b_wins", 0.0), ("ties", 0.5))}
        settings = {name: getattr(self, name) for name in ("turn", "margin", "decontaminated")}
        notes = "GPT-4's scores as recorded, compared; clean is the same as published."
        told = {"notes": notes, "settings": settings, "battles": {**counts, "unparsed": 0, "position_bias": None}}
        return super().provenance() | told

    def _recorded(self) -> _Recorded:
        return _Recorded(**{part.name: getattr(self, part.name) for part in fields(Pinned)})

    def _check(self) -> None:
        super()._check()
        if self.turn not in CHOSEN or isinstance(self.turn, bool):
            raise InputError(f"turn of {self.name}", expected="1, 2 or mean", found=repr(self.turn))
        if not 0 <= self.margin < 9:
            raise InputError(f"margin of {self.name}", expected="points >= 0 and < 9, the range of the scores", found=repr(self.margin))
