"""The text graders on answers written by hand, many of them to mislead or to slow; every expected value was read by a person."""

from __future__ import annotations

import time
from typing import Any

import pytest

from routewright.core.types import InputError
from routewright.data.graders._text import READ_CHARS, fenced_blocks, nfkc
from routewright.data.graders.choice import Choice
from routewright.data.graders.exact import Exact
from routewright.data.graders.json_equal import DEEPEST, JsonEqual
from routewright.data.graders.normalised import Normalised
from routewright.data.graders.number import Number
from routewright.data.graders.regex import Regex

CHOICE = [
    # letters alone, and options in full
    *[
        (text, "B")
        for text in ("(B)", "B.", "B", "b", "(b).", "B)", "**B**", "\uff22", "[B]", "Option B", "B) Paris", "(B) Paris", "B. Paris")
    ],
    *[("A", "A"), ("A.", "A"), ("I", "I"), ("A: 5 cm", "A"), ("\n\n J \n", "J")],
    # statements
    *[("Answer: B", "B"), ("answer: b", "B"), ("The correct answer is option **C**", "C"), ("**Answer:** (E)", "E")],
    *[
        ("**Final Answer**\n\nB", "B"),
        ("Answer:\n\n**J**", "J"),
        ("The answer is\nB", "B"),
        ("<answer>B</answer>", "B"),
        ('{"answer": "B"}', "B"),
    ],
    *[(r"\boxed{D}", "D"), (r"$\boxed{\text{D}}$", "D"), (r"\boxed{\textbf{(D)}}.", "D"), (r"\[\boxed{\mathrm{D}}\]", "D")],
    *[("The answer is \uff08\uff23\uff09\u3002", "C"), ("The answer is B: Paris", "B"), ("answer is A) 5", "A"), ("the answer is a.", "A")],
    *[("The answer to the question above is therefore (F).", "F"), ("The best answer is: D) all of the above", "D")],
    *[("Therefore, the correct option is: C", "C"), ("C is the correct answer.", "C"), ("Option C is correct; A is wrong.", "C")],
    *[("I'd go with B", "B"), ("I choose option B.", "B"), ("My choice: G", "G"), ("So it must be (H)", "H"), ("ans: B", "B")],
    *[("The answer is A because it fits, not B", "A"), ("The answer is A, because B is wrong.", "A"), ("The answer is **B**, not A", "B")],
    *[
        ("The answer is I.", "I"),
        ("I think the answer is I", "I"),
        ("The answer is (i)", "I"),
        ("Vitamin C is needed. The answer is D", "D"),
    ],
    # the last statement counts, and it alone
    *[("I think A... no, B", "B"), ("The answer is (A). Wait, actually the answer is (B).", "B"), ("The answer is not A but B", "B")],
    ("Wait, I made an error. The answer is C. Actually I am sure.", "C"),
    ("A is true. B is false. C is false.\n\nB", "B"),
    ("(A) and (B) are both possible but (B) is right", "B"),
    ("The answer is (B).\n\nQuestion: next?\nAnswer: (C)", "B"),
    ("Sure!\nQuestion: which?\nAnswer: (C)", "C"),
    # several letters are no answer
    *[
        (text, None)
        for text in ("A and B", "A or B", "A, B", "A&B", "The answer is A and B.", "The answer is (A) or (C).", "The answer is A/B")
    ],
    *[("Both A and C are correct.", None), ("The answer is (E), (F), and (H).", None), (r"\boxed{A, B}", None), ("Answer: A, B", None)],
    # words, units and names are no letters
    *[("A car is a vehicle.", None), ("I am not sure", None), ("I found nothing", None), ("the answer is a function of time", None)],
    *[("E = mc^2", None), ("F(x) = 3", None), ("4NO(g) of 5 units", None), ("Actually, A triangle has three sides.", None), ("AB", None)],
    *[
        ("Wait, I made an error there.", None),
        ("It is the second option", None),
        ("The answer is K.", None),
        ("", None),
        ("in C++ or C#", None),
    ],
]


@pytest.mark.parametrize(("answer", "letter"), CHOICE)
def test_choice_reads_the_stated_letter(answer: str, letter: str | None) -> None:
    assert Choice().extract(answer) == letter
    assert Choice().grade(answer, letter or "A") == (letter is not None)


