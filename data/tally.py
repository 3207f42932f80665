"""What a collection has done so far: calls, attempts, errors, tokens and dollars, by model and in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self


@dataclass
class Counts:
    """Of one model, or of all.

    recorded: asks answered before (or by an equal ask beside them); usd_recorded: what earlier runs paid for them. ok, empty (paid, nothing
    in it), failed, not_asked (the budget was spent or the model given up): how the others ended. attempts: requests sent; retries: those
    after a call's first. usd: known costs; usd_unknown_calls: calls without usage, at most usd_unknown_bound together. lost: requests
    that brought nothing and may have been billed, at most lost_bound. Bounds are NaN without prices. errors: requests by kind of failure.
    """

    recorded: int = 0
    ok: int = 0
    empty: int = 0
    failed: int = 0
    not_asked: int = 0
    attempts: int = 0
    retries: int = 0
    lost: int = 0
    usd: float = 0.0
    usd_recorded: float = 0.0
    usd_unknown_calls: int = 0
    usd_unknown_bound: float = 0.0
    lost_bound: float = 0.0
    tokens: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def made(self) -> int:
        """Asks whose call ended in this run."""
        return self.ok + self.empty + self.failed

    @property
    def done(self) -> int:
        """Asks that are settled, one way or another."""
        return self.recorded + self.made + self.not_asked


@dataclass
class Tally(Counts):
    """The sum over by_model, and the clock.

    asked: asks given, as far as they have been read. elapsed: seconds of running. tokens_per_s: output and reasoning tokens over all calls
    at once. eta: seconds left, None while it cannot be told. stop: "" or why calls were not made: "budget", a model given up.
    """

    asked: int = 0
    elapsed: float = 0.0
    tokens_per_s: float = 0.0
    eta: float | None = None
    stop: str = ""
    by_model: dict[str, Counts] = field(default_factory=dict)

    @classmethod
    def of(cls, by_model: Mapping[str, Counts], **clock: Any) -> Self:
        """Copies: it does not change afterwards."""
        total = cls(**clock)
        for model, counts in by_model.items():
            total.by_model[model] = Counts(**{f.name: _copy(getattr(counts, f.name)) for f in fields(Counts)})
            for f in fields(Counts):
                setattr(total, f.name, _plus(getattr(total, f.name), getattr(counts, f.name)))
        total.tokens_per_s = (total.tokens["output"] + total.tokens["reasoning"]) / total.elapsed if total.elapsed > 0 else 0.0
        return total

    def plain(self) -> dict[str, Any]:
        """Values for JSON."""
        return _plain(self) | {"by_model": {model: _plain(counts) for model, counts in self.by_model.items()}}


def _plain(counts: Counts) -> dict[str, Any]:
    values = {f.name: getattr(counts, f.name) for f in fields(counts)}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}


def _copy(value: Any) -> Any:
    return Counter(value) if isinstance(value, Counter) else value


def _plus(one: Any, other: Any) -> Any:
    if isinstance(one, Counter):
        one.update(other)  # the sum of two Counters would drop what is zero
        return one
    return one + other
