"""The report page: well-formed, self-contained, escaped, honest about what is withheld, and the same bytes for the same runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from routewright.core.policy import decide
from routewright.core.types import Curve, InputError, Predictions
from routewright.eval import curves, numerals, report
from routewright.eval.report import View, render
from tests.conftest import make_outcomes

HOSTILE = "<script>alert('x')</script>&\"'"
LONG = "organisation/a-model-with-a-name-that-goes-on-and-on-and-on-for-eighty-characters"
VOID = {"meta", "br", "hr", "img", "link", "input"}
AGAINST = "(95 %, 392 test queries, paired bootstrap over queries) against the best fixed mix of single models at the same cost."
WORDS = {
    "helps": "{} helps: +2.10 quality points [+0.80, +3.40] " + AGAINST,
    "no evidence that it helps": "There is no evidence that {} helps: +0.30 quality points [-0.90, +1.50] " + AGAINST,
    "hurts": "{} hurts: -1.40 quality points [-2.60, -0.20] " + AGAINST,
}
DIFFERENCE = {
    "helps": (0.021, [0.008, 0.034]),
    "no evidence that it helps": (0.003, [-0.009, 0.015]),
    "hurts": (-0.014, [-0.026, -0.002]),
}


def _bent(share: np.ndarray, cost: np.ndarray, quality: np.ndarray, bend: float) -> Curve:
    """Along these mixes, `bend` above them in the middle."""
    way = np.linspace(0, 1, len(share))
    return Curve(1 - way, share @ cost, share @ quality + bend * 4 * way * (1 - way), share)


def made(
    names: Sequence[str] = ("small", "large"), *, name: str = "mf", word: str = "helps", lift: float | None = None, **more: Any
) -> View:
    """A made-up run over these models, the first the cheapest and the last the best."""
    m = len(names)
    difference, ci = DIFFERENCE[word]
    cost = 10.0 ** np.linspace(-4, -2, m)
    quality = 0.64 + 0.22 * np.linspace(0, 1, m) ** 0.5 - 0.05 * ((np.arange(m) % 3 == 1) & (np.arange(m) < m - 1))
    bend = lift if lift is not None else 1.5 * difference
    x, y = curves.fixed_mix(cost, quality)
    corners = np.eye(m)[[int(np.flatnonzero(cost == at)[0]) for at in x]]
    # along the best fixed mixes, corner by corner
    step = np.linspace(0, len(x) - 1, 61)
    share = np.stack([np.interp(step, np.arange(len(x)), column) for column in corners.T], axis=1)  # (61, m)
    shown = {"router": _bent(share, cost, quality, bend), "fixed_mix": Curve(np.zeros(len(x)), x, y, corners)}
    bends = {"random": 0, "group": 0.006, "length": 0.002, "shuffled_labels": -0.004, "shuffled_decisions": 0.003}
    shown |= {control: _bent(share, cost, quality, by) for control, by in bends.items()}
    shown["oracle"] = _bent(share, cost, quality, 0.07)
    controls: dict[str, Any] = {
        control: {
            "apgr": 0.5 + by,
            "apgr_ci": [0.4, 0.6],
            "aiq": 0.7 + by,
            "difference": by,
            "ci": [by - 0.01, by + 0.01],
            "cost_saved_at_95": 0.1,
        }
        for control, by in (bends | {"oracle": 0.07, "fixed_mix": 0.0}).items()
    }
    controls |= {f"model:{n}": {"apgr": None, "quality": float(q), "cost": float(c)} for n, q, c in zip(names, quality, cost, strict=True)}
    cents = {f"{usd}cost_saved_at_{f}": {"": 0.12, "usd_": 1.2}[usd] * (101 - f) / 6 for usd in ("", "usd_") for f in report.FRACTIONS}
    metrics: dict[str, Any] = {
        "schema": 1, "data": "routellm_gsm8k", "router": name, "labels": "clean", "protocol": "exact", "policy": "threshold",
        "evaluation": "random split", "usage": "estimated", "n_train": 784, "n_calibration": 131, "n_test": 392, "n_groups": 1,
        "n_unobserved": 0, "axis": "share of strong calls" if m == 2 else "spend", "weak": names[0], "strong": names[-1],
        "models": {
            n: {"quality": float(q), "cost": float(c), "quality_ci": [float(q) - 0.04, float(q) + 0.04]}
            for n, q, c in zip(names, quality, cost, strict=True)
        },
        "apgr": 0.534, "apgr_ci": [0.49, 0.58], "cpt50": 41.0, "cpt50_ci": [35.0, 49.0], "cpt80": 72.25, "cpt80_ci": [64.0, 82.0],
        "aiq": 0.771, "aiq_code": 0.762, "aiq_fixed_mix": 0.751, "peak_quality": 0.866, "quality_at_best": 0.861, "oracle_quality": 0.93,
        "gap_recovered": 0.031, "auroc": 0.6, "brier": 0.21, "ece": 0.034, "routellm": {"apgr": 0.53, "cpt50": 42.0, "cpt80": 73.0},
        **cents, **{f"{key}_ci": [0.5 * value, 1.5 * value] for key, value in cents.items()},
        "reliability": [
            {"predicted": p, "observed": p + 0.03 * (-1) ** i, "n": 1200 - 110 * i} for i, p in enumerate(np.linspace(0.35, 0.95, 7))
        ],
        "controls": controls,
        "operating_points": {
            point: {
                "knob": knob, "quality": 0.7 + 0.05 * i, "quality_ci": [0.66 + 0.05 * i, 0.74 + 0.05 * i], "cost": 0.001 * (i + 0.1),
                "share": dict(zip(names, share[20 * i], strict=True)), "difference": 0.004 * i, "ci": [-0.01, 0.02],
            }
            for i, (point, knob) in enumerate({"cheapest": 1e12, "balanced": 0.2345, "quality-95": 0.1234}.items())
        },
        "verdict": {
            "word": word, "difference": difference, "ci": ci, "sentence": WORDS[word].format(name),
            "unit": "mean quality above the best fixed mix at the same cost, between the cheapest and the best model's cost",
        },
        "leakage": {
            "exact_duplicates": 0, "near_duplicates": 3, "threshold": 0.95, "examples": [("q17", "q4", 0.9812), ("q9", "q2", None)],
        },
        "withheld": {},
    }  # fmt: skip
    facts = {
        "commit": "0f3c2a9 (clean)", "data sha256": "9d1c" * 16, "seed": "0", "encoder": "all-MiniLM-L6-v2, fp32, 256 tokens",
        "timings": "fit 1.2 s, evaluate 3.4 s", "command": "python train.py router=mf data=routellm_gsm8k seed=0",
    }  # fmt: skip
    return View(name, metrics | more, shown, facts)


def without_dollars() -> View:
    """A pair whose costs nobody knows: every dollar is NaN or null."""
    view = made()
    reason = "no cost is known for these outcomes: give a cost column or prices"
    gone = {key: None for key in view.metrics if "cost_saved" in key} | {
        "aiq": float("nan"),
        "aiq_code": float("nan"),
        "aiq_fixed_mix": float("nan"),
    }
    models = {name: row | {"cost": None} for name, row in view.metrics["models"].items()}
    controls = {name: row | {"aiq": float("nan"), "cost_saved_at_95": None, "cost": None} for name, row in view.metrics["controls"].items()}
    points = {name: row | {"cost": None} for name, row in view.metrics["operating_points"].items()}
    withheld = {f"cost_saved_at_{f}": reason for f in report.FRACTIONS} | {"aiq": "no cost is known for these outcomes"}
    changed = {"models": models, "controls": controls, "operating_points": points, "withheld": withheld, "usage": "none"}
    blank = {name: Curve(c.knob, np.full(len(c.knob), np.nan), c.quality, c.share) for name, c in view.curves.items()}
    return replace(view, metrics=view.metrics | gone | changed, curves=blank)


def without_gap() -> View:
    """A pair too close to divide by: APGR and CPT are withheld, and so are the operating points."""
    view = made(word="no evidence that it helps")
    reason = "the models' gap 0.0120 is under 4 standard errors (0.0080): too small to divide by; use dollars and quality"
    gone = {key: None for key in ("apgr", "apgr_ci", "cpt50", "cpt50_ci", "cpt80", "cpt80_ci", "routellm", "auroc")}
    withheld = dict.fromkeys(("apgr", "cpt50", "cpt80"), reason) | {
        "operating_points": "there is no calibration split to choose them on: set split.calibration above 0",
        "auroc": "quality is not right or wrong here",
    }
    controls = {name: row | {"apgr": None, "apgr_ci": None} for name, row in view.metrics["controls"].items()}
    return replace(view, metrics=view.metrics | gone | {"withheld": withheld, "operating_points": {}, "controls": controls})


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed in order, ids are unique, local links lead somewhere. Collects the body's text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.cells: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"<{tag}/> closes itself outside of SVG"
        self._attributes(tag, attrs)

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attrs}) == len(attrs), f"<{tag}> names an attribute twice"
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        self.ids += [value or "" for key, value in attrs if key == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "body" in self.open and "style" not in self.open:
            self.text.append(data)
            if "td" in self.open or "th" in self.open:
                self.cells[-1] += data

    @property
    def body(self) -> str:
        return " ".join(" ".join(self.text).split())


MIXED = {"small": "small", "日本語モデル": "日本語モデル", LONG: LONG, HOSTILE: HOSTILE, "large": "large"}
CASES = {
    "pair": [made()],
    "five models": [made(names=tuple(MIXED), axis="spend", routellm=None)],
    "no dollars": [without_dollars()],
    "no gap": [without_gap()],
    "hurts": [made(word="hurts")],
    "comparison": [made(word="hurts", name="knn"), without_gap(), made(name="bert"), made(name=HOSTILE, n_test=400)],
    "many": [made(name=f"run {i}", lift=0.003 * i) for i in range(10)],
}


@pytest.fixture(scope="module", params=list(CASES))
def page(request: pytest.FixtureRequest) -> tuple[str, list[View], str]:
    views = CASES[request.param]
    return request.param, views, render(views, title="routewright: gsm8k")


def test_page_is_well_formed_and_its_links_lead_somewhere(page):
    read = Page(page[2])
    assert len(read.ids) == len(set(read.ids)), [i for i in read.ids if read.ids.count(i) > 1]
    for _, key, value in read.attributes:
        if key in ("href", "xlink:href", "aria-labelledby"):
            assert value.removeprefix("#") in read.ids, value
    for reference in re.findall(r"url\(#([^)]*)\)", page[2]):
        assert reference in read.ids
    assert ("meta", "name", "viewport") in read.attributes


def test_page_asks_nobody_for_anything(page):
    read = Page(page[2])
    assert not [(tag, key) for tag, key, value in read.attributes if key in ("src", "srcset", "action") or key.startswith("on")]
    assert not [tag for tag, *_ in read.attributes if tag in ("script", "link", "img", "iframe", "object", "embed", "base")]
    bare = page[2].replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
    assert "http:" not in bare
    assert "https:" not in bare
    assert "@import" not in bare


def test_no_missing_value_leaks_as_code(page):
    assert not re.search(
        r"\b(nan|none|null|inf|undefined|true|false)\b", Page(page[2]).body.replace("none: no cost is known", ""), re.IGNORECASE
    )


def test_every_dash_has_its_reason(page):
    for cell in Page(page[2]).cells:
        assert cell.strip() != "–", "a missing value without a reason"


def test_names_are_escaped(page):
    assert "<script" not in page[2]
    if page[0] in ("five models", "comparison"):
        assert "<script>alert('x')</script>" in Page(page[2]).body


def test_same_runs_give_the_same_bytes(page):
    assert render(page[1], title="routewright: gsm8k") == page[2]


def test_every_metric_is_shown_placed_or_left_out_on_purpose():
    """Every key of metrics.json lands in a table, in a place of its own, or in LEFT_OUT; and a new one is shown under its own name."""
    view = made()
    rows = {key for key, *_ in report._metric_rows("")}
    assert set(view.metrics) - rows - {f"{key}_ci" for key in rows} - report.PLACED <= report.LEFT_OUT
    body = Page(render([made(**{"new_metric": 0.123456, "new_note": "said", "new_gap": None})], title="t")).body
    assert "new_metric 0.1235" in body
    assert "new_note said" in body
    assert "new_gap – not measured in this evaluation" in body


def test_values_stand_on_the_page_in_their_units():
    body = Page(render([made()], title="t")).body
    for expected in (
        "APGR mean share of the quality gap recovered over the share of strong calls; a coin gets 0.500 0.534 [0.490, 0.580]",
        "a coin needs 50 % 41.0 % [35.0 %, 49.0 %]",
        "USD saved at 95 % the same per 1,000 queries $1.20 [$0.600, $1.80]",
        "cost saved at 95 % of the best model's dollars, while keeping 95 % of its quality 12.0 % [6.0 %, 18.0 %]",
        "large 0.860 [0.820, 0.900] $10.00",
        "784 / 131 / 392",
        "estimated: token counts come from a tokenizer",
        "python train.py router=mf data=routellm_gsm8k seed=0",
        "q17, q4, 0.9812; q9, q2, –",
        "commit 0f3c2a9 (clean)",
        "ECE 0.034",
        "CPT(80) by RouteLLM's 10 bins 73.0 %",
    ):
        assert expected in body, expected


def test_savings_stand_beside_what_a_fixed_mix_saves():
    """By hand: quality .64 to .86 on a line, so 95 % of .86 needs (.817 - .64) / .22 of the way from $0.10 to $10 per 1,000 queries."""
    rows = report._savings(made())
    by_hand = 10 - (0.1 + 9.9 * (0.95 * 0.86 - 0.64) / 0.22)
    assert rows[0]["mix"].text == numerals.usd(by_hand)
    assert rows[0]["more"].text == numerals.usd(1.2 - by_hand)
    assert rows[2]["mix"].text == "$0.00"


@pytest.mark.parametrize("word", list(WORDS))
def test_verdict_is_said_in_words_and_with_a_symbol(word):
    html = render([made(word=word)], title="t")
    assert Page(html).body.startswith(f"t {report.SYMBOLS[word]} {WORDS[word].format('mf')}")
    claims = {
        "helps": "this router answers better than any fixed mix",
        "no evidence that it helps": "may do as well at the same cost",
        "hurts": "Do not use this router",
    }
    for said, claim in claims.items():
        assert (claim in html) == (said == word)
    assert len(set(report.SYMBOLS.values())) == 3


def test_without_costs_the_page_says_that_dollars_are_withheld_and_plots_calls():
    html = render([without_dollars()], title="t")
    body = Page(html).body
    assert "Dollars are withheld: no cost is known for these outcomes: give a cost column or prices" in body
    assert "$" not in body
    assert "share of calls to large (%)" in body
    assert "USD per 1,000 queries)" not in body


def test_a_withheld_ratio_gives_its_reason_and_no_number():
    body = Page(render([without_gap()], title="t")).body
    assert "a coin gets 0.500 – the models' gap 0.0120 is under 4 standard errors" in body
    assert "0.500 is chance – quality is not right or wrong here" in body
    assert "there is no calibration split to choose them on" in body
    assert "performance gap recovered (%)" not in body


def test_runs_are_ranked_by_their_difference_and_warned_about_where_unlike():
    views = CASES["comparison"]
    body = Page(render(views, title="t")).body
    table = body[body.index("The runs, best first") : body.index("Quality against cost")]
    assert table.index("bert") < table.index("no evidence that it helps") < table.index("knn")
    assert "These runs were not judged alike" in body
    assert "number of test queries: 392, 400" in body
    assert "not judged alike" not in Page(render([made(name="a"), made(name="b")], title="t")).body
    assert render(views[::-1], title="t") == render(views, title="t")


def test_a_real_evaluation_is_shown_whole(rng):
    """The page over what the evaluation itself writes: no key falls through to the table's end, nothing unknown leaks."""
    from routewright.eval.assess import Judging, assess
    from routewright.eval.crossfit import Fitted

    calibrate = pytest.importorskip("routewright.core.calibrate")
    table = make_outcomes(rng, n=200)
    scores = Predictions(np.clip(table.quality + rng.normal(0, 0.5, table.quality.shape), 0, 1), table.cost)
    held, rows = np.arange(100), np.arange(100, 200)
    fitted = Fitted(
        rows, np.zeros(100, int), scores.take(rows), calibrate.Affine.identity(2), None, ((held, scores.take(held)),), exact=True
    )
    found = assess("noisy oracle", fitted, table, Judging(replicates=100), rng, {})
    view = View("noisy oracle", found.metrics, found.curves, {})
    listed = {key for key, *_ in report._metric_rows("")}
    assert set(found.metrics) - listed - {f"{key}_ci" for key in listed} <= report.PLACED | report.LEFT_OUT
    body = Page(render([view], title="t")).body
    assert found.metrics["verdict"]["sentence"] in body
    assert decide(scores.quality, table.cost, 0.0).served.shape == (200,)


