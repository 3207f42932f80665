"""What a bundle decides for one query, as plain data: the ranked models, the chosen one, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from routewright.core.types import InputError

T = TypeVar("T")

# why a model was chosen
ROUTED, UNFAMILIAR, EXPLORED, PINNED, SWITCHED = "routed", "out of distribution", "explored", "pinned", "switched"


class Ranked(NamedTuple):
    """A model that may be called: its predicted quality, its expected cost in USD a query (None: not known), and what it is worth.

    worth is quality - knob * cost at the operating point, the cost as the bundle's policy counts it (core/policy.py).
    """

    model: str
    quality: float
    expected_usd: float | None
    worth: float


class Decision(NamedTuple):
    """One decision.

    model: the one to call, ranked[0]; the others follow in the order in which to fall back on them. confidence: the calibrated chance that
    its answer is right, the predicted quality cut to [0, 1]. reason: routed, out of distribution (then the fallback model is called),
    explored, pinned or switched (of a session). propensity: with which chance this model was chosen. familiarity: how near the query lies
    to what the router was trained on, None where the bundle cannot tell. bundle: the seal of bundle.json, the artifact's hash.
    """

    model: str
    ranked: tuple[Ranked, ...]
    point: str
    confidence: float
    reason: str
    out_of_distribution: bool
    familiarity: float | None
    propensity: float
    tokens: int
    bundle: str

    def described(self) -> dict[str, Any]:
        """As JSON: what the endpoint answers and what a gateway may log."""
        return self._asdict() | {"ranked": [row._asdict() for row in self.ranked]}


def at(points: Mapping[str, T], name: str) -> T:
    """What a bundle has at a named operating point. Raises InputError, listing its points, for one that it does not have."""
    if name not in points:
        expected = "one of " + ", ".join(points)
        raise InputError(f"operating point {name!r} is not in the bundle", expected=expected, found=repr(name))
    return points[name]


def asked(query: str | Sequence[Mapping[str, Any]], turns: int, separator: str) -> str:
    """The text that a decision reads: a string as it is; of chat messages the last user turn, after at most `turns` user turns before it.

    Raises InputError for messages in another form than the chat completions API has, and where no user turn holds text.
    """
    if isinstance(query, str):
        return query
    if not isinstance(query, Sequence):
        raise InputError("a query is neither text nor messages", expected="str or a list of messages", found=type(query).__name__)
    said = [text for i, message in enumerate(query) if (text := _user_text(message, i))]
    if not said:
        raise InputError("no user turn holds text", expected='a message {"role": "user", "content": "..."}', found=f"{len(query)} messages")
    return separator.join(said[-(turns + 1) :])


def _user_text(message: Any, place: int) -> str:
    """The text of a user's message, "" for any other role; of content in parts the text parts."""
    where = f"messages[{place}]"
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InputError("a message has no role", where=where, expected='{"role": ..., "content": ...}', found=str(message)[:60])
    if message["role"] != "user":
        return ""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content):
        texts = [part.get("text") for part in content if part.get("type") == "text"]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(str(text) for text in texts)
    raise InputError("a user's message has no text", where=where, expected="content: str or parts", found=type(content).__name__)
