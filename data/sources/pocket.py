"""The pocket benchmark's outcomes: four small language models on every question, as collect.py collected them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from routewright.core.files import sha256
from routewright.core.types import InputError, Outcomes
from routewright.data.pocket import POCKET
from routewright.data.sources._pinned import check_labels
from routewright.data.sources._spoken import Spoken
from routewright.data.tables import read_metadata, read_outcomes, read_split

PATH, CARD = POCKET / "outcomes.parquet", POCKET / "card.json"


@dataclass(frozen=True, kw_only=True)
class Pocket(Spoken):
    """Outcomes with answers, signals, tokens and nominal costs; their own split is by phrasing (data/pocket/README.md).

    models: which to keep, in this order (None: all). labels: "clean" or "published", the same grades here.
    """

    name: str
    licence: str
    citation: str
    models: Sequence[str] | None = None
    labels: str = "clean"

    def load(self) -> Outcomes:
        """The table. Raises InputError for a file that is not the card's, for unknown models and unknown labels."""
        check_labels(self.name, self.labels)
        wanted, found = _pinned(), sha256(PATH)
        if found != wanted:
            mend = "Restore it from the repository, or make it anew: python scripts/make_pocket.py --stage collect --again."
            raise InputError("the pocket outcomes are not those of the card", where=str(PATH), expected=wanted, found=found, mend=mend)
        whole = read_outcomes(PATH)
        return whole if self.models is None else whole.models(self.models)

    def split(self) -> Sequence[str]:
        """train or test for each query: the phrasings of test stand in no training question."""
        made = read_split(PATH, len(read_outcomes(PATH, answers=False)))
        assert made is not None
        return made

    def provenance(self) -> dict[str, Any]:
        """Licence, citation, the file and its sha256, what made it, prices: plain values for the manifest."""
        prices = read_metadata(PATH)["prices"]
        return {
            "name": self.name,
            "licence": self.licence,
            "citation": self.citation,
            "revision": _pinned()[:12],
            "files": {PATH.name: _pinned()},
            "models": list(self.load().pool.name),
            "labels": self.labels,
            "usage": "nominal",
            "prices": {"date": prices["date"], "source": prices["source"]},
            "notes": "Answers graded by comparing texts; the right answers are computed by the program that wrote the questions.",
        }


def _pinned() -> str:
    """The file's sha256 as the benchmark's card has it."""
    return str(json.loads(CARD.read_bytes())["sha256"][PATH.name])
