"""A whole collection over a made-up backend: what is asked, how it is graded and priced, what is kept, by hand on a tiny table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.prices import PriceBook
from routewright.core.types import Floats, InputError
from routewright.data import collection, records
from routewright.data.calls import CallError, Reply, Request
from routewright.data.collect import Collected
from routewright.data.graders.normalised import Normalised
from routewright.data.graders.number import Number
from routewright.data.judge import PairJudge, ScoreJudge
from routewright.data.meaning import Meaning
from routewright.data.questions import Questions, TableQuestions
from routewright.data.store import Store
from routewright.data.tables import read_metadata, read_outcomes

TABLE = """id,query,gold,group,split
a,2 + 2,4,sums,train
b,3 + 3,6,sums,train
c,4 + 4,8,sums,test
d,2 + 2 ,4,again,test
e,1 + 1,2,again,train
"""
PRICES = PriceBook(
    date="2026-01-01", source="made up", models={"good": {"input": 2.0, "output": 8.0}, "bad": {"input": 1.0, "output": 1.0}}
)
CFG: dict[str, Any] = {
    "arms": ["good", "bad"], "limit": None, "max_tokens": 8, "logprobs": False, "samples": 0, "sample_temperature": 0.7,
    "self_report": None, "report_tokens": 4, "budget_usd": None, "concurrency": 4, "limits": {"backoff_s": 0.0, "attempts": 2},
}  # fmt: skip


class Sums:
    """good adds; bad adds one too many. Says how many tokens each text has by its words. Notes every request."""

    def __init__(self, answer: Callable[[Request], Reply] | None = None) -> None:
        self.asked: list[Request] = []
        self.closed = False
        self.answer = answer

    remote, concurrency = True, 3

    def identity(self, model: str) -> str:
        if model not in PRICES.models and model != "judge":
            raise InputError(f"no model {model!r}")
        return "made-up"

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        if self.answer is not None:
            return self.answer(request)
        return said(request, str(total(request.messages[-1][1]) + (request.model == "bad")))

    async def close(self) -> None:
        self.closed = True


def total(text: str) -> int:
    return sum(int(part) for part in text.split("+"))


def said(request: Request, text: str, **more: Any) -> Reply:
    tokens = {
        "input": sum(len(content.split()) for _, content in request.messages),
        "cached_input": 0,
        "output": len(text.split()),
        "reasoning": 0,
    }
    return Reply(text, tokens, finish="stop", total_s=0.5, **more)


@pytest.fixture
def table(tmp_path: Path) -> TableQuestions:
    (tmp_path / "mine.csv").write_text(TABLE)
    return TableQuestions(path=str(tmp_path / "mine.csv"))


def run(
    tmp_path: Path, table: TableQuestions, backend: Any, cfg: dict[str, Any] | None = None, **parts: Any
) -> tuple[Collected, Any, list[str]]:
    told: list[str] = []
    whole = {"backend": backend, "questions": table, "grader": Number(), "prices": PRICES} | parts
    setup = collection.Setup(CFG | (cfg or {}), whole, lambda purpose: np.random.default_rng(len(purpose)))
    with Store(tmp_path / "calls.sqlite") as store:
        collected = asyncio.run(setup.collect(store, watch=lambda tally: None, tell=told.append))
        calls = list(setup.calls(store))
        records.save(tmp_path, collected, setup.questions, calls, {"prices": None})
    return collected, setup, told


def test_the_table_by_hand(tmp_path: Path, table: TableQuestions) -> None:
    backend = Sums()
    collected, _, told = run(tmp_path, table, backend)
    outcomes = collected.outcomes
    assert outcomes.pool.name == ("good", "bad")
    assert outcomes.quality.tolist() == [[1, 0]] * 5
    assert outcomes.answer is not None
    assert outcomes.answer[0].tolist() == ["4", "5"]
    # three words in, one out: (3 * 2 + 8) / 1e6 and (3 + 1) / 1e6 USD
    np.testing.assert_allclose(outcomes.cost, [[14e-6, 4e-6]] * 5, rtol=1e-12)
    assert outcomes.usage == "measured"
    assert outcomes.pool.usd_output.tolist() == [8e-6, 1e-6]
    assert collected.tally.usd == pytest.approx(5 * 18e-6)
    assert len(backend.asked) == 10
    assert backend.closed
    assert told == ["forecast: 10 calls to make, 0 recorded already; USD " + told[0].split("USD ")[1]]
    assert collection.grades(collected)["bad"] == {"right": 0, "partly right": 0, "wrong": 5, "nothing to grade": 0, "not observed": 0}


def test_a_backend_says_how_much_it_is_best_asked_at_once(tmp_path: Path, table: TableQuestions) -> None:
    class Crowded(Sums):
        flying = most = 0

        async def ask(self, request: Request) -> Reply:
            self.flying += 1
            self.most = max(self.most, self.flying)
            await asyncio.sleep(0.01)
            self.flying -= 1
            return await super().ask(request)

    for wanted, most in ((None, 3), (2, 2)):
        backend = Crowded()
        (folder := tmp_path / str(most)).mkdir()
        run(folder, table, backend, {"arms": ["good"], "concurrency": wanted})
        assert backend.most == most


def test_again_it_asks_nothing_and_says_the_same(tmp_path: Path, table: TableQuestions) -> None:
    first, *_ = run(tmp_path, table, Sums())
    backend = Sums()
    second, _, told = run(tmp_path, table, backend)
    assert not backend.asked
    assert "0 calls to make, 10 recorded" in told[0]
    for name in ("quality", "cost", "answer", "latency"):
        np.testing.assert_array_equal(getattr(second.outcomes, name), getattr(first.outcomes, name))
    assert second.tally.usd == 0
    assert second.tally.recorded == 10


def test_what_it_leaves_is_what_train_takes(tmp_path: Path, table: TableQuestions) -> None:
    from routewright.data.sources.table import Table

    collected, *_ = run(tmp_path, table, Sums())
    source = Table(path=str(tmp_path / "outcomes.parquet"))
    outcomes = source.load()
    np.testing.assert_array_equal(outcomes.quality, collected.outcomes.quality)
    assert source.split() == ["train", "train", "test", "test", "train"]
    assert read_metadata(tmp_path / "outcomes.parquet")["gold"] == ["4", "6", "8", "4", "2"]


def test_every_call_stands_in_a_table_and_can_be_replayed(tmp_path: Path, table: TableQuestions) -> None:
    import pyarrow.parquet as pq

    from routewright.data.backends.replay import ReplayBackend

    collected, *_ = run(tmp_path, table, Sums())
    rows = pq.read_table(tmp_path / "calls.parquet").to_pylist()
    assert len(rows) == 10
    assert {"time", "id", "model", "input_tokens", "usd", "first_s", "total_s", "finish", "status", "error"} <= set(rows[0])
    assert rows[0]["usd"] == pytest.approx(14e-6)
    assert rows[0]["id"] == ["a"]
    (tmp_path / "again").mkdir()
    replayed, *_ = run(tmp_path / "again", table, ReplayBackend(path=str(tmp_path / "calls.parquet")))
    np.testing.assert_array_equal(replayed.outcomes.quality, collected.outcomes.quality)
    np.testing.assert_allclose(replayed.outcomes.cost, collected.outcomes.cost)


def test_two_queries_of_one_text_are_one_call(tmp_path: Path, table: TableQuestions) -> None:
    (tmp_path / "mine.csv").write_text(TABLE.replace("2 + 2 ,4", "2 + 2,4"))
    backend = Sums()
    collected, *_ = run(tmp_path, table, backend)
    assert len(backend.asked) == 8
    assert collected.outcomes.quality.tolist() == [[1, 0]] * 5
    assert collected.outcomes.cost[0].tolist() == collected.outcomes.cost[3].tolist()
    assert collected.tally.usd == pytest.approx(4 * 18e-6), "and is paid for once"


def test_a_failure_is_not_a_wrong_answer_and_silence_is(tmp_path: Path, table: TableQuestions) -> None:
    def answer(request: Request) -> Reply:
        text = request.messages[-1][1]
        if text == "2 + 2":
            raise CallError("refused", "no", retry=False)
        if text == "3 + 3":
            raise CallError(
                "empty",
                "nothing",
                retry=False,
                billed="yes",
                reply=said(
                    request,
                    "",
                ),
            )
        if text == "4 + 4":
            raise CallError(
                "empty",
                "no choice",
                retry=False,
                billed="yes",
                reply=Reply("", {"input": 3, "cached_input": 0, "output": 0, "reasoning": 0}),
            )
        return said(request, "no idea") if text == "1 + 1" else said(request, str(total(text)))

    collected, _, _ = run(tmp_path, table, Sums(answer), {"arms": ["good"]})
    np.testing.assert_array_equal(collected.outcomes.quality[:, 0], [np.nan, 0, np.nan, 1, 0])
    assert np.isnan(collected.outcomes.cost[0, 0])
    assert collected.outcomes.cost[1, 0] == pytest.approx(6e-6), "a paid silence has its cost"
    assert collection.grades(collected)["good"] == {"right": 1, "partly right": 0, "wrong": 0, "nothing to grade": 2, "not observed": 2}
    assert collected.tally.failed == 1


def test_an_answer_without_usage_has_no_cost(tmp_path: Path, table: TableQuestions) -> None:
    collected, setup, _ = run(tmp_path, table, Sums(lambda request: Reply("4", finish="stop")))
    assert np.isnan(collected.outcomes.cost).all()
    assert collected.outcomes.usage == "none"
    found = collection.summary(collected, setup)
    assert found["arms"]["good"]["without_cost"] == 5
    assert found["arms"]["good"]["usd"] is None, "zero is never assumed"
    assert "10 answers came without usage" in collection.text(found)


def test_concatenated_queries_share_one_call(tmp_path: Path, table: TableQuestions) -> None:
    def answer(request: Request) -> Reply:
        lines = request.messages[-1][1].split("\n")
        if len(lines) == 1:
            return said(request, str(total(lines[0])))
        return said(request, "\n".join(f"{i}: {total(line.split(': ')[1])}" for i, line in enumerate(lines, 1) if "3 + 3" not in line))

    backend = Sums(answer)
    collected, setup, _ = run(tmp_path, table, backend, {"arms": [{"model": "good", "batch": 2}]})
    assert setup.arms[0].name == "good*2"
    assert len(backend.asked) == 3
    assert collected.outcomes.quality[:, 0].tolist() == [1, 0, 1, 1, 1], "a number that was left out is no answer"
    paid = sum(PRICES.usd("good", said(request, answer(request).text).tokens) for request in backend.asked)
    assert collected.outcomes.cost.sum() == pytest.approx(paid, rel=1e-9)
    assert collected.outcomes.pool.usd_input.tolist() == [2e-6]


def test_examples_are_paid_for(tmp_path: Path, table: TableQuestions) -> None:
    backend = Sums()
    collected, *_ = run(tmp_path, table, backend, {"arms": ["good", {"model": "good", "shots": 2}]})
    shown = [request for request in backend.asked if len(request.messages) > 1]
    assert len(shown) == 5
    for request in shown:
        assert request.messages[-1] not in request.messages[:-1], "never the question itself"
        assert {content for role, content in request.messages if role == "assistant"} <= {"4", "6", "2"}, "train alone"
    np.testing.assert_allclose(collected.outcomes.cost[:, 1], (11 * 2 + 8) / 1e6)


def test_samples_give_agreement_and_cost_their_own(tmp_path: Path, table: TableQuestions) -> None:
    def answer(request: Request) -> Reply:
        right = total(request.messages[-1][1])
        return said(request, str(right + (request.sample == 3)))

    backend = Sums(answer)
    collected, *_ = run(tmp_path, table, backend, {"arms": ["good"], "samples": 4})
    assert {(request.sample, request.temperature) for request in backend.asked} == {(0, 0.0), *((s, 0.7) for s in (1, 2, 3, 4))}
    signals = collected.outcomes.signals
    np.testing.assert_allclose(signals["agreement"], 0.75)
    np.testing.assert_allclose(signals["majority"], 0.75)
    np.testing.assert_allclose(signals["usd_samples"], 4 * 14e-6, rtol=1e-6)
    np.testing.assert_allclose(collected.outcomes.cost, 14e-6, rtol=1e-9), "the answer alone"
    assert collected.drawn.shape == (5, 1, 4)
    assert (tmp_path / "samples.parquet").is_file()


class Tens:
    """An encoder by length: texts of one digit say the same, and so do those of two."""

    fingerprint = "tens"

    def encode(self, texts: Sequence[str]) -> Floats:
        return np.eye(9, dtype=np.float32)[[len(text) for text in texts]]


def test_recorded_samples_are_compared_by_meaning_without_asking_again(tmp_path: Path, table: TableQuestions) -> None:
    def answer(request: Request) -> Reply:
        right = total(request.messages[-1][1])
        return said(request, str(right + {0: 0, 1: 0, 2: 1, 3: 20, 4: 30}[request.sample]))

    setting = {"arms": ["good"], "samples": 4}
    first, setup, _ = run(tmp_path, table, Sums(answer), setting)
    assert "meaning" not in first.outcomes.signals
    assert setup.facts()["collection"]["meaning"] is None
    backend = Sums(answer)
    meaning = Meaning(encoder=Tens())  # type: ignore[arg-type] - encodes, and makes no graph
    collected, setup, _ = run(tmp_path, table, backend, setting, meaning=meaning)
    assert not backend.asked
    signals = collected.outcomes.signals
    np.testing.assert_allclose(signals["agreement"], 0.25)
    np.testing.assert_allclose(signals["meaning"], 0.5)
    np.testing.assert_allclose(signals["meaning_entropy"], -0.6 * np.log(0.6) - 0.4 * np.log(0.4), rtol=1e-6)
    assert setup.facts()["collection"]["meaning"] == {"encoder": "tens", "threshold": 0.9}
    with pytest.raises(InputError, match="samples=5"):
        run(tmp_path, table, backend, {"arms": ["good"]}, meaning=meaning)
    assert not backend.asked


def test_a_failed_draw_is_no_sample_of_a_meaning(tmp_path: Path, table: TableQuestions) -> None:
    def answer(request: Request) -> Reply:
        if request.sample == 2 or (request.sample and request.messages[-1][1] == "3 + 3"):
            raise CallError("refused", "no", retry=False)
        return said(request, str(total(request.messages[-1][1])))

    meaning = Meaning(encoder=Tens())  # type: ignore[arg-type]
    collected, *_ = run(tmp_path, table, Sums(answer), {"arms": ["good"], "samples": 2}, meaning=meaning)
    signals = collected.outcomes.signals
    assert signals["meaning"][0, 0] == 1.0
    assert signals["meaning_entropy"][0, 0] == 0.0
    assert np.isnan(signals["meaning"][1, 0]), "no draw came back"
    np.testing.assert_array_equal(np.isnan(signals["meaning"]), np.isnan(signals["agreement"]))


def test_entropies_are_kept_and_what_has_none_is_told(tmp_path: Path, table: TableQuestions) -> None:
    def answer(request: Request) -> Reply:
        more = {"entropy": (0.25, 0.75)} if request.model == "good" else {}
        return said(request, "so 4", logprobs=(-0.5, -0.1), pieces=("so ", "4"), **more)

    for _ in range(2):  # the second time from the store
        collected, _, told = run(tmp_path, table, Sums(answer), {"logprobs": True})
        np.testing.assert_allclose(collected.outcomes.signals["logprob_entropy"], [[0.5, np.nan]] * 5)
        assert [line for line in told if "note" in line] == [
            "note: no alternatives to the tokens of bad are recorded (logprob_entropy is NaN)"
        ]


def test_log_probabilities_where_there_are_any(tmp_path: Path, table: TableQuestions) -> None:
    def answer(request: Request) -> Reply:
        assert request.logprobs
        text = f"so {total(request.messages[-1][1])}"
        more = {"logprobs": (-0.5, -0.1), "pieces": ("so ", text[3:])} if request.model == "good" else {}
        return said(request, text, **more)

    collected, _, told = run(tmp_path, table, Sums(answer), {"logprobs": True})
    signals = collected.outcomes.signals
    np.testing.assert_allclose(signals["logprob_mean"][:, 0], -0.3, rtol=1e-6)
    np.testing.assert_allclose(signals["logprob_min"][:, 0], -0.5)
    np.testing.assert_allclose(signals["logprob_span"][:, 0], -0.1, rtol=1e-6)
    assert np.isnan(signals["logprob_mean"][:, 1]).all()
    assert sum("no log-probabilities came from bad" in line for line in told) == 1, "one note, and NaN"


def test_self_reports(tmp_path: Path, table: TableQuestions) -> None:
    def answer(request: Request) -> Reply:
        if len(request.messages) == 3:
            assert request.messages[1][0] == "assistant"
            return said(request, "4" if request.model == "good" else "dunno")
        return said(request, str(total(request.messages[-1][1])))

    collected, *_ = run(tmp_path, table, Sums(answer), {"self_report": "scale"})
    signals = collected.outcomes.signals
    np.testing.assert_allclose(signals["self_reported"][:, 0], 0.75)
    assert np.isnan(signals["self_reported"][:, 1]).all()
    assert (signals["usd_self_reported"] > 0).all()


def test_a_verifier_is_a_signal(tmp_path: Path, table: TableQuestions) -> None:
    from routewright.data.graders.regex import Regex

    collected, *_ = run(tmp_path, table, Sums(), verifier=Regex(pattern="^[0-9]$", needs_gold=False))
    assert set(np.unique(collected.outcomes.signals["verifier"])) <= {0.0, 1.0}


def judging(request: Request) -> Reply:
    """Prefers A whenever it stands first and is right, else B; grades 9 for a right answer."""
    system, user = request.messages[0][1], request.messages[-1][1]
    if "scale" in system:
        return said(request, "[[9]]" if "\n4\n" in user or "\n6\n" in user or "\n8\n" in user or "\n2\n" in user else "[[2]]")
    return said(request, "[[A]]")


def asked_or_judged(request: Request) -> Reply:
    if request.model == "judge":
        return judging(request)
    return said(request, str(total(request.messages[-1][1]) + (request.model == "bad")))


def test_a_score_judge_grades(tmp_path: Path, table: TableQuestions) -> None:
    collected, setup, _ = run(tmp_path, table, Sums(asked_or_judged), judge=ScoreJudge(model="judge", use_reference=False), prices=None)
    assert "judge judge graded 10 of 10 answers; 0 grades could not be had or read." in collection.text(
        collection.summary(collected, setup)
    )
    np.testing.assert_allclose(collected.outcomes.quality[:, 0], 8 / 9, rtol=1e-6)
    assert collected.judged is not None
    assert collected.judged["unparsed"] == 0


def test_a_pairwise_judge_who_always_says_a_carries_no_information(tmp_path: Path, table: TableQuestions) -> None:
    from routewright.data.battles import read_battles

    collected, setup, _ = run(tmp_path, table, Sums(asked_or_judged), judge=PairJudge(model="judge"), prices=None)
    assert collected.battles is not None
    assert collected.battles.outcome.tolist() == [0.5] * 5, "two orders that contradict each other are a tie"
    assert collected.outcomes.quality.tolist() == [[0.5, 0.5]] * 5
    assert collected.judged is not None
    said = collection.text(collection.summary(collected, setup))
    assert "always prefers the first answer" in said
    assert "compared 5 pairs: 0 wins, 5 ties, 0 unread; its two orders agree on 0% (5 contradict each other)" in said
    assert "favours the first position by +50.0 points" in said
    assert len(read_battles(tmp_path / "battles.parquet")) == 5


def test_nothing_to_grade_against_is_told_before_the_first_call(tmp_path: Path, table: TableQuestions) -> None:
    (tmp_path / "mine.csv").write_text("query\n2 + 2\n3 + 3\n")
    backend = Sums()
    with pytest.raises(InputError, match=r"nothing to grade against.*questions\.gold=NAME"):
        run(tmp_path, table, backend)
    assert not backend.asked


def test_a_gold_that_cannot_be_graded_is_told_before_the_first_call(tmp_path: Path, table: TableQuestions) -> None:
    (tmp_path / "mine.csv").write_text("query,gold\n2 + 2,4\n3 + 3,six or so\n")
    backend = Sums()
    with pytest.raises(InputError, match="six or so"):
        run(tmp_path, table, backend)
    assert not backend.asked


def test_the_budget_is_a_hard_stop_and_the_rest_is_not_observed(tmp_path: Path, table: TableQuestions) -> None:
    collected, setup, _ = run(tmp_path, table, Sums(), {"budget_usd": 30e-6, "concurrency": 1, "max_tokens": 1})
    assert collected.tally.usd <= 30e-6
    assert collected.tally.not_asked > 0
    assert np.isnan(collected.outcomes.quality).sum() == collected.tally.not_asked
    text = collection.text(collection.summary(collected, setup))
    assert "were not made" in text
    assert "budget" in text


def test_an_unknown_model_is_told_before_anything_is_asked(tmp_path: Path, table: TableQuestions) -> None:
    backend = Sums()
    with pytest.raises(InputError, match="no model 'huge'"):
        run(tmp_path, table, backend, {"arms": ["huge"]})


def test_questions_are_kept_whole(table: TableQuestions) -> None:
    assert isinstance(table.load(), Questions)


@pytest.mark.parametrize("settings", [{"samples": -1}, {"samples": 2, "sample_temperature": 0.0}, {"self_report": "words"}])
def test_impossible_signals_are_refused(tmp_path: Path, table: TableQuestions, settings: dict[str, Any]) -> None:
    backend = Sums()
    with pytest.raises(InputError):
        run(tmp_path, table, backend, settings)
    assert not backend.asked


def test_outcomes_read_back_are_the_same(tmp_path: Path, table: TableQuestions) -> None:
    collected, *_ = run(tmp_path, table, Sums(), {"samples": 1}, grader=Normalised())
    again = read_outcomes(tmp_path / "outcomes.parquet")
    assert set(again.signals) == set(collected.outcomes.signals)
    np.testing.assert_array_equal(again.quality, collected.outcomes.quality)
