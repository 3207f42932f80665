"""Answers that were recorded, in place of a model: an earlier collection's files, or the user's own log of prompts and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.files import sha256
from routewright.core.types import InputError
from routewright.data.calls import CallError, Reply, Request
from routewright.data.cells import Cells, Problems, file_format, missing, numbers, read_cells
from routewright.data.tables import read_outcomes

KINDS = ("input", "cached_input", "output", "reasoning")
Key = tuple[str, str, int]  # model, text of the query, sample


@dataclass(kw_only=True, eq=False)
class ReplayBackend:
    """Recorded answers behind core.contracts.Backend; a request without a record is refused, never made up.

    path: a file of outcomes with answers, or a table, a row an answer. query, model, answer, sample: its columns; input_tokens,
    cached_input_tokens, output_tokens, reasoning_tokens and total_s are read where they exist. A request is found by its model and the text
    of its last message, so replay goes with arms of one plain query a call.
    """

    path: str
    query: str = "query"
    model: str = "model"
    answer: str = "answer"
    sample: str = "sample"

    @property
    def remote(self) -> bool:
        return False

    @property
    def concurrency(self) -> int:
        return 64

    def identity(self, model: str) -> str:
        """replay: and 16 hex digits of the file's sha256. Raises InputError for a model that the file does not have."""
        models = {name for name, _, _ in self._replies}
        if model not in models:
            known = ", ".join(sorted(models)[:20])
            raise InputError(f"no answers of {model!r} were recorded", where=self.path, expected=f"one of {known}", found=repr(model))
        return "replay:" + sha256(Path(self.path).expanduser())[:16]

    async def ask(self, request: Request) -> Reply:
        """The recorded reply; raises CallError where there is none."""
        reply = self._replies.get((request.model, request.messages[-1][1], request.sample))
        if reply is None:
            raise CallError("refused", f"no answer of {request.model} to this query is recorded in {Path(self.path).name}", retry=False)
        return reply

    async def close(self) -> None:
        """Nothing is held open."""

    @cached_property
    def _replies(self) -> Mapping[Key, Reply]:
        path = Path(self.path).expanduser()
        kind = file_format(path)
        return _of_outcomes(path) if kind == "outcomes" else self._of_table(read_cells(path, kind))

    def _of_table(self, cells: Cells) -> dict[Key, Reply]:
        for name in (self.query, self.model, self.answer):
            if name not in cells.names:
                found, mend = ", ".join(cells.names[:20]), "Say which column it is, for example backend.answer=response."
                raise InputError(
                    f"there is no column {name!r}", where=self.path, expected="queries, models, answers", found=found, mend=mend
                )
        problems = Problems(cells.path, cells.unit, cells.line)
        counts = {kind: numbers(cells, f"{kind}_tokens", problems, whole=True) for kind in KINDS if f"{kind}_tokens" in cells.names}
        seconds = numbers(cells, "total_s", problems) if "total_s" in cells.names else np.full(len(cells), np.nan)
        sample = numbers(cells, self.sample, problems, whole=True) if self.sample in cells.names else np.zeros(len(cells))
        problems.check()
        made: dict[Key, Reply] = {}
        for row, (query, model, answer) in enumerate(zip(*map(cells.column, (self.query, self.model, self.answer)), strict=True)):
            if missing(answer) or missing(query):
                continue
            tokens = _tokens({kind: float(count[row]) for kind, count in counts.items()})
            made[str(model), str(query), int(np.nan_to_num(sample[row]))] = Reply(str(answer), tokens, total_s=float(seconds[row]))
        return made


def _of_outcomes(path: Path) -> dict[Key, Reply]:
    outcomes = read_outcomes(path)
    if outcomes.answer is None:
        raise InputError("these outcomes hold no answers", where=str(path), expected="answers to replay", found="grades and costs alone")
    made: dict[Key, Reply] = {}
    for row, text in enumerate(outcomes.queries.text):
        for j, model in enumerate(outcomes.pool.name):
            answer: Any = outcomes.answer[row, j]
            if answer is not None:
                tokens = _tokens({kind: float(count[row, j]) for kind, count in outcomes.tokens.items()})
                seconds = np.nan if outcomes.latency is None else float(outcomes.latency[row, j])
                made[model, text, 0] = Reply(answer, tokens, total_s=seconds)
    return made


def _tokens(counts: Mapping[str, float]) -> dict[str, int] | None:
    """Whole counts; None, no usage, where input or output is not known. Cached and reasoning tokens that nobody recorded are none."""
    if any(np.isnan(counts.get(kind, np.nan)) for kind in ("input", "output")):
        return None
    return {kind: int(np.nan_to_num(counts.get(kind, 0.0))) for kind in KINDS}
