"""Splits by distinct text: rows that ask the same thing stand on the same side of every cut, whatever their ids. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routewright.core.text import normalise, numbered
from routewright.core.types import InputError, Ints, Queries

KINDS = ("random", "grouped", "given")
SIDES = ("train", "calibration", "test")


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows to learn from, to calibrate on and to judge with: sorted, disjoint int64 indices. Only calibration may be empty."""

    train: Ints
    calibration: Ints
    test: Ints


def text_keys(queries: Queries) -> Ints:
    """(n,) a number for each distinct normalised text, from 0 in order of first appearance."""
    return np.array(numbered(normalise(text) for text in queries.text), dtype=np.int64)


def folds(
    queries: Queries,
    *,
    kind: str,
    test: float,
    calibration: float,
    cv: int | None = None,
    given: Sequence[str] | None = None,
    rng: np.random.Generator,
) -> list[Fold]:
    """One fold, or cv of them, in which no normalised text stands on two sides of a cut.

    random: whole texts are drawn for test, then for calibration, until they hold about `test` and `calibration` of all rows.
    grouped: the same with whole groups; groups that share a text are one, and a row without a group ("") is a group of its text alone.
        calibration is drawn by group too, at least one of them, while two or more remain for it and train; else by text from the one.
    given: `given` says train, calibration or test for each query. Where none says calibration and `calibration` > 0, that share of all rows
        is drawn from train by text.
    cv=k (random and grouped): k folds of about equal size; every row is in exactly one test set; `test` and `calibration` play no part.
    calibration=0: no calibration rows (under given: none beyond the labelled ones).
    Same rng state, same folds. Raises InputError for impossible shares, too few texts or groups, and a given text on two sides.
    """
    _check(queries, kind, test, calibration, cv, given)
    if cv is not None:
        calibration = 0.0  # folds calibrate each other: nothing is held back from training
    keys = text_keys(queries)
    if kind == "given":
        return [_given(queries, keys, list(given or ()), calibration, rng)]
    units = keys if kind == "random" else _components(queries, keys)
    sizes = np.bincount(units)
    name = "distinct texts" if kind == "random" else "groups that share no text"
    needed = (cv or 2) if kind == "grouped" else max(cv or 2, 3 if calibration else 2)
    if len(sizes) < needed:
        raise InputError(
            f"too few {name} to split {len(queries)} queries",
            expected=f"at least {needed}",
            found=str(len(sizes)),
            mend="Give more data, fewer folds or no calibration share"
            + ("." if kind == "random" else ", or split at random: split.kind=random."),
        )
    if cv is not None:
        side = _balanced(sizes, cv, rng)[units]
        tests = [np.flatnonzero(side == k) for k in range(cv)]
    else:
        # one unit must be left to learn from, and where it can be, one to calibrate on
        spare = 2 if calibration and len(sizes) > 2 else 1
        tests = [np.flatnonzero(_drawn(sizes, test * len(queries), spare, rng)[units])]
    return [_with_calibration(units, keys, rows, calibration, rng) for rows in tests]


def judged_alone(queries: Queries, *, calibration: float, rng: np.random.Generator) -> list[Fold]:
    """One fold for a router that learns from other data: `calibration` of the rows, by text, to calibrate on, all others to judge with.

    train is the calibration rows again: what is left to learn from them is what a call costs. Raises InputError for an impossible share.
    """
    _check(queries, "random", 1 - calibration, 0.0, None, None)
    keys = text_keys(queries)
    held = np.flatnonzero(_drawn(np.bincount(keys), calibration * len(queries), 1, rng)[keys])
    return [Fold(held, held, np.setdiff1d(np.arange(len(queries)), held))]


def _check(queries: Queries, kind: str, test: float, calibration: float, cv: int | None, given: Sequence[str] | None) -> None:
    if kind not in KINDS:
        raise InputError("unknown kind of split", expected="one of " + ", ".join(KINDS), found=repr(kind))
    if not len(queries):
        raise InputError("there is nothing to split", expected="at least two queries", found="none")
    if not 0 <= calibration < 1 or (cv is None and kind != "given" and not (0 < test < 1 and test + calibration < 1)):
        raise InputError(
            "the shares of a split are impossible",
            expected="0 < test, 0 <= calibration, and their sum below 1",
            found=f"test={test}, calibration={calibration}",
        )
    if cv is not None and (kind == "given" or cv < 2):
        raise InputError("cv does not fit the split", expected="cv >= 2 with random or grouped, else cv=null", found=f"cv={cv} with {kind}")
    if (kind == "given") != (given is not None):
        expected = "a label for each query with kind=given, and none otherwise"
        raise InputError("given labels do not fit the split", expected=expected, found=f"kind={kind}")


