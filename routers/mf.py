"""RouteLLM's matrix factorisation: a bilinear score of model and query, learned from comparisons (arXiv 2406.18665, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from routewright.core.types import Battles, Floats, InputError, Queries
from routewright.routers._bradley_terry import win_rate
from routewright.routers.base import Base, require_seen

if TYPE_CHECKING:
    import torch

SHORTEST = 1e-12  # as torch.nn.functional.normalize has it


class MF(Base):
    """delta(m, q) = w . (v_m / |v_m| * (W q)) and P(a beats b) = sigmoid(delta_a - delta_b), for any number of models.

    As in the authors' code: no biases, Gaussian noise of size `noise` on the query embedding while training, Adam with L2-coupled
    weight decay, torch's default initial weights.
    batch_size=256, lr=1.2e-3 learns to the same loss on data it has not seen in half the time: docs/SPEED.md.
    ties: "drop" leaves them out, as the authors do; "both" counts a tie as a win each way (label 1/2, weight 2).
    predict gives the raw delta, in no unit of quality: calibrate it. Where all battles are ties, no gain is learned: what remains
    is the initial weights' (a few thousandths), and shrinks with the epochs.
    """

    supervision = "battles"
    learned = ("model_", "projection_", "classifier_")
    GRAPH = """
        hidden = MatMul(embedding, projection_)
        weighted = Mul(hidden, classifier_)
        quality = MatMul(weighted, model_)
    """
    model_: Floats  # (dim, m) unit columns
    projection_: Floats  # (d, dim)
    classifier_: Floats  # (dim,)

    def __init__(
        self,
        dim: int = 128,
        epochs: int = 20,
        lr: float = 3e-4,
        weight_decay: float = 1e-5,
        batch_size: int = 64,
        noise: float = 0.1,
        ties: str = "both",
    ) -> None:
        self.dim, self.epochs, self.lr, self.weight_decay = dim, epochs, lr, weight_decay
        self.batch_size, self.noise, self.ties = batch_size, noise, ties

    def win_rate(self, queries: Queries, a: int, b: int) -> Floats:
        """[n]: P(model a beats model b) on each query."""
        return win_rate(self.predict(queries).quality, a, b)

    def _learn(self, train: Battles, rng: np.random.Generator) -> None:
        """Draws, in this order and from one torch generator seeded by rng: model vectors, W, w; then for every epoch a permutation of the
        battles, and the noise of each batch.
        """
        import torch

        kept = self._kept(train)
        with one_thread():
            draw = torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
            weights = self._initial(len(train.pool), train.queries.vectors().shape[1], draw)
            self._descend(weights, _tensors(train, kept), draw)
        model, projection, classifier = (weight.detach() for weight in weights)
        self.model_ = np.ascontiguousarray(torch.nn.functional.normalize(model, dim=1).numpy().T)
        self.projection_ = np.ascontiguousarray(projection.numpy().T)
        self.classifier_ = classifier.numpy()

    def _kept(self, train: Battles) -> np.ndarray:
        """Rows of the battles to learn from. Raises InputError where none is left, or none of some model."""
        if self.ties not in ("drop", "both"):
            raise InputError("unknown treatment of ties", expected="drop or both", found=repr(self.ties))
        if min(self.dim, self.epochs, self.batch_size) < 1:
            found = f"dim={self.dim}, epochs={self.epochs}, batch_size={self.batch_size}"
            raise InputError("impossible matrix factorisation", expected="dim, epochs and batch_size of at least 1", found=found)
        kept = np.flatnonzero(train.outcome != 0.5) if self.ties == "drop" else np.arange(len(train))
        mend = "Use ties=both, or give battles that somebody won."
        if not len(kept):
            raise InputError("every battle is a tie", expected="a battle with a winner", found=f"{len(train)} ties", mend=mend)
        require_seen(np.bincount(np.concatenate([train.a[kept], train.b[kept]]), minlength=len(train.pool)), train.pool.name, mend)
        return kept

    def _initial(self, m: int, d: int, draw: torch.Generator) -> list[torch.Tensor]:
        """Model vectors (m, dim) as torch.nn.Embedding starts, W (dim, d) and w (dim,) as torch.nn.Linear starts."""
        import torch

        def uniform(shape: tuple[int, ...]) -> torch.Tensor:
            limit = shape[-1] ** -0.5
            return torch.empty(shape).uniform_(-limit, limit, generator=draw)

        return [torch.randn((m, self.dim), generator=draw), uniform((self.dim, d)), uniform((self.dim,))]

    def _descend(self, weights: list[torch.Tensor], battles: dict[str, torch.Tensor], draw: torch.Generator) -> None:
        """Leaves the learned values in `weights`, which become parts of one buffer: a step of Adam is then one call."""
        import torch

        flat = torch.cat([weight.detach().flatten() for weight in weights])
        flat.grad = torch.zeros_like(flat)
        sizes, shapes = [weight.numel() for weight in weights], [weight.shape for weight in weights]
        slopes = [part.view(shape) for part, shape in zip(torch.split(flat.grad, sizes), shapes, strict=True)]
        for weight, part in zip(weights, torch.split(flat, sizes), strict=True):
            weight.data = part.view(weight.shape)
        adam = torch.optim.Adam([flat], lr=self.lr, weight_decay=self.weight_decay, fused=True)
        # one piece of memory for all batches: to ask the system for it anew costs more than the sums
        room = torch.empty((3, min(self.batch_size, len(battles["label"])), battles["vectors"].shape[1]))
        per_battle = [battles[name] for name in ("query", "a", "b", "label", "weight")]
        with torch.no_grad():
            for _ in range(self.epochs):
                order = torch.randperm(len(battles["label"]), generator=draw)
                shuffled = (torch.split(column[order], self.batch_size) for column in per_battle)
                for rows, a, b, label, weight in zip(*shuffled, strict=True):
                    query, ahead, behind = room[:, : len(rows)]
                    torch.randn(query.shape, generator=draw, out=query)
                    query.mul_(self.noise).add_(torch.index_select(battles["vectors"], 0, rows, out=ahead))
                    _slopes(weights, slopes, (query, ahead, behind), a, b, label, weight)
                    adam.step()

    def _scores(self, embedding: Floats) -> Floats:
        return (embedding.astype(np.float64) @ self.projection_ * self.classifier_) @ self.model_


def _slopes(
    weights: list[torch.Tensor],
    slopes: list[torch.Tensor],
    room: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    a: torch.Tensor,
    b: torch.Tensor,
    label: torch.Tensor,
    weight: torch.Tensor,
) -> None:
    """Writes the gradient of the batch's weighted mean cross-entropy into slopes. room: the queries, and room for two more of their size,
    each (batch, d); all are overwritten. The others are (batch,).

    delta(m, q) = direction_m . q with direction (m, d): so a battle costs a few times d products, and a step of any batch m * dim * d.
    """
    import torch

    (model, projection, classifier), (query, ahead, behind) = weights, room
    length = model.norm(dim=1, keepdim=True).clamp_(min=SHORTEST)
    unit = model / length
    scaled = unit * classifier  # (m, dim)
    direction = scaled @ projection
    torch.index_select(direction, 0, a, out=ahead)
    torch.index_select(direction, 0, b, out=behind)
    logit = ahead.sub_(behind).mul_(query).sum(dim=1)
    error = torch.sigmoid(logit).sub_(label).mul_(weight / weight.sum())
    pull = query.mul_(error[:, None])
    of_direction = torch.zeros_like(direction).index_add_(0, a, pull).index_add_(0, b, pull, alpha=-1)
    torch.mm(scaled.T, of_direction, out=slopes[1])
    of_scaled = of_direction @ projection.T  # (m, dim)
    torch.sum(of_scaled * unit, dim=0, out=slopes[2])
    of_unit = of_scaled * classifier
    torch.sub(of_unit, unit * (of_unit * unit).sum(dim=1, keepdim=True), out=slopes[0]).div_(length)


def _tensors(train: Battles, kept: np.ndarray) -> dict[str, torch.Tensor]:
    """Embeddings, and for every battle kept: query, a, b, label and weight."""
    import torch

    outcome = train.outcome[kept]
    assert train.weight is not None
    columns = {
        "vectors": train.queries.vectors(),
        "query": train.query[kept],
        "a": train.a[kept],
        "b": train.b[kept],
        "label": outcome,
        "weight": train.weight[kept] * np.where(outcome == 0.5, np.float32(2), np.float32(1)),
    }
    return {name: torch.from_numpy(np.array(column)) for name, column in columns.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: faster for batches this small, and the same sums on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
