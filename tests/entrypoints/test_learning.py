"""What train.py can learn from: further battles, battles as the data, and text itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from routewright.core.run import load_manifest
from routewright.gateway.bundle import Bundle
from tests.tiny_bert import make_encoder

NAMES = "mix.names={tiny: small, huge: large}"
TEXT = ("router=bert", "router.max_tokens=48", "router.threads=1", "router.device=cpu", "router.validation=0", "shuffled_labels=false")


def write_arena(path: Path, n: int = 90) -> Path:
    """Battles in the arena's format: `huge` wins sums, stories are ties, and a third model fights now and then."""
    rng = np.random.default_rng(1)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["query", "model_a", "model_b", "winner"])
        for i in range(n):
            hard = i % 2 == 0
            text = f"How much is {rng.integers(10, 999)} times {rng.integers(10, 99)}?" if hard else f"A story of tea and rain, {i}."
            third = i % 9 == 0
            writer.writerow([text, "third" if third else "tiny", "huge", "model_b" if hard else "tie"])
        writer.writerow(["Tell me a short story about tea, number 1.", "tiny", "huge", "tie"])  # a judged query
    return path


@pytest.fixture
def arena(tmp_path: Path) -> Path:
    return write_arena(tmp_path / "arena.csv")


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_further_battles_alone_make_a_router_of_the_judged_models(trained, arena: Path) -> None:
    words = ("+data@extra.arena=table", f"extra.arena.path={arena}", NAMES, "mix.own=0")
    folder = trained("router=sw_ranking", *words).ok().folder
    found, manifest = metrics_of(folder), load_manifest(folder)
    assert found["evaluation"] == "trained on other data"
    assert found["n_test"] + found["n_calibration"] == 160, "everything but the calibration rows is judged"
    assert manifest["extra"]["arena"]["queries"] == 90
    assert manifest["extra"]["arena"]["same_text"] == 1, "a judged query is never learned from"
    assert manifest["extra"]["arena"]["files"]
    assert Bundle.load(folder / "bundle").models == ("small", "large"), "the third model helps and is not exported"
    assert found["verdict"]["word"] == "helps"


def test_further_battles_beside_its_own(trained, arena: Path) -> None:
    words = ("+data@extra.arena=table", f"extra.arena.path={arena}", NAMES, "mix.weights={arena: 0.5}")
    found = metrics_of(trained("router=mf", "router.epochs=30", *words).ok().folder)
    assert found["n_train"] < 160
    assert {"shuffled_labels", "group"} <= set(found["controls"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("router=knn", NAMES), "learns from grades"),
        (("router=mf", "mix.own=0"), "mix.names"),
        (("router=knn", "mix.own=0.5"), "this router learns from grades, which have no weights in mix.own: expected 0 or 1, found 0.5"),
        (("router=mf", NAMES, "mix.weights={else: 2}"), "belongs to no further table"),
        (("router=mf", NAMES, "mix.own=0", "cv=3"), "folds need something"),
        (("router=mf", "mix.names={tinny: small}"), "in mix.names: expected third, huge, tiny, found tinny"),
    ],
)
def test_what_cannot_be_mixed_is_told_in_one_line(trained, arena: Path, words: tuple[str, ...], message: str) -> None:
    ended = trained("+data@extra.arena=table", f"extra.arena.path={arena}", *words)
    assert ended.code == 1
    assert message in ended.err
    assert "Traceback" not in ended.err


def test_battles_are_judged_by_the_share_that_was_won(entry, tmp_path: Path) -> None:
    path = tmp_path / "fights.csv"
    lines = write_arena(tmp_path / "a.csv", 200).read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line for line in lines[1:] if "third" not in line)]) + "\n")
    words = (f"data.path={path}", "tracking=none", "replicates=200")
    found = metrics_of(entry("train", "data=table", *words, "router=mf").ok().folder)
    assert found["pool"] == ["tiny", "huge"]
    assert found["models"]["huge"]["quality"] > found["models"]["tiny"]["quality"]
    assert found["models"]["huge"]["cost"] is None, "battles carry no cost"


def test_battles_of_many_models_are_to_be_learned_from_and_judged_elsewhere(entry, tmp_path: Path) -> None:
    path = tmp_path / "sparse.csv"
    lines = [f"How much is {i} times {i % 7}?,{'abc'[i % 3]},{'abc'[(i + 1) % 3]},model_a" for i in range(90)]
    path.write_text("\n".join(["query,model_a,model_b,winner", *lines]) + "\n")
    ended = entry("train", "data=table", f"data.path={path}", "tracking=none", "router=sw_ranking")
    assert ended.code == 1
    assert "no test query was observed on every model" in ended.err
    assert "data=OTHER +data@extra.NAME=SOURCE" in ended.err
    assert "data.models=[a,b]" in ended.err


def test_a_router_of_text_needs_no_encoder(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))
    model = make_encoder(tmp_path / "encoder")
    words = (
        *TEXT,
        f"router.model={model}",
        "router.epochs=6",
        "router.lr=3e-3",
        "encoder=sentence_transformer",
        "encoder.model=none/there",
    )
    ended = trained(*words).ok()
    found, manifest = metrics_of(ended.folder), load_manifest(ended.folder)
    assert manifest["encoder"] == found["encoder"] == "none"
    assert "shuffled_labels" not in found["controls"]
    assert "shuffled_labels=false" in found["withheld"]["controls.shuffled_labels"]
    assert found["verdict"]["word"] == "helps", "sums and stories differ in every letter"
    bundle = Bundle.load(ended.folder / "bundle")
    assert bundle.check_golden() < 1e-4
    assert bundle.decide("Tell me a short story about rivers, number 5.").model in ("small", "large")
    again = trained(*words).ok()
    assert "found this very training finished" in again.err
    assert (again.folder / "metrics.json").read_bytes() == (ended.folder / "metrics.json").read_bytes()


def test_a_recipe_can_be_judged_without_keeping_a_router(trained, entry) -> None:
    ended = trained("router=logistic", "cv=3", "export=false").ok()
    names = {path.name for path in ended.folder.iterdir()}
    assert not names & {"bundle", "weights.safetensors"}
    assert "export=false" in ended.out
    whole = trained("router=logistic", "cv=3").ok()
    assert metrics_of(whole.folder)["apgr"] == metrics_of(ended.folder)["apgr"]
    both = entry("evaluate", f"runs=[{ended.folder},{whole.folder}]").ok()
    assert "cannot be told apart: +0.00" in both.out or "cannot be told apart: -0.00" in both.out
    for words in (
        ("evaluate", f"runs=[{ended.folder}]", "data=pocket", "data.models=[pocket-xs,pocket-l]", "transfer=true"),
        ("export", f"run={ended.folder}"),
    ):
        refused = entry(*words)
        assert refused.code == 1
        assert "export=true" in refused.err
