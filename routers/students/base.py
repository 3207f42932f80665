"""What students share: the checks of their input, the answers they know as a numbered list, saving and loading by name.

A student is FrugalGPT's model approximation (Chen et al. 2023, arXiv 2305.05176, section 3): a small model trained on a large one's
answers and asked in its place. It can say only what its teacher said, so it is for tasks of few or recurring answers. A new student sets
`learned` and writes `_learn` and `_vote`. Shapes: n queries, N queries that taught it, d dimensions, c distinct answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from routewright.core.types import Floats, InputError, Ints, Queries
from routewright.routers._stored import Stored


class Base(Stored):
    """fit, answer, state and load of a student. A subclass stores usd_call (USD of one call of it) and teacher."""

    KIND = "student"
    ALSO = ("said_", "ends_", "width_")
    usd_call: float
    teacher: str | None
    said_: np.ndarray[Any, Any]  # the c answers one after the other as UTF-8, the commonest first
    ends_: Ints  # (c,) where each ends
    width_: Ints  # (1,) d

    def fit(self, queries: Queries, said: Sequence[str | None], *, rng: np.random.Generator) -> Self:
        """Learns from encoded queries and what the teacher said to each; None teaches nothing.

        Raises InputError where nothing was said, for another number of answers, for embeddings that are not finite, and for a price that
        is no price: a student that costs nothing would make every saving look larger than it is.
        """
        name = type(self).__name__
        if not (np.isfinite(self.usd_call) and self.usd_call > 0):
            raise InputError("a student needs a price", where="student.usd_call", expected="USD > 0 a call", found=str(self.usd_call))
        vectors = queries.vectors()
        if len(said) != len(queries):
            raise InputError(f"{name} needs an answer for each query", expected=str(len(queries)), found=str(len(said)))
        heard = np.array([part is not None for part in said], dtype=bool)
        if not heard.any():
            raise InputError(f"{name} has nothing to learn from", expected="an answer that can be read", found=f"none of {len(said)}")
        if not np.isfinite(vectors[heard]).all():
            raise InputError(f"{name} met an embedding that is not finite", expected="finite numbers")
        counted = Counter(part for part in said if part is not None)
        known = sorted(counted, key=lambda part: (-counted[part], part))
        place = {part: i for i, part in enumerate(known)}
        spelled = [part.encode("utf-8", "surrogatepass") for part in known]
        self.said_ = np.frombuffer(b"".join(spelled), dtype=np.uint8).copy()
        self.ends_ = np.cumsum([len(part) for part in spelled])
        self.width_ = np.array([vectors.shape[1]], dtype=np.int64)
        self._learn(vectors[heard], np.array([place[part] for part in said if part is not None], dtype=np.int64), rng)
        return self

    def answer(self, queries: Queries) -> tuple[list[str], Floats]:
        """(what it says to each query, confidence[n] in [0, 1]). Raises InputError before fit and for another encoder's embeddings."""
        self._require_fitted()
        vectors = queries.vectors()
        if vectors.shape[1] != self.width_[0]:
            raise InputError(
                "these embeddings are not the ones this student was fitted on",
                expected=f"{self.width_[0]} dimensions",
                found=str(vectors.shape[1]),
                mend="Use the encoder that the run's manifest names.",
            )
        label, confidence = self._vote(vectors)
        whole, known = self.said_.tobytes(), self.ends_.tolist()
        spelled = [whole[begin:end].decode("utf-8", "surrogatepass") for begin, end in zip([0, *known], known, strict=False)]
        return [spelled[i] for i in label], np.clip(confidence, 0.0, 1.0)

    def _learn(self, vectors: Floats, label: Ints, rng: np.random.Generator) -> None:
        """Sets every array named in `learned`, from vectors (N, d) and label (N,): places in the list of answers."""
        raise NotImplementedError(f"{type(self).__name__} must write _learn")

    def _vote(self, vectors: Floats) -> tuple[Ints, Floats]:
        """(label[n], confidence[n]) of vectors (n, d)."""
        raise NotImplementedError(f"{type(self).__name__} must write _vote")
