"""Where runs are compared: MLflow in a local sqlite file, imported only when a run is logged, or nowhere."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.types import InputError

GRAPH = "router.onnx"
SERVED_BY = ("mlflow", "numpy", "onnx", "onnxruntime", "pandas")  # what loading the model as pyfunc needs


class NoTracker:
    """Logs nothing."""

    def log(self, folder: Path, *, params: Mapping[str, Any], metrics: Mapping[str, Any], figures: Mapping[str, bytes]) -> None:
        """Accepts a finished run and leaves it where it is."""


class MlflowTracker:
    """Logs parameters, metrics, the curve plot, the metrics file, the report and the bundle of a finished run.

    The logged bundle of a router is an MLflow model too (`runs:/<run>/bundle`, flavours onnx and pyfunc), stored once: beside its files
    stands an MLmodel that points to router.onnx. uri: an MLflow tracking address, by default a sqlite file. artifacts: the folder of the
    logged files. register: a name in the model registry of which each run's router becomes the next version, None: none.
    """

    def __init__(self, uri: str, experiment: str, artifacts: str, register: str | None = None) -> None:
        self.uri, self.experiment, self.artifacts, self.register = uri, experiment, artifacts, register

    def log(self, folder: Path, *, params: Mapping[str, Any], metrics: Mapping[str, Any], figures: Mapping[str, bytes]) -> None:
        """One MLflow run, named as the folder. params are flattened by dots; metrics that are not numbers are left to metrics.json.

        Raises InputError where MLflow refuses, and where a model is to be registered and the run has no router's bundle: the folder is
        complete all the same.
        """
        os.environ.setdefault("MLFLOW_ENABLE_DB_MIGRATIONS_AT_STARTUP", "true")
        import mlflow

        described = _router(folder)
        if self.register is not None and described is None:
            what, mend = f"there is no router to register; the run is complete in {folder}", "Use tracking.register=null."
            raise InputError(what, where="tracking.register", expected="a run with a router's bundle", found=self.register, mend=mend)
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
            if described is not None:
                _describe_model(client, run.info.run_id, described)
            client.set_terminated(run.info.run_id)
            if self.register is not None and described is not None:
                _register(client, self.register, run.info, described)
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
            _log_bytes(client, key, "plots", {name: data})
        for name in ("metrics.json", "report.html", "manifest.json", "curve.parquet"):
            if (folder / name).is_file():
                client.log_artifact(key, str(folder / name))
        if (folder / "bundle").is_dir():
            client.log_artifacts(key, str(folder / "bundle"), "bundle")


def _log_bytes(client: Any, key: str, place: str, files: Mapping[str, bytes]) -> None:
    """Files that lie in no run folder."""
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        for name, data in files.items():
            (Path(temporary) / name).write_bytes(data)
        client.log_artifacts(key, temporary, place)


def _router(folder: Path) -> dict[str, Any] | None:
    """bundle.json of a run with a router's bundle, else None: a cascade asks models between its decisions and is no function of tokens."""
    path = folder / "bundle" / "bundle.json"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return found if found is not None and found["kind"] == "router" else None


def _describe_model(client: Any, key: str, described: Mapping[str, Any]) -> None:
    """What makes the logged bundle an MLflow model: MLmodel and the environment to serve it in."""
    from mlflow import onnx, pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    whole, real = np.dtype(np.int64), np.dtype(np.float32)
    inputs = Schema([TensorSpec(whole, (-1, -1), name) for name in ("input_ids", "attention_mask")])
    outputs: list[Any] = [TensorSpec(real, (-1, len(described["models"])), "quality")]
    if described["familiarity"] is not None:
        outputs.append(TensorSpec(real, (-1,), "familiarity"))
    facts = {"bundle": described["sha256"]["bundle.json"], "name": described["name"], "verdict": described["verdict"]["word"]}
    facts |= {"models": [model["name"] for model in described["models"]], "fallback": described["fallback"]}
    facts |= {"points": {name: point["knob"] for name, point in described["operating_points"].items()}}
    model = Model(artifact_path="bundle", run_id=key, signature=ModelSignature(inputs, Schema(outputs)), metadata=facts)
    pyfunc.add_to_model(model, loader_module="mlflow.onnx", data=GRAPH, python_env="python_env.yaml")
    version = metadata.version("onnx")
    model.add_flavor(onnx.FLAVOR_NAME, onnx_version=version, data=GRAPH, providers=["CPUExecutionProvider"], onnx_session_options=None)
    environment = f"python: {platform.python_version()}\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n"
    pinned = "".join(f"{name}=={metadata.version(name)}\n" for name in SERVED_BY)
    files = {"MLmodel": model.to_yaml(), "python_env.yaml": environment, "requirements.txt": pinned}
    _log_bytes(client, key, "bundle", {name: text.encode() for name, text in files.items()})


def _register(client: Any, name: str, info: Any, described: Mapping[str, Any]) -> None:
    """The logged bundle as the next version of a registered model, which is made where there is none of this name."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {"bundle": described["sha256"]["bundle.json"], "verdict": described["verdict"]["word"]}
    told = described["verdict"]["sentence"]
    client.create_model_version(name, f"{info.artifact_uri}/bundle", info.run_id, tags=tags, description=told)


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
