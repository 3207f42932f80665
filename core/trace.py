"""A torch module over tokens as one ONNX graph: traced, and checked against torch on another shape than the traced one."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from routewright.core.graph import OPSET, run
from routewright.core.types import InputError

if TYPE_CHECKING:
    import onnx

INPUTS = ("input_ids", "attention_mask")
PROTOBUF_LIMIT = 2**31 - 2**24  # bytes; the graph itself needs a little beside the weights
CLOSE = 1e-5  # between torch and onnxruntime


def trace(module: Any, *, output: str, limit: int, tokens: int, prefix: str, where: str) -> onnx.ModelProto:
    """`input_ids` and `attention_mask` int64[batch,tokens] to `output` float[batch,width], standard operators only.

    module: takes both inputs, in eval mode on the CPU, with eager attention (the tracing exporter's graph of it was the fastest of four).
    limit: the longest input; tokens: how many token ids there are; prefix: on every inner name, so that what is merged behind the graph
    cannot collide. Raises InputError where the module does not fit one file or the graph computes something else than torch.
    """
    import torch

    size = 4 * sum(parameter.numel() for parameter in module.parameters())
    if size > PROTOBUF_LIMIT:
        raise InputError("the model is too large for one ONNX file", where=where, expected="< 2 GB", found=f"{size / 1e9:.1f} GB")
    ids = torch.arange(3 * limit).reshape(3, limit) % min(7, tokens - 1) + 1
    mask = (torch.arange(limit)[None, :] < torch.tensor([limit, 1, limit // 2])[:, None]).to(torch.int64)
    with torch.no_grad():
        wanted = module(ids, mask).numpy()
    graph = _exported(module, (ids[:2, : limit - 1], torch.ones((2, limit - 1), dtype=torch.int64)), output, prefix, wanted.shape[1])
    got = run(graph, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    worst = float(np.abs(got - wanted).max())
    if not worst < CLOSE:
        raise InputError("the exported graph differs from the model", where=where, expected=f"within {CLOSE:g}", found=str(worst))
    return graph


def _exported(module: Any, sample: tuple[Any, Any], output: str, prefix: str, width: int) -> onnx.ModelProto:
    import onnx
    import torch
    from onnx.compose import add_prefix

    stream = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer warnings about Python values: the result is checked on another shape instead
        torch.onnx.export(
            module,
            sample,
            cast(Any, stream),  # its annotation names paths only; the tracing exporter writes to streams too
            input_names=list(INPUTS),
            output_names=[output],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in INPUTS} | {output: {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = add_prefix(onnx.load_from_string(stream.getvalue()), prefix, rename_inputs=False, rename_outputs=False)
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = width  # the tracer leaves it open
    onnx.checker.check_model(graph, full_check=True)
    return graph
