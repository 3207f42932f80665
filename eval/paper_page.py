"""The paper's table beside ours, as text for a terminal and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from routewright.core.console import as_text
from routewright.eval import page, paper_plots
from routewright.eval.numerals import DASH, known
from routewright.eval.paper_routellm import DIFFERS, SAME, Fact, Judged, Row, published

FACT_NAMES = {
    "questions": "questions judged",
    "weak": "weak model",
    "strong": "strong model",
    "either": "either of them right (best of both)",
    "oracle.cpt50": "oracle CPT(50), %",
    "oracle.cpt80": "oracle CPT(80), %",
    "oracle.apgr": "oracle APGR",
    "random.cpt50": "random CPT(50), %",
    "random.cpt80": "random CPT(80), %",
    "random.apgr": "random APGR",
}
RECIPE_NAMES = {"none": "-", "arena": "arena", "augmented": "augmented"}
FACT_HEADS = ("", "reference", "ours, 10 bins", "ours, exact", "difference", "")
ROW_HEADS = ("router", "data", "published", "ours, 10 bins", "ours, exact", "APGR 95 %", "trained on", "status")
EXPLAINED = (
    "Cells are CPT(50) in % / CPT(80) in % / APGR. 10 bins: the paper's protocol. Exact: every threshold, with a bootstrap over questions."
)
WORDS = {SAME: "agrees", DIFFERS: "DIFFERS"}


def fact_cells(fact: Fact) -> list[str]:
    """One line of the table of facts; a drawn figure with the standard deviation of its draws."""
    places = 0 if fact.name == "questions" else 3
    drawn = f" ± {fact.spread:.{places}f}" if fact.spread is not None else ""
    difference = "-" if fact.published is None else f"{fact.ours - float(fact.published):+z.{places}f}"
    exact = "-" if fact.exact is None else f"{fact.exact:.{places}f}"
    word = WORDS.get(fact.word, "-")
    return [FACT_NAMES[fact.name], fact.published or "-", f"{fact.ours:.{places}f}{drawn}", exact, difference, word]


def row_cells(row: Row) -> list[str]:
    """One line of the table of routers."""
    ci = None if row.exact is None else row.exact["apgr_ci"]
    span = "-" if ci is None else f"[{ci[0]:.3f}, {ci[1]:.3f}]"
    printed = "-" if row.published is None else "/".join(row.published[key].removeprefix("0") for key in ("cpt50", "cpt80", "apgr"))
    name = RECIPE_NAMES[row.recipe]
    return [row.router, name, printed, triple(row.protocol), triple(row.exact), span, row.trained_on or "-", row.status]


def triple(figures: Mapping[str, Any] | None) -> str:
    """CPT(50) / CPT(80) / APGR as the paper prints them; a dash for what is never reached."""
    if figures is None:
        return "-"
    cpt = [f"{figures[key]:.2f}" if known(figures[key]) else DASH for key in ("cpt50", "cpt80")]
    return "/".join([*cpt, f"{figures['apgr']:.3f}".removeprefix("0")])


def as_tables(found: Sequence[Judged]) -> str:
    """Two tables for each benchmark, at a terminal's width."""
    from rich.table import Table

    parts: list[str] = []
    for one in found:
        left = Table(*FACT_HEADS)
        for fact in one.facts:
            left.add_row(*fact_cells(fact))
        right = Table()
        for name in ROW_HEADS:
            right.add_column(name, no_wrap=name not in ("trained on", "status"))
        for row in one.rows:
            right.add_row(*row_cells(row))
        parts.append(f"{head(one)}\n{as_text(left, right)}")
    return "\n".join([*parts, EXPLAINED, *notes(found)])


def notes(found: Sequence[Judged]) -> list[str]:
    """What was learned from, and the routers' settings where they are not their YAML's: each once."""
    rows = [row for one in found for row in one.rows]
    tables = {name: told["what"] for row in rows for name, told in row.told.items()}
    settings = {row.router: ", ".join(f"{key}={value}" for key, value in row.settings.items()) for row in rows if row.settings}
    return [f"{name}: {what}." for name, what in (tables | settings).items()]


def head(one: Judged) -> str:
    """The benchmark in a line."""
    return f"{one.title} ({one.unit}) | {one.weak} -> {one.strong} | labels published"


def render(found: Sequence[Judged], told: Mapping[str, str]) -> str:
    """The page: for each benchmark its figure and both tables, then what made it. told: facts of the run, by name."""
    pages = [
        {
            "id": one.name,
            "title": one.title,
            "head": head(one),
            "svg": paper_plots.figure_svg(one),
            "facts": [fact_cells(fact) for fact in one.facts],
            "rows": [row_cells(row) for row in one.rows],
        }
        for one in found
    ]
    differs = [f"{one.title}: {FACT_NAMES[name]}" for one in found for name in one.differs]
    words = {"told": told, "sources": published()["sources"], "explained": EXPLAINED, "notes": notes(found)}
    heads = {"fact_heads": FACT_HEADS, "row_heads": ROW_HEADS}
    return page.filled("paper.html", pages=pages, differs=differs, **words, **heads)
