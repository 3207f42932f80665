"""Writes the report: one self-contained HTML page, for one judged run or for a comparison of several.

Nothing is computed here that metrics.json does not hold, save what a fixed mix would save, which is read off its own curve. Every text
that comes from outside is escaped by the template; a missing value is an en dash with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from routewright.core.types import Curve, InputError
from routewright.eval import metrics as measures
from routewright.eval import page, plots, promises, transfer
from routewright.eval.numerals import DASH, Cell, cell, known, percent, points, quality, share, usd
from routewright.eval.ruler import BUDGETS
from routewright.eval.verdict import HELPS, HURTS, NO_EVIDENCE

SYMBOLS = {HELPS: "▲", NO_EVIDENCE: "○", HURTS: "▼"}
CLASSES = {HELPS: "helps", NO_EVIDENCE: "none", HURTS: "hurts"}
FRACTIONS = (95, 98, 100)  # % of the best model's quality

USAGE = {
    "measured": "measured: token counts as billed",
    "estimated": "estimated: token counts come from a tokenizer, not from a bill",
    "nominal": "nominal: at prices that nobody charges, so the dollars are only as good as those",
    "none": "none: no cost is known",
}
CONTROLS = {
    "fixed_mix": ("best fixed mix", "a coin between the best single models; the yardstick"),
    "random": ("random", "a coin with the router's own call rates"),
    "shuffled_decisions": ("shuffled decisions", "the scores under test, handed to the wrong queries"),
    "shuffled_labels": ("shuffled labels", "what is under test, retrained on labels of other queries"),
    "group": ("group label only", "knows the subject or task, not the text"),
    "length": ("length only", "knows how long the query is"),
    "short_first": ("short first", "knows that short queries cost less, nothing of quality"),
    "router_alone": ("its router alone", "asks one model, chosen from the query; no answer is looked at"),
    "oracle": ("oracle", "knows every outcome and asks one model: the ceiling"),
}
# keys of metrics that stand in a place of their own on the page, rather than in the table of metrics
PLACED = {
    "data", "router", "labels", "protocol", "policy", "evaluation", "usage", "n_train", "n_calibration", "n_test", "n_groups",
    "n_unobserved", "n_uncosted",
    "axis", "weak", "strong", "models", "reliability", "controls", "operating_points", "verdict", "leakage", "withheld",
    "routellm", "exact", "seen", "transfer", "cascade", "signal", "encoder",
}  # fmt: skip
LEFT_OUT = {"schema", "pool"}  # say how to read the file, nothing about the run


@dataclass(frozen=True)
class View:
    """One judged run as the report shows it.

    metrics: what metrics.json holds. curves: `router` always, controls by name where there are any. facts: what made it, by name, as text;
    `command` is shown as the command that makes it again. Raises InputError where the verdict, the models or the router's curve is missing.
    """

    name: str
    metrics: dict[str, Any]
    curves: dict[str, Curve]
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [key for key in ("verdict", "models", "weak", "strong", "controls") if key not in self.metrics]
        if "router" not in self.curves:
            missing.append("curves['router']")
        if "verdict" in self.metrics and self.metrics["verdict"].get("word") not in SYMBOLS:
            missing.append("verdict.word that is one of " + ", ".join(SYMBOLS))
        if missing:
            raise InputError(
                "a run cannot be reported",
                where=repr(self.name),
                expected="metrics and curves of a finished evaluation",
                found=f"no {', '.join(missing)}",
                mend="Evaluate the run again: python evaluate.py runs=[...].",
            )


def render(views: Sequence[View], *, title: str) -> str:
    """The page as text: for one view its report, for several a comparison sorted by the verdict's difference. Same input, same bytes.

    Raises InputError where there is no view.
    """
    if not views:
        raise InputError("there is nothing to report", expected="at least one run", found="none", mend="Name runs: runs=[...].")
    ranked = sorted(views, key=_rank)
    pages = [_page(view, i, alone=len(views) == 1) for i, view in enumerate(ranked)]
    compared = _comparison(ranked) if len(views) > 1 else None
    return page.filled("report.html", title=title, pages=pages, compared=compared)


def _rank(view: View) -> tuple[float, str]:
    difference = view.metrics["verdict"]["difference"]
    return (-difference if known(difference) else float("inf"), view.name)


def _reason(view: View, key: str) -> str:
    """Why a value was withheld. Companions share their owner's reason: usd_cost_saved_at_95 has cost_saved_at_95's, aiq_code aiq's."""
    withheld: Mapping[str, str] = view.metrics.get("withheld", {})
    for name in (key, key.removeprefix("usd_"), key.split("_")[0]):
        if name in withheld:
            return withheld[name]
    return "not measured in this evaluation"


