"""QLoRA's verdicts as battles, by hand on three prompts and three models written in upstream's form; and what is refused."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.contracts import Source
from routewright.core.files import sha256
from routewright.core.types import Battles, InputError
from routewright.data.judge import PairJudge
from routewright.data.sources.qlora_oa import QLoRAOpenAssistant

MODELS = ("7b", "gpt-3.5", "gpt-4")
HUMAN, ASSISTANT = "### Human: ", " ### Assistant:"
QUESTIONS = [
    ("p", f"{HUMAN}Hello!\nWho?{ASSISTANT}", "en"),
    ("q", f"{HUMAN}Hola{ASSISTANT} Buenas. {HUMAN}Más{ASSISTANT}", "es"),
    ("r", f"{HUMAN}Hola{ASSISTANT}", "ca"),
]
# what was said of p, q and r, by (first, second) model
SAID: dict[tuple[str, str], list[Any]] = {
    ("7b", "gpt-3.5"): [1, 1, 3],
    ("gpt-3.5", "7b"): [2, "1", 3],
    ("7b", "gpt-4"): ["2", -1, 2],
    ("gpt-4", "7b"): [3, 1, "-1"],
    ("gpt-3.5", "gpt-4"): [1, 1, 1],
    ("gpt-4", "gpt-3.5"): [1, 2, 1],
}


class Upstream:
    """The files of a repository in a mirror of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "artidoro" / "qlora" / ("c" * 40)
        self.files: dict[str, str] = {}
        self.write("eval/prompts/oa_questions.jsonl", [{"question_id": i, "input": text, "lang": lang} for i, text, lang in QUESTIONS])
        for pair, scores in SAID.items():
            self.judge(*pair, [(row[0], score) for row, score in zip(QUESTIONS, scores, strict=True)])

    def judge(self, first: str, second: str, verdicts: list[tuple[str, Any]]) -> None:
        name = f"{first}-oa-generations-topp0.9-vs-{second}-oa-generations-gpt-4-reviewer-threeclass.jsonl"
        self.write(f"eval/ratings-gpt4/oa/{name}", [{"message_id": i, "score": score, "text": "..."} for i, score in verdicts])

    def write(self, path: str, rows: list[dict[str, Any]]) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.files[path] = sha256(file)

    def source(self, **changed: Any) -> QLoRAOpenAssistant:
        settings: dict[str, Any] = {"name": "q", "models": MODELS, "owner": "artidoro", "repo": "qlora", "commit": "c" * 40}
        return QLoRAOpenAssistant(**settings | {"files": dict(self.files), "licence": "MIT", "citation": "them"} | changed)


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    monkeypatch.setenv("ROUTEWRIGHT_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("ROUTEWRIGHT_OFFLINE", "1")
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))
    return Upstream(tmp_path / "mirror")


def rows(battles: Battles) -> list[tuple[Any, ...]]:
    names = battles.pool.name
    columns = zip(battles.query, battles.a, battles.b, battles.outcome, strict=True)
    return [(battles.queries.id[q], names[a], names[b], float(won)) for q, a, b, won in columns]


def test_each_order_is_half_a_battle(upstream: Upstream) -> None:
    made = upstream.source().load()
    assert made.pool.name == MODELS
    assert made.cost is None
    assert rows(made)[:6] == [
        ("p", "7b", "gpt-3.5", 1),
        ("p", "7b", "gpt-4", 0),
        ("p", "gpt-3.5", "7b", 0),
        ("p", "gpt-3.5", "gpt-4", 1),
        ("p", "gpt-4", "7b", 0.5),
        ("p", "gpt-4", "gpt-3.5", 1),
    ]
    assert len(made) == 18 - 2, "two were not parsed"
    assert made.weight is not None
    assert (made.weight == 0.5).all()


def test_orders_that_differ_make_a_tie(upstream: Upstream) -> None:
    made = upstream.source(orders="consistent").load()
    assert rows(made) == [
        ("p", "7b", "gpt-3.5", 1),
        ("p", "7b", "gpt-4", 0.5),
        ("p", "gpt-3.5", "gpt-4", 0.5),
        ("q", "7b", "gpt-3.5", 0.5),
        ("q", "gpt-3.5", "gpt-4", 1),
        ("r", "7b", "gpt-3.5", 0.5),
        ("r", "gpt-3.5", "gpt-4", 0.5),
    ]
    assert made.weight is not None
    assert (made.weight == 1).all()


def test_it_is_what_a_strict_pairwise_judge_says(upstream: Upstream) -> None:
    """data/judge.py combines the same verdicts to the same battles."""
    word = {"1": "first", "2": "second", "3": "tie", "-1": None}
    outcome = {"first": 1.0, "tie": 0.5, "second": 0.0}
    judge = PairJudge(model="j", ties="strict")
    expected = []
    for k, question in enumerate(QUESTIONS):
        for i, a in enumerate(MODELS):
            for b in MODELS[i + 1 :]:
                verdict = judge.combine(word[str(SAID[a, b][k])], word[str(SAID[b, a][k])])
                expected += [] if verdict is None else [(question[0], a, b, outcome[verdict])]
    assert rows(upstream.source(orders="consistent").load()) == expected


def test_the_first_order_follows_the_models(upstream: Upstream) -> None:
    made = upstream.source(orders="first", models=["gpt-4", "7b"]).load()
    assert made.pool.name == ("gpt-4", "7b")
    assert rows(made) == [("p", "gpt-4", "7b", 0.5), ("q", "gpt-4", "7b", 1)]
    assert rows(upstream.source(orders="first", models=["7b", "gpt-4"]).load()) == [("p", "7b", "gpt-4", 0), ("r", "7b", "gpt-4", 0)]


