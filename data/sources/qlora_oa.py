"""OpenAssistant prompts answered by seven models and compared by GPT-4 in both orders, as the QLoRA paper recorded it, as battles.

Dettmers et al. 2023, arXiv 2305.14314. GPT-4's last line is 1 (the first answer is better), 2 (the second) or 3 (equivalent); upstream
writes -1 where that line is none of them. Clean labels are the published ones: what was not parsed is left out under either name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from routewright.core.types import Battles, Floats, InputError, Pool, Queries
from routewright.data.bias import corrected, position_bias
from routewright.data.sources._pinned import PinnedBattles
from routewright.data.sources._routellm import json_lines

NAN = float("nan")
OUTCOME = {"1": 1.0, "2": 0.0, "3": 0.5, "-1": NAN}  # of the first answer
CHOICES = {
    "orders": ("both", "consistent", "first"),
    "bias": ("none", "corrected"),
    "view": ("last", "conversation"),
    "group": ("conversation", "language"),
}
_TURN = re.compile(r"### (?:Human|Assistant):")
_PAIR = re.compile(r"(?P<first>.+?)-oa-generations.*?-vs-(?P<second>.+?)-oa-generations.*\.jsonl")


class Verdicts(NamedTuple):
    """queries (n), the pool of m models, and said[n,m,m]: [q, i, j] is what i got (1, .5, 0; NaN: unparsed) where i was shown before j."""

    queries: Queries
    pool: Pool
    said: Floats


@dataclass(frozen=True, kw_only=True)
class QLoRAOpenAssistant(PinnedBattles):
    """953 prompts, 7 models, 42 ordered pairs: 40,026 verdicts of GPT-4 as Battles. In each, `a` was shown first. No costs.

    Of the files only those are fetched that the kept models need. Clean labels are the published ones.
    orders: "both" (a battle of weight 1/2 for each order), "consistent" (one of weight 1 for each pair; orders that do not say the same
    make a tie, and an unparsed one leaves the pair out), "first" (weight 1; only the order in which `models` has them).
    bias: "corrected" splits every verdict into what a neutral judge would have said (data/bias.py), with the bias that all verdicts on the
    kept models show, whatever `orders` keeps; not under "consistent", which has no position left. "none" leaves them as they are.
    view: what a router reads of a conversation: "last", the user's last message, or all messages as "conversation", a blank line between
    two. group: "conversation" (prompts that begin with the same message are continuations of each other) or "language" (upstream's code).
    """

    orders: str = "both"
    bias: str = "none"
    view: str = "last"
    group: str = "conversation"

    def load(self) -> Battles:
        """Fetches and reads the verdicts. Raises InputError for settings that cannot be, and for files or rows that are not as pinned."""
        self._check()
        read = self._read
        if self.orders == "consistent":
            return _battles(read, _agreed(read.said), 1.0)
        whole = _battles(read, read.said, 0.5 if self.orders == "both" else 1.0)
        kept = whole
        if self.orders == "first":
            kept = _battles(read, np.where(np.triu(np.ones(read.said.shape[1:]), 1) > 0, read.said, NAN), 1.0)
        return corrected(kept, position_bias(whole)) if self.bias == "corrected" else kept

    def provenance(self) -> dict[str, Any]:
        """As of every pinned source, with settings and `battles`: verdicts by kind, consistency, position bias."""
        self._check()
        return {
            **super().provenance(),
            "notes": "GPT-4's verdicts as recorded, without those that were not parsed; clean is the same as published.",
            "settings": {name: getattr(self, name) for name in ("orders", "bias", "view", "group")},
            "battles": self._told(),
        }

    def _told(self) -> dict[str, Any]:
        """What all recorded verdicts on the kept models say, whatever `orders` keeps."""
        said = self._read.said
        m = said.shape[1]
        recorded = len(said) * m * (m - 1)
        counts = {name: int((said == value).sum()) for name, value in (("first", 1.0), ("second", 0.0), ("ties", 0.5))}
        upper = np.triu_indices(m, 1)
        there, back = said[:, *upper], 1 - said.transpose(0, 2, 1)[:, *upper]
        both = ~np.isnan(there) & ~np.isnan(back)
        told = {
            "verdicts": recorded,
            **counts,
            "unparsed": recorded - sum(counts.values()),
            "pairs_in_both_orders": int(both.sum()),
            "inconsistent_share": float((there != back)[both].mean()) if both.any() else None,
        }
        try:
            bias = position_bias(_battles(self._read, said, 1.0))
        except InputError as error:
            return {**told, "position_bias": None, "position_bias_unknown": str(error)}
        return {**told, "position_bias": bias.told()}

    def _check(self) -> None:
        super()._check()
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} of {self.name}", expected="one of " + ", ".join(known), found=repr(getattr(self, name)))
        if self.orders == "consistent" and self.bias == "corrected":
            raise InputError(
                f"{self.name} cannot correct what both orders already agree on",
                expected="bias=none with orders=consistent",
                found="bias=corrected",
                mend="Use data.orders=both or data.orders=first.",
            )

    def _needed(self) -> Mapping[str, str]:
        return {path: self.files[path] for path in self._paths().values()}

    def _paths(self) -> dict[tuple[str, str], str]:
        """The upstream path by (first, second) model, the questions' under ("", ""). InputError for a model or pair without a file."""
        found: dict[tuple[str, str], str] = {}
        for path in self.files:
            match = _PAIR.fullmatch(PurePosixPath(path).name)
            if match:
                found[match["first"], match["second"]] = path
            elif path.endswith("oa_questions.jsonl"):
                found["", ""] = path
        wanted = [("", ""), *permutations(self.models, 2)]
        missing = [pair for pair in wanted if pair not in found]
        if missing:
            where = " before ".join(missing[0]) if missing[0][0] else "the questions"
            known = ", ".join(sorted({name for pair in found for name in pair if name}))
            raise InputError(f"{self.name} has no file", where=where, expected=f"models among {known}", found=", ".join(self.models))
        return {pair: found[pair] for pair in wanted}

    @cached_property
    def _read(self) -> Verdicts:
        files = self._fetch()
        local = {pair: files[path] for pair, path in self._paths().items()}
        questions = list(json_lines(local.pop(("", ""))))
        place = {row["question_id"]: i for i, row in enumerate(questions)}
        said = np.full((len(questions), len(self.models), len(self.models)), NAN)
        for (first, second), path in local.items():
            said[:, self.models.index(first), self.models.index(second)] = _judged(path, place)
        return Verdicts(self._queries(questions), Pool(tuple(self.models)), said)

    def _queries(self, questions: Iterable[Mapping[str, Any]]) -> Queries:
        ids, texts, groups = [], [], []
        begun: dict[str, str] = {}
        for row in questions:
            turns = [turn.strip() for turn in _TURN.split(row["input"])]
            if len(turns) < 3 or turns[0] or turns[-1]:
                raise InputError(
                    "a question is not in upstream's form",
                    where=row["question_id"],
                    expected="### Human: ... ### Assistant:",
                    found=repr(row["input"][:40]),
                )
            ids.append(row["question_id"])
            texts.append(turns[-2] if self.view == "last" else "\n\n".join(turns[1:-1]))
            groups.append(row["lang"] if self.group == "language" else begun.setdefault(turns[1], row["question_id"]))
        return Queries(*(np.array(column, dtype=object) for column in (ids, texts, groups)))


def _judged(path: Path, place: Mapping[str, int]) -> Floats:
    """[n]: what the first answer got. InputError for a question that is unknown, judged twice or not at all, and for another score."""
    rows = [(row["message_id"], str(row["score"])) for row in json_lines(path)]
    times = Counter(name for name, _ in rows)
    wrong = [name for name in place if times[name] != 1] + [name for name in times if name not in place]
    if wrong:
        raise InputError(f"{path.name} does not judge every question once", where=wrong[0], expected="1", found=str(times[wrong[0]]))
    said = np.full(len(place), NAN)
    for name, score in rows:
        if score not in OUTCOME:
            raise InputError(f"{path.name} has an unknown verdict", where=name, expected=", ".join(OUTCOME), found=repr(score))
        said[place[name]] = OUTCOME[score]
    return said


def _agreed(said: Floats) -> Floats:
    """[n,m,m], the upper triangle alone: the verdict both orders gave, a tie where they differ, NaN where one was not parsed."""
    back = 1 - said.transpose(0, 2, 1)
    agreed = np.where(np.isnan(said) | np.isnan(back), NAN, np.where(said == back, said, 0.5))
    return np.where(np.triu(np.ones(said.shape[1:]), 1) > 0, agreed, NAN)


def _battles(read: Verdicts, said: Floats, weight: float) -> Battles:
    """One battle for each verdict that is not NaN, by query, then by the model shown first, then by the other."""
    query, a, b = np.nonzero(~np.isnan(said))
    return Battles(read.queries, read.pool, query, a, b, said[query, a, b], np.full(len(query), weight))
