"""Conversations: a session keeps the model it began with, unless another one is worth more than the prompt cache that a switch loses."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from routewright.core.types import InputError
from routewright.gateway.bundle import Bundle
from routewright.gateway.decisions import PINNED, ROUTED, SWITCHED, UNFAMILIAR, Decision, Ranked, asked

PER_TOKEN = 4  # characters, where nobody counted the tokens of the conversation so far
MILLION = 1e6


@dataclass(frozen=True)
class Pinning:
    """When a session changes its model.

    least_gain: predicted quality by which another model must be better, in [0, 1]; the same gain must be worth, at the point's knob, more
    than what the switch costs. down: whether a cheaper, weaker model may take over; False: a session only ever moves up. follow_up: tokens
    of the last turn below which it ("yes", "go on") is read as the conversation's continuation, and never moves it. idle_s: seconds after
    which a session is forgotten, as the provider forgets its prompt cache. most: sessions kept; the ones idle longest go first.
    """

    least_gain: float = 0.02
    down: bool = False
    follow_up: int = 8
    idle_s: float = 3600.0
    most: int = 100_000

    def __post_init__(self) -> None:
        if not (0 <= self.least_gain <= 1 and self.follow_up >= 0 and self.idle_s > 0 and self.most >= 1):
            expected = "least_gain in [0, 1], follow_up >= 0, idle_s > 0, most >= 1"
            raise InputError("impossible pinning", expected=expected, found=str(self))


class Turn(NamedTuple):
    """A session's decision. cache_lost_usd: what the prompt tokens so far cost more at the new model than the old one's cached price, 0.0
    where the session stays, None where a price is not known. turn: from 1 on.
    """

    decision: Decision
    session: str
    turn: int
    cache_lost_usd: float | None


class _Pin(NamedTuple):
    model: str
    turn: int
    seen: float


class Sessions:
    """Decides for conversations by one bundle. Thread-safe; holds nothing of a conversation but its model, turn and time."""

    def __init__(self, bundle: Bundle, pinning: Pinning | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.bundle, self.pinning, self._clock = bundle, pinning or Pinning(), clock
        self._pins: OrderedDict[str, _Pin] = OrderedDict()
        self._lock = threading.Lock()
        models = bundle.described["models"]
        self._prices = {model["name"]: model["usd_per_million"] for model in models}

    def __len__(self) -> int:
        return len(self._pins)

    def decide(
        self,
        session: str,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        point: str = "balanced",
        candidates: Sequence[str] | None = None,
        prompt_tokens: int | None = None,
        **options: Any,
    ) -> Turn:
        """As Bundle.decide, for the next turn of a session.

        prompt_tokens: of the conversation so far, as the last answer's usage states them; None: estimated from its characters. A pinned
        model that is no candidate now is left, whatever that costs.
        """
        with self._lock:
            fresh = self._pinned(session) is None
        if not fresh:  # what a session was explored with it keeps: a draw every turn would lose the cache every turn
            options = {name: value for name, value in options.items() if name not in ("explore", "rng")}
        decision = self.bundle.decide(messages, point=point, candidates=candidates, **options)
        prefix = _prefix(messages) if prompt_tokens is None else prompt_tokens
        brief = self.bundle.tokens(asked(messages, 0, "")) < self.pinning.follow_up
        with self._lock:
            turn = self._turn(session, decision, self._pinned(session), prefix, brief=brief)
            self._pins[session] = _Pin(turn.decision.model, turn.turn, self._clock())
            self._pins.move_to_end(session)
            while len(self._pins) > self.pinning.most:
                self._pins.popitem(last=False)
        return turn

    def moved(self, bundle: Bundle) -> Sessions:
        """The same conversations under another bundle: those whose model it has too keep it, the others choose anew."""
        made = Sessions(bundle, self.pinning, self._clock)
        with self._lock:
            made._pins = OrderedDict((name, pin) for name, pin in self._pins.items() if pin.model in bundle.models)
        return made

    def forget(self, session: str) -> None:
        """Ends a session; one that is not known is none."""
        with self._lock:
            self._pins.pop(session, None)

    def _pinned(self, session: str) -> _Pin | None:
        now = self._clock()
        while self._pins and now - next(iter(self._pins.values())).seen > self.pinning.idle_s:
            self._pins.popitem(last=False)
        return self._pins.get(session)

    def _turn(self, session: str, decision: Decision, pin: _Pin | None, prefix: int, *, brief: bool) -> Turn:
        if pin is None:
            return Turn(decision, session, 1, 0.0)
        place = {row.model: i for i, row in enumerate(decision.ranked)}
        if pin.model not in place:
            return Turn(decision._replace(reason=SWITCHED), session, pin.turn + 1, self._lost(pin.model, decision.model, prefix))
        if decision.model == pin.model:
            return Turn(decision._replace(reason=PINNED if decision.reason == ROUTED else decision.reason), session, pin.turn + 1, 0.0)
        held, best = decision.ranked[place[pin.model]], decision.ranked[0]
        lost = self._lost(pin.model, best.model, prefix)
        if not brief and self._moves(held, best, decision, lost):
            return Turn(decision._replace(reason=SWITCHED), session, pin.turn + 1, lost)
        return Turn(_kept(decision, place[pin.model]), session, pin.turn + 1, 0.0)

    def _moves(self, held: Ranked, best: Ranked, decision: Decision, lost: float | None) -> bool:
        """Whether the session goes over to the best model."""
        gain = best.quality - held.quality
        if not self.pinning.down and gain < max(self.pinning.least_gain, 1e-12):
            return False
        if decision.reason == UNFAMILIAR:  # the fallback, whatever the worths say: they cannot be trusted here
            return gain > 0
        dollars = self.bundle.described["policy"]["name"] == "cost_aware"
        price = self.bundle.knob(decision.point) * (lost or 0.0) if dollars else 0.0
        return best.worth - held.worth > max(price, 0.0)

    def _lost(self, old: str, new: str, prefix: int) -> float | None:
        """USD that `prefix` prompt tokens cost more when the new model reads them afresh than when the old one had them cached."""
        fresh, cached = self._prices[new]["input"], self._prices[old]["cached_input"]
        if fresh is None or cached is None:
            return None
        return prefix * (fresh - cached) / MILLION


def _kept(decision: Decision, place: int) -> Decision:
    """The decision with the pinned model first."""
    row = decision.ranked[place]
    others = tuple(other for other in decision.ranked if other is not row)
    confidence = min(max(row.quality, 0.0), 1.0)
    return decision._replace(model=row.model, ranked=(row, *others), reason=PINNED, confidence=confidence, propensity=1.0)


def _prefix(messages: str | Sequence[Mapping[str, Any]]) -> int:
    """Prompt tokens of the conversation before the last message, estimated."""
    if isinstance(messages, str):
        return 0
    return sum(len(str(message.get("content") or "")) for message in messages[:-1]) // PER_TOKEN
