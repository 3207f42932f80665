"""Audits data before anything is learned from it: refuses what cannot be used, notes what is remarkable, and counts leaks over a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from routewright.core.types import Bools, Floats, InputError, Ints, Outcomes, Queries
from routewright.data.split import Fold, text_keys

FEWEST_QUERIES = 10
LONG_TEXT = 20_000  # characters
EXAMPLES = 3
BLOCK = (1024, 4096)  # test and train rows in one product: 16 MB of cosines


def check(outcomes: Outcomes) -> list[str]:
    """Notes on usable data, in plain sentences; [] where nothing is remarkable.

    Raises InputError for an empty query, fewer than two models, fewer than ten queries, and a model without any observed quality.
    """
    _refuse(outcomes)
    return [*_about_quality(outcomes), *_about_texts(outcomes), *_about_cost(outcomes)]


def _refuse(outcomes: Outcomes) -> None:
    for row, text in enumerate(outcomes.queries.text):
        if not text.strip():
            raise InputError(
                "a query has no text",
                where=f"row {row}, id {outcomes.queries.id[row]!r}",
                expected="text to route by",
                found=repr(text[:20]),
                mend="Drop the row or give its text.",
            )
    if len(outcomes.pool) < 2:
        raise InputError(
            "a router needs at least two models",
            expected="2 or more",
            found=outcomes.pool.name[0],
            mend="Add the outcomes of another model.",
        )
    if len(outcomes) < FEWEST_QUERIES:
        raise InputError(
            "too few queries to learn from", expected=f"{FEWEST_QUERIES} or more", found=str(len(outcomes)), mend="Collect more of them."
        )
    observed = ~np.isnan(outcomes.quality)
    if not observed.any():
        raise InputError(
            "no quality was observed",
            expected="a grade for some answers",
            found="none",
            mend="Grade the answers, or name the right column.",
        )
    for name, seen in zip(outcomes.pool.name, np.any(observed, axis=0).tolist(), strict=True):
        if not seen:
            raise InputError(
                f"model {name!r} has no observed quality",
                expected="a grade for some of its answers",
                found="none",
                mend="Grade some, or leave it out with data.models=[...].",
            )


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %"


def _about_quality(outcomes: Outcomes) -> list[str]:
    notes = []
    quality, names = outcomes.quality, outcomes.pool.name
    known = quality[~np.isnan(quality)]
    low, high = np.nanmin(quality, axis=0), np.nanmax(quality, axis=0)
    if np.all(known == known[0]):
        notes.append(f"Every outcome is {known[0]:g}: there is nothing to tell the models apart by.")
    else:
        notes += [f"Every quality of {name} is {low[j]:g}." for j, name in enumerate(names) if low[j] == high[j]]
    for j, name in enumerate(names):
        lost = int(np.isnan(quality[:, j]).sum())
        if lost:
            notes.append(f"The quality of {name} was not observed for {lost} of {len(quality)} queries ({_percent(lost, len(quality))}).")
    return notes


def _disagreeing(outcomes: Outcomes, keys: Ints) -> Bools:
    """(u,) whether the rows of a text hold two different grades for one model."""
    differs = np.zeros(int(keys.max()) + 1, dtype=bool)
    for column in outcomes.quality.T:
        low, high = np.full(len(differs), np.inf), np.full(len(differs), -np.inf)
        seen = ~np.isnan(column)
        np.minimum.at(low, keys[seen], column[seen])
        np.maximum.at(high, keys[seen], column[seen])
        differs |= low < high
    return differs


def _about_texts(outcomes: Outcomes) -> list[str]:
    notes = []
    keys = text_keys(outcomes.queries)
    times = np.bincount(keys)
    repeated = int((times > 1).sum())
    if repeated:
        differ = int(_disagreeing(outcomes, keys).sum())
        notes.append(
            f"{repeated} texts stand on more than one row ({int(times[times > 1].sum())} rows); for {differ} of them "
            f"({_percent(differ, repeated)}) the grades disagree: label noise that no router can learn."
        )
    longest = max(len(text) for text in outcomes.queries.text)
    count = sum(len(text) > LONG_TEXT for text in outcomes.queries.text)
    if count:
        notes.append(
            f"{count} texts are longer than {LONG_TEXT:,} characters (the longest {longest:,}): encoders read only their beginning."
        )
    return notes


def _about_cost(outcomes: Outcomes) -> list[str]:
    if np.isnan(outcomes.cost).all():
        return ["No cost is known: routers can be compared by share of calls, not in USD."]
    notes = []
    for j, name in enumerate(outcomes.pool.name):
        cost = outcomes.cost[:, j]
        known = cost[~np.isnan(cost)]
        if len(known) < len(cost):
            notes.append(f"The cost of {name} is not known for {len(cost) - len(known)} of {len(cost)} queries.")
        if len(known) > 1 and np.all(known == known[0]):
            notes.append(f"The cost of {name} is the same for every query ({known[0]:g} USD): a price of the call, not of its tokens.")
    return notes


def leakage(queries: Queries, folds: Sequence[Fold], *, threshold: float = 0.95) -> dict[str, Any]:
    """How many test rows of these folds stand, word for word or nearly, in their own fold's train set.

    exact_duplicates: test rows whose normalised text is there. near_duplicates: test rows whose largest cosine to its embeddings is
    >= threshold, exact ones included; None without embeddings. examples: the (test id, train id, cosine or None) of up to three of the
    closest pairs. Cosines are made in blocks of 16 MB. Raises InputError for a threshold outside (0, 1] and embeddings that are not finite.
    """
    if not 0 < threshold <= 1:
        raise InputError("the threshold is no cosine", expected="a value in (0, 1]", found=str(threshold))
    keys = text_keys(queries)
    exact, near = 0, 0
    pairs: list[tuple[str, str, float | None]] = []
    for fold in folds:
        _, at, where = np.intersect1d(keys[fold.test], keys[fold.train], return_indices=True)
        exact += int(np.isin(keys[fold.test], keys[fold.train]).sum())
        if queries.embedding is None:
            pairs += [(queries.id[fold.test[i]], queries.id[fold.train[j]], None) for i, j in zip(at, where, strict=True)][:EXAMPLES]
            continue
        cosine, nearest = _nearest(queries.vectors(), fold)
        near += int((cosine >= threshold).sum())
        for i in np.argsort(-cosine, kind="stable")[:EXAMPLES]:
            if cosine[i] >= threshold:
                pairs.append((queries.id[fold.test[i]], queries.id[nearest[i]], round(float(cosine[i]), 4)))
    pairs.sort(key=lambda pair: -(pair[2] or 0.0))
    return {
        "exact_duplicates": exact,
        "near_duplicates": None if queries.embedding is None else near,
        "threshold": threshold,
        "examples": pairs[:EXAMPLES],
    }


def _unit_rows(rows: Floats) -> Floats:
    if not np.isfinite(rows).all():
        raise InputError("an embedding is not finite", expected="unit rows", found="NaN or infinity", mend="Encode the queries again.")
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def nearest(rows: Floats, others: Floats) -> tuple[Floats, Ints]:
    """(t,) the largest cosine of each row to any of `others`, up to rounding, and (t,) which one; in blocks of 16 MB."""
    best, at_best = np.full(len(rows), -1.0), np.zeros(len(rows), dtype=np.int64)
    for begin in range(0, len(others), BLOCK[1]):
        against = _unit_rows(others[begin : begin + BLOCK[1]]).T  # (d, block)
        for first in range(0, len(rows), BLOCK[0]):
            part = slice(first, first + BLOCK[0])
            cosine = _unit_rows(rows[part]) @ against
            at = cosine.argmax(axis=1)
            # float32 products of equal rows fall short of 1 by a few 1e-7
            value = np.minimum(cosine[np.arange(len(at)), at].astype(np.float64) + 1e-6, 1.0)
            better = value > best[part]
            best[part], at_best[part] = np.where(better, value, best[part]), np.where(better, begin + at, at_best[part])
    return best, at_best


def _nearest(embedding: Floats, fold: Fold) -> tuple[Floats, Ints]:
    """(t,) the largest cosine of each test row to a train row, and (t,) that train row."""
    cosine, at = nearest(embedding[fold.test], embedding[fold.train])
    return cosine, fold.train[at]
