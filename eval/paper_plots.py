"""Draws RouteLLM's figure for one benchmark: performance gap recovered against strong calls, a line a router, published points marked.

Only draws, by drawing.py. Published curves are not printed in numbers, so each published router is two points: CPT(50), CPT(80).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routewright.core.types import Curve
from routewright.eval import curves, drawing
from routewright.eval.paper_routellm import Judged

COLOURS: Mapping[str, tuple[str, str]] = {
    "mf": (drawing.BLUE, "o"),
    "sw_ranking": (drawing.VERMILION, "s"),
    "bert": (drawing.PURPLE, "D"),
    "causal_llm": (drawing.ORANGE, "^"),
}
WIDTHS: Mapping[str, drawing.Style] = {
    "arena": {"linestyle": (0, (4, 1.5)), "linewidth": 1.3},
    "augmented": {"linestyle": "-", "linewidth": 2.2},
}
SIZES = {"mf": 9.5, "bert": 7.0, "causal_llm": 7.0, "sw_ranking": 6.0}  # so that the first still shows under a later one
NAMES = {"mf": "matrix factorisation", "sw_ranking": "SW ranking", "bert": "BERT", "causal_llm": "causal LLM"}
LEVELS = (("cpt50", 50.0), ("cpt80", 80.0))


def figure_svg(found: Judged) -> str:
    """The figure as one inline SVG."""
    return drawing.svg(lambda: _figure(found), f"paper-{found.name}", alt(found))


def figure_png(found: Judged) -> bytes:
    """The same as PNG, 1,000 pixels wide."""
    return drawing.png(lambda: _figure(found))


def alt(found: Judged) -> str:
    """The figure in words."""
    said = [
        f"{row.router}, {row.recipe}: APGR {row.exact['apgr']:.3f}" + (f" (published {row.published['apgr']})" if row.published else "")
        for row in found.rows
        if row.exact is not None
    ]
    return f"{found.title}: performance gap recovered in % against the share of calls to {found.strong} in %. {'; '.join(said)}."


def _figure(found: Judged) -> Any:
    from matplotlib.ticker import MultipleLocator

    drawn = [key for key in found.curves if key[0] in WIDTHS]
    routers = [name for name in COLOURS if any(row.router == name and row.recipe in WIDTHS for row in found.rows)]
    figure, axes = drawing.canvas(rows=drawing.legend_rows(len(routers) + 5), height=4.6)
    level = axes.plot([0, 100], [0, 100], label="random", **drawing.CONTROLS["random"][1])
    oracle = found.curves["none", "oracle"]
    x, y = _points(found, oracle)
    level += axes.plot([*x, 100], [*y, y[-1]], label="oracle", **drawing.ORACLE)  # it needs no further calls
    for recipe, router in drawn:
        axes.plot(*_points(found, found.curves[recipe, router]), color=COLOURS[router][0], zorder=4, **WIDTHS[recipe])
    for row in found.rows:
        if row.router in COLOURS and row.recipe in WIDTHS and row.published is not None:
            _mark(axes, row.router, row.recipe, row.published)
    axes.axhline(100, color=drawing.GREY, linewidth=0.8)
    axes.set_xlim(-2, 102)
    axes.set_ylim(min(-12.0, axes.get_ylim()[0]), axes.get_ylim()[1])
    axes.set_xlabel(f"share of calls to {drawing.shorten(found.strong, 24)} (%)")
    axes.yaxis.set_major_locator(MultipleLocator(20))
    axes.set_title(f"{found.title}: performance gap recovered (%)", loc="left")
    drawing.legend(figure, _handles(routers) + level)
    return figure


def _points(found: Judged, curve: Curve) -> tuple[Any, Any]:
    """x and y in %: the share of strong calls and the gap recovered."""
    thin, (weak, strong) = curves.thin(curve), found.means
    return 100 * thin.share[:, 1], 100 * (thin.quality - weak) / (strong - weak)


def _mark(axes: Any, router: str, recipe: str, printed: Mapping[str, str]) -> None:
    """The published CPT(50) and CPT(80): filled for augmented data, hollow for the arena alone."""
    color, marker = COLOURS[router]
    face = color if recipe == "augmented" else "white"
    axes.plot(
        [float(printed[key]) for key, _ in LEVELS],
        [height for _, height in LEVELS],
        marker,
        color=color,
        markerfacecolor=face,
        markersize=SIZES[router],
        markeredgewidth=1.4,
        zorder=6,
    )


def _handles(routers: list[str]) -> list[Any]:
    """What the legend shows: a colour and a marker for every router, a line for every recipe, and what a marker is."""
    from matplotlib.lines import Line2D

    def line(label: str, **style: Any) -> Any:
        return Line2D([], [], label=label, **style)

    shown = [line(NAMES[name], color=COLOURS[name][0], marker=COLOURS[name][1], linewidth=2.2) for name in routers]
    shown += [
        line("ours, augmented", color=drawing.BLACK, **WIDTHS["augmented"]),
        line("ours, arena or its stand-in", color=drawing.BLACK, **WIDTHS["arena"]),
        line("paper, augmented", color=drawing.BLACK, marker="o", linestyle="none"),
        line("paper, arena only", color=drawing.BLACK, marker="o", markerfacecolor="white", linestyle="none"),
    ]
    return shown
