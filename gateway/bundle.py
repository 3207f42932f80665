"""Loads a bundle, verifies every byte of it, scores texts and decides. Needs numpy, onnxruntime and tokenizers, nothing else heavy."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from routewright.core.policy import decide
from routewright.core.types import Floats, InputError

FORMAT = 1
TOLERANCE = 1e-4  # between the trained router and its bundle, and between one machine and another
FILES = ("router.onnx", "tokenizer.json", "bundle.json")
SEAL = re.compile(rb'"bundle\.json": "([0-9a-f]{64})"')


class Choice(NamedTuple):
    """One decision: the model, the operating point, and the predicted quality of every model in the bundle's order."""

    model: str
    point: str
    quality: tuple[float, ...]


class Bundle:
    """An exported router. Make one with `Bundle.load`; it keeps no state between calls and may be shared by threads."""

    def __init__(self, described: dict[str, Any], session: Any, tokenizer: Any) -> None:
        self.described, self._session, self._tokenizer = described, session, tokenizer
        self.models: tuple[str, ...] = tuple(model["name"] for model in described["models"])
        self.cost: Floats = np.array([np.nan if model["expected_usd"] is None else model["expected_usd"] for model in described["models"]])
        self.points: dict[str, float] = {name: point["knob"] for name, point in described["operating_points"].items()}
        self.verdict: str = described["verdict"]["word"]

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 1) -> Bundle:
        """Verifies the sha256 of all three files, then opens them. Raises InputError naming a file that is missing or changed."""
        folder = Path(path)
        data = {name: _read(folder, name) for name in FILES}
        described = _verified(folder, data)
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(data["router.onnx"], options, providers=["CPUExecutionProvider"])
        return cls(described, session, Tokenizer.from_str(data["tokenizer.json"].decode()))

    def score(self, texts: Sequence[str]) -> Floats:
        """quality[n,m] of every model for each text, in the order of `models`. One batch, padded to its longest text."""
        if not texts:
            return np.zeros((0, len(self.models)))
        found = self._tokenizer.encode_batch(list(texts))
        width = max(len(item.ids) for item in found)
        ids, mask = np.zeros((2, len(texts), width), dtype=np.int64)
        for row, item in enumerate(found):
            ids[row, : len(item.ids)] = item.ids
            mask[row, : len(item.ids)] = 1
        return self._session.run(["quality"], {"input_ids": ids, "attention_mask": mask})[0].astype(np.float64)

    def decide(self, text: str, *, point: str = "balanced") -> Choice:
        """The model for one text at a named operating point. Raises InputError for a point the bundle does not have."""
        if point not in self.points:
            raise InputError(
                f"operating point {point!r} is not in the bundle", expected="one of " + ", ".join(self.points), found=repr(point)
            )
        quality = self.score([text])
        served = decide(quality, self.counted(1), self.points[point]).served
        return Choice(self.models[int(served[0])], point, tuple(float(value) for value in quality[0]))

    def counted(self, n: int) -> Floats:
        """cost[n,m] as the bundle's policy counts it: calls of the strong model, or expected USD."""
        policy = self.described["policy"]
        row = np.array([float(name == policy["strong"]) for name in self.models]) if policy["name"] == "threshold" else self.cost
        return np.tile(row, (n, 1))

    def compare(self, texts: Sequence[str], quality: Floats, *, batches: Sequence[int] = (1, 64), tolerance: float = TOLERANCE) -> float:
        """The largest difference to expected quality[n,m], over all batch sizes; raises InputError above `tolerance`."""
        worst = 0.0
        order = np.array(sorted(range(len(texts)), key=lambda row: len(texts[row])), dtype=np.int64)  # like lengths need little padding
        for size in batches:
            for begin in range(0, len(order), size):
                part = order[begin : begin + size]
                worst = max(worst, float(np.abs(self.score([texts[row] for row in part]) - quality[part]).max()))
        if not worst <= tolerance:
            raise InputError(
                "the bundle scores differently from the trained router", expected=f"within {tolerance:g}", found=f"{worst:.2g}"
            )
        return worst

    def check_golden(self, tolerance: float = TOLERANCE) -> float:
        """The largest difference to the golden vectors; raises InputError above `tolerance` (another runtime, another decision)."""
        texts = [item["text"] if isinstance(item["text"], str) else item["text"][0] * item["text"][1] for item in self.described["golden"]]
        return self.compare(texts, np.array([item["quality"] for item in self.described["golden"]]), batches=(1,), tolerance=tolerance)


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise InputError(
            f"{name} cannot be read", where=str(folder), expected="a bundle: " + ", ".join(FILES), found=str(error.strerror)
        ) from None


def _verified(folder: Path, data: dict[str, bytes]) -> dict[str, Any]:
    """bundle.json, once its own seal and the sha256 of the other files hold."""
    raw = data["bundle.json"]
    seals = SEAL.findall(raw)
    blank = SEAL.sub(b'"bundle.json": ""', raw)
    if len(seals) != 1 or hashlib.sha256(blank).hexdigest().encode() != seals[0]:
        raise _changed(folder, "bundle.json", "its own seal", "another content")
    described: dict[str, Any] = json.loads(raw)
    if described["format"] != FORMAT:
        raise InputError(
            "bundle.json has another format",
            where=str(folder),
            expected=str(FORMAT),
            found=str(described["format"]),
            mend="Update routewright.",
        )
    for name in ("router.onnx", "tokenizer.json"):
        expected, got = described["sha256"][name], hashlib.sha256(data[name]).hexdigest()
        if got != expected:
            raise _changed(folder, name, f"sha256 {expected[:12]}", got[:12])
    return described


def _changed(folder: Path, name: str, expected: str, found: str) -> InputError:
    return InputError(f"{name} was changed after export", where=str(folder), expected=expected, found=found, mend="Export the run again.")
