"""A collection as a config describes it: made from its parts, run, and told in figures and in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from routewright.core.arrays import column_means
from routewright.core.console import as_text
from routewright.core.prices import PriceBook, ledger
from routewright.data.arms import Arm, Example, read_arms
from routewright.data.calls import Call
from routewright.data.collect import Collected, Collector, Wanted
from routewright.data.engine import Engine, Limits, Tally
from routewright.data.meaning import Meaning
from routewright.data.plan import Planner
from routewright.data.questions import Questions
from routewright.data.store import Store
from routewright.data.tokens import count_tokens

GRADES = ("right", "partly right", "wrong", "nothing to grade", "not observed")


@dataclass(eq=False)
class Setup:
    """Everything before the first call. Raises InputError for arms, limits and questions that cannot be.

    cfg: configs/collect.yaml as plain values. parts: its instantiated groups. rng: purpose -> generator.
    """

    cfg: Mapping[str, Any]
    parts: Mapping[str, Any]
    rng: Callable[[str], np.random.Generator]
    arms: tuple[Arm, ...] = field(init=False)
    questions: Questions = field(init=False)
    planner: Planner = field(init=False)
    prices: PriceBook | None = field(init=False)
    meaning: Meaning | None = field(init=False)
    collector_: Collector | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        cfg, source, book = self.cfg, self.parts["questions"], self.parts.get("prices")
        self.prices = book if book is not None and book.models else None
        compared = self.parts.get("meaning")
        self.meaning = compared if compared is not None and compared.encoder is not None else None
        self.arms = read_arms(cfg["arms"], max_tokens=cfg["max_tokens"])
        self.questions = source.load().drawn(cfg["limit"], self.rng("limit"))
        shown = source.examples()
        columns = shown.queries.text, shown.gold, shown.queries.group
        examples = [Example(query=query, answer=gold, group=group) for query, gold, group in zip(*columns, strict=True)]
        self.planner = Planner(self.arms, self.questions, examples, self.parts["backend"], self.rng, cfg["logprobs"])

    def facts(self) -> dict[str, Any]:
        prices, judge = self.prices, self.parts.get("judge")
        if prices is not None:  # a missing price is told before anything is asked
            for model in (*(arm.model for arm in self.arms), *([judge.model] if judge else [])):
                prices.prices(model)
        return {
            "collection": {
                "questions": self.parts["questions"].provenance() | {"asked": len(self.questions)},
                "arms": {arm.name: {"model": arm.model, "shots": arm.shots, "batch": arm.batch} for arm in self.arms},
                "endpoints": self.planner.identities(),
                "meaning": None if self.meaning is None else self.meaning.facts(),
                "prices": None if prices is None else {"date": prices.date, "source": prices.source, "nominal": prices.nominal},
            }
        }

    async def collect(self, store: Store, *, watch: Callable[[Tally], None], tell: Callable[[str], None]) -> Collected:
        """Runs it to its end; the backend is closed whatever happens."""
        cfg, parts = self.cfg, self.parts
        concurrency = parts["backend"].concurrency if cfg["concurrency"] is None else cfg["concurrency"]
        limits = Limits(**cfg["limits"], concurrency=concurrency, budget_usd=cfg["budget_usd"])
        if not parts["backend"].remote:
            limits = replace(limits, timeout_s=None)

        def count(text: str) -> int:
            return count_tokens([text])[0]

        engine = Engine(parts["backend"], store, self.prices, limits, watch=watch, count_tokens=count, rng=self.rng("backoff"))
        wanted = Wanted(**{f.name: cfg[f.name] for f in fields(Wanted)})
        optional = {name: parts.get(name) for name in ("verifier", "judge")} | {"meaning": self.meaning}
        self.collector_ = Collector(self.planner, engine, store, parts["grader"], wanted, self.prices, tell=tell, **optional)
        try:
            return await self.collector_.run()
        finally:
            await parts["backend"].close()

    def calls(self, store: Store) -> Iterator[Call]:
        """The record of every call that is part of it, those of earlier runs too."""
        assert self.collector_ is not None
        return store.calls(self.collector_.keys_)


def summary(collected: Collected, setup: Setup) -> dict[str, Any]:
    """Figures by arm, grades by group and arm, spending: plain values for collection.json and `text`."""
    cost = ledger(collected.outcomes)
    return {
        "questions": len(collected.outcomes),
        "arms": {arm.name: _arm(collected, j, arm, cost["usd_by_model"][arm.name]) for j, arm in enumerate(setup.arms)},
        "ledger": cost,
        "grades": grades(collected),
        "by_group": _by_group(collected),
        "usage": collected.outcomes.usage,
        "priced": setup.prices is not None,
        "spent": collected.tally.plain(),
        "judge": collected.judged,
        "signals": {name: _means(value) for name, value in collected.outcomes.signals.items()},
    }


def _means(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in column_means(values)]


def _arm(collected: Collected, j: int, arm: Arm, usd: float) -> dict[str, Any]:
    outcomes = collected.outcomes
    quality, cost = outcomes.quality[:, j].astype(np.float64), outcomes.cost[:, j]
    output, seconds = outcomes.tokens["output"][:, j], np.asarray(outcomes.latency)[:, j].astype(np.float64)
    answered = collected.status[:, j] == "ok"
    # of one call, as its caller sees it: concurrency does not flatter it
    speed = output / np.where(seconds > 0, seconds, np.nan)
    return {
        "model": arm.model,
        "answered": int(answered.sum()),
        "failed": int((collected.status[:, j] == "failed").sum()),
        "graded": int(np.isfinite(quality).sum()),
        "quality": _mean(quality),
        "quality_ci": _interval(quality),
        "usd": usd if np.isfinite(cost).any() else None,  # no known cost is no cost of zero
        "usd_a_query": _mean(cost),
        "without_cost": int((answered & np.isnan(cost)).sum()),
        "output_tokens": float(np.nansum(output)),
        "tokens_per_s": _median(speed),
        "latency_s": _median(seconds),
    }


def _mean(values: np.ndarray[Any, Any]) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _median(values: np.ndarray[Any, Any]) -> float | None:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else None


def _interval(quality: np.ndarray[Any, Any]) -> list[float] | None:
    """95 %: Wilson's for right and wrong, the normal one for other grades."""
    from scipy.stats import binomtest

    known = quality[np.isfinite(quality)]
    if len(known) < 2:
        return None
    if np.isin(known, (0, 1)).all():
        found = binomtest(int(known.sum()), len(known)).proportion_ci(0.95, method="wilson")
        return [float(found.low), float(found.high)]
    half = 1.96 * float(known.std(ddof=1)) / np.sqrt(len(known))
    return [max(0.0, float(known.mean()) - half), min(1.0, float(known.mean()) + half)]


