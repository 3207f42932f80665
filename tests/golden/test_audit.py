"""The audit: unusable data are refused by name, remarkable data noted with counts checked by hand, planted leaks found."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.types import InputError, Outcomes, Queries
from routewright.data import audit
from routewright.data.audit import check, leakage
from routewright.data.split import Fold
from tests.conftest import make_outcomes


def with_texts(outcomes: Outcomes, texts: list[str], embedding: Any = None) -> Outcomes:
    queries = outcomes.queries
    return replace(outcomes, queries=Queries(queries.id, np.array(texts, dtype=object), queries.group, embedding))


def test_ordinary_data_give_no_notes(outcomes: Outcomes) -> None:
    assert check(outcomes) == []


def test_unusable_data_are_refused(outcomes: Outcomes) -> None:
    texts = outcomes.queries.text.tolist()
    texts[7] = " \n\u00a0"
    with pytest.raises(InputError, match="no text in row 7, id 'q7'"):
        check(with_texts(outcomes, texts))
    with pytest.raises(InputError, match="at least two models"):
        check(outcomes.models(["model0"]))
    with pytest.raises(InputError, match=r"too few queries.*expected 10 or more, found 9"):
        check(outcomes.take(np.arange(9)))
    check(outcomes.take(np.arange(10)))  # just enough
    with pytest.raises(InputError, match="no quality was observed"):
        check(replace(outcomes, quality=np.full((200, 2), np.nan)))
    quality = outcomes.quality.copy()
    quality[:, 1] = np.nan
    with pytest.raises(InputError, match="model 'model1' has no observed quality"):
        check(replace(outcomes, quality=quality))


def test_remarkable_data_are_noted(rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=20)
    quality, cost = np.tile([0.0, 1.0], (20, 1)), np.tile([0.5, 0.25], (20, 1))
    quality[2, 0], quality[3:8, 1], cost[:2, 1] = 1, np.nan, np.nan
    cost[2, 1] = 0.3
    texts = [f"text {i}" for i in range(20)]
    # text 0 on three rows with grades 0, 0, 1 for model0; text 10 on two rows that agree
    texts[1], texts[2], texts[11], texts[19] = "TEXT 0", "text  0", "text 10", "x" * 20_001
    notes = check(with_texts(replace(outcomes, quality=quality, cost=cost), texts))
    assert notes == [
        "Every quality of model1 is 1.",
        "The quality of model1 was not observed for 5 of 20 queries (25.0 %).",
        "2 texts stand on more than one row (5 rows); for 1 of them (50.0 %) the grades disagree: label noise that no router can learn.",
        "1 texts are longer than 20,000 characters (the longest 20,001): encoders read only their beginning.",
        "The cost of model0 is the same for every query (0.5 USD): a price of the call, not of its tokens.",
        "The cost of model1 is not known for 2 of 20 queries.",
    ]
    same = replace(outcomes, quality=np.ones((20, 2)), cost=np.full((20, 2), np.nan))
    assert check(same) == [
        "Every outcome is 1: there is nothing to tell the models apart by.",
        "No cost is known: routers can be compared by share of calls, not in USD.",
    ]


def test_leaks_by_hand() -> None:
    """Four rows in the plane: row 2 repeats the text of row 0, row 3 lies 8.1 degrees (cosine .99) from row 1."""
    angle = np.arccos(0.99)
    embedding = np.array([[1, 0], [0, 1], [1, 0], [np.sin(angle), np.cos(angle)]], dtype=np.float32)
    texts = np.array(["same", "other", " SAME", "another"], dtype=object)
    queries = Queries(np.array(list("abcd"), dtype=object), texts, texts, embedding)
    folds = [Fold(np.array([0, 1]), np.array([], dtype=int), np.array([2, 3]))]
    found = leakage(queries, folds, threshold=0.95)
    assert (found["exact_duplicates"], found["near_duplicates"], found["threshold"]) == (1, 2, 0.95)
    assert found["examples"] == [("c", "a", 1.0), ("d", "b", 0.99)]
    assert leakage(queries, folds, threshold=0.995)["near_duplicates"] == 1
    without = leakage(Queries(queries.id, texts, texts), folds)
    assert without == {"exact_duplicates": 1, "near_duplicates": None, "threshold": 0.95, "examples": [("c", "a", None)]}


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 99))
def test_planted_duplicates_are_found(exact: int, near: int, seed: int) -> None:
    """So many test rows repeat a train text, so many others only its embedding, whatever the block; the rest is random in 64 dimensions."""
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(60, 64))
    texts = np.array([f"text {i}" for i in range(60)], dtype=object)
    source = rng.permutation(40)[: exact + near]
    embedding[40 : 40 + exact + near] = embedding[source] + rng.normal(scale=0.01, size=(exact + near, 64))
    texts[40 : 40 + exact] = [text.upper() for text in texts[source[:exact]]]
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    queries = Queries(np.array([f"q{i}" for i in range(60)], dtype=object), texts, texts, embedding)
    order = rng.permutation(40)
    folds = [
        Fold(np.sort(order[2:]), np.sort(order[:2]), np.arange(40, 50)),
        Fold(np.arange(40), np.array([], dtype=int), np.arange(50, 60)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "BLOCK", (int(rng.integers(1, 9)), int(rng.integers(1, 9))))
        found = leakage(queries, folds)
    # a duplicate of a calibration row is no leak into train
    leaks = [i for i in range(exact + near) if 40 + i >= 50 or source[i] not in order[:2]]
    assert found["exact_duplicates"] == sum(i < exact for i in leaks)
    assert found["near_duplicates"] == len(leaks)
    assert len(found["examples"]) == min(3, len(leaks))
    for test, train, cosine in found["examples"]:
        assert source[int(test[1:]) - 40] == int(train[1:])
        assert 0.95 <= cosine <= 1


def test_leaks_are_sought_in_little_memory(rng: np.random.Generator) -> None:
    """4,000 x 8,000 cosines would be 128 MB at once; blocks of 16 MB with their copies stay under 64."""
    embedding = rng.normal(size=(12_000, 32)).astype(np.float32)
    texts = np.array([f"text {i}" for i in range(12_000)], dtype=object)
    queries = Queries(texts, texts, texts, embedding)
    tracemalloc.start()
    try:
        leakage(queries, [Fold(np.arange(8000), np.array([], dtype=int), np.arange(8000, 12_000))])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64e6


def test_impossible_audits_are_refused(outcomes: Outcomes) -> None:
    folds = [Fold(np.arange(100), np.array([], dtype=int), np.arange(100, 200))]
    with pytest.raises(InputError, match="threshold"):
        leakage(outcomes.queries, folds, threshold=1.5)
    embedding = outcomes.queries.vectors().copy()
    embedding[150, 0] = np.nan
    with pytest.raises(InputError, match="embedding is not finite"):
        leakage(outcomes.queries.encoded(embedding), folds)
