"""The int8 and the static encoder on small graphs and a tiny random model: by hand, text by text, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core import graph
from routewright.core.contracts import Encoder
from routewright.core.types import InputError
from routewright.data import quantized as small_module
from routewright.data.encoders import SentenceEncoder
from routewright.data.quantized import FAST, FULL, REDUCED, QuantizedEncoder, integers, quantized, ranges
from routewright.data.static import FAINT, StaticEncoder, distilled, frequency, graph_of, zipf
from tests.reference.test_encoders import make_model

HOSTILE = ["", " ", "\x00\x01\x07", "😀", "[SEP]", "[CLS] the [MASK]", "‮​", "x" * 100_000, "cat " * 25_000, "中" * 100_000]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in `model`, and a cache that holds its three graphs."""
    home = tmp_path_factory.mktemp("fast")
    make_model(home / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROUTEWRIGHT_CACHE", str(home / "cache"))
        for encoder in (plain(home), small(home), static(home)):
            encoder.onnx()
    return home


def plain(home: Path, **settings: Any) -> SentenceEncoder:
    return SentenceEncoder(str(home / "model"), **{"threads": 1, **settings})


def small(home: Path, **settings: Any) -> QuantizedEncoder:
    return QuantizedEncoder(plain(home), **settings)


def static(home: Path, **settings: Any) -> StaticEncoder:
    return StaticEncoder(plain(home), **{"dimensions": 8, **settings})


def product(weights: np.ndarray, text: str = "embedding = MatMul(rows, weights)", **more: np.ndarray) -> Any:
    """rows float[n,k] times constant weights."""
    from onnx import numpy_helper, parser

    k = weights.shape[0]
    head = f'<ir_version: {graph.IR_VERSION}, opset_import: ["" : {graph.OPSET}]>'
    made = parser.parse_model(f"{head} made (float[n, {k}] rows) => (float[n, m] embedding) {{{text}}}")
    made.graph.initializer.extend([numpy_helper.from_array(value, name) for name, value in {"weights": weights, **more}.items()])
    return made


def test_integers_by_hand() -> None:
    codes, scale = integers(np.array([[2.0, 0.0], [-1.0, 0.0], [0.49, 0.0]]), 4, axis=0)
    assert codes.tolist() == [[4, 0], [-2, 0], [1, 0]]
    assert scale.tolist() == [[0.5, 1.0]], "zeros keep a scale that can be divided by"
    codes, scale = integers(np.array([[2.0, -8.0], [1.0, 0.1]]), 127, axis=1)
    assert codes.tolist() == [[32, -127], [127, 13]]
    assert scale.shape == (2, 1)


@pytest.mark.parametrize("largest", [FULL, REDUCED])
def test_a_product_is_that_of_the_integers(rng: np.random.Generator, largest: int) -> None:
    """Each row has its own scale: a row a thousand times as large beside it changes nothing."""
    weights, rows = rng.normal(size=(24, 5)).astype(np.float32), rng.normal(size=(6, 24)).astype(np.float32)
    rows[3] *= 1000
    rows[4] = 0
    codes, scale = integers(weights, largest, axis=0)
    assert np.abs(codes).max() == largest
    top = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12)
    wanted = np.rint(rows / top * 127).astype(int) @ codes.astype(int) * scale * top / 127
    made = quantized(product(weights), largest)
    found = graph.run(made, {"rows": rows})
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(graph.run(made, {"rows": rows[:1]}), found[:1])
    assert np.abs(found - rows @ weights).max(axis=1)[[0, 1, 2, 5]].max() < (0.1 if largest == FULL else 0.2)
    assert {entry.domain for entry in made.opset_import} == {"", FAST}


NORMED = "normed = LayerNormalization <axis = -1> (rows, gain)\na = MatMul(normed, weights)\nembedding = Add(a, bias)"


