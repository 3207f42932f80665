"""The causal-LLM router against transformers: its numbers are the logits of tokens added to a language model, where the answer begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from routewright.core import graph
from routewright.core.types import Floats, Outcomes, Queries
from routewright.routers._training import padded
from routewright.routers.causal_llm import CausalLLM
from tests.conftest import make_outcomes
from tests.tiny_lm import make_model

QUICK: dict[str, Any] = {"max_tokens": 48, "epochs": 1, "validation": 0.0, "threads": 1, "precision": "float32", "checkpoints": False}
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def folder_of(kind: str, folder: Path) -> Path:
    """A tiny model of this kind beside the tokenizer and the chat template of tests/tiny_lm.py."""
    make_model(folder)
    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    ids = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(1)
    if kind == "gpt2":
        GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.4, **ids)).save_pretrained(folder)
    if kind == "gpt_neox":
        shape = {**SHAPE, "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.4}
        GPTNeoXForCausalLM(GPTNeoXConfig(**shape, **ids)).save_pretrained(folder)
    return folder


def fitted(folder: Path, **options: Any) -> tuple[CausalLLM, Outcomes]:
    outcomes = make_outcomes(np.random.default_rng(0), n=40, binary=False)
    router = CausalLLM(model=str(folder), lr=1e-3, head_lr=0.1, **{**QUICK, **options})
    return router.fit(outcomes, rng=np.random.default_rng(0)), outcomes


def logits_of_added_tokens(router: CausalLLM, folder: Path, texts: list[str]) -> Floats:
    """(n, added): the fine-tuned model with a larger vocabulary, asked one prompt at a time, and each added token's bias."""
    weights = {name: torch.from_numpy(value) for name, value in router.weights_.items()}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="sdpa").eval()
    model.base_model.load_state_dict({name.removeprefix("body."): value for name, value in weights.items() if name.startswith("body.")})
    added = len(weights["head.bias"])
    before = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(before + added, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[before:] = weights["head.weight"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            rows.append(model(input_ids=ids).logits[0, -1, before:] + weights["head.bias"])
    return torch.stack(rows).double().numpy()


def softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_quality_is_read_from_the_logits_of_added_tokens(kind: str, tmp_path: Path) -> None:
    folder = folder_of(kind, tmp_path)
    router, _ = fitted(folder)
    texts = ["what is two and two?", "say 7?", "question number 31, and a good deal longer?"]
    share = softmax(logits_of_added_tokens(router, folder, texts).reshape(3, 2, 5))
    assert np.ptp(share, axis=0).max() > 1e-3, "the queries differ"
    names = np.array(texts, dtype=object)
    found = router.predict(Queries(names, names, names)).quality
    assert np.abs(found - share @ [0, 0.25, 0.5, 0.75, 1]).max() < 1e-5


def test_the_published_win_rate_is_one_less_the_chance_of_a_high_score(tmp_path: Path) -> None:
    folder = folder_of("llama", tmp_path)
    router, outcomes = fitted(folder, published=True)
    texts = ["what is two and two?", "say 7?"]
    share = softmax(logits_of_added_tokens(router, folder, texts))
    assert share.shape == (2, 5)
    names = np.array(texts, dtype=object)
    found = router.predict(Queries(names, names, names)).quality
    weak = int(np.argmin(outcomes.quality.mean(axis=0)))
    assert np.abs(found[:, 1 - weak] - (1 - share[:, 3] - share[:, 4])).max() < 1e-5
    assert found.sum(axis=1) == pytest.approx(np.ones(2), abs=1e-6)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_padding_and_company_do_not_matter(kind: str, tmp_path: Path) -> None:
    router, outcomes = fitted(folder_of(kind, tmp_path))
    model = router.onnx()
    tokens = [np.array(ids) for ids in router._ids(["say 7?", *outcomes.queries.text[:5]], _tokenizer(router))]
    alone = graph.run(model, dict(zip(("input_ids", "attention_mask"), padded(tokens[:1], 0), strict=True)))
    ids, mask = padded([*tokens, np.full(40, 5)], 0)
    crowd = graph.run(model, {"input_ids": ids, "attention_mask": mask})
    rubbish = graph.run(model, {"input_ids": np.where(mask == 1, ids, 9), "attention_mask": mask})
    assert np.abs(crowd[:1] - alone).max() < 1e-6
    assert np.array_equal(rubbish, crowd)


def _tokenizer(router: CausalLLM) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(router.tokenizer())
