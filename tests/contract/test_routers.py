"""The contract suite: every configs/router/*.yaml is built as train.py builds it and must keep every promise of core/contracts.Router.

Routers that read text are built with a tiny model in place of their default; everything else is as the YAML says.
"""

from __future__ import annotations

import inspect
import tempfile
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from onnx import parser
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from routewright.core import graph
from routewright.core.contracts import Router
from routewright.core.types import Battles, InputError, Outcomes, Pool, Queries
from routewright.routers._training import padded
from tests.conftest import make_outcomes
from tests.tiny_bert import make_encoder
from tests.tiny_lm import make_model

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "router").glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]
UNTRAINED = {"random", "constant"}  # they see no query
TEXT = {path.stem for path in CONFIGS if get_class(OmegaConf.load(path)["_target_"]).reads == "text"}
EMBEDDING = [name for name in NAMES if name not in TEXT]
TINY = {"bert": make_encoder, "causal_llm": make_model}
# what a training of seconds needs
QUICK = {"checkpoints": False, "threads": 1, "device": "cpu", "precision": "float32", "max_tokens": 32, "validation": 0.0, "lr": 1e-3}

pytestmark = pytest.mark.filterwarnings("error")


def config(name: str) -> Any:
    return OmegaConf.load(ROOT / "configs" / "router" / f"{name}.yaml")


@cache
def tiny(name: str) -> str:
    """The folder of a small model of the router's kind."""
    return str(TINY[name](Path(tempfile.mkdtemp(prefix=f"tiny-{name}-"))))


def make(name: str) -> Router:
    router: Router = instantiate(config(name), **({"model": tiny(name)} | QUICK if name in TEXT else {}))
    return router


def feeds(router: Router, queries: Queries) -> dict[str, np.ndarray]:
    """What the router's graph takes for these queries."""
    if router.reads == "embedding":
        return {"embedding": queries.vectors()}
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(router.tokenizer())
    ids, mask = padded([np.array(found.ids) for found in tokenizer.encode_batch(list(queries.text))], 0)
    return {"input_ids": ids, "attention_mask": mask}


def made_up(name: str, rng: np.random.Generator, **shape: Any) -> Outcomes:
    """Outcomes whose embedding tells which queries gain; where the router reads text, a word tells it."""
    outcomes = make_outcomes(rng, **shape)
    if name not in TEXT:
        return outcomes
    hard = rng.random(len(outcomes)) < 0.5
    quality = (rng.random(outcomes.quality.shape) < np.where(hard[:, None], [0.2, 0.8], [0.8, 0.6])).astype(float)
    queries = outcomes.queries
    text = np.array([f"{'prove' if h else 'say'} {i}" for i, h in enumerate(hard)], dtype=object)
    return Outcomes(Queries(queries.id, text, queries.group, queries.embedding), outcomes.pool, quality, outcomes.cost)


def fitted(name: str, outcomes: Outcomes, seed: int = 0) -> Router:
    router = make(name)
    return router.fit(supervised(router, outcomes), rng=np.random.default_rng(seed))


def supervised(router: Router, outcomes: Outcomes) -> Outcomes | Battles:
    return outcomes.battles() if router.supervision == "battles" else outcomes


def with_quality(outcomes: Outcomes, quality: np.ndarray) -> Outcomes:
    return Outcomes(outcomes.queries, outcomes.pool, quality, outcomes.cost)


def auroc_of_gain(gain: np.ndarray, outcomes: Outcomes) -> float:
    """Chance that a query which only the second model answers has a higher gain than one which only the first answers."""
    truth = outcomes.quality[:, 1] - outcomes.quality[:, 0]
    up, down = gain[truth > 0], gain[truth < 0]
    return float(np.mean((up[:, None] > down) + 0.5 * (up[:, None] == down)))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=EMBEDDING)
def embedding_name(request: pytest.FixtureRequest) -> str:
    """A router that reads the embedding."""
    return str(request.param)


def test_every_router_has_a_config_and_every_config_a_router() -> None:
    files = {path.stem for path in (ROOT / "routers").glob("*.py") if not path.stem.startswith("_")} - {"base"}
    assert files == set(NAMES)
    for path in CONFIGS:
        target = OmegaConf.load(path)["_target_"]
        assert target.startswith(f"routewright.routers.{path.stem}."), f"{path.name} names {target}"


def test_init_only_stores_its_arguments(name: str) -> None:
    settings = {key: value for key, value in config(name).items() if key != "_target_"}
    cls = get_class(config(name)["_target_"])
    assert set(inspect.signature(cls).parameters) == set(settings), "the YAML lists every option"
    sentinels = {key: object() for key in settings}  # unusable values: anything but storing them would fail
    assert vars(cls(**sentinels)) == sentinels
    assert vars(instantiate(config(name))) == settings


