"""Measures recorded signals: AUROC of right against wrong answers on pocket, and what an encoder's cosine joins on EVOUNA-NQ.

python scripts/signals.py pocket              # every recorded signal, then meaning at other thresholds
python scripts/signals.py evouna --limit 800  # human judgements; the other models' answers in place of draws
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from routewright.core.contracts import Signal
from routewright.core.run import ROOT
from routewright.core.text import normalise
from routewright.core.types import Floats, Outcomes, Strings
from routewright.data import evidence
from routewright.data.encoders import SentenceEncoder
from routewright.data.meaning import Meaning, plain
from routewright.data.pocket.later import ENCODER, drawn
from routewright.routers.signals.agreement import KINDS, Agreement
from routewright.routers.signals.logprob import KINDS as LOGPROBS
from routewright.routers.signals.logprob import Logprob

THRESHOLDS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)


def told(name: str, values: Iterable[float]) -> None:
    print(f"{name:<28}", *(f"{value:.3f}" for value in values), flush=True)


def aurocs(right: np.ndarray, score: Floats) -> list[float]:
    """Of each model, their mean, and of all answers together; answers without a score are left out."""
    from sklearn.metrics import roc_auc_score

    known = np.isfinite(score)
    each = [float(roc_auc_score(right[k, j], score[k, j])) for j, k in enumerate(known.T)]
    return [*each, float(np.mean(each)), float(roc_auc_score(right[known], score[known]))]


def pocket(limit: int | None) -> None:
    outcomes = load("pocket", limit)
    assert outcomes.answer is not None
    right = outcomes.quality == 1
    print(f"pocket, {len(outcomes)} questions: {', '.join(outcomes.pool.name)}, mean, pooled")
    signals: dict[str, Signal] = {f"logprob {kind}": Logprob(kind) for kind in LOGPROBS}
    signals |= {f"agreement {kind}": Agreement(kind) for kind in KINDS}
    for name, signal in signals.items():
        told(name, aurocs(right, signal.fit(outcomes, rng=np.random.default_rng(0)).score(outcomes)))
    draws = drawn(outcomes)
    for threshold in THRESHOLDS:
        share, spread = Meaning(encoder=SentenceEncoder(ENCODER), threshold=threshold).compared(outcomes.answer, draws)
        told(f"meaning from {threshold}", aurocs(right, share))
        told(f"spread from {threshold}", aurocs(right, -spread))


def evouna(limit: int | None) -> None:
    outcomes = load("evouna_nq", limit)
    assert outcomes.answer is not None
    right, others = outcomes.quality == 1, beside(outcomes.answer)
    print(f"evouna_nq, {len(outcomes)} questions: {', '.join(outcomes.pool.name)}, mean, pooled")
    read = np.vectorize(lambda text: normalise(text or "") or None, otypes=[object])
    same = [
        [evidence.agreement(a, list(b))[0] for a, b in zip(*row, strict=True)]
        for row in zip(read(outcomes.answer), read(others), strict=True)
    ]
    told("texts alike", aurocs(right, np.array(same)))
    encoder = SentenceEncoder(ENCODER)
    for threshold in THRESHOLDS:
        share, spread = Meaning(encoder=encoder, threshold=threshold).compared(outcomes.answer, others)
        told(f"meaning from {threshold}", aurocs(right, share))
        told(f"spread from {threshold}", aurocs(right, -spread))
    joined(outcomes, right, encoder)


def joined(outcomes: Outcomes, right: np.ndarray, encoder: SentenceEncoder) -> None:
    """Of pairs of answers to one question, one of them right at least: which share has a cosine above each threshold."""
    assert outcomes.answer is not None
    texts = sorted({plain(text) for text in outcomes.answer.ravel().tolist()} - {""})
    vector = dict(zip(texts, encoder.encode(texts), strict=True))
    found: dict[bool, list[float]] = {True: [], False: []}
    for row, (one, other) in itertools.product(range(len(outcomes)), itertools.combinations(range(len(outcomes.pool)), 2)):
        pair = [plain(text) for text in outcomes.answer[row, [one, other]].tolist()]
        if all(pair) and (right[row, one] or right[row, other]):
            found[bool(right[row, one] and right[row, other])].append(float(vector[pair[0]] @ vector[pair[1]]))
    print("cosine from", *THRESHOLDS)
    for both, cosines in found.items():
        told(f"{'both' if both else 'one'} right, {len(cosines)} pairs", [float(np.mean(np.array(cosines) >= t)) for t in THRESHOLDS])


def beside(answer: Strings) -> Strings:
    """[n,m,m-1] the other models' answers to the same question."""
    m = answer.shape[1]
    return np.stack([answer[:, [k for k in range(m) if k != j]] for j in range(m)], axis=1)


def load(name: str, limit: int | None) -> Outcomes:
    """The data as train.py would load them, `limit` of them drawn at random."""
    with initialize_config_dir(str(ROOT / "configs"), version_base=None):
        whole: Outcomes = instantiate(compose("train", overrides=[f"data={name}"]).data).load()
    return whole if limit is None else whole.take(np.random.default_rng(0).permutation(len(whole))[:limit])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("pocket", "evouna"))
    parser.add_argument("--limit", type=int, help="questions, drawn at random; all without it")
    options = parser.parse_args()
    {"pocket": pocket, "evouna": evouna}[options.data](options.limit)


if __name__ == "__main__":
    main()
