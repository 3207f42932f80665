"""train.py student=...: one more model in a cascade's pool, judged, kept, judged again; refused where it cannot be had."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from routewright.data.tables import write_outcomes
from tests.conftest import make_outcomes
from tests.entrypoints.conftest import Entry

CITIES = ("Paris", "Rome", "Cairo", "Lima", "Oslo", "Delhi")
LANDS = ("France", "Italy", "Egypt", "Peru", "Norway", "India")
ASKED = ("What is the capital of {}? ({})", "Name the capital of {}. ({})", "{}: which city is its capital? ({})")


def recurring(path: Path, n: int = 120) -> Path:
    """The same six questions in many wordings; the cheap model knows half of the answers, the dear one nearly all."""
    rng = np.random.default_rng(0)
    table, kind = make_outcomes(rng, n=n, groups=12), rng.integers(6, size=n)
    right = rng.random((n, 2)) < [0.5, 0.95]
    answer = np.where(right, np.array(CITIES)[kind][:, None], "Rotterdam").astype(object)
    text = np.array([ASKED[i % 3].format(LANDS[k], i) for i, k in enumerate(kind)], dtype=object)
    signals = {"logprob_mean": np.where(right, -0.1, -1.0) - 0.5 * rng.random((n, 2))}
    queries = replace(table.queries, text=text, embedding=None)
    return write_outcomes(path, replace(table, queries=queries, quality=right, answer=answer, signals=signals))


def test_a_student_is_trained_judged_kept_and_judged_again(entry: Entry, tmp_path: Path) -> None:
    words = ("data=table", f"data.path={recurring(tmp_path / 'mine.parquet')}", "router=logistic", "tracking=none", "replicates=200")
    folder = entry("train", *words, "cascade=automix", "signal=logprob", "student=knn", "shuffled_labels=false").ok().folder
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["pool"][-1] == "student"
    assert metrics["student"]["teacher"] == "model1"
    assert metrics["models"]["student"]["quality"] > 0.8
    assert metrics["models"]["student"]["cost"] == pytest.approx(1e-6)
    assert pq.read_table(folder / "student.parquet").num_rows == 120
    kept = load_file(folder / "weights.safetensors")
    assert kept["student.memory_"].shape[0] == kept["student.label_"].shape[0] == metrics["n_train"]
    assert json.loads((folder / "manifest.json").read_text())["choices"]["student"] == "knn"
    again = entry("evaluate", f"runs=[{folder}]", "replicates=200").ok().folder
    (second,) = json.loads((again / "metrics.json").read_text())["runs"].values()
    for name in ("pool", "student", "models", "apgr", "cost_saved_at_95"):
        wanted, found = metrics[name], second[name]
        if name == "models":
            wanted, found = ({model: row["quality"] for model, row in part.items()} for part in (wanted, found))
        assert found == pytest.approx(wanted) if isinstance(wanted, float) else found == wanted


def test_a_student_without_a_cascade_is_refused(entry: Entry, table: Path) -> None:
    ended = entry("train", "data=table", f"data.path={table}", "tracking=none", "router=logistic", "student=knn")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "a student is one more model of a cascade" in ended.err
