"""Texts to unit vectors: a sentence-transformers model as one ONNX graph, run by onnxruntime, with its vectors cached on disk.

Torch is loaded once, to export; afterwards the tokenizers library and onnxruntime are enough. What the graph computes is what
sentence_transformers computes (Reimers and Gurevych 2019, arXiv:1908.10084): transformer, pooling, Dense modules, then the L2 norm.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from routewright.core.files import cache_dir, json_bytes, sha256
from routewright.core.hub import model_folder
from routewright.core.onnx_session import session
from routewright.core.trace import trace
from routewright.core.types import Floats, InputError, Ints
from routewright.data.vectors import cached_rows, kept

if TYPE_CHECKING:
    import onnx
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

EXPORT_VERSION = 2  # raise it when the code below changes what the exported graph computes: it is part of the fingerprint
NEEDED = ("config.json", "model.safetensors")
# the modules that can be exported, and the files each must have
MODULES = {"Transformer": (*NEEDED, "tokenizer.json"), "Pooling": NEEDED[:1], "Dense": NEEDED, "LayerNorm": NEEDED, "Normalize": ()}
SETTINGS = "sentence_*_config.json"  # sentence_bert_config.json, or the name an older model gives it
PREFIX = "encoder/"  # on every inner name, so that a head merged behind the graph cannot collide
NO_LIMIT = 10**6  # tokens; tokenizers without a limit state 1e30
BAR_FROM = 500  # texts; below, a progress bar is noise


class SentenceEncoder:
    """A sentence-transformers model behind core.contracts.Encoder; nothing is read or loaded before the first use.

    model: `package:<distribution>` (model files inside an installed package, none of whose code is imported), a local folder in
    sentence-transformers format, or a hub name. A hub name is looked up in the local Hugging Face cache; the network is used only where
    HF_HUB_OFFLINE=0 asks for it. max_tokens: None takes the model's own limit. weights_sha256: what the transformer's model.safetensors
    must have. batch_size: texts in one run. threads: onnxruntime's, None takes every core.
    """

    def __init__(
        self,
        model: str,
        max_tokens: int | None = None,
        weights_sha256: str | None = None,
        batch_size: int = 32,
        threads: int | None = None,
        progress: bool = True,
    ) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.weights_sha256 = weights_sha256
        self.batch_size = batch_size
        self.threads = threads
        self.progress = progress

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over every weight file, the modules' settings, the tokenizer, max_tokens and the export's version.

        Raises InputError where the folder is no usable model, or where its weights are not the ones weights_sha256 names.
        """
        folder = self._folder
        hashes = {path: sha256(folder / path) for path in _model_files(folder)}
        weights = _transformer(folder) / "model.safetensors"
        found = hashes[weights.relative_to(folder).as_posix()]
        if self.weights_sha256 is not None and self.weights_sha256 != found:
            what = f"the weights of {self.model!r} have another sha256 than the one asked for"
            mend = "Install the pinned model again, or set encoder.weights_sha256 if the change is meant."
            raise InputError(what, where=str(weights), expected=self.weights_sha256, found=found, mend=mend)
        return sha256(json_bytes({"files": hashes, "max_tokens": self._limit, "export": EXPORT_VERSION}))

    def encode(self, texts: Sequence[str]) -> Floats:
        """[n,d] float32 unit rows in the order of `texts`, read-only and memory-mapped from the cache; [0,d] for no texts.

        A text is encoded once for all lists. On the machine measured it gives the same bytes whatever stands beside it (see _run), but
        onnxruntime does not promise that: between batches, versions and processors count on 1e-6, not on bytes.
        Raises InputError for a value that is not Unicode text, and for a text of which the tokenizer leaves nothing.
        """
        rows = checked_texts(texts)
        if not rows:
            return np.zeros((0, self._session.get_outputs()[0].shape[1]), np.float32)
        return cached_rows(cache_dir() / "embeddings" / self.fingerprint, rows, self._compute)

    def onnx(self) -> onnx.ModelProto:
        """`input_ids` and `attention_mask` int64[batch,tokens] to `embedding` float[batch,d]: self-contained, standard operators only."""
        import onnx

        return onnx.load(self._exported)

    def tokenizer(self) -> str:
        """The tokenizers library's JSON, truncating at max_tokens and never padding, whatever the shipped file says."""
        return str(self._tokenizer.to_str())

    @cached_property
    def _folder(self) -> Path:
        return find_model(self.model)

    @cached_property
    def _limit(self) -> int:
        """max_tokens, or the model's own limit, checked against what its positions and its tokenizer allow."""
        inner = _transformer(self._folder)
        stated = (_read(inner, "config.json").get("max_position_embeddings"), _read(inner, "tokenizer_config.json").get("model_max_length"))
        ceiling = min((int(value) for value in stated if value and value < NO_LIMIT), default=None)
        own = _read(inner, SETTINGS).get("max_seq_length")
        limit = self.max_tokens if self.max_tokens is not None else own or ceiling
        if not isinstance(limit, int) or limit < 3 or limit > (ceiling or NO_LIMIT):
            allowed = f"3 .. {ceiling}" if ceiling else "3 or more (the model's files state no limit)"
            raise InputError(f"max_tokens does not fit {self.model!r}", where="encoder.max_tokens", expected=allowed, found=str(limit))
        return limit

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer, normalizers

        inner = _transformer(self._folder)
        try:
            loaded = Tokenizer.from_file(str(inner / "tokenizer.json"))
        except Exception as error:  # the library raises nothing narrower
            raise InputError("the tokenizer cannot be read", where=str(inner / "tokenizer.json"), found=str(error)) from None
        if _read(inner, SETTINGS).get("do_lower_case"):
            loaded.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([loaded.normalizer] if loaded.normalizer else [])])
        loaded.no_padding()
        loaded.enable_truncation(self._limit)
        return loaded

    @cached_property
    def _exported(self) -> Path:
        """The ONNX file in the cache, made on first use."""
        path = cache_dir() / "encoders" / self.fingerprint / "model.onnx"
        return kept(path, lambda stream: stream.write(_export(self._folder, self._limit)))

    @cached_property
    def _session(self) -> Any:
        return session(self._exported, self.threads or os.cpu_count() or 1)

    def _compute(self, texts: list[str]) -> Floats:
        """[n,d] float32 of distinct texts: the longest first, in batches of like length."""
        from tqdm import tqdm

        if self.batch_size < 1:
            raise InputError("batch_size is too small", expected="1 or more", found=str(self.batch_size))
        ids = self._token_ids(texts)
        # like lengths need little padding; the longest first, so that a lack of memory shows at once
        order = np.argsort([-len(row) for row in ids], kind="stable")
        pad = int(_read(_transformer(self._folder), "config.json").get("pad_token_id") or 0)
        vectors = np.empty((len(texts), self._session.get_outputs()[0].shape[1]), np.float32)
        show = self.progress and len(texts) > BAR_FROM and sys.stderr.isatty()
        with tqdm(total=len(texts), unit="text", desc="encoding", disable=not show, file=sys.stderr) as bar:
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                vectors[rows] = self._run([ids[row] for row in rows], pad)
                bar.update(len(rows))
        return vectors

    def _token_ids(self, texts: list[str]) -> list[Ints]:
        """Token ids of every text. In parts, since the library's own results are a hundred times the size of the ids."""
        parts = (texts[start : start + 4096] for start in range(0, len(texts), 4096))
        ids: list[Ints] = [np.array(row.ids, np.int32) for part in parts for row in self._tokenizer.encode_batch_fast(part)]
        for text, row in zip(texts, ids, strict=True):
            if not len(row):
                raise InputError(f"the tokenizer of {self.model!r} leaves nothing of a text", expected="a token", found=repr(text[:40]))
        return ids

    def _run(self, ids: list[Ints], pad: int) -> Floats:
        """One batch, padded to its longest text: [len(ids), d].

        Measured on onnxruntime 1.32: neither padding nor neighbours nor threads change a bit of a text's vector, save that a batch of
        one takes another matrix kernel (1e-7 away). So a lone text is run twice over, and its vector does not depend on its batch.
        """
        vectors: Floats = self._session.run(["embedding"], padded(ids if len(ids) > 1 else ids * 2, pad))[0]
        return vectors[: len(ids)]


