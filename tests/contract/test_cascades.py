"""The contract suite: every configs/cascade/*.yaml is built as train.py builds it and must keep every promise of core/contracts.Cascade."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from routewright.core.contracts import PRIOR, SAID, SCORE, STOP, USD_PRIOR, USD_SCORE, Cascade, Rule
from routewright.core.rules import restored
from routewright.core.types import Bools, Floats, InputError, Ints, Outcomes, Pool, Queries
from routewright.eval.replay import bought, realised, replay

ROOT = Path(__file__).resolve().parents[2]
NAMES = [path.stem for path in sorted((ROOT / "configs" / "cascade").glob("*.yaml"))]
DOLLARS = np.array([1e-4, 4e-4, 3e-3])

pytestmark = pytest.mark.filterwarnings("error")


def make(name: str) -> Cascade:
    cascade: Cascade = instantiate(OmegaConf.load(ROOT / "configs" / "cascade" / f"{name}.yaml"))
    return cascade


def table(seed: int = 0, n: int = 240, m: int = 3) -> Outcomes:
    """Answers of m models, the dearer the better, with an informative score, a weak prior and right answers that agree."""
    rng = np.random.default_rng(seed)
    ease, skill = rng.normal(size=(n, 1)), np.linspace(-0.2, 1.4, m)
    quality = (ease + skill + rng.normal(size=(n, m)) > 0.3).astype(np.float32)
    chance = 1 / (1 + np.exp(-(2.2 * (2 * quality - 1) + 1.5 * rng.normal(size=(n, m)))))
    prior = 1 / (1 + np.exp(-(0.7 * ease + skill + 0.3 * rng.normal(size=(n, m)))))
    said = np.where(quality == 1, 0.0, rng.integers(1, 6, size=(n, m)))
    cost = DOLLARS[np.arange(m) % 3] * (1 + np.arange(m) // 3) * rng.uniform(0.8, 1.2, size=(n, m))
    text = np.array([f"question {seed} {i}" for i in range(n)], dtype=object)
    queries = Queries(np.array([f"q{i}" for i in range(n)], dtype=object), text, np.full(n, "", dtype=object))
    usd = np.tile(cost.mean(axis=0), (n, 1))
    signals = {PRIOR: prior, USD_PRIOR: usd, SCORE: chance, SAID: said}
    return Outcomes(queries, Pool(tuple(f"model-{j}" for j in range(m))), quality, cost, usage="measured", signals=signals)


@cache
def fitted(name: str) -> Cascade:
    return make(name).fit(table(), rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", NAMES)
def test_it_offers_the_contract_and_its_constructor_only_stores(name: str) -> None:
    cascade = make(name)
    assert isinstance(cascade, Cascade)
    assert not [key for key in vars(cascade) if key.endswith("_")]
    config = OmegaConf.load(ROOT / "configs" / "cascade" / f"{name}.yaml")
    stored = inspect.signature(type(cascade).__init__).parameters
    assert set(config) - {"_target_"} <= set(stored), "a setting of the YAML that the constructor does not have"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    again = make(name).fit(table(), rng=np.random.default_rng(0))
    assert to_bytes(again.state()) == to_bytes(fitted(name).state())


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_decides_the_same(name: str) -> None:
    cascade = fitted(name)
    loaded = make(name).load(from_bytes(to_bytes(cascade.state())))
    fresh = table(1, n=60)
    assert np.array_equal(loaded.knobs(), cascade.knobs())
    for knob in cascade.knobs()[::7]:
        ours, theirs = replay(cascade, fresh, knob=knob), replay(loaded, fresh, knob=knob)
        assert np.array_equal(ours.called, theirs.called)
        assert np.array_equal(ours.served, theirs.served)
    with pytest.raises(InputError, match="not one of"):
        make(name).load({"weights": np.zeros(3)})
    with pytest.raises(InputError, match="not fitted"):
        make(name).state()


@pytest.mark.parametrize("look", [0.0, 3e-5, 2e-3])
@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_every_budget_on_its_training_rows_and_gains_by_spending(name: str, look: float) -> None:
    """Also where a score costs something, little or more than most calls."""
    cascade, train = fitted(name), table()
    if look:
        train = replace(train, signals={**train.signals, USD_SCORE: np.full(train.quality.shape, look)})
        cascade = make(name).fit(train, rng=np.random.default_rng(0))
    knobs = cascade.knobs()
    assert (np.diff(knobs) > 0).all()
    assert knobs[0] == 0
    low, high = train.cost.mean(axis=0).min(), train.cost.mean(axis=0)[train.quality.mean(axis=0).argmax()]
    played = [bought(cascade, train, knob=knob) for knob in knobs]
    means = np.array([[part.mean() for part in realised(decisions, train, looked)] for decisions, looked in played])
    assert (means[:, 1] <= (low + knobs * (high - low)) * (1 + 1e-9)).all(), "a budget was overspent where it was chosen"
    assert (replay(cascade, train, knob=0.0).served == 0).all(), "with nothing to spend the cheapest model answers"
    assert means[-1, 0] > means[0, 0] + 0.1


@pytest.mark.parametrize("name", NAMES)
def test_it_decides_each_query_alone(name: str) -> None:
    cascade, fresh = fitted(name), table(2, n=40)
    order = np.random.default_rng(5).permutation(len(fresh))
    for knob in cascade.knobs()[[0, 12, 30, -1]]:
        whole, moved = replay(cascade, fresh, knob=knob), replay(cascade, fresh.take(order), knob=knob)
        assert np.array_equal(whole.called[order], moved.called)
        assert np.array_equal(whole.served[order], moved.served)
        alone = replay(cascade, fresh.take(np.array([7])), knob=knob)
        assert np.array_equal(alone.called[0], whole.called[7])
        assert alone.served[0] == whole.served[7]


@pytest.mark.parametrize("name", NAMES)
def test_it_never_reads_a_grade_or_what_it_has_not_bought(name: str) -> None:
    cascade, fresh = fitted(name), table(3, n=50)
    rng = np.random.default_rng(1)
    for knob in cascade.knobs()[[3, 20, -1]]:
        first = replay(cascade, fresh, knob=knob)
        signals = {
            key: np.where(first.called | (key in (PRIOR, USD_PRIOR)), value, rng.random(value.shape))
            for key, value in fresh.signals.items()
        }
        other = replace(fresh, quality=rng.permutation(fresh.quality), signals=signals)
        second = replay(cascade, other, knob=knob)
        assert np.array_equal(first.called, second.called)
        assert np.array_equal(first.served, second.served)


@pytest.mark.parametrize("name", NAMES)
def test_scores_that_cost_something_are_bought_only_where_it_looks(name: str) -> None:
    cascade, fresh = fitted(name), table(4, n=80)
    priced = replace(fresh, signals={**fresh.signals, USD_SCORE: np.full(fresh.quality.shape, 1e-5)})
    for knob in cascade.knobs()[[0, 25, -1]]:
        decisions, looked = bought(cascade, priced, knob=knob)
        assert not (looked & ~decisions.called).any()
        if SCORE not in cascade.needs:
            assert not looked.any(), "it pays for scores that it does not read"
        free, paid = realised(decisions, fresh)[1], realised(decisions, priced, looked)[1]
        assert paid == pytest.approx(free + 1e-5 * looked.sum(axis=1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("m", [2, 5])
def test_pools_of_any_size(name: str, m: int) -> None:
    train = table(6, n=120, m=m)
    cascade = make(name).fit(train, rng=np.random.default_rng(0))
    for knob in cascade.knobs()[::20]:
        assert replay(cascade, train, knob=knob).called.any(axis=1).all()


@pytest.mark.parametrize("name", NAMES)
def test_scores_without_any_information_do_no_harm(name: str) -> None:
    plain = table(7)
    same = {key: np.full_like(value, 0.5) if key in (SCORE, PRIOR) else value for key, value in plain.signals.items()}
    train = replace(plain, signals=same | {SAID: np.arange(3.0) + np.zeros((len(plain), 3))})
    cascade = make(name).fit(train, rng=np.random.default_rng(0))
    best = float(train.quality.mean(axis=0).max())
    quality, cost = realised(replay(cascade, train, knob=1.0), train)
    assert quality.mean() <= best + 1e-9, "nothing tells answers apart, and yet it is better than the best model"
    assert cost.mean() <= train.cost.mean(axis=0).max() * (1 + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_cannot_learn_from_is_refused(name: str) -> None:
    train, rng = table(), np.random.default_rng(0)
    with pytest.raises(InputError, match="two models"):
        make(name).fit(train.models(["model-0"]), rng=rng)
    with pytest.raises(InputError, match="nothing to learn from"):
        make(name).fit(replace(train, quality=np.full_like(train.quality, np.nan)), rng=rng)
    with pytest.raises(InputError, match="cost of every call"):
        make(name).fit(replace(train, cost=np.where(np.arange(3) == 1, np.nan, train.cost)), rng=rng)
    for need in make(name).needs:
        left = {key: value for key, value in train.signals.items() if key != need}
        with pytest.raises(InputError, match=need):
            make(name).fit(replace(train, signals=left), rng=rng)
        with pytest.raises(InputError, match=r"finite|could be read"):
            make(name).fit(replace(train, signals={**train.signals, need: np.full(train.quality.shape, np.nan)}), rng=rng)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("knob", [-0.1, float("nan")])
def test_a_budget_below_the_cheapest_model_is_refused(name: str, knob: float) -> None:
    with pytest.raises(InputError, match="below the cheapest model"):
        replay(fitted(name), table(1, n=10), knob=knob)


@dataclass
class Following:
    """A gateway's part in a replay: it has a rule read from JSON, and is shown the signals that this rule names alone."""

    written: Rule

    def __post_init__(self) -> None:
        text = json.dumps(self.written.described(), allow_nan=False)
        self.rule = restored(json.loads(text))
        assert json.dumps(self.rule.described(), allow_nan=False) == text
        self.needs = self.rule.needs

    def step(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        return self.rule.step(called, signals)

    def looks(self, called: Bools, last: Ints, *, knob: float) -> Bools:
        return self.rule.looks(called, last)

    def select(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        return self.rule.select(called, signals)


def ruled(name: str, knob: float) -> Rule:
    """The cascade's rule; where it has none, the reason that it gives is the reason to skip."""
    try:
        return fitted(name).rule(knob)
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("look", [0.0, 3e-5])
@pytest.mark.parametrize("name", NAMES)
def test_its_rule_written_as_json_and_read_again_decides_the_same(name: str, look: float) -> None:
    """On every knob and between two of them: steps, looks and served; also where a prediction or an answer is missing."""
    cascade, fresh, rng = fitted(name), table(8, n=60), np.random.default_rng(2)
    signals = {
        key: np.where(rng.random(value.shape) < 0.1 * (key in (SAID, USD_PRIOR)), np.nan, value) for key, value in fresh.signals.items()
    }
    fresh = replace(fresh, signals=signals | ({USD_SCORE: np.full(fresh.quality.shape, look)} if look else {}))
    for knob in (*cascade.knobs(), 0.0004, 9.0):
        rule = ruled(name, float(knob))
        assert isinstance(rule, Rule)
        assert set(rule.needs) <= set(cascade.needs)
        ours, theirs = (bought(one, fresh, knob=float(knob)) for one in (cascade, Following(rule)))  # type: ignore[arg-type]
        assert np.array_equal(ours.decisions.called, theirs.decisions.called)
        assert np.array_equal(ours.decisions.served, theirs.decisions.served)
        if look:
            assert np.array_equal(ours.looked, theirs.looked)
            assert SCORE in rule.needs or not theirs.looked.any(), "it pays for scores that it does not read"


@pytest.mark.parametrize("name", NAMES)
def test_its_rule_decides_rows_that_are_at_different_places_each_alone(name: str) -> None:
    """As a gateway with many requests under way would ask: some models called, in no order of the rule's, some scores not looked at."""
    cascade, fresh, rng = fitted(name), table(9, n=50), np.random.default_rng(3)
    called = rng.random(fresh.quality.shape) < 0.5
    called[~called.any(axis=1), 1] = True
    known = {SCORE: called & (rng.random(called.shape) < 0.8), SAID: called}
    seen = {key: np.where(known.get(key, True), value, np.nan) for key, value in fresh.signals.items()}
    for knob in cascade.knobs()[[0, 8, 20, 35, 50, -1]]:
        rule = ruled(name, float(knob))
        signals = {key: value for key, value in seen.items() if key in rule.needs}
        next_, served = rule.step(called, signals), rule.select(called, signals)
        assert called[np.arange(50), served].all(), "an answer is served that was never bought"
        going = next_ != STOP
        assert not called[going, next_[going]].any(), "a model is called twice"
        for row in range(50):
            one, alone = called[[row]], {key: value[[row]] for key, value in signals.items()}
            assert rule.step(one, alone)[0] == next_[row]
            assert rule.select(one, alone)[0] == served[row]


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_below_the_cheapest_model_is_refused(name: str) -> None:
    ruled(name, 0.5)
    with pytest.raises(InputError, match="below the cheapest model"):
        fitted(name).rule(-0.1)
