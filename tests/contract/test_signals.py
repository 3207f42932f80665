"""The contract suite: every configs/signal/*.yaml is built as train.py builds it and must keep every promise of core/contracts.Signal.

Signals that train an encoder are built with a tiny one in place of their default; everything else is as the YAML says.
"""

from __future__ import annotations

import inspect
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes
from sklearn.metrics import roc_auc_score

from routewright.core.contracts import Signal
from routewright.core.feeds import Query, Scoring
from routewright.core.onnx_session import session
from routewright.core.pairs import pair_tokenizer
from routewright.core.types import InputError, Outcomes
from tests.conftest import make_outcomes
from tests.tiny_bert import make_encoder

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "signal").glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]
TRAINED = [path.stem for path in CONFIGS if get_class(OmegaConf.load(path)["_target_"]).learned]
RECORDED = [name for name in NAMES if name not in TRAINED]  # they hand on what collect.py recorded
ENCODING = {"learned"}  # they fine-tune an encoder
# what a training of seconds needs
QUICK = {"checkpoints": False, "threads": 1, "device": "cpu", "precision": "float32", "max_tokens": 32, "validation": 0.0, "lr": 3e-3}
BOUGHT = {"agreement": "usd_samples", "self_reported": "usd_self_reported"}
SIGNALS = ("logprob_mean", "logprob_min", "logprob_span", "agreement", "majority", "self_reported", "verifier")

pytestmark = pytest.mark.filterwarnings("error")


class Raw:
    """A session whose raw scores stand for the chances that a bundle's graph makes of them."""

    def __init__(self, opened: Any) -> None:
        self.opened = opened

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> Any:
        return self.opened.run(["raw"], feeds)


def config(name: str) -> Any:
    return OmegaConf.load(ROOT / "configs" / "signal" / f"{name}.yaml")


@cache
def tiny() -> str:
    return str(make_encoder(Path(tempfile.mkdtemp(prefix="tiny-signal-"))))


def make(name: str) -> Signal:
    signal: Signal = instantiate(config(name), **({"model": tiny()} | QUICK if name in ENCODING else {}))
    return signal


def table(seed: int = 0, n: int = 120, m: int = 2) -> Outcomes:
    """Outcomes with answers whose sums mostly hold where they are right, and every signal that can be recorded, noisy too."""
    rng = np.random.default_rng(seed)
    outcomes = make_outcomes(rng, n=n, m=m)
    right = outcomes.quality > 0.5
    clear = np.where(rng.random((n, m)) < 0.85, right, ~right)
    answer = np.empty((n, m), dtype=object)
    for i, j in np.ndindex(n, m):
        a, b = int(rng.integers(2, 50)), int(rng.integers(2, 50))
        answer[i, j] = f"{a} + {b} = {a + b}." if clear[i, j] else f"maybe {a} + {b} = {a + b + 1}?"
    chance = np.where(right, 0.7, 0.3) + 0.25 * rng.uniform(-1, 1, (n, m))
    signals = {name: np.log(chance) if name.startswith("logprob") else chance for name in SIGNALS}
    return replace(outcomes, answer=answer, signals=signals | {usd: 5 * outcomes.cost for usd in BOUGHT.values()})


def fitted(name: str, outcomes: Outcomes, seed: int = 0) -> Signal:
    return make(name).fit(outcomes, rng=np.random.default_rng(seed))


@cache
def ready(name: str) -> Signal:
    """Fitted on table(), for tests that only look."""
    return fitted(name, table())


def same(name: str, a: np.ndarray, b: np.ndarray) -> bool:
    """Equal numbers; to rounding where a graph scores batches that are padded otherwise."""
    return np.allclose(a, b, atol=1e-4 if name in ENCODING else 1e-9, rtol=0, equal_nan=True)


