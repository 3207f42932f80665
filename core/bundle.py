"""Writes a bundle: one graph from tokens to quality, its tokenizer, and bundle.json, sealed last. gateway/bundle.py reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.calibrate import Affine
from routewright.core.contracts import Encoder, Router
from routewright.core.files import json_bytes, sha256, write_atomic
from routewright.core.types import Floats, InputError, Pool

FORMAT = 1
# of the metrics: what a bundle's reader asks for
KEPT = (
    *("apgr", "apgr_ci", "cpt50", "cpt80", "aiq", "aiq_fixed_mix", "cost_saved_at_95", "cost_saved_at_95_ci", "gap_recovered", "auroc"),
    *("brier", "ece", "models", "n_train", "n_test", "protocol", "usage", "withheld"),
)


@dataclass(frozen=True)
class Facts:
    """What bundle.json says beside the graph: cost[m] is the expected USD a query (NaN: not known), metrics a run's metrics.json."""

    name: str
    pool: Pool
    cost: Floats
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]


def hostile() -> list[str | list[Any]]:
    """64 texts that users send to gateways, and should not but do; a long one is [piece, repeats]."""
    texts: list[str | list[Any]] = json.loads((Path(__file__).parent / "golden_texts.json").read_text())
    return texts


def golden_text(entry: str | Sequence[Any]) -> str:
    """A golden text as it is meant: a string, or a piece and how often it stands."""
    return entry if isinstance(entry, str) else str(entry[0]) * int(entry[1])


def exportable(encoder: Encoder | None) -> bool:
    """Whether a router behind this encoder can be one graph; a router that reads text (None) always can, an endpoint never."""
    return encoder is None or bool(getattr(encoder, "exportable", True))


def write_bundle(folder: Path, encoder: Encoder | None, router: Router, calibration: Affine, facts: Facts) -> Path:
    """folder/router.onnx, tokenizer.json and, last, bundle.json with the sha256 of all three (its own with that field blank).

    encoder: None where the router reads text and brings its own tokenizer. Raises InputError where the router cannot be a graph.
    """
    from routewright.core import graph

    head = graph.affine(router.onnx(), calibration.scale, calibration.shift)
    reader: Any = encoder if encoder is not None else router
    model = head if encoder is None else graph.merge(encoder.onnx(), head)
    write_atomic(folder / "router.onnx", lambda stream: stream.write(model.SerializeToString(deterministic=True)))
    tokenizer: str = reader.tokenizer()
    write_atomic(folder / "tokenizer.json", lambda stream: stream.write(tokenizer.encode()))
    golden = _golden(folder, tokenizer)
    described = _described(encoder.fingerprint if encoder else sha256(tokenizer.encode()), tokenizer, facts) | {"golden": golden}
    described["sha256"] = {name: sha256(folder / name) for name in ("router.onnx", "tokenizer.json")} | {"bundle.json": ""}
    _check(described)
    data = json_bytes(described)
    seal = hashlib.sha256(data).hexdigest()
    # the blank seal is the only empty "bundle.json" entry: filling it in must not move another byte
    blank, filled = b'"bundle.json": ""', b'"bundle.json": "' + seal.encode() + b'"'
    assert data.count(blank) == 1
    return write_atomic(folder / "bundle.json", lambda stream: stream.write(data.replace(blank, filled))).parent


def _described(fingerprint: str, tokenizer: str, facts: Facts) -> dict[str, Any]:
    pool, metrics = facts.pool, facts.metrics
    truncation = json.loads(tokenizer).get("truncation") or {}
    models = [
        {
            "name": pool.name[j],
            "variant": pool.variant[j],
            "expected_usd": float(facts.cost[j]),
            "usd_per_million": {
                "input": 1e6 * pool.usd_input[j],
                "cached_input": 1e6 * pool.usd_cached_input[j],
                "output": 1e6 * pool.usd_output[j],
            },
            "usd_per_call": float(pool.usd_call[j]),
        }
        for j in range(len(pool))
    ]
    return {
        "format": FORMAT,
        "name": facts.name,
        "models": models,
        "prices": facts.data.get("prices"),
        "policy": {"name": metrics["policy"], "weak": metrics["weak"], "strong": metrics["strong"]},
        "operating_points": metrics["operating_points"],
        "guarantee": None,
        "encoder": {"fingerprint": fingerprint, "max_tokens": truncation.get("max_length")},
        "data": {key: facts.data[key] for key in ("name", "revision", "content_sha256", "licence") if key in facts.data},
        "labels": metrics["labels"],
        "metrics": {key: metrics[key] for key in KEPT if key in metrics},
        "verdict": metrics["verdict"],
    }


def _golden(folder: Path, tokenizer: str) -> list[dict[str, Any]]:
    """Every hostile text with its number of tokens and the graph's own scores: what every consumer must reproduce to 1e-4."""
    score = scorer(folder / "router.onnx", tokenizer)
    out = []
    for entry in hostile():
        tokens, quality = score(golden_text(entry))
        out.append({"text": entry, "tokens": tokens, "quality": [round(float(q), 7) for q in quality]})
    return out


def scorer(model: Path, tokenizer: str) -> Any:
    """A function from one text to (number of tokens, quality[m]) by the exported files alone."""
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    encode = Tokenizer.from_str(tokenizer)

    def score(text: str) -> tuple[int, Floats]:
        found = encode.encode(text)
        feed = {"input_ids": np.array([found.ids], dtype=np.int64), "attention_mask": np.array([found.attention_mask], dtype=np.int64)}
        return len(found.ids), session.run(["quality"], feed)[0][0]

    return score


def _check(described: Mapping[str, Any]) -> None:
    """Holds bundle.json to its published schema before it is written."""
    import jsonschema

    schema = json.loads((Path(__file__).parent / "bundle.schema.json").read_text())
    try:
        jsonschema.validate(json.loads(json_bytes(described)), schema)
    except jsonschema.ValidationError as error:
        raise InputError("bundle.json would not fit its schema", where=error.json_path, found=error.message) from None
