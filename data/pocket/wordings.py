"""More wordings of every family, for later rounds of training only: the benchmark asks in none of them."""

from __future__ import annotations

WORDINGS: dict[str, tuple[str, ...]] = {
    "arithmetic": (
        "Can you tell me {a} [plus|minus] {b}?",
        "Please calculate {a} [+|-] {b} for me.",
        "How much is {a} [plus|minus] {b}, please?",
        "I need to know what {a} [+|-] {b} is.",
        "Could you work out {a} [+|-] {b}?",
        "Find {a} [plus|minus] {b}.",
    ),
    "multiplication": (
        "Please work out {a} times {b}.",
        "Find the product of {a} and {b}, please.",
        "I have {a} boxes of {b} pens. How many pens is that?",
        "Could you multiply {a} with {b}?",
        "How many pens do {a} boxes hold with {b} pens each?",
    ),
    "comparison": (
        "Which of these is the [largest|smallest]: {list}?",
        "Please tell me the [larger|smaller] value: {list}.",
        "What is the [biggest|smallest] of {list}?",
        "Name the [largest|smallest] number of these, {list}.",
    ),
    "sorting": (
        "Please put these numbers in [ascending|descending] order: {list}.",
        "Arrange the numbers {list} in [increasing|decreasing] order, please.",
        "List these from [smallest to largest|largest to smallest]: {list}.",
        "Sort {list} in [ascending|descending] order.",
    ),
    "units": (
        "Please tell me {n} {from} in {to}.",
        "Could you convert {n} {from} to {to}?",
        "There are {n} {from}. How many {to} are there?",
        "I have to convert {n} {from} to {to}.",
        "How many {to} is {n} {from}?",
        "Turn {n} {from} into {to}.",
    ),
    "currency": (
        "How many {to} are {n} {from} worth at a rate of {rate}?",
        "I exchange {n} {from} at {rate} {to} each. How much do I get?",
        "The rate is {rate}. What do I get for {n} {from} in {to}?",
        "How much are {n} {from} at {rate} {to} each?",
    ),
    "sequences": (
        "What is the next number in the series {list}?",
        "Here is a sequence: {list}. What comes next?",
        "Tell me the next term in {list}.",
        "Which term follows in this series: {list}?",
        "Find the number that comes next in {list}.",
        "Look at the sequence {list}. Which number is next?",
    ),
    "dates": (
        "What date is it {n} day{s} [after|before] {date}?",
        "It is {date}. Which date is {n} day{s} [from now|ago]?",
        "Today is {date}. Tell me the date {n} day{s} [later|earlier].",
        "Start at {date} and count {n} day{s} [forward|back]. What date is it?",
    ),
    "weekdays": (
        "Today is {day}. Which weekday is it {n} day{s} [from now|ago]?",
        "It is {day}. What day of the week is it {n} day{s} [later|earlier]?",
        "Which day of the week is {n} day{s} [after|before] {day}?",
        "Tell me the weekday {n} day{s} [after|before] {day}.",
    ),
    "roman": (
        "Please convert {n} [to Roman numerals|to ordinary digits].",
        "What is {n} [as a Roman numeral|in ordinary digits]?",
        "Tell me [the Roman numeral|the ordinary number] for {n}.",
        "Which [Roman numeral stands for|number is written as] {n}?",
    ),
    "counting": (
        "Please count the letters {c} in {s}.",
        "How many letters {c} are there in {s}?",
        "Tell me how often {c} occurs in {s}.",
        "How many times is {c} in {s}?",
    ),
    "reversal": (
        "Please write the string {s} backwards.",
        "What is the reverse of {s}?",
        "Spell the word {s} backwards for me.",
        "What do you get when {s} is read in reverse?",
    ),
    "editing": (
        "Please [delete|change] {c} [from|to {x} in] {s}.",
        "Spell {s} [without the letter {c}|with each {c} replaced with {x}].",
        "[Remove the letter {c} from|Replace the letter {c} with {x} in] the string {s}.",
        "What is {s} with [no {c}|{x} in place of {c}]?",
    ),
    "sets": (
        "Give the [union|intersection|difference] of the lists {one} and {two}.",
        "Which letters of {one} and {two} are [in either|in both|only in the first]?",
        "Look at {one} and {two}: what is [in either|in both|only in the first]?",
        "Please find the [union|intersection|difference] of {one} and {two}.",
    ),
    "order": (
        "Tell me who is the [tallest|shortest]: {said}",
        "{said} Who of them is the [tallest|shortest]?",
        "Name the [tallest|shortest] person. {said}",
        "{said} So name the [tallest|shortest].",
    ),
    "facts": (
        "Which [capital|main river|founder|national flower|flag color] has {country}?",
        "Please name the [capital|main river|founder|national flower|flag color] {country} has.",
        "What is {country}'s [capital|main river|founder|national flower|flag color]?",
        "Tell me the [capital|main river|founder|national flower|flag color] of {country}, please.",
    ),
}
