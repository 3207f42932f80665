"""The openai encoder against an embeddings server that misbehaves by a script: order, money, the cache, failures, what it refuses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hydra.utils import instantiate
from omegaconf import OmegaConf

from routewright.core.contracts import Encoder
from routewright.core.types import InputError
from routewright.data import embeddings_ask
from routewright.data.calls import CallError
from routewright.data.embeddings import OpenAIEncoder
from tests.faults.server import KEY, Misbehaving, Script, Server

D = 6
LONGEST = 100  # characters that the server takes in one text
MOST = 8  # texts that it takes in one request
CONFIG = Path(__file__).parents[2] / "configs" / "encoder" / "openai.yaml"


def row(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What the server computes: float32[D], of no particular length."""
    seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    return np.random.default_rng(seed).normal(size=D).astype(np.float32)


def units(texts: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    rows = np.array([row(text) for text in texts], dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Embedding(Misbehaving):
    """Faults, keys and books are the chat server's. kind: how answers are wrong; asked: the texts of every request that was paid for."""

    def __init__(self, script: Script, kind: str) -> None:
        super().__init__(script)
        self.kind = kind
        self.bodies: list[dict[str, Any]] = []
        self.app.router.add_post("/v1/embeddings", self.chat)

    @property
    def asked(self) -> list[list[str]]:
        return [entry["texts"] for entry in self.billed]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        texts, size = body["input"], body.get("dimensions", D)
        if self.script.key is not None and request.headers.get("Authorization") != f"Bearer {self.script.key}":
            return self._error(401, request, "wrong key")
        # the plan goes by the requests of all batches, in order
        fault = self.kinds("all")[0]
        if any(not text or len(text) > LONGEST for text in texts) or len(texts) > MOST:
            return self._error(400, request, f"no more than {LONGEST} characters and {MOST} texts")
        refused = self._refusal(fault, request)
        if refused is not None:
            return refused
        if self.script.latency:
            await asyncio.sleep(self.script.latency)
        data: list[dict[str, Any]] = [{"object": "embedding", "index": i, "embedding": row(text)[:size]} for i, text in enumerate(texts)]
        made = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 0, "total_tokens": sum(map(len, texts))}}
        self.spoil(made)
        encoded = [{**item, "embedding": self.written(item["embedding"], body)} if "embedding" in item else item for item in made["data"]]
        sent = json.dumps({**made, "data": encoded}).encode()
        if self.kind == "echo":  # not JSON, and the headers in it
            return web.Response(text=f"{request.headers.get('x-gateway')} {request.headers.get('Authorization')}")
        if fault == "malformed":
            return web.Response(body=sent[: len(sent) // 2], content_type="application/json")
        return await self._send(request, sent, fault, {"texts": texts})

    def written(self, vector: Any, body: dict[str, Any]) -> Any:
        if body.get("encoding_format") == "base64" and self.kind != "floats" and isinstance(vector, np.ndarray):
            return base64.b64encode(vector.astype("<f4").tobytes()).decode()
        return vector.tolist() if isinstance(vector, np.ndarray) else vector

    def spoil(self, made: dict[str, Any]) -> None:
        data, last = made["data"], made["data"][-1]
        changes: dict[str, Any] = {"nan": np.full(D, np.nan), "zeros": np.zeros(D), "ragged": np.ones(D + 1), "words": ["a"] * D}
        changes |= {"no base64": "@@@", "half a float": "AAAAAAA=", "nothing": None, "nobody": [], "huge": [10**400] * D}
        if self.kind in changes:
            last["embedding"] = changes[self.kind]
        elif self.kind == "shuffled":
            data.reverse()
        elif self.kind == "one too few":
            data.pop()
        elif self.kind == "one twice":
            data.append(last)
        elif self.kind == "one more":
            data.append({"object": "embedding", "embedding": row("more")})
        elif self.kind == "no index":
            del last["index"]
        elif self.kind == "index 0":
            last["index"] = 0 if len(data) > 1 else 7
        elif self.kind == "no usage":
            del made["usage"]
        elif self.kind == "zero usage":
            made["usage"] = {"total_tokens": 0}


class Embeddings(Server):
    """tests/faults/server.py with an endpoint for embeddings, in a thread."""

    misbehaving: Embedding

    def __init__(self, kind: str = "", **script: Any) -> None:
        self.misbehaving = Embedding(Script(**script), kind)
        self.url = ""

    @property
    def asked(self) -> list[list[str]]:
        return self.misbehaving.asked


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("ROUTEWRIGHT_TEST_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return tmp_path


def make(server: Server | str, **changes: Any) -> OpenAIEncoder:
    url = server if isinstance(server, str) else server.url
    quick = {"batch_size": 4, "backoff_s": 0.01, "backoff_max_s": 0.02, "timeout_s": 30.0, "key_env": "ROUTEWRIGHT_TEST_KEY"}
    return OpenAIEncoder(base_url=url, **(quick | changes))


def words(n: int, start: int = 0) -> list[str]:
    return [f"question number {i}" for i in range(start, start + n)]


def flat(asked: list[list[str]]) -> list[str]:
    return [text for batch in asked for text in batch]


# ---- rows


@pytest.mark.parametrize("kind", ["", "shuffled", "floats"])
@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_rows_follow_the_input_and_each_text_is_asked_once(kind: str, encoding: str) -> None:
    texts = [*words(6), "question number 2", "中文 😀", *words(3)]
    with Embeddings(kind) as server:
        vectors = make(server, encoding=encoding, concurrency=3).encode(texts)
        assert sorted(flat(server.asked)) == sorted(set(texts))
        assert max(map(len, server.asked)) == 4
        assert server.misbehaving.bodies[0].keys() == {"model", "input", "encoding_format"}
    assert isinstance(vectors, np.memmap)
    assert (vectors.shape, vectors.dtype, vectors.flags.writeable) == ((len(texts), D), np.float32, False)
    np.testing.assert_allclose(vectors, units(texts), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_what_was_asked_is_not_asked_again_in_any_list() -> None:
    with Embeddings() as server:
        first = np.array(make(server).encode(words(6)))
        again = make(server, batch_size=2, concurrency=1, usd_per_million=1.0, max_usd=0.0)  # and so needs no money
        np.testing.assert_array_equal(again.encode(words(6)), first)
        np.testing.assert_array_equal(again.encode(words(6)[::-1]), first[::-1])
        assert sum(map(len, server.asked)) == 6
        make(server).encode(words(8))
        assert server.asked[2:] == [words(2, start=6)]
    np.testing.assert_array_equal(make(server).encode(words(6)), first)  # nobody there, and no need


def test_the_cache_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with Embeddings() as server:
        first = np.array(make(server).encode(words(3)))
    monkeypatch.delenv("ROUTEWRIGHT_TEST_KEY")
    np.testing.assert_array_equal(make(server).encode(words(3)), first)


def test_dimensions_are_the_servers_and_the_rows_are_unit_again() -> None:
    with Embeddings() as server:
        full, short = make(server).encode(words(2)), make(server, dimensions=3).encode(words(2))
        assert [body.get("dimensions") for body in server.misbehaving.bodies] == [None, 3]
    cut = units(words(2))[:, :3]
    np.testing.assert_allclose(short, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)
    assert full.shape == (2, D)


def test_no_texts_give_no_rows_and_no_request() -> None:
    with Embeddings() as server:
        assert make(server).encode([]).shape == (0, 0)
        assert make(server, dimensions=3).encode([]).shape == (0, 3)
        make(server).encode(words(1))
        assert make(server).encode([]).shape == (0, D)
        assert len(server.asked) == 1


def test_a_long_text_is_cut_at_a_character_and_a_longer_cut_pays_for_what_it_changes() -> None:
    long, short = "é" * 30, "short"
    with Embeddings() as server:
        vectors = make(server, max_bytes=9).encode([long, short])
        np.testing.assert_allclose(vectors, units(["éééé", short]), atol=1e-6)
        vectors = make(server, max_bytes=20).encode([long, short])
        np.testing.assert_allclose(vectors, units(["é" * 10, short]), atol=1e-6)
        assert flat(server.asked) == ["éééé", short, "é" * 10]


def test_inside_a_running_loop_as_a_notebook_has_one() -> None:
    async def cell(url: str) -> Any:
        return make(url).encode(words(3))

    with Embeddings() as server:
        np.testing.assert_allclose(asyncio.run(cell(server.url)), units(words(3)), atol=1e-6)


# ---- failures that pass


@pytest.mark.parametrize("fault", ["limit_seconds", "limit_ms", "limit", "server", "cut_before", "cut_inside", "malformed", "carried"])
def test_failures_that_pass_are_asked_again(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    begun = time.monotonic()
    with Embeddings(plan=[fault, "", fault]) as server, caplog.at_level(logging.INFO):
        vectors = make(server, concurrency=1).encode(words(8))
        assert server.asked == [words(4), words(4, start=4)], "paid for once"
        assert sum(server.misbehaving.requests.values()) == 4
    np.testing.assert_allclose(vectors, units(words(8)), atol=1e-6)
    assert fault != "limit_seconds" or time.monotonic() - begun > 1.9, "twice the second that the server asked for"
    lost = fault in ("cut_before", "cut_inside", "malformed")
    assert ("2 requests brought nothing and may have been billed" in caplog.text) == lost


def test_a_rate_limit_holds_everybody() -> None:
    with Embeddings(plan=["limit_seconds"]) as server:
        make(server, concurrency=2).encode(words(32))
        times = server.books()["times"]
    assert len(times) == 9
    assert sum(later - times[0] > 0.9 for later in times) >= 6, "but for what was in flight beside it"


def test_a_slow_answer_is_given_up_and_asked_again() -> None:
    with Embeddings(plan=["slow"]) as server:
        begun = time.monotonic()
        make(server, timeout_s=0.3).encode(words(2))
        assert time.monotonic() - begun < 10
        assert server.asked == [words(2)]


# ---- failures that stay


@pytest.mark.parametrize(
    ("fault", "message", "requests"),
    [
        ("server", "HTTP 500", 3),
        ("malformed", "no JSON", 3),
        ("carried", "model behind is down", 3),
        ("limit_forever", "asks to wait 86400 s", 1),
        ("unauthorized", r"is the key in \$ROUTEWRIGHT_TEST_KEY the one", 1),
        ("not_found", "HTTP 404.*/v1/embeddings: are encoder.base_url and the model's name right", 1),
        ("quota", "quota: HTTP 402", 1),
    ],
)
def test_failures_that_stay_are_one_clear_error(fault: str, message: str, requests: int) -> None:
    with Embeddings(fail_all=fault) as server:
        with pytest.raises(InputError, match=f"no embeddings came in {server.url}.*{message}.*What was answered is kept") as error:
            make(server, attempts=3).encode(words(4))
        assert sum(server.misbehaving.requests.values()) == requests
    assert KEY not in str(error.value)


def test_nobody_there() -> None:
    with Embeddings() as server:
        pass
    with pytest.raises(InputError, match="no connection"):
        make(server, attempts=2).encode(words(1))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_failure_in_the_middle_loses_nothing_that_was_paid_for(concurrency: int, caplog: pytest.LogCaptureFixture) -> None:
    with Embeddings(plan=["", "", *["server"] * 20], latency=0.01) as server, caplog.at_level(logging.INFO):
        with pytest.raises(InputError, match="HTTP 500"):
            make(server, attempts=2, concurrency=concurrency).encode(words(20))
        paid = len(server.asked)
        assert paid == 2
        assert "8 texts asked in" in caplog.text
        server.misbehaving.script.plan = ()
        # another list, other batches
        vectors = make(server, batch_size=3, concurrency=concurrency).encode(words(22)[::-1])
        assert sorted(flat(server.asked)) == sorted(words(22)), "no text was paid for twice"
    np.testing.assert_allclose(vectors, units(words(22)[::-1]), atol=1e-6)


def test_what_is_in_flight_when_another_fails_is_kept() -> None:
    with Embeddings() as server:
        refuse = server.misbehaving._refusal

        def late(fault: str, request: web.Request) -> web.Response | None:
            return refuse("unauthorized" if len(server.misbehaving.bodies) == 1 else fault, request)

        server.misbehaving._refusal = late  # type: ignore[method-assign]
        server.misbehaving.script.latency = 0.0
        with pytest.raises(InputError, match="HTTP 403"):
            make(server, concurrency=1).encode(words(8))
        assert server.asked == [], "and nothing more is sent"
        server.misbehaving.script.latency = 0.2
        with pytest.raises(InputError, match="the server refuses a text"):
            make(server, concurrency=2, batch_size=1).encode(["x" * (LONGEST + 1), *words(5)])
        assert server.asked == [["question number 0"]]
        make(server).encode(words(1))
        assert len(server.asked) == 1


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_keeps_what_is_in_flight(tmp_path: Path) -> None:
    code = (
        "import sys; from routewright.data.embeddings import OpenAIEncoder\n"
        "texts = [f'question number {i}' for i in range(8)]\n"
        "OpenAIEncoder(base_url=sys.argv[1], key_env='ROUTEWRIGHT_TEST_KEY', batch_size=1, concurrency=2).encode(texts)"
    )
    with Embeddings(latency=0.5) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url], stderr=subprocess.PIPE, text=True, env=os.environ)
        end = time.monotonic() + 60
        while len(server.misbehaving.bodies) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
        paid = sorted(flat(server.asked))
        assert 4 <= len(paid) < 8, "two in flight when it came"
        server.misbehaving.script.latency = 0.0
        make(server).encode(words(8))
        assert sorted(flat(server.asked)) == words(8)


def test_a_refused_text_is_named_and_the_others_are_kept() -> None:
    texts = [*words(5), "x" * (LONGEST + 1), *words(3, start=5)]
    with Embeddings() as server:
        with pytest.raises(
            InputError, match=rf"refuses a text in texts\[5\].*HTTP 400.*{LONGEST + 1} bytes that begin 'xxx.*max_bytes"
        ) as error:
            make(server, concurrency=1).encode(texts)
        assert KEY not in str(error.value)
        assert flat(server.asked) == words(5)
        np.testing.assert_allclose(make(server).encode(words(8)), units(words(8)), atol=1e-6)
        assert sorted(flat(server.asked)) == words(8)


def test_a_server_that_takes_fewer_texts_gets_fewer() -> None:
    with Embeddings() as server:
        np.testing.assert_allclose(make(server, batch_size=20, concurrency=1).encode(words(20)), units(words(20)), atol=1e-6)
        assert [len(batch) for batch in server.asked] == [5, 5, 5, 5]


@pytest.mark.parametrize(
    ("kind", "message", "requests"),
    [
        ("one too few", "3 embeddings with the indices", 1),
        ("one twice", "5 embeddings with the indices", 1),
        ("one more", "5 embeddings with the indices", 1),
        ("no index", "indices .*None", 1),
        ("index 0", "indices", 1),
        ("ragged", f"vectors of {D} and {D + 1} numbers", 1),
        ("zeros", "a vector of zeros", 1),
        ("words", "base64 or a list of numbers", 1),
        ("nothing", "base64 or a list of numbers", 1),
        ("no base64", "cannot be read", 1),
        ("half a float", "cannot be read", 1),
        ("huge", "cannot be read", 1),
        ("nobody", f"vectors of 0 and {D} numbers", 1),
        ("nan", "not finite", 2),  # seen of overloaded servers: worth another try
    ],
)
@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_answers_that_are_no_vectors_are_refused_and_not_kept(kind: str, message: str, requests: int, encoding: str) -> None:
    with Embeddings(kind) as server:
        with pytest.raises(InputError, match=message):
            make(server, attempts=2, encoding=encoding).encode(words(4))
        assert len(server.asked) == requests
        server.misbehaving.kind = ""
        np.testing.assert_allclose(make(server).encode(words(4)), units(words(4)), atol=1e-6)


def test_a_model_of_another_width_under_the_same_name_is_noticed() -> None:
    with Embeddings() as server:
        make(server).encode(words(2))
        server.misbehaving.written = lambda vector, body: [1.0, 2.0]  # type: ignore[method-assign]
        with pytest.raises(InputError, match=f"vectors of 2 numbers where {D} were expected"):
            make(server).encode(words(4))
        with pytest.raises(InputError, match="vectors of 2 numbers where 3 were expected"):
            make(server, dimensions=3).encode(words(4))
    with Embeddings() as server:  # a first answer, and then others
        server.misbehaving.written = lambda vector, body: [1.0] * (1 + len(body["input"]))  # type: ignore[method-assign]
        with pytest.raises(InputError, match="vectors of 2 numbers where 5 were expected"):
            make(server, concurrency=1).encode(words(5))


@pytest.mark.parametrize("body", ["[]", "7", '{"data": {}}', '{"data": [1]}', "{}", '{"data": []}', '{"data": null}'])
def test_bodies_that_hold_no_embeddings(body: str) -> None:
    with pytest.raises(CallError, match="malformed"):
        asyncio.run(_answered(body))


async def _answered(body: str) -> Any:
    """read_vectors of what an endpoint that sends this body is read as."""
    from routewright.data.calls import Reply
    from routewright.data.limits import Limits

    endpoint = embeddings_ask.Endpoint(base_url="http://localhost:1/v1", api_key_env=None)

    async def ask(_: Any) -> Reply:
        return Reply(body)

    endpoint.ask = ask  # type: ignore[method-assign]
    spent = embeddings_ask.Spent(None)
    asker = embeddings_ask.Asker(endpoint, "m", {}, None, Limits(), spent, lambda some, rows: None, lambda n: None)
    return embeddings_ask.read_vectors(await asker._answer(["a"]), 1, None)


# ---- money


def test_what_was_spent_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with Embeddings() as server, caplog.at_level(logging.INFO, "routewright"):
        make(server, usd_per_million={"text-embedding-3-small": 2.0}).encode(words(6))
        tokens = sum(map(len, words(6)))
        line = f"6 texts asked in 2 requests, {tokens} tokens counted by the server, USD {tokens * 2e-6:.6g}"
        assert [record.message for record in caplog.records] == [f"text-embedding-3-small: {line}"]
        caplog.clear()
        make(server).encode(words(6))
        assert not caplog.records, "nothing was asked"
        make(server, model="other", usd_per_million={"text-embedding-3-small": 2.0}).encode(words(1))
    assert "USD not known (no price)" in caplog.text


@pytest.mark.parametrize("kind", ["no usage", "zero usage"])
def test_usage_that_is_missing_is_estimated_and_called_so(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with Embeddings(kind) as server, caplog.at_level(logging.INFO, "routewright"):
        make(server, usd_per_million=1.0).encode(["two words", "three more words"])
    assert "0 tokens counted by the server, 5 tokens estimated (answers without usage), USD 5e-06" in caplog.text


def test_a_budget_is_refused_before_the_first_request() -> None:
    with Embeddings() as server:
        with pytest.raises(InputError, match=r"max_usd is too small: expected at most USD 1e-05, found USD 1\.8e-05 for 6 texts.*Nothing"):
            make(server, usd_per_million=1.0, max_usd=1e-5).encode(words(6))  # three words each
        assert not server.misbehaving.bodies
        with pytest.raises(InputError, match="a budget cannot be kept without a price"):
            make(server, max_usd=1.0).encode(words(1))


def test_a_budget_holds_where_the_server_counts_more_than_was_forecast(caplog: pytest.LogCaptureFixture) -> None:
    """It counts letters: a batch of four is forecast at 12 tokens and billed at 68."""
    with Embeddings() as server, caplog.at_level(logging.INFO):
        with pytest.raises(InputError, match=r"no room for another request: expected at most USD 0\.0001.*found USD 0\.000136 spent"):
            make(server, usd_per_million=1.0, max_usd=1e-4, concurrency=1).encode(words(16))
        assert len(server.asked) == 2
        assert "8 texts asked in 2 requests, 136 tokens" in caplog.text
        make(server, usd_per_million=1.0, max_usd=1.0).encode(words(16))
        assert len(server.asked) == 4


# ---- many at once


def test_encoders_that_share_a_cache_pay_once() -> None:
    lists = [words(12), words(12), words(12)[::-1], words(12, start=4)]
    results: dict[int, Any] = {}
    with Embeddings(latency=0.02) as server:
        threads = [threading.Thread(target=lambda i=i: results.update({i: make(server).encode(lists[i])})) for i in range(len(lists))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(flat(server.asked)) == sorted(words(16))
    for i, texts in enumerate(lists):
        np.testing.assert_allclose(results[i], units(texts), atol=1e-6)


def test_processes_that_share_a_cache_pay_once() -> None:
    code = (
        "import sys; from routewright.data.embeddings import OpenAIEncoder\n"
        "texts = [f'question number {i}' for i in range(int(sys.argv[2]), 12)]\n"
        "found = OpenAIEncoder(base_url=sys.argv[1], key_env='ROUTEWRIGHT_TEST_KEY', batch_size=2).encode(texts)\n"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)\n"
        "print(found.shape)"
    )
    with Embeddings(latency=0.1) as server:
        command = [sys.executable, "-c", code, server.url]
        running = [subprocess.Popen([*command, start], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for start in "03"]
        done = [process.communicate(timeout=120) for process in running]
        assert [out.strip() for out, _ in done] == [f"(12, {D})", f"(9, {D})"], done
        assert sorted(flat(server.asked)) == sorted(words(12))
    assert "damaged" not in "".join(error for _, error in done)


# ---- keys


@pytest.mark.parametrize("fault", ["", "server", "refused", "malformed", "unauthorized", "echo"])
def test_the_key_reaches_no_log_no_error_and_no_file(
    fault: str, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "plain gateway words")
    caplog.set_level(logging.DEBUG)
    with Embeddings(fault, fail_all=fault) as server:
        encoder, said = make(server, attempts=2, headers_env={"x-gateway": "GATEWAY_KEY"}), ""
        try:
            encoder.encode(words(3))
        except InputError as error:
            said = str(error)
        assert bool(said) == bool(fault)
        assert server.misbehaving.bodies
    assert fault not in ("refused", "echo") or "[redacted]" in said
    kept = b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())
    for secret in (KEY, "plain gateway words"):
        assert secret not in caplog.text + said + encoder.fingerprint + str(list(cache.rglob("*")))
        assert secret.encode() not in kept


def test_a_missing_key_names_its_variable_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUTEWRIGHT_TEST_KEY")
    encoder = make("https://example.invalid/v1")
    assert len(encoder.fingerprint) == 64
    with pytest.raises(InputError, match="the environment variable ROUTEWRIGHT_TEST_KEY"):
        encoder.encode(words(1))
    with Embeddings(key=None) as server:  # a loopback server needs none
        assert make(server).encode(words(1)).shape == (1, D)


# ---- what it is


def test_fingerprint_changes_with_what_the_vectors_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    base = OpenAIEncoder().fingerprint
    quick: dict[str, Any] = {
        "batch_size": 3,
        "concurrency": 2,
        "encoding": "float",
        "usd_per_million": 3.0,
        "key_env": "OTHER",
        "attempts": 2,
    }
    assert OpenAIEncoder(**quick).fingerprint == base
    assert OpenAIEncoder(base_url="https://API.openai.com:443/v1/").fingerprint == base
    changes: list[dict[str, Any]] = [{"model": "m"}, {"dimensions": 3}, {"max_bytes": 9}, {"base_url": "https://api.openai.com/v2"}]
    made = {OpenAIEncoder(**change).fingerprint for change in [*changes, {"base_url": "http://localhost:8000/v1"}]}
    assert len(made | {base}) == 6
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.example/v1")
    assert OpenAIEncoder().fingerprint not in made | {base}


@pytest.mark.parametrize("part", ["onnx", "tokenizer"])
def test_it_cannot_be_exported_and_says_what_to_do(part: str) -> None:
    assert not OpenAIEncoder.exportable
    with pytest.raises(InputError, match=r"cannot be a graph.*train with a local encoder: encoder=minilm"):
        getattr(OpenAIEncoder(), part)()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("hello", "one str"),
        (["fine", None], r"texts\[1\] is not text"),
        (["a\ud800"], r"texts\[0\] is not Unicode text"),
        (["fine", ""], r"texts\[1\] is empty"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_its_place(texts: Any, message: str) -> None:
    with Embeddings() as server:
        with pytest.raises(InputError, match=message):
            make(server).encode(texts)
        assert not server.misbehaving.bodies


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 0),
        ("batch_bytes", True),
        ("dimensions", 0),
        ("max_bytes", 3),
        ("concurrency", 0),
        ("attempts", 1.5),
        ("backoff_s", -1),
        ("timeout_s", 0),
        ("max_usd", float("nan")),
        ("usd_per_million", -1),
        ("usd_per_million", {"text-embedding-3-small": "cheap"}),
        ("encoding", "json"),
        ("base_url", "ftp://x"),
    ],
)
def test_settings_out_of_range_are_named(setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=re.escape(f".{setting}")):
        OpenAIEncoder(**{setting: value}).encode(words(1))


def test_the_config_makes_an_encoder() -> None:
    made = instantiate(OmegaConf.load(CONFIG))
    assert isinstance(made, Encoder)
    prices = {"text-embedding-3-small": 0.02, "text-embedding-3-large": 0.13}
    assert vars(made) | {"usd_per_million": prices} == vars(OpenAIEncoder(usd_per_million=prices)) | {"endpoint": made.endpoint} | {
        "fingerprint": OpenAIEncoder().fingerprint
    }
