"""Draws a judged router: cost against quality, gap recovered against strong calls, reliability. Only draws: every number comes in.

Each function returns one inline SVG as text (or PNG bytes), made by drawing.py. Beside its colour every line differs by its dashes or its
marker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from routewright.core.types import Curve, Floats
from routewright.eval import curves, drawing
from routewright.eval.drawing import BLACK, BLUE, CONTROLS, GREY, MIX, ORACLE, ROUTER, RUNS, SMALL, Style, shorten
from routewright.eval.numerals import known

if TYPE_CHECKING:
    from routewright.eval.report import View

LABELLED = 12  # with more models than this only those on the fixed mix's hull are named in the plot
COLOURED = len(RUNS)  # with more runs than this the rest is grey
QUALITY = "quality (mean grade, 0 to 1)"


@dataclass(frozen=True)
class Label:
    """A name to stand beside one of its anchors, (a, 2) in data units, wherever it covers least."""

    text: str
    anchors: Floats
    color: str = BLACK


def has_dollars(view: View) -> bool:
    """Whether every model's cost is known, so that dollars may be shown."""
    return all(known(model.get("cost")) for model in view.metrics["models"].values())


def is_pair(view: View) -> bool:
    """Two models, and each query asks one of them: then the share of strong calls says all about the spend."""
    return len(view.metrics["models"]) == 2 and view.metrics.get("axis") != "spend"


def gap_carries(view: View) -> bool:
    """Whether shares of the models' quality gap may be drawn: the evaluation withholds APGR where they may not."""
    return known(view.metrics.get("apgr"))


def tradeoff(views: Sequence[View]) -> str:
    """Quality against USD per 1,000 queries, or against the share of strong calls where no cost is known.

    One view: router, best fixed mix, single models, oracle and controls. Several: every router, and the first view's mix and models.
    """
    return drawing.svg(lambda: _tradeoff(views), "tradeoff", _tradeoff_alt(views))


def curve_png(view: View) -> bytes:
    """The cost-quality plot of one view as PNG, 1,000 pixels wide."""
    return drawing.png(lambda: _tradeoff([view]))


def recovered(view: View) -> str:
    """Performance gap recovered in % (RouteLLM, arXiv 2406.18665, sec. 3) against the share of strong calls in %, for a pair.

    Where the gap does not carry that ratio (`apgr` is withheld) the vertical axis is plain quality.
    """
    strong, what = shorten(view.metrics["strong"]), "Performance gap recovered" if gap_carries(view) else "Quality"
    alt = f"{what} against the share of calls to {strong}: the router beside its controls."
    return drawing.svg(lambda: _recovered(view), "recovered", alt)


def reliability(view: View, key: str = "reliability") -> str:
    """Predicted against observed quality by bin, marker areas by count, counts beside them. key: prefix of the SVG's ids."""
    rows = view.metrics["reliability"]
    pairs = "; ".join(f"predicted {row['predicted']:.2f}, observed {row['observed']:.2f}, {row['n']} answers" for row in rows)
    return drawing.svg(lambda: _reliability(rows), key, f"Predicted against observed quality. {pairs}.")


def _across(view: View, curve: Curve) -> Floats:
    """Where a curve's points stand on the horizontal axis: USD per 1,000 queries, or % of calls to the strong model."""
    return 1000 * curve.cost if has_dollars(view) else 100 * curve.share[:, _strong(view)]


def _strong(view: View) -> int:
    # a pair's curve ends where the strong model answers everything; names say nothing about columns once JSON has sorted them
    return int(view.curves["router"].share[-1].argmax())


def _axis_title(view: View) -> str:
    if has_dollars(view):
        return "cost (USD per 1,000 queries)"
    return f"share of calls to {shorten(view.metrics['strong'], 20)} (%)"


def _tradeoff(views: Sequence[View]) -> Any:
    first, alone = views[0], len(views) == 1
    drawn = [view for view in views if has_dollars(view) == has_dollars(first)]
    figure, axes = drawing.canvas(rows=drawing.legend_rows(len(_beside(first)) if alone else min(len(drawn), COLOURED + 1)))
    handles = _thin_controls(axes, first, lambda curve: _across(first, curve), lambda curve: curve.quality) if alone else []
    labels, paths = [], []
    # among many coloured runs the oracle is grey
    ceiling = ORACLE if alone else {**ORACLE, "color": GREY}
    for name, title, style in (("oracle", "oracle", ceiling), ("fixed_mix", "best fixed mix", MIX)):
        if name in first.curves:
            paths.append(np.c_[_across(first, first.curves[name]), first.curves[name].quality])
            axes.plot(paths[-1][:, 0], paths[-1][:, 1], **style)
            labels.append(Label(title, _along(paths[-1]), style["color"]))
    if alone:
        curve = curves.thin(first.curves["router"])
        paths.append(np.c_[_across(first, curve), curve.quality])
        axes.plot(paths[-1][:, 0], paths[-1][:, 1], **ROUTER)
        labels.insert(0, Label(shorten(first.name, 22), _along(paths[-1]), BLUE))
    else:
        handles = _runs(axes, drawn, paths)
    points = _models(first)
    axes.plot([x for x, _ in points.values()], [y for _, y in points.values()], "o", color=BLACK, markersize=6, zorder=6)
    named = [Label(shorten(name), np.array([point])) for name, point in points.items() if name in _worth_naming(first, points)]
    axes.set_xlabel(_axis_title(first))
    axes.set_title(QUALITY, loc="left")
    axes.margins(0.07, 0.13)
    drawing.legend(figure, handles)
    _write(axes, named + labels, [np.array(list(points.values())), *paths])
    return figure


