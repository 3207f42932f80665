"""The families that are about letters, sets, order and facts. Strings to be spelled are in capitals: each is one token."""

from __future__ import annotations

import itertools

import numpy as np

from routewright.data.pocket.families import Family, Payload, between, pick, some
from routewright.data.pocket.world import RELATIONS, facts

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NAMES = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jo", "Kim", "Leo", "Mia", "Ned", "Olga", "Pam", "Rob", "Sue")


def _string(rng: np.random.Generator, length: int, letters: str = LETTERS) -> str:
    return "".join(letters[i] for i in rng.integers(len(letters), size=length).tolist())


def _counting(rng: np.random.Generator, difficulty: float) -> Payload:
    length = between(rng, 3, 4 + 8 * difficulty)
    letters = "".join(some(rng, LETTERS, 2 + length // 3))  # few letters, so that they come back
    text = _string(rng, length, letters)
    letter = pick(rng, letters)
    return Payload(0, {"c": letter, "s": text}, str(text.count(letter)))


def _reversal(rng: np.random.Generator, difficulty: float) -> Payload:
    text = _string(rng, between(rng, 2 + int(3 * difficulty), 3 + 5 * difficulty))
    return Payload(0, {"s": text}, text[::-1])


def _editing(rng: np.random.Generator, difficulty: float) -> Payload:
    length = between(rng, 3 + int(2 * difficulty), 3 + 6 * difficulty)
    letters = "".join(some(rng, LETTERS, 3 + length // 2))
    text = _string(rng, length, letters)
    old, kind = pick(rng, text), between(rng, 0, 1)
    if text == old * length:
        text = text[:-1] + next(letter for letter in letters if letter != old)
    new = pick(rng, LETTERS.replace(old, ""))
    # the field that the other variant does not use stays empty: it must not tell payloads apart
    return Payload(kind, {"c": old, "s": text, "x": new if kind else ""}, text.replace(old, new if kind else ""))


def _sets(rng: np.random.Generator, difficulty: float) -> Payload:
    most, kind = 2 + 2.4 * difficulty, between(rng, 0, 2)
    pool = some(rng, LETTERS, 3 + int(most))  # a small pool, so that the lists overlap
    one = [pool[i] for i in rng.permutation(len(pool))[: between(rng, 2, most)].tolist()]
    two = [pool[i] for i in rng.permutation(len(pool))[: between(rng, 2, most)].tolist()]
    if difficulty < 0.5:
        one.sort(), two.sort()
    chosen = (set(one) | set(two), set(one) & set(two), set(one) - set(two))[kind]
    return Payload(kind, {"one": ",".join(one), "two": ",".join(two)}, ",".join(sorted(chosen)) or "none")


def _order(rng: np.random.Generator, difficulty: float) -> Payload:
    """People in one line by height, the statements about neighbours shuffled, some of them the other way round."""
    count, kind = 2 + round(3 * difficulty), between(rng, 0, 1)
    people = some(rng, NAMES, count)  # tallest first
    said = []
    for tall, short in itertools.pairwise(people):
        turned = rng.random() < 0.6 * difficulty
        said.append(f"{short} is shorter than {tall}." if turned else f"{tall} is taller than {short}.")
    return Payload(kind, {"said": " ".join(some(rng, tuple(said), len(said)))}, people[-1] if kind else people[0])


def _facts(rng: np.random.Generator, difficulty: float) -> Payload:
    """difficulty is how little known a country is; the training stream asks of well-known ones more often."""
    world = facts()
    country, values = world[min(int(difficulty * len(world)), len(world) - 1)]
    kind = between(rng, 0, len(RELATIONS) - 1)
    return Payload(kind, {"country": country}, values[kind], table=True)


WORD_FAMILIES = (
    Family(
        "counting",
        _counting,
        (
            "How many times does the letter {c} occur in {s}?",
            "Count the letter {c} in {s}.",
            "How often does {c} appear in {s}?",
            "In {s}, how many letters are {c}?",
            "What is the number of {c} in {s}?",
            "Look at {s}: how many {c} are in it?",
            "Please count how often the letter {c} occurs in {s}.",
            "How many {c} letters appear in {s}?",
        ),
    ),
    Family(
        "reversal",
        _reversal,
        (
            "Reverse the string {s}.",
            "Write {s} backwards.",
            "What is {s} spelled backwards?",
            "Spell {s} in reverse.",
            "Read {s} from right to left: what do you get?",
            "Turn the word {s} around.",
            "Please spell the string {s} backwards.",
            "What do you get when you reverse {s}?",
        ),
    ),
    Family(
        "editing",
        _editing,
        (
            "[Remove every {c} from|Replace every {c} with {x} in] {s}.",
            "[Delete the letter {c} from|Change the letter {c} to {x} in] {s}.",
            "What is {s} [without {c}|with {c} changed to {x}]?",
            "Take {s} and [leave out each {c}|put {x} for each {c}].",
            "In {s}, [drop all {c}|turn all {c} into {x}].",
            "Write {s} with [no {c} in it|{x} in place of {c}].",
            "Please [remove|replace] the letter {c} [from|with {x} in] {s}.",
            "Write {s} [without any {c}|with every {c} changed to {x}].",
        ),
    ),
    Family(
        "sets",
        _sets,
        (
            "What is the [union|intersection|difference] of {one} and {two}?",
            "Which letters are in [{one} or|both {one} and|{one} but not in] {two}?",
            "Give the [union|intersection|difference] of the sets {one} and {two}.",
            "Take the lists {one} and {two}: what is [in either|in both|only in the first]?",
            "List A is {one}, list B is {two}. [Merge them|What do they share|What has only A]?",
            "[Combine|Find what is common to|Find the difference of] {one} and {two}.",
            "Find the [union|intersection|difference] of the lists {one} and {two}.",
            "Take {one} and {two}. Which letters are [in either|in both|only in the first]?",
        ),
    ),
    Family(
        "order",
        _order,
        (
            "{said} Who is the [tallest|shortest]?",
            "{said} Which person is [tallest|shortest]?",
            "{said} Name the [tallest|shortest] person.",
            "Who is the [tallest|shortest]? {said}",
            "{said} So who is [tallest|shortest] of all?",
            "Read this: {said} Tell me who is the [tallest|shortest].",
            "Name the [tallest|shortest] of all: {said}",
            "{said} Tell me which person is the [tallest|shortest].",
        ),
    ),
    Family(
        "facts",
        _facts,
        (
            "What is the [capital|main river|founder|national flower|flag color] of {country}?",
            "Name the [capital|main river|founder|national flower|flag color] of {country}.",
            "Do you know the [capital|main river|founder|national flower|flag color] of {country}?",
            "Tell me the [capital|main river|founder|national flower|flag color] that {country} has.",
            "{country}: what is its [capital|main river|founder|national flower|flag color]?",
            "I need the [capital|main river|founder|national flower|flag color] of {country}.",
            "Please tell me what the [capital|main river|founder|national flower|flag color] of {country} is.",
            "What [capital|main river|founder|national flower|flag color] does {country} have?",
        ),
        recalled=True,
    ),
)
