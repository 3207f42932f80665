"""One router on trial: fitted over the folds, its controls fitted over the same folds, and judged beside them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from routewright.core import artifact
from routewright.core.contracts import Router
from routewright.core.types import Outcomes, Predictions
from routewright.eval import controls
from routewright.eval.assess import Assessment, Judging, assess
from routewright.eval.crossfit import Cut, Fitted, Learn, crossfit, own


class Trial(NamedTuple):
    """What came out: the fitted router with its predictions, the judgement, and the fitted controls' predictions for the same rows."""

    fitted: Fitted
    assessment: Assessment
    rivals: dict[str, Predictions]

    def save(self, folder: Path, outcomes: Outcomes, *, keep: bool) -> None:
        """What evaluate.py judges again; keep: the router and its calibration too."""
        artifact.save_scores(folder, scores(self, outcomes))
        if keep:
            artifact.save_weights(folder, self.fitted.router, self.fitted.calibration)


def fit_rivals(
    make: Callable[[], Router],
    outcomes: Outcomes,
    cuts: Sequence[Cut],
    rng: np.random.Generator,
    learn: Learn = own,
    without: Collection[str] = (),
) -> dict[str, Predictions]:
    """Every fitted control's predictions, through the same folds; without those in `without`, and the group's where there is but one."""
    makers = controls.fitted(make, learn)
    streams = dict(zip(makers, rng.spawn(len(makers)), strict=True))
    skipped = {*without, *(["group"] if len(set(outcomes.queries.group)) < 2 else [])}
    return {
        name: crossfit(maker, outcomes, cuts, streams[name], refit=False).predictions
        for name, maker in makers.items()
        if name not in skipped
    }


def try_router(
    name: str,
    make: Callable[[], Router],
    outcomes: Outcomes,
    cuts: Sequence[Cut],
    judging: Judging,
    *,
    fit: np.random.Generator,
    judge: np.random.Generator,
    learn: Learn = own,
    without: Collection[str] = (),
    refit: bool = True,
) -> Trial:
    """Fits and judges one router. fit draws for the routers, judge for the bootstrap and the shuffles.

    learn: what the router learns from, given the training part. refit: whether a router is fitted on all folds, to be kept.
    without: controls that are not to be retrained (shuffled_labels, of a router that trains for an hour): they are withheld, with that
    reason.
    """
    fitted = crossfit(make, outcomes, cuts, fit, learn, refit)
    rivals = fit_rivals(make, outcomes, cuts, judge, learn, without)
    judged = assess(name, fitted, outcomes, judging, judge, rivals)
    withhold(judged, rivals, without)
    return Trial(fitted, judged, rivals)


def withhold(judged: Assessment, rivals: Mapping[str, Predictions], without: Collection[str]) -> None:
    """Says in the metrics why a control is not there."""
    if "group" not in rivals:
        judged.metrics["withheld"]["controls.group"] = "all queries are of one group"
    for control in without:
        judged.metrics["withheld"][f"controls.{control}"] = f"not retrained, since {control}=false asks for that"


def described(cuts: Sequence[Cut], kind: str) -> dict[str, Any]:
    """How the data were divided, for metrics.json; sizes are of the first fold. kind: none where they are judged alone."""
    several = f", cv={len(cuts)}" if len(cuts) > 1 else ""
    words = "trained on other data" if kind == "none" else f"{kind} split{several}"
    return {"evaluation": words, "n_train": len(cuts[0].train), "n_calibration": len(cuts[0].calibration)}


class Tried(Protocol):
    """A router or a cascade that was judged."""

    @property
    def fitted(self) -> Fitted: ...
    @property
    def rivals(self) -> Mapping[str, Predictions]: ...


def scores(tried: Tried, outcomes: Outcomes) -> artifact.Scores:
    """The predictions with the ids they belong to, to be kept beside the metrics."""
    rivals, fitted = {name: prediction.quality for name, prediction in tried.rivals.items()}, tried.fitted
    return artifact.Scores(outcomes.queries.id[fitted.rows], fitted.fold, outcomes.pool.name, fitted.predictions, rivals)