def test_a_fixed_scale_by_hand(rng: np.random.Generator) -> None:
    """Codes, their worth and the bias in numpy: what lies beyond the range found is cut there, and no row moves another."""
    weights, bias = rng.normal(size=(24, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    rows = rng.normal(size=(6, 24)).astype(np.float32)
    gain = np.ones(24, np.float32)
    gain[3] = 20  # a column that is always large
    model = product(weights, NORMED, gain=gain, bias=bias)
    normed = (rows - rows.mean(axis=1, keepdims=True)) / np.sqrt(rows.var(axis=1, keepdims=True) + 1e-5) * gain
    top = np.abs(normed[:5]).max(axis=0)  # the sixth row was not seen
    made = quantized(model, FULL, {"normed": top})
    assert sorted(node.op_type for node in made.graph.node) == ["LayerNormalization", "MatMulIntegerToFloat", "Mul", "QuantizeLinear"]
    step = top**0.6 / np.abs(weights).max(axis=1) ** 0.4
    step *= (top / step).max() / 127
    codes, scale = integers(weights * step[:, None], FULL, axis=0)
    cut = np.clip(np.rint(normed / step), -128, 127)
    found = graph.run(made, {"rows": rows})
    np.testing.assert_allclose(found, cut @ codes * scale + bias, atol=1e-4)
    np.testing.assert_array_equal(graph.run(made, {"rows": rows[:1]}), found[:1])
    exact = normed @ weights + bias
    by_token = graph.run(quantized(model, FULL), {"rows": rows})
    assert np.abs(found - exact)[:5].mean() < 0.7 * np.abs(by_token - exact)[:5].mean(), "the large column costs the others nothing"


def test_a_bias_is_folded_only_where_the_product_has_no_other_reader(rng: np.random.Generator) -> None:
    weights = rng.normal(size=(4, 4)).astype(np.float32)
    own, one = (
        {"gain": np.ones(4, np.float32), "bias": np.ones(4, np.float32)},
        {"gain": np.ones(4, np.float32), "bias": np.ones(1, np.float32)},
    )
    twice = NORMED.replace("embedding = Add(a, bias)", "b = Add(a, bias)\nembedding = Mul(a, b)")
    for text, more, adds in ((NORMED, own, 0), (twice, own, 1), (NORMED, one, 1)):
        made = quantized(product(weights, text, **more), FULL, {"normed": np.full(4, 2.0)})
        assert [node.op_type for node in made.graph.node].count("Add") == adds
        rows = rng.normal(size=(3, 4)).astype(np.float32)
        exact = graph.run(product(weights, text, **more), {"rows": rows})
        np.testing.assert_allclose(graph.run(made, {"rows": rows}), exact, atol=0.2 + 0.1 * np.abs(exact).max())


GELU_OF = "a = Div(inner, root)\nb = Erf(a)\nc = Add(b, one)\nd = Mul(inner, c)\ne = Mul(d, half)\nembedding = MatMul(e, weights)"
GELU_NUMBERS = {name: np.float32(value) for name, value in (("root", 2**0.5), ("one", 1), ("half", 0.5))}


def test_gelu_uses_the_codes_that_negative_numbers_would_waste(rng: np.random.Generator) -> None:
    """By hand, behind a product with a bias as in every transformer: 239 codes above zero, 16 below, where Gelu's lowest point has one."""
    weights, rows = rng.normal(size=(64, 5)).astype(np.float32), (3 * rng.normal(size=(400, 8))).astype(np.float32)
    first, bias = rng.normal(size=(8, 64)).astype(np.float32), rng.normal(size=64).astype(np.float32)
    text = f"product = MatMul(rows, first)\ninner = Add(product, bias)\n{GELU_OF}"
    model = product(weights, text, **GELU_NUMBERS, first=first, bias=bias)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8
    top = np.abs(graph.run(cut_at(model, "e"), {"rows": rows})).max(axis=0).astype(np.float64)
    made = quantized(model, FULL, {"e": top})
    assert "Abs" in {node.op_type for node in made.graph.node}, "the rows themselves have no range, so a scale by token"
    assert not {"e/largest", "e/size"} & {name for node in made.graph.node for name in node.output}
    step = top**0.8 / np.abs(weights).max(axis=1) ** 0.2
    step *= (top / step).max() / 239
    inner = graph.run(cut_at(made, "inner"), {"rows": rows}).astype(np.float64)
    gelu = inner * norm_cdf(inner)
    codes, scale = integers(weights * step[:, None], FULL, axis=0)
    assert np.rint(gelu / step).min() >= -16, "nothing is cut below"
    wanted = np.clip(np.rint(gelu / step), -16, 239) @ codes * scale
    np.testing.assert_allclose(graph.run(made, {"rows": rows}), wanted, atol=0.1)
    by_token = np.abs(graph.run(quantized(model, FULL), {"rows": rows}) - gelu @ weights).mean()
    assert np.abs(wanted - gelu @ weights).mean() < 1.5 * by_token


def norm_cdf(x: np.ndarray) -> np.ndarray:
    from scipy.stats import norm

    return np.asarray(norm.cdf(x))


def cut_at(model: Any, name: str) -> Any:
    """The same graph with another output."""
    from onnx import TensorProto, helper

    model = type(model).FromString(model.SerializeToString())
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


ATTENTION = """
    sizes = Shape(rows)
    n = Gather(sizes, 0_)
    t = Gather(sizes, 1_)
    nn = Unsqueeze(n, axis)
    tt = Unsqueeze(t, axis)
    apart = Concat <axis = 0> (nn, tt, heads_, width_)
    joined = Concat <axis = 0> (nn, tt, all_)
    normed = LayerNormalization <axis = -1> (rows, gain)
    made = MatMul(normed, values)
    value = Add(made, bias)
    a = Reshape(value, apart)
    b = Transpose <perm = [0, 2, 1, 3]> (a)
    c = MatMul(weighed, b)
    d = Transpose <perm = [0, 2, 1, 3]> (c)
    context = Reshape(d, joined)
    embedding = MatMul(context, weights)"""


def attention(rng: np.random.Generator) -> Any:
    """Values of two heads of three, weighed by a constant; its shapes are put together as torch's exporter does."""
    from onnx import helper, numpy_helper, parser

    text = ATTENTION
    whole = {"zero": 0, "first": 1, "axis": [0], "heads": [2], "width": [3], "all": [6]}
    for name, at in (("0_", "zero"), ("1_", "first"), ("heads_", "heads"), ("width_", "width"), ("all_", "all")):
        text = text.replace(name, at)
    head = f'<ir_version: {graph.IR_VERSION}, opset_import: ["" : {graph.OPSET}]>'
    made = parser.parse_model(f"{head} made (float[n, 4, 6] rows) => (float[n, t, m] embedding) {{{text}}}")
    arrays = {"gain": (6,), "values": (6, 6), "bias": (6,), "weights": (6, 5), "weighed": (2, 4, 4)}
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}
    made.graph.initializer.extend([numpy_helper.from_array(value, name) for name, value in drawn.items()])
    for name, value in reversed(whole.items()):
        made.graph.node.insert(0, helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, np.int64))))
    return made


