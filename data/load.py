"""From a configured source to audited outcomes, and what the manifest must say about them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from routewright.core.artifact import content_hash
from routewright.core.contracts import Source
from routewright.core.judged import judged
from routewright.core.types import Battles, InputError, Outcomes, Queries
from routewright.data import audit, split

log = logging.getLogger("routewright")


class Loaded(NamedTuple):
    """Audited outcomes, the kind of split that is meant, and the data's own labels where it is `given`.

    battles: where the source gives battles; outcomes then hold the share of them that each model won on a query.
    """

    outcomes: Outcomes
    kind: str
    given: Sequence[str] | None
    battles: Battles | None = None


def load(source: Source, *, kind: str = "random", cv: int | None = None) -> Loaded:
    """Outcomes that passed the audit, and how they are to be split.

    kind: as data/split.py has it, or auto: given where the data bring a split of their own and no folds are asked for, else random.
    Notes of the audit go to the log. Raises InputError for unusable data, and where a given split is wanted that the source does not have.
    """
    table = source.load()
    outcomes, battles = judged(table), table if isinstance(table, Battles) else None
    for note in audit.check(outcomes):
        log.info("note: %s", note)
    if kind == "auto" and cv is not None:
        kind = "random"
    if kind not in ("auto", "given"):
        return Loaded(outcomes, kind, None, battles)
    given = source.split()
    if kind == "auto":
        return Loaded(outcomes, "random" if given is None else "given", given, battles)
    if given is None:
        raise InputError(
            "these data have no split of their own",
            expected="a split column: train, calibration or test for each query",
            found="none",
            mend="Use split.kind=random or split.kind=grouped.",
        )
    return Loaded(outcomes, kind, given, battles)


class Division(NamedTuple):
    """How the table is divided: the folds, the kind of split (none: nothing is learned from this table), and what leaks over them."""

    kind: str
    cuts: list[split.Fold]
    leakage: dict[str, Any]

    @classmethod
    def of(
        cls, loaded: Loaded, queries: Queries, shares: Mapping[str, Any], cv: int | None, *, alone: bool, rng: np.random.Generator
    ) -> Division:
        """The folds that `shares` (kind, test, calibration) and cv ask for. alone: nothing is learned from this table, so all of it but the
        calibration rows is judged. Raises InputError as data/split.py does, and for folds of a table that nothing is learned from.
        """
        if alone and cv is not None:
            raise InputError("folds need something to learn from", expected="cv=null with mix.own=0", found=f"cv={cv}")
        if alone:
            cuts = split.judged_alone(queries, calibration=float(shares["calibration"]), rng=rng)
            return cls("none", cuts, {})
        cuts = split.folds(queries, **{**shares, "kind": loaded.kind}, cv=cv, given=loaded.given, rng=rng)
        return cls(loaded.kind, cuts, audit.leakage(queries, cuts))


def provenance(source: Source, outcomes: Outcomes) -> dict[str, Any]:
    """The manifest's `data`: where the table came from, and the hash of what was read."""
    return {"data": {**source.provenance(), "queries": len(outcomes), "content_sha256": content_hash(outcomes)}}
