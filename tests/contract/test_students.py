"""The contract suite: every configs/student/*.yaml is built as train.py builds it and must keep every promise of core/contracts.Student."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from routewright.core.contracts import Student
from routewright.core.types import InputError, Queries

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "student").glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]
ANSWERS = ("yes", "no", "it\ndepends", "\ud800 maybe")  # a line break and a lone surrogate are text like any other

pytestmark = pytest.mark.filterwarnings("error")


def make(name: str, **settings: object) -> Student:
    student: Student = instantiate(OmegaConf.load(ROOT / "configs" / "student" / f"{name}.yaml"), **settings)
    return student


def asked(seed: int, n: int = 160) -> tuple[Queries, list[str | None]]:
    """Queries around four directions, each with an answer of its own; every ninth answer cannot be read."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(4, size=n)
    vectors = np.eye(4, 12)[kind] + 0.15 * rng.normal(size=(n, 12))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    text = np.array([f"question {seed} {i}" for i in range(n)], dtype=object)
    queries = Queries(text, text, np.full(n, "", dtype=object), vectors.astype(np.float32))
    return queries, [None if i % 9 == 8 else ANSWERS[k] for i, k in enumerate(kind)]


@cache
def fitted(name: str) -> Student:
    queries, said = asked(0)
    return make(name).fit(queries, said, rng=np.random.default_rng(0))


def test_every_student_has_a_config_and_every_config_a_student() -> None:
    code = {path.stem for path in (ROOT / "routers" / "students").glob("*.py") if path.stem != "base" and not path.stem.startswith("_")}
    assert code == set(NAMES)
    for path in CONFIGS:
        assert get_class(OmegaConf.load(path)["_target_"]).__module__ == f"routewright.routers.students.{path.stem}"


@pytest.mark.parametrize("name", NAMES)
def test_it_offers_the_contract_and_its_constructor_only_stores(name: str) -> None:
    student = make(name)
    assert isinstance(student, Student)
    assert not [key for key in vars(student) if key.endswith("_")]
    config = OmegaConf.load(ROOT / "configs" / "student" / f"{name}.yaml")
    assert set(config) - {"_target_"} == set(inspect.signature(type(student).__init__).parameters) - {"self"}


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_what_was_said_and_is_surer_where_it_is_right(name: str) -> None:
    fresh, wanted = asked(1, n=200)
    said, confidence = fitted(name).answer(fresh)
    told = np.array([part is not None for part in wanted])
    right = np.array([a == b for a, b in zip(said, wanted, strict=True)])
    assert right[told].mean() > 0.9
    assert set(said) <= set(ANSWERS)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    lost = Queries(fresh.id, fresh.text, fresh.group, -fresh.vectors())
    assert fitted(name).answer(lost)[1].mean() < confidence.mean(), "as sure of what is like nothing that it was taught"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_and_they_come_back(name: str) -> None:
    queries, said = asked(0)
    again = make(name).fit(queries, said, rng=np.random.default_rng(0))
    kept = to_bytes(again.state())
    assert kept == to_bytes(fitted(name).state())
    fresh = asked(2)[0]
    ours, theirs = fitted(name).answer(fresh), make(name).load(from_bytes(kept)).answer(fresh)
    assert ours[0] == theirs[0]
    assert np.array_equal(ours[1], theirs[1])
    with pytest.raises(InputError, match="not one of"):
        make(name).load({"weights": np.zeros(3)})


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_each_query_alone(name: str) -> None:
    fresh = asked(3, n=50)[0]
    order = np.random.default_rng(5).permutation(50)
    whole, moved = fitted(name).answer(fresh), fitted(name).answer(fresh.take(order))
    assert [whole[0][i] for i in order] == moved[0]
    assert moved[1] == pytest.approx(whole[1][order], abs=1e-6)
    assert fitted(name).answer(fresh.take(np.zeros(0, dtype=int)))[0] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("said", [["one"], ["one", "one", "one"], ["one", None, "two"]])
def test_few_answers_are_enough(name: str, said: list[str | None]) -> None:
    queries = asked(4, n=len(said))[0]
    student = make(name).fit(queries, said, rng=np.random.default_rng(0))
    given, confidence = student.answer(queries)
    assert given[0] == "one"
    assert 0 < confidence[0] < 1
    assert set(student.answer(asked(5)[0])[0]) <= {"one", "two"}


@pytest.mark.parametrize("name", NAMES)
def test_what_it_cannot_learn_from_or_answer_is_refused(name: str) -> None:
    queries, said = asked(0)
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="nothing to learn from"):
        make(name).fit(queries, [None] * len(queries), rng=rng)
    with pytest.raises(InputError, match="an answer for each query"):
        make(name).fit(queries, said[:5], rng=rng)
    with pytest.raises(InputError, match="no embedding"):
        make(name).fit(Queries(queries.id, queries.text, queries.group), said, rng=rng)
    with pytest.raises(InputError, match="not finite"):
        make(name).fit(queries.encoded(np.full((len(queries), 3), np.nan)), said, rng=rng)
    for price in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="needs a price"):
            make(name, usd_call=price).fit(queries, said, rng=rng)
    with pytest.raises(InputError, match="not fitted"):
        make(name).answer(queries)
    with pytest.raises(InputError, match="not the ones this student was fitted on"):
        fitted(name).answer(queries.encoded(np.ones((len(queries), 3), dtype=np.float32)))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("knn", {"k": 0}),
        ("knn", {"vote": "loud"}),
        ("knn", {"doubt": 0.0}),
        ("logistic", {"answers": 0}),
        ("logistic", {"C": 0.0}),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"impossible|unknown vote"):
        make(name, **settings).fit(*asked(0), rng=np.random.default_rng(0))
