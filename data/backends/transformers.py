"""Asks local causal language models in this process: Hugging Face folders or hub names, batched, with token log-probabilities.

Draws at a temperature are seeded by the request's key, row by row (the Gumbel trick), so that an answer hangs on its request and not on
what shared its batch.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.files import json_bytes, sha256
from routewright.core.hub import hub_folder
from routewright.core.types import InputError
from routewright.data.calls import CallError, Reply, Request
from routewright.data.pocket import MODELS, model_path

log = logging.getLogger(__name__)

# what answers hang on, and with them a model's identity; never a pickle
FILES = ("*.safetensors*", "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "*.jinja")
READ_AHEAD = 8  # batches' worth of waiting requests that are sorted by length before they are cut


def causal_folder(model: str) -> Path:
    """The folder of a causal model: a pocket model's, a local one, or a hub name's snapshot. Raises InputError for anything else."""
    if model in MODELS:
        return model_path(model)
    local = Path(model).expanduser()
    if (local / "config.json").is_file():
        return local
    if local.is_dir() or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", model):
        found = "no config.json there" if local.is_dir() else "no such folder"
        mend = f"Name one of {', '.join(MODELS)}, an entry of backend.models, a folder, or a hub name owner/model."
        raise InputError(f"no language model at {model!r}", expected="a folder in Hugging Face format", found=found, mend=mend)
    return hub_folder(model)


@dataclass(eq=False)
class Loaded:
    """One model in memory, used from one thread."""

    folder: Path
    model: Any
    tokenizer: Any
    context: int

    def prompt(self, request: Request) -> list[int]:
        """Token ids of the request's messages, by the model's own chat template, else one message a line."""
        messages = [{"role": role, "content": content} for role, content in request.messages]
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        else:
            text = "\n".join(content for _, content in request.messages) + "\n"
        ids: list[int] = self.tokenizer(text, add_special_tokens=not self.tokenizer.chat_template)["input_ids"]
        return ids


@dataclass(kw_only=True, eq=False)
class TransformersBackend:
    """Causal models behind core.contracts.Backend.

    models: name -> folder or hub name; a name that is not listed is a folder or a hub name itself. batch_size: rows in one run. dtype: what
    the weights are computed in. device: cpu, cuda, mps. threads: torch's, None leaves it alone. Weights are read as safetensors only.
    Log-probabilities and entropies are of the model's own distribution over its whole vocabulary, untempered, without the end token; output
    tokens count it. total_s is the time from the start of the row's batch to its own last token.
    """

    models: Mapping[str, str] | None = None
    batch_size: int = 32
    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    identities_: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    loaded_: dict[str, Loaded] = field(default_factory=dict, init=False, repr=False)
    queues_: dict[str, asyncio.Queue[tuple[Request, asyncio.Future[Reply]]]] = field(default_factory=dict, init=False, repr=False)
    workers_: list[asyncio.Task[None]] = field(default_factory=list, init=False, repr=False)

    @property
    def remote(self) -> bool:
        return False

    @property
    def concurrency(self) -> int:
        return 4 * self.batch_size

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        # one thread: torch takes the cores itself, and two models at once would only share them
        return ThreadPoolExecutor(1, thread_name_prefix="generate")

    def identity(self, model: str) -> str:
        """transformers: and 16 hex digits of the sha256 over the model's files, read once. Raises InputError for no such model."""
        if model not in self.identities_:
            self.identities_[model] = self._identity(model)
        return self.identities_[model]

    def _identity(self, model: str) -> str:
        folder = causal_folder((self.models or {}).get(model, model))
        paths = sorted({path for pattern in FILES for path in folder.glob(pattern)})
        if not any(path.suffix == ".safetensors" for path in paths):
            raise InputError(f"model {model!r} has no safetensors", where=str(folder), expected="*.safetensors", found="none")
        return "transformers:" + sha256(json_bytes({path.name: sha256(path) for path in paths} | {"dtype": self.dtype}))[:16]

    async def ask(self, request: Request) -> Reply:
        """The model's answer; raises CallError where the prompt is too long for it."""
        if request.model not in self.queues_:
            self.queues_[request.model] = asyncio.Queue()
            self.workers_.append(asyncio.create_task(self._serve(request.model)))
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.queues_[request.model].put_nowait((request, answer))
        return await answer

    async def close(self) -> None:
        for worker in self.workers_:
            worker.cancel()
        await asyncio.gather(*self.workers_, return_exceptions=True)
        self.workers_.clear()
        self.queues_.clear()
        self._thread.shutdown()
        del self._thread

    async def _serve(self, model: str) -> None:
        """Takes what waits for this model, sorts it by length, answers it batch by batch."""
        loop, queue = asyncio.get_running_loop(), self.queues_[model]
        while True:
            waiting = [await queue.get()]
            await asyncio.sleep(0)  # let everybody who is about to ask do so
            while not queue.empty() and len(waiting) < READ_AHEAD * self.batch_size:
                waiting.append(queue.get_nowait())
            waiting = [item for item in waiting if not item[1].done()]
            # rows that stop alike share a batch; within those, length decides
            waiting.sort(key=lambda item: (item[0].max_tokens, sum(len(content) for _, content in item[0].messages)))
            for begin in range(0, len(waiting), self.batch_size):
                batch = waiting[begin : begin + self.batch_size]
                try:
                    replies: Sequence[Reply | Exception] = await loop.run_in_executor(
                        self._thread, self._answer, model, [request for request, _ in batch]
                    )
                except Exception as error:  # a fault of the model's code must reach everybody who waits
                    replies = [error] * len(batch)
                for (_, answer), reply in zip(batch, replies, strict=True):
                    if answer.done():
                        continue
                    if isinstance(reply, Exception):
                        answer.set_exception(reply)
                    else:
                        answer.set_result(reply)

    def _load(self, model: str) -> Loaded:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging as chatter

        if model not in self.loaded_:
            chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
            if self.threads:
                torch.set_num_threads(self.threads)
            folder = causal_folder((self.models or {}).get(model, model))
            tokenizer = AutoTokenizer.from_pretrained(folder)
            tokenizer.padding_side = "left"
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token
            dtype = getattr(torch, self.dtype, None)
            if not isinstance(dtype, torch.dtype):
                raise InputError("unknown dtype", where="backend.dtype", expected="float32, bfloat16 or float16", found=repr(self.dtype))
            net: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
            net.to(self.device).eval()
            stated = json.loads((folder / "config.json").read_text()).get("max_position_embeddings")
            self.loaded_[model] = Loaded(folder, net, tokenizer, int(stated or 1 << 30))
        return self.loaded_[model]

    def _answer(self, model: str, requests: Sequence[Request]) -> list[Reply | Exception]:
        """One batch, in the worker's thread: a Reply or a CallError for each request."""
        loaded = self._load(model)
        prompts = [loaded.prompt(request) for request in requests]
        answers: list[Reply | Exception] = [
            CallError(
                "refused",
                f"the prompt has {len(ids)} tokens and {request.max_tokens} may follow; the model reads {loaded.context}",
                retry=False,
            )
            for ids, request in zip(prompts, requests, strict=True)
        ]
        fits = [i for i, ids in enumerate(prompts) if 0 < len(ids) <= loaded.context - requests[i].max_tokens]
        if fits:
            made = generate(loaded, [prompts[i] for i in fits], [requests[i] for i in fits])
            for i, reply in zip(fits, made, strict=True):
                answers[i] = reply
        return answers


