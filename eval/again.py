"""Judges finished runs again: by the held-out predictions they kept, or on other data by their weights. Then compares them pair by pair.

Sources and encoders are made by `make` (Hydra's instantiate), handed in by the entry point: nothing of the data package is imported here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core import artifact
from routewright.core.arrays import column_means
from routewright.core.calibrate import Affine
from routewright.core.files import plain
from routewright.core.judged import judged
from routewright.core.text import normalise
from routewright.core.types import Battles, Curve, Floats, InputError, Ints, Outcomes, Predictions
from routewright.eval import controls, stats, students, transfer
from routewright.eval import paths as cascade_paths
from routewright.eval.assess import Judging, Replayed, assess
from routewright.eval.crossfit import Fitted
from routewright.eval.points import Promise
from routewright.eval.transfer import Roles, Wanted

Make = Callable[..., Any]
OPTIONS = re.compile(r"\n\s*\(?A[.)]\s")
ENOUGH = 30  # unseen queries; fewer cannot say anything


@dataclass(frozen=True, eq=False)
class Past:
    """A finished run with the table it is to be judged on: `fitted` holds its predictions for the rows that may be judged.

    roles: the pair that is judged, where it was named or found. withheld: figures that mean nothing here, with the reason.
    kept_router: False for a run that only judged its recipe; its own predictions are there all the same. replayed: of a cascade.
    """

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    promise: Promise
    outcomes: Outcomes
    fitted: Fitted
    rivals: Mapping[str, Predictions]
    described: Mapping[str, Any]
    roles: Roles | None = None
    withheld: Mapping[str, str] = field(default_factory=dict)
    kept_router: bool = True
    replayed: Replayed | None = None

    @property
    def trained_for(self) -> Roles:
        return Roles(self.promise.weak, self.promise.strong)

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
    roles: Roles | None = None


@dataclass(frozen=True, eq=False)
class Other:
    """Other data: the table as its source gives it, what its provenance says, and how battles are cut to those between some models."""

    table: Outcomes | Battles
    about: Mapping[str, Any]
    among: Callable[[Battles, Sequence[str]], Battles]

    def models(self, names: Sequence[str]) -> Outcomes:
        """The table of these models alone, in this order: of battles the shares won of those between them."""
        return self.table.models(names) if isinstance(self.table, Outcomes) else judged(self.among(self.table, names))


def open_past(path: str, make: Make) -> Past:
    """A finished run on its own data, by its kept predictions. Raises InputError where the data are no longer what it was trained on."""
    folder, manifest = artifact.open_run(path)
    metrics = json.loads((folder / "metrics.json").read_text())
    outcomes = judged(make(manifest["config"]["data"]).load())
    if artifact.content_hash(outcomes) != manifest["data"]["content_sha256"]:
        raise InputError(
            "the data changed since the run was trained",
            where=str(folder),
            expected=f"sha256 {manifest['data']['content_sha256'][:12]}",
            found=artifact.content_hash(outcomes)[:12],
            mend="Bring them back, or train again.",
        )
    outcomes = students.restored(folder, outcomes)
    router, calibration = make(manifest["config"]["router"]), Affine.identity(len(outcomes.pool))
    cascade = metrics.get("cascade")
    kept_router = (folder / artifact.WEIGHTS).is_file() and cascade is None
    if kept_router:
        router, calibration = artifact.load_weights(folder, router)
    scores = artifact.load_scores(folder, outcomes.pool.name)
    position = {name: row for row, name in enumerate(outcomes.queries.id)}
    rows = np.array([position[name] for name in scores.id], dtype=np.int64)
    fitted = Fitted(rows, scores.fold, scores.predictions, calibration, router, (), exact=False)
    rivals = {name: Predictions(quality, scores.predictions.cost) for name, quality in scores.rivals.items()}
    kept = ("data", "router", "encoder", "labels", "evaluation", "n_train", "n_calibration", "leakage", "cascade", "signal", "student")
    described = {key: metrics[key] for key in kept if key in metrics}
    replayed = None if cascade is None else _replayed(folder, outcomes.take(rows), outcomes.pool.index(metrics["strong"]))
    name, promise = cascade or metrics["router"], Promise.of(metrics)
    return Past(name, folder, manifest, promise, outcomes, fitted, rivals, described, kept_router=kept_router, replayed=replayed)


def _replayed(folder: Path, judged_rows: Outcomes, strong: int) -> Replayed:
    """What a cascade's run kept of its replay; its operating points are chosen already."""
    arrays = artifact.load_replay(folder)

    def path(kind: str) -> cascade_paths.Path:
        part = {name: arrays[f"{kind}{name}"] for name in ("knob", "served", "called", "cost")}
        return cascade_paths.Path.restored(part, judged_rows, strong=strong)

    return Replayed(path(""), path("shuffled:"), (), path("relabelled:") if "relabelled:knob" in arrays else None)


