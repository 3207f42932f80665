"""Batches and answers of the openai encoder, for any texts and any order."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from routewright.core.types import InputError
from routewright.data import vectors
from routewright.data.calls import CallError
from routewright.data.embeddings import OpenAIEncoder
from routewright.data.embeddings_ask import batches, read_vectors

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
FINITE = st.floats(-100, 100, width=32)
ROWS = nps.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=FINITE).filter(lambda rows: rows.any(axis=1).all())


@given(st.lists(TEXT, max_size=30), st.integers(1, 5), st.integers(1, 20))
def test_batches_hold_every_text_in_order_within_both_limits(texts: list[str], most: int, most_bytes: int) -> None:
    made = list(batches(texts, most, most_bytes))
    assert [text for batch in made for text in batch] == texts
    for batch, after in zip(made, [*made[1:], None], strict=False):
        size = sum(len(text.encode()) for text in batch)
        assert 1 <= len(batch) <= most
        assert size <= most_bytes or len(batch) == 1
        if after is not None:
            assert len(batch) == most or size + len(after[0].encode()) > most_bytes, "no batch is smaller than it must be"


@given(ROWS, st.randoms(use_true_random=False), st.booleans())
def test_an_answer_in_any_order_and_either_encoding_gives_the_same_unit_rows(rows: Any, random: Any, packed: bool) -> None:
    def written(row: Any) -> Any:
        return base64.b64encode(row.astype("<f4").tobytes()).decode() if packed else row.tolist()

    data = [{"index": i, "embedding": written(row)} for i, row in enumerate(rows)]
    random.shuffle(data)
    found = read_vectors({"data": data}, len(rows), rows.shape[1])
    exact = rows.astype(np.float64)
    np.testing.assert_array_equal(found, (exact / np.sqrt((exact**2).sum(axis=1, keepdims=True))).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(found.astype(np.float64), axis=1), 1, atol=1e-6)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), st.integers(4, 40))
def test_a_cut_text_is_the_longest_start_that_fits(text: str, most: int) -> None:
    (cut,) = OpenAIEncoder(max_bytes=most)._sendable([text])
    assert text.startswith(cut)
    assert 1 <= len(cut.encode()) <= most
    assert cut == text or len(text[: len(cut) + 1].encode()) > most


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 3))
def test_parts_that_were_kept_are_never_computed_again(tmp_path_factory: Any, first: list[int], second: list[int], whole: int) -> None:
    """compute hands over one text at a time and fails after `whole` of them; every later list finds those."""
    folder: Path = tmp_path_factory.mktemp("parts")
    computed: list[str] = []

    def compute(missing: list[str], keep: vectors.Keep) -> None:
        for position, text in enumerate(missing):
            if position == whole and not computed[whole:]:
                raise InputError("cut")
            keep([text], np.full((1, 2), int(text), np.float32))
            computed.append(text)

    for numbers in (first, second, first):
        texts = [str(number) for number in numbers]
        try:
            rows = vectors.cached_parts(folder, texts, compute)
        except InputError:
            assert len(computed) == whole < len(set(texts))
            computed.append("failed once")
            rows = vectors.cached_parts(folder, texts, compute)
        np.testing.assert_array_equal(rows, np.repeat(np.array(numbers, np.float32)[:, None], 2, axis=1))
    made = [text for text in computed if text != "failed once"]
    assert len(made) == len(set(made))


@pytest.mark.parametrize("width", [None, 3])
def test_no_rows_of_no_width(width: int | None) -> None:
    with pytest.raises(CallError, match=r"vectors of 0 numbers|vector of zeros"):
        read_vectors({"data": [{"index": 0, "embedding": ""}]}, 1, width)
