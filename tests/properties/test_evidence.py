"""Signals: shares in [0, 1] whatever the order of samples, the least token never above the mean, no text that raises."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.data.evidence import agreement, align, entropy, find_span, logprob_mean, logprob_min, logprob_span, read_confidence

LOGPROBS = st.lists(st.floats(-1e4, 0), min_size=1, max_size=20)
EXTRACT = st.none() | st.sampled_from(["4", "5", ""])
PIECES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), min_size=1, max_size=12)


@given(LOGPROBS)
def test_least_mean_most(logprobs: list[float]) -> None:
    assert logprob_min(logprobs) <= logprob_mean(logprobs) <= max(logprobs) <= 0
    assert logprob_mean(logprobs) == pytest.approx(np.mean(logprobs))


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=30), st.integers(1, 30), st.randoms(use_true_random=False))
def test_the_top_of_a_distribution_bounds_its_entropy_from_below(weights: list[float], top: int, random: object) -> None:
    logprobs = np.log(np.array(weights) / np.sum(weights))
    whole = entropy(logprobs.tolist())
    chances = np.exp(logprobs)
    assert whole == pytest.approx(-(chances * logprobs).sum(), abs=1e-9)
    assert 0 <= whole <= math.log(len(weights)) + 1e-9
    likeliest = np.sort(logprobs)[::-1][:top].tolist()
    assert entropy(likeliest) <= whole + 1e-9
    assert entropy(likeliest[: top // 2 + 1]) <= entropy(likeliest) + 1e-9, "more of the top, never a lower bound"
    random.shuffle(likeliest)  # type: ignore[attr-defined]
    assert entropy(likeliest) == pytest.approx(entropy(sorted(likeliest)), abs=1e-12)


@given(EXTRACT, st.lists(EXTRACT, min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_agreement_is_a_share_that_no_order_changes(main: str | None, samples: list[str | None], random: object) -> None:
    same, most = agreement(main, samples)
    assert 0 <= same <= most <= 1
    mixed = list(samples)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert agreement(main, mixed) == (same, most)
    assert agreement(main, [*samples, None])[0] <= same
    assert main is None or agreement(main, [*samples, main])[0] >= same


@given(PIECES)
def test_pieces_tile_the_text_they_spell(pieces: list[str]) -> None:
    text = "".join(pieces)
    places = align(pieces, text)
    if not text:
        assert places is None
        return
    assert places is not None
    for piece, (begin, end) in zip(pieces, places, strict=True):
        assert not piece or text[begin:end] == piece
    ours, stripped = align(pieces, text.strip()), text.strip()
    if stripped:
        assert ours is not None
        covered = {i for begin, end in ours for i in range(begin, end)}
        assert covered == set(range(len(stripped)))


@given(st.lists(st.sampled_from("abé日😀 "), min_size=1, max_size=8).map("".join), st.data())
def test_bytes_of_characters_are_aligned_or_refused(text: str, data: st.DataObject) -> None:
    """Tokens cut anywhere in the bytes: a half character is U+FFFD, as servers spell it. What is aligned, is aligned right."""
    raw = text.encode()
    cuts = sorted({0, len(raw), *data.draw(st.lists(st.integers(0, len(raw)), max_size=8))})
    spans = list(itertools.pairwise(cuts))
    pieces = [raw[begin:end].decode(errors="replace") for begin, end in spans]
    places = align(pieces, text)
    if places is None:
        return
    for piece, (begin, end), (low, high) in zip(pieces, places, spans, strict=True):
        if "\ufffd" not in piece:
            assert len(text[:begin].encode()) == low
            assert len(text[:end].encode()) == high


@given(st.text(max_size=60), st.text(max_size=8))
def test_a_span_lies_in_the_text(text: str, wanted: str) -> None:
    found = find_span(text, wanted)
    assert found is None or 0 <= found[0] < found[1] <= len(text)


@given(st.lists(st.tuples(st.floats(-50, 0), st.text(st.sampled_from("ab 1"), min_size=1, max_size=3)), min_size=1, max_size=9), st.data())
def test_a_span_is_no_less_likely_than_its_least_token(tokens: list[tuple[float, str]], data: st.DataObject) -> None:
    logprobs, pieces = [value for value, _ in tokens], [piece for _, piece in tokens]
    text = "".join(pieces)
    wanted = data.draw(st.sampled_from(text.split() or ["x"]))
    value = logprob_span(logprobs, pieces, text, wanted)
    if text.split():
        assert logprob_min(logprobs) <= value <= max(logprobs)
    else:
        assert math.isnan(value)


@given(st.text() | st.text(st.sampled_from("0123456789.,%/- \nofut4"), max_size=20), st.sampled_from(["scale", "percent"]))
def test_any_reply_is_read(text: str, kind: str) -> None:
    value = read_confidence(text, kind)
    assert math.isnan(value) or 0 <= value <= 1


@given(st.integers(0, 100))
def test_whole_percents_are_read_back(share: int) -> None:
    for form in ("{}", "{}%", "{} percent", "I am {} % sure", "Confidence: {}/100"):
        assert read_confidence(form.format(share), "percent") == share / 100
