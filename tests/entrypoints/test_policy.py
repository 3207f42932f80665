"""`policy.strong_share`, `policy.spend` and `policy.quality` as a user asks for them: printed, kept in every file, decided by, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from routewright.core.types import InputError
from routewright.gateway.bundle import Bundle
from tests.entrypoints.conftest import write_table


def points_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())["operating_points"]


def printed(out: str, name: str) -> list[str]:
    """The cells of this point's row."""
    (line,) = [line for line in out.splitlines() if line.startswith(f"│ {name} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_asked_points_are_printed_kept_and_decided_by(entry, trained) -> None:
    ended = trained("router=knn", "router.k=20", "policy=threshold", "policy.strong_share=[.25,.5]", "policy.quality=.9").ok()
    points = points_of(ended.folder)
    assert list(points) == sorted(["cheapest", "balanced", "quality-95", "strong-25", "strong-50", "quality-90"])
    point = points["strong-50"]
    assert (point["promise"], point["promised"], point["chosen_on"]) == ("strong_share", 0.5, {"what": "calibration split", "n": 16})
    assert point["reachable"] == pytest.approx(0.5, abs=1 / 16)
    assert point["realised"] == pytest.approx(point["share"]["large"])
    assert point["realised_ci"][0] <= point["realised"] <= point["realised_ci"][1]
    assert points["quality-90"]["kept"] == (points["quality-90"]["quality"] >= points["quality-90"]["goal"])

    name, promised, on, there, here, _, kept, quality, _ = printed(ended.out, "strong-50")
    assert (name, promised, on) == ("strong-50", "50.0 %", "calibration split, n=16")
    assert (there, here) == (f"{100 * point['reachable']:.1f} %", f"{100 * point['realised']:.1f} %")
    assert (kept, quality) == ("yes" if point["kept"] else "no", f"{point['quality']:.3f}")
    assert "│ quality-95" not in ended.out, "it was not asked for"
    report = (ended.folder / "report.html").read_text()
    assert "strong-25" in report
    assert "of calls to the strong model" in report

    bundle = Bundle.load(ended.folder / "bundle")
    assert bundle.points["strong-50"] == point["knob"]
    assert bundle.described["operating_points"]["strong-50"]["promised"] == 0.5
    texts = [f"What is {1000 + 37 * i} times {300 + i} minus {i}?" for i in range(10)] + ["Tell me a short story about tea."] * 10
    half, quarter = ([bundle.decide(text, point=name).model for text in texts] for name in ("strong-50", "strong-25"))
    assert half.count("large") >= quarter.count("large")
    assert set(half) == {"small", "large"}
    with pytest.raises(InputError, match=r"'strong-40' is not in the bundle.*strong-25, strong-50"):
        bundle.decide("hello", point="strong-40")

    again = entry("evaluate", f"runs=[{ended.folder}]", "replicates=200").ok()
    found = json.loads((again.folder / "metrics.json").read_text())["runs"]["knn"]["operating_points"]
    assert found == points
    assert printed(again.out, "strong-50") == printed(ended.out, "strong-50")
    refused = entry("evaluate", f"runs=[{ended.folder}]", "policy.strong_share=.3")
    assert refused.code == 1
    assert "keeps the operating points that it has" in refused.err


def test_folds_choose_on_the_others(trained) -> None:
    points = points_of(trained("router=logistic", "cv=4", "policy.strong_share=.3", "policy.spend=.3").ok().folder)
    for name in ("strong-30", "spend-30"):
        assert points[name]["chosen_on"] == {"what": "other folds", "n": 120}
        assert points[name]["realised"] == pytest.approx(0.3, abs=0.08)
        assert points[name]["kept"] is True


@pytest.mark.parametrize("words", [["split.calibration=0"], ["cv=3"]])
def test_shares_are_chosen_on_ungraded_queries(trained, tmp_path: Path, words: list[str]) -> None:
    write_table(tmp_path / "table.csv", np.random.default_rng(9), n=60)
    rows = (tmp_path / "table.csv").read_text().splitlines()
    log = tmp_path / "log.txt"
    log.write_text("\n".join(row.split(",quality")[0].rsplit(",", 5)[0].strip('"') for row in rows[1:]) + "\n")
    ended = trained("router=logistic", "policy.strong_share=.4", f"policy.queries={log}", *words).ok()
    point = points_of(ended.folder)["strong-40"]
    assert point["chosen_on"]["file"] == "log.txt"
    assert point["chosen_on"]["n"] == 60
    assert 0 < point["chosen_on"]["in_test"] <= point["chosen_on"]["in_data"] == 30, "the stories are the same, the sums are not"
    assert point["reachable"] == pytest.approx(0.4, abs=1 / 60)
    bundle = Bundle.load(ended.folder / "bundle")
    chosen = [bundle.decide(text, point="strong-40").model for text in log.read_text().splitlines()]
    assert chosen.count("large") / 60 == pytest.approx(point["reachable"]), "the bundle spends on these queries what was promised of them"


def test_a_constant_router_says_what_it_can_reach(trained) -> None:
    ended = trained("router=constant", "policy.strong_share=.5").ok()
    point = points_of(ended.folder)["strong-50"]
    assert point["reachable"] in (0, 1)
    assert point["kept"] is False
    assert "strong-50: " in ended.out
    assert "equal scores cannot be parted" in ended.out


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        (["policy=threshold", "policy.strong_share=1.5"], ["policy.strong_share", "from 0 to 1", "1.5"]),
        (["policy.quality=95"], ["policy.quality", "policy.quality=0.95"]),
        (["policy.strong_share=half"], ["policy.strong_share", "'half'"]),
        (["policy.strong_share=.5", "split.calibration=0"], ["strong-50", "split.calibration=0.1", "policy.queries"]),
        (["policy.strong_share=.5", "policy.queries=none.csv"], ["none.csv", "no such file"]),
        (["policy.queries=none.csv"], ["nothing to choose"]),
        (["policy.strong_share=.5", "policy.knob=3"], ["policy.knob"]),
    ],
)
def test_impossible_promises_are_refused(trained, tmp_path: Path, words: list[str], needles: list[str]) -> None:
    ended = trained("router=constant", *words)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    for needle in needles:
        assert needle in ended.err
    assert not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("policy", ["auto", "cost_aware"])
def test_a_share_of_strong_calls_is_for_two_models(entry, tmp_path: Path, policy: str) -> None:
    path = tmp_path / "three.csv"
    header = "query,quality:a,quality:b,quality:c,cost:a,cost:b,cost:c\n"
    path.write_text(header + "".join(f"question {i} of many,{i % 2},1,{i % 3 % 2},.1,.2,.3\n" for i in range(60)))
    words = ["data=table", f"data.path={path}", "router=knn", "tracking=none", "replicates=100", f"policy={policy}"]
    ended = entry("train", *words, "policy.strong_share=.5")
    assert ended.code == 1
    assert "policy.strong_share is for two models" in ended.err
    points = points_of(entry("train", *words, "policy.spend=.5").ok().folder)
    assert points["spend-50"]["promise"] == "spend"
