"""collect.py itself, killed at twenty random moments and started again each time: the table is that of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from routewright.core.types import Outcomes
from routewright.data.store import Store
from routewright.data.tables import read_outcomes
from tests.faults.server import KEY, Process
from tests.faults.test_kill import requests, wait_for

ROOT = Path(__file__).parents[2]
N, CONCURRENCY, KILLS = 400, 4, 20


def command(url: str, folder: Path) -> list[str]:
    questions = folder / "questions.csv"
    questions.write_text("query,gold\n" + "".join(f"Question {i}?,x\n" for i in range(N)))
    words = ["backend=openai", f"backend.base_url={url}", "arms=[m]", "questions=table", f"questions.path={questions}", "limit=null"]
    prices = ["prices=none", "+prices.models.m.input=1", "+prices.models.m.output=4", "+prices.models.m.cached_input=.1"]
    limits = [f"concurrency={CONCURRENCY}", "limits.backoff_s=0.02", "limits.breaker_failures=1000"]
    return [sys.executable, str(ROOT / "collect.py"), *words, *prices, *limits, f"outputs={folder}/outputs"]


def table(folder: Path) -> Outcomes:
    (found,) = (folder / "outputs").glob("collect-*/outcomes.parquet")
    return read_outcomes(found)


@pytest.mark.slow
def test_killed_twenty_times_it_makes_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    rng, kills = random.Random(1), 0
    disturbed, quiet = tmp_path / "disturbed", tmp_path / "quiet"
    faults = {"transient": {"server": 0.05, "cut_before": 0.03}, "answers": {"no_usage": 0.05, "null_content": 0.05}}
    with Process(latency=0.06, **faults) as server:
        for folder in (disturbed, quiet):
            folder.mkdir()
        subprocess.run(command(server.url, quiet), check=True, capture_output=True)
        before = len(server.books()["billed"])
        for _ in range(KILLS):
            asked = requests(server)
            process = subprocess.Popen(
                command(server.url, disturbed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
            )
            wait_for(server, lambda process=process: process.poll() is None, rng.randint(1, 15), asked)
            time.sleep(rng.random() * 0.08)
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        assert kills >= KILLS // 2
        assert not list((disturbed / "outputs").glob("collect-*")), "a killed run leaves no folder that looks finished"
        subprocess.run(command(server.url, disturbed), check=True, capture_output=True)
        billed = Counter(entry["key"] for entry in server.books()["billed"][before:])
    first, second = table(quiet), table(disturbed)
    np.testing.assert_array_equal(first.quality, second.quality)
    np.testing.assert_array_equal(first.cost, second.cost)
    np.testing.assert_array_equal(first.answer, second.answer)
    for kind, counts in first.tokens.items():
        np.testing.assert_array_equal(counts, second.tokens[kind])
    assert np.isnan(first.cost).any(), "answers without usage have no cost"
    with Store(disturbed / "outputs" / "calls.sqlite") as store:
        cut = Counter(name for run in store.interrupted() for name in run.keys)
    twice = {name: count for name, count in billed.items() if count > 1}
    assert all(cut[name] >= count - 1 for name, count in twice.items()), "billed twice, and nobody was told"
    assert sum(twice.values()) - len(twice) <= CONCURRENCY * kills
