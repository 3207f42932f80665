"""The router card: what bundle.json says, for people, as Markdown. The verdict comes first; what is not known is said to be so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

DASH = "–"
KILO = 1000  # queries that an expected cost is told for
PROMISES = {
    "strong_share": "of calls to the strong model",
    "spend": "of the way to the best model's cost",
    "quality": "of the best quality",
}
TOLERANCE = "1e-4"  # what a consumer's scores may differ from the golden ones
# metric, its name, how it is written, where its interval stands
FIGURES = (
    ("apgr", "APGR", ".3f", "apgr_ci"),
    ("cpt50", "CPT(50), % of calls", ".1f", None),
    ("cpt80", "CPT(80), % of calls", ".1f", None),
    ("cost_saved_at_95", "cost saved at 95 % of the best model's quality", ".1%", "cost_saved_at_95_ci"),
    ("gap_recovered", "share of the gap from the best model to the oracle", ".1%", None),
    ("aiq", "AIQ", ".3f", None),
    ("aiq_fixed_mix", "AIQ of the best fixed mix", ".3f", None),
    ("auroc", "AUROC of the predicted qualities", ".3f", None),
    ("brier", "Brier score of the predicted qualities", ".3f", None),
    ("ece", "calibration error (ECE) of the predicted qualities", ".3f", None),
)
USAGE = {
    "measured": "the provider's own usage",
    "estimated": "tokens counted by a tokenizer",
    "nominal": "made-up prices",
    "none": "nothing",
}
LOADING = {
    "router": """\
    from routewright.gateway.bundle import Bundle
    bundle = Bundle.load("bundle")
    decision = bundle.decide("What is 3 times 4?", point={point})
    decision.model, decision.confidence, decision.reason""",
    "cascade": """\
    from routewright.gateway.cascade import CascadeBundle
    bundle = CascadeBundle.load("bundle"{said})
    asking = bundle.start("What is 3 times 4?", point={point})
    asking.next  # the model to ask; then asking.answered(...), until it is None""",
}

# the endpoint's route, and where else a bundle of this kind goes
SERVING = {
    "router": ("/v1/route", ".\nIn LiteLLM, Portkey and Node: docs/GATEWAY.md of routewright."),
    "cascade": ("/v1/cascade", ": docs/GATEWAY.md of routewright."),
}


def card(described: Mapping[str, Any]) -> str:
    """The card of a router's or a cascade's bundle, from bundle.json alone. Ends with a newline.

    described: bundle.json, sealed or not yet. Without `sha256` the card names no hashes; of those it leaves out bundle.json's and its own,
    which are made after it.
    """
    sections = (_head, _models, _points, _figures, _learned, _reads, _strange, _limits, _load, _checks)
    return "\n\n".join(text for section in sections if (text := section(described))) + "\n"


# ---- sections


def _head(said: Mapping[str, Any]) -> str:
    count, policy = len(said["models"]), said.get("policy")
    if said["kind"] == "cascade":
        does = f"It asks models one after the other, looks at their answers ({said['cascade']}), and serves one. It knows {count} models."
    elif policy is not None and policy["name"] == "threshold":
        rule = f"{_code(policy['strong'])} where its predicted gain is above the operating point's knob"
        does = f"It reads a query and chooses which of {count} models answers it: {rule}."
    else:
        rule = "the one with the best predicted quality minus knob times expected USD"
        does = f"It reads a query and chooses which of {count} models answers it: {rule}."
    return f"# {said['kind'].capitalize()} {_code(said['name'])}\n\n**{_text(said['verdict']['sentence'])}**\n\n{does}"


def _models(said: Mapping[str, Any]) -> str:
    judged, prices = said["metrics"].get("models", {}), said["prices"]
    rows = []
    for model in said["models"]:
        alone, per = judged.get(model["name"], {}), model["usd_per_million"]
        variant = f" ({_text(model['variant'])})" if model["variant"] else ""
        tokens = (_usd(per[kind]) for kind in ("input", "cached_input", "output"))
        expected, quality = _usd(model["expected_usd"], KILO), _with(alone.get("quality"), ".3f", alone.get("quality_ci"))
        rows.append((_code(model["name"]) + variant, quality, expected, *tokens, _usd(model["usd_per_call"])))
    heads = ("model", "quality alone", "USD / 1,000 queries", "input", "cached", "output", "USD a call")
    dated = "Prices: not known." if prices is None else f"Prices of {_text(prices['date'])}: {_text(prices['source'])}."
    usage = USAGE.get(said["metrics"].get("usage", ""))
    rest = f"\nCosts rest on {usage}." if usage else ""
    return f"## Models\n\n{_table(heads, rows)}\n\nInput, cached and output: USD for a million tokens.\n{dated}{rest}"