def everything_else(outcomes: Outcomes, column: int) -> Outcomes:
    """The same table with all that was recorded of the other models changed."""
    rng = np.random.default_rng(9)
    keep = np.arange(len(outcomes.pool)) == column
    answer = np.where(keep, outcomes.answer, "I cannot answer: 2 + 2 = 5, 7 / 7 = 3 ####")
    signals = {name: np.where(keep, value, rng.random(value.shape)) for name, value in outcomes.signals.items()}
    quality = np.where(keep, outcomes.quality, 1 - outcomes.quality)
    return replace(outcomes, answer=answer, signals=signals, quality=quality, cost=np.where(keep, outcomes.cost, 7.0))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_signal_has_a_config_and_every_config_a_signal() -> None:
    files = {path.stem for path in (ROOT / "routers" / "signals").glob("*.py") if not path.stem.startswith("_")} - {"base"}
    assert files == set(NAMES)
    for path in CONFIGS:
        target = OmegaConf.load(path)["_target_"]
        assert target.startswith(f"routewright.routers.signals.{path.stem}."), f"{path.name} names {target}"
        assert path.read_text().startswith("# ")


def test_init_only_stores_its_arguments(name: str) -> None:
    settings = {key: value for key, value in config(name).items() if key != "_target_"}
    cls = get_class(config(name)["_target_"])
    assert set(inspect.signature(cls).parameters) == set(settings), "the YAML lists every option"
    sentinels = {key: object() for key in settings}  # unusable values: anything but storing them would fail
    assert vars(cls(**sentinels)) == sentinels
    assert vars(instantiate(config(name))) == settings


def test_defaults_in_code_are_those_of_the_config(name: str) -> None:
    stored = vars(instantiate(config(name)))
    for key, value in vars(get_class(config(name)["_target_"])()).items():
        assert stored[key] == (list(value) if isinstance(value, tuple) else value), key


def test_it_is_a_signal(name: str) -> None:
    assert isinstance(make(name), Signal)
    assert inspect.getdoc(type(make(name)))


def test_fit_returns_self_and_every_answer_gets_a_number(name: str) -> None:
    signal, outcomes = make(name), table(m=3)
    assert signal.fit(outcomes, rng=np.random.default_rng(0)) is signal
    score = signal.score(outcomes)
    assert score.shape == (120, 3)
    assert score.dtype == np.float64
    assert np.isfinite(score).all()
    assert signal.score(outcomes.take(np.arange(0))).shape == (0, 3)


def test_higher_means_more_likely_right(name: str) -> None:
    fresh = table(seed=1)
    score = ready(name).score(fresh)
    assert roc_auc_score(fresh.quality.ravel() > 0.5, score.ravel()) > 0.7


def test_grades_are_never_looked_at(name: str) -> None:
    outcomes = table(seed=1)
    score = ready(name).score(outcomes)
    shuffled = np.random.default_rng(0).permuted(outcomes.quality, axis=0)
    assert (shuffled != outcomes.quality).any()
    for quality in (shuffled, 1 - outcomes.quality, np.full(outcomes.quality.shape, np.nan)):
        assert same(name, ready(name).score(replace(outcomes, quality=quality)), score)


def test_no_other_models_column_is_looked_at(name: str) -> None:
    outcomes = table(seed=1, m=2)
    score = ready(name).score(outcomes)
    for column in range(2):
        changed = ready(name).score(everything_else(outcomes, column))
        assert same(name, changed[:, column], score[:, column])
        assert not same(name, changed[:, 1 - column], score[:, 1 - column]), "the change must be one that is seen"


def test_scores_do_not_depend_on_the_company(name: str) -> None:
    outcomes = table(seed=1)
    whole, order = ready(name).score(outcomes), np.random.default_rng(1).permutation(len(outcomes))
    assert same(name, ready(name).score(outcomes.take(order)), whole[order])
    assert same(name, ready(name).score(outcomes.take(np.arange(1))), whole[:1])


