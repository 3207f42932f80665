"""Collects: asks every arm every question through the engine, then samples, self-reports and judges; grades; makes Outcomes of it all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from routewright.core.contracts import Grader
from routewright.core.judged import win_shares
from routewright.core.prices import PriceBook
from routewright.core.types import Battles, Floats, InputError, Outcomes, Pool, Strings
from routewright.data import battles as fights
from routewright.data.calls import Ask
from routewright.data.engine import Engine, Tally
from routewright.data.evidence import agreement, confidence_messages, read_confidence
from routewright.data.judge import PairJudge, ScoreJudge
from routewright.data.meaning import Meaning
from routewright.data.plan import Plan, Planner, follow_up
from routewright.data.sheet import TOLD, Sheet, read_sheet
from routewright.data.store import Store

log = logging.getLogger("routewright")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which signals are bought beside the answers.

    samples: further draws at sample_temperature, for agreement. self_report: a second prompt, "scale" (1-5) or "percent"; None: not asked.
    report_tokens: the longest self-report that is waited for.
    """

    samples: int = 0
    sample_temperature: float = 0.7
    self_report: str | None = None
    report_tokens: int = 16

    def __post_init__(self) -> None:
        if self.samples < 0 or (self.samples and not self.sample_temperature > 0):
            found = f"samples={self.samples}, sample_temperature={self.sample_temperature}"
            raise InputError("these samples cannot be drawn", expected="samples >= 0 and a temperature above 0", found=found)
        if self.self_report not in (None, "scale", "percent"):
            raise InputError("unknown self-report", where="self_report", expected="null, scale or percent", found=repr(self.self_report))


@dataclass(frozen=True, eq=False)
class Collected:
    """Everything a collection made.

    outcomes: quality of every arm on every question. status[n,m]: how each call ended (data/sheet.py). extracted[n,m]: what the grader read
    in each answer, None where nothing. drawn[n,m,s] and drawn_extracted: the sampled answers. battles and judged: of a judge.
    """

    outcomes: Outcomes
    status: Strings
    extracted: Strings
    drawn: Strings
    drawn_extracted: Strings
    battles: Battles | None
    judged: Mapping[str, Any] | None
    tally: Tally


