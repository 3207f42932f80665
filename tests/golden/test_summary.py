"""The result as text: every figure in its place, no code for a missing value, every reason once."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from routewright.core.calibrate import Affine
from routewright.core.files import plain
from routewright.core.types import Outcomes, Pool, Predictions
from routewright.eval import summary
from routewright.eval.assess import Judging, assess
from routewright.eval.crossfit import Fitted
from routewright.routers.constant import Constant
from tests.conftest import make_outcomes


def metrics(outcomes: Outcomes, quality: np.ndarray, **options: Any) -> dict[str, Any]:
    """As train.py writes them: everything judged, nothing held out."""
    rows = np.arange(len(outcomes))
    known = np.isfinite(outcomes.cost).all()
    made = Predictions(quality, np.tile(outcomes.cost.mean(axis=0), (len(rows), 1)) if known else outcomes.cost)
    fitted = Fitted(rows, 0 * rows, made, Affine.identity(len(outcomes.pool)), Constant(), ((rows, made),), exact=True)
    found = assess("mine", fitted, outcomes, Judging(**{"replicates": 100, **options}), np.random.default_rng(0), {}).metrics
    result: dict[str, Any] = plain(found | {"data": "their data", "labels": "clean", "evaluation": "random split"})
    return result


def without_cost(outcomes: Outcomes) -> Outcomes:
    return replace(outcomes, cost=np.full(outcomes.cost.shape, np.nan), usage="none")


@cache
def cases() -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(0)
    pair, four, graded = make_outcomes(rng, n=150), make_outcomes(rng, n=150, m=4), make_outcomes(rng, n=150, binary=False)
    equal = replace(pair, quality=np.ones((150, 2)))
    noise, truth = rng.random((150, 4)), pair.quality.astype(np.float64)
    return {
        "a pair": metrics(pair, truth),
        "the paper's protocol": metrics(pair, truth, protocol="routellm"),
        "noise": metrics(pair, noise[:, :2]),
        "without cost": metrics(without_cost(pair), truth),
        "four models": metrics(four, noise),
        "four models, nothing recovered": metrics(four, np.tile(np.array([1, 0.9, 0.8, 0.7]), (150, 1))),
        "grades": metrics(graded, noise[:, :2]),
        "all equal": metrics(equal, truth),
        "a free pair": metrics(replace(pair, cost=np.zeros((150, 2))), truth),
        "turned around": metrics(replace(pair, quality=pair.quality[:, ::-1]), 1 - truth),
    }


CASES = (
    "a pair",
    "the paper's protocol",
    "noise",
    "without cost",
    "four models",
    "four models, nothing recovered",
    "grades",
    "all equal",
    "a free pair",
    "turned around",
)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def row(text: str, name: str) -> list[str]:
    """The cells of the one row with this name."""
    (found,) = [cells(line) for line in text.splitlines() if line.startswith("│") and cells(line)[0] == name]
    return found


@pytest.mark.parametrize("name", CASES)
def test_no_missing_value_is_printed_as_code(name: str) -> None:
    text = summary.result_table("mine", cases()[name])
    both = text + summary.comparison([("mine", cases()[name]), ("again", cases()[name])])
    assert not re.search(r"\b(nan|none|null|inf)\b", both.replace("Costs are none", ""), re.IGNORECASE)
    assert row(text, "mine")[6] != "-0.00"


@pytest.mark.parametrize("name", CASES)
def test_every_reason_stands_once_with_all_that_it_withholds(name: str) -> None:
    text = summary.result_table("mine", cases()[name])
    withheld = cases()[name]["withheld"]
    for key, reason in withheld.items():
        (line,) = [line for line in text.splitlines() if line.endswith(f" withheld: {reason}")]
        assert key in line.split(" withheld: ")[0].split(", ")
    assert text.count(" withheld: ") == len(set(withheld.values()))


def test_the_reasons_are_there_to_be_tested() -> None:
    assert set(CASES) == set(cases())
    assert len(cases()["all equal"]["withheld"]) >= 5
    assert {"aiq", "cost_saved_at_95"} <= set(cases()["without cost"]["withheld"])
    assert cases()["a pair"]["withheld"] == {}


def test_the_table_shows_what_was_measured() -> None:
    found = cases()["a pair"]
    text = summary.result_table("mine", found)
    assert "mine on their data | labels clean | random split | protocol exact" in " ".join(text.split())
    for name, model in found["models"].items():
        quality, ci, usd = row(text, name)[1:]
        assert float(quality) == pytest.approx(model["quality"], abs=5e-4)
        assert [float(end) for end in ci.strip("[]").split(",")] == pytest.approx(model["quality_ci"], abs=5e-4)
        assert float(usd) == pytest.approx(1000 * model["cost"], rel=1e-3)
    name, apgr, ci, cpt50, cpt80, saved, difference, span = row(text, "mine")
    assert float(apgr) == pytest.approx(found["apgr"], abs=5e-4)
    assert float(cpt50.removesuffix(" %")) == pytest.approx(found["cpt50"], abs=0.05)
    assert float(cpt80.removesuffix(" %")) == pytest.approx(found["cpt80"], abs=0.05)
    assert float(saved.removesuffix(" %")) == pytest.approx(100 * found["cost_saved_at_95"], abs=0.05)
    assert float(difference) == pytest.approx(100 * found["verdict"]["difference"], abs=5e-3)
    assert difference.startswith("+")
    assert [float(end) for end in span.strip("[]").split(",")] == pytest.approx([100 * end for end in found["verdict"]["ci"]], abs=5e-3)


def test_every_control_has_a_row_and_single_models_stand_above() -> None:
    text = summary.result_table("mine", cases()["a pair"])
    for name in cases()["a pair"]["controls"]:
        if not name.startswith("model:"):
            assert len(row(text, name)) == 8
    assert "model:" not in text
    assert row(text, "fixed_mix")[6] == "+0.00"


def test_what_costs_rest_on_is_said() -> None:
    assert "Costs are nominal" in summary.result_table("mine", cases()["a pair"])
    assert row(summary.result_table("mine", cases()["without cost"]), "model0")[3] == "-"


def test_a_comparison_begins_with_the_best() -> None:
    runs = [("poor", cases()["noise"]), ("fine", cases()["a pair"]), ("bad", cases()["turned around"])]
    lines = [cells(line) for line in summary.comparison(runs).splitlines() if line.startswith("│")]
    ranked = sorted(runs, key=lambda run: -run[1]["verdict"]["difference"])
    assert [line[0] for line in lines] == [name for name, _ in ranked]
    assert lines[0][0] == "fine"
    assert [line[-1] for line in lines] == [found["verdict"]["word"] for _, found in ranked]


def test_numbers_by_hand() -> None:
    assert (summary.number(0.12345), summary.number(None)) == ("0.123", "-")
    assert (summary.dollars(0.0123456), summary.dollars(0.0), summary.dollars(None)) == ("12.35", "0", "-")
    assert (summary.percent(0.125, 100), summary.percent(None, 1)) == ("12.5 %", "-")
    assert [summary.signed(value) for value in (0.01234, -0.01234, -1e-6, None)] == ["+1.23", "-1.23", "+0.00", "-"]
    assert (summary.span([0.1, 0.25]), summary.span(None)) == ("[0.100, 0.250]", "-")
    assert summary.span([-0.01, 0.02], scale=100) == "[-1.00, +2.00]"


def test_the_same_metrics_are_the_same_text_at_one_width(monkeypatch: pytest.MonkeyPatch) -> None:
    first = summary.result_table("mine", cases()["a pair"])
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert summary.result_table("mine", cases()["a pair"]) == first
    assert "\x1b" not in first
    assert max(len(line) for line in first.splitlines()) <= 140


def test_long_names_of_models_are_whole() -> None:
    rng = np.random.default_rng(0)
    outcomes = replace(make_outcomes(rng, n=100), pool=Pool(("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")))
    text = summary.result_table("mine", metrics(outcomes, outcomes.quality.astype(np.float64)))
    assert row(text, "mistralai/Mixtral-8x7B-Instruct-v0.1")
