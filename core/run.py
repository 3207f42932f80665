"""One run of an entry point: its environment, seed, stages and manifest, in a folder that appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routewright.core.files import json_bytes, sha256, sync_folder, write_atomic, write_json
from routewright.core.settings import check
from routewright.core.types import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parent.parent
log = logging.getLogger("routewright")

# one place for every entry point; what the user has set already stays
ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait made trees several times slower beside any other work
}
PACKAGES = (
    "routewright",
    "numpy",
    "onnxruntime",
    "tokenizers",
    "onnx",
    "torch",
    "scikit-learn",
    "scipy",
    "pandas",
    "pyarrow",
    "hydra-core",
    "mlflow",
    "openai",
    "transformers",
)


def prepare() -> None:
    """Sets the environment and sends the log to stderr: stdout is for results."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s", force=True)
    for noisy in ("alembic", "httpx", "mlflow", "matplotlib", "git", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def entry(kind: str) -> Callable[[Callable[[DictConfig, Run], None]], Callable[[], None]]:
    """Makes `task(cfg, run)` an entry point configured by configs/<kind>.yaml: composes, opens a run folder, finishes it, prints its path.

    What the user can mend ends as one line on stderr and exit code 1, alone or in a sweep.
    """

    def decorate(task: Callable[[DictConfig, Run], None]) -> Callable[[], None]:
        def job(cfg: DictConfig) -> None:
            from hydra.core.hydra_config import HydraConfig
            from hydra.errors import CompactHydraException
            from hydra.types import RunMode

            if cfg.hub:
                os.environ["HF_HUB_OFFLINE"] = "0"
            try:
                check(cfg, ROOT / "configs", choices())
                with Run.open(kind, cfg) as run:
                    task(cfg, run)
            except BaseException as error:
                line = mendable(error)
                if line is None:
                    raise
                if HydraConfig.get().mode == RunMode.RUN or isinstance(error, KeyboardInterrupt):
                    sys.exit(f"{kind}: {line}")  # an interrupt ends a sweep too
                # a sweep goes on with its other jobs, shows only the first exception at its end, and so must say each at once
                log.error("%s: job %s (%s): %s", kind, HydraConfig.get().job.num, ",".join(overrides()), line)
                raise CompactHydraException(f"{kind}: {line}") from None

        @wraps(task)
        def main() -> None:
            prepare()
            signal.signal(signal.SIGTERM, _terminated)
            import hydra

            hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name=kind)(job)()

        return main

    return decorate


def _terminated(number: int, frame: object) -> None:
    """SIGTERM unwinds as Ctrl-C does, so that the unfinished folder is removed."""
    raise KeyboardInterrupt


def mendable(error: BaseException) -> str | None:
    """One line for what the user can mend, or None for what is a fault of ours."""
    from omegaconf.errors import MissingMandatoryValue

    cause = error.__cause__
    if isinstance(cause, InputError | MissingMandatoryValue | OSError) and type(error).__name__ == "InstantiationException":
        error = cause
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MissingMandatoryValue):
        return f"a setting has no value yet: {error.full_key}. Give it on the command line: {error.full_key}=..."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}. Name another place, for example outputs=..., or mend this one."
    return "interrupted; nothing was kept of this run" if isinstance(error, KeyboardInterrupt) else None


