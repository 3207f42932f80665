"""The sources of recorded answers by hand: a few rows in each upstream format, every grading rule case by case, and broken files."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.files import sha256
from routewright.core.prices import PriceBook
from routewright.core.types import InputError
from routewright.data.sources import _recorded
from routewright.data.sources._recorded import RecordedSource, kept_values
from routewright.data.sources._zeroeval import final_answer, published_answer, published_equal, states
from routewright.data.sources.evouna_nq import EvounaNq
from routewright.data.sources.mmlu_pro import MmluPro
from routewright.data.sources.zeroeval_gsm import ZeroEvalGsm
from routewright.data.sources.zeroeval_math import ZeroEvalMath

COMMIT = "0" * 40
BOOK = PriceBook(date="2024-12", source="made up", models={"small": {"input": 1, "output": 2}, "large": {"input": 10, "output": 20}})
Build = Callable[..., Any]


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """build(cls, {path: content}, **settings): a source whose files are these, in a mirror of their own."""
    monkeypatch.setenv("ROUTEWRIGHT_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("ROUTEWRIGHT_OFFLINE", "1")
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))

    def made(cls: type[RecordedSource], contents: dict[str, bytes], **settings: Any) -> RecordedSource:
        folder = tmp_path / "mirror" / "owner" / "repo" / COMMIT
        for path, content in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        pins = {"owner": "owner", "repo": "repo", "commit": COMMIT, "files": {path: sha256(content) for path, content in contents.items()}}
        common = {"name": "mini", "licence": "MIT", "citation": "nobody", "prices": BOOK, "token_counter": words}
        return cls(**{**common, **pins, **settings})

    return made


def zipped(rows: Any, *more: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("rows.json", *more):
            archive.writestr(name, json.dumps(rows))
    return stream.getvalue()


def zero(i: int, gold: str, output: Any, **changed: Any) -> dict[str, Any]:
    return {"id": f"gsm8k-main-test-#{i}", "question": f"How many  are {i}?", "answer": gold, "output": [output]} | changed


SMALL = [zero(0, "# 1,200", '```json\n{"reasoning": "600 x 2", "answer": "1200"}\n```'), zero(3, "# 6", '{"answer": "6 * sqrt(2)"}')]
LARGE = [zero(0, "# 1,200", '{"answer": "600 * 2 = 1200"}'), zero(3, "# 6", '{"answer": "6 apples"}')]


def zeroeval(build: Build, small: Any = SMALL, large: Any = LARGE, **settings: Any) -> Any:
    files = {"gsm/small.json": json.dumps(small).encode(), "gsm/large.json": json.dumps(large).encode()}
    return build(ZeroEvalGsm, files, models=["small", "large"], **settings)


def test_zeroeval_by_hand(build: Build) -> None:
    clean, published = zeroeval(build).load(), zeroeval(build, labels="published").load()
    assert clean.queries.id.tolist() == ["gsm8k-0000", "gsm8k-0003"]
    assert clean.queries.text.tolist() == ["How many  are 0?", "How many  are 3?"], "word for word: a split by text must see the overlap"
    assert set(clean.queries.group) == {"gsm8k"}
    assert clean.answer is not None
    assert clean.answer[1].tolist() == ['{"answer": "6 * sqrt(2)"}', '{"answer": "6 apples"}']
    # published: the first number of each, 1200 and 600, 6 and 6
    assert published.quality.tolist() == [[1, 0], [1, 1]]
    assert clean.quality.tolist() == [[1, 1], [0, 1]]
    assert clean.tokens["input"].tolist() == [[4, 4], [4, 4]]
    assert clean.tokens["output"].tolist() == [[8, 6], [4, 3]]
    assert clean.cost.ravel() == pytest.approx([(4 + 16) / 1e6, (40 + 120) / 1e6, (4 + 8) / 1e6, (40 + 60) / 1e6])
    assert clean.usage == "estimated"


def test_zeroeval_keeps_the_models_it_is_asked_for(build: Build) -> None:
    made = zeroeval(build)
    object.__setattr__(made, "models", ["large"])
    table = made.load()
    assert table.pool.name == ("large",)
    assert table.quality.tolist() == [[1], [1]]
    assert list(made.provenance()["files"]) == ["gsm/large.json"]
    object.__setattr__(made, "models", ["larger"])
    with pytest.raises(InputError, match="models of mini: expected some of small, large, found 'larger'"):
        made.load()


def test_math_reads_its_own_key_and_ids(build: Build) -> None:
    row = {"id": 7, "problem": "1 + 1?", "answer": "2", "output": ['{"answer": "2"}']}
    table = build(ZeroEvalMath, {"math-l5/small.json": json.dumps([row, row | {"id": 8}]).encode()}, models=["small"]).load()
    assert table.queries.id.tolist() == ["math-l5-0007", "math-l5-0008"]
    assert table.quality.tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("text", "boxed", "found"),
    [
        ('{"answer": "1"} {"answer": "2"}', False, "1"),
        ('{"reasoning": "a {set}", "answer": 3}', False, "3"),
        ('{"reasoning": "line\nbreak", "answer": "4"}', False, "4"),
        ('{"reasoning": "\\( x \\)", "answer": "5"}', False, "5"),  # no JSON: by the quoted key
        ('{"reasoning": "\\( x \\)", "answer": 1,200}', False, "1"),  # and unquoted up to the comma
        ("{answer: 6}", False, "6}"),
        ('{"answer": null}', False, "None"),
        ("The answer is 7.", False, None),
        ("It is $\\boxed{8}$", False, None),
        ("It is $\\boxed{8}$", True, "8"),
        ("It is $\\boxed{8}$" + " and so on" * 5, True, None),
        ("} {", False, None),
        ("", True, None),
    ],
)
def test_the_published_reading(text: str, boxed: bool, found: str | None) -> None:
    assert published_answer(text, boxed=boxed) == found


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("$1,200", "1200", True),
        ("1200.0 dollars", "1,200", True),
        ("6 * sqrt(2)", "6", True),  # the fault that gives the rule its noise
        ("600 * 2 = 1200", "1200", False),
        ("3/4", "0.75", True),
        ("(1 + 2) / 4", "0.75", True),
        ("9 // 2", "4", True),
        ("10 / 5 apples", "10", True),  # no arithmetic: the first number
        ("1/0", "1", True),
        ("__import__('os')/2", "2", True),  # nothing is evaluated as code
        ("-5", "5", False),
        ("none", "1", False),
    ],
)
def test_the_published_comparison(answer: str, gold: str, right: bool) -> None:
    assert published_equal(answer, gold) is right


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"answer": "1"} {"answer": "2"}', "2"),
        ('{"answer": "___"}\n```json\n{"reasoning": "so", "answer": "4"}\n```', "4"),
        ('{"answer": {"blue": 4}}', "{'blue': 4}"),
        ('{"reasoning": "\\( x \\)", "answer": "1,200"}', "1,200"),
        ('{"reasoning": "\\( x \\)", "answer": 1200}', "1200"),
        ('{"answer": "\\boxed{5}"}', "\\boxed{5}"),
        ("So it is \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("**Answer**: 42", "42"),
        ("The answer is 7 apples", "7 apples"),
        ("The box is \\boxed{3}, no, the answer is 4", "4"),
        ("I count 3 and 4", None),
        ("{" * 3000, None),
    ],
)
def test_the_clean_reading(text: str, found: str | None) -> None:
    assert final_answer(text) == found


@pytest.mark.parametrize(
    "answer",
    ["6", "$6", "6.0", "6 apples", "x = 6", "2 + 4 = 6", "\\boxed{6}", "6%", "the 6th", "18/3", "6 feet (2 yards)", "6\\", "6:00 pm"],
)
def test_it_states_six(answer: str) -> None:
    assert states(answer, "6")


@pytest.mark.parametrize(
    "answer",
    [
        "6 * sqrt(2)",
        "6√2",
        "6i",
        "6, -6",
        "[6, 7]",
        "6 + x",
        "6 - 2a",
        "p-6",
        "6^2",
        "6π",
        "6(3)",
        "6 or 7",
        "6_8 and 7",
        "",
        "six",
        "-6",
        "6 = x",
    ],
)
def test_it_does_not_state_six(answer: str) -> None:
    assert not states(answer, "6")


def test_numbers_of_another_base_and_with_thousands() -> None:
    assert states("1112112_3", "1112112_3")
    assert not states("1121121_3", "1112112_3")
    assert states("1,200", "1200")
    assert not states("10879,10879", "10879"), "two numbers"


def pro(number: int, pred: str | None, answer: str, *, gold: str = "B", key: str = "model_outputs", **changed: Any) -> dict[str, Any]:
    row = {"question_id": number, "question": f"Which one is {number}?", "options": ["one", "two", "three"], "category": "math"}
    return {**row, "answer": gold, "pred": pred, key: answer, **changed}


def mmlu(build: Build, small: Any, large: Any, **settings: Any) -> Any:
    files = {"eval/model_outputs_sm_all_5shots.zip": small, "eval/model_outputs_large_5shots.zip": large}
    book = PriceBook(date="2024-12", source="made up", models={"sm.all": {"input": 1, "output": 2}, "large": {"input": 10, "output": 20}})
    return build(MmluPro, files, models=["sm.all", "large"], corrected=["large"], prices=book, **settings)


def test_mmlu_pro_by_hand(build: Build) -> None:
    small = [
        pro(5, "B", "I am at a loss.", key="generated_text"),  # a random letter, which was lucky
        pro(2, None, "Answer: B.", key="generated_text", category="law"),  # a letter that was not read
        pro(9, "B", "The answer is (B).", key="generated_text"),  # the old gold answer
        pro(4, "B", "The answer is (B).", key="generated_text"),  # the other one was not asked
        pro(1, "B", "The answer is (B).", key="generated_text", options=["one", "two"]),  # with other options
    ]
    large = [
        pro(2, "B", "The answer is (B)."),
        pro(5, "", "Who knows?"),
        pro(9, "C", "The answer is (C).", gold="C"),
        pro(1, "B", "The answer is (B)."),
    ]
    clean, published = (mmlu(build, zipped(small), zipped(large), labels=labels).load() for labels in ("clean", "published"))
    assert published.queries.id.tolist() == ["mmlu-pro-00005", "mmlu-pro-00002", "mmlu-pro-00009", "mmlu-pro-00001"]
    assert published.queries.text[0] == "Which one is 5?\nA. one\nB. two\nC. three"
    assert published.queries.group.tolist() == ["math", "law", "math", "math"]
    assert published.quality.tolist() == [[1, 0], [0, 1], [1, 1], [1, 1]]
    assert clean.queries.id.tolist() == ["mmlu-pro-00005", "mmlu-pro-00002", "mmlu-pro-00009"]
    assert clean.quality.tolist() == [[0, 0], [1, 1], [0, 1]]
    assert clean.answer is not None
    assert clean.answer[1].tolist() == ["Answer: B.", "The answer is (B)."]
    assert clean.tokens["output"].tolist() == [[5, 2], [2, 4], [4, 4]]
    assert clean.pool.name == ("sm.all", "large")


def test_mmlu_pro_reads_the_corrected_gold_of_a_model_outside_the_pool(build: Build) -> None:
    old, new = [pro(9, "B", "The answer is (B)."), pro(3, "B", "The answer is (B).")], [pro(9, "C", "The answer is (C).", gold="C")]
    made = mmlu(build, zipped(old), zipped(new))
    object.__setattr__(made, "models", ["sm.all"])
    assert made.load().quality.tolist() == [[0], [1]], "3 was never asked again and keeps its gold answer"
    assert len(made.provenance()["files"]) == 2
    object.__setattr__(made, "labels", "published")
    assert made.load().quality.tolist() == [[1], [1]]
    assert len(made.provenance()["files"]) == 1


def evouna_row(question: str, verdicts: Sequence[bool | None], *, improper: bool = False) -> dict[str, Any]:
    row: dict[str, Any] = {"question": question, "golden_answer": "gold", "improper": improper}
    for name, verdict in zip(("fid", "gpt35", "chatgpt", "gpt4", "newbing"), verdicts, strict=True):
        row |= {f"answer_{name}": f"says {name}", f"judge_{name}": verdict}
    return row


EVOUNA = [
    evouna_row("who", [True, False, True, True, False]),
    evouna_row("what", [True] * 5, improper=True),
    evouna_row("when", [True, True, True, True, None]),
    evouna_row("where", [False, False, True, True, True]) | {"answer_fid": None},
]
PRICED = PriceBook(date="2023", source="made up", models={"gpt4": {"input": 30, "output": 60}})


def evouna(build: Build, rows: Any = EVOUNA, **settings: Any) -> Any:
    chosen = {"models": ["fid", "gpt4"], "unpriced": ["fid", "newbing"], "prices": PRICED}
    return build(EvounaNq, {"EVOUNA/NQ.json": json.dumps(rows).encode()}, **(chosen | settings))


def test_evouna_by_hand(build: Build) -> None:
    table = evouna(build).load()
    assert table.queries.id.tolist() == ["evouna-nq-0000", "evouna-nq-0003"], (
        "improper, and without Bing's judgement although Bing is not asked for"
    )
    assert table.queries.text.tolist() == ["who", "where"]
    assert table.quality.tolist() == [[1, 1], [0, 1]]
    assert table.answer is not None
    assert table.answer.tolist() == [["says fid", "says gpt4"], [None, "says gpt4"]]
    assert table.tokens["output"].tolist() == [[2, 2], [0, 2]]
    assert np.isnan(table.cost[:, 0]).all()
    assert np.isnan(table.pool.usd_input[0])
    assert table.cost[:, 1] == pytest.approx([(30 + 120) / 1e6] * 2)


def test_a_price_for_what_had_none_is_used_and_without_any_all_is_unknown(build: Build) -> None:
    both = PriceBook(date="2023", source="made up", models={"gpt4": {"input": 30, "output": 60}, "fid": {"input": 1, "output": 1}})
    assert evouna(build, prices=both).load().cost[:, 0] == pytest.approx([3e-6, 1e-6])
    assert np.isnan(evouna(build, prices=None).load().cost).all()
    assert np.isnan(evouna(build, models=["fid", "newbing"]).load().cost).all()
    with pytest.raises(InputError, match="model 'chatgpt' has no price"):
        evouna(build, models=["chatgpt", "gpt4"]).load()


BROKEN_ZERO = {
    "cut off": (b'[{"id": 1', "a result file is broken in small.json"),
    "no list": (b'{"id": 1}', "expected a JSON list of objects, found dict"),
    "empty": (b"[]", "found an empty list"),
    "no objects": (b"[1, 2]", "expected a JSON list of objects"),
    "not text": (b"\xff\xfe[", "a result file is broken"),
    "other key": (
        json.dumps([{"id": "gsm8k-main-test-#0"}]).encode(),
        "'answer' of a recorded row is not usable in small.json, row 0: expected str, found only id",
    ),
    "id": (json.dumps([zero(0, "# 1", "1", id="first")]).encode(), "expected a number at its end, found 'first'"),
    "gold": (json.dumps([zero(0, "# none", "1")]).encode(), "a gold answer holds no number in small.json, row 0"),
    "two outputs": (json.dumps([zero(0, "# 1", "1") | {"output": ["1", "2"]}]).encode(), "expected a list of one text"),
    "output": (json.dumps([zero(0, "# 1", None)]).encode(), "expected a list of one text"),
}


@pytest.mark.parametrize("case", BROKEN_ZERO)
def test_a_broken_zeroeval_file_is_one_clear_error(case: str, build: Build) -> None:
    content, message = BROKEN_ZERO[case]
    with pytest.raises(InputError, match=r"small\.json") as raised:
        build(ZeroEvalGsm, {"gsm/small.json": content}, models=["small"]).load()
    assert message in str(raised.value)


def test_files_of_different_questions_are_refused(build: Build) -> None:
    with pytest.raises(InputError, match=r"different questions in large\.json, row 1"):
        zeroeval(build, large=[LARGE[0], LARGE[1] | {"question": "Another one?"}]).load()
    with pytest.raises(InputError, match=r"different questions in large\.json, row 1: .*found 1 rows"):
        zeroeval(build, large=LARGE[:1]).load()


BROKEN_PRO = {
    "no zip": (b"PK", "expected a zip of one JSON file"),
    "two files": (zipped([pro(1, "A", "A")], "more.json"), "expected a zip of one JSON file"),
    "no list": (zipped({"question_id": 1}), "expected a JSON list of objects"),
    "twice": (zipped([pro(1, "A", "A"), pro(1, "A", "A")]), "a question stands twice in model_outputs_sm_all_5shots.zip, row 1"),
    "gold": (zipped([pro(1, "A", "A", gold="D")]), "expected 1 to 10 texts, one of them the answer, found answer 'D' of 3"),
    "many golds": (zipped([pro(1, "A", "A", gold="AB")]), "found answer 'AB' of 3"),
    "options": (zipped([pro(1, "A", "A", options=[])]), "found answer 'B' of 0"),
    "pred": (zipped([pro(1, "A", "A") | {"pred": 1}]), "'pred' of a recorded row is not usable"),
    "no answer": (zipped([pro(1, "A", "A", key="said")]), "'generated_text' of a recorded row is not usable"),
    "nothing shared": (zipped([pro(8, "A", "A")]), "no question was asked of all models"),
}


@pytest.mark.parametrize("case", BROKEN_PRO)
def test_a_broken_mmlu_pro_file_is_one_clear_error(case: str, build: Build) -> None:
    content, message = BROKEN_PRO[case]
    with pytest.raises(InputError) as raised:
        mmlu(build, content, zipped([pro(1, "B", "B")])).load()
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [evouna_row("q", [True] * 5) | {"judge_fid": "yes"}],
            "'judge_fid' of a recorded row is not usable in NQ.json, row 0: expected bool or NoneType",
        ),
        ([evouna_row("q", [True] * 5) | {"improper": None}], "'improper' of a recorded row"),
        ([evouna_row("q", [True] * 5, improper=True)], "no question is left in NQ.json"),
        ([{"question": "q"}], "found only question"),
    ],
)
def test_a_broken_evouna_file_is_one_clear_error(rows: Any, message: str, build: Build) -> None:
    with pytest.raises(InputError) as raised:
        evouna(build, rows).load()
    assert message in str(raised.value)


def test_settings_without_sense_are_refused(build: Build) -> None:
    with pytest.raises(InputError, match="labels of mini: expected one of clean, published"):
        evouna(build, labels="dirty").load()
    with pytest.raises(InputError, match="models of mini: expected at least one"):
        evouna(build, models=[]).load()
    with pytest.raises(InputError, match="some of fid, gpt35, chatgpt, gpt4, newbing, found 'gpt5'"):
        evouna(build, models=["gpt5"]).load()


def test_values_are_computed_once_for_each_text_and_what_they_hang_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path))
    asked: list[list[str]] = []

    def lengths(texts: list[str]) -> list[int]:
        asked.append(texts)
        return [len(text) for text in texts]

    assert kept_values("tokens", "one", ["a", "bb", "a", ""], lengths).tolist() == [1, 2, 1, 0]
    assert kept_values("tokens", "one", ["a", "bb", "a", ""], lengths).tolist() == [1, 2, 1, 0]
    assert kept_values("tokens", "one", ["bb", "ccc"], lengths).tolist() == [2, 3]
    assert kept_values("tokens", "two", ["bb"], lengths).tolist() == [2]
    assert kept_values("tokens", "two", [], lengths).tolist() == []
    assert asked == [["a", "bb", ""], ["ccc"], ["bb"]]


def test_counts_of_the_default_tokenizer_are_kept_and_those_of_another_counter_are_not(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = zeroeval(build, token_counter=None).load()
    assert first.tokens["input"].tolist() == [[5, 5], [5, 5]], "how many are 0 ?"

    def refuse(texts: list[str]) -> list[int]:
        raise AssertionError(f"counted again: {texts}")

    monkeypatch.setattr(_recorded, "count_tokens", refuse)
    again = zeroeval(build, token_counter=None).load()
    np.testing.assert_array_equal(again.tokens["output"], first.tokens["output"])
    assert zeroeval(build).load().tokens["input"].tolist() == [[4, 4], [4, 4]]
    with pytest.raises(AssertionError, match="counted again"):
        zeroeval(
            build, [row | {"question": "Why?"} for row in SMALL], [row | {"question": "Why?"} for row in LARGE], token_counter=None
        ).load()


def test_provenance_says_that_costs_are_estimates(build: Build) -> None:
    for made in (zeroeval(build), evouna(build), mmlu(build, zipped([pro(1, "B", "B")]), zipped([pro(1, "B", "B")]))):
        assert "none of the models' own" in made.provenance()["notes"]
        assert made.provenance()["usage"] == "estimated"
        assert made.split() is None