def require_router(past: Past) -> None:
    """Raises InputError for a run that kept no router, and for a cascade, which needs the answers that were recorded on its own data."""
    if past.replayed is not None:
        mend = "Judge it on its own data, or train the cascade on the others."
        raise InputError("a cascade decides by answers", where=str(past.folder), expected="a router's run", found="a cascade's", mend=mend)
    if not past.kept_router:
        artifact.require_weights(past.folder)


def encoder_of(past: Past, make: Make, config: Any = None) -> Any:
    """The encoder of the run, or the one of `config`, behind which eval/refit.py fits the router again; None for a router that reads text.

    Raises InputError for `config` beside a router that reads text, and where the run's own encoder no longer gives the vectors it was
    trained on.
    """
    if past.replayed is not None and config is not None:
        mend = "Train it again: python train.py cascade=... encoder=..."
        raise InputError("a cascade leaves with the encoder it was trained with", where=str(past.folder), expected="no encoder=", mend=mend)
    if past.fitted.router.reads == "text":
        if config is not None:
            raise InputError("this router reads text itself", where=str(past.folder), expected="no encoder", found="encoder=...")
        return None
    encoder = make(past.manifest["config"]["encoder"] if config is None else config)
    if config is None and is_other(past, encoder):
        raise InputError(
            "this encoder is not the one the router was trained on",
            expected=past.manifest["encoder"][:12],
            found=encoder.fingerprint[:12],
            mend="Train again: a head fits the embeddings it has seen.",
        )
    return encoder


def is_other(past: Past, encoder: Any) -> bool:
    """Whether this encoder's vectors are others than those that the run was trained on; never for a router that reads text (None)."""
    return encoder is not None and encoder.fingerprint != past.manifest["encoder"]


def on_other_data(past: Past, other: Other, make: Make, wanted: Wanted | None = None) -> list[Past]:
    """The same router on another table, on the questions that it has not been trained on: once, or once for each pair that is wanted.

    Queries are scored once, for a router's scores do not depend on the pair. The controls that learn from a training part are left out:
    there is none here. Raises InputError for other models that nothing is said of, for further training tables that changed, and for too
    few queries.
    """
    require_router(past)
    trained = past.outcomes.pool.name
    chosen = (wanted or Wanted()).on(trained, judged(other.table), str(past.folder))
    known, queries = _known(past, make), other.table.queries
    rows = np.array([row for row, text in enumerate(queries.text) if _question(text) not in known], dtype=np.int64)
    if len(rows) < ENOUGH:
        raise InputError("too few queries that the run has not seen", expected=f"at least {ENOUGH}", found=f"{len(rows)} of {len(queries)}")
    encoder, unseen = encoder_of(past, make), queries.take(rows)
    scored = past.fitted.router.predict(unseen if encoder is None else unseen.encoded(encoder.encode(unseen.text)))
    predictions = past.fitted.calibration(scored)
    seen = [_on_pair(past, other, rows, predictions, roles) for roles in chosen]
    return seen if len(seen) == 1 else [replace(item, name=f"{past.name} on {item.roles}") for item in seen]


def _question(text: str) -> str:
    """The normalised text without lettered options below it: MMLU-Pro asks MMLU's questions with more and other options."""
    return normalise(OPTIONS.split(text, maxsplit=1)[0])


def _known(past: Past, make: Make) -> set[str]:
    """The questions that the run may have learned from: all of its own data, and its further training tables, which are read again."""
    tables = [past.outcomes, *further_tables(past, make).values()]
    return {_question(text) for table in tables for text in table.queries.text}


def further_tables(past: Past, make: Make) -> dict[str, Outcomes | Battles]:
    """The run's further training tables, by name, read again. Raises InputError for one that is no longer what the run learned from."""
    tables = {}
    for name, config in (past.manifest["config"].get("extra") or {}).items():
        source = make(config)
        tables[name] = source.load()
        now, then = source.provenance(), past.manifest["extra"][name]
        if any(plain(now.get(key)) != then.get(key) for key in ("revision", "files")):
            raise InputError(
                "a further training table changed since the run was trained: what the run has seen cannot be told",
                where=f"extra.{name}",
                expected=f"revision {then.get('revision')}",
                found=str(now.get("revision")),
                mend="Bring it back, or train again.",
            )
    return tables


