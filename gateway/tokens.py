"""Texts to token ids as the bundle's tokenizer makes them, without reading a text's far end that truncation would drop anyway."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from routewright.core.types import InputError, Ints

PER_TOKEN = 16  # characters read for each token that is kept, at first
LOCAL = ("WordPiece", "BPE", "WordLevel")  # these split words one by one, from the left


class Tokens(NamedTuple):
    """ids (n, width) and mask (n, width), int64, padded with 0 on the right; counts[i] of text i."""

    ids: Ints
    mask: Ints
    counts: tuple[int, ...]


class Reader:
    """The tokenizers library behind one rule: the first `max_tokens` tokens of a text, however long it is. Thread-safe."""

    def __init__(self, tokenizer: bytes) -> None:
        from tokenizers import Tokenizer

        told = json.loads(tokenizer)
        truncation = told.get("truncation") or {}
        # 100,000 characters take 90 ms and 256 tokens are kept of them: where words are split one by one the rest need not be read
        local = told["model"].get("type") in LOCAL and told.get("pre_tokenizer") is not None and truncation.get("direction") == "Right"
        self._limit = int(truncation["max_length"]) if local else None
        self._tokenizer: Any = Tokenizer.from_str(tokenizer.decode())

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Ids of one batch, padded to its longest text, one column at least: a text may hold no token. InputError for no Unicode text."""
        rows = [self._ids(text) for text in texts]
        width = max(1, *map(len, rows))
        ids, mask = np.zeros((2, len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        return Tokens(ids, mask, tuple(map(len, rows)))

    def _ids(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise InputError("a query is not text", expected="str", found=type(text).__name__)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            place = f"{error.object[error.start]!r} at character {error.start}"
            raise InputError("a query is not Unicode text", expected="no lone surrogates", found=place) from None
        return self._encoded(text)

    def _encoded(self, text: str) -> list[int]:
        reach = PER_TOKEN * (self._limit or 0)
        while self._limit is not None and len(text) > reach:
            found = self._once(text[:reach])
            # more than a whole further window was dropped: the cut, which may part a word, is far from what is kept
            if len(found.overflowing) > 1:
                return list(found.ids)
            reach *= 4
        return list(self._once(text).ids)

    def _once(self, text: str) -> Any:
        return self._tokenizer.encode_batch_fast([text])[0]  # without offsets, which nobody reads: a sixth less time
