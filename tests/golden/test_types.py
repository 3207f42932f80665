"""The types by hand on a table of three queries: what they refuse and in which words, that they are frozen, and how they are cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest

from routewright.core.types import Battles, Curve, Decisions, InputError, Outcomes, Pool, Predictions, Queries

NAN = float("nan")


def texts(*values: Any) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def queries(n: int = 3) -> Queries:
    return Queries(texts(*(f"q{i}" for i in range(n))), texts(*(f"text {i}" for i in range(n))), texts(*(f"g{i % 2}" for i in range(n))))


PAIR = Pool(("small", "large"))
TRIO = Pool(("small", "medium", "large"), [1e-6, 2e-6, 3e-6], [0.0, NAN, 1e-6], [4e-6, 5e-6, 6e-6], variant=("", "terse", ""))
QUALITY = [[1.0, 1.0, 0.5], [0.0, NAN, 1.0], [0.25, 0.75, 0.75]]
COST = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, NAN]]


def full() -> Outcomes:
    """Three queries, three models, every optional column; element [i, j] of a column tells its place."""
    place = np.arange(9.0).reshape(3, 3)
    return Outcomes(
        queries().encoded(np.eye(3, 4, dtype=np.float32)),
        TRIO,
        QUALITY,
        COST,
        tokens={"input": place, "output": place + 100},
        usage="measured",
        latency=place / 10,
        answer=np.array([[f"answer {i}{j}" for j in range(3)] for i in range(3)], dtype=object),
        signals={"sure": place / 8},
        propensity=[0.5, 0.25, 1.0],
        logged=[0, 2, 1],
    )


def battles(**changed: Any) -> Battles:
    columns = {"query": [0, 1], "a": [0, 0], "b": [1, 1], "outcome": [1, 0.5]} | changed
    return Battles(queries(), PAIR, **columns)


def outcomes(**changed: Any) -> Outcomes:
    columns = {"queries": queries(), "pool": PAIR, "quality": np.ones((3, 2)), "cost": np.ones((3, 2))} | changed
    return Outcomes(**columns)


def wrong(row: int, column: int, value: float) -> np.ndarray:
    table = np.ones((3, 2))
    table[row, column] = value
    return table


REFUSED: dict[str, tuple[Callable[[], object], list[str]]] = {
    "an id twice": (lambda: Queries(texts("a", "b", "a"), *[texts("x", "y", "z")] * 2), ["'a' stands twice", "rows 0 and 2", "unique"]),
    "a text that is none": (lambda: Queries(texts("a", "b"), texts("x", None), texts("", "")), ["Queries.text[1]", "str", "NoneType"]),
    "ids too few": (lambda: Queries(texts("a"), texts("x", "y"), texts("", "")), ["Queries.id", "(2)", "(1,)"]),
    "groups too few": (lambda: Queries(texts("a", "b"), texts("x", "y"), texts("")), ["Queries.group", "(2)", "(1,)"]),
    "vectors too few": (lambda: queries().encoded(np.ones((2, 4))), ["Queries.embedding", "(3, any)", "(2, 4)"]),
    "vectors not asked for": (lambda: queries().vectors(), ["no embedding", "encoded(encoder.encode(queries.text))"]),
    "a pool of none": (lambda: Pool(()), ["named models", "at least one"]),
    "a nameless model": (lambda: Pool(("small", "")), ["named models", "('small', '')"]),
    "a model twice": (lambda: Pool(("small", "large", "small")), ["stands twice", "small, large, small"]),
    "prices too few": (lambda: Pool(("small", "large"), usd_input=[1.0]), ["Pool.usd_input", "(2)", "(1,)"]),
    "a price below zero": (lambda: Pool(("small",), usd_output=[-1.0]), ["Pool.usd_output", "USD >= 0", "-1.0"]),
    "an endless price": (lambda: Pool(("small",), usd_call=[np.inf]), ["Pool.usd_call", "finite", "inf"]),
    "variants too few": (lambda: Pool(("small", "large"), variant=("terse",)), ["Pool.variant", "expected 2", "found 1"]),
    "an unknown model": (lambda: TRIO.index("huge"), ["'huge'", "small, medium, large"]),
    "an unknown model of a table": (lambda: full().models(["large", "huge"]), ["'huge'", "small, medium, large"]),
    "a model asked for twice": (lambda: full().models(["large", "large"]), ["stands twice", "large, large"]),
    "quality of another shape": (lambda: outcomes(quality=np.ones((3, 3))), ["Outcomes.quality", "(3, 2)", "(3, 3)"]),
    "quality above one": (lambda: outcomes(quality=wrong(1, 1, 7)), ["Outcomes.quality", "row 1", "'large'", "[0, 1]", "7.0", "Rescale"]),
    "quality below zero": (lambda: outcomes(quality=wrong(2, 0, -0.5)), ["Outcomes.quality", "row 2", "'small'", "-0.5"]),
    "quality without end": (lambda: outcomes(quality=wrong(0, 0, np.inf)), ["Outcomes.quality", "row 0", "'small'", "inf"]),
    "quality in words": (lambda: outcomes(quality=[["good", "bad"]] * 3), ["Outcomes.quality", "float32", "good"]),
    "cost of another shape": (lambda: outcomes(cost=np.ones(3)), ["Outcomes.cost", "(3, 2)", "(3,)"]),
    "cost below zero": (lambda: outcomes(cost=wrong(1, 0, -0.25)), ["Outcomes.cost", "USD >= 0", "-0.25"]),
    "cost without end": (lambda: outcomes(cost=wrong(1, 0, np.inf)), ["Outcomes.cost", "finite", "inf"]),
    "tokens of no kind": (lambda: outcomes(tokens={"words": np.ones((3, 2))}), ["'words'", "input, cached_input, output, reasoning"]),
    "tokens of another shape": (lambda: outcomes(tokens={"input": np.ones(3)}), ["tokens[input]", "(3, 2)"]),
    "usage of no kind": (lambda: outcomes(usage="guessed"), ["Outcomes.usage", "measured, estimated, nominal, none", "'guessed'"]),
    "latency of another shape": (lambda: outcomes(latency=np.ones((2, 2))), ["Outcomes.latency", "(3, 2)", "(2, 2)"]),
    "answers of another shape": (lambda: outcomes(answer=texts("a", "b", "c")), ["Outcomes.answer", "(3, 2)"]),
    "a signal of another shape": (lambda: outcomes(signals={"sure": np.ones(2)}), ["signals[sure]", "(3, 2)", "(2,)"]),
    "propensity above one": (lambda: outcomes(propensity=[1, 2, 1]), ["Outcomes.propensity", "row 1", "2.0"]),
    "propensity too short": (lambda: outcomes(propensity=[1, 1]), ["Outcomes.propensity", "(3)", "(2,)"]),
    "logged too short": (lambda: outcomes(logged=[1, 1]), ["Outcomes.logged", "(3)", "(2,)"]),
    "an outcome between": (lambda: battles(outcome=[1, 0.7]), ["outcome of a battle", "battle 1", "0.5 (tie)", "0.7"]),
    "an outcome unknown": (lambda: battles(outcome=[NAN, 1]), ["outcome of a battle", "battle 0", "nan"]),
    "a model against itself": (lambda: battles(a=[0, 1]), ["fights itself", "battle 1"]),
    "a query outside": (lambda: battles(query=[0, 3]), ["Battles.query", "0 .. 2", "0 .. 3"]),
    "a model outside": (lambda: battles(b=[1, -1]), ["Battles.b", "0 .. 1", "-1 .. 1"]),
    "outcomes too few": (lambda: battles(outcome=[1]), ["Battles.outcome", "(2)", "(1,)"]),
    "a weight of nothing": (lambda: battles(weight=[1, 0]), ["Battles.weight", "> 0"]),
    "a weight unknown": (lambda: battles(weight=[NAN, 1]), ["Battles.weight", "finite"]),
    "battle cost of another shape": (lambda: battles(cost=np.ones((2, 2))), ["Battles.cost", "(3, 2)", "(2, 2)"]),
    "a prediction of NaN": (lambda: Predictions(wrong(2, 1, NAN), np.ones((3, 2))), ["not finite", "row 2, model 1", "nan"]),
    "a prediction without end": (lambda: Predictions(wrong(0, 1, np.inf), np.ones((3, 2))), ["not finite", "row 0, model 1", "inf"]),
    "a prediction's cost of another shape": (lambda: Predictions(np.ones((3, 2)), np.ones(3)), ["Predictions.cost", "(3, 2)", "(3,)"]),
    "predictions in a row": (lambda: Predictions(np.ones(3), np.ones(3)), ["Predictions.quality", "(any, any)", "(3,)"]),
    "serving what was not called": (
        lambda: Decisions([[True, False], [True, False]], [0, 1], [1, 1]),
        ["never called", "row 1", "one of the models called"],
    ),
    "decisions too few": (lambda: Decisions([[True, False]], [0, 0], [1]), ["Decisions.served", "(1)", "(2,)"]),
    "a curve of two lengths": (lambda: Curve([1, 0], [1, 2], [0.5], np.ones((2, 2))), ["Curve.quality", "(2)", "(1,)"]),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_is_refused_in_one_line(name: str) -> None:
    make, told = REFUSED[name]
    with pytest.raises(InputError) as caught:
        make()
    line = str(caught.value)
    assert "\n" not in line
    for part in told:
        assert part in line


def test_an_error_says_its_parts_in_order_and_keeps_them() -> None:
    error = InputError("a thing is wrong", where="row 3", expected="this", found="that", mend="Do so.")
    assert str(error) == "a thing is wrong in row 3: expected this, found that. Do so."
    assert (error.what, error.where, error.expected, error.found, error.mend) == ("a thing is wrong", "row 3", "this", "that", "Do so.")
    assert str(InputError("alone")) == "alone"
    assert str(InputError("this", mend="Do so.")) == "this. Do so."
    assert isinstance(error, ValueError)


def arrays(thing: Any) -> list[np.ndarray]:
    """Every array inside, those of mappings too."""
    values = [getattr(thing, field.name) for field in fields(thing)]
    flat = [item for value in values for item in (value.values() if isinstance(value, dict) else [value])]
    return [value for value in flat if isinstance(value, np.ndarray)]


def test_everything_inside_is_read_only() -> None:
    made = full()
    things = [made, made.queries, made.pool, made.battles(), Predictions(np.ones((3, 2)), np.ones((3, 2)))]
    things += [Decisions.routing(np.array([0, 1]), 2), Curve([1.0], [1.0], [1.0], [[1.0, 0.0]])]
    found = [array for thing in things for array in arrays(thing)]
    assert len(found) > 25
    for array in found:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = array.flat[0]
    with pytest.raises(FrozenInstanceError):
        made.usage = "none"  # type: ignore[misc]


def test_the_caller_may_still_write() -> None:
    ids, vectors, quality, cost = texts("a", "b"), np.eye(2, dtype=np.float32), np.ones((2, 2), dtype=np.float32), np.ones((2, 2))
    Outcomes(Queries(ids, ids, ids, vectors), PAIR, quality, cost)
    predicted, query, served = np.ones((2, 2)), np.zeros(1, dtype=np.int64), np.zeros(2, dtype=np.int64)
    Predictions(predicted, cost)
    Battles(queries(), PAIR, query, query, query + 1, np.ones(1, dtype=np.float32))
    Decisions.routing(served, 2)
    for array in (ids, vectors, quality, cost, predicted, query, served):
        array[0] = array[-1]


def test_take_cuts_every_column() -> None:
    whole = full()
    for rows in (np.array([2, 0]), np.array([True, False, True])):
        part, order = whole.take(rows), ([2, 0] if rows.dtype != bool else [0, 2])
        assert part.queries.id.tolist() == [f"q{i}" for i in order]
        assert part.queries.text.tolist() == [f"text {i}" for i in order]
        assert part.queries.group.tolist() == ["g0", "g0"]
        np.testing.assert_array_equal(part.queries.vectors(), np.eye(3, 4)[order])
        np.testing.assert_array_equal(part.quality, np.array(QUALITY, dtype=np.float32)[order])
        np.testing.assert_array_equal(part.cost, np.array(COST)[order])
        assert part.tokens["output"][:, 0].tolist() == [100.0 + 3 * i for i in order]
        assert part.latency is not None
        assert part.latency[:, 1] == pytest.approx([(3 * i + 1) / 10 for i in order])
        assert part.answer is not None
        assert part.answer[:, 2].tolist() == [f"answer {i}2" for i in order]
        assert part.signals["sure"][:, 0].tolist() == [3 * i / 8 for i in order]
        assert part.propensity is not None
        assert part.propensity.tolist() == [[0.5, 0.25, 1.0][i] for i in order]
        assert part.logged is not None
        assert part.logged.tolist() == [[0, 2, 1][i] for i in order]
        assert (part.pool, part.usage) == (whole.pool, "measured")
    assert len(whole.take(np.zeros(0, dtype=np.int64))) == 0
    assert Predictions(np.arange(6.0).reshape(3, 2), np.ones((3, 2))).take(np.array([2, 1])).quality.tolist() == [[4, 5], [2, 3]]


def test_models_are_chosen_and_reordered_with_their_prices() -> None:
    part = full().models(["large", "small"])
    assert part.pool.name == ("large", "small")
    assert part.pool.usd_input.tolist() == [3e-6, 1e-6]
    assert part.pool.usd_output.tolist() == [6e-6, 4e-6]
    np.testing.assert_array_equal(part.pool.usd_call, [NAN, NAN])
    assert full().models(["medium"]).pool.variant == ("terse",)
    np.testing.assert_array_equal(part.quality, np.array(QUALITY, dtype=np.float32)[:, [2, 0]])
    np.testing.assert_array_equal(part.cost, np.array(COST)[:, [2, 0]])
    assert part.tokens["input"].tolist() == [[2, 0], [5, 3], [8, 6]]
    assert part.signals["sure"].tolist() == [[0.25, 0], [0.625, 0.375], [1, 0.75]]
    assert part.latency is not None
    assert part.latency[0] == pytest.approx([0.2, 0])
    assert part.answer is not None
    assert part.answer[1].tolist() == ["answer 12", "answer 10"]
    assert part.queries.id.tolist() == ["q0", "q1", "q2"]


def test_encoded_changes_the_vectors_alone() -> None:
    before = full()
    after = before.encoded(np.zeros((3, 2)))
    assert after.queries.vectors().shape == (3, 2)
    assert after.queries.vectors().dtype == np.float32
    assert before.queries.vectors().shape == (3, 4)
    np.testing.assert_array_equal(after.quality, before.quality)
    assert after.queries.text.tolist() == before.queries.text.tolist()


def test_observed_needs_every_model() -> None:
    assert full().observed().tolist() == [True, False, True]
    assert full().models(["small", "large"]).observed().tolist() == [True, True, True]


def test_battles_by_hand() -> None:
    """Query 1 was not observed on medium: its only battle is small against large. Equal grades are ties and stay."""
    made = full().battles()
    rows = list(zip(made.query.tolist(), made.a.tolist(), made.b.tolist(), made.outcome.tolist(), strict=True))
    assert rows == [
        (0, 0, 1, 0.5),
        (2, 0, 1, 0.0),
        (0, 0, 2, 1.0),
        (1, 0, 2, 0.0),
        (2, 0, 2, 0.0),
        (0, 1, 2, 1.0),
        (2, 1, 2, 0.5),
    ]
    assert made.weight is not None
    assert made.weight.tolist() == [1.0] * 7
    assert made.cost is not None
    np.testing.assert_array_equal(made.cost, COST)
    assert made.queries.id.tolist() == ["q0", "q1", "q2"]
    assert made.pool is TRIO
    assert len(made) == 7


def test_battles_within_the_tolerance_are_ties() -> None:
    assert full().battles(tolerance=0.5).outcome.tolist() == [0.5, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5]


def test_one_model_or_no_query_has_no_battle() -> None:
    assert len(full().models(["small"]).battles()) == 0
    assert len(full().take(np.zeros(0, dtype=np.int64)).battles()) == 0


def test_routing_calls_what_it_serves() -> None:
    made = Decisions.routing(np.array([2, 0]), 3)
    assert made.called.tolist() == [[False, False, True], [True, False, False]]
    assert made.served.tolist() == [2, 0]
    assert made.propensity.tolist() == [1, 1]
    assert Decisions.routing(np.array([1]), 2, np.array([0.25])).propensity.tolist() == [0.25]
