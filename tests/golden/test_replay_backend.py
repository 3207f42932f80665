"""Recorded answers in place of a model: from a table, from outcomes, and nothing made up where there is no record."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routewright.core.contracts import Backend
from routewright.core.types import InputError, Outcomes
from routewright.data.backends.replay import ReplayBackend
from routewright.data.calls import CallError, Reply, Request
from routewright.data.tables import write_outcomes

CSV = """query,model,sample,answer,input_tokens,output_tokens,total_s
2 + 2?,small,0,4,7,1,0.5
2 + 2?,small,1,five,7,2,
2 + 2?,large,0,four,7,,0.9
"""


def ask(backend: ReplayBackend, model: str, text: str, sample: int = 0) -> Reply:
    return asyncio.run(backend.ask(Request(backend.identity(model), model, (("system", "be brief"), ("user", text)), sample=sample)))


@pytest.fixture
def table(tmp_path: Path) -> ReplayBackend:
    (tmp_path / "log.csv").write_text(CSV)
    return ReplayBackend(path=str(tmp_path / "log.csv"))


def test_a_table_is_replayed(table: ReplayBackend) -> None:
    assert isinstance(table, Backend)
    assert ask(table, "small", "2 + 2?") == Reply("4", {"input": 7, "cached_input": 0, "output": 1, "reasoning": 0}, total_s=0.5)
    assert ask(table, "small", "2 + 2?", sample=1).text == "five"
    assert np.isnan(ask(table, "small", "2 + 2?", sample=1).total_s)


def test_an_answer_without_usage_has_none(table: ReplayBackend) -> None:
    assert ask(table, "large", "2 + 2?").tokens is None


@pytest.mark.parametrize(("model", "text", "sample"), [("large", "2 + 2?", 1), ("small", "2 + 3?", 0)])
def test_what_is_not_recorded_is_refused(table: ReplayBackend, model: str, text: str, sample: int) -> None:
    with pytest.raises(CallError, match="no answer of") as caught:
        ask(table, model, text, sample)
    assert not caught.value.retry
    assert caught.value.billed == "no"


def test_an_unknown_model_lists_those_recorded(table: ReplayBackend) -> None:
    with pytest.raises(InputError, match="one of large, small"):
        table.identity("huge")


def test_outcomes_with_answers_are_replayed(tmp_path: Path, outcomes: Outcomes) -> None:
    answer = np.array([[f"{i}-{j}" if (i + j) % 3 else None for j in range(2)] for i in range(len(outcomes))], dtype=object)
    tokens = {"input": np.full(outcomes.quality.shape, 5.0), "output": np.full(outcomes.quality.shape, 2.0)}
    path = write_outcomes(tmp_path / "o.parquet", replace(outcomes, answer=answer, tokens=tokens))
    backend = ReplayBackend(path=str(path))
    assert ask(backend, "model1", "question number 3").text == "3-1"
    assert ask(backend, "model1", "question number 3").tokens == {"input": 5, "cached_input": 0, "output": 2, "reasoning": 0}
    with pytest.raises(CallError):
        ask(backend, "model0", "question number 3")
    with pytest.raises(InputError, match="hold no answers"):
        ReplayBackend(path=str(write_outcomes(tmp_path / "bare.parquet", outcomes))).identity("model0")


def test_identity_changes_with_the_file(table: ReplayBackend, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(CSV.replace("four", "vier"))
    assert ReplayBackend(path=str(tmp_path / "other.csv")).identity("small") != table.identity("small")


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("prompt,llm,response\nhi,m,hello\n")
    backend = ReplayBackend(path=str(tmp_path / "log.csv"), query="prompt", model="llm", answer="response")
    assert ask(backend, "m", "hi").text == "hello"
    with pytest.raises(InputError, match="there is no column 'query'"):
        ReplayBackend(path=str(tmp_path / "log.csv")).identity("m")
