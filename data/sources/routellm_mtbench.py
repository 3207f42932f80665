"""MT-Bench as RouteLLM recorded it: 80 two-turn questions, GPT-4's scores 1 to 10 for both models; 72 after decontamination.

Quality is the mean score of the two turns over 10. A router sees the first turn alone, as in the paper. Clean labels are the published
ones: no fault is known. MT-Bench: Zheng et al. 2023, arXiv 2306.05685.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from routewright.core.types import Floats, InputError
from routewright.data.sources._routellm import RouteLLMSource, Table, contaminated, json_lines

TURNS = (1, 2)
_ONE = ("[The Start of Assistant's Answer]\n", "\n[The End of Assistant's Answer]")
_TWO = ("### User:\n{turn}\n\n### Assistant A:\n", "\n\n<|The End of Assistant A's Conversation with User|>")


@dataclass(frozen=True, kw_only=True)
class RouteLLMMtBench(RouteLLMSource):
    """MT-Bench outcomes; the group is the category, the answer is the first turn's, tokens and cost are those of both turns."""

    notes: ClassVar[Mapping[str, str]] = {
        "clean": "The same as published: no grading fault is known in these scores.",
        "published": "GPT-4's scores as in the repository, mean of both turns, over 10.",
    }

    def _read(self, paths: Mapping[str, Path]) -> Table:
        dropped = contaminated(self._one(paths, "contaminated_prompts.jsonl"))
        questions = [row for row in json_lines(self._one(paths, "question.jsonl")) if not dropped.intersection(row["turns"])]
        score, answer = self._judged(questions, self._one(paths, "judgements.jsonl"))
        return Table(
            [f"mtbench-{question['question_id']}" for question in questions],
            [question["turns"][0] for question in questions],
            [question["category"] for question in questions],
            score.mean(axis=2) / 10,
            self._tokens(questions, answer),
            answer[:, :, 0],
        )

    def _judged(self, questions: Sequence[Mapping[str, Any]], path: Path) -> tuple[Floats, np.ndarray[Any, Any]]:
        """Scores and answers, each (n, 2 models, 2 turns). Raises InputError for a judgement that is missing, doubled or unreadable."""
        rows: dict[tuple[int, str, int], Mapping[str, Any]] = {}
        for row in json_lines(path):
            key = (row["question_id"], row["model"], row["turn"])
            if rows.setdefault(key, row) is not row:
                raise InputError(f"{path.name} judges an answer twice", where=str(key), expected="one judgement for each turn", found="two")
        shape = (len(questions), len(self.models), len(TURNS))
        score, answer = np.empty(shape), np.empty(shape, dtype=object)
        for i, j, t in np.ndindex(*shape):
            key = (questions[i]["question_id"], self.models[j], TURNS[t])
            if key not in rows:
                raise InputError(f"{path.name} lacks a judgement", where=str(key), expected="both turns of every question", found="none")
            score[i, j, t] = rows[key]["score"]
            if not 1 <= score[i, j, t] <= 10:
                raise InputError(f"{path.name} has an impossible score", where=str(key), expected="1 to 10", found=str(score[i, j, t]))
            answer[i, j, t] = _answer(rows[key]["user_prompt"], questions[i]["turns"][t], TURNS[t], str(key))
        return score, answer

    def _tokens(self, questions: Sequence[Mapping[str, Any]], answer: np.ndarray[Any, Any]) -> dict[str, Floats]:
        """Estimated tokens (n, 2) of the whole conversation: the second call reads the first turn and its answer again."""
        asked = self._count([turn for question in questions for turn in question["turns"]]).reshape(-1, 1, 2)
        given = self._count(answer.ravel().tolist()).reshape(answer.shape)  # (n, 2 models, 2 turns)
        return {"input": 2 * asked[:, :, 0] + given[:, :, 0] + asked[:, :, 1], "output": given.sum(axis=2)}


def _answer(prompt: str, asked: str, turn: int, where: str) -> str:
    """The judged answer, cut out of the judge's prompt between its own marks. Raises InputError where the marks are missing."""
    start, end = _ONE if turn == 1 else (_TWO[0].format(turn=asked.strip()), _TWO[1])
    _, opened, rest = prompt.partition(start) if turn == 1 else prompt.rpartition(start)
    text, closed, _ = rest.rpartition(end)
    if not opened or not closed:
        raise InputError(
            "a judge's prompt does not hold the answer", where=where, expected=f"text between {start[:40]!r} and {end!r}", found="none"
        )
    return text
