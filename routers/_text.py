"""What routers that read text share: tokens, fine-tuning with checkpoints, one graph from tokens to quality, and scoring by that graph."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from routewright.core.files import cache_dir, json_bytes, sha256
from routewright.core.graph import Array
from routewright.core.hub import model_folder
from routewright.core.onnx_session import session
from routewright.core.text import normalise, numbered
from routewright.core.types import Bools, Floats, InputError, Ints, Predictions, Queries
from routewright.routers._training import Examples, Recipe, Training, padded
from routewright.routers.base import Base

if TYPE_CHECKING:
    import onnx
    import torch
    from tokenizers import Tokenizer

log = logging.getLogger("routewright")

SCORED = 32  # texts in one run of the graph
MANY = 1000  # texts after which the session is let go
VERSION = 1  # raise it when the code of a training changes what comes out: part of a checkpoint's name
RECIPE = ("epochs", "lr", "head_lr", "layer_decay", "weight_decay", "warmup", "batch_size", "clip", "validation", "patience")


class TextRouter(Base):
    """A router whose graph starts at tokens: `input_ids` and `attention_mask` int64[batch,tokens] to `quality` float[batch,m].

    It brings its own tokenizer, needs no encoder, and scores on the CPU by the very graph that is exported. A subclass writes _net (the
    module, from a configuration or from pretrained weights), _targets, _loss, _depth and _quality. Learned: weights_ {parameter: array},
    config_ and tokenizer_ (JSON as bytes), so that loading a state needs no other file.
    """

    reads = "text"
    learned = ("weights_", "config_", "tokenizer_")
    PREFIX = "text/"  # on every inner name of the graph
    weights_: dict[str, Array]
    config_: Array
    tokenizer_: Array
    # hyper-parameters that every subclass takes and stores
    model: str
    max_tokens: int
    validation: float
    threads: int | None
    checkpoints: bool

    def _net(self, config: Mapping[str, Any], folder: Path | None, draw: torch.Generator | None) -> Any:
        """The module, outputs (batch, k'): with the weights in `folder` and new parts from `draw`; without weights where both are None."""
        raise NotImplementedError(f"{type(self).__name__} must write _net")

    def _targets(self, table: Any) -> tuple[Ints, Floats, Floats]:
        """row (e,) of the queries that each example is about, target (e, k) and weight (e, k)."""
        raise NotImplementedError(f"{type(self).__name__} must write _targets")

    def _loss(self, outputs: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must write _loss")

    def _depth(self, name: str) -> int | None:
        raise NotImplementedError(f"{type(self).__name__} must write _depth")

    def _quality(self, outputs: torch.Tensor) -> torch.Tensor:
        """quality (batch, m) of the module's outputs."""
        raise NotImplementedError(f"{type(self).__name__} must write _quality")

    def _configured(self, config: dict[str, Any], table: Any) -> dict[str, Any]:
        """What _net needs to build the module again: the model's own configuration, and what a subclass adds."""
        return {"model": config}

    def _prompted(self, tokenizer: Tokenizer, folder: Path) -> Tokenizer:
        """The model's tokenizer with all that stands around a query put in: its JSON is everything that a gateway reads a query with."""
        return tokenizer

    # ---- learning

    def _learn(self, train: Any, rng: np.random.Generator) -> None:
        import torch

        recipe = Recipe(**{name: getattr(self, name) for name in (*RECIPE, "precision", "device", "threads")})
        recipe.check()
        folder = model_folder(self.model)
        tokenizer = _limited(self._prompted(_tokenizer(folder), folder), self.max_tokens)
        self.tokenizer_ = _bytes(tokenizer.to_str().encode())
        config = self._configured(json.loads((folder / "config.json").read_text()), train)
        self.config_ = _bytes(json_bytes(config))
        row, target, weight = self._targets(train)
        held, seed = self._held_out(train.queries, rng), int(rng.integers(2**63 - 1))
        ids = self._ids(list(train.queries.text), tokenizer)
        examples = Examples([ids[i] for i in row], target.astype(np.float32), weight.astype(np.float32))
        # initial weights of what is new, and nothing else: the training's own draws hang on the seed and the step
        net = self._net(config, folder, torch.Generator().manual_seed(seed % 2**63))
        place = self._place(folder, train.queries, examples, row, held, seed) if self.checkpoints else None
        name = type(self).__name__.lower()
        training = Training(net, self._loss, self._depth, recipe, seed, checkpoint=place, name=name, pad=_pad(config))
        inside = held[row]
        training.run(examples.take(np.flatnonzero(~inside)), examples.take(np.flatnonzero(inside)))
        self.weights_ = {key: value.detach().cpu().float().numpy().copy() for key, value in net.state_dict().items()}

    def _held_out(self, queries: Queries, rng: np.random.Generator) -> Bools:
        """[n]: the queries of the validation part, whole texts; none where fewer than 20 texts are there."""
        keys = np.array(numbered(normalise(self._asked(text)) for text in queries.text), dtype=np.int64)
        count = int(keys.max()) + 1
        chosen = np.zeros(count, dtype=bool)
        drawn = rng.permutation(count)
        if count >= 20:
            chosen[drawn[: round(self.validation * count)]] = True
        return chosen[keys]

    def _asked(self, text: str) -> str:
        """What must stand on one side of the validation split: the whole text."""
        return text

    def _place(self, folder: Path, queries: Queries, examples: Examples, row: Ints, held: Bools, seed: int) -> Path:
        """A checkpoint's folder, named by everything that decides the outcome."""
        import torch

        settings = {name: value for name, value in vars(self).items() if not name.endswith("_")}
        told = {
            "router": f"{type(self).__module__}.{type(self).__name__}",
            "version": VERSION,
            "settings": settings,
            "weights": [sha256(path) for path in sorted(folder.glob("*.safetensors"))],
            "config": sha256(self.config_.tobytes()),
            "tokenizer": sha256(self.tokenizer_.tobytes()),
            "texts": sha256(json_bytes([str(text) for text in queries.text])),
            "examples": [sha256(np.ascontiguousarray(part).tobytes()) for part in (row, examples.target, examples.weight, held)],
            "seed": seed,
            "torch": [torch.__version__, torch.get_num_threads()],
        }
        return cache_dir() / "checkpoints" / sha256(json_bytes(told))[:32]

    # ---- scoring

    def predict(self, queries: Queries) -> Predictions:
        """quality[n,m] by the exported graph, and cost[n,m]. Raises InputError before fit."""
        self._require_fitted()
        ids = self._ids(list(queries.text), self._read_tokenizer())
        quality = np.zeros((len(ids), len(self.cost_)))
        order = np.argsort([-len(found) for found in ids], kind="stable")
        scorer = self._session() if len(ids) else None
        for start in range(0, len(ids), SCORED):
            rows = order[start : start + SCORED]
            tokens, mask = padded([ids[row] for row in rows], self._padding())
            assert scorer is not None
            quality[rows] = scorer.run(["quality"], {"input_ids": tokens, "attention_mask": mask})[0]
        if len(ids) > MANY:
            self.__dict__.pop("session_", None)  # its arena has grown to a gigabyte or two, and a run of folds keeps every router
        return Predictions(quality, np.tile(self.cost_, (len(ids), 1)))

    def onnx(self) -> onnx.ModelProto:
        """A graph from `input_ids` and `attention_mask` int64[batch,tokens] to `quality` float[batch,m], its weights inside."""
        import onnx

        return onnx.ModelProto.FromString(self._graph_bytes())

    def tokenizer(self) -> str:
        """The tokenizers library's JSON, truncating at max_tokens and never padding: what the graph's ids are made with."""
        self._require_fitted()
        return self.tokenizer_.tobytes().decode()

    def _graph_bytes(self) -> bytes:
        """The exported graph, made once for these weights."""
        self._require_fitted()
        made: tuple[dict[str, Array], bytes] | None = self.__dict__.get("graph_")
        if made is None or made[0] is not self.weights_:
            made = (self.weights_, self._exported())
            self.__dict__["graph_"] = made
        return made[1]

    def _exported(self) -> bytes:
        from routewright.core.trace import trace

        config = self._config()
        net = self._net(config, None, None)
        _fill(net, self.weights_)
        module = _scoring(net, self._quality)
        tokens = int(config["model"]["vocab_size"])
        graph = trace(module, output="quality", limit=self.max_tokens, tokens=tokens, prefix=self.PREFIX, where=type(self).__name__)
        return bytes(graph.SerializeToString(deterministic=True))

    def _session(self) -> Any:
        data = self._graph_bytes()
        made: tuple[bytes, Any] | None = self.__dict__.get("session_")
        if made is None or made[0] is not data:
            made = (data, session(data, self.threads or os.cpu_count() or 1))
            self.__dict__["session_"] = made
        return made[1]

    def _read_tokenizer(self) -> Tokenizer:
        """The tokenizer of tokenizer_, read once: a large vocabulary takes longer to read than a query to score."""
        from tokenizers import Tokenizer

        made: tuple[Array, Any] | None = self.__dict__.get("read_")
        if made is None or made[0] is not self.tokenizer_:
            made = (self.tokenizer_, _limited(Tokenizer.from_str(self.tokenizer()), self.max_tokens))
            self.__dict__["read_"] = made
        return made[1]

    def _ids(self, texts: list[str], tokenizer: Tokenizer) -> list[Ints]:
        """Token ids of every text; raises InputError for a text of which nothing is left."""
        ids = [np.array(found.ids, dtype=np.int64) for found in tokenizer.encode_batch_fast(texts)]
        for text, found in zip(texts, ids, strict=True):
            if not len(found):
                raise InputError("the tokenizer leaves nothing of a text", expected="a token", found=repr(text[:40]))
        return list[Ints](ids)

    def _config(self) -> dict[str, Any]:
        return dict(json.loads(self.config_.tobytes()))

    def _padding(self) -> int:
        return _pad(self._config())

    # ---- keeping

    def state(self) -> dict[str, Array]:
        """config_, tokenizer_, cost_, and every weight as net.<name>_."""
        self._require_fitted()
        weights = {f"net.{name}_": np.ascontiguousarray(value) for name, value in self.weights_.items()}
        return {"config_": self.config_, "tokenizer_": self.tokenizer_, "cost_": np.asarray(self.cost_), **weights}

    def load(self, state: Mapping[str, Array]) -> Self:
        """The inverse of state(). Raises InputError where the names are not this router's."""
        own = {"config_", "tokenizer_", "cost_"}
        expected = own
        if own <= set(state):
            config = json.loads(np.asarray(state["config_"]).tobytes())
            expected = own | {f"net.{name}_" for name in self._net(config, None, None).state_dict()}
        if set(state) != expected:
            strange = sorted(set(state) ^ expected)
            raise InputError(
                f"this state is not one of {type(self).__name__}",
                expected=f"{len(expected)} arrays of this architecture",
                found=f"{len(strange)} too many or too few, {strange[0]} among them",
                mend="Load it with the router config that trained it.",
            )
        for name in own:
            setattr(self, name, state[name])
        self.weights_ = {name.removeprefix("net.").removesuffix("_"): value for name, value in state.items() if name not in own}
        return self


def observed(quality: Floats) -> tuple[Ints, Floats, Floats]:
    """Examples of outcomes: the rows with any grade, their quality with 0 where it was not observed, and weights: each observed cell 1."""
    rows = np.flatnonzero(~np.isnan(quality).all(axis=1))
    seen = ~np.isnan(quality[rows])
    return rows, np.where(seen, quality[rows], 0.0), seen.astype(np.float64)


def log_odds(share: Floats) -> Floats:
    """Log odds of shares, kept within 1 % and 99 %."""
    inside = np.clip(share, 0.01, 0.99)
    odds: Floats = np.log(inside / (1 - inside))
    return odds


def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise InputError("the tokenizer cannot be read", where=str(path), found=str(error)) from None


def _limited(loaded: Tokenizer, limit: int) -> Tokenizer:
    if limit < 3:
        raise InputError("max_tokens is too small", expected="3 or more", found=str(limit))
    loaded.no_padding()
    loaded.enable_truncation(limit)
    return loaded


def _pad(config: Mapping[str, Any]) -> int:
    return int(config["model"].get("pad_token_id") or 0)


def _bytes(data: bytes) -> Array:
    return np.frombuffer(data, dtype=np.uint8).copy()


def _fill(net: Any, weights: Mapping[str, Array]) -> None:
    import torch

    net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    net.eval()


def _scoring(net: Any, quality: Any) -> Any:
    """The module that is traced: tokens to quality."""
    import torch

    class Scoring(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            scored: torch.Tensor = quality(self.net(input_ids, attention_mask))
            return scored

    return Scoring().eval()
