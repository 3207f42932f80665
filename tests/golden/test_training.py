"""Fine-tuning: batches, rates, early stopping, and trainings that were interrupted or finished before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from routewright.core.types import InputError
from routewright.routers._training import Examples, Recipe, Training, bucketed, padded
from routewright.routers.bert import depth_below_top

SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "lr": 1e-2,
    "head_lr": 1e-1,
    "layer_decay": 0.5,
    "weight_decay": 0.01,
    "warmup": 0.1,
    "batch_size": 8,
    "clip": 1.0,
    "validation": 0.0,
    "patience": 2,
    "precision": "float32",
    "device": "cpu",
    "threads": 1,
}


def recipe(**changed: Any) -> Recipe:
    return Recipe(**SETTINGS | changed)


class Net(torch.nn.Module):
    """Mean of token vectors, two layers, dropout: small, and every part that a checkpoint must keep."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.embeddings = torch.nn.Embedding.from_pretrained(torch.randn((20, 6), generator=draw), freeze=False)
        self.layer = torch.nn.ModuleList([torch.nn.Linear(6, 6) for _ in range(2)])
        self.drop = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(6, 2)
        with torch.no_grad():
            for linear in (*self.layer, self.head):
                linear.weight.normal_(0, 0.3, generator=draw)
                linear.bias.zero_()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept = mask.unsqueeze(-1).float()
        hidden = (self.embeddings(ids) * kept).sum(1) / kept.sum(1)
        for linear in self.layer:
            hidden = self.drop(torch.tanh(linear(hidden)))
        return self.head(hidden)


