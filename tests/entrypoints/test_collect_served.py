"""Collects through the openai backend from a real server: `transformers serve` on loopback with a pocket model."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from routewright.data.pocket import model_path
from routewright.data.tables import read_outcomes
from tests.entrypoints.conftest import Entry

MODEL = "pocket-xs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the server, which ends with the module."""
    home = tmp_path_factory.mktemp("hub")
    (home / "hub").mkdir()  # without a cache folder its list of models fails
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [shutil.which("transformers", path=str(Path(sys.executable).parent)) or "transformers", "serve", "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with (home / "log").open("w") as log:
        served = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + 120
            while not _answers(f"http://127.0.0.1:{port}/v1/models"):
                assert served.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline, (home / "log").read_text()
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            served.terminate()
            served.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_a_real_server_is_collected_from(server: str, entry: Entry) -> None:
    model = str(model_path(MODEL))
    words = ["limit=25", "max_tokens=32", "prices=none", "concurrency=4"]
    ended = entry("collect", "backend=openai", f"backend.base_url={server}", f"arms=[{{model: '{model}', name: served}}]", *words).ok()
    outcomes = read_outcomes(ended.folder / "outcomes.parquet")
    assert outcomes.answer is not None
    assert all(text is not None for text in outcomes.answer[:, 0])
    assert (outcomes.tokens["input"] > 0).all(), "usage is the server's own"
    assert (outcomes.tokens["output"] > 0).all()
    assert np.isnan(outcomes.signals["logprob_mean"]).all(), "it was asked for log-probabilities and ignores that"
    assert ended.err.count("no log-probabilities came from served") == 1
    local = entry("collect", f"arms=[{MODEL}]", *words).ok()
    here = read_outcomes(local.folder / "outcomes.parquet")
    assert here.queries.id.tolist() == outcomes.queries.id.tolist()
    same = np.mean(here.answer[:, 0] == outcomes.answer[:, 0])  # type: ignore[index]
    assert same >= 0.9, "the same weights say the same, but for rounding"
    assert json.loads((ended.folder / "collection.json").read_text())["spent"]["ok"] == 25
