"""Writes a router's bundle: one graph from tokens to quality, its tokenizer, a card, and bundle.json, sealed last. gateway/ reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.calibrate import Affine
from routewright.core.contracts import Encoder, Router
from routewright.core.familiar import Familiarity
from routewright.core.files import sha256, write_atomic
from routewright.core.onnx_session import session
from routewright.core.seal import seal
from routewright.core.text import unfolded
from routewright.core.types import Floats, InputError, Outcomes, Pool

FORMAT = 2
# of the metrics: what a bundle's reader asks for
KEPT = (
    *("apgr", "apgr_ci", "cpt50", "cpt80", "aiq", "aiq_fixed_mix", "cost_saved_at_95", "cost_saved_at_95_ci", "gap_recovered", "auroc"),
    *("brier", "ece", "models", "n_train", "n_test", "protocol", "usage", "withheld"),
)


class NoBundleError(InputError):
    """What was trained cannot leave, and why: the run is whole without a bundle."""

    @classmethod
    def of(cls, error: InputError) -> NoBundleError:
        """For the same reason."""
        return cls(error.what, where=error.where, expected=error.expected, found=error.found, mend=error.mend)


@dataclass(frozen=True)
class Settings:
    """What the deployment is told beside what was learned (configs: bundle).

    fallback: the model for queries unlike the training data, and when the router fails; None: the one with the best mean quality.
    turns: user turns before the last that a decision on chat messages reads too, joined by `separator`.
    """

    fallback: str | None = None
    turns: int = 0
    separator: str = "\n\n"

    def checked(self, outcomes: Outcomes) -> Settings:
        """With the fallback's name filled in. Raises InputError for a model that is not in the pool, and for turns below 0."""
        if self.turns < 0:
            raise InputError("impossible number of turns", where="bundle.turns", expected="0 or more", found=str(self.turns))
        names = outcomes.pool.name
        best = names[int(np.nan_to_num(column_means(outcomes.quality), nan=-1.0).argmax())]
        name = self.fallback if self.fallback is not None else best
        if name not in names:
            raise InputError("the fallback is not in the pool", where="bundle.fallback", expected="one of " + ", ".join(names), found=name)
        return Settings(name, self.turns, self.separator)


@dataclass(frozen=True)
class Facts:
    """What bundle.json says beside the graph: cost[m] is the expected USD a query (NaN: not known), metrics a run's metrics.json.

    settings: with a fallback. familiarity: what tells queries unlike the training data, None where the router reads text itself.
    """

    name: str
    pool: Pool
    cost: Floats
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    settings: Settings
    familiarity: Familiarity | None = None


def hostile() -> list[str | list[Any]]:
    """64 texts that users send to gateways, and should not but do; a long one is [piece, repeats]."""
    texts: list[str | list[Any]] = json.loads((Path(__file__).parent / "golden_texts.json").read_text())
    return texts


def require_exportable(encoder: Encoder | None, where: str = "") -> None:
    """Raises NoBundleError where a router behind this encoder cannot be one graph: never for a router that reads text (None), always for
    an encoder that is asked over a network.
    """
    if encoder is not None and not getattr(encoder, "exportable", True):
        what = "this encoder is asked over a network and cannot be a graph"
        raise NoBundleError(what, where=where, expected="one that runs in a process", found=type(encoder).__name__)


def write_bundle(folder: Path, encoder: Encoder | None, router: Router, calibration: Affine, facts: Facts) -> Path:
    """folder/router.onnx, tokenizer.json and, last, bundle.json with the sha256 of every file (its own with that field blank).

    encoder: None where the router reads text and brings its own tokenizer. Raises NoBundleError for an encoder over a network, and
    InputError where the router cannot be a graph.
    """
    from routewright.core import graph

    require_exportable(encoder)
    head = graph.affine(router.onnx(), calibration.scale, calibration.shift)
    reader: Any = encoder if encoder is not None else router
    model = head if encoder is None else graph.merge(encoder.onnx(), head)
    model = model if facts.familiarity is None else facts.familiarity.beside(model)
    write_atomic(folder / "router.onnx", lambda stream: stream.write(model.SerializeToString(deterministic=True)))
    tokenizer: str = reader.tokenizer()
    write_atomic(folder / "tokenizer.json", lambda stream: stream.write(tokenizer.encode()))
    fingerprint = encoder.fingerprint if encoder else sha256(tokenizer.encode())
    described = shared(facts) | {
        "kind": "router",
        "policy": {key: facts.metrics[key if key != "name" else "policy"] for key in ("name", "weak", "strong")},
        "encoder": {"fingerprint": fingerprint, "max_tokens": longest(tokenizer)},
        "golden": _golden(folder, tokenizer),
    }
    return seal(folder, described, ("router.onnx", "tokenizer.json"), "bundle.schema.json")


def longest(tokenizer: str) -> int | None:
    """Tokens at which this tokenizer cuts a text, None where it never does."""
    told = (json.loads(tokenizer).get("truncation") or {}).get("max_length")
    return None if told is None else int(told)


def shared(facts: Facts) -> dict[str, Any]:
    """What bundle.json says of a router as of a cascade."""
    pool, metrics = facts.pool, facts.metrics
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
        "operating_points": metrics["operating_points"],
        "fallback": facts.settings.fallback,
        "familiarity": None if facts.familiarity is None else facts.familiarity.described(),
        "conversation": {"turns": facts.settings.turns, "separator": facts.settings.separator},
        "guarantee": None,
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
        tokens, quality = score(unfolded(entry))
        out.append({"text": entry, "tokens": tokens, "quality": [round(float(q), 7) for q in quality]})
    return out


def scorer(model: Path, tokenizer: str) -> Any:
    """A function from one text to (number of tokens, quality[m]) by the exported files alone.

    The tokenizer reads each text whole: the gateway's reader, which does not, is held to this.
    """
    from tokenizers import Tokenizer

    opened, encode = session(model), Tokenizer.from_str(tokenizer)

    def score(text: str) -> tuple[int, Floats]:
        found = encode.encode(text)
        ids, mask = np.zeros((2, 1, max(1, len(found.ids))), dtype=np.int64)  # a graph never sees a text without a column
        ids[0, : len(found.ids)], mask[0, : len(found.ids)] = found.ids, found.attention_mask
        feed = {"input_ids": ids, "attention_mask": mask}
        return len(found.ids), opened.run(["quality"], feed)[0][0]

    return score