def _points(said: Mapping[str, Any]) -> str:
    points: Mapping[str, Mapping[str, Any]] = said["operating_points"]
    heads = ("point", "promised", "realised", "kept", "quality", "USD / 1,000 queries", "against the fixed mix")
    rows = [(_code(name), *_promise(row), *_judged(row)) for name, row in points.items()]
    notes = [line for name, row in points.items() if (line := _told(name, row))]
    listed = "\n".join(notes)
    n = said["metrics"].get("n_test")
    where = f"Realised, quality and cost: on {n} held-out queries, with 95 % intervals.\n" if n is not None else ""
    promise = _guarantee(said["guarantee"])
    return f"## Operating points\n\n{_table(heads, rows)}\n\n{where}{promise}" + (f"\n\n{listed}" if listed else "")


def _figures(said: Mapping[str, Any]) -> str:
    metrics = said["metrics"]
    rows = [(name, _with(metrics[key], form, metrics.get(ci or ""))) for key, name, form, ci in FIGURES if metrics.get(key) is not None]
    withheld = [f"- {_code(key)} is withheld: {_text(why)}." for key, why in (metrics.get("withheld") or {}).items()]
    parts = [_table(("figure", "value"), rows)] if rows else ["None is recorded."]
    return "\n\n".join(["## Figures on held-out queries", *parts, *(["\n".join(withheld)] if withheld else [])])


def _learned(said: Mapping[str, Any]) -> str:
    data, metrics = said["data"], said["metrics"]
    facts = {
        "data": data.get("name"),
        "revision": data.get("revision"),
        "licence": data.get("licence"),
        "sha256 of the table": data.get("content_sha256"),
        "labels": said["labels"],
        "training queries": metrics.get("n_train"),
        "test queries": metrics.get("n_test"),
    }
    return "## Learned from\n\n" + "\n".join(f"- {name}: {'not known' if value is None else _text(value)}" for name, value in facts.items())


def _reads(said: Mapping[str, Any]) -> str:
    encoder, turns = said["encoder"], said["conversation"]["turns"]
    if encoder is None:
        reads = "It reads no text before the first answer."
    else:
        most = (
            "a text is never cut"
            if encoder["max_tokens"] is None
            else f"the first {encoder['max_tokens']} tokens of a text, the rest is not read"
        )
        reads = f"Encoder {_code(encoder['fingerprint'][:12])}: {most}."
    turn = "of chat messages the last user turn" + (f" and up to {turns} user turns before it" if turns else " alone")
    return f"## What it reads\n\n{reads}\nIt sees text only, and {turn}."


def _strange(said: Mapping[str, Any]) -> str:
    known, fallback = said.get("familiarity"), _code(said["fallback"])
    if known is None:
        rule = f"This bundle cannot tell a query unlike its training data.\n{fallback} serves where the {said['kind']} fails."
    else:
        rare = f"as {_form(known['strange'], '.1%')} of the training queries' own are"
        sent = f"A query below {known['least']:.3f}, {rare}, goes to {fallback}."
        rule = f"Familiarity is {_text(known['told'])}.\n{sent}\nThe same model serves where the router fails."
    return f"## Queries unlike the training data\n\n{rule}"