@dataclass(eq=False)
class Row:
    """One answer in the making: the prompt's tokens, those that followed (the end token among them), their log-probabilities, the entropies
    (nats) of the distributions they were taken from, and times."""

    request: Request
    prompt: Sequence[int]
    made: list[int] = field(default_factory=list)
    logprob: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    noise: np.random.Generator | None = None

    def __post_init__(self) -> None:
        if self.request.temperature > 0:
            self.noise = np.random.default_rng(int(self.request.key(), 16))

    def ended(self, ends: frozenset[int]) -> bool:
        return len(self.made) >= self.request.max_tokens or (bool(self.made) and self.made[-1] in ends)


def generate(loaded: Loaded, prompts: Sequence[Sequence[int]], requests: Sequence[Request]) -> list[Reply]:
    """Decodes one batch (b rows) with transformers' own generate.

    Each time half of the rows have ended the others go on without them: one answer that never stops would else hold up a whole batch at
    full width. What is computed anew for that is at most one more reading of the prompts.
    """
    begun, ends = time.perf_counter(), _ends(loaded)
    rows = [Row(request, prompt) for request, prompt in zip(requests, prompts, strict=True)]
    left = rows
    while left:
        _decode(loaded, left, ends)
        left = [row for row in left if not row.ended(ends)]
    return [_reply(loaded.tokenizer, row, ends, begun) for row in rows]


