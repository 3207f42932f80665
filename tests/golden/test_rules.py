"""Rules of cascades by hand: what each kind does on a few rows, what it reads, how it is written down, and which data are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from routewright.core.contracts import PRIOR, SAID, SCORE, STOP, USD_PRIOR, Rule
from routewright.core.posterior import Posterior
from routewright.core.rules import Beliefs, Checked, Listed, Planner, Sets, Votes, restored
from routewright.core.types import Floats, InputError
from routewright.routers.cascades.base import Base

COST = np.array([1.0, 10.0, 3.0])
NAN = float("nan")


def called(*rows: str) -> np.ndarray:
    """'x.x': the first and the third model."""
    return np.array([[mark == "x" for mark in row] for row in rows])


def sets(lam: float = 0.02, depth: int = 2) -> Sets:
    """Models 0 and 1 of three, whose scores fall .2 above or below the prior, all four ways equally likely."""
    draws = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    known = Posterior("identity", np.zeros(2), np.ones(2), np.eye(2) * 0.2**2, draws)
    return Sets(Planner(np.array([0, 1]), depth, False, np.zeros(2), COST, known), lam)


def one_of_each() -> list[Rule]:
    listed = Listed(np.array([2, 0, 1]), np.array([0.1 + 0.2, np.inf]), COST)
    beliefs = Beliefs(np.array([0, 2]), np.array([0.7]), 4.0, COST)
    return [listed, Votes(np.array([0, 2, 1]), 2, COST), beliefs, Checked(0, np.array([0.5]), np.array([1, 0]), COST), sets(), sets(np.inf)]


def test_a_list_by_hand() -> None:
    """0 keeps from .5 on, then 2 from .8 on, then 1 serves; a score that was not looked at keeps nothing."""
    rule = Listed(np.array([0, 2, 1]), np.array([0.5, 0.8]), COST)
    bought = called("...", "x..", "x..", "x..", "x.x", "x.x", "xxx")
    score = np.array(
        [[NAN] * 3, [0.5, NAN, NAN], [0.4, NAN, NAN], [NAN] * 3, [0.4, NAN, 0.9], [0.4, NAN, 0.7], [0.4, 0.1, 0.7]], dtype=np.float32
    )
    assert rule.step(bought, {SCORE: score}).tolist() == [0, STOP, 2, 2, STOP, 1, STOP]
    assert rule.select(bought[1:], {SCORE: score[1:]}).tolist() == [0, 0, 0, 2, 2, 1]
    assert rule.looks(called("x..", "x.x", "xxx"), np.array([0, 2, 1])).tolist() == [True, True, False]


def test_a_list_served_by_a_gateways_own_model() -> None:
    """2 was called outside the list, because 0 did not answer: its answer is all there is. Beside 0 it is not listened to."""
    rule = Listed(np.array([0, 1]), np.array([0.5]), COST)
    assert rule.select(called("..x", "x.x"), {SCORE: np.full((2, 3), NAN)}).tolist() == [2, 0]


def test_votes_by_hand() -> None:
    """Two equal answers end it; of the largest group the cheapest serves, without a group the dearest model called."""
    rule = Votes(np.array([0, 2, 1]), 2, COST)
    said = np.array([[NAN, NAN, NAN], [4, NAN, NAN], [4, NAN, 4], [4, NAN, 5], [4, 5, 5], [4, 6, 5], [NAN, NAN, NAN]])
    bought = called("...", "x..", "x.x", "x.x", "xxx", "xxx", "x.x")
    assert rule.step(bought, {SAID: said}).tolist() == [0, 2, STOP, 1, STOP, STOP, 1]
    assert rule.select(bought[1:], {SAID: said[1:]}).tolist() == [0, 0, 2, 2, 1, 2]
    assert not rule.looks(bought, np.zeros(7, dtype=int)).any()


def test_beliefs_by_hand() -> None:
    """With K = 4 two answers of .8 and .6 are believed .48 / .50 = .96 where they agree, and .08 / (.08 + .03 + .015) = .64 where not."""
    score, bought = np.array([[0.8, NAN, NAN], [0.8, NAN, 0.6], [0.8, NAN, 0.6]]), called("x..", "x.x", "x.x")
    said = np.array([[0.0, NAN, NAN], [0.0, NAN, 0.0], [0.0, NAN, 1.0]])
    signals = {SCORE: score, SAID: said}
    models = np.array([0, 2, 1])
    assert Beliefs(models, np.array([0.79, 0.9]), 4.0, COST).step(bought, signals).tolist() == [STOP, STOP, 1]
    assert Beliefs(models, np.array([0.81, 0.63]), 4.0, COST).step(bought, signals).tolist() == [2, STOP, STOP]
    assert Beliefs(models, np.array([0.81, 0.97]), 4.0, COST).select(bought, signals).tolist() == [0, 0, 0]


def test_a_check_by_hand() -> None:
    """Below .5 model 1 is asked, from .5 on the first is kept; a check that was not made counts as 0."""
    rule = Checked(0, np.array([0.5]), np.array([1, 0]), COST)
    bought, score = called("...", "x..", "x..", "x..", "xx."), np.array([[NAN] * 3, [0.5] * 3, [0.4] * 3, [NAN] * 3, [0.4, NAN, NAN]])
    assert rule.step(bought, {SCORE: score}).tolist() == [0, STOP, 1, 1, STOP]
    assert rule.select(bought[1:], {SCORE: score[1:]}).tolist() == [0, 0, 0, 1]
    assert rule.looks(called("x..", "xx."), np.array([0, 1])).tolist() == [True, False]


def test_sets_by_hand() -> None:
    """Lambda .02. {a} .5 - .02 = .48, {b} .6 - .2 = .4, {a, b} .675 - .22 = .455: a. It scores .2: b is worth .6 - .2, more; .9: stop."""
    prior, usd = np.array([[0.5, 0.6, 0.9]] * 3), np.array([[1.0, 10.0, NAN]] * 3)
    bought, score = called("...", "x..", "x.."), np.array([[NAN] * 3, [0.2, NAN, NAN], [0.9, NAN, NAN]])
    signals = {PRIOR: prior, USD_PRIOR: usd, SCORE: score}
    assert sets().step(bought, signals).tolist() == [0, 1, STOP]
    assert sets(np.inf).step(bought, {}).tolist() == [0, STOP, STOP]
    assert sets(depth=1).step(bought, {PRIOR: prior, USD_PRIOR: usd}).tolist() == [0, STOP, STOP]
    seen = {SCORE: np.array([[0.2, 0.1, NAN], [NAN, NAN, NAN]])}
    assert sets().select(called("xx.", "xx."), seen).tolist() == [0, 1]  # the best score; where nothing was looked at the dearest
    unpriced = {**signals, USD_PRIOR: np.full((3, 3), NAN)}
    assert sets().step(bought, unpriced).tolist() == [0, 1, STOP]  # the mean cost stands in


@pytest.mark.parametrize(
    ("rule", "needs"),
    [
        (Listed(np.array([1]), np.zeros(0), COST), ()),
        (Listed(np.array([1, 2]), np.array([0.5]), COST), (SCORE,)),
        (Votes(np.array([1]), 1, COST), ()),
        (Votes(np.array([0, 1, 2]), 2, COST), (SAID,)),
        (Beliefs(np.array([1]), np.zeros(0), 3.0, COST), ()),
        (Beliefs(np.array([0, 1]), np.array([0.5]), 3.0, COST), (SCORE, SAID)),
        (Checked(1, np.array([0.5]), np.array([1, 1]), COST), ()),
        (Checked(1, np.array([0.5]), np.array([1, 0]), COST), (SCORE,)),
        (sets(np.inf), ()),
        (sets(depth=1), (PRIOR, USD_PRIOR)),
        (sets(), (PRIOR, USD_PRIOR, SCORE)),
    ],
)
def test_it_says_what_it_reads_and_a_model_that_answers_alone_reads_nothing(rule: Rule, needs: tuple[str, ...]) -> None:
    assert tuple(rule.needs) == needs
    if not needs:
        first = int(rule.step(called("..."), {})[0])
        assert rule.step(np.arange(3)[None] == first, {}).tolist() == [STOP]
        assert rule.select(np.arange(3)[None] == first, {}).tolist() == [first]
        assert not rule.looks(np.arange(3)[None] == first, np.array([first])).any()


@pytest.mark.parametrize("rule", one_of_each(), ids=lambda rule: type(rule).__name__)
def test_what_is_written_is_plain_and_comes_back(rule: Rule) -> None:
    assert isinstance(rule, Rule)
    text = json.dumps(rule.described(), allow_nan=False)
    again = restored(json.loads(text))
    assert type(again) is type(rule)
    assert json.dumps(again.described(), allow_nan=False) == text


def test_how_a_list_is_written() -> None:
    rule = Listed(np.array([2, 0, 1]), np.array([np.float32(0.1), np.inf]), COST)
    wanted = '{"kind": "listed", "models": [2, 0, 1], "thresholds": [0.10000000149011612, null], "cost": [1.0, 10.0, 3.0]}'
    assert json.dumps(rule.described()) == wanted


LISTED: dict[str, Any] = {"kind": "listed", "models": [0, 1], "thresholds": [0.5], "cost": [1, 2]}
SETS = sets().described()


@pytest.mark.parametrize(
    ("described", "what"),
    [
        ({}, "unknown kind of rule"),
        ([], "unknown kind of rule"),
        ({"kind": "guess"}, "expected one of listed, votes, beliefs, checked, sets, found 'guess'"),
        ({"kind": ["listed"]}, "unknown kind of rule"),
        ({"kind": "listed"}, "field 'models' is missing"),
        (LISTED | {"more": 1}, "field 'more' is unknown"),
        (LISTED | {"models": [0, 2]}, "models names no models"),
        (LISTED | {"models": []}, "models names no models"),
        (LISTED | {"models": [1, 1]}, "models names a model twice"),
        (LISTED | {"models": [0, -1]}, "field 'models' is broken"),
        (LISTED | {"models": [0, True]}, "found True"),
        (LISTED | {"models": [0, 10**30]}, "field 'models' is broken"),
        (LISTED | {"models": "01"}, "field 'models' is broken"),
        (LISTED | {"thresholds": [0.5, 0.6]}, "thresholds has the wrong shape"),
        (LISTED | {"thresholds": [NAN]}, "found nan"),
        (LISTED | {"thresholds": ["0.5"]}, "expected finite numbers or null, a list"),
        (LISTED | {"cost": [1, None]}, "expected finite numbers, a list"),
        (LISTED | {"cost": [1, 10**400]}, "field 'cost' is broken"),
        (LISTED | {"cost": []}, "there are no models"),
        (Votes(np.array([0, 1, 2]), 2, COST).described() | {"votes": 0}, "impossible number of votes"),
        (Beliefs(np.array([0, 1]), np.array([0.5]), 3.0, COST).described() | {"wrong": 0.5}, "impossible number of wrong answers"),
        (Checked(1, np.array([0.5]), np.array([1, 0]), COST).described() | {"first": 3}, "first names no models"),
        (Checked(1, np.array([0.5, 0.6]), np.array([1, 0, 1]), COST).described() | {"edges": [0.6, 0.5]}, "edges fall"),
        (SETS | {"lambda": -1}, "impossible lambda"),
        (SETS | {"depth": 0}, "impossible size"),
        (SETS | {"chain": 0}, "expected true or false"),
        (SETS | {"space": "probit"}, "expected one of logit, identity"),
        (SETS | {"space": ["logit"]}, "expected one of logit, identity"),
        (SETS | {"draws": [[1.0, 2.0], [1.0]]}, "lists of different lengths"),
        (SETS | {"draws": []}, "draws has the wrong shape"),
        (SETS | {"covariance": [[1.0, 2.0], [2.0, 1.0]]}, "covariance is none"),
        (SETS | {"slope": [1.0]}, "slope has the wrong shape"),
    ],
)
def test_what_is_broken_is_named(described: Any, what: str) -> None:
    with pytest.raises(InputError, match=what.replace("[", r"\[")):
        restored(described)


def test_a_cascade_that_no_kind_describes_says_so() -> None:
    with pytest.raises(InputError, match="Base cannot be written down as a rule"):
        Base().rule(0.5)


def test_threads_may_share_a_rule() -> None:
    """A gateway's threads ask for the same queries at once, and for others in between."""
    rule, rng = sets(), np.random.default_rng(0)
    prior: Floats = rng.random((4, 3))
    usd, score = np.tile(COST, (4, 1)), rng.random((4, 3))

    def asked(i: int) -> list[int]:
        row, bought = [i % 4], called("...") if i % 3 else called("x..")
        seen = {PRIOR: prior[row], USD_PRIOR: usd[row], SCORE: np.where(bought, score[row], NAN)}
        return rule.step(bought, seen).tolist()

    alone = [asked(i) for i in range(12)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(asked, range(600))) == alone * 50


def test_rules_need_numpy_alone() -> None:
    """A fresh interpreter in which everything that a gateway does without cannot be imported."""
    heavy = [
        "torch",
        "pandas",
        "sklearn",
        "scipy",
        "onnx",
        "onnxruntime",
        "tokenizers",
        "transformers",
        "safetensors",
        "hydra",
        "omegaconf",
    ]
    lines = [
        "import sys, json",
        f"for name in {heavy!r}: sys.modules[name] = None",
        "import numpy as np",
        "from routewright.core.rules import restored",
        "rule = restored(json.loads(sys.argv[1]))",
        "signals = {'prior': np.array([[.5, .6, 0]]), 'usd_prior': np.array([[1., 10, 3]]), 'score': np.array([[.2, np.nan, np.nan]])}",
        "print(rule.step(np.array([[True, False, False]]), signals).tolist())",
    ]
    made = subprocess.run([sys.executable, "-c", "\n".join(lines), json.dumps(SETS)], check=True, capture_output=True, text=True)
    assert made.stdout.strip() == "[1]"
