"""Similarity-weighted ranking by hand: battles at known angles, tiers on a number line, and the edges of what can be fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from routewright.core import graph
from routewright.core.types import Battles, InputError, Pool, Queries
from routewright.routers._bradley_terry import PRIOR, strengths
from routewright.routers._tiers import tiers
from routewright.routers.sw_ranking import LEAST_COSINE, SWRanking

RNG = np.random.default_rng(0)


def at(*points: Sequence[float]) -> Queries:
    names = np.array([f"q{i}" for i in range(len(points))], dtype=object)
    return Queries(names, names, names, np.array(points, dtype=np.float32))


def fight(queries: Queries, *rows: tuple[int, str, str, float], weight: Sequence[float] | None = None) -> Battles:
    """Rows of (query, model a, model b, outcome); the pool is in the order of the alphabet."""
    names = sorted({name for _, a, b, _ in rows for name in (a, b)})
    query, a, b, outcome = (np.array(column) for column in zip(*rows, strict=True))
    first, second = (np.array([names.index(name) for name in column]) for column in (a, b))
    return Battles(queries, Pool(tuple(names)), query, first, second, outcome, None if weight is None else np.array(weight))


def three_battles() -> Battles:
    """a wins in the east, loses in the north, and ties at .6, .8."""
    return fight(at([1, 0], [0, 1], [0.6, 0.8]), (0, "a", "b", 1), (1, "a", "b", 0), (2, "a", "b", 0.5))


def fitted(battles: Battles, **options: object) -> SWRanking:
    return SWRanking(**options).fit(battles, rng=RNG)  # type: ignore[arg-type]


def test_three_battles_by_hand() -> None:
    """From the east the cosines are 1, 0, .6 and so is S: weights 100, 10, 39.81. a has 100 + 19.905 of 149.81.

    From the tie's own place the cosines are .6, .8, 1 and the weights 39.81, 63.10, 100: a has 39.81 + 50 of 202.91.
    """
    router = fitted(three_battles(), base=10)
    rate = router.win_rate(at([1, 0], [0.6, 0.8]), 0, 1)
    assert rate == pytest.approx([0.80038, 0.44263], abs=1e-5)
    assert router.win_rate(at([1, 0], [0.6, 0.8]), 1, 0) == pytest.approx(1 - rate)
    quality = router.predict(at([1, 0])).quality
    assert quality == pytest.approx(np.array([[0.69433, -0.69433]]), abs=1e-5)  # half of log(.80038 / .19962)


def test_a_sharper_base_listens_to_the_nearest() -> None:
    """Base 1e4: from the east the weights are 1, 1e-4, .02512: a has 1.01256 of 1.02522."""
    assert fitted(three_battles(), base=1e4).win_rate(at([1, 0]), 0, 1) == pytest.approx([0.98765], abs=1e-5)
    assert fitted(three_battles(), base=1).win_rate(at([1, 0]), 0, 1) == pytest.approx([0.5])


def test_a_weight_counts_as_so_many_battles() -> None:
    plain = three_battles()
    heavy = Battles(plain.queries, plain.pool, plain.query, plain.a, plain.b, plain.outcome, np.array([1.0, 3.0, 1.0]))
    rows = [0, 1, 1, 1, 2]
    repeated = Battles(plain.queries, plain.pool, plain.query[rows], plain.a[rows], plain.b[rows], plain.outcome[rows])
    for query in (at([1, 0]), at([0.3, 0.9])):
        assert np.allclose(fitted(heavy).predict(query).quality, fitted(repeated).predict(query).quality, atol=1e-7)


def test_lengths_of_embeddings_do_not_matter() -> None:
    plain = three_battles()
    longer = plain.queries.encoded(plain.queries.vectors() * np.array([[2], [0.5], [7]], dtype=np.float32))
    stretched = Battles(longer, plain.pool, plain.query, plain.a, plain.b, plain.outcome)
    assert np.allclose(fitted(stretched).predict(at([4, 1])).quality, fitted(plain).predict(at([0.4, 0.1])).quality, atol=1e-6)


def test_queries_with_one_embedding_share_a_row() -> None:
    battles = fight(at([1, 0], [0, 1], [1, 0], [3, 0]), (0, "a", "b", 1), (1, "a", "b", 0), (2, "a", "b", 1), (3, "a", "b", 0.5))
    state = fitted(battles).state()
    assert state["memory_"].shape == (2, 2)
    assert sorted(state["wins_"]) == [0.5, 1.0, 2.5]


def test_only_queries_of_battles_are_remembered() -> None:
    battles = fight(at([1, 0], [0, 1], [-1, 0]), (0, "a", "b", 1), (1, "a", "b", 0))
    assert len(fitted(battles).state()["memory_"]) == 2


def test_where_no_battle_is_alike_the_nearest_still_counts_most() -> None:
    """The published division by the largest cosine would turn the order round: south of both, east is nearer than north."""
    battles = fight(at([1, 0], [0, 1]), (0, "a", "b", 1), (1, "a", "b", 0))
    router = fitted(battles, base=10)
    rate = router.win_rate(at([-0.1, -0.995], [-0.995, -0.1], [-(0.5**0.5), -(0.5**0.5)], [0, 0]), 0, 1)
    assert rate[0] > 0.99
    assert rate[1] < 0.01
    assert rate[2:] == pytest.approx([0.5, 0.5], abs=1e-4)


def test_there_is_no_jump_where_the_largest_cosine_passes_its_least() -> None:
    battles = fight(at([1, 0, 0], [0, 1, 0]), (0, "a", "b", 1), (1, "a", "b", 0))
    x = LEAST_COSINE * np.linspace(-1, 3, 401)
    rows = np.stack([x, x / 2, np.sqrt(1 - 1.25 * x**2)], axis=1)
    rate = fitted(battles, base=10).win_rate(at(*rows.tolist()), 0, 1)
    assert np.abs(np.diff(rate)).max() < 0.01
    published = 10 * 10.0 ** np.array([1.0, 0.5])  # above the least cosine S is 1 and a half, as published
    assert rate[x > LEAST_COSINE] == pytest.approx(published[0] / published.sum(), abs=1e-4)


# ---- tiers


@pytest.mark.parametrize(
    ("rating", "count", "expected"),
    [
        ([1000, 1, 990, 0, 500], 3, [0, 2, 0, 2, 1]),
        ([3, 2, 1], 10, [0, 1, 2]),
        ([5, 5, 5, 5], 2, [0, 1, 1, 1]),
        ([0, 0, 9, 9], 2, [1, 1, 0, 0]),
        ([0, 0, 9, 9], 3, [2, 2, 0, 1]),
        ([7], 2, [0]),
    ],
)
def test_tiers_on_a_line(rating: list[float], count: int, expected: list[int]) -> None:
    assert tiers(np.array(rating, dtype=float), count).tolist() == expected


def test_the_sum_of_variances_is_minimised_not_of_squares() -> None:
    """Of eight 10s, 6.8, 3 and 0 the widest tier is that of the 10s and 6.8: its variance is 1.01, that of 3 and 0 is 2.25.

    By sums of squares it would be 3 and 0: 4.5 against 9.1.
    """
    crowd = np.array([10.0] * 8 + [6.8, 3.0, 0.0])
    assert tiers(crowd, 3).tolist() == [0] * 9 + [1, 2]


def two_tiers() -> Battles:
    """a and b beat c and d 99 to 1; a, listed first, beats b 3 to 1, and d beats c, listed first, 3 to 1. All on one query."""
    across = [(0, x, y, won) for x in "ab" for y in "cd" for won in (1, 0)]
    inside = [(0, x, y, won) for x, y in ("ab", "cd") for won in (1, 0)]
    return fight(at([1, 0]), *across, *inside, weight=[24.75, 0.25] * 4 + [3, 1, 1, 3])


def test_battles_within_a_tier_say_nothing() -> None:
    router = fitted(two_tiers(), tiers=2)
    assert router.state()["tier_"].tolist() == [0, 0, 1, 1]
    quality = router.predict(at([1, 0])).quality[0]
    half = np.log(99) / 2
    assert quality == pytest.approx([half, half, -half, -half], abs=1e-5)


def test_battles_within_a_tier_as_published() -> None:
    """The + of a is overwritten by the - of b: a's wins are wins of a player of strength 0 over the tier.

    So 0 beats the upper tier 3 to 1 and loses to the lower 3 to 1. By symmetry it stands midway, and the slope of the likelihood in the
    difference x vanishes where 99 - 100 s(x) = 3 s(x/2) - (1 - s(x/2)), that is 100 (1 - s(x)) = 4 s(x/2).
    """
    x = fitted(two_tiers(), tiers=2, within="published").predict(at([1, 0])).quality[0] @ [1, 0, -1, 0]
    sigmoid = 1 / (1 + np.exp([-x, -x / 2]))
    assert 100 * (1 - sigmoid[0]) == pytest.approx(4 * sigmoid[1], abs=1e-4)
    assert x < np.log(99) - 0.5


# ---- the edges


def test_strengths_by_hand() -> None:
    """Wins 3 : 1 and 1 : 1 in a row: log 3 and 0 apart. A cycle of equals is level. The diagonal says nothing."""
    chain = np.array([[5.0, 3, 0], [1, 0, 1], [0, 1, 0]])
    cycle = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    found = strengths(np.stack([chain, cycle]))
    assert found == pytest.approx(np.array([[np.log(3), 0, 0], [0, 0, 0]]), abs=1e-6)
    assert strengths(np.array([[[0.0, 3], [1, 0]]])) == pytest.approx(np.array([[np.log(3), 0]]), abs=1e-7)


def test_a_player_that_never_lost_has_a_bounded_strength() -> None:
    assert strengths(np.array([[[0.0, 1], [0, 0]]]))[0, 0] == pytest.approx(np.log(2 / PRIOR), abs=1e-6)
    ladder = np.diag(np.ones(9), 1)[None]  # each of ten beats the next, and nobody lost twice
    found = strengths(ladder)[0]
    assert np.all(np.diff(found) < -10)
    assert np.ptp(found) < 9 * np.log(2 / PRIOR)


@pytest.mark.filterwarnings("error")
def test_a_long_ladder_does_not_overflow() -> None:
    found = strengths(np.diag(np.ones(99), 1)[None])[0]
    assert np.all(np.diff(found) < -1)
    assert np.ptp(found) > 710


def test_wins_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ArithmeticError, match="3 players"), np.errstate(invalid="ignore"):
        strengths(np.full((1, 3, 3), np.nan))


def random_battles(m: int, b: int, d: int = 8) -> Battles:
    rng = np.random.default_rng(m)
    queries = at(*rng.normal(size=(b, d)).tolist())
    a = np.concatenate([np.arange(m), rng.integers(0, m, b - m)]) if b >= m else np.zeros(b, int)
    other = (a + 1 + rng.integers(0, m - 1, b)) % m
    return Battles(queries, Pool(tuple(f"m{i}" for i in range(m))), np.arange(b), a, other, rng.choice([0, 0.5, 1], b))


def ladder(m: int) -> Battles:
    """Each model only ever beats the next: as far apart as strengths get."""
    queries = at(*np.random.default_rng(0).normal(size=(m - 1, 4)).tolist())
    return Battles(queries, Pool(tuple(f"m{i}" for i in range(m))), np.arange(m - 1), np.arange(m - 1), np.arange(1, m), np.ones(m - 1))


@pytest.mark.parametrize("within", ["drop", "published"])
@pytest.mark.parametrize("base", [10, 1e4])
@pytest.mark.parametrize(
    "battles", [random_battles(m, 60) for m in (2, 3, 5, 10, 24)] + [random_battles(2, 1), ladder(3), ladder(10)], ids=lambda b: len(b.pool)
)
def test_the_graph_agrees_for_any_number_of_tiers(battles: Battles, base: float, within: str) -> None:
    router = fitted(battles, base=base, within=within)
    for queries in (random_battles(2, 40, battles.queries.vectors().shape[1]).queries, battles.queries.take(np.array([0]))):
        expected = router.predict(queries).quality
        assert np.isfinite(expected).all()
        scored = graph.run(router.onnx(), {"embedding": queries.vectors()})
        close = 1e-5 * max(1, np.abs(expected).max() / 10)  # ladders reach 45, in steps that float32 has rounded one by one
        assert np.abs(scored - expected).max() < close


def test_a_graph_takes_no_rows() -> None:
    battles = random_battles(5, 60)
    assert graph.run(fitted(battles).onnx(), {"embedding": np.zeros((0, 8), np.float32)}).shape == (0, 5)


def test_a_graph_is_as_large_as_its_memory() -> None:
    pair = random_battles(2, 1000, 384)
    assert fitted(pair).onnx().ByteSize() < 1000 * 384 * 4 * 1.03
    assert fitted(random_battles(12, 1000, 384)).onnx().ByteSize() < 1000 * (384 + 100) * 4 * 1.03


@pytest.mark.parametrize("outcome", [0, 0.5, 1])
def test_one_battle(outcome: float) -> None:
    quality = fitted(fight(at([1, 0]), (0, "a", "b", outcome))).predict(at([1, 0], [-1, 0], [0, 1])).quality
    gain = (2 * outcome - 1) * np.log(2 / PRIOR)
    assert quality[:, 0] - quality[:, 1] == pytest.approx([gain] * 3, abs=1e-5)


def test_three_tiers_of_nothing_but_ties() -> None:
    battles = fight(at([1, 0], [0, 1]), *[(i, x, y, 0.5) for i in (0, 1) for x, y in ("ab", "bc", "cd")])
    for count in (2, 3, 10):
        assert np.abs(fitted(battles, tiers=count).predict(at([1, 2])).quality).max() < 1e-9


@pytest.mark.parametrize("options", [{"base": 0.5}, {"base": np.inf}, {"base": np.nan}, {"tiers": 1}, {"within": "keep"}])
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        fitted(three_battles(), **options)
