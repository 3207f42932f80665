"""Times the search for the best cascades, the published search beside it, and the replay of recorded answers."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import logging
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_routers import machine

from routewright.core.bench import Compared, Row, Spent, duration, median, table, timed
from routewright.core.contracts import SCORE
from routewright.core.files import write_json
from routewright.core.types import Floats, InputError, Outcomes, Pool, Queries

OPTIMIZER = Path("src") / "FrugalGPT" / "optimizer.py"
Code = Callable[[Floats, Floats, Floats, float], Any]  # (right, cost up to each stage, distance, budget) of one list
Measured = Iterator[Row]


@dataclass(frozen=True)
class Sizes:
    """queries and models of the table that is searched, budgets, lists that stand for all in the code's search, and the table replayed."""

    searched: tuple[int, int] = (10_000, 12)
    budgets: int = 50
    sample: int = 4
    replayed: tuple[int, int] = (14_000, 11)
    knobs: int = 200
    runs: int = 3


QUICK = Sizes((300, 4), 5, 1, (200, 3), 10, 1)


def made_up(n: int, m: int, seed: int = 0) -> Outcomes:
    """Later models are better and dearer, from USD 1e-5 to 1e-3 a call; the score tells, noisily, which answers are right."""
    rng = np.random.default_rng(seed)
    ease, skill = 1.2 * rng.normal(size=(n, 1)), np.linspace(0.2, 2.2, m)
    right = rng.random((n, m)) < 1 / (1 + np.exp(-(skill + ease)))
    score = 1 / (1 + np.exp(-(1.2 * (2.0 * right - 1) + rng.normal(size=(n, m)) + 0.5 * (skill + ease))))
    cost = 10.0 ** np.linspace(-5, -3, m) * np.exp(0.4 * rng.normal(size=(n, 1)) + 0.2 * rng.normal(size=(n, m)))
    queries = Queries(*(np.array([f"{part}{row}" for row in range(n)], dtype=object) for part in ("id", "question ", "group")))
    pool = Pool(tuple(f"model{j}" for j in range(m)))
    return Outcomes(queries, pool, right.astype(float), cost, usage="nominal", signals={SCORE: score})


# ---- the search


def search(sizes: Sizes, published: Code | None) -> Measured:
    """Ours for all budgets; the code's for a few lists and one budget, times lists and budgets."""
    from routewright.routers.cascades._front import front

    made, (n, m) = made_up(*sizes.searched), sizes.searched
    score, quality = made.signals[SCORE].astype(np.float64), made.quality.astype(np.float64)
    low, high = float(made.cost.mean(axis=0).min()), float(made.cost.mean(axis=0).max())
    budgets = np.geomspace(low, 2 * high, sizes.budgets)
    found: list[Floats] = []

    def ours() -> None:
        best = front(score, quality, made.cost)
        found[:] = [best.quality[best.at(budgets)]]

    spent = median([timed(ours) for _ in range(sizes.runs)])
    where = f"3 stages, {m} models, {n:,} queries, {sizes.budgets} budgets"
    lists = list(itertools.permutations(range(m), 3))
    rng = np.random.default_rng(1)
    chosen = [lists[row] for row in rng.choice(len(lists), sizes.sample, replace=False)]
    variants: list[tuple[str, Code]] = [("FrugalGPT's search, its row loop as array operations", vectorised)]
    if published is not None:
        variants.append(("FrugalGPT's own optimizer.py", published))
    for name, code in variants:
        few = chosen if code is vectorised else chosen[:1]
        budget = float(budgets[-1])  # every list fits it, so that none is skipped

        def theirs(few: list[tuple[int, ...]] = few, code: Code = code, budget: float = budget) -> None:
            for models in few:
                code(quality[:, models], np.cumsum(made.cost[:, models], axis=1), 1 - score[:, models], budget)

        factor = len(lists) * sizes.budgets / len(few)
        one = timed(theirs)
        whole = Spent(one.cpu * factor, one.wall * factor)
        note = f"theirs: {name}; {len(few)} of {len(lists):,} lists at one budget took {duration(one.cpu)}, times {factor:,.0f}"
        yield Row("front", where, "search", Compared(spent, whole, whole.cpu / spent.cpu), note=note)
    own, note = grid(made, budgets, found[0])
    yield Row("frugal_code", where, "search", Compared(own), note=note)


def grid(made: Outcomes, budgets: Floats, best: Floats) -> tuple[Spent, str]:
    """Our own frugal_code without the simplex, all lists and budgets, and how its quality compares."""
    from routewright.routers.cascades._front_cascade import Tables
    from routewright.routers.cascades.frugal_code import FrugalCode

    tables = Tables(made.signals[SCORE].astype(np.float64), made.quality.astype(np.float64), made.cost, None)
    found = []
    spent = timed(lambda: found.append(FrugalCode(polish=0)._chosen(tables, budgets, np.random.default_rng(0)).quality))
    gap = best - found[0]
    return spent, f"no simplex; front's quality at the budgets is {gap.min():+.4f} to {gap.max():+.4f} of it, {gap.mean():+.4f} on average"