def test_defaults_in_code_are_those_of_the_config(name: str) -> None:
    cls = get_class(config(name)["_target_"])
    stored = vars(instantiate(config(name)))
    for key, value in vars(cls()).items():
        assert stored[key] == (list(value) if isinstance(value, tuple) else value), key


def test_it_is_a_router(name: str) -> None:
    router = make(name)
    assert isinstance(router, Router)
    assert router.supervision in ("outcomes", "battles")
    assert router.reads in ("embedding", "text")
    assert inspect.getdoc(type(router))


@pytest.mark.parametrize("m", [2, 4])
def test_fit_returns_self_and_predict_scores_every_model(name: str, m: int, rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, m=m)
    router = make(name)
    assert router.fit(supervised(router, outcomes), rng=np.random.default_rng(0)) is router
    predictions = router.predict(outcomes.queries)
    assert predictions.quality.shape == predictions.cost.shape == (len(outcomes), m)
    assert np.isfinite(predictions.quality).all()
    assert len(router.predict(outcomes.queries.take(np.arange(0)))) == 0


def test_predicted_cost_is_the_mean_of_training(name: str, outcomes: Outcomes) -> None:
    router = make(name)
    cost = outcomes.cost.copy()
    cost[3, 0] = np.nan
    table = Outcomes(outcomes.queries, outcomes.pool, outcomes.quality, cost)
    predicted = router.fit(table, rng=np.random.default_rng(0)).predict(table.queries).cost
    assert np.allclose(predicted, np.nanmean(cost, axis=0))
    unknown = Outcomes(outcomes.queries, outcomes.pool, outcomes.quality, np.full(outcomes.cost.shape, np.nan))
    assert np.isnan(make(name).fit(unknown, rng=np.random.default_rng(0)).predict(table.queries).cost).all()


def test_inputs_are_left_as_they_were(name: str, outcomes: Outcomes) -> None:
    before = {key: getattr(outcomes, key).tobytes() for key in ("quality", "cost")} | {"e": outcomes.queries.vectors().tobytes()}
    fitted(name, outcomes).predict(outcomes.queries)
    after = {key: getattr(outcomes, key).tobytes() for key in ("quality", "cost")} | {"e": outcomes.queries.vectors().tobytes()}
    assert before == after


def test_state_survives_safetensors(name: str, outcomes: Outcomes) -> None:
    router = fitted(name, outcomes)
    state = router.state()
    assert all(key.endswith("_") for key in state)
    again = make(name).load(from_bytes(to_bytes(state)))
    assert to_bytes(again.state()) == to_bytes(state)
    for part in ("quality", "cost"):
        a, b = (getattr(r.predict(outcomes.queries), part) for r in (router, again))
        assert a.tobytes() == b.tobytes()
    assert again.onnx().SerializeToString() == router.onnx().SerializeToString()


def test_load_refuses_a_foreign_state(name: str, outcomes: Outcomes) -> None:
    state = fitted(name, outcomes).state()
    with pytest.raises(InputError, match="not one of"):
        make(name).load({**state, "stranger_": np.zeros(1)})
    state.popitem()
    with pytest.raises(InputError, match="not one of"):
        make(name).load(state)


def test_nothing_works_before_fit(name: str, outcomes: Outcomes) -> None:
    router = make(name)
    for call in (lambda: router.predict(outcomes.queries), router.state, router.onnx):
        with pytest.raises(InputError, match="not fitted"):
            call()


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("m", [2, 4])
def test_the_graph_scores_as_predict_does(name: str, batch: int, m: int, rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, n=300, m=m)
    quality = np.array(outcomes.quality)
    quality[rng.random(quality.shape) < 0.2] = np.nan
    router = fitted(name, with_quality(outcomes, quality))
    queries = make_outcomes(rng, n=batch).queries
    scored = graph.run(router.onnx(), feeds(router, queries))
    assert scored.shape == (batch, m)
    assert np.abs(scored - router.predict(queries).quality).max() < 1e-4


def test_duplicate_training_queries_do_not_part_graph_and_predict(name: str, outcomes: Outcomes) -> None:
    rows = np.tile(np.arange(20), 15)  # every similarity stands 15 times: ties at every rank
    ids, source = np.array([f"copy{i}" for i in range(len(rows))], dtype=object), outcomes.queries
    copies = Queries(ids, source.text[rows], source.group[rows], source.vectors()[rows])
    table = Outcomes(copies, outcomes.pool, np.random.default_rng(1).random((len(rows), 2)), outcomes.cost[rows])
    router = fitted(name, table)
    scored = graph.run(router.onnx(), feeds(router, outcomes.queries))
    assert np.abs(scored - router.predict(outcomes.queries).quality).max() < 1e-4


