"""A made-up table of RouterBench's kind: eleven models, six benchmarks, right and wrong answers that hang together, costs of each call.

For trying a protocol where RouterBench itself is not at hand. Accuracies, costs and oracles of each benchmark are approximate: of the size
that Hu et al. 2024 (arXiv 2403.12031) report, written down without their table at hand and not checked against it. Do not quote them. Two
things are fitted: how much one difficulty governs all models, to each benchmark's oracle, and one shift of all accuracies, to a published
level (0-shot prompts are answered worse than that table says).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from routewright.core.types import Floats, Outcomes, Pool, Queries

MODELS = (
    "wizardlm-13b",
    "claude-instant-v1",
    "claude-v1",
    "claude-v2",
    "gpt-3.5-turbo",
    "gpt-4",
    "code-llama-34b",
    "llama-2-70b",
    "mistral-7b",
    "mixtral-8x7b",
    "yi-34b",
)

# at which the best fixed mixes of these models have the area of 70.51 % that Dekoninck et al. 2024 print for RouterBench 0-shot
ZERO_SHOT = -0.455


class Benchmark(NamedTuple):
    """size: questions; oracle: share that some model answers; right: accuracy of each model; usd: mean cost of a call, in 1/1,000 USD."""

    size: int
    oracle: float
    right: tuple[float, ...]
    usd: tuple[float, ...]


BENCHMARKS = {
    "mmlu": Benchmark(
        14042,
        0.957,
        (0.568, 0.384, 0.475, 0.619, 0.720, 0.828, 0.569, 0.647, 0.562, 0.733, 0.743),
        (0.036, 0.096, 0.96, 0.96, 0.12, 1.20, 0.093, 0.108, 0.024, 0.072, 0.096),
    ),
    "hellaswag": Benchmark(
        10042,
        0.994,
        (0.636, 0.801, 0.841, 0.421, 0.816, 0.923, 0.525, 0.736, 0.541, 0.707, 0.931),
        (0.072, 0.193, 1.94, 1.94, 0.242, 2.42, 0.187, 0.217, 0.048, 0.145, 0.193),
    ),
    "gsm8k": Benchmark(
        7450,
        0.748,
        (0.510, 0.626, 0.653, 0.664, 0.601, 0.654, 0.462, 0.529, 0.409, 0.515, 0.552),
        (0.048, 0.174, 1.49, 1.81, 0.157, 2.56, 0.101, 0.117, 0.028, 0.080, 0.116),
    ),
    "arc": Benchmark(
        1470,
        0.977,
        (0.660, 0.821, 0.889, 0.546, 0.855, 0.921, 0.644, 0.794, 0.642, 0.844, 0.882),
        (0.046, 0.124, 1.24, 1.25, 0.155, 1.56, 0.120, 0.139, 0.031, 0.093, 0.124),
    ),
    "winogrande": Benchmark(
        1267,
        0.999,
        (0.512, 0.512, 0.570, 0.446, 0.630, 0.858, 0.617, 0.504, 0.562, 0.677, 0.748),
        (0.032, 0.085, 0.85, 0.85, 0.106, 1.06, 0.082, 0.096, 0.021, 0.064, 0.084),
    ),
    "mbpp": Benchmark(
        427,
        0.899,
        (0.364, 0.550, 0.527, 0.605, 0.651, 0.682, 0.465, 0.302, 0.349, 0.573, 0.333),
        (0.026, 0.150, 1.42, 1.80, 0.103, 2.89, 0.049, 0.091, 0.014, 0.054, 0.073),
    ),
}


def routerbench_like(shift: float = 0.0, *, rng: np.random.Generator) -> Outcomes:
    """34,698 made-up queries; the group is the benchmark. shift is added to the logit of every accuracy.

    A model answers right where its skill on the benchmark, plus a difficulty that all models share, plus a draw of its own is positive.
    """
    group = np.repeat(list(BENCHMARKS), [one.size for one in BENCHMARKS.values()])
    rng.shuffle(group)
    n, m = len(group), len(MODELS)
    right, usd = np.zeros((n, m)), np.zeros((n, m))
    for name, one in BENCHMARKS.items():
        rows = np.flatnonzero(group == name)
        shared, own = rng.standard_normal((len(rows), 1)), rng.standard_normal((len(rows), m))
        plain = _probit(np.array(one.right))
        governs = _governs(one.oracle, plain, shared, own)
        skill = _probit(shifted(np.array(one.right), shift))
        right[rows] = _answers(governs, skill, shared, own)
        usd[rows] = 1e-3 * np.array(one.usd)
    length = np.exp(0.5 * rng.standard_normal((n, 1)) - 0.125) * np.exp(0.2 * rng.standard_normal((n, m)) - 0.02)
    text = np.array([f"question {i}" for i in range(n)], dtype=object)
    return Outcomes(Queries(text, text, group.astype(object)), Pool(MODELS), right, usd * length, usage="nominal")


def means(shift: float = 0.0) -> tuple[Floats, Floats]:
    """(11,) mean quality and (11,) mean USD of each model, as they are expected."""
    size = np.array([one.size for one in BENCHMARKS.values()], dtype=np.float64)
    quality = np.array([shifted(np.array(one.right), shift) for one in BENCHMARKS.values()])
    usd = 1e-3 * np.array([one.usd for one in BENCHMARKS.values()])
    return size @ quality / size.sum(), size @ usd / size.sum()


def shifted(chance: Floats, shift: float) -> Floats:
    return np.asarray(1 / (1 + (1 / chance - 1) * np.exp(-shift)))


def _probit(chance: Floats) -> Floats:
    from scipy.stats import norm

    return np.asarray(norm.ppf(chance))


def _answers(governs: float, skill: Floats, shared: Floats, own: Floats) -> np.ndarray:
    return skill + np.sqrt(governs) * shared + np.sqrt(1 - governs) * own > 0


def _governs(oracle: float, skill: Floats, shared: Floats, own: Floats) -> float:
    """The shared part of the variance at which `oracle` of the questions are answered by some model (bisection)."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if _answers(middle, skill, shared, own).any(axis=1).mean() > oracle else (low, middle)
    return low
