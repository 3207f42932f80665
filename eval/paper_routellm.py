"""RouteLLM's result tables beside ours (arXiv 2406.18665 v4): what the recorded data alone decide, and routers trained here.

A published figure is text with the digits that were printed: ours agrees where it rounds to them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from routewright.core.contracts import Router
from routewright.core.types import Curve, Floats, InputError, Outcomes, Predictions
from routewright.eval import controls, crossfit, metrics, protocol, stats
from routewright.eval.ruler import Ruler

HERE = Path(__file__).parent
FIGURES = ("cpt50", "cpt80", "apgr")
REPLICATES = 1000
REPEATS = 40  # of the paper's ten random draws, to know how far they scatter
FAR = 4.0  # standard deviations of that scatter beyond which a published random router is not ours
EXACT, PAPERS, OTHER = "exact", "the paper's data", "other data"
SAME, DIFFERS, UNPUBLISHED = "same", "differs", "-"


@dataclass(frozen=True)
class Fact:
    """A figure that the data alone decide. ours: by the paper's protocol; exact: on the exact curve, where it is one of a curve.

    spread: standard deviation of ours, where it is drawn. word: same, differs, or - where nothing was published.
    """

    name: str
    published: str | None
    source: str | None
    ours: float
    exact: float | None
    spread: float | None
    word: str


@dataclass(frozen=True)
class Row:
    """One line of a table of results. published, protocol, exact: cpt50, cpt80 (% of strong calls) and apgr; exact with 95 % intervals.

    trained_on: in words; told: counts of what was learned from, and of what decontamination left out; settings: against the router's YAML.
    """

    benchmark: str
    recipe: str
    router: str
    published: Mapping[str, str] | None
    protocol: Mapping[str, float] | None
    exact: Mapping[str, Any] | None
    trained_on: str
    status: str
    told: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Judged:
    """One benchmark: its facts, its rows, and the curves behind them by (recipe, router), the oracle's under ("none", "oracle")."""

    name: str
    title: str
    unit: str
    scale: float
    weak: str
    strong: str
    means: tuple[float, float]
    facts: Sequence[Fact]
    rows: Sequence[Row]
    curves: Mapping[tuple[str, str], Curve]

    @property
    def differs(self) -> list[str]:
        """The facts that do not agree with what was published."""
        return [fact.name for fact in self.facts if fact.word == DIFFERS]


class Taught(Protocol):
    """What a router learns from, as data/paper_routellm.py makes it."""

    @property
    def learn(self) -> crossfit.Learn: ...
    @property
    def said(self) -> str: ...
    @property
    def told(self) -> dict[str, Any]: ...
    @property
    def papers(self) -> bool: ...


Teach = Callable[..., Taught]  # (recipe, *, supervision, pair)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A router to train: how to make it (None: there is no such router), its settings, whether it can learn of two models alone."""

    name: str
    make: Callable[[], Router] | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    pair: bool = False


@cache
def published() -> dict[str, Any]:
    """The published figures, each with its source."""
    loaded: dict[str, Any] = json.loads((HERE / "routellm_published.json").read_text())
    return loaded


def recipe_of(router: str, *, papers: bool, quick: bool) -> dict[str, Any]:
    """Settings against the router's YAML: the paper's, for other data those under `offline` where there are any; quick on top of them."""
    known = json.loads((HERE / "routellm_recipes.json").read_text()).get(router, {})
    base = known.get("paper", {}) if papers else known.get("offline", known.get("paper", {}))
    return {**base, **(known.get("quick", {}) if quick else {})}


def agrees(printed: str, ours: float) -> bool:
    """Whether `ours` rounds to what was printed; half a unit of the last digit either way counts."""
    exponent = Decimal(printed).as_tuple().exponent
    assert isinstance(exponent, int), "a printed figure is finite"
    return bool(abs(float(printed) - ours) <= 0.5 * 10.0**exponent + 1e-9)


# ---- what the data alone decide