MetricRow = tuple[str, str, Callable[[Any], str], str]


def _metric_rows(axis: str) -> list[MetricRow]:
    """key, name, form and meaning of every metric in the order shown."""
    saved = [
        row
        for f in FRACTIONS
        for row in (
            (
                f"cost_saved_at_{f}",
                f"cost saved at {f}\u00a0%",
                percent,
                f"of the best model's dollars, while keeping {f}\u00a0% of its quality",
            ),
            (f"usd_cost_saved_at_{f}", f"USD saved at {f}\u00a0%", usd, "the same per 1,000 queries"),
        )
    ]
    return [
        ("apgr", "APGR", quality, f"mean share of the quality gap recovered over the {axis}; a coin gets 0.500"),
        ("cpt50", "CPT(50)", share, f"the {axis} that recovers 50\u00a0% of the gap; a coin needs 50\u00a0%"),
        ("cpt80", "CPT(80)", share, f"the {axis} that recovers 80\u00a0% of the gap; a coin needs 80\u00a0%"),
        *saved,
        *(
            row
            for b in BUDGETS
            for row in (
                (
                    f"quality_at_cost_{b}",
                    f"quality at {b}\u00a0% of the cost",
                    quality,
                    f"where {b}\u00a0% of the best model's dollars are spent",
                ),
                (f"gain_at_cost_{b}", f"gain there, {b}\u00a0%", points, "in points above the best fixed mix of the same cost"),
            )
        ),
        ("peak_quality", "peak quality", quality, "the best the router does at any cost"),
        ("quality_at_best", "quality at knob 0", quality, "every query goes where the best answer is predicted, whatever it costs"),
        ("oracle_quality", "oracle quality", quality, "the ceiling: the best answer of any model for each query"),
        ("gap_recovered", "gap to the oracle", percent, "of the way from the best single model to the oracle, at knob 0"),
        ("aiq", "AIQ", quality, "mean quality over the shared range of costs (RouterBench, as its paper says)"),
        ("aiq_fixed_mix", "AIQ of the best fixed mix", quality, "the same without any router"),
        ("aiq_code", "AIQ, published code", quality, "as RouterBench's code has it: from the router's own lowest cost"),
        ("auroc", "AUROC", quality, "of predicted quality for right and wrong answers; 0.500 is chance"),
        ("brier", "Brier score", quality, "mean squared error of predicted quality; lower is better"),
        ("ece", "ECE", quality, "mean distance of predicted from observed quality; lower is better"),
    ]


def _metrics_table(view: View) -> list[tuple[str, Cell, str]]:
    """Rows of name, value with interval or reason, and meaning. What the table does not know is shown under its own key."""
    values = view.metrics
    known_rows = _metric_rows(values.get("axis", "share of strong calls"))
    titles = {key: name for key, name, *_ in known_rows}
    rows = [
        (name, cell(values.get(key), form, values.get(f"{key}_ci"), _reason(view, key)), meaning)
        for key, name, form, meaning in known_rows
        if key in values or key in values.get("withheld", {})
    ]
    for key, name in (("routellm", "by RouteLLM's 10 bins"), ("exact", "by the exact curve")):
        found = values.get(key) or {}
        forms = {"apgr": quality, "cpt50": share, "cpt80": share}
        rows += [
            (f"{titles[part]} {name}", cell(found.get(part), forms[part], found.get(f"{part}_ci"), _reason(view, part)), "")
            for part in forms
            if part in found
        ]
    shown = {key for key, *_ in known_rows} | {f"{key}_ci" for key, *_ in known_rows} | PLACED | LEFT_OUT
    rows += [(key, _other(view, key), "") for key in sorted(set(values) - shown)]
    return rows


def _other(view: View, key: str) -> Cell:
    value = view.metrics[key]
    if isinstance(value, float | int) and not isinstance(value, bool):
        return cell(value, lambda number: f"{number:.4g}", None, _reason(view, key))
    return Cell(DASH, _reason(view, key)) if value is None else Cell(str(value))


def _models_table(view: View) -> list[tuple[str, Cell, Cell]]:
    """Single models from the cheapest on: name, quality, USD per 1,000 queries. They stand for the `model:` controls."""
    models = view.metrics["models"]
    order = sorted(models, key=lambda name: (models[name]["cost"] if known(models[name].get("cost")) else 0.0, name))
    return [
        (
            name,
            cell(models[name]["quality"], quality, models[name].get("quality_ci"), "not observed"),
            cell(_thousand(models[name].get("cost")), usd, None, "no cost is known"),
        )
        for name in order
    ]


