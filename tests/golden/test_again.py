"""Finished runs on other data: who stands for whom, what was seen, what is carried over, and what may no longer be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.calibrate import Affine
from routewright.core.columns import Columns
from routewright.core.types import Battles, InputError, Outcomes, Pool, Predictions, Queries
from routewright.data.duels import among
from routewright.eval import again, controls, transfer
from routewright.eval.again import Other, Past
from routewright.eval.assess import Judging
from routewright.eval.crossfit import Fitted
from routewright.eval.points import Promise
from routewright.eval.transfer import Roles, Wanted

JUDGING = Judging(replicates=100)
BOTH = Wanted((Roles("small", "large"),))


class Digits:
    """Reads text: the gain of column 1 over column 0 is the number before the first space, in hundredths; more columns are level."""

    supervision, reads = "outcomes", "text"

    def __init__(self, m: int = 2) -> None:
        self.m, self.asked = m, 0

    def predict(self, queries: Queries) -> Predictions:
        self.asked += len(queries)
        quality = np.full((len(queries), self.m), 0.5)
        quality[:, 1] += np.array([int(text.split()[0]) / 100 for text in queries.text])
        return Predictions(quality, np.tile([1.0] + [9.0] * (self.m - 1), (len(queries), 1)))

    def state(self) -> dict[str, Any]:
        return {}


class Lengths(Digits):
    """The same from embeddings, whose first number it is."""

    reads = "embedding"

    def predict(self, queries: Queries) -> Predictions:
        return super().predict(replace(queries, text=[f"{round(100 * float(v[0]))} x" for v in queries.vectors()]))


class Table:
    """A source of a table that is at hand."""

    def __init__(self, table: Outcomes | Battles, revision: str = "one") -> None:
        self.table, self.revision = table, revision

    def load(self) -> Outcomes | Battles:
        return self.table

    def provenance(self) -> dict[str, Any]:
        return {"name": "mine", "labels": "clean", "revision": self.revision, "files": {"a.csv": "0"}}


class Encoder:
    """A vector of one number: that of the text."""

    fingerprint = "e" * 64

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[int(text.split()[0]) / 100] for text in texts], dtype=np.float32)


def make(config: Any) -> Any:
    """What Hydra's instantiate does, of configs that are the thing itself; an encoder that must not be made is an error."""
    assert config is not None, "nobody may ask for this"
    return config


def queries(texts: Sequence[str]) -> Queries:
    return Queries([f"q{i}" for i in range(len(texts))], list(texts), ["g"] * len(texts))


def table(texts: Sequence[str], models: Sequence[str] = ("small", "large"), *, cost: Sequence[float] | None = None) -> Outcomes:
    """The first model is right on odd numbers, every other one always; costs 1, 10, 100... USD."""
    numbers = np.array([int(text.split()[0]) for text in texts])
    quality = np.ones((len(texts), len(models)))
    quality[:, 0] = numbers % 2
    usd = np.asarray(10.0 ** np.arange(len(models)) if cost is None else cost)
    return Outcomes(queries(texts), Pool(tuple(models)), quality, np.tile(usd, (len(texts), 1)), usage="nominal")


OWN = table([f"{i} of mine" for i in range(40)], ("weak", "strong"))
NEW = table([f"{i} of theirs" for i in range(100)])


def past(router: Any = None, *, own: Outcomes = OWN, policy: str = "threshold", knob: float = 0.495, **config: Any) -> Past:
    """A run of `own` with one operating point, chosen for its pair."""
    promise = Promise({"balanced": knob}, policy, "weak", "strong", {"balanced": {"note": None, "asked": False}})
    m = len(own.pool)
    made = Predictions(np.zeros((10, m)), np.ones((10, m)))
    fitted = Fitted(np.arange(10), np.zeros(10, dtype=int), made, Affine.identity(m), router or Digits(m), (), exact=False)
    manifest = {
        "config": {"split": {"kind": "random"}, "encoder": None, "extra": {}, **config},
        "encoder": Encoder.fingerprint,
        "extra": {name: source.provenance() for name, source in config.get("extra", {}).items()},
    }
    described = {"data": "theirs", "router": "digits", "labels": "published", "leakage": {"exact_duplicates": 0}, "n_calibration": 4}
    return Past("digits", Path("a run"), manifest, promise, own, fitted, {"length": made}, described)


