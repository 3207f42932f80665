"""RouteLLM's causal-LLM router: a language model scores a query with new tokens, a set for every model (arXiv 2406.18665, section 4.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.trace import PROTOBUF_LIMIT
from routewright.core.types import Floats, InputError, Ints
from routewright.routers._text import TextRouter, observed
from routewright.routers.bert import architecture, body, depth_below_top, reader, require_context

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

QUERY = "{query}"  # where a template has the query
LEAST = 0.01  # of the first guess: what all score tokens but one share where every grade was the same


class CausalLLM(TextRouter):
    """A causal language model and, for every model of the pool, `scores` new tokens whose logits are read at the prompt's last token.

    Their softmax is the chance p_k of each score k = 0 .. scores-1, and quality = sum of p_k k/(scores-1), so 0/1 grades hit the two end
    tokens and a fractional grade is spread on its two neighbours. Learned by cross-entropy on the cells that were observed, every weight
    of the model with it. The new tokens are rows of the unembedding, each with a bias so that training begins at the base rates; they
    are read and never fed, so the tokenizer knows nothing of them, and the rest of the unembedding is left away.

    published=true: the paper's router, of two models. Only the weak model's answers (of the lower mean grade in training) are scored, 1 ..
    scores, and P(the strong one is needed) = 1 - P(score >= score_threshold). quality is [1 - P, P] in the order weak, strong: right for
    ranking by gain, and not a chance to be right.
    The paper's recipe: published=true, lr=1e-6, head_lr=1e-6, layer_decay=1, batch_size=8, max_tokens=2048, some 2000 steps, of Llama-3-8B.
    A bundle is one ONNX file, so a model has at most about 530 million parameters here.

    model: as core/hub.py has it, with a tokenizer.json. template: the prompt, which holds {query} once. chat=true sends it as a user's
    message, after `system` where there is one, through the model's own chat template up to the point where the answer begins. All
    that stands around the query is put there by the tokenizer, as token ids; a query that is too long loses its end, never the prompt's.
    So the query is tokenised by itself and as it is: a chat template that strips or rewrites messages does not get to.
    Strings such as <|user|> in a query are text, never special tokens.
    epochs, lr, ...: as routers/_training.py's Recipe; checkpoints: as routers/bert.py.
    """

    def __init__(
        self,
        model: str = "module:routewright.data.pocket/models/pocket-l",
        scores: int = 5,
        published: bool = False,
        score_threshold: int = 4,
        chat: bool = True,
        system: str = "",
        template: str = QUERY,
        max_tokens: int = 512,
        epochs: int = 2,
        lr: float = 3e-4,
        head_lr: float = 1e-3,
        layer_decay: float = 0.9,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        batch_size: int = 32,
        clip: float = 1.0,
        dropout: float = 0.0,
        validation: float = 0.05,
        patience: int = 2,
        precision: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        checkpoints: bool = True,
    ) -> None:
        self.model, self.scores, self.published, self.score_threshold = model, scores, published, score_threshold
        self.chat, self.system, self.template, self.max_tokens = chat, system, template, max_tokens
        self.epochs, self.lr, self.head_lr, self.layer_decay, self.weight_decay = epochs, lr, head_lr, layer_decay, weight_decay
        self.warmup, self.batch_size, self.clip, self.dropout = warmup, batch_size, clip, dropout
        self.validation, self.patience, self.precision = validation, patience, precision
        self.device, self.threads, self.checkpoints = device, threads, checkpoints

    def _targets(self, table: Any) -> tuple[Ints, Floats, Floats]:
        """Of every scored model's every token: its share of the grade, (e, m * scores), and 1 where the grade was observed."""
        quality = table.quality
        if self.published:
            quality = quality[:, [weaker(quality)]]
        row, grade, weight = observed(quality)
        return row, spread(grade, self.scores).reshape(len(row), -1), np.repeat(weight, self.scores, axis=1)

    def _configured(self, config: dict[str, Any], table: Any) -> dict[str, Any]:
        """bias: the logits of the base rates; weak: the model that a published router scores."""
        self._check_options(len(table.pool))
        require_context(config, self.max_tokens)
        _, target, weight = self._targets(table)
        bias = np.log(np.maximum(np.average(target, axis=0, weights=weight), LEAST / (self.scores - 1)))
        weak = weaker(table.quality) if self.published else None
        return super()._configured(config, table) | {"bias": [float(value) for value in bias], "weak": weak}

    def _check_options(self, models: int) -> None:
        if self.scores < 2:
            raise InputError("a grade needs two score tokens", where="scores", expected="2 or more", found=str(self.scores))
        if not self.published:
            return
        if models != 2:
            mend = "Use published=false, or choose a pair."
            raise InputError("published=true is for two models", expected="2 models", found=str(models), mend=mend)
        if not 2 <= self.score_threshold <= self.scores:
            found = str(self.score_threshold)
            raise InputError("this threshold parts no scores", where="score_threshold", expected=f"2 .. {self.scores}", found=found)

    def _prompted(self, tokenizer: Tokenizer, folder: Path) -> Tokenizer:
        before, after = around(self.template, self.system, self.chat, folder)
        first, last = ([], []) if self.chat else own_ids(tokenizer)  # a chat template writes its own first token
        before_ids = first + tokenizer.encode(before, add_special_tokens=False).ids
        after_ids = tokenizer.encode(after, add_special_tokens=False).ids + last
        room = self.max_tokens - len(before_ids) - len(after_ids)
        if room < 1:
            found = f"{len(before_ids) + len(after_ids)} tokens around a query, max_tokens={self.max_tokens}"
            raise InputError("the prompt leaves no room for a query", expected="fewer tokens around it than max_tokens", found=found)
        return enclosed(tokenizer, before_ids, after_ids)

    def _net(self, config: Mapping[str, Any], folder: Path | None, draw: torch.Generator | None) -> Any:
        if folder is not None:
            require_small(config["model"])
        return reader(body(config["model"], folder, self.dropout), config["bias"], "last", draw)

    def _loss(self, outputs: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        each = target * self._by_model(outputs).log_softmax(dim=2).flatten(1)
        return -(each * weight).sum() * self.scores / weight.sum()

    def _depth(self, name: str) -> int | None:
        return depth_below_top(name, int(architecture(self._config()["model"], self.dropout).num_hidden_layers))

    def _quality(self, outputs: torch.Tensor) -> torch.Tensor:
        import torch

        share = self._by_model(outputs).softmax(dim=2)
        if not self.published:
            return (share * torch.linspace(0, 1, self.scores)).sum(dim=2)
        needed = 1 - share[:, 0, self.score_threshold - 1 :].sum(dim=1, keepdim=True)
        weak_first = [1 - needed, needed]
        return torch.cat(weak_first if self._config()["weak"] == 0 else weak_first[::-1], dim=1)

    def _by_model(self, outputs: torch.Tensor) -> torch.Tensor:
        """(batch, models scored, scores)"""
        return outputs.reshape(-1, outputs.shape[1] // self.scores, self.scores)


def spread(grade: Floats, scores: int) -> Floats:
    """(..., scores): each grade of [0, 1] on the two of the scores 0 .. scores-1 that it lies between, the nearer one getting more."""
    shared: Floats = np.maximum(0.0, 1 - np.abs(grade[..., None] * (scores - 1) - np.arange(scores)))
    return shared


def weaker(quality: Floats) -> int:
    """The column of quality[n,m] with the lowest mean of what was observed; the first of equals."""
    return int(np.argmin(column_means(quality)))


def around(template: str, system: str, chat: bool, folder: Path) -> tuple[str, str]:
    """What stands before and after the query in a prompt of the model in `folder`.

    Raises InputError for a template without one {query}, a model without a chat template, and a chat template that does not keep it.
    """
    if template.count(QUERY) != 1:
        raise InputError("a prompt has the query once", where="template", expected=QUERY, found=repr(template))
    text = template
    if chat:
        from transformers import AutoTokenizer

        made = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if not made.chat_template:
            mend = "Set router.chat=false, and router.template to what it was trained on."
            raise InputError("this model has no chat template", where=str(folder), mend=mend)
        said = [{"role": "system", "content": system}] if system else []
        text = str(made.apply_chat_template([*said, {"role": "user", "content": template}], add_generation_prompt=True, tokenize=False))
        if text.count(QUERY) != 1:
            raise InputError("the chat template does not keep a message whole", where=str(folder), expected=QUERY, found=repr(text))
    elif system:
        raise InputError("a system message is part of a chat", where="system", expected="chat=true", found="chat=false")
    before, _, after = text.partition(QUERY)
    return before, after


def own_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that a tokenizer puts before and after every text by itself, such as a begin-of-text token."""
    found = tokenizer.encode("a")
    inside = np.flatnonzero(np.array(found.special_tokens_mask) == 0)
    return found.ids[: inside[0]], found.ids[inside[-1] + 1 :]


def enclosed(tokenizer: Tokenizer, before: list[int], after: list[int]) -> Tokenizer:
    """A tokenizer that puts these ids around every text, counts them when it truncates, and takes no text for a special token.

    Tokens that are special, or that stand in the prompt, are not looked for in a text any more. They stay in the vocabulary, which keeps
    every id what it was. Raises InputError where one still comes out of a text, or where an id would change.
    """
    from tokenizers import Tokenizer as Made
    from tokenizers.processors import TemplateProcessing

    described = json.loads(tokenizer.to_str())
    added, vocabulary = described["added_tokens"], described["model"].get("vocab")
    hidden = [token for token in added if token["special"] or (token["id"] in {*before, *after} and token["content"].strip())]
    if isinstance(vocabulary, dict):
        for token in added:
            vocabulary.setdefault(token["content"], token["id"])
    described["added_tokens"] = [token for token in added if token not in hidden]
    made = Made.from_str(json.dumps(described))
    parts = {"before": before, "after": after}
    told = [{"id": name, "ids": ids, "tokens": [tokenizer.id_to_token(number) for number in ids]} for name, ids in parts.items() if ids]
    single = [*(["before"] if before else []), "$A", *(["after"] if after else [])]
    made.post_processor = TemplateProcessing(single=single, pair=["$A", "$B:1"], special_tokens=told)
    moved = [token["content"] for token in described["added_tokens"] if made.token_to_id(token["content"]) != token["id"]]
    read = [token["content"] for token in hidden if token["id"] in made.encode(token["content"], add_special_tokens=False).ids]
    if moved or read:
        found = f"{(moved + read)[0]!r} {'changes its id' if moved else 'is read from a text'}"
        raise InputError("this tokenizer cannot be kept from special tokens in a query", expected="BPE, as most causal models", found=found)
    return made


def require_small(config: Mapping[str, Any]) -> None:
    """Raises InputError, before anything is loaded, for a model whose float32 weights do not fit the one ONNX file of a bundle."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        shape = AutoModel.from_config(architecture(config, 0.0))  # type: ignore[no-untyped-call]
    count = sum(parameter.numel() for parameter in shape.parameters())
    if 4 * count > PROTOBUF_LIMIT:
        most, mend = f"at most {PROTOBUF_LIMIT // 4 // 10**6} million parameters", "Take a smaller one."
        raise InputError(
            "the model is too large for one ONNX file", where="model", expected=most, found=f"{count // 10**6} million", mend=mend
        )
