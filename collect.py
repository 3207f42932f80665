"""Asks models questions, grades and prices every answer, and writes outcomes that train.py takes as they are.

python collect.py
python collect.py backend=openai arms=[gpt-4o-mini,gpt-4o] questions=table questions.path=mine.csv grader=number budget_usd=5
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from routewright.core import run


@run.entry("collect")
def main(cfg: DictConfig, job: run.Run) -> None:
    from hydra.utils import instantiate

    from routewright.data import collection, records
    from routewright.data.progress import Progress
    from routewright.data.store import Store

    with job.stage("load"):
        parts = {
            name: instantiate(cfg[name])
            for name in ("backend", "questions", "grader", "verifier", "judge", "prices", "meaning")
            if cfg.get(name)
        }
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        setup = collection.Setup(plain, parts, job.rng)
        job.facts |= setup.facts()
    path = Path(str(cfg.store))
    with job.stage("collect"), Store(path) as store, Progress() as progress:
        try:
            collected = asyncio.run(setup.collect(store, watch=progress.show, tell=progress.tell))
        except KeyboardInterrupt:
            sys.exit(f"collect: interrupted; every answer that came back is kept in {path}, and the same command goes on from there")
        files = records.save(job.folder, collected, setup.questions, setup.calls(store), job.facts["collection"])
    with job.stage("report"):
        found = collection.summary(collected, setup)
        job.write_json("collection.json", found)
        job.facts["collection"] |= {"files": [file.name for file in files]}
    job.say(collection.text(found))


if __name__ == "__main__":
    main()