def _decode(loaded: Loaded, rows: Sequence[Row], ends: frozenset[int]) -> None:
    """Adds tokens to every row until half of them have ended."""
    import torch

    texts = [[*row.prompt, *row.made] for row in rows]
    width = max(map(len, texts))
    ids = torch.full((len(rows), width), loaded.tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for place, text in enumerate(texts):
        ids[place, width - len(text) :] = torch.tensor(text)
        mask[place, width - len(text) :] = 1
    steps = Steps(rows, width, ends)
    with torch.inference_mode():
        made = loaded.model.generate(
            input_ids=ids.to(loaded.model.device),
            attention_mask=mask.to(loaded.model.device),
            max_new_tokens=max(row.request.max_tokens - len(row.made) for row in rows),
            do_sample=False,
            num_beams=1,
            pad_token_id=loaded.tokenizer.pad_token_id,
            logits_processor=[steps],
            stopping_criteria=[steps.half_ended],
        )
    steps.note(made)


def _reply(tokenizer: Any, row: Row, ends: frozenset[int], begun: float) -> Reply:
    end = bool(row.made) and row.made[-1] in ends
    kept = row.made[: len(row.made) - end]
    wanted = row.request.logprobs
    return Reply(
        tokenizer.decode(kept, skip_special_tokens=True),
        {"input": len(row.prompt), "cached_input": 0, "output": len(row.made), "reasoning": 0},
        tuple(row.logprob[: len(kept)]) if wanted else None,
        _pieces(tokenizer, kept) if wanted else None,
        "stop" if end else "length",
        first_s=row.time[0] - begun,
        total_s=row.time[-1] - begun,
        entropy=tuple(row.entropy[: len(kept)]) if wanted else None,
    )


class Steps:
    """A logits processor that draws by Gumbel noise where a row has a temperature, and notes each row's tokens and log-probabilities.

    Only one step's distribution is held, so that memory does not grow with the answer's length times the vocabulary.
    """

    def __init__(self, rows: Sequence[Row], width: int, ends: frozenset[int]) -> None:
        self.rows, self.seen, self.ends = rows, width, ends
        self.wanted = any(row.request.logprobs for row in rows)
        self.drawn = any(row.noise is not None for row in rows)
        self._last: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        self.note(input_ids)
        self._last = torch.log_softmax(scores.float(), dim=-1) if self.wanted else None
        if not self.drawn:
            return scores
        scores = scores.float().clone()
        for place, row in enumerate(self.rows):
            if row.noise is not None and not row.ended(self.ends):
                noise = torch.from_numpy(row.noise.gumbel(size=scores.shape[1]).astype(np.float32)).to(scores.device)
                scores[place] = scores[place] / row.request.temperature + noise
        return scores

    def half_ended(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """A stopping criterion: [b] bool, all or none."""
        import torch

        self.note(input_ids)
        stop = 2 * sum(row.ended(self.ends) for row in self.rows) >= len(self.rows)
        return torch.full((len(self.rows),), stop, device=input_ids.device)

    def note(self, ids: Any) -> None:
        """Takes the newest token of ids[b,t] into its row, once."""
        import torch

        if ids.shape[1] == self.seen:
            return
        now, self.seen = time.perf_counter(), ids.shape[1]
        tokens = ids[:, -1].tolist()
        logprobs = entropies = None
        if self._last is not None:
            logprobs = self._last.gather(1, ids[:, -1:].to(self._last.device)).squeeze(1).tolist()
            entropies = torch.special.entr(self._last.exp()).sum(dim=1).tolist()
        for place, row in enumerate(self.rows):
            if not row.ended(self.ends):
                row.made.append(tokens[place])
                row.time.append(now)
                if logprobs is not None and entropies is not None:
                    row.logprob.append(logprobs[place])
                    row.entropy.append(entropies[place])


def _ends(loaded: Loaded) -> frozenset[int]:
    """Every token that ends an answer."""
    stated = loaded.model.generation_config.eos_token_id
    found = [loaded.tokenizer.eos_token_id if stated is None else stated]
    flat = [token for item in found for token in (item if isinstance(item, list) else [item])]
    return frozenset(token for token in flat if token is not None)


def _pieces(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """The text each token adds; "" for one that holds half a character, whose text comes with the token that completes it."""
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=True)
    return tuple(stream.step(tokenizer.backend_tokenizer, token) or "" for token in ids)
