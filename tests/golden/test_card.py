"""The router card: the verdict first, every figure with its interval, nothing made up, and Markdown that no name can break out of."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from routewright.core.card import card
from tests.gateway_bundles import tiny_bundle

MODEL = {"variant": "", "expected_usd": 1e-4, "usd_per_call": 0.0, "usd_per_million": {"input": 0.1, "cached_input": None, "output": 0.4}}
POINT = {
    **{"knob": 0.25, "quality": 0.5, "quality_ci": [0.4, 0.6], "cost": 2e-4, "difference": -0.00001, "ci": [-0.01, 0.02]},
    **{"promise": "quality", "promised": 0.95, "realised": 0.9, "realised_ci": [0.85, 0.93], "kept": False, "note": "far off"},
    **{"share": {"small": 0.75, "large": 0.25}, "chosen_on": {"what": "calibration split", "n": 40}},
}
SAID: dict[str, Any] = {
    "format": 2,
    "kind": "router",
    "name": "train-x",
    "models": [{"name": "small", **MODEL}, {"name": "large", **MODEL, "expected_usd": None}],
    "prices": {"date": "2024-07-01", "source": "list prices"},
    "policy": {"name": "threshold", "weak": "small", "strong": "large"},
    "operating_points": {"quality-95": POINT, "cheapest": {"knob": 1e12}},
    "fallback": "large",
    "familiarity": {"least": -1.5, "strange": 0.01, "told": "a distance"},
    "conversation": {"turns": 2, "separator": "\n"},
    "guarantee": None,
    "encoder": {"fingerprint": "ab" * 16, "max_tokens": 256},
    "data": {"name": "pocket", "revision": "r1", "licence": "MIT", "content_sha256": "cd" * 32},
    "labels": "clean",
    "metrics": {
        **{"apgr": 0.61, "apgr_ci": [0.5, 0.7], "n_test": 100, "n_train": 300, "usage": "estimated", "withheld": {"cpt50": "too noisy"}},
        "models": {"small": {"quality": 0.3, "quality_ci": [0.2, 0.4]}},
    },
    "verdict": {"word": "hurts", "sentence": "x hurts: -1.00 [-2.00, -0.10].", "unbeaten": ["group"], "difference": -0.01, "ci": None},
    "golden": [{"text": "a"}] * 64,
    "sha256": {"router.onnx": "1" * 64, "CARD.md": "2" * 64, "bundle.json": "3" * 64},
}


def parsed(text: str) -> list[Token]:
    """Blocks and what stands inside them, as another reader of Markdown sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [token for outer in tokens for token in (outer, *(outer.children or ()))]


