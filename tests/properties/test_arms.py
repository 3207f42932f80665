"""Arms: every query is asked once and none is shown its own answer; what is numbered is read back; shares add up to the token."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.text import normalise
from routewright.data.arms import Arm, Example, numbered, prompts, shares, split_answers

# answers as models give them, but for lines that begin with a number of their own
ANSWERS = st.text(st.characters(exclude_categories=["Cs", "Nd"], exclude_characters="\r"), max_size=30).map(str.strip)


@given(st.lists(ANSWERS, min_size=2, max_size=12))
def test_what_is_numbered_is_read_back(answers: list[str]) -> None:
    assert split_answers(numbered(answers), len(answers)) == answers


@given(st.text(st.sampled_from("123:.)*-# \nab(Answer"), max_size=120), st.integers(1, 6))
def test_any_text_is_split_into_its_own_parts(text: str, k: int) -> None:
    answers = split_answers(text, k)
    assert len(answers) == k
    assert all(answer is None or answer in text for answer in answers)
    assert sum(len(answer or "") for answer in answers) <= len(text)


@given(st.integers(0, 3), st.integers(1, 4), st.integers(0, 10), st.booleans(), st.integers(0, 99))
def test_every_query_is_asked_once_and_never_shown(shots: int, batch: int, n: int, same_group: bool, seed: int) -> None:
    texts = [f"text {i % 7}" for i in range(n)]
    examples = [Example(f"TEXT  {i}", f"gold {i}", f"g{i % 3}") for i in range(20)]
    arm = Arm(model="m", shots=shots, batch=batch, same_group=same_group)
    made = list(prompts(arm, texts, [f"g{i % 3}" for i in range(n)], examples, rng=np.random.default_rng(seed)))
    assert [row for prompt in made for row in prompt.rows] == list(range(n))
    for prompt in made:
        *shown, (role, asked) = prompt.messages
        assert (role, asked) == ("user", numbered([texts[row] for row in prompt.rows]))
        assert len(shown) == 2 * shots
        lines = {normalise(line.partition(": ")[2] or line) for _, content in shown for line in content.split("\n")}
        assert not lines & {normalise(texts[row]) for row in prompt.rows}
        assert len({content for _, content in shown}) == len(shown), "an example is shown twice"


@given(
    st.dictionaries(st.sampled_from(["input", "cached_input", "output", "reasoning"]), st.integers(0, 10**6)),
    st.integers(1, 40),
    st.data(),
)
def test_shares_add_up_exactly_in_any_order(tokens: dict[str, int], k: int, data: st.DataObject) -> None:
    lengths = data.draw(st.none() | st.lists(st.floats(0, 1e6), min_size=k, max_size=k))
    made = shares(tokens, k, lengths)
    assert len(made) == k
    for kind, count in tokens.items():
        values = [share[kind] for share in made]
        assert min(values) >= 0
        assert sum(values) == sum(reversed(values)) == np.sum(values) == math.fsum(values) == count
        if lengths is None or kind != "output":
            np.testing.assert_allclose(values, count / k, atol=1e-5)
    if tokens.get("cached_input", 0) <= tokens.get("input", 0):
        assert all(share.get("cached_input", 0) <= share.get("input", 0) for share in made)
