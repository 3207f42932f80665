"""From arms and questions to the calls that must be made: which request answers which query, and which place it has in the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routewright.core.contracts import Backend
from routewright.core.types import Ints
from routewright.data.arms import Arm, Example, prompts
from routewright.data.calls import Ask, Request
from routewright.data.questions import Questions


@dataclass(frozen=True, eq=False)
class Plan:
    """The calls of one sweep over all questions (n) and arms (m).

    asks: every request once. key[n,m]: the request that answers a cell. place[n,m] and size[n,m]: the query is the place-th of size in it.
    """

    asks: Sequence[Ask]
    key: NDArray[np.object_]
    place: Ints
    size: Ints


@dataclass(frozen=True, eq=False)
class Planner:
    """What is the same in every sweep: arms, questions, examples for few-shot prompts, who answers. rng: purpose -> generator."""

    arms: Sequence[Arm]
    questions: Questions
    examples: Sequence[Example]
    backend: Backend
    rng: Callable[[str], np.random.Generator]
    logprobs: bool = False

    def identities(self) -> dict[str, str]:
        """endpoint of each model. Raises InputError for a model that nobody serves."""
        return {model: self.backend.identity(model) for model in dict.fromkeys(arm.model for arm in self.arms)}

    def sweep(self, *, sample: int = 0, temperature: float | None = None) -> Plan:
        """One answer to every question by every arm; sample and temperature (None: the arm's own) tell repeated draws apart.

        The few-shot examples of an arm are the same in every sweep.
        """
        shape = len(self.questions), len(self.arms)
        key, place, size = np.full(shape, None, dtype=object), np.zeros(shape, dtype=np.int64), np.ones(shape, dtype=np.int64)
        endpoints, asked = self.identities(), _Asked()
        text, group = self.questions.queries.text.tolist(), self.questions.queries.group.tolist()
        for j, arm in enumerate(self.arms):
            for prompt in prompts(arm, text, group, self.examples, rng=self.rng(f"shots {arm.name}")):
                request = Request(
                    endpoints[arm.model],
                    arm.model,
                    prompt.messages,
                    arm.temperature if temperature is None else temperature,
                    arm.max_tokens,
                    sample,
                    self.logprobs,
                    arm.extra,
                )
                rows = list(prompt.rows)
                key[rows, j] = asked.add(request, [str(self.questions.queries.id[row]) for row in rows])
                place[rows, j], size[rows, j] = np.arange(len(rows)), len(rows)
        return Plan(asked.asks(), key, place, size)


class _Asked:
    """Requests in order, each once, with every query it is made for: two queries of one text are one call."""

    def __init__(self) -> None:
        self.request: dict[str, Request] = {}
        self.queries: dict[str, list[str]] = {}

    def add(self, request: Request, ids: Iterable[str]) -> str:
        key = request.key()
        self.request.setdefault(key, request)
        self.queries.setdefault(key, []).extend(ids)
        return key

    def asks(self) -> list[Ask]:
        return [Ask(request, tuple(self.queries[key])) for key, request in self.request.items()]


def follow_up(
    cells: Mapping[tuple[int, ...], Sequence[tuple[str, str]]],
    model: Callable[[tuple[int, ...]], str],
    ids: Sequence[str],
    backend: Backend,
    *,
    max_tokens: int,
    extra: Mapping[str, Any] | None = None,
) -> tuple[list[Ask], dict[tuple[int, ...], str]]:
    """Second questions about answers: cell (its first number is the row) -> messages, and who is asked. The asks, and each cell's key."""
    asked, endpoint, place = _Asked(), {}, {}
    for cell, messages in cells.items():
        name = model(cell)
        if name not in endpoint:
            endpoint[name] = backend.identity(name)
        request = Request(endpoint[name], name, tuple((role, content) for role, content in messages), 0.0, max_tokens, extra=extra or {})
        place[cell] = asked.add(request, [ids[cell[0]]])
    return asked.asks(), place
