"""Runs entry points as a user does, in this process (imports are shared) or in one of its own, on a small table with a signal in it."""

from __future__ import annotations

import csv
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How an entry point ended."""

    code: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        """The run folder: the last line of stdout."""
        return Path(self.out.splitlines()[-1])

    def ok(self) -> Ended:
        assert self.code == 0, self.err
        return self


Entry = Callable[..., Ended]


@pytest.fixture
def entry(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Entry:
    """entry("train", "router=knn", ...) -> Ended; outputs go to tmp_path/outputs."""

    def call(name: str, *words: str) -> Ended:
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words, f"outputs={tmp_path}/outputs"])
        capfd.readouterr()
        code: object = 0
        try:
            runpy.run_path(str(ROOT / f"{name}.py"), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        # the interpreter prints a text that a program exits with, and ends with 1
        return Ended(1, out, f"{err}{code}\n") if isinstance(code, str) else Ended(int(str(code or 0)), out, err)

    return call


@pytest.fixture
def shell(tmp_path: Path) -> Entry:
    """The same in a process of its own, as a shell would start it."""

    def call(name: str, *words: str) -> Ended:
        command = [sys.executable, str(ROOT / f"{name}.py"), *words, f"outputs={tmp_path}/outputs"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ), cwd=tmp_path)
        return Ended(done.returncode, done.stdout, done.stderr)

    return call


def write_table(path: Path, rng: np.random.Generator, n: int = 160) -> Path:
    """Sums that the small model cannot do and chat that it can; the dear one does both. Wide CSV with costs."""
    topics = ("paris", "tea", "winter", "music", "gardens", "trains", "bread", "rivers", "cats", "maps")
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["query", "quality:small", "quality:large", "cost:small", "cost:large", "group"])
        for i in range(n):
            hard = i % 2 == 0
            a, b = rng.integers(100, 9999, size=2)
            text = f"What is {a} times {b} minus {a % 97}?" if hard else f"Tell me a short story about {topics[i % 10]}, number {i}."
            small = rng.random() < (0.15 if hard else 0.9)
            large = rng.random() < 0.92
            writer.writerow(
                [
                    text,
                    int(small),
                    int(large),
                    f"{0.0001 * (1 + rng.random()):.6f}",
                    f"{0.002 * (1 + rng.random()):.6f}",
                    "math" if hard else "chat",
                ]
            )
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "mine.csv", np.random.default_rng(0))


@pytest.fixture
def trained(entry: Entry, table: Path) -> Callable[..., Ended]:
    """trained("router=knn") runs train.py on the small table, untracked and with few replicates."""

    def call(*words: str) -> Ended:
        return entry("train", "data=table", f"data.path={table}", "tracking=none", "replicates=200", *words)

    return call
