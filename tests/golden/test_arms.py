"""Arms by hand: their names, what is refused, the exact prompts they make, the answers read back, the tokens shared out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from routewright.core.types import InputError
from routewright.data.arms import Arm, Example, Prompt, numbered, prompts, read_arms, shares, split_answers

EXAMPLES = [Example(f"e{i}", f"a{i}", "even" if i % 2 == 0 else "odd") for i in range(8)]


def made(arm: Arm, texts: list[str], groups: list[str] | None = None, examples: list[Example] | None = None, seed: int = 0) -> list[Prompt]:
    rng = np.random.default_rng(seed)
    return list(prompts(arm, texts, groups or [""] * len(texts), EXAMPLES if examples is None else examples, rng=rng))


@pytest.mark.parametrize(
    ("settings", "name", "variant"),
    [
        ({}, "m", ""),
        ({"max_tokens": 7, "temperature": 0.5}, "m", ""),
        ({"shots": 3}, "m+3shot", "shots=3"),
        ({"shots": 2, "same_group": True}, "m+2shot-group", "shots=2 same_group"),
        ({"batch": 4}, "m*4", "batch=4"),
        ({"shots": 3, "batch": 4}, "m+3shot*4", "shots=3 batch=4"),
        ({"name": "mine", "batch": 2}, "mine", "batch=2"),
        ({"system": "Be brief."}, "m", "system=213c22ed"),
    ],
)
def test_names_and_variants(settings: dict[str, Any], name: str, variant: str) -> None:
    arm = Arm(model="m", **settings)
    assert arm.name == name
    assert arm.variant == variant


def test_arms_are_read() -> None:
    arms = read_arms(
        ["small", {"model": "small", "shots": 2}, {"model": "large", "batch": 4}, {"model": "x", "max_tokens": 9}], max_tokens=50
    )
    assert [arm.name for arm in arms] == ["small", "small+2shot", "large*4", "x"]
    assert [arm.max_tokens for arm in arms] == [50, 50, 200, 9]
    assert read_arms(["a"])[0] == Arm(model="a")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("small", "there are no arms: expected a list of models"),
        ([], "there are no arms"),
        ([3], r"an arm cannot be read in arms\[0\]"),
        (["a", {"modle": "b"}], r"unknown key 'modle' in arms\[1\]: expected one of model, name,"),
        ([{"shots": 1}], "an arm names no model"),
        (["a", "a"], r"two arms are called 'a' in arms\[1\].*name:"),
        ([{"model": "a", "system": "x"}, "a"], "two arms are called 'a'"),
        ([{"model": " "}], "model does not fit"),
        ([{"model": None}], "model does not fit.*expected text, found None"),
        ([{"model": "a", "shots": -1}], "shots does not fit in arm 'a'"),
        ([{"model": "a", "shots": 1.0}], "shots does not fit"),
        ([{"model": "a", "batch": 0}], "batch does not fit"),
        ([{"model": "a", "batch": "4"}], "batch does not fit"),
        ([{"model": "a", "batch": True}], "batch does not fit"),
        ([{"model": "a", "max_tokens": 0}], "max_tokens does not fit"),
        ([{"model": "a", "temperature": -0.1}], "temperature does not fit"),
        ([{"model": "a", "temperature": float("nan")}], "temperature does not fit"),
        ([{"model": "a", "temperature": "hot"}], "temperature does not fit"),
        ([{"model": "a", "same_group": "yes"}], "same_group does not fit"),
        ([{"model": "a", "template": "Q: {question}"}], r"template does not fit.*\{query\} in it"),
        ([{"model": "a", "extra": {"temperature": 1}}], "extra does not fit.*none of model, messages, temperature"),
        ([{"model": "a", "extra": {"top_p": float("inf")}}], "extra does not fit.*JSON values"),
        ([{"model": "a", "extra": {"stop": {1, 2}}}], "extra does not fit.*JSON values"),
        ([{"model": "a", "extra": ["top_p"]}], "extra does not fit.*by name"),
    ],
)
def test_impossible_arms_are_refused(value: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_arms(value)


def test_a_plain_arm_sends_the_query_alone() -> None:
    assert made(Arm(model="m"), ["What?", "{query} {0} {"]) == [
        Prompt((("user", "What?"),), (0,)),
        Prompt((("user", "{query} {0} {"),), (1,)),
    ]
    assert made(Arm(model="m"), []) == []


def test_template_and_system() -> None:
    arm = Arm(model="m", system="Be {brief}.", template='Reply as {"answer": ...}: {query} \\boxed{x}')
    assert made(arm, ["a {query} b"])[0].messages == (
        ("system", "Be {brief}."),
        ("user", 'Reply as {"answer": ...}: a {query} b \\boxed{x}'),
    )


def test_a_batch_is_numbered_and_the_last_may_be_smaller() -> None:
    assert made(Arm(model="m", batch=2), ["a", "b", "c\nd", "e", "f"]) == [
        Prompt((("user", "1: a\n2: b"),), (0, 1)),
        Prompt((("user", "1: c\nd\n2: e"),), (2, 3)),
        Prompt((("user", "f"),), (4,)),
    ]
    assert made(Arm(model="m", batch=9, template="Answer all:\n{query}"), ["a", "b"])[0].messages == (("user", "Answer all:\n1: a\n2: b"),)


def test_examples_are_turns_the_same_in_every_call() -> None:
    first, second = made(Arm(model="m", shots=2, template="Q: {query}"), ["x", "y"])
    assert [role for role, _ in first.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert first.messages[:-1] == second.messages[:-1]
    for (_, query), (_, answer) in zip(first.messages[:-1:2], first.messages[1::2], strict=True):
        assert query.replace("Q: e", "a") == answer, "an example has another one's answer"
    assert first.messages[-1] == ("user", "Q: x")
    assert made(Arm(model="m", shots=2), ["x"]) == made(Arm(model="m", shots=2), ["x"])
    assert len({made(Arm(model="m", shots=2), ["x"], seed=seed)[0].messages for seed in range(9)}) > 1


def test_an_example_that_is_asked_gives_way_to_the_next() -> None:
    arm = Arm(model="m", shots=2)
    usual, third = ([content for _, content in made(replace, ["x"])[0].messages[:-1:2]] for replace in (arm, Arm(model="m", shots=3)))
    (prompt,) = made(arm, [f" {usual[0].upper()}\n"])
    assert [content for _, content in prompt.messages[:-1:2]] == [usual[1], third[2]]
    every = made(Arm(model="m", shots=3), [example.query for example in EXAMPLES])
    for prompt in every:
        assert prompt.messages[-1] not in prompt.messages[:-1]


def test_examples_of_the_same_group_come_first() -> None:
    arm = Arm(model="m", shots=5, same_group=True)
    (prompt,) = made(arm, ["x"], ["odd"])
    shown = [int(content[1:]) % 2 for _, content in prompt.messages[:-1:2]]
    assert shown == [1, 1, 1, 1, 0], "four odd examples there are, and one more is needed"
    (plain,) = made(Arm(model="m", shots=5), ["x"], ["odd"])
    assert [content for _, content in made(arm, ["x"], [""])[0].messages] == [content for _, content in plain.messages]


def test_few_shot_and_batch_show_batches() -> None:
    arm = Arm(model="m", shots=2, batch=2)
    first, last = made(arm, ["x", "y", "z"])
    for (_, query), (_, answer) in zip(first.messages[:-1:2], first.messages[1::2], strict=True):
        assert re.fullmatch(r"1: e\d\n2: e\d", query)
        assert query.replace("e", "a") == answer
    assert len(set(re.findall(r"e\d", str(first.messages)))) == 4
    assert [content for _, content in last.messages[-1:]] == ["z"]
    assert re.fullmatch(r"e\d", last.messages[0][1]), "one query alone is shown examples alone"


@pytest.mark.parametrize(
    ("arm", "examples", "texts"),
    [
        (Arm(model="m", shots=3), EXAMPLES[:2], ["x"]),
        (Arm(model="m", shots=1), [], ["x"]),
        (Arm(model="m", shots=2), [EXAMPLES[0], Example(" E0", "another")], ["x"]),
        (Arm(model="m", shots=2, batch=2), EXAMPLES[:3], ["x", "y"]),
        (Arm(model="m", shots=2), EXAMPLES[:2], ["e1"]),
    ],
)
def test_too_few_examples_are_told(arm: Arm, examples: list[Example], texts: list[str]) -> None:
    with pytest.raises(InputError, match=r"too few examples to show in arm 'm.*fewer shots"):
        made(arm, texts, examples=examples)


def test_too_few_examples_are_told_before_the_first_prompt() -> None:
    with pytest.raises(InputError, match="too few"):
        prompts(Arm(model="m", shots=3), ["x"], [""], EXAMPLES[:2], rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="too few"):
        prompts(Arm(model="m", shots=2, batch=2), ["x", "y"], ["", ""], EXAMPLES[:3], rng=np.random.default_rng(0))


def test_of_two_examples_with_one_text_the_first_is_shown() -> None:
    (prompt,) = made(Arm(model="m", shots=1), ["x"], examples=[Example("e", "right"), Example(" E ", "wrong")])
    assert prompt.messages[:2] == (("user", "e"), ("assistant", "right"))


def test_numbered() -> None:
    assert numbered(["a", "b"]) == "1: a\n2: b"
    assert numbered(["a"]) == "a"


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("1: a\n2: b", ["a", "b"]),
        ("1. a\n2. b", ["a", "b"]),
        ("1) a\n2) b", ["a", "b"]),
        ("(1) a\n(2) b", ["a", "b"]),
        ("[1] a\n[2]: b", ["a", "b"]),
        ("**1.** a\n**2.** b", ["a", "b"]),
        ("**1: a**\n**2: b**", ["a", "b"]),
        ("1: **a**\n2: **b**", ["**a**", "**b**"]),
        ("1:**a**\n2:**b**", ["**a**", "**b**"]),
        ("Answer 1: a\nAnswer 2: b", ["a", "b"]),
        ("**Answer 1:** a\n\n**Answer 2:** b", ["a", "b"]),
        ("### 1. a\n### 2. b", ["a", "b"]),
        ("- 1: a\n- 2: b", ["a", "b"]),
        ("A1: a\nA2: b", ["a", "b"]),
        ("#1: a\n#2: b", ["a", "b"]),
        ("1:a\n2:b", ["a", "b"]),
        ("1:42\n2:17", ["42", "17"]),
        ("Here you are:\r\n\r\n1: a\r\n2: b\r\n", ["a", "b"]),
        ("1:\na\nmore\n\n2:\nb", ["a\nmore", "b"]),
        ("1: 3: 4\n2: 5. 6", ["3: 4", "5. 6"]),
        ("1: -3\n2: 1.5", ["-3", "1.5"]),
        ("1. a\n2: b", ["a", "b"]),
        ("2: b\n1: a", ["a", "b"]),
        ("2: b", [None, "b"]),
        ("1: a", ["a", None]),
        ("1:\n2: b", ["", "b"]),
        ("1: a\n2: b\n1: c\n2: d", ["a", "b"]),
        ("1: a\n1: c\n2: b", ["a\n1: c", "b"]),
        ("1: a\n2: b\n3: c", ["a", "b"]),
        ("1: a\n2: b\nRegards", ["a", "b\nRegards"]),
        ("1: first\n1. x\n2. y\n2: last", ["first\n1. x\n2. y", "last"]),
        ("1. first\n   1. x\n   2. y\n2. last", ["first\n   1. x\n   2. y", "last"]),
        ("1: 12:30\n2: at\n12:30", ["12:30", "at\n12:30"]),
        ("a\nb", [None, None]),
        ("1.5\n2.5", [None, None]),
        ("0: x\n3: y", [None, None]),
        ("", [None, None]),
    ],
)
def test_two_answers_are_split(text: str, answers: list[str | None]) -> None:
    assert split_answers(text, 2) == answers


def test_more_answers_are_split() -> None:
    assert split_answers("1: a\n3: 4\n2: b\n3: c", 3) == ["a\n3: 4", "b", "c"], "the longest rising run wins"
    assert split_answers("1: a\n2: b\n1: c", 3) == ["a", "b\n1: c", None], "a list that is not complete goes on"
    assert split_answers("1: a\n4: d\n2: b", 4) == ["a", "b", None, "d"]
    assert split_answers("3: c\n2: b\n1: a", 3) == ["a", "b", "c"]
    assert split_answers("\n".join(f"{i}: {i * i}" for i in range(1, 13)), 12) == [str(i * i) for i in range(1, 13)]


@pytest.mark.parametrize(
    ("text", "answer"), [("Paris", "Paris"), (" 1: a \n", "1: a"), ("1. x\n2. y", "1. x\n2. y"), ("", None), (" \n", None)]
)
def test_a_query_alone_has_the_whole_text(text: str, answer: str | None) -> None:
    assert split_answers(text, 1) == [answer]


def test_shares() -> None:
    assert shares({"input": 100, "output": 30}, 2) == [{"input": 50.0, "output": 15.0}] * 2
    assert shares({"input": 100, "output": 30}, 2, lengths=[1, 2]) == [{"input": 50.0, "output": 10.0}, {"input": 50.0, "output": 20.0}]
    assert shares({"input": 4, "output": 4}, 2, lengths=[0, 0]) == [{"input": 2.0, "output": 2.0}] * 2
    assert shares({"input": 7, "output": 0}, 1) == [{"input": 7.0, "output": 0.0}]
    assert shares(None, 3) == [{}, {}, {}]
