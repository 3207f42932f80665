"""RouteLLM's judge data (routellm/gpt4_dataset): how good Mixtral 8x7B's answer is, 1 to 5 by GPT-4, as battles against GPT-4.

Ong et al. 2024, arXiv 2406.18665; prompts and GPT-4's answers come from Nectar. The authors' rule (routellm 0.2.0, score_threshold=4 of the
causal-LLM router, which sums P(score >= 4)): a score of 4 or 5 says that Mixtral is enough, 1 to 3 that GPT-4 is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from routewright.core.types import InputError
from routewright.data import arena
from routewright.data.cells import Problems, missing, numbers, shown
from routewright.data.sources._hub import HubSource, Made, Rows

SCORES = (1, 2, 3, 4, 5)


@dataclass(kw_only=True, eq=False)
class RouteLLMGpt4(HubSource):
    """Battles of `models` = [weak, strong] by the score alone: below `threshold` strong wins (0); from it on, weak wins (1).

    enough: win, as the authors have it, or tie, since the judge says that the answer is good and not that it is better.
    models: what to call Mixtral and GPT-4. The group is the source of the prompt (several joined by +).
    """

    columns: ClassVar[tuple[str, ...]] = ("prompt", "source", "mixtral_score")
    notes: ClassVar[str] = "One battle a prompt, decided by GPT-4's score of Mixtral's answer; GPT-4's own answer was not scored."

    models: Sequence[str] | None = ("mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview")
    threshold: int = 4
    enough: str = "win"

    def _read(self, rows: Rows) -> Made:
        weak, strong = self._pair()
        cells = rows.cells()
        problems = Problems(cells.path, cells.unit, cells.line)
        score = numbers(cells, "mixtral_score", problems, high=5)
        for row in np.flatnonzero(~np.isin(score, SCORES)).tolist():
            if missing(cell := cells.column("mixtral_score")[row]) or not np.isnan(score[row]):
                problems.add(row, "mixtral_score", "no score of the judge", expected="1, 2, 3, 4 or 5", found=shown(cell))
        problems.check()
        won, prompts = "model_a" if self.enough == "win" else "tie", cells.column("prompt")
        groups: dict[Any, str] = {}
        for prompt, source in zip(prompts, cells.column("source"), strict=True):
            groups.setdefault(prompt, _joined(source))  # one text may stand there with two sources: its first row's counts
        made: dict[str, Sequence[Any]] = {
            "prompt": [[text] for text in prompts],  # in lists, so that no prompt is taken for a list of turns itself
            "model_a": [weak] * len(cells),
            "model_b": [strong] * len(cells),
            "winner": np.where(score >= self.threshold, won, "model_b").tolist(),
            "group": [groups[prompt] for prompt in prompts],
        }
        fights = arena.read(arena.with_columns(cells, made), arena.Columns(query="prompt", id="", weight=""), models=[weak, strong])
        first = fights.rows[np.unique(fights.battles.query, return_index=True)[1]]
        counts = {f"score_{value}": int((score == value).sum()) for value in SCORES}
        return Made(fights.battles, first, {"threshold": self.threshold, "enough": self.enough, **counts, **fights.counts})

    def _pair(self) -> Sequence[str]:
        if self.models is None or len(self.models) != 2 or len(set(self.models)) != 2:
            raise InputError(f"models of {self.name}", expected="[weak, strong], two different names", found=repr(self.models))
        if self.threshold not in SCORES[1:]:
            raise InputError(f"threshold of {self.name}", expected="a score from 2 to 5", found=repr(self.threshold))
        if self.enough not in ("win", "tie"):
            raise InputError(f"enough of {self.name}", expected="win or tie", found=repr(self.enough))
        return self.models


def _joined(cell: Any) -> str:
    return "+".join(map(str, cell)) if isinstance(cell, list) else str(cell)