def _thousand(cost: Any) -> Any:
    return 1000 * cost if known(cost) else None


def _controls_table(view: View) -> list[tuple[str, str, list[Cell]]]:
    """The router, then every control: name, what it knows, and its cells (difference, APGR, AIQ, cost saved at 95 %)."""
    values = view.metrics
    router = {key: values.get(key) for key in ("apgr", "apgr_ci", "aiq", "cost_saved_at_95")}
    router |= {key: values["verdict"].get(key) for key in ("difference", "ci")}
    rows = [(view.name, "what is under test", router)]
    found = values["controls"]
    for name in [*CONTROLS, *sorted(set(found) - set(CONTROLS))]:
        if name in found and not name.startswith("model:"):
            title, knows = CONTROLS.get(name, (name, ""))
            rows.append((title, knows, found[name]))
    return [
        (
            title,
            knows,
            [
                cell(row.get("difference"), points, row.get("ci"), "nothing to trade: the best model is the cheapest"),
                cell(row.get("apgr"), quality, row.get("apgr_ci"), _reason(view, "apgr")),
                cell(row.get("aiq"), quality, None, _reason(view, "aiq")),
                cell(row.get("cost_saved_at_95"), percent, None, _reason(view, "cost_saved_at_95")),
            ],
        )
        for title, knows, row in rows
    ]


def _operating_table(view: View) -> list[tuple[str, list[Cell], list[tuple[str, str]]]]:
    """Named operating points: name, cells (quality, USD per 1,000, difference, knob), and the share of calls to each model."""
    carried = " (chosen for another pair)" if transfer.moved(view.metrics) else ""
    return [
        (
            name + carried,
            [
                cell(row["quality"], quality, row.get("quality_ci"), "not observed"),
                cell(_thousand(row.get("cost")), usd, None, "no cost is known"),
                cell(row.get("difference"), points, row.get("ci"), "not measured"),
                cell(row.get("knob"), lambda knob: f"{knob:.4g}" if abs(knob) < 1e9 else "above every gain", None, "not measured"),
            ],
            [(model, percent(part)) for model, part in row["share"].items()],
        )
        for name, row in (view.metrics.get("operating_points") or {}).items()
    ]


def _savings(view: View) -> list[dict[str, Any]]:
    """What is saved per 1,000 queries at each fraction of the best model's quality, by the router and by the best fixed mix."""
    if not plots.has_dollars(view):
        return []
    models, rows = view.metrics["models"], []
    best = max(models.values(), key=lambda model: model["quality"])
    mix = view.curves.get("fixed_mix")
    for f in FRACTIONS:
        routed = view.metrics.get(f"usd_cost_saved_at_{f}")
        mixed = _mix_saves(mix, f / 100, best) if mix is not None else None
        more = routed - mixed if routed is not None and mixed is not None else None
        rows.append(
            {
                "fraction": f,
                "router": cell(routed, usd, view.metrics.get(f"usd_cost_saved_at_{f}_ci"), _reason(view, f"cost_saved_at_{f}")),
                "part": percent(view.metrics.get(f"cost_saved_at_{f}")),
                "mix": cell(mixed, usd, None, "the fixed mix's curve is not at hand"),
                "more": cell(more, usd, None, "not comparable"),
            }
        )
    return rows


def _mix_saves(mix: Curve, fraction: float, best: Mapping[str, float]) -> float:
    """USD per 1,000 queries that the cheapest fixed mix of this fraction of the best model's quality saves against that model."""
    reach = float(measures.cost_at(fraction, mix.cost, mix.quality, best["quality"])[0])
    return 1000 * (best["cost"] - min(reach, best["cost"])) if known(reach) else 0.0