def test_inputs_are_left_as_they_were(name: str) -> None:
    outcomes = table()

    def bytes_of() -> list[bytes]:
        return [outcomes.quality.tobytes(), repr(outcomes.answer.tolist()).encode(), *(v.tobytes() for v in outcomes.signals.values())]

    before = bytes_of()
    fitted(name, outcomes).score(outcomes)
    assert bytes_of() == before


def test_what_one_answer_lacks_is_nan_there_alone(name: str) -> None:
    outcomes = table(seed=1)
    answer, gone = outcomes.answer.copy(), (3, 1)
    answer[gone] = None
    signals = {key: value.copy() for key, value in outcomes.signals.items()}
    for value in signals.values():
        value[gone] = np.nan
    score, whole = ready(name).score(replace(outcomes, answer=answer, signals=signals)), ready(name).score(outcomes)
    assert np.isnan(score[gone])
    score[gone] = whole[gone]
    assert same(name, score, whole)


@pytest.mark.parametrize("name", RECORDED)
def test_a_model_without_the_record_is_nan_and_the_others_are_scored(name: str) -> None:
    outcomes = table()
    signals = {key: value.copy() for key, value in outcomes.signals.items()}
    for value in signals.values():
        value[:, 0] = np.nan
    score = fitted(name, replace(outcomes, signals=signals)).score(replace(outcomes, signals=signals))
    assert np.isnan(score[:, 0]).all()
    assert np.isfinite(score[:, 1]).all()


def test_what_is_missing_is_named_with_how_to_get_it(name: str) -> None:
    bare = replace(table(), answer=None, signals={})
    with pytest.raises(InputError, match=r"(?i)collect") as caught:
        fitted(name, bare)
    assert caught.value.mend
    with pytest.raises(InputError, match=r"(?i)collect"):
        ready(name).score(bare)
    if name in RECORDED:
        empty = {key: np.full(value.shape, np.nan) for key, value in table().signals.items()}
        with pytest.raises(InputError, match=r"(?i)collect"):
            fitted(name, replace(table(), signals=empty))


def test_no_rows_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="nothing"):
        fitted(name, table().take(np.arange(0)))


def test_comparisons_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="Outcomes"):
        make(name).fit(table().battles(), rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_never_observed_is_named(name: str) -> None:
    outcomes = table(m=3)
    quality = np.array(outcomes.quality)
    quality[:, 1] = np.nan
    with pytest.raises(InputError, match="model1") as caught:
        fitted(name, replace(outcomes, quality=quality))
    assert "model0" not in str(caught.value)


@pytest.mark.parametrize("name", TRAINED)
def test_other_models_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="other models"):
        ready(name).score(table().models(["model1", "model0"]))


@pytest.mark.parametrize("name", TRAINED)
def test_nothing_works_before_fit(name: str) -> None:
    for call in (lambda: make(name).score(table()), make(name).state):
        with pytest.raises(InputError, match="not fitted"):
            call()


@pytest.mark.parametrize("grade", [0.0, 1.0])
@pytest.mark.parametrize("name", TRAINED)
def test_equal_grades_and_one_row_can_be_learned_from(name: str, grade: float) -> None:
    outcomes = table()
    equal = fitted(name, replace(outcomes, quality=np.full(outcomes.quality.shape, grade))).score(outcomes)
    assert ((equal > 0) == (grade > 0)).all()
    assert np.isfinite(fitted(name, outcomes.take(np.arange(1))).score(outcomes)).all()


@pytest.mark.parametrize("name", TRAINED)
def test_fractional_grades_and_holes_can_be_learned_from(name: str) -> None:
    outcomes = table()
    quality = 0.25 + 0.5 * np.array(outcomes.quality)
    quality[:40, 0] = np.nan
    fresh = table(seed=1)
    score = fitted(name, replace(outcomes, quality=quality)).score(fresh)
    assert roc_auc_score(fresh.quality.ravel() > 0.5, score.ravel()) > 0.65


