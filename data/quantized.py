"""A sentence encoder with int8 weights: a quarter of the size and a third of the time, and a text's vector still its own.

Not onnxruntime's quantize_dynamic: that takes one scale for all activations of a batch, so a text's vector moved by .025 with what stood
beside it. Here no scale comes from a neighbour or from padding. Every output column of the weights and every row of the embedding table
has its own. Of the activations, what a LayerNorm, attention or Gelu gives has a fixed scale for every column, part of it moved into the
weights (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438): no pass looks for it when a text comes, and columns that are always large cost
the others nothing. It is found on made-up texts of the vocabulary, so nothing that is judged gets in. The rest, of other models, has a
scale for every token as it comes (LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from routewright.core.files import cache_dir, json_bytes, sha256
from routewright.core.onnx_session import session
from routewright.core.types import Floats, InputError, Ints
from routewright.data.encoders import PREFIX, SentenceEncoder, padded
from routewright.data.vectors import kept

if TYPE_CHECKING:
    import onnx

VERSION = 3  # raise it when the code below changes what the graph computes: it is part of the fingerprint
FULL, REDUCED = 127, 63  # the largest weight in 8 and in 7 bits
ZERO = 128  # of an activation in uint8, whose largest is ZERO +- FULL
GELU, GELU_ZERO = 0.17, 16  # Gelu is never below -.17: its codes need no half for negative numbers
# how much of a column's range goes into the weights, by what made it: within .0002 of the best cosine to float32 of other made-up texts
MOVED = {"LayerNormalization": 0.6, "Reshape": 0.3, "Gelu": 0.8}  # a Reshape joins the heads of attention
STEPS = 16  # of an octave: ranges are rounded up to these, so that another machine's last bits do not make another graph
MADE_UP, LONGEST = 300, 75  # texts that ranges are found on, and their longest in tokens of the vocabulary
AGAIN, LEAST = 32, 0.9  # of them, in one padded batch, float32's vectors must be met to this cosine
FAST = "com.microsoft"  # the domain of MatMulIntegerToFloat, which every build of onnxruntime has, onnxruntime-node's too

Int8s = NDArray[np.int8]


class QuantizedEncoder(SentenceEncoder):
    """`encoder` with int8 weights, behind core.contracts.Encoder; its tokenizer, limit, batches and threads are those of `encoder`.

    reduce_range: weights of 7 bits. Processors without VNNI add products of bytes in 16 bits, where 8-bit weights overflow silently: with
    7 bits every processor computes the same integers. Nothing here hangs on onnxruntime's version but the rounding of float32.
    """

    def __init__(self, encoder: SentenceEncoder, reduce_range: bool = True) -> None:
        self.encoder = encoder
        self.reduce_range = reduce_range
        super().__init__(encoder.model, encoder.max_tokens, encoder.weights_sha256, encoder.batch_size, encoder.threads, encoder.progress)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the encoder's own fingerprint, the settings, and this file's version. Raises InputError as the encoder's does."""
        settings = {"encoder": self.encoder.fingerprint, "int8": VERSION, "reduce_range": self.reduce_range}
        return sha256(json_bytes(settings))

    @cached_property
    def _exported(self) -> Path:
        path = cache_dir() / "encoders" / self.fingerprint / "model.onnx"
        return kept(path, lambda stream: stream.write(self._made().SerializeToString()))

    def _made(self) -> onnx.ModelProto:
        model, texts = self.encoder.onnx(), self._made_up()
        made = quantized(model, REDUCED if self.reduce_range else FULL, ranges(model, texts))
        feed = padded(texts[:AGAIN])
        whole, small = (session(graph.SerializeToString()).run(["embedding"], feed)[0] for graph in (model, made))
        norms = np.linalg.norm(whole, axis=1) * np.linalg.norm(small, axis=1)
        least = float(((whole * small).sum(axis=1) / norms).min())
        if not least >= LEAST:
            what, wanted = f"{self.encoder.model!r} does not bear int8", f"a cosine of {LEAST} to its own vectors"
            raise InputError(what, where="encoder", expected=wanted, found=f"{least:.3f}", mend="Use the encoder that is quantised.")
        return made

    def _made_up(self) -> list[Ints]:
        """Token ids of texts that nobody wrote: words drawn evenly from the vocabulary, of lengths drawn evenly by their logarithm."""
        rng = np.random.default_rng(0)
        lengths = np.exp(rng.uniform(0, np.log(LONGEST), MADE_UP)).astype(int)
        draws = [rng.integers(self._tokenizer.get_vocab_size(), size=length).tolist() for length in lengths]
        texts = [self._tokenizer.decode(draw) for draw in draws]
        return self._token_ids([text for text in texts if text.strip()])