def _described(view: View) -> list[tuple[str, str]]:
    """Data and leakage in rows of name and text; rows without a value are left out."""
    values = view.metrics
    leak = values.get("leakage") or {}
    near = leak.get("near_duplicates")
    rows: list[tuple[str, Any]] = [
        ("data", values.get("data")),
        ("cascade", values.get("cascade")),
        ("told by the signal", values.get("signal")),
        ("router", values.get("router")),
        ("encoder", values.get("encoder")),
        ("labels", values.get("labels")),
        ("protocol", values.get("protocol")),
        ("policy", values.get("policy")),
        ("evaluation", values.get("evaluation")),
        ("curve measured over", values.get("axis")),
        ("basis of the cost", USAGE.get(values.get("usage", ""), values.get("usage"))),
        (
            "train / calibration / test",
            " / ".join(f"{values[k]:,}" for k in ("n_train", "n_calibration", "n_test") if known(values.get(k))),
        ),
        ("router trained for", " -> ".join(values["transfer"][role] for role in ("weak", "strong")) if values.get("transfer") else None),
        ("queries left out, since the run has seen them", values.get("seen")),
        ("groups in the test part", values.get("n_groups")),
        ("test queries left out, not observed on every model", values.get("n_unobserved")),
        ("test queries left out, without a cost for every model", values.get("n_uncosted")),
        ("test queries that stand word for word in training", leak.get("exact_duplicates")),
        (f"… or nearly (cosine ≥ {leak.get('threshold', 0.95)})", f"{DASH} (not encoded)" if leak and near is None else near),
        ("closest pairs (test, train, cosine)", "; ".join(", ".join(map(str, _items(pair))) for pair in leak.get("examples", []))),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _items(pair: Any) -> list[Any]:
    values = list(pair.values()) if isinstance(pair, Mapping) else list(pair) if isinstance(pair, list | tuple) else [pair]
    return [DASH if value is None else value for value in values]


def _page(view: View, number: int, *, alone: bool) -> dict[str, Any]:
    """Everything the template shows of one run."""
    values = view.metrics
    said = values["verdict"]["word"]
    withheld = values.get("withheld", {})
    placed = {key for key, *_ in _metric_rows("")} | {"operating_points"}
    return {
        "id": f"run{number + 1}",
        "name": view.name,
        "word": said,
        "symbol": SYMBOLS[said],
        "class": CLASSES[said],
        "sentence": values["verdict"]["sentence"],
        "unit": values["verdict"].get("unit", ""),
        "weak": values["weak"],
        "strong": values["strong"],
        "pair": plots.is_pair(view),
        "best": max(values["models"], key=lambda name: values["models"][name]["quality"]),
        "dollars": plots.has_dollars(view),
        "no_dollars": _reason(view, "cost_saved_at_95"),
        "cpt": [(x, share(values.get(f"cpt{x}"))) for x in (50, 80) if known(values.get(f"cpt{x}"))],
        "usage": values.get("usage", "none"),
        "savings": _savings(view),
        "tradeoff": plots.tradeoff([view]) if alone else "",
        "recovered": plots.recovered(view) if alone and plots.is_pair(view) and _adds(view) else "",
        "gap_reason": withheld.get("apgr", ""),
        "reliability": plots.reliability(view, f"reliability{number + 1}") if values.get("reliability") else "",
        "calibration": [
            (name, cell(values.get(key), quality, None, _reason(view, key))) for key, name in (("ece", "ECE"), ("brier", "Brier"))
        ],
        "metrics": _metrics_table(view),
        "models": _models_table(view),
        "controls": _controls_table(view),
        "operating": _operating_table(view),
        "promises": promises.report_rows(values),
        "no_operating": _reason(view, "operating_points"),
        "withheld": sorted((key, why) for key, why in withheld.items() if key not in placed),
        "described": _described(view),
        "command": view.facts.get("command", ""),
        "facts": [(name, text) for name, text in view.facts.items() if name != "command"],
    }


def _adds(view: View) -> bool:
    """Whether the plot over strong calls says more than the cost-quality plot: with neither dollars nor a gap it is the same one."""
    return plots.has_dollars(view) or plots.gap_carries(view)


def _comparison(views: Sequence[View]) -> dict[str, Any]:
    """The comparison of views that are sorted already, best difference first."""
    words = Counter(view.metrics["verdict"]["word"] for view in views)
    mixed = sorted({plots.has_dollars(view) for view in views})
    return {
        "plot": plots.tradeoff(views),
        "count": [(SYMBOLS[word], words[word], word, CLASSES[word]) for word in SYMBOLS if words[word]],
        "best": views[0].metrics["verdict"]["sentence"],
        "class": CLASSES[views[0].metrics["verdict"]["word"]],
        "symbol": SYMBOLS[views[0].metrics["verdict"]["word"]],
        "unlike": _unlike(views),
        "left_out": [view.name for view in views if plots.has_dollars(view) != plots.has_dollars(views[0])] if len(mixed) > 1 else [],
        "coloured": plots.COLOURED,
    }


def _unlike(views: Sequence[View]) -> list[str]:
    """What differs between the runs that should be the same before their numbers are compared."""
    names = {
        "data": "data",
        "labels": "labels",
        "protocol": "protocol",
        "n_test": "number of test queries",
        "models": "models and test part",
    }
    return [
        f"{title}: {', '.join(sorted({str(view.metrics.get(key)) for view in views}))}" if key != "models" else title
        for key, title in names.items()
        if any(view.metrics.get(key) != views[0].metrics.get(key) for view in views[1:])
    ]
