"""What a user asks of an operating point: a share of strong calls, of the spend, or of the best model's quality; names that parse back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

import numpy as np

from routewright.core.types import InputError, Outcomes, Queries
from routewright.eval.numerals import DASH, Cell, cell, percent

# the setting under `policy`, what the names of its points begin with, and what the fraction is of
KINDS = {"strong_share": "strong", "spend": "spend", "quality": "quality"}
WORDS = {"strong_share": "of calls to the strong model", "spend": "of the spend", "quality": "of the best model's quality"}


class Traffic(Protocol):
    """The user's own queries, encoded and without grades; name and sha256 of their file."""

    @property
    def queries(self) -> Queries: ...
    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Ask:
    """One promise: kind as in KINDS, value a fraction in [0, 1]."""

    kind: str
    value: float

    @property
    def name(self) -> str:
        """The point's name, the value in percent as it was typed: strong-50, quality-97.5."""
        percent = (100 * Decimal(repr(self.value))).normalize()
        return f"{KINDS[self.kind]}-{percent:f}"

    @classmethod
    def parse(cls, name: str) -> Ask | None:
        """The inverse of `name`; None for a point that promises nothing."""
        prefix, _, percent = name.partition("-")
        kind = next((kind for kind, begins in KINDS.items() if begins == prefix), None)
        try:
            return None if kind is None else cls(kind, float(Decimal(percent) / 100))
        except InvalidOperation:
            return None


@dataclass(frozen=True)
class Asked:
    """Every promise asked for. traffic: ungraded queries on which shares are chosen, in place of the calibration queries."""

    points: tuple[Ask, ...] = ()
    traffic: Traffic | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Asked:
        """From the config's `policy`. Raises InputError for what is no fraction, and for ungraded queries on which nothing is chosen."""
        points = [Ask(kind, value) for kind in KINDS for value in _fractions(kind, settings.get(kind))]
        path = settings.get("queries")
        if path is not None and not isinstance(path, str):
            raise InputError("policy.queries has the wrong type", expected="the path of a file", found=repr(path))
        if path is not None and all(ask.kind == "quality" for ask in points):
            raise InputError(
                "policy.queries has nothing to choose",
                expected="a share that needs no grades: policy.strong_share or policy.spend",
                found=", ".join(f"policy.{ask.kind}={ask.value:g}" for ask in points) or "neither",
                mend="Ask for policy.strong_share=..., or leave policy.queries out.",
            )
        return cls(tuple(points))

    def check(self, outcomes: Outcomes, *, held_out: bool) -> None:
        """Raises InputError for a promise that these models, their costs or a missing calibration split (held_out) rule out."""
        kinds = {ask.kind for ask in self.points}
        if "strong_share" in kinds and len(outcomes.pool) != 2:
            raise InputError(
                "policy.strong_share is for two models",
                expected="2 models",
                found=str(len(outcomes.pool)),
                mend="Ask for policy.spend=..., or choose a pair with data.models=[weak,strong].",
            )
        if "spend" in kinds and not np.isfinite(outcomes.cost).any(axis=0).all():
            mend = "Give the data a cost column or choose prices=..., or ask for policy.strong_share=... with two models."
            raise InputError("policy.spend needs a cost for every model", expected="USD", found="models without a cost", mend=mend)
        needy = [ask for ask in self.points if ask.kind == "quality" or self.traffic is None]
        if needy and not held_out:
            other = "" if needy[0].kind == "quality" else ", or name ungraded queries of your own: policy.queries=FILE"
            raise InputError(
                f"there is no calibration split to choose {needy[0].name} on",
                expected="queries that are neither trained on nor judged",
                found="none",
                mend=f"Set split.calibration=0.1{other}.",
            )


NOTHING = Asked()


def _fractions(kind: str, given: Any) -> list[float]:
    """One number or a list of them, each once and in range."""
    values = [] if given is None else list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1 or (kind == "quality" and value == 0):
            raise InputError(
                f"policy.{kind} is no fraction",
                expected=f"a number {'above 0 and up to 1' if kind == 'quality' else 'from 0 to 1'}, or a list of them",
                found=repr(value),
                mend=f"For {value:g} % say policy.{kind}={value / 100:g}." if number and 1 < value <= 100 else "",
            )
    return list(dict.fromkeys(float(value) for value in values))


def chosen_on(point: Mapping[str, Any]) -> str:
    """In words, on which queries a judged point was chosen."""
    on = point.get("chosen_on") or {}
    if "file" not in on:
        return f"{on.get('what', 'not recorded')}, n={on.get('n', '?')}"
    return f"{on['file']}, n={on['n']} ({on['in_test']} in the test set)"


def promised(metrics: Mapping[str, Any], *, asked: bool) -> dict[str, Mapping[str, Any]]:
    """The judged points that promise something, by name; `asked`: only those that the user asked for."""
    points: Mapping[str, Mapping[str, Any]] = metrics.get("operating_points") or {}
    return {name: row for name, row in points.items() if row.get("promise") and (row.get("asked") or not asked)}


def report_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str, Cell, Cell, Cell]]:
    """For the report, of every point that promises something: its name and what it promises; what test says of it, with the interval;
    whether that keeps the promise; and what was reached where it was chosen."""
    rows = []
    for name, row in promised(metrics, asked=False).items():
        kept = DASH if row["kept"] is None else "yes" if row["kept"] else "no"
        there = Cell(percent(row["reachable"]), f"{chosen_on(row)}{'; ' if row['note'] else ''}{row['note'] or ''}")
        here = cell(row["realised"], percent, row["realised_ci"], "nothing to divide by")
        why = "too few groups for an interval" if row["kept"] is None else ""
        rows.append((name, f"{percent(row['promised'])} {WORDS[row['promise']]}", here, Cell(kept, why), there))
    return rows
