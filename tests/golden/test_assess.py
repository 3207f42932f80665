"""One judgement as a whole: it holds what docs/METRICS.md promises, withholds with reasons, and sees the planted signal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core import policy
from routewright.core.calibrate import Affine
from routewright.core.files import json_bytes
from routewright.core.types import InputError, Outcomes, Predictions, Queries
from routewright.eval import controls, protocol, stats
from routewright.eval.assess import Assessment, Judging, assess
from routewright.eval.crossfit import Fitted
from routewright.eval.points import Promise
from routewright.routers.constant import Constant
from tests.conftest import make_outcomes

METRICS = (Path(__file__).resolve().parents[2] / "docs" / "METRICS.md").read_text()
HELD = 100  # the first rows are held out, the others judged


def fitted(outcomes: Outcomes, quality: np.ndarray, *, held: bool = True, cost: np.ndarray | None = None) -> Fitted:
    """Predictions that somebody made, as cross-fitting hands them over: a held-out part and a judged part."""
    known = np.isfinite(outcomes.cost).any()
    flat = np.tile(np.nanmean(outcomes.cost, axis=0), (len(outcomes), 1)) if known else outcomes.cost
    made = Predictions(quality, flat if cost is None else cost)
    rows = np.arange(len(outcomes))
    choose = ((rows[:HELD], made.take(rows[:HELD])),) if held else ()
    return Fitted(
        rows[HELD:], np.zeros(len(rows) - HELD, dtype=int), made.take(rows[HELD:]), Affine.identity(2), Constant(), choose, exact=True
    )


def judged(
    outcomes: Outcomes,
    quality: np.ndarray,
    *,
    seed: int = 5,
    held: bool = True,
    rivals: Mapping[str, Predictions] | None = None,
    promise: Promise | None = None,
    **options: Any,
) -> Assessment:
    judging = Judging(**{"replicates": 100, **options})
    return assess("r", fitted(outcomes, quality, held=held), outcomes, judging, np.random.default_rng(seed), rivals or {}, promise=promise)


def truth(outcomes: Outcomes) -> np.ndarray:
    return outcomes.quality.astype(np.float64)


@pytest.fixture
def pair(rng: np.random.Generator) -> Outcomes:
    return make_outcomes(rng, n=300)


@pytest.fixture
def four(rng: np.random.Generator) -> Outcomes:
    return make_outcomes(rng, n=300, m=4)


def section(title: str) -> list[str]:
    """Every name in the first column of a section's table, `x_95` (`_98`) written out."""
    body = METRICS.split(f"## {title}")[1].split("\n## ")[0]
    names: list[str] = []
    for line in body.splitlines():
        if line.startswith("| `"):
            for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
                names.append(re.sub(r"_\d+$", name, names[-1]) if name.startswith("_") else name)
    return names


def test_every_promised_figure_is_there(rng: np.random.Generator) -> None:
    names = [name.replace(".<name>", "") for name in section("The curve")]
    assert {"apgr", "cost_saved_at_98", "cost_saved_at_100", "operating_points", "aiq_fixed_mix"} <= set(names)
    for m in (2, 4):
        outcomes = make_outcomes(rng, n=600, m=m)
        found = judged(outcomes, truth(outcomes)).metrics
        wanted = set(names) - (set() if m == 2 else {"routellm"})
        assert wanted <= set(found), sorted(wanted - set(found))
        assert [name for name in wanted if found[name] is None] == []
        assert found["withheld"] == {}
        assert set(found["operating_points"]) == set(re.findall(r"`(cheapest|balanced|quality-95)`", METRICS))
        assert {"word", "difference", "ci", "sentence", "unbeaten"} <= set(found["verdict"])
        for key in ("apgr", "cpt50", "cost_saved_at_95", "usd_cost_saved_at_100"):
            low, high = found[f"{key}_ci"]
            assert low <= high


