"""What holds of any student's column: grades come from who said the same, and the order of what was taught does not matter."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.types import Queries
from routewright.eval.students import grades
from routewright.routers.students.knn import KNN

SEEDS = st.integers(0, 2**32 - 1)


@given(seed=SEEDS, n=st.integers(1, 12), m=st.integers(1, 4))
def test_a_grade_is_zero_or_one_that_somebody_got_for_the_same_words(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    words = np.array(["a", "b", "c", None], dtype=object)
    heard, answer = words[rng.integers(4, size=(n, m))], words[rng.integers(3, size=n)]
    quality = np.where(rng.random((n, m)) < 0.2, np.nan, rng.integers(3, size=(n, m)) / 2)
    found = grades(answer, quality, heard, str)
    for row in range(n):
        same = [quality[row, j] for j in range(m) if heard[row, j] == answer[row]]
        graded = [grade for grade in same if not np.isnan(grade)]
        if graded:
            assert found[row] == min(graded)
        elif same or np.isnan(quality[row]).all():
            assert np.isnan(found[row])
        else:
            assert found[row] == 0
    # a student that repeats a model where its answer is all that is said has that model's grades
    alone = grades(np.where(heard[:, 0] == None, "", heard[:, 0]), quality[:, :1], heard[:, :1], lambda text: text or None)  # noqa: E711
    told = heard[:, 0] != None  # noqa: E711 - elementwise
    assert np.array_equal(alone[told], quality[told, 0], equal_nan=True)


@given(seed=SEEDS, n=st.integers(1, 30), k=st.integers(1, 40), vote=st.sampled_from(["near", "count"]))
def test_neighbours_do_not_care_for_the_order_of_the_training_rows(seed: int, n: int, k: int, vote: str) -> None:
    rng = np.random.default_rng(seed)
    # few directions, so that many rows are equally near
    directions = np.eye(4, dtype=np.float32)[rng.integers(4, size=n + 5)]
    ids = np.array([f"q{i}" for i in range(n + 5)], dtype=object)
    queries = Queries(ids, ids, np.full(n + 5, "", dtype=object), directions)
    said = [f"answer {i}" for i in rng.integers(5, size=n)]
    order = rng.permutation(n)
    fresh = queries.take(np.arange(n, n + 5))
    one = KNN(k=k, vote=vote).fit(queries.take(np.arange(n)), said, rng=rng).answer(fresh)
    other = KNN(k=k, vote=vote).fit(queries.take(order), [said[i] for i in order], rng=rng).answer(fresh)
    assert one[0] == other[0]
    assert np.allclose(one[1], other[1], atol=1e-12)
    assert set(one[0]) <= set(said)
    assert ((one[1] > 0) & (one[1] < 1)).all()