@dataclass(eq=False)
class Collector:
    """Makes a collection. verifier: a grader that needs no gold. judge: replaces the grader's quality by its own. meaning: compares the
    samples' whole texts."""

    planner: Planner
    engine: Engine
    store: Store
    grader: Grader
    wanted: Wanted
    prices: PriceBook | None = None
    verifier: Grader | None = None
    judge: ScoreJudge | PairJudge | None = None
    meaning: Meaning | None = None
    tell: Callable[[str], None] = log.info
    tally_: Tally | None = field(default=None, init=False)
    keys_: dict[str, None] = field(default_factory=dict, init=False)  # of every call that is part of it, in order

    async def run(self) -> Collected:
        """Asks, waits, grades. Raises InputError before the first call for what cannot end well."""
        self._check()
        answers, draws = self.planner.sweep(), self._draws()
        self._forecast(chain(answers.asks, *(plan.asks for plan in draws)))
        await self._ask(answers.asks)
        sheet = self._sheet(answers)
        await self._ask(list(chain(*(plan.asks for plan in draws))))
        drawn = [self._sheet(plan) for plan in draws]
        signals = self._evidence(sheet)
        signals |= await self._self_reports(sheet)
        extracted = _map(self.grader.extract, sheet.answer)
        n, m = sheet.answer.shape
        texts = np.stack([part.answer for part in drawn], axis=2) if drawn else np.empty((n, m, 0), dtype=object)
        if drawn:
            signals |= self._agreements(extracted, drawn)
        if self.meaning is not None:
            signals["meaning"], signals["meaning_entropy"] = self.meaning.compared(sheet.answer, texts)
        quality, fought, judged = await self._quality(sheet)
        if self.verifier is not None:
            signals["verifier"] = self._grades(self.verifier, sheet.answer, gold=False)
        assert self.tally_ is not None
        outcomes = self._outcomes(quality, sheet, signals)
        return Collected(outcomes, sheet.status, extracted, texts, _map(self.grader.extract, texts), fought, judged, self.tally_)

    def _check(self) -> None:
        gold = self.planner.questions.gold
        if self.judge is None and self.grader.needs_gold and not (gold != "").any():
            raise InputError(
                "there is nothing to grade against",
                expected="gold answers",
                found="none for any question",
                mend="Name their column (questions.gold=NAME), choose a grader that needs none, or a judge: judge=score.",
            )
        if self.meaning is not None and not self.wanted.samples:
            mend = "Say samples=5, or leave out encoder@meaning.encoder."
            raise InputError("there are no samples whose meaning could be compared", expected="samples >= 1", found="samples=0", mend=mend)
        if isinstance(self.judge, PairJudge) and len(self.planner.arms) < 2:
            raise InputError("a pairwise judge needs two arms", expected="arms=[a,b]", found=self.planner.arms[0].name)
        if self.grader.needs_gold and self.judge is None:
            for row in np.flatnonzero(gold != "").tolist():
                self.grader.grade("", gold[row])  # a gold that cannot be graded against is told before anything is paid

    def _draws(self) -> list[Plan]:
        wanted = self.wanted
        return [self.planner.sweep(sample=s, temperature=wanted.sample_temperature) for s in range(1, wanted.samples + 1)]

    def _forecast(self, asks: Any) -> None:
        ahead = self.engine.forecast(asks)
        span = (
            "USD not known: no prices" if np.isnan(ahead.usd_high) else f"USD {ahead.usd_low:.4g} (prompts alone) to {ahead.usd_high:.4g}"
        )
        budget = self.engine.limits.budget_usd
        limit = "no budget set" if budget is None else f"budget USD {budget:g}"
        self.tell(f"forecast: {ahead.calls} calls to make, {ahead.recorded} recorded already; {span}; {limit}")

    async def _ask(self, asks: Sequence[Ask]) -> None:
        self.keys_ |= dict.fromkeys(ask.request.key() for ask in asks)
        self.tally_ = await self.engine.run(asks)

    def _sheet(self, plan: Plan) -> Sheet:
        return read_sheet(plan, self.planner.arms, self.store, self.prices, self.grader.extract)

    def _evidence(self, sheet: Sheet) -> dict[str, Floats]:
        if not self.planner.logprobs:
            return {}
        for arm, likely, spread in zip(self.planner.arms, sheet.logprob_mean.T, sheet.logprob_entropy.T, strict=True):
            if np.isnan(likely).all():
                why = "they were asked for and left out" if arm.batch == 1 else "those of one call are not told apart by query"
                self.tell(f"note: no log-probabilities came from {arm.name}: {why} (the signal is NaN)")
            elif np.isnan(spread).all():
                self.tell(f"note: no alternatives to the tokens of {arm.name} are recorded (logprob_entropy is NaN)")
        return {f"logprob_{name}": getattr(sheet, f"logprob_{name}") for name in TOLD}

    def _agreements(self, extracted: Strings, drawn: list[Sheet]) -> dict[str, Floats]:
        """agreement and majority [n,m] over the draws that came back, and what the draws cost."""
        shape = extracted.shape
        same, most = np.full(shape, np.nan), np.full(shape, np.nan)
        for cell in np.ndindex(*shape):
            came = [self.grader.extract(text) for sheet in drawn if (text := sheet.text(cell)) is not None]
            if came:
                main: Any = extracted[cell]
                same[cell], most[cell] = agreement(main, came)
        return {"agreement": same, "majority": most, "usd_samples": np.sum([sheet.usd for sheet in drawn], axis=0)}

    async def _self_reports(self, sheet: Sheet) -> dict[str, Floats]:
        """self_reported [n,m] in [0,1], and what the second prompts cost."""
        kind = self.wanted.self_report
        if kind is None:
            return {}
        arms = self.planner.arms
        cells = {cell: confidence_messages(self._text(cell), text, kind) for cell, text in _said(sheet).items() if text}
        ids, longest = self.planner.questions.queries.id.tolist(), self.wanted.report_tokens
        asks, place = follow_up(cells, lambda cell: arms[cell[1]].model, ids, self.planner.backend, max_tokens=longest)
        await self._ask(asks)
        value, usd = np.full(sheet.answer.shape, np.nan), np.full(sheet.answer.shape, np.nan)
        for cell, key in place.items():
            call = self.store.get(key)
            if call is not None:
                value[cell], usd[cell] = read_confidence(call.reply.text, kind), call.usd
        if np.isnan(value).all():
            self.tell("note: no self-reported confidence could be read (the signal is NaN)")
        return {"self_reported": value, "usd_self_reported": usd}

    def _grades(self, grader: Grader, answers: Strings, *, gold: bool) -> Floats:
        """quality [n,m]; NaN where nothing was observed, and where a gold answer is needed and there is none."""
        questions = self.planner.questions
        right = questions.gold
        cells = [
            cell
            for cell in np.ndindex(*answers.shape)
            if answers[cell] is not None and (not gold or not grader.needs_gold or right[cell[0]] != "")
        ]

        def grade(cell: tuple[int, ...]) -> float:
            return grader.grade(answers[cell], right[cell[0]] if gold else "", question=questions.queries.text[cell[0]])

        made = np.full(answers.shape, np.nan)
        with ThreadPoolExecutor() as pool:  # some graders wait for a subprocess
            for cell, value in zip(cells, pool.map(grade, cells), strict=True):
                made[cell] = value
        return made

    async def _quality(self, sheet: Sheet) -> tuple[Floats, Battles | None, Mapping[str, Any] | None]:
        """quality [n,m] by the grader or by the judge; a pairwise judge's battles; a judge's report on itself."""
        if self.judge is None:
            return self._grades(self.grader, sheet.answer, gold=True), None, None
        if isinstance(self.judge, ScoreJudge):
            return await self._scored(self.judge, sheet)
        return await self._compared(self.judge, sheet)

    async def _scored(self, judge: ScoreJudge, sheet: Sheet) -> tuple[Floats, None, Mapping[str, Any]]:
        gold = self.planner.questions.gold.tolist()
        cells = {cell: judge.messages(self._text(cell), text, gold[cell[0]] or None) for cell, text in _said(sheet).items()}
        said = await self._judged(judge, cells)
        quality = np.full(sheet.answer.shape, np.nan)
        for cell, text in said.items():
            value = judge.read(text)
            quality[cell] = np.nan if value is None else value
        unparsed = int(sum(np.isnan(quality[cell]) for cell in said))
        return quality, None, {"kind": "score", "model": judge.model, "asked": len(cells), "answered": len(said), "unparsed": unparsed}

    async def _compared(self, judge: PairJudge, sheet: Sheet) -> tuple[Floats, Battles, Mapping[str, Any]]:
        there, columns = _said(sheet), range(len(self.planner.arms))
        pairs = [(a, b) for a in columns for b in columns if a < b or (a > b and judge.orders == "both")]
        cells: dict[tuple[int, ...], Any] = {
            (row, a, b): judge.messages(self._text((row,)), there[row, a], there[row, b])
            for row in range(len(sheet.answer))
            for a, b in pairs
            if (row, a) in there and (row, b) in there
        }
        said = await self._judged(judge, cells)
        found, report = fights.verdicts(judge, said)
        fought = fights.battles(self.planner.questions.queries, self._pool(), found, sheet.usd)
        return win_shares(fought), fought, {"kind": "pairwise", "model": judge.model, "asked": len(cells), **report}

    async def _judged(self, judge: Any, cells: Mapping[tuple[int, ...], Any]) -> dict[tuple[int, ...], str]:
        """The judge's text for every cell that it answered."""
        ids = self.planner.questions.queries.id.tolist()
        asks, place = follow_up(cells, lambda cell: judge.model, ids, self.planner.backend, max_tokens=judge.max_tokens)
        await self._ask(asks)
        calls = {cell: self.store.get(key) for cell, key in place.items()}
        return {cell: call.reply.text for cell, call in calls.items() if call is not None}

    def _text(self, cell: tuple[int, ...]) -> str:
        return str(self.planner.questions.queries.text[cell[0]])

    def _pool(self) -> Pool:
        """The arms as a pool, with their models' prices."""
        names, variants = tuple(arm.name for arm in self.planner.arms), tuple(arm.variant for arm in self.planner.arms)
        if self.prices is None:
            return Pool(names, variant=variants)
        models = list(dict.fromkeys(arm.model for arm in self.planner.arms))
        priced, at = self.prices.pool(models), [models.index(arm.model) for arm in self.planner.arms]
        usd = {kind: getattr(priced, kind)[at] for kind in ("usd_input", "usd_cached_input", "usd_output", "usd_call")}
        return Pool(names, **usd, variant=variants)

    def _outcomes(self, quality: Floats, sheet: Sheet, signals: Mapping[str, Floats]) -> Outcomes:
        nominal = self.prices is not None and self.prices.nominal
        known = np.isfinite(sheet.usd).any()
        return Outcomes(
            self.planner.questions.queries,
            self._pool(),
            quality,
            sheet.usd,
            tokens=sheet.tokens,
            usage=("nominal" if nominal else "measured") if known else "none",
            latency=sheet.latency,
            answer=sheet.answer,
            signals=signals,
        )


def _said(sheet: Sheet) -> dict[tuple[int, ...], str]:
    """The cells in which an answer was observed."""
    return {cell: text for cell in np.ndindex(*sheet.answer.shape) if (text := sheet.text(cell)) is not None}


def _map(extract: Callable[[str], str | None], texts: Strings) -> Strings:
    """extract of every text, None kept as None."""
    made = np.full(texts.shape, None, dtype=object)
    for cell in np.ndindex(*texts.shape):
        text: Any = texts[cell]
        if text is not None:
            made[cell] = extract(text)
    return made
