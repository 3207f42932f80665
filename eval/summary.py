"""The result as text for a terminal: models, the router, its controls, and the verdict in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from routewright.core.console import as_text
from routewright.eval import promises
from routewright.eval.ruler import BUDGETS


def result_table(name: str, metrics: Mapping[str, Any]) -> str:
    """One run: quality and USD of every single model, then the router beside its controls."""
    from rich.table import Table

    head = f"{name} on {metrics['data']} | labels {metrics['labels']} | {metrics['evaluation']} | protocol {metrics['protocol']}"
    models = Table()
    for column in ("model", "quality", "95 %", "USD / 1k queries"):
        models.add_column(column, justify="left" if column == "model" else "right")
    for model, row in metrics["models"].items():
        models.add_row(model, number(row["quality"]), span(row["quality_ci"]), dollars(row["cost"]))
    table = Table()
    for column in ("", "APGR", "95 %", "CPT(50)", "CPT(80)", "saved at 95 %", "against fixed mix", "95 %"):
        table.add_column(column, justify="left" if column == "" else "right")
    table.add_row(*_row(name, metrics | metrics["verdict"]), style="bold")
    for control, row in metrics["controls"].items():
        if not control.startswith("model:"):
            table.add_row(*_row(control, row))
    return f"{head}\n{as_text(models, table, *_asked(metrics))}{_footnotes(metrics)}"


def comparison(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Several runs, the largest verdict difference first."""
    from rich.table import Table

    table = Table()
    for column in ("run", "APGR", "95 %", "saved at 95 %", "against fixed mix", "95 %", "verdict"):
        table.add_column(column, justify="left" if column in ("run", "verdict") else "right")
    for name, metrics in sorted(rows, key=lambda row: -row[1]["verdict"]["difference"]):
        cells = _row(name, metrics | metrics["verdict"])
        table.add_row(*cells[:3], *cells[5:], metrics["verdict"]["word"])
    return as_text(table)


def spending(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Quality where a quarter, half and three quarters of the best model's cost are spent: the fixed mix, every run, the oracle."""
    from rich.table import Table

    first = rows[0][1]
    table = Table(title="quality when spending that share of the best model's cost; gain over the fixed mix in points")
    table.add_column("")
    for percent in BUDGETS:
        table.add_column(f"{percent} %", justify="right")
    mix, oracle = (first["controls"][name] for name in ("fixed_mix", "oracle"))
    table.add_row("best fixed mix", *(number(mix.get(f"quality_at_cost_{percent}")) for percent in BUDGETS))
    for name, metrics in rows:
        table.add_row(name, *(_spent(metrics, percent) for percent in BUDGETS))
    table.add_row("oracle", *(_spent(oracle, percent) for percent in BUDGETS))
    return as_text(table)


def _spent(row: Mapping[str, Any], percent: int) -> str:
    """Quality with its interval, and below it what is gained over the fixed mix with its own."""
    cells = f"{number(row.get(f'quality_at_cost_{percent}'))} {span(row.get(f'quality_at_cost_{percent}_ci'))}"
    gain, ends = row.get(f"gain_at_cost_{percent}"), row.get(f"gain_at_cost_{percent}_ci")
    return cells if gain is None or ends is None else f"{cells}\n{signed(gain)} {span(ends, scale=100)}"


def transfers(rows: Sequence[Mapping[str, Any]]) -> str:
    """The transfer table: every run on every pair, in the order they were judged."""
    from rich.table import Table

    table = Table()
    table.add_column("run", overflow="fold")
    table.add_column("weak\n-> strong", no_wrap=True)
    for column in ("queries", "seen", "APGR", "95 %", "10 bins", "short\nfirst", "against\nfixed mix"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for row in rows:
        paper = (row["routellm"] or {}).get("apgr")
        figures = [number(row["apgr"]), span(row["apgr_ci"]), number(paper), number(row["short_first_apgr"])]
        against = f"{signed(row['difference'])}\n{span(row['ci'], scale=100)}"
        pair = f"{row['weak']}\n-> {row['strong']}"
        table.add_row(row["run"], pair, str(row["n_test"]), str(row["seen"]), *figures, against, row["word"])
    return as_text(table)


def _row(name: str, row: Mapping[str, Any]) -> list[str]:
    return [
        name,
        number(row.get("apgr")),
        span(row.get("apgr_ci")),
        percent(row.get("cpt50"), 1),
        percent(row.get("cpt80"), 1),
        percent(row.get("cost_saved_at_95"), 100),
        signed(row.get("difference")),
        span(row.get("ci"), scale=100),
    ]


def _asked(metrics: Mapping[str, Any]) -> list[Any]:
    """A table of the operating points that were asked for: what was promised, and what test says; none where none was."""
    from rich.table import Table

    rows = promises.promised(metrics, asked=True)
    table = Table()
    for column in ("asked", "promised", "chosen on", "there", "on test", "95 %", "kept", "quality", "USD / 1k queries"):
        table.add_column(column, justify="left" if column in ("asked", "chosen on", "kept") else "right")
    for name, row in rows.items():
        low, high = row["realised_ci"] or (None, None)
        ends = "-" if low is None else f"[{percent(low, 100)}, {percent(high, 100)}]"
        kept = "-" if row["kept"] is None else "yes" if row["kept"] else "no"
        promised, there, here = (percent(row[key], 100) for key in ("promised", "reachable", "realised"))
        table.add_row(name, promised, promises.chosen_on(row), there, here, ends, kept, number(row["quality"]), dollars(row["cost"]))
    return [table] if rows else []


def _footnotes(metrics: Mapping[str, Any]) -> str:
    """Reasons for what is withheld (each once), and what the cost rests on."""
    reasons: dict[str, list[str]] = {}
    for key, reason in metrics["withheld"].items():
        reasons.setdefault(reason, []).append(key)
    lines = [f"{', '.join(keys)} withheld: {reason}" for reason, keys in reasons.items()]
    if promises.promised(metrics, asked=True):
        lines.append("A share is kept where test differs from it by no more than both samples leave open; a quality where test reaches it.")
    lines += [f"{name}: {row['note']}." for name, row in promises.promised(metrics, asked=True).items() if row["note"]]
    lines.append(f"Costs are {metrics['usage']}; 'against fixed mix' is in quality points at equal cost.")
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def dollars(value: float | None) -> str:
    return "-" if value is None else f"{1000 * value:.4g}"


def percent(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{scale * value:.1f} %"


def signed(value: float | None) -> str:
    return "-" if value is None else f"{100 * value if abs(value) >= 5e-5 else 0:+.2f}"


def span(values: Sequence[float] | None, scale: float = 1.0) -> str:
    if values is None:
        return "-"
    form = "{:+.2f}" if scale != 1 else "{:.3f}"
    return f"[{form.format(scale * values[0])}, {form.format(scale * values[1])}]"
