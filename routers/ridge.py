"""Ridge regression of every model's quality on the embedding, linear or with an RBF kernel; the penalty by exact leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routewright.core.types import Floats, InputError, Outcomes
from routewright.routers.base import Base, blocks, patterns

SMALLEST = 1e-6  # eigenvalues of the kernel below this share of the largest are dropped: float32 graphs could not carry their weights


class Ridge(Base):
    """Squared loss with an L2 penalty and a free intercept, fitted for each model on the rows it was observed on.

    kernel: "linear", or "rbf", exp(-gamma |x - y|^2) on unit rows.
    alphas: penalties tried; the one with the least leave-one-out squared error over all models is kept in alpha_
    (closed form: Hastie et al., The Elements of Statistical Learning, eq. 7.64). For rbf the search sees the functions carried by
    `landmarks` training rows drawn at random (Nystroem: Williams and Seeger 2001); the fit itself is exact kernel ridge regression on up to
    `exact` rows (n^2 * 4 bytes, n^3 / 3 multiplications), and above that the landmarks' solution.
    One training row, or equal grades, give that grade for every query.
    """

    def __init__(
        self,
        kernel: str = "rbf",
        gamma: float = 1.0,
        alphas: Sequence[float] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        landmarks: int = 1000,
        exact: int = 15000,
    ) -> None:
        self.kernel, self.gamma, self.alphas, self.landmarks, self.exact = kernel, gamma, alphas, landmarks, exact

    GRAPH = """
        product = MatMul(embedding, coef_)
        quality = Add(product, bias_)
    """
    GRAPH_RBF = """
        cosine = MatMul(embedding, landmarks)
        apart = Sub(cosine, one)
        exponent = Mul(apart, twice_gamma)
        similarity = Exp(exponent)
        product = MatMul(similarity, coef_)
        quality = Add(product, bias_)
    """
    learned = ("coef_", "bias_", "alpha_")
    coef_: Floats  # (d, m), or (L, m) with landmarks
    bias_: Floats  # (m,)
    alpha_: Floats  # (1,) the penalty chosen
    landmarks_: Floats  # (L, d), rbf only

    def _names(self) -> tuple[str, ...]:
        return (*super()._names(), "landmarks_") if self.kernel == "rbf" else super()._names()

    def _graph(self) -> str:
        return self.GRAPH_RBF if self.kernel == "rbf" else self.GRAPH

    def _tables(self) -> dict[str, Floats]:
        tables = self.state()
        if self.kernel == "rbf":
            tables |= {"landmarks": self.landmarks_.T, "one": np.ones(1), "twice_gamma": np.array([2 * self.gamma])}
        return tables

    def _learn(self, train: Outcomes, rng: np.random.Generator) -> None:
        alphas = self._checked()
        vectors, quality = train.queries.vectors(), train.quality
        if self.kernel == "linear":
            slope, bias, best = least_error(vectors.astype(np.float64), quality, alphas)
        else:
            rows = np.sort(rng.permutation(len(vectors))[: self.landmarks])
            self.landmarks_ = vectors[rows].copy()
            back = self._whitening()
            slope, bias, best = least_error(self._kernel(vectors) @ back, quality, alphas)
            slope = back @ slope
            if len(rows) < len(vectors) <= self.exact:
                self.landmarks_ = vectors.copy()
                slope, bias = self._solve_exactly(quality, alphas[best])
        self.alpha_ = alphas[best : best + 1]
        self.coef_, self.bias_ = slope.astype(np.float32), bias.astype(np.float32)

    def _checked(self) -> Floats:
        alphas = np.asarray(list(self.alphas), dtype=np.float64)
        if self.kernel not in ("linear", "rbf"):
            raise InputError("unknown kernel", expected="linear or rbf", found=repr(self.kernel))
        if not len(alphas) or not (alphas > 0).all() or not self.gamma > 0 or self.landmarks < 1:
            raise InputError(
                "impossible ridge",
                expected="alphas > 0, gamma > 0, landmarks >= 1",
                found=f"alphas={alphas.tolist()}, gamma={self.gamma}, landmarks={self.landmarks}",
            )
        return alphas

    def _whitening(self) -> Floats:
        """(L, r): sends similarities to the landmarks to features whose products are the kernel's."""
        value, vector = np.linalg.eigh(self._kernel(self.landmarks_).astype(np.float64))
        keep = value > SMALLEST * value[-1]
        return vector[:, keep] / np.sqrt(value[keep])

    def _kernel(self, vectors: Floats) -> Floats:
        """(n, L) float32: similarity of unit rows to the landmarks."""
        similarity = vectors @ self.landmarks_.T
        similarity -= np.float32(1)
        similarity *= np.float32(2 * self.gamma)
        return np.exp(similarity, out=similarity)

    def _solve_exactly(self, quality: Floats, alpha: float) -> tuple[Floats, Floats]:
        """Weights (n, m) of the training rows and bias (m,): (K + alpha I) c + b = y and sum(c) = 0, by one Cholesky factor a pattern."""
        from scipy.linalg import cho_factor, cho_solve

        slope, bias = np.zeros(quality.shape), np.empty(quality.shape[1])
        distinct, of_model = patterns(quality)
        whole = self._kernel(self.landmarks_)
        whole[np.diag_indices(len(whole))] += np.float32(alpha)
        for pattern, seen in enumerate(distinct):
            rows, columns = np.flatnonzero(seen), np.flatnonzero(of_model == pattern)
            factor = cho_factor(whole.T if seen.all() else whole[np.ix_(rows, rows)], overwrite_a=len(distinct) == 1, check_finite=False)
            target = quality[np.ix_(rows, columns)]
            solved = cho_solve(factor, np.column_stack([target, np.ones(len(rows), np.float32)]), check_finite=False).astype(np.float64)
            bias[columns] = solved[:, :-1].sum(axis=0) / solved[:, -1].sum()
            slope[np.ix_(rows, columns)] = solved[:, :-1] - solved[:, -1:] * bias[columns]
        return slope, bias

    def _scores(self, embedding: Floats) -> Floats:
        coef = self.coef_.astype(np.float64)
        if self.kernel == "linear":
            return embedding.astype(np.float64) @ coef + self.bias_
        parts = [self._kernel(embedding[block]) @ coef for block in blocks(len(embedding), len(coef))]
        return np.concatenate(parts) + self.bias_


