"""Searches lists and thresholds: quality and cost of whole lattices of thresholds by histograms, and a closer look where the front is near.

Shapes: n queries, m models, L the stages of a list. A threshold is a rank among a model's distinct scores: an answer is kept where the
rank of its score is not below it. Only ranks that keep some answers and not all are tried: with any other, a shorter list does as well for
no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple, Self

import numpy as np

from routewright.core.types import Floats, InputError, Ints
from routewright.routers.cascades.base import ROUNDING

BUCKETS = 1 << 15  # steps of the cost axis, on which the best quality so far is looked up
LATTICE = 1 << 17  # points of one closer look at most
SPLIT = 4  # parts that a closer look divides an interval into

Models = tuple[int, ...]


class Near(NamedTuple):
    """Points of one list's lattice that lie near the front: place[p, L-1] into edges, cost[p] and quality[p]."""

    models: Models
    edges: list[Ints]
    place: Ints
    cost: Floats
    quality: Floats

    def take(self, rows: Ints) -> Near:
        return Near(self.models, self.edges, self.place[rows], self.cost[rows], self.quality[rows])


class Points(NamedTuple):
    """Cascades: models[p, longest] and rank[p, longest - 1], both padded with -1, mean cost[p] and mean quality[p]."""

    models: Ints
    rank: Ints
    cost: Floats
    quality: Floats

    def take(self, rows: Ints) -> Points:
        return Points(self.models[rows], self.rank[rows], self.cost[rows], self.quality[rows])

    def of(self, length: int, most: int) -> list[tuple[Models, tuple[int, ...]]]:
        """(models, ranks) of the cascades of this length; where there are more than `most`, that many, evenly spread over the costs."""
        rows = np.flatnonzero((self.models >= 0).sum(axis=1) == length)
        if len(rows) > most:
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))]
        return [(tuple(self.models[row, :length].tolist()), tuple(self.rank[row, : length - 1].tolist())) for row in rows]


class Front(NamedTuple):
    """Cascades by rising mean cost, each better than all before: models[k, L] padded with -1, thresholds[k, L-1] padded with NaN.

    cost[k] is the mean USD a query and quality[k] the mean quality on the table it was made from.
    """

    models: Ints
    thresholds: Floats
    cost: Floats
    quality: Floats

    def at(self, budgets: Floats) -> Ints:
        """index[b]: the best cascade whose mean cost is at most each budget, in USD a query. Raises InputError below the cheapest."""
        limits = np.atleast_1d(np.asarray(budgets, dtype=np.float64))
        found = np.searchsorted(self.cost, limits * ROUNDING, side="right") - 1
        found[np.isnan(limits)] = -1
        if (found < 0).any():
            raise InputError(
                "no cascade is that cheap",
                expected=f"at least USD {self.cost[0]:.6g} a query",
                found=f"{limits[found < 0][0]:.6g}",
            )
        return found

    def take(self, rows: Ints) -> Front:
        return Front(self.models[rows], self.thresholds[rows], self.cost[rows], self.quality[rows])


