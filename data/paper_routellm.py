"""What RouteLLM's routers learn from: its arena battles and judge labels (arXiv 2406.18665, section 4.1), or recorded stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from routewright.core.judged import judged
from routewright.core.types import Battles, Floats, InputError, Outcomes
from routewright.data import duels
from routewright.data.mix import Lesson, Mixing, lesson

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
RECIPES = ("arena", "augmented")
SHORTEST = 16  # characters of a prompt that is learned from, as in the paper
NEAREST = 0.95  # cosine to a judged prompt from which on a prompt is left out, as in the paper
SHORT_NAMES = {"mixtral-8x7b-instruct-v0.1": WEAK}


class Kind(NamedTuple):
    """A table by its data config: what it is in words, which of its models stand for the pair, and whether the paper learned from it."""

    said: str
    names: Mapping[str, str]
    papers: bool = False


KINDS: Mapping[str, Kind] = {
    "qlora_oa": Kind(
        "OpenAssistant prompts, 7 models compared by GPT-4; gpt-4 stands for the strong model, gpt-3.5 and vicuna-13b for the weak",
        {"gpt-4": STRONG, "gpt-3.5": WEAK, "vicuna-13b": WEAK},
    ),
    "lmsys_arena_55k": Kind("Chatbot Arena, votes of its visitors", SHORT_NAMES, papers=True),
    "routellm_gpt4": Kind("GPT-4's scores of the weak model's answers", SHORT_NAMES, papers=True),
    "routellm_mmlu": Kind("both models' recorded outcomes on MMLU, as battles", {}),
    "routellm_gsm8k": Kind("both models' recorded outcomes on GSM8K, as battles", {}),
}


class Taught(NamedTuple):
    """What a router learns from: the lesson, in words, for the record, and whether all of it is the paper's own data."""

    learn: Lesson
    said: str
    told: dict[str, Any]
    papers: bool


@dataclass(eq=False)
class Library:
    """Lessons for each benchmark and recipe; nothing of the judged benchmark is in them.

    load: data config -> its table. encode: texts -> [n,d], to keep further prompts away from the judged ones, and for routers that read it.
    tiers: battles -> {model: tier}, 0 the best. arena, judge: the data configs of the arena and of the judge labels (None: there are none).
    """

    load: Callable[[str], Outcomes | Battles]
    encode: Callable[[Sequence[str]], Floats]
    tiers: Callable[[Battles], Mapping[str, int]]
    arena: str = "qlora_oa"
    judge: str | None = None
    tables_: dict[str, Outcomes | Battles] = field(default_factory=dict, init=False)

    def sources(self, benchmark: str, recipe: str) -> tuple[str, ...]:
        """The data configs of a recipe ("arena" or "augmented"). The paper augments with judge labels, for MMLU with MMLU's validation
        part; without those, here, with the outcomes of another benchmark.
        """
        if recipe not in RECIPES:
            raise InputError("unknown recipe", expected=" or ".join(RECIPES), found=repr(recipe))
        if recipe == "arena":
            return (self.arena,)
        if benchmark == "mmlu":
            return (self.arena, "routellm_gsm8k")
        return (self.arena, self.judge or "routellm_mmlu")

    def teach(self, benchmark: str, outcomes: Outcomes, recipe: str, *, supervision: str, pair: bool) -> Taught:
        """The lesson for a router of this supervision, judged on the encoded `outcomes`.

        pair: it can learn of two models alone. Then the two top tiers of the paper's arena are strong and the third is weak,
        as in the paper, and of other tables the battles of the judged models stay. Raises InputError as data/mix.py and data/duels.py do.
        """
        names = self.sources(benchmark, recipe)
        pair = pair or supervision == "outcomes"
        tables: dict[str, Outcomes | Battles] = {}
        cuts: dict[str, dict[str, Any]] = {}
        for name in names:
            table = self._table(name)
            if pair and isinstance(table, Battles):
                table, cuts[name] = self._by_tiers(table, name) if name == "lmsys_arena_55k" else (_of_pair(table, name), {})
            tables[name] = graded(table) if supervision == "outcomes" else table
        aliases = {old: new for name, table in tables.items() for old, new in KINDS[name].names.items() if old in table.pool.name}
        learn = lesson(outcomes, None, tables, Mixing(own=0.0, names=aliases, only=pair, nearest=NEAREST), self.encode)
        said = " + ".join(f"{learn.told[name]['queries']:,} of {name}" for name in names)
        told = {name: {"what": KINDS[name].said, **learn.told[name], **cuts.get(name, {})} for name in names}
        return Taught(learn, said, told, all(KINDS[name].papers for name in names))

    def _table(self, name: str) -> Outcomes | Battles:
        """The table, without short prompts where it holds battles, read once."""
        if name not in self.tables_:
            table = self.load(name)
            self.tables_[name] = duels.long_enough(table, SHORTEST) if isinstance(table, Battles) else table
        return self.tables_[name]

    def _by_tiers(self, table: Battles, name: str) -> tuple[Battles, dict[str, Any]]:
        """Battles of the two top tiers, as the strong model, against the third, as the weak one; and who is in them."""
        tier = self.tiers(replace(table, queries=table.queries.encoded(self.encode(list(table.queries.text)))))
        weak, strong = [m for m, t in tier.items() if t == 2], [m for m, t in tier.items() if t < 2]
        if not weak:
            found = f"{len(set(tier.values()))} tiers of {len(tier)} models"
            raise InputError("too few tiers for a weak and a strong one", where=name, expected="three or more", found=found)
        pair = duels.relabelled(duels.as_pair(table, weak, strong), {"weak": WEAK, "strong": STRONG})
        return pair, {"weak": weak, "strong": strong}


def _of_pair(table: Battles, name: str) -> Battles:
    """The battles between the judged models, or those that stand for them."""
    return duels.among(duels.relabelled(table, KINDS[name].names), (WEAK, STRONG))


def graded(table: Outcomes | Battles) -> Outcomes:
    """Battles as the share of them that each model won on a query, for routers of outcomes; queries without a battle are left out."""
    if isinstance(table, Outcomes):
        return table
    shares = judged(table)
    return shares.take(shares.observed())
