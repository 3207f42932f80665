"""The fine-tuned encoder against transformers' own forward pass, the published way to a win rate, and losses restated in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from routewright.core import graph
from routewright.core.types import Battles, InputError, Outcomes, Pool, Queries
from routewright.routers._training import padded
from routewright.routers.bert import Bert
from tests.conftest import make_outcomes
from tests.tiny_bert import make_encoder

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("bert"))


def bert(model: Path, **changed: Any) -> Bert:
    settings: dict[str, Any] = {"max_tokens": 24, "epochs": 1, "checkpoints": False, "threads": 1, "device": "cpu", "precision": "float32"}
    return Bert(model=str(model), **settings | changed)


@pytest.fixture
def outcomes() -> Outcomes:
    return make_outcomes(RNG(0), n=60, m=3)


def outputs(router: Bert, model: Path, texts: list[str]) -> np.ndarray:
    """What the trained weights give, by transformers' model, one text at a time, without padding."""
    weights = router.weights_
    body = AutoModel.from_pretrained(str(model), add_pooling_layer=False)
    body.load_state_dict(
        {name.removeprefix("body."): torch.from_numpy(value) for name, value in weights.items() if name.startswith("body.")}
    )
    body.eval()
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(24)
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            hidden = body(input_ids=ids).last_hidden_state[0].numpy()
        pooled = hidden.mean(axis=0) if router.pooling == "mean" else hidden[0]
        rows.append(weights["head.weight"] @ pooled + weights["head.bias"])
    return np.array(rows)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_quality_is_what_transformers_computes(pooling: str, model: Path, outcomes: Outcomes) -> None:
    router = bert(model, head="quality", pooling=pooling).fit(outcomes, rng=RNG(0))
    texts = ["short", "question number 7", "one that is longer than the limit of tokens " * 3]
    wanted = sigmoid(outputs(router, model, texts))
    queries = Queries(np.array(list("abc"), dtype=object), np.array(texts, dtype=object), np.array([""] * 3, dtype=object))
    np.testing.assert_allclose(router.predict(queries).quality, wanted, atol=1e-5)
    ids = [np.array(found.ids) for found in Tokenizer.from_str(router.tokenizer()).encode_batch(texts)]
    tokens, mask = padded(ids, 0)
    np.testing.assert_allclose(graph.run(router.onnx(), {"input_ids": tokens, "attention_mask": mask}), wanted, atol=1e-5)


def test_both_is_the_mean_of_two_opinions_on_every_gain(model: Path, outcomes: Outcomes) -> None:
    router = bert(model, head="both").fit(outcomes, rng=RNG(0))
    out = outputs(router, model, list(outcomes.queries.text[:5]))
    right, score = sigmoid(out[:, :3]), out[:, 3:]
    quality = router.predict(outcomes.queries.take(np.arange(5))).quality
    for a in range(3):
        for b in range(3):
            wanted = ((right[:, a] - right[:, b]) + (score[:, a] - score[:, b])) / 2
            np.testing.assert_allclose(quality[:, a] - quality[:, b], wanted, atol=1e-5)
    np.testing.assert_allclose(quality.mean(axis=1), right.mean(axis=1), atol=1e-5)


def test_gain_is_the_second_models_against_the_first(model: Path) -> None:
    outcomes = make_outcomes(RNG(0), n=60, m=2)
    router = bert(model, head="gain").fit(outcomes, rng=RNG(0))
    quality = router.predict(outcomes.queries.take(np.arange(4))).quality
    np.testing.assert_allclose(quality[:, 1] - quality[:, 0], outputs(router, model, list(outcomes.queries.text[:4]))[:, 0], atol=1e-5)