class Search:
    """Keeps the best quality at every mean cost of all it has looked at. score, quality, cost and pay (cost with the look) are [n,m].

    longest: stages of the longest list. cells: points of a list's first lattice. tolerance: a gain in quality too small to look for.
    effort: points that the closer looks of one sweep may visit. beam: cascades of the front that grow and polish start from.
    """

    def __init__(
        self,
        score: Floats,
        quality: Floats,
        cost: Floats,
        pay: Floats,
        *,
        longest: int,
        cells: int,
        tolerance: float,
        effort: int,
        beam: int,
    ) -> None:
        self.n, self.m = score.shape
        self.longest, self.cells, self.tolerance, self.effort, self.beam = longest, cells, tolerance, effort, beam
        found = [np.unique(column, return_inverse=True) for column in score.T]
        self.values = [values for values, _ in found]
        self.rank = [np.ascontiguousarray(place.reshape(-1), dtype=np.int64) for _, place in found]
        # a row's share in the means
        self.gain, self.call, self.pay = (np.ascontiguousarray(part.T, dtype=np.float64) / self.n for part in (quality, cost, pay))
        self.low = float(self.call.sum(axis=1).min())
        high = float(np.sort(self.pay.sum(axis=1))[-longest:].sum())
        self.scale = (BUCKETS - 2) * (1 - 1e-9) / (high - self.low) if high > self.low else 0.0
        self.fresh()

    def fresh(self) -> Self:
        """Forgets all it has looked at."""
        self.floor = np.full(BUCKETS + 1, -np.inf)  # best quality at a mean cost of at most low + bucket / scale
        self.kept: list[Points] = []
        return self

    # ---- one list

    def edges(self, model: int, most: int) -> Ints:
        """At most `most` of a model's ranks, with about as many answers between any two; none where all its scores are equal."""
        top = len(self.values[model]) - 1
        if top <= most:
            return np.arange(1, top + 1)
        below = np.cumsum(np.bincount(self.rank[model]))  # (U,) answers with at most this score
        inner = np.searchsorted(below, np.linspace(0, self.n, most)[1:-1], side="left") + 1
        return np.unique(np.clip(np.concatenate([[1], inner, [top]]), 1, top))

    def single(self, model: int) -> None:
        """A list of one model."""
        cost, quality = (np.array([part[model].sum()]) for part in (self.call, self.gain))
        self.offer((model,), [], np.zeros((1, 0), dtype=np.int64), cost, quality)

    def lattices(self, before: Models, edges: list[Ints], after: Iterable[int]) -> Iterator[tuple[int, Floats, Floats]]:
        """(last, cost, quality) of the lists before + (last,) at every combination of ranks, each of shape (len(edges[0]), ...).

        A row passes the ranks at places u where its bins, counted by the edges at most its own rank, are at most u on every axis. So what
        passes is a histogram of the bins, summed along each axis, and a mean is the sum over stages of what passing on to them changes.
        """
        shape: tuple[int, ...] = ()
        flat = np.zeros(self.n, dtype=np.int64)
        cost, quality = np.zeros(()), np.zeros(())
        worth: Floats = np.zeros(self.n)
        for model, edge in zip(before, edges, strict=True):
            cost = (cost + _passing(flat, self.pay[model], shape))[..., None]
            quality = (quality + _passing(flat, self.gain[model] - worth, shape))[..., None]
            worth, shape = self.gain[model], (*shape, len(edge) + 1)
            bins = np.zeros(len(self.values[model]) + 1, dtype=np.int64)
            bins[edge] = 1
            flat = flat * shape[-1] + np.cumsum(bins)[self.rank[model]]
        for last in after:
            yield last, cost + _passing(flat, self.call[last], shape), quality + _passing(flat, self.gain[last] - worth, shape)

    def look(self, before: Models, edges: list[Ints], after: Iterable[int], deviations: float = 0.0) -> list[Near]:
        """Offers what is better than all so far; returns, for every last model, the points within so many deviations of the front."""
        if any(not len(edge) for edge in edges):
            return []
        found = []
        for last, cost, quality in self.lattices(before, edges, after):
            models = (*before, last)
            slack = max(deviations * self.spread(models) - self.tolerance, 0.0) if deviations else 0.0
            floor = self.floor[self.bucket(cost)]
            place = np.nonzero(quality > floor - slack)
            near = Near(models, edges, np.stack(place, axis=1), cost[place], quality[place])
            better = near.quality > floor[place]
            if better.any():
                self.offer(models, edges, near.place[better], near.cost[better], near.quality[better])
            if slack and len(near.cost):
                found.append(near)
        return found

    def spread(self, models: Models) -> float:
        """Root mean square of what one row's move to the next stage adds to the mean quality, over all stages."""
        steps = np.diff(self.gain[list(models)], axis=0)
        return float(np.sqrt((steps**2).mean(axis=1).sum()))

    def bucket(self, cost: Floats) -> Ints:
        return ((cost - self.low) * self.scale).astype(np.int64)

    def offer(self, models: Models, edges: list[Ints], place: Ints, cost: Floats, quality: Floats) -> None:
        padded, rank = np.full((len(cost), self.longest), -1), np.full((len(cost), self.longest - 1), -1)
        padded[:, : len(models)] = models
        for axis, edge in enumerate(edges):
            rank[:, axis] = edge[place[:, axis]]
        self.kept.append(Points(padded, rank, cost, quality))
        np.maximum.at(self.floor, self.bucket(cost) + 1, quality)
        np.maximum.accumulate(self.floor, out=self.floor)

    def front(self) -> Points:
        """All that is better than what costs no more, by rising cost."""
        points = Points(*(np.concatenate(parts) for parts in zip(*self.kept, strict=True)))
        self.kept = [points.take(pareto(points.cost, points.quality))]
        return self.kept[0]

    def named(self, points: Points) -> Front:
        """Ranks as thresholds half way down to the next lower score: then rounding changes nothing. Above the top: infinity."""
        thresholds = np.full(points.rank.shape, np.nan)
        for model, values in enumerate(self.values):
            below, least = values, np.append(values[1:], np.inf)
            middle = below + (least - below) / 2
            cuts = np.concatenate([[-np.inf], np.where(middle > below, middle, least)])  # neighbouring floats have no middle
            row, stage = np.nonzero((points.models[:, :-1] == model) & (points.rank >= 0))
            thresholds[row, stage] = cuts[points.rank[row, stage]]
        return Front(points.models.astype(np.int64), thresholds, points.cost, points.quality)

    # ---- many lists

    def sweep(self, lists: Iterable[Models], width: float) -> None:
        """The first lattice of every list (all of one length), then closer looks, level by level, where the front is near.

        width: between two points of a lattice the mean quality is a random walk over the rows between them, one step a row; it is trusted
        to stay within so many of its standard deviations of what the two points have.
        """
        near, wide = list[Near](), 0.0
        edges: dict[int, Ints] = {}
        for before, group in groupby(lists, key=lambda models: models[:-1]):
            most = self.n if len(before) == 1 else max(2, int(self.cells ** (1 / len(before)) + 1e-9))
            edges.update({model: self.edges(model, most) for model in before if model not in edges})
            wide = width * float(np.sqrt(self.n / most))
            near += self.look(before, [edges[model] for model in before], [models[-1] for models in group], wide)
        visited = 0
        while near:
            self.front()
            finer, found = wide / SPLIT**0.5, list[Near]()
            for part in near:
                still = part.take(self._still(part, wide))
                for window in _windows(still.edges, _cells(still)):
                    visited += int(np.prod([len(edge) for edge in window]))
                    if visited <= self.effort:
                        found += self.look(part.models[:-1], window, part.models[-1:], finer)
            near, wide = found, finer

    def _still(self, near: Near, deviations: float) -> Ints:
        """The points that are near the front as it is now."""
        slack = max(deviations * self.spread(near.models) - self.tolerance, 0.0)
        return np.flatnonzero(near.quality > self.floor[self.bucket(near.cost)] - slack)

    def children(self, length: int) -> list[Models]:
        """The lists of the front that are one model shorter, with one more model at every place; sorted."""
        parents = {models for models, _ in self.front().of(length - 1, self.beam)}
        return sorted({child for models in parents for child, _ in self._longer(models)})

    def _longer(self, models: Models) -> Iterator[tuple[Models, int]]:
        """(list, place) with every other model put in at every place."""
        for place in range(len(models) + 1):
            for model in range(self.m):
                if model not in models:
                    yield (*models[:place], model, *models[place:]), place

    def grow(self, length: int) -> None:
        """Puts one more model at every place of every cascade of the front that is one stage shorter, at all the new stage's ranks."""
        for models, ranks in self.front().of(length - 1, self.beam):
            for longer, place in self._longer(models):
                axis = min(place, length - 2)  # a new last model has no threshold: then the stage before it gets one
                held = [np.array([rank]) for rank in ranks]
                self.look(longer[:-1], [*held[:axis], self.edges(longer[axis], self.n), *held[axis:]], longer[-1:])

    def polish(self, length: int, rounds: int = 20) -> None:
        """Coordinate ascent: every threshold of every cascade of the front at all its ranks, the others held, until the front stays."""
        seen = set[tuple[Models, tuple[int, ...], int]]()
        for _ in range(rounds):
            before = len(seen)
            for models, ranks in self.front().of(length, self.beam):
                for axis in range(length - 1):
                    others = (models, ranks[:axis] + ranks[axis + 1 :], axis)
                    if others not in seen:
                        seen.add(others)
                        held = [np.array([rank]) for rank in ranks]
                        self.look(models[:-1], [*held[:axis], self.edges(models[axis], self.n), *held[axis + 1 :]], models[-1:])
            if len(seen) == before:
                break


