"""Tables of battles put together and cut, by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from routewright.core.types import Battles, InputError, Pool, Queries
from routewright.data.duels import as_pair, long_enough, merged_duplicates, relabelled, ties, union, without

NAN = float("nan")


def queries(ids: str, texts: list[str] | None = None, width: int | None = None, group: str = "g") -> Queries:
    names = np.array(ids.split(), dtype=object)
    text = np.array(texts if texts is not None else [f"text of {name}" for name in names], dtype=object)
    vectors = None if width is None else np.arange(len(names) * width, dtype=np.float32).reshape(-1, width)
    return Queries(names, text, np.array([group] * len(names), dtype=object), vectors)


def rows(battles: Battles) -> list[tuple[Any, ...]]:
    """(query id, a, b, outcome, weight) of every battle."""
    assert battles.weight is not None
    names = battles.pool.name
    columns = (battles.query, battles.a, battles.b, battles.outcome, battles.weight)
    return [(battles.queries.id[q], names[a], names[b], float(won), float(w)) for q, a, b, won, w in zip(*columns, strict=True)]


POOL = Pool(("s", "m", "l", "xl", "idle"), usd_input=[1, 2, 3, 3, NAN], usd_output=[4, 5, 6, 7, 8], variant=("", "", "v", "v", ""))
COST = np.array([[1, 2, 4, 6, NAN], [NAN, NAN, NAN, 8, 1], [1, 1, NAN, NAN, NAN]])
FOUGHT = Battles(
    queries("q1 q2 q3"), POOL, [0, 0, 1, 2, 2], [0, 2, 3, 3, 1], [1, 3, 0, 2, 2], [1, 0.5, 1, 0, 0.5], [1, 2, 0.5, 1, 3], cost=COST
)


# ---- models


def test_other_names() -> None:
    made = relabelled(FOUGHT, {"s": "small", "idle": "s"})
    assert made.pool.name == ("small", "m", "l", "xl", "s")
    assert rows(made)[0] == ("q1", "small", "m", 1, 1)
    assert rows(made)[1:2] + rows(made)[3:] == rows(FOUGHT)[1:2] + rows(FOUGHT)[3:]
    np.testing.assert_array_equal(made.pool.usd_input, POOL.usd_input)
    np.testing.assert_array_equal(made.cost, COST)


def test_aliases_become_one_model(caplog: pytest.LogCaptureFixture) -> None:
    """l and xl fight on q1 and q3: gone. Their input price agrees, their output price does not; their costs are averaged where known."""
    caplog.set_level(logging.INFO, "routewright")
    made = relabelled(FOUGHT, {"l": "large", "xl": "large"})
    assert made.pool.name == ("s", "m", "large", "idle")
    assert rows(made) == [("q1", "s", "m", 1, 1), ("q2", "large", "s", 1, 0.5), ("q3", "m", "large", 0.5, 3)]
    np.testing.assert_array_equal(made.pool.usd_input, [1, 2, 3, NAN])
    np.testing.assert_array_equal(made.pool.usd_output, [4, 5, NAN, 8])
    assert made.pool.variant == ("", "", "v", "")
    np.testing.assert_array_equal(made.cost, [[1, 2, 5, NAN], [NAN, NAN, 8, 1], [1, 1, NAN, NAN]])
    assert made.queries is FOUGHT.queries
    assert "2 of 5 battles are dropped" in caplog.text
    joined = relabelled(FOUGHT, {"xl": "s"})
    assert joined.pool.name == ("s", "m", "l", "idle"), "an alias may be the name of another model"
    assert joined.pool.variant == ("", "", "v", "")
    assert len(joined) == 4


def test_tiers_become_roles(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "routewright")
    made = as_pair(FOUGHT, weak=["s", "m"], strong=["xl", "idle"])
    assert made.pool.name == ("weak", "strong")
    assert rows(made) == [("q2", "strong", "weak", 1, 0.5)], "strong was `a`, and won"
    assert "4 of 5 battles are dropped" in caplog.text
    np.testing.assert_array_equal(made.cost, [[1.5, 6], [NAN, 4.5], [1, NAN]])
    assert len(made.queries) == 3
    one = as_pair(FOUGHT, ["m"], ["l"])
    assert (one.pool.usd_output.tolist(), one.pool.variant) == ([5, 6], ("", "v"))
    assert rows(one) == [("q3", "weak", "strong", 0.5, 3)]
    assert as_pair(replace(FOUGHT, cost=None), ["m"], ["l"]).cost is None


@pytest.mark.parametrize(
    ("weak", "strong", "told"),
    [
        (["s"], ["huge"], "'huge' is not in the pool"),
        (["s", "m"], ["l", "m"], "a model is in both tiers in m"),
        ([], ["l"], "a tier has no models"),
        (["s"], ["idle"], "no battles are left in the table: expected at least one, found 0 of 5"),
    ],
)
def test_tiers_that_cannot_be(weak: list[str], strong: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        as_pair(FOUGHT, weak, strong)


def test_names_that_cannot_be() -> None:
    with pytest.raises(InputError, match="'huge' is not in the pool: expected one of s, m, l, xl, idle"):
        relabelled(FOUGHT, {"huge": "large"})
    with pytest.raises(InputError, match="named models"):
        relabelled(FOUGHT, {"s": ""})
    with pytest.raises(InputError, match="no battles are left"):
        relabelled(FOUGHT, dict.fromkeys(POOL.name, "one"))


# ---- union


def test_a_union() -> None:
    """q1 is the same text in both and one query; q2 is another text and gets a prefix; costs and prices fill each other's gaps."""
    other = Battles(
        queries("q1 q2 q9", ["text of q1", "else", "new"], group="h"),
        Pool(("l", "new", "s"), usd_input=[NAN, 9, 1], usd_call=[5, NAN, NAN], variant=("v", "", "")),
        [1, 0, 2],
        [0, 1, 2],
        [1, 2, 0],
        [1, 0, 0.5],
        [1, 2, 4],
        cost=np.array([[70, 71, 72], [NAN, 1, NAN], [2, NAN, 3]]),
    )
    made = union([(FOUGHT, 1.0), (other, 0.5)])
    assert made.pool.name == ("s", "m", "l", "xl", "idle", "new")
    np.testing.assert_array_equal(made.pool.usd_input, [1, 2, 3, 3, NAN, 9])
    np.testing.assert_array_equal(made.pool.usd_call, [NAN, NAN, 5, NAN, NAN, NAN])
    assert made.queries.id.tolist() == ["q1", "q2", "q3", "2:q2", "q9"]
    assert made.queries.text.tolist() == ["text of q1", "text of q2", "text of q3", "else", "new"]
    assert made.queries.group.tolist() == ["g", "g", "g", "h", "h"]
    assert rows(made) == [
        *rows(FOUGHT),
        ("2:q2", "l", "new", 1, 0.5),
        ("q1", "new", "s", 0, 1),
        ("q9", "s", "l", 0.5, 2),
    ]
    assert made.cost is not None
    np.testing.assert_array_equal(
        made.cost,
        [[1, 2, 4, 6, NAN, 71], [NAN, NAN, NAN, 8, 1, NAN], [1, 1, NAN, NAN, NAN, NAN], [NAN] * 5 + [1], [3, NAN, 2, NAN, NAN, NAN]],
    )
    assert made.queries.embedding is None