def padded(ids: Sequence[Ints], pad: int = 0) -> dict[str, Ints]:
    """What a graph is fed with: token ids [n,longest], filled up with `pad`, and the mask of what is no filling."""
    tokens = np.full((len(ids), max(map(len, ids))), pad, np.int64)
    mask = np.zeros_like(tokens)
    for position, row in enumerate(ids):
        tokens[position, : len(row)] = row
        mask[position, : len(row)] = 1
    return {"input_ids": tokens, "attention_mask": mask}


def find_model(model: str) -> Path:
    """The folder with the model's modules.json. Raises InputError that says how to get a model that is not there."""
    return model_folder(model, marker="modules.json", owner="sentence-transformers")


def _read(folder: Path, pattern: str) -> Any:
    """The first of the folder's JSON files of this name; {} where there is none."""
    path = next(iter(sorted(folder.glob(pattern))), None)
    try:
        return {} if path is None else json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError("the model folder is damaged", where=str(path), expected="a JSON file", found=str(error)) from None


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of every module, checked: only the sentence_transformers library's own, since their classes are imported by name."""
    modules: list[dict[str, str]] = _read(folder, "modules.json")
    types = [module.get("type", "") for module in modules]
    kinds = [name.rpartition(".")[2] for name in types]
    known = all(name.startswith("sentence_transformers.") for name in types) and set(kinds) <= set(MODULES)
    if not known or kinds[:1] != ["Transformer"] or "Pooling" not in kinds:
        wanted = "a Transformer, a Pooling, then any of " + ", ".join(list(MODULES)[2:])
        raise InputError("these modules cannot be exported", where=str(folder / "modules.json"), expected=wanted, found=", ".join(types))
    settings = "config_sentence_transformers.json"
    prompt = _read(folder, settings).get("default_prompt_name")
    if prompt is not None:
        what = "this model puts a prompt before every text, which a router's graph cannot do"
        raise InputError(what, where=str(folder / settings), expected="default_prompt_name null", found=repr(prompt))
    return [(kind, folder / module["path"]) for kind, module in zip(kinds, modules, strict=True)]


