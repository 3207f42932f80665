"""Decisions of a bundle: ranked, explained, the same as the policy's; conversations, candidates, exploration, and what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from routewright.core import policy
from routewright.core.types import InputError
from routewright.gateway.bundle import Bundle, VerdictWarning
from routewright.gateway.decisions import EXPLORED, ROUTED, UNFAMILIAR
from tests.gateway_bundles import tiny_bundle

TEXTS = ["a", "b", "c", "ab", "abc", "ccc", "bbbb", "xyz", ""]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(tiny_bundle(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def wary(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(tiny_bundle(tmp_path_factory.mktemp("wary"), familiar=True))


@pytest.mark.parametrize("point", ["balanced", "cheapest", "quality-95"])
def test_the_first_model_is_the_policy_s(bundle: Bundle, point: str) -> None:
    quality, counted = bundle.score(TEXTS), np.tile([0.0, 1.0], (len(TEXTS), 1))
    served = policy.decide(quality, counted, bundle.points[point]).served
    for row, text in enumerate(TEXTS):
        made = bundle.decide(text, point=point)
        assert made.model == made.ranked[0].model == bundle.models[served[row]]
        worths = [ranked.worth for ranked in made.ranked]
        assert worths == sorted(worths, reverse=True)
        assert {ranked.model for ranked in made.ranked} == set(bundle.models)
        assert made.reason == ROUTED
        assert made.propensity == 1.0
        assert made.bundle == bundle.hash
        assert made.confidence == pytest.approx(min(max(made.ranked[0].quality, 0), 1))
    assert {bundle.decide(text).model for text in TEXTS} == {"small", "large"}, "the toy router tells texts apart"


def test_a_decision_is_json(wary: Bundle) -> None:
    told = json.loads(json.dumps(wary.decide("abc").described()))
    assert told["ranked"][0] == {
        "model": told["model"],
        "quality": told["ranked"][0]["quality"],
        "expected_usd": 0.002,
        "worth": told["ranked"][0]["worth"],
    }
    assert set(told) == {
        "model",
        "ranked",
        "point",
        "confidence",
        "reason",
        "out_of_distribution",
        "familiarity",
        "propensity",
        "tokens",
        "bundle",
    }


def test_candidates_limit_the_choice(bundle: Bundle) -> None:
    for name in bundle.models:
        made = bundle.decide("abc", candidates=[name])
        assert [row.model for row in made.ranked] == [name]
    assert bundle.decide("abc", candidates=["large", "small"]) == bundle.decide("abc")
    with pytest.raises(InputError, match=r"a candidate is not in the bundle.*some of small, large.*'gpt'"):
        bundle.decide("abc", candidates=["small", "gpt"])
    for nothing in ([], "small"):
        with pytest.raises(InputError, match="no model may be called"):
            bundle.decide("abc", candidates=nothing)


def test_messages_are_read_as_the_last_user_turn(bundle: Bundle, tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "ccc"},
        {"role": "user", "content": "aaa"},
        {"role": "assistant", "content": "bbb"},
        {"role": "user", "content": [{"type": "text", "text": "ab"}, {"type": "image_url", "image_url": {"url": "x"}}]},
    ]
    assert bundle.decide(chat) == bundle.decide("ab")
    longer = Bundle.load(tiny_bundle(tmp_path / "turns", turns=1))
    assert longer.decide(chat) == longer.decide("aaa\n\nab")
    assert longer.decide(chat[:2]) == longer.decide("aaa"), "one turn is all there is"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ([], "no user turn holds text"),
        ([{"role": "assistant", "content": "a"}], "no user turn holds text"),
        ([{"role": "user", "content": ""}], "no user turn holds text"),
        ([{"content": "a"}], r"messages\[0\].*a message has no role|a message has no role.*messages\[0\]"),
        ([{"role": "user", "content": 3}], "a user's message has no text"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "a user's message has no text"),
        (["a"], "a message has no role"),
        (3, "neither text nor messages"),
        ("\ud800", "not Unicode text"),
    ],
)
def test_what_is_no_query_is_refused(bundle: Bundle, query, told: str) -> None:
    with pytest.raises(InputError, match=told):
        bundle.decide(query)


def test_a_strange_query_goes_to_the_fallback(wary: Bundle) -> None:
    least, every = wary.described["familiarity"]["least"], [wary.decide(text, point="cheapest") for text in TEXTS]
    assert all(made.out_of_distribution == (made.familiarity < least) for made in every)
    far = [made for made in every if made.out_of_distribution]
    assert 0 < len(far) < len(TEXTS), "some texts are strange, some are not"
    for made in far:
        assert (made.model, made.reason) == ("large", UNFAMILIAR), "the fallback, though the point says cheapest"
    text = next(text for text in TEXTS if wary.decide(text).out_of_distribution)
    alone = wary.decide(text, candidates=["small"])
    assert (alone.model, alone.reason, alone.out_of_distribution) == ("small", ROUTED, True), "a fallback that may not be called"


def test_exploration_has_the_propensity_that_it_says(bundle: Bundle) -> None:
    rng, share, n = np.random.default_rng(0), 0.4, 3000
    made = [bundle.decide("abc", explore=share, rng=rng) for _ in range(n)]
    best = bundle.decide("abc").model
    taken = [row for row in made if row.model == best]
    assert len(taken) / n == pytest.approx(0.8, abs=0.03)
    assert {round(row.propensity, 12) for row in taken} == {0.8}
    other = [row for row in made if row.model != best]
    assert {(row.reason, round(row.propensity, 12)) for row in other} == {(EXPLORED, 0.2)}
    for wrong in ({"explore": 0.1}, {"explore": 1.5, "rng": rng}, {"explore": -0.1, "rng": rng}):
        with pytest.raises(InputError, match="exploration needs a share and a generator"):
            bundle.decide("abc", **wrong)


def test_a_bundle_without_help_says_so_at_load(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "hurts", verdict="hurts")
    with pytest.warns(VerdictWarning, match="tiny: It hurts"):
        Bundle.load(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Bundle.load(tiny_bundle(tmp_path / "helps"))


def test_golden_vectors_catch_another_runtime(tmp_path: Path) -> None:
    bundle = Bundle.load(tiny_bundle(tmp_path / "b"))
    assert bundle.check_golden() < 1e-6
    bundle.described["golden"][5]["quality"][1] += 2e-4
    with pytest.raises(InputError, match="scores differently"):
        bundle.check_golden()
    bundle.described["golden"][5]["tokens"] += 1
    with pytest.raises(InputError, match="a golden text has other tokens"):
        bundle.check_golden()
