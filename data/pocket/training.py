"""Trains one pocket model from scratch on the endless stream. Loss on answers only; the end is a step count, never a time."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from routewright.data.pocket.questions import Benchmark, Example, stream
from routewright.data.pocket.tokenizer import ANSWER, CONTEXT, END, PAD, prompt

POOL = 2048  # examples that are sorted by length together, so that batches hold little padding


@dataclass(frozen=True)
class Round:
    """One cosine of training: how many steps, the highest rate, and the weights of families that differ from the model's mixture."""

    steps: int
    rate: float
    tilt: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """One model: its shape, what it is trained on and for how long.

    rounds: a later one starts anew from the saved weights, with extra wordings. half: multiply in bfloat16, where that is faster.
    """

    name: str
    width: int
    inner: int
    layers: int
    heads: int
    shared: int  # key-value heads
    rounds: tuple[Round, ...]
    tokens: int  # of a batch, padding included
    seed: int
    half: bool = False
    mixture: Mapping[str, float] = field(default_factory=dict)


def fresh(spec: Spec, tokenizer: Any) -> Any:
    """An untrained LlamaForCausalLM of this shape."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(spec.seed)
    end, pad = tokenizer.convert_tokens_to_ids(END), tokenizer.convert_tokens_to_ids(PAD)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=spec.width,
            intermediate_size=spec.inner,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            num_key_value_heads=spec.shared,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=0.02,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=pad,
        )
    )
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad, do_sample=False, max_new_tokens=64)  # type: ignore[no-untyped-call]
    return model


def _rounded(length: int) -> int:
    """A multiple of four: few shapes of batches, for which kernels are prepared once."""
    return -(-length // 4) * 4


def batches(examples: Iterator[Example], tokenizer: Any, tokens: int, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    """(ids, counted) without end, both (b, t): token ids padded on the right, and where the next token belongs to an answer."""
    import torch

    answer, end, pad = (tokenizer.convert_tokens_to_ids(token) for token in (ANSWER, END, PAD))
    while True:
        pool = list(itertools.islice(examples, POOL))
        texts = [prompt(example.turns[:-1], example.turns[-1][0]) + example.turns[-1][1] + END for example in pool]
        encoded = sorted((encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch_fast(texts)), key=len)
        cuts, start = [0], 0
        for i, ids in enumerate(encoded):
            if (i + 1 - start) * _rounded(len(ids)) > tokens and i > start:
                cuts.append(i)
                start = i
        spans = list(itertools.pairwise([*cuts, len(encoded)]))
        for span in rng.permutation(len(spans)).tolist():
            rows = encoded[spans[span][0] : spans[span][1]]
            ids = np.full((len(rows), _rounded(len(rows[-1]))), pad, dtype=np.int64)
            for row, values in zip(ids, rows, strict=True):
                row[: len(values)] = values
            counted = (ids == answer).cumsum(axis=1) > (ids == end).cumsum(axis=1)
            yield torch.from_numpy(ids), torch.from_numpy(counted)


def _optimizers(model: Any, rate: float) -> list[Any]:
    """Muon for the matrices inside the layers, which learns these tasks in about half the steps; AdamW for embeddings and norms."""
    import torch

    inside = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    outside = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inside, lr=rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outside, lr=rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]


def _share(step: int, steps: int) -> float:
    """Warm-up over the first 2 %, then a cosine down to a fiftieth."""
    warm = max(1, steps // 50)
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(
    spec: Spec,
    tokenizer: Any,
    avoid: Benchmark,
    *,
    number: int = 0,
    start: Any = None,
    report: Callable[[int, float, float, Any], None] | None = None,
) -> Any:
    """The model after round `number` of spec, which begins with `start`; round 0 begins with random weights.

    report(step, loss, seconds, model) is called every 200 steps. Same seed, machine and threads, same weights.
    """
    import torch

    model = fresh(spec, tokenizer) if start is None else start
    model.train()
    steps, rate = spec.rounds[number].steps, spec.rounds[number].rate
    mixture = {**spec.mixture, **spec.rounds[number].tilt}
    rng = np.random.default_rng([spec.seed, 1 + number])
    # easy questions first: a model that cannot add digits learns nothing from long sums
    side = "wide" if number else "train"
    easy, plain = (stream(avoid, mixture, rng, ease=ease, side=side) for ease in (1.0, 0.25))
    phases = [
        (batches(easy, tokenizer, spec.tokens, rng), 0 if number else steps // 4),
        (batches(plain, tokenizer, spec.tokens, rng), steps),
    ]
    supply = itertools.chain.from_iterable(itertools.islice(source, count) for source, count in phases)
    optimizers = _optimizers(model, rate)
    begun, total = time.perf_counter(), 0.0
    for step, (ids, counted) in enumerate(itertools.islice(supply, steps)):
        share = _share(step, steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * share
        with torch.autocast("cpu", torch.bfloat16) if spec.half else contextlib.nullcontext():
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state  # (b, t, d)
            # only answers are scored: the head is not run on the rest
            scores = model.lm_head(hidden[:, :-1][counted[:, :-1]])
        loss = torch.nn.functional.cross_entropy(scores.float(), ids[:, 1:][counted[:, :-1]])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        total += loss.item()
        if report is not None and (step + 1) % 200 == 0:
            report(step + 1, total / 200, time.perf_counter() - begun, model)
            total = 0.0
    return model.eval()