def _transformer(folder: Path) -> Path:
    """The folder of the first module, where weights, tokenizer and length limits lie."""
    return _modules(folder)[0][1]


def _model_files(folder: Path) -> list[str]:
    """Paths, relative to the folder, of everything the vectors could depend on."""
    files = {folder / "modules.json"}
    for kind, inner in _modules(folder):
        for name in MODULES[kind]:
            if not (inner / name).is_file():
                mend = "Pickled weights are never read: save the model again with sentence_transformers, model.save(folder)."
                raise InputError(f"the model's {kind} has no {name}", where=str(inner), mend=mend)
        files.update([*inner.glob("*.json"), *inner.glob("*.safetensors")])
    return sorted(file.relative_to(folder).as_posix() for file in files)


def checked_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; raises InputError for what UTF-8 cannot hold, since neither the tokenizer nor the cache's key could."""
    if isinstance(texts, str):
        raise InputError("encode wants a list of texts", expected="a sequence of str", found="one str", mend="Write encode([text]).")
    rows = list(texts)
    for position, text in enumerate(rows):
        if not isinstance(text, str):
            raise InputError(f"texts[{position}] is not text", expected="str", found=f"{type(text).__name__} {text!r}")
        if lone := re.search(r"[\ud800-\udfff]", text):
            found = f"{lone[0]!r} at character {lone.start()}"
            raise InputError(f"texts[{position}] is not Unicode text", expected="no lone surrogates", found=found)
    return rows


def _export(folder: Path, limit: int) -> bytes:
    """The model as ONNX, checked against torch on another shape than the traced one.

    Eager attention and the tracing exporter: of the four combinations with sdpa and dynamo this graph was the fastest in onnxruntime
    (BiasGelu fuses only here) and the quickest to make; onnxruntime's own transformer optimiser made it slower.
    """
    from sentence_transformers import SentenceTransformer

    log.info("exporting %s to ONNX, once", folder)
    options = {"attn_implementation": "eager", "use_safetensors": True}
    loaded = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=options).float().eval()
    graph = trace(_graph_of(loaded), output="embedding", limit=limit, tokens=7, prefix=PREFIX, where=str(folder))
    return cast(bytes, graph.SerializeToString())


def _graph_of(loaded: Any) -> Any:
    """The module that is traced: token ids and mask in, unit vectors out. token_type_ids are zeros, made inside the graph."""
    import torch

    typed = "token_type_ids" in inspect.signature(loaded[0].auto_model.forward).parameters

    class Graph(torch.nn.Sequential):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            if typed:
                features["token_type_ids"] = torch.zeros_like(input_ids)
            for step in self:
                features = step(features)
            return torch.nn.functional.normalize(features["sentence_embedding"], dim=1)

    return Graph(*loaded).eval()
