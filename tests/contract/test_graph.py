"""Graphs built from text, joined, calibrated: against numbers worked by hand and against numpy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser

from routewright.core import graph
from routewright.core.types import InputError

LINEAR = "product = MatMul(embedding, coef_)\nquality = Add(product, bias_)"
STATE = {"coef_": np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]), "bias_": np.array([0.5, -0.5]), "width_": np.array([3])}


def encoder(opset: int = graph.OPSET, ir: int = graph.IR_VERSION, output: str = "embedding") -> onnx.ModelProto:
    """Mean of the rows of a 4-token table, by the mask. It has names that the head has too: product, coef_."""
    return parser.parse_model(
        f"""<ir_version: {ir}, opset_import: ["" : {opset}]>
        encode (int64[batch, time] input_ids, int64[batch, time] attention_mask) => (float[batch, 3] {output})
        <float[4, 3] coef_ = {{1, 0, 0, 0, 1, 0, 0, 0, 1, 2, 2, 2}}, int64[1] last = {{2}}, int64[1] middle = {{1}}> {{
            rows = Gather(coef_, input_ids)
            mask = Cast <to: int = 1> (attention_mask)
            wide = Unsqueeze(mask, last)
            product = Mul(rows, wide)
            total = ReduceSum <keepdims: int = 0> (product, middle)
            count = ReduceSum <keepdims: int = 1> (mask, middle)
            {output} = Div(total, count)
        }}"""
    )


FEEDS = {"input_ids": np.array([[0, 1, 3], [3, 0, 0]]), "attention_mask": np.array([[1, 1, 0], [1, 0, 0]])}
EMBEDDED = np.array([[0.5, 0.5, 0.0], [2.0, 2.0, 2.0]])
SCORED = np.array([[2.5, 2.5], [8.5, 13.5]])  # EMBEDDED . coef_ + bias_, by hand


def test_a_head_computes_what_its_text_says() -> None:
    model = graph.head(LINEAR, STATE)
    assert np.allclose(graph.run(model, {"embedding": EMBEDDED.astype(np.float32)}), SCORED)
    assert [initializer.name for initializer in model.graph.initializer] == ["bias_", "coef_"]
    assert model.opset_import[0].version == graph.OPSET


def test_a_head_names_its_width_and_its_models() -> None:
    model = graph.head(LINEAR, STATE)
    shape = [
        [dim.dim_param or dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in (model.graph.input[0], model.graph.output[0])
    ]
    assert shape == [["batch", 3], ["batch", 2]]


def test_the_same_state_in_any_order_gives_the_same_bytes() -> None:
    backwards = dict(reversed(STATE.items()))
    assert graph.head(LINEAR, STATE).SerializeToString() == graph.head(LINEAR, backwards).SerializeToString()
    merged = [graph.merge(encoder(), graph.affine(graph.head(LINEAR, STATE), 2.0, np.ones(2))).SerializeToString() for _ in range(2)]
    assert merged[0] == merged[1]


def test_an_array_that_the_text_does_not_name_stays_out() -> None:
    model = graph.head(LINEAR, {**STATE, "cost_": np.array([np.nan, 1.0])})
    assert "cost_" not in {initializer.name for initializer in model.graph.initializer}


@pytest.mark.parametrize(
    ("text", "state", "message"),
    [
        ("quality = MatMul(embedding coef_", STATE, "does not parse"),
        ("quality = MatMul(embedding, nobody)", STATE, "nobody"),
        ("quality = NoSuchOperator(embedding)", STATE, "NoSuchOperator"),
        (LINEAR, {**STATE, "bias_": np.ones(5)}, "not valid"),
    ],
)
def test_a_wrong_text_is_refused(text: str, state: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        graph.head(text, state)


@pytest.mark.parametrize(("opset", "ir"), [(graph.OPSET, graph.IR_VERSION), (18, 10), (20, 11)])
def test_merge_goes_from_tokens_to_quality(opset: int, ir: int) -> None:
    model = graph.merge(encoder(opset, ir), graph.head(LINEAR, STATE))
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask"]
    assert [value.name for value in model.graph.output] == ["quality"]
    assert np.allclose(graph.run(model, FEEDS), SCORED)


def test_merge_refuses_an_encoder_of_another_width() -> None:
    other = {**STATE, "coef_": np.ones((5, 2)), "width_": np.array([5])}
    with pytest.raises(InputError, match="expected 5 dimensions"):
        graph.merge(encoder(), graph.head(LINEAR, other))


def test_merge_refuses_an_encoder_without_embedding() -> None:
    with pytest.raises(InputError, match="found hidden"):
        graph.merge(encoder(output="hidden"), graph.head(LINEAR, STATE))


def test_merge_and_affine_leave_their_arguments_alone() -> None:
    parts = [encoder(18, 10), graph.head(LINEAR, STATE)]
    before = [part.SerializeToString() for part in parts]
    graph.affine(graph.merge(*parts), 2.0, np.zeros(2))
    assert [part.SerializeToString() for part in parts] == before


def test_affine_by_hand_before_and_after_merging() -> None:
    shift = np.array([0.1, -0.2])
    wanted = 2 * SCORED + shift
    head = graph.head(LINEAR, STATE)
    for opset, ir in ((graph.OPSET, graph.IR_VERSION), (20, 11)):
        assert np.allclose(graph.run(graph.merge(encoder(opset, ir), graph.affine(head, 2.0, shift)), FEEDS), wanted)
    assert np.allclose(graph.run(graph.affine(graph.merge(encoder(), head), 2.0, shift), FEEDS), wanted)


@given(st.floats(0.01, 100), st.floats(-10, 10), st.integers(1, 3))
def test_affine_repeats(scale: float, shift: float, times: int) -> None:
    model, wanted = graph.head(LINEAR, STATE), SCORED
    for _ in range(times):
        model, wanted = graph.affine(model, scale, np.array([shift, 0.0])), wanted * scale + [shift, 0.0]
    scored = graph.run(model, {"embedding": EMBEDDED.astype(np.float32)})
    assert np.allclose(scored, wanted, rtol=1e-5, atol=1e-5 * max(1.0, abs(shift)))


def test_affine_refuses_a_shift_of_another_size() -> None:
    with pytest.raises(InputError, match="2 models"):
        graph.affine(graph.head(LINEAR, STATE), 1.0, np.zeros(3))


def test_an_encoder_may_branch() -> None:
    """An If whose branches read tensors from outside, as exporters write them, and an inner tensor by the name of the output."""
    branching = parser.parse_model(
        f"""<ir_version: {graph.IR_VERSION}, opset_import: ["" : {graph.OPSET}]>
        encode (int64[batch, time] input_ids, int64[batch, time] attention_mask) => (float[batch, 3] embedding)
        <float[4, 3] table = {{1, 0, 0, 0, 1, 0, 0, 0, 1, 2, 2, 2}}, bool yes = {{1}}, int64 zero = {{0}}> {{
            quality = Identity(input_ids)
            ids = If (yes) <
                then_branch = a () => (int64[batch] chosen) {{ chosen = Gather <axis: int = 1> (quality, zero) }},
                else_branch = b () => (int64[batch] other) {{ other = Gather <axis: int = 1> (attention_mask, zero) }}
            >
            embedding = Gather(table, ids)
        }}"""
    )
    model = graph.merge(branching, graph.head(LINEAR, STATE))
    assert np.allclose(graph.run(model, FEEDS), [[1.5, 1.5], [8.5, 13.5]])