def test_three_labels_as_published(model: Path) -> None:
    """The authors take the labels as strong wins, tie, weak wins, and 1 minus the last two as the strong model's win rate."""
    battles = make_outcomes(RNG(0), n=60, m=2).battles()
    texts = battles.queries.take(np.arange(4))
    for rank in ("win", "gain"):
        router = bert(model, head="labels", rank=rank).fit(battles, rng=RNG(0))
        out = outputs(router, model, list(texts.text))
        share = np.exp(out - out.max(axis=1, keepdims=True))
        lost, tie, won = (share / share.sum(axis=1, keepdims=True)).T
        quality = router.predict(texts).quality
        wanted = 1 - (tie + lost) if rank == "win" else won + tie / 2
        np.testing.assert_allclose(quality[:, 1], wanted, atol=1e-5)
        np.testing.assert_allclose(quality.sum(axis=1), 1.0, atol=1e-6)


def test_labels_follow_who_is_named_first(model: Path) -> None:
    queries = make_outcomes(RNG(0), n=3).queries
    fought = Battles(queries, Pool(("weak", "strong")), [0, 1, 2, 2], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0.5, 0], [1, 2, 3, 4])
    row, target, weight = bert(model, head="labels")._targets(fought)
    assert row.tolist() == [0, 1, 2, 2]
    # loss, tie, win of the strong one: it won the first two, tied, and lost
    assert target.tolist() == [[0, 0, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert weight[:, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("smooth", [0.0, 0.2])
def test_the_losses_by_numpy(smooth: float, model: Path) -> None:
    rng = RNG(3)
    out, target = rng.normal(size=(5, 6)), rng.random((5, 3))
    weight = (rng.random((5, 3)) < 0.7).astype(float)
    weight[0] = 0
    parts = [torch.from_numpy(part) for part in (out, target, weight)]
    soft, chance = target * (1 - smooth) + smooth / 2, sigmoid(out[:, :3])
    entropy = -(weight * (soft * np.log(chance) + (1 - soft) * np.log(1 - chance))).sum() / weight.sum()
    errors, pairs = 0.0, 0
    for i in range(5):
        for a in range(3):
            for b in range(3):
                if a != b and weight[i, a] and weight[i, b]:
                    errors += ((out[i, 3 + a] - out[i, 3 + b]) - (target[i, a] - target[i, b])) ** 2
                    pairs += 1
    both = bert(model, head="both", smooth=smooth)._loss(*parts)
    assert float(both) == pytest.approx(entropy + errors / pairs)
    assert float(bert(model, head="quality", smooth=smooth)._loss(parts[0][:, :3], *parts[1:])) == pytest.approx(entropy)


def test_what_does_not_fit_is_refused(model: Path, outcomes: Outcomes) -> None:
    with pytest.raises(InputError, match="head=gain is for two models"):
        bert(model, head="gain").fit(outcomes, rng=RNG(0))
    with pytest.raises(InputError, match="head=labels is for two models"):
        bert(model, head="labels").fit(outcomes.battles(), rng=RNG(0))
    for name in ("head", "rank", "pooling"):
        with pytest.raises(InputError, match=f"unknown {name}"):
            bert(model, **{name: "other"}).fit(outcomes, rng=RNG(0))
    with pytest.raises(InputError, match="no model at"):
        bert(model / "nowhere").fit(outcomes, rng=RNG(0))
    with pytest.raises(InputError, match="max_tokens is too small"):
        bert(model, max_tokens=2).fit(outcomes, rng=RNG(0))


def test_the_same_training_has_the_same_checkpoint_and_another_has_not(
    model: Path, outcomes: Outcomes, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path))
    first = bert(model, checkpoints=True).fit(outcomes, rng=RNG(0))
    places = lambda: {path.parent.name for path in tmp_path.glob("checkpoints/*/done.safetensors")}  # noqa: E731
    assert len(places()) == 1
    again = bert(model, checkpoints=True).fit(outcomes, rng=RNG(0))
    assert len(places()) == 1
    assert all(np.array_equal(again.state()[name], value) for name, value in first.state().items())
    bert(model, checkpoints=True, lr=2e-4).fit(outcomes, rng=RNG(0))
    bert(model, checkpoints=True).fit(outcomes, rng=RNG(1))
    bert(model, checkpoints=True).fit(outcomes.take(np.arange(59)), rng=RNG(0))
    assert len(places()) == 4