def _limits(said: Mapping[str, Any]) -> str:
    unbeaten = said["verdict"].get("unbeaten") or []
    lines = [
        "For choosing among the models above, for queries like those it learned from, at these prices.",
        "Quality means the grades of those data. It says nothing of safety, tone or a user's satisfaction.",
        "Other models, other versions of them or other prices need a new export: the figures are of these.",
    ]
    if said["verdict"]["word"] != "helps":
        lines.insert(0, "It was not shown to beat a fixed mix of the models at the same cost: do not deploy it to save money.")
    if unbeaten:
        lines.append(f"It is not shown to beat what knows less: {', '.join(map(_text, unbeaten))}.")
    if said["kind"] == "cascade":
        lines.append(f"It needs {', '.join(said['needs']) or 'nothing but answers'}; every call it makes is paid, the unserved ones too.")
    return "## Use and limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _load(said: Mapping[str, Any]) -> str:
    point = "balanced" if "balanced" in said["operating_points"] else next(iter(said["operating_points"]), "balanced")
    code = LOADING[said["kind"]].format(point=json.dumps(point), said=", said=..." if "said" in said.get("needs", ()) else "")
    route, elsewhere = SERVING[said["kind"]]
    served = f"As an HTTP endpoint: `python -m routewright.gateway serve bundle`, `POST {route}`{elsewhere}"
    return f"## Load\n\n`pip install routewright`, then:\n\n{code}\n\nLoading verifies every file and refuses what was changed.\n\n{served}"


def _checks(said: Mapping[str, Any]) -> str:
    golden = f"bundle.json holds {len(said['golden'])} golden vectors." if "golden" in said else "bundle.json holds golden vectors."
    held = f"{golden} Another runtime must reproduce their scores to {TOLERANCE}, and their tokens exactly."
    seals = {name: value for name, value in said.get("sha256", {}).items() if name not in ("bundle.json", "CARD.md")}
    listed = "\n\n" + "\n".join(f"- {_code(name)} {value}" for name, value in seals.items()) if seals else ""
    return f"## Files\n\n{held}\nIts `sha256` lists the hash of every file.{listed}"


# ---- an operating point


def _promise(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """(promised, realised, kept)."""
    promise = row.get("promise")
    if promise is None:
        return DASH, DASH, DASH
    kept = {True: "yes", False: "no", None: DASH}[row.get("kept")]
    return f"{_form(row['promised'], '.1%')} {PROMISES[promise]}", _with(row.get("realised"), ".1%", row.get("realised_ci")), kept


def _judged(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """(quality, USD for 1,000 queries, points against the fixed mix)."""
    gain, ci = row.get("difference"), row.get("ci")
    above = _with(None if gain is None else 100 * gain, "+.2f", None if ci is None else [100 * end for end in ci])
    return _with(row.get("quality"), ".3f", row.get("quality_ci")), _usd(row.get("cost"), KILO), above


def _told(name: str, row: Mapping[str, Any]) -> str:
    """Knob, shares, where it was chosen and what went wrong, in one line of a list."""
    facts = [f"knob {row['knob']:.6g}"]
    if share := row.get("share"):
        facts.append(", ".join(f"{_code(model)} {_form(part, '.1%')}" for model, part in share.items() if part > 0))
    if (on := row.get("chosen_on")) is not None:
        facts.append(f"chosen on {on['n']} queries ({_text(on['what'])})")
    if "rule" in row:
        facts.append(f"rule {_code(row['rule']['kind'])}")
    if row.get("note"):
        facts.append(_text(row["note"]))
    return f"- {_code(name)}: {'; '.join(facts)}."


def _guarantee(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "A promise is what was aimed at where the point was chosen. There is no guarantee."
    return "Guarantee: " + ", ".join(f"{_text(key)} {_text(value)}" for key, value in found.items()) + "."


# ---- Markdown


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _with(value: Any, form: str, ci: Sequence[Any] | None = None) -> str:
    """A figure and its interval; a dash where it is not known."""
    if value is None or not isfinite(value):
        return DASH
    ends = [] if ci is None else [_form(end, form) for end in ci]
    return _form(value, form) + (f" [{', '.join(ends)}]" if ends else "")


def _form(value: float, form: str) -> str:
    """Without a minus before zero, and with a space before the percent sign."""
    return format(value, f"+z{form[1:]}" if form.startswith("+") else f"z{form}").replace("%", " %")


def _usd(value: float | None, times: int = 1) -> str:
    return DASH if value is None or not isfinite(value) else f"{value * times:.4g}"


def _code(name: Any) -> str:
    """A name as it is typed, in a code span that no name can leave."""
    text = _line(name)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{text}{space}{fence}"


def _text(value: Any) -> str:
    """One line of prose in which nothing is Markdown's or HTML's."""
    return re.sub(r"([\\`*<&]|\](?=[(\[:])|(?<!\w)_|_(?!\w))", r"\\\1", _line(value))


def _line(value: Any) -> str:
    """Any text on one line, without controls and lone surrogates; a dash where nothing is left."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", str(value)).strip() or DASH