def loss(outputs: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (torch.nn.functional.binary_cross_entropy_with_logits(outputs, target, weight, reduction="sum")) / weight.sum()


def examples(n: int = 60, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(1, 20, rng.integers(1, 9)) for _ in range(n)]
    target = np.array([[(row < 10).mean() > 0.5, (row % 2).mean() > 0.5] for row in ids], dtype=np.float32)
    return Examples(ids, target, np.ones_like(target))


def training(net: Net, folder: Path | None = None, **changed: Any) -> Training:
    return Training(net, loss, lambda name: depth_below_top(name, 2), recipe(**changed), 11, checkpoint=folder, name="net", pad=0)


def weights(net: Net) -> bytes:
    return b"".join(value.numpy().tobytes() for value in net.state_dict().values())


def test_every_row_stands_in_one_batch_and_lengths_stay_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1000).tolist()
    batches = list(bucketed(lengths, 16, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert all(len(rows) == 16 for rows in batches[:-1] if len(rows) == 16)
    assert sum(len(rows) == 16 for rows in batches) == 1000 // 16
    waste = sum(max(lengths[row] for row in rows) * len(rows) for rows in batches) / sum(lengths)
    assert waste < 1.15, "padding is what bucketing is for"
    means = [np.mean([lengths[row] for row in rows]) for rows in batches]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3, "long batches do not stand together"


def test_padding_is_on_the_right() -> None:
    ids, mask = padded([np.array([5, 6]), np.array([7])], 9)
    assert ids.tolist() == [[5, 6], [7, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]


def test_rates_fall_with_depth_and_follow_the_schedule() -> None:
    made = training(Net(), epochs=1, warmup=0.5)
    optimizer, rates = made._optimizer()
    by_name = dict(zip([name for name, _ in made.net.named_parameters()], rates, strict=True))
    assert by_name["head.weight"] == 1e-1
    assert by_name["layer.1.weight"] == 1e-2
    assert by_name["layer.0.weight"] == pytest.approx(5e-3)
    assert by_name["embeddings.weight"] == pytest.approx(2.5e-3)
    factors = []
    for step in range(8):
        made.course.step = step
        made._rate(optimizer, rates, 8)
        factors.append(optimizer.param_groups[0]["lr"] / rates[0])
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25])
    decays = {name: group["weight_decay"] for name, group in zip(by_name, optimizer.param_groups, strict=True)}
    assert decays["layer.0.weight"] == 0.01
    assert decays["layer.0.bias"] == decays["head.weight"] == 0.0


def test_it_learns_and_repeats_itself() -> None:
    first, second = Net(), Net()
    history = training(first, epochs=30).run(examples(), None)
    training(second, epochs=30).run(examples(), None)
    assert history[-1]["train"] < 0.6 * history[0]["train"]
    assert weights(first) == weights(second)


class Stopped(Exception):
    """What kills a training in the middle."""


@pytest.mark.parametrize("at", [3, 9, 17])
def test_a_killed_training_goes_on_to_the_same_weights(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Net()
    history = training(whole).run(examples(), examples(20, 1))
    monkeypatch.setattr("routewright.routers._training.SAVE_EVERY", 0.0)
    broken = training(Net(), tmp_path / "a")
    step = broken._step

    def fails(batch: Examples, optimizer: Any) -> float:
        if broken.course.step == at:
            raise Stopped
        return step(batch, optimizer)

    monkeypatch.setattr(broken, "_step", fails)
    with pytest.raises(Stopped):
        broken.run(examples(), examples(20, 1))
    assert (tmp_path / "a" / "state.safetensors").is_file()
    again = Net()
    resumed = training(again, tmp_path / "a")
    steps = []
    count = resumed._step
    monkeypatch.setattr(resumed, "_step", lambda *parts: (steps.append(1), count(*parts))[1])
    told = resumed.run(examples(), examples(20, 1))
    assert weights(again) == weights(whole)
    assert len(steps) < 24, "what was done is not done again"
    assert [found["valid"] for found in told] == [found["valid"] for found in history]
    assert not (tmp_path / "a" / "state.safetensors").exists()


def test_a_finished_training_is_found_and_costs_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Net(), Net()
    history = training(first, tmp_path / "a").run(examples(), None)
    made = training(second, tmp_path / "a")
    monkeypatch.setattr(made, "_step", lambda *_: pytest.fail("it trains again"))
    assert made.run(examples(), None) == history
    assert weights(first) == weights(second)


def test_only_the_newest_finished_trainings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routewright.routers._training.KEPT", 2)
    for name in "abc":
        training(Net(), tmp_path / name, epochs=1).run(examples(16), None)
    assert sorted(path.parent.name for path in tmp_path.glob("*/done.safetensors")) == ["b", "c"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "done.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"done\.safetensors.*Remove this file"):
        training(Net(), tmp_path / "a").run(examples(), None)


def test_the_best_epoch_is_kept_and_patience_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = training(Net(), epochs=9, patience=2)
    measured = iter([0.9, 0.5, 0.6, 0.7, 0.1])
    kept: list[bytes] = []

    def measure(valid: Examples) -> float:
        kept.append(weights(made.net))
        return next(measured)

    monkeypatch.setattr(made, "_measure", measure)
    history = made.run(examples(), examples(10, 1))
    assert [found["valid"] for found in history] == [0.9, 0.5, 0.6, 0.7], "two epochs without improvement end it"
    assert weights(made.net) == kept[1]


def test_the_measured_loss_is_the_mean_over_all_rows() -> None:
    made, rows = training(Net(0.0)), examples(37, 2)
    ids, mask = padded(rows.ids, 0)
    with torch.no_grad():
        whole = loss(made.net(torch.from_numpy(ids), torch.from_numpy(mask)), torch.from_numpy(rows.target), torch.from_numpy(rows.weight))
    assert made._measure(rows) == pytest.approx(float(whole), rel=1e-6)


def test_a_loss_that_explodes_is_told() -> None:
    rows = examples(16)
    bad = Examples(rows.ids, np.full_like(rows.target, np.nan), rows.weight)
    with pytest.raises(InputError, match="not finite any more in step 0"):
        training(Net()).run(bad, None)


@pytest.mark.parametrize(
    "changed", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"validation": 1.0}, {"layer_decay": 0.0}, {"warmup": -0.1}]
)
def test_impossible_recipes_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="impossible training"):
        training(Net(), **changed)


@pytest.mark.parametrize(("name", "value"), [("precision", "half"), ("device", "tpu")])
def test_unknown_words_are_refused(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"unknown {name}"):
        training(Net(), **{name: value})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told() -> None:
    with pytest.raises(InputError, match="no GPU"):
        training(Net(), device="cuda")


def test_bfloat16_comes_close_to_float32() -> None:
    exact, rough = Net(0.0), Net(0.0)
    told = [
        training(net, epochs=20, precision=kind).run(examples(), examples(30, 1)) for net, kind in ((exact, "float32"), (rough, "bfloat16"))
    ]
    assert weights(exact) != weights(rough)
    assert told[0][-1]["valid"] == pytest.approx(told[1][-1]["valid"], abs=0.03)


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("head.weight", None),
        ("body.encoder.layer.5.output.dense.weight", 0),
        ("body.encoder.layer.0.output.dense.weight", 5),
        ("body.embeddings.word_embeddings.weight", 6),
        ("body.layers.3.mlp.up_proj.weight", 2),
        ("body.h.1.attn.c_attn.weight", 4),
        ("body.wte.weight", 6),
        ("body.norm.weight", 0),
    ],
)
def test_depths_by_name(name: str, depth: int | None) -> None:
    assert depth_below_top(name, 6) == depth
