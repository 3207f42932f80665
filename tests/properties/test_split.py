"""Splits: no text on two sides, no group on two sides, nobody lost, shares about as asked, the same for the same generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routewright.core.types import InputError, Queries
from routewright.data.split import Fold, folds, normalise, text_keys


def queries_of(texts: Sequence[str], groups: Sequence[str]) -> Queries:
    return Queries(*(np.array(list(values), dtype=object) for values in ([f"q{i}" for i in range(len(texts))], texts, groups)))


@st.composite
def tables(draw: st.DrawFn) -> Queries:
    """Few texts on many rows, some of them in disguise, and few groups that overlap in text."""
    n = draw(st.integers(12, 60))
    disguise = [str, str.upper, lambda text: f"  {text}\n", lambda text: text.replace(" ", "\u00a0\t")]
    texts = [draw(st.sampled_from(disguise))(f"text {draw(st.integers(0, n))}") for _ in range(n)]
    return queries_of(texts, [draw(st.sampled_from(["", "a", "b", "c", "d", "e", "f"])) for _ in range(n)])


def check_fold(queries: Queries, fold: Fold) -> None:
    """What holds of every fold of every kind."""
    sides = (fold.train, fold.calibration, fold.test)
    assert sorted(np.concatenate(sides).tolist()) == list(range(len(queries))), "a row is lost or stands twice"
    assert len(fold.train)
    assert len(fold.test)
    for side in sides:
        assert np.all(np.diff(side) > 0)
    texts = [{normalise(queries.text[row]) for row in side} for side in sides]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


def same_folds(one: Sequence[Fold], other: Sequence[Fold]) -> bool:
    return all(
        np.array_equal(getattr(a, side), getattr(b, side))
        for a, b in zip(one, other, strict=True)
        for side in ("train", "calibration", "test")
    )


@given(
    tables(), st.sampled_from(["random", "grouped"]), st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([None, 2, 3]), st.integers(0, 99)
)
def test_no_text_and_no_group_stands_on_two_sides(queries: Queries, kind: str, calibration: float, cv: int | None, seed: int) -> None:
    def made() -> list[Fold]:
        return folds(queries, kind=kind, test=0.3, calibration=calibration, cv=cv, rng=np.random.default_rng(seed))

    try:
        result = made()
    except InputError as error:
        assume("too few" not in str(error) and "needs groups" not in str(error))
        raise
    assert len(result) == (cv or 1)
    for fold in result:
        check_fold(queries, fold)
        assert bool(len(fold.calibration)) == (calibration > 0 and cv is None)
        if kind == "grouped":
            groups = [{group for group in queries.group[side] if group} for side in (fold.train, fold.calibration, fold.test)]
            assert not groups[2] & (groups[0] | groups[1])
    if cv is not None:
        assert sorted(np.concatenate([fold.test for fold in result]).tolist()) == list(range(len(queries)))
    assert same_folds(result, made())


@given(st.integers(20, 300), st.sampled_from([0.1, 0.25, 0.5]), st.sampled_from([0.0, 0.1, 0.2]), st.integers(0, 99))
def test_shares_of_distinct_texts_are_as_asked(n: int, test: float, calibration: float, seed: int) -> None:
    queries = queries_of([f"text {i}" for i in range(n)], [""] * n)
    (fold,) = folds(queries, kind="random", test=test, calibration=calibration, rng=np.random.default_rng(seed))
    assert abs(len(fold.test) - test * n) <= 0.5
    assert abs(len(fold.calibration) - calibration * n) <= 0.5


def test_another_seed_gives_another_split() -> None:
    queries = queries_of([f"text {i}" for i in range(50)], [f"g{i % 7}" for i in range(50)])
    for kind in ("random", "grouped"):
        made = [folds(queries, kind=kind, test=0.3, calibration=0.1, rng=np.random.default_rng(seed)) for seed in (0, 1)]
        assert not same_folds(*made)


def test_every_text_is_drawn_about_as_often() -> None:
    """1,000 draws of 3 in 10: each text is in test 300 times, give or take five standard deviations of 14.5."""
    queries, rng = queries_of([f"text {i}" for i in range(10)], [""] * 10), np.random.default_rng(0)
    times = np.zeros(10)
    for _ in range(1000):
        times[folds(queries, kind="random", test=0.3, calibration=0, rng=rng)[0].test] += 1
    assert np.all(np.abs(times - 300) < 73)


def test_normalise_by_hand() -> None:
    assert normalise(" \tＦｕｌｌ　Width\n") == "full width"
    assert normalise("STRASSE") == normalise("straße")
    assert normalise("e\u0301") == normalise("\u00c9") == "\u00e9"
    assert normalise("a b") != normalise("ab")
    assert text_keys(queries_of(["x", "y", " X "], ["", "", ""])).tolist() == [0, 1, 0]


@given(st.text())
def test_normalise_twice_is_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_groups_that_share_a_text_are_one(rng: np.random.Generator) -> None:
    """a and b share a text, b and c another: only d and e can be parted from them. By hand: three units."""
    texts = ["1", "2", "2", "3", "3", "4", "5", "6"]
    queries = queries_of(texts, ["a", "a", "b", "b", "c", "c", "d", "e"])
    result = folds(queries, kind="grouped", test=0.3, calibration=0, cv=3, rng=rng)
    assert sorted(tuple(fold.test.tolist()) for fold in result) == [(0, 1, 2, 3, 4, 5), (6,), (7,)]
    with pytest.raises(InputError, match=r"too few groups.*at least 4, found 3"):
        folds(queries, kind="grouped", test=0.3, calibration=0, cv=4, rng=rng)


def test_folds_of_groups_are_as_even_as_scikit_learns(rng: np.random.Generator) -> None:
    """The same greedy rule as sklearn's GroupKFold, so the sizes agree, whatever the order of ties."""
    selection = pytest.importorskip("sklearn.model_selection")
    groups = [f"g{group}" for group, size in enumerate([31, 17, 17, 9, 8, 8, 3, 2, 2, 2, 1]) for _ in range(size)]
    queries = queries_of([f"text {i}" for i in range(len(groups))], groups)
    ours = [len(fold.test) for fold in folds(queries, kind="grouped", test=0.3, calibration=0.1, cv=4, rng=rng)]
    theirs = [len(test) for _, test in selection.GroupKFold(4).split(groups, groups=groups)]
    assert sorted(ours) == sorted(theirs)


