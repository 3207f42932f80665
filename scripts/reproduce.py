"""A paper's table beside ours. RouteLLM: what the recorded data decide, exactly, and its routers trained here; exit code 1 where a figure
differs. Cascade routing: routing, cascades and both at once, on a made-up table or RouterBench; exit code 1 where the order is another.

python scripts/reproduce.py routellm --routers random,mf,sw_ranking
python scripts/reproduce.py cascade_routing
python scripts/reproduce.py cascade_routing --data routerbench --dataset routerbench_0shot.csv
python scripts/reproduce.py routellm --hub --encoder openai --arena lmsys/lmsys-arena-human-preference-55k --judged routellm/gpt4_dataset
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from routewright.core import run
from routewright.core.types import Battles, InputError

CONFIGS = str(Path(__file__).resolve().parent.parent / "configs")
BENCHMARKS = ("gsm8k", "mmlu", "mtbench")
ROUTERS = ("mf", "sw_ranking", "bert", "causal_llm")  # beside random, which is always there
QUICK = ("mf", "sw_ranking")
PAIR = ("bert", "causal_llm")  # learn of two models alone


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paper", choices=list(PAPERS))
    parser.add_argument("--benchmarks", type=_names, default=list(BENCHMARKS), metavar="A,B", help=", ".join(BENCHMARKS))
    parser.add_argument("--routers", type=_names, metavar="A,B", help=", ".join(("random", *ROUTERS)))
    parser.add_argument("--arena", metavar="DATASET", help="the paper's arena battles: a folder, a file, or a hub name (with --hub)")
    parser.add_argument("--judged", metavar="DATASET", help="the paper's judge labels, likewise; needs --arena")
    parser.add_argument("--encoder", default="minilm", help="a file of configs/encoder; openai is the paper's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="ROUTER.KEY=VALUE", help="a router's setting; may be given several times"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="mf and sw_ranking with few epochs, to see the script work")
    parser.add_argument("--hub", action="store_true", help="let Hugging Face libraries reach the hub")
    parser.add_argument("--outputs", default="outputs")
    cascades = parser.add_argument_group("cascade_routing")
    cascades.add_argument("--data", choices=["synthetic", "routerbench"], default="synthetic")
    cascades.add_argument("--dataset", metavar="DATASET", help="RouterBench as CSV or Parquet: file, folder, or hub name (with --hub)")
    cascades.add_argument("--rows", type=int, default=0, help="judge on at most so many queries; 0: all")
    cascades.add_argument("--true-deviation", action="store_true", help="deviations where the authors' code takes variances")
    options = parser.parse_args()
    options.routers = [name for name in options.routers or (QUICK if options.quick else ROUTERS) if name != "random"]
    for name, known in (("benchmarks", BENCHMARKS), ("routers", ROUTERS)):
        if wrong := [value for value in getattr(options, name) if value not in known]:
            parser.error(f"--{name}: unknown {', '.join(wrong)}; there are {', '.join(known)}")
    for word in options.set:
        if word.partition(".")[0] not in options.routers or "=" not in word:
            parser.error(f"--set {word}: no router of this run, or no value; write mf.epochs=20")
    if options.judged and not options.arena:
        parser.error("--judged augments the paper's arena: give --arena too")
    return options


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(part for part in text.split(",") if part))


def made(group: str, name: str, *words: str) -> Callable[[], Any]:
    """Makes what configs/<group>/<name>.yaml describes, with these words changed. Raises InputError for settings that do not exist."""
    from hydra import compose
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    try:
        cfg = compose("train", ["labels=published", f"{group}={name}", *words])
    except HydraException as error:
        raise InputError("this cannot be composed", where=" ".join([f"{group}={name}", *words]), found=str(error).splitlines()[0]) from None
    return partial(instantiate, cfg[group])


def settled(options: argparse.Namespace) -> Any:
    """The run's config; Hydra is told of it, as the manifest asks Hydra."""
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    cfg = compose("base", [f"seed={options.seed}", "labels=published", f"hub={options.hub}"], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
        cfg.outputs = options.outputs
        cfg.reproduce = {key: value for key, value in vars(options).items() if key not in ("seed", "hub", "outputs")}
    return cfg


def reproduce(options: argparse.Namespace, job: run.Run) -> bool:
    """Trains, judges and writes; whether all agrees with what was published."""
    from routewright.data.load import provenance
    from routewright.data.paper_routellm import RECIPES, Library
    from routewright.eval import paper_page, paper_plots
    from routewright.eval import paper_routellm as paper

    encoder = made("encoder", options.encoder)()
    given = {"lmsys_arena_55k": options.arena, "routellm_gpt4": options.judged}
    sources: dict[str, Any] = {}

    def load(name: str) -> Any:
        words = [f"data.dataset='{given[name]}'"] if given.get(name) else []
        sources[name] = made("data", name, *words)()
        return sources[name].load()

    def tiers(battles: Battles) -> dict[str, int]:
        ranking = made("router", "sw_ranking")().fit(battles, rng=job.rng("tiers"))
        return dict(zip(battles.pool.name, ranking.tier_.tolist(), strict=True))

    library = Library(load, encoder.encode, tiers)
    if options.arena:
        library.arena, library.judge = "lmsys_arena_55k", "routellm_gpt4" if options.judged else None
    candidates = [candidate(name, options) for name in options.routers]
    found, data = [], {}
    for name in options.benchmarks:
        with job.stage(name):
            table = load(f"routellm_{name}")
            data[name] = provenance(sources[f"routellm_{name}"], table)["data"]
            outcomes = table.encoded(encoder.encode(list(table.queries.text)))
            teach = partial(library.teach, name, outcomes)
            found.append(paper.judge(name, outcomes, candidates, RECIPES, teach, job.rng, run.log.info))
    learned = {name: sources[name].provenance() for name in sorted(library.tables_)}
    command = ["scripts/reproduce.py", *sys.argv[1:]]
    job.facts |= {"command": command, "judged": data, "learned_from": learned, "encoder": encoder.fingerprint}
    with job.stage("report"):
        job.write_json("table.json", paper.as_json(found))
        for one in found:
            (job.folder / f"{one.name}.png").write_bytes(paper_plots.figure_png(one))
        told = {key: text for key, text in run.told(job.manifest()).items() if key not in ("data", "prices")}
        job.write_text("report.html", paper_page.render(found, told))
    job.say(paper_page.as_tables(found))
    return not list(paper.mismatches(found))


def cascade_routing(options: argparse.Namespace, job: run.Run) -> bool:
    """Fits, replays and writes; whether cascade routing is ahead everywhere, as published."""
    from routewright.data import synthetic
    from routewright.data.load import provenance
    from routewright.eval import paper_cascade as paper

    if options.data == "synthetic":
        outcomes = synthetic.routerbench_like(synthetic.ZERO_SHOT, rng=job.rng("table"))
    else:
        source = made("data", options.data, *([f"data.dataset='{options.dataset}'"] if options.dataset else []), "data.answers=false")()
        outcomes = source.load()
        job.facts |= provenance(source, outcomes)
    job.facts |= {"command": ["scripts/reproduce.py", *sys.argv[1:]]}
    with job.stage("replay"):
        cells = paper.reproduce(
            outcomes,
            lambda name, settings: made("cascade", name)(**settings),
            rng=job.rng,
            rows=options.rows,
            true_deviation=options.true_deviation,
            say=run.log.info,
        )
    job.write_json("table.json", paper.as_json(cells))
    job.say(paper.as_table(cells))
    return paper.ordered(cells)


def candidate(name: str, options: argparse.Namespace) -> Any:
    """The router `name` with the paper's settings, or those for other data, and what --set says."""
    from routewright.eval import paper_routellm as paper

    if not (Path(CONFIGS) / "router" / f"{name}.yaml").is_file():
        return paper.Candidate(name, None)
    settings = paper.recipe_of(name, papers=bool(options.arena), quick=options.quick)
    own = [word.removeprefix(f"{name}.") for word in options.set if word.startswith(f"{name}.")]
    words = [f"router.{key}={value}" for key, value in settings.items()] + [f"router.{word}" for word in own]
    make = made("router", name, *words)
    settings |= dict(word.split("=", 1) for word in own)
    return paper.Candidate(name, make, settings, pair=name in PAIR)


PAPERS = {"routellm": reproduce, "cascade_routing": cascade_routing}


def main() -> None:
    from hydra import initialize_config_dir

    options = arguments()
    run.prepare()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an unfinished folder is removed, as on Ctrl-C
    if options.hub:
        os.environ["HF_HUB_OFFLINE"] = "0"
    try:
        with initialize_config_dir(CONFIGS, version_base="1.3"), run.Run.open(f"reproduce-{options.paper}", settled(options)) as job:
            agrees = PAPERS[options.paper](options, job)
    except (InputError, OSError, KeyboardInterrupt) as error:
        line = run.mendable(error)
        if line is None:
            raise
        sys.exit(f"reproduce: {line}")
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
