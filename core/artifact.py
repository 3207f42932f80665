"""What a trained run keeps of its router: weights as safetensors, predictions as Parquet; and how they come back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.calibrate import Affine
from routewright.core.columns import restored
from routewright.core.contracts import Router
from routewright.core.files import write_atomic
from routewright.core.run import load_manifest
from routewright.core.types import Curve, Floats, InputError, Ints, Outcomes, Predictions, Strings

WEIGHTS = "weights.safetensors"
SCORES = "predictions.parquet"
CURVES = "curve.parquet"
REPLAY = "replay.parquet"


def save_weights(folder: Path, router: Router, calibration: Affine) -> Path:
    """router.* and calibration.* arrays in one safetensors file."""
    state = {f"router.{name}": value for name, value in router.state().items()}
    return save_state(folder, state | {f"calibration.{name}": value for name, value in calibration.state().items()})


def save_state(folder: Path, state: Mapping[str, np.ndarray[Any, Any]]) -> Path:
    """Named arrays in one safetensors file."""
    from safetensors.numpy import save

    data = save({name: np.ascontiguousarray(value) for name, value in sorted(state.items())})
    return write_atomic(folder / WEIGHTS, lambda stream: stream.write(data))


def require_weights(folder: Path) -> None:
    """Raises InputError for a run that was judged and kept no router."""
    if not (folder / WEIGHTS).is_file():
        mend = "Train it again with export=true."
        raise InputError("this run kept no router", where=str(folder), expected=WEIGHTS, found="a run with export=false", mend=mend)


def load_weights(folder: Path, router: Router) -> tuple[Router, Affine]:
    """The fitted router and its calibration, into a fresh router of the same config."""
    from safetensors.numpy import load_file

    require_weights(folder)
    state = load_file(folder / WEIGHTS)
    parts: dict[str, dict[str, np.ndarray]] = {"router": {}, "calibration": {}}
    for name, value in state.items():
        owner, _, key = name.partition(".")
        parts[owner][key] = value
    return restored(router, parts["router"]), Affine.load(parts["calibration"])


@dataclass(frozen=True, eq=False)
class Scores:
    """The calibrated predictions behind a run's metrics: id[t], fold[t], quality and cost (t, m), and the fitted controls' (t, m) each."""

    id: Strings
    fold: Ints
    models: tuple[str, ...]
    predictions: Predictions
    rivals: Mapping[str, Floats]


def save_scores(folder: Path, scores: Scores) -> Path:
    """One row a judged query; columns quality:<model>, cost:<model>, <control>:<model>."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"id": scores.id.tolist(), "fold": scores.fold}
    for kind, table in {"quality": scores.predictions.quality, "cost": scores.predictions.cost, **scores.rivals}.items():
        columns |= {f"{kind}:{model}": table[:, j] for j, model in enumerate(scores.models)}
    return write_atomic(folder / SCORES, lambda stream: pq.write_table(pa.table(columns), stream, compression="zstd"))


def load_scores(folder: Path, models: tuple[str, ...]) -> Scores:
    import pyarrow.parquet as pq

    table = pq.read_table(folder / SCORES)
    kinds = dict.fromkeys(name.split(":", 1)[0] for name in table.column_names if ":" in name)
    read = {kind: np.stack([table.column(f"{kind}:{model}").to_numpy() for model in models], axis=1) for kind in kinds}
    predictions = Predictions(read.pop("quality"), read.pop("cost"))
    return Scores(np.array(table.column("id").to_pylist(), dtype=object), table.column("fold").to_numpy(), models, predictions, read)


def save_replay(folder: Path, points: Mapping[str, np.ndarray[Any, Any]]) -> Path:
    """replay.parquet: one row a judged query, a column `name:k` for each operating point k of points[name] (k, t)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"{name}:{k}": row for name, table in points.items() for k, row in enumerate(table)}
    return write_atomic(folder / REPLAY, lambda stream: pq.write_table(pa.table(columns), stream, compression="zstd"))


def load_replay(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The inverse of save_replay: (k, t) arrays by name. Raises InputError where the run kept none."""
    import pyarrow.parquet as pq

    if not (folder / REPLAY).is_file():
        raise InputError("this run kept no replay", where=str(folder), expected=REPLAY, found="none", mend="Train it again.")
    table = pq.read_table(folder / REPLAY)
    names = dict.fromkeys(column.rpartition(":")[0] for column in table.column_names)
    counts = {name: sum(column.rpartition(":")[0] == name for column in table.column_names) for name in names}
    return {name: np.stack([table.column(f"{name}:{k}").to_numpy() for k in range(counts[name])]) for name in names}


def save_curves(folder: Path, curves: Mapping[str, Curve], models: Sequence[str]) -> Path:
    """curve.parquet: one row an operating point; columns curve, knob, cost (USD a query), quality, share:<model>."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    every = list(curves.values())
    share = np.concatenate([curve.share for curve in every])
    table: dict[str, Any] = {"curve": [name for name, curve in curves.items() for _ in curve.knob]}
    table |= {name: np.concatenate([getattr(curve, name) for curve in every]) for name in ("knob", "cost", "quality")}
    table |= {f"share:{model}": share[:, j] for j, model in enumerate(models)}
    return write_atomic(folder / CURVES, lambda stream: pq.write_table(pa.table(table), stream, compression="zstd"))


def open_run(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """A finished training run's folder and verified manifest. Raises InputError for anything else."""
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"run {str(path)!r} is not there", expected="the folder that train.py printed last", found="no such folder")
    manifest = load_manifest(folder)
    if manifest["kind"] != "train":
        raise InputError(f"{folder} is not a training run", expected="a run of train.py", found=f"a run of {manifest['kind']}.py")
    return folder, manifest


def content_hash(outcomes: Outcomes) -> str:
    """sha256 over texts, groups, models, quality and cost: the same table has the same hash wherever it was read from."""
    digest = hashlib.sha256()
    for column in (outcomes.queries.id, outcomes.queries.text, outcomes.queries.group, outcomes.pool.name):
        for value in column:
            encoded = value.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    digest.update(np.ascontiguousarray(outcomes.quality).tobytes())
    digest.update(np.ascontiguousarray(outcomes.cost).tobytes())
    return digest.hexdigest()
