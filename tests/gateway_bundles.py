"""A bundle with a toy encoder, written in a second: what the gateway's tests load, serve, swap and break."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser
from tokenizers import Tokenizer, models, pre_tokenizers

from routewright.core import bundle, graph
from routewright.core.calibrate import Affine
from routewright.core.familiar import Familiarity
from routewright.core.types import Pool
from routewright.gateway.bundle import FILES

MODELS = ("small", "large")
WIDTH = 8
KNOBS = {"balanced": 0.0, "cheapest": 1e12, "quality-95": -1.0}


class Letters:
    """Token ids to the mean of their rows in a table: enough of an encoder to be exported. Texts without a token are the zero vector."""

    fingerprint = "f" * 64

    def onnx(self) -> onnx.ModelProto:
        model = parser.parse_model(
            f"""<ir_version: {graph.IR_VERSION}, opset_import: ["" : {graph.OPSET}]>
            letters (int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask) => (float[batch, {WIDTH}] embedding) {{
                rows = Gather(table, input_ids)
                whole = Cast<to = 1>(attention_mask)
                weight = Unsqueeze(whole, last)
                kept = Mul(rows, weight)
                total = ReduceSum<keepdims = 0>(kept, tokens_axis)
                count = ReduceSum<keepdims = 0>(weight, tokens_axis)
                most = Max(count, one)
                embedding = Div(total, most)
            }}"""
        )
        table = np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)
        for name, value in {"table": table, "last": np.array([-1]), "tokens_axis": np.array([1]), "one": np.ones(1, np.float32)}.items():
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        onnx.checker.check_model(model)
        return model

    def tokenizer(self) -> str:
        made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "c": 3}, unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        made.enable_truncation(16)
        return str(made.to_str())


class Toy:
    """A router whose scores are a fixed linear map of the embedding."""

    supervision, reads = "outcomes", "embedding"

    def onnx(self) -> onnx.ModelProto:
        rng = np.random.default_rng(2)
        state = {"weight": rng.normal(size=(WIDTH, len(MODELS))).astype(np.float32), "width_": np.array([WIDTH])}
        return graph.head("quality = MatMul(embedding, weight)", state)


def put(source: Path, folder: Path) -> None:
    """A bundle's files over those of another one, bundle.json last."""
    for name in FILES:
        shutil.copyfile(source / name, folder / name)


def tiny_bundle(folder: Path, *, shift: float = 0.0, verdict: str = "helps", familiar: bool = False, turns: int = 0) -> Path:
    """Two models, "small" (USD .0001 a query) and "large" (.002), three operating points. Another shift is another hash.

    familiar: with an out-of-distribution rule, fitted on made-up vectors.
    """
    pool = Pool(
        MODELS,
        usd_input=np.array([1e-7, 2e-6]),
        usd_cached_input=np.array([5e-8, 5e-7]),
        usd_output=np.array([4e-7, 8e-6]),
        usd_call=np.zeros(2),
    )
    points: dict[str, Any] = {name: {"knob": knob} for name, knob in KNOBS.items()}
    metrics = {
        "policy": "threshold",
        "weak": "small",
        "strong": "large",
        "operating_points": points,
        "labels": "clean",
        "verdict": {"word": verdict, "difference": 0.1, "ci": [0.05, 0.15], "sentence": f"It {verdict}."},
    }
    known = Familiarity.fit(np.random.default_rng(3).normal(scale=0.4, size=(600, WIDTH)), np.random.default_rng(4)) if familiar else None
    settings = bundle.Settings("large", turns)
    facts = bundle.Facts("tiny", pool, np.array([1e-4, 2e-3]), {"name": "made up"}, metrics, settings, known)
    router: Any = Toy()
    encoder: Any = Letters()
    return bundle.write_bundle(folder, encoder, router, Affine(0.5, np.array([shift, 0.0])), facts)
