"""Node packages for tests that run other people's code: installed into a temporary folder, and the test skipped where that cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH", "network")
# the CPU's library is inside the package; unless told so its installer fetches a GPU's from elsewhere
ENVIRONMENT = {"ONNXRUNTIME_NODE_INSTALL": "skip", "npm_config_update_notifier": "false"}


def npm(folder: Path, *words: str) -> Path:
    """`npm words` in a folder, which it returns; skips the test without node, npm or a network, and fails where npm refuses."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    command = ["npm", *words, "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **ENVIRONMENT}, timeout=300)
    if done.returncode and any(word in done.stderr for word in OFFLINE):
        pytest.skip(f"npm reaches no registry: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return folder