def test_calibration_is_drawn_by_group_until_one_is_left(rng: np.random.Generator) -> None:
    groups = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    queries = queries_of([f"text {i}" for i in range(30)], groups)
    (fold,) = folds(queries, kind="grouped", test=0.33, calibration=0.1, rng=rng)
    assert [len(fold.train), len(fold.calibration), len(fold.test)] == [10, 10, 10]
    (fold,) = folds(queries.take(np.arange(20)), kind="grouped", test=0.5, calibration=0.1, rng=rng)
    assert [len(fold.train), len(fold.calibration), len(fold.test)] == [8, 2, 10]


def test_given_labels_are_obeyed(rng: np.random.Generator) -> None:
    queries = queries_of([f"text {i}" for i in range(20)], [""] * 20)
    labels = ["train"] * 12 + ["calibration"] * 3 + ["test"] * 5
    (fold,) = folds(queries, kind="given", test=0.5, calibration=0.5, given=labels, rng=rng)
    assert (fold.train.tolist(), fold.calibration.tolist()) == (list(range(12)), [12, 13, 14])
    labels = ["train"] * 15 + ["test"] * 5
    (fold,) = folds(queries, kind="given", test=0.5, calibration=0.1, given=labels, rng=rng)
    check_fold(queries, fold)
    assert len(fold.calibration) == 2
    assert fold.test.tolist() == [15, 16, 17, 18, 19]


def test_a_given_text_on_two_sides_is_refused(rng: np.random.Generator) -> None:
    queries = queries_of(["What is it?", "other", "what  IS it?"], ["", "", ""])
    with pytest.raises(InputError, match=r"stands in train and in test in queries 'q0' and 'q2'.*'what  IS it\?'.*Move or drop"):
        folds(queries, kind="given", test=0.5, calibration=0, given=["train", "train", "test"], rng=rng)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kind": "stratified"}, "unknown kind of split"),
        ({"test": 0.0}, "shares"),
        ({"test": 0.6, "calibration": 0.4}, "shares"),
        ({"calibration": -0.1}, "shares"),
        ({"test": float("nan")}, "shares"),
        ({"cv": 1}, "cv does not fit"),
        ({"cv": 11}, "too few distinct texts.*at least 11, found 10"),
        ({"kind": "grouped"}, "needs groups"),
        ({"kind": "given"}, "given labels do not fit"),
        ({"given": ["test"] * 10}, "given labels do not fit"),
        ({"kind": "given", "given": ["test"] * 9}, "expected 10 labels, found 9"),
        ({"kind": "given", "given": ["test"] * 10}, "lacks a side"),
        ({"kind": "given", "given": ["dev"] * 10}, "unknown label"),
    ],
)
def test_impossible_splits_are_refused(rng: np.random.Generator, options: dict[str, object], told: str) -> None:
    queries = queries_of([f"text {i}" for i in range(10)], [""] * 10)
    asked: dict[str, object] = {"kind": "random", "test": 0.3, "calibration": 0.1, **options}
    with pytest.raises(InputError, match=told):
        folds(queries, rng=rng, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "calibration"), [(0, 0.0), (1, 0.0), (2, 0.1)])
def test_too_few_texts_are_refused(rng: np.random.Generator, count: int, calibration: float) -> None:
    """However many rows: one text cannot be cut, and two cannot be cut in three."""
    queries = queries_of([f"text {i % max(count, 1)}" for i in range(30 * count)], [""] * 30 * count)
    with pytest.raises(InputError, match=r"too few distinct texts|nothing to split"):
        folds(queries, kind="random", test=0.3, calibration=calibration, rng=rng)