def test_only_what_the_models_need_is_fetched(upstream: Upstream) -> None:
    for path in upstream.files:
        if "gpt-3.5" in path:
            (upstream.root / path).unlink()
    source = upstream.source(models=["7b", "gpt-4"])
    assert len(source.load()) == 4
    assert len(source.provenance()["files"]) == 3


@pytest.mark.parametrize("orders", ["both", "first"])
def test_corrected_verdicts_keep_their_weight(upstream: Upstream, orders: str) -> None:
    plain, made = (upstream.source(orders=orders, bias=bias).load() for bias in ("none", "corrected"))
    assert len(made) > len(plain)
    assert made.weight is not None
    assert plain.weight is not None
    for query in range(3):
        np.testing.assert_allclose(made.weight[made.query == query].sum(), plain.weight[plain.query == query].sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("view", "group", "texts", "groups"),
    [
        ("last", "conversation", ["Hello!\nWho?", "Más", "Hola"], ["p", "q", "q"]),
        ("conversation", "language", ["Hello!\nWho?", "Hola\n\nBuenas.\n\nMás", "Hola"], ["en", "es", "ca"]),
    ],
)
def test_what_a_router_reads(upstream: Upstream, view: str, group: str, texts: list[str], groups: list[str]) -> None:
    queries = upstream.source(view=view, group=group).load().queries
    assert queries.id.tolist() == ["p", "q", "r"]
    assert queries.text.tolist() == texts
    assert queries.group.tolist() == groups


def test_provenance_counts_every_verdict(upstream: Upstream) -> None:
    """Seven pairs were parsed in both orders: five of them differ. In them 8 first wins, 3 second wins, 3 ties."""
    source = upstream.source()
    assert isinstance(source, Source)
    assert source.split() is None
    told = source.provenance()
    assert json.loads(json.dumps(told)) == told
    about = told["battles"]
    bias = about.pop("position_bias")
    assert about == {
        "verdicts": 18,
        "first": 9,
        "second": 4,
        "ties": 3,
        "unparsed": 2,
        "pairs_in_both_orders": 7,
        "inconsistent_share": pytest.approx(4 / 7),
    }
    assert bias["first_minus_second"] == pytest.approx((8 - 3) / 14)
    assert bias["pairs_in_both_orders"] == 7
    assert (told["usage"], told["prices"], told["files"]) == ("none", None, upstream.files)


@pytest.mark.parametrize(("score", "told"), [(1, "winners all stand in one position"), (3, "names no winner"), (-1, "names no winner")])
def test_a_judge_that_says_one_thing(upstream: Upstream, score: int, told: str) -> None:
    """Its battles are loaded, for all ties they are after both orders; its bias is told to be unknown, and correcting it is refused."""
    for pair in permutations(MODELS, 2):
        upstream.judge(*pair, [(row[0], score) for row in QUESTIONS])
    about = upstream.source().provenance()["battles"]
    assert about["position_bias"] is None
    assert told in about["position_bias_unknown"]
    assert about["inconsistent_share"] == {1: 1, 3: 0, -1: None}[score]
    with pytest.raises(InputError, match=told):
        upstream.source(bias="corrected").load()
    agreed = upstream.source(orders="consistent").load()
    assert (agreed.outcome == 0.5).all()
    assert len(agreed) == (0 if score == -1 else 9)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"orders": "second"}, "orders of q: expected one of both, consistent, first, found 'second'"),
        ({"bias": "yes"}, "bias of q: expected one of none, corrected"),
        ({"view": "first"}, "view of q"),
        ({"group": "topic"}, "group of q"),
        ({"labels": "wrong"}, "labels of q: expected one of clean, published"),
        ({"orders": "consistent", "bias": "corrected"}, "cannot correct what both orders already agree on"),
        ({"models": ["7b"]}, "two or more, each once, found 7b"),
        ({"models": ["7b", "7b"]}, "two or more, each once, found 7b, 7b"),
        ({"models": ["7b", "8b"]}, "has no file in 7b before 8b: expected models among 7b, gpt-3.5, gpt-4, found 7b, 8b"),
        ({"files": {}}, "has no file in the questions"),
    ],
)
def test_settings_that_cannot_be(upstream: Upstream, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        upstream.source(**changed).load()
    with pytest.raises(InputError, match=told):
        upstream.source(**changed).provenance()


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ([("p", 1), ("q", 1)], "does not judge every question once in r: expected 1, found 0"),
        ([("p", 1), ("q", 1), ("r", 1), ("q", 1)], "in q: expected 1, found 2"),
        ([("p", 1), ("q", 1), ("r", 1), ("s", 1)], "does not judge every question once in s"),
        ([("p", 1), ("q", 4), ("r", 1)], "has an unknown verdict in q: expected 1, 2, 3, -1, found '4'"),
    ],
)
def test_rows_that_cannot_be(upstream: Upstream, verdicts: list[tuple[str, Any]], told: str) -> None:
    upstream.judge("7b", "gpt-4", verdicts)
    with pytest.raises(InputError, match=told):
        upstream.source().load()


@pytest.mark.parametrize("text", ["Hello", f"{HUMAN}Hello{ASSISTANT} Yes.", "", f"x {HUMAN}Hello{ASSISTANT}"])
def test_questions_that_cannot_be(upstream: Upstream, text: str) -> None:
    upstream.write("eval/prompts/oa_questions.jsonl", [{"question_id": i, "input": text, "lang": "en"} for i in "pqr"])
    with pytest.raises(InputError, match="a question is not in upstream's form in p"):
        upstream.source().load()
