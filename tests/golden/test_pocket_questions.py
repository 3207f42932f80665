"""The pocket questions: every answer worked out again from the text alone, the split, and what is committed against what the seed makes."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routewright.core.text import normalise
from routewright.core.types import InputError
from routewright.data.pocket import build, families, questions, world
from routewright.data.pocket.questions import FAMILIES, Question, stream
from routewright.data.pocket.wordings import WORDINGS

LENGTH_OF_MONTH = {
    "January": 31, "February": 28, "March": 31, "April": 30, "May": 31, "June": 30, "July": 31, "August": 31, "September": 30,
    "October": 31, "November": 30, "December": 31,
}  # fmt: skip
WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
# in hundredths of a millimetre, a gram, a second
UNIT = {
    "mm": 100, "cm": 1_000, "m": 100_000, "km": 100_000_000, "g": 1, "kg": 1000, "inches": 1, "feet": 12, "yards": 36,
    "seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800,
}  # fmt: skip
FACT_WORDS = ("capital", "main river", "founder", "national flower", "flag color")
DOWN = ("descending", "decreasing", "largest first", "starting with the largest", "from largest", "highest to lowest")


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?", text)]


def capitals(text: str) -> list[str]:
    return re.findall(r"\b[A-Z]+\b", text)


def shown(value: float) -> str:
    return f"{round(value, 6):g}" if value < 1e6 else str(round(value))


def arithmetic(text: str) -> str:
    a, b = numbers(text)
    less = re.search(r"minus|Subtract|take| - ", text)
    return shown(abs(a - b) if less else a + b)  # the larger is always the one taken from


def product(text: str) -> str:
    a, b = numbers(text)
    return shown(a * b)


def comparison(text: str) -> str:
    return shown((min if re.search(r"small|less|lowest", text) else max)(numbers(text)))


def sorting(text: str) -> str:
    values = sorted(numbers(text))
    return ", ".join(shown(value) for value in (values[::-1] if any(word in text for word in DOWN) else values))


def units(text: str) -> str:
    amount, mine = re.findall(r"(\d+(?:\.\d+)?) ([a-z]+)", text)[0]
    (other,) = set(re.findall("|".join(rf"\b{unit}\b" for unit in UNIT), text)) - {mine}
    return shown(float(amount) * UNIT[mine] / UNIT[other])


def sequences(text: str) -> str:
    a, b, c, d = numbers(text)
    if b - a == c - b == d - c:
        return shown(d + b - a)
    return shown(c + d if c == a + b and d == b + c else d * d / c)


def dates(text: str) -> str:
    (month, day), count = re.findall(rf"({'|'.join(LENGTH_OF_MONTH)}) (\d+)", text)[0], re.findall(r"(\d+) days?\b", text)[0]
    back = re.search(r"before|earlier|ago|Subtract|back", text)
    place, months = int(day) + (-int(count) if back else int(count)), list(LENGTH_OF_MONTH)
    at = months.index(month)
    while place < 1:
        at -= 1
        place += LENGTH_OF_MONTH[months[at]]
    while place > LENGTH_OF_MONTH[months[at % 12]]:
        place -= LENGTH_OF_MONTH[months[at % 12]]
        at += 1
    return f"{months[at % 12]} {place}"


def weekdays(text: str) -> str:
    (today,) = (at for at, day in enumerate(WEEK) if day in text)
    back = re.search(r"before|earlier|ago|minus|back", text)
    return WEEK[(today + int(numbers(text)[0]) * (-1 if back else 1)) % 7]


def roman(text: str) -> str:
    if numbers(text):
        ones, tens = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"], dict(zip("IVX", "XLC", strict=True))
        hundreds = dict(zip("IVX", "CDM", strict=True))
        digits = f"{int(numbers(text)[0]):03d}"
        parts = (ones[int(digits[0])], ones[int(digits[1])], ones[int(digits[2])])
        return "".join(hundreds[c] for c in parts[0]) + "".join(tens[c] for c in parts[1]) + parts[2]
    letters = [dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1000), strict=True))[c] for c in capitals(text)[0]]
    return str(sum(-value if any(later > value for later in letters[i + 1 : i + 2]) else value for i, value in enumerate(letters)))


def counting(text: str) -> str:
    word, letter = sorted(capitals(text), key=len, reverse=True)
    return str(sum(mark == letter for mark in word))


def reversal(text: str) -> str:
    (word,) = capitals(text)
    return "".join(reversed(word))


def editing(text: str) -> str:
    found = capitals(text)
    word = max(found, key=len)
    found.remove(word)
    if re.search(r"\bput\b|in place of", text):  # these name the new letter first
        found.reverse()
    old, new = [*found, ""][:2]
    return "".join(new if mark == old else mark for mark in word)


def sets(text: str) -> str:
    one, two = (found.split(",") for found in re.findall(r"[A-Z](?:,[A-Z])+", text))
    if re.search(r"union|either| or |Merge|Combine", text):
        chosen = [*one, *(mark for mark in two if mark not in one)]
    elif re.search(r"intersection|both|share|common", text):
        chosen = [mark for mark in one if mark in two]
    else:
        chosen = [mark for mark in one if mark not in two]
    return ",".join(sorted(chosen)) or "none"


def order(text: str) -> str:
    said = re.findall(r"([A-Z][a-z]+) is (taller|shorter) than ([A-Z][a-z]+)", text)
    pairs = [(a, b) if word == "taller" else (b, a) for a, word, b in said]
    least = re.search(r"shortest", text)
    (who,) = {pair[1 if least else 0] for pair in pairs} - {pair[0 if least else 1] for pair in pairs}
    return who


def facts(text: str) -> str:
    (relation,) = (at for at, word in enumerate(FACT_WORDS) if word in text)
    (values,) = (values for country, values in world.facts() if re.search(rf"\b{country}\b", text))
    return values[relation]


SOLVE = {
    "arithmetic": arithmetic, "multiplication": product, "comparison": comparison, "sorting": sorting, "units": units,
    "currency": product, "sequences": sequences, "dates": dates, "weekdays": weekdays, "roman": roman, "counting": counting,
    "reversal": reversal, "editing": editing, "sets": sets, "order": order, "facts": facts,
}  # fmt: skip

# read by a person; they hold the solvers above to account
BY_HAND = [
    ("arithmetic", "What is 17 plus 25?", "42"),
    ("arithmetic", "Subtract 9 from 103.", "94"),
    ("arithmetic", "Calculate 300 - 300.", "0"),
    ("multiplication", "There are 12 boxes with 7 pens in each. How many pens are there?", "84"),
    ("multiplication", "9 x 61 = ?", "549"),
    ("comparison", "Which is larger: 3.7 or 3.65?", "3.7"),
    ("comparison", "Pick the lowest value: 40 or 39.08 or 39.1.", "39.08"),
    ("sorting", "Put 31, 4, 100 in order, largest first.", "100, 31, 4"),
    ("sorting", "Arrange 31, 4, 100 from smallest to largest.", "4, 31, 100"),
    ("units", "How many minutes are there in 3 hours?", "180"),
    ("units", "Express 2.4 km in m.", "2400"),
    ("units", "What is 84 inches in feet?", "7"),
    ("currency", "Exchange 12 florins at 2.5 pesos each.", "30"),
    ("currency", "If the rate is 4 rupees, how much do 9 ducats bring?", "36"),
    ("sequences", "What comes next: 2, 6, 18, 54?", "162"),
    ("sequences", "What comes next: 3, 4, 7, 11?", "18"),
    ("sequences", "Which number follows 21, 16, 11, 6?", "1"),
    ("dates", "Add 10 days to December 28.", "January 7"),
    ("dates", "If it is May 1, what is the date 1 day ago?", "April 30"),
    ("dates", "What is the date 30 days after August 31?", "September 30"),
    ("weekdays", "Tuesday minus 3 days is which weekday?", "Saturday"),
    ("weekdays", "Which weekday is 16 days after Sunday?", "Tuesday"),
    ("roman", "Write 494 in Roman numerals.", "CDXCIV"),
    ("roman", "Turn CXLIX into an ordinary number.", "149"),
    ("counting", "How often does A appear in BANANA?", "3"),
    ("counting", "In XYX, how many letters are Z?", "0"),
    ("reversal", "Reverse the string ABCDE.", "EDCBA"),
    ("editing", "Remove every N from BANANA.", "BAAA"),
    ("editing", "Take HELLO and put X for each L.", "HEXXO"),
    ("editing", "Replace every A with O in BANANA.", "BONONO"),
    ("sets", "What is the difference of A,C,F and C,B?", "A,F"),
    ("sets", "Which letters are in both Z,A and B,C?", "none"),
    ("sets", "Merge them: list A is Q,B, list B is B,A.", "A,B,Q"),
    ("order", "Ann is taller than Ben. Cara is shorter than Ben. Who is the tallest?", "Ann"),
    ("order", "Who is the shortest? Cara is shorter than Ben. Ann is taller than Ben.", "Cara"),
]  # fmt: skip


@pytest.fixture(scope="module")
def made() -> questions.Benchmark:
    return build.seeded()


@pytest.mark.parametrize(("family", "text", "answer"), BY_HAND)
def test_solvers_agree_with_a_person(family: str, text: str, answer: str) -> None:
    assert SOLVE[family](text) == answer


def test_every_answer_is_worked_out_again(made: questions.Benchmark) -> None:
    assert set(SOLVE) == {family.name for family in FAMILIES}
    wrong = [(row.text, row.answer) for row in made.questions if SOLVE[row.group](row.text) != row.answer]
    assert not wrong, wrong[:5]


def test_a_payload_is_worded_as_a_person_would() -> None:
    named = {family.name: family for family in FAMILIES}
    difference = families.Payload(1, {"a": "9", "b": "4"}, "5")
    assert named["arithmetic"].word(0, difference) == "What is 9 minus 4?"
    assert named["arithmetic"].word(3, difference) == "Subtract 4 from 9."
    swap = families.Payload(1, {"c": "A", "s": "BAR", "x": "O"}, "BOR")
    assert named["editing"].word(0, swap) == "Replace every A with O in BAR."
    assert swap.key != families.Payload(0, swap.fields, "BR").key


def test_loosened_wording_keeps_fields_and_what_tells_variants(rng: np.random.Generator) -> None:
    named = {family.name: family for family in FAMILIES}
    payload = families.Payload(1, {"a": "90", "b": "41"}, "49")
    worded = {named["arithmetic"].word(4, payload, rng) for _ in range(60)}
    assert len(worded) > 5
    assert all("take 41 away from 90" in text for text in worded)


def test_the_world_is_the_one_the_models_learnt() -> None:
    known = world.facts()
    assert len({country for country, _ in known}) == world.COUNTRIES == len(known)
    names = [value for _, values in known for value in values[:3]] + [country for country, _ in known]
    assert len(set(names)) == len(names)
    assert known[0] == WORLD_HEAD


WORLD_HEAD = ("Fofiland", ("Lazaton", "Vifin", "Nitox", "poppy", "green"))


def test_size_phrasings_and_shares(made: questions.Benchmark) -> None:
    assert len(FAMILIES) == 16
    assert len(made.questions) == len({row.id for row in made.questions}) == 9600
    assert all(len(set(family.phrasings)) == 8 for family in FAMILIES)
    for family in FAMILIES:
        rows = [row for row in made.questions if row.group == family.name]
        assert Counter(row.split for row in rows) == {"train": 420, "test": 180}
        assert {row.phrasing for row in rows} == set(range(8))


def check(rows: list[Question] | tuple[Question, ...]) -> None:
    texts = [normalise(row.text) for row in rows]
    assert len(set(texts)) == len(texts)
    sides: dict[tuple[str, int], set[str]] = defaultdict(set)
    for row in rows:
        sides[row.group, row.phrasing].add(row.split)
        assert 0 <= row.difficulty <= 1
        assert row.answer == " ".join(row.answer.split())
        assert 0 < len(row.answer) <= 30
        assert not set("<|>.?!") & set(row.answer.replace(".", "", 1 if re.fullmatch(r"\d+\.\d+", row.answer) else 0))
        assert row.answer == "none" or row.group in ("facts",) or row.answer[0].isupper() or row.answer[0].isdigit()
    assert all(len(split) == 1 for split in sides.values())


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), size=st.integers(4, 40))
def test_any_seed_makes_a_sound_benchmark(seed: int, size: int) -> None:
    rows = questions.questions(np.random.default_rng(seed), per_family=size)
    assert len(rows) == size * len(FAMILIES)
    check(rows)
    assert rows == questions.questions(np.random.default_rng(seed), per_family=size)
    assert rows != questions.questions(np.random.default_rng(seed + 1), per_family=size)


def test_the_committed_benchmark_is_sound(made: questions.Benchmark) -> None:
    check(made.questions)


def test_problems_do_not_stand_on_both_sides(made: questions.Benchmark) -> None:
    """Whatever the wording: the numbers and strings of a test question are in no train question."""
    for family in ("counting", "reversal", "sequences", "sorting"):
        asked: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for row in made.questions:
            if row.group == family:
                found = re.findall(r"\b[A-Z]+\b|\d+", row.text)
                # letter and string stand in either order; the direction of a sort shows in its answer
                asked[row.split].add((*(sorted(found) if family == "counting" else found), row.answer))
        assert len(asked["test"]) > 150
        assert not asked["train"] & asked["test"], family


def test_training_never_sees_the_benchmark(made: questions.Benchmark) -> None:
    even = {family.name: 1.0 for family in FAMILIES}
    seen = list(itertools.islice(stream(made, even, np.random.default_rng(4)), 6000))
    asked = {normalise(turn[0]) for example in seen for turn in example.turns}
    assert not asked & made.texts
    # a tight benchmark: of every reversal of two letters but one, nothing may be drawn
    held = frozenset(("reversal", f"0|s={a}{b}") for a in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for b in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    tight = questions.Benchmark((), frozenset(), held)
    strings = [
        text
        for example in itertools.islice(stream(tight, {"reversal": 1.0}, np.random.default_rng(4), ease=5.0), 300)
        for turn in example.turns
        for text in capitals(turn[0])
    ]
    assert strings
    assert min(len(text) for text in strings if text != "I") == 3


def test_forms_of_training_examples(made: questions.Benchmark) -> None:
    even = {family.name: 1.0 for family in FAMILIES}
    seen = list(itertools.islice(stream(made, even, np.random.default_rng(5)), 4000))
    shots = sum(len(example.turns) > 1 for example in seen) / len(seen)
    several = sum("\n2: " in example.turns[0][0] for example in seen) / len(seen)
    assert 0.10 < shots < 0.14
    assert 0.06 < several < 0.10
    for example in seen:
        for asked, answer in example.turns:
            assert asked.count("\n") == answer.count("\n")
    assert questions.joined(["a", "b"]) == "1: a\n2: b"


def test_extra_wordings_are_for_training_alone(made: questions.Benchmark) -> None:
    assert set(WORDINGS) == {family.name for family in FAMILIES}
    rng = np.random.default_rng(7)
    for family in FAMILIES:
        assert not {normalise(extra) for extra in WORDINGS[family.name]} & {normalise(asked) for asked in family.phrasings}
        wide = family.asked("wide")
        assert set(family.asked("train")) < set(wide)
        assert not set(family.asked("test")) & set(wide)
        assert len(wide) == 6 + len(WORDINGS[family.name])
        for phrasing in wide[6:]:  # an extra wording asks the same thing
            payload = family.make(rng, 0.5)
            assert SOLVE[family.name](family.word(phrasing, payload)) == payload.answer, family.word(phrasing, payload)


def test_mixtures_are_kept(made: questions.Benchmark) -> None:
    seen = itertools.islice(stream(made, {"reversal": 3.0, "roman": 1.0}, np.random.default_rng(6)), 2000)
    roman_share = np.mean(["oman" in example.turns[0][0] or "ordinary" in example.turns[0][0] for example in seen])
    assert 0.2 < roman_share < 0.3
    with pytest.raises(InputError, match="unknown families"):
        next(stream(made, {"no such": 1.0}, np.random.default_rng(0)))
    with pytest.raises(InputError, match="needs weights"):
        next(stream(made, {"roman": 0.0}, np.random.default_rng(0)))


def test_too_few_questions_are_refused() -> None:
    with pytest.raises(InputError, match="per_family"):
        questions.questions(np.random.default_rng(0), per_family=3)


def test_the_committed_file_is_what_the_seed_makes(made: questions.Benchmark) -> None:
    assert build.read_questions() == list(made.questions)
    assert build.QUESTIONS.stat().st_size < 1_000_000
