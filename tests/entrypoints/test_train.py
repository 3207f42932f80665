"""`python train.py` as a user runs it: what it prints, what it leaves, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from routewright.core.run import load_manifest
from routewright.gateway.bundle import Bundle

KEYS = (
    "apgr", "apgr_ci", "cpt50", "cpt80", "aiq", "cost_saved_at_95", "cost_saved_at_98", "cost_saved_at_100", "gap_recovered", "auroc",
    "brier", "ece", "n_train", "n_test",
)  # fmt: skip


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_from_the_shell(shell, table: Path) -> None:
    ended = shell("train", "data=table", f"data.path={table}", "router=knn", "router.k=20", "tracking=none", "replicates=200").ok()
    folder = ended.folder
    assert {"manifest.json", "weights.safetensors", "metrics.json", "curve.parquet", "predictions.parquet", "report.html", "bundle"} <= {
        path.name for path in folder.iterdir()
    }
    manifest = load_manifest(folder)
    assert manifest["kind"] == "train"
    assert manifest["choices"]["router"] == "knn"
    assert manifest["export_difference"] <= 1e-4
    assert manifest["judged"] == "the exported router"
    found = metrics_of(folder)
    for key in KEYS:
        assert key in found, key
    for model in ("small", "large"):
        assert {"quality", "cost"} <= set(found["models"][model])
    assert {"word", "difference", "ci"} <= set(found["verdict"])
    assert {"random", "fixed_mix", "shuffled_decisions", "shuffled_labels", "group", "length", "oracle", "model:small"} <= set(
        found["controls"]
    )
    assert all("apgr" in row for row in found["controls"].values())
    # the table has a signal that embeddings see: the router must find it, and the verdict say so
    assert found["verdict"]["word"] == "helps"
    assert found["verdict"]["sentence"] in ended.out
    lines = ended.out.splitlines()
    assert "knn on table" in lines[0]


def test_same_seed_same_bytes_and_no_overwriting(trained) -> None:
    first = trained("router=mf", "router.epochs=2").ok().folder
    second = trained("router=mf", "router.epochs=2").ok()
    assert second.folder.name == f"{first.name}-2"
    assert "stays as it is" in second.err
    assert (first / "metrics.json").read_bytes() == (second.folder / "metrics.json").read_bytes()
    assert (first / "bundle" / "router.onnx").read_bytes() == (second.folder / "bundle" / "router.onnx").read_bytes()
    other = trained("router=mf", "router.epochs=2", "seed=1").ok().folder
    assert (first / "metrics.json").read_bytes() != (other / "metrics.json").read_bytes()


@pytest.mark.slow
def test_a_sweep_makes_every_run(entry, table: Path, tmp_path: Path) -> None:
    words = ["data=table", f"data.path={table}", "tracking=none", "replicates=100", "router=knn,constant", "seed=0,1"]
    entry("train", "-m", *words).ok()
    names = sorted(path.name for path in (tmp_path / "outputs").iterdir() if path.name.startswith("train-"))
    assert len(names) == 4
    assert all(load_manifest(tmp_path / "outputs" / name)["kind"] == "train" for name in names)


def test_a_missing_router_lists_the_choices(entry) -> None:
    ended = entry("train", "router=nonesuch")
    assert ended.code == 1
    for choice in ("mf", "knn", "ridge", "logistic", "random", "constant"):
        assert choice in ended.err


@pytest.mark.parametrize("word", ["ruter=knn", "router.kk=3", "split.tests=.3"])
def test_a_misspelled_key_is_refused(trained, word: str) -> None:
    ended = trained(word)
    assert ended.code == 1
    assert "Traceback" not in ended.err


def test_cross_validation_judges_every_query(trained) -> None:
    found = metrics_of(trained("router=logistic", "cv=4").ok().folder)
    assert found["n_test"] == 160
    assert found["evaluation"] == "random split, cv=4"
    assert set(found["operating_points"]) == {"cheapest", "balanced", "quality-95"}


def test_grouped_split_leaves_groups_out(trained) -> None:
    found = metrics_of(trained("router=constant", "split.kind=grouped", "split.calibration=0").ok().folder)
    assert found["n_groups"] == 1  # of two groups one is judged
    assert found["leakage"]["exact_duplicates"] == 0
    assert "operating_points" in found["withheld"]


def test_a_given_split_is_obeyed(trained, table: Path) -> None:
    lines = table.read_text().splitlines()
    sides = ["split"] + ["test" if i % 4 == 0 else "calibration" if i % 10 == 1 else "train" for i in range(len(lines) - 1)]
    table.write_text("\n".join(f"{line},{side}" for line, side in zip(lines, sides, strict=True)) + "\n")
    found = metrics_of(trained("router=constant", "split.kind=given").ok().folder)
    assert (found["n_test"], found["n_calibration"], found["n_train"]) == (
        sides.count("test"),
        sides.count("calibration"),
        sides.count("train"),
    )
    assert found["evaluation"] == "given split"
    assert metrics_of(trained("router=constant").ok().folder)["evaluation"] == "given split", "a split of the data's own is the default"
    assert metrics_of(trained("router=constant", "cv=3").ok().folder)["evaluation"] == "random split, cv=3"


def test_data_without_a_split_say_so(trained) -> None:
    ended = trained("router=constant", "split.kind=given")
    assert ended.code == 1
    assert "no split of their own" in ended.err or "split" in ended.err


def test_protocol_routellm_is_the_headline(trained) -> None:
    found = metrics_of(trained("router=knn", "router.k=20", "protocol=routellm").ok().folder)
    assert found["apgr"] == found["routellm"]["apgr"]
    assert found["exact"]["apgr"] != found["apgr"]
    assert found["controls"]["random"]["apgr"] == pytest.approx(0.5, abs=0.15)


def test_the_bundle_decides_as_the_run_says(trained) -> None:
    ended = trained("router=ridge").ok()
    bundle = Bundle.load(ended.folder / "bundle")
    assert bundle.check_golden() <= 1e-4
    points = metrics_of(ended.folder)["operating_points"]
    assert bundle.points == {name: point["knob"] for name, point in points.items()}
    assert bundle.decide("Tell me a short story about tea.", point="cheapest").model == "small"
    sums = [bundle.decide(f"What is {1000 + 37 * i} times {300 + i} minus {i}?", point="quality-95").model for i in range(20)]
    chat = [bundle.decide(f"Tell me a short story about cats, number {i}.", point="quality-95").model for i in range(20)]
    assert sums.count("large") > chat.count("large")