def test_attentions_values_are_made_in_steps_and_its_shapes_are_numbers(rng: np.random.Generator) -> None:
    from onnx import TensorProto, helper

    model, rows = attention(rng), rng.normal(size=(3, 4, 6)).astype(np.float32)
    exact = graph.run(model, {"rows": rows})
    tops = {name: np.abs(graph.run(cut_at(model, name), {"rows": rows})).max(axis=(0, 1)) * 1.01 for name in ("normed", "context")}
    made = quantized(model, FULL, tops)
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("Mul") == 1, "behind the norm, none before the context's codes"
    assert not {"Shape", "Gather", "Unsqueeze", "Concat", "Constant"} & set(kinds)
    np.testing.assert_allclose(graph.run(made, {"rows": rows}), exact, atol=0.03 * np.abs(exact).max())
    for batch in (1, 2):
        np.testing.assert_allclose(graph.run(made, {"rows": rows[:batch]}), graph.run(made, {"rows": rows})[:batch], atol=1e-5)
    model.graph.output.append(
        helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", 4, 6])
    )  # who reads the values themselves gets them as they were
    again = quantized(model, FULL, tops)
    assert [node.op_type for node in again.graph.node].count("Mul") == 2
    wanted = graph.run(cut_at(model, "value"), {"rows": rows})
    np.testing.assert_allclose(graph.run(cut_at(again, "value"), {"rows": rows}), wanted, atol=0.03 * np.abs(wanted).max())


def test_a_model_that_does_not_bear_int8_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_module, "LEAST", 1.1)
    with pytest.raises(InputError, match=r"does not bear int8 in encoder: expected a cosine of 1\.1 to its own vectors, found 1\.000"):
        small(home)._made()


def test_ranges_are_the_largest_of_every_text_rounded_up(home: Path) -> None:
    """Of the columns that get a fixed scale; a text's range holds whatever is run beside it."""
    encoder = small(home)
    model, ids = plain(home).onnx(), encoder._made_up()
    assert len(ids) > 200
    assert [row.tolist() for row in ids] == [row.tolist() for row in small(home)._made_up()]
    assert len({len(row) for row in ids}) > 10
    found = [ranges(model, ids[:20]), ranges(model, ids[20:40]), ranges(model, ids[:40])]
    assert len(found[0]) > 4
    for name, top in found[2].items():
        np.testing.assert_array_equal(top, np.maximum(found[0][name], found[1][name]))
        np.testing.assert_allclose(np.log2(top) * 16, np.rint(np.log2(top) * 16), atol=1e-6)
    assert ranges(product(np.ones((4, 4), np.float32)), ids) == {}


