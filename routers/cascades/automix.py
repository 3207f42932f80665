"""AutoMix: a first model checks its own answer, and a meta-verifier that knows how far such a check can be trusted decides who answers.

Madaan et al. 2023, arXiv 2310.12963. The check (self-verification) is the signal handed in; the meta-verifier is learned from it. Their
POMDP has the models' correctness as hidden state and the check as its observation: with one check, its belief about every model is the mean
grade of that model among training queries with a like check, and its action the one worth most, grade - lambda * USD.
"""

from __future__ import annotations

import numpy as np

from routewright.core.contracts import SCORE, USD_SCORE
from routewright.core.rules import Checked
from routewright.core.types import Floats, InputError, Ints, Outcomes
from routewright.routers.cascades.base import Base, best_within

METAS = ("pomdp", "threshold")
LAMBDAS = 200  # tried for every first model
PULL = 5.0  # queries at the mean by which a bin's belief is pulled towards it


class AutoMix(Base):
    """One model answers; from the score of that answer the meta-verifier keeps it or asks one other model, whose answer is then served.

    meta: pomdp weighs every dearer model by its belief; threshold asks one given other model below a threshold, the paper's simplest one.
    bins: of the score, equally many training queries each. The first model, and lambda or the other model with its threshold, are chosen
    for every budget on the training rows.
    """

    learned = ("edges_", "belief_", "first_", "action_")
    edges_: Floats  # (m, bins - 1) of each first model's score
    belief_: Floats  # (m, bins, m) mean grade of every model, given the first model's bin
    first_: Ints  # (k,)
    action_: Ints  # (k, bins) the model that is asked then, or the first one to keep its answer

    def __init__(self, meta: str = "pomdp", bins: int = 10) -> None:
        self.meta, self.bins = meta, bins

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        if self.meta not in METAS:
            raise InputError("unknown meta-verifier", expected="one of " + ", ".join(METAS), found=repr(self.meta))
        if self.bins < 2:
            raise InputError("too few bins", expected="bins >= 2", found=str(self.bins))
        score, quality = train.signals[SCORE].astype(np.float64), train.quality.astype(np.float64)
        m = quality.shape[1]
        self.edges_ = np.quantile(score, np.arange(1, self.bins) / self.bins, axis=0).T
        place = np.stack([np.searchsorted(self.edges_[j], score[:, j], side="right") for j in range(m)])  # (m, n)
        share, mean = _tables(place, quality, self.bins)
        self.belief_ = mean
        spent = _tables(place, train.cost, self.bins, pull=0.0)[1]
        look = train.signals[USD_SCORE].mean(axis=0, dtype=np.float64) if USD_SCORE in train.signals else np.zeros(m)
        tried = [row for first in range(m) for row in self._policies(first, share[first], mean[first], spent[first], float(look[first]))]
        usd, worth, first, action = (np.array(part) for part in zip(*tried, strict=True))
        found = best_within(usd, worth, self.budgets())
        self.first_, self.action_ = first[found], action[found]

    def _policies(self, first: int, share: Floats, belief: Floats, spent: Floats, look: float) -> list[tuple[float, float, int, Ints]]:
        """(mean USD, believed quality, first model, action of each bin) of every policy that begins so; look: USD of its score."""
        m = len(self.cost_)
        further = np.where(np.arange(m) == first, 0.0, spent)  # (bins, m) what the second call costs
        keep = np.full(self.bins, first)
        actions = [keep]
        if self.meta == "threshold":
            actions += [np.where(np.arange(self.bins) < cut, j, keep) for j in range(m) if j != first for cut in range(1, self.bins + 1)]
        else:
            gain = belief - belief[:, [first]]
            prices = (gain / np.where(further > 0, further, np.nan))[gain > 0]
            if len(prices):
                low, high = np.log(np.nanmin(prices) * 0.99), np.log(np.nanmax(prices) * 1.01)
                worths = [belief - price * further for price in np.exp(np.linspace(low, high, LAMBDAS))]
                actions += [worth.argmax(axis=1) for worth in worths]
        rows = np.arange(self.bins)
        base = float(share @ spent[:, first])
        checked = [base + (look if (act != first).any() else 0.0) for act in actions]  # whatever the score says, it need not be bought
        paid = [start + float(share @ further[rows, act]) for start, act in zip(checked, actions, strict=True)]
        return [(usd, float(share @ belief[rows, act]), first, act) for usd, act in zip(paid, actions, strict=True)]

    def rule(self, knob: float) -> Checked:
        """The first model and the action of each bin for the dearest prepared budget that this one can pay for."""
        row = self.place(knob)
        first = int(self.first_[row])
        return Checked(first, self.edges_[first], self.action_[row], self.cost_)


def _tables(place: Ints, value: Floats, bins: int, pull: float = PULL) -> tuple[Floats, Floats]:
    """share (m, bins) of the rows in each first model's bins, and mean (m, bins, m) of value[n,m] there, pulled to the overall mean."""
    m = len(place)
    overall = value.mean(axis=0)
    share, mean = np.zeros((m, bins)), np.zeros((m, bins, value.shape[1]))
    for first in range(m):
        count = np.bincount(place[first], minlength=bins).astype(np.float64)
        total = np.stack([np.bincount(place[first], weights=column, minlength=bins) for column in value.T], axis=1)
        share[first] = count / len(value)
        weight = count[:, None] + pull
        mean[first] = np.divide(total + pull * overall, weight, out=np.tile(overall, (bins, 1)), where=weight > 0)
    return share, mean