def facts(name: str, outcomes: Outcomes, rng: np.random.Generator) -> list[Fact]:
    """Questions, both models, the better of both, the oracle and the random router of the benchmark `name`, against what was published."""
    about = published()["benchmarks"][name]
    weak, strong = _qualities(outcomes)
    best, drawn = protocol.optimal(weak, strong), _scatter(weak, strong, rng)
    ceiling = _exact(oracle_curve(outcomes), weak, strong)
    scale = about["scale"]
    found: dict[str, tuple[float, float | None, float | None]] = {
        "questions": (float(len(outcomes)), None, None),
        "weak": (scale * float(weak.mean()), None, None),
        "strong": (scale * float(strong.mean()), None, None),
        "either": (scale * float(np.maximum(weak, strong).mean()), None, None),
    }
    found |= {f"oracle.{key}": (_figures(best)[key], ceiling[key], None) for key in FIGURES}
    coin = {"cpt50": 50.0, "cpt80": 80.0, "apgr": 0.5}
    found |= {f"random.{key}": (float(drawn[key].mean()), coin[key], float(drawn[key].std())) for key in FIGURES}
    printed = dict(about["facts"])
    cell = cell_of(name, "none", "random")
    if cell is not None:
        printed |= {f"random.{key}": {"value": cell[key], "source": "paper"} for key in FIGURES}
    return [_fact(key, printed.get(key), *value) for key, value in found.items()]


def _fact(name: str, printed: Mapping[str, str] | None, ours: float, exact: float | None, spread: float | None) -> Fact:
    if printed is None:
        return Fact(name, None, None, ours, exact, spread, UNPUBLISHED)
    value = printed["value"]
    same = agrees(value, ours) if spread is None else abs(float(value) - ours) <= FAR * spread
    return Fact(name, value, printed["source"], ours, exact, spread, SAME if same else DIFFERS)


