"""Times fit and predict of RouteLLM's four routers here, and of the published code in turn with them, on the same made-up data."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from bench_data import Duel, duel, graded

from routewright.core.bench import (
    Compared,
    Row,
    Spent,
    Worker,
    alternate,
    duration,
    median,
    peak_growth,
    settle_torch,
    spent,
    table,
    timed,
)
from routewright.core.files import write_json
from routewright.core.hub import model_folder
from routewright.core.run import cores
from routewright.core.types import Battles, Floats, InputError, Outcomes, Queries

SCRIPT = Path(__file__).with_name("bench_published.py")
FAST = {"batch_size": 256, "lr": 1.2e-3}  # of mf: four times the batch and the rate
NO_TRAINING = "the package trains none"
EPOCH = 13_767  # texts in one epoch: RouteLLM's MMLU with clean labels


@dataclass(frozen=True)
class Sizes:
    """battles and models of the two tables, dimensions, queries asked one at a time, epochs of mf, texts of the two short trainings."""

    arena: tuple[int, int] = (55_000, 64)
    mmlu: tuple[int, int] = (14_037, 2)
    width: int = 384
    asked: int = 16
    batch: int = 256
    epochs: int = 10
    texts: tuple[int, int] = (32, 160)
    runs: int = 5
    threads: tuple[int, ...] = (1, 2)


QUICK = Sizes((600, 8), (400, 2), 24, 2, 8, 2, (8, 16), 1, (1,))


@dataclass(frozen=True)
class Bench:
    """What the rows share: sizes, the worker that runs the published code (None: not given), a folder for what it reads."""

    sizes: Sizes
    worker: Worker | None
    folder: Path

    def open(self, router: str, data: dict[str, Any] | None = None, **options: Any) -> None:
        """Gives the worker its data."""
        if self.worker is None:
            return
        if data is not None:
            path = self.folder / "data.npz"
            np.savez(path, **data)
            options["data"] = str(path)
        self.worker.ask(do="open", router=router, **options)

    def compare(self, ours: Callable[[], Spent], *, warm: bool = True, **request: Any) -> Compared:
        """Ours and what the worker is asked for, in turn. warm: each once before, so that what a first call loads does not count."""
        theirs = None if self.worker is None else partial(self.published, **request)
        if warm:
            alternate(ours, theirs, 1)
        return alternate(ours, theirs, self.sizes.runs)

    def published(self, *, per: int = 1, **request: Any) -> Spent:
        assert self.worker is not None
        return spent(self.worker.ask(**request)).per(per)

    def memory(self, fit: Callable[[], object], *, there: bool = True) -> str:
        """How much memory a fit takes, ours and theirs (there: the worker can fit), in words."""
        theirs = self.worker.ask(do="peak")["mib"] if self.worker and there else None
        said = f"peak memory of fit +{_mib(peak_growth(fit))}"
        return said if theirs is None else f"{said}, published +{_mib(theirs)}"


def _mib(growth: float | None) -> str:
    return "unknown" if growth is None else f"{growth:.0f} MiB"


# ---- routers of battles


def sw_ranking(bench: Bench) -> Iterator[Row]:
    """With the published settings: then both sides solve the same problem, and a note says how far their answers lie apart."""
    from routewright.routers.sw_ranking import SWRanking

    for where, data in tables(bench.sizes):
        tiers = min(10, len(data.train.pool))
        router = SWRanking(base=10.0, within="published", tiers=tiers)
        bench.open("sw_ranking", data.arrays(), tiers=tiers)
        fit = fitting(router, data.train)
        note = bench.memory(fit)
        yield Row("sw_ranking", f"fit, {where}", "fit", bench.compare(partial(timed, fit), warm=False, do="fit"), note=note)
        yield from asked(bench, router, data.asked, where, same=True)


def mf(bench: Bench) -> Iterator[Row]:
    """The published training against ours with its batch and a larger one, for as many epochs, and the latter for as many as it takes."""
    sizes = bench.sizes
    for where, data in tables(sizes):
        bench.open("mf", data.arrays(), epochs=sizes.epochs)
        label = f"batch {FAST['batch_size']}, lr {FAST['lr']}"
        for settings, words in ((FAST, label), ({}, "batch 64, as published")):
            router, fit = factorisation(data, sizes.epochs, settings)
            memory = bench.memory(fit, there=settings is FAST)  # theirs is the same in both rows
            found = bench.compare(partial(timed, fit), warm=False, do="fit")
            note = f"{losses(router, data.held, bench.worker)}; {memory}"
            yield Row("mf", f"fit, {sizes.epochs} epochs, {words}, {where}", "fit", found, note=note)
        if bench.worker is not None and (fewer := enough(bench.worker, data, sizes.epochs)):
            router, fit = factorisation(data, fewer, FAST)
            found = bench.compare(partial(timed, fit), do="fit")
            note = f"{losses(router, data.held, bench.worker)}; published: {sizes.epochs} epochs"
            yield Row("mf", f"fit to the published loss, {fewer} epochs, {label}, {where}", "fit", found, note=note)
        yield from asked(bench, router, data.asked, where)


def factorisation(data: Duel, epochs: int, settings: Mapping[str, float]) -> tuple[Any, Callable[[], object]]:
    """A router, and what fits it."""
    from routewright.routers.mf import MF

    router = MF(epochs=epochs, ties="drop", **settings)  # type: ignore[arg-type]
    return router, fitting(router, data.train)


def enough(worker: Worker, data: Duel, most: int) -> int:
    """The fewest epochs, counted down from `most`, at which the larger batch is not above the published loss; 0 where there are none."""
    target, least = published_loss(worker, data.held), 0
    for epochs in range(most, 0, -1):
        router, fit = factorisation(data, epochs, FAST)
        fit()
        if loss(router, data.held) > target:
            break
        least = epochs
    return least


def fitting(router: Any, table: Battles | Outcomes) -> Callable[[], object]:
    """A fit from one seed, every time it is called."""
    return lambda: router.fit(table, rng=np.random.default_rng(0))


def tables(sizes: Sizes) -> Iterator[tuple[str, Duel]]:
    for name, (b, m) in (("arena", sizes.arena), ("MMLU", sizes.mmlu)):
        yield f"{name}-sized", duel(b, m, sizes.width)


def losses(router: Any, held: Battles, worker: Worker | None) -> str:
    """Mean cross-entropy on the held-out battles, of ours and theirs, and of knowing nothing."""
    ours = loss(router, held)
    if worker is None:
        return f"validation loss {ours:.4f}"
    theirs = published_loss(worker, held)
    return f"validation loss {ours:.4f}, published {theirs:.4f} ({ours / theirs - 1:+.1%}; a coin: {np.log(2):.4f})"


def loss(router: Any, held: Battles) -> float:
    delta, rows = router.predict(held.queries).quality, np.arange(len(held))
    return cross_entropy(delta[rows, held.a] - delta[rows, held.b], held.outcome)


def published_loss(worker: Worker, held: Battles) -> float:
    return cross_entropy(np.array(worker.ask(do="logits")["logits"]), held.outcome)


def cross_entropy(logit: Floats, won: Floats) -> float:
    return float(np.mean(np.logaddexp(0, logit) - won * logit))


def asked(bench: Bench, router: Any, queries: Queries, where: str, *, same: bool = False) -> Iterator[Row]:
    """predict one query at a time and many at once. Published: one at a time in both rows, for it knows no batch.

    same: the two sides answer alike, and the note says how far apart they are.
    """
    sizes, name = bench.sizes, type(router).__module__.rpartition(".")[2]
    count = min(sizes.asked, len(queries))
    single = [queries.take(np.array([row])) for row in range(count)]
    batch = queries.take(np.arange(min(sizes.batch, len(queries))))
    request: dict[str, Any] = {"do": "predict", "queries": [str(row) for row in range(count)]}
    one = bench.compare(lambda: timed(lambda: [router.predict(query) for query in single]).per(count), per=count, **request)
    yield Row(name, f"predict, batch 1, {where}", "query", one, note=apart(bench, router, queries, request) if same else "")
    many = bench.compare(lambda: timed(lambda: router.predict(batch)).per(len(batch)), per=count, **request)
    yield Row(name, f"predict, batch {len(batch)}, {where}", "query", many, note="published: one at a time" if bench.worker else "")


def apart(bench: Bench, router: Any, queries: Queries, request: dict[str, Any]) -> str:
    """How far the two sides' P(the second model beats the first) lie apart."""
    if bench.worker is None:
        return ""
    theirs = np.array(bench.worker.ask(**request)["won"])
    return f"win rates at most {np.abs(theirs - router.win_rate(queries, 1, 0)[: len(theirs)]).max():.1g} apart"