def test_every_promised_control_is_there(pair: Outcomes) -> None:
    rivals = {name: Predictions(np.zeros((200, 2)), pair.cost[HELD:]) for name in controls.fitted(Constant)}
    found = judged(pair, truth(pair), rivals=rivals)
    named = section("The controls")
    promised = {name for name in named if name not in ("model:<name>", "router_alone")} | {"model:model0", "model:model1"}
    assert "router_alone" in named  # of cascades: tests/golden/test_cascading.py
    assert set(found.metrics["controls"]) == promised
    assert next(iter(found.curves)) == "router"
    assert set(found.curves) == {"router"} | {name for name in promised if not name.startswith("model:")}


def test_single_models_by_hand(pair: Outcomes) -> None:
    found = judged(pair, truth(pair)).metrics
    for j, name in enumerate(("model0", "model1")):
        quality, cost = truth(pair)[HELD:, j].mean(), pair.cost[HELD:, j].mean()
        assert found["models"][name]["quality"] == pytest.approx(quality)
        assert found["models"][name]["cost"] == pytest.approx(cost)
        assert found["controls"][f"model:{name}"]["quality"] == pytest.approx(quality)
        low, high = found["models"][name]["quality_ci"]
        error = np.sqrt(quality * (1 - quality) / 200)
        assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.25)
    assert (found["weak"], found["strong"], found["pool"]) == ("model0", "model1", ["model0", "model1"])
    assert (found["n_test"], found["n_groups"], found["n_unobserved"]) == (200, 4, 0)
    assert (found["policy"], found["axis"], found["usage"]) == ("threshold", "share of strong calls", "nominal")


def test_the_oracles_predictions_reach_the_ceiling(pair: Outcomes, four: Outcomes) -> None:
    for outcomes in (pair, four):
        found = judged(outcomes, truth(outcomes)).metrics
        best = truth(outcomes)[HELD:].max(axis=1).mean()
        assert found["oracle_quality"] == pytest.approx(best)
        assert found["quality_at_best"] == pytest.approx(best)
        assert found["peak_quality"] == pytest.approx(best)
        assert found["gap_recovered"] == pytest.approx(1)
        assert found["brier"] == pytest.approx(0)
        assert found["ece"] == pytest.approx(0)
        assert found["auroc"] == pytest.approx(1)


@pytest.mark.parametrize("m", [2, 4])
def test_a_perfect_router_helps_an_anti_router_hurts_and_noise_does_neither(m: int, rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=400, m=m)
    perfect, anti = judged(outcomes, truth(outcomes)).metrics, judged(outcomes, 1 - truth(outcomes)).metrics
    assert perfect["verdict"]["word"] == "helps"
    assert perfect["verdict"]["ci"][0] > 0.1
    assert anti["verdict"]["word"] == "hurts"
    assert anti["verdict"]["ci"][1] < 0
    assert anti["verdict"]["sentence"].startswith("r hurts: -")
    assert perfect["apgr"] > 1 > 0.5 > anti["apgr"]
    constant = judged(outcomes, np.tile(truth(outcomes)[:HELD].mean(axis=0), (400, 1))).metrics["verdict"]
    assert constant["word"] == "no evidence that it helps"
    if m == 2:  # a constant is then the same mix
        assert constant["difference"] == pytest.approx(0, abs=1e-12)
        assert constant["ci"] == [0.0, 0.0]


def test_half_a_signal_lies_between(pair: Outcomes, rng: np.random.Generator) -> None:
    noise = rng.random((300, 2))
    apgr = [judged(pair, share * truth(pair) + (1 - share) * noise).metrics["apgr"] for share in (0, 0.3, 1)]
    assert apgr[0] < apgr[1] < apgr[2]
    assert 0.3 < apgr[0] < 0.7


def test_a_gap_too_small_is_withheld_but_the_verdict_stands(rng: np.random.Generator) -> None:
    quality = (rng.random((300, 2)) < [0.5, 0.53]).astype(float)
    found = judged(replace(make_outcomes(rng, n=300), quality=quality), quality).metrics
    for key in ("apgr", "cpt50", "cpt80"):
        assert found[key] is None
        assert found[f"{key}_ci"] is None
        assert "standard errors" in found["withheld"][key]
    assert found["routellm"] is None
    assert found["controls"]["oracle"]["apgr"] is None
    assert found["verdict"]["word"] == "helps"
    assert found["cost_saved_at_95"] is not None


