"""The published evaluation against a restatement of it with pandas, and the published reference values on the recorded data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from routewright.core.types import InputError, Outcomes, Predictions
from routewright.eval import protocol
from routewright.eval.ruler import Ruler

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def restated(win_rate: np.ndarray, weak: np.ndarray, strong: np.ndarray) -> tuple[float, float, float]:
    """The paper's evaluation written once more: quantile bins, >= but the last, percent axes, trapezoid, interpolation."""
    frame = pd.DataFrame({"rate": win_rate, "weak": weak, "strong": strong})
    _, thresholds = pd.qcut(frame["rate"], 10, retbins=True, duplicates="drop")
    rows = []
    for position, threshold in enumerate(thresholds):
        last = position == len(thresholds) - 1
        use = frame["rate"] > threshold if last else frame["rate"] >= threshold
        rows.append({"percent": 100 * use.mean(), "accuracy": 100 * frame["strong"].where(use, frame["weak"]).mean()})
    table = pd.DataFrame(rows).sort_values("percent")
    x, y = table["percent"].to_numpy() / 100, table["accuracy"].to_numpy()
    low, high = 100 * weak.mean(), 100 * strong.mean()
    area = float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())
    width = x[-1] - x[0]
    apgr = (area - low * width) / ((high - low) * width)
    cpt = [float(np.interp(p * (high - low) + low, y, table["percent"].to_numpy())) for p in (0.5, 0.8)]
    return apgr, cpt[0], cpt[1]


@pytest.mark.parametrize("levels", [3, 7, 20, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_restatement_under_heavy_ties(levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 500
    score = rng.integers(levels, size=n) / levels
    weak, strong = (rng.random(n) < 0.6).astype(float), (rng.random(n) < 0.85).astype(float)
    found = protocol.routellm(score, weak, strong)
    apgr, cpt50, cpt80 = restated(score, weak, strong)
    assert found.apgr == pytest.approx(apgr, abs=1e-9)
    assert found.cpt[50] == pytest.approx(cpt50, abs=1e-9)
    assert found.cpt[80] == pytest.approx(cpt80, abs=1e-9)


def test_scores_all_equal_are_the_random_router() -> None:
    rng = np.random.default_rng(7)  # not the protocol's own seed: its draws would be the data
    weak, strong = (rng.random(2000) < 0.5).astype(float), (rng.random(2000) < 0.9).astype(float)
    assert protocol.routellm(np.zeros(2000), weak, strong).apgr == pytest.approx(0.5, abs=0.02)


def test_length_mismatch_is_named() -> None:
    with pytest.raises(InputError, match="one score and two qualities"):
        protocol.routellm(np.zeros(3), np.zeros(2), np.zeros(3))


def published(name: str) -> Outcomes:
    config = OmegaConf.load(CONFIGS / "data" / f"{name}.yaml")
    prices = OmegaConf.load(CONFIGS / "prices" / "routellm_2024.yaml")
    whole = OmegaConf.create({"prices": prices, "labels": "published", "data": config})
    return instantiate(whole.data).load()


@pytest.mark.parametrize(
    ("name", "weak", "strong", "either", "cpt50", "cpt80", "apgr"),
    [
        ("routellm_gsm8k", 0.63734, 0.85769, 0.92961, 11.02, 17.63, 1.133),
        ("routellm_mmlu", 0.68091, 0.80587, 0.85873, 6.25, 10.0, 1.297),
    ],
)
def test_published_reference_values(
    mirror: Path, name: str, weak: float, strong: float, either: float, cpt50: float, cpt80: float, apgr: float
) -> None:
    outcomes = published(name)
    quality = outcomes.quality.astype(np.float64)
    assert quality[:, 0].mean() == pytest.approx(weak, abs=5e-6)
    assert quality[:, 1].mean() == pytest.approx(strong, abs=5e-6)
    assert quality.max(axis=1).mean() == pytest.approx(either, abs=5e-6)
    best = protocol.optimal(quality[:, 0], quality[:, 1])
    assert best.cpt[50] == pytest.approx(cpt50, abs=0.006)
    assert best.cpt[80] == pytest.approx(cpt80, abs=0.006)
    assert best.apgr == pytest.approx(apgr, abs=6e-4)


def test_published_mtbench(mirror: Path) -> None:
    quality = 10 * published("routellm_mtbench").quality.astype(np.float64)
    assert len(quality) == 72
    assert quality.mean(axis=0).round(3).tolist() == [8.281, 9.212]


@pytest.mark.parametrize("name", ["routellm_gsm8k", "routellm_mmlu"])
def test_random_recovers_half_the_gap(mirror: Path, name: str) -> None:
    outcomes = published(name)
    quality = outcomes.quality.astype(np.float64)
    assert protocol.random(quality[:, 0], quality[:, 1], np.random.default_rng(0)).apgr == pytest.approx(0.5, abs=0.01)
    ruler = Ruler(outcomes, policy="threshold", rng=np.random.default_rng(0), replicates=100)
    equal = ruler.sweep(Predictions(np.zeros(quality.shape), outcomes.cost))
    point, _ = ruler.measure(equal)
    assert point["apgr"] == pytest.approx(0.5, abs=1e-9)
