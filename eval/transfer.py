"""Other pairs, without retraining: which of the judged data's models stand for the weak and the strong one that a router was trained on.

RouteLLM judges its routers on model pairs that they were not trained on (arXiv 2406.18665, "Generalizing to other model pairs").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routewright.core.types import InputError, Outcomes
from routewright.eval.points import Promise
from routewright.eval.ruler import choose_pair

MENDS = "Say which stand for its weak and strong one: roles={weak: NAME, strong: NAME}, pairs=[[WEAK,STRONG],...] or transfer=true."
# what the predicted quality of other models says nothing of
MEANINGLESS = ("brier", "ece", "reliability", "auroc")


@dataclass(frozen=True)
class Roles:
    """The models of the judged data that take the weak and the strong model's place. Raises InputError where they are one."""

    weak: str
    strong: str

    def __post_init__(self) -> None:
        if self.weak == self.strong:
            raise InputError("one model cannot be both roles", expected="two different models", found=f"{self.weak} twice")

    def __str__(self) -> str:
        return f"{self.weak} -> {self.strong}"


@dataclass(frozen=True)
class Wanted:
    """What the user says of other pairs. named: the pairs to judge, in order. automatic: find them where none is named."""

    named: tuple[Roles, ...] = ()
    automatic: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any], *, other_data: bool) -> Wanted:
        """From the config's roles {weak, strong}, pairs [[weak, strong], ...] and transfer. other_data: whether data=... was given.

        Raises InputError for what is no pair, for both at once, and for any of them where the runs are judged on their own data.
        """
        roles = [(settings.get("roles") or {}).get(name) for name in ("weak", "strong")]
        given, pairs = any(name is not None for name in roles), settings.get("pairs")
        if given and pairs is not None:
            raise InputError("roles and pairs say the same", expected="one of them", found="both", mend="Give all of them as pairs=[...].")
        if given:
            named: tuple[Roles, ...] = (_roles(roles, "roles"),)
        else:
            named = () if pairs is None else _pairs(pairs)
        automatic = bool(settings.get("transfer"))
        if (named or automatic) and not other_data:
            raise InputError(
                "a run's own data have its own pair", expected="other data", found="data=null", mend="Name them: data=zeroeval_gsm, ..."
            )
        return cls(named, automatic)

    def on(self, trained: Sequence[str], table: Outcomes, where: str) -> tuple[Roles | None, ...]:
        """The pairs of `table` on which to judge a router of the models `trained`; None: the models are its own, each in its own place.

        What is named goes first; else equal names; else, with transfer=true, a pair's cheaper and dearer model (choose_pair). Raises
        InputError for a name that the table lacks, for a router of more than two models, and where nothing says what stands for what.
        """
        names = table.pool.name
        if not self.named and set(names) == set(trained):
            return (None,)
        if not self.named and not self.automatic:
            raise InputError(
                "this run routes between other models",
                where=where,
                expected=", ".join(trained),
                found=", ".join(names),
                mend=MENDS if len(trained) == 2 else "",
            )
        if len(trained) != 2:
            raise InputError(
                "only a router of a pair can be judged on other pairs",
                where=where,
                expected="2 models",
                found=f"{len(trained)}",
                mend="Train one with data.models=[weak,strong].",
            )
        for name in (name for roles in self.named for name in (roles.weak, roles.strong)):
            if name not in names:
                raise InputError("a role is no model of the data", where=repr(name), expected="one of " + ", ".join(names))
        return self.named or (_found(table),)


def _found(table: Outcomes) -> Roles:
    names = table.pool.name
    if len(names) != 2:
        mend = "Choose two, data.models=[weak,strong], or name them: roles={weak: NAME, strong: NAME} or pairs=[[WEAK,STRONG],...]."
        raise InputError("transfer=true cannot choose a pair", expected="data of 2 models", found=f"{len(names)}", mend=mend)
    pair = choose_pair(table)
    return Roles(names[pair.weak], names[pair.strong])


def _roles(names: Sequence[Any], where: str) -> Roles:
    if len(names) != 2 or not all(isinstance(name, str) and name for name in names):
        found = ", ".join(map(repr, names))
        raise InputError("a pair needs two names", where=where, expected="the weak and the strong model", found=found or "nothing")
    return Roles(*names)


def _pairs(given: Any) -> tuple[Roles, ...]:
    rows = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    if not rows or any(isinstance(row, str) or not isinstance(row, Sequence) for row in rows):
        raise InputError("pairs are no list of pairs", expected="[[weak, strong], ...]", found=str(given))
    found = tuple(_roles(list(row), "pairs") for row in rows)
    if len(set(found)) < len(found):
        raise InputError("a pair stands twice", where="pairs", expected="each once", found=", ".join(map(str, found)))
    return found


def placed(trained: Sequence[str], promise: Promise, roles: Roles) -> tuple[str, ...]:
    """The judged models in the order of the router's columns `trained`."""
    stands = {promise.weak: roles.weak, promise.strong: roles.strong}
    return tuple(stands[name] for name in trained)


def reason(promise: Promise) -> str:
    """Why the predicted qualities themselves mean nothing here."""
    return f"the router predicts the quality of {promise.weak} and {promise.strong}: of other models only the order of its gains is judged"


def moved(metrics: Mapping[str, Any]) -> bool:
    """Whether these figures are of another pair than the router was trained on."""
    trained = metrics.get("transfer")
    return trained is not None and any(trained[role] != metrics[role] for role in ("weak", "strong"))


def carried(promise: Promise, roles: Roles) -> Promise:
    """The same operating points for another pair; each one's note says that it was chosen for the first."""
    told = f"chosen for {Roles(promise.weak, promise.strong)} and carried over"
    chosen = {}
    for name in promise.knobs:
        facts = promise.chosen.get(name, {})
        chosen[name] = {**facts, "note": "; ".join(filter(None, (facts.get("note"), told)))}
    return Promise(promise.knobs, promise.policy, roles.weak, roles.strong, chosen)


def rows(judged: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The transfer table: of every judgement by name whose metrics hold `transfer`, its run, its pair and the figures to compare."""
    out = []
    for name, metrics in judged.items():
        if metrics.get("transfer") is None:
            continue
        kept = ("weak", "strong", "n_test", "seen", "apgr", "apgr_ci")
        short = metrics["controls"].get("short_first", {}).get("apgr")
        verdict = {key: metrics["verdict"][key] for key in ("difference", "ci", "word")}
        row = {"name": name, "run": metrics["transfer"]["run"]} | {key: metrics[key] for key in kept}
        out.append(row | {"routellm": metrics["routellm"], "short_first_apgr": short} | verdict)
    return out