def test_a_union_of_one_is_the_table() -> None:
    made = union([(FOUGHT, 2)])
    assert [row[:4] for row in rows(made)] == [row[:4] for row in rows(FOUGHT)]
    assert [row[4] for row in rows(made)] == [2, 4, 1, 2, 6]
    np.testing.assert_array_equal(made.cost, COST)


def test_taken_prefixes_are_prefixed_again() -> None:
    one = Battles(queries("q 2:q", ["A", "B"]), Pool(("a", "b")), [0, 1], [0, 0], [1, 1], [1, 0])
    two = replace(one, queries=queries("q", ["C"]), query=[0, 0])
    assert union([(one, 1), (two, 1)]).queries.id.tolist() == ["q", "2:q", "2:2:q"]


def test_embeddings_and_costs_of_a_union() -> None:
    pool = Pool(("a", "b"))
    encoded = Battles(queries("x y", width=2), pool, [0], [0], [1], [1])
    more = Battles(queries("y z", width=2), pool, [1], [0], [1], [1])
    both = union([(encoded, 1), (more, 1)])
    np.testing.assert_array_equal(both.queries.vectors(), [[0, 1], [2, 3], [2, 3]])
    assert both.cost is None
    plain = replace(more, queries=queries("y z"))
    assert union([(encoded, 1), (plain, 1)]).queries.embedding is None
    wide = replace(more, queries=queries("y z", width=3))
    assert union([(encoded, 1), (plain, 1), (wide, 1)]).queries.embedding is None
    with pytest.raises(InputError, match="embeddings of two encoders: expected one width, found 2, 3"):
        union([(encoded, 1), (wide, 1)])


@pytest.mark.parametrize("weight", [0, -1, NAN, float("inf")])
def test_weights_of_parts_that_cannot_be(weight: float) -> None:
    with pytest.raises(InputError, match="weight of a part is impossible in part 2"):
        union([(FOUGHT, 1), (FOUGHT, weight)])


