"""Matrix factorisation against an independent restatement of the published model, and against three battles worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from routewright.core.types import Battles, InputError, Pool, Queries
from routewright.routers.mf import MF
from tests.conftest import make_outcomes

SEED, EPOCHS, BATCH, DIM, NOISE = 5, 3, 16, 8, 0.1


class Published(nn.Module):
    """Winner, loser and prompt to a logit, as the paper's section 4.2 and its authors' code define it."""

    def __init__(self, models: int, width: int, dim: int) -> None:
        super().__init__()
        self.P = nn.Embedding(models, dim)
        self.text_proj = nn.Linear(width, dim, bias=False)
        self.classifier = nn.Linear(dim, 1, bias=False)

    def forward(self, win: torch.Tensor, loss: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        ahead = nn.functional.normalize(self.P(win), p=2, dim=1)
        behind = nn.functional.normalize(self.P(loss), p=2, dim=1)
        return self.classifier((ahead - behind) * self.text_proj(prompt)).squeeze(-1)


def winners(battles: Battles, rows: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """(winner, loser, position in rows) with a tie as one win each way."""
    win, lose, at = [], [], []
    for position, row in enumerate(rows):
        a, b, outcome = int(battles.a[row]), int(battles.b[row]), float(battles.outcome[row])
        for first, second in [(a, b)] * (outcome >= 0.5) + [(b, a)] * (outcome <= 0.5):
            win.append(first)
            lose.append(second)
            at.append(position)
    return win, lose, at


def train_published(battles: Battles, ties: str) -> Published:
    vectors = torch.from_numpy(battles.queries.vectors().copy())
    kept = np.flatnonzero(battles.outcome != 0.5) if ties == "drop" else np.arange(len(battles))
    draw = torch.Generator().manual_seed(int(np.random.default_rng(SEED).integers(2**63 - 1)))
    m, width = len(battles.pool), vectors.shape[1]
    net = Published(m, width, DIM)
    with torch.no_grad():
        net.P.weight.copy_(torch.randn((m, DIM), generator=draw))
        net.text_proj.weight.uniform_(-(width**-0.5), width**-0.5, generator=draw)
        net.classifier.weight.uniform_(-(DIM**-0.5), DIM**-0.5, generator=draw)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-5)
    criterion = nn.BCEWithLogitsLoss(reduction="mean")
    for _ in range(EPOCHS):
        order = torch.randperm(len(kept), generator=draw).numpy()
        for begin in range(0, len(order), BATCH):
            rows = kept[order[begin : begin + BATCH]]
            noise = torch.randn((len(rows), width), generator=draw)
            win, lose, at = winners(battles, rows)
            prompt = vectors[battles.query[rows]] + NOISE * noise
            output = net(torch.tensor(win), torch.tensor(lose), prompt[at])
            optimizer.zero_grad()
            criterion(output, torch.ones_like(output)).backward()
            optimizer.step()
    return net


@pytest.mark.parametrize("ties", ["drop", "both"])
def test_the_published_model_gives_the_same_win_rates(ties: str) -> None:
    battles = make_outcomes(np.random.default_rng(0), n=120, m=3).battles()
    assert 0 < (battles.outcome == 0.5).sum() < len(battles)
    router = MF(dim=DIM, epochs=EPOCHS, lr=3e-3, batch_size=BATCH, noise=NOISE, ties=ties)
    start = router.fit(battles, rng=np.random.default_rng(SEED)).win_rate(battles.queries, 2, 0)
    net = train_published(battles, ties)
    n = len(battles.queries)
    with torch.no_grad():
        prompt = torch.from_numpy(battles.queries.vectors().copy())
        expected = torch.sigmoid(net(torch.full((n,), 2), torch.zeros(n, dtype=torch.long), prompt)).numpy()
    assert np.ptp(expected) > 0.001, "the comparison would say nothing of constants"
    assert np.abs(start - expected).max() < 1e-5


class Started(MF):
    """Starts from v = (2, -3), W = .5, w = 1 in one dimension."""

    def _initial(self, m: int, d: int, draw: torch.Generator) -> list[torch.Tensor]:
        return [torch.tensor(value).requires_grad_() for value in ([[2.0], [-3.0]], [[0.5]], [1.0])]


def three_battles() -> Battles:
    """A win and a tie on queries at 1, a loss on a query at 0."""
    text = np.array(["x", "y", "z"], dtype=object)
    queries = Queries(text, text, text, np.array([[1.0], [1.0], [0.0]]))
    return Battles(queries, Pool(("a", "b")), np.arange(3), np.zeros(3, int), np.ones(3, int), np.array([1.0, 0.5, 0.0]))


@pytest.mark.parametrize(("ties", "way"), [("both", -1), ("drop", +1)])
def test_three_battles_by_hand(ties: str, way: int) -> None:
    """Unit vectors are +1 and -1, so the logit is 2 w W x = 1, 1, 0 and its slope in w is 1, 1, 0.

    sigmoid(1) - label = -.269 (win), +.231 (tie). A tie of weight 2 turns the sum to +.193: w and W fall; without it they rise.
    Adam's first step is the learning rate in the direction of the sign: w = 1 -+ .01, W = .5 -+ .01.
    """
    router = Started(dim=1, epochs=1, lr=0.01, weight_decay=0.0, batch_size=3, noise=0.0, ties=ties)
    router.fit(three_battles(), rng=np.random.default_rng(0))
    delta = (1 + way * 0.01) * (0.5 + way * 0.01)
    predicted = router.predict(three_battles().queries).quality
    assert np.allclose(predicted, [[delta, -delta], [delta, -delta], [0, 0]], atol=1e-6)
    assert np.allclose(router.win_rate(three_battles().queries, 0, 1), 1 / (1 + np.exp([-2 * delta, -2 * delta, 0])), atol=1e-6)


def test_a_weight_counts_as_so_many_battles() -> None:
    """With weight 3 on the win the sum is 3 * -.269 + 2 * .231 = -.345: w and W rise although the tie counts."""
    plain = three_battles()
    heavy = Battles(plain.queries, plain.pool, plain.query, plain.a, plain.b, plain.outcome, np.array([3.0, 1.0, 1.0]))
    router = Started(dim=1, epochs=1, lr=0.01, weight_decay=0.0, batch_size=3, noise=0.0).fit(heavy, rng=np.random.default_rng(0))
    assert router.predict(plain.queries).quality[0, 0] == pytest.approx(1.01 * 0.51, abs=1e-6)


def test_decay_is_coupled_with_the_gradient() -> None:
    """A model vector in one dimension has no gradient of its own: coupled decay (L2) moves it by a full Adam step, toward zero."""
    battles = three_battles()

    class Watched(Started):
        def _descend(self, weights: list[torch.Tensor], *rest: object) -> None:
            super()._descend(weights, *rest)
            self.after = weights[0].detach().numpy().ravel()

    router = Watched(dim=1, epochs=1, lr=0.01, weight_decay=1e-2, batch_size=3, noise=0.0).fit(battles, rng=np.random.default_rng(0))
    assert np.allclose(router.after, [1.99, -2.99], atol=1e-5)


def test_initial_weights_are_spread_as_torchs_layers() -> None:
    torch.manual_seed(0)
    ours = MF(dim=64)._initial(50, 384, torch.Generator().manual_seed(0))
    theirs = [nn.Embedding(50, 64).weight, nn.Linear(384, 64, bias=False).weight, nn.Linear(64, 1, bias=False).weight[0]]
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.std().item() == pytest.approx(b.std().item(), rel=0.15)
    assert ours[1].abs().max() <= 384**-0.5
    assert ours[2].abs().max() <= 64**-0.5


def test_all_ties_dropped_is_refused() -> None:
    battles = three_battles()
    tied = Battles(battles.queries, battles.pool, battles.query, battles.a, battles.b, np.full(3, 0.5))
    with pytest.raises(InputError, match="every battle is a tie"):
        MF(ties="drop").fit(tied, rng=np.random.default_rng(0))


def test_a_model_with_nothing_but_ties_is_named_when_they_are_dropped(rng: np.random.Generator) -> None:
    text = np.array(["x"], dtype=object)
    queries = Queries(text, text, text, np.ones((1, 1)))
    battles = Battles(queries, Pool(("a", "b", "c")), np.zeros(2, int), np.array([0, 0]), np.array([1, 2]), np.array([1.0, 0.5]))
    with pytest.raises(InputError, match=r"in c: .*ties=both"):
        MF(ties="drop").fit(battles, rng=rng)
    assert np.isfinite(MF(epochs=1).fit(battles, rng=rng).predict(queries).quality).all()


@pytest.mark.parametrize("options", [{"ties": "some"}, {"epochs": 0}, {"dim": 0}, {"batch_size": 0}])
def test_impossible_options_are_refused(options: dict[str, object], rng: np.random.Generator) -> None:
    with pytest.raises(InputError):
        MF(**options).fit(three_battles(), rng=rng)  # type: ignore[arg-type]


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    MF(epochs=1).fit(three_battles(), rng=np.random.default_rng(0))
    assert torch.get_num_threads() == before
