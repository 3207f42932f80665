"""The number grader on answers written to mislead it; every expected value was read by a person."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.types import InputError
from routewright.data.grading import final_number, numbers_equal

READ = [
    # marks win over what follows or precedes them
    ("3 + 4 = 7\n#### 7\n(Note: there were 12 at first)", "7"),
    ("#### 5 is wrong, so\n#### 6", "6"),
    ("so 8.\n#### \n", "8"),
    ("#### Jackson is 4 years old.", "4"),
    ("#### 90 minutes or 1 hour and 30 minutes", "90"),
    ("#### 7 packs and 2 extra glue sticks", "7"),
    ("#### (520 * 450) / 468 = 500 (rounded)", "500"),
    ("#### 24 2/3", "24.66666667"),
    (r"Thus \boxed{\frac{3}{4}} of 100", ".75"),
    (r"$\boxed{1{,}250}$ in 3 years", "1250"),
    ("The answer is 5 * 3 = 15. It took 2 steps", "15"),
    ("**Answer:** 42 out of 100", "42"),
    ("The answer is negative: -15", "-15"),
    # invented next questions are not ours
    ("#### 2\n\nQ: How many eggs?\nA: #### 9", "2"),
    ("It is 2.\nQuestion 2: how many of the 9?", "2"),
    # forms of numbers
    ("She pays $20.00.", "20"),
    ("$1,234.50!", "1234.5"),
    ("1\u202f000 dollars", "1000"),
    ("a loss of -$5", "-5"),
    ("a loss of $-5", "-5"),
    ("it is \N{MINUS SIGN}3 degrees", "-3"),
    ("16-3", "3"),
    ("10\N{EN DASH}20", "20"),
    ("(8)-2", "2"),
    ("25%", "25"),
    (r"50\%", "50"),
    ("**18**.", "18"),
    ("1/2 and .5", ".5"),
    ("half, 3/4", ".75"),
    ("4, not 3/0", "4"),
    ("1.5e3 m", "1500"),
    ("<<9*2=18>>18", "18"),
    ("5 of model x2", "5"),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_reads_the_final_number(text: str, expected: str) -> None:
    found = final_number(text)
    assert found is not None
    assert abs(found - Decimal(expected)) < Decimal("1e-6")


@pytest.mark.parametrize("text", ["", "  \n", "no number", "####", "3/0", "x2", "____", "\N{SUPERSCRIPT TWO}", "__import__('os')"])
def test_no_number_is_none(text: str) -> None:
    assert final_number(text) is None
    assert not numbers_equal(text, "#### 1")


def test_a_closing_sentence_that_repeats_the_question_is_read_by_its_calculation() -> None:
    text = "The total is $40 + $24 = $64.\n\nKylar needs to pay $64 for the 16 glasses."
    assert final_number(text) == 16
    assert final_number(text, reader="conclusion") == 64
    # a result that the closing sentence does not repeat was only a step on the way
    assert final_number("10 - 8 = 2 remain. So 5 boxes are enough.", reader="conclusion") == 5
    assert final_number("2 + 2 = 4\n#### 5", reader="conclusion") == 5
    assert final_number("It is 7", reader="conclusion") == 7


def test_comparison_is_exact_but_for_rounding_of_fractions() -> None:
    assert numbers_equal("#### $20.00", "# 20")
    assert numbers_equal("#### 1450000", "# 1,450,000")
    assert numbers_equal("#### 1/3", "0.33333333")
    assert not numbers_equal("#### 20.01", "20")
    assert not numbers_equal("#### -54", "54")
    assert not numbers_equal("#### 25%", "0.25")


def test_bad_gold_and_unknown_readers_are_refused() -> None:
    with pytest.raises(InputError, match="gold answer holds no number"):
        numbers_equal("5", "five")
    with pytest.raises(InputError, match="last_number, conclusion"):
        final_number("5", reader="first")


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=2), st.sampled_from(["{}", "${:,}", "#### {:,} apples", "so it is {}."]))
def test_any_formatted_number_comes_back(value: Decimal, form: str) -> None:
    text = form.format(value)
    # "$-5" and "-$5" are both written; format gives the first
    assert final_number(text) == value
    assert final_number(text.replace("-", "\N{MINUS SIGN}")) == value


@given(st.text(max_size=300))
def test_never_raises_on_any_text(text: str) -> None:
    for reader in ("last_number", "conclusion"):
        found = final_number(text, reader=reader)
        assert found is None or found.is_finite()
