"""The encoder's promises on a tiny random model: order, limits, cache, damage, concurrency, and what it refuses."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.contracts import Encoder
from routewright.core.types import InputError
from routewright.data import encoders, vectors
from routewright.data.encoders import SentenceEncoder
from tests.reference.test_encoders import MINILM_SHA, make_model

CONFIGS = Path(__file__).parents[2] / "configs" / "encoder"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in `model`, and a cache that holds nothing but its export in `cache`."""
    home = tmp_path_factory.mktemp("encoder")
    make_model(home / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROUTEWRIGHT_CACHE", str(home / "cache"))
        SentenceEncoder(str(home / "model")).onnx()
    return home


def make(home: Path, **settings: Any) -> SentenceEncoder:
    return SentenceEncoder(str(home / "model"), **{"threads": 1, **settings})


def one(home: Path, pattern: str) -> Path:
    (path,) = (home / "cache").glob(pattern)
    return path


def test_rows_follow_the_input_and_repeats_are_computed_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["hello world", "the cat", "hello world", "two plus three " * 9, "the cat", "a"]
    encoder = make(home, batch_size=2)
    seen: list[int] = []
    run = SentenceEncoder._run
    monkeypatch.setattr(SentenceEncoder, "_run", lambda self, ids, pad: seen.extend(len(row) for row in ids) or run(self, ids, pad))
    vectors = encoder.encode(texts)
    assert seen == sorted(seen, reverse=True) == [16, 4, 4, 3]
    assert isinstance(vectors, np.memmap)
    assert (vectors.shape, vectors.dtype, vectors.flags.writeable) == ((6, 32), np.float32, False)
    np.testing.assert_array_equal(vectors[[0, 1]], vectors[[2, 4]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


def test_same_list_same_bytes_whatever_the_batch_and_the_cache(home: Path) -> None:
    texts = [f"{word} " * (count % 19) for count, word in enumerate(["cat", "dog", "ran", "mat"] * 12)]
    first = make(home).encode(texts).tobytes()
    shutil.rmtree(home / "cache" / "embeddings")
    assert make(home).encode(texts).tobytes() == first
    shutil.rmtree(home / "cache" / "embeddings")
    np.testing.assert_allclose(make(home, batch_size=1).encode(texts).ravel(), np.frombuffer(first, np.float32), atol=1e-6)


def test_no_texts_give_no_rows(home: Path) -> None:
    assert make(home).encode([]).shape == (0, 32)


def test_hostile_texts(home: Path) -> None:
    texts = [
        "",
        " ",
        "\x00\x01\x07",
        "😀",
        "[SEP]",
        "[CLS] the [MASK]",
        "\u202e\u200b",
        "x" * 100_000,
        "cat " * 25_000,
        "!" * 100_000,
        "中" * 100_000,
    ]
    start = time.process_time()
    vectors = make(home).encode(texts)
    assert time.process_time() - start < 5
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[1])  # nothing but white space is nothing


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("hello", "one str"),
        (["fine", None], r"texts\[1\] is not text"),
        (["fine", float("nan")], r"texts\[1\] is not text: expected str, found float nan"),
        (["a\ud800"], r"texts\[0\] is not Unicode text.*at character 1"),
    ],
)
def test_what_is_not_text_is_refused_by_its_place(home: Path, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(home).encode(texts)


def test_a_text_without_tokens_is_refused(home: Path) -> None:
    path = home / "model" / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": None}))
    with pytest.raises(InputError, match="leaves nothing of a text"):
        make(home).encode(["cat", ""])


def test_length_limit(home: Path) -> None:
    """The model says 16 where the shipped tokenizer file says 8 and pads: 14 words count, the 15th does not."""
    encoder = make(home)
    shipped = json.loads(encoder.tokenizer())
    assert shipped["truncation"]["max_length"] == 16
    assert shipped["padding"] is None
    fourteen, fifteen, changed = "cat " * 14, "cat " * 14 + "dog", "cat " * 13 + "dog"
    vectors = encoder.encode([fourteen, fifteen, changed])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3
    short = make(home, max_tokens=6).encode(["cat cat cat cat", "cat cat cat cat dog"])
    np.testing.assert_array_equal(short[0], short[1])


@pytest.mark.parametrize("limit", [0, 2, 65, 256])
def test_length_limit_that_does_not_fit_is_refused(home: Path, limit: int) -> None:
    with pytest.raises(InputError, match=rf"max_tokens does not fit .*expected 3 .. 64, found {limit}"):
        make(home, max_tokens=limit).tokenizer()


def test_a_text_is_computed_once_for_all_lists(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = np.array(make(home).encode(["cat", "dog"]))
    asked: list[list[str]] = []
    compute = SentenceEncoder._compute

    def counted(self: SentenceEncoder, texts: list[str]) -> Any:
        asked.append(texts)
        return compute(self, texts)

    monkeypatch.setattr(SentenceEncoder, "_compute", counted)
    np.testing.assert_array_equal(make(home).encode(["cat", "dog"]), first)
    np.testing.assert_array_equal(make(home).encode(["dog", "cat", "dog"]), first[[1, 0, 1]])
    assert asked == []
    longer = make(home).encode(["dog", "catdog", "cat", "catdog"])
    assert asked == [["catdog"]]
    np.testing.assert_array_equal(longer[[2, 0]], first)
    make(home).encode(["ca", "tdog"])  # the same letters cut elsewhere are other texts
    assert asked[1:] == [["ca", "tdog"]]
    assert not list((home / "cache" / "embeddings").rglob("*.part"))


def test_a_damaged_list_lends_no_rows(home: Path) -> None:
    first = np.array(make(home).encode(["cat", "dog"]))
    path = one(home, "embeddings/*/*.npy")
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    np.testing.assert_array_equal(make(home).encode(["cat", "dog", "hello"])[:2], first)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "unsealed", "emptied"])
def test_damaged_vectors_are_made_again(home: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    first = np.array(make(home).encode(["cat", "dog", "hello"]))
    path = one(home, "embeddings/*/*.npy")
    whole = path.read_bytes()
    bad = {"truncated": whole[:-7], "flipped": whole[:-1] + bytes([whole[-1] ^ 1]), "emptied": b"", "unsealed": whole}[damage]
    path.write_bytes(bad)
    if damage == "unsealed":
        one(home, "embeddings/*/*.sha256").unlink()
    with caplog.at_level(logging.WARNING):
        again = make(home).encode(["cat", "dog", "hello"])
    np.testing.assert_array_equal(again, first)
    assert "is damaged" in caplog.text
    assert path.name in caplog.text
    caplog.clear()
    make(home).encode(["cat", "dog", "hello"])
    assert not caplog.records


def test_damaged_export_is_made_again(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = one(home, "encoders/*/model.onnx")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    make(home).onnx()
    assert "model.onnx is damaged" in caplog.text
    assert path.stat().st_size == len(whole)


def test_threads_share_one_export(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(home / "cache")
    calls: list[Path] = []
    export = encoders._export
    monkeypatch.setattr(encoders, "_export", lambda folder, limit: calls.append(folder) or export(folder, limit))
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(make(home).encode(["cat", "dog"]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(results) == 3
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_file_wanted_by_many_at_once_is_written_once(tmp_path: Path) -> None:
    written: list[int] = []
    together = threading.Barrier(4)

    def write(stream: Any) -> None:
        written.append(1)
        time.sleep(0.05)  # long enough for the others to arrive
        stream.write(b"whole")

    def want() -> None:
        together.wait(timeout=30)
        vectors.kept(tmp_path / "deep" / "file", write)

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert (tmp_path / "deep" / "file").read_bytes() == b"whole"


def test_processes_share_a_cache_and_need_no_torch(home: Path) -> None:
    code = (
        "import sys; from routewright.data.encoders import SentenceEncoder\n"
        f"vectors = SentenceEncoder({str(home / 'model')!r}, threads=1).encode([f'cat {{i % 50}}' for i in range(200)])\n"
        "assert not {'torch', 'sentence_transformers', 'transformers'} & set(sys.modules)\n"
        "print(vectors.sum(dtype='f8'))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    done = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], done
    expected = make(home).encode([f"cat {i % 50}" for i in range(200)]).sum(dtype="f8")
    assert [float(out) for out, _ in done] == [float(expected)] * 2
    assert "damaged" not in "".join(error for _, error in done)


def test_fingerprint_changes_with_what_the_vectors_depend_on(home: Path) -> None:
    base = make(home).fingerprint
    assert make(home, batch_size=3, threads=2, progress=False, max_tokens=16).fingerprint == base
    assert make(home, max_tokens=15).fingerprint != base
    moved = shutil.copytree(home / "model", home / "elsewhere")
    assert SentenceEncoder(str(moved)).fingerprint == base
    for name in ("tokenizer.json", "1_Pooling/config.json", "model.safetensors"):
        path, whole = home / "model" / name, (home / "model" / name).read_bytes()
        path.write_bytes(whole[:-1] + b" " + whole[-1:])
        assert make(home).fingerprint != base, name
        path.write_bytes(whole)
    assert make(home).fingerprint == base


def test_wrong_weights_are_refused_by_name(home: Path) -> None:
    with pytest.raises(InputError, match=rf"model\.safetensors: expected {MINILM_SHA}, found [0-9a-f]{{64}}"):
        make(home, weights_sha256=MINILM_SHA).encode(["cat"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("modules.json", "{", "the model folder is damaged"),
        ("modules.json", "[]", "cannot be exported"),
        ("modules.json", '[{"path": "", "type": "evil.Transformer"}, {"path": "", "type": "evil.Pooling"}]', "evil.Transformer"),
        ("config_sentence_transformers.json", '{"default_prompt_name": "query"}', "prompt before every text"),
        ("tokenizer.json", "{}", "the tokenizer cannot be read"),
        ("model.safetensors", None, r"Transformer has no model\.safetensors.*Pickled weights are never read"),
        ("1_Pooling/config.json", None, r"Pooling has no config\.json"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(home: Path, name: str, content: str | None, message: str) -> None:
    path = home / "model" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=message):
        make(home).encode(["cat"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("package:no-such-package-here", "pip install no-such-package-here"),
        ("package:numpy", "holds no single model"),
        ("./nowhere", "no such folder"),
        ("no-owner/no-model-of-this-name", "HF_HUB_OFFLINE=0"),
    ],
)
def test_models_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch, model: str, message: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(InputError, match=message):
        SentenceEncoder(model).encode(["cat"])


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar_only_on_a_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    make(home).encode(["cat"] * 600)
    assert capsys.readouterr().err == "", "few distinct texts need no bar"
    make(home).encode([f"{'cat ' * (i % 5)}{'dog ' * (i // 5 % 11)}{'mat ' * (i // 55)}" for i in range(550)])
    assert ("encoding" in capsys.readouterr().err) == terminal


def test_configs_make_encoders() -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue

    encoder = instantiate(OmegaConf.load(CONFIGS / "minilm.yaml"))
    assert isinstance(encoder, Encoder)
    assert json.loads(encoder.tokenizer())["truncation"]["max_length"] == 256
    free = OmegaConf.load(CONFIGS / "sentence_transformer.yaml")
    with pytest.raises(MissingMandatoryValue, match="model"):
        _ = free.model
    assert instantiate(free, model="some/model").model == "some/model"
