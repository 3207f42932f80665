"""The three RouteLLM sources against the figures of the paper and of its repository, recomputed from the pinned files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from routewright.core.contracts import Source
from routewright.core.files import sha256
from routewright.core.types import InputError, Outcomes
from routewright.data.sources._routellm import contaminated, csv_rows
from routewright.data.tokens import count_tokens

ROOT = Path(__file__).parents[2]
PRICES = OmegaConf.load(ROOT / "configs/prices/routellm_2024.yaml")
WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def source(name: str, labels: str, *, prices: Any = PRICES, **changed: Any) -> Any:
    data = OmegaConf.load(ROOT / f"configs/data/routellm_{name}.yaml")
    data = OmegaConf.merge(data, changed)
    made = instantiate(OmegaConf.create({"prices": prices, "labels": labels, "data": data}).data)
    assert isinstance(made, Source)
    return made


def load(name: str, labels: str = "published", **changed: Any) -> Outcomes:
    """The table with words for tokens: the tokenizer has a test of its own."""
    made = source(name, labels, **changed)
    object.__setattr__(made, "token_counter", words)
    table = made.load()
    assert isinstance(table, Outcomes)
    return table


def copy_of(made: Any, mirror: Path, to: Path) -> None:
    """This source's own files in another mirror."""
    for path in made.files:
        inside = f"lm-sys/RouteLLM/{made.commit}/{path}"
        (to / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(mirror / inside, to / inside)


@pytest.fixture(autouse=True)
def _offline(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_MIRROR", str(mirror))
    monkeypatch.setenv("ROUTEWRIGHT_OFFLINE", "1")
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))


def mean(table: Outcomes) -> list[float]:
    return [float(value) for value in table.quality.astype(np.float64).mean(axis=0)]


def best(table: Outcomes) -> float:
    return float(table.quality.max(axis=1).astype(np.float64).mean())


@pytest.mark.parametrize(
    ("name", "rows", "weak", "strong", "either"),
    [("gsm8k", 1307, 0.63734, 0.85769, 0.92961), ("mmlu", 14037, 0.68091, 0.80587, 0.85873)],
)
def test_published_figures(name: str, rows: int, weak: float, strong: float, either: float) -> None:
    table = load(name)
    assert len(table) == rows
    assert table.pool.name == (WEAK, STRONG)
    assert [*mean(table), best(table)] == pytest.approx([weak, strong, either], abs=1e-5)
    assert set(np.unique(table.quality)) == {0.0, 1.0}


