"""EVOUNA's Natural Questions: 3,019 short factual questions, five systems' answers of early 2023, each judged by people.

EVOUNA: Wang et al. 2023, arXiv 2305.12421. Questions that it calls improper, and one whose judgement is missing, are left out, whichever
systems are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from routewright.core.types import InputError
from routewright.data.sources._recorded import ESTIMATE, RecordedSource, Table, field, json_rows, ones

SYSTEMS = ("fid", "gpt35", "chatgpt", "gpt4", "newbing")
_ASKED = (
    "FiD is a research system and Bing Chat was a free product: neither had a price, so their costs are unknown. The prompts of the others "
    "are not recorded."
)


@dataclass(frozen=True, kw_only=True)
class EvounaNq(RecordedSource):
    """EVOUNA-NQ outcomes by human judgement. models: some of SYSTEMS. Both labels are the same grades."""

    notes: ClassVar[Mapping[str, str]] = {
        "clean": f"Human judgements, the same as published. {_ASKED}",
        "published": f"Human judgements as in the repository. {_ASKED}",
    }
    estimate: ClassVar[str] = ESTIMATE

    def _check(self) -> None:
        super()._check()
        ones(self.models, dict.fromkeys(SYSTEMS, ""), self.name)

    def _read(self, paths: Mapping[str, Path]) -> Table:
        (path,) = paths.values()
        ids, text, answers, judged = [], [], [], []
        for i, row in enumerate(json_rows(path.read_bytes(), path.name)):
            where = f"{path.name}, row {i}"
            verdicts = [field(row, f"judge_{system}", (bool, type(None)), where) for system in SYSTEMS]
            if field(row, "improper", bool, where) or None in verdicts:
                continue
            ids.append(f"evouna-nq-{i:04d}")
            text.append(field(row, "question", str, where))
            answers.append([field(row, f"answer_{name}", (str, type(None)), where) for name in self.models])
            judged.append([verdicts[SYSTEMS.index(name)] for name in self.models])
        if not ids:
            raise InputError("no question is left", where=path.name, expected="proper questions with all judgements", found="none")
        answer = np.array(answers, dtype=object)
        return Table(ids, text, ["nq"] * len(ids), np.array(judged, dtype=np.float64), self._usage(text, answer), answer)
