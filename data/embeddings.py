"""Texts to unit vectors by an OpenAI-compatible embeddings endpoint: each text is asked for once, and kept on disk the moment it comes.

RouteLLM's routers were trained on text-embedding-3-small (Ong et al. 2024, arXiv:2406.18665).
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn

import numpy as np

from routewright.core.files import cache_dir, json_bytes, sha256
from routewright.core.types import Floats, InputError
from routewright.data.embeddings_ask import Asker, Endpoint, Spent, TextRefusedError, batches
from routewright.data.encoders import BAR_FROM, checked_texts
from routewright.data.limits import Limits
from routewright.data.tokens import count_tokens
from routewright.data.vectors import Keep, cached_parts, whole

if TYPE_CHECKING:
    import onnx

ASK_VERSION = 1  # raise it when the code changes what a text's row is: it is part of the fingerprint
ANSWER_BYTES = 200_000_000  # 2,048 texts of 3,072 floats written out are less
CHARACTER = 4  # bytes of the longest one in UTF-8

log = logging.getLogger("routewright")


@dataclass(kw_only=True, eq=False)
class OpenAIEncoder:
    """An embeddings endpoint behind core.contracts.Encoder; no key is read and nothing is asked before a text is not in the cache.

    base_url: None for $OPENAI_BASE_URL, else OpenAI's own. key_env: the environment variable with the key, None for no key; a loopback
    server needs none. headers_env: header -> environment variable, for gateways with keys of their own. dimensions: the server shortens its
    vectors to so many; None: the model's own. max_bytes: a longer text is cut there, at a character; None: the server refuses what is too
    long for it. A token of a byte-level tokenizer, as OpenAI's are, is a byte or more: 8191 bytes always fit into 8,191 tokens.

    batch_size: texts a request. batch_bytes: UTF-8 bytes a request, and so a bound on its tokens; a longer text is asked for alone.
    encoding: base64, a third of the bytes, or float, for a server that knows nothing else; either is read. concurrency: requests in flight.
    attempts: requests for one batch; backoff_s: a wait is drawn between 0 and this, doubled each time up to backoff_max_s, and a server's
    Retry-After is the least that is waited. timeout_s: of one request, to its last byte.

    usd_per_million: USD per million tokens, a number or model -> number; None, or another model: not known. max_usd: the most that one
    `encode` may spend, by an estimate of its tokens before anything is sent and by the server's counts afterwards; None: no limit.
    """

    exportable: ClassVar[bool] = False  # an endpoint cannot be a graph

    model: str = "text-embedding-3-small"
    base_url: str | None = None
    key_env: str | None = "OPENAI_API_KEY"
    headers_env: Mapping[str, str] | None = None
    dimensions: int | None = None
    max_bytes: int | None = None
    batch_size: int = 256
    batch_bytes: int = 300_000
    encoding: str = "base64"
    concurrency: int = 4
    attempts: int = 5
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    timeout_s: float = 120.0
    usd_per_million: float | Mapping[str, float] | None = None
    max_usd: float | None = None
    progress: bool = True

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over model, host and path of the server, dimensions, normalisation, max_bytes and this code's version. Asks nothing.

        A provider that changes the model behind a name changes nothing here: name a model that is pinned where there is one.
        Raises InputError for a base_url that is none.
        """
        return self._hash(self.max_bytes)

    def encode(self, texts: Sequence[str]) -> Floats:
        """[n,d] float32 unit rows in the order of `texts`, read-only and memory-mapped from the cache; [0,d] for no texts.

        Asks for what the cache does not hold, each text once; d of no texts is 0 where neither dimensions nor the cache tell it. What was
        spent is logged in one line. Raises InputError for a value that is not Unicode text, an empty text, a text that the server refuses,
        settings out of range, a missing key, a budget too small, and a server that fails; answers that had come are kept, and not paid for
        again.
        """
        self._check()
        rows = self._sendable(texts)
        if not rows:
            return np.zeros((0, self.dimensions or self._known_width() or 0), np.float32)
        try:
            return cached_parts(self._folder, rows, self._compute)
        except TextRefusedError as refusal:
            found = f"{refusal.why} for {len(refusal.text.encode())} bytes that begin {refusal.text[:40]!r}"
            mend = "If it is too long, shorten it, leave it out, or set encoder.max_bytes, where every longer text is cut."
            where = f"texts[{rows.index(refusal.text)}]"
            raise InputError("the server refuses a text", where=where, expected="embeddings", found=found, mend=mend) from None

    def onnx(self) -> onnx.ModelProto:
        """Raises InputError."""
        self._refuse_export()

    def tokenizer(self) -> str:
        """Raises InputError."""
        self._refuse_export()

    @cached_property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            base_url=self.base_url,
            api_key_env=self.key_env,
            headers_env=self.headers_env,
            timeout_s=self.timeout_s,
            answer_bytes=ANSWER_BYTES,
        )

    @cached_property
    def limits(self) -> Limits:
        """Raises InputError by name for a value out of range."""
        try:
            return Limits(
                concurrency=self.concurrency,
                attempts=self.attempts,
                backoff_s=self.backoff_s,
                backoff_max_s=self.backoff_max_s,
                timeout_s=self.timeout_s,
                budget_usd=self.max_usd,
            )
        except InputError as error:
            what = error.what.replace("limits.budget_usd", "encoder.max_usd").replace("limits.", "encoder.")
            raise InputError(what, expected=error.expected, found=error.found) from None

    @property
    def _folder(self) -> Path:
        """Rows are kept by the text that was sent, so cutting at another length pays for the cut texts alone."""
        return cache_dir() / "embeddings" / self._hash(None)

    def _hash(self, max_bytes: int | None) -> str:
        server = self.endpoint.url.partition("://")[2]
        depends = {"model": self.model, "server": server, "dimensions": self.dimensions, "max_bytes": max_bytes}
        return sha256(json_bytes({**depends, "normalised": True, "version": ASK_VERSION}))

    def _known_width(self) -> int | None:
        """d of the rows in the cache."""
        for path in sorted(self._folder.glob("*.npy")):
            if whole(path):
                return int(np.load(path, mmap_mode="r", allow_pickle=False).shape[1])
        return None

    def _price(self) -> float | None:
        found = self.usd_per_million
        return found.get(self.model) if isinstance(found, Mapping) else found

    def _check(self) -> None:
        """Raises InputError by name for a setting out of range."""
        for name, least in {"batch_size": 1, "batch_bytes": 1, "dimensions": 1, "max_bytes": CHARACTER}.items():
            value = getattr(self, name)
            if value is None and name in ("dimensions", "max_bytes"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"encoder.{name} is out of range", expected=f"a whole number of {least} or more", found=repr(value))
        if self.encoding not in ("base64", "float"):
            raise InputError("unknown encoder.encoding", expected="base64 or float", found=repr(self.encoding))
        price = self._price()
        number = isinstance(price, int | float) and not isinstance(price, bool) and math.isfinite(price) and price >= 0
        if price is not None and not number:
            raise InputError("encoder.usd_per_million is no price", expected="a number of 0 or more", found=repr(price))
        if self.limits.budget_usd is not None and price is None:
            mend = "Give it: encoder.usd_per_million=..., or set encoder.max_usd=null."
            raise InputError("a budget cannot be kept without a price", expected=f"a price of {self.model!r}", found="none", mend=mend)

    def _sendable(self, texts: Sequence[str]) -> list[str]:
        """The texts as they are sent: cut where max_bytes says so."""
        rows = checked_texts(texts)
        if "" in rows:
            mend = "Leave it out, or give it a text."
            raise InputError(f"texts[{rows.index('')}] is empty", expected="text: an endpoint embeds nothing else", found="''", mend=mend)
        if self.max_bytes is None:
            return rows
        return [text.encode()[: self.max_bytes].decode("utf-8", "ignore") for text in rows]

    def _compute(self, texts: list[str], keep: Keep) -> None:
        """Asks for distinct texts; each batch is kept as it comes."""
        from tqdm import tqdm

        endpoint, spent = self.endpoint, Spent(self._price())
        _ = endpoint.key, endpoint.headers  # a missing key is told before the first request
        self._refuse_forecast(texts, spent)
        extra = {"encoding_format": self.encoding} | ({} if self.dimensions is None else {"dimensions": self.dimensions})
        width = self.dimensions or self._known_width()
        show = self.progress and len(texts) > BAR_FROM and sys.stderr.isatty()
        try:
            with tqdm(total=len(texts), unit="text", desc="embedding", disable=not show, file=sys.stderr) as bar:
                asker = Asker(endpoint, self.model, extra, width, self.limits, spent, keep, bar.update)
                asker.run(list(batches(texts, self.batch_size, self.batch_bytes)))
        finally:
            log.info("%s: %s", self.model, spent.line())

    def _refuse_forecast(self, texts: list[str], spent: Spent) -> None:
        if self.max_usd is None:
            return
        forecast = spent.usd_of(sum(count_tokens(texts)))
        if forecast > self.max_usd:
            found = f"USD {forecast:.6g} for {len(texts)} texts, by an estimate of their tokens"
            mend = "Nothing was asked. Raise it, encode fewer texts, or take a local encoder (encoder=minilm)."
            raise InputError("encoder.max_usd is too small", expected=f"at most USD {self.max_usd:g}", found=found, mend=mend)

    def _refuse_export(self) -> NoReturn:
        what = f"the embeddings of {self.model!r} come from a server, which cannot be a graph"
        mend = "To export, train with a local encoder: encoder=minilm, or encoder=sentence_transformer encoder.model=..."
        raise InputError(what, expected="an encoder that can be exported", found="encoder=openai", mend=mend)