def _components(queries: Queries, keys: Ints) -> Ints:
    """(n,) connected components of texts and groups, numbered in order of first appearance: a group and all that share a text with it."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    names = {name: i for i, name in enumerate(dict.fromkeys(queries.group))}
    if set(names) <= {""}:
        raise InputError(
            "a grouped split needs groups",
            expected="a group for each query",
            found="no groups",
            mend="Add a group column (subject, task or tenant), or split at random.",
        )
    rows = np.array([i for i, group in enumerate(queries.group) if group], dtype=np.int64)
    texts = int(keys.max()) + 1
    other = texts + np.array([names[queries.group[i]] for i in rows], dtype=np.int64)
    size = texts + len(names)
    links = coo_matrix((np.ones(len(rows)), (keys[rows], other)), shape=(size, size))
    labels = connected_components(links, directed=False)[1][keys]
    first = {label: i for i, label in enumerate(dict.fromkeys(labels.tolist()))}
    return np.array([first[label] for label in labels.tolist()], dtype=np.int64)


def _drawn(sizes: Ints, target: float, spare: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(u,) the units drawn: in random order, each that brings the rows nearer to `target`; at least one, and at least `spare` are left."""
    order = rng.permutation(len(sizes))
    drawn, total = np.zeros(len(sizes), dtype=bool), 0
    left = len(sizes)
    for unit in order.tolist():
        size = int(sizes[unit])
        if left > spare and abs(total + size - target) < abs(total - target):
            drawn[unit], total, left = True, total + size, left - 1
    if not drawn.any():  # every unit is over twice the target: the smallest overshoots least
        drawn[order[np.argmin(sizes[order])]] = True
    return drawn


def _balanced(sizes: Ints, k: int, rng: np.random.Generator) -> Ints:
    """(u,) a fold for each unit: in random order, the largest first, each to the fold with the fewest rows so far."""
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    rows, fold = np.zeros(k, dtype=np.int64), np.zeros(len(sizes), dtype=np.int64)
    for unit in order.tolist():
        fold[unit] = int(rows.argmin())
        rows[fold[unit]] += sizes[unit]
    return fold


def _with_calibration(units: Ints, keys: Ints, test: Ints, calibration: float, rng: np.random.Generator) -> Fold:
    """The fold with this test set: calibration drawn by unit from the rest, or by text where only one unit is left."""
    rest = np.setdiff1d(np.arange(len(units)), test)
    if not calibration:
        return Fold(rest, np.zeros(0, dtype=np.int64), test)
    by = units[rest] if len(np.unique(units[rest])) > 1 else keys[rest]
    unit, sizes = np.unique(by, return_inverse=True, return_counts=True)[1:]
    if len(sizes) < 2:
        raise InputError(
            "too few distinct texts to calibrate on",
            expected="two or more outside the test set",
            found="1",
            mend="Give more data or no calibration share.",
        )
    drawn = _drawn(sizes, calibration * len(units), 1, rng)[unit]
    return Fold(rest[~drawn], rest[drawn], test)


def _given(queries: Queries, keys: Ints, labels: Sequence[str], calibration: float, rng: np.random.Generator) -> Fold:
    """The fold the labels describe; raises InputError for an unknown label, an empty side and a text on two sides."""
    if len(labels) != len(queries):
        raise InputError("given labels do not fit the queries", expected=f"{len(queries)} labels", found=str(len(labels)))
    first: dict[int, int] = {}
    for row, (key, label) in enumerate(zip(keys.tolist(), labels, strict=True)):
        if label not in SIDES:
            raise InputError(
                "unknown label of a split", where=f"query {queries.id[row]!r}", expected="one of " + ", ".join(SIDES), found=repr(label)
            )
        before = first.setdefault(key, row)
        if labels[before] != label:
            text = queries.text[row]
            raise InputError(
                f"one text stands in {labels[before]} and in {label}",
                where=f"queries {queries.id[before]!r} and {queries.id[row]!r}",
                expected="every text on one side",
                found=repr(text if len(text) <= 60 else f"{text[:57]}..."),
                mend="Move or drop one of the two, or let the split be drawn by text: split.kind=random.",
            )
    sides = np.array(labels, dtype=object)
    train, held, test = (np.flatnonzero(sides == side) for side in SIDES)
    if not len(train) or not len(test):
        raise InputError("the given split lacks a side", expected="train and test", found=", ".join(sorted(set(labels))))
    return Fold(train, held, test) if len(held) else _with_calibration(keys, keys, test, calibration, rng)