def test_a_dearer_model_that_is_worse_has_no_gap(pair: Outcomes) -> None:
    swapped = replace(pair, quality=pair.quality[:, ::-1])
    found = judged(swapped, truth(swapped)).metrics
    assert "no better than the cheaper" in found["withheld"]["apgr"]
    assert found["verdict"]["difference"] == pytest.approx(found["oracle_quality"] - found["models"]["model0"]["quality"])
    assert found["cost_saved_at_95"] == pytest.approx(0), "the cheapest model is the best: there is nothing to save"


def test_without_costs_dollars_are_withheld_and_calls_are_counted(pair: Outcomes, rng: np.random.Generator) -> None:
    unknown = replace(pair, cost=np.full((300, 2), np.nan))
    scores = truth(pair) + rng.random((300, 2))
    found = judged(unknown, scores).metrics
    for percent in (95, 98, 100):
        key = f"cost_saved_at_{percent}"
        assert "cost" in found["withheld"][key]
        assert [found[name] for name in (key, f"{key}_ci", f"usd_{key}", f"usd_{key}_ci")] == [None] * 4
    assert "aiq" in found["withheld"]
    assert found["models"]["model1"]["cost"] is None
    assert found["controls"]["oracle"]["cost_saved_at_95"] is None
    assert all(point["cost"] is None for point in found["operating_points"].values())
    # every call of the strong model costs one
    counted = judged(replace(pair, cost=np.tile([0.0, 1.0], (300, 1))), scores).metrics
    assert found["verdict"] == counted["verdict"]
    assert found["apgr"] == counted["apgr"]
    shares = [{name: point["share"] for name, point in told["operating_points"].items()} for told in (found, counted)]
    assert shares[0] == shares[1]
    assert 0 < shares[0]["balanced"]["model1"] < 1
    with pytest.raises(InputError, match="'cost_aware' needs a cost"):
        judged(unknown, truth(pair), policy="cost_aware")


def test_queries_without_a_cost_are_left_out_and_counted(pair: Outcomes, rng: np.random.Generator) -> None:
    cost = pair.cost.copy()
    cost[[5, 150, 200], [0, 0, 1]] = np.nan
    partly = judged(replace(pair, cost=cost), truth(pair) + rng.random((300, 2))).metrics
    assert (partly["n_uncosted"], partly["n_unobserved"], partly["n_test"]) == (2, 0, 198)
    kept = np.setdiff1d(np.arange(HELD, 300), [150, 200])
    assert partly["models"]["model1"]["cost"] == pytest.approx(pair.cost[kept, 1].mean())
    assert partly["cost_saved_at_95"] is not None
    assert 0 < partly["operating_points"]["balanced"]["share"]["model1"] < 1


def test_grades_that_are_not_right_or_wrong_have_no_auroc(rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=300, binary=False)
    found = judged(outcomes, truth(outcomes)).metrics
    assert found["auroc"] is None
    assert "right or wrong" in found["withheld"]["auroc"]
    assert found["brier"] == pytest.approx(0, abs=1e-12)


def test_a_constant_router_among_many_models_does_not_hurt() -> None:
    """The best fixed mix is chosen away from the judged rows, as the router was: it has no winner's curse on its side."""
    words = []
    for seed in range(12):
        outcomes = make_outcomes(np.random.default_rng(seed), n=250, m=6)
        words.append(judged(outcomes, np.tile(truth(outcomes)[:HELD].mean(axis=0), (250, 1))).metrics["verdict"]["word"])
    assert words.count("no evidence that it helps") >= 11


@pytest.mark.parametrize("m", [2, 3])
def test_outcomes_that_are_all_equal_are_a_result(m: int, rng: np.random.Generator) -> None:
    outcomes = replace(make_outcomes(rng, n=200, m=m), quality=np.ones((200, m)))
    found = judged(outcomes, rng.random((200, m))).metrics
    budgets = {f"quality_at_cost_{percent}" for percent in (25, 50, 75)}  # the best model is the cheapest: less buys nothing
    assert set(found["withheld"]) == {"apgr", "cpt50", "cpt80", "auroc", "gap_recovered"} | budgets
    assert found["verdict"]["word"] == "no evidence that it helps"
    assert found["verdict"]["ci"] == [0.0, 0.0]
    assert found["cost_saved_at_100"] == pytest.approx(1 - outcomes.cost[HELD:, 0].mean() / outcomes.cost[HELD:, 0].mean())


