"""Run folders: whole or absent, never overwritten, verified when they are read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from routewright.core import files, run
from routewright.core.types import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def config(tmp_path: Path):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides=[f"outputs={tmp_path}/outputs", "tracking=none"], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        yield cfg
    HydraConfig.instance().cfg = None


def test_the_folder_appears_with_its_manifest(config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run.Run.open("train", config) as job:
        job.write_json("metrics.json", {"a": 1})
        assert not job.folder.parent.parent.joinpath(job.name).exists()
        job.say("the result")
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert folder == job.final
    manifest = run.load_manifest(folder)
    assert manifest["files"]["metrics.json"] == files.sha256(folder / "metrics.json")
    assert manifest["seed"] == 0
    assert manifest["choices"]["router"] == "mf"
    assert {"commit", "versions", "timings", "config"} <= set(manifest)


def test_a_finished_run_is_never_overwritten(config, caplog: pytest.LogCaptureFixture) -> None:
    finals = []
    for _ in range(3):
        with run.Run.open("train", config) as job:
            job.write_json("metrics.json", {})
        finals.append(job.final)
    assert [final.name for final in finals] == [job.name, f"{job.name}-2", f"{job.name}-3"]


@pytest.mark.parametrize("error", [InputError("bad"), KeyboardInterrupt(), RuntimeError("boom")])
def test_nothing_is_left_of_a_failed_run(config, tmp_path: Path, error: BaseException) -> None:
    def interrupted() -> None:
        with run.Run.open("train", config) as job:
            job.write_json("metrics.json", {})
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()] == []


def test_a_changed_file_is_named(config) -> None:
    with run.Run.open("train", config) as job:
        job.write_json("metrics.json", {"a": 1})
    assert job.final is not None
    (job.final / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=r"metrics\.json was changed"):
        run.load_manifest(job.final)
    (job.final / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"metrics\.json is missing"):
        run.load_manifest(job.final)


def test_streams_are_apart_and_repeatable(config) -> None:
    with run.Run.open("train", config) as job:
        first, again, other = job.rng("fit"), job.rng("fit"), job.rng("judge")
        drawn = first.random(5)
        assert np.array_equal(drawn, again.random(5))
        assert not np.array_equal(drawn, other.random(5))


def test_the_environment_is_set_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in run.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # the user's own word stays
    run.prepare()
    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["HF_HUB_OFFLINE"] == "0"


def test_canonical_json_is_the_same_bytes_and_has_no_nan() -> None:
    value = {"b": np.float64("nan"), "a": np.array([1, 2]), "c": (Path("x"), np.int64(3))}
    assert files.json_bytes(value) == files.json_bytes(dict(reversed(value.items())))
    assert json.loads(files.json_bytes(value)) == {"a": [1, 2], "b": None, "c": ["x", 3]}


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """SIGKILL in the middle of a write: the reader still finds the old content whole."""
    target = tmp_path / "value.txt"
    files.write_atomic(target, lambda stream: stream.write(b"old"))
    code = f"""
import time
from pathlib import Path
from routewright.core.files import write_atomic

def slow(stream):
    stream.write(b"ne")
    stream.flush()
    print("writing", flush=True)
    time.sleep(60)

write_atomic(Path({str(target)!r}), slow)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.wait()
    assert target.read_bytes() == b"old"


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    def fails(stream) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomic(tmp_path / "value.txt", fails)
    assert list(tmp_path.iterdir()) == []


def test_entry_points_start_fast() -> None:
    """Composing and printing the configuration imports nothing heavy."""
    code = """
import runpy, sys
sys.argv = ["train.py", "--cfg", "job"]
try:
    runpy.run_path("train.py", run_name="__main__")
except SystemExit:
    pass
heavy = {"torch", "sklearn", "pandas", "mlflow", "transformers", "matplotlib", "onnx", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CONFIGS.parent, capture_output=True)
