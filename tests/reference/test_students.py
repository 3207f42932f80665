"""Students beside scikit-learn's classifiers on the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from routewright.core.types import Queries
from routewright.routers.students.knn import KNN
from routewright.routers.students.logistic import Logistic


def rows(seed: int, n: int) -> tuple[Queries, list[str]]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    said = [f"answer {k}" for k in (2 * vectors[:, :3] + rng.normal(size=(n, 3))).argmax(axis=1)]
    ids = np.array([f"q{i}" for i in range(n)], dtype=object)
    return Queries(ids, ids, np.full(n, "", dtype=object), vectors), said


@pytest.mark.parametrize("k", [1, 4, 15])
def test_counted_neighbours_are_those_of_scikit_learn(k: int) -> None:
    (train, said), (fresh, _) = rows(0, 150), rows(1, 60)
    given, confidence = KNN(k=k, vote="count", temperature=0.5, doubt=1.0).fit(train, said, rng=np.random.default_rng(0)).answer(fresh)
    theirs = KNeighborsClassifier(k, metric="cosine").fit(train.vectors(), said)
    share = theirs.predict_proba(fresh.vectors())
    top = np.sort(share, axis=1)
    clear = top[:, -1] > top[:, -2]  # at equal votes each has a rule of its own
    assert clear.sum() > 30
    assert np.array_equal(np.array(given)[clear], theirs.predict(fresh.vectors())[clear])
    nearest = 1 - theirs.kneighbors(fresh.vectors(), 1)[0][:, 0]
    near = np.exp((nearest - 1) / 0.5)
    assert confidence == pytest.approx(share.max(axis=1) * near / (near + 1), rel=1e-4)


def test_near_votes_are_those_of_scikit_learn_with_the_same_kernel() -> None:
    (train, said), (fresh, _) = rows(2, 150), rows(3, 60)
    given, _ = KNN(k=20, temperature=0.2).fit(train, said, rng=np.random.default_rng(0)).answer(fresh)
    theirs = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp(-distance / 0.2)).fit(train.vectors(), said)
    assert given == theirs.predict(fresh.vectors()).tolist()


def test_the_softmax_is_that_of_scikit_learn() -> None:
    (train, said), (fresh, _) = rows(4, 150), rows(5, 60)
    given, confidence = Logistic(C=3.0).fit(train, said, rng=np.random.default_rng(0)).answer(fresh)
    theirs = LogisticRegression(C=3.0, max_iter=300).fit(train.vectors(), said)
    assert given == theirs.predict(fresh.vectors()).tolist()
    assert confidence == pytest.approx(theirs.predict_proba(fresh.vectors()).max(axis=1), abs=1e-3)
