"""The graders against other people's code: SQuAD's normalisation restated, and the letters that MMLU-Pro's authors extracted."""

from __future__ import annotations

import json
import re
import string
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.data.graders.choice import Choice
from routewright.data.graders.normalised import Normalised

SQUAD = Normalised(style="squad", punctuation="strip", articles=True, prefixes=False)
WORDS = st.sampled_from(
    [
        "the",
        "The",
        "a",
        "an",
        "An",
        "answer",
        "is:",
        "Theatre",
        "don't",
        "U.S.",
        "(b)",
        "--",
        "\u00c9t\u00e9",
        "\u201cx\u201d",
        "\u00a0",
        "\t",
    ]
)


def normalize_answer(text: str) -> str:
    """SQuAD v1.1's evaluation, as published."""
    text = text.lower()
    text = "".join(character for character in text if character not in set(string.punctuation))
    text = re.sub(r"\b(a|an|the)\b", " ", text)
    return " ".join(text.split())


@given(text=st.one_of(st.text(), st.lists(WORDS, max_size=12).map(" ".join)))
def test_squad_style_is_squads_normalisation(text: str) -> None:
    assert (SQUAD.extract(text) or "") == normalize_answer(text)


# of 2,000 answers each, by seed 0; upstream fills an unreadable answer with a random letter, which nothing can agree with, and takes the
# first of several statements where we take the last
FLOORS = {
    "Phi-3-mini-4k-instruct": 0.985,
    "Meta-Llama-3_1-70B-Instruct": 0.98,
    "Mixtral-8x7B-Instruct-v0.1": 0.975,
    "gemini-1.5-flash-002": 0.955,
    "gemini-1.5-pro-002": 0.95,
    "Meta-Llama-3_1-8B-Instruct": 0.925,
}
UPSTREAM = re.compile(r"answer is \(?([A-J])\)?|[aA]nswer:\s*([A-J])")


def answers(mirror: Path, model: str) -> list[tuple[str, str]]:
    """(answer, upstream's letter) of 2,000 questions, those left out for which upstream has none."""
    (path,) = mirror.glob(f"TIGER-AI-Lab/MMLU-Pro/*/eval_results/model_outputs_{model}_5shots.zip")
    with zipfile.ZipFile(path) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".json") and "MACOSX" not in name)
        rows = json.loads(archive.read(member))
    chosen = np.random.default_rng(0).permutation(len(rows))[:2000]
    texts = [(rows[i].get("model_outputs") or rows[i].get("generated_text") or "", rows[i]["pred"]) for i in chosen]
    return [(text, letter) for text, letter in texts if letter is not None]


@pytest.mark.parametrize("model", FLOORS)
def test_choice_agrees_with_mmlu_pro(mirror: Path, model: str) -> None:
    grader, rows = Choice(), answers(mirror, model)
    agree = np.mean([grader.extract(text) == letter for text, letter in rows])
    assert agree >= FLOORS[model]
    plain = [(text, letter) for text, letter in rows if len({first or second for first, second in UPSTREAM.findall(text)}) == 1]
    assert len(plain) > 1200
    assert np.mean([grader.extract(text) == letter for text, letter in plain]) > 0.98, (
        "where upstream reads one letter, and it alone; the rest name several"
    )