def ranges(model: onnx.ModelProto, ids: Iterable[Ints]) -> dict[str, Floats]:
    """The largest magnitude [k] of every column of the activations that get a fixed scale (MOVED), over these token ids, by name.

    Rounded up to STEPS of an octave. Every text is run alone by the float32 graph, on one thread.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    plan = _Sources(made.graph)
    names = [name for name in plan.products if plan.kind(name) in MOVED]
    if not names:
        return {}
    made.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    opened = session(made.SerializeToString())
    largest = [np.zeros(plan.matrices[plan.products[name][0]].shape[0], np.float32) for name in names]
    for row in ids:
        found = opened.run(names, padded([row]))
        largest = [np.maximum(a, np.abs(b).reshape(-1, len(a)).max(axis=0)) for a, b in zip(largest, found, strict=True)]
    rounded = [np.exp2(np.ceil(np.log2(np.maximum(top, 1e-3)) * STEPS) / STEPS) for top in largest]
    return dict(zip(names, rounded, strict=True))


def quantized(model: onnx.ModelProto, largest: int = REDUCED, fixed: Mapping[str, Floats] | None = None) -> onnx.ModelProto:
    """The same graph with every constant matrix in int8: those that activations are multiplied by, and tables that are looked up.

    largest: of a weight. fixed: what `ranges` found; activations that are not in it are scaled token by token. Attention, sums and norms
    stay float32. Products are com.microsoft's MatMulIntegerToFloat (product, scale and bias in one pass), the rest standard operators.
    Raises InputError for a graph without such a matrix.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    rewriting = _Rewriting(made, largest, fixed or {})
    for node in model.graph.node:
        rewriting.take(node)
    rewriting.finish()
    made.opset_import.append(onnx.helper.make_opsetid(FAST, 1))
    onnx.checker.check_model(made, full_check=True)
    return made


def integers(weights: Floats, largest: int, axis: int) -> tuple[Int8s, Floats]:
    """(int8 of the same shape, float32 scale): symmetric, a scale for every slice along the other axis, kept as a dimension of one."""
    scale = np.abs(weights.astype(np.float64)).max(axis=axis, keepdims=True) / largest
    scale = np.where(scale == 0, 1.0, scale)  # a row of zeros is zeros at any scale
    return np.rint(weights / scale).astype(np.int8), scale.astype(np.float32)