def other(data: Outcomes | Battles = NEW) -> Other:
    return Other(data, Table(data).provenance(), among)


def judged(run: Past, data: Outcomes | Battles = NEW, wanted: Wanted = BOTH) -> dict[str, Any]:
    (seen,) = again.on_other_data(run, other(data), make, wanted)
    return dict(again.judge(seen, JUDGING, np.random.default_rng(0)).metrics)


def test_the_strong_role_takes_the_strong_column_whatever_the_order() -> None:
    """Half of the calls, those of the largest numbers, go to the model that was named strong."""
    backwards = NEW.models(("large", "small"))
    for data in (NEW, backwards):
        found = judged(past(), data)
        assert (found["weak"], found["strong"], found["pool"]) == ("small", "large", ["small", "large"])
        point = found["operating_points"]["balanced"]
        assert point["share"] == {"small": 0.5, "large": 0.5}
        assert point["quality"] == pytest.approx(0.75)  # of 0 .. 49 every other one is right, 50 .. 99 all
        assert point["cost"] == pytest.approx(5.5)
    # where the run's column 1 is its weak model, the gain of the strong one falls with the number: 0 .. 19 are above the knob
    turned = judged(past(own=OWN.models(("strong", "weak")), knob=-0.195))
    assert (turned["weak"], turned["strong"], turned["pool"]) == ("small", "large", ["large", "small"])
    assert turned["operating_points"]["balanced"]["share"] == {"small": 0.8, "large": 0.2}


def test_costs_are_the_judged_datas_and_cost_aware_points_count_them() -> None:
    # gain - knob * (10 - 1) > 0 from number 50 on
    found = judged(past(policy="cost_aware", knob=0.495 / 9))
    assert found["policy"] == "cost_aware"
    assert found["models"]["large"]["cost"] == pytest.approx(10)
    assert found["operating_points"]["balanced"]["share"]["large"] == pytest.approx(0.5)
    free = replace(NEW, cost=np.full(NEW.cost.shape, np.nan), usage="none")
    assert "chosen for policy cost_aware" in judged(past(policy="cost_aware"), free)["withheld"]["operating_points"]
    assert judged(past(), free)["operating_points"]["balanced"]["share"]["large"] == pytest.approx(0.5)


def test_predicted_quality_is_withheld_and_points_say_where_they_come_from() -> None:
    found = judged(past())
    for key in transfer.MEANINGLESS:
        assert found[key] is None
        assert "weak and strong" in found["withheld"][key]
    assert "weak -> strong" in found["operating_points"]["balanced"]["note"]
    assert found["transfer"] == {"run": "digits", "weak": "weak", "strong": "strong"}
    assert transfer.moved(found)
    assert found["evaluation"] == "trained on theirs for weak -> strong"
    assert found["leakage"] is None
    assert "near ones were not looked for" in found["withheld"]["leakage"]
    assert set(found["routellm"]) == {"apgr", "cpt50", "cpt80"}
    assert {"fixed_mix", "random", "shuffled_decisions", "short_first", "oracle"} <= set(found["controls"])
    assert "length" not in found["controls"]


def test_its_own_models_need_no_roles_and_keep_every_figure() -> None:
    same = table([f"{i} of theirs" for i in range(100)], ("weak", "strong"))
    for wanted in (Wanted(), Wanted(automatic=True), Wanted((Roles("weak", "strong"),))):
        found = judged(past(), same, wanted)
        assert found["brier"] is not None
        assert found["operating_points"]["balanced"]["note"] is None
        assert not transfer.moved(found)
        assert not set(transfer.MEANINGLESS) & set(found["withheld"])
    # named the other way round it is another pair
    swapped = judged(past(), same, Wanted((Roles("strong", "weak"),)))
    assert (swapped["weak"], swapped["brier"]) == ("strong", None)
    assert transfer.moved(swapped)


