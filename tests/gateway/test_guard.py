"""The deadline and the breaker: by hand with a made-up clock, by a model of the breaker, and with calls that hang, raise and pile up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.types import InputError
from routewright.gateway.guard import DONE, FULL, LATE, OPEN, RAISED, REFUSED, Breaker, Guard


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker) -> bool:
    ticket = breaker.enter()
    assert ticket is not None
    return breaker.failed(ticket)


def test_opens_after_failures_in_a_row_and_one_trial_closes_it() -> None:
    clock = Clock()
    breaker = Breaker(failures=3, open_s=5, clock=clock)
    assert [fail(breaker), fail(breaker)] == [False, False]
    breaker.passed(breaker.enter() or 0)  # a row is broken by one that passes
    assert [fail(breaker), fail(breaker), fail(breaker)] == [False, False, True]
    assert (breaker.state, breaker.enter(), breaker.opened) == ("open", None, 1)
    clock.now = 4.9
    assert breaker.enter() is None
    clock.now = 5.0
    assert breaker.state == "half-open"
    trial = breaker.enter()
    assert trial is not None
    assert breaker.enter() is None, "one trial at a time"
    assert breaker.failed(trial)
    assert (breaker.state, breaker.opened) == ("open", 2), "one failed trial is enough"
    clock.now = 10.0
    trial = breaker.enter()
    assert trial is not None
    breaker.left(trial)  # its caller has gone: the next one is the trial
    trial = breaker.enter()
    assert trial is not None
    breaker.passed(trial)
    assert breaker.state == "closed"
    assert not fail(breaker), "it counts from the beginning"


def test_calls_let_through_before_it_opened_change_nothing() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, open_s=5, clock=clock)
    early, other = breaker.enter(), breaker.enter()
    assert early is not None
    assert other is not None
    assert fail(breaker)
    breaker.passed(early)
    assert breaker.state == "open", "an answer from before does not close it"
    clock.now = 5.0
    assert not breaker.failed(other)
    assert breaker.state == "half-open", "nor does a failure from before cost it the trial"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60), st.integers(1, 4))
def test_as_a_plain_model_of_it(calls: list[tuple[bool, float]], failures: int) -> None:
    """Calls one after another: the breaker is a count and a time."""
    clock = Clock()
    breaker = Breaker(failures=failures, open_s=2.0, clock=clock)
    row, until = 0, 0.0
    for good, later in calls:
        clock.now += later
        ticket = breaker.enter()
        assert (ticket is None) == (row >= failures and clock.now < until)
        if ticket is None:
            continue
        breaker.passed(ticket) if good else breaker.failed(ticket)
        row = 0 if good else row + 1
        if row >= failures:
            until = clock.now + 2.0


@pytest.fixture
def made() -> Iterator[Callable[..., Guard]]:
    guards: list[Guard] = []

    def make(**settings: object) -> Guard:
        breaker = Breaker(failures=3, open_s=60)
        guards.append(Guard(breaker, **({"deadline_s": 30.0} | settings)))  # type: ignore[arg-type]
        return guards[-1]

    yield make
    for guard in guards:
        guard.close()


def ask(guard: Guard, work: Callable[[], object], *, blocking: bool) -> tuple[str, object]:
    found = guard.call_now(work) if blocking else asyncio.run(guard.call(work))
    return found.why, found.value if found.error is None else type(found.error).__name__


@pytest.mark.parametrize("blocking", [True, False])
def test_every_ending(made: Callable[..., Guard], blocking: bool) -> None:
    guard = made()
    assert ask(guard, lambda: 7, blocking=blocking) == (DONE, 7)
    assert ask(guard, lambda: 1 / 0, blocking=blocking) == (RAISED, "ZeroDivisionError")

    def refuse() -> None:
        raise InputError("no text")

    for _ in range(9):
        assert ask(guard, refuse, blocking=blocking) == (REFUSED, "InputError")
    assert guard.breaker.state == "closed", "what a caller sends cannot open the breaker"
    for _ in range(3):
        assert ask(guard, lambda: 1 / 0, blocking=blocking) == (RAISED, "ZeroDivisionError")
    assert ask(guard, lambda: 7, blocking=blocking) == (OPEN, None)
    assert guard.counts == {DONE: 1, RAISED: 4, REFUSED: 9, OPEN: 1}


@pytest.mark.parametrize("blocking", [True, False])
def test_a_call_that_hangs_is_late_and_what_waits_behind_it_is_dropped(made: Callable[..., Guard], blocking: bool) -> None:
    said: list[str] = []
    guard = made(deadline_s=0.05, threads=1, told=said.append)
    free, ran = threading.Event(), []
    began = time.monotonic()
    assert ask(guard, free.wait, blocking=blocking) == (LATE, None)
    assert ask(guard, lambda: ran.append(1), blocking=blocking) == (LATE, None)
    assert ask(guard, lambda: ran.append(2), blocking=blocking) == (LATE, None)
    assert time.monotonic() - began >= 0.15
    assert ask(guard, lambda: ran.append(3), blocking=blocking) == (OPEN, None)
    free.set()
    guard.close()
    assert not ran, "nobody waits for them any more"
    assert said == ["open"]


def test_the_event_loop_runs_on_and_the_queue_is_bounded(made: Callable[..., Guard]) -> None:
    guard = made(deadline_s=0.2, threads=1, queue=4)
    free = threading.Event()

    async def drive() -> tuple[list[str], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        found = await asyncio.gather(*(guard.call(free.wait) for _ in range(10)))
        ticking.cancel()
        return [one.why for one in found], ticks

    whys, ticks = asyncio.run(drive())
    free.set()
    assert sorted(whys) == [FULL] * 6 + [LATE] * 4
    assert ticks >= 5, "other requests went on meanwhile"


def test_a_client_that_goes_frees_the_trial(made: Callable[..., Guard]) -> None:
    guard = made(threads=1)
    guard.breaker = Breaker(failures=1, open_s=1e-6)
    assert ask(guard, lambda: 1 / 0, blocking=True)[0] == RAISED
    time.sleep(0.001)
    free = threading.Event()

    async def drive() -> None:
        call = asyncio.create_task(guard.call(free.wait))
        await asyncio.sleep(0.02)
        assert guard.breaker.enter() is None, "its trial is under way"
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()

    asyncio.run(drive())
    free.set()
    assert ask(guard, lambda: 7, blocking=True) == (DONE, 7)
    assert guard.breaker.state == "closed"


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="impossible breaker"):
        Breaker(failures=0)
    with pytest.raises(InputError, match="impossible guard"):
        Guard(Breaker(), deadline_s=0)