def test_more_than_two_models_are_judged_by_spend(four: Outcomes) -> None:
    found = judged(four, truth(four))
    told = found.metrics
    assert (told["policy"], told["axis"]) == ("cost_aware", "spend")
    assert told["weak"] == "model0"
    assert told["strong"] == f"model{truth(four)[HELD:].mean(axis=0).argmax()}"
    assert "routellm" not in told
    assert found.curves["router"].share.shape[1] == 4
    for point in told["operating_points"].values():
        assert sum(point["share"].values()) == pytest.approx(1)
    assert {"model:model2", "model:model3"} <= set(told["controls"])


def test_a_figure_out_of_reach_says_so(four: Outcomes) -> None:
    """Of more than two models a useless router may never recover 80 % of the gap."""
    useless = np.tile(np.array([1.0, 0.9, 0.8, 0.7]), (300, 1))
    found = judged(four, useless).metrics
    assert not np.isfinite(found["cpt80"])
    assert found["withheld"]["cpt80"] == "the curve never recovers that much of the gap"


def test_what_does_not_fit_the_pool_is_refused(four: Outcomes, pair: Outcomes) -> None:
    with pytest.raises(InputError, match="protocol 'routellm' is for two models"):
        judged(four, truth(four), protocol="routellm")
    with pytest.raises(InputError, match="policy 'threshold' is for two models"):
        judged(four, truth(four), policy="threshold")
    blind = np.where(np.arange(300)[:, None] >= HELD, np.nan, pair.quality)
    blind[:, 1] = pair.quality[:, 1]
    with pytest.raises(InputError, match=r"no test query was observed on every model.*found 200 that lack .*\+data@extra\.NAME=SOURCE"):
        judged(replace(pair, quality=blind), truth(pair))
    cost = np.where(np.arange(300)[:, None] >= HELD, np.nan, pair.cost)
    with pytest.raises(InputError, match=r"found 0 that lack some model's grade, 200 .* cost\. Give a cost for every call"):
        judged(replace(pair, cost=cost), truth(pair))
    with pytest.raises(InputError, match="no calibration query was observed"):
        judged(replace(pair, quality=np.where(np.arange(300)[:, None] < HELD, np.nan, pair.quality)), truth(pair))


def test_more_than_two_models_need_a_cost(four: Outcomes) -> None:
    with pytest.raises(InputError, match="cannot be judged without a cost"):
        judged(replace(four, cost=np.full((300, 4), np.nan)), truth(four))


@pytest.mark.parametrize(
    ("options", "told"), [({"protocol": "mine"}, "exact, routellm"), ({"policy": "p"}, "auto"), ({"replicates": 99}, "100")]
)
def test_impossible_judgings_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Judging(**options)


def test_the_papers_protocol_is_the_headline_and_the_exact_figures_are_kept(pair: Outcomes, rng: np.random.Generator) -> None:
    scores = truth(pair) + rng.normal(size=(300, 2))
    exact, paper = judged(pair, scores).metrics, judged(pair, scores, protocol="routellm").metrics
    keys = ("apgr", "cpt50", "cpt80")
    assert paper["exact"] == {key: exact[key] for name in keys for key in (name, f"{name}_ci")}
    assert "exact" not in exact
    part = scores[HELD:]
    alone = protocol.routellm(part[:, 1] - part[:, 0], truth(pair)[HELD:, 0], truth(pair)[HELD:, 1])
    assert (paper["apgr"], paper["cpt50"], paper["cpt80"]) == (alone.apgr, alone.cpt[50], alone.cpt[80])
    assert {key: paper[key] for key in keys} == paper["routellm"] == exact["routellm"]
    assert paper["apgr"] != exact["apgr"]
    assert [paper[f"{key}_ci"] for key in keys] == [None] * 3
    assert "no interval" in paper["withheld"]["apgr_ci"]
    assert paper["verdict"] == exact["verdict"]
    best = protocol.optimal(truth(pair)[HELD:, 0], truth(pair)[HELD:, 1])
    assert paper["controls"]["oracle"]["apgr"] == best.apgr
    assert paper["controls"]["fixed_mix"] == exact["controls"]["fixed_mix"]