def _beside(view: View) -> list[str]:
    return [name for name in CONTROLS if name in view.curves]


def _thin_controls(axes: Any, view: View, x: Callable[[Curve], Floats], y: Callable[[Curve], Floats]) -> list[Any]:
    """Draws the controls as thin lines and returns what the legend shows of them."""
    handles = []
    for name in _beside(view):
        title, style = CONTROLS[name]
        curve = curves.thin(view.curves[name])
        handles += axes.plot(x(curve), y(curve), label=title, **style)
    return handles


def _runs(axes: Any, views: Sequence[View], paths: list[Floats]) -> list[Any]:
    """Every run's router curve, the first COLOURED in colours of their own; appends to paths, returns what the legend shows."""
    handles = []
    for i, view in enumerate(views):
        curve = curves.thin(view.curves["router"], 200)
        paths.append(np.c_[_across(view, curve), curve.quality])
        if i < COLOURED:
            style: Style = {"color": RUNS[i][0], "marker": RUNS[i][1], "markevery": (0.03 * i, 0.25), "linewidth": 1.8, "zorder": 4}
            handles += axes.plot(paths[-1][:, 0], curve.quality, label=shorten(view.name, 22), **style)
        else:
            rest = axes.plot(paths[-1][:, 0], curve.quality, color="#b0b0b0", linewidth=1.0, label=f"{len(views) - COLOURED} more")
            handles += rest if i == COLOURED else []
    return handles


def _models(view: View) -> dict[str, tuple[float, float]]:
    """(x, quality) of every single model."""
    models, dollars = view.metrics["models"], has_dollars(view)
    share = {view.metrics["weak"]: 0.0, view.metrics["strong"]: 100.0}
    return {name: (1000 * row["cost"] if dollars else share[name], row["quality"]) for name, row in models.items()}


def _worth_naming(view: View, points: Mapping[str, tuple[float, float]]) -> set[str]:
    if len(points) <= LABELLED or "fixed_mix" not in view.curves:
        return set(points)
    mix = view.curves["fixed_mix"]
    corners = {(round(float(x), 9), round(float(y), 9)) for x, y in zip(_across(view, mix), mix.quality, strict=True)}
    return {name for name, (x, y) in points.items() if (round(x, 9), round(y, 9)) in corners}


def _tradeoff_alt(views: Sequence[View]) -> str:
    parts = []
    for view in views[:COLOURED]:
        curve, x = view.curves["router"], _across(view, view.curves["router"])
        parts.append(f"{view.name} goes from {curve.quality[0]:.3f} at {x[0]:.4g} to {curve.quality[-1]:.3f} at {x[-1]:.4g}")
    singles = [f"{name} {y:.3f} at {x:.4g}" for name, (x, y) in _models(views[0]).items()]
    return f"Quality against {_axis_title(views[0])}. {'; '.join(parts)}. Single models: {'; '.join(singles)}."


def _recovered(view: View) -> Any:
    metrics, strong = view.metrics, _strong(view)
    weak_q, strong_q = (metrics["models"][metrics[side]]["quality"] for side in ("weak", "strong"))
    carried = gap_carries(view)
    low, unit = (weak_q, (strong_q - weak_q) / 100) if carried else (0.0, 1.0)
    figure, axes = drawing.canvas(rows=drawing.legend_rows(len(_beside(view))))
    handles = _thin_controls(axes, view, lambda curve: 100 * curve.share[:, strong], lambda curve: (curve.quality - low) / unit)
    labels, paths = [], []
    for name, title, style in (("oracle", "oracle", ORACLE), ("router", shorten(view.name, 22), ROUTER)):
        if name in view.curves:
            curve = curves.thin(view.curves[name])
            paths.append(np.c_[100 * curve.share[:, strong], (curve.quality - low) / unit])
            axes.plot(paths[-1][:, 0], paths[-1][:, 1], **style)
            labels.append(Label(title, _along(paths[-1]), style["color"]))
    for level in (80, 50) if carried else ():
        at = metrics.get(f"cpt{level}")
        if known(at):
            axes.plot([at], [level], "D", color=BLUE, markersize=6, zorder=6)
            labels.insert(0, Label(f"CPT({level}) {at:.1f} %", np.array([[at, level]]), BLUE))
    axes.set_xlabel(f"share of calls to {shorten(metrics['strong'], 20)} (%)")
    axes.set_title("performance gap recovered (%)" if carried else QUALITY, loc="left")
    axes.margins(0.05, 0.08)
    drawing.legend(figure, handles)
    _write(axes, labels, paths)
    return figure


