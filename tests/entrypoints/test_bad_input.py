"""What users get wrong: each a clear line and exit code 1, or a documented result; never a traceback, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

HEADER = "query,quality:a,quality:b,cost:a,cost:b\n"


def rows(n: int, a: str = "0", b: str = "1") -> list[str]:
    return [f"question number {i} about things,{a},{b},0.001,0.01\n" for i in range(n)]


def attempt(entry, tmp_path: Path, text: str, *words: str):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    return entry("train", "data=table", f"data.path={path}", "router=knn", "tracking=none", "replicates=100", *words)


def refused(ended, *needles: str) -> None:
    assert ended.code == 1
    assert "Traceback" not in ended.err
    for needle in needles:
        assert needle in ended.err, ended.err


def nothing_left(tmp_path: Path) -> bool:
    return not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        (HEADER + "".join(rows(30)) + " ,1,1,.1,.1\n", ["mine.csv", "line 32", "query"]),
        (HEADER + "".join(rows(30)) + "fine,nan,1,.1,.1\n", ["mine.csv", "line 32", "quality:a", "nan"]),
        (HEADER + "".join(rows(30)) + "fine,85,1,.1,.1\n", ["line 32", "85"]),
        (HEADER + "".join(rows(30)) + "fine,1,1,-1,.1\n", ["line 32", "cost:a"]),
        ("query,quality:a,cost:a\n" + "".join(f"q {i},1,.1\n" for i in range(30)), ["one model"]),
        (HEADER, ["mine.csv"]),
        ("", ["mine.csv"]),
        (HEADER + "".join(rows(3)), ["queries"]),
        ("id," + HEADER + "".join(f"x,question {i},0,1,.1,.2\n" for i in range(30)), ["id", "x"]),
    ],
    ids=["empty query", "NaN quality", "out of range", "negative cost", "one model", "no rows", "empty file", "too few", "duplicate ids"],
)
def test_a_bad_table_is_refused_in_one_line(entry, tmp_path: Path, text: str, needles: list[str]) -> None:
    refused(attempt(entry, tmp_path, text), *needles)
    assert nothing_left(tmp_path)


def test_an_unknown_model_is_named(entry, tmp_path: Path) -> None:
    refused(attempt(entry, tmp_path, HEADER + "".join(rows(30)), "data.models=[a,zeta]"), "zeta", "a")
    assert nothing_left(tmp_path)


def test_a_missing_file_is_named(entry, tmp_path: Path) -> None:
    refused(entry("train", "data=table", f"data.path={tmp_path}/no.csv", "tracking=none"), "no.csv")


@pytest.mark.parametrize(
    "words", [["policy=threshold", "data.models=[a,b,c]"], ["protocol=paper"], ["replicates=3"], ["split.test=1.5"], ["split.kind=halves"]]
)
def test_impossible_settings_are_refused(entry, tmp_path: Path, words: list[str]) -> None:
    header = "query,quality:a,quality:b,quality:c,cost:a,cost:b,cost:c\n"
    text = header + "".join(f"question {i},0,1,{i % 2},.1,.2,.3\n" for i in range(40))
    refused(
        attempt(entry, tmp_path, text, "data.models=[a,b]", *words)
        if "policy=threshold" not in words
        else attempt(entry, tmp_path, text, *words)
    )
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("word", "needle"),
    [
        ("seed=-1", "seed is too small"),
        ("seed=abc", "seed has the wrong type"),
        ("split.test=abc", "split.test has the wrong type"),
        ("cv=abc", "number of folds"),
        ("cv=1", "cv is too small"),
        ("router.k=abc", "router.k has the wrong type"),
        ("compare=0", "compare is too small"),
        ("labels=foo", "clean or published"),
        ("policy=cost_aware", "needs a cost"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(entry, tmp_path: Path, word: str, needle: str) -> None:
    text = "query,quality:a,quality:b\n" + "".join(f"question {i} of many,{i % 2},1\n" for i in range(60))
    ended = attempt(entry, tmp_path, text, word)
    refused(ended, needle)
    assert len(ended.err.splitlines()) < 12


def test_a_missing_path_is_asked_for(entry) -> None:
    refused(entry("train", "data=table", "tracking=none"), "data.path=")
    refused(entry("evaluate"), "runs=")
    refused(entry("export"), "run=")


def test_a_sweep_says_which_job_failed_and_goes_on(entry, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(HEADER + "".join(rows(60)))
    words = ["data=table", f"data.path={path}", "router=knn", "tracking=none", "replicates=100", "router.k=0,5,abc"]
    ended = entry("train", "-m", *words)
    assert ended.code == 1
    assert "job 0 (" in ended.err
    assert "job 2 (" in ended.err
    assert len([folder for folder in (tmp_path / "outputs").iterdir() if folder.name.startswith("train-")]) == 1


@pytest.mark.parametrize("words", [["seed=0"], ["-m", "seed=0,1,2"]], ids=["run", "sweep"])
def test_a_terminated_run_leaves_nothing(tmp_path: Path, words: list[str]) -> None:
    import signal
    import subprocess
    import sys
    import time

    path = tmp_path / "mine.csv"
    path.write_text(HEADER + "".join(rows(400)))
    root = Path(__file__).resolve().parents[2]
    command = [
        sys.executable,
        str(root / "train.py"),
        "data=table",
        f"data.path={path}",
        "tracking=none",
        "replicates=100000",
        f"outputs={tmp_path}/outputs",
    ]
    command[2:2] = words
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not list((tmp_path / "outputs" / ".partial").glob("*")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in err
    assert list((tmp_path / "outputs" / ".partial").iterdir()) == []
    assert not list((tmp_path / "outputs").glob("train-*")), "an interrupted sweep starts no other job"


def test_all_equal_outcomes_are_a_documented_result(entry, tmp_path: Path) -> None:
    found = json.loads((attempt(entry, tmp_path, HEADER + "".join(rows(60, "1", "1"))).ok().folder / "metrics.json").read_text())
    assert found["verdict"]["word"] == "no evidence that it helps"
    assert found["apgr"] is None
    assert "no gap to recover" in found["withheld"]["apgr"]


def test_without_costs_dollars_are_withheld(entry, tmp_path: Path) -> None:
    text = "query,quality:a,quality:b\n" + "".join(f"question {i} of many,{i % 2},1\n" for i in range(80))
    found = json.loads((attempt(entry, tmp_path, text).ok().folder / "metrics.json").read_text())
    assert found["cost_saved_at_95"] is None
    assert "no cost is known" in found["withheld"]["cost_saved_at_95"]
    assert found["models"]["a"]["cost"] is None
    assert found["apgr"] is not None


def test_missing_grades_are_counted_not_guessed(entry, tmp_path: Path) -> None:
    text = HEADER + "".join(f"question {i} of many,{'' if i % 10 == 0 else i % 2},1,.001,.01\n" for i in range(100))
    found = json.loads((attempt(entry, tmp_path, text).ok().folder / "metrics.json").read_text())
    assert found["n_unobserved"] > 0
    assert found["n_test"] + found["n_unobserved"] == pytest.approx(30, abs=2)


def test_a_very_long_query_is_routed(entry, tmp_path: Path) -> None:
    text = HEADER + "".join(rows(40)) + '"' + "word " * 20_000 + '",1,1,.1,.2\n'
    attempt(entry, tmp_path, text).ok()


def test_offline_and_not_cached_says_both_ways(entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUTEWRIGHT_MIRROR", raising=False)
    monkeypatch.setenv("ROUTEWRIGHT_OFFLINE", "1")
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))
    ended = entry("train", "data=routellm_gsm8k", "tracking=none")
    refused(ended, "routellm/evals/gsm8k/contaminated_prompts.jsonl", "ROUTEWRIGHT_MIRROR", "connect once")
    assert len(ended.err.splitlines()) == 1
