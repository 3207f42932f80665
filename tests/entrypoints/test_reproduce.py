"""scripts/reproduce.py as a user runs it, on small copies of the paper's data and the recorded MT-Bench."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from routewright.core.run import load_manifest
from routewright.eval import paper_routellm
from tests.entrypoints.conftest import ROOT, Ended
from tests.hub_data import write

Reproduce = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _clear() -> Iterator[None]:
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


@pytest.fixture
def reproduce(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reproduce:
    """reproduce("--quick", ...) -> Ended; outputs go to tmp_path/outputs."""

    def call(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["reproduce.py", "routellm", *words, "--outputs", str(tmp_path / "outputs")])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "scripts" / "reproduce.py"), run_name="__main__")
        out, err = capfd.readouterr()
        code = stop.value.code
        return Ended(1, out, f"{err}{code}\n") if isinstance(code, str) else Ended(int(str(code or 0)), out, err)

    return call


@pytest.fixture
def data(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that name small copies of the paper's data. MT-Bench comes from the mirror."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    copies = {option: write(name, tmp_path / name) for option, name in (("--arena", "lmsys_arena_55k"), ("--judged", "routellm_gpt4"))}
    return [word for option, path in copies.items() for word in (option, str(path))]


def test_the_paper_s_data_go_through_the_same_path(reproduce: Reproduce, data: list[str]) -> None:
    ended = reproduce("--quick", "--benchmarks", "mtbench", *data).ok()
    manifest = load_manifest(ended.folder)
    assert ended.folder.name.startswith("reproduce-routellm-seed0-")
    assert {"report.html", "table.json", "mtbench.png"} == set(manifest["files"])
    assert manifest["command"][:3] == ["scripts/reproduce.py", "routellm", "--quick"]
    assert set(manifest["learned_from"]) == {"lmsys_arena_55k", "routellm_gpt4"}
    assert manifest["judged"]["mtbench"]["queries"] == 72
    table: dict[str, Any] = json.loads((ended.folder / "table.json").read_text())
    assert table["differs"] == []
    rows = table["benchmarks"]["mtbench"]["rows"]
    assert [(row["recipe"], row["router"], row["status"]) for row in rows] == [
        ("none", "random", "exact"),
        *((recipe, router, "the paper's data") for recipe in ("arena", "augmented") for router in ("mf", "sw_ranking")),
    ]
    for row in rows[1:]:
        low, high = row["exact"]["apgr_ci"]
        assert low < row["exact"]["apgr"] < high
        assert row["told"]["lmsys_arena_55k"]["queries"] == 45
    assert rows[1]["settings"] == {"ties": "drop", "epochs": 1}
    assert rows[2]["settings"] == {"base": 10.0, "within": "published", "tiers": 10}
    assert "13.40/31.31/.802" in (ended.folder / "report.html").read_text()
    assert "MT-Bench (points of 10)" in ended.out


@pytest.mark.slow  # the recorded judgements are augmented with MMLU, whose embeddings take minutes in an empty cache
def test_the_same_seed_gives_the_same_table_and_settings_can_be_changed(reproduce: Reproduce, data: list[str]) -> None:
    words = ["--quick", "--benchmarks", "mtbench", "--routers", "random,mf", "--seed", "3", "--set", "mf.dim=8", *data[:2]]
    first, second = reproduce(*words), reproduce(*words)
    assert first.folder != second.folder, "a finished run stays"
    tables = [json.loads((ended.folder / "table.json").read_text()) for ended in (first, second)]
    for table in tables:
        for row in table["benchmarks"]["mtbench"]["rows"]:
            row.pop("seconds")
    assert tables[0] == tables[1]
    rows = tables[0]["benchmarks"]["mtbench"]["rows"]
    assert rows[1]["settings"] == {"ties": "drop", "epochs": 1, "dim": "8"}
    assert rows[2]["told"].keys() == {"lmsys_arena_55k", "routellm_mmlu"}
    assert rows[2]["status"] == "other data", "without judge labels the outcomes of MMLU take their place"


def test_a_figure_that_differs_ends_with_1(reproduce: Reproduce, data: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    changed = json.loads(json.dumps(paper_routellm.published()))
    changed["benchmarks"]["mtbench"]["facts"]["strong"]["value"] = "9.213"
    monkeypatch.setattr(paper_routellm, "published", lambda: changed)
    ended = reproduce("--benchmarks", "mtbench", "--routers", "random")
    assert ended.code == 1
    assert "DIFFERS" in ended.out
    assert json.loads((ended.folder / "table.json").read_text())["differs"] == ["mtbench strong"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--routers", "mf,oracle"], "unknown oracle; there are mf, sw_ranking, bert, causal_llm"),
        (["--benchmarks", "gsm8k,math"], "unknown math; there are gsm8k, mmlu, mtbench"),
        (["--judged", "here"], "give --arena too"),
    ],
)
def test_what_does_not_exist_is_named(reproduce: Reproduce, words: list[str], said: str) -> None:
    ended = reproduce(*words)
    assert ended.code == 2
    assert said in ended.err


@pytest.mark.parametrize(("word", "said"), [("mf.width=3", "router=mf"), ("tree.depth=3", "no router of this run")])
def test_a_setting_that_does_not_exist_is_one_line(reproduce: Reproduce, word: str, said: str, tmp_path: Path) -> None:
    ended = reproduce("--quick", "--benchmarks", "mtbench", "--set", word)
    assert ended.code != 0
    assert said in ended.err
    assert not list((tmp_path / "outputs").glob("reproduce*"))