def pareto(cost: Floats, quality: Floats) -> Ints:
    """Rows that are better than all that cost no more, by rising cost."""
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    return order[np.concatenate([[True], quality[order][1:] > best[:-1]])]


def _passing(flat: Ints, weight: Floats, shape: tuple[int, ...]) -> Floats:
    """Sum of weight[n] over the rows that pass every combination of ranks; flat[n]: a row's bins, as one index into shape."""
    if not shape:
        return np.asarray(weight.sum())
    total = np.bincount(flat, weights=weight, minlength=int(np.prod(shape))).reshape(shape)
    total = total[tuple(slice(0, -1) for _ in shape)]
    for axis in range(len(shape)):
        total = np.cumsum(total, axis=axis)
    return np.asarray(total, dtype=np.float64)


def _cells(near: Near) -> Ints:
    """[c, L-1]: the cells that touch these points and have ranks inside; cell i of an axis lies between its edges i and i + 1."""
    axes = near.place.shape[1]
    corners = np.stack(np.meshgrid(*[[-1, 0]] * axes, indexing="ij"), axis=-1).reshape(-1, axes)
    cells = np.unique((near.place[:, None, :] + corners).reshape(-1, axes), axis=0)
    inside, wide = np.ones(len(cells), dtype=bool), np.zeros(len(cells), dtype=bool)
    for column, edge in zip(cells.T, near.edges, strict=True):
        if len(edge) == 1:  # one rank is all there is on this axis
            inside &= column == 0
        else:
            inside &= (column >= 0) & (column < len(edge) - 1)
            wide |= np.append(np.diff(edge), 0)[column] > 1
    return cells[inside & wide]


def _windows(edges: list[Ints], cells: Ints) -> Iterator[list[Ints]]:
    """Finer edges that cover these cells, in parts where one lattice would be too large."""
    if not len(cells):
        return
    finer = [_finer(edge, np.unique(column)) for edge, column in zip(edges, cells.T, strict=True)]
    if np.prod([float(len(edge)) for edge in finer]) <= LATTICE or (cells == cells[0]).all():
        yield finer
        return
    column = cells[:, int(np.argmax([len(np.unique(column)) for column in cells.T]))]
    low = column < np.median(np.unique(column))
    yield from _windows(edges, cells[low])
    yield from _windows(edges, cells[~low])


def _finer(edge: Ints, cells: Ints) -> Ints:
    """The ends of these cells of one axis, and up to SPLIT - 1 ranks between them."""
    if len(edge) == 1:
        return edge
    low, high = edge[cells], edge[cells + 1]
    return np.unique(low[:, None] + (high - low)[:, None] * np.arange(SPLIT + 1) // SPLIT)
