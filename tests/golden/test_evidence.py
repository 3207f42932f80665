"""Signals by hand: log-probabilities over the right tokens, agreement that None never joins, self-reports read or refused."""

from __future__ import annotations

import json
import math

import pytest

from routewright.core.types import InputError
from routewright.data import evidence
from routewright.data.evidence import (
    agreement,
    align,
    confidence_messages,
    entropy,
    find_span,
    logprob_entropy,
    logprob_mean,
    logprob_min,
    logprob_span,
    read_confidence,
)

NAN = float("nan")


def test_the_names_of_the_signals() -> None:
    assert set(evidence.SIGNALS) == {
        "logprob_mean",
        "logprob_min",
        "logprob_span",
        "logprob_entropy",
        "agreement",
        "majority",
        "meaning",
        "meaning_entropy",
        "self_reported",
        "verifier",
    }


def test_mean_and_min() -> None:
    assert logprob_mean([-1.0, -3.0]) == -2.0
    assert logprob_min([-1.0, -3.0]) == -3.0
    assert logprob_mean([-0.1] * 3) == -0.1, "numpy's mean of these is below all of them"
    assert logprob_mean([-0.0, 1e-6]) == 0.0
    assert logprob_min([-9999.0]) == -9999.0


@pytest.mark.parametrize("values", [[], [NAN], [-1.0, NAN], [-math.inf], [0.5], [-1.0, 0.01]])
def test_what_is_no_logprob_is_nan(values: list[float]) -> None:
    assert math.isnan(logprob_mean(values))
    assert math.isnan(logprob_min(values))
    assert math.isnan(logprob_span(values, ["a"] * len(values), "a" * len(values), "a"))


# ---- entropies


@pytest.mark.parametrize(
    ("chances", "nats"),
    [
        ([1.0], 0.0),
        ([0.5, 0.5], math.log(2)),
        ([0.25] * 4, math.log(4)),
        ([0.5, 0.25, 0.125, 0.125], 1.75 * math.log(2)),
        ([0.5, 0.25], 1.5 * math.log(2)),  # the quarter that is left is one outcome
        ([0.5], math.log(2)),
        ([1.0, 0.0], 0.0),  # -inf: a chance of 0
    ],
)
def test_the_entropy_of_a_known_distribution(chances: list[float], nats: float) -> None:
    assert entropy([math.log(p) if p else -math.inf for p in chances]) == pytest.approx(nats, abs=1e-12)


def test_an_entropy_beside_rounding_and_without_a_distribution() -> None:
    assert entropy([1e-6, -9999.0]) == 0.0, "a float32's rounding, and a server's word for next to nothing"
    assert entropy([math.log(0.6), math.log(0.4004)]) == pytest.approx(0.673, abs=1e-3), "chances that sum to a little more than 1"
    for values in ([], [NAN], [-1.0, NAN], [0.5], [math.log(0.7), math.log(0.7)]):
        assert math.isnan(entropy(values)), values


def test_the_mean_entropy_of_an_answer() -> None:
    assert logprob_entropy([0.5, 1.5]) == 1.0
    assert logprob_entropy([0.1] * 3) == 0.1, "numpy's mean of these is above all of them"
    assert logprob_entropy([0.0, -1e-7]) == 0.0
    for values in ([], [NAN], [0.5, NAN], [math.inf], [-0.5]):
        assert math.isnan(logprob_entropy(values)), values


# ---- where the answer stands


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        ("4 and then 4", "4", (11, 12)),
        ("The answer is 4, not 14.", "4", (14, 15)),
        ("x = 1.4, so 4", "4", (12, 13)),
        ("4 of 1,400", "4", (0, 1)),
        ("4, or 4/7", "4", (0, 1)),
        ("5 but -5", "5", (0, 1)),
        ("-5", "5", None),
        ("10-5", "5", (3, 4)),
        ("10-5 = -5", "-5", (7, 9)),
        ("Paris, in Parisian", "Paris", (0, 5)),
        ("It is PARIS.", "paris", (6, 11)),
        ("New\n  York", "new york", (0, 10)),
        ("答案是巴黎。", "巴黎", (3, 5)),
        ("It costs $1,000.", "1000", (10, 15)),
        ("one half, 1/2", "0.5", (10, 13)),
        (".50", "0.5", (0, 3)),
        ("0.5", "1/2", (0, 3)),
        ("\N{MINUS SIGN}7", "-7", (0, 2)),
        ("12 or 12.0", "12.00", (6, 10)),
        ("\\boxed{x^2}", "x^2", (7, 10)),
        ("It is (B).", "B", (7, 8)),
        ("a.b", "a.b", (0, 3)),
        ("four", "4", None),
        ("nothing", "thing", None),
        ("Yes", "true", None),
        ("1/0", "7", None),
        ("7", "1/0", None),
        ("", "4", None),
        ("4", "", None),
        ("4", " \n", None),
    ],
)
def test_a_span_is_found(text: str, wanted: str, found: tuple[int, int] | None) -> None:
    assert find_span(text, wanted) == found


