"""What every text grader keeps on any answer: a spelling is its own spelling, equal spellings earn equal grades, grades lie in [0, 1]."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.contracts import Grader
from routewright.data.graders.choice import Choice
from routewright.data.graders.exact import Exact
from routewright.data.graders.json_equal import JsonEqual
from routewright.data.graders.normalised import Normalised
from routewright.data.graders.number import Number
from routewright.data.graders.regex import Regex

GRADERS: dict[str, Grader] = {
    "exact": Exact(),
    "exact, not stripped": Exact(strip=False),
    "normalised": Normalised(),
    "normalised, stripped": Normalised(punctuation="strip", articles=True),
    "normalised, squad": Normalised(style="squad", punctuation="strip", articles=True, prefixes=False),
    "normalised, last line": Normalised(line="last", punctuation="keep"),
    "choice": Choice(),
    "number": Number(),
    "number, fractions": Number(percent="fraction", reader="conclusion"),
    "json": JsonEqual(),
    "json, any order": JsonEqual(any_order=True),
}
PIECES = (
    *(
        "The answer is ",
        "Answer: ",
        "answer",
        "is",
        "the ",
        "a ",
        "A",
        "b",
        "(B)",
        "C.",
        " and ",
        " or ",
        ", ",
        "no, ",
        "I ",
        "\\boxed{",
        "}",
        "{",
    ),
    *(
        "#### ",
        "1",
        "0.50",
        "1/2",
        "1,000",
        "-",
        "%",
        "e5",
        "$",
        "[",
        "]",
        '"',
        '"a": ',
        ":",
        "```json\n",
        "```\n",
        "```python\n",
        "true",
        "NaN",
        "1E+9",
    ),
    *(
        "\n",
        " ",
        "*",
        "**",
        "'",
        ".",
        "\u2019",
        "\u0301",
        "\uff21",
        "\u00df",
        "\u0130",
        "\ufb01",
        "\ud800",
        "\0",
        "\u202e",
        "\uff9e",
        "|",
        "#",
        "\\",
        "\r",
    ),
)
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.text(max_size=30))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(answer=TEXTS)
@pytest.mark.parametrize("name", GRADERS)
def test_a_spelling_is_its_own_spelling(name: str, answer: str) -> None:
    grader = GRADERS[name]
    spelling = grader.extract(answer)
    assert spelling is None or (spelling and grader.extract(spelling) == spelling)


@given(first=TEXTS, second=TEXTS)
@pytest.mark.parametrize("name", [name for name in GRADERS if name not in ("number", "number, fractions")])
def test_an_answer_is_right_exactly_where_its_spelling_is_the_golds(name: str, first: str, second: str) -> None:
    grader = GRADERS[name]
    spelling = grader.extract(second)
    if spelling is None or (name.startswith("normalised") and "|" in spelling):
        return  # no gold, or several
    assert grader.grade(second, spelling) == 1
    assert grader.grade(first, spelling) == float(grader.extract(first) == spelling)


@given(value=st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=1000), factor=st.integers(1, 50))
def test_equal_fractions_have_one_spelling(value: Fraction, factor: int) -> None:
    grader, text = Number(absolute=0, relative=0), f"{abs(value.numerator)}/{value.denominator}"
    again = f"{abs(value.numerator) * factor}/{value.denominator * factor}"
    assert grader.extract(text) == grader.extract(again) is not None
    assert grader.grade(f"so {again}", text) == 1
    assert grader.grade(f"so {again}", f"{abs(value.numerator) + 1}/{value.denominator}") == 0


@given(value=st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4))
def test_a_decimal_is_read_whatever_stands_around_it(value: object) -> None:
    text = f"{value:f}"
    assert Number().extract(f"First 3, then 4.\n#### {text} apples") == Number().extract(text)
    assert Number().grade(f"The answer is {text}.", text) == 1


@given(value=JSON_VALUES, indent=st.sampled_from([None, 2]), ascii_only=st.booleans(), data=st.data())
def test_json_is_found_in_prose_however_it_is_written(value: object, indent: int | None, ascii_only: bool, data: st.DataObject) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    grader = JsonEqual()
    assert grader.grade(text, json.dumps(value)) == 1
    assert grader.grade(f"Here:\n```json\n{text}\n```\nas asked", text) == 1
    if isinstance(value, dict | list):
        assert grader.grade(f"It's this: {text}, as asked.", text) == 1
    if isinstance(value, dict) and value:
        keys = data.draw(st.permutations(list(value)))
        assert grader.grade(json.dumps({key: value[key] for key in keys}), text) == 1
    if isinstance(value, list):
        assert JsonEqual(any_order=True).grade(json.dumps(data.draw(st.permutations(value))), text) == 1


@given(
    letter=st.sampled_from("ABCDEFGHIJ"),
    before=st.sampled_from(["", "Vitamin C and hepatitis B matter. ", "(A) is wrong.\n", "Let E = 5. "]),
)
@pytest.mark.parametrize(
    "frame", ["The answer is ({}).", "Answer: {}", "**Final answer:** {}.", r"\boxed{{{}}}", "I choose {}.", "{} is correct.", "\n({})"]
)
def test_a_stated_letter_is_read_whatever_stands_before(frame: str, letter: str, before: str) -> None:
    assert Choice().extract(before + frame.format(letter)) == letter


@given(answer=TEXTS, gold=st.sampled_from(["B", "1", "paris"]))
def test_a_match_earns_the_grade(answer: str, gold: str) -> None:
    grader = Regex(pattern=r"\w+", timeout_s=5)
    assert grader.grade(answer, gold) == float(grader.extract(answer) == gold)
    assert Regex(pattern=r"\w+", needs_gold=False).grade(answer, "") == float(grader.extract(answer) is not None)
