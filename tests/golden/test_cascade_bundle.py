"""A cascade's bundle: its graphs against numpy, its decisions against the replay at every knob, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tokenizers import Tokenizer

from routewright.core import graph, scorer_graph
from routewright.core.cascade_bundle import write_cascade
from routewright.core.probability import Probability
from routewright.core.types import InputError, Outcomes
from routewright.eval.cascading import Kept
from routewright.eval.kept import Compared, compare
from routewright.gateway.cascade import CascadeBundle
from routewright.routers.cascades.automix import AutoMix
from routewright.routers.logistic import Logistic
from routewright.routers.signals.agreement import Agreement
from routewright.routers.signals.learned import Learned
from routewright.routers.signals.logprob import Logprob
from routewright.routers.students.knn import KNN as Student
from tests.cascade_bundles import CASCADES, ROOT, Letters, encoded, facts, few_texts, kept, of, points, quick, said, written
from tests.conftest import make_outcomes
from tests.contract.test_signals import QUICK
from tests.tiny_bert import make_encoder

ROUTERS = sorted({path.stem for path in (ROOT / "configs" / "router").glob("*.yaml")} - {"bert", "causal_llm"})  # those on embeddings
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    few_texts(monkeypatch)


# ---- graphs against numpy


@pytest.mark.parametrize("name", ["some", "equal", "no query", "recorded", "one model"])
def test_the_graph_of_features_is_their_score(name: str) -> None:
    outcomes = encoded(m=1 if name == "one model" else 3)
    outcomes = replace(outcomes, quality=np.ones_like(outcomes.quality)) if name == "equal" else outcomes  # no tree is grown
    signal = quick(signals=("logprob_mean",) if name == "recorded" else ()).fit(
        replace(outcomes, queries=replace(outcomes.queries, embedding=None)) if name == "no query" else outcomes,
        rng=np.random.default_rng(0),
    )
    scorer, cells = signal.scorer(), np.ones(outcomes.quality.shape, dtype=bool)
    x = signal._table(outcomes, cells)
    width = len(scorer.reader["names"])
    row, column = np.nonzero(cells)
    feeds: dict[str, Any] = {"features": x[:, :width], "model": column}
    if scorer.reader["recorded"]:
        feeds["recorded"] = x[:, width : width + 1]
    if scorer.reader["embedding"]:
        feeds["embedding"] = outcomes.queries.vectors()[row]
    got = graph.run(scorer.graph, feeds)
    np.testing.assert_allclose(got, signal.score(outcomes)[cells], rtol=1e-12, atol=1e-12)


SCORES = st.floats(-30, 30) | st.just(float("nan"))


@settings(max_examples=25)
@given(st.lists(st.tuples(SCORES, st.integers(0, 2)), min_size=1, max_size=30), st.sampled_from(["isotonic", "temperature"]))
def test_the_graph_of_a_calibration_is_the_calibration(cells: list[tuple[float, int]], method: str) -> None:
    rng = np.random.default_rng(len(cells))
    score = rng.normal(size=(60, 3)).round(1)
    grade = (rng.random((60, 3)) < 1 / (1 + np.exp(-score))).astype(float)
    grade[:, 1] = 1.0  # one model is always right: isotonic is level there
    score[5:, 2] = np.nan  # of another hardly anything is known
    fitted = Probability.fit(score, grade, method)
    # on the knots, beside them and beyond the ends
    raw = np.array([value for value, _ in cells] + [*fitted.x[:6], *np.nextafter(fitted.x[:6], 9), 1e9, -1e9])
    model = np.array([j for _, j in cells] + [0] * (len(raw) - len(cells)))
    table_ = np.full((len(raw), 3), np.nan)
    table_[np.arange(len(raw)), model] = raw
    wanted = fitted(table_)[np.arange(len(raw)), model]
    got = graph.run(scorer_graph.chance(scorer_graph.given(), fitted), {"recorded": raw[:, None], "model": model})
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-14)


def test_a_prior_is_calibrated_in_the_graph() -> None:
    outcomes = encoded()
    router = Logistic().fit(outcomes, rng=np.random.default_rng(0))
    score = router.predict(outcomes.queries).quality
    for method in ("temperature", "isotonic"):
        fitted = Probability.fit(score, outcomes.quality, method)
        whole = graph.merge(Letters().onnx(), scorer_graph.prior(router.onnx(), fitted))
        ids = np.array([Tokenizer.from_str(Letters().tokenizer()).encode(outcomes.queries.text[0]).ids] * 2)
        got = graph.run(whole, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        np.testing.assert_allclose(got[0], fitted(score)[0], atol=2e-6)


@pytest.mark.parametrize("name", ROUTERS)
def test_every_routers_prior_is_worked_out_in_double(name: str) -> None:
    """To the last bit where the router predicts in double from tables of single precision, else as near as its own arithmetic allows."""
    outcomes = make_outcomes(np.random.default_rng(0), n=60, m=3)
    router = instantiate(OmegaConf.load(ROOT / "configs" / "router" / f"{name}.yaml")).fit(outcomes, rng=np.random.default_rng(0))
    score = router.predict(outcomes.queries).quality
    fitted = Probability.fit(score, outcomes.quality, "temperature")
    got = graph.run(scorer_graph.prior(scorer_graph.widened(router.onnx()), fitted), {"embedding": outcomes.queries.vectors()})
    np.testing.assert_allclose(got, fitted(score), rtol=0, atol=2e-6)
    if name in ("logistic", "mf", "constant"):
        assert (got == fitted(score).astype(np.float32)).all()


# ---- decisions against the replay


def same(bundle: CascadeBundle, made: Kept, outcomes: Outcomes) -> Compared:
    assert bundle.check_golden() < 1e-6
    return compare(bundle, made, outcomes)


@pytest.mark.parametrize("name", CASCADES)
def test_every_cascade_decides_as_its_replay(name: str, tmp_path: Path) -> None:
    outcomes, fresh = encoded(), encoded(seed=1, n=25)
    cascade = of(name)
    made = kept(cascade)
    found = same(written(tmp_path / "bundle", made, outcomes), made, fresh)
    assert (found.queries, found.decisions) == (25, 125)
    assert found.calls >= found.decisions
    assert found.worst < 1e-6
    assert found.rounded == 0
    files = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert ("scorer.onnx" in files) == ("score" in cascade.needs)
    assert ("router.onnx" in files) == ("score" in cascade.needs or "prior" in cascade.needs)


@pytest.mark.parametrize("signal", [Logprob, partial(Logprob, kind="span"), Agreement])
def test_recorded_scores_are_handed_in(signal: Any, tmp_path: Path) -> None:
    outcomes = encoded()
    holes = {name: np.where(np.arange(120)[:, None] % 5 == 0, np.nan, value) for name, value in outcomes.signals.items()}
    outcomes = replace(outcomes, signals=holes)
    made = kept(AutoMix(), signal, outcomes)
    bundle = written(tmp_path / "bundle", made, outcomes)
    assert (bundle.described["scorer"]["usd"] is not None) == (signal is Agreement)
    found = same(bundle, made, outcomes)
    assert found.inexact == 0
    start = next(state for name in bundle.points if (state := bundle.start("a", name)).looks)
    with pytest.raises(InputError, match="recorded number"):
        start.answered("1 + 1 = 2")


def test_pairs_are_read_by_the_encoder_that_learned(tmp_path: Path) -> None:
    outcomes = encoded(n=60)
    options = QUICK | {"model": str(make_encoder(tmp_path / "tiny")), "epochs": 1}
    made = kept(AutoMix(), partial(Learned, **options), outcomes)
    bundle = written(tmp_path / "bundle", made, outcomes)
    assert bundle.described["scorer"]["kind"] == "pair"
    assert bundle.check_golden() < 1e-6
    assert compare(bundle, made, encoded(seed=1, n=20)).worst < 1e-6


def test_a_missing_answer_gets_the_models_own_mean(tmp_path: Path) -> None:
    outcomes = encoded()
    made = kept(AutoMix())
    bundle = written(tmp_path / "bundle", made, outcomes)
    answer = outcomes.answer.copy()
    answer[::3] = None
    compare(bundle, made, replace(outcomes, answer=answer))
    assert "router.onnx" in bundle.described["sha256"]


# ---- what a gateway sees


@pytest.fixture
def bundle(tmp_path: Path) -> CascadeBundle:
    outcomes = encoded()
    cascade = of("consensus")
    return written(tmp_path / "bundle", kept(cascade), outcomes)


def test_a_state_is_never_changed_and_tells_what_it_did(bundle: CascadeBundle) -> None:
    start = bundle.start([{"role": "user", "content": "What is 2 + 2?"}], "at-1.4")
    first = start.answered("2 + 2 = 4.")
    assert (start.called, start.scores, start.expected_usd) == ((), {}, 0)
    assert first.called == (start.next,)
    assert first.score is not start.score
    assert start.answered("2 + 2 = 4.").scores == first.scores, "the same answer again is the same score"
    with pytest.raises(InputError, match="still to be called"):
        _ = start.served
    asking = start
    while asking.next is not None:
        assert asking.next in asking.reason
        asking = asking.answered("2 + 2 = 4.")
    assert asking.served.answer == "2 + 2 = 4."
    assert asking.served.model in asking.reason
    assert asking.expected_usd == pytest.approx(
        sum(bundle.described["models"][bundle.models.index(j)]["expected_usd"] for j in asking.called)
    )
    with pytest.raises(InputError, match="nobody"):
        asking.answered("more")
    assert bundle.ask("What is 2 + 2?", lambda model, text: "2 + 2 = 4.", "at-1.4") == asking.served


def test_one_bundle_serves_many_threads(bundle: CascadeBundle) -> None:
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"Query {i}: what is {i} + 1?" for i in range(40)]

    def ended(text: str) -> Any:
        return bundle.ask(text, lambda model, asked: f"{model} says {len(asked)} + 1 = {len(asked) + len(model)}.", "at-1")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ended, texts)) == [ended(text) for text in texts]


def test_what_is_missing_or_changed_is_refused(bundle: CascadeBundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with pytest.raises(InputError, match="compares what answers say"):
        CascadeBundle.load(folder)
    with pytest.raises(InputError, match=r"not in the bundle.*at-0"):
        bundle.start("a", "balanced")
    described = json.loads((folder / "bundle.json").read_text())
    assert described["kind"] == "cascade"
    changed = bytearray((folder / "scorer.onnx").read_bytes())
    changed[-1] ^= 1
    (folder / "scorer.onnx").write_bytes(bytes(changed))
    with pytest.raises(InputError, match=r"scorer\.onnx was changed"):
        CascadeBundle.load(folder, said)


def test_a_bundle_that_decides_otherwise_is_told(bundle: CascadeBundle, tmp_path: Path) -> None:
    outcomes = encoded()
    cascade = of("consensus")
    other = kept(cascade, quick, replace(outcomes, quality=1 - outcomes.quality))
    with pytest.raises(InputError, match="differently"):
        compare(bundle, other, outcomes)


def test_what_cannot_leave_says_why(tmp_path: Path) -> None:
    outcomes = encoded()
    made = kept(AutoMix())
    with pytest.raises(InputError, match="operating point"):
        written(tmp_path, made, outcomes, {})
    with pytest.raises(InputError, match="student"):
        written(tmp_path, replace(made, student=Student()), outcomes)
    with pytest.raises(InputError, match="network"):
        write_cascade(tmp_path, made, None, facts(outcomes), points(0.5))
    assert not (tmp_path / "bundle.json").exists()
