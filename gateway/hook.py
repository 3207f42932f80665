"""What sits in a gateway's request path: a bundle with hot swap, a deadline, a breaker, sessions, and a fallback for all that fails.

Knows no gateway: gateway/litellm.py is LiteLLM's side of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from routewright.core.types import InputError
from routewright.gateway.bundle import Bundle
from routewright.gateway.decisions import Decision
from routewright.gateway.guard import DONE, Breaker, Guard, Result
from routewright.gateway.reload import Load, Reloading
from routewright.gateway.sessions import Sessions

PREFIX = "ROUTEWRIGHT_HOOK_"
ROUTED, FELL_BACK, PASSED = "routed", "fell back", "passed untouched"
NO_BUNDLE, NOT_SERVED = "no bundle", "not served"  # reasons of a fallback beside those of guard.py
Query = str | Sequence[Mapping[str, Any]]
Serves = Callable[[str], bool]


@dataclass(frozen=True)
class Settings:
    """What the hook is told. From the environment each is named ROUTEWRIGHT_HOOK_ and the field in capitals.

    bundle: its folder. alias: the model name that is routed. point: the operating point where the alias names none. models: the bundle's
    model names -> the gateway's, "a=b,c=d" in the environment, for those that differ. fallback: the gateway's model for whatever cannot be
    decided; None: the bundle's own. deadline_ms: of a decision, its wait for a thread included. failures, open_s: the breaker's (see
    guard.Breaker). threads, queue: decisions running at once, and waiting or running at once. reload_s: how often the folder is looked at.
    explore: the share of requests whose model is drawn at random, so that the log can be evaluated. sessions: 1 or 0, whether requests with
    a session id keep their model.
    """

    bundle: str
    alias: str = "routewright"
    point: str = "balanced"
    models: Mapping[str, str] = field(default_factory=dict)
    fallback: str | None = None
    deadline_ms: float = 5.0
    failures: int = 50  # more than are under way at once as a rule: a stall of the machine makes all of those late in a row
    open_s: float = 2.0
    threads: int = 2
    queue: int = 64
    reload_s: float = 1.0
    explore: float = 0.0
    sessions: bool = True

    def __post_init__(self) -> None:
        if not self.bundle or not self.alias or "/" in self.alias or not 0 <= self.explore <= 1:
            found = f"bundle={self.bundle!r}, alias={self.alias!r}, explore={self.explore:g}"
            raise InputError("impossible settings", expected="a bundle, an alias without '/', explore in [0, 1]", found=found)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """From environment variables. Raises InputError for a name that is none of them, and for a value that cannot be read."""
        known = {PREFIX + one.name.upper(): one for one in fields(cls)}
        if unknown := sorted(name for name in environ if name.startswith(PREFIX) and name not in known):
            raise InputError(f"{unknown[0]} is no setting", expected="one of " + ", ".join(known))
        if not environ.get(PREFIX + "BUNDLE"):
            mend = "Set it to the folder that export.py wrote, in the proxy's config under environment_variables."
            raise InputError(f"{PREFIX}BUNDLE is not set", mend=mend)
        told = {one.name: _value(name, environ[name], one.default) for name, one in known.items() if name in environ}
        return cls(**told)


def _value(name: str, text: str, default: Any) -> Any:
    """A setting's text as its default's type; `models`, which has none, as pairs."""
    try:
        if isinstance(default, bool):
            return {"0": False, "1": True}[text]
        if isinstance(default, int | float):
            return type(default)(text)
        if default is MISSING and name == PREFIX + "MODELS":
            pairs = [pair.split("=") for pair in text.split(",") if pair.strip()]
            return {mine.strip(): theirs.strip() for mine, theirs in pairs}
    except (KeyError, ValueError):
        expected = "0 or 1" if isinstance(default, bool) else "a=b,c=d" if default is MISSING else type(default).__name__
        raise InputError(f"{name} cannot be read", expected=expected, found=repr(text)) from None
    return text


class Choice(NamedTuple):
    """model: the name to call at the gateway. facts: what is logged, JSON; `reason` tells a fallback from a decision."""

    model: str
    facts: dict[str, Any]


class _Case(NamedTuple):
    """One request to be decided. names: the bundle's models that the gateway serves -> its names for them, in the bundle's order."""

    bundle: Bundle
    query: Query
    point: str
    names: dict[str, str]
    session: str
    seed: int | None
    serves: Serves | None


class Hook:
    """Settings and a bundle at work. Thread-safe.

    `counts` has how many requests were routed, fell back (in all, and by reason) and passed untouched. rng: of the exploration. Raises
    InputError where no bundle can be loaded and no fallback is set, and where the bundle does not have the operating point.
    """

    def __init__(self, settings: Settings, *, rng: np.random.Generator | None = None, load: Load[Bundle] = Bundle.load) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self._rng = rng or np.random.default_rng()
        self._lock = threading.Lock()
        self._known: tuple[str, Sessions] | None = None  # of the bundle in service, by its hash
        breaker = Breaker(failures=settings.failures, open_s=settings.open_s)
        self.guard = Guard(
            breaker, deadline_s=settings.deadline_ms / 1e3, threads=settings.threads, queue=settings.queue, told=self._breaker_told
        )
        self._open = load
        self.reloading = Reloading(settings.bundle, self._load, every_s=settings.reload_s)
        if settings.fallback is None or self.reloading.refused is None:
            self.reloading.bundle.knob(settings.point)
        self.reloading.start()

    def close(self) -> None:
        """Ends the threads."""
        self.reloading.stop()
        self.guard.close()

    def point(self, model: Any) -> str | None:
        """The operating point that a model name asks for, "" for the default one; None: not ours."""
        if not isinstance(model, str):
            return None
        alias, slash, point = model.partition("/")
        return point if alias == self.settings.alias and (point or not slash) else None

    async def choose(self, point: str, query: Query, *, serves: Serves | None = None, session: str = "") -> Choice:
        """The model for one query. serves: whether the gateway has a model; session: "" for a request on its own.

        Never raises for what is the router's fault: the choice is then the fallback. Raises InputError for a point that the bundle does not
        have, and where the gateway serves neither a model of the bundle nor the fallback.
        """
        case = self._case(point, query, serves, session)
        if isinstance(case, Choice):
            return case
        return self._chosen(case, await self.guard.call(partial(self._decided, case)))

    def choose_now(self, point: str, query: Query, *, serves: Serves | None = None, session: str = "") -> Choice:
        """As `choose`, for callers without an event loop."""
        case = self._case(point, query, serves, session)
        if isinstance(case, Choice):
            return case
        return self._chosen(case, self.guard.call_now(partial(self._decided, case)))

    def passed(self) -> None:
        """Counts a request that is not ours."""
        self._count(PASSED)

    def _case(self, point: str, query: Query, serves: Serves | None, session: str) -> _Case | Choice:
        wanted = point or self.settings.point
        try:
            bundle = self.reloading.bundle
        except InputError:
            return self._fallback(None, {}, wanted, NO_BUNDLE, serves)
        if point:
            bundle.knob(point)
        every = {name: self.settings.models.get(name, name) for name in bundle.models}
        names = {mine: theirs for mine, theirs in every.items() if serves is None or serves(theirs)}
        if not names:
            return self._fallback(bundle, every, wanted, NOT_SERVED, serves)
        return _Case(bundle, query, wanted, names, session if self.settings.sessions else "", self._seed(), serves)

    def _seed(self) -> int | None:
        """A generator is not thread-safe: each exploring request has one of its own, seeded from the hook's."""
        if not self.settings.explore:
            return None
        with self._lock:
            return int(self._rng.integers(2**63))

    def _decided(self, case: _Case) -> tuple[Decision, dict[str, Any]]:
        """In a thread of the guard's."""
        candidates = list(case.names)
        drawn: dict[str, Any] = {}
        if case.seed is not None:
            drawn = {"explore": self.settings.explore, "rng": np.random.default_rng(case.seed)}
        if not case.session:
            return case.bundle.decide(case.query, point=case.point, candidates=candidates, **drawn), {}
        turn = self._sessions(case.bundle).decide(case.session, case.query, point=case.point, candidates=candidates, **drawn)
        return turn.decision, {"turn": turn.turn, "cache_lost_usd": turn.cache_lost_usd}

    def _chosen(self, case: _Case, result: Result[tuple[Decision, dict[str, Any]]]) -> Choice:
        if result.why != DONE or result.value is None:
            error = "" if result.error is None else f" ({type(result.error).__name__})"  # its text may hold the prompt
            return self._fallback(case.bundle, case.names, case.point, result.why, case.serves, error)
        decision, more = result.value
        self._count(ROUTED)
        called = case.names[decision.model]
        return Choice(called, decision.described() | more | {"called": called})

    def _fallback(
        self, bundle: Bundle | None, names: Mapping[str, str], point: str, why: str, serves: Serves | None, error: str = ""
    ) -> Choice:
        """The configured fallback, else the bundle's, else another of its models: the first that the gateway serves."""
        own = None if bundle is None else names.get(bundle.fallback)
        told = [name for name in (self.settings.fallback, own, *names.values()) if name is not None]
        called = next((name for name in told if serves is None or serves(name)), None)
        if called is None:
            expected = "one of " + ", ".join(told) if told else "a fallback"
            mend = f"Name them in the gateway's model list, map them with {PREFIX}MODELS, or set {PREFIX}FALLBACK."
            raise InputError("no model of the bundle is served here", expected=expected, found="none", mend=mend)
        self._count(FELL_BACK, f"{FELL_BACK}: {why}")
        mine = next((mine for mine, theirs in names.items() if theirs == called), None)
        seal = None if bundle is None else bundle.hash
        facts = {"model": mine, "called": called, "point": point, "reason": f"fallback: {why}{error}", "propensity": None, "bundle": seal}
        return Choice(called, facts)

    def _sessions(self, bundle: Bundle) -> Sessions:
        """Those of this bundle; after a swap the conversations whose model it has too go on with it."""
        with self._lock:
            if self._known is not None and self._known[0] == bundle.hash:
                return self._known[1]
            sessions = Sessions(bundle) if self._known is None else self._known[1].moved(bundle)
            if bundle is self.reloading.bundle:  # a decision that began before a swap does not bring the old ones back
                self._known = (bundle.hash, sessions)
            return sessions

    def _load(self, path: Path, *, threads: int) -> Bundle:
        """Opens a bundle, and says which settings do not fit it. Not in the request path."""
        bundle = self._open(path, threads=threads)
        if unknown := sorted(set(self.settings.models) - set(bundle.models)):
            _log().warning("%sMODELS names %s, not in the bundle (%s)", PREFIX, ", ".join(unknown), ", ".join(bundle.models))
        if self.settings.point not in bundle.points:
            _log().warning("operating point %r is not in the bundle: all falls back", self.settings.point)
        elif (needed := _least_ms(bundle, self.settings.point)) > self.settings.deadline_ms / 2:
            told = "a decision takes %.1f ms here at best, the deadline is %g ms: many will be late. Set %sDEADLINE_MS"
            _log().warning(told, needed, self.settings.deadline_ms, PREFIX)
        return bundle

    def _breaker_told(self, state: str) -> None:
        level = logging.WARNING if state == "open" else logging.INFO
        _log().log(level, "breaker %s; decisions so far: %s; requests: %s", state, dict(self.guard.counts), dict(self.counts))

    def _count(self, *names: str) -> None:
        with self._lock:
            self.counts.update(names)


def _least_ms(bundle: Bundle, point: str) -> float:
    """The quickest of a few decisions on a text of ordinary length, in ms."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        bundle.decide("how many of these would a customer want " * 5, point=point)
        taken.append(1e3 * (time.perf_counter() - began))
    return min(taken)


def _log() -> logging.Logger:
    return logging.getLogger("routewright.gateway")