def least_error(features: Floats, quality: Floats, alphas: Floats) -> tuple[Floats, Floats, int]:
    """slope (r, m), bias (m,) and the position of the penalty with the least leave-one-out error over all models."""
    slope, bias, error = solve(features, quality, alphas)
    best = int(np.argmin(error))
    return slope[best], bias[best], best


def solve(features: Floats, quality: Floats, alphas: Floats) -> tuple[Floats, Floats, Floats]:
    """loo_ridge for every model on its observed rows, one decomposition for all models observed on the same ones.

    features (n, r), quality (n, m) with NaN. Returns slope (a, r, m), bias (a, m) and the leave-one-out error over all models (a,).
    """
    distinct, of_model = patterns(quality)
    slope = np.empty((len(alphas), features.shape[1], quality.shape[1]))
    bias, error = np.empty((len(alphas), quality.shape[1])), np.zeros(len(alphas))
    for pattern, seen in enumerate(distinct):
        columns = np.flatnonzero(of_model == pattern)
        slope[:, :, columns], bias[:, columns], lost = loo_ridge(features[seen], quality[seen][:, columns].astype(np.float64), alphas)
        error += lost
    return slope, bias, error


def loo_ridge(features: Floats, target: Floats, alphas: Floats) -> tuple[Floats, Floats, Floats]:
    """Ridge with a free intercept for every penalty at once, from one eigendecomposition.

    features (n, r), target (n, c), alphas (a,). Returns slope (a, r, c), bias (a, c) and the summed squared leave-one-out error (a,).
    """
    n = len(features)
    middle, level = features.mean(axis=0), target.mean(axis=0)
    centred = features - middle
    value, vector = np.linalg.eigh(centred.T @ centred)
    value = np.maximum(value, 0)
    rotated = centred @ vector  # (n, r), orthogonal columns of squared length `value`
    moment = rotated.T @ (target - level)  # (r, c)
    squared = rotated**2
    slopes, errors = [], []
    for alpha in alphas:
        weight = moment / (value + alpha)[:, None]
        leverage = 1 / n + squared @ (1 / (value + alpha))
        residual = target - level - rotated @ weight
        errors.append(((residual / np.maximum(1 - leverage, 1e-9)[:, None]) ** 2).sum())
        slopes.append(vector @ weight)
    slope = np.stack(slopes)
    return slope, level - np.einsum("r,arc->ac", middle, slope), np.array(errors)