def test_state_survives_safetensors(name: str) -> None:
    state, outcomes = ready(name).state(), table(seed=1)
    assert all(key.endswith("_") for key in state)
    again = make(name).load(from_bytes(to_bytes(state)) if state else state)
    assert to_bytes(again.state()) == to_bytes(state)
    assert again.score(outcomes).tobytes() == ready(name).score(outcomes).tobytes()


def test_load_refuses_a_foreign_state(name: str) -> None:
    state = ready(name).state()
    with pytest.raises(InputError, match="not one of"):
        make(name).load({**state, "stranger_": np.zeros(1)})
    if state:
        state.popitem()
        with pytest.raises(InputError, match="not one of"):
            make(name).load(state)


def test_same_seed_same_bytes(name: str) -> None:
    one, two = fitted(name, table(), seed=3), fitted(name, table(), seed=3)
    assert to_bytes(one.state()) == to_bytes(two.state())
    assert one.score(table(seed=1)).tobytes() == two.score(table(seed=1)).tobytes()


def test_what_a_score_costs(name: str) -> None:
    outcomes = table(seed=1)
    cost = ready(name).cost(outcomes)
    if name not in BOUGHT:
        assert cost is None
        return
    np.testing.assert_allclose(cost, 5 * outcomes.cost, rtol=1e-6)
    unknown = replace(outcomes, signals={key: value for key, value in outcomes.signals.items() if not key.startswith("usd_")})
    with pytest.raises(InputError, match="not known"):
        ready(name).cost(unknown)


def test_a_gateway_scores_as_the_signal_does(name: str) -> None:
    """By the scorer's graph, fed by core/feeds.py one answer at a time: the same raw score, NaN where the signal has none."""
    signal, outcomes = ready(name), table(seed=1, n=12)
    holes = {key: np.where(np.arange(12)[:, None] % 4 == 1, np.nan, value) for key, value in outcomes.signals.items()}
    outcomes = replace(outcomes, signals=holes)
    scorer, wanted = signal.scorer(), signal.score(outcomes)
    raw = Raw(session(scorer.graph.SerializeToString()))
    scoring = Scoring(scorer.reader, raw, np.full(2, 0.5), None if scorer.tokenizer is None else pair_tokenizer(scorer.tokenizer.encode()))
    for i, j in np.ndindex(wanted.shape):
        text = outcomes.queries.text[i]
        query = Query(text, embedding=outcomes.queries.vectors()[i : i + 1], asked=scoring.asked(text))
        got = scoring(query, j, outcomes.answer[i, j], {key: float(value[i, j]) for key, value in outcomes.signals.items()})
        assert np.isclose(got, wanted[i, j], rtol=1e-5, atol=1e-5, equal_nan=True), (i, j)


def test_hostile_answers_are_scored_in_time(name: str) -> None:
    """100,000 characters made to be slow for a pattern that backtracks, each read in well under a second."""
    hostile = ("1+" * 50_000, "(" * 100_000, "1=" * 50_000, "9" * 100_000, "1,111" * 20_000, '"answer": "' * 9_000, "\\boxed{" * 14_000)
    hostile += (
        "the answer is " * 7_000,
        "\n" * 100_000,
        "<<" * 50_000,
        "a " * 50_000,
        "\u0301" * 100_000,
        "",
        " ",
        "2^" * 50_000,
        "1e9^9^9=1",
    )
    hostile += ("\ud800 lone surrogate", "A. B. C. " * 11_000, "1 mile/" * 14_000, "\\frac{1}{" * 11_000, "-" * 100_000, "1/0 = 0/0 = 5")
    outcomes = table(n=len(hostile))
    answer = np.array([[text, text] for text in hostile], dtype=object)
    if name in ENCODING:  # the tokenizer's own text rules out lone surrogates
        answer[-6] = ""
    begun = time.process_time()
    assert np.isfinite(ready(name).score(replace(outcomes, answer=answer))).all()
    assert time.process_time() - begun < 30
