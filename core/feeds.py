"""What the graphs of a cascade's bundle are fed: the tokens of a query, the features of an answer, what was recorded with it. Numpy alone.

Sessions and tokenizers are handed in, so that whoever writes a bundle and whoever serves it feed the graphs by the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from routewright.core.answer_features import NAMES, Asked, asked, features
from routewright.core.pairs import BREAK, pair_ids
from routewright.core.types import Floats, InputError, Ints

# in one batch: alone it would go through another matrix kernel than the training's batches did, 1e-7 away
TWINS = 2

Recorded = Mapping[str, float | None]
Tokens = Callable[[str], Ints]  # the ids int64 of one text


@dataclass(frozen=True, eq=False)
class Query:
    """What a cascade knows of one query from the start: prior[m] float32, its embedding (1, d), and the text as a scorer reads it.

    Each is None where this cascade does not read it.
    """

    text: str
    prior: Floats | None = None
    embedding: Floats | None = None
    asked: Asked | None = None


@dataclass(frozen=True, eq=False)
class Front:
    """router.onnx and its tokens: of a query the calibrated prior and its embedding, as far as `outputs` names them."""

    session: Any
    tokens: Tokens
    outputs: tuple[str, ...]

    def __call__(self, text: str) -> dict[str, Floats]:
        """(1, width) float32 of each output."""
        found = self.session.run(list(self.outputs), _twins(self.tokens(text)))
        return {name: value[:1] for name, value in zip(self.outputs, found, strict=True)}


@dataclass(frozen=True, eq=False)
class Scoring:
    """scorer.onnx and what it is fed: the chance that an answer is right. reader: as in bundle.json; tokenizer: of pairs, else None.

    untold[m]: the chance of an answer that is not there. Raises InputError for a reader that this version does not know.
    """

    reader: Mapping[str, Any]
    session: Any
    untold: Floats
    tokenizer: Any = None

    def __post_init__(self) -> None:
        kind = self.reader["kind"]
        if kind not in ("features", "pair", "recorded"):
            mend = "Update routewright."
            raise InputError("unknown kind of scorer", expected="features, pair or recorded", found=repr(kind), mend=mend)
        if kind == "features" and tuple(self.reader["names"]) != NAMES:
            mend = "Export the run again, or use the version of routewright that wrote it."
            found = ", ".join(sorted(set(self.reader["names"]) ^ set(NAMES))[:3]) or "another order"
            raise InputError("this version reads other features of an answer", expected="those of the export", found=found, mend=mend)

    def asked(self, text: str) -> Asked | None:
        """What is read of a query once for all answers."""
        return asked(text) if self.reader["kind"] == "features" else None

    def __call__(self, query: Query, model: int, answer: str | None, recorded: Recorded) -> np.float32:
        """The chance that this model's answer is right. recorded: by name, what the gateway knows of the answer.

        An answer that is not there gets the model's own mean. Raises InputError where a number that the score rests on was not handed in.
        """
        kind = self.reader["kind"]
        if kind == "recorded":
            return self._run({"recorded": np.array([[self._first(recorded)]])}, model)
        if answer is None:
            return np.float32(np.clip(self.untold[model], 0.0, 1.0))
        if kind == "pair":
            (ids,) = pair_ids([(query.text.replace(BREAK, " "), answer)], self.tokenizer, int(self.reader["max_tokens"]))
            return self._run(_twins(ids), model)
        known = query.text if query.asked is None else query.asked
        feed: dict[str, Floats | Ints] = {"features": features(known, answer).astype(np.float64)[None, :]}
        if self.reader["recorded"]:
            feed["recorded"] = np.array([[_number(recorded, name) for name in self.reader["recorded"]]])
        if self.reader["embedding"]:
            assert query.embedding is not None
            feed["embedding"] = query.embedding
        return self._run(feed, model)

    def _run(self, feed: Mapping[str, Floats | Ints], model: int) -> np.float32:
        rows = len(next(iter(feed.values())))
        return np.float32(self.session.run(["score"], {**feed, "model": np.full(rows, model, dtype=np.int64)})[0][0])

    def _first(self, recorded: Recorded) -> float:
        """The first of the names that is a number, NaN where all are known not to be."""
        names: Sequence[str] = self.reader["recorded"]
        if not any(name in recorded for name in names):
            mend = f"Hand it in with the answer: answered(text, {{{names[0]!r}: value}}), NaN where the backend gives none."
            found = ", ".join(recorded) or "nothing"
            raise InputError(f"the score rests on the recorded number {names[0]!r}", expected=" or ".join(names), found=found, mend=mend)
        values = [_number(recorded, name) for name in names]
        return next((value for value in values if value == value), float("nan"))


def _number(recorded: Recorded, name: str) -> float:
    """As training kept it, in float32; NaN where it is not there."""
    value = recorded.get(name)
    try:
        return float("nan") if value is None else float(np.float32(value))
    except (TypeError, ValueError):
        raise InputError(f"recorded[{name!r}] is no number", expected="a number, or NaN", found=repr(value)) from None


def _twins(ids: Ints) -> dict[str, Ints]:
    """Both inputs of a graph of tokens, one column at least: a text may hold no token."""
    tokens, mask = np.zeros((2, TWINS, max(1, len(ids))), dtype=np.int64)
    tokens[:, : len(ids)], mask[:, : len(ids)] = ids, 1
    return {"input_ids": tokens, "attention_mask": mask}