# ---- routers of text


def bert(bench: Bench) -> Iterator[Row]:
    from routewright.routers.bert import Bert

    yield from reading(bench, Bert, "MiniLM")


def causal_llm(bench: Bench) -> Iterator[Row]:
    if find_spec("routewright.routers.causal_llm") is None:
        yield Row("causal_llm", "-", "fit", None, note="not measured: there is no routers/causal_llm.py")
        return
    from routewright.routers.causal_llm import CausalLLM

    yield from reading(bench, CausalLLM, "pocket-l")


def reading(bench: Bench, kind: Callable[..., Any], model: str) -> Iterator[Row]:
    """Training time a text from two short trainings, so that what every training begins with is not in it; then predict."""
    name, sizes = kind.__module__.rpartition(".")[2], bench.sizes
    few, many = (graded(n) for n in sizes.texts)
    what = f"{model}, texts as long as MMLU's"
    for threads in sizes.threads:
        made = kind(epochs=1, validation=0.0, checkpoints=False, threads=threads)
        if threads == sizes.threads[0]:
            fitting(made, few)()  # the first training loads libraries, too
        memory = bench.memory(fitting(made, many), there=False)
        slope = median([_slope(made, few, many) for _ in range(sizes.runs)])
        label, unit = f"train, {threads} thread{'s' * (threads > 1)}, {what}", "1,000 texts"
        if min(slope.cpu, slope.wall) <= 0:
            yield Row(name, label, unit, None, NO_TRAINING, "not measured: the longer training took no longer; more runs or more texts")
            continue
        epoch = f"an epoch of {EPOCH:,} takes {duration(slope.wall * EPOCH)} of wall time"
        note = f"extrapolated from {len(few)} and {len(many)} texts: {epoch}; {memory}"
        yield Row(name, label, unit, Compared(Spent(slope.cpu * 1000, slope.wall * 1000)), NO_TRAINING, note)
    router = kind(epochs=1, validation=0.0, checkpoints=False, threads=1).fit(few, rng=np.random.default_rng(0))
    yield from read(bench, router, name, what)


