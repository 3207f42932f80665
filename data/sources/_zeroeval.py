"""What the two ZeroEval sources share: one result file for each model, and two ways to read a number out of its answers.

ZeroEval (Lin 2024, github.com/WildEval/ZeroEval) asks for JSON with "reasoning" and "answer". labels=published restates how it grades: the
first complete JSON object counts, else what follows the first "answer" key, and of that answer the first number alone. So "6 * sqrt(2)"
and "6, -6" are right where 6 is, "a calculation = 6" is wrong, and most answers in prose are not read. labels=clean reads the last answer
that is given, in JSON or marked in prose, and takes it for right only where it states that one number.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from routewright.core.types import InputError
from routewright.data.grading import final_number
from routewright.data.sources._recorded import ESTIMATE, RecordedSource, Table, field, json_rows, ones
from routewright.data.sources._spoken import spelled

_FIRST_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_PUBLISHED_FIELD = (
    re.compile(r'"answer"\s*:\s*"([^"]*?)"'),
    re.compile(r'"answer"\s*:\s*([^,\s]*)'),
    re.compile(r"answer\s*:\s*([^,\s]*)"),
)
_SIMPLE_BOX = re.compile(r"\\boxed{(\w+)}")
_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}

_FIELD = re.compile(r'"answer"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,}"]+))', re.DOTALL)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_SAID = re.compile(r"\banswer\W{1,8}(?:is\b|:)\W{0,4}([^\n]{1,200})", re.IGNORECASE)
_ESCAPES = str.maketrans({"\b": r"\b", "\f": r"\f", "\t": r"\t", "\r": r"\r"})  # what JSON makes of \boxed, \frac, \text, \right
_BASE = re.compile(r"_\{?\w{1,3}\}?\s*\$?\s*$")  # 1112112_3: the base is no part of the number
_ASIDE = re.compile(r"(?<=[\w%])\s+\([^()]*\)\W*$")  # 70 minutes (1 hour 10 minutes)
_CLOCK = re.compile(r"\b([0-9]{1,2}):00\b")
_NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3}(?![0-9]))*(?:\.[0-9]+)?(?:\s?/\s?[0-9]+)?|\\[dt]?frac\s*\{[^{}]*\}\s*\{[^{}]*\}|\.[0-9]+")
# what makes a number a part of an expression
_ALGEBRA = re.compile(
    r"[√^*+∞π]|sqrt|infinit|\\(?:pi|cdot|times|pm|log|infty)"
    r"|[0-9)]\s?[-−–]\s?[0-9(]|[a-z)](?:[-−–]|\s[-−–]\s)[0-9]"
    r"|[0-9](?!(?:st|nd|rd|th)\b)(?:\\?[a-z](?![a-z]{2})|\()",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class ZeroEval(RecordedSource):
    """ZeroEval outcomes: m models' answers to the same questions. A result file is named for its model."""

    notes: ClassVar[Mapping[str, str]] = {
        "clean": "Read again: the last answer given, in JSON, in a box or stated, which must be that one number and no expression.",
        "published": "As ZeroEval grades: the first number in the answer of the first JSON object (its summary's figures to the digit).",
    }
    estimate: ClassVar[str] = ESTIMATE
    question: ClassVar[str]  # the key of the question
    group: ClassVar[str]

    def said(self, answer: str) -> str | None:
        """The number of the last answer that is given; its normalised text where it holds none."""
        stated = final_answer(answer)
        return None if stated is None else spelled(final_number(stated)) or super().said(stated)

    def _needed(self) -> Mapping[str, str]:
        there = {Path(path).stem: path for path in self.files}
        return {path: self.files[path] for path in ones(self.models, there, self.name).values()}

    def _read(self, paths: Mapping[str, Path]) -> Table:
        asked: list[tuple[str, str, str]] = []
        answers = []
        for path in paths.values():
            rows, given = self._rows(path)
            if asked and rows != asked:
                raise _other_questions(path.name, asked, rows)
            asked = rows
            answers.append(given)
        answer = np.array(answers, dtype=object).T
        ids, text, gold = (list(column) for column in zip(*asked, strict=True))
        right = [
            [self._right(model, *pair) for pair in zip(given, gold, strict=True)] for model, given in zip(self.models, answers, strict=True)
        ]
        quality = np.array(right, dtype=np.float64).T
        return Table(ids, text, [self.group] * len(ids), quality, self._usage(text, answer), answer)

    def _rows(self, path: Path) -> tuple[list[tuple[str, str, str]], list[str]]:
        """(id, question, gold answer) of each row, and the model's answers."""
        asked, given = [], []
        for i, row in enumerate(json_rows(path.read_bytes(), path.name)):
            where = f"{path.name}, row {i}"
            number = str(field(row, "id", (str, int), where)).rpartition("#")[2]
            if not number.isdigit():
                found = repr(row["id"])
                raise InputError("'id' of a recorded row is not usable", where=where, expected="a number at its end", found=found)
            gold = field(row, "answer", str, where).replace("#", "").strip()
            if final_number(gold) is None:
                raise InputError("a gold answer holds no number", where=where, expected="a number", found=repr(row["answer"]))
            asked.append((f"{self.group}-{int(number):04d}", field(row, self.question, str, where), gold))
            output = field(row, "output", list, where)
            if len(output) != 1 or not isinstance(output[0], str):
                found = repr(output)[:80]
                raise InputError("'output' of a recorded row is not usable", where=where, expected="a list of one text", found=found)
            given.append(output[0])
        return asked, given

    def _right(self, model: str, given: str, gold: str) -> bool:
        if self.labels == "published":
            answer = published_answer(given, boxed="Llama-3.1" in model)
            return answer is not None and published_equal(answer, gold)
        stated = final_answer(given)
        return stated is not None and states(stated, gold)


