"""collect.py as a user runs it: a local model, resumed after an interrupt, and one clear line for what cannot be."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from routewright.core.run import load_manifest
from routewright.data.pocket import MODELS
from routewright.data.store import Store
from routewright.data.tables import read_outcomes
from tests.entrypoints.conftest import ROOT, Entry
from tests.tiny_lm import make_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny"), context=256)


@pytest.fixture
def words(tiny: Path) -> list[str]:
    return [f"backend.models={{tiny: {tiny}}}", "arms=[tiny]", "limit=20", "max_tokens=8", "prices=none"]


def test_the_default_run(entry: Entry) -> None:
    ended = entry("collect").ok()
    found = json.loads((ended.folder / "collection.json").read_text())
    (arm,) = found["arms"]
    assert arm in MODELS
    row = found["arms"][arm]
    assert row["answered"] == row["graded"] == found["questions"] == 500
    assert 0.2 < row["quality"] < 0.95
    assert row["usd"] > 0
    assert row["tokens_per_s"] > 0
    assert found["usage"] == "nominal"
    for said in ("quality", "USD", "tokens/s", "right", "wrong", "nominal"):
        assert said in ended.out
    manifest = load_manifest(ended.folder)
    assert manifest["kind"] == "collect"
    assert manifest["collection"]["questions"]["name"] == "pocket"
    outcomes = read_outcomes(ended.folder / "outcomes.parquet")
    assert np.isfinite(outcomes.signals["logprob_mean"]).mean() > 0.95


def test_collected_outcomes_train_as_they_are(entry: Entry) -> None:
    collected = entry("collect", "arms=[pocket-xs,pocket-num]", "limit=120").ok().folder
    ended = entry(
        "train", "data=table", f"data.path={collected}/outcomes.parquet", "router=knn", "router.k=20", "replicates=100", "tracking=none"
    )
    metrics = json.loads((ended.ok().folder / "metrics.json").read_text())
    assert metrics["evaluation"] == "given split"
    assert metrics["usage"] == "nominal"
    assert set(metrics["models"]) == {"pocket-xs", "pocket-num"}


def test_the_same_command_again_asks_nothing(entry: Entry, words: list[str]) -> None:
    first, second = entry("collect", *words).ok(), entry("collect", *words).ok()
    assert "made 20 calls" in first.out
    assert "made 0 calls" in second.out
    assert first.folder != second.folder
    one, other = (read_outcomes(ended.folder / "outcomes.parquet") for ended in (first, second))
    np.testing.assert_array_equal(one.quality, other.quality)
    np.testing.assert_array_equal(one.answer, other.answer)


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_keeps_the_answers_and_says_so(words: list[str], tmp_path: Path) -> None:
    # one at a time, so that it is far from done however long this process has to wait for its turn
    command = [sys.executable, str(ROOT / "collect.py"), *words, "limit=3000", "backend.batch_size=1", f"outputs={tmp_path}/outputs"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=dict(os.environ))
    store = tmp_path / "outputs" / "calls.sqlite"
    deadline = time.monotonic() + 300
    try:
        while not _kept(store):
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < deadline, "no answer came"
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=300)
    finally:
        run.kill()
    assert run.returncode == 1, err
    assert out == ""
    assert "the same command goes on from there" in err
    assert not list((tmp_path / "outputs").glob("collect-*"))
    with Store(store) as kept:
        assert kept.totals().calls > 0, "what had come back is kept"


def _kept(store: Path) -> int:
    """How many calls another process has kept so far."""
    if not store.exists():
        return 0
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        return int(db.execute("SELECT count(*) FROM call").fetchone()[0]) if "call" in tables else 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["arms=[nonesuch]"], "no language model at 'nonesuch'"),
        (["arms=[]"], "arm"),
        (["arms=[{model: tiny, shoots: 3}]"], "shoots"),
        (["limit=0"], "limit"),
        (["prices=pocket_nominal"], "model 'tiny' has no price"),
        (["budget_usd=1"], "budget"),
        (["questions.groups=[poems]"], "there is no group 'poems'"),
        (["samples=-1"], "samples"),
        (["concurrency=0"], "concurrency"),
        (["questions=table", "questions.path=nonesuch.csv"], "there is no such file"),
        (["judge=pairwise", "judge.model=tiny"], "two arms"),
        (["concurency=3"], "concurency"),
        (["self_report=words"], "self_report|self-report"),
    ],
)
def test_what_cannot_be_is_one_line(entry: Entry, words: list[str], more: list[str], message: str, tmp_path: Path) -> None:
    ended = entry("collect", *words, *more)
    assert ended.code == 1
    assert re.search(message, ended.err)
    assert "Traceback" not in ended.err
    assert not list((tmp_path / "outputs").glob("collect-*"))


def test_a_replay_of_nothing_is_one_line(entry: Entry) -> None:
    ended = entry("collect", "backend=replay", "backend.path=nonesuch.csv", "limit=3")
    assert ended.code == 1
    assert "there is no such file" in ended.err


def test_a_missing_key_is_named_and_never_shown(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ended = entry("collect", "backend=openai", "arms=[gpt-4o]", "prices=none", "limit=3")
    assert ended.code == 1
    assert "OPENAI_API_KEY" in ended.err
