"""The plots draw what they are given: deterministic, readable, labelled, without overlapping labels, safe for any model name."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from routewright.eval import drawing, plots
from routewright.eval.report import View
from tests.golden.test_report import HOSTILE, LONG, made, without_dollars

NAMESPACE = "{http://www.w3.org/2000/svg}"


def words(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{NAMESPACE}text")]


def drawn(monkeypatch: pytest.MonkeyPatch, view: View) -> list[tuple[str, np.ndarray]]:
    """The labels of the cost-quality plot as (text, x0 y0 x1 y1 in pixels), taken before the figure is thrown away."""
    boxes: list[tuple[str, np.ndarray]] = []
    write = plots._write

    def spy(axes, labels, paths, clear=6.5):
        write(axes, labels, paths, clear)
        for note in axes.texts:
            note.get_window_extent()  # an annotation moves to its place when it is measured; its own box then leaves out the leader
            box = mpl.text.Text.get_window_extent(note)
            boxes.append((note.get_text(), np.array([box.x0, box.y0, box.x1, box.y1])))

    monkeypatch.setattr(plots, "_write", spy)
    plots.tradeoff([view])
    return boxes


@pytest.mark.parametrize(
    "names", [("small", "large"), tuple(f"model-{i}" for i in range(5)), tuple(f"vendor/model-{i}b" for i in range(11))]
)
def test_labels_never_overlap_and_stay_inside_the_figure(monkeypatch, names):
    boxes = drawn(monkeypatch, made(names=names))
    assert {text for text, _ in boxes} >= set(names) | {"best fixed mix", "oracle", "mf"}
    for i, (text, a) in enumerate(boxes):
        assert a[0] >= 0, text
        assert a[2] <= drawing.WIDTH * 72, text
        for other, b in boxes[i + 1 :]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{text} lies on {other}"


def test_axes_say_their_unit():
    assert "cost (USD per 1,000 queries)" in words(plots.tradeoff([made()]))
    assert "share of calls to large (%)" in words(plots.tradeoff([without_dollars()]))
    assert "performance gap recovered (%)" in words(plots.recovered(made()))


def test_the_curve_stands_where_the_numbers_say(monkeypatch):
    """Reads the router's line back from the axes: USD per 1,000 queries against quality, and % against % of the gap."""
    seen = []
    write = plots._write
    monkeypatch.setattr(plots, "_write", lambda axes, *rest, **more: (seen.append(axes), write(axes, *rest, **more)))
    view = made()
    plots.tradeoff([view])
    plots.recovered(view)
    curve, models = view.curves["router"], view.metrics["models"]
    line = next(line for line in seen[0].lines if line.get_color() == drawing.BLUE)
    np.testing.assert_allclose(line.get_xydata(), np.c_[1000 * curve.cost, curve.quality])
    line = next(line for line in seen[1].lines if line.get_color() == drawing.BLUE)
    gap = models["large"]["quality"] - models["small"]["quality"]
    np.testing.assert_allclose(line.get_xdata(), 100 * curve.share[:, 1])
    np.testing.assert_allclose(line.get_ydata(), 100 * (curve.quality - models["small"]["quality"]) / gap)


def test_strong_is_found_by_the_curve_when_json_has_sorted_the_models():
    view = made(names=("zebra", "ant"))  # sorted, the strong model comes first
    shuffled = replace(view, metrics=view.metrics | {"models": dict(sorted(view.metrics["models"].items()))})
    assert plots.recovered(shuffled) == plots.recovered(view)


def test_without_a_gap_the_vertical_axis_is_quality():
    view = made()
    svg = plots.recovered(replace(view, metrics=view.metrics | {"apgr": None, "cpt50": None, "cpt80": None}))
    assert plots.QUALITY in words(svg)
    assert not any("CPT" in word for word in words(svg))


def test_cpt_marks_are_named_and_a_missing_one_is_left_out():
    view = made()
    assert "CPT(50) 41.0 %" in words(plots.recovered(view))
    assert not any("CPT(80)" in word for word in words(plots.recovered(replace(view, metrics=view.metrics | {"cpt80": float("nan")}))))


def test_the_same_input_gives_the_same_bytes_whatever_matplotlib_is_set_to():
    view = made()
    svg, png = plots.tradeoff([view]), plots.curve_png(view)
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.hashsalt": None, "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert plots.tradeoff([view]) == svg
        assert plots.curve_png(view) == png
        assert dict(mpl.rcParams) == before


def test_png_is_a_thousand_pixels_wide():
    png = plots.curve_png(made())
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(png[16:20], "big") == 1000


def test_svg_is_whole_titled_and_asks_for_nothing():
    for svg in (plots.tradeoff([made()]), plots.recovered(made()), plots.reliability(made())):
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"] == root.findtext(f"{NAMESPACE}title")
        rest = svg.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
        assert "http" not in rest
        assert not re.search(r"<(script|image|style[^>]*>[^<]*@import)", svg)


def test_text_is_at_least_ten_units_on_a_figure_360_wide():
    svg = plots.tradeoff([made(names=tuple(f"model-{i}" for i in range(5)))])
    assert ElementTree.fromstring(svg).attrib["viewBox"].split()[2] == "360"
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
    assert sizes
    assert min(sizes) >= 10


@pytest.mark.parametrize("name", [HOSTILE, LONG, "模型 Ω – émile", "$x^2$ costs $5", "two\nlines\x07"])
def test_any_model_name_can_be_drawn(name, recwarn):
    svg = plots.tradeoff([made(names=("small", name))])
    assert drawing.shorten(name) in words(svg)
    assert "<script" not in svg
    assert not [str(w.message) for w in recwarn.list if "Glyph" in str(w.message)]


def test_shorten_keeps_both_ends_of_a_long_name():
    assert drawing.shorten("abcdefghij", 5) == "ab…ij"
    assert drawing.shorten("abcde", 5) == "abcde"
    assert len(drawing.shorten(LONG)) == 26


def test_more_than_eight_runs_are_drawn_in_grey():
    views = [made(name=f"run{i}") for i in range(11)]
    svg = plots.tradeoff(views)
    assert "3 more" in words(svg)
    assert sum(word.startswith("run") for word in words(svg)) == 8


def test_many_models_are_named_on_the_hull_alone():
    view = made(names=tuple(f"m{i:02}" for i in range(20)))
    shown = {word for word in words(plots.tradeoff([view])) if re.fullmatch(r"m\d\d", word)}
    hull = {f"m{j:02}" for j in view.curves["fixed_mix"].share.argmax(axis=1)}
    assert shown == hull


def test_reliability_writes_every_count():
    view = made()
    assert {f"{row['n']:,}" for row in view.metrics["reliability"]} <= set(words(plots.reliability(view)))
