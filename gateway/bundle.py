"""Loads a bundle, verifies every byte of it, scores texts and decides. Needs numpy, onnxruntime and tokenizers, nothing else heavy."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core import policy
from routewright.core.text import unfolded
from routewright.core.types import Floats, InputError, Ints
from routewright.gateway.decisions import EXPLORED, ROUTED, UNFAMILIAR, Decision, Ranked, asked, at
from routewright.gateway.files import Files, opened
from routewright.gateway.tokens import Reader

TOLERANCE = 1e-4  # of a score: between what was trained and its bundle, and between one machine and another
FILES = ("router.onnx", "tokenizer.json", "CARD.md", "bundle.json")  # what every router's bundle holds


class VerdictWarning(UserWarning):
    """The bundle that is loaded was judged, and no help was found."""


class Bundle:
    """An exported router. Make one with `Bundle.load`; it keeps no state between calls and may be shared by threads."""

    def __init__(self, described: dict[str, Any], session: Any, reader: Reader) -> None:
        self.described, self._session, self._reader = described, session, reader
        self.models: tuple[str, ...] = tuple(model["name"] for model in described["models"])
        self._usd = tuple(model["expected_usd"] for model in described["models"])
        self.cost: Floats = np.array([np.nan if usd is None else usd for usd in self._usd], dtype=np.float64)
        self.points: dict[str, float] = {name: point["knob"] for name, point in described["operating_points"].items()}
        self.verdict: str = described["verdict"]["word"]
        self.fallback: str = described["fallback"]
        self.hash: str = described["sha256"]["bundle.json"]
        strong = described["policy"]["strong"]
        counts_calls = described["policy"]["name"] == "threshold"
        self._counted: Floats = np.array([float(name == strong) for name in self.models]) if counts_calls else self.cost
        self._place = {name: column for column, name in enumerate(self.models)}
        known = described["familiarity"]
        self._least: float | None = known and known["least"]
        self._outputs = ["quality"] if known is None else ["quality", "familiarity"]

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 1) -> Bundle:
        """Verifies the sha256 of every file, then opens them. Raises InputError naming a file that is missing or changed.

        Warns (VerdictWarning) where the verdict is "hurts" or "no evidence that it helps": such a router is an expensive coin.
        """
        bundle = cls.of(*opened(path, "router"), threads)
        warn(bundle.described)
        return bundle

    @classmethod
    def of(cls, described: dict[str, Any], files: Files, threads: int = 1) -> Bundle:
        """Of files that are verified already."""
        return cls(described, files.session("router.onnx", threads), Reader(files.read("tokenizer.json")))

    def score(self, texts: Sequence[str]) -> Floats:
        """quality[n,m] of every model for each text, in the order of `models`. One batch, padded to its longest text."""
        return self._read(texts)[0] if texts else np.zeros((0, len(self.models)))

    def familiarity(self, texts: Sequence[str]) -> Floats:
        """[n] how near each text lies to what the router was trained on; NaN where the bundle cannot tell."""
        return self._read(texts)[1] if texts else np.zeros(0)

    def tokens(self, text: str) -> int:
        """How many tokens are read of a text, special ones included."""
        return self._reader([text]).counts[0]

    def _read(self, texts: Sequence[str]) -> tuple[Floats, Floats, tuple[int, ...]]:
        """quality[n,m], familiarity[n], tokens[n]."""
        ids, mask, count = self._reader(texts)
        found = self._session.run(self._outputs, {"input_ids": ids, "attention_mask": mask})
        near = found[1].astype(np.float64) if len(found) > 1 else np.full(len(texts), np.nan)
        return found[0].astype(np.float64), near, count

    def decide(
        self,
        query: str | Sequence[Mapping[str, Any]],
        *,
        point: str = "balanced",
        candidates: Sequence[str] | None = None,
        explore: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Decision:
        """Ranks the models for one query at a named operating point. query: a text, or chat messages (the last user turn is read).

        candidates: the models that may be called now, None for all. A query unlike all that the router was trained on goes to the fallback
        model. explore: the chance with which, in place of the best, one of the candidates is drawn by `rng`, so that what is logged can
        be evaluated later; `propensity` tells how likely the choice was. Raises InputError for a point or model that is not in the bundle,
        and for a query that is no text.
        """
        knob = self.knob(point)
        columns = self.columns(candidates)
        quality, near, count = self._read([asked(query, **self.described["conversation"])])
        if not np.isfinite(quality).all():
            raise InputError("the graph gives no finite scores", where=self.described["name"], expected="a quality for every model")
        order = columns[policy.ranking(quality[0, columns], self._counted[columns], knob)]
        strange = self._least is not None and bool(near[0] < self._least)
        reason, propensity = ROUTED, 1.0
        if strange and (fallback := self._place[self.fallback]) in order:
            order, reason = np.concatenate([[fallback], order[order != fallback]]), UNFAMILIAR
        if explore:
            order, reason, propensity = _explored(order, reason, explore, rng)
        rows = tuple(self._ranked(int(j), quality[0], knob) for j in order)
        confidence = min(max(rows[0].quality, 0.0), 1.0)
        familiarity = None if self._least is None else float(near[0])
        return Decision(rows[0].model, rows, point, confidence, reason, strange, familiarity, propensity, count[0], self.hash)

    def _ranked(self, column: int, quality: Floats, knob: float) -> Ranked:
        value = float(quality[column])
        return Ranked(self.models[column], value, self._usd[column], value - knob * float(self._counted[column]))

    def knob(self, point: str) -> float:
        """Of a named operating point. Raises InputError for one that the bundle does not have."""
        return at(self.points, point)

    def columns(self, candidates: Sequence[str] | None) -> Ints:
        """Their columns, in the bundle's order. Raises InputError for a model that is not in the bundle, and for none."""
        if candidates is None:
            return np.arange(len(self.models))
        if isinstance(candidates, str) or not candidates:
            raise InputError("no model may be called", expected="candidates: a list of models, or None", found=repr(candidates))
        unknown = [name for name in candidates if name not in self._place]
        if unknown:
            found = ", ".join(map(repr, unknown))
            raise InputError("a candidate is not in the bundle", expected="some of " + ", ".join(self.models), found=found)
        return np.array(sorted({self._place[name] for name in candidates}))

    def compare(self, texts: Sequence[str], quality: Floats, *, batches: Sequence[int] = (1, 64), tolerance: float = TOLERANCE) -> float:
        """The largest difference to expected quality[n,m], over all batch sizes; raises InputError above `tolerance`."""
        worst = 0.0
        order = np.array(sorted(range(len(texts)), key=lambda row: len(texts[row])), dtype=np.int64)  # like lengths need little padding
        for size in batches:
            for begin in range(0, len(order), size):
                part = order[begin : begin + size]
                worst = max(worst, float(np.abs(self.score([texts[row] for row in part]) - quality[part]).max()))
        if not worst <= tolerance:
            expected, found = f"within {tolerance:g}", f"{worst:.2g}"
            raise InputError("the bundle scores differently from the trained router", expected=expected, found=found)
        return worst

    def check_golden(self, tolerance: float = TOLERANCE) -> float:
        """The largest difference to the golden vectors; raises InputError above `tolerance`, and where a text has other tokens.

        Another runtime that fails here decides differently from the trained router.
        """
        golden = self.described["golden"]
        texts = [unfolded(item["text"]) for item in golden]
        for item, text in zip(golden, texts, strict=True):
            if (count := self._reader([text]).counts[0]) != item["tokens"]:
                raise InputError("a golden text has other tokens", where=repr(text[:40]), expected=str(item["tokens"]), found=str(count))
        return self.compare(texts, np.array([item["quality"] for item in golden]), batches=(1,), tolerance=tolerance)


