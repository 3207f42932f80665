"""The gateway alone: what a decision imports, and the base install with nothing else there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway_bundles import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
LOADED = """
import json, sys
before = set(sys.modules)
from routewright.gateway.bundle import Bundle
from routewright.gateway.sessions import Sessions
bundle = Bundle.load(sys.argv[1])
model = Sessions(bundle).decide("s", "abc").decision.model
new = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if name not in before}
third = {name.partition(".")[0] for name, file in new.items() if "site-packages" in file}
ours = sorted(name for name in sys.modules if name.startswith("routewright"))
print(json.dumps({"model": model, "third": sorted(third), "ours": ours}))
"""


def loaded(python: str, folder: Path) -> dict[str, list[str]]:
    ended = subprocess.run([python, "-c", LOADED, str(folder)], capture_output=True, text=True, check=True, cwd=folder)
    return dict(json.loads(ended.stdout))


def test_a_decision_imports_three_libraries(tmp_path: Path) -> None:
    found = loaded(sys.executable, tiny_bundle(tmp_path / "bundle"))
    assert set(found["third"]) == {"numpy", "onnxruntime", "tokenizers"}
    assert not [name for name in found["ours"] if name.split(".")[1:2] not in ([], ["core"], ["gateway"])]


@pytest.mark.slow
def test_the_base_install_decides(tmp_path: Path) -> None:
    """A new environment with the package and what it depends on: no training library, no server, no test tool."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    assert uv is not None, "uv is one of the dev extras"
    copy = tmp_path / "source"
    skipped = shutil.ignore_patterns(".venv", ".git", "outputs", "build", "*.egg-info", "__pycache__", "tests", "node_modules")
    shutil.copytree(ROOT, copy, ignore=skipped)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "env")], check=True)
    python = str(tmp_path / "env" / "bin" / "python")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, str(copy)], check=True)
    listed = subprocess.run([uv, "pip", "list", "--format=json", "--python", python], check=True, capture_output=True, text=True)
    names = {row["name"] for row in json.loads(listed.stdout)}
    assert {"routewright", "numpy", "onnxruntime", "tokenizers"} <= names
    assert not names & {"torch", "hydra-core", "scikit-learn", "scipy", "pandas", "mlflow", "onnx", "starlette", "uvicorn", "litellm"}
    folder = tiny_bundle(tmp_path / "bundle")
    assert loaded(python, folder)["model"] in ("small", "large")
    ended = subprocess.run([python, "-m", "routewright.gateway", "decide", str(folder), "abc"], check=True, capture_output=True, text=True)
    assert json.loads(ended.stdout)["model"] in ("small", "large")
    served = subprocess.run([python, "-m", "routewright.gateway", "serve", str(folder)], capture_output=True, text=True, check=False)
    assert served.returncode == 1, "the endpoint needs an extra, and says which"
    assert "routewright[serve]" in served.stderr
