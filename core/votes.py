"""How answers to the same query vote: who says the same, and how far that is to be believed. Shapes: n queries, L answers of each."""

from __future__ import annotations

import numpy as np

from routewright.core.types import Floats, Ints

SUREST = 1e-4  # no answer counts as surer, nor as surer to be wrong


def supporters(said: Floats) -> Ints:
    """[n,L] how many of a row's answers say what this one says, itself among them; 0 for none. said[n,L] are numbers, NaN is no answer."""
    return np.asarray((said[:, :, None] == said[:, None, :]).sum(axis=2))


def most(said: Floats) -> Ints:
    """[n] the size of the largest group of equal answers."""
    return np.asarray(supporters(said).max(axis=1))


def beliefs(score: Floats, said: Floats, wrong: float) -> Floats:
    """[n,L] the chance that each answer is right, given all of them; equal answers share theirs.

    score[n,L]: the chance that an answer is right by itself (NaN: one half), said[n,L] what it says. If model j is right with chance p_j
    and else says one of `wrong` wrong answers, the chance of answer c is proportional to the product of p_j over the models that say c and
    of (1 - p_j) / wrong over those that do not (Dawid and Skene 1979 with one K); that all are wrong stands against them.
    """
    score = np.clip(np.nan_to_num(score.astype(np.float64), nan=0.5), SUREST, 1 - SUREST)
    same = (said[:, :, None] == said[:, None, :]) | np.eye(said.shape[1], dtype=bool)  # an unreadable answer agrees with itself alone
    for_it, against = np.log(score), np.log((1 - score) / wrong)
    weight = np.where(same, for_it[:, None, :], against[:, None, :]).sum(axis=2)
    first = ~np.tril(same, -1).any(axis=2)  # one of each distinct answer
    distinct = first.sum(axis=1)
    nobody = against.sum(axis=1) + np.log(np.maximum(wrong + 1 - distinct, SUREST))
    top = np.maximum(weight.max(axis=1), nobody)
    total = (np.exp(weight - top[:, None]) * first).sum(axis=1) + np.exp(nobody - top)
    return np.asarray(np.exp(weight - top[:, None]) / total[:, None])
