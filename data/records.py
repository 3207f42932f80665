"""What a collection leaves in its run folder: outcomes, every call as a table, the sampled answers, battles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.files import write_atomic
from routewright.core.types import TOKEN_KINDS
from routewright.data.battles import write_battles
from routewright.data.calls import Call
from routewright.data.collect import Collected
from routewright.data.questions import Questions
from routewright.data.tables import write_outcomes

OUTCOMES, CALLS, SAMPLES, BATTLES = "outcomes.parquet", "calls.parquet", "samples.parquet", "battles.parquet"


def save(folder: Path, collected: Collected, questions: Questions, calls: Iterable[Call], about: Mapping[str, Any]) -> list[Path]:
    """Writes the files into `folder`; about goes into their metadata, with the questions' gold answers and split."""
    known = {"gold": questions.gold.tolist(), "split": questions.split.tolist() if (questions.split != "").all() else None}
    written = [write_outcomes(folder / OUTCOMES, collected.outcomes, {**about, **known}), _save_calls(folder / CALLS, calls)]
    if collected.drawn.shape[2]:
        written.append(_save_samples(folder / SAMPLES, collected))
    if collected.battles is not None:
        written.append(write_battles(folder / BATTLES, collected.battles, about))
    return written


def _save_calls(path: Path, calls: Iterable[Call]) -> Path:
    """One row a call, as the store has it; a person's view, and what backend=replay reads."""
    columns: dict[str, list[Any]] = {}
    for call in calls:
        reply, tokens = call.reply, call.reply.tokens or {}
        row = {
            "time": call.time,
            "id": list(call.queries),
            "model": call.request.model,
            "query": call.request.messages[-1][1],
            "sample": call.request.sample,
            "temperature": call.request.temperature,
            "status": call.status,
            "answer": reply.text if call.status == "ok" else None,
            **{f"{kind}_tokens": tokens.get(kind) for kind in TOKEN_KINDS},
            "usd": _known(call.usd),
            "first_s": _known(reply.first_s),
            "total_s": _known(reply.total_s),
            "finish": reply.finish,
            "attempts": call.attempts,
            "lost": call.lost,
            "error": call.error,
            "logprobs": None if reply.logprobs is None else list(reply.logprobs),
            "entropy": None if reply.entropy is None else list(reply.entropy),
            "key": call.key,
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return _write(path, columns)


def _save_samples(path: Path, collected: Collected) -> Path:
    """One row a drawn answer: query id, arm, sample from 1, answer, what the grader read in it."""
    queries, pool = collected.outcomes.queries, collected.outcomes.pool
    rows = [cell for cell in np.ndindex(*collected.drawn.shape) if collected.drawn[cell] is not None]
    return _write(
        path,
        {
            "id": [queries.id[i] for i, _, _ in rows],
            "model": [pool.name[j] for _, j, _ in rows],
            "sample": [s + 1 for _, _, s in rows],
            "answer": [collected.drawn[cell] for cell in rows],
            "extracted": [collected.drawn_extracted[cell] for cell in rows],
        },
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _write(path: Path, columns: Mapping[str, list[Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return write_atomic(path, lambda stream: pq.write_table(pa.table(dict(columns)), stream, compression="zstd"))
