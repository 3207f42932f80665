"""MLflow holds every run's parameters, metrics, plot and bundle in sqlite, and its interface opens and compares them."""

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

import pytest


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
    words = ["data=table", f"data.path={table}", "replicates=100", "compare=5", f"outputs={tmp_path}/outputs"]
    for router in ("constant", "knn"):
        entry("train", *words[:-1], f"router={router}").ok()
    return tmp_path / "outputs" / "mlflow.db"


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
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=20)