def cells(text: str) -> list[list[str]]:
    """Every table row as its cells."""
    rows: list[list[str]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for here, after in pairwise(tokens):
        if here.type == "tr_open":
            rows.append([])
        if here.type in ("td_open", "th_open"):
            rows[-1].append(after.content)
    return rows


def test_the_verdict_comes_first_and_every_figure_has_its_interval() -> None:
    text = card(SAID)
    assert text.splitlines()[:3] == ["# Router `train-x`", "", "**x hurts: -1.00 [-2.00, -0.10].**"]
    rows = {row[0]: row[1:] for row in cells(text)}
    assert rows["`quality-95`"] == [
        *("95.0 % of the best quality", "90.0 % [85.0 %, 93.0 %]", "no", "0.500 [0.400, 0.600]", "0.2", "+0.00 [-1.00, +2.00]"),
    ]
    assert rows["`cheapest`"] == ["–"] * 6
    assert rows["`small`"] == ["0.300 [0.200, 0.400]", "0.1", "0.1", "–", "0.4", "0"]
    assert rows["`large`"][:2] == ["–", "–"]
    assert rows["APGR"] == ["0.610 [0.500, 0.700]"]
    for line in (
        *("Prices of 2024-07-01: list prices.", "Costs rest on tokens counted by a tokenizer.", "- `cpt50` is withheld: too noisy."),
        *("- licence: MIT", "- labels: clean", "- training queries: 300", "up to 2 user turns before it", "the first 256 tokens of a text"),
        *("A query below -1.500, as 1.0 % of the training queries' own are, goes to `large`.", "There is no guarantee."),
        *("knob 0.25; `small` 75.0 %, `large` 25.0 %; chosen on 40 queries (calibration split); far off.", "64 golden vectors"),
        *("do not deploy it to save money", "what knows less: group", f"- `router.onnx` {'1' * 64}", 'point="quality-95"'),
    ):
        assert line in text, line
    assert "2" * 64 not in text, "its own hash, which cannot be known"
    assert "3" * 64 not in text, "the hash of what holds the card's"


def test_what_is_not_known_is_said_to_be_so() -> None:
    bare = deepcopy(SAID) | {"prices": None, "familiarity": None, "data": {}, "metrics": {}, "operating_points": {}, "encoder": None}
    del bare["sha256"], bare["golden"]
    text = card(bare)
    for line in ("Prices: not known.", "cannot tell a query unlike its training data", "- licence: not known", "None is recorded."):
        assert line in text, line
    assert "None]" not in text
    assert "nan" not in text


def test_a_cascade_s_card() -> None:
    said = deepcopy(SAID) | {"kind": "cascade", "cascade": "Consensus", "needs": ["score", "said"]}
    said["operating_points"]["quality-95"]["rule"] = {"kind": "posterior"}
    del said["policy"], said["familiarity"]
    text = card(said)
    for line in ("# Cascade `train-x`", "(Consensus)", "rule `posterior`", 'CascadeBundle.load("bundle", said=...)', "needs score, said"):
        assert line in text, line
    assert "`POST /v1/cascade`" in text
    assert "LiteLLM" not in text
    assert "`POST /v1/route`.\nIn LiteLLM" in card(SAID)


def test_the_card_of_a_written_bundle_shows_how_to_load_it(tmp_path: Path) -> None:
    """The lines that the card tells to run are run."""
    folder = tiny_bundle(tmp_path / "bundle")
    text = card(json.loads((folder / "bundle.json").read_text()))
    (code,) = [token.content for token in parsed(text) if token.type == "code_block"]
    found: dict[str, Any] = {}
    exec(code.replace('"bundle"', repr(str(folder))), found)
    assert found["decision"].model in ("small", "large")


hostile = st.one_of(
    st.text(min_size=1), st.sampled_from(["<b>", "a|b", "`", "``x`", "[a](http://b)", "*", "*x*", "_x_", "&lt;", "\ud800", "\\|", "\n# x"])
)


@given(name=hostile, sentence=hostile, source=hostile)
def test_no_text_breaks_out(name: str, sentence: str, source: str) -> None:
    said = deepcopy(SAID)
    said["models"][0]["name"] = said["name"] = said["fallback"] = name
    said["operating_points"] = {name: POINT | {"note": source, "share": {name: 1.0}}}
    said["verdict"] |= {"sentence": sentence, "unbeaten": [source]}
    said["prices"]["source"] = said["models"][1]["variant"] = source
    text = card(said)
    text.encode()  # no lone surrogate is left
    whole = parsed(text)
    assert not {token.type for token in whole} & {"html_inline", "html_block", "link_open", "image", "em_open", "fence"}
    assert [token.tag for token in whole if token.type == "heading_open"] == ["h1", *["h2"] * 9]
    assert {len(row) for row in cells(text)} == {7, 2}


@pytest.mark.parametrize("word", ["helps", "no evidence that it helps", "hurts"])
def test_only_what_helps_goes_without_a_warning(word: str) -> None:
    said = deepcopy(SAID)
    said["verdict"]["word"] = word
    assert ("do not deploy" in card(said)) == (word != "helps")
