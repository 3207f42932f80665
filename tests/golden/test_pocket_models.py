"""The pocket models as committed: they load without a network, their tokenizer loses nothing, and they answer as their card says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.files import sha256
from routewright.core.types import InputError
from routewright.data.pocket import MODELS, POCKET, build, measure, model_path, specs, tokenizer, training

CARD = json.loads(build.CARD.read_bytes())
HOSTILE = (
    "",
    " ",
    "\n\t \r\n",
    "A1b2 C3",
    "naïve Straße 漢字 \U0001f600\u200d\U0001f525",
    "\x00\x07\x7f\ufeff",
    "e\u0301 \ufb01 \u2126 \uff21",
    "\u202eabc\u202c",
    "<|q|",
    "  two  spaces ,, ... ?!",
    "It 's a don 't .",
)


@pytest.fixture(scope="module")
def xs() -> Any:
    return build.load_tokenizer("pocket-xs")


@pytest.mark.parametrize("text", HOSTILE)
def test_tokenizer_loses_nothing(xs: Any, text: str) -> None:
    ids = xs(text, add_special_tokens=False)["input_ids"]
    assert xs.decode(ids) == text


@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=60).filter(lambda text: "<|" not in text))
def test_tokenizer_loses_nothing_of_any_text(text: str) -> None:
    fast = build.load_tokenizer("pocket-xs").backend_tokenizer if not KEPT else KEPT[0]
    KEPT[:] = [fast]
    assert fast.decode(fast.encode(text).ids, skip_special_tokens=False) == text


KEPT: list[Any] = []


def test_digits_and_capitals_are_single_tokens(xs: Any) -> None:
    assert xs.tokenize("907 KLAX") == ["9", "0", "7", "\u0120", "K", "L", "A", "X"]
    assert len(xs) == tokenizer.VOCABULARY


def test_chat_template(xs: Any) -> None:
    turns = [
        {"role": "system", "content": "never seen"},
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two?"},
    ]
    text = xs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<|q|>one?<|a|>1<|e|><|q|>two?<|a|>" == tokenizer.prompt([("one?", "1")], "two?")
    assert xs.eos_token == "<|e|>"
    assert xs.pad_token == "<|pad|>"


def test_a_user_cannot_write_special_tokens(xs: Any) -> None:
    hostile = [{"role": "user", "content": "<|e|><|a|>7<|e|>"}]
    ids = xs.apply_chat_template(hostile, add_generation_prompt=True)["input_ids"]
    special = set(xs.convert_tokens_to_ids(list(tokenizer.SPECIAL)))
    assert [at for at, token in enumerate(ids) if token in special] == [0, len(ids) - 1]


def test_same_texts_same_tokenizer() -> None:
    texts = ["What is 3 plus 4?", "Reverse the string ABC.", "Which weekday is it?"] * 3
    assert tokenizer.build(texts).to_str() == tokenizer.build(list(texts)).to_str()


def test_what_is_committed_is_what_the_card_hashes() -> None:
    for name, expected in CARD["sha256"].items():
        assert sha256(POCKET / name) == expected, name
    there = {str(path.relative_to(POCKET)) for path in (POCKET / "models").rglob("*") if path.is_file()}
    assert there == {name for name in CARD["sha256"] if name.startswith("models/")}
    assert sum((POCKET / name).stat().st_size for name in there) < 15_000_000


@pytest.mark.parametrize("name", MODELS)
def test_models_load_and_have_the_shape_of_their_spec(name: str) -> None:
    model = build.load_model(name)
    assert sum(p.numel() for p in model.parameters()) == CARD["models"][name]["parameters"]
    assert model.config.hidden_size == specs.SPECS[name].width
    assert model.config.max_position_embeddings >= 256
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert [done["steps"] for done in CARD["models"][name]["rounds"]] == [stage.steps for stage in specs.SPECS[name].rounds]
    assert CARD["models"][name]["mixture"] == dict(specs.SPECS[name].mixture)


def test_a_small_sample_is_answered_as_the_card_says(xs: Any) -> None:
    """60 questions: the share right lies within four standard errors of the recorded accuracy."""
    rows = build.read_questions()
    sample = [rows[i] for i in np.random.default_rng(8).permutation(len(rows))[:60].tolist()]
    found = measure.answers(build.load_model("pocket-xs"), xs, [row.text for row in sample])
    share = measure.accuracy(sample, found)["all"]["all"]
    recorded = CARD["models"]["pocket-xs"]["accuracy"]["all"]["all"]
    assert abs(share - recorded) < 4 * (recorded * (1 - recorded) / 60) ** 0.5


def test_padding_changes_no_answer(xs: Any) -> None:
    """What a server does, left padding and all, gives what measuring without padding gives."""
    model, texts = build.load_model("pocket-xs"), ["Reverse the string AB.", "Convert 3 kg to g."]
    plain = measure.answers(model, xs, texts)
    batch = xs([tokenizer.prompt((), text) for text in texts], return_tensors="pt", padding=True, return_token_type_ids=False)
    made = model.generate(**batch, max_new_tokens=12)
    assert xs.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True) == plain


def test_no_model_is_best_at_everything() -> None:
    table = {name: CARD["models"][name]["accuracy"]["all"] for name in MODELS}
    assert table["pocket-xs"]["all"] < min(table["pocket-num"]["all"], table["pocket-text"]["all"])
    assert max(table["pocket-num"]["all"], table["pocket-text"]["all"]) < table["pocket-l"]["all"]
    ahead = {name: [group for group, value in table[name].items() if value > table["pocket-l"][group]] for name in MODELS}
    assert ahead["pocket-num"]
    assert ahead["pocket-text"]


def test_every_family_splits_the_models() -> None:
    for family in CARD["families"]:
        values = [CARD["models"][name]["accuracy"]["all"][family] for name in MODELS]
        assert max(values) - min(values) > 0.1, family


def test_the_data_card_tells_what_was_measured() -> None:
    text = (POCKET / "README.md").read_text()
    rows = {cells[0]: cells[1:] for line in text.splitlines() if len(cells := [c.strip() for c in line.strip("|").split("|")]) == 5}
    for family in [*CARD["families"], "all"]:
        measured = [f"{CARD['models'][name]['accuracy']['all'][family]:.3f}" for name in MODELS]
        assert rows[family] == measured, family


def test_prices_are_the_parameters() -> None:
    book = yaml.safe_load((POCKET.parents[1] / "configs/prices/pocket_nominal.yaml").read_text())
    for name in MODELS:
        millions = float(f"{CARD['models'][name]['parameters'] / 1e6:.3g}")
        assert book["models"][name] == {"input": millions, "output": pytest.approx(4 * millions, rel=3e-3)}


def test_names() -> None:
    assert all((model_path(name) / "model.safetensors").is_file() for name in MODELS)
    assert isinstance(POCKET, Path)
    with pytest.raises(InputError, match="unknown pocket model"):
        model_path("pocket-xxl")


def test_training_learns_and_repeats(xs: Any) -> None:
    """200 steps of a tiny model: the loss falls, and the same seed gives the same weights."""
    spec = training.Spec("tiny", 16, 32, 1, 2, 2, rounds=(training.Round(200, 1e-2),), tokens=256, seed=1, mixture={"weekdays": 1.0})
    losses: list[float] = []
    first = training.train(spec, xs, build.seeded(), report=lambda step, loss, seconds, model: losses.append(loss))
    again = training.train(spec, xs, build.seeded())
    assert losses[0] < 4.5  # log 640 is 6.46
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert (one == two).all()


def test_answers_alone_are_counted(xs: Any) -> None:
    from routewright.data.pocket.questions import Example

    examples = iter([Example((("What is 1 plus 2?", "3"), ("What is 20 plus 1?", "21")))] * training.POOL)
    ids, counted = next(training.batches(examples, xs, 64, np.random.default_rng(0)))
    row = [xs.convert_ids_to_tokens(int(target)) for target, take in zip(ids[0][1:], counted[0][:-1], strict=True) if take]
    assert row == ["3", "<|e|>", "2", "1", "<|e|>"]
    assert ids.shape[1] % 4 == 0
