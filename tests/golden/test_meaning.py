"""Agreement by meaning: clusters of four vectors by hand and as scipy makes them, shares and entropies, blanks, faults, a collection."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.types import Floats, InputError
from routewright.data.meaning import Meaning, agreement, clusters, plain

# degrees on a circle: one, two and three say the same, far says another thing
PLACE = {"one": 0.0, "two": 10.0, "three": 20.0, "far": 120.0, "?": 200.0}
NEAR = math.cos(math.radians(21))


def circle(degrees: Sequence[float]) -> Floats:
    at = np.radians(np.asarray(degrees, dtype=np.float64))
    return np.stack([np.cos(at), np.sin(at)], axis=1).astype(np.float32)


VECTOR = dict(zip(PLACE, circle(list(PLACE.values())), strict=True))


class Circle:
    """An encoder of the words in PLACE; notes what it was asked."""

    fingerprint = "circle"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> Floats:
        self.asked.append(list(texts))
        return circle([PLACE[text] for text in texts])


# ---- clusters


@pytest.mark.parametrize(
    ("degrees", "within", "label"),
    [
        ([0, 10, 20, 120], 21, [0, 0, 0, 3]),
        ([0, 9, 20, 120], 15, [0, 0, 2, 3]),  # complete link: 0 and 20 are too far apart
        ([0, 15, 20, 120], 15, [0, 1, 1, 3]),  # the nearest first
        ([0, 10, 21, 30], 12, [0, 0, 2, 2]),  # a chain does not grow into one
        ([0, 90, 180, 270], 21, [0, 1, 2, 3]),
        ([40, 40, 40, 40], 1, [0, 0, 0, 0]),
        ([0], 21, [0]),
        ([], 21, []),
    ],
)
def test_clusters_by_hand(degrees: list[float], within: float, label: list[int]) -> None:
    assert clusters(circle(degrees), math.cos(math.radians(within))).tolist() == label


@given(st.lists(st.floats(0, 360), min_size=2, max_size=12), st.floats(-0.9, 0.99))
def test_clusters_are_those_of_scipy(degrees: list[float], threshold: float) -> None:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    vectors = circle(degrees).astype(np.float64)
    gaps = pdist(vectors, "sqeuclidean") / 2  # 1 - cosine of unit rows
    joins = linkage(gaps, "complete")
    heights = np.unique(np.concatenate([joins[:, 2], gaps, [1 - threshold]]))
    if (np.diff(heights) < 1e-4).any() or len(np.unique(gaps)) < len(gaps):
        return  # a tie: both orders are right
    wanted, found = fcluster(joins, 1 - threshold, "distance"), clusters(vectors, threshold)
    assert (np.equal.outer(wanted, wanted) == np.equal.outer(found, found)).all()
    near = vectors @ vectors.T
    assert (near[np.equal.outer(found, found)] >= threshold - 1e-5).all()


# ---- shares and entropies


def of(counts: Sequence[int]) -> float:
    shares = np.array(counts) / sum(counts)
    return float(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize(
    ("main", "samples", "share", "counts"),
    [
        ("one", ["one", "two", "three", "far"], 0.75, [4, 1]),
        ("far", ["one", "two", "three", "one"], 0.0, [4, 1]),  # they agree, and on another answer
        ("one", ["one"] * 5, 1.0, [6]),
        ("one", ["three"], 1.0, [2]),
        ("one", ["far"], 0.0, [1, 1]),
        (" one\n", ["one "], 1.0, [2]),
        ("one", ["", " ", "two", "far"], 0.25, [2, 1, 1, 1]),  # a blank agrees with nothing, another blank included
        ("", ["", ""], 0.0, [1, 1, 1]),
        (None, ["one", "two"], 0.0, [2, 1]),
        ("one", ["\ud800", "two"], 0.5, [2, 1]),  # half a character is "?"
    ],
)
def test_agreement_by_hand(main: str | None, samples: list[str], share: float, counts: list[int]) -> None:
    found = agreement(main, samples, VECTOR, NEAR)
    assert found == (share, pytest.approx(of(counts), abs=1e-12))


def test_no_samples_tell_nothing() -> None:
    assert all(math.isnan(value) for value in agreement("one", [], VECTOR, NEAR))


WORDS = st.sampled_from([*PLACE, "", " two"])


@given(WORDS | st.none(), st.lists(WORDS, min_size=1, max_size=9), st.floats(-0.9, 1), st.randoms(use_true_random=False))
def test_no_order_changes_a_share(main: str | None, samples: list[str], threshold: float, random: object) -> None:
    share, spread = agreement(main, samples, VECTOR, threshold)
    assert 0 <= share <= 1
    assert 0 <= spread <= math.log(len(samples) + 1) + 1e-12
    assert (spread == 0) == (share == 1), "one cluster, or more"
    mixed = list(samples)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert agreement(main, mixed, VECTOR, threshold) == (share, spread)


@given(WORDS.filter(str.strip), st.integers(1, 9), st.floats(-0.9, 1))
def test_equal_samples_are_one_cluster(word: str, count: int, threshold: float) -> None:
    assert agreement(word, [word] * count, VECTOR, threshold) == (1.0, 0.0)


# ---- a table


def table(rows: list[list[str | None]]) -> np.ndarray:
    made = np.empty((len(rows), 1, len(rows[0])), dtype=object)
    made[:, 0, :] = rows
    return made


def test_a_table_is_encoded_once() -> None:
    encoder = Circle()
    answer = table([["one"], ["one"], [None]])[:, :, 0]
    drawn = table([["two", "far"], [None, "three"], [None, None]])
    share, spread = Meaning(encoder=encoder, threshold=NEAR).compared(answer, drawn)
    np.testing.assert_array_equal(share, [[0.5], [1.0], [np.nan]])
    np.testing.assert_allclose(spread, [[of([2, 1])], [0.0], [np.nan]], atol=1e-12)
    assert encoder.asked == [["far", "one", "three", "two"]]


def test_nothing_to_encode() -> None:
    encoder = Circle()
    share, _ = Meaning(encoder=encoder).compared(table([[""]])[:, :, 0], table([[""]]))
    assert share.tolist() == [[0.0]]
    assert encoder.asked == []


def test_what_it_is_told() -> None:
    assert Meaning(encoder=Circle(), threshold=0.8).facts() == {"encoder": "circle", "threshold": 0.8}
    for wrong in (1.01, -1.0, math.nan):
        with pytest.raises(InputError, match=r"meaning\.threshold"):
            Meaning(encoder=Circle(), threshold=wrong)
    with pytest.raises(InputError, match=r"encoder@meaning\.encoder=minilm"):
        Meaning().compared(table([["one"]])[:, :, 0], table([["one"]]))
    assert plain("\ud800 ") == "?"
