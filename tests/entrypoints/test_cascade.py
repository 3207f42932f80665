"""train.py cascade=...: judged beside a router on one page, judged again alike, exported, refused where it cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from routewright.gateway.cascade import CascadeBundle
from tests.entrypoints.conftest import Entry
from tests.entrypoints.test_student import recurring


def words(path: Path) -> tuple[str, ...]:
    return ("data=table", f"data.path={recurring(path)}", "router=logistic", "tracking=none", "replicates=200", "shuffled_labels=false")


@pytest.mark.slow
def test_cascades_and_a_router_on_one_page(entry: Entry, tmp_path: Path) -> None:
    common = words(tmp_path / "mine.parquet")
    runs = [entry("train", *common).ok().folder]
    for cascade in ("frugal", "consensus"):
        ended = entry("train", *common, f"cascade={cascade}", "signal=logprob").ok()
        runs.append(ended.folder)
        assert cascade in ended.folder.name
        assert "decisions at every named point: all equal the replay's" in ended.out
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in runs]
    for found, cascade in zip(metrics[1:], ("frugal", "consensus"), strict=True):
        assert (found["cascade"], found["signal"], found["router"]) == (cascade, "logprob", "logistic")
        assert found["axis"] == "spend"
        assert found["auroc"] > 0.9, "these log-probabilities tell right answers from wrong ones"
        assert found["verdict"]["difference"] > 0.05
        assert {"router_alone", "shuffled_decisions", "oracle", "group"} <= set(found["controls"])
        assert found["operating_points"]["quality-95"]["promised"] == 0.95
    kept = set(load_file(runs[1] / "weights.safetensors"))
    assert {"cascade.lists_", "score.slope"} <= kept
    assert not any(name.startswith("router.") for name in kept), "frugal reads no prior"
    guessing = entry("train", *common, "cascade=cascade_routing", "signal=logprob", "shuffled_labels=true").ok().folder
    assert {"cascade.lambdas_", "score.slope", "prior.slope", "router.coef_"} <= set(load_file(guessing / "weights.safetensors"))
    assert "shuffled_labels" in json.loads((guessing / "metrics.json").read_text())["controls"]
    again = entry("evaluate", f"runs=[{','.join(map(str, runs))}]", "replicates=200").ok()
    judged = json.loads((again.folder / "metrics.json").read_text())
    for name, found in zip(("frugal", "consensus"), metrics[1:], strict=True):
        second = judged["runs"][name]
        assert second["verdict"]["difference"] == pytest.approx(found["verdict"]["difference"])
        assert second["quality_at_cost_50"] == pytest.approx(found["quality_at_cost_50"])
        assert second["operating_points"]["balanced"]["quality"] == pytest.approx(found["operating_points"]["balanced"]["quality"])
    assert len(judged["paired"]) == 3
    page = (again.folder / "report.html").read_text()
    assert all(name in page for name in ("logistic", "frugal", "consensus"))
    assert "best fixed mix" in again.out
    assert "quality when spending that share" in again.out
    refused = entry("evaluate", f"runs=[{runs[1]}]", "data=zeroeval_gsm")
    assert refused.code == 1
    assert "a cascade decides by answers" in refused.err or "neither cached nor mirrored" in refused.err
    exported = entry("export", f"run={runs[2]}").ok()
    assert "all equal the replay's" in exported.out
    first, second = (json.loads((folder / "bundle" / "bundle.json").read_text()) for folder in (runs[2], exported.folder))
    assert (first["kind"], first["cascade"], first["needs"]) == ("cascade", "Consensus", ["said", "score"])
    assert set(first["operating_points"]) == set(metrics[2]["operating_points"])
    assert first["sha256"]["scorer.onnx"] == second["sha256"]["scorer.onnx"]
    assert [item["points"] for item in first["golden"]] == [item["points"] for item in second["golden"]]
    served = CascadeBundle.load(exported.folder / "bundle", said=str.strip)
    asking = served.start("What is the capital of Peru?", "quality-95")
    while asking.next is not None:
        asking = asking.answered("Lima", {"logprob_mean": -0.2})
    assert asking.served.answer == "Lima"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("cascade=frugal", "~signal"), "looks at answers by a signal"),
        (("cascade=frugal", "signal=agreement"), "Collect with samples=5"),
        (("cascade=frugal", "signal=logprob", "protocol=routellm"), "protocol 'routellm' is for routers"),
        (("cascade=frugal", "signal=logprob", "scoring.folds=0"), "inner folds"),
        (("cascade=frugal", "signal=logprob", "scoring.method=guess"), "guess"),
    ],
)
def test_what_cannot_be_is_one_clear_line(entry: Entry, tmp_path: Path, asked: tuple[str, ...], said: str) -> None:
    ended = entry("train", *words(tmp_path / "mine.parquet"), *asked)
    assert ended.code == 1
    assert said in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


def test_data_without_answers_or_without_costs_are_refused(entry: Entry, table: Path) -> None:
    ended = entry("train", "data=table", f"data.path={table}", "tracking=none", "router=logistic", "cascade=agreement")
    assert ended.code == 1
    assert "no answers" in ended.err or "what its calls cost" in ended.err