@pytest.mark.parametrize(
    ("pieces", "text", "places"),
    [
        (["The", " answer"], "The answer", [(0, 3), (3, 10)]),
        ([" The", " answer", "\n"], "The answer", [(0, 3), (3, 10), (10, 10)]),
        (["<s>", "Hi", "</s>"], "Hi", [(0, 0), (0, 2), (2, 2)]),
        (["Hi", "<|im_end|>"], "Hi", [(0, 2), (2, 2)]),
        (["▁The", "▁answer"], "The answer", [(0, 3), (3, 10)]),
        (["Hi", "Ġyou", "Ċ"], "Hi you", [(0, 2), (2, 6), (6, 6)]),
        (["", "é", "x"], "éx", [(0, 1), (0, 1), (1, 2)]),
        (["x", "", "", "é", ""], "xé", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 2)]),
        (["<0xC3>", "<0xA9>", "x"], "éx", [(0, 1), (0, 1), (1, 2)]),
        (["a", "\ufffd", "\ufffd"], "aé", [(0, 1), (1, 2), (1, 2)]),
        ([" caf", "\ufffd", "\ufffd", " au"], "café au", [(0, 3), (3, 4), (3, 4), (4, 7)]),
        (["bytes:\\xc3", "bytes:\\xa9", "!"], "é!", [(0, 1), (0, 1), (1, 2)]),
        (["\ufffd"], "\ufffd", [(0, 1)]),
        (["think: 4", "\n", "4"], "4", [(0, 0), (0, 0), (0, 1)]),
        (["\ufffd", "\ufffd", "\ufffd", "é"], "ééé", [(0, 2), (0, 2), (0, 2), (2, 3)]),
        (["\ufffd", "\ufffd", "é", "é"], "ééé", None),  # the first two may be one character or two
        (["a", "\ufffd"], "a日日", None),
        (["a", "\ufffd", "c"], "abc", None),
        (["Hello"], "Help", None),
        (["a", "c"], "abc", None),
        (["a", "\ufffd", "c"], "abd", None),
        (["a", "\ufffd", "c"], "abbbbbbbc", None),
        (["\ufffd"], "", None),
        ([], "a", None),
        (["a"], "", None),
    ],
)
def test_pieces_are_aligned(pieces: list[str], text: str, places: list[tuple[int, int]] | None) -> None:
    assert align(pieces, text) == places


@pytest.mark.parametrize(
    ("pieces", "text", "wanted", "value"),
    [
        (["4", " +", " 4", " =", " 8"], "4 + 4 = 8", "8", -5.0),
        (["4", " +", " 4", " =", " 8"], "4 + 4 = 8", "4", -3.0),
        (["It", "=", "4", ".", ""], "It=4.", "4", -3.0),
        ([" is", " 1", "28", "5", "."], "is 1285.", "1285", -3.0),
        (["\n", "The", " answer", ":4", "</s>"], "The answer:4", "4", -4.0),
        (["caf", "\ufffd", "\ufffd", "!", ""], "café!", "café", -2.0),
    ],
)
def test_the_span_has_its_own_tokens(pieces: list[str], text: str, wanted: str, value: float) -> None:
    assert logprob_span([-1.0, -2.0, -3.0, -4.0, -5.0], pieces, text, wanted) == value


def test_a_span_that_cannot_be_told_is_nan() -> None:
    assert math.isnan(logprob_span([-1.0], ["4", "2"], "42", "42")), "a value is missing"
    assert math.isnan(logprob_span([-1.0, -1.0], ["4", "2"], "43", "43")), "other pieces"
    assert math.isnan(logprob_span([-1.0, -1.0], ["4", "2"], "42", "forty-two")), "no such words"
    assert math.isnan(logprob_span([-1.0, NAN], ["4", "2"], "42", "42"))
    assert logprob_span([NAN, -1.0], ["It is", " 2"], "It is 2", "2") == -1.0, "only the span's tokens are looked at"


# ---- agreement


