"""What must hold of any rule of a cascade, whatever the signals: it ends, serves what it called, each row alone, JSON keeps it exactly."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from routewright.core.contracts import PRIOR, SAID, SCORE, STOP, USD_PRIOR, Rule
from routewright.core.posterior import Posterior
from routewright.core.rules import Beliefs, Checked, Listed, Planner, Sets, Votes, restored
from routewright.core.types import Bools, Floats, Ints

N = 12
KINDS = ("listed", "votes", "beliefs", "checked", "sets", "chain")
kinds, seeds, sizes = st.sampled_from(KINDS), st.integers(0, 10_000), st.integers(1, 5)


def some(kind: str, seed: int, m: int) -> Rule:
    """A rule with any data that it may have."""
    rng = np.random.default_rng(seed)
    cost, models = rng.lognormal(-7, 2, size=m), rng.permutation(m)[: rng.integers(1, m + 1)]
    k = len(models)
    thresholds = np.where(rng.random(k - 1) < 0.1, np.inf, rng.random(k - 1))
    if kind == "listed":
        return Listed(models, thresholds, cost)
    if kind == "votes":
        return Votes(models, int(rng.integers(1, k + 1)), cost)
    if kind == "beliefs":
        return Beliefs(models, thresholds, 1 + 20 * rng.random(), cost)
    if kind == "checked":
        bins = int(rng.integers(1, 5))
        return Checked(int(rng.integers(m)), np.sort(rng.random(bins - 1)), rng.integers(m, size=bins), cost)
    root = rng.normal(size=(k, k + 1))
    space, draws = str(rng.choice(["logit", "identity"])), rng.normal(size=(int(rng.integers(1, 9)), k))
    known = Posterior(space, rng.normal(size=k), rng.random(k), 0.1 * root @ root.T, draws)
    planner = Planner(models[np.argsort(cost[models])], int(rng.integers(1, k + 1)), kind == "chain", rng.random(k) * 1e-4, cost, known)
    return Sets(planner, float(rng.choice([0.0, np.inf, rng.lognormal(3, 3)])))


def answers(seed: int, m: int) -> dict[str, Floats]:
    """What a replay has recorded, float32, some of it missing."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random((N, m)) < 0.1, np.nan, rng.integers(0, 3, size=(N, m)))
    usd = np.where(rng.random((N, m)) < 0.1, np.nan, rng.lognormal(-7, 2, size=(N, m)))
    full = {PRIOR: rng.random((N, m)), USD_PRIOR: usd, SCORE: rng.random((N, m)), SAID: said}
    return {name: value.astype(np.float32) for name, value in full.items()}


def seen(rule: Rule, known: dict[str, Floats], called: Bools) -> dict[str, Floats]:
    """The signals that the rule says it reads, and no other."""
    return {name: known[name] if name in (PRIOR, USD_PRIOR) else np.where(called, known[name], np.nan) for name in rule.needs}


def followed(rule: Rule, known: dict[str, Floats]) -> tuple[Bools, Ints]:
    called = np.zeros((N, known[SCORE].shape[1]), dtype=bool)
    for _ in range(called.shape[1] + 1):
        chosen = rule.step(called, seen(rule, known, called))
        rows = np.flatnonzero(chosen != STOP)
        if not len(rows):
            break
        assert not called[rows, chosen[rows]].any(), "a model is called twice"
        called[rows, chosen[rows]] = True
    else:
        raise AssertionError("it does not end")
    return called, rule.select(called, seen(rule, known, called))


@given(kinds, seeds, sizes)
def test_it_ends_and_serves_what_it_called(kind: str, seed: int, m: int) -> None:
    called, served = followed(some(kind, seed, m), answers(seed + 1, m))
    assert called.any(axis=1).all()
    assert called[np.arange(N), served].all()


@given(kinds, seeds, sizes)
def test_json_keeps_it_to_the_last_bit(kind: str, seed: int, m: int) -> None:
    rule, known = some(kind, seed, m), answers(seed + 1, m)
    again = restored(json.loads(json.dumps(rule.described(), allow_nan=False)))
    assert again.described() == rule.described()
    assert again.needs == rule.needs
    for mine, theirs in zip(followed(rule, known), followed(again, known), strict=True):
        assert np.array_equal(mine, theirs)


@settings(max_examples=50)
@given(kinds, seeds, sizes)
def test_any_rows_in_any_state_are_decided_each_alone(kind: str, seed: int, m: int) -> None:
    """Rows at different places of a list, with models called that the rule would not have called."""
    rule, known, rng = some(kind, seed, m), answers(seed + 1, m), np.random.default_rng(seed + 2)
    called = rng.random((N, m)) < 0.5
    called[~called.any(axis=1), 0] = True
    signals = seen(rule, known, called)
    chosen, served = rule.step(called, signals), rule.select(called, signals)
    looks = rule.looks(called, served)
    assert called[np.arange(N), served].all()
    for row in range(N):
        alone = {name: value[[row]] for name, value in signals.items()}
        assert rule.step(called[[row]], alone)[0] == chosen[row]
        assert rule.select(called[[row]], alone)[0] == served[row]
        assert rule.looks(called[[row]], served[[row]])[0] == looks[row]


@given(st.sampled_from(["listed", "beliefs"]), seeds, sizes, st.floats(0, 1))
def test_who_asks_for_more_asks_more(kind: str, seed: int, m: int, more: float) -> None:
    rule = some(kind, seed, m)
    assert isinstance(rule, Listed | Beliefs)
    known = answers(seed + 1, m)
    modest, called = followed(rule, known)[0], followed(replace(rule, thresholds=rule.thresholds + more), known)[0]
    assert not (modest & ~called).any()


@given(st.sampled_from(["listed", "votes", "beliefs"]), seeds, sizes)
def test_a_score_not_looked_at_never_ends_a_list(kind: str, seed: int, m: int) -> None:
    """Nor do answers that nobody can read: to know nothing is to go on."""
    rule = some(kind, seed, m)
    assert isinstance(rule, Listed | Votes | Beliefs)
    if isinstance(rule, Votes):
        rule = replace(rule, votes=max(rule.votes, 2))
    if isinstance(rule, Beliefs):
        rule = replace(rule, thresholds=np.maximum(rule.thresholds, 0.6))
    known = {name: np.full_like(value, np.nan) for name, value in answers(seed, m).items()}
    called, _ = followed(rule, known)
    assert called[:, rule.models].all()