def _slope(router: Any, few: Outcomes, many: Outcomes) -> Spent:
    """Seconds a text, by the difference of two trainings."""
    short, long = (timed(fitting(router, part)) for part in (few, many))
    texts = len(many) - len(few)
    return Spent(long.cpu - short.cpu, long.wall - short.wall).per(texts)


def read(bench: Bench, router: Any, name: str, what: str) -> Iterator[Row]:
    """One text at a time (spread over the lengths of all) by the exported graph and tokenizer, as a gateway does, and all by predict."""
    sizes, queries = bench.sizes, graded(bench.sizes.batch, seed=1).queries
    by_length = np.argsort([len(text) for text in queries.text], kind="stable")
    texts = list(queries.text[by_length[((np.arange(sizes.asked) + 0.5) / sizes.asked * len(queries)).astype(int)]])
    bench.open(name, model=str(model_folder(router.model)))
    request: dict[str, Any] = {"do": "predict", "queries": texts, "per": len(texts)}
    score = served(router)
    one = bench.compare(lambda: timed(lambda: [score(text) for text in texts]).per(len(texts)), **request)
    yield Row(name, f"predict, batch 1, exported graph, {what}", "query", one, note=UNTRAINED[name] if bench.worker else "")
    many = bench.compare(lambda: timed(lambda: router.predict(queries)).per(len(queries)), **request)
    yield Row(name, f"predict, batch {len(queries)}, {what}", "query", many, note="published: one at a time" if bench.worker else "")


UNTRAINED = {
    "bert": "published: the same encoder in torch, its head untrained",
    "causal_llm": "published: on the CPU instead of a GPU, up to 6 tokens generated, the query alone as the prompt",
}