def vectorised(right: Floats, cost: Floats, distance: Floats, budget: float) -> Any:
    """optimize() of FrugalGPT's optimizer.py at 2b23e6a for one list, with its loop over rows as array operations: the same thresholds."""
    import scipy.optimize

    n, stages = right.shape

    def cut(share: float, stage: int, reached: Any) -> tuple[float, Any]:
        value = np.quantile(distance[reached, stage], 1 - max(min(share, 1), 0))
        return float(value), reached & (distance[:, stage] >= value)

    def loss(shares: Floats) -> float:
        if not (np.diff(shares) >= 0).all():
            return 10000.0
        cuts, reached = np.ones(stages), np.ones(n, dtype=bool)
        for stage in range(stages - 1):
            cuts[stage], reached = cut(shares[stage], stage, reached)
        kept = distance < cuts
        kept &= np.cumsum(kept, axis=1) == 1
        return 10000.0 if (kept * cost).sum() > budget * n else -float((kept * right).sum())

    ends = [(1e-5, 1 - 1e-5)] * (stages - 1)
    return scipy.optimize.brute(loss, ends, full_output=True, finish=scipy.optimize.fmin, Ns=40)  # type: ignore[call-overload]


def published_code(path: Path) -> Code:
    """optimize() of the file in this checkout of stanford-futuredata/FrugalGPT. Raises InputError where there is none."""
    file = path / OPTIMIZER
    if not file.is_file():
        raise InputError("no published code", where=f"--published {path}", expected=f"a checkout that holds {OPTIMIZER}", found="none")
    # optimize itself needs nothing of it
    sys.modules["service"], sys.modules["service.utils"] = types.ModuleType("service"), types.ModuleType("service.utils")
    sys.modules["service"].utils = sys.modules["service.utils"]  # type: ignore[attr-defined]
    import scipy.optimize  # noqa: F401 - the file imports scipy alone and counts on this

    spec = importlib.util.spec_from_file_location("frugalgpt_optimizer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    logging.disable(logging.CRITICAL)
    return module.optimize


# ---- the cascades


def cascades(sizes: Sizes, published: Code | None) -> Measured:
    """fit, and the replay of one table at many budgets."""
    from routewright.routers.cascades.frugal import Frugal
    from routewright.routers.cascades.frugal_code import FrugalCode
    from routewright.routers.cascades.frugal_paper import FrugalPaper
    from routewright.routers.cascades.threshold import Threshold

    train, fresh = made_up(*sizes.searched), made_up(*sizes.replayed, seed=1)
    train = train.models(fresh.pool.name)
    (n, m), (rows, _) = train.quality.shape, fresh.quality.shape
    knobs = np.linspace(0, 1.5, sizes.knobs).tolist()
    for kind in (Frugal, FrugalPaper, Threshold, FrugalCode):
        name, cascade = kind.__module__.rpartition(".")[2], kind()
        fit = partial(cascade.fit, train, rng=np.random.default_rng(0))
        yield Row(name, f"fit, {m} models, {n:,} queries", "fit", Compared(timed(fit)))
        through = partial(replayed, cascade, fresh, knobs)
        runs = [timed(through) for _ in range(sizes.runs)]
        yield Row(name, f"replay, {m} models, {rows:,} queries, {len(knobs)} budgets", "replay of all", Compared(median(runs)))


def replayed(cascade: Any, outcomes: Outcomes, knobs: list[float]) -> None:
    """Every budget once."""
    from routewright.eval.replay import bought

    for knob in knobs:
        bought(cascade, outcomes, knob=knob)


# ---- the command

PARTS: dict[str, Callable[[Sizes, Code | None], Measured]] = {"search": search, "cascades": cascades}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--published", type=Path, metavar="PATH", help="a checkout of stanford-futuredata/FrugalGPT at 2b23e6a")
    parser.add_argument("--only", metavar="A,B", help="of " + ", ".join(PARTS))
    parser.add_argument("--runs", type=int, help="runs of which the median is told (3)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see it work, not to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def main(given: argparse.Namespace) -> None:
    """Prints the table row by row on stderr as it is measured, and whole on stdout. InputError for unknown parts and a wrong path."""
    chosen = list(PARTS) if given.only is None else given.only.split(",")
    if unknown := [name for name in chosen if name not in PARTS]:
        raise InputError("unknown part", where="--only", expected=", ".join(PARTS), found=", ".join(unknown))
    sizes = QUICK if given.quick else Sizes()
    if given.runs is not None:
        sizes = replace(sizes, runs=given.runs)
    if sizes.runs < 1:
        raise InputError("no runs, no figures", where="--runs", expected="1 or more", found=str(given.runs))
    published = None if given.published is None else published_code(given.published)
    begun, rows = os.getloadavg()[0], list[Row]()
    for name in chosen:
        for row in PARTS[name](sizes, published):
            rows.append(row)
            print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    about = machine() | {"load": [round(begun, 1), round(os.getloadavg()[0], 1)], "sizes": asdict(sizes)}
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    where = f"{about['processor']}, {about['cores']} cores, load {about['load'][0]} to {about['load'][1]}; {versions}"
    print(f"{where}; one thread; medians of {sizes.runs} runs.", table(rows), sep="\n\n")
    if given.json is not None:
        write_json(given.json, {"about": about, "rows": [asdict(row) for row in rows]})