@pytest.mark.parametrize(
    ("main", "samples", "expected"),
    [
        ("4", ["4", "4", "5", None], (0.5, 0.5)),
        ("5", ["4", "4", "4", "5"], (0.25, 0.75)),
        ("6", ["4"], (0.0, 1.0)),
        (None, [None, None], (0.0, 0.0)),
        (None, ["4", None], (0.0, 0.5)),
        ("4", [None], (0.0, 0.0)),
        ("", ["", "4"], (0.5, 0.5)),
    ],
)
def test_agreement(main: str | None, samples: list[str | None], expected: tuple[float, float]) -> None:
    assert agreement(main, samples) == expected


def test_no_samples_tell_nothing() -> None:
    assert all(math.isnan(value) for value in agreement("4", []))


# ---- self-reports


def test_the_second_prompt() -> None:
    for kind, ends in (("scale", ("1 for a guess", "5 for certain")), ("percent", ("from 0 to 100",))):
        messages = confidence_messages("2+2?", "4", kind)
        assert messages[:2] == (("user", "2+2?"), ("assistant", "4"))
        assert [role for role, _ in messages] == ["user", "assistant", "user"]
        assert all(end in messages[2][1] for end in ends)
        json.dumps(messages)
    for ask in (lambda: confidence_messages("q", "a", "stars"), lambda: read_confidence("4", "stars")):
        with pytest.raises(InputError, match="one of scale, percent, found 'stars'"):
            ask()


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("1", 1), ("5", 5), ("4", 4), ("4.", 4), (" **4** \n", 4), ("[[4]]", 4), ("(4)", 4), ("4.5", 4.5), ("4,5", 4.5),
        ("4/5", 4), ("4 / 5", 4), ("4 out of 5", 4), ("4 of 5.", 4), ("**4**/5", 4), ("five out of five", 5),
        ("four", 4), ("Four.", 4), ("Confidence: 4", 4), ("My confidence is four", 4), ("Score = 4", 4),
        ("I would say 4", 4), ("I'd rate it 4 out of 5.", 4), ("On a scale of 1 to 5, I would say 3.", 3), ("1-5: 2", 2),
        ("4\n\nI computed 12 + 5 = 17.", 4), ("I computed 12 + 5 = 17.\n\n4", 4), ("4, since 4 of 5", 4), ("４", 4),
    ],
)  # fmt: skip
def test_scale_is_read(text: str, score: float) -> None:
    assert read_confidence(text, "scale") == pytest.approx((score - 1) / 4)


@pytest.mark.parametrize(
    "text",
    ["", " \n", "0", "6", "-4", "44", "80%", "between 3 and 4", "3-4", "3 or 4", "3\n4", "4/10", "4 out of 10", "very sure", "1 to 5",
     "between 1 and 5", "I am not at 5", "at least 4", "more than 3", "x4", "4th", "GPT4", "The answer is 5", "½", "1,000", "nan", "inf",
     "No one knows", "4 5", "10000000000000000000000"],
)  # fmt: skip
def test_scale_is_nan(text: str) -> None:
    assert math.isnan(read_confidence(text, "scale"))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("85%", 0.85), ("85 %", 0.85), ("85", 0.85), ("85.", 0.85), ("100 percent", 1.0), ("100", 1.0), ("0", 0.0), ("0%", 0.0),
        ("85 per cent", 0.85), ("85/100", 0.85), ("85 out of 100", 0.85), ("99.5%", 0.995), ("99,5 %", 0.995), ("1", 0.01), ("1%", 0.01),
        ("0.85", 0.85), (".85", 0.85), (".5", 0.5), ("0.5", 0.5), ("0.85%", 0.0085), ("0.0", 0.0), ("1.0%", 0.01), ("100.0", 1.0),
        ("eighty-five percent", 0.85), ("eighty five", 0.85), ("one hundred percent", 1.0), ("ninety %", 0.9), ("zero", 0.0),
        ("I am 90% sure.", 0.9), ("I'm 90% sure my answer is right.", 0.9), ("Confidence level: **70%**", 0.7),
        ("From 0 to 100 I would say 60", 0.6), ("90%\nbecause 3 * 4 = 12", 0.9),
    ],
)  # fmt: skip
def test_percent_is_read(text: str, share: float) -> None:
    assert read_confidence(text, "percent") == pytest.approx(share)


@pytest.mark.parametrize(
    "text",
    ["", "1.0", "101", "120%", "-5%", "80-90%", "between 80 and 90%", "80 or 90", "0 to 100", "over 90%", "at least 80", "8/10",
     "4 out of 5", "certain", "85e1", "The answer is 12", "answer: 12", "1,000"],
)  # fmt: skip
def test_percent_is_nan(text: str) -> None:
    assert math.isnan(read_confidence(text, "percent"))