def served(router: Any) -> Callable[[str], Floats]:
    """Scores a text by what the router exports, on one thread, with nothing loaded anew."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(router.onnx().SerializeToString(), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_str(router.tokenizer())

    def score(text: str) -> Floats:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        quality: Floats = session.run(["quality"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
        return quality

    return score


# ---- the command

ROUTERS: dict[str, Callable[[Bench], Iterator[Row]]] = {"sw_ranking": sw_ranking, "mf": mf, "bert": bert, "causal_llm": causal_llm}


def options(parser: argparse.ArgumentParser) -> None:
    theirs = "RouteLLM 0.2.0: a Python that has it, its environment's folder, or a folder with its unpacked source"
    parser.add_argument("--published", type=Path, metavar="PATH", help=theirs)
    parser.add_argument("--only", metavar="A,B", help="of " + ", ".join(ROUTERS))
    parser.add_argument("--runs", type=int, help="runs of which the median is told (5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see it work, not to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def main(given: argparse.Namespace) -> None:
    """Prints the table row by row on stderr as it is measured, and whole on stdout. InputError for unknown routers and a wrong path."""
    chosen = list(ROUTERS) if given.only is None else given.only.split(",")
    if unknown := [name for name in chosen if name not in ROUTERS]:
        raise InputError("unknown router", where="--only", expected=", ".join(ROUTERS), found=", ".join(unknown))
    sizes = QUICK if given.quick else Sizes()
    if given.runs is not None:
        sizes = replace(sizes, runs=given.runs)
    if sizes.runs < 1:
        raise InputError("no runs, no figures", where="--runs", expected="1 or more", found=str(given.runs))
    begun, rows = os.getloadavg(), list[Row]()
    with tempfile.TemporaryDirectory() as folder, published(given.published) as (worker, versions):
        settle_torch()
        bench = Bench(sizes, worker, Path(folder))
        for name in chosen:
            for row in ROUTERS[name](bench):
                rows.append(row)
                print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    about = machine() | {
        "load": [round(begun[0], 1), round(os.getloadavg()[0], 1)],
        "published": versions,
        "runs": sizes.runs,
        "sizes": asdict(sizes),
    }
    print(described(about), table(rows), sep="\n\n")
    if given.json is not None:
        write_json(given.json, {"about": about, "rows": [_plain(row) for row in rows]})


@contextmanager
def published(path: Path | None) -> Iterator[tuple[Worker | None, dict[str, str]]]:
    """A worker that has imported the published package, and its versions; (None, {}) where no path is given."""
    if path is None:
        yield None, {}
        return
    python, environment = interpreter(path)
    # their client is made at import and wants a key; it is never asked
    with Worker(python, SCRIPT, {"OPENAI_API_KEY": "x", "HF_HUB_OFFLINE": "1", **environment}) as worker:
        yield worker, worker.ask(do="versions")


def interpreter(path: Path) -> tuple[Path, dict[str, str]]:
    """Which Python runs the published code, and what its environment needs. Raises InputError for a path that is none of the three."""
    if path.is_file() and os.access(path, os.X_OK):
        return path.absolute(), {}  # not resolved: a link's own place tells Python its environment
    if (path / "bin" / "python").is_file():
        return (path / "bin" / "python").absolute(), {}
    if (path / "routellm" / "routers").is_dir():
        return Path(sys.executable), {"PYTHONPATH": str(path.absolute())}
    wanted = "a Python, an environment's folder with bin/python, or a folder that holds routellm/"
    raise InputError(
        "no published code", where=f"--published {path}", expected=wanted, found="neither" if path.exists() else "no such path"
    )


def machine() -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "onnxruntime", "transformers")}
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"processor": model, "cores": cores(), "python": platform.python_version(), "versions": versions}


def described(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    theirs = ", ".join(f"{name} {version}" for name, version in about["published"].items()) or "not given"
    load = " to ".join(map(str, about["load"]))
    one = f"{about['processor']}, {about['cores']} cores, load {load}; {versions}; published: {theirs}; medians of {about['runs']} runs."
    return (
        one
        + f" {about['sizes']['width']} dimensions; "
        + "; ".join(
            f"{name}-sized: {b:,} battles of {m} models"
            for name, (b, m) in zip(("arena", "MMLU"), (about["sizes"]["arena"], about["sizes"]["mmlu"]), strict=True)
        )
    )


def _plain(row: Row) -> dict[str, Any]:
    found = row.compared
    sides = {"ours": found and found.ours, "theirs": found and found.theirs}
    figures = {side: one and {"cpu_s": one.cpu, "wall_s": one.wall} for side, one in sides.items()}
    told = {"router": row.router, "what": row.what, "unit": row.unit, "note": row.note, "published": row.published}
    return told | figures | {"ratio": found and found.ratio}