def test_parts_that_cannot_be() -> None:
    with pytest.raises(InputError, match="a union needs a table"):
        union([])
    dearer = replace(FOUGHT, pool=replace(POOL, usd_output=[4, 5, 6, 9, 8]))
    with pytest.raises(InputError, match=r"two prices usd_output in xl: expected 7\.0, found 9\.0"):
        union([(FOUGHT, 1), (dearer, 1)])
    other = replace(FOUGHT, pool=replace(POOL, variant=("", "", "w", "v", "")))
    with pytest.raises(InputError, match="two variants in l: expected 'v', found 'w'"):
        union([(FOUGHT, 1), (other, 1)])


# ---- queries


def test_without_some_queries() -> None:
    made = without(FOUGHT, np.array([True, False, False]))
    assert made.queries.id.tolist() == ["q2", "q3"]
    assert rows(made) == rows(FOUGHT)[2:]
    np.testing.assert_array_equal(made.cost, COST[1:])
    assert made.pool is FOUGHT.pool
    with pytest.raises(InputError, match="found 0 of 5"):
        without(FOUGHT, np.ones(3, dtype=bool))
    for mask in (np.zeros(2, dtype=bool), np.array([0, 1, 0])):
        with pytest.raises(InputError, match="expected 3 booleans"):
            without(FOUGHT, mask)


def test_short_texts_go() -> None:
    fought = replace(FOUGHT, queries=queries("q1 q2 q3", ["x" * 15, "é" * 16, "x" * 17]))
    assert long_enough(fought).queries.id.tolist() == ["q2", "q3"]
    assert long_enough(fought, 17).queries.id.tolist() == ["q3"]
    assert len(long_enough(fought, 0)) == 5
    for length in (-1, 1.5, True):
        with pytest.raises(InputError, match="a length does not fit"):
            long_enough(fought, length)  # type: ignore[arg-type]


# ---- battles


def test_repetitions_are_pooled() -> None:
    """q1 and q3 have one text. s beats m twice there, told from either side; once they tie; once m wins; on q2 it is another text."""
    fought = Battles(
        queries("q1 q2 q3", ["same", "other", "same"]),
        Pool(("s", "m")),
        [2, 1, 0, 0, 2, 0],
        [0, 0, 1, 0, 1, 0],
        [1, 1, 0, 1, 0, 1],
        [1, 1, 0, 0.5, 1, 0.5],
        [1, 1, 2, 4, 8, 16],
        cost=np.ones((3, 2)),
    )
    made = merged_duplicates(fought)
    assert rows(made) == [("q1", "s", "m", 1, 3), ("q2", "s", "m", 1, 1), ("q1", "s", "m", 0.5, 20), ("q1", "m", "s", 1, 8)]
    assert made.queries is fought.queries
    np.testing.assert_array_equal(made.cost, fought.cost)
    assert rows(merged_duplicates(made)) == rows(made)


def test_three_treatments_of_ties() -> None:
    assert ties(FOUGHT, "keep") is FOUGHT
    assert rows(ties(FOUGHT, "drop")) == [rows(FOUGHT)[i] for i in (0, 2, 3)]
    assert rows(ties(FOUGHT, "half")) == [
        ("q1", "s", "m", 1, 1),
        ("q1", "l", "xl", 1, 1),
        ("q1", "l", "xl", 0, 1),
        ("q2", "xl", "s", 1, 0.5),
        ("q3", "xl", "l", 0, 1),
        ("q3", "m", "l", 1, 1.5),
        ("q3", "m", "l", 0, 1.5),
    ]
    with pytest.raises(InputError, match="expected keep, drop, half, found 'both'"):
        ties(FOUGHT, "both")
    only = replace(FOUGHT, outcome=np.full(5, 0.5))
    with pytest.raises(InputError, match="no battles are left"):
        ties(only, "drop")
    assert len(ties(only, "half")) == 10


EMPTY = replace(FOUGHT, query=[], a=[], b=[], outcome=[], weight=None)


@pytest.mark.parametrize(
    "use",
    [
        lambda: relabelled(EMPTY, {}),
        lambda: as_pair(EMPTY, ["s"], ["l"]),
        lambda: union([(FOUGHT, 1), (EMPTY, 1)]),
        lambda: without(EMPTY, np.zeros(3, dtype=bool)),
        lambda: long_enough(EMPTY),
        lambda: merged_duplicates(EMPTY),
        *(lambda how=how: ties(EMPTY, how) for how in ("keep", "drop", "half")),
    ],
)
def test_a_table_without_battles_is_refused(use: Callable[[], Battles]) -> None:
    with pytest.raises(InputError, match=r"no battles are left in (the table|part 2 of a union): expected at least one, found 0"):
        use()
