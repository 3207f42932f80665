"""Thresholds of a cascade whose order of models is given: coordinate ascent on quality minus lambda times cost, for a path of lambdas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routewright.core.types import Bools, Floats, Ints
from routewright.routers.cascades._front_search import Search


class Along:
    """The cascades that ask the models of `order` in turn. ranks[L-1] are thresholds: 0 keeps every answer, one above the top none."""

    def __init__(self, search: Search, order: Sequence[int]) -> None:
        self.search, self.order = search, tuple(order)
        self.rank = [search.rank[model] for model in self.order]
        self.tops = np.array([len(search.values[model]) for model in self.order[:-1]])
        self.look = [search.pay[model] - search.call[model] for model in self.order]

    def path(self, steps: int) -> None:
        """Offers what is met for falling, then for rising lambdas, each begun where the last one ended."""
        gain, pay = (part[list(self.order)].sum(axis=1) for part in (self.search.gain, self.search.pay))
        unit = (np.ptp(gain) or 1.0) / (pay.sum() or 1.0)
        prices = np.append(unit * np.geomspace(1e3, 1e-3, steps), 0.0)
        ranks: Ints = np.zeros(len(self.order) - 1, dtype=np.int64)
        for price in (*prices, *prices[::-1]):
            ranks = self.ascend(ranks, price)

    def common(self, tau: float) -> Ints:
        """Ranks of one threshold for all stages."""
        return np.array([np.searchsorted(self.search.values[model], tau) for model in self.order[:-1]], dtype=np.int64)

    def ascend(self, ranks: Ints, price: float, rounds: int = 10) -> Ints:
        """Moves one threshold after the other, from the last to the first, to its best rank, until all stay."""
        ranks = ranks.copy()
        for _ in range(rounds):
            before = ranks.copy()
            reached = self._reached(ranks)
            spent = self._spent(reached)
            last = self.order[-1]
            quality, cost = self.search.gain[last], self.search.call[last]  # of a row that gets to the stage after this one
            for stage in range(len(ranks) - 1, -1, -1):
                ranks[stage] = self._best(ranks, stage, price, reached[stage], spent[stage], quality, cost)
                model, on = self.order[stage], self.rank[stage] < ranks[stage]
                look = self.look[stage] if ranks[stage] else 0.0
                quality = np.where(on, quality, self.search.gain[model])
                cost = self.search.call[model] + look + np.where(on, cost, 0.0)
            if (ranks == before).all():
                break
        return ranks

    def _reached(self, ranks: Ints) -> list[Bools]:
        """[n] for every stage: the rows that get there."""
        here = np.ones(self.search.n, dtype=bool)
        reached = [here]
        for stage, rank in enumerate(ranks):
            here = here & (self.rank[stage] < rank)
            reached.append(here)
        return reached

    def _spent(self, reached: list[Bools]) -> list[tuple[float, float]]:
        """(quality, cost) for every stage: of the rows that stopped before it, and what the others paid before it."""
        quality, cost, found = 0.0, 0.0, list[tuple[float, float]]()
        for stage, model in enumerate(self.order):
            found.append((quality, cost))
            if stage < len(self.order) - 1:
                stopped = reached[stage] & ~reached[stage + 1]
                quality += float(self.search.gain[model][stopped].sum())
                cost += float(self.search.pay[model][reached[stage]].sum())
        return found

    def _best(self, ranks: Ints, stage: int, price: float, here: Bools, before: tuple[float, float], quality: Floats, cost: Floats) -> int:
        """The rank of this stage with the best quality - price * cost, all others held; what beats the front on the way is offered."""
        model, size = self.order[stage], int(self.tops[stage]) + 1
        rank, gain = self.rank[stage][here], self.search.gain[model][here]
        moved = [np.bincount(rank, weights=part, minlength=size) for part in (quality[here] - gain, cost[here])]
        # entry t: the rows with a lower rank than t go on
        qualities, costs = (np.concatenate([[0.0], np.cumsum(part[:-1])]) for part in moved)
        qualities += before[0] + gain.sum()
        costs += before[1] + self.search.pay[model][here].sum()
        costs[0] -= self.look[stage][here].sum()  # a stage that keeps all is the last, and nobody looks
        self._offer(ranks, stage, qualities, costs)
        return int(np.argmax(qualities - price * costs))

    def _offer(self, ranks: Ints, stage: int, quality: Floats, cost: Floats) -> None:
        search = self.search
        better = np.flatnonzero(quality > search.floor[search.bucket(cost)])
        if not len(better):
            return
        shorter = better[better == 0]
        if len(shorter):
            search.offer(self.order[: stage + 1], [*ranks[:stage, None]], np.zeros((1, stage), dtype=np.int64), cost[:1], quality[:1])
        longer = better[better > 0]
        ends = np.flatnonzero(ranks[stage + 1 :] == 0)
        stop = stage + 1 + int(ends[0]) if len(ends) else len(ranks)  # the first later stage that keeps all is the last
        if len(longer):
            edges = [*ranks[:stop, None]]
            edges[stage] = longer
            place = np.zeros((len(longer), stop), dtype=np.int64)
            place[:, stage] = np.arange(len(longer))
            search.offer(self.order[: stop + 1], edges, place, cost[longer], quality[longer])
