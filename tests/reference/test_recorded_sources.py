"""The sources of recorded answers against the figures that their authors published, recomputed from the pinned files."""

from __future__ import annotations

import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate

from routewright.core.contracts import Source
from routewright.core.text import normalise
from routewright.core.types import Outcomes
from routewright.data.split import text_keys

ROOT = Path(__file__).parents[2]
# ZeroEval's result_dirs/{gsm,math-l5}.summary.json at the pinned commit, in per cent
PUBLISHED = {
    "zeroeval_gsm": {
        "claude-3-5-sonnet-20241022": 96.66,
        "gpt-4o-2024-08-06": 96.21,
        "gpt-4o-mini-2024-07-18": 94.24,
        "Meta-Llama-3.1-70B-Instruct": 94.16,
        "gemini-1.5-pro": 93.40,
        "gemini-1.5-flash": 91.36,
        "claude-3-haiku-20240307": 88.78,
        "gemma-2-9b-it": 87.41,
        "Meta-Llama-3.1-8B-Instruct": 84.00,
        "gpt-3.5-turbo-0125": 80.36,
        "Qwen2-7B-Instruct": 80.06,
    },
    "zeroeval_math": {
        "claude-3-5-sonnet-20241022": 59.36,
        "gpt-4o-2024-08-06": 55.34,
        "gpt-4o-mini-2024-07-18": 52.15,
        "Meta-Llama-3.1-70B-Instruct": 43.13,
        "gemini-1.5-pro": 39.81,
        "gemini-1.5-flash": 34.81,
        "Qwen2-7B-Instruct": 23.86,
        "Meta-Llama-3.1-8B-Instruct": 22.19,
        "gemma-2-9b-it": 19.42,
        "claude-3-haiku-20240307": 15.12,
        "gpt-3.5-turbo-0125": 13.73,
    },
}
LLAMAS = ("Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct")
GEMINIS = ("gemini-1.5-flash-002", "gemini-1.5-pro-002")


def words(texts: Any) -> list[int]:
    return [len(text.split()) for text in texts]


def source(name: str, *changed: str) -> Any:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        made = instantiate(compose("train", [f"data={name}", *changed]).data)
    assert isinstance(made, Source)
    return made


@cache
def load(name: str, labels: str = "published", *models: str) -> Outcomes:
    """The table with words for tokens: the tokenizer has a test of its own."""
    made = source(name, f"labels={labels}", *([f"data.models=[{','.join(models)}]"] if models else []))
    object.__setattr__(made, "token_counter", words)
    table = made.load()
    assert isinstance(table, Outcomes)
    return table


@pytest.fixture(autouse=True)
def _offline(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_MIRROR", str(mirror))
    monkeypatch.setenv("ROUTEWRIGHT_OFFLINE", "1")
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))


def means(table: Outcomes) -> dict[str, float]:
    return dict(zip(table.pool.name, table.quality.astype(np.float64).mean(axis=0).tolist(), strict=True))


def oracle(table: Outcomes) -> float:
    return float(table.quality.max(axis=1).astype(np.float64).mean())


@pytest.mark.parametrize(("name", "rows"), [("zeroeval_gsm", 1319), ("zeroeval_math", 721)])
def test_zeroeval_grades_as_its_authors_do(name: str, rows: int) -> None:
    table = load(name)
    assert len(table) == rows
    assert {model: round(100 * value, 2) for model, value in means(table).items()} == PUBLISHED[name]
    assert table.answer is not None
    assert all(isinstance(answer, str) for answer in table.answer.ravel())


