"""The causal-LLM router by hand: score tokens, the prompt around a query, special tokens that a user types, the published score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

from routewright.core.hub import model_folder
from routewright.core.types import InputError, Outcomes, Pool, Queries
from routewright.routers._training import Recipe
from routewright.routers.bert import architecture
from routewright.routers.causal_llm import CausalLLM, enclosed, require_small, spread
from tests.tiny_lm import make_model

QUICK: dict[str, Any] = {"max_tokens": 48, "epochs": 1, "validation": 0.0, "threads": 1, "precision": "float32", "checkpoints": False}
POCKET = CausalLLM().model
OPEN, ANSWER = 0, 1  # <|q|> and <|a|> of the pocket models


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_model(tmp_path_factory.mktemp("tiny")))


def outcomes(quality: Any, text: list[str] | None = None) -> Outcomes:
    quality = np.asarray(quality, dtype=float)
    names = np.array([f"q{i}" for i in range(len(quality))], dtype=object)
    words = names if text is None else np.array(text, dtype=object)
    return Outcomes(Queries(names, words, names), Pool(tuple("abc"[: quality.shape[1]])), quality, np.ones(quality.shape))


def fitted(model: str, table: Outcomes, **options: Any) -> CausalLLM:
    return CausalLLM(model=model, **{**QUICK, **options}).fit(table, rng=np.random.default_rng(0))


def prompted(model: str, **options: Any) -> Tokenizer:
    """The tokenizer as a router with these options keeps it, truncating at max_tokens."""
    router, folder = CausalLLM(model=model, **{**QUICK, **options}), model_folder(model)
    made = router._prompted(Tokenizer.from_file(str(folder / "tokenizer.json")), folder)
    made.enable_truncation(router.max_tokens)
    return Tokenizer.from_str(made.to_str())  # as a gateway loads it


# ---- scores


def test_a_grade_lies_on_the_two_scores_beside_it() -> None:
    found = spread(np.array([[0.0, 1.0], [0.5, 0.3]]), 5)
    assert found[0].tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert found[1] == pytest.approx(np.array([[0, 0, 1, 0, 0], [0, 0.8, 0.2, 0, 0]]))
    grades = np.linspace(0, 1, 13)
    assert spread(grades, 4) @ np.arange(4) / 3 == pytest.approx(grades)


def test_only_observed_cells_are_targets() -> None:
    row, target, weight = CausalLLM(scores=3)._targets(outcomes([[0.25, np.nan], [np.nan, np.nan], [1, 0]]))
    assert row.tolist() == [0, 2]
    assert target.tolist() == [[0.5, 0.5, 0, 1, 0, 0], [0, 0, 1, 1, 0, 0]]
    assert weight.tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]


def test_the_loss_is_the_mean_cross_entropy_of_observed_cells() -> None:
    """Chances .2, .3, .5 against the grade .25, and a cell that was not observed."""
    import torch

    router = CausalLLM(scores=3)
    _, target, weight = router._targets(outcomes([[0.25, np.nan], [1, 1]]))
    outputs = torch.tensor(np.log([[0.2, 0.3, 0.5, 0.9, 0.05, 0.05], [0.1, 0.1, 0.8, 0.3, 0.3, 0.4]]))
    found = float(router._loss(outputs, torch.tensor(target), torch.tensor(weight)))
    assert found == pytest.approx((-0.5 * np.log(0.2) - 0.5 * np.log(0.3) - np.log(0.8) - np.log(0.4)) / 3)


def test_fractional_grades_are_learned_as_they_are(tiny: str) -> None:
    table = outcomes(np.tile([0.3, 0.9], (60, 1)))
    assert fitted(tiny, table).predict(table.queries).quality == pytest.approx(np.tile([0.3, 0.9], (60, 1)), abs=0.02)


# ---- the prompt


def test_the_query_stands_in_the_models_own_chat() -> None:
    made = AutoTokenizer.from_pretrained(model_folder(POCKET))
    for text in ("34 - 8 = ?", "Write UXM backwards."):
        chat = made.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
        ids = prompted(POCKET).encode(text).ids
        assert ids == made(chat, add_special_tokens=False)["input_ids"]
        assert (ids[0], ids[-1]) == (OPEN, ANSWER)


def test_a_long_query_loses_its_end_and_the_prompt_nothing() -> None:
    plain = Tokenizer.from_file(str(model_folder(POCKET) / "tokenizer.json"))
    text, template = "Sort 7, 24, 46, lowest to highest. " * 20, "Hard?\n{query}\nScore: "
    before, whole, after = (plain.encode(part).ids for part in ("Hard?\n", text, "\nScore: "))
    made = prompted(POCKET, template=template, max_tokens=32)
    room = 32 - len(before) - len(after)
    assert made.encode(text).ids == [OPEN, *before, *whole[: room - 2], *after, ANSWER]
    assert made.encode_batch_fast([text])[0].ids == made.encode(text).ids
    assert prompted(POCKET, template=template, max_tokens=32, chat=False).encode(text).ids == [*before, *whole[:room], *after]
    assert made.encode("").ids == [OPEN, *before, *after, ANSWER]


def test_a_system_message_goes_before(tmp_path: Path) -> None:
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[bot]{% endif %}"
    folder = make_model(tmp_path, template=template)
    made = prompted(str(folder), system="Judge.", template="How hard is {query}?")
    assert bytes_of(made, "this") == "[system]Judge.[user]How hard is this?[bot]"


def bytes_of(made: Tokenizer, text: str) -> str:
    return made.decode(made.encode(text).ids, skip_special_tokens=False)


@pytest.mark.parametrize("text", ["<|a|>", "hi<|e|><|q|>you", "<|pad|>", "<<|a|>|a|>"])
def test_special_tokens_that_a_user_types_are_text(text: str) -> None:
    made = prompted(POCKET)
    ids = made.encode(text).ids
    assert (ids[0], ids[-1]) == (OPEN, ANSWER)
    assert min(ids[1:-1]) > 3
    assert made.decode(ids[1:-1], skip_special_tokens=False) == text


def with_added(*tokens: AddedToken, first: str = "") -> Tokenizer:
    """Bytes, and these tokens behind them; first: one that is put before every text."""
    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_tokens(list(tokens))
    if first:
        made.post_processor = processors.TemplateProcessing(single=[first, "$A"], special_tokens=[(first, made.token_to_id(first))])
    return made


def test_tokens_that_are_not_special_stay_and_keep_their_ids() -> None:
    plain = with_added(AddedToken("<s>", special=True), AddedToken("<tool>"), AddedToken("<user>"))
    assert plain.encode("<s><tool><user>").ids == [256, 257, 258]
    made = enclosed(plain, [258], [])  # <user> is not marked as special, but the prompt is made of it
    ids = made.encode("<tool><s><user>").ids
    assert ids[:2] == [258, 257]
    assert max(ids[2:]) < 256
    assert len(ids) == 2 + len("<s><user>")


def test_a_tokenizers_own_first_token_stays_first_outside_a_chat(tiny: str, tmp_path: Path) -> None:
    plain = with_added(AddedToken("<s>", special=True), first="<s>")
    router = CausalLLM(chat=False, template="Q: {query}", max_tokens=8)
    made = router._prompted(plain, tmp_path)
    made.enable_truncation(8)
    expected = [256, *plain.encode("Q: abcd", add_special_tokens=False).ids]
    assert made.encode("abcdefgh").ids == expected


def test_a_special_token_that_cannot_be_kept_out_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"stop": 0, "go": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["stop"])
    with pytest.raises(InputError, match="'stop' is read from a text"):
        enclosed(words, [0], [])


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"template": "no place"}, "template"),
        ({"template": "{query} {query}"}, "template"),
        ({"scores": 1}, "score tokens"),
        ({"published": True, "score_threshold": 1}, r"2 \.\. 5"),
        ({"published": True, "score_threshold": 6}, r"2 \.\. 5"),
        ({"max_tokens": 129}, "at most 128"),
        ({"max_tokens": 4}, "no room"),
        ({"system": "x", "chat": False}, "part of a chat"),
    ],
)
def test_unusable_options_are_refused(tiny: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        fitted(tiny, outcomes([[0, 1], [1, 1]]), **options)


def test_published_is_for_two_models(tiny: str) -> None:
    with pytest.raises(InputError, match="two models"):
        fitted(tiny, outcomes([[0, 1, 1]]), published=True)


def test_a_model_that_cannot_chat_says_so(tmp_path: Path) -> None:
    folder = str(make_model(tmp_path, template=None))
    with pytest.raises(InputError, match=r"router\.chat=false"):
        fitted(folder, outcomes([[0, 1]]))
    assert prompted(folder, chat=False).encode("two").ids == Tokenizer.from_file(f"{folder}/tokenizer.json").encode("two").ids


def test_a_chat_template_that_loses_the_message_is_refused(tmp_path: Path) -> None:
    folder = str(make_model(tmp_path, template="{{ messages[0].content | upper }}"))
    with pytest.raises(InputError, match="whole"):
        fitted(folder, outcomes([[0, 1]]))


def test_a_model_too_large_for_a_bundle_is_refused_before_it_is_loaded() -> None:
    shape = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "vocab_size": 128256}
    with pytest.raises(InputError, match="too large"):
        require_small({"model_type": "llama", **shape})
    require_small({"model_type": "gpt2"})  # 124 million


def test_gpt2s_dropouts_are_set_too() -> None:
    made = architecture({"model_type": "gpt2"}, 0.25)
    assert (made.resid_pdrop, made.embd_pdrop, made.attn_pdrop) == (0.25, 0.25, 0.25)


def test_it_takes_every_option_of_a_training() -> None:
    assert set(Recipe.__dataclass_fields__) <= set(vars(CausalLLM()))


# ---- published


def test_the_published_router_scores_the_weak_model_alone(tiny: str) -> None:
    """The second model is the weak one; the strong one's grades leave no trace, and a query the weak model fails has the higher gain."""
    rng = np.random.default_rng(0)
    hard = rng.random(240) < 0.5
    text = [f"{'prove' if h else 'say'} {i}" for i, h in enumerate(hard)]
    weak, steep = np.where(hard, 0.0, 1.0), {"lr": 5e-3, "batch_size": 16, "epochs": 3}
    one = fitted(tiny, outcomes(np.stack([np.ones(240), weak], axis=1), text), published=True, **steep)
    other = np.stack([np.where(rng.random(240) < 0.9, 1.0, np.nan), weak], axis=1)
    two = fitted(tiny, outcomes(other, text), published=True, **steep)
    assert one._config()["weak"] == 1
    assert all(np.array_equal(value, two.weights_[name]) for name, value in one.weights_.items())
    names = np.array(["prove 500", "say 500"], dtype=object)
    strong, scored = one.predict(Queries(names, names, names)).quality.T
    assert strong[0] - scored[0] > strong[1] - scored[1] + 0.2
    assert strong + scored == pytest.approx(np.ones(2), abs=1e-6)


def test_training_begins_at_the_base_rates(tiny: str) -> None:
    """Grades of 0 and 1 lie on the end scores; the three between have the least share, .0025 each of a total of 1.0075."""
    router = fitted(tiny, outcomes([[1, 1], [1, 1], [0, 1], [1, 1]]), published=True)
    chance = np.exp(router._config()["bias"])
    assert chance == pytest.approx([0.25, 0.0025, 0.0025, 0.0025, 0.75])
    quality = (
        fitted(tiny, outcomes([[1, 1], [1, 1], [0, 1], [1, 1]]), published=True, lr=1e-9, head_lr=1e-9).predict(router_queries()).quality
    )
    assert quality[:, 0] == pytest.approx([0.7525 / 1.0075], abs=0.05)  # what the small random rows add


def router_queries() -> Queries:
    names = np.array(["q"], dtype=object)
    return Queries(names, names, names)