def _other_questions(name: str, asked: list[tuple[str, str, str]], rows: list[tuple[str, str, str]]) -> InputError:
    at = next((i for i, (one, other) in enumerate(zip(asked, rows, strict=False)) if one != other), min(len(asked), len(rows)))
    return InputError(
        "result files hold different questions",
        where=f"{name}, row {at}",
        expected=repr(asked[at])[:120] if at < len(asked) else f"{len(asked)} rows",
        found=repr(rows[at])[:120] if at < len(rows) else f"{len(rows)} rows",
        mend="Pin result files of one run of the benchmark.",
    )


def published_answer(text: str, *, boxed: bool) -> str | None:
    """The answer as ZeroEval finds it: that of the first complete JSON object, else what follows the first "answer" key.

    boxed: its rule for Llama 3.1, the first \\boxed word of an answer that ends on a box.
    """
    found = _first_object(text)
    if isinstance(found, dict) and "answer" in found:
        return str(found["answer"])
    for pattern in _PUBLISHED_FIELD:
        if match := pattern.search(text):
            return match[1]
    if boxed and "boxed" in text[-30:] and (match := _SIMPLE_BOX.search(text)):
        return match[1]
    return None


def _first_object(text: str) -> Any:
    """What the first balanced braces hold, read as JSON without its line breaks; None where that is none."""
    depth, start = 0, 0
    for match in re.finditer(r"[{}]", text):
        if match[0] == "{":
            start = match.start() if depth == 0 else start
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                try:
                    return json.loads(text[start : match.end()].replace("\n", ""))
                except ValueError:
                    return None
    return None


def published_equal(answer: str, gold: str) -> bool:
    """Whether the first numbers of the two are equal, dollar signs and commas dropped and plain arithmetic with a stroke worked out."""
    first = [_FIRST_NUMBER.search(_worked_out(each.replace("$", "").strip().replace(",", ""))) for each in (answer, gold)]
    return first[0] is not None and first[1] is not None and float(first[0][0]) == float(first[1][0])


def _worked_out(text: str) -> str:
    if "/" not in text:
        return text
    try:
        return str(float(_value(ast.parse(text, mode="eval").body)))
    except (ValueError, SyntaxError, ArithmeticError, RecursionError, MemoryError):
        return text


def _value(node: ast.expr) -> Any:
    """The value of numbers and + - * / alone; ValueError for anything else."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("no plain arithmetic")


def final_answer(text: str) -> str | None:
    """The last answer that is given: of the last JSON object with one, else after the last "answer" key, else boxed or stated in prose."""
    if (found := _last_object(text)) is not None:
        return found.translate(_ESCAPES)
    if keyed := list(_FIELD.finditer(text)):
        return keyed[-1][1] if keyed[-1][1] is not None else keyed[-1][2]
    marked = [*_BOXED.finditer(text), *_SAID.finditer(text)]
    return max(marked, key=lambda match: match.start())[1] if marked else None


def _last_object(text: str) -> str | None:
    decoder = json.JSONDecoder(strict=False)
    at = text.rfind("{")
    while at >= 0:
        try:
            found = decoder.raw_decode(text, at)[0]
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and "answer" in found:
            return str(found["answer"])
        at = text.rfind("{", 0, at)
    return None


def states(answer: str, gold: str) -> bool:
    """Whether `answer` is the gold number: after its last equals sign one number, with units but in no expression. gold holds a number."""
    part = _ASIDE.sub("", answer.rpartition("=")[2].strip()).replace("\\\\", "\\")
    part = _CLOCK.sub(r"\1", _BASE.sub("", part))
    if _ALGEBRA.search(part) or len(_NUMBER.findall(part)) != 1:
        return False
    given, right = final_number(part), final_number(_BASE.sub("", gold))
    return given is not None and given == right
