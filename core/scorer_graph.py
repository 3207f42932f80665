"""Scores of answers as ONNX graphs in double precision: trees, pooled regressions, and the calibration behind any raw score.

In double, so that a score is the trained one to the last bit of the float32 that a cascade compares with its thresholds. onnx is imported
lazily.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from routewright.core.graph import Array, opset_of, parsed, rename_nodes
from routewright.core.onnx_session import session
from routewright.core.probability import BLEND, Probability
from routewright.core.types import InputError

if TYPE_CHECKING:
    import onnx

ASKED = "int64[batch] model"  # the column of the model that answered
WIDE = 11  # double, as ONNX numbers it


def behind(first: onnx.ModelProto, inputs: str, output: str, body: str, arrays: Mapping[str, Array], prefix: str) -> onnx.ModelProto:
    """`first` with nodes behind it, which read its only output as `source`; the only output is theirs.

    inputs: of the new nodes, `source` first; the others are inputs of the whole, and joined to those of that name. prefix: on every inner
    name of the new nodes; `first` must not use it.
    """
    import onnx
    from onnx import checker

    tail = parsed(inputs, output, body, arrays, opset_of(first)).graph
    made = onnx.ModelProto()
    made.CopyFrom(first)
    graph, told = made.graph, tail.output[0].name
    # an inner tensor of `first` may have the name that the whole gives its output
    rename_nodes(graph.node, {told: f"{prefix}inner", first.graph.output[0].name: f"{prefix}source"})
    wired = {value.name for value in tail.input} - {"source"}
    inner = {name for node in tail.node for name in (*node.input, *node.output)} - wired - {told}
    rename_nodes(tail.node, {name: f"{prefix}{name}" for name in inner})
    for array in tail.initializer:
        array.name = f"{prefix}{array.name}"
    known = {value.name for value in graph.input} | {"source"}
    graph.input.extend(value for value in tail.input if value.name not in known)
    graph.node.extend(tail.node)
    graph.initializer.extend(tail.initializer)
    del graph.output[:], graph.value_info[:]
    graph.output.extend(tail.output)
    checker.check_model(made, full_check=True)
    return made


# ---- raw scores


def given(*, negated: bool = False) -> onnx.ModelProto:
    """A recorded number as it is, or its negative: `recorded` double[N,1] and `model` to `raw` double[N]."""
    body = "flat = Squeeze(recorded, one)\nraw = Neg(flat)" if negated else "raw = Squeeze(recorded, one)"
    return parsed(f"double[batch, 1] recorded, {ASKED}", "double[batch] raw", body, {"one": np.array([1])})


def odds_of(router: onnx.ModelProto, sure: float) -> onnx.ModelProto:
    """Log odds of the chance `quality` float[N,m] that a graph gives the model asked, kept within `sure` of 0 and 1: `raw` double[N]."""
    body = """
        column = Unsqueeze(model, one)
        own = GatherElements <axis = 1> (source, column)
        flat = Squeeze(own, one)
        wide = Cast <to = 11> (flat)
        chance = Clip(wide, least, most)
        wrong = Sub(whole, chance)
        odds = Div(chance, wrong)
        raw = Log(odds)
    """
    arrays = {"one": np.array([1]), "least": np.array(sure), "most": np.array(1 - sure), "whole": np.array(1.0)}
    return behind(router, f"float[batch, models] source, {ASKED}", "double[batch] raw", body, arrays, "odds/")


def features_graph(
    trees: Mapping[str, Array], pooled: Mapping[str, Array], rank: Array, far: float, *, features: int, recorded: int, query: Array
) -> onnx.ModelProto:
    """Half the trees' log odds and half the regression's: `features` double[N,features] and so on (core.contracts.Scorer) to `raw`.

    trees and pooled: as routers/signals/_trees.py and _pooled.py keep them; rank[m]: the last column the trees see; far: where a
    standardised feature is cut; query (d, c): what the query's embedding is projected on, empty where it is not read.
    """
    inputs, parts, body = [f"double[batch, {features}] features", ASKED], ["features"], ""
    arrays: dict[str, Array] = {"onto": query.astype(np.float64), "rank": rank.astype(np.float64), "one": np.array([1])}
    if recorded:
        inputs.append(f"double[batch, {recorded}] recorded")
        parts.append("recorded")
    if query.size:
        inputs.append(f"float[batch, {len(query)}] embedding")
        body += "wide = Cast <to = 11> (embedding)\nprojected = MatMul(wide, onto)\n"
        parts.append("projected")
    body += f"x = Concat <axis = 1> ({', '.join(parts)})\n"
    for text, more in (_regression(pooled, far), _walk(trees)):
        body += text
        arrays |= more
    body += "both = Add(grown, pooled)\nraw = Mul(half, both)"
    return parsed(", ".join(inputs), "double[batch] raw", body, arrays | {"half": np.array(0.5)})


def _regression(pooled: Mapping[str, Array], far: float) -> tuple[str, dict[str, Array]]:
    body = """
        unknown = IsNaN(x)
        filled = Where(unknown, fill, x)
        centred = Sub(filled, center)
        scaled = Div(centred, scale)
        z = Clip(scaled, nearest, farthest)
        holes = Cast <to = 11> (unknown)
        design = Concat <axis = 1> (z, holes)
        weight = Gather(slopes, model)
        terms = Mul(design, weight)
        linear = ReduceSum <keepdims = 0> (terms, one)
        level = Gather(intercept, model)
        pooled = Add(linear, level)
    """
    arrays = {name: pooled[name].astype(np.float64) for name in ("fill", "center", "scale")}
    weights = pooled["weights"].astype(np.float64)
    arrays |= {"slopes": weights[:, :-1], "intercept": weights[:, -1], "nearest": np.array(-far), "farthest": np.array(far)}
    return body, arrays


def _walk(trees: Mapping[str, Array]) -> tuple[str, dict[str, Array]]:
    """Every row walks all trees at once, as many steps as the deepest has; a leaf leads to itself."""
    base = np.array(float(trees["base"][0]))
    if not len(trees["root"]):
        return "nothing = Sub(pooled, pooled)\ngrown = Add(nothing, base)\n", {"base": base}
    body = """
        own = Gather(rank, model)
        last = Unsqueeze(own, one)
        seen = Concat <axis = 1> (x, last)
        hole = IsNaN(seen)
        size = Shape <end = 1> (model)
        shape = Concat <axis = 0> (size, count)
        node0 = Expand(root, shape)
    """
    for step in range(int(trees["depth"][0])):
        body += f"""
        feature{step} = Gather(feature, node{step})
        value{step} = GatherElements <axis = 1> (seen, feature{step})
        hole{step} = GatherElements <axis = 1> (hole, feature{step})
        threshold{step} = Gather(threshold, node{step})
        missing{step} = Gather(missing_left, node{step})
        below{step} = LessOrEqual(value{step}, threshold{step})
        default{step} = And(hole{step}, missing{step})
        goes{step} = Or(below{step}, default{step})
        left{step} = Gather(left, node{step})
        right{step} = Gather(right, node{step})
        node{step + 1} = Where(goes{step}, left{step}, right{step})
        """
    body += f"""
        leaves = Gather(value, node{int(trees["depth"][0])})
        total = ReduceSum <keepdims = 0> (leaves, one)
        grown = Add(total, base)
    """
    arrays: dict[str, Array] = {name: trees[name].astype(np.int64) for name in ("left", "right")}
    arrays |= {"feature": np.maximum(trees["feature"], 0).astype(np.int64), "threshold": trees["threshold"].astype(np.float64)}
    arrays |= {"missing_left": trees["missing_left"] > 0, "value": trees["value"].astype(np.float64), "base": base}
    return body, arrays | {"root": trees["root"].astype(np.int64)[None, :], "count": np.array([len(trees["root"])])}


# ---- chances


def chance(raw: onnx.ModelProto, fitted: Probability) -> onnx.ModelProto:
    """A graph with `raw` double[N] and `model` made one with `score` double[N], the chance that the answer is right."""
    body, arrays = _probability(fitted)
    return behind(raw, f"double[batch] source, {ASKED}", "double[batch] score", "raw = Identity(source)" + body, arrays, "chance/")


def widened(head: onnx.ModelProto) -> onnx.ModelProto:
    """A router's graph over `embedding` float[N,d], worked out in double: `quality` double[N,m].

    Routers predict in double, and what a cascade weighs against each other may differ in the seventh digit. Raises InputError where
    onnxruntime has an operator in single precision alone.
    """
    import onnx
    from onnx import helper
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unknown

    made = onnx.ModelProto()
    made.CopyFrom(head)
    inside = made.graph
    rename_nodes(inside.node, {"embedding": "wide/embedding"})
    for tensor in inside.initializer:
        _widen(tensor)
    for node in inside.node:
        for attribute in node.attribute:
            if attribute.name == "value_float":  # a constant as text: no attribute of doubles has this form
                value = helper.make_tensor("", onnx.TensorProto.DOUBLE, [], [attribute.f])
                attribute.CopyFrom(helper.make_attribute("value", value))
            elif attribute.HasField("t"):
                _widen(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = WIDE
    inside.node.insert(0, helper.make_node("Cast", ["embedding"], ["wide/embedding"], to=WIDE))
    inside.output[0].type.tensor_type.elem_type = WIDE
    del inside.value_info[:]
    try:
        session(made.SerializeToString())
    except (Fail, InvalidGraph, Unknown) as error:
        mend = "Choose another router, or write its graph with operators that know doubles."
        raise InputError("a router's graph knows no double precision", found=str(error).splitlines()[0], mend=mend) from None
    return made


def _widen(tensor: onnx.TensorProto) -> None:
    """Floats of single precision to double, in place."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def prior(router: onnx.ModelProto, fitted: Probability) -> onnx.ModelProto:
    """A router's graph with the chances of all its models in place of its scores: `quality` float[N,m], of float or double."""
    body, arrays = _probability(fitted)
    lead = """
        wide = Cast <to = 11> (source)
        raw = Reshape(wide, whole_)
        shape = Shape(wide)
        each = Expand(columns, shape)
        model = Reshape(each, whole_)
    """
    m = len(fitted.slope)
    arrays |= {"whole_": np.array([-1]), "columns": np.arange(m)[None, :]}
    body = lead + body + "chances = Reshape(score, shape)\nquality = Cast <to = 1> (chances)"
    kind = "double" if router.graph.output[0].type.tensor_type.elem_type == WIDE else "float"
    return behind(router, f"{kind}[batch, {m}] source", f"float[batch, {m}] quality", body, arrays, "chance/")