def test_queries_not_observed_on_every_model_are_left_out_and_counted(pair: Outcomes) -> None:
    gone = np.arange(HELD, 300, 7)
    quality = pair.quality.copy()
    quality[gone, 1] = np.nan
    rival = Predictions(1 - truth(pair), pair.cost).take(np.arange(HELD, 300))
    partly = judged(replace(pair, quality=quality), truth(pair), rivals={"length": rival}).metrics
    kept = np.setdiff1d(np.arange(300), gone)
    rivals = {"length": rival.take(kept[kept >= HELD] - HELD)}
    without = judged(pair.take(kept), truth(pair)[kept], rivals=rivals).metrics
    assert partly["n_unobserved"] == len(gone)
    assert partly["n_test"] == 200 - len(gone) == without["n_test"]
    differs = {key for key in without if json_bytes(without[key]) != json_bytes(partly[key])}
    assert differs <= {"n_unobserved", "operating_points"}, "the predicted cost alone is another mean"


def in_groups(rng: np.random.Generator, groups: int, size: int) -> tuple[Outcomes, np.ndarray]:
    """Every query of a group is the same: all the noise is between groups."""
    n = groups * size
    group = np.repeat(np.arange(groups), size)
    weak, strong = (rng.random(groups) < 0.4).astype(float)[group], (rng.random(groups) < 0.8).astype(float)[group]
    names = np.array([f"g{g}" for g in group], dtype=object)
    base = make_outcomes(rng, n=n)
    queries = Queries(base.queries.id, base.queries.text, names)
    scores = rng.normal(size=(groups, 2))[group] + 0.5 * np.column_stack([weak, strong])
    return Outcomes(queries, base.pool, np.column_stack([weak, strong]), np.tile([1.0, 10.0], (n, 1)), usage="nominal"), scores


def test_the_clustered_bootstrap_is_wider_where_groups_carry_the_noise(rng: np.random.Generator) -> None:
    outcomes, scores = in_groups(rng, 40, 20)
    by_query, by_group = (judged(outcomes, scores, clustered=clustered, replicates=400).metrics for clustered in (False, True))
    assert by_group["verdict"]["difference"] == by_query["verdict"]["difference"]

    def width(ci: list[float]) -> float:
        return ci[1] - ci[0]

    # twenty equal rows a group: the standard error of a mean is sqrt(20) times what it looks
    widths = [[width(found["models"]["model1"]["quality_ci"]), width(found["verdict"]["ci"])] for found in (by_query, by_group)]
    assert widths[1][0] / widths[0][0] == pytest.approx(np.sqrt(20), rel=0.3)
    assert widths[1][1] > 2 * widths[0][1]
    assert "over groups" in by_group["verdict"]["sentence"]
    assert "over queries" in by_query["verdict"]["sentence"]


def test_too_few_groups_give_no_interval_and_no_verdict(pair: Outcomes) -> None:
    found = judged(pair, truth(pair), clustered=True).metrics
    assert found["n_groups"] == 4
    assert found["verdict"]["ci"] is None
    assert found["verdict"]["word"] == "no evidence that it helps"
    assert "groups" in found["withheld"]["verdict.ci"]
    assert found["apgr_ci"] is None


def test_a_question_asked_twice_is_one_piece_of_evidence(pair: Outcomes, rng: np.random.Generator) -> None:
    """Every judged row written down twice: not one interval gets narrower."""
    scores = truth(pair) + rng.normal(size=(300, 2))
    rows = np.concatenate([np.arange(HELD), np.repeat(np.arange(HELD, 300), 2)])
    ids = np.array([f"row {i}" for i in range(len(rows))], dtype=object)
    twice = Outcomes(Queries(ids, pair.queries.text[rows], pair.queries.group[rows]), pair.pool, pair.quality[rows], pair.cost[rows])
    once, doubled = judged(pair, scores).metrics, judged(twice, scores[rows]).metrics
    assert doubled["n_test"] == 400
    assert doubled["apgr"] == pytest.approx(once["apgr"])
    for key in ("apgr_ci", "cost_saved_at_95_ci", "usd_cost_saved_at_95_ci"):
        assert doubled[key] == pytest.approx(once[key])
    assert doubled["models"]["model0"]["quality_ci"] == pytest.approx(once["models"]["model0"]["quality_ci"])


