"""MMLU as RouteLLM recorded it: 14,042 multiple-choice questions of 57 subjects, correctness only; 14,037 after decontamination.

labels=clean leaves out high_school_mathematics (270 questions): GPT-4 scores 3.0 % there, far below the 25 % of guessing, which is a
fault of format and not of knowledge. 105 prompts stand twice upstream; they are kept, and a split by text keeps them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from routewright.core.types import InputError
from routewright.data.sources._routellm import RouteLLMSource, Table, contaminated, csv_rows, flag

FAULTY = frozenset({"high_school_mathematics"})


@dataclass(frozen=True, kw_only=True)
class RouteLLMMmlu(RouteLLMSource):
    """MMLU outcomes; the group is the subject. Answers are one letter and not recorded: output is one token."""

    notes: ClassVar[Mapping[str, str]] = {
        "clean": "Without high_school_mathematics: GPT-4's 3.0 % there is a fault of format.",
        "published": "Grades as in the repository, with the faulty high_school_mathematics (GPT-4 3.0 %, Mixtral 31.9 %).",
    }

    def _read(self, paths: Mapping[str, Path]) -> Table:
        dropped = contaminated(self._one(paths, "contaminated_prompts.jsonl"))
        tables = {Path(name).stem.removeprefix("mmlu_"): path for name, path in paths.items() if name.endswith(".csv")}
        if not tables:
            raise InputError(f"files of {self.name}", expected="one mmlu_<subject>.csv for each subject", found="none")
        ids, text, group, flags = [], [], [], []
        for subject in sorted(tables):
            if self.labels == "clean" and subject in FAULTY:
                continue
            for i, (prompt, *correct) in enumerate(csv_rows(tables[subject], ["prompt", *self.models])):
                if prompt not in dropped:
                    ids.append(f"mmlu-{subject}-{i:04d}")
                    text.append(prompt)
                    group.append(subject)
                    flags.append([flag(value, ids[-1]) for value in correct])
        quality = np.array(flags, dtype=np.float64)
        tokens = {"input": np.repeat(self._count(text)[:, None], 2, axis=1), "output": np.ones_like(quality)}
        return Table(ids, text, group, quality, tokens, None)
