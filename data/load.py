"""From a configured source to audited outcomes, and what the manifest must say about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from routewright.core.artifact import content_hash
from routewright.core.contracts import Source
from routewright.core.types import InputError, Outcomes
from routewright.data import audit

log = logging.getLogger("routewright")


class Loaded(NamedTuple):
    """Audited outcomes, the kind of split that is meant, and the data's own labels where it is `given`."""

    outcomes: Outcomes
    kind: str
    given: Sequence[str] | None


def load(source: Source, *, kind: str = "random", cv: int | None = None) -> Loaded:
    """Outcomes that passed the audit, and how they are to be split.

    kind: as data/split.py has it, or auto: given where the data bring a split of their own and no folds are asked for, else random.
    Notes of the audit go to the log. Raises InputError for unusable data, and where a given split is wanted that the source does not have.
    """
    outcomes = source.load()
    if not isinstance(outcomes, Outcomes):
        raise InputError(
            "this source gives battles", expected="outcomes: a quality for every query and model", found=type(outcomes).__name__
        )
    for note in audit.check(outcomes):
        log.info("note: %s", note)
    if kind == "auto" and cv is not None:
        kind = "random"
    if kind not in ("auto", "given"):
        return Loaded(outcomes, kind, None)
    given = source.split()
    if kind == "auto":
        return Loaded(outcomes, "random" if given is None else "given", given)
    if given is None:
        raise InputError(
            "these data have no split of their own",
            expected="a split column: train, calibration or test for each query",
            found="none",
            mend="Use split.kind=random or split.kind=grouped.",
        )
    return Loaded(outcomes, kind, given)


def provenance(source: Source, outcomes: Outcomes) -> dict[str, Any]:
    """The manifest's `data`: where the table came from, and the hash of what was read."""
    return {"data": {**source.provenance(), "queries": len(outcomes), "content_sha256": content_hash(outcomes)}}
