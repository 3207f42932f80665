"""No information: every model scores alike. The floor that any router must beat."""

from __future__ import annotations

import numpy as np

from routewright.core.types import Floats, Outcomes
from routewright.routers.base import Base

FREQUENCY = 50.0  # radians a standard deviation: unrelated texts lose every relation, float32 still tells the sine to 1e-5


class Random(Base):
    """Equal scores: the judge breaks the tie by expectation, which is the exact mean of a coin with the same bias for every query.

    draw=True instead gives every text scores of its own in [0,1], as RouteLLM's random router draws them (arXiv 2406.18665): here
    (1 + sin(50 w.e + phase)) / 2 with w and phase drawn by fit, so that the same text always gets the same score, in the graph too.
    """

    learned = ("frequency_", "phase_")
    GRAPH = """
        angle = MatMul(embedding, frequency_)
        shifted = Add(angle, phase_)
        wave = Sin(shifted)
        half = Constant <value_float: float = 0.5> ()
        scaled = Mul(wave, half)
        quality = Add(scaled, half)
    """
    frequency_: Floats  # (d, m)
    phase_: Floats  # (m,)

    def __init__(self, draw: bool = False) -> None:
        self.draw = draw

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        d, m = train.queries.vectors().shape[1], len(train.pool)
        amount = 1.0 if self.draw else 0.0
        self.frequency_ = (amount * FREQUENCY * rng.normal(size=(d, m))).astype(np.float32)
        self.phase_ = (amount * rng.uniform(0, 2 * np.pi, size=m)).astype(np.float32)

    def _scores(self, embedding: Floats) -> Floats:
        return (1 + np.sin(embedding.astype(np.float64) @ self.frequency_ + self.phase_)) / 2