def test_published_mtbench() -> None:
    table = load("mtbench")
    assert len(table) == 72
    assert [10 * value for value in mean(table)] == pytest.approx([8.281, 9.212], abs=1e-3)
    assert set(table.queries.group) == {"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}
    assert "mtbench-81" not in table.queries.id
    row = list(table.queries.id).index("mtbench-117")
    assert table.queries.text[row] == "How many integers are in the solution of the inequality |x + 5| < 10"
    assert table.answer is not None
    assert table.answer[row, 1].startswith("The inequality |x + 5| < 10 means")
    assert table.answer[row, 1].endswith("There are 19 integers in total that satisfy the inequality |x + 5| < 10.")


def test_clean_mtbench_is_the_published_one_and_says_so() -> None:
    np.testing.assert_array_equal(load("mtbench", "clean").quality, load("mtbench").quality)
    assert "same as published" in source("mtbench", "clean").provenance()["notes"]


def test_mtbench_pays_for_both_turns() -> None:
    table = load("mtbench")
    assert table.answer is not None
    first = np.array([[len(text.split()) for text in row] for row in table.answer])
    asked = np.array([len(text.split()) for text in table.queries.text])[:, None]
    assert (table.tokens["output"] > first).all()
    # the second call reads the first question and its answer again, and the second question
    assert (table.tokens["input"] > 2 * asked + first).all()


def test_clean_gsm8k_is_regraded_from_the_answers() -> None:
    published, clean = load("gsm8k"), load("gsm8k", "clean", reader="last_number")
    # 42 of GPT-4's published labels are false negatives: 85.77 % becomes 88.98 %
    gained = (clean.quality > published.quality).sum(axis=0)
    lost = (clean.quality < published.quality).sum(axis=0)
    assert gained[1] == 42
    assert lost[1] <= 1
    assert mean(clean)[1] == pytest.approx(0.8898, abs=0.003)
    assert (gained[0], lost[0]) == (6, 5)
    assert mean(clean)[0] == pytest.approx(0.6381, abs=1e-4)
    assert clean.answer is not None
    dollars = list(clean.queries.id).index("gsm8k-0044")
    assert clean.answer[dollars, 1].endswith("#### $20.00")
    assert (published.quality[dollars, 1], clean.quality[dollars, 1]) == (0, 1)


def test_gsm8k_by_its_conclusions_finds_the_answers_that_the_last_number_hides() -> None:
    last, concluded = load("gsm8k", "clean", reader="last_number"), load("gsm8k", "clean")
    row = list(last.queries.id).index("gsm8k-0005")
    assert last.answer is not None
    assert last.answer[row, 1].endswith("Kylar needs to pay $64 for the 16 glasses.")  # gold: 64
    assert (last.quality[row, 1], concluded.quality[row, 1]) == (0, 1)
    assert mean(concluded) == pytest.approx([0.6404, 0.9403], abs=1e-4)


def test_clean_gsm8k_wants_a_gold_answer_for_every_question(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = source("gsm8k", "clean")
    copy_of(made, mirror, tmp_path / "mirror")
    ((path, _),) = made.gold["files"].items()
    inside = f"WildEval/ZeroEval/{made.gold['commit']}/{path}"
    rows = json.loads((mirror / inside).read_bytes())
    shortened = json.dumps([row for row in rows if row["id"] != "gsm8k-main-test-#100"]).encode()
    (tmp_path / "mirror" / inside).parent.mkdir(parents=True)
    (tmp_path / "mirror" / inside).write_bytes(shortened)
    object.__setattr__(made, "gold", {**made.gold, "files": {path: sha256(shortened)}})
    monkeypatch.setenv("ROUTEWRIGHT_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(InputError, match="1 questions have no gold answer"):
        made.load()


def test_clean_mmlu_leaves_out_the_subject_with_the_format_fault() -> None:
    published, clean = load("mmlu"), load("mmlu", "clean")
    faulty = published.queries.group == "high_school_mathematics"
    assert faulty.sum() == 270
    assert mean(published.take(faulty)) == pytest.approx([0.319, 0.030], abs=1e-3)
    assert list(clean.queries.id) == list(published.queries.id[~faulty])
    np.testing.assert_array_equal(clean.quality, published.quality[~faulty])
    assert len(set(published.queries.group)) == 57
    assert len(published) - len(set(published.queries.text)) == 105
    assert published.answer is None
    assert (published.tokens["output"] == 1).all()


def test_ids_name_the_row_in_the_upstream_file(mirror: Path) -> None:
    table = load("mmlu")
    row = list(table.queries.id).index("mmlu-anatomy-0012")
    path = next(mirror.glob("lm-sys/RouteLLM/*/routellm/evals/mmlu/responses/mmlu_anatomy.csv"))
    with path.open(encoding="utf-8", newline="") as stream:
        upstream = list(csv.DictReader(stream))[12]
    assert table.queries.text[row] == upstream["prompt"]
    assert [bool(value) for value in table.quality[row]] == [upstream[WEAK] == "True", upstream[STRONG] == "True"]
    assert table.queries.group[row] == "anatomy"


def test_the_same_reader_as_pandas(mirror: Path) -> None:
    import pandas as pd

    path = next(mirror.glob("lm-sys/RouteLLM/*/routellm/evals/gsm8k/gsm8k_responses.csv"))
    columns = ["prompt", WEAK, f"{STRONG}_response"]
    theirs = pd.read_csv(path, dtype=str, keep_default_na=False)[columns].to_numpy().tolist()
    assert csv_rows(path, columns) == theirs


@pytest.mark.parametrize("name", ["gsm8k", "mmlu", "mtbench"])
def test_no_contaminated_prompt_is_left(name: str, mirror: Path) -> None:
    folder = {"mtbench": "mt_bench"}.get(name, name)
    listed = contaminated(next(mirror.glob(f"lm-sys/RouteLLM/*/routellm/evals/{folder}/contaminated_prompts.jsonl")))
    assert listed
    assert not listed.intersection(load(name).queries.text)


def test_costs_are_estimated_tokens_at_the_book_s_prices() -> None:
    table = load("gsm8k")
    assert table.usage == "estimated"
    assert table.answer is not None
    asked, answered = len(table.queries.text[0].split()), [len(text.split()) for text in table.answer[0]]
    assert table.cost[0] == pytest.approx([(asked + answered[0]) * 0.24e-6, asked * 10e-6 + answered[1] * 30e-6])
    assert np.isnan(load("gsm8k", prices=None).cost).all()


def test_the_default_counter_counts_wordpieces_without_a_limit() -> None:
    assert count_tokens(["", "a dog", "embeddings", "dog " * 2000]) == [0, 2, 4, 2000]  # em ##bed ##ding ##s


@pytest.mark.parametrize("name", ["gsm8k", "mmlu", "mtbench"])
def test_provenance_names_every_file(name: str) -> None:
    record = json.loads(json.dumps(source(name, "clean").provenance()))
    assert record["licence"] == "Apache-2.0"
    assert record["revision"].startswith("lm-sys/RouteLLM@0b64fda")
    assert all(len(digest) == 64 for digest in record["files"].values())
    assert record["labels"] == "clean"
    assert record["notes"]
    assert len(record["files"]) == {"gsm8k": 2, "mmlu": 58, "mtbench": 3}[name]
    assert ("gold" in record) == (name == "gsm8k")


def test_a_changed_byte_is_refused(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = source("mtbench", "published")
    copy = tmp_path / "mirror"
    copy_of(made, mirror, copy)
    monkeypatch.setenv("ROUTEWRIGHT_MIRROR", str(copy))
    assert len(made.load()) == 72
    changed = copy / f"lm-sys/RouteLLM/{made.commit}/routellm/evals/mt_bench/judgements.jsonl"
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    with pytest.raises(InputError, match=r"wrong sha256 of routellm/evals/mt_bench/judgements\.jsonl"):
        made.load()


def test_bad_configuration_is_refused() -> None:
    with pytest.raises(InputError, match="one of clean, published"):
        load("gsm8k", "dirty")
    with pytest.raises(InputError, match="weak, strong"):
        load("gsm8k", models=[WEAK])
    with pytest.raises(InputError, match="lacks columns"):
        load("gsm8k", models=[WEAK, "gpt-5"], prices=None)
    with pytest.raises(InputError, match="lacks a judgement"):
        load("mtbench", models=[WEAK, "gpt-5"], prices=None)
