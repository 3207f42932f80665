"""The two sources of battles against the pinned files: counts, position bias and strengths recomputed by other means."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from routewright.core.contracts import Source
from routewright.core.types import Battles, InputError
from routewright.data.bias import position_bias
from routewright.data.duels import as_pair, long_enough, merged_duplicates

ROOT = Path(__file__).parents[2]
NAMES = ("qlora_oa", "mtbench_battles")
QLORA = "artidoro/qlora/7f4e95a68dc076bea9b3a413d2b512eca6d004e5/eval"
MTBENCH = "lm-sys/RouteLLM/0b64fdafe049e596a3f5657c219329f24af24198/routellm/evals/mt_bench"
MODELS = ("7b-guanaco", "13b-guanaco", "vicuna-13b", "30b-guanaco", "65b-guanaco", "gpt-3.5", "gpt-4")


@pytest.fixture(autouse=True)
def _offline(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_MIRROR", str(mirror))
    monkeypatch.setenv("ROUTEWRIGHT_OFFLINE", "1")
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))


def source(name: str, *overrides: str) -> Source:
    """As train.py makes it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        made: Source = instantiate(compose("train", [f"data={name}", *overrides]).data)
    return made


@cache
def load(name: str, *overrides: str) -> Battles:
    """Once for all tests: what is loaded cannot change."""
    made = source(name, *overrides).load()
    assert isinstance(made, Battles)
    return made


def json_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@cache
def recorded(mirror: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The rows of every file of verdicts, by the two models as its name has them."""
    found = {}
    for path in sorted((mirror / QLORA / "ratings-gpt4" / "oa").iterdir()):
        first, second = path.name.removesuffix("-gpt-4-reviewer-threeclass.jsonl").split("-vs-")
        found[first.split("-oa-")[0], second.split("-oa-")[0]] = json_rows(path)
    return found


@cache
def told_of(name: str) -> dict[str, Any]:
    """The provenance's `battles`."""
    found: dict[str, Any] = source(name).provenance()["battles"]
    return found


def scores(mirror: Path) -> dict[tuple[str, str], dict[str, str]]:
    return {pair: {row["message_id"]: str(row["score"]) for row in rows} for pair, rows in recorded(mirror).items()}


# ---- what every source owes


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_pinned_as_the_mirror_has_it(name: str, mirror: Path) -> None:
    listed = {(row["repo"], row["commit"], row["path"]): row["sha256"] for row in json.loads((mirror / "MANIFEST.json").read_text())}
    config = OmegaConf.load(ROOT / "configs" / "data" / f"{name}.yaml")
    repo = f"{config.owner}/{config.repo}"
    assert len(config.files) == {"qlora_oa": 43, "mtbench_battles": 3}[name]
    for path, digest in config.files.items():
        assert listed[repo, config.commit, path] == digest


@pytest.mark.parametrize("name", NAMES)
def test_provenance_is_plain_and_complete(name: str) -> None:
    made = source(name)
    assert isinstance(made, Source)
    told = made.provenance()
    assert json.loads(json.dumps(told)) == told
    assert {"name", "labels", "licence", "citation", "revision", "files", "usage", "prices", "models", "battles"} <= set(told)
    assert (told["name"], told["labels"], told["usage"], told["prices"]) == (name, "clean", "none", None)
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in told["files"].values())
    assert told["models"] == list(load(name).pool.name)
    assert made.split() is None
    assert source(name, "labels=published").provenance()["labels"] == "published"
    with pytest.raises(InputError, match="clean, published"):
        source(name, "labels=wrong").load()


@pytest.mark.parametrize("name", NAMES)
def test_loaded_again_it_is_the_same_table(name: str) -> None:
    one, two = load(name), load(name, "labels=published")
    for column in ("query", "a", "b", "outcome", "weight"):
        np.testing.assert_array_equal(getattr(one, column), getattr(two, column))
    assert one.queries.text.tolist() == two.queries.text.tolist()
    assert one.cost is None


# ---- QLoRA's verdicts


def test_what_the_numbers_mean(mirror: Path) -> None:
    """The judge's prompts say 1, 2 and 3; a parsed score is the reply's last line; the file's first name is the first answer's model."""
    for row in json_rows(mirror / QLORA / "prompts" / "vicuna_prompt_threeclass.jsonl"):
        asked = row["defaults"]["prompt"]
        assert "choose between the answers of Assistant 1 and Assistant 2 by outputting the number 1 or 2" in asked
        assert "choose 3 if the two assistants are equivalent" in asked
        assert row["prompt_template"].index("{answer_1}") < row["prompt_template"].index("{answer_2}")
    answers: dict[tuple[str, str], set[str]] = {}
    for (first, second), rows in recorded(mirror).items():
        for row in rows:
            answers.setdefault((first, row["message_id"]), set()).add(row["answer1_id"])
            answers.setdefault((second, row["message_id"]), set()).add(row["answer2_id"])
            assert str(row["score"]) in (row["text"].strip().split("\n")[-1].strip(), "-1")
    assert {len(ids) for ids in answers.values()} == {1}, "one answer of a model to a question, wherever it stood"