def test_choice_settings_and_golds() -> None:
    assert Choice(letters="ABCD").extract("The answer is E.") is None
    assert Choice(letters="ABCDEFGHIJK").extract("The answer is K.") == "K"
    assert Choice().extract("Rather not: see (B) there") == "B"
    assert Choice(unmarked=False).extract("Rather not: see (B) there") is None
    for gold in ("B", "b", "(B)", "B.", "\uff22", " B) "):
        assert Choice().grade("(B)", gold) == 1
    for gold in ("", "K", "AB", "1", "Paris"):
        with pytest.raises(InputError, match="no letter of an option"):
            Choice().grade("B", gold)
    for letters in ("", "abc", "A-C", "\u00c4"):
        with pytest.raises(InputError, match="letters of the options are impossible"):
            Choice(letters=letters).extract("B")


NORMALISED = [
    *[
        (text, "paris")
        for text in (
            "Paris",
            " PARIS \n",
            "\uff30aris",
            "**Paris**",
            "'Paris.'",
            "\u201cParis\u201d,",
            "Paris:",
            "PARIS;",
        )
    ],
    *[
        (text, "paris")
        for text in ("Answer: Paris.", "**Answer:** Paris", "**Answer**: Paris", "The answer is Paris", "the final answer is: 'Paris'")
    ],
    *[
        ("So, the answer is Paris", "paris"),
        ("answer: the answer is Paris", "paris"),
        ("# Answer:\n\nParis", "paris"),
        ("My answer would be Paris", "paris"),
    ],
    *[
        ("STRASSE", "strasse"),
        ("Stra\u00dfe", "strasse"),
        ("e\u0301", "\u00e9"),
        ("\ufb01n", "fin"),
        ("\u0130", "i\u0307"),
        ("two\u00a0 \twords", "two words"),
    ],
    *[
        ("-5.", "-5"),
        (".5", ".5"),
        ("$5", "$5"),
        ("f(x)", "f(x)"),
        ("C++", "c++"),
        ("answer key", "answer key"),
        ("The Hague", "the hague"),
    ],
    *[("", None), (" \n", None), ("**", None), ("Answer:", None), ("\ud800", "\ud800"), ("a\0b", "a\0b"), ("\u202eabc", "\u202eabc")],
]


@pytest.mark.parametrize(("answer", "spelling"), NORMALISED)
def test_normalised_spells_alike_what_means_the_same(answer: str, spelling: str | None) -> None:
    assert Normalised().extract(answer) == spelling


def test_normalised_settings_and_golds() -> None:
    assert Normalised().grade("the answer is NYC", "New York|NYC") == 1
    assert Normalised().grade("New York|NYC", "New York|NYC") == 0, "an answer has no alternatives"
    assert Normalised(separator="").grade("a|b", "A|B") == 1
    assert Normalised(separator=" OR ").grade("b", "A OR B") == 1
    assert Normalised(articles=True).grade("Hague", "The Hague") == 1
    assert Normalised(punctuation="strip").grade("dont", "Don't!") == 1
    assert Normalised(punctuation="keep").grade("Paris.", "Paris") == 0
    assert Normalised(prefixes=False).grade("Answer: Paris", "Paris") == 0
    assert Normalised(line="last").grade("Thinking.\n\nThe answer is Paris.\n", "paris") == 1
    for gold in ("", "Paris|", " | "):
        with pytest.raises(InputError, match="empty once normalised"):
            Normalised().grade("Paris", gold)
    for settings in ({"style": "x"}, {"punctuation": "some"}, {"line": "first"}):
        with pytest.raises(InputError, match=f"unknown {next(iter(settings))}"):
            Normalised(**settings).extract("x")  # type: ignore[arg-type]


def test_exact_is_equality() -> None:
    assert Exact().grade(" a\n", "a") == 1
    assert Exact(strip=False).grade(" a", "a") == 0
    assert Exact().grade("A", "a") == 0
    assert Exact().extract(" ") is None
    assert Exact(strip=False).extract(" ") == " "
    with pytest.raises(InputError, match="gold answer is empty"):
        Exact().grade("a", " ")


