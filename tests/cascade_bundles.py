"""Cascades' bundles of a made-up table for tests: an encoder of letters, quick scorers, golden vectors of five texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers

from routewright.core import cascade_bundle, graph, scorer_graph
from routewright.core.bundle import Facts, Settings
from routewright.core.cascade_bundle import write_cascade
from routewright.core.types import Floats, Outcomes
from routewright.eval.cascading import Kept
from routewright.eval.kept import usd_score
from routewright.eval.scored import Makers, Scorers, fit_scorers
from routewright.gateway.cascade import CascadeBundle
from routewright.routers.logistic import Logistic
from routewright.routers.signals.features import Features
from tests.contract.test_signals import table

ROOT = Path(__file__).resolve().parents[1]
CASCADES = sorted(path.stem for path in (ROOT / "configs" / "cascade").glob("*.yaml"))
METRICS: dict[str, Any] = {
    "labels": "clean",
    "operating_points": {},
    "verdict": {"word": "helps", "difference": 0.1, "ci": [0.05, 0.2], "sentence": "It helps."},
}


def few_texts(patch: pytest.MonkeyPatch) -> None:
    """Golden vectors of five texts: an empty one, control characters, a long one among them. The real runs have all."""
    every = cascade_bundle.hostile()
    chosen = [every[0], *(entry for entry in every if isinstance(entry, str) and any(ord(letter) < 9 for letter in entry))][:3]
    chosen += ["Query 3: what is 3 + 3?", next(entry for entry in every if not isinstance(entry, str))]
    patch.setattr(cascade_bundle, "hostile", lambda: chosen)


def of(name: str) -> Any:
    """The cascade of a config's name, unfitted."""
    return instantiate(OmegaConf.load(ROOT / "configs" / "cascade" / f"{name}.yaml"))


class Letters:
    """An encoder of single characters: the mean of a table's rows, of length 1."""

    fingerprint = "letters-letters-letters"

    @cached_property
    def _graph(self) -> onnx.ModelProto:
        body = """
            rows = Gather(table, input_ids)
            wide = Unsqueeze(attention_mask, last)
            counted = Cast <to = 1> (wide)
            kept = Mul(rows, counted)
            total = ReduceSum <keepdims = 0> (kept, first)
            some = Add(total, faint)
            embedding = LpNormalization <axis = 1> (some)
        """
        tokens = "int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask"
        arrays = {"table": np.random.default_rng(0).normal(size=(128, 8)).astype(np.float32), "last": np.array([2]), "first": np.array([1])}
        arrays["faint"] = np.full(8, 1e-3, dtype=np.float32)  # of no tokens nothing would be left to divide by
        return scorer_graph.parsed(tokens, "float[batch, 8] embedding", body, arrays)

    def onnx(self) -> onnx.ModelProto:
        return self._graph

    def tokenizer(self) -> str:
        made = Tokenizer(models.WordLevel({chr(i): i for i in range(1, 127)} | {"?": 63}, unk_token="?"))
        made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        made.enable_truncation(64)
        return str(made.to_str())

    def encode(self, texts: list[str]) -> Floats:
        read = Tokenizer.from_str(self.tokenizer())
        ids = [np.array([read.encode(text).ids] * 2, dtype=np.int64) for text in texts]
        opened = graph.session(self._graph.SerializeToString())
        return np.stack([opened.run(None, {"input_ids": row, "attention_mask": np.ones_like(row)})[0][0] for row in ids])


def said(answer: str) -> str | None:
    return answer.rstrip(".?").rpartition("= ")[2] or None


def encoded(seed: int = 0, n: int = 120, m: int = 3) -> Outcomes:
    outcomes = table(seed, n, m)
    text = np.array([f"Query {i}: what is {i} + {i % 7}?" for i in range(n)], dtype=object)
    outcomes = replace(outcomes, queries=replace(outcomes.queries, text=text))
    return outcomes.encoded(Letters().encode(list(text)))


@cache
def scored(signal: Any) -> tuple[Scorers, Outcomes]:
    """The scorers of encoded() by this signal, and the table that a cascade learns from; every cascade can do with the same."""
    return scorers_of(signal, encoded())


def scorers_of(signal: Any, outcomes: Outcomes) -> tuple[Scorers, Outcomes]:
    makers = Makers(Logistic, signal, said, folds=2)
    return fit_scorers(makers, outcomes, ("prior", "usd_prior", "score", "said"), np.random.default_rng(0), clustered=False)


def kept(cascade: Any, signal: Any = None, outcomes: Outcomes | None = None) -> Kept:
    scorers, rows = scored(signal or quick) if outcomes is None else scorers_of(signal or quick, outcomes)
    return Kept(cascade.fit(rows, rng=np.random.default_rng(1)), replace(scorers, needs=cascade.needs))


def facts(outcomes: Outcomes, name: str = "made") -> Facts:
    return Facts(name, outcomes.pool, outcomes.cost.mean(axis=0), {"name": "made"}, METRICS, Settings(outcomes.pool.name[-1]))


def points(*knobs: float) -> dict[str, dict[str, Any]]:
    return {f"at-{knob:g}": {"knob": knob} for knob in knobs}


def written(folder: Path, made: Kept, outcomes: Outcomes, named: Mapping[str, Any] | None = None) -> CascadeBundle:
    usd = usd_score(made, outcomes) if "score" in made.cascade.needs else None
    write_cascade(folder, made, Letters(), facts(outcomes), points(0, 0.1, 0.5, 1, 1.4) if named is None else named, usd)
    return CascadeBundle.load(folder, said)


def quick(**options: Any) -> Features:
    return Features(trees=12, query=4, **options)
