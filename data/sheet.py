"""What the calls of one sweep say, cell by cell: answer, tokens, USD, seconds, log-probabilities, from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routewright.core.prices import PriceBook
from routewright.core.types import TOKEN_KINDS, Floats, Strings
from routewright.data.arms import Arm, shares, split_answers
from routewright.data.calls import Call, Reply
from routewright.data.evidence import logprob_entropy, logprob_mean, logprob_min, logprob_span
from routewright.data.plan import Plan
from routewright.data.store import Store

NO_CALL = "failed"
TOLD = ("mean", "min", "span", "entropy")  # of the tokens of an answer


@dataclass(frozen=True, eq=False)
class Sheet:
    """n questions by m arms.

    answer: text; "" where the model gave none; None where nothing was observed. status: ok, empty, or NO_CALL where no call ended well.
    tokens by kind and usd: NaN where usage is not known; of a call that carries several queries each has its share. latency: seconds of
    the whole call. logprob_mean, logprob_min, logprob_span, logprob_entropy: NaN where the backend gave none, or where one call carries
    several answers.
    """

    answer: Strings
    status: Strings
    tokens: dict[str, Floats]
    usd: Floats
    latency: Floats
    logprob_mean: Floats
    logprob_min: Floats
    logprob_span: Floats
    logprob_entropy: Floats

    def text(self, cell: tuple[int, ...]) -> str | None:
        """The answer of one cell."""
        value: Any = self.answer[cell]
        return None if value is None else str(value)


def read_sheet(plan: Plan, arms: Sequence[Arm], store: Store, prices: PriceBook | None, extract: Callable[[str], str | None]) -> Sheet:
    """The sheet of a plan whose calls were made. extract: the grader's, for the log-probability of what counts in an answer."""
    shape = plan.key.shape
    answer, status = np.full(shape, None, dtype=object), np.full(shape, NO_CALL, dtype=object)
    numbers = {name: np.full(shape, np.nan) for name in (*TOKEN_KINDS, "usd", "latency", *TOLD)}
    for key, cells in _cells(plan.key).items():
        call = store.get(key)
        if call is None:
            continue
        size = int(plan.size[cells[0]])
        texts = _texts(call, size)
        counts = shares(call.reply.tokens, size, [len(text or "") for text in texts])
        told = _told(call.reply, extract) if size == 1 else {}
        for cell in cells:
            place, arm = int(plan.place[cell]), arms[cell[1]]
            answer[cell], status[cell] = texts[place], call.status
            for kind, count in counts[place].items():
                numbers[kind][cell] = count
            numbers["usd"][cell] = _usd(prices, arm.model, counts[place], size)
            numbers["latency"][cell] = call.reply.total_s
            for name, value in told.items():
                numbers[name][cell] = value
    tokens = {kind: numbers[kind] for kind in TOKEN_KINDS}
    return Sheet(answer, status, tokens, *(numbers[name] for name in ("usd", "latency", *TOLD)))


def _told(reply: Reply, extract: Callable[[str], str | None]) -> dict[str, float]:
    """What the tokens of one answer tell, by the names of TOLD; nothing without log-probabilities."""
    if reply.logprobs is None or reply.pieces is None:
        return {}
    told = {"mean": logprob_mean(reply.logprobs), "min": logprob_min(reply.logprobs), "entropy": logprob_entropy(reply.entropy or ())}
    counted = extract(reply.text)
    return told if counted is None else told | {"span": logprob_span(reply.logprobs, reply.pieces, reply.text, counted)}


def _cells(keys: NDArray[np.object_]) -> dict[str, list[tuple[int, int]]]:
    """The cells of every key: a batch's queries, or the rows of one text."""
    found: dict[str, list[tuple[int, int]]] = {}
    for row, column in np.ndindex(*keys.shape):
        key: Any = keys[row, column]
        if key is not None:
            found.setdefault(key, []).append((row, column))
    return found


def _texts(call: Call, size: int) -> Sequence[str | None]:
    """The call's answer to each of its queries. A model that stopped without a word answered nothing, and "" is graded as such; where no
    choice came back at all (no finish reason), nothing was observed."""
    if call.status != "ok":
        return ["" if call.reply.finish else None] * size
    return [text or "" for text in split_answers(call.reply.text, size)] if size > 1 else [call.reply.text]


def _usd(prices: PriceBook | None, model: str, tokens: dict[str, float], size: int) -> float:
    """USD of one query's share; a price of the call is divided evenly. NaN without prices or usage."""
    if prices is None or not tokens:
        return float("nan")
    return prices.usd(model, tokens) - prices.prices(model)["call"] * (1 - 1 / size)