class Run:
    """A run being made. Everything is written to a hidden folder; `finish` writes the manifest last and renames it into place."""

    def __init__(self, kind: str, cfg: DictConfig, name: str, outputs: Path) -> None:
        self.kind, self.cfg, self.name, self.outputs = kind, cfg, name, outputs
        self.folder = outputs / ".partial" / f"{name}-{os.getpid()}-{time.monotonic_ns()}"
        self.facts: dict[str, Any] = {}
        self.timings: dict[str, dict[str, float]] = {}
        self.after: list[Callable[[Path], None]] = []
        self.closing: list[str] = []
        self.final: Path | None = None

    @classmethod
    @contextmanager
    def open(cls, kind: str, cfg: DictConfig) -> Iterator[Run]:
        """A run folder for this config; on any error, an interrupt too, it is removed and nothing is left."""
        from omegaconf import OmegaConf

        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
        run = cls(kind, cfg, f"{kind}-{_label(cfg)}-{_digest(plain)}", Path(str(cfg.outputs)))
        try:
            run.folder.mkdir(parents=True)  # inside: a signal that comes right behind it must not leave the folder
            yield run
            run.finish()
        except BaseException:
            shutil.rmtree(run.folder, ignore_errors=True)
            raise

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose, so that drawing more for one does not move the others."""
        return np.random.default_rng([int(self.cfg.seed), zlib.crc32(purpose.encode())])

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage (wall and CPU seconds) for the manifest and says that it is done."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.timings[name] = {"wall_s": round(time.perf_counter() - wall, 3), "cpu_s": round(time.process_time() - cpu, 3)}
        log.info("%-10s %6.1f s", name, self.timings[name]["wall_s"])

    def write_json(self, name: str, value: Any) -> None:
        write_json(self.folder / name, value)

    def write_text(self, name: str, text: str) -> None:
        write_atomic(self.folder / name, lambda stream: stream.write(text.encode()))

    def say(self, text: str) -> None:
        """Text for stdout, held back until the folder is in place."""
        self.closing.append(text)

    def finish(self) -> None:
        """Hashes every file, writes manifest.json last, renames the folder to the first free name, then tells the user and the trackers."""
        files = {path.relative_to(self.folder).as_posix(): sha256(path) for path in sorted(self.folder.rglob("*")) if path.is_file()}
        write_json(self.folder / "manifest.json", self.manifest() | {"files": files})
        self.final = _claim(self.folder, self.outputs / self.name)
        if self.final.name != self.name:
            log.info("%s is finished and stays as it is: this run is %s", self.outputs / self.name, self.final)
        sys.stdout.write("\n".join([*self.closing, str(self.final)]) + "\n")
        sys.stdout.flush()
        for hook in self.after:
            hook(self.final)

    def manifest(self) -> dict[str, Any]:
        """What made this run: commit, config, data, versions, seeds, timings."""
        from omegaconf import OmegaConf

        commit, dirty = _commit()
        return {
            "kind": self.kind,
            "name": self.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": [Path(sys.argv[0]).name, *overrides()],
            "choices": choices(),
            "config": OmegaConf.to_container(self.cfg, resolve=True, throw_on_missing=False),
            "seed": int(self.cfg.seed),
            "commit": commit,
            "dirty": dirty,
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "versions": {name: version for name in PACKAGES if (version := _version(name))},
            "timings": self.timings,
            **self.facts,
        }


def choices() -> dict[str, str]:
    """Which file of each config group was chosen: {"router": "mf", ...}."""
    from hydra.core.hydra_config import HydraConfig

    return {k: str(v) for k, v in HydraConfig.get().runtime.choices.items() if v and not k.startswith("hydra/")}


def overrides() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def _label(cfg: DictConfig) -> str:
    """The readable part of a run's name: what the user chose, or the run it starts from."""
    picked = choices()
    parts = [picked[group] for group in ("data", "router", "cascade", "student", "questions", "backend") if group in picked]
    if cfg.get("run") is not None:
        parts.append(Path(str(cfg.run)).name)
    if cfg.get("runs") is not None:
        parts.append(f"{len(cfg.runs)}-runs")
    return "-".join([*parts, f"seed{cfg.seed}"])


def _digest(config: Any) -> str:
    """Eight hex digits of everything that can change the result: not of where it is written or tracked."""
    kept = {key: value for key, value in config.items() if key not in ("outputs", "tracking", "hydra")}
    return hashlib.sha256(json_bytes(kept)).hexdigest()[:8]


def _claim(folder: Path, target: Path) -> Path:
    """Renames folder to target, or to target-2, target-3...: renaming onto a folder with files fails, so two runs cannot take one name."""
    sync_folder(folder)
    for attempt in range(1, 10_000):
        name = target if attempt == 1 else target.with_name(f"{target.name}-{attempt}")
        if name.exists():
            continue
        try:
            folder.rename(name)
        except OSError:
            if name.exists():
                continue
            raise
        sync_folder(name.parent)
        return name
    raise InputError(f"no free name beside {target}", mend="Remove old runs from the outputs folder.")


def told(manifest: dict[str, Any]) -> dict[str, str]:
    """A manifest's facts in short, for people: what made a run and how to make it again."""
    versions, data = manifest["versions"], manifest.get("data", {})
    short = {
        "command": "python " + " ".join(manifest["command"]),
        "commit": manifest["commit"][:12] + (" with uncommitted changes" if manifest["dirty"] else ""),
        "seed": str(manifest["seed"]),
        "data": f"{data.get('name', '')} sha256 {data.get('content_sha256', '')[:12]}",
        "prices": str((data.get("prices") or {}).get("date", "the data's own costs")),
        "encoder": str(manifest.get("encoder", ""))[:12],
        "python": manifest["python"],
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "seconds": ", ".join(f"{stage} {spent['wall_s']:.1f}" for stage, spent in manifest["timings"].items()),
    }
    return {name: value for name, value in short.items() if value}


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def evenly(n: int, count: int) -> np.ndarray:
    """At most `count` row numbers spread evenly over n rows."""
    return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(np.int64))


def _commit() -> tuple[str, bool | None]:
    """The commit of this checkout and whether it had changes; ("unknown", None) outside git."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return "unknown", None

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([git, "-C", str(ROOT), *words], capture_output=True, text=True, check=False)

    head = ask("rev-parse", "HEAD")
    if head.returncode:
        return "unknown", None
    return head.stdout.strip(), bool(ask("status", "--porcelain").stdout.strip())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def load_manifest(folder: Path) -> dict[str, Any]:
    """A finished run's manifest, after checking the sha256 of every file. Raises InputError by name for what is missing or changed."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise InputError(
            f"{folder} is not a finished run",
            expected="a folder with manifest.json",
            found="none there",
            mend="Train one: python train.py.",
        )
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        files = dict(found["files"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            "manifest.json is broken", where=str(folder), expected="the JSON that the run wrote", mend="Train again."
        ) from None
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise InputError(f"{name} is missing", where=str(folder), mend="Restore it or train again.")
        if (got := sha256(folder / name)) != expected:
            raise InputError(f"{name} was changed after the run", where=str(folder), expected=f"sha256 {expected[:12]}", found=got[:12])
    return found