def test_same_seed_same_bytes(name: str, outcomes: Outcomes) -> None:
    one, two = fitted(name, outcomes), fitted(name, outcomes)
    assert to_bytes(one.state()) == to_bytes(two.state())
    assert one.onnx().SerializeToString() == two.onnx().SerializeToString()
    assert one.predict(outcomes.queries).quality.tobytes() == two.predict(outcomes.queries).quality.tobytes()


def test_scores_do_not_depend_on_the_company(name: str, outcomes: Outcomes) -> None:
    router = fitted(name, outcomes)
    whole = router.predict(outcomes.queries).quality
    order = np.random.default_rng(1).permutation(len(outcomes))
    assert np.allclose(router.predict(outcomes.queries.take(order)).quality, whole[order], atol=1e-6)
    assert np.allclose(router.predict(outcomes.queries.take(np.arange(1))).quality, whole[:1], atol=1e-6)


def test_models_not_observed_everywhere(name: str, rng: np.random.Generator) -> None:
    """Rows without a grade teach nothing: a table with them predicts as the table without, where all models miss the same rows."""
    outcomes = make_outcomes(rng, n=120)
    holes = np.array(outcomes.quality)
    holes[80:] = np.nan
    with_holes, without = fitted(name, with_quality(outcomes, holes)), fitted(name, outcomes.take(np.arange(80)))
    assert np.isfinite(with_holes.predict(outcomes.queries).quality).all()
    if name not in {"ridge", "random", *TEXT}:  # their draws depend on the number of rows, or not on the rows at all
        assert np.allclose(with_holes.predict(outcomes.queries).quality, without.predict(outcomes.queries).quality, atol=1e-5)


def test_a_log_of_single_calls(name: str, rng: np.random.Generator) -> None:
    """Every query was answered by one model only."""
    outcomes = make_outcomes(rng, n=200, m=3)
    log = np.full((200, 3), np.nan)
    choice = np.arange(200) % 3
    log[np.arange(200), choice] = outcomes.quality[np.arange(200), choice]
    router = make(name)
    table = with_quality(outcomes, log)
    if router.supervision == "battles":  # no query was answered twice, so there is nothing to compare
        with pytest.raises(InputError, match="nothing"):
            router.fit(supervised(router, table), rng=rng)
        return
    scores = router.fit(table, rng=rng).predict(outcomes.queries).quality
    assert np.isfinite(scores).all()
    if name == "constant":
        assert np.allclose(scores[0], np.nanmean(log, axis=0), atol=1e-6)


@pytest.mark.parametrize("grade", [0.0, 1.0])
def test_equal_outcomes_give_equal_scores(name: str, grade: float, outcomes: Outcomes) -> None:
    router = fitted(name, with_quality(outcomes, np.full(outcomes.quality.shape, grade)))
    scores = router.predict(outcomes.queries).quality
    gain = scores[:, 1] - scores[:, 0]
    if router.supervision == "battles":
        assert np.abs(gain).max() < 0.05  # all battles tied: next to no gain, in units of log odds
        return
    # a fine-tuned head begins at the base rates, which are kept a hundredth away from certainty
    assert np.ptp(scores) < (0.02 if name in TEXT else 1e-6)
    if name != "random":
        assert abs(scores[0, 0] - grade) < (0.03 if name in TEXT else 0.01)


def test_one_training_row(name: str, outcomes: Outcomes) -> None:
    router = fitted(name, outcomes.take(np.arange(1)))
    scores = router.predict(outcomes.queries).quality
    assert np.isfinite(scores).all()
    if router.supervision == "outcomes":
        assert np.ptp(scores, axis=0).max() < (0.05 if name in TEXT else 1e-6)
        if name != "random":
            assert np.array_equal(np.round(scores[0]), np.round(outcomes.quality[0]))
    scored = graph.run(router.onnx(), feeds(router, outcomes.queries))
    assert np.abs(scored - scores).max() < 1e-4


def test_one_model_is_refused(name: str, outcomes: Outcomes) -> None:
    single = outcomes.models(["model0"])
    with pytest.raises(InputError, match="two models"):
        fitted(name, single)


def test_no_rows_are_refused(name: str, outcomes: Outcomes) -> None:
    with pytest.raises(InputError, match="nothing"):
        fitted(name, outcomes.take(np.arange(0)))


def test_a_model_never_observed_is_named(name: str, rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, m=3)
    quality = np.array(outcomes.quality)
    quality[:, 1] = np.nan
    with pytest.raises(InputError, match="model1") as caught:
        fitted(name, with_quality(outcomes, quality))
    assert "model0" not in str(caught.value)


