"""A finished run's router fitted again behind another encoder, by the same recipe, and judged beside the router that was trained.

A head fits the vectors that it has seen, so another encoder needs another head. Everything else is the run's: data, cuts, seed, streams,
further tables and what was kept of them, controls and bootstrap. Both judgements share their resamples, so their difference is paired.
Sources, encoders and routers are made by Hydra; what the data package does is handed in (`Tools`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core import artifact
from routewright.core.contracts import Encoder
from routewright.core.files import plain
from routewright.core.types import Battles, InputError, Outcomes
from routewright.eval import again, report, summary, trial
from routewright.eval.assess import Judging
from routewright.eval.crossfit import Cut, Learn
from routewright.eval.promises import Asked


@dataclass(frozen=True)
class Tools:
    """What train.py prepares a table with, handed in by the entry point.

    make: Hydra's instantiate. load, divide, mixing, lesson, traffic: data.load.load, data.load.Division.of, data.mix.Mixing,
    data.mix.lesson, data.traffic.read_traffic. rng: the trained run's streams, by purpose (core.run.Run.rng).
    """

    make: again.Make
    load: Callable[..., Any]
    divide: Callable[..., Any]
    mixing: Callable[..., Any]
    lesson: Callable[..., Any]
    traffic: Callable[..., Any]
    rng: Callable[[str], np.random.Generator]


@dataclass(frozen=True, eq=False)
class Refitted:
    """The trial behind the other encoder with its encoded table, and both judgements of the same queries by the same resamples.

    metrics: of the router fitted again, as train.py writes them.
    """

    tried: trial.Trial
    outcomes: Outcomes
    metrics: dict[str, Any]
    before: again.Judged
    after: again.Judged

    @property
    def paired(self) -> dict[str, Any]:
        """`difference` of the router fitted again less the trained one, in quality at equal cost, and its interval `ci` (None: none)."""
        (row,) = again.paired([self.after, self.before])
        return row

    def facts(self) -> dict[str, Any]:
        """For the manifest: both results and their paired difference."""
        kept = ("apgr", "apgr_ci")
        rows = {
            judged.name: {key: judged.metrics[key] for key in kept} | {key: judged.metrics["verdict"][key] for key in ("difference", "ci")}
            for judged in (self.before, self.after)
        }
        return plain({"results": rows, "paired": self.paired})

    def told(self) -> str:
        """Both results as a table, then what the other encoder costs or gains, in a sentence."""
        pair = [self.before, self.after]
        table = summary.comparison([(judged.name, plain(judged.metrics)) for judged in pair])
        return "\n".join([table, *again.sentences(pair, [self.paired])])

    def save(self, folder: Path) -> None:
        """predictions.parquet, curve.parquet and weights.safetensors of the router fitted again."""
        self.tried.save(folder, self.outcomes, keep=True)
        artifact.save_curves(folder, self.tried.assessment.curves, self.outcomes.pool.name)

    def page(self, made: Mapping[str, str]) -> str:
        """report.html of the router fitted again. made: what made it, as core.run.told has it."""
        view = report.View(self.after.name, self.metrics, self.tried.assessment.curves, dict(made))
        return report.render([view], title=f"{self.after.name} on {self.metrics['data']}")


def refit(past: again.Past, encoder: Encoder, choice: str, tools: Tools) -> Refitted:
    """The run's recipe behind `encoder`, the one of configs/encoder/<choice>.yaml.

    Raises InputError for a router that reads text, for a cascade and for a run that kept no router; where a further table or the user's
    own queries changed; and where this version cuts the data or the further tables otherwise than the run did.
    """
    again.require_router(past)
    if past.fitted.router.reads == "text":
        raise InputError("this router reads text itself", where=str(past.folder), expected="no encoder", found=f"encoder={choice}")
    config = past.manifest["config"]
    loaded = tools.load(tools.make(config["data"]), kind=config["split"]["kind"], cv=config["cv"])
    outcomes = loaded.outcomes.encoded(encoder.encode(loaded.outcomes.queries.text))
    mixing = tools.mixing(**config["mix"])
    learn = _lesson(past, outcomes, loaded.battles, mixing, encoder, tools)
    shares, alone = config["split"], not mixing.own
    division = tools.divide(loaded, outcomes.queries, shares, config["cv"], alone=alone, rng=tools.rng("split"))
    _require_same_cuts(past, outcomes, division.cuts)
    judging = _judging(past, encoder, clustered=division.kind == "grouped", tools=tools)
    without = () if config["shuffled_labels"] else ("shuffled_labels",)
    router = partial(tools.make, config["router"])
    fit, judge = tools.rng("fit"), tools.rng("judge")
    tried = trial.try_router(past.name, router, outcomes, division.cuts, judging, fit=fit, judge=judge, learn=learn, without=without)
    said = {key: past.described[key] for key in ("data", "router", "labels")} | {"encoder": choice, "leakage": division.leakage}
    metrics = plain(said | trial.described(division.cuts, division.kind) | tried.assessment.metrics)
    before, after = _named(past, choice)
    trained = replace(again.judge(past, judging, tools.rng("judge")), name=before)
    ids, content = tuple(outcomes.queries.id[tried.fitted.rows]), artifact.content_hash(outcomes)
    judged = again.Judged(after, past.manifest, metrics, tried.assessment.curves, ids, content, tried.assessment.replicates)
    return Refitted(tried, outcomes, metrics, trained, judged)


def _lesson(past: again.Past, outcomes: Outcomes, battles: Battles | None, mixing: Any, encoder: Encoder, tools: Tools) -> Learn:
    """What the router learns from: the run's rows of the further tables, told by the run's own encoder, with the other one's vectors."""
    tables = again.further_tables(past, tools.make)
    if not tables:
        lesson: Learn = tools.lesson(outcomes, battles, {}, mixing, encoder.encode)
        return lesson
    trained = again.encoder_of(past, tools.make)
    learn = tools.lesson(outcomes.encoded(trained.encode(outcomes.queries.text)), battles, tables, mixing, trained.encode)
    for name, counts in learn.told.items():
        then = {key: past.manifest["extra"][name].get(key) for key in counts}
        if then != counts:
            raise _changed("a further table is filtered otherwise than the run's was", f"extra.{name}", str(then), str(counts))
    return replace(learn, extra={name: _encoded(table, encoder) for name, table in learn.extra.items()})