def test_eight_bits_overflow_where_seven_do_not() -> None:
    """What a processor without VNNI adds in 16 bits: two products of an unsigned and a signed byte."""
    assert 2 * 255 * REDUCED < 2**15 <= 2 * 255 * FULL


def test_what_is_shared_is_quantised_once_and_what_is_no_matrix_stays(rng: np.random.Generator) -> None:
    weights = rng.normal(size=(4, 4)).astype(np.float32)
    text = "a = MatMul(rows, weights)\nb = MatMul(rows, weights)\nc = Add(a, b)\nembedding = Add(c, bias)"
    made = quantized(product(weights, text, bias=np.ones(4, np.float32)))
    kinds = [node.op_type for node in made.graph.node]
    assert (kinds.count("MatMulIntegerToFloat"), kinds.count("QuantizeLinear"), kinds.count("MatMul")) == (2, 1, 0)
    names = {tensor.name for tensor in made.graph.initializer}
    assert "bias" in names
    assert "weights" not in names, "what nobody reads is not carried along"
    kept = "a = MatMul(rows, weights)\nb = Gather <axis = 1> (weights, picked)\nc = MatMul(a, b)\nembedding = Add(c, c)"
    made = quantized(product(weights, kept, picked=np.array([0, 1])))
    assert "weights" in {tensor.name for tensor in made.graph.initializer}, "a column lookup still reads it"
    with pytest.raises(InputError, match="no matrix that could be quantised"):
        quantized(product(weights, "embedding = Add(rows, rows)"))


def test_int8_vectors_are_near_and_a_text_has_one_vector(home: Path) -> None:
    encoder = small(home)
    texts = ["the cat sat on the mat", "hello", "", "two plus three " * 9, "how many apples are left", "a\x00b", "zzz"]
    found = np.array(encoder.encode(texts))
    assert (found * plain(home).encode(texts)).sum(axis=1).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    shutil.rmtree(home / "cache" / "embeddings")
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(alone, found, atol=1e-6)
    assert isinstance(encoder, Encoder)
    assert encoder.tokenizer() == plain(home).tokenizer()
    assert sum(len(t.raw_data) for t in encoder.onnx().graph.initializer) < 0.5 * sum(
        len(t.raw_data) for t in plain(home).onnx().graph.initializer
    )


def test_a_head_joins_behind_both(home: Path, rng: np.random.Generator) -> None:
    texts = ["the cat", "hello world", ""]
    for encoder, width in ((small(home), 32), (static(home), 8), (static(home, table="int8"), 8)):
        weights = rng.normal(size=(width, 2)).astype(np.float32)
        head = graph.head("quality = MatMul(embedding, w)", {"w": weights, "width_": np.array([width])})
        both = graph.merge(encoder.onnx(), head)
        ids = encoder._token_ids(texts)
        for row, vector in zip(ids, encoder.encode(texts), strict=True):
            feed = {"input_ids": row[None].astype(np.int64), "attention_mask": np.ones((1, len(row)), np.int64)}
            np.testing.assert_allclose(graph.run(both, feed)[0], vector @ weights, atol=1e-5)


def test_zipf_by_hand() -> None:
    """Ranks 2, 3, 4: p = 6/13, 4/13, 3/13."""
    np.testing.assert_allclose(zipf(3, 0.5), [0.5 / (0.5 + p / 13) for p in (6, 4, 3)])


def test_letters_of_other_scripts_are_no_frequent_words() -> None:
    names = ["[PAD]", "[unused7]", "!", "é", "中", None, "the", "##s", "cat"]
    weights = frequency(names, {"[PAD]"}, 0.5)
    np.testing.assert_allclose(weights[[2, 6, 7, 8, 3, 4]], zipf(6, 0.5))
    assert weights[[0, 1, 5]].tolist() == [0, 0, 0]


