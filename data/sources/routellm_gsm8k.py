"""GSM8K as RouteLLM recorded it: 1,319 word problems, both models' answers and grades; 1,307 after decontamination.

labels=published are the repository's grades. Its grader takes the last run of digits, so "$20.00" reads 0. labels=clean grades the recorded
answers again (data/grading.py) against the gold answers, which WildEval/ZeroEval's result files carry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from routewright.core.types import Floats, InputError
from routewright.data.grading import final_number, numbers_equal
from routewright.data.sources._pinned import fetched
from routewright.data.sources._routellm import RouteLLMSource, Table, contaminated, csv_rows, flag
from routewright.data.sources._spoken import spelled


@dataclass(frozen=True, kw_only=True)
class RouteLLMGsm8k(RouteLLMSource):
    """GSM8K outcomes. gold: {owner, repo, commit, files: {path: sha256}} of one file with the gold answers, read for clean labels only.

    reader: how data/grading.py reads an answer without a mark, "last_number" or "conclusion".
    """

    notes: ClassVar[Mapping[str, str]] = {
        "clean": "Recorded answers graded again against the gold numbers. reader=conclusion finds the right answers whose closing sentence "
        "repeats the question; with reader=last_number some 5 % of GPT-4's stay hidden.",
        "published": "Grades as in the repository: the last run of digits, so that $20.00 reads 0 and 42 right GPT-4 answers fail.",
    }

    gold: Mapping[str, Any]
    reader: str = "conclusion"

    def said(self, answer: str) -> str | None:
        """The final number, as clean labels read it."""
        return spelled(final_number(answer, reader=self.reader))

    def provenance(self) -> dict[str, Any]:
        """As every source, and for clean labels the file of gold answers and how answers were read."""
        gold = {**self.gold, "files": dict(self.gold["files"])}
        clean = {"gold": gold, "reader": self.reader} if self.labels == "clean" else {}
        return {**super().provenance(), **clean}

    def _read(self, paths: Mapping[str, Path]) -> Table:
        columns = ["prompt", *self.models, *(f"{model}_response" for model in self.models)]
        rows = csv_rows(self._one(paths, "gsm8k_responses.csv"), columns)
        dropped = contaminated(self._one(paths, "contaminated_prompts.jsonl"))
        kept = [(i, row) for i, row in enumerate(rows) if row[0] not in dropped]
        text = [row[0] for _, row in kept]
        answer = np.array([row[3:5] for _, row in kept], dtype=object)
        if self.labels == "clean":
            quality = self._regraded(text, answer)
        else:
            quality = np.array([[flag(value, f"question {i}") for value in row[1:3]] for i, row in kept], dtype=np.float64)
        tokens = {
            "input": np.repeat(self._count(text)[:, None], 2, axis=1),
            "output": self._count(answer.ravel().tolist()).reshape(answer.shape),
        }
        return Table([f"gsm8k-{i:04d}" for i, _ in kept], text, ["gsm8k"] * len(kept), quality, tokens, answer)

    def _regraded(self, text: Sequence[str], answer: np.ndarray[Any, Any]) -> Floats:
        """quality (n, 2) of the recorded answers (n, 2) against the gold ones. Raises InputError for a question without a gold answer."""
        files = fetched(*(self.gold[key] for key in ("owner", "repo", "commit", "files")))
        gold = {row.get("question"): row.get("answer") for path in files.values() for row in json.loads(path.read_bytes())}
        missing = [question for question in text if question not in gold]
        if missing:
            raise InputError(
                f"{len(missing)} questions have no gold answer",
                where=", ".join(self.gold["files"]),
                expected=f"all {len(text)} questions, word for word",
                found=f"none for {missing[0][:80]!r}",
                mend="Pin a complete result file, or use labels=published.",
            )
        graded = [
            [numbers_equal(given, gold[question], reader=self.reader) for given in row] for question, row in zip(text, answer, strict=True)
        ]
        return np.array(graded, dtype=np.float64)
