"""The gateway's reader makes the tokenizer's own tokens, of long texts too, and does not read what truncation drops."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from routewright.core.bundle import hostile
from routewright.core.text import unfolded
from routewright.core.types import InputError
from routewright.gateway.tokens import Reader

LIMIT = 12


def wordpiece(limit: int | None = LIMIT) -> Tokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh", *(f"##{c}" for c in "abcdefgh"), "abc", "##de", "?", "!"]
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    if limit:
        made.enable_truncation(limit)
    return made


def ids(reader: Reader, text: str) -> list[int]:
    found = reader([text])
    return found.ids[0, : found.counts[0]].tolist()


@given(st.lists(st.text(alphabet="abcdefgh?! \n\u00e9\u4e2d", min_size=1, max_size=120), min_size=1, max_size=12))
def test_long_texts_keep_their_first_tokens(parts: list[str]) -> None:
    text = " ".join(parts) * 3
    whole = wordpiece()
    assert ids(Reader(whole.to_str().encode()), text) == whole.encode(text).ids


def test_golden_texts_are_read_as_the_tokenizer_reads_them() -> None:
    whole = wordpiece()
    reader = Reader(whole.to_str().encode())
    for entry in hostile():
        text = unfolded(entry)
        assert ids(reader, text) == whole.encode(text).ids


def test_words_without_end_are_read_on() -> None:
    """A word of 100,000 letters is one token, so the first window holds too few and the next ones are read."""
    text = " ".join(["a" * 50_000, *"abcdefgh" * 4])
    whole = wordpiece()
    assert ids(Reader(whole.to_str().encode()), text) == whole.encode(text).ids


def test_without_truncation_everything_is_read() -> None:
    whole = wordpiece(None)
    assert len(ids(Reader(whole.to_str().encode()), "abc " * 5000)) == 5002


def test_a_long_text_takes_a_fraction_of_its_time() -> None:
    reader, whole, text = Reader(wordpiece().to_str().encode()), wordpiece(), "abc de fgh? " * 30_000
    begin = time.process_time()
    whole.encode(text)
    middle = time.process_time()
    reader([text])
    assert time.process_time() - middle < (middle - begin) / 5


def test_a_batch_is_padded_and_masked() -> None:
    found = Reader(wordpiece().to_str().encode())(["abc", "", "a b c d e"])
    assert found.ids.shape == found.mask.shape == (3, 7)
    assert found.counts == (3, 2, 7)
    assert found.mask.sum(axis=1).tolist() == [3, 2, 7]


def test_what_is_no_text_is_refused() -> None:
    reader = Reader(wordpiece().to_str().encode())
    with pytest.raises(InputError, match="a query is not text"):
        reader([3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="no lone surrogates"):
        reader(["a\udc80b"])