class _Sources:
    """Who makes and who reads what in a graph, its constant matrices, and the products that activations go into."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        from onnx import numpy_helper

        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == 1}
        made = [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
        arrays = {node.output[0]: numpy_helper.to_array(node.attribute[0].t) for node in made}
        self.numbers = {name: int(array.item()) for name, array in arrays.items() if array.size == 1 and array.dtype == np.int64}
        self.matrices = {name: array for name, array in self.constants.items() if array.ndim == 2}
        self.outputs = {value.name for value in graph.output}
        self.makers = {output: node for node in graph.node for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.products: dict[str, list[str]] = {}  # an activation's name: the matrices it is multiplied by
        for node in graph.node:
            if self.is_product(node):
                self.products.setdefault(node.input[0], []).append(node.input[1])

    def is_product(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "MatMul" and node.input[1] in self.matrices

    def kind(self, name: str) -> str:
        """The operator that makes an activation; Gelu for the one that torch writes as x (1 + erf(x / sqrt 2)) / 2; "" for an input."""
        maker = self.makers.get(name)
        if maker is None:
            return ""
        behind = [maker]
        for before in ("Mul", "Add", "Erf"):
            sources = [self.makers.get(source) for node in behind for source in node.input]
            behind = [node for node in sources if node is not None and node.op_type == before]
        return "Gelu" if maker.op_type == "Mul" and behind else maker.op_type

    def values(self, attended: str) -> str | None:
        """What attention, whose heads a Reshape joins to `attended`, weighs and sums: each column of one is made of that of the other.

        The name of an activation that nothing else reads on the way; None where the graph does not look like that.
        """
        name, turns = attended, []
        for kind, place in (("Reshape", 0), ("Transpose", 0), ("MatMul", 1), ("Transpose", 0), ("Reshape", 0)):
            node = self.makers.get(name)
            if node is None or node.op_type != kind:
                return None
            turns += [list(node.attribute[0].ints)] if kind == "Transpose" else []
            name = node.input[place]
            if name in self.outputs or len(self.readers[name]) != 1:
                return None
        return name if turns == [[0, 2, 1, 3]] * 2 else None

    def shape(self, reshape: onnx.NodeProto) -> list[int] | None:
        """The shape that a Reshape is given, 0 for a size that stays in its place; None where it is not joined of such and of numbers."""
        joined = self.makers.get(reshape.input[1])
        if joined is None or joined.op_type != "Concat":
            return None
        sizes = [self._size(name, place) for place, name in enumerate(joined.input)]
        return None if None in sizes else [size for size in sizes if size is not None]

    def _size(self, name: str, place: int) -> int | None:
        if name in self.numbers:
            return self.numbers[name]
        for kind in ("Unsqueeze", "Gather", "Shape"):
            node = self.makers.get(name)
            if node is None or node.op_type != kind or (kind == "Gather" and self.numbers.get(node.input[1]) != place):
                return None
            name = node.input[0]
        return 0

    def bias(self, product: onnx.NodeProto) -> tuple[str, str] | None:
        """(the constant vector, the sum) of the Add that is all that reads a product."""
        (output,), columns = product.output, self.matrices[product.input[1]].shape[1]
        readers = self.readers.get(output, [])
        if len(readers) != 1 or readers[0].op_type != "Add" or output in self.outputs:
            return None
        other = next((name for name in readers[0].input if name != output), "")
        return (other, readers[0].output[0]) if other in self.constants and self.constants[other].shape == (columns,) else None


class _Activation(NamedTuple):
    """An activation in uint8. A code less the zero is worth step[k] by column, times the token's scale where there is one."""

    codes: str
    zero: str
    step: Floats
    scale: str | None