def grades(collected: Collected) -> dict[str, dict[str, int]]:
    """How many answers of each arm were right (1), partly right, wrong (0), held nothing to grade, or were not observed."""
    outcomes = collected.outcomes
    found = {}
    for j, name in enumerate(outcomes.pool.name):
        quality, read = outcomes.quality[:, j], collected.extracted[:, j]
        unread = np.array([value is None for value in read]) & (quality == 0)
        counts = (quality == 1, (quality > 0) & (quality < 1), (quality == 0) & ~unread, unread, np.isnan(quality))
        found[name] = {label: int(count.sum()) for label, count in zip(GRADES, counts, strict=True)}
    return found


def _by_group(collected: Collected) -> dict[str, dict[str, Any]]:
    """group -> n and each arm's mean quality; {} where there is one group alone."""
    outcomes = collected.outcomes
    names = sorted(set(outcomes.queries.group))
    if len(names) < 2:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        rows = outcomes.queries.group == name
        found[name] = {"n": int(rows.sum()), "quality": _means(outcomes.quality[rows])}
    return found


def text(found: Mapping[str, Any]) -> str:
    """The summary for a terminal: arms, grades, groups, then what was paid and what is not known."""
    graded = [["grade", *found["arms"]], *([label, *(str(row[label]) for row in found["grades"].values())] for label in GRADES)]
    tables = [_arm_rows(found), graded]
    if found["by_group"]:
        rows = [[name, str(row["n"]), *map(_quality, row["quality"])] for name, row in found["by_group"].items()]
        tables.append([["group", "n", *found["arms"]], *rows])
    return as_text(*map(_table, tables)) + "\n".join(_sentences(found))


