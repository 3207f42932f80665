"""A conversation keeps its model: a follow-up never drops it, a switch pays for the prompt cache, idle sessions are forgotten."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from routewright.core.types import InputError
from routewright.gateway.bundle import Bundle
from routewright.gateway.decisions import PINNED, ROUTED, SWITCHED, Ranked
from routewright.gateway.sessions import Pinning, Sessions
from tests.gateway_bundles import tiny_bundle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.load(tiny_bundle(tmp_path / "b"))


@pytest.fixture
def texts(bundle: Bundle) -> tuple[str, str]:
    """(a long text that goes to the small model, one that goes to the large one)."""
    found = {bundle.decide(text).model: text for text in ("abcabcabcabc", "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc")}
    return found["small"], found["large"]


def test_a_session_stays_with_the_better_model(bundle: Bundle, texts: tuple[str, str]) -> None:
    small, large = texts
    sessions = Sessions(bundle)
    first = sessions.decide("s", large)
    assert (first.decision.model, first.decision.reason, first.turn) == ("large", ROUTED, 1)
    second = sessions.decide("s", small)
    assert (second.decision.model, second.decision.reason, second.turn, second.cache_lost_usd) == ("large", PINNED, 2, 0.0)
    assert second.decision.ranked[0].model == "large"
    assert sessions.decide("other", small).decision.model == "small", "another session is another matter"
    sessions.forget("s")
    assert sessions.decide("s", small).decision.model == "small"


def test_a_session_moves_up_and_counts_what_the_cache_loses(bundle: Bundle, texts: tuple[str, str]) -> None:
    small, large = texts
    sessions = Sessions(bundle)
    sessions.decide("s", small)
    moved = sessions.decide("s", large, prompt_tokens=10_000)
    assert (moved.decision.model, moved.decision.reason) == ("large", SWITCHED)
    assert moved.cache_lost_usd == pytest.approx(10_000 * (2e-6 - 5e-8)), "fresh at the new model's price, less cached at the old one's"
    chat = [{"role": "user", "content": small}, {"role": "assistant", "content": "x" * 388}, {"role": "user", "content": large}]
    sessions.decide("t", small)
    assert sessions.decide("t", chat).cache_lost_usd == pytest.approx(100 * (2e-6 - 5e-8)), "400 characters before the last message"


def test_a_follow_up_never_moves_a_session(bundle: Bundle) -> None:
    brief = {bundle.decide(text).model: text for text in ("a", "b", "c", "ab", "abc", "bb")}
    sessions = Sessions(bundle)
    sessions.decide("s", brief["small"])
    assert sessions.decide("s", brief["large"]).decision.model == "small", "too short a turn to say anything"
    assert Sessions(bundle, Pinning(follow_up=0)).decide("s", brief["small"]).turn == 1


def test_a_model_that_may_not_be_called_is_left(bundle: Bundle, texts: tuple[str, str]) -> None:
    sessions = Sessions(bundle)
    sessions.decide("s", texts[1])
    left = sessions.decide("s", texts[1], candidates=["small"])
    assert (left.decision.model, left.decision.reason) == ("small", SWITCHED)


def test_down_lets_the_cheaper_model_take_over(bundle: Bundle, texts: tuple[str, str]) -> None:
    sessions = Sessions(bundle, Pinning(down=True))
    sessions.decide("s", texts[1])
    assert sessions.decide("s", texts[0]).decision.model == "small"


def test_a_switch_must_be_worth_its_dollars(bundle: Bundle) -> None:
    """By hand: lambda 100 a dollar, a gain of .3 at equal cost; 10,000 tokens lose USD .0195, worth 1.95; 100 lose .000195, worth .0195."""
    bundle.described["policy"]["name"] = "cost_aware"
    bundle.points["balanced"] = 100.0
    sessions = Sessions(bundle)
    made = bundle.decide("abcabcabc")
    held, best = Ranked("small", 0.5, 1e-4, 0.5), Ranked("large", 0.8, 1e-4, 0.8)
    assert not sessions._moves(held, best, made, sessions._lost("small", "large", 10_000))
    assert sessions._moves(held, best, made, sessions._lost("small", "large", 100))
    assert not sessions._moves(held, best._replace(quality=0.51, worth=0.81), made, 0.0), "a gain below least_gain is noise"


def test_idle_sessions_are_forgotten_and_their_number_is_bounded(bundle: Bundle, texts: tuple[str, str]) -> None:
    clock = Clock()
    sessions = Sessions(bundle, Pinning(idle_s=10, most=3), clock)
    sessions.decide("s", texts[1])
    clock.now = 9.0
    assert sessions.decide("s", texts[0]).turn == 2
    clock.now = 20.0
    assert sessions.decide("s", texts[0]).turn == 1, "11 s idle"
    for name in "abcde":
        sessions.decide(name, texts[0])
    assert len(sessions) == 3


def test_exploration_is_of_a_session_not_of_a_turn(bundle: Bundle, texts: tuple[str, str]) -> None:
    rng, sessions = np.random.default_rng(0), Sessions(bundle)
    for name in map(str, range(20)):
        first = sessions.decide(name, texts[1], explore=1.0, rng=rng).decision
        assert first.propensity == pytest.approx(0.5)
        assert sessions.decide(name, "b", explore=1.0, rng=rng).decision.model == first.model


def test_threads_share_a_session_table(bundle: Bundle, texts: tuple[str, str]) -> None:
    sessions, failed = Sessions(bundle, Pinning(most=50)), []

    def work(k: int) -> None:
        try:
            for i in range(200):
                sessions.decide(f"{k}-{i % 40}", texts[i % 2])
        except Exception as error:
            failed.append(error)

    threads = [Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(sessions) == 50


@pytest.mark.parametrize("wrong", [{"least_gain": 2.0}, {"follow_up": -1}, {"idle_s": 0}, {"most": 0}])
def test_impossible_pinning_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="impossible pinning"):
        Pinning(**wrong)


def test_a_swap_keeps_the_models_that_both_bundles_have(bundle: Bundle, texts: tuple[str, str], tmp_path: Path) -> None:
    other = Bundle.load(tiny_bundle(tmp_path / "other", shift=0.1))
    sessions = Sessions(bundle)
    sessions.decide("up", texts[1])
    sessions.decide("down", texts[0])
    other.models = ("large",)  # as if it had lost one
    moved = sessions.moved(other)
    assert len(moved) == 1
    assert moved.bundle is other
    assert moved._pins["up"].model == "large"
    assert len(sessions) == 2, "the old ones are left as they were"
