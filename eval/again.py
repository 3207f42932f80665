"""Judges finished runs again: by the held-out predictions they kept, or on other data by their weights. Then compares them pair by pair.

Sources and encoders are made by `make` (Hydra's instantiate), handed in by the entry point: nothing of the data package is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core import artifact
from routewright.core.text import normalise
from routewright.core.types import Curve, Floats, InputError, Outcomes, Predictions
from routewright.eval import stats
from routewright.eval.assess import Judging, assess
from routewright.eval.crossfit import Fitted
from routewright.eval.points import Promise

Make = Callable[..., Any]
ENOUGH = 30  # unseen queries; fewer cannot say anything


@dataclass(frozen=True, eq=False)
class Past:
    """A finished run with the table it is to be judged on: `fitted` holds its predictions for the rows that may be judged."""

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    promise: Promise
    outcomes: Outcomes
    fitted: Fitted
    rivals: Mapping[str, Predictions]
    described: Mapping[str, Any]

    @property
    def clustered(self) -> bool:
        return bool(self.manifest["config"]["split"]["kind"] == "grouped")


@dataclass(frozen=True, eq=False)
class Judged:
    """A past run's new judgement; ids: the judged queries; content: hash of their table; replicates (B,): of the difference."""

    name: str
    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any]
    curves: Mapping[str, Curve]
    ids: tuple[str, ...]
    content: str
    replicates: Floats


def open_past(path: str, make: Make) -> Past:
    """A finished run on its own data, by its kept predictions. Raises InputError where the data are no longer what it was trained on."""
    folder, manifest = artifact.open_run(path)
    metrics = json.loads((folder / "metrics.json").read_text())
    outcomes = make(manifest["config"]["data"]).load()
    if artifact.content_hash(outcomes) != manifest["data"]["content_sha256"]:
        raise InputError("the data changed since the run was trained", where=str(folder), mend="Train again, or name other data: data=....")
    router, calibration = artifact.load_weights(folder, make(manifest["config"]["router"]))
    scores = artifact.load_scores(folder, outcomes.pool.name)
    position = {name: row for row, name in enumerate(outcomes.queries.id)}
    rows = np.array([position[name] for name in scores.id], dtype=np.int64)
    fitted = Fitted(rows, scores.fold, scores.predictions, calibration, router, (), exact=False)
    rivals = {name: Predictions(quality, scores.predictions.cost) for name, quality in scores.rivals.items()}
    kept = ("data", "router", "encoder", "labels", "evaluation", "n_train", "n_calibration", "leakage")
    return Past(metrics["router"], folder, manifest, Promise.of(metrics), outcomes, fitted, rivals, {key: metrics[key] for key in kept})


def on_other_data(past: Past, source: Any, make: Make) -> Past:
    """The same router on another table with the same models, on the queries whose text it has not been trained on.

    The controls that learn from a training part are left out: there is none here. Raises InputError for other models or too few queries.
    """
    outcomes = source.load()
    if set(outcomes.pool.name) != set(past.outcomes.pool.name):
        raise InputError(
            "this run routes between other models",
            where=str(past.folder),
            expected=", ".join(past.outcomes.pool.name),
            found=", ".join(outcomes.pool.name),
        )
    outcomes = outcomes.models(past.outcomes.pool.name)  # the router's columns, whatever the order of the file
    known = {normalise(text) for text in past.outcomes.queries.text}
    rows = np.array([row for row, text in enumerate(outcomes.queries.text) if normalise(text) not in known], dtype=np.int64)
    if len(rows) < ENOUGH:
        raise InputError(
            "too few queries that the run has not seen", expected=f"at least {ENOUGH}", found=f"{len(rows)} of {len(outcomes)}"
        )
    encoder = make(past.manifest["config"]["encoder"])
    queries = outcomes.queries.take(rows)
    raw = past.fitted.router.predict(queries.encoded(encoder.encode(queries.text)))
    fitted = replace(past.fitted, rows=rows, fold=np.zeros(len(rows), dtype=np.int64), predictions=past.fitted.calibration(raw))
    about = source.provenance()
    told = {"data": about["name"], "labels": about["labels"], "evaluation": f"trained on {past.described['data']}", "leakage": None}
    return replace(past, outcomes=outcomes, fitted=fitted, rivals={}, described={**past.described, **told, "n_calibration": 0})


def judge(past: Past, judging: Judging, rng: np.random.Generator) -> Judged:
    """The judgement by today's settings; the operating points are those of the run, held to their promise."""
    found = assess(past.name, past.fitted, past.outcomes, judging, rng, past.rivals, promise=past.promise)
    ids = past.outcomes.queries.id[past.fitted.rows]
    return Judged(
        past.name,
        past.manifest,
        {**past.described, **found.metrics},
        found.curves,
        tuple(ids),
        artifact.content_hash(past.outcomes),
        found.replicates,
    )


def distinct(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The routers' names; the run folder's where one stands more than once."""
    shown = [name if names.count(name) == 1 else folder.name for name, folder in zip(names, folders, strict=True)]
    return [name if shown.count(name) == 1 else f"{name} ({shown[:i].count(name) + 1})" for i, name in enumerate(shown)]


def paired(names: Sequence[str], judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Every pair of runs that judged the same queries by the same grades and costs: the difference, resample by resample."""
    out = []
    for i in range(len(judged)):
        for j in range(i + 1, len(judged)):
            a, b = judged[i], judged[j]
            if a.content != b.content or a.ids != b.ids or len(a.replicates) != len(b.replicates):
                continue
            difference = a.metrics["verdict"]["difference"] - b.metrics["verdict"]["difference"]
            out.append({"a": names[i], "b": names[j], "difference": difference, "ci": stats.interval(a.replicates - b.replicates)})
    return out


def sentences(names: Sequence[str], compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a pair: which is better, or that the data cannot tell; and how many pairs did not judge the same queries and grades."""
    lines = []
    for row in compared:
        if row["ci"] is None:
            continue
        sign = -1 if row["ci"][1] < 0 else 1  # told from the better one's side
        first, second = (row["a"], row["b"]) if sign > 0 else (row["b"], row["a"])
        low, high = sorted(100 * sign * end for end in row["ci"])
        claim = f"{first} beats {second}" if low > 0 else f"{first} and {second} cannot be told apart"
        lines.append(f"{claim}: {100 * sign * row['difference']:+.2f} quality points [{low:+.2f}, {high:+.2f}] at equal cost.")
    skipped = len(names) * (len(names) - 1) // 2 - len(compared)
    if skipped:
        lines.append(f"{skipped} pairs of runs were not compared: they did not judge the same queries by the same grades and costs.")
    return lines
