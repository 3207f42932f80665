"""The pocket outcomes as committed: every question, graded as its gold says, priced by its tokens, split by phrasing, small."""

from __future__ import annotations

import asyncio

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from routewright.core.text import normalise
from routewright.data.backends.transformers import TransformersBackend
from routewright.data.calls import Reply, Request
from routewright.data.evidence import logprob_entropy
from routewright.data.pocket import MODELS, POCKET
from routewright.data.pocket.collected import FILES, SAMPLES
from routewright.data.questions import PocketQuestions
from routewright.data.sources.pocket import PATH
from routewright.data.tables import read_outcomes, read_split

OUTCOMES = read_outcomes(PATH)
QUESTIONS = PocketQuestions().load()
BOOK = instantiate(OmegaConf.load(POCKET.parents[1] / "configs" / "prices" / "pocket_nominal.yaml"))


def test_every_question_was_asked_of_every_model() -> None:
    assert OUTCOMES.pool.name == MODELS
    assert OUTCOMES.queries.id.tolist() == QUESTIONS.queries.id.tolist()
    assert OUTCOMES.queries.text.tolist() == QUESTIONS.queries.text.tolist()
    assert read_split(PATH, len(QUESTIONS)) == QUESTIONS.split.tolist()
    assert OUTCOMES.observed().all()
    assert OUTCOMES.usage == "nominal"


def test_grades_follow_from_answers_and_golds() -> None:
    assert OUTCOMES.answer is not None
    right = [[normalise(answer) == normalise(gold) for answer in row] for row, gold in zip(OUTCOMES.answer, QUESTIONS.gold, strict=True)]
    # the grader also forgives punctuation at the ends: it may only be kinder, and hardly ever
    assert (OUTCOMES.quality >= np.array(right)).all()
    assert (OUTCOMES.quality != np.array(right)).sum() <= 5


def test_costs_follow_from_tokens_and_the_price_book() -> None:
    np.testing.assert_allclose(OUTCOMES.cost, BOOK.cost(BOOK.pool(MODELS), OUTCOMES.tokens, "nominal"), rtol=1e-12)


def test_every_family_has_questions_that_split_the_models() -> None:
    split = OUTCOMES.quality.min(axis=1) != OUTCOMES.quality.max(axis=1)
    for family in set(OUTCOMES.queries.group):
        assert split[OUTCOMES.queries.group == family].mean() > 0.1, family


def test_signals_tell_right_from_wrong() -> None:
    """Agreement and log-probability are higher where the answer is right, for every model; agreement is a share of the draws."""
    agreement = OUTCOMES.signals["agreement"]
    assert set(np.unique(np.round(agreement * SAMPLES, 4))) <= set(range(SAMPLES + 1))
    least = ("logprob_entropy", "meaning_entropy")
    for name in ("agreement", "meaning", "logprob_mean", "logprob_min", *least):
        signal = OUTCOMES.signals[name] * (-1 if name in least else 1)
        assert np.isfinite(signal).mean() > 0.999
        for j in range(len(MODELS)):
            right = OUTCOMES.quality[:, j] == 1
            assert np.nanmean(signal[right, j]) > np.nanmean(signal[~right, j])


def test_entropies_are_those_of_the_models_asked_again() -> None:
    """Read later, from the recorded answers: what the backend says while it answers."""
    rows = np.arange(0, len(QUESTIONS), 480)
    backend = TransformersBackend()

    async def ask() -> list[Reply]:
        texts = [str(QUESTIONS.queries.text[row]) for row in rows]
        requests = [Request("here", "pocket-xs", (("user", text),), max_tokens=48, logprobs=True) for text in texts]
        try:
            return await asyncio.gather(*map(backend.ask, requests))
        finally:
            await backend.close()

    found = [logprob_entropy(reply.entropy or ()) for reply in asyncio.run(ask())]
    np.testing.assert_allclose(OUTCOMES.signals["logprob_entropy"][rows, 0], found, atol=1e-3)


def test_samples_are_the_draws_behind_the_agreement() -> None:
    samples = pq.read_table(POCKET / "samples.parquet").to_pandas()
    assert len(samples) == OUTCOMES.quality.size * SAMPLES
    one = samples[samples["model"] == "pocket-num"].set_index(["id", "sample"])["extracted"].unstack()
    assert OUTCOMES.answer is not None
    main = [str(normalise(answer)) for answer in OUTCOMES.answer[:, 1]]
    share = (
        one.loc[OUTCOMES.queries.id].map(lambda text: normalise(text) if isinstance(text, str) else "").to_numpy()
        == np.array(main)[:, None]
    ).mean(axis=1)
    assert np.mean(np.abs(share - OUTCOMES.signals["agreement"][:, 1]) < 1e-6) > 0.99


def test_the_files_are_small() -> None:
    assert sum((POCKET / name).stat().st_size for name in FILES) < 6_000_000
    assert sum(path.stat().st_size for path in (POCKET / "models").rglob("*") if path.is_file()) < 15_000_000


@pytest.mark.parametrize("side", ["train", "test"])
def test_accuracies_are_well_spread(side: str) -> None:
    mean = OUTCOMES.quality[QUESTIONS.split == side].mean(axis=0)
    assert mean[0] < 0.42
    assert mean[-1] > 0.7
    assert (np.diff(mean) > 0).all()
    assert abs(mean[1] - mean[2]) < 0.1, "the two in the middle are of like size"