def test_a_pair_is_found_by_cost_and_then_by_quality() -> None:
    for cost, weak in (([1, 10], "small"), ([10, 1], "large"), ([np.nan, np.nan], "small")):
        data = table(NEW.queries.text, cost=cost)
        (seen,) = again.on_other_data(past(), other(data), make, Wanted(automatic=True))
        assert seen.roles is not None
        assert seen.roles.weak == weak


def test_what_was_seen_is_left_out_and_counted() -> None:
    texts = [*(f"{i} of theirs" for i in range(60)), "7  OF mine", "8 of mine", "9 of the further one"]
    found = judged(past(), table(texts))
    assert (found["seen"], found["n_test"]) == (2, 61)
    further = Table(table(["9 of the further one", "10 x"], ("a", "b")))
    run = past(extra={"arena": further})
    found = judged(run, table(texts))
    assert (found["seen"], found["n_test"]) == (3, 60)
    assert "arena" in found["withheld"]["leakage"]
    changed = replace(run, manifest={**run.manifest, "extra": {"arena": {**further.provenance(), "revision": "two"}}})
    with pytest.raises(InputError, match=r"extra\.arena.*expected revision two, found one"):
        judged(changed, table(texts))
    # the same question with other options, however they are lettered, is the same question; an A within a line is none
    own = table([*(f"{i} of mine" for i in range(40)), "50 which?\nA. one\nB. two", "51 which? A. one"], ("weak", "strong"))
    asked = ["50  Which?\n(A) three\n(B) four", "50 which?\n  A) one", "51 which?\nA. one", "50 which?\nB. one"]
    found = judged(past(own=own), table([*(f"{i} of theirs" for i in range(60)), *asked]))
    assert (found["seen"], found["n_test"]) == (2, 62)
    with pytest.raises(InputError, match="has not seen: expected at least 30, found 1 of 41"):
        judged(past(), table([*OWN.queries.text, "1 of theirs"]))


def test_battles_are_cut_to_those_between_the_pair() -> None:
    """`large` beats `small` where the number is even, else they tie; against `third`, which is not asked about, it always loses."""
    n = 80
    asked = queries([f"{i} of theirs" for i in range(n)])
    rows, even = np.arange(n), np.arange(n) % 2 == 0
    fought = Battles(
        asked,
        Pool(("third", "small", "large")),
        np.concatenate([rows, rows]),
        np.repeat([1, 0], n),
        np.repeat([2, 2], n),
        np.concatenate([np.where(even, 0, 0.5), np.ones(n)]),
    )
    found = judged(past(), fought)
    assert found["models"]["large"]["quality"] == pytest.approx(0.75)
    assert found["models"]["small"]["quality"] == pytest.approx(0.25)
    assert "cost_saved_at_95" in found["withheld"]
    assert found["usage"] == "none"


def test_an_encoder_is_made_for_a_router_that_needs_one_and_must_be_the_same() -> None:
    run = past(Lengths(), encoder=Encoder())
    assert judged(run)["apgr"] == judged(past())["apgr"]
    another = Encoder()
    another.fingerprint = "f" * 64
    with pytest.raises(InputError, match="expected eeeeeeeeeeee, found ffffffffffff"):
        judged(past(Lengths(), encoder=another))
    assert again.encoder_of(past(), make) is None
    with pytest.raises(InputError, match="reads text itself"):
        again.encoder_of(past(), make, Encoder())


def test_a_router_of_more_models_seen_through_its_columns() -> None:
    through = Columns(Digits(4), [3, 1], np.array([np.nan, np.nan]))
    assert judged(past(through))["apgr"] == judged(past())["apgr"]