def test_counts(mirror: Path) -> None:
    said = scores(mirror)
    assert len(said) == 42
    every = [score for verdicts in said.values() for score in verdicts.values()]
    assert len(every) == 40_026
    told = told_of("qlora_oa")
    counted = {name: every.count(score) for name, score in (("first", "1"), ("second", "2"), ("ties", "3"), ("unparsed", "-1"))}
    assert counted == {"first": 18_875, "second": 14_043, "ties": 5_626, "unparsed": 1_482}
    assert {name: told[name] for name in counted} == counted
    made = load("qlora_oa")
    assert (len(made), len(made.queries), made.pool.name) == (40_026 - 1_482, 953, MODELS)
    assert made.weight is not None
    assert made.weight.sum() == (40_026 - 1_482) / 2


def test_the_verdict_changes_with_the_order(mirror: Path) -> None:
    """In 32 % of the pairs where an order that was not parsed counts as a change, in 28 % of those that both orders parse."""
    said, turned = scores(mirror), {"1": "2", "2": "1", "3": "3", "-1": "-1"}
    pairs = [(said[a, b][q], turned[said[b, a][q]]) for a, b in combinations(MODELS, 2) for q in said[a, b]]
    assert round(np.mean([there != back for there, back in pairs]), 2) == 0.32
    parsed = [(there, back) for there, back in pairs if "-1" not in (there, back)]
    share = np.mean([there != back for there, back in parsed])
    assert share == pytest.approx(0.2758, abs=1e-4)
    told = told_of("qlora_oa")
    assert (told["inconsistent_share"], told["pairs_in_both_orders"]) == (pytest.approx(share), len(parsed))
    made = load("qlora_oa", "data.orders=consistent")
    assert len(made) == len(parsed)
    assert (made.outcome == 0.5).sum() == sum(there != back or there == "3" for there, back in parsed)


def test_position_bias_by_other_means(mirror: Path) -> None:
    """The plain share in a line of numpy, the log odds from Rao and Kupper's own form in odds, climbed without our derivatives."""
    from scipy.optimize import minimize

    said = scores(mirror)
    both = [
        (said[a, b][q], said[b, a][q]) for a, b in combinations(MODELS, 2) for q in said[a, b] if "-1" not in (said[a, b][q], said[b, a][q])
    ]
    sign = np.array([[{"1": 1, "2": -1, "3": 0}[score] for score in pair] for pair in both])
    told = told_of("qlora_oa")["position_bias"]
    assert told["first_minus_second"] == pytest.approx(sign.mean())
    assert sign.mean() == pytest.approx(0.1193, abs=1e-4)

    counts = np.array([[[list(said[a, b].values()).count(s) if a != b else 0 for s in "123"] for b in MODELS] for a in MODELS])

    def loss(theta: Any) -> float:
        worth, first, tie = np.exp(np.append(theta[:6], 0)), np.exp(theta[6]), 1 + np.exp(theta[7])
        own, other = first * worth[:, None], worth[None, :]
        wins, losses = own / (own + tie * other), other / (other + tie * own)
        return -float((counts * np.log(np.stack([wins, losses, 1 - wins - losses], axis=2))).sum()) / 1e4

    found = minimize(loss, np.zeros(8), method="BFGS")
    assert told["advantage_log_odds"] == pytest.approx(found.x[6], abs=2e-4)
    low, high = told["advantage_interval"]
    assert 0.25 < low < told["advantage_log_odds"] < high < 0.4


def test_correction_makes_up_for_an_order_that_was_not_judged() -> None:
    """With gpt-4 always second and 7b always first, 65b seems worse than 30b; corrected, all seven shares are those of both orders."""

    def shares(battles: Battles) -> Any:
        assert battles.weight is not None
        won, fought = np.zeros(7), np.zeros(7)
        for side, result in ((battles.a, battles.outcome), (battles.b, 1 - battles.outcome)):
            won += np.bincount(side, battles.weight * result, 7)
            fought += np.bincount(side, battles.weight, 7)
        return won / fought

    truth = shares(load("qlora_oa"))
    first = shares(load("qlora_oa", "data.orders=first"))
    mended = shares(load("qlora_oa", "data.orders=first", "data.bias=corrected"))
    assert first[3] > first[4]
    assert np.abs(first - truth).max() > 0.06
    assert np.abs(mended - truth).max() < 0.005
    assert (np.diff(truth) > 0).all()
    assert np.abs(shares(load("qlora_oa", "data.bias=corrected")) - truth).max() < 0.005


