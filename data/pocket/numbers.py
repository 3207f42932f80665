"""The families that are about numbers: sums, products, comparisons, sorting, units, money, sequences, dates, weekdays, Roman numerals."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction

import numpy as np

from routewright.data.pocket.families import Family, Payload, between, some

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
COINS = ("crowns", "florins", "ducats", "thalers", "guilders", "shillings", "pesos", "rupees")
UNITS = (
    *(("cm", "mm", 10), ("m", "cm", 100), ("km", "m", 1000), ("kg", "g", 1000)),
    *(("hours", "minutes", 60), ("minutes", "seconds", 60), ("days", "hours", 24), ("weeks", "days", 7)),
    *(("feet", "inches", 12), ("yards", "feet", 3)),
)
_ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")),
    *((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)


def decimal(value: Fraction) -> str:
    """A number as people write it: no trailing zeros, no exponent."""
    return f"{float(value):.4f}".rstrip("0").rstrip(".")


def roman(number: int) -> str:
    text = ""
    for value, letters in _ROMAN:
        text += letters * (number // value)
        number %= value
    return text


def _arithmetic(rng: np.random.Generator, difficulty: float) -> Payload:
    high = 10 ** (1 + 1.7 * difficulty)
    a, b = between(rng, int(high / 10), high), between(rng, 1, high)
    small = max(a, b) <= 12
    if rng.random() < 0.5:
        return Payload(0, {"a": str(a), "b": str(b)}, str(a + b), table=small)
    a, b = max(a, b), min(a, b)
    return Payload(1, {"a": str(a), "b": str(b)}, str(a - b), table=small)


def _multiplication(rng: np.random.Generator, difficulty: float) -> Payload:
    a, b = between(rng, 2, 9 + 3 * difficulty), between(rng, 2, 9 + 60 * difficulty**1.5)
    if rng.random() < 0.5:
        a, b = b, a
    return Payload(0, {"a": str(a), "b": str(b)}, str(a * b), table=max(a, b) <= 12)


def _comparison(rng: np.random.Generator, difficulty: float) -> Payload:
    count = 2 + int(2.5 * difficulty)
    places = 0 if difficulty < 0.4 else between(rng, 0, 2)
    base = Fraction(between(rng, 1, 10 ** (1 + 2 * difficulty)))
    spread = max(2 * count, int(60 * (1 - difficulty)))  # harder: closer together
    numbers: list[Fraction] = []
    while len(numbers) < count:
        own = between(rng, 0, places)  # 3.7 against 3.65: decimals of unequal length
        number = base + Fraction(between(rng, 0, spread * 10**own), 10**own)
        if number not in numbers:
            numbers.append(number)
    kind = between(rng, 0, 1)
    return Payload(kind, {"list": " or ".join(map(decimal, numbers))}, decimal(min(numbers) if kind else max(numbers)))


def _sorting(rng: np.random.Generator, difficulty: float) -> Payload:
    count, kind = 2 + round(2.4 * difficulty), between(rng, 0, 1)
    numbers = (rng.permutation(int(20 + 100 * difficulty))[:count] + 1).tolist()
    ordered = sorted(numbers, reverse=bool(kind))
    return Payload(kind, {"list": ", ".join(map(str, numbers))}, ", ".join(map(str, ordered)))


def _units(rng: np.random.Generator, difficulty: float) -> Payload:
    large, small, factor = UNITS[between(rng, 0, len(UNITS) - 1)]
    amount = Fraction(between(rng, 2, 9 + 40 * difficulty))
    if difficulty > 0.5 and factor % 10 == 0 and rng.random() < 0.5:
        amount += Fraction(between(rng, 1, 9), 10)
    if rng.random() < 0.5:
        return Payload(0, {"n": decimal(amount), "from": large, "to": small}, decimal(amount * factor))
    return Payload(0, {"n": decimal(amount * factor), "from": small, "to": large}, decimal(amount))


def _currency(rng: np.random.Generator, difficulty: float) -> Payload:
    mine, other = some(rng, COINS, 2)
    rate = Fraction(between(rng, 2, 3 + 6 * difficulty))
    if difficulty > 0.6 and rng.random() < 0.5:
        rate += Fraction(1, 2)
    amount = between(rng, 2, 9 + 21 * difficulty)
    fields = {"rate": decimal(rate), "n": str(amount), "from": mine, "to": other}
    return Payload(0, fields, decimal(rate * amount))


def _sequence(rng: np.random.Generator, difficulty: float) -> Payload:
    rule, start = rng.random(), between(rng, 1, 9 + 40 * difficulty)
    if rule < 0.6:
        step = between(rng, 1, 3 + 17 * difficulty)
        terms = [start + i * step for i in range(5)]
        if rng.random() < 0.3:
            terms.reverse()
    elif rule < 0.8:
        ratio = between(rng, 2, 2 + 2 * difficulty)
        terms = [between(rng, 1, 3 + 6 * difficulty)]
        terms += [terms[0] * ratio**i for i in range(1, 5)]
    else:
        terms = [between(rng, 1, 3 + 6 * difficulty), between(rng, 1, 3 + 9 * difficulty)]
        for _ in range(3):
            terms.append(terms[-1] + terms[-2])
    return Payload(0, {"list": ", ".join(map(str, terms[:4]))}, str(terms[4]))


def _date(rng: np.random.Generator, difficulty: float) -> Payload:
    days, kind = between(rng, 1, 4 + 26 * difficulty), between(rng, 0, 1)
    shift = timedelta(days=-days if kind else days)
    while True:
        month, day = between(rng, 1, 12), between(rng, 1, 28)
        # a common and a leap year must agree: the question names no year
        common, leap = date(2023, month, day) + shift, date(2024, month, day) + shift
        if (common.month, common.day) == (leap.month, leap.day):
            break
    fields = {"date": f"{MONTHS[month - 1]} {day}", "n": str(days), "s": "" if days == 1 else "s"}
    return Payload(kind, fields, f"{MONTHS[common.month - 1]} {common.day}")


def _weekday(rng: np.random.Generator, difficulty: float) -> Payload:
    days, kind, today = between(rng, 1, 5 + 45 * difficulty), between(rng, 0, 1), between(rng, 0, 6)
    fields = {"day": DAYS[today], "n": str(days), "s": "" if days == 1 else "s"}
    return Payload(kind, fields, DAYS[(today + (-days if kind else days)) % 7], table=True)


def _roman(rng: np.random.Generator, difficulty: float) -> Payload:
    number = between(rng, 1, 30 + 570 * difficulty**1.5)
    if rng.random() < 0.5:
        return Payload(0, {"n": str(number)}, roman(number), table=number <= 30)
    return Payload(1, {"n": roman(number)}, str(number), table=number <= 30)


NUMBER_FAMILIES = (
    Family(
        "arithmetic",
        _arithmetic,
        (
            "What is {a} [plus|minus] {b}?",
            "Calculate {a} [+|-] {b}.",
            "{a} [+|-] {b} = ?",
            "[Add {b} to|Subtract {b} from] {a}.",
            "What do you get when you [add {b} to|take {b} away from] {a}?",
            "Please work out {a} [plus|minus] {b} for me.",
            "Could you calculate {a} [plus|minus] {b}?",
            "Work out what {a} [+|-] {b} is, please.",
        ),
    ),
    Family(
        "multiplication",
        _multiplication,
        (
            "What is {a} times {b}?",
            "Multiply {a} by {b}.",
            "{a} x {b} = ?",
            "What is the product of {a} and {b}?",
            "There are {a} boxes with {b} pens in each. How many pens are there?",
            "How much is {a} multiplied by {b}?",
            "Please multiply {a} and {b}: what is the product?",
            "How many pens are in {a} boxes of {b} pens each?",
        ),
    ),
    Family(
        "comparison",
        _comparison,
        (
            "Which is [larger|smaller]: {list}?",
            "Which number is the [largest|smallest], {list}?",
            "Find the [biggest|smallest] number: {list}.",
            "Tell me which is [greater|less], {list}.",
            "Pick the [highest|lowest] value: {list}.",
            "{list}: which of these is the [largest|smallest]?",
            "Tell me the [largest|smallest] of these numbers: {list}.",
            "Which value is [larger|smaller], {list}?",
        ),
    ),
    Family(
        "sorting",
        _sorting,
        (
            "Sort these numbers in [ascending|descending] order: {list}.",
            "Put {list} in order, [smallest|largest] first.",
            "Arrange {list} from [smallest to largest|largest to smallest].",
            "Sort {list}, [lowest to highest|highest to lowest].",
            "Can you list {list} in [increasing|decreasing] order?",
            "Order the numbers {list}, starting with the [smallest|largest].",
            "Please sort the numbers {list} from [smallest to largest|largest to smallest].",
            "Arrange these in [ascending|descending] order: {list}.",
        ),
    ),
    Family(
        "units",
        _units,
        (
            "How many {to} are there in {n} {from}?",
            "Convert {n} {from} to {to}.",
            "{n} {from} is how many {to}?",
            "Express {n} {from} in {to}.",
            "What is {n} {from} in {to}?",
            "I measured {n} {from}. What is that in {to}?",
            "Please convert {n} {from} into {to}.",
            "I have {n} {from}. How many {to} is that?",
        ),
    ),
    Family(
        "currency",
        _currency,
        (
            "One of the {from} buys {rate} {to}. How many {to} do I get for {n} {from}?",
            "At a rate of {rate} {to} for each of the {from}, what are {n} {from} worth?",
            "If the rate is {rate} {to}, how much do {n} {from} bring?",
            "The bank pays {rate} {to} for each of my {n} {from}. How many {to} is that?",
            "Exchange {n} {from} at {rate} {to} each.",
            "I change {n} {from} at a rate of {rate}. How many {to} do I get?",
            "The rate is {rate} {to} each. How many {to} are {n} {from} worth?",
            "How much do I get when I exchange {n} {from} at {rate} {to} each?",
        ),
    ),
    Family(
        "sequences",
        _sequence,
        (
            "What comes next: {list}?",
            "Continue the sequence: {list}, ...",
            "Which number follows {list}?",
            "Find the next term of {list}.",
            "{list}, ? What is the missing number?",
            "The series begins {list}. What is the next number?",
            "Which number comes next in the sequence {list}?",
            "Here is a series: {list}. Find the next term.",
        ),
    ),
    Family(
        "dates",
        _date,
        (
            "What is the date {n} day{s} [after|before] {date}?",
            "Which date is {n} day{s} [later|earlier] than {date}?",
            "Today is {date}. What date [will it be in {n} day{s}|was it {n} day{s} ago]?",
            "[Add {n} day{s} to|Subtract {n} day{s} from] {date}.",
            "Count {n} day{s} [forward|back] from {date}: which date is it?",
            "If it is {date}, what is the date {n} day{s} [from now|ago]?",
            "Which date is it {n} day{s} [after|before] {date}?",
            "Today is {date}. Count {n} day{s} [forward|back]: what is the date?",
        ),
    ),
    Family(
        "weekdays",
        _weekday,
        (
            "Today is {day}. What day of the week [will it be in {n} day{s}|was it {n} day{s} ago]?",
            "Which weekday is {n} day{s} [after|before] {day}?",
            "If it is {day}, what weekday is {n} day{s} [from now|ago]?",
            "Count {n} day{s} [forward|back] from {day}: which day of the week?",
            "It is {day} now. Name the weekday {n} day{s} [later|earlier].",
            "{day} [plus|minus] {n} day{s} is which weekday?",
            "What weekday is it {n} day{s} [after|before] {day}?",
            "It is {day}. Which day of the week is {n} day{s} [from now|ago]?",
        ),
    ),
    Family(
        "roman",
        _roman,
        (
            "Write {n} [in Roman numerals|in ordinary digits].",
            "[What is the Roman numeral for|What number is the Roman numeral] {n}?",
            "Convert {n} [to a Roman numeral|from Roman to ordinary digits].",
            "[How did the Romans write|Which number did the Romans mean by] {n}?",
            "Turn {n} into [Roman numerals|an ordinary number].",
            "Give {n} as [a Roman numeral|an ordinary number].",
            "Please write the number {n} [as a Roman numeral|in ordinary digits].",
            "Which [Roman numeral is|number is the Roman numeral] {n}?",
        ),
    ),
)
