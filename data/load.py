"""From a configured source to audited outcomes, and what the manifest must say about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from routewright.core.artifact import content_hash
from routewright.core.contracts import Source
from routewright.core.types import InputError, Outcomes
from routewright.data import audit

log = logging.getLogger("routewright")


def load(source: Source, *, needs_split: bool = False) -> tuple[Outcomes, Sequence[str] | None]:
    """Outcomes that passed the audit, and the data's own split labels where they are asked for.

    Notes of the audit go to the log. Raises InputError for unusable data, and where a given split is wanted that the source does not have.
    """
    outcomes = source.load()
    if not isinstance(outcomes, Outcomes):
        raise InputError(
            "this source gives battles", expected="outcomes: a quality for every query and model", found=type(outcomes).__name__
        )
    for note in audit.check(outcomes):
        log.info("note: %s", note)
    if not needs_split:
        return outcomes, None
    given = source.split()
    if given is None:
        raise InputError(
            "these data have no split of their own",
            expected="a split column: train, calibration or test for each query",
            found="none",
            mend="Use split.kind=random or split.kind=grouped.",
        )
    return outcomes, given


def provenance(source: Source, outcomes: Outcomes) -> dict[str, Any]:
    """The manifest's `data`: where the table came from, and the hash of what was read."""
    return {"data": {**source.provenance(), "queries": len(outcomes), "content_sha256": content_hash(outcomes)}}
