"""MMLU-Pro as its authors recorded it: 12,032 questions with up to ten options, six models' reasoning and letters, five-shot.

Wang et al. 2024, arXiv 2406.01574. Its result files were made at different times. They differ in how a letter was found in an answer (the
Llama files hold a random letter where there was none, Mixtral's and Phi's are read by an earlier, narrower rule), in the gold answers (30
were corrected later), in a few options, and Gemini's lack up to 20 questions. labels=published takes each file's own letters and gold;
labels=clean reads all answers by one rule and compares them with the corrected gold.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from routewright.core.files import sha256
from routewright.core.types import Floats, InputError
from routewright.data.graders import _text, choice
from routewright.data.sources._recorded import ESTIMATE, RecordedSource, Table, field, json_rows, kept_values, ones

LETTERS = "ABCDEFGHIJ"
_GRADER = choice.Choice(letters=LETTERS)
_PREFIX, _SUFFIX = "model_outputs_", "_5shots"


class _Row(NamedTuple):
    """One model's row of one question."""

    question: str
    options: tuple[str, ...]
    category: str
    gold: str
    letter: str | None
    answer: str


@dataclass(frozen=True, kw_only=True)
class MmluPro(RecordedSource):
    """MMLU-Pro outcomes; the group is the category, the text the question with its lettered options.

    corrected: models whose files hold the corrected gold answers, read for clean labels even where they are not in the pool. Questions
    that one of the models was not asked are left out, and for clean labels those that they were asked with other options.
    """

    notes: ClassVar[Mapping[str, str]] = {
        "clean": "Letters read from all answers by one rule (data/graders/choice.py); an answer without one is wrong. Gold answers with 30 "
        "later corrections.",
        "published": "Each file's own letter and gold answer: random letters in the Llama files where none was found (8B 694, 70B 188), an "
        "earlier rule in Mixtral's and Phi's, uncorrected gold answers in all but Gemini's.",
    }
    estimate: ClassVar[str] = f"{ESTIMATE} The five examples that stood before every question are not counted."

    corrected: Sequence[str]

    def said(self, answer: str) -> str | None:
        """The letter that is stated."""
        return _GRADER.extract(answer)

    def _needed(self) -> Mapping[str, str]:
        there = {_model(path): path for path in self.files}
        chosen = [*self.models, *(self.corrected if self.labels == "clean" else ())]
        return {path: self.files[path] for path in ones(chosen, there, self.name).values()}

    def _read(self, paths: Mapping[str, Path]) -> Table:
        files = {_model(name): _rows(path) for name, path in paths.items()}
        asked = [files[model] for model in self.models]
        shared = [number for number in asked[0] if all(number in rows for rows in asked[1:])]
        if self.labels == "clean":
            newest = [files[model] for model in self.corrected]
            shared = [number for number in shared if len({rows[number].options for rows in (*asked, *newest) if number in rows}) == 1]
        if not shared:
            raise InputError("no question was asked of all models", where=self.name, expected="shared question ids", found="none")
        base = [asked[0][number] for number in shared]
        answer = np.array([[rows[number].answer for rows in asked] for number in shared], dtype=object)
        if self.labels == "clean":
            gold = np.array([_gold(number, newest, asked[0]) for number in shared], dtype=object)
            letters = np.stack([_letters(column) for column in answer.T], axis=1)
            quality = letters == np.array([ord(letter) for letter in gold])[:, None]
        else:
            quality = np.array([[rows[number].letter == rows[number].gold for rows in asked] for number in shared])
        text = [_asked(row) for row in base]
        group = [row.category for row in base]
        ids = [f"mmlu-pro-{number:05d}" for number in shared]
        return Table(ids, text, group, quality.astype(np.float64), self._usage(text, answer), answer)


def _model(path: str) -> str:
    """The model's name from its file's: dots are written as underscores in some."""
    return Path(path).stem.removeprefix(_PREFIX).removesuffix(_SUFFIX).replace("_", ".")


def _asked(row: _Row) -> str:
    """The question as a user would ask it: with the options below it, lettered."""
    return "\n".join([row.question.strip(), *(f"{letter}. {option}" for letter, option in zip(LETTERS, row.options, strict=False))])


def _gold(number: int, newest: Sequence[Mapping[int, _Row]], own: Mapping[int, _Row]) -> str:
    return next((rows[number].gold for rows in newest if number in rows), own[number].gold)


def _letters(answers: Sequence[str]) -> Floats:
    """(n,) the code of the capital letter that each answer states, 0 for none; kept, since reading takes a while."""

    def read(texts: list[str]) -> Iterable[float]:
        return [float(ord(letter)) if (letter := _GRADER.extract(text)) is not None else 0.0 for text in texts]

    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (choice, _text))
    return kept_values("letters", sha256(code)[:16], answers, read)


def _rows(path: Path) -> dict[int, _Row]:
    """One model's rows by question id, in order. Raises InputError for anything that is no zip of one JSON list of such rows."""
    rows: dict[int, _Row] = {}
    for i, row in enumerate(json_rows(_unzipped(path), path.name)):
        where = f"{path.name}, row {i}"
        number = field(row, "question_id", int, where)
        if number in rows:
            raise InputError("a question stands twice", where=where, expected="one row for each question_id", found=str(number))
        rows[number] = _row(row, where)
    return rows


def _row(row: Mapping[str, Any], where: str) -> _Row:
    options = field(row, "options", list, where)
    gold = field(row, "answer", str, where)
    if (
        not 1 <= len(options) <= len(LETTERS)
        or not all(isinstance(option, str) for option in options)
        or gold not in tuple(LETTERS[: len(options)])
    ):
        raise InputError(
            "the options of a recorded row are not usable",
            where=where,
            expected="1 to 10 texts, one of them the answer",
            found=f"answer {gold!r} of {len(options)}",
        )
    return _Row(
        field(row, "question", str, where),
        tuple(options),
        field(row, "category", str, where),
        gold,
        field(row, "pred", (str, type(None)), where),
        field(row, "model_outputs" if "model_outputs" in row else "generated_text", str, where),
    )


def _unzipped(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = archive.namelist()
            return archive.read(name)
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError("a result file is broken", where=path.name, expected="a zip of one JSON file", found=str(error)) from None