NUMBER = [
    *[(text, "0.5") for text in ("0.5", ".50", "1/2", "50/100", r"\frac{1}{2}", "#### 0.500", r"The answer is \boxed{5e-1}", "5/10 of it")],
    *[
        ("1,000", "1000"),
        ("1000.00", "1000"),
        ("1e3", "1000"),
        ("$1,000.00", "1000"),
        ("1E+3", "1000"),
        ("-0", "0"),
        ("\N{MINUS SIGN}2.50", "-2.5"),
    ],
    *[("1/3", "0.3333333333333333333333333333"), ("2/6", "0.3333333333333333333333333333"), ("25%", "25"), ("1 1/2", "1.5")],
    *[
        ("7" * 2000, None),
        ("0." + "0" * 1200 + "1", None),
        ("10^9999", "9999"),
        ("1e99", "1" + "0" * 99),
        ("none", None),
        ("1/0", None),
    ],
]


@pytest.mark.parametrize(("answer", "spelling"), NUMBER)
def test_number_spells_alike_what_is_equal(answer: str, spelling: str | None) -> None:
    assert Number().extract(answer) == spelling


def test_number_settings_and_golds() -> None:
    assert Number().grade("about 9" + "9" * 998, "9" * 999) == 1, "999 digits are still read"
    assert Number().grade("0.3333333", "1/3") == 1
    assert Number().grade("3.14", "3.14159") == 0
    assert Number(absolute=0.01).grade("3.14", "3.14159") == 1
    assert Number(relative=0.01).grade("3140", "3141.59") == 1
    assert Number(absolute=0, relative=0).grade("0.3333333", "1/3") == 0
    assert Number(percent="fraction").grade("12.5%", "0.125") == 1
    assert Number(percent="fraction").extract(r"it grew by 1,250\%") == "12.5"
    assert Number(percent="fraction").extract("1/2%") == "0.5", "a fraction of a percent is read without its sign"
    conclusion = "She sold 16 for 4 each: 16 * 4 = 64. Sandy makes $64 from 16 glasses"
    assert (Number().extract(conclusion), Number(reader="conclusion").extract(conclusion)) == ("16", "64")
    for gold in ("", "none", "7" * 2000):
        with pytest.raises(InputError, match="holds no number"):
            Number().grade("1", gold)
    with pytest.raises(InputError, match="tolerance is impossible"):
        Number(absolute=float("nan")).grade("1", "1")
    with pytest.raises(InputError, match="unknown reader"):
        Number(reader="first").extract("1")
    with pytest.raises(InputError, match="unknown reading of percentages"):
        Number(percent="keep").extract("1")


def test_number_range_is_a_verifier() -> None:
    grader = Number(needs_gold=False, low=0, high=0.3)
    assert [grader.grade(text, "") for text in ("0", "0.3", "0.30001", "-1", "none", "7" * 3000)] == [1, 1, 0, 0, 0, 0]
    assert Number(needs_gold=False, low=5).grade("1e50", "") == 1
    with pytest.raises(InputError, match="nothing to compare with"):
        Number(needs_gold=False).grade("1", "")


def test_regex_compares_a_group_or_finds_one() -> None:
    grader = Regex(pattern=r"####\s*(?P<value>\S+)", group="value")
    assert grader.extract("#### 4\n#### 5 ") == "5"
    assert Regex(pattern=r"####\s*(\S+)", group=1, take="first").extract("#### 4\n#### 5") == "4"
    assert grader.grade("#### 5", " 5 ") == 1
    assert grader.grade("5", "5") == 0
    assert Regex(pattern="yes", flags="i").grade("YES", "YES") == 1
    assert Regex(pattern="(a)|b", group=1).extract("b") is None, "the group took no part"
    verifier = Regex(pattern=r"^\d+$", flags="m", needs_gold=False)
    assert (verifier.grade("x\n12\ny", ""), verifier.grade("x12", "")) == (1, 0)
    with pytest.raises(InputError, match="gold answer is empty"):
        grader.grade("#### 5", "")


