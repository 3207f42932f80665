"""Tables of battles: what no operation may lose, and what must not depend on order or on which side is `a`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routewright.core.types import Battles, InputError, Pool, Queries
from routewright.data.bias import corrected, position_bias
from routewright.data.duels import as_pair, long_enough, merged_duplicates, relabelled, ties, union, without

NAMES = ("a", "b", "c", "d")
TEXTS = st.sampled_from(["x", "y", "a text of more than sixteen characters", "another one of them, quite long"])


@st.composite
def fights(draw: st.DrawFn) -> Battles:
    """One to four queries, some of one text; two to four models in any order; one to twelve battles; sometimes costs."""
    n, b = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    pool = Pool(tuple(draw(st.permutations(NAMES))[: draw(st.integers(2, 4))]))
    m = len(pool)

    def several(values: Any, count: int) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    ids = np.array([f"q{i}" for i in range(n)], dtype=object)
    queries = Queries(ids, np.array(several(TEXTS, n), dtype=object), ids)
    a, step = np.array(several(st.integers(0, m - 1), b)), np.array(several(st.integers(1, m - 1), b))
    weight = np.array(several(st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), b))  # their sums are exact
    cost = None
    if draw(st.booleans()):
        cost = np.array(several(st.one_of(st.just(float("nan")), st.floats(0, 9)), n * m)).reshape(n, m)
    outcome = several(st.sampled_from([0, 0.5, 1]), b)
    return Battles(queries, pool, several(st.integers(0, n - 1), b), a, (a + step) % m, outcome, weight, cost)


def mirrored(battles: Battles) -> Battles:
    return replace(battles, a=battles.b, b=battles.a, outcome=1 - battles.outcome)


def ledger(battles: Battles, *, by_id: bool = False) -> dict[tuple[str, str, str], float]:
    """(text or id, winner, loser) -> what the winner got of the weight, ties half and half: what no operation may change."""
    found: dict[tuple[str, str, str], float] = defaultdict(float)
    assert battles.weight is not None
    names = battles.pool.name
    keys = battles.queries.id if by_id else battles.queries.text
    for q, a, b, won, w in zip(battles.query, battles.a, battles.b, battles.outcome, battles.weight, strict=True):
        for one, other, share in ((a, b, won), (b, a, 1 - won)):
            if share:
                found[keys[q], names[one], names[other]] += float(w) * float(share)
    return dict(found)


@given(fights())
def test_pooling_repetitions_loses_nothing(fought: Battles) -> None:
    made = merged_duplicates(fought)
    assert ledger(made) == ledger(fought)
    assert ledger(merged_duplicates(mirrored(fought))) == ledger(fought)
    rows = {
        (fought.queries.text[q], *sorted([a, b]), won if a < b else 1 - won)
        for q, a, b, won in zip(made.query, made.a, made.b, made.outcome, strict=True)
    }
    assert len(rows) == len(made), "no comparison stands twice"
    np.testing.assert_array_equal(merged_duplicates(made).weight, made.weight)


@given(fights())
def test_halved_ties_are_the_same_evidence(fought: Battles) -> None:
    made = ties(fought, "half")
    assert ledger(made, by_id=True) == ledger(fought, by_id=True)
    assert (made.outcome != 0.5).all()
    decisive = int((fought.outcome != 0.5).sum())
    assert len(made) == 2 * len(fought) - decisive
    if decisive:
        assert len(ties(fought, "drop")) == decisive
    else:
        with pytest.raises(InputError, match="no battles are left"):
            ties(fought, "drop")


@given(fights(), fights(), st.sampled_from([0.5, 1.0, 4.0]))
def test_a_union_adds_the_evidence(one: Battles, two: Battles, weight: float) -> None:
    made = union([(one, 1.0), (two, weight)])
    expected: dict[tuple[str, str, str], float] = defaultdict(float)
    for part, factor in ((one, 1.0), (two, weight)):
        for key, value in ledger(part).items():
            expected[key] += factor * value
    assert ledger(made) == dict(expected)
    assert made.pool.name[: len(one.pool)] == one.pool.name
    assert set(made.pool.name) == {*one.pool.name, *two.pool.name}
    assert made.queries.id.tolist()[: len(one.queries)] == one.queries.id.tolist()
    texts = one.queries.text.tolist() + two.queries.text.tolist()
    assert [made.queries.text[q] for q in made.query] == [
        *(texts[q] for q in one.query),
        *(texts[len(one.queries) + q] for q in two.query),
    ]
    if one.cost is None and two.cost is None:
        assert made.cost is None
    else:
        assert made.cost is not None
        first = made.cost[: len(one.queries), : len(one.pool)]
        known = ~np.isnan(one.cost) if one.cost is not None else np.zeros(first.shape, dtype=bool)
        np.testing.assert_array_equal(first[known], one.cost[known] if one.cost is not None else [])


@given(fights(), st.data())
def test_queries_go_with_their_battles(fought: Battles, data: st.DataObject) -> None:
    n = len(fought.queries)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    kept = {key: value for key, value in ledger(fought, by_id=True).items() if not mask[fought.queries.id.tolist().index(key[0])]}
    assume(kept)
    made = without(fought, mask)
    assert ledger(made, by_id=True) == kept
    assert made.queries.id.tolist() == fought.queries.id[~mask].tolist()
    if fought.cost is not None:
        np.testing.assert_array_equal(made.cost, fought.cost[~mask])
    long = [len(text) >= 16 for text in fought.queries.text]
    assume(any(long[q] for q in fought.query))
    assert long_enough(fought).queries.text.tolist() == [text for text, fits in zip(fought.queries.text, long, strict=True) if fits]


@given(fights(), st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*NAMES, "new"])))
def test_names_change_and_the_evidence_follows(fought: Battles, names: dict[str, str]) -> None:
    names = {old: new for old, new in names.items() if old in fought.pool.name}
    expected: dict[tuple[str, str, str], float] = defaultdict(float)
    for (query, winner, loser), value in ledger(fought, by_id=True).items():
        one, other = names.get(winner, winner), names.get(loser, loser)
        if one != other:
            expected[query, one, other] += value
    assume(expected)
    made = relabelled(fought, names)
    assert ledger(made, by_id=True) == dict(expected)
    assert list(made.pool.name) == list(dict.fromkeys(names.get(name, name) for name in fought.pool.name))


@given(fights(), st.data())
def test_tiers_see_the_same_battles_from_either_side(fought: Battles, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(fought.pool) - 1))
    weak, strong = fought.pool.name[:cut], fought.pool.name[cut:]
    assume(((fought.a < cut) != (fought.b < cut)).any())
    made, back = as_pair(fought, weak, strong), as_pair(mirrored(fought), weak, strong)
    assert made.pool.name == ("weak", "strong")
    assert ledger(made, by_id=True) == ledger(back, by_id=True)
    swapped = as_pair(fought, strong, weak)
    renamed = {"weak": "strong", "strong": "weak"}
    assert ledger(swapped, by_id=True) == {(q, renamed[w], renamed[x]): v for (q, w, x), v in ledger(made, by_id=True).items()}


@given(fights())
def test_a_bias_is_found_or_refused_never_a_nan(fought: Battles) -> None:
    try:
        found = position_bias(fought)
    except InputError:
        with pytest.raises(InputError, match="position"):
            corrected(fought)
        return
    assert np.isfinite([found.advantage, found.error, found.threshold, *found.strength]).all()
    made = corrected(fought, found)
    assert made.weight is not None
    assert fought.weight is not None
    for query in range(len(fought.queries)):
        np.testing.assert_allclose(made.weight[made.query == query].sum(), fought.weight[fought.query == query].sum(), rtol=1e-5)
    # the other position has the opposite advantage
    turned = position_bias(replace(fought, outcome=1 - fought.outcome))
    assert turned.advantage == pytest.approx(-found.advantage, abs=1e-3 * max(1, abs(found.advantage)))