def _encoded(table: Any, encoder: Encoder) -> Any:
    return replace(table, queries=table.queries.encoded(encoder.encode(list(table.queries.text))))


def _require_same_cuts(past: again.Past, outcomes: Outcomes, cuts: Sequence[Cut]) -> None:
    """Raises InputError where the queries that would be judged, fold by fold, are not those that the run judged."""
    rows, fold = np.full(len(outcomes), -1), np.full(len(outcomes), -1)
    for k, cut in enumerate(cuts):
        rows[cut.test] = k
    fold[past.fitted.rows] = past.fitted.fold
    if not np.array_equal(rows, fold):
        expected, found = f"{np.sum(fold >= 0)} queries", f"{np.sum(rows >= 0)} queries, {np.sum(rows != fold)} elsewhere"
        raise _changed("the data are cut otherwise than the run's were", str(past.folder), expected, found)


def _judging(past: again.Past, encoder: Encoder, *, clustered: bool, tools: Tools) -> Judging:
    """As train.py judges. Raises InputError where the user's own queries are no longer those that points were chosen on."""
    config = past.manifest["config"]
    traffic = tools.traffic(config["policy"]["queries"], encoder.encode)
    if traffic is not None:
        points = _traffic_hashes(past)
        if points and traffic.sha256 not in points:
            raise _changed("the queries of policy.queries changed", traffic.name, sorted(points)[0][:12], traffic.sha256[:12])
    asked = replace(Asked.of(config["policy"]), traffic=traffic)
    return Judging(config["policy"]["name"], config["protocol"], config["replicates"], clustered=clustered, asked=asked)


def _traffic_hashes(past: again.Past) -> set[str]:
    """The sha256 of the files of ungraded queries that the run's points were chosen on."""
    chosen = (row.get("chosen_on") or {} for row in past.promise.chosen.values())
    return {on["sha256"] for on in chosen if "sha256" in on}


def _named(past: again.Past, choice: str) -> tuple[str, str]:
    """Names for both, by the encoders' own: logistic behind minilm, logistic behind static."""
    trained = past.described.get("encoder", "its own encoder")
    return f"{past.name} behind {trained}", f"{past.name} behind {choice}" + (" (other settings)" if trained == choice else "")


def _changed(what: str, where: str, expected: str, found: str) -> InputError:
    return InputError(
        what, where=where, expected=expected, found=found, mend="Train again with encoder=...: the recipe cannot be repeated."
    )