def _scatter(weak: Floats, strong: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    """Each figure of the paper's random router, REPEATS times ten draws."""
    runs = [_figures(protocol.random(weak, strong, rng)) for _ in range(REPEATS)]
    return {key: np.array([run[key] for run in runs]) for key in FIGURES}


def oracle_curve(outcomes: Outcomes) -> Curve:
    """The exact curve of a router that knows every outcome and never calls the strong model where it gains nothing."""
    ruler = Ruler(outcomes, policy="threshold", rng=np.random.default_rng(0))
    return ruler.sweep(controls.oracle(outcomes), lowest=0.0).curve()


def _exact(curve: Curve, weak: Floats, strong: Floats) -> dict[str, float]:
    low, high, share = float(weak.mean()), float(strong.mean()), curve.share[:, 1]
    cpt = {f"cpt{x}": float(metrics.cpt(x, share, curve.quality, low, high)[0]) for x in (50, 80)}
    return cpt | {"apgr": float(metrics.apgr(share, curve.quality, low, high)[0])}


def _qualities(outcomes: Outcomes) -> tuple[Floats, Floats]:
    """Both models' qualities; the sources have the weak one first."""
    quality = outcomes.quality.astype(np.float64)
    return quality[:, 0], quality[:, 1]


def _figures(found: protocol.Published) -> dict[str, float]:
    return {"cpt50": found.cpt[50], "cpt80": found.cpt[80], "apgr": found.apgr}


def cell_of(benchmark: str, recipe: str, router: str) -> dict[str, str] | None:
    """The published cell, or None."""
    wanted = {"benchmark": benchmark, "recipe": recipe, "router": router}
    cells: list[dict[str, str]] = published()["cells"]
    return next((cell for cell in cells if wanted.items() <= cell.items()), None)


# ---- routers


def measure(outcomes: Outcomes, predictions: Predictions, rng: np.random.Generator) -> tuple[dict[str, float], dict[str, Any], Curve]:
    """Figures by the paper's protocol; on the exact curve, with intervals from a paired bootstrap over texts; and that curve."""
    ruler = Ruler(outcomes, policy="threshold", rng=rng, replicates=REPLICATES)
    weak, strong = ruler.pair.weak, ruler.pair.strong
    sweep = ruler.sweep(predictions)
    point, spread = ruler.measure(sweep)
    exact: dict[str, Any] = {key: point[key] for key in FIGURES}
    exact |= {f"{key}_ci": stats.interval(spread[key]) for key in FIGURES}
    gain = predictions.quality[:, strong] - predictions.quality[:, weak]
    quality = ruler.outcomes.quality.astype(np.float64)
    return _figures(protocol.routellm(gain, quality[:, weak], quality[:, strong])), exact, sweep.curve()


def judge(
    name: str,
    outcomes: Outcomes,
    candidates: Sequence[Candidate],
    recipes: Sequence[str],
    teach: Teach,
    stream: Callable[[str], np.random.Generator],
    say: Callable[[str], None] = lambda line: None,
) -> Judged:
    """The facts of the benchmark `name`, and a row for the random router and for every candidate under every recipe, judged on all rows.

    teach: (recipe, supervision=, pair=) -> what a router learns from. stream: purpose -> a generator; that of a fit knows no benchmark.
    A router that cannot be trained here is a row that says why.
    """
    about = published()["benchmarks"][name]
    weak, strong = _qualities(outcomes)
    rows, curves = [_random(name, outcomes, stream(f"{name}/random"))], {("none", "oracle"): oracle_curve(outcomes)}
    for recipe in recipes:
        for candidate in candidates:
            row, curve = _trained(name, outcomes, candidate, recipe, teach, stream)
            rows.append(row)
            curves |= {} if curve is None else {(recipe, candidate.name): curve}
            say(f"{name} {recipe} {candidate.name}: {row.status}, {row.seconds:.1f} s")
    return Judged(
        name,
        about["title"],
        about["unit"],
        about["scale"],
        outcomes.pool.name[0],
        outcomes.pool.name[1],
        (float(weak.mean()), float(strong.mean())),
        facts(name, outcomes, stream(f"{name}/facts")),
        rows,
        curves,
    )


def _random(name: str, outcomes: Outcomes, rng: np.random.Generator) -> Row:
    """Ten draws as in the paper, and their expectation in closed form, which needs no interval."""
    drawn = _figures(protocol.random(*_qualities(outcomes), rng))
    exact: dict[str, Any] = {"cpt50": 50.0, "cpt80": 80.0, "apgr": 0.5} | dict.fromkeys([f"{key}_ci" for key in FIGURES])
    return Row(name, "none", "random", _printed(name, "none", "random"), drawn, exact, "nothing", EXACT)


def _trained(
    name: str,
    outcomes: Outcomes,
    candidate: Candidate,
    recipe: str,
    teach: Teach,
    stream: Callable[[str], np.random.Generator],
) -> tuple[Row, Curve | None]:
    cell = _printed(name, recipe, candidate.name)
    if candidate.make is None:
        return Row(name, recipe, candidate.name, cell, None, None, "", f"not run: there is no router {candidate.name} here"), None
    begun = time.perf_counter()
    try:
        taught = teach(recipe, supervision=candidate.make().supervision, pair=candidate.pair)
        router = crossfit.fit_one(candidate.make, outcomes, stream(f"fit/{recipe}/{candidate.name}"), taught.learn)
        predictions = router.predict(outcomes.queries)
    except InputError as error:
        return Row(name, recipe, candidate.name, cell, None, None, "", f"not run: {error}", settings=candidate.settings), None
    by_protocol, exact, curve = measure(outcomes, predictions, stream(f"{name}/judge"))
    seconds, status = round(time.perf_counter() - begun, 1), PAPERS if taught.papers else OTHER
    row = Row(name, recipe, candidate.name, cell, by_protocol, exact, taught.said, status, taught.told, candidate.settings, seconds)
    return row, curve


def _printed(name: str, recipe: str, router: str) -> dict[str, str] | None:
    cell = cell_of(name, recipe, router)
    return None if cell is None else {key: cell[key] for key in FIGURES}


def as_json(found: Sequence[Judged]) -> dict[str, Any]:
    """What table.json holds: sources, and facts and rows of every benchmark."""
    tables = {
        one.name: {"title": one.title, "facts": [asdict(fact) for fact in one.facts], "rows": [asdict(row) for row in one.rows]}
        for one in found
    }
    return {"sources": published()["sources"], "differs": list(mismatches(found)), "benchmarks": tables}


def mismatches(found: Sequence[Judged]) -> Iterator[str]:
    """benchmark and name of every fact that does not agree with what was published."""
    for one in found:
        yield from (f"{one.name} {name}" for name in one.differs)
