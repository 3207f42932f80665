"""Familiarity: by hand in two dimensions, the same in the graph, and a threshold that calls the stated share of like queries strange."""

from __future__ import annotations

import numpy as np
import pytest

from routewright.core import graph
from routewright.core.familiar import FEWEST, STRANGE, Familiarity
from routewright.core.onnx_session import session
from routewright.core.types import InputError


def test_by_hand() -> None:
    """Centre (1, 0), spreads 2 and 1: (5, 0) lies 2 spreads off along x, (1, 3) lies 3 along y; by the root of two dimensions."""
    made = Familiarity(np.array([1.0, 0.0]), np.diag([1 / 2, 1.0]) / np.sqrt(2), -1.0)
    far = made(np.array([[5.0, 0.0], [1.0, 3.0], [1.0, 0.0]]))
    assert far == pytest.approx([-2 / np.sqrt(2), -3 / np.sqrt(2), 0.0])


def test_fit_calls_the_stated_share_strange_and_far_ones_all() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6))
    made = Familiarity.fit(rng.normal(size=(6000, 6)) @ mix, np.random.default_rng(1))
    assert made is not None
    like = made(rng.normal(size=(20_000, 6)) @ mix)
    assert (like < made.least).mean() == pytest.approx(STRANGE, abs=0.005)
    assert like.mean() == pytest.approx(-0.96, abs=0.03), "about -1 for a query like the training ones"
    assert (made(rng.normal(loc=9, size=(100, 6)) @ mix) < made.least).all()
    assert Familiarity.fit(np.ones((FEWEST - 1, 3)), rng) is None


def test_the_graph_says_the_same() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    made = Familiarity.fit(x, np.random.default_rng(1))
    assert made is not None
    inner = graph.head(
        "embedding2 = Identity(embedding)\nquality = MatMul(embedding2, w)", {"w": rng.normal(size=(4, 2)), "width_": np.array([4])}
    )
    for node in inner.graph.node:  # as a merged graph has it, the embedding is made inside
        node.input[:] = ["x" if name == "embedding" else name for name in node.input]
        node.input[:] = ["embedding" if name == "embedding2" else name for name in node.input]
        node.output[:] = ["embedding" if name == "embedding2" else name for name in node.output]
    inner.graph.input[0].name = "x"
    both = made.beside(inner)
    found = session(both.SerializeToString()).run(["quality", "familiarity"], {"x": x})
    assert found[1] == pytest.approx(made(x), abs=1e-5)
    assert [output.name for output in inner.graph.output] == ["quality"], "the given graph is left as it was"
    with pytest.raises(InputError, match="familiarity needs an embedding"):
        made.beside(graph.head("quality = MatMul(embedding, w)", {"w": np.ones((4, 2))}))