def _table(rows: Sequence[Sequence[str]]) -> Any:
    """The first row is the head; its first column stands left, the others right."""
    from rich.table import Table

    made = Table()
    for i, head in enumerate(rows[0]):
        made.add_column(head, justify="right" if i else "left")
    for row in rows[1:]:
        made.add_row(*row)
    return made


def _arm_rows(found: Mapping[str, Any]) -> list[list[str]]:
    rows = [["arm", "answered", "quality", "95 %", "USD", "USD / 1k queries", "without cost", "tokens/s", "seconds"]]
    for name, row in found["arms"].items():
        span = "-" if row["quality_ci"] is None else "[{:.3f}, {:.3f}]".format(*row["quality_ci"])
        each = None if row["usd_a_query"] is None else 1000 * row["usd_a_query"]
        money = [_figure(row["usd"], 4), _figure(each, 4), str(row["without_cost"])]
        speed = [_figure(row["tokens_per_s"], 4), _figure(row["latency_s"], 3)]
        rows.append([name, f"{row['answered']} of {found['questions']}", _quality(row["quality"]), span, *money, *speed])
    return rows


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _quality(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _sentences(found: Mapping[str, Any]) -> list[str]:
    spent = found["spent"]
    kind = {"nominal": " (nominal: nobody charges these prices)"}.get(found["usage"], "")
    paid = f"USD {spent['usd']:.4g}{kind}" if found["priced"] else "an unknown sum (no prices were given)"
    lines = [
        f"This run made {spent['ok'] + spent['empty']} calls and spent {paid}; {spent['recorded']} more were recorded already.",
        "tokens/s and seconds are of one call, the median"
        + (f"; all calls together made {spent['tokens_per_s']:.0f} tokens/s." if spent["attempts"] else "."),
    ]
    if spent["usd_unknown_calls"] and found["priced"]:
        lines.append(
            f"{spent['usd_unknown_calls']} answers came without usage: they are kept and have no cost; they may have cost up to "
            f"USD {spent['usd_unknown_bound']:.4g}."
        )
    if spent["lost"]:
        bound = f", up to USD {spent['lost_bound']:.4g}" if found["priced"] else ""
        lines.append(f"{spent['lost']} requests brought nothing and may have been billed{bound}.")
    if spent["failed"] or spent["not_asked"]:
        lines.append(
            f"{spent['failed']} calls failed and {spent['not_asked']} were not made{': ' + spent['stop'] if spent['stop'] else ''}. "
            "Their outcomes are not observed; the same command asks them again."
        )
    return lines + (_judge_sentences(found["judge"]) if found["judge"] else [])


def _judge_sentences(judged: Mapping[str, Any]) -> list[str]:
    """What a judge's verdicts are worth."""
    name = f"judge {judged['model']}"
    if judged["kind"] == "score":
        read = judged["answered"] - judged["unparsed"]
        return [f"{name} graded {read} of {judged['asked']} answers; {judged['asked'] - read} grades could not be had or read."]
    bias, verdicts = judged["position_bias"], judged["verdicts"]
    low, middle, high = (100 * bias[end] for end in ("low", "bias", "high"))
    line = (
        f"{name} compared {judged['pairs']} pairs: {verdicts['first'] + verdicts['second']} wins, {verdicts['tie']} ties, "
        f"{verdicts['unparsed']} unread; its two orders agree on {judged['agreement']:.0%} ({judged['inconsistent']} contradict each other)"
        f"; it favours the first position by {middle:+.1f} points [{low:+.1f}, {high:+.1f}]."
    )
    return [line, *(f"{name}: {sentence}" for sentence in judged["sentences"])]