def _on_pair(past: Past, other: Other, rows: Ints, predictions: Predictions, roles: Roles | None) -> Past:
    """The run on one table: of its own models, or of `roles` in their places. Costs of other models are their mean costs in that table."""
    trained, promise = past.outcomes.pool.name, past.promise
    names = trained if roles is None else transfer.placed(trained, promise, roles)
    outcomes, withheld = other.models(names), {"leakage": _unchecked(past)}
    if roles is not None and names != trained:
        withheld |= dict.fromkeys(transfer.MEANINGLESS, transfer.reason(promise))
        predictions = Predictions(predictions.quality, np.tile(column_means(outcomes.cost), (len(rows), 1)))
        promise = transfer.carried(promise, roles)
    rivals = {}
    if len(trained) == 2:
        strong = outcomes.pool.index(promise.strong)
        rivals["short_first"] = controls.shortest_first(outcomes.queries.take(rows), predictions.cost, strong)
    told = {
        "data": other.about["name"],
        "labels": other.about["labels"],
        "evaluation": f"trained on {past.described['data']}" + (f" for {past.trained_for}" if roles is not None else ""),
        "leakage": None,
        "n_calibration": 0,
        "seen": len(outcomes) - len(rows),
        "transfer": None if roles is None else {"run": past.name, "weak": past.promise.weak, "strong": past.promise.strong},
    }
    fitted = replace(past.fitted, rows=rows, fold=np.zeros(len(rows), dtype=np.int64), predictions=predictions)
    described = {**past.described, **told}
    return replace(
        past, promise=promise, outcomes=outcomes, fitted=fitted, rivals=rivals, described=described, roles=roles, withheld=withheld
    )


def _unchecked(past: Past) -> str:
    """Why the figures of leakage are not there: what was left out, and what was not looked for."""
    further = ", ".join(past.manifest["config"].get("extra") or {})
    tables = "the run's own data" + (f" or in its further training tables ({further})" if further else "")
    return f"questions that stand word for word (options aside) in {tables} are left out and counted (seen); near ones were not looked for"


def judge(past: Past, judging: Judging, rng: np.random.Generator) -> Judged:
    """The judgement by today's settings; the operating points are those of the run, held to their promise."""
    found = assess(past.name, past.fitted, past.outcomes, judging, rng, past.rivals, promise=past.promise, replayed=past.replayed)
    ids = past.outcomes.queries.id[past.fitted.rows]
    metrics = {**past.described, **found.metrics} | dict.fromkeys(past.withheld)
    metrics["withheld"] = {**found.metrics["withheld"], **past.withheld}
    return Judged(
        past.name, past.manifest, metrics, found.curves, tuple(ids), artifact.content_hash(past.outcomes), found.replicates, past.roles
    )


def told_apart(pasts: Sequence[Past]) -> list[Past]:
    """The runs under the routers' names; under the run folder's where one stands more than once."""
    names = distinct([past.name for past in pasts], [past.folder for past in pasts])
    return [replace(past, name=name) for past, name in zip(pasts, names, strict=True)]


def distinct(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The routers' names; the run folder's where one stands more than once."""
    shown = [name if names.count(name) == 1 else folder.name for name, folder in zip(names, folders, strict=True)]
    return [name if shown.count(name) == 1 else f"{name} ({shown[:i].count(name) + 1})" for i, name in enumerate(shown)]


def paired(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Every two judgements of the same queries by the same grades and costs: the difference, resample by resample."""
    out = []
    for i, a in enumerate(judged):
        for b in judged[i + 1 :]:
            if a.content != b.content or a.ids != b.ids or len(a.replicates) != len(b.replicates):
                continue
            difference = a.metrics["verdict"]["difference"] - b.metrics["verdict"]["difference"]
            out.append({"a": a.name, "b": b.name, "difference": difference, "ci": stats.interval(a.replicates - b.replicates)})
    return out


def sentences(judged: Sequence[Judged], compared: Sequence[Mapping[str, Any]]) -> list[str]:
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
    alike = sum(a.roles == b.roles for i, a in enumerate(judged) for b in judged[i + 1 :])  # two pairs of models never ask for it
    skipped = alike - len(compared)
    if skipped:
        lines.append(f"{skipped} pairs of runs were not compared: they did not judge the same queries by the same grades and costs.")
    return lines