def test_groups_of_unequal_size_keep_what_is_certain(rng: np.random.Generator) -> None:
    """One model always wrong at 1 USD, one always right at 10: every resample has the same means, however many rows it holds."""
    names = np.array([f"g{int(i**0.5)}" for i in range(300)], dtype=object)
    base = make_outcomes(rng, n=300)
    queries = Queries(base.queries.id, base.queries.text, names)
    outcomes = Outcomes(queries, base.pool, np.tile([0.0, 1.0], (300, 1)), np.tile([1.0, 10.0], (300, 1)))
    found = judged(outcomes, truth(outcomes), clustered=True).metrics
    assert found["models"]["model1"]["quality_ci"] == pytest.approx([1, 1])
    assert found["apgr_ci"] == pytest.approx([0.5, 0.5])
    # 95 % of the way is 95 % of the calls: 9.55 USD instead of 10, for a thousand queries
    assert found["usd_cost_saved_at_95"] == pytest.approx(450)
    assert found["usd_cost_saved_at_95_ci"] == pytest.approx([450, 450])


def test_clusters_make_a_gap_uncertain_too(rng: np.random.Generator) -> None:
    outcomes, scores = in_groups(rng, 20, 30)
    assert judged(outcomes, scores).metrics["apgr"] is not None
    assert "standard errors" in judged(outcomes, scores, clustered=True).metrics["withheld"]["apgr"]


def test_the_same_generator_gives_the_same_bytes(pair: Outcomes) -> None:
    first, again, other = (judged(pair, truth(pair), seed=seed) for seed in (5, 5, 6))
    assert json_bytes(first.metrics) == json_bytes(again.metrics)
    np.testing.assert_array_equal(first.replicates, again.replicates)
    assert other.metrics["apgr"] == first.metrics["apgr"]
    assert other.metrics["apgr_ci"] != first.metrics["apgr_ci"]


def test_two_judgements_from_equal_generators_are_paired(pair: Outcomes, rng: np.random.Generator) -> None:
    """Nearly the same router twice: the interval of the difference is far narrower than either one's own."""
    scores = truth(pair) + rng.normal(size=(300, 2))
    near = scores + 0.05 * rng.normal(size=(300, 2))
    one, two = judged(pair, scores), judged(pair, near)
    assert len(one.replicates) == 100
    assert np.std(one.replicates - two.replicates) < 0.5 * np.std(one.replicates)
    assert one.metrics["verdict"]["ci"] == stats.interval(one.replicates)


def test_a_rival_as_good_as_the_router_is_named_as_unbeaten(pair: Outcomes, rng: np.random.Generator) -> None:
    scores = truth(pair)
    rivals = {"group": Predictions(scores[HELD:], pair.cost[HELD:]), "length": Predictions(rng.random((200, 2)), pair.cost[HELD:])}
    found = judged(pair, scores, rivals=rivals).metrics
    assert found["verdict"]["unbeaten"] == ["group"]
    assert "group" in found["verdict"]["sentence"].split("But it is not shown to beat")[1]
    assert found["controls"]["group"]["difference"] == found["verdict"]["difference"]
    assert found["controls"]["length"]["difference"] < found["controls"]["group"]["difference"]


