"""Follows a cascade for a sender that makes the calls itself: from the calls so far to the next one, or to who is served.

Nothing is kept between requests: each brings all calls, and they are gone through again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routewright.core.asking import Asking
from routewright.core.contracts import SAID
from routewright.core.types import InputError
from routewright.gateway.cascade import CascadeBundle, state

AGAIN = "Send the calls in the order in which they were made, for the same query and point, to the bundle that asked for them."


def step(bundle: CascadeBundle, asked: Mapping[str, Any], point: str) -> dict[str, Any]:
    """The state after the calls of a CascadeRequest, as JSON.

    Raises InputError, naming the call, for one that the cascade does not make there, and where something that a score or a vote rests on is
    missing; and as CascadeBundle.start does.
    """
    asking = bundle.start(asked["text"] if "text" in asked else asked["messages"], asked.get("point", point))
    for place, call in enumerate(asked.get("calls", ())):
        asking = _after(asking, call, f"calls[{place}]")
    return state(asking, bundle)


def _after(asking: Asking, call: Mapping[str, Any], where: str) -> Asking:
    if asking.next is None:
        expected = f"no further call: {asking.served.model!r} is served"
        raise InputError("the cascade has ended before this call", where=where, expected=expected, found=repr(call["model"]), mend=AGAIN)
    if call["model"] != asking.next:
        what, found = "the cascade does not make this call here", repr(call["model"])
        raise InputError(what, where=f"{where}.model", expected=repr(asking.next), found=found, mend=AGAIN)
    counts = SAID in asking.point.rule.needs
    if counts and "said" not in call:
        expected = "said: the part of the answer that counts, in one spelling, or null"
        raise InputError("this cascade compares what answers say", where=where, expected=expected, found="no said")
    try:
        return asking.answered_as(call["answer"], call["said"] if counts else None, call.get("recorded"))
    except InputError as error:
        raise InputError(error.what, where=where, expected=error.expected, found=error.found, mend=error.mend) from None
