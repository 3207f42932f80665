"""What several test modules of encoders start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def home(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the module's `built` for every test, with its cache; the exports are found there, so torch is not needed."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path
