"""Writes the bundle of a router or a cascade, reopens it, and holds it to what was judged: what train.py and export.py share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from routewright.core import bundle, cascade_bundle
from routewright.core.contracts import Encoder
from routewright.core.familiar import Familiarity
from routewright.core.run import evenly
from routewright.core.types import Floats, Outcomes
from routewright.eval import kept as reopened
from routewright.eval.cascading import Kept
from routewright.eval.crossfit import Fitted
from routewright.eval.promises import Traffic


@dataclass(frozen=True, eq=False)
class About:
    """What a bundle says of itself beside its graphs, the table that it was judged on, and how many judged queries it is compared on."""

    name: str
    outcomes: Outcomes
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    settings: bundle.Settings
    compare: int

    def facts(self, fitted: Fitted, familiarity: Familiarity | None = None) -> bundle.Facts:
        """For the writer."""
        cost = fitted.predictions.cost.mean(axis=0)
        return bundle.Facts(self.name, self.outcomes.pool, cost, self.data, self.metrics, self.settings, familiarity)

    def sample(self, fitted: Fitted) -> Outcomes:
        """Judged queries, evenly spread."""
        return self.outcomes.take(fitted.rows[evenly(len(fitted.rows), self.compare)])


class Opened(Protocol):
    """A bundle as the gateway package opens it."""

    def compare(self, texts: list[str], quality: Floats) -> float: ...
    def check_golden(self) -> float: ...


class Deployed(NamedTuple):
    """The folder, the opened bundle, the largest difference to the router on `compared` queries, and that to the golden vectors."""

    folder: Path
    opened: Opened
    compared: int
    difference: float
    golden: float

    def told(self) -> str:
        """In a line."""
        return f"{self.compared} queries at batch 1 and 64: largest difference {self.difference:.1e}"

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {"export_difference": self.difference}


def deploy(
    folder: Path,
    encoder: Encoder | None,
    fitted: Fitted,
    about: About,
    *,
    seed: int,
    opened: Callable[[Path], Opened],
    traffic: Traffic | None = None,
) -> Deployed:
    """folder/ with the router of `fitted`. encoder: None where it reads text; else the outcomes and `traffic` are encoded by it.

    traffic: the user's own queries that operating points were chosen on; they are no strangers. opened: the gateway's own loader, handed
    in. Raises as core.bundle.write_bundle does, and InputError where the bundle scores otherwise than the router.
    """
    familiarity = None
    if encoder is not None:
        known = [about.outcomes.queries.vectors(), *([] if traffic is None else [traffic.queries.vectors()])]
        familiarity = Familiarity.fit(np.concatenate(known), np.random.default_rng(seed))
    made = opened(bundle.write_bundle(folder, encoder, fitted.router, fitted.calibration, about.facts(fitted, familiarity)))
    sample = about.sample(fitted).queries
    difference = made.compare(list(sample.text), fitted.calibration(fitted.router.predict(sample)).quality)
    return Deployed(folder, made, len(sample), difference, made.check_golden())


class OpenedCascade(reopened.Served, Protocol):
    """A cascade's bundle as the gateway package opens it."""

    def check_golden(self) -> float: ...


class DeployedCascade(NamedTuple):
    """As Deployed; compared: how many decisions equal the replay's."""

    folder: Path
    opened: OpenedCascade
    compared: reopened.Compared
    golden: float

    def told(self) -> str:
        """In a line."""
        found = self.compared
        exact = "all equal the replay's" if not found.rounded else f"{found.rounded} of them by the last digit of a prior or score"
        return f"{found.queries} queries, {found.calls} calls, {found.decisions} decisions at every named point: {exact}"

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {"export_compared": self.compared._asdict()}


def deploy_cascade(
    folder: Path,
    kept: Kept,
    encoder: Encoder | None,
    fitted: Fitted,
    about: About,
    *,
    opened: Callable[[Path], OpenedCascade],
) -> DeployedCascade:
    """folder/ with the cascade that was kept; about: with the outcomes that it was judged on, and their answers.

    Raises core.bundle.NoBundleError where it cannot leave, and InputError where the bundle decides otherwise than the replay.
    """
    points, usd = about.metrics["operating_points"], reopened.usd_score(kept, about.outcomes)
    made = opened(cascade_bundle.write_cascade(folder, kept, encoder, about.facts(fitted), points, usd))
    return DeployedCascade(folder, made, reopened.compare(made, kept, about.sample(fitted)), made.check_golden())
