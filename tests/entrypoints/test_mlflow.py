"""MLflow holds every run's parameters, metrics, plot and bundle in sqlite, its interface compares them, and the bundle is a model of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.tracking import MlflowTracker
from routewright.core.types import InputError
from routewright.gateway.bundle import Bundle
from routewright.gateway.tokens import Reader
from tests.gateway_bundles import tiny_bundle

TEXTS = ["a", "b", "c", "ab", "abc", "ccc", "bbbb", "xyz", ""]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or b"{}")


@pytest.fixture
def two_runs(entry, table: Path, tmp_path: Path) -> Path:
    words = ["data=table", f"data.path={table}", "replicates=100", "compare=5", "tracking.register=pair", f"outputs={tmp_path}/outputs"]
    for router in ("constant", "knn"):
        entry("train", *words[:-1], f"router={router}").ok()
    return tmp_path / "outputs" / "mlflow.db"


@pytest.mark.slow
def test_the_interface_opens_and_compares_runs(two_runs: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        f"sqlite:///{two_runs}",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (tmp_path / "ui.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--workers", "1"], stdout=log, stderr=log, env=environment, cwd=tmp_path, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 150
        while True:
            try:
                ask(port, "/api/2.0/mlflow/experiments/search", {"max_results": 10})
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert server.poll() is None, (tmp_path / "ui.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "ui.log").read_text()
                time.sleep(0.5)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert b"<html" in page.read().lower()
        experiments = ask(port, "/api/2.0/mlflow/experiments/search", {"max_results": 10})["experiments"]
        key = next(item["experiment_id"] for item in experiments if item["name"] == "routewright")
        runs = ask(port, "/api/2.0/mlflow/runs/search", {"experiment_ids": [key], "order_by": ["metrics.apgr DESC"]})["runs"]
        assert len(runs) == 2
        for run in runs:
            values = {item["key"]: item["value"] for item in run["data"]["metrics"]}
            params = {item["key"]: item["value"] for item in run["data"]["params"]}
            assert {"apgr", "aiq", "brier", "verdict.difference", "controls.random.apgr"} <= set(values)
            assert params["seed"] == "0"
            assert run["info"]["status"] == "FINISHED"
            listed = ask(port, f"/api/2.0/mlflow/artifacts/list?run_id={run['info']['run_id']}")["files"]
            assert {"bundle", "plots", "metrics.json", "report.html", "manifest.json"} <= {item["path"] for item in listed}
        names = {run["info"]["run_name"].split("-")[2] for run in runs}
        assert names == {"constant", "knn"}
        (latest,) = ask(port, "/api/2.0/mlflow/registered-models/get?name=pair")["registered_model"]["latest_versions"]
        assert (latest["version"], latest["status"]) == ("2", "READY")
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=20)


def finished(folder: Path, shift: float = 0.0) -> Path:
    """A run folder with a bundle in it, as far as a tracker looks."""
    tiny_bundle(folder / "bundle", shift=shift, familiar=True)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs in one database, registered; making the database is what takes time."""
    folder = tmp_path_factory.mktemp("store")
    tracker = MlflowTracker(f"sqlite:///{folder}/mlflow.db", "routewright", str(folder / "artifacts"), register="cheap-router")
    for place, shift in enumerate((0.0, 0.25)):
        tracker.log(finished(folder / f"run{place}", shift), params={"seed": 0}, metrics={"apgr": 1.0}, figures={"curve.png": b"png"})
    return folder


@pytest.fixture
def mlflow(store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    yield mlflow
    mlflow.set_tracking_uri(before)


def test_the_logged_bundle_is_an_mlflow_model_that_scores_as_the_bundle_does(mlflow: Any, store: Path) -> None:
    (run,) = mlflow.search_runs(experiment_names=["routewright"], filter_string="run_name = 'run1'", output_format="list")
    bundle = Bundle.load(store / "run1" / "bundle")
    tokens = Reader((store / "run1" / "bundle" / "tokenizer.json").read_bytes())(TEXTS)
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/bundle")
    found = model.predict({"input_ids": tokens.ids, "attention_mask": tokens.mask})
    np.testing.assert_allclose(found["quality"], bundle.score(TEXTS), atol=1e-6)
    np.testing.assert_allclose(found["familiarity"], bundle.familiarity(TEXTS), atol=1e-6)
    told = model.metadata
    assert [(spec.name, str(spec.type), spec.shape) for spec in told.signature.inputs] == [
        ("input_ids", "int64", (-1, -1)),
        ("attention_mask", "int64", (-1, -1)),
    ]
    assert [(spec.name, spec.shape) for spec in told.signature.outputs] == [("quality", (-1, 2)), ("familiarity", (-1,))]
    assert told.metadata["bundle"] == bundle.hash
    assert told.metadata["models"] == list(bundle.models)
    assert told.metadata["points"] == bundle.points
    graph = mlflow.onnx.load_model(f"runs:/{run.info.run_id}/bundle").SerializeToString(deterministic=True)
    assert graph == (store / "run1" / "bundle" / "router.onnx").read_bytes()


def test_the_model_is_stored_once_and_is_still_a_bundle(store: Path) -> None:
    own = (store / "run1" / "bundle" / "router.onnx").read_bytes()
    (graph,) = [path for path in (store / "artifacts").rglob("*") if path.is_file() and path.read_bytes() == own]
    assert Bundle.load(graph.parent).hash == Bundle.load(store / "run1" / "bundle").hash
    assert not (store / "run1" / "bundle" / "MLmodel").exists(), "the run folder was written to after its manifest"


def test_each_registered_run_is_the_next_version(mlflow: Any, store: Path) -> None:
    versions = {row.version: row for row in mlflow.MlflowClient().search_model_versions("name = 'cheap-router'")}
    assert set(map(int, versions)) == {1, 2}
    for number, row in versions.items():
        bundle = Bundle.load(store / f"run{int(number) - 1}" / "bundle")
        assert row.tags == {"bundle": bundle.hash, "verdict": "helps"}
        assert row.description == "It helps."
        assert mlflow.pyfunc.load_model(f"models:/cheap-router/{number}").metadata.metadata["bundle"] == bundle.hash


def test_what_is_no_router_is_not_registered(tmp_path: Path) -> None:
    tracker = MlflowTracker(f"sqlite:///{tmp_path}/none.db", "routewright", str(tmp_path / "artifacts"), register="cheap-router")
    (tmp_path / "run" / "bundle").mkdir(parents=True)
    for text in (None, json.dumps({"kind": "cascade"})):
        if text is not None:
            (tmp_path / "run" / "bundle" / "bundle.json").write_text(text)
        with pytest.raises(InputError, match=r"no router to register; the run is complete in .*tracking\.register=null"):
            tracker.log(tmp_path / "run", params={}, metrics={}, figures={})
    assert not (tmp_path / "none.db").exists(), "half a run was logged"