def _probability(fitted: Probability) -> tuple[str, dict[str, Array]]:
    """core/probability.Probability of `raw` and `model`, operation by operation: nodes to `score`, and their arrays."""
    arrays: dict[str, Array] = {name: np.asarray(getattr(fitted, name), dtype=np.float64) for name in ("slope", "shift", "untold")}
    arrays |= {"nought": np.array(0.0), "whole": np.array(1.0)}
    body = """
        silent = IsNaN(raw)
        heard = Where(silent, nought, raw)
        steep = Gather(slope, model)
        level = Gather(shift, model)
        flat_ = Equal(steep, nought)
        product = Mul(steep, heard)
        sum = Add(product, level)
        logit = Where(flat_, level, sum)
        minus = Neg(logit)
        above = Max(minus, nought)
        size = Abs(logit)
        small = Neg(size)
        tail = Exp(small)
        more = Add(tail, whole)
        rest = Log(more)
        sure = Add(above, rest)
        negative = Neg(sure)
        smooth = Exp(negative)
    """
    stepped, knots = _knots(fitted)
    body += (
        stepped
        + """
        mean = Gather(untold, model)
        told = Where(silent, mean, answered)
        score = Clip(told, nought, whole)
    """
    )
    return body, arrays | knots


def _knots(fitted: Probability) -> tuple[str, dict[str, Array]]:
    """`answered` of `heard`, `model` and `smooth`: numpy.interp between each model's knots, blended with the sigmoid."""
    count = np.diff(fitted.start)
    if not count.any():
        return "answered = Identity(smooth)", {}
    width = max(2, int(count.max()))
    x, y = np.full((len(count), width), np.inf), np.zeros((len(count), width))
    for j, (begin, size) in enumerate(zip(fitted.start, count, strict=False)):
        x[j, :size], y[j, :size] = fitted.x[begin : begin + size], fitted.y[begin : begin + size]
    body = """
        knots = Gather(x_, model)
        column = Unsqueeze(heard, axis)
        passed = LessOrEqual(knots, column)
        counted = Cast <to = 7> (passed)
        place = ReduceSum <keepdims = 0> (counted, axis)
        known = Gather(count_, model)
        within = Min(place, known)
        most = Sub(known, two)
        before = Sub(within, step)
        capped = Min(before, most)
        low = Max(capped, none)
        row = Mul(model, width)
        i = Add(row, low)
        j = Add(i, step)
        x0 = Gather(flat_x, i)
        x1 = Gather(flat_x, j)
        y0 = Gather(flat_y, i)
        y1 = Gather(flat_y, j)
        rise = Sub(y1, y0)
        run = Sub(x1, x0)
        grade = Div(rise, run)
        beyond = Sub(heard, x0)
        climb = Mul(grade, beyond)
        line = Add(climb, y0)
        under = Equal(within, none)
        over = Equal(within, known)
        first = Gather(first_, model)
        end = Gather(end_, model)
        upper = Where(over, end, line)
        joined = Where(under, first, upper)
        part = Mul(joined, mostly)
        other = Mul(smooth, blend)
        blended = Add(part, other)
        stepped = Greater(known, none)
        answered = Where(stepped, blended, smooth)
    """
    last = np.maximum(count - 1, 0)
    arrays: dict[str, Array] = {"x_": x, "flat_x": x.ravel(), "flat_y": y.ravel(), "first_": y[:, 0], "end_": y[np.arange(len(y)), last]}
    arrays |= {"count_": count.astype(np.int64), "width": np.array(width), "axis": np.array([1]), "two": np.array(2), "step": np.array(1)}
    return body, arrays | {"none": np.array(0), "mostly": np.array(1 - BLEND), "blend": np.array(BLEND)}