def test_strengths_by_another_hand() -> None:
    """choix on win counts, ties as half a win each way, orders the models as the plain win rates do, and as ours does."""
    choix = pytest.importorskip("choix")
    made = load("qlora_oa")
    assert made.weight is not None
    wins = np.zeros((7, 7))
    np.add.at(wins, (made.a, made.b), made.weight * made.outcome)
    np.add.at(wins, (made.b, made.a), made.weight * (1 - made.outcome))
    strength = choix.ilsr_pairwise_dense(wins)
    rate = wins.sum(axis=1) / (wins + wins.T).sum(axis=1)
    assert np.argsort(strength).tolist() == np.argsort(rate).tolist() == list(range(7))
    ours = position_bias(made).strength
    assert np.corrcoef(ours, strength)[0, 1] > 0.999


def test_what_a_router_reads() -> None:
    made = load("qlora_oa")
    texts = made.queries.text
    assert not [text for text in texts if "### Human:" in text or not text.strip()]
    assert len(set(texts)) == 952, "two users said Hola"
    assert len(set(made.queries.group)) == 517
    assert len(set(load("qlora_oa", "data.group=language").queries.group)) > 10
    whole = load("qlora_oa", "data.view=conversation").queries.text
    assert sum(len(long) > len(text) for long, text in zip(whole, texts, strict=True)) == 436
    assert all(long.endswith(text) for long, text in zip(whole, texts, strict=True))


def test_battles_of_tiers_on_real_data() -> None:
    made = as_pair(long_enough(load("qlora_oa")), ["7b-guanaco", "13b-guanaco"], ["gpt-4"])
    pooled = merged_duplicates(made)
    assert made.pool.name == ("weak", "strong")
    assert made.weight is not None
    assert pooled.weight is not None
    assert pooled.weight.sum() == made.weight.sum()
    assert len(pooled) < len(made)
    strong = np.average(np.where(made.a == 1, made.outcome, 1 - made.outcome), weights=made.weight)
    assert 0.85 < strong < 0.95


# ---- MT-Bench's scores


@pytest.mark.parametrize(("turn", "margin"), [("mean", 0.0), ("mean", 1.5), ("1", 0.0), ("2", 1.0)])
def test_the_higher_score_wins(turn: str, margin: float, mirror: Path) -> None:
    weak, strong = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
    scored: dict[tuple[int, str], list[float]] = {}
    for row in json_rows(mirror / MTBENCH / "judgements.jsonl"):
        if turn in ("mean", str(row["turn"])):
            scored.setdefault((row["question_id"], row["model"]), []).append(row["score"])
    questions = json_rows(mirror / MTBENCH / "question.jsonl")
    gap = np.array([np.mean(scored[q["question_id"], weak]) - np.mean(scored[q["question_id"], strong]) for q in questions])
    made = load("mtbench_battles", f"data.turn={turn}", f"data.margin={margin}")
    assert made.pool.name == (weak, strong)
    assert made.queries.text.tolist() == [q["turns"][0] for q in questions]
    assert made.outcome.tolist() == np.where(abs(gap) <= margin, 0.5, np.where(gap > 0, 1.0, 0.0)).tolist()
    assert (abs(gap) == margin).any(), "the edge of the margin is met"


def test_mtbench_counts_and_decontamination() -> None:
    assert len(load("mtbench_battles")) == 80
    clean = load("mtbench_battles", "data.decontaminated=true")
    assert clean.queries.id.tolist() == source("routellm_mtbench").load().queries.id.tolist()
    assert len(clean) == 72
    told = told_of("mtbench_battles")
    assert told == {"a_wins": 8, "b_wins": 40, "ties": 32, "unparsed": 0, "position_bias": None}
    turned = load("mtbench_battles", "data.models=[gpt-4-1106-preview,mistralai/Mixtral-8x7B-Instruct-v0.1]")
    assert turned.outcome.tolist() == (1 - load("mtbench_battles").outcome).tolist()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.turn=3", "turn of mtbench_battles: expected 1, 2 or mean, found 3"),
        ("data.margin=-1", "margin of mtbench_battles"),
        ("data.margin=nan", "margin of mtbench_battles"),
        ("data.models=[gpt-4-1106-preview]", "two or more, each once"),
        ("data.models=[gpt-4-1106-preview,claude]", r"lacks a judgement in .*claude"),
    ],
)
def test_settings_that_cannot_be(override: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        source("mtbench_battles", override).load()
