"""The transformers backend: an answer hangs on its request alone, its log-probabilities are the model's, its tokens are counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from routewright.core.contracts import Backend
from routewright.core.types import InputError
from routewright.data.backends.transformers import TransformersBackend
from routewright.data.calls import CallError, Reply, Request
from tests.tiny_lm import make_model

TEXTS = ["two", "what is two and two?", "é 漢字 🦉", "a" * 40, "two\nand two"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny"))


def backend(folder: Path, **settings: object) -> TransformersBackend:
    return TransformersBackend(models={"tiny": str(folder)}, **settings)  # type: ignore[arg-type]


def request(text: str, **settings: object) -> Request:
    return Request("here", "tiny", (("user", text),), **{"max_tokens": 12, "logprobs": True} | settings)  # type: ignore[arg-type]


def answers(made: TransformersBackend, requests: list[Request]) -> list[Reply]:
    async def together() -> list[Reply]:
        try:
            return await asyncio.gather(*(made.ask(one) for one in requests))
        finally:
            await made.close()

    return asyncio.run(together())


def test_it_is_a_backend(folder: Path) -> None:
    assert isinstance(backend(folder), Backend)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_an_answer_hangs_on_its_request_and_not_on_its_batch(folder: Path, temperature: float) -> None:
    requests = [request(text, temperature=temperature, sample=s) for text in TEXTS for s in range(2)]
    alone = [answers(backend(folder, batch_size=1), [one])[0] for one in requests]
    batched = answers(backend(folder, batch_size=7), requests)
    assert [reply.text for reply in batched] == [reply.text for reply in alone]
    assert [reply.tokens for reply in batched] == [reply.tokens for reply in alone]
    for one, other in zip(alone, batched, strict=True):
        assert one.logprobs is not None
        assert other.logprobs is not None
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)
    assert len({reply.text for reply in alone}) > 2, "the tiny model says different things"
    assert (alone[0].text != alone[1].text) == (temperature > 0)


def test_log_probabilities_are_those_of_a_plain_forward_pass(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for temperature in (0.0, 1.3):
        for text in TEXTS:
            (reply,) = answers(backend(folder), [request(text, temperature=temperature)])
            prompt = tokenizer(f"Q:{text}A:", add_special_tokens=False)["input_ids"]
            said = tokenizer(reply.text, add_special_tokens=False)["input_ids"]
            assert reply.tokens is not None
            assert reply.tokens["input"] == len(prompt)
            if tokenizer.decode(said) != reply.text or len(said) != len(reply.logprobs or ()):
                continue  # bytes that are no text cannot be tokenized back
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + said])).logits[0]
            right = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)[torch.arange(len(said)), said]
            np.testing.assert_allclose(reply.logprobs, right, atol=1e-4)
            spread = torch.distributions.Categorical(logits=logits[len(prompt) - 1 : -1]).entropy()
            np.testing.assert_allclose(reply.entropy, spread, atol=1e-4)


def test_pieces_are_the_tokens_texts(folder: Path) -> None:
    for reply in answers(backend(folder), [request(text) for text in TEXTS]):
        assert reply.pieces is not None
        assert reply.logprobs is not None
        assert len(reply.pieces) == len(reply.logprobs) == len(reply.entropy or ())
        assert reply.text.startswith("".join(reply.pieces)[:1])
        assert all(value <= 0 for value in reply.logprobs)


def test_draws_follow_the_models_distribution(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    temperature, draws = 2.0, 1500
    replies = answers(
        backend(folder, batch_size=500), [request("two", temperature=temperature, max_tokens=1, sample=s) for s in range(draws)]
    )
    logprob = [reply.logprobs[0] for reply in replies if reply.logprobs]
    with torch.inference_mode():
        logits = model(torch.tensor([tokenizer("Q:twoA:", add_special_tokens=False)["input_ids"]])).logits[0, -1]
    plain, drawn = torch.log_softmax(logits, -1), torch.softmax(logits / temperature, -1)
    seen = Counter(round(value, 3) for value in logprob)
    for token in drawn.topk(3).indices.tolist():
        share, expected = seen[round(float(plain[token]), 3)] / draws, float(drawn[token])
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / draws) + 1e-3


def test_the_end_is_told_and_counted(folder: Path) -> None:
    short, long = answers(backend(folder), [request("two", max_tokens=3), request("two", max_tokens=12)])
    assert short.finish in ("length", "stop")
    assert short.tokens is not None
    assert short.tokens["output"] <= 3
    assert short.text == long.text[: len(short.text)]
    assert 0 < short.first_s <= short.total_s
    for reply in (short, long):
        assert reply.tokens is not None
        assert reply.tokens["output"] == len(reply.logprobs or ()) + (reply.finish == "stop")


def test_log_probabilities_come_only_when_asked_for(folder: Path) -> None:
    (reply,) = answers(backend(folder), [request("two", logprobs=False)])
    assert reply.logprobs is None
    assert reply.pieces is None
    assert reply.entropy is None


def test_a_prompt_that_is_too_long_is_refused_and_the_others_are_answered(folder: Path) -> None:
    async def ask() -> list[Reply | BaseException]:
        made = backend(folder)
        try:
            return await asyncio.gather(made.ask(request("two")), made.ask(request("x" * 200)), return_exceptions=True)
        finally:
            await made.close()

    fine, refused = asyncio.run(ask())
    assert isinstance(fine, Reply)
    assert isinstance(refused, CallError)
    assert not refused.retry
    assert refused.billed == "no"
    assert "the model reads 128" in str(refused)


def test_a_model_without_a_chat_template_gets_the_messages_as_lines(tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain", template=None)
    (reply,) = answers(backend(plain), [request("two")])
    assert reply.tokens is not None
    assert reply.tokens["input"] == len("two\n") or reply.tokens["input"] < len("two\n"), "merged pieces may make it shorter"


def test_identity_is_the_files(folder: Path, tmp_path: Path) -> None:
    first, other = backend(folder).identity("tiny"), make_model(tmp_path / "other", seed=1)
    assert first == backend(folder).identity("tiny")
    assert first.startswith("transformers:")
    assert TransformersBackend(models={"tiny": str(other)}).identity("tiny") != first
    assert backend(folder, dtype="bfloat16").identity("tiny") != first


@pytest.mark.parametrize("name", ["nonesuch", "no folder/at all/here"])
def test_a_model_that_is_nowhere_is_refused_by_name(folder: Path, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no language model at"):
        backend(folder).identity(name)
    with pytest.raises(InputError, match="no language model at"):
        TransformersBackend(models={name: str(tmp_path)}).identity(name)


def test_weights_must_be_safetensors(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(InputError, match="no safetensors"):
        TransformersBackend(models={"tiny": str(tmp_path)}).identity("tiny")


def test_a_dtype_that_is_none_reaches_the_asker(folder: Path) -> None:
    with pytest.raises(InputError, match="unknown dtype"):
        answers(backend(folder, dtype="half precision"), [request("two")])
