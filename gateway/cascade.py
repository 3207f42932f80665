"""Loads a cascade's bundle, verifies every byte of it, and says for a query whom to call, what each answer is worth, and who is served.

    bundle = CascadeBundle.load("outputs/.../bundle", said=lambda answer: answer.split("####")[-1].strip() or None)
    asking = bundle.start("How many legs have three dogs?", point="balanced")
    while asking.next is not None:
        asking = asking.answered(call(asking.next, text))
    asking.served.answer

The decisions are those of the replay that judged the cascade. Needs numpy, onnxruntime and tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.asking import Asking, Point, Said, Served, played, scene, told
from routewright.core.contracts import SAID
from routewright.core.feeds import Front, Query, Scoring
from routewright.core.pairs import pair_tokenizer
from routewright.core.rules import restored
from routewright.core.text import unfolded
from routewright.core.types import Floats, InputError, Ints
from routewright.gateway.bundle import TOLERANCE, Bundle, unwarned, warn
from routewright.gateway.decisions import asked, at
from routewright.gateway.files import Files, opened
from routewright.gateway.tokens import Reader


class CascadeBundle:
    """An exported cascade. Make one with `CascadeBundle.load`; it keeps nothing of a query and may be shared by threads."""

    def __init__(self, described: dict[str, Any], front: Front | None, scoring: Scoring | None, said: Said | None) -> None:
        self.described, self._front, self._scoring = described, front, scoring
        self.models: tuple[str, ...] = tuple(model["name"] for model in described["models"])
        self.verdict: str = described["verdict"]["word"]
        self.hash: str = described["sha256"]["bundle.json"]
        scorer = described["scorer"]
        usd = _numbers([model["expected_usd"] for model in described["models"]])
        price = None if scorer is None or scorer["usd"] is None else _numbers(scorer["usd"])
        prior = None if described["usd_prior"] is None else _numbers(described["usd_prior"])
        self.points: dict[str, Point] = {
            name: Point(name, restored(point["rule"]), self.models, usd, scoring, price, prior, said)
            for name, point in described["operating_points"].items()
        }

    @classmethod
    def load(cls, path: str | Path, said: Said | None = None, *, threads: int = 1) -> CascadeBundle:
        """Verifies the sha256 of every file, then opens them.

        said: the part of an answer that counts, in one spelling, None where there is none; the cascades that compare answers need it.
        Raises InputError naming a file that is missing or changed, and where `said` is needed and not given. Warns as Bundle.load does.
        """
        described, data = opened(path, "cascade")
        bundle = cls.of(described, data, said, threads)
        warn(described)
        return bundle

    @classmethod
    def of(cls, described: dict[str, Any], data: Files, said: Said | None = None, threads: int = 1) -> CascadeBundle:
        """Of files that are verified already; raises as `load` does."""
        if SAID in described["needs"] and said is None:
            mend = "Hand in the rule that the data were judged by: CascadeBundle.load(path, said=...)."
            what = f"{described['cascade']} compares what answers say"
            expected = "said: a function from an answer to the part that counts"
            raise InputError(what, where=str(data.folder), expected=expected, found="none", mend=mend)
        front = scoring = None
        if "router.onnx" in data:
            reader = Reader(data.read("tokenizer.json"))
            front = Front(data.session("router.onnx", threads), _ids(reader), tuple(described["outputs"]))
        if "scorer.onnx" in data:
            scorer = described["scorer"]
            tokenizer = pair_tokenizer(data.read("scorer_tokenizer.json")) if scorer["kind"] == "pair" else None
            scoring = Scoring(scorer, data.session("scorer.onnx", threads), _numbers(scorer["untold"]), tokenizer)
        return cls(described, front, scoring, said)

    def read(self, query: str | Sequence[Mapping[str, Any]]) -> Query:
        """What is known of a query before any call, for every operating point. query: a text, or chat messages (the last user turn)."""
        text = asked(query, **self.described["conversation"])
        found = {} if self._front is None else self._front(text)
        prior = found["quality"][0] if "quality" in found else None
        return Query(text, prior, found.get("embedding"), None if self._scoring is None else self._scoring.asked(text))

    def start(self, query: str | Sequence[Mapping[str, Any]] | Query, point: str = "balanced") -> Asking:
        """Nobody asked yet: `next` is the first model to call. Raises InputError for a point that is not in the bundle."""
        return at(self.points, point).start(query if isinstance(query, Query) else self.read(query))

    def ask(self, text: str, call: Callable[[str, str], str | None], point: str = "balanced") -> Served:
        """The answer that is served, by call(model, text). For signals that read recorded numbers take `start` and hand them in."""
        asking = self.start(text, point)
        while asking.next is not None:
            asking = asking.answered(call(asking.next, text))
        return asking.served

    def check_golden(self, tolerance: float = TOLERANCE) -> float:
        """The largest difference of a prior or a score to the golden vectors.

        Raises InputError above `tolerance`, and for any other decision: another runtime, another bundle.
        """
        golden = self.described["golden"]
        texts = [unfolded(item["text"]) for item in golden]
        worst = max(self._golden(i, item, texts) for i, item in enumerate(golden))
        if not worst <= tolerance:
            raise InputError("the bundle scores differently here", expected=f"within {tolerance:g}", found=f"{worst:.2g}")
        return worst

    def _golden(self, place: int, item: Mapping[str, Any], texts: Sequence[str]) -> float:
        query, given = self.read(texts[place]), scene(item, texts)
        worst = 0.0 if item["prior"] is None or query.prior is None else float(np.abs(query.prior - np.array(item["prior"])).max())
        for model, wanted in enumerate(item["scores"] or []):
            if wanted is not None and self._scoring is not None:
                got = self._scoring(query, model, given.answers[model], given.recorded[model])
                worst = max(worst, abs(float(got) - wanted))
        for name, decided in item["points"].items():
            done = told(played(self.start(query, name), *given))
            if done != decided:
                raise InputError(
                    "the bundle decides differently here", where=f"golden {place}, {name}", expected=str(decided), found=str(done)
                )
        return worst


def quiet(path: Path, said: Said | None = None, *, threads: int = 1) -> CascadeBundle:
    """CascadeBundle.load without the warning, for those who say the verdict themselves."""
    with unwarned():
        return CascadeBundle.load(path, said, threads=threads)


def either(path: Path, *, threads: int = 1) -> Bundle | CascadeBundle:
    """The bundle of a router or of a cascade, whichever lies there, without the warning. Raises InputError as their `load` does.

    A cascade that compares what answers say gets that handed in with every answer: Asking.answered_as.
    """
    described, files = opened(path, None)
    if described["kind"] == "cascade":
        return CascadeBundle.of(described, files, handed_in, threads)
    return Bundle.of(described, files, threads)


def handed_in(answer: str) -> str | None:
    """In place of a rule that reads what an answer says, where senders know it and the gateway does not."""
    raise InputError("what counts of an answer is not known here", expected="said, handed in with the answer", found="the answer alone")


def state(asking: Asking, bundle: CascadeBundle) -> dict[str, Any]:
    """A state as JSON, no answer in it: whom to call next or who is served, and what led there."""
    served = asking.served if asking.next is None else None
    return {
        "next": asking.next,
        "looks": asking.looks,
        "served": None if served is None else {"model": served.model, "score": served.score},
        "called": list(asking.called),
        "scores": asking.scores,
        "expected_usd": asking.expected_usd,
        "reason": asking.reason,
        "point": asking.point.name,
        "bundle": bundle.hash,
    }


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _ids(reader: Reader) -> Callable[[str], Ints]:
    def ids(text: str) -> Ints:
        found = reader([text])
        return found.ids[0, : found.counts[0]]

    return ids
