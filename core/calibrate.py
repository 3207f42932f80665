"""Scores to quality: an affine map with one slope for all models, fitted where the router was not trained.

One slope keeps every order of gains between two models, so calibration can change a promise but never a pair's ranking; a shift for each
model makes the mean promise true. It folds into the exported graph as one Mul and one Add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routewright.core.types import Floats, Outcomes, Predictions

WEAKEST = 1e-3  # of the slope that would match the spread of the grades: keeps the ranking where the scores do not rise with quality


@dataclass(frozen=True, eq=False)
class Affine:
    """quality[n,m] = scale * score[n,m] + shift[m]."""

    scale: float
    shift: Floats

    @classmethod
    def identity(cls, m: int) -> Affine:
        return cls(1.0, np.zeros(m))

    @classmethod
    def fit(cls, predictions: Predictions, outcomes: Outcomes) -> Affine:
        """Least squares over observed (query, model) cells: the slope from deviations within each model, then the shift from its means."""
        score, quality = predictions.quality, outcomes.quality.astype(np.float64)
        seen = ~np.isnan(quality)
        count = np.maximum(seen.sum(axis=0), 1)
        # a model without a grade here keeps the mean of its scores
        mean_score = np.where(seen.any(axis=0), np.where(seen, score, 0).sum(axis=0) / count, score.mean(axis=0) if len(score) else 0.0)
        mean_quality = np.where(seen, quality, 0).sum(axis=0) / count
        x = np.where(seen, score - mean_score, 0.0)
        y = np.where(seen, quality - mean_quality, 0.0)
        spread = float((x**2).sum())
        if spread <= 1e-12:
            return cls(1.0, np.where(seen.any(axis=0), mean_quality - mean_score, 0.0))
        smallest = WEAKEST * float(np.sqrt((y**2).sum() / spread))
        scale = max(float((x * y).sum()) / spread, smallest, 1e-9)
        return cls(scale, np.where(seen.any(axis=0), mean_quality - scale * mean_score, (1 - scale) * mean_score))

    def __call__(self, predictions: Predictions) -> Predictions:
        return Predictions(self.scale * predictions.quality + self.shift, predictions.cost)

    def state(self) -> dict[str, np.ndarray]:
        return {"scale": np.array([self.scale]), "shift": np.asarray(self.shift, dtype=np.float64)}

    @classmethod
    def load(cls, state: dict[str, np.ndarray]) -> Affine:
        return cls(float(state["scale"][0]), state["shift"])
