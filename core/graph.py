"""Small ONNX graphs: a router's head written as text, joined behind an encoder, calibrated, run. onnx and onnxruntime are imported lazily.

Heads are built at the opset that encoders are exported at, so that the two fit together as they are; a head is converted to any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routewright.core.onnx_session import session
from routewright.core.types import Floats, InputError

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8

Array = NDArray[Any]


def head(text: str, state: Mapping[str, Array]) -> onnx.ModelProto:
    """A graph from `embedding` float[batch,d] to `quality` float[batch,m].

    text: its nodes in ONNX's textual syntax (https://onnx.ai/onnx/repo-docs/Syntax.html), one assignment a line.
    state: the learned arrays; those that the text names become initializers of that name, floats as float32, integers as int64.
    width_ in it, where there, is d. Shapes are checked.
    Raises InputError where the text does not parse, or names a tensor that nobody makes.
    """
    return _parse(text, state, source="embedding", width="dimension")


def merge(encoder: onnx.ModelProto, head: onnx.ModelProto) -> onnx.ModelProto:
    """Tokens to quality in one graph: the encoder's output `embedding` feeds the head's input of that name.

    Inputs keep the encoder's names; the only output is `quality`. A head of another opset is converted to the encoder's.
    Raises InputError where the encoder has no such output, or where the two differ in d.
    """
    names = [output.name for output in encoder.graph.output]
    if "embedding" not in names:
        raise InputError("an encoder graph has no embedding", expected="an output named embedding", found=", ".join(names))
    made, wanted = _width(next(o for o in encoder.graph.output if o.name == "embedding")), _width(head.graph.input[0])
    if made and wanted and made != wanted:
        raise InputError(
            "encoder and router do not fit together",
            expected=f"{wanted} dimensions, as the router was fitted",
            found=f"{made}",
            mend="Export with the encoder that the router was trained with.",
        )
    return _join(encoder, head, ("embedding", "embedding"))


def affine(head: onnx.ModelProto, scale: float, shift: Floats) -> onnx.ModelProto:
    """The same graph with quality * scale + shift[m] behind it, as core/calibrate.py fits it. Raises InputError for another m."""
    state = {"scale": np.array([scale]), "shift": np.asarray(shift)}
    models = _width(head.graph.output[0])
    if np.shape(shift) != (models,):
        raise InputError("a calibration does not fit this router", expected=f"a shift for {models} models", found=str(np.shape(shift)))
    tail = _parse("scaled = Mul(score, scale)\nquality = Add(scaled, shift)", state, source="score", width="models")
    return _join(head, tail, ("quality", "score"))


def columns(head: onnx.ModelProto, chosen: Array) -> onnx.ModelProto:
    """The same graph with some of its models, in this order. Raises InputError for a column that it does not have."""
    models = _width(head.graph.output[0])
    if len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= models:
        raise InputError("a graph does not have these models", expected=f"columns of 0 .. {models - 1}", found=str(chosen.tolist()))
    tail = _parse("quality = Gather <axis = 1> (score, chosen)", {"chosen": np.asarray(chosen)}, source="score", width="models")
    return _join(head, tail, ("quality", "score"))


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], threads: int = 1) -> Array:
    """The graph's first output for these inputs, by onnxruntime on the CPU."""
    return np.asarray(session(model.SerializeToString(), threads).run(None, dict(feeds))[0])


def parsed(inputs: str, output: str, body: str, arrays: Mapping[str, Array], opset: int = OPSET) -> onnx.ModelProto:
    """A checked graph of nodes in ONNX's textual syntax; `arrays` that the text names become initializers of their own dtype.

    inputs: "double[batch, 3] x, int64[batch] model"; output: "double[batch] raw". Raises InputError where the text is not a graph.
    """
    import onnx
    from onnx import checker, numpy_helper, parser

    header = f'<ir_version: {IR_VERSION}, opset_import: ["" : {opset}], producer_name: "routewright">'
    try:
        model = parser.parse_model(f"{header}\nrouter ({inputs}) => ({output}) {{\n{body}\n}}")
    except parser.ParseError as error:
        raise InputError("a graph does not parse", found=" ".join(str(error).split())) from None
    used = {name for node in model.graph.node for name in node.input}
    for name in sorted(used & set(arrays)):
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(arrays[name]), name))
    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError("a graph is not valid", found=" ".join(str(error).split())) from None
    return model


def _parse(text: str, state: Mapping[str, Array], *, source: str, width: str) -> onnx.ModelProto:
    """A head: `source` float[batch,width] to `quality` float[batch,m], its arrays in the types that encoders use."""
    import onnx
    from onnx import shape_inference

    arrays = {name: np.asarray(array) for name, array in state.items()}
    arrays = {name: array.astype(np.float32 if array.dtype.kind == "f" else np.int64) for name, array in arrays.items()}
    model = parsed(f"float[batch, {width}] {source}", "float[batch, models] quality", text, arrays)
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    model.graph.output[0].CopyFrom(inferred.graph.output[0])  # m in place of its symbol
    if source == "embedding" and "width_" in state:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = int(state["width_"][0])
    return onnx.ModelProto.FromString(model.SerializeToString())


def _join(first: onnx.ModelProto, second: onnx.ModelProto, wire: tuple[str, str]) -> onnx.ModelProto:
    """`first` feeding `second` through one wire. The names of `second` get a prefix that `first` does not use; the output is `quality`."""
    from onnx import checker, compose

    second = _convert(second, opset_of(first))
    version = max(first.ir_version, second.ir_version)
    prefix = _fresh_prefix(first)
    first, inner = _at_ir(first, version), {"quality": f"{prefix}uncalibrated"}  # the joined graph needs the name itself
    _rename(first.graph, inner)
    joined = compose.merge_models(
        first,
        _at_ir(second, version),
        io_map=[(inner.get(wire[0], wire[0]), wire[1])],
        outputs=[f"{prefix}quality"],
        prefix2=prefix,
        name="router",
        producer_name="routewright",
    )
    _rename(joined.graph, {f"{prefix}quality": "quality"})
    imports = {entry.domain: entry for entry in joined.opset_import}  # compose lists a shared domain twice, the converter mends only one
    del joined.opset_import[:]
    joined.opset_import.extend(imports[domain] for domain in sorted(imports))
    checker.check_model(joined, full_check=True)
    return joined


def _fresh_prefix(model: onnx.ModelProto) -> str:
    """head0/, head1/ ...: one of its own for every join, so that joining twice cannot repeat a name."""
    names = [*(name for node in model.graph.node for name in (*node.output, node.name)), *(value.name for value in model.graph.initializer)]
    taken = [int(found[1]) for name in names if (found := re.match(r"head(\d+)/", name))]
    return f"head{max(taken, default=-1) + 1}/"


def opset_of(model: onnx.ModelProto) -> int:
    return max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _convert(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    if opset_of(model) == opset:
        return model
    from onnx import version_converter

    return version_converter.convert_version(model, opset)


def _at_ir(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = version
    return copy


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Renames tensors wherever they stand, subgraphs included."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    rename_nodes(graph.node, names)


def rename_nodes(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Renames what nodes read and make, subgraphs included; an optional input that is not there has no name."""
    for node in nodes:
        node.input[:] = [names.get(name, name) if name else name for name in node.input]
        node.output[:] = [names.get(name, name) if name else name for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _width(value: onnx.ValueInfoProto) -> int:
    """The last dimension of a tensor, 0 where the graph leaves it open."""
    dims = value.type.tensor_type.shape.dim
    return dims[-1].dim_value if dims else 0
