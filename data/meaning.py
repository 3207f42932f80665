"""Agreement by meaning: draws that an encoder holds to say the same are one cluster, whatever their wording. For free text.

Semantic entropy (Kuhn, Gal and Farquhar 2023, arXiv 2302.09664), its discrete form, with an encoder's cosine in place of their model of
entailment: cheaper, and blinder to a changed number, name or negation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from routewright.core.contracts import Encoder
from routewright.core.types import Floats, InputError, Ints, Strings

NAN = float("nan")
ROUNDING = 1e-6  # an encoder's vectors are alike to this, not to the last bit


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """How answers are compared: the answer and its draws are clustered, complete-link, where every pair has a cosine >= threshold.

    encoder: a core.contracts.Encoder; None: nothing is compared. threshold: in (-1, 1]; 1 leaves the same texts alone.
    """

    encoder: Encoder | None = None
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not -1 < self.threshold <= 1:
            mend = "Say, for example, meaning.threshold=0.9."
            raise InputError(
                "this is no threshold of a cosine", where="meaning.threshold", expected="in (-1, 1]", found=str(self.threshold), mend=mend
            )

    def facts(self) -> dict[str, Any]:
        """Plain values for the manifest. Reads the encoder's files: raises InputError where there are none."""
        return {"encoder": self._encoder().fingerprint, "threshold": self.threshold}

    def compared(self, answer: Strings, drawn: Strings) -> tuple[Floats, Floats]:
        """(meaning, meaning_entropy) of every answer[n,m] and its draws drawn[n,m,s], as `agreement` below; both [n,m].

        None is an answer or a draw that was not observed: no draw, and NaN where there are none. A text is encoded once for all cells.
        """
        encoder = self._encoder()
        texts = sorted({said for text in (*answer.flat, *drawn.flat) if (said := plain(text))})
        vector = dict(zip(texts, encoder.encode(texts), strict=True)) if texts else {}
        share, spread = np.full(answer.shape, NAN), np.full(answer.shape, NAN)
        for cell in np.ndindex(*answer.shape):
            main: Any = answer[cell]
            came = [text for text in drawn[cell] if text is not None]
            share[cell], spread[cell] = agreement(main, came, vector, self.threshold)
        return share, spread

    def _encoder(self) -> Encoder:
        if self.encoder is None:
            mend = "Say encoder@meaning.encoder=minilm."
            raise InputError("nothing compares meanings here", expected="an encoder", found="none", mend=mend)
        return self.encoder


def plain(text: str | None) -> str:
    """The text that is compared: without spaces around it, and as Unicode, a lone surrogate as "?"; "" for no text."""
    return (text or "").encode("utf-8", "replace").decode().strip()


def agreement(main: str | None, samples: Sequence[str], vector: Mapping[str, Floats], threshold: float) -> tuple[float, float]:
    """(share of the samples in the answer's cluster, in [0, 1]; entropy of the clusters' shares of answer and samples, nats, >= 0).

    vector: unit rows by `plain` text. The entropy counts the answer as one more draw, so that it is high too where the samples agree on
    another one. A blank text agrees with nothing, another blank included, but counts. No order of the samples changes a thing.
    (NaN, NaN) without samples.
    """
    if not samples:
        return NAN, NAN
    answer, said = plain(main), [plain(text) for text in samples]
    texts = sorted({answer, *said} - {""})
    label = dict(zip(texts, clusters(np.array([vector[text] for text in texts]), threshold).tolist(), strict=True)) if texts else {}
    counts = Counter(label[text] for text in (answer, *said) if text)
    same = counts[label[answer]] - 1 if answer else 0
    blank = [1] * (1 + len(said) - counts.total())
    shares = np.array(sorted([*counts.values(), *blank])) / (1 + len(said))
    return same / len(said), max(0.0, float(-(shares * np.log(shares)).sum()))


def clusters(vectors: Floats, threshold: float) -> Ints:
    """(k,) the cluster of each unit row of vectors (k, d), numbered by its first row; within one, every pair has a cosine >= threshold.

    Complete linkage, scipy's.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(vectors) < 2:
        return np.zeros(len(vectors), dtype=np.int64)
    wide = np.asarray(vectors, dtype=np.float64)
    apart = np.maximum(1 - wide @ wide.T, 0.0)
    np.fill_diagonal(apart, 0.0)
    found = fcluster(linkage(squareform(apart, checks=False), "complete"), 1 - threshold + ROUNDING, "distance")
    _, first, label = np.unique(found, return_index=True, return_inverse=True)
    return np.asarray(first[label], dtype=np.int64)