@pytest.mark.parametrize(
    "settings", [{"pattern": "("}, {"pattern": "a", "group": 1}, {"pattern": "a", "group": "x"}, {"pattern": "(?P<1>a)"}]
)
def test_regex_refuses_unusable_patterns(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"a pattern (does not compile|has no such group)"):
        Regex(**settings).extract("a")


def test_regex_refuses_unknown_settings() -> None:
    for settings in ({"flags": "q"}, {"take": "all"}):
        with pytest.raises(InputError, match="unknown setting"):
            Regex(pattern="a", **settings).extract("a")  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(?:a|aa)+$", r"(.*)*x\1y"])
def test_regex_gives_up_in_time(pattern: str) -> None:
    started = time.monotonic()
    assert Regex(pattern=pattern, timeout_s=0.3).extract("a" * 50_000 + "c") is None
    assert time.monotonic() - started < 3


JSON = [
    ('{"b":1,"a":[1.0,2e0]}', '{"a":[1,2],"b":1}'),
    ('Sure:\n```json\n{"a": 1}\n```\nDone [1].', '{"a":1}'),
    ("```\n[1]\n```\n```text\nno\n```", "[1]"),
    ('The set [see {"a": 1}] is', '{"a":1}'),
    ('He said "x. {"a": "}"} and [1,2]', "[1,2]"),
    ('unclosed " [1] {"a": "un\nclosed"} [3] ]', "[3]"),
    ('x {"a": {"b": [1]}} y', '{"a":{"b":[1]}}'),
    ("x {a: [1, 2]}", "[1,2]"),
    ("42", "42"),
    (' "x" ', '"x"'),
    ("null", "null"),
    ("say 42", None),
    ("-0.0", "0"),
    ("[1e400, 1e-400, 0.10, 120, -1200e-2]", "[1E+400,1E-400,0.1,120,-12]"),
    (f"[{10**31}, {10**30}, 1e-31]", f"[1E+31,{10**30},0.{'0' * 30}1]"),
    ("1e99999999999999999999", None),
    ("[NaN]", None),
    ("[Infinity]", None),
    ('{"a": 1, "a": 1}', None),
    ('{"x": {"a": 1, "a": 2}} or [7]', "[7]"),
    ('"\\ud800"', '"\\ud800"'),
    ("[1, 2", None),
    ("}{", None),
    ("", None),
    ("[" * DEEPEST + "]" * DEEPEST, "[" * DEEPEST + "]" * DEEPEST),
    ("x" + "[" * 101 + "]" * 101, "[" * DEEPEST + "]" * DEEPEST),
]


@pytest.mark.parametrize(("answer", "spelling"), JSON)
def test_json_reads_the_last_value(answer: str, spelling: str | None) -> None:
    assert JsonEqual().extract(answer) == spelling


def test_json_settings_and_golds() -> None:
    assert JsonEqual().grade('{"b": 2.0, "a": 1}', '{"a": 1, "b": 2}') == 1
    assert JsonEqual().grade("[1, true]", "[1, 1]") == 0, "true is no number"
    assert JsonEqual().grade('["1"]', "[1]") == 0
    assert JsonEqual().grade("[2, 1]", "[1, 2]") == 0
    assert JsonEqual(any_order=True).grade('[{"a": [2, 1]}, 1, 1]', '[1, {"a": [1, 2]}, 1]') == 1
    assert JsonEqual(any_order=True).grade("[1, 1, 2]", "[1, 2, 2]") == 0
    assert JsonEqual(ignore=["id"]).grade('{"a": {"id": 1, "b": 2}}', '{"id": 0, "a": {"b": 2}}') == 1
    assert JsonEqual(partial=True).grade('{"a": 1, "b": 3}', '{"a": 1, "b": 2}') == 0.5
    assert JsonEqual(partial=True).grade('{"a": 1, "b": 2, "c": 3, "d": 4}', '{"a": 1, "b": 2}') == 0.5, "more keys are no better"
    assert JsonEqual(partial=True).grade("{}", "{}") == 1
    assert JsonEqual(partial=True, ignore=["b"]).grade('{"a": 1, "b": 3}', '{"a": 1, "b": 2}') == 1
    assert JsonEqual().grade("{", "null") == 0
    assert JsonEqual().grade("null", "null") == 1
    for gold in ("", "{", "NaN", '{"a": 1, "a": 1}', "text {}", "[" * 101 + "]" * 101):
        with pytest.raises(InputError, match="gold answer is not JSON"):
            JsonEqual().grade("{}", gold)