def test_a_router_that_never_moves_is_still_shown():
    """One operating point and two models that cost the same: nothing has a width, and nothing may divide by it."""
    view = made()
    models = {name: row | {"cost": 0.001, "quality": 0.7} for name, row in view.metrics["models"].items()}
    one = {name: Curve(c.knob[:1], c.cost[:1], c.quality[:1], c.share[-1:]) for name, c in view.curves.items()}
    page = render([View("still", view.metrics | {"models": models, "apgr": float("nan")}, one)], title="t")
    assert "nan" not in Page(page).body.lower()


def test_bad_input_is_refused_by_name():
    with pytest.raises(InputError, match="nothing to report"):
        render([], title="t")
    with pytest.raises(InputError, match=r"'mf'.*verdict"):
        View("mf", {"models": {}, "weak": "", "strong": "", "controls": {}}, made().curves)
    with pytest.raises(InputError, match=r"verdict\.word that is one of helps"):
        made(verdict={"word": "wins"})
    with pytest.raises(InputError, match=r"curves\['router'\]"):
        View("mf", made().metrics, {})


def test_numbers_as_text():
    assert [numerals.usd(v) for v in (0, 1234.5, 0.1234, 0.00012, -0.5, float("nan"), None)] == [
        "$0.00", "$1,234.50", "$0.123", "$0.000120", "-$0.500", "–", "–",
    ]  # fmt: skip
    assert [numerals.points(v) for v in (0.012, -0.00001, None)] == ["+1.20", "+0.00", "–"]
    assert numerals.percent(0.1234) == "12.3\u00a0%"
    assert numerals.span([0.1, None], numerals.quality) == ""
    assert numerals.legible("a\x00b\ud800\tc") == "a\ufffdb\ufffd\tc"
