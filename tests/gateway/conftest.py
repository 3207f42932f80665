"""Two bundles, and an endpoint that serves the first, for all tests of a module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.served import LIMIT, SECRET, Server, serving
from tests.gateway_bundles import tiny_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_bundle(tmp_path_factory.mktemp("one"), familiar=True), tiny_bundle(tmp_path_factory.mktemp("two"), shift=0.3)


@pytest.fixture(scope="module")
def server(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that leave its folder alone."""
    with serving(shutil.copytree(bundles[0], tmp_path_factory.mktemp("served") / "bundle"), "--limit", str(LIMIT)) as made:
        yield made
        assert made.counted("internal_errors_total") == 0
        assert SECRET not in made.log.read_text()
