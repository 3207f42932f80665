"""Judges: no text raises or leaves the fence, exchanging the answers exchanges the verdict, a report counts every reply once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from routewright.data.judge import OPPOSITE, VERDICTS, PairJudge, ScoreJudge, report

READ = st.sampled_from([*VERDICTS, None])
BITS = st.lists(
    st.sampled_from(["[[A]]", "[[B]]", "[[C]]", "[[7]]", "7/10", "Rating: 3", "A is better", "tie", "\n", " ", ". ", "not", "[["])
)


@given(st.text() | BITS.map("".join), st.integers(0, 3), st.integers(4, 20))
def test_any_reply_is_read(text: str, low: int, high: int) -> None:
    assert PairJudge(model="j").read(text) in (*VERDICTS, None)
    quality = ScoreJudge(model="j", low=low, high=high).read(text)
    assert quality is None or 0 <= quality <= 1


@given(st.text(), st.sampled_from("ABC"))
def test_the_last_verdict_counts_whatever_went_before(text: str, letter: str) -> None:
    assert PairJudge(model="j").read(f"{text}\n\nMy verdict:\n[[{letter}]]") == dict(zip("ABC", VERDICTS, strict=True))[letter]


@given(st.text(), st.text(), st.text())
def test_fences_stand_where_they_were_put(question: str, one: str, other: str) -> None:
    text = PairJudge(model="j").messages(question, one, other)[1][1]
    mark = text[text.index("<<<question ") + 12 :][:16]
    assert text.count(mark) == 6
    assert [part.split(f"\n<<<end of answer {name} {mark}>>>")[0] for name, part in
            ((name, text.split(f"<<<answer {name} {mark}>>>\n")[1]) for name in "AB")] == [one, other]  # fmt: skip


@given(READ, READ, st.sampled_from(["strict", "lenient"]))
def test_exchanging_the_answers_exchanges_the_verdict(ab: str | None, ba: str | None, ties: str) -> None:
    judge = PairJudge(model="j", ties=ties)
    one, other = judge.combine(ab, ba), judge.combine(ba, ab)
    assert one == (None if other is None else OPPOSITE[other])
    assert (one is None) == (ab is None or ba is None)


@given(st.lists(st.tuples(READ, READ), max_size=30), st.sampled_from(["both", "first"]))
def test_a_report_counts_every_reply_once(pairs: list[tuple[str | None, str | None]], orders: str) -> None:
    judge = PairJudge(model="j", orders=orders)
    found = report(judge, pairs)
    assert sum(found["replies"].values()) == len(pairs) * (2 if orders == "both" else 1)
    assert sum(found["verdicts"].values()) == found["pairs"] == len(pairs)
    bias = found["position_bias"]
    if bias["decisive"]:
        assert -0.5 <= bias["low"] <= bias["bias"] <= bias["high"] <= 0.5
    np.testing.assert_equal(report(judge, pairs[::-1]), found)