def _reliability(rows: Sequence[Mapping[str, Any]]) -> Any:
    figure, axes = drawing.canvas()
    points = np.array([[row["predicted"], row["observed"]] for row in rows])
    counts = np.array([row["n"] for row in rows], dtype=np.float64)
    axes.plot([0, 1], [0, 1], **MIX)
    axes.plot(points[:, 0], points[:, 1], color=BLUE, linewidth=1.2)
    axes.scatter(points[:, 0], points[:, 1], s=20 + 140 * counts / counts.max(), color=BLUE, zorder=4)
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlabel("predicted quality")
    axes.set_title("observed quality, with the number of answers", loc="left")
    line = np.c_[np.linspace(0, 1, 50), np.linspace(0, 1, 50)]
    labels = [Label(f"{row['n']:,}", points[i : i + 1], BLUE) for i, row in enumerate(rows)]
    _write(axes, [*labels, Label("perfect", line[5:45:4], BLACK)], [points, line], clear=10.0)
    return figure


def _along(path: Floats) -> Floats:
    """Up to nine anchors along a path, evenly spaced on the horizontal axis, the middle of it first."""
    inside = np.linspace(0.1, 0.9, 9)[[4, 6, 2, 5, 3, 7, 1, 8, 0]]
    goal = path[:, 0].min() + inside * np.ptp(path[:, 0])
    order = np.argsort(path[:, 0], kind="stable")
    return np.c_[goal, np.interp(goal, path[order, 0], path[order, 1])]


def _write(axes: Any, labels: Sequence[Label], paths: Sequence[Floats], clear: float = 6.5) -> None:
    """Places the labels one after another where each covers no other label and the fewest line points, with a leader where far away.

    paths: what is drawn, (k, 2) each in data units. clear: points between an anchor and its label. The scan is greedy and in fixed order.
    """
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    ink = np.concatenate([_dense(axes.transData.transform(path)) for path in paths])
    frame, taken = axes.get_window_extent(), np.zeros((0, 4))
    for label in labels:
        probe = axes.text(0, 0, label.text, fontsize=SMALL)
        size = probe.get_window_extent()
        probe.remove()
        place = _best(axes.transData.transform(label.anchors), (size.width + 3, size.height + 1), ink, taken, frame, clear)
        leader = {"arrowstyle": "-", "color": GREY, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3, "relpos": place.side}
        axes.annotate(
            label.text, label.anchors[place.anchor], place.offset, textcoords="offset points", color=label.color, fontsize=SMALL, zorder=8,
            ha="left", va="bottom", arrowprops=None if place.near else leader,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
        )  # fmt: skip
        taken = np.concatenate([taken, place.box[None]])


def _dense(path: Floats) -> Floats:
    """A path in pixels as points about 3 pixels apart."""
    pieces = [path]
    for a, b in pairwise(path):
        steps = int(np.hypot(*(b - a)) // 3)
        pieces.append(a + (b - a) * np.linspace(0, 1, steps + 2)[1:-1, None])
    return np.concatenate(pieces)


@dataclass(frozen=True)
class _Place:
    """Where a label goes: which anchor, the offset of its lower left corner, its box (x0, y0, x1, y1), where a leader meets it."""

    anchor: int
    offset: tuple[float, float]
    box: Floats
    side: tuple[float, float]
    near: bool


def _best(anchors: Floats, size: tuple[float, float], ink: Floats, taken: Floats, frame: Any, clear: float) -> _Place:
    """The cheapest place for a text of this size, in pixels: no other label, inside the frame, little ink, close, an early anchor."""
    half = np.array(size) / 2
    gaps = clear + np.array([0, 8, 22, 40, 62, 90])
    angle = np.linspace(0, 2 * np.pi, 17)[:-1]
    far, at, turn = (grid.ravel() for grid in np.meshgrid(np.arange(len(gaps)), np.arange(len(anchors)), angle, indexing="ij"))
    # (c, 2) the centre stands off so far that the nearest edge is a gap away from the anchor
    corner = np.c_[np.cos(turn), np.sin(turn)] * (gaps[far, None] + half) - half
    low = anchors[at] + corner
    high = low + 2 * half
    outside = ((low < (frame.x0, frame.y0)) | (high > (frame.x1 + 8, frame.y1 + 4))).any(axis=1)
    hit = ((taken[:, :2] < high[:, None]) & (taken[:, 2:] > low[:, None])).all(axis=2).sum(axis=1)
    covered = ((ink > low[:, None]) & (ink < high[:, None])).all(axis=2).sum(axis=1)
    best = int((1e5 * hit + 1e4 * outside + 10 * covered + 20 * far + at).argmin())
    x, y = corner[best].tolist()
    side = np.clip(-corner[best] / (2 * half), 0, 1).tolist()
    return _Place(int(at[best]), (x, y), np.r_[low[best], high[best]], (side[0], side[1]), bool(far[best] < 2))