def test_json_validity_is_a_verifier() -> None:
    grader = JsonEqual(needs_gold=False, needs_keys=["name"])
    assert [grader.grade(text, "") for text in ('x {"name": 1}', '{"nome": 1}', "[]", "{", "")] == [1, 0, 0, 0, 0]
    assert JsonEqual(needs_gold=False).grade("[]", "") == 1


def test_fences_follow_commonmark() -> None:
    assert fenced_blocks("```py\na\n```\nx\n~~~~\n```\n~~~\n~~~~\n  ```JSON x\nb") == [("py", "a\n"), ("", "```\n~~~\n"), ("json", "b")]
    assert fenced_blocks("a ```b``` c\n```inline```") == []
    assert fenced_blocks("```") == [("", "")]


def test_normalisation_is_that_of_unicode_but_for_absurd_runs_of_marks() -> None:
    assert nfkc("\uff21\u00a0e\u0301\ufb01\u2460") == "A \u00e9fi1"
    run = "a" + "\u0301\u0323" * 15
    assert nfkc(run) == nfkc(run + "\u0301\u0323" * 10**6)


SLOW = {
    "newlines": lambda n: "x" + "\n" * (min(n, READ_CHARS) - 2) + "y",
    "marks": lambda n: "a" + "\u0301\u0323" * (n // 2),
    "voiced marks": lambda n: "a" + "\uff9e\u0301" * (n // 2),
    "numbers": lambda n: "1 " * (n // 2),
    "thousands": lambda n: "1,000," * (n // 6),
    "digits": lambda n: "7" * n,
    "percents": lambda n: "1,2.3%" * (n // 6),
    "fractions": lambda n: r"\frac{1" * (n // 7),
    "boxes": lambda n: r"\boxed{" * (n // 7),
    "a box of braces": lambda n: r"\boxed{" + "{}" * (n // 2),
    "prefixes": lambda n: "the answer is " * (n // 14),
    "questions": lambda n: "\nQuestion " * (n // 10),
    "answers to": lambda n: "answer to " * (n // 10),
    "letters": lambda n: "A, " * (n // 3),
    "letters and": lambda n: "A and " * (n // 6),
    "bracketed": lambda n: "(A) " * (n // 4),
    "corrections": lambda n: "no, " * (n // 4),
    "spaces": lambda n: "I" + " " * (n - 2) + "x",
    "brackets": lambda n: "[" * n,
    "balanced": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "balanced rubbish": lambda n: ("[" * 99 + "x" + "]" * 99) * (n // 199),
    "objects": lambda n: '{"a":' * (n // 5),
    "quotes": lambda n: '["' * (n // 2),
    "backslashes": lambda n: '["' + "\\" * n,
    "fences": lambda n: "```\n" * (n // 4),
    "hashes": lambda n: "#### " * (n // 5),
    "surrogates": lambda n: "\ud800" * n,
    "zeros": lambda n: "\0" * n,
    "wide letters": lambda n: "\uff21" * n,
    "ligatures": lambda n: "\ufdfa" * (n // 18),  # each becomes 18 letters
}


@pytest.mark.parametrize("size", [500_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("bait", SLOW)
def test_no_answer_takes_long(bait: str, size: int) -> None:
    """Ten megabytes take two seconds on a quiet core; what grew faster than the text would take hours, so the limit may be wide."""
    text = SLOW[bait](size)
    for grader in (Exact(), Normalised(), Normalised(style="squad", punctuation="strip", articles=True), Choice(), JsonEqual()):
        _within(grader, text, 15)
    _within(Number(percent="fraction", reader="conclusion"), text, 15)
    _within(Regex(pattern=r"####[^\S\n]*(\S[^\n]*)", group=1), text, 15)


def _within(grader: Any, text: str, seconds: float) -> None:
    started = time.process_time()
    grader.extract(text)
    took = time.process_time() - started
    assert took < seconds, f"{type(grader).__name__} took {took:.1f} s"
