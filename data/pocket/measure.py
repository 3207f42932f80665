"""What a pocket model answers greedily, and how often that is right, by family and split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from routewright.core.text import normalise
from routewright.data.pocket.questions import Question
from routewright.data.pocket.tokenizer import prompt

BATCH = 256
LONGEST = 40  # tokens of an answer


def answers(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """The greedy answer to each question. Prompts of one length go together, so that no padding touches a result."""
    import torch

    encoded = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch_fast([prompt((), text) for text in texts])]
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, ids in enumerate(encoded):
        by_length[len(ids)].append(row)
    found = [""] * len(encoded)
    with torch.inference_mode():
        for length, rows in sorted(by_length.items()):
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                ids = torch.tensor([encoded[row] for row in part])
                made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=LONGEST, do_sample=False)
                for row, text in zip(part, tokenizer.batch_decode(made[:, length:], skip_special_tokens=True), strict=True):
                    found[row] = text
    return found


def right(answer: str, gold: str) -> bool:
    return normalise(answer) == normalise(gold)


def accuracy(questions: Sequence[Question], found: Sequence[str]) -> dict[str, dict[str, float]]:
    """{split: {family: share right, "all": ...}} for the splits train, test and all."""
    hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for question, answer in zip(questions, found, strict=True):
        for split in (question.split, "all"):
            for group in (question.group, "all"):
                hits[split, group].append(right(answer, question.answer))
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for (split, group), values in sorted(hits.items()):
        table[split][group] = round(sum(values) / len(values), 4)
    return dict(table)
