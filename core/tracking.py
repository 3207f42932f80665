"""Where runs are compared: MLflow in a local sqlite file, imported only when a run is logged, or nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routewright.core.types import InputError


class NoTracker:
    """Logs nothing."""

    def log(self, folder: Path, *, params: Mapping[str, Any], metrics: Mapping[str, Any], figures: Mapping[str, bytes]) -> None:
        """Accepts a finished run and leaves it where it is."""


class MlflowTracker:
    """Logs parameters, metrics, the curve plot, the metrics file, the report and the bundle of a finished run.

    uri: an MLflow tracking address, by default a sqlite file. artifacts: the folder of the logged files.
    """

    def __init__(self, uri: str, experiment: str, artifacts: str) -> None:
        self.uri, self.experiment, self.artifacts = uri, experiment, artifacts

    def log(self, folder: Path, *, params: Mapping[str, Any], metrics: Mapping[str, Any], figures: Mapping[str, bytes]) -> None:
        """One MLflow run, named as the folder. params are flattened by dots; metrics that are not numbers are left to metrics.json."""
        os.environ.setdefault("MLFLOW_ENABLE_DB_MIGRATIONS_AT_STARTUP", "true")
        import mlflow

        if self.uri.startswith("sqlite:///"):
            # an unwritable place is found here, with its name, rather than deep in the database driver
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            client = mlflow.MlflowClient(tracking_uri=self.uri)
            experiment = client.get_experiment_by_name(self.experiment)
            place = Path(self.artifacts).resolve().as_uri()
            key = experiment.experiment_id if experiment else client.create_experiment(self.experiment, artifact_location=place)
            run = client.create_run(key, run_name=folder.name, tags={"folder": str(folder)})
            self._fill(client, run.info.run_id, folder, params, metrics, figures)
            client.set_terminated(run.info.run_id)
        except mlflow.exceptions.MlflowException as error:
            raise InputError(
                f"MLflow refused the run; it is complete in {folder}",
                where=self.uri,
                found=str(error).splitlines()[0],
                mend="Or use tracking=none.",
            ) from error

    def _fill(
        self, client: Any, key: str, folder: Path, params: Mapping[str, Any], metrics: Mapping[str, Any], figures: Mapping[str, bytes]
    ) -> None:
        import time

        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        flat_params = [Param(name, str(value)[:500]) for name, value in flatten(params)]
        # a bool is a number to Python and a word to a reader
        numbers = {name: float(value) for name, value in flatten(metrics) if isinstance(value, int | float) and not isinstance(value, bool)}
        flat_metrics = [Metric(name, value, now, 0) for name, value in numbers.items()]
        for begin in range(0, max(len(flat_params), len(flat_metrics)), 100):
            client.log_batch(key, metrics=flat_metrics[begin : begin + 100], params=flat_params[begin : begin + 100])
        for name, data in figures.items():
            self._image(client, key, name, data)
        for name in ("metrics.json", "report.html", "manifest.json", "curve.parquet"):
            if (folder / name).is_file():
                client.log_artifact(key, str(folder / name))
        if (folder / "bundle").is_dir():
            client.log_artifacts(key, str(folder / "bundle"), "bundle")

    @staticmethod
    def _image(client: Any, key: str, name: str, data: bytes) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / name
            path.write_bytes(data)
            client.log_artifact(key, str(path), "plots")


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as (dotted name, leaf) pairs, in names that MLflow accepts; lists and nulls are left out of the leaves of metrics."""
    out: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{_safe(str(key))}"
        if isinstance(value, Mapping):
            out += flatten(value, f"{name}.")
        elif value is not None:
            out.append((name, value))
    return out


def _safe(name: str) -> str:
    """MLflow's alphabet for names: letters, digits, _ - . space : /"""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