def test_given_knobs_are_held_to_their_promise(pair: Outcomes, rng: np.random.Generator) -> None:
    scores = truth(pair) + rng.normal(size=(300, 2))
    promise = Promise({"mine": 0.4, "never": 1e12}, "threshold", "model0", "model1")
    found = judged(pair, scores, promise=promise).metrics["operating_points"]
    assert set(found) == {"mine", "never"}
    strong = scores[HELD:, 1] - scores[HELD:, 0] > 0.4
    rows = np.arange(200)
    assert found["mine"]["knob"] == 0.4
    assert found["mine"]["share"]["model1"] == pytest.approx(strong.mean())
    assert found["mine"]["quality"] == pytest.approx(truth(pair)[HELD:][rows, strong.astype(int)].mean())
    assert found["mine"]["cost"] == pytest.approx(pair.cost[HELD:][rows, strong.astype(int)].mean())
    assert found["never"]["share"] == {"model0": 1.0, "model1": 0.0}
    assert found["never"]["difference"] == pytest.approx(0, abs=1e-12)


def test_a_promise_for_another_policy_or_pair(pair: Outcomes) -> None:
    other = judged(pair, truth(pair), promise=Promise({"mine": 0.4}, "threshold", "model0", "model1"), policy="cost_aware").metrics
    assert other["operating_points"] == {}
    assert "threshold" in other["withheld"]["operating_points"]
    followed = judged(pair, truth(pair), promise=Promise({"mine": 40.0}, "cost_aware", "model1", "model0")).metrics
    assert (followed["policy"], followed["weak"], followed["strong"]) == ("cost_aware", "model1", "model0")
    with pytest.raises(InputError, match="model0, model1"):
        judged(pair, truth(pair), promise=Promise({}, "threshold", "model0", "model9"))


def test_a_promised_quality_is_kept_or_not(pair: Outcomes, rng: np.random.Generator) -> None:
    """quality-95 of scores that say the truth when held out and nothing when judged: the promise cannot be kept."""
    kept = judged(pair, truth(pair)).metrics["operating_points"]
    goal = 0.95 * truth(pair)[HELD:].mean(axis=0).max()
    assert kept["quality-95"]["goal"] == pytest.approx(goal)
    assert kept["quality-95"]["kept"] == (kept["quality-95"]["quality"] >= goal)
    assert (kept["balanced"]["goal"], kept["balanced"]["kept"]) == (None, None)
    scores = np.where(np.arange(300)[:, None] < HELD, truth(pair), 1 - truth(pair))
    broken = judged(pair, scores).metrics["operating_points"]["quality-95"]
    assert broken["kept"] is False
    assert broken["quality"] < broken["goal"]


def test_every_fold_uses_its_own_knob(pair: Outcomes, rng: np.random.Generator) -> None:
    """Two folds, each point chosen on the other one; what is exported is the median."""
    quality = truth(pair) + rng.normal(size=(300, 2))
    made = Predictions(quality, np.tile(pair.cost.mean(axis=0), (300, 1)))
    fold = np.arange(300) % 2
    rows = np.arange(300)
    held = tuple((rows[fold != k], made.take(fold != k)) for k in range(2))
    whole = Fitted(rows, fold, made, Affine.identity(2), Constant(), held, exact=False)
    rng_ = np.random.default_rng(0)
    found = assess("r", whole, pair, Judging(replicates=100), rng_, {}).metrics["operating_points"]["balanced"]
    knobs = []
    for k in range(2):
        part = assess("r", replace(whole, held_out=(held[k],), fold=np.zeros(300, dtype=int)), pair, Judging(replicates=100), rng_, {})
        knobs.append(part.metrics["operating_points"]["balanced"]["knob"])
    assert knobs[0] != knobs[1]
    assert found["knob"] == pytest.approx(np.mean(knobs))
    decisions = policy.decide(quality, np.tile([0.0, 1.0], (300, 1)), np.array(knobs)[fold])
    assert found["share"]["model1"] == pytest.approx((decisions.served == 1).mean())


def test_without_held_out_rows_there_are_no_points_and_a_reason(pair: Outcomes) -> None:
    found = judged(pair, truth(pair), held=False).metrics
    assert found["operating_points"] == {}
    assert "split.calibration" in found["withheld"]["operating_points"]


def test_shuffled_decisions_know_nothing(pair: Outcomes) -> None:
    found = judged(pair, truth(pair)).metrics["controls"]["shuffled_decisions"]
    assert found["ci"][0] < 0.02
    assert abs(found["apgr"] - 0.5) < 0.2