@contextmanager
def unwarned() -> Iterator[None]:
    """Without the warning, for those who say the verdict themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VerdictWarning)
        yield


def quiet(path: Path, *, threads: int = 1) -> Bundle:
    """Bundle.load, unwarned."""
    with unwarned():
        return Bundle.load(path, threads=threads)


def warn(described: Mapping[str, Any]) -> None:
    """Says what was found where the bundle was not found to help."""
    if described["verdict"]["word"] != "helps":
        warnings.warn(f"{described['name']}: {described['verdict']['sentence']}", VerdictWarning, stacklevel=3)


def _explored(order: Ints, reason: str, explore: float, rng: np.random.Generator | None) -> tuple[Ints, str, float]:
    """(order, reason, propensity) after a draw: with chance `explore` each candidate is as likely as any other."""
    if not 0 < explore <= 1 or rng is None:
        found = f"explore={explore:g}, rng={rng}"
        raise InputError("exploration needs a share and a generator", expected="0 < explore <= 1 and rng=...", found=found)
    each = explore / len(order)
    if rng.random() >= explore:
        return order, reason, 1 - explore + each
    drawn = int(rng.integers(len(order)))
    if drawn == 0:
        return order, reason, 1 - explore + each
    return np.concatenate([order[[drawn]], np.delete(order, drawn)]), EXPLORED, each
