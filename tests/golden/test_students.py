"""A student's answers by hand, its grades, and that it never answers a query that it learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from routewright.core.text import normalise
from routewright.core.types import Floats, InputError, Outcomes, Queries
from routewright.data.split import folds
from routewright.eval import students
from routewright.eval.assess import Judging
from routewright.eval.cascading import CascadeTrial, try_cascade
from routewright.eval.scored import Makers
from routewright.eval.students import CONFIDENCE, Taught, extended, grades, joined, parts, restored, save, teach
from routewright.routers.cascades.automix import AutoMix
from routewright.routers.logistic import Logistic
from routewright.routers.signals.logprob import Logprob
from routewright.routers.students.knn import KNN
from routewright.routers.students.logistic import Logistic as Softmax
from tests.conftest import make_outcomes


def plane(*degrees: float) -> Queries:
    """Unit vectors of the plane at these angles."""
    angle = np.deg2rad(np.array(degrees, dtype=np.float64))
    ids = np.array([f"q{i}" for i in range(len(angle))], dtype=object)
    return Queries(ids, ids, np.full(len(angle), "", dtype=object), np.stack([np.cos(angle), np.sin(angle)], axis=1))


def said(text: str) -> str | None:
    return normalise(text) or None


class Parrot:
    """Says what it was taught last; refuses a query that it learned from, save those of the rows it may repeat."""

    usd_call, teacher = 1e-5, None
    repeats: frozenset[str] = frozenset()

    def fit(self, queries: Queries, said: Sequence[str | None], *, rng: np.random.Generator) -> Self:
        self.known_, self.said_ = set(queries.text), [part for part in said if part is not None][-1]
        return self

    def answer(self, queries: Queries) -> tuple[list[str], Floats]:
        return [f"{self.said_}, seen" if text in self.known_ else self.said_ for text in queries.text], np.full(len(queries), 0.25)

    def state(self) -> dict[str, np.ndarray]:
        return {"size_": np.array([len(self.known_)])}

    def load(self, state: object) -> Self:
        return self


def table(seed: int = 0, n: int = 200, m: int = 3) -> Outcomes:
    rng = np.random.default_rng(seed)
    made = make_outcomes(rng, n=n, m=m, groups=20)
    wrong = np.char.add("wrong ", rng.integers(1, 5, size=made.quality.shape).astype(str))
    answer = np.where(made.quality == 1, "Right", wrong).astype(object)
    # the truth with noise, as a model's log-probability would tell it
    return replace(made, answer=answer, signals={CONFIDENCE: -np.abs(1 - made.quality + 0.6 * rng.normal(size=made.quality.shape))})


def makers(student: type = Parrot, folds: int = 3) -> Makers:
    return Makers(Logistic, Logprob, said, folds=folds, student=student)


def test_neighbours_vote_by_hand() -> None:
    """Two neighbours at 0 and 60 degrees of a query at 0: cosines 1 and 1/2, weights 1 and exp(-1/2 / 1/4) = exp(-2)."""
    student = KNN(k=2, temperature=0.25, doubt=0.5).fit(plane(0, 60, 180), ["a", "b", "c"], rng=np.random.default_rng(0))
    given, confidence = student.answer(plane(0))
    assert given == ["a"]
    assert confidence[0] == pytest.approx(1 / (1 + np.exp(-2)) * 1 / 1.5, rel=1e-5)
    # at 90 degrees the nearest is 30 away: it is b's, and the doubt weighs more
    given, confidence = student.answer(plane(90))
    near = np.exp((np.cos(np.pi / 6) - 1) / 0.25)
    # as near as the second: both 0 and 180 degrees have the cosine 0, so that three vote
    far = np.exp(-np.cos(np.pi / 6) / 0.25)
    assert given == ["b"]
    assert confidence[0] == pytest.approx(1 / (1 + 2 * far) * near / (near + 0.5), rel=1e-4)


def test_counted_votes_and_ties_by_hand() -> None:
    queries, heard = plane(0, 10, 20, 180, 190, 200), ["b", "a", "a", "b", "b", "b"]
    counted = KNN(k=3, vote="count", temperature=1.0, doubt=1.0).fit(queries, heard, rng=np.random.default_rng(0))
    given, confidence = counted.answer(plane(0))
    assert given == ["a"]
    assert confidence[0] == pytest.approx(2 / 3 * 1 / 2, rel=1e-6)
    # one vote each: b is the commoner in training
    tied = KNN(k=2, vote="count", temperature=1.0, doubt=1.0).fit(queries, heard, rng=np.random.default_rng(0))
    assert tied.answer(plane(0))[0] == ["b"]


def test_a_softmax_student_agrees_with_its_own_columns() -> None:
    queries = plane(*np.linspace(0, 350, 36))
    heard = ["north" if 0 <= i < 12 else "south" if i < 24 else f"rare {i}" for i in range(36)]
    student = Softmax(answers=2, C=100.0).fit(queries, heard, rng=np.random.default_rng(0))
    given, confidence = student.answer(queries)
    assert set(given) <= {"north", "south"}
    assert [given[i] for i in (5, 17)] == ["north", "south"]
    assert confidence[5] > 0.8
    assert confidence[30] < 0.5, "what rarer answers are likelier for is doubt"
    logit = queries.vectors().astype(np.float64) @ student.coef_ + student.bias_
    chance = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    assert confidence == pytest.approx(chance[:, :2].max(axis=1))
    lone = Softmax().fit(queries.take(np.arange(3)), ["one"] * 3, rng=np.random.default_rng(0))
    assert lone.answer(queries)[1] == pytest.approx(3.5 / 4)
    pair = Softmax(C=100.0).fit(queries.take(np.arange(24)), heard[:24], rng=np.random.default_rng(0))
    assert [pair.answer(queries)[0][i] for i in (5, 17)] == ["north", "south"]


def test_grades_are_those_of_who_said_the_same() -> None:
    rows = [["a", "b", None], ["a", "a", "b"], ["a", "b", "c"], [None, None, None], ["a", "b", "b"], ["a", "b", "c"]]
    heard = np.array(rows, dtype=object)
    quality = np.array([[1, 0, 0], [1, 0.5, 0], [0, 1, 0], [0, 0, 0], [1, np.nan, np.nan], [np.nan] * 3])
    answer = np.array(["A", "a ", "d", "a", "b", "z"], dtype=object)
    found = grades(answer, quality, heard, said)
    assert found[:4].tolist() == [1, 0.5, 0, 0]  # the lower of two grades; 0 where nobody said it, though it may be right
    assert np.isnan(found[4]), "those who said it were not graded"
    assert np.isnan(found[5]), "nothing was graded"
    assert grades(np.array([""], dtype=object), np.ones((1, 1)), np.array([[None]], dtype=object), said).tolist() == [0]


def test_the_pool_has_one_more_model() -> None:
    before = replace(table(n=4), tokens={"input": np.ones((4, 3))}, latency=np.ones((4, 3)))
    confidence = np.array([1.0, 0.5, 0.0, 0.25])
    after = extended(before, np.array(["x"] * 4, dtype=object), np.array([0, 1, 0.5, 1]), confidence, 2e-6)
    assert after.pool.name == (*before.pool.name, "student")
    assert after.pool.usd_call[-1] == 2e-6
    assert (after.cost[:, -1] == 2e-6).all()
    assert after.quality[:, -1].tolist() == [0, 1, 0.5, 1]
    assert after.signals[CONFIDENCE][:, -1] == pytest.approx(np.log([1, 0.5, 1e-12, 0.25]))
    assert np.isnan(after.tokens["input"][:, -1]).all()
    assert after.latency is not None
    assert np.isnan(after.latency[:, -1]).all()
    back = after.models(before.pool.name)
    assert np.array_equal(back.quality, before.quality)
    assert np.array_equal(back.signals[CONFIDENCE], before.signals[CONFIDENCE])
    bare = extended(replace(before, signals={}), np.array(["x"] * 4, dtype=object), np.ones(4), confidence, 2e-6)
    assert np.isnan(bare.signals[CONFIDENCE][:, :-1]).all()
    with pytest.raises(InputError, match="called 'student' already"):
        extended(after, np.array(["x"] * 4, dtype=object), np.ones(4), confidence, 2e-6)


@pytest.mark.parametrize("inner", [1, 2, 5])
def test_no_row_is_answered_by_a_student_that_learned_from_it(inner: int) -> None:
    before, rows = table(n=100), np.arange(10, 70)
    found = teach(makers(folds=inner), before, parts(before, said), rows, np.random.default_rng(0), clustered=False)
    assert found.table.answer is not None
    answered = found.table.answer[:, -1]
    assert len(answered) == 100
    assert not [text for text in answered if text.endswith("seen")]
    assert isinstance(found.student, Parrot)
    assert found.student.known_ == set(before.queries.text[rows]), "the student that is kept learns from every training row"
    # and from none other
    assert found.teacher == before.pool.name[int(before.quality[rows].mean(axis=0).argmax())]


def test_the_teacher_may_be_named() -> None:
    class Pupil(Parrot):
        teacher = "model0"

    before = table(n=60)
    named = teach(makers(Pupil), before, parts(before, said), np.arange(60), np.random.default_rng(0), clustered=False)
    assert named.teacher == "model0"

    class Lost(Parrot):
        teacher = "nobody"

    with pytest.raises(InputError, match="not in the pool"):
        teach(makers(Lost), before, parts(before, said), np.arange(60), np.random.default_rng(0), clustered=False)
    with pytest.raises(InputError, match="learns from answers"):
        parts(replace(before, answer=None), said)


def test_a_judged_row_has_the_answer_of_its_own_fold() -> None:
    before = table(n=6)
    made = [
        Taught(extended(before, np.array([f"of {k}"] * 6, dtype=object), np.full(6, k / 2), np.full(6, 0.5 + k / 4), 1e-6), Parrot())
        for k in range(2)
    ]

    class Part:
        train = calibration = np.arange(0)

        def __init__(self, test: list[int]) -> None:
            self.test = np.array(test)

    whole = joined(made, [Part([0, 3]), Part([1, 4])])
    assert whole.answer is not None
    assert whole.answer[:, -1].tolist() == ["of 0", "of 1", "of 0", "of 0", "of 1", "of 0"]
    assert whole.quality[:, -1].tolist() == [0, 0.5, 0, 0, 0.5, 0]
    assert np.exp(whole.signals[CONFIDENCE][:, -1]) == pytest.approx([0.5, 0.75, 0.5, 0.5, 0.75, 0.5])
    assert joined([Taught(before)], [Part([0])]) is before


def tried(made: Makers, outcomes: Outcomes, cv: int | None = None) -> CascadeTrial:
    cuts = folds(outcomes.queries, kind="random", test=0.3, calibration=0.1, cv=cv, rng=np.random.default_rng(1))
    streams = {"fit": np.random.default_rng(2), "judge": np.random.default_rng(3)}
    return try_cascade("it", AutoMix, made, outcomes, cuts, Judging(replicates=100), **streams, without=("shuffled_labels",))


@pytest.mark.parametrize("cv", [None, 3])
def test_a_cascade_has_the_student_in_its_pool(cv: int | None, tmp_path: Path) -> None:
    before = table(1)
    found = tried(makers(KNN), before, cv)
    metrics = found.assessment.metrics
    assert metrics["pool"] == [*before.pool.name, "student"]
    assert metrics["weak"] == "student", "the cheapest"
    assert metrics["models"]["student"]["cost"] == pytest.approx(1e-6)
    assert metrics["student"]["teacher"] == "model2"
    assert metrics["student"]["quality"] == pytest.approx(metrics["models"]["student"]["quality"])
    assert 0 < metrics["student"]["agrees_with_teacher"] <= 1 - metrics["student"]["said_by_nobody"]
    assert "student.memory_" in found.kept.state()
    found.save(tmp_path, found.outcomes, keep=True)
    again = restored(tmp_path, before)
    for name in ("quality", "cost"):
        assert np.array_equal(getattr(again, name), getattr(found.outcomes, name))
    assert again.signals[CONFIDENCE] == pytest.approx(found.outcomes.signals[CONFIDENCE], abs=1e-5)
    with pytest.raises(InputError, match="other queries"):
        restored(tmp_path, before.take(np.arange(5)))


def test_without_a_student_nothing_changes(tmp_path: Path) -> None:
    before = table(2)
    found = tried(Makers(Logistic, Logprob, said, folds=3), before)
    assert found.outcomes is before
    assert "student" not in found.assessment.metrics
    save_folder = tmp_path / "run"
    save_folder.mkdir()
    found.save(save_folder, before, keep=True)
    assert not (save_folder / students.FILE).exists()
    assert restored(save_folder, before) is before


def test_a_student_that_knows_earns_its_place() -> None:
    """Answers are a matter of the query's direction, and the dear model mostly knows them: the student gives them for nearly nothing."""
    rng = np.random.default_rng(0)
    base, kind = make_outcomes(rng, n=300, m=2, groups=20), rng.integers(3, size=300)
    vectors = np.eye(3, 8)[kind] + 0.1 * rng.normal(size=(300, 8))
    right = rng.random((300, 2)) < [0.5, 0.9]
    answer = np.where(right, np.array(["a", "b", "c"])[kind][:, None], "x").astype(object)
    signals = {CONFIDENCE: np.where(right, -0.1, -1.0) - 0.3 * rng.random((300, 2))}
    encoded = base.encoded(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    outcomes = replace(encoded, quality=right, answer=answer, signals=signals)
    without, taught = (tried(Makers(Logistic, Logprob, said, student=student), outcomes) for student in (None, KNN))
    cheapest = [found.assessment.curves["router"] for found in (without, taught)]
    assert cheapest[1].quality[0] > 0.85 > 0.6 > cheapest[0].quality[0]
    assert cheapest[1].cost[0] < cheapest[0].cost[0] / 10


def test_where_a_student_cannot_be_had() -> None:
    students.check(None, cascade=False, alone=False)
    students.check(KNN, cascade=True, alone=True)
    with pytest.raises(InputError, match="model of a cascade"):
        students.check(KNN, cascade=False, alone=True)
    with pytest.raises(InputError, match="training part alone"):
        students.check(KNN, cascade=True, alone=False)


def test_kept_answers_of_other_queries_are_refused(tmp_path: Path) -> None:
    before = table(n=5)
    save(tmp_path, extended(before, np.array(["x"] * 5, dtype=object), np.ones(5), np.ones(5), 1e-6))
    other = replace(before, queries=replace(before.queries, id=np.array([f"r{i}" for i in range(5)], dtype=object)))
    with pytest.raises(InputError, match="other queries"):
        restored(tmp_path, other)