def test_queries_without_embedding_are_refused(embedding_name: str, outcomes: Outcomes) -> None:
    plain = Queries(outcomes.queries.id, outcomes.queries.text, outcomes.queries.group)
    with pytest.raises(InputError, match="no embedding"):
        fitted(embedding_name, outcomes).predict(plain)
    with pytest.raises(InputError, match="no embedding"):
        fitted(embedding_name, Outcomes(plain, outcomes.pool, outcomes.quality, outcomes.cost))


def test_another_encoders_width_is_refused(embedding_name: str, outcomes: Outcomes, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="16 dimensions"):
        fitted(embedding_name, outcomes).predict(make_outcomes(rng, d=8).queries)


def test_an_embedding_that_is_not_finite_is_refused(embedding_name: str, outcomes: Outcomes) -> None:
    broken = outcomes.queries.vectors().copy()
    broken[5, 0] = np.nan
    with pytest.raises(InputError, match="row 5"):
        fitted(embedding_name, outcomes.encoded(broken))


def test_the_wrong_supervision_is_refused(name: str, outcomes: Outcomes) -> None:
    router = make(name)
    if router.supervision == "outcomes":
        with pytest.raises(InputError, match="found Battles"):
            router.fit(outcomes.battles(), rng=np.random.default_rng(0))
        return
    by_outcomes = router.fit(outcomes, rng=np.random.default_rng(0)).state()
    by_battles = fitted(name, outcomes).state()
    # battles made of outcomes carry their costs along
    assert all(np.array_equal(by_outcomes[key], by_battles[key]) for key in by_battles)
    assert np.isfinite(by_battles["cost_"]).all()
    uncosted = replace(outcomes.battles(), cost=None)
    assert np.isnan(make(name).fit(uncosted, rng=np.random.default_rng(0)).state()["cost_"]).all()


def test_fractional_grades(name: str, rng: np.random.Generator) -> None:
    outcomes = make_outcomes(rng, binary=False)
    predictions = fitted(name, outcomes).predict(outcomes.queries)
    assert np.isfinite(predictions.quality).all()


def test_a_trained_router_reads_the_signal(name: str, rng: np.random.Generator) -> None:
    outcomes = made_up(name, rng, n=900)
    train, test = outcomes.take(np.arange(600)), outcomes.take(np.arange(600, 900))
    quality = fitted(name, train).predict(test.queries).quality
    found = auroc_of_gain(quality[:, 1] - quality[:, 0], test)
    if name in UNTRAINED:
        assert found == 0.5
    else:
        assert found > 0.65


@pytest.mark.parametrize("m", [2, 4])
def test_the_graph_states_its_shapes(embedding_name: str, m: int, rng: np.random.Generator) -> None:
    model = fitted(embedding_name, make_outcomes(rng, m=m)).onnx()
    assert [value.name for value in model.graph.input] == ["embedding"]
    assert [value.name for value in model.graph.output] == ["quality"]
    assert model.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 16
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == m


@pytest.mark.parametrize("text_name", sorted(TEXT))
def test_a_graph_of_text_states_its_shapes_and_needs_no_embedding(text_name: str, outcomes: Outcomes) -> None:
    plain = Queries(outcomes.queries.id, outcomes.queries.text, outcomes.queries.group)
    router = fitted(text_name, Outcomes(plain, outcomes.pool, outcomes.quality, outcomes.cost))
    model = router.onnx()
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask"]
    assert [value.name for value in model.graph.output] == ["quality"]
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 2
    assert router.predict(plain).quality.tobytes() == router.predict(outcomes.queries).quality.tobytes()


@pytest.mark.parametrize(("opset", "ir"), [(18, 10), (20, 11)])
def test_the_graph_fits_encoders_of_a_later_opset(embedding_name: str, opset: int, ir: int, outcomes: Outcomes) -> None:
    encoder = parser.parse_model(
        f"""<ir_version: {ir}, opset_import: ["" : {opset}]>
        encode (float[batch, 16] raw) => (float[batch, 16] embedding) {{ embedding = Identity(raw) }}"""
    )
    router = fitted(embedding_name, outcomes)
    scored = graph.run(graph.merge(encoder, router.onnx()), {"raw": outcomes.queries.vectors()})
    assert np.abs(scored - router.predict(outcomes.queries).quality).max() < 1e-4


def test_a_pool_of_other_names_changes_nothing(name: str, outcomes: Outcomes) -> None:
    renamed = Outcomes(outcomes.queries, Pool(("z", "a")), outcomes.quality, outcomes.cost)
    assert to_bytes(fitted(name, renamed).state()) == to_bytes(fitted(name, outcomes).state())


def test_fit_warns_of_nothing_on_clean_data(name: str, outcomes: Outcomes) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted(name, outcomes).predict(outcomes.queries)
    assert not [w for w in caught if "routewright" in str(w.filename) or issubclass(w.category, RuntimeWarning)]