def test_several_pairs_are_scored_once_and_told_apart() -> None:
    wide = table([f"{i} of theirs" for i in range(100)], ("small", "large", "larger"))
    router = Digits()
    pairs = Wanted((Roles("small", "large"), Roles("small", "larger")))
    judgements = [
        again.judge(item, JUDGING, np.random.default_rng(0)) for item in again.on_other_data(past(router), other(wide), make, pairs)
    ]
    assert router.asked == 100
    assert [item.name for item in judgements] == ["digits on small -> large", "digits on small -> larger"]
    rows = transfer.rows({item.name: item.metrics for item in judgements})
    assert [(row["run"], row["weak"], row["strong"]) for row in rows] == [("digits", "small", "large"), ("digits", "small", "larger")]
    assert rows[0]["apgr"] == judgements[0].metrics["apgr"]
    assert rows[0]["short_first_apgr"] == judgements[0].metrics["controls"]["short_first"]["apgr"]
    assert judgements[1].metrics["models"]["larger"]["cost"] == pytest.approx(100)
    assert again.paired(judgements) == []
    assert again.sentences(judgements, []) == [], "nobody asked to compare two pairs of models"
    alone = again.judge(again.on_other_data(past(), other(), make, BOTH)[0], JUDGING, np.random.default_rng(0))
    assert again.paired([alone, alone])[0]["difference"] == 0
    assert "were not compared" in again.sentences([alone, alone], [])[0]


def test_short_first_by_hand() -> None:
    asked = queries(["1 long one", "2", "3 mid"])
    found = controls.shortest_first(asked, np.ones((3, 2)), 1)
    gain = found.quality[:, 1] - found.quality[:, 0]
    assert np.argsort(-gain).tolist() == [1, 2, 0]
    assert (gain < 0).all(), "at knob 0 the weak model answers"
    np.testing.assert_array_equal(controls.shortest_first(asked, np.ones((3, 2)), 0).quality, found.quality[:, ::-1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"roles": {"weak": "a", "strong": "a"}}, "one model cannot be both roles"),
        ({"roles": {"weak": "a", "strong": None}}, "a pair needs two names in roles"),
        ({"roles": {"weak": "a", "strong": "b"}, "pairs": [["a", "b"]]}, "roles and pairs say the same"),
        ({"pairs": []}, r"pairs are no list of pairs: expected \[\[weak, strong\], ...\]"),
        ({"pairs": ["ab", "cd"]}, "pairs are no list of pairs"),
        ({"pairs": "ab"}, "pairs are no list of pairs"),
        ({"pairs": [["a"]]}, "a pair needs two names in pairs"),
        ({"pairs": [["a", 3]]}, "a pair needs two names in pairs"),
        ({"pairs": [["a", "b"], ["a", "b"]]}, "a pair stands twice in pairs"),
    ],
)
def test_what_is_no_pair_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Wanted.of(settings, other_data=True)


def test_settings_become_pairs_and_need_other_data() -> None:
    none = {"roles": {"weak": None, "strong": None}, "pairs": None, "transfer": False}
    assert Wanted.of(none, other_data=False) == Wanted()
    assert Wanted.of({**none, "roles": {"weak": "a", "strong": "b"}}, other_data=True).named == (Roles("a", "b"),)
    assert Wanted.of({**none, "pairs": [["a", "b"], ["b", "c"]]}, other_data=True).named == (Roles("a", "b"), Roles("b", "c"))
    for settings in ({"transfer": True}, {"pairs": [["a", "b"]]}):
        with pytest.raises(InputError, match="a run's own data have its own pair"):
            Wanted.of({**none, **settings}, other_data=False)


def test_what_does_not_fit_the_data_or_the_run_is_refused() -> None:
    wide = table([f"{i} of theirs" for i in range(100)], ("small", "large", "larger"))
    with pytest.raises(
        InputError, match=r"between other models.*expected weak, strong, found small, large\. Say which.*roles=.*transfer=true"
    ):
        judged(past(), NEW, Wanted())
    with pytest.raises(InputError, match="a role is no model of the data in 'huge': expected one of small, large"):
        judged(past(), NEW, Wanted((Roles("small", "huge"),)))
    with pytest.raises(InputError, match=r"cannot choose a pair: expected data of 2 models, found 3\. Choose two"):
        judged(past(), wide, Wanted(automatic=True))
    three = table([f"{i} of mine" for i in range(40)], ("weak", "middle", "strong"))
    with pytest.raises(InputError, match=r"only a router of a pair.*expected 2 models, found 3"):
        judged(past(own=three))
    with pytest.raises(InputError, match="between other models") as found:
        judged(past(own=three), NEW, Wanted())
    assert found.value.mend == "", "roles would not mend it"
