"""What every figure shares: its size, colours and lines, the frame and the legend, and the way out as an inline SVG or a PNG.

The same input gives the same bytes, nothing is fetched, no global state is left behind. Colours are Okabe and Ito's (colour-blind-safe).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from io import BytesIO
from typing import Any

from routewright.eval.numerals import legible

WIDTH = 5.0  # inches; at 72 units an inch a screen 360 px wide shows the text at its nominal size
FONT, SMALL = 11.5, 10.0

BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#B8A800", "#000000",
)  # fmt: skip
GREY = "#767676"
# a colour and a marker for each of several
RUNS = tuple(zip((BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW, BLACK), "osD^vPX*", strict=True))

Style = Mapping[str, Any]
MIX: Style = {"color": BLACK, "linestyle": (0, (5, 2)), "linewidth": 1.8}
ROUTER: Style = {"color": BLUE, "linestyle": "-", "linewidth": 2.6, "zorder": 5}
ORACLE: Style = {"color": GREEN, "linestyle": "-.", "linewidth": 1.5}
CONTROLS: Mapping[str, tuple[str, Style]] = {
    "random": ("random", {"color": GREY, "linestyle": ":", "linewidth": 1.4}),
    "group": ("group label only", {"color": ORANGE, "linestyle": "-", "linewidth": 1.1}),
    "length": ("length only", {"color": PURPLE, "linestyle": "--", "linewidth": 1.1}),
    "shuffled_labels": ("shuffled labels", {"color": VERMILION, "linestyle": (0, (1, 1)), "linewidth": 1.2}),
    "shuffled_decisions": ("shuffled decisions", {"color": SKY, "linestyle": "-.", "linewidth": 1.2}),
}


def shorten(name: str, limit: int = 26) -> str:
    """One line without control characters, its middle left out where it is longer than `limit` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    half = (limit - 1) // 2
    return line if len(line) <= limit else f"{line[: limit - 1 - half]}…{line[-half:]}"


def svg(draw: Callable[[], Any], key: str, alt: str) -> str:
    """The figure as an inline SVG with a title; ids are prefixed by key, so that several can stand in one page."""
    with _style(key):
        out = BytesIO()
        draw().savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{key}-", text)
    text = text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, Arial, sans-serif")
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None, "matplotlib writes a viewBox"
    words = escape(legible(alt))
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box.group()} role="img" '
        f'aria-label="{words}"><title>{words}</title>'
    )
    return opening + text[text.index(">") + 1 :].strip()


def png(draw: Callable[[], Any]) -> bytes:
    """The figure as PNG, 1,000 pixels wide."""
    with _style("png"):
        out = BytesIO()
        draw().savefig(out, format="png", dpi=200, metadata={"Software": None})
    return out.getvalue()


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """matplotlib's settings for one drawing: text stays text, ids do not depend on the clock, a $ in a name is a $."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "svg.hashsalt": salt, "svg.fonttype": "none", "text.parse_math": False, "font.family": ["DejaVu Sans"], "font.size": FONT,
        "xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "axes.labelsize": FONT, "axes.titlesize": FONT, "axes.edgecolor": GREY,
        "axes.grid": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.spines.top": False,
        "axes.spines.right": False, "axes.formatter.useoffset": False,
    }  # fmt: skip
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # a user's matplotlibrc must not change the bytes
        mpl.rcParams.update(settings)
        # names in scripts that the measuring font lacks: the reader's own fonts draw them
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def canvas(rows: int = 0, height: float = 4.2, left: float = 0.52) -> tuple[Any, Any]:
    """A figure and its axes, with room for `rows` lines of legend below; margins in inches are fixed, so that text can be measured."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    tall = height + 0.21 * rows
    figure = Figure(figsize=(WIDTH, tall), dpi=72)
    bottom = 0.56 + 0.21 * rows
    axes = figure.add_axes((left / WIDTH, bottom / tall, (WIDTH - left - 0.15) / WIDTH, (tall - bottom - 0.34) / tall))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    return figure, axes


def legend_rows(entries: int) -> int:
    """How many lines a legend of so many entries takes."""
    return (entries + 1) // 2  # it has two columns


def legend(figure: Any, handles: Sequence[Any]) -> None:
    """Below the axes, in the room that `canvas` left; none where there is nothing to name."""
    if handles:
        figure.legend(
            handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=SMALL, borderpad=0.1, labelspacing=0.25,
            columnspacing=1.2, handlelength=2.4,
        )  # fmt: skip