class _Rewriting:
    """The new node list and constants of a graph while its old nodes are taken one by one."""

    def __init__(self, model: onnx.ModelProto, largest: int, fixed: Mapping[str, Floats]) -> None:
        from onnx import shape_inference

        self.graph, self.largest, self.fixed = model.graph, largest, fixed
        self.sources = _Sources(model.graph)
        self.known = {value.name: value for value in shape_inference.infer_shapes(model).graph.value_info}
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.activations: dict[str, _Activation] = {}  # query, key and value read the same one
        self.folded: set[str] = set()  # sums that a product makes already
        self.worth: dict[str, list[str]] = {}  # such a sum's name: its constants by column, the product's scale and the bias

    def take(self, node: onnx.NodeProto) -> None:
        """Keeps a node, or puts integer ones in its place."""
        matrices = self.sources.matrices
        if self.sources.is_product(node):
            self._product(node)
        elif node.op_type == "Gather" and node.input[0] in matrices and not any(a.name == "axis" and a.i for a in node.attribute):
            self._lookup(node.input[0], node.input[1], node.output[0])
        elif node.op_type == "Reshape" and (shape := self.sources.shape(node)) is not None:
            self.constants[f"{node.output[0]}/shape"] = np.array(shape, np.int64)
            self._add("Reshape", [node.input[0], f"{node.output[0]}/shape"], node.output[0])
        elif node.output[0] not in self.folded:
            self.nodes.append(node)

    def finish(self) -> None:
        """Writes nodes and constants into the graph; what nothing reads any more is left out."""
        from onnx import numpy_helper

        if not any(array.dtype == np.int8 for array in self.constants.values()):
            what = "this encoder has no matrix that could be quantised"
            raise InputError(what, expected="MatMul with a constant matrix", found="none")
        read, nodes = set(self.sources.outputs), []
        for node in reversed(self.nodes):
            if not read.isdisjoint(node.output):
                read.update(node.input)
                nodes.append(node)
        whole = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(reversed(nodes))
        made = [numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in read]
        self.graph.initializer.extend([*whole, *made])

    def _product(self, node: onnx.NodeProto) -> None:
        (source, weights), (output,) = node.input, node.output
        activation, summed = self._activation(source), self.sources.bias(node)
        integer, scale = f"{output}/weights", f"{output}/weights_scale"
        codes, scales = integers(self.sources.matrices[weights] * activation.step[:, None], self.largest, axis=0)
        self.constants |= {integer: codes, scale: scales[0]}
        inputs = [activation.codes, integer, self._number("one", np.float32(1)), scale, activation.zero]
        if activation.scale is not None:  # a bias comes after the token's scale, so its Add stays
            self._add("MatMulIntegerToFloat", inputs, f"{output}/columns", domain=FAST)
            self._add("Mul", [f"{output}/columns", activation.scale], output)
        elif summed is None:
            self._add("MatMulIntegerToFloat", inputs, output, domain=FAST)
        else:
            bias, output = summed
            self.folded.add(output)
            self.constants[f"{output}/bias"] = self.sources.constants[bias]
            self._add("MatMulIntegerToFloat", [*inputs, "", f"{output}/bias"], output, domain=FAST)
            self.worth[output] = [scale, f"{output}/bias"]
        if output in self.known:  # shape inference knows no operators but ONNX's own
            self.graph.value_info.append(self.known[output])

    def _activation(self, source: str) -> _Activation:
        if source not in self.activations:
            made = self._by_column(source) if source in self.fixed else self._by_token(source)
            self.activations[source] = made
        return self.activations[source]

    def _by_column(self, source: str) -> _Activation:
        """Fixed scales: x / step by column, a share of the column's range and of its weights' making up the step."""
        kind, top = self.sources.kind(source), self.fixed[source].astype(np.float64)
        if kind == "Gelu":  # with no step below GELU / GELU_ZERO its lowest point has a code in every column
            below, top = GELU_ZERO, np.maximum(top, GELU * (255 - GELU_ZERO) / GELU_ZERO)
        else:
            below = ZERO
        weights = [np.abs(self.sources.matrices[name]).max(axis=1) for name in self.sources.products[source]]
        step = top ** MOVED[kind] / np.maximum(np.max(weights, axis=0), 1e-5) ** (1 - MOVED[kind])
        step *= (top / step).max() / (255 - below)
        zero, codes = self._number(f"zero_{below}", np.uint8(below)), f"{source}/codes"
        values = self.sources.values(source) if kind == "Reshape" else None
        if values in self.worth and all(map(self.sources.is_product, self.sources.readers[source])) and source not in self.sources.outputs:
            scaled = source  # attention's values are made in steps already
            for name in self.worth[values]:
                self.constants[name] = (self.constants[name] / step).astype(np.float32)
        else:
            scaled, self.constants[f"{source}/inverse"] = f"{source}/scaled", (1 / step).astype(np.float32)
            self._add("Mul", [source, f"{source}/inverse"], scaled)
        self._add("QuantizeLinear", [scaled, self._number("one", np.float32(1)), zero], codes)
        return _Activation(codes, zero, step, None)

    def _by_token(self, source: str) -> _Activation:
        """A scale for every token (the last axis is the token's vector): its largest magnitude, which is FULL in codes."""
        codes, zero = f"{source}/codes", self._number(f"zero_{ZERO}", np.uint8(ZERO))
        size, high, largest = f"{source}/size", f"{source}/high", f"{source}/largest"
        self._add("Abs", [source], size)
        self._add("ReduceMax", [size], high, axes=[-1], keepdims=1)
        self._add("Max", [high, self._number("least", np.float32(1e-12))], largest)
        self._add("Div", [self._number("full", np.float32(FULL)), largest], f"{source}/inverse")
        self._add("Mul", [source, f"{source}/inverse"], f"{source}/scaled")
        self._add("QuantizeLinear", [f"{source}/scaled", self._number("one", np.float32(1)), zero], codes)
        width = self.sources.matrices[self.sources.products[source][0]].shape[0]
        return _Activation(codes, zero, np.full(width, 1 / FULL), largest)

    def _lookup(self, table: str, rows: str, output: str) -> None:
        integer, scale = f"{table}/table", f"{table}/table_scale"
        # a table is never multiplied as integers, so it has the whole range
        self.constants[integer], self.constants[scale] = integers(self.sources.matrices[table], FULL, axis=1)
        self._add("Gather", [integer, rows], f"{output}/codes", axis=0)
        self._add("Gather", [scale, rows], f"{output}/scale", axis=0)
        self._add("Cast", [f"{output}/codes"], f"{output}/float", to=1)
        self._add("Mul", [f"{output}/float", f"{output}/scale"], output)

    def _number(self, name: str, value: np.generic) -> str:
        self.constants[f"{PREFIX}int8/{name}"] = np.asarray(value)
        return f"{PREFIX}int8/{name}"

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes))