def test_distilled_by_hand() -> None:
    """Four tokens on a line, one in no text; one dimension holds all of it."""
    vectors = np.array([[9.0, 9.0], [1.0, 1.0], [3.0, 3.0], [5.0, 5.0]])
    table = distilled(vectors, np.array([0.0, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]), 0, 1)
    np.testing.assert_allclose(table[1:, 0], np.sqrt(2) * np.array([-2.0, 0.0, 2.0]), atol=1e-6)
    assert abs(table[0, 0]) == pytest.approx(FAINT)
    weights = np.array([0.0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(distilled(vectors, np.zeros(2), weights, 0, 1)[1:, 0], table[1:, 0] * weights[1:], rtol=1e-6)
    with pytest.raises(InputError, match=r"more dimensions than the encoder has in encoder\.dimensions: expected 1 \.\. 2, found 3"):
        distilled(vectors, np.zeros(2), weights, 0, 3)


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_static_graph_by_hand(kind: str) -> None:
    table = np.array([[1e-12, 0], [3, 4], [0, 2], [0, 0]], np.float32)
    ids, mask = np.array([[0, 1, 2], [0, 3, 3], [0, 2, 1]]), np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0]])
    found = graph.run(graph_of(table, kind), {"input_ids": ids, "attention_mask": mask})
    wanted = np.array([[3 / np.sqrt(45), 6 / np.sqrt(45)], [1, 0], [0, 1]])
    np.testing.assert_allclose(found, wanted, atol=0.01 if kind == "int8" else 1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_static_vectors_of_hostile_texts(home: Path, kind: str) -> None:
    encoder = static(home, table=kind)
    found = np.array(encoder.encode([*HOSTILE, "cat", "cat 中"]))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    for nothing in (1, 2, 3, 4, 9):  # white space, control characters, unknown and special tokens
        np.testing.assert_allclose(found[nothing], found[0], atol=1e-5)
    np.testing.assert_allclose(found[-1], found[-2], atol=1e-4)
    assert np.abs(found[-1] - found[0]).max() > 0.01


def test_the_order_of_words_and_repetition_mean_nothing_to_a_static_encoder(home: Path) -> None:
    found = static(home).encode(["cat dog", "dog cat", "cat dog cat dog", "cat cat dog"])
    np.testing.assert_allclose(found[[1, 2]], found[[0, 0]], atol=1e-5)
    assert np.abs(found[3] - found[0]).max() > 1e-3


def test_a_static_tokenizer_marks_the_beginning_and_cuts_where_it_says(home: Path) -> None:
    encoder = static(home, max_tokens=100)  # the model itself ends at 64
    told = json.loads(encoder.tokenizer())
    assert (told["truncation"]["max_length"], told["padding"]) == (100, None)
    assert [list(row) for row in encoder._token_ids(["", "the a"])] == [[2], [2, 5, 6]]
    found = encoder.encode(["cat " * 99, "cat " * 99 + "dog", "cat " * 98 + "dog"])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-4


def test_fingerprints_tell_every_setting_apart_and_distilling_repeats(home: Path) -> None:
    made = [plain(home), small(home), small(home, reduce_range=False), static(home), static(home, table="int8"), static(home, sif=1e-3)]
    made += [static(home, dimensions=4), static(home, max_tokens=99)]
    assert len({encoder.fingerprint for encoder in made}) == len(made)
    assert static(home).fingerprint == StaticEncoder(plain(home, batch_size=3, progress=False), dimensions=8).fingerprint
    for encoder in (small(home), static(home)):
        before = encoder.onnx().SerializeToString()
        shutil.rmtree(home / "cache" / "encoders" / encoder.fingerprint)
        assert type(encoder).onnx(encoder.__class__(**vars_of(encoder))).SerializeToString() == before


def vars_of(encoder: Any) -> dict[str, Any]:
    names = ("reduce_range",) if isinstance(encoder, QuantizedEncoder) else ("dimensions", "sif", "table", "max_tokens")
    return {"encoder": encoder.encoder} | {name: getattr(encoder, name) for name in names}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"table": "float16"}, "unknown kind of table in encoder.table: expected float32 or int8, found 'float16'"),
        ({"dimensions": 33}, "expected 1 .. 32, found 33"),
        ({"dimensions": 0}, "impossible settings"),
        ({"sif": 0.0}, "impossible settings"),
        ({"max_tokens": 1}, "expected 2 or more, found 1"),
    ],
)
def test_settings_out_of_range_are_refused(home: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        static(home, **settings).encode(["cat"])


def test_a_tokenizer_without_a_frame_cannot_be_static(home: Path) -> None:
    path = home / "model" / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": None}))
    with pytest.raises(InputError, match="one special token before a text and one after, found 0"):
        static(home).tokenizer()
