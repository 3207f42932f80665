"""Asks the pocket models the pocket questions by collect.py itself, and keeps the outcomes and the sampled answers beside them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from routewright.core.run import ROOT
from routewright.core.types import InputError
from routewright.data.pocket import MODELS, POCKET

FILES = ("outcomes.parquet", "samples.parquet")
SAMPLES = 5


def collect(scratch: Path, say: Callable[[str], None]) -> None:
    """Runs collect.py over every question and model, answers, log-probabilities and samples, into `scratch`; copies FILES to the benchmark.

    The calls are kept in `scratch`: a stopped run goes on. Raises InputError where collect.py ends with an error.
    """
    arms = ",".join(MODELS)
    words = [
        f"arms=[{arms}]",
        "limit=null",
        f"samples={SAMPLES}",
        "encoder@meaning.encoder=minilm",
        "backend.batch_size=256",
        f"outputs={scratch}",
    ]
    command = [sys.executable, str(ROOT / "collect.py"), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    say(done.stdout)
    if done.returncode:
        raise InputError("the pocket models could not be collected from", found=f"exit code {done.returncode} of collect.py")
    folder = Path(done.stdout.splitlines()[-1])
    for name in FILES:
        shutil.copyfile(folder / name, POCKET / name)