@pytest.mark.parametrize(
    ("name", "pair", "either"),
    [
        ("zeroeval_gsm", ("gpt-3.5-turbo-0125", "gpt-4o-2024-08-06"), 0.975),
        ("zeroeval_math", ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"), 0.659),
    ],
)
def test_the_oracle_of_zeroeval_s_pairs(name: str, pair: tuple[str, str], either: float) -> None:
    table = load(name, "published", *pair)
    assert table.pool.name == pair
    assert oracle(table) == pytest.approx(either, abs=5e-4)
    np.testing.assert_array_equal(table.quality, load(name).models(pair).quality)


def test_clean_labels_of_zeroeval_differ_where_a_number_is_a_part_of_an_answer() -> None:
    gsm, math = ((load(name), load(name, "clean")) for name in ("zeroeval_gsm", "zeroeval_math"))
    changed = {
        name: Counter(zip(*np.nonzero(clean.quality != old.quality), strict=True)) for name, (old, clean) in (("gsm", gsm), ("math", math))
    }
    assert len(changed["gsm"]) == 1, "20 * 40 + 80 * 30 = 800 + 2400 = 3200"
    gained, lost = ((math[1].quality > math[0].quality).sum(axis=0), (math[1].quality < math[0].quality).sum(axis=0))
    assert (gained.sum(), lost.sum()) == (4, 33)
    haiku, llama = (math[0].pool.index(name) for name in ("claude-3-haiku-20240307", LLAMAS[1]))
    assert (gained[haiku], lost[haiku]) == (0, 7)
    assert (gained[llama], lost[llama]) == (4, 2)


def test_a_split_by_text_sees_that_zeroeval_and_routellm_ask_the_same_gsm8k_questions() -> None:
    theirs, ours = load("routellm_gsm8k").queries, load("zeroeval_gsm").queries
    shared = {normalise(text) for text in theirs.text} & {normalise(text) for text in ours.text}
    assert (len(theirs), len(ours), len(shared)) == (1307, 1319, 1307)
    texts = dict(zip(ours.id, ours.text, strict=True))
    assert all(texts[name] == text for name, text in zip(theirs.id, theirs.text, strict=True)), "and the ids agree"
    assert len(set(text_keys(ours))) == 1319


def test_mmlu_pro_grades_as_its_authors_do() -> None:
    llamas, geminis = load("mmlu_pro", "published", *LLAMAS), load("mmlu_pro", "published", *GEMINIS)
    assert len(llamas) == 12032
    assert [*means(llamas).values(), oracle(llamas)] == pytest.approx([0.442, 0.628, 0.696], abs=5e-4)
    # the two files lack 20 and 12 questions, two of them the same: what both were asked is judged
    assert len(geminis) == 12002
    assert [*means(geminis).values(), oracle(geminis)] == pytest.approx([0.641, 0.702, 0.783], abs=6e-4)
    assert len(set(llamas.queries.group)) == 14
    assert Counter(llamas.queries.group)["math"] == 1351


def test_clean_labels_of_mmlu_pro_take_the_luck_from_random_letters() -> None:
    published, clean = (load("mmlu_pro", labels, LLAMAS[0]) for labels in ("published", "clean"))
    kept = np.isin(published.queries.id, clean.queries.id)
    assert (len(published), len(clean)) == (12032, 12028), "four questions were asked later with other options"
    before = published.take(kept)
    assert before.queries.id.tolist() == clean.queries.id.tolist()
    gained, lost = (clean.quality > before.quality).sum(), (clean.quality < before.quality).sum()
    assert gained < 40 < 90 < lost, "of 694 random letters 92 were right; 24 gold answers were corrected in what it had right"


def test_about_half_of_mmlu_pro_stands_in_mmlu_with_other_options() -> None:
    def stems(table: Outcomes) -> list[str]:
        return [normalise(text.split("\nA. ")[0]) for text in table.queries.text]

    mmlu, pro = load("routellm_mmlu"), load("mmlu_pro", "published", *LLAMAS)
    there = set(stems(mmlu))
    assert sum(stem in there for stem in stems(pro)) == pytest.approx(6808, abs=10)
    assert not {normalise(text) for text in mmlu.queries.text} & {normalise(text) for text in pro.queries.text}
    row = list(pro.queries.id).index("mmlu-pro-00070")
    assert pro.queries.text[row].startswith("Typical advertising regulatory bodies suggest, for example that adverts must not: encourage")
    assert "\nA. Safe practices, Fear, Jealousy, Trivial\nB. " in pro.queries.text[row]


def test_evouna_counts() -> None:
    table = load("evouna_nq", "clean", "fid", "gpt35", "chatgpt", "gpt4", "newbing")
    assert len(table) == 3019
    assert list(means(table).values()) == pytest.approx([2081 / 3019, 1977 / 3019, 2203 / 3019, 2380 / 3019, 2413 / 3019])
    assert np.isnan(table.cost).all(axis=0).tolist() == [True, False, False, False, True]
    assert np.isfinite(load("evouna_nq").cost).all(), "the systems that are loaded by default all had a price"
    np.testing.assert_array_equal(load("evouna_nq").quality, table.quality[:, 1:4])


@pytest.mark.slow
def test_a_table_that_was_loaded_before_loads_in_seconds() -> None:
    made = source("mmlu_pro")
    first = made.load()
    start = time.process_time()
    again = made.load()
    assert time.process_time() - start < 5, "CPU seconds; counting and reading take ten times that"
    np.testing.assert_array_equal(again.tokens["output"], first.tokens["output"])
    np.testing.assert_array_equal(again.quality, first.quality)
