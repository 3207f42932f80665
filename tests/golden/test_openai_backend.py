"""The openai backend against a server that does everything servers do, and its readers by hand."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from routewright.core.contracts import Backend
from routewright.core.types import InputError
from routewright.data.backends import _completion as completion
from routewright.data.backends.openai import OpenAIBackend
from routewright.data.calls import CallError, Reply, Request
from tests.faults.driver import asks
from tests.faults.server import BIG, KEY, Server, answer, usage

PROMPT = "Be brief.\nQuestion 0?"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_TEST_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def backend(url: str, **changes: Any) -> OpenAIBackend:
    return OpenAIBackend(**({"base_url": url, "api_key_env": "ROUTEWRIGHT_TEST_KEY"} | changes))


def ask(one: OpenAIBackend, *, logprobs: bool = False, within: float = 20.0) -> Reply:
    async def once() -> Reply:
        try:
            async with asyncio.timeout(within):
                return await one.ask(next(asks(one.url, 1, logprobs=logprobs)).request)
        finally:
            await one.close()

    return asyncio.run(once())


def failing(one: OpenAIBackend) -> CallError:
    with pytest.raises(CallError) as error:
        ask(one)
    assert KEY not in str(error.value)
    return error.value


# --- answers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("logprobs", [False, True])
def test_a_whole_answer(stream: bool, logprobs: bool) -> None:
    with Server(latency=0.05) as server:
        reply = ask(backend(server.url, stream=stream), logprobs=logprobs)
    used = usage(PROMPT)
    reasoning = used["completion_tokens_details"]["reasoning_tokens"]
    assert reply.text.split() == answer(PROMPT).split()
    assert reply.tokens == {
        "input": used["prompt_tokens"],
        "cached_input": used["prompt_tokens_details"]["cached_tokens"],
        "output": used["completion_tokens"] - reasoning,
        "reasoning": reasoning,
    }
    assert reply.finish == "stop"
    assert 0.05 <= reply.total_s < 20
    assert 0.05 <= reply.first_s <= reply.total_s if stream else math.isnan(reply.first_s)
    if logprobs:
        assert reply.pieces is not None
        assert reply.logprobs == tuple(-0.125 * i for i in range(len(reply.pieces)))
        assert "".join(reply.pieces).split() == reply.text.split()
    else:
        assert (reply.logprobs, reply.pieces) == (None, None)


def test_logprobs_that_the_server_leaves_out() -> None:
    with Server(answers={"no_logprobs": 1.0}) as server:
        assert ask(backend(server.url), logprobs=True).logprobs is None


@pytest.mark.parametrize("kind", ["no_usage", "zero_usage"])
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_is_missing_is_not_made_up(kind: str, stream: bool) -> None:
    with Server(answers={kind: 1.0}) as server:
        reply = ask(backend(server.url, stream=stream))
    assert reply.text
    assert reply.tokens is None


@pytest.mark.parametrize("kind", ["no_choices", "null_content"])
def test_an_empty_answer_is_paid_for(kind: str) -> None:
    with Server(answers={kind: 1.0}) as server:
        error = failing(backend(server.url))
    assert (error.kind, error.retry, error.billed) == ("empty", False, "yes")
    assert error.reply is not None
    assert error.reply.tokens is not None
    assert error.reply.tokens["input"] == usage(PROMPT)["prompt_tokens"]


def test_a_long_answer_is_kept_whole_or_refused_while_it_comes() -> None:
    with Server(answers={"big": 1.0}) as server:
        assert ask(backend(server.url)).text == "x" * BIG
        error = failing(backend(server.url, answer_bytes=100_000))
    assert (error.kind, error.retry, error.billed) == ("oversize", False, "unknown")


# --- failures

FAILURES = {
    "limit_seconds": ("rate_limit", True, 1.0, "no"),
    "limit_ms": ("rate_limit", True, 0.02, "no"),
    "limit": ("rate_limit", True, None, "no"),
    "limit_forever": ("rate_limit", True, 86400.0, "no"),
    "server": ("server", True, None, "no"),
    "carried": ("server", True, None, "no"),
    "cut_before": ("connection", True, None, "unknown"),
    "cut_inside": ("connection", True, None, "unknown"),
    "malformed": ("malformed", True, None, "unknown"),
    "unauthorized": ("unauthorized", False, None, "no"),
    "not_found": ("not_found", False, None, "no"),
    "refused": ("refused", False, None, "no"),
    "quota": ("quota", False, None, "no"),
}


@pytest.mark.parametrize("fault", FAILURES)
def test_every_failure_says_what_it_is(fault: str) -> None:
    with Server(fail_all=fault) as server:
        error = failing(backend(server.url))
        assert (error.kind, error.retry, error.after, error.billed) == FAILURES[fault]
        assert not server.books()["billed"]


def test_a_date_to_wait_for() -> None:
    with Server(fail_all="limit_date") as server:
        error = failing(backend(server.url))
    assert error.after is not None
    assert 0 <= error.after <= 2


@pytest.mark.parametrize("fault", ["cut_inside", "malformed"])
def test_a_stream_that_breaks_off(fault: str) -> None:
    with Server(fail_all=fault) as server:
        error = failing(backend(server.url, stream=True))
    assert (error.retry, error.billed) == (True, "unknown")


def test_nobody_there() -> None:
    with Server() as server:
        url = server.url
    error = failing(backend(url))
    assert (error.kind, error.retry, error.billed) == ("connection", True, "no")


def test_a_silent_server() -> None:
    with Server(latency=5.0) as server:
        error = failing(backend(server.url, timeout_s=0.2))
    assert (error.kind, error.retry, error.billed) == ("timeout", True, "unknown")


def test_a_slow_answer_can_be_cut_off_from_outside() -> None:
    with Server(fail_all="slow") as server:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(backend(server.url), within=0.5)
        assert time.monotonic() - begun < 10


def test_a_wrong_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_TEST_KEY", "wrong-and-odd-looking")
    with Server() as server:
        error = failing(backend(server.url))
    assert error.kind == "unauthorized"
    assert "$ROUTEWRIGHT_TEST_KEY" in str(error)
    assert "wrong-and-odd-looking" not in str(error)


def test_keys_of_gateways_are_sent_and_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "plain words")
    with Server(fail_all="refused") as server:
        error = failing(backend(server.url, headers_env={"x-gateway": "GATEWAY_KEY"}))
    assert "x-gateway=[redacted]" in str(error)


def test_a_key_that_is_repeated_in_an_answer_is_taken_out_and_a_word_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(key=None) as server:
        monkeypatch.setenv("ROUTEWRIGHT_TEST_KEY", "answer")  # some local servers want any key
        assert "The answer to that" in ask(backend(server.url)).text
        monkeypatch.setenv("ROUTEWRIGHT_TEST_KEY", "answer to that")
        assert "The [redacted] is" in ask(backend(server.url)).text


# --- what is configured


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the environment variable OPENAI_API_KEY"):
        ask(OpenAIBackend(base_url="https://example.invalid/v1"))
    with pytest.raises(InputError, match="the environment variable GATEWAY_KEY"):
        ask(OpenAIBackend(base_url="http://localhost:1/v1", headers_env={"x-gateway": "GATEWAY_KEY"}))
    with Server(key=None) as server:  # a loopback server needs none
        assert ask(backend(server.url, api_key_env="OPENAI_API_KEY")).text
        assert ask(backend(server.url, api_key_env=None)).text
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        ask(OpenAIBackend())


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        (None, "https://api.openai.com/v1"),
        ("HTTPS://API.OpenAI.com:443/v1/", "https://api.openai.com/v1"),
        ("http://localhost:4000", "http://localhost:4000"),
        ("http://[::1]:80/v1", "http://[::1]/v1"),
    ],
)
def test_one_server_has_one_identity(url: str | None, identity: str) -> None:
    assert OpenAIBackend(base_url=url).identity("m") == identity


def test_parameters_of_every_call_are_part_of_the_identity() -> None:
    plain, changed = OpenAIBackend(), OpenAIBackend(extra_body={"top_k": 5})
    assert plain.identity("m") != changed.identity("m") != OpenAIBackend(extra_body={"top_k": 6}).identity("m")
    assert plain.identity("m") != OpenAIBackend(send_temperature=False).identity("m")
    assert changed.identity("m") == OpenAIBackend(extra_body={"top_k": 5}).identity("m")


@pytest.mark.parametrize("url", ["localhost:4000", "ftp://x/v1", "https://me:secret@x/v1", "https://x/v1?key=secret", ""])
def test_urls_that_are_none_or_hold_a_key(url: str) -> None:
    if url == "":
        assert OpenAIBackend(base_url=url).url == "https://api.openai.com/v1"
        return
    with pytest.raises(InputError, match=r"backend\.base_url") as error:
        OpenAIBackend(base_url=url).identity("m")
    assert "secret" not in str(error.value)


def test_the_body_of_a_request() -> None:
    request = Request("u", "m", (("user", "hi"),), 0.5, 64, 2, True, {"top_p": 0.9, "top_k": 1})
    assert OpenAIBackend(extra_body={"top_k": 5, "n": 1}).parameters(request) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "max_tokens": 64,
        "logprobs": True,
        "top_logprobs": 5,
        "top_p": 0.9,
        "top_k": 1,
        "n": 1,
    }
    other = OpenAIBackend(tokens_parameter="max_completion_tokens", send_temperature=False, send_seed=True, stream=True).parameters(request)
    assert other["max_completion_tokens"] == 64
    assert "temperature" not in other
    assert other["seed"] == int(request.key()[:8], 16) // 2 < 2**31
    assert other["stream_options"] == {"include_usage": True}
    assert "top_logprobs" not in OpenAIBackend(top_logprobs=0).parameters(request)
    assert OpenAIBackend(top_logprobs=0).identity("m") == OpenAIBackend().identity("m"), "it changes no answer"
    for wrong in (-1, 21):
        with pytest.raises(InputError, match="top_logprobs"):
            OpenAIBackend(top_logprobs=wrong)
    with pytest.raises(InputError, match="tokens_parameter"):
        OpenAIBackend(tokens_parameter="tokens")


def test_the_request_carries_its_key_once() -> None:
    with Server() as server:
        one = backend(server.url)
        ask(one)
        ask(one)  # a closed backend opens again
        (entry, _) = server.books()["billed"]
    assert entry["key"] == next(asks(one.url, 1)).request.key()


def test_the_config_makes_a_backend() -> None:
    config = OmegaConf.load(Path(__file__).parents[2] / "configs/backend/openai.yaml")
    made = instantiate(config)
    assert isinstance(made, Backend)
    assert vars(made) == vars(OpenAIBackend())
    nested = instantiate(config, extra_body={"provider": {"order": ["x"]}})
    assert nested.identity("m") == OpenAIBackend(extra_body={"provider": {"order": ["x"]}}).identity("m")


# --- the readers by hand


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 3}, (5, 0, 3, 0)),
        ({"prompt_tokens": 5.0, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}, (5, 4, 3, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}}, (5, 0, 1, 2)),
        # reasoning beside the completion, as the total shows
        (
            {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 2}},
            (5, 0, 3, 2),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 4}}, None),
        ({"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 6}}, None),
        ({"prompt_tokens": 5, "completion_tokens": 0}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": -5, "completion_tokens": 3}, None),
        ({"prompt_tokens": "5", "completion_tokens": 3}, None),
        ({"prompt_tokens": True, "completion_tokens": 3}, None),
        ({"prompt_tokens": 5.5, "completion_tokens": 3}, None),
        ({"prompt_tokens": math.inf, "completion_tokens": 3}, None),
        ({"completion_tokens": 3}, None),
        ({"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": None}, (5, 0, 3, 0)),
        (None, None),
        ([], None),
    ],
)
def test_usage_by_hand(usage: Any, tokens: tuple[int, ...] | None) -> None:
    kinds = ("input", "cached_input", "output", "reasoning")
    assert completion.read_usage(usage, answered=True) == (None if tokens is None else dict(zip(kinds, tokens, strict=True)))


def test_usage_of_an_empty_answer() -> None:
    assert completion.read_usage({"prompt_tokens": 5, "completion_tokens": 0}, answered=False) == {
        "input": 5,
        "cached_input": 0,
        "output": 0,
        "reasoning": 0,
    }


@pytest.mark.parametrize(
    ("found", "read"),
    [
        ({"content": [{"token": "a", "logprob": -1}]}, ((-1.0,), ("a",))),
        ({"content": [{"token": "a", "logprob": 0.5}]}, (None, None)),
        ({"content": [{"token": "a", "logprob": math.nan}]}, (None, None)),
        ({"content": [{"token": "a"}]}, (None, None)),
        ({"content": [{"logprob": -1}]}, (None, None)),
        ({"content": []}, (None, None)),
        ({"content": None}, (None, None)),
        (None, (None, None)),
        ("x", (None, None)),
    ],
)
def test_logprobs_by_hand(found: Any, read: Any) -> None:
    assert completion.read_logprobs(found) == read


def token(logprob: float, *others: tuple[str, Any]) -> dict[str, Any]:
    """A token "a", as a server tells it, with its alternatives."""
    return {"token": "a", "logprob": logprob, "top_logprobs": [{"token": text, "logprob": value} for text, value in others]}


HALF, QUARTER = math.log(0.5), math.log(0.25)


@pytest.mark.parametrize(
    ("told", "bits"),
    [
        (token(HALF, ("a", HALF), ("b", HALF)), 1.0),
        (token(HALF, ("a", HALF), ("b", QUARTER)), 1.5),  # what is left counts as one more outcome
        (token(QUARTER, ("b", HALF)), 1.5),  # drawn from beyond the top: an outcome beside it
        (token(QUARTER, ("a", QUARTER), ("b", HALF)), 1.5),
        (token(QUARTER, ("\ufffd", QUARTER), ("b", HALF)), 1.5),  # the same token in another spelling is not counted twice
        (token(0.0, ("a", 0.0), ("b", -9999.0)), 0.0),
        (token(HALF), None),
        (token(HALF, ("a", None)), None),
        (token(HALF, ("a", math.nan)), None),
        (token(HALF, ("a", True)), None),
        (token(HALF, ("a", HALF), ("b", HALF), ("c", HALF)), None),  # no distribution
        ({"token": "a", "logprob": HALF}, None),
        ({"token": "a", "logprob": HALF, "top_logprobs": [None]}, None),
        ({"token": "a", "logprob": HALF, "top_logprobs": {"a": HALF}}, None),
    ],
)
def test_entropies_by_hand(told: dict[str, Any], bits: float | None) -> None:
    found = completion.read_entropy([told])
    assert found is None if bits is None else found == (pytest.approx(bits * math.log(2)),)
    assert completion.read_entropy([token(0.0, ("a", 0.0)), told]) is None or bits is not None, "one token unknown, all unknown"


@pytest.mark.parametrize("told", [token(HALF, ("a", HALF)), token(HALF)])
def test_a_reply_has_its_entropies(told: dict[str, Any]) -> None:
    data = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop", "logprobs": {"content": [told]}}]}
    reply = completion.read_completion(data, first_s=0.0, total_s=0.0)
    assert reply.logprobs == (HALF,)
    assert reply.entropy == ((pytest.approx(math.log(2)),) if told["top_logprobs"] else None)


def message(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"message": fields, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (message(content="yes"), "yes"),
        (message(content=None, refusal="I will not."), "I will not."),
        (message(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab"),
    ],
)
def test_texts_by_hand(data: Any, text: str) -> None:
    assert completion.read_completion(data, first_s=0.0, total_s=0.0).text == text


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ([], "malformed"),
        ({}, "malformed"),
        ({"choices": "x"}, "malformed"),
        ({"choices": [None]}, "malformed"),
        ({"choices": [{"message": "x"}]}, "malformed"),
        (message(content=7), "malformed"),
        (message(content="  \n"), "empty"),
        (message(content=None, tool_calls=[{}]), "empty"),
        ({"choices": []}, "empty"),
        ({"error": "overloaded"}, "server"),
        ({"error": {"code": 429, "message": "slow down"}}, "rate_limit"),
        ({"error": {"code": 400, "message": "no"}}, "refused"),
    ],
)
def test_odd_bodies_by_hand(data: Any, kind: str) -> None:
    with pytest.raises(CallError) as error:
        completion.read_completion(data, first_s=0.0, total_s=0.0)
    assert error.value.kind == kind


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"\xff\xfe\xff", b"1" * 5000])
def test_bodies_that_are_no_json(body: bytes) -> None:
    with pytest.raises(CallError, match="malformed"):
        completion.read_completion(completion.parse(body), first_s=0.0, total_s=0.0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "150", "retry-after": "2"}, 0.15),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after_by_hand(headers: dict[str, str], seconds: float | None) -> None:
    assert completion.retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("status", "error", "kind", "retry", "billed"),
    [
        (408, {}, "timeout", True, "unknown"),
        (409, {}, "server", True, "no"),
        (422, {}, "refused", False, "no"),
        (429, {"code": "insufficient_quota"}, "quota", False, "no"),
        (502, {}, "server", True, "unknown"),
        (503, {}, "server", True, "no"),
        (504, {}, "timeout", True, "unknown"),
        (529, {}, "server", True, "no"),
        (307, {}, "refused", False, "no"),
    ],
)
def test_statuses_by_hand(status: int, error: dict[str, str], kind: str, retry: bool, billed: str) -> None:
    made = completion.status_error(status, "text", error, {})
    assert (made.kind, made.retry, made.billed) == (kind, retry, billed)


def test_a_stream_by_hand() -> None:
    def whole(*lines: str) -> dict[str, Any]:
        events = completion.Events()
        for line in lines:
            events.add(line)
        return events.whole()

    def chunk(**fields: Any) -> str:
        return "data: " + json.dumps(fields)

    hello, stop = chunk(choices=[{"delta": {"content": "hi"}}]), chunk(choices=[{"delta": {}, "finish_reason": "stop"}])
    made = whole(
        ": comment",
        "event: x",
        hello,
        "",
        hello,
        stop,
        chunk(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2}),
        "data: [DONE]",
    )
    assert made["choices"][0]["message"]["content"] == "hihi"
    assert made["usage"]["completion_tokens"] == 2
    assert whole(hello, stop)["choices"][0]["finish_reason"] == "stop"
    broken: list[tuple[Callable[[], Any], str]] = [
        (lambda: whole(hello), "malformed"),
        (lambda: whole("data: {"), "malformed"),
        (lambda: whole("data: 7"), "malformed"),
        (lambda: whole(hello, chunk(error={"message": "gone"})), "server"),
    ]
    for make, kind in broken:
        with pytest.raises(CallError) as error:
            make()
        assert error.value.kind == kind
