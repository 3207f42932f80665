"""Fixtures every test may use: the data mirror, a generator, and a small made-up table of outcomes with a signal in it."""

from __future__ import annotations

import os

# workers already take every core: with threads of their own beside them, trees grew sixty times slower on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from routewright.core.types import Outcomes, Pool, Queries

# a loaded machine is no reason to fail: examples are bounded by count, not by time
settings.register_profile("routewright", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("routewright")


@pytest.fixture
def mirror() -> Path:
    """The folder that holds upstream files by owner, repository and commit; the test is skipped where there is none."""
    configured = os.environ.get("ROUTEWRIGHT_MIRROR")
    if not configured:
        pytest.skip("ROUTEWRIGHT_MIRROR is not set: this test reads upstream data files")
    folder = Path(configured).resolve()
    assert folder.is_dir(), f"ROUTEWRIGHT_MIRROR={configured} is not a folder"
    return folder


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Processes that a test starts heed SIGINT. What a script starts with & ignores it, and what is ignored is inherited: pytest's too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def make_outcomes(rng: np.random.Generator, *, n: int = 200, m: int = 2, d: int = 16, groups: int = 4, binary: bool = True) -> Outcomes:
    """Encoded outcomes in which the embedding tells, noisily, which queries each model can answer. Later models are better and dearer."""
    embedding = rng.normal(size=(n, d))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    direction = rng.normal(size=(d, m))
    logit = 3.0 * embedding @ direction + np.linspace(-0.5, 1.5, m)
    chance = 1 / (1 + np.exp(-logit))
    quality = (rng.random((n, m)) < chance).astype(float) if binary else chance
    cost = np.outer(0.5 + rng.random(n), 10.0 ** np.linspace(-4, -2, m))
    queries = Queries(
        np.array([f"q{i}" for i in range(n)], dtype=object),
        np.array([f"question number {i}" for i in range(n)], dtype=object),
        np.array([f"group{i % groups}" for i in range(n)], dtype=object),
        embedding.astype(np.float32),
    )
    pool = Pool(tuple(f"model{j}" for j in range(m)))
    return Outcomes(queries, pool, quality, cost, usage="nominal")


@pytest.fixture
def outcomes(rng: np.random.Generator) -> Outcomes:
    return make_outcomes(rng)
