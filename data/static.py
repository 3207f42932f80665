"""A static encoder distilled from a sentence encoder: a vector for every token, their weighted sum as the text's. Microseconds, no layers.

As model2vec does it (Tulkens and van Dongen 2024, github.com/MinishLab/model2vec), in code of our own: each token of the vocabulary goes
through the sentence encoder alone, the vectors are reduced by PCA and weighted by how frequent the token is by Zipf's law (SIF; Arora et
al. 2017, openreview.net/forum?id=SyK00v5xx). No text is needed for it, so nothing of the data that a router is judged on gets in.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routewright.core.files import cache_dir, json_bytes, sha256
from routewright.core.graph import parsed
from routewright.core.types import Floats, InputError, Ints
from routewright.data.encoders import PREFIX, SentenceEncoder
from routewright.data.quantized import FULL, integers
from routewright.data.vectors import kept

if TYPE_CHECKING:
    import onnx
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

VERSION = 1  # raise it when the code below changes what the graph computes: it is part of the fingerprint
TABLES = ("float32", "int8")
UNUSED = re.compile(r"\[unused\d+\]")  # BERT's reserved tokens, which no text contains
BATCH = 256  # tokens through the encoder at once
# length of the vector of the token that every text begins with: it decides where there is nothing else, and float32 does not show it
# beside the most frequent token's, about 1e-3
FAINT = 1e-12

GRAPH = """
rows = Gather <axis = 0> (table, input_ids)
known = Cast <to = 1> (attention_mask)
{weights}
weight = Unsqueeze (weighed, one)
sums = MatMul (weight, vectors)
sum = Squeeze (sums, one)
length = ReduceL2 <axes = [1], keepdims = 1> (sum)
positive = Max (length, tiny)
embedding = Div (sum, positive)
"""
# how a row counts: by the mask, and an int8 row by its scale too
WEIGHTS = {
    "float32": "weighed = Identity (known)\nvectors = Identity (rows)",
    "int8": "scales = Gather <axis = 0> (scale, input_ids)\nweighed = Mul (known, scales)\nvectors = Cast <to = 1> (rows)",
}


class StaticEncoder(SentenceEncoder):
    """Token vectors distilled from `encoder`, behind core.contracts.Encoder. Distilled once, on first use, and cached by fingerprint.

    dimensions: of the vectors, at most the encoder's. sif: the less, the less frequent tokens count. table: float32, or int8 with a scale
    for every token. max_tokens: the rest of a text is cut; the first token is spent on [CLS], see below.

    Every text begins with [CLS], which carries the encoder's vector of the empty text, faintly: a text without any other known token, the
    empty one too, gets that vector, and no other text is moved. Unknown tokens count for nothing.
    """

    def __init__(
        self, encoder: SentenceEncoder, dimensions: int = 256, sif: float = 1e-4, table: str = "float32", max_tokens: int = 512
    ) -> None:
        self.encoder = encoder
        self.dimensions = dimensions
        self.sif = sif
        self.table = table
        super().__init__(encoder.model, max_tokens, encoder.weights_sha256, encoder.batch_size, encoder.threads, encoder.progress)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the encoder's own fingerprint, the settings, and this file's version.

        Raises InputError as the encoder's does, and for settings out of range.
        """
        if self.table not in TABLES:
            raise InputError("unknown kind of table", where="encoder.table", expected=" or ".join(TABLES), found=repr(self.table))
        if self.dimensions < 1 or not self.sif > 0:
            found = f"dimensions={self.dimensions}, sif={self.sif}"
            raise InputError("impossible settings of a static encoder", where="encoder", expected="both above 0", found=found)
        own = {"dimensions": self.dimensions, "sif": self.sif, "table": self.table, "max_tokens": self._limit}
        return sha256(json_bytes({"encoder": self.encoder.fingerprint, "static": VERSION} | own))

    @cached_property
    def _limit(self) -> int:
        """max_tokens: no position is encoded, so the encoder's own limit plays no part."""
        if self.max_tokens is None or self.max_tokens < 2:
            found = str(self.max_tokens)
            raise InputError("max_tokens leaves no room for a token", where="encoder.max_tokens", expected="2 or more", found=found)
        return self.max_tokens

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """The encoder's, with its first special token alone before the text."""
        from tokenizers import Tokenizer, processors

        made = Tokenizer.from_str(self.encoder.tokenizer())
        first, _ = _frame(made)
        name = made.id_to_token(first)
        made.post_processor = processors.TemplateProcessing(single=f"{name} $A", special_tokens=[(name, first)])
        made.enable_truncation(self._limit)
        return made

    @cached_property
    def _exported(self) -> Path:
        path = cache_dir() / "encoders" / self.fingerprint / "model.onnx"
        return kept(path, lambda stream: stream.write(self._made().SerializeToString()))

    def _made(self) -> onnx.ModelProto:
        """The graph, distilled: 30,522 tokens of MiniLM take about a minute of CPU."""
        log.info("distilling %s into a table of token vectors, once", self.model)
        tokenizer: Any = self.encoder._tokenizer
        first, last = _frame(tokenizer)
        names = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
        special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
        weights = frequency(names, special, self.sif)
        rows: list[Ints] = [np.array([first, number, last], np.int32) for number in range(len(names))]
        vectors = np.concatenate([self.encoder._run(rows[start : start + BATCH], 0) for start in range(0, len(rows), BATCH)])
        nothing = self.encoder._run([np.array([first, last], np.int32)], 0)[0]
        return graph_of(distilled(vectors, nothing, weights, first, self.dimensions), self.table)


def _frame(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids before and after every text. Raises InputError where a tokenizer adds anything but one of each."""
    added = tokenizer.encode("").ids
    if len(added) != 2:
        what = "this encoder's tokenizer cannot be made static"
        raise InputError(what, expected="one special token before a text and one after", found=f"{len(added)} of them")
    return added[0], added[1]


def frequency(names: Sequence[str | None], special: Collection[str], sif: float) -> Floats:
    """(v,) the weight of every token: zipf by its place in the vocabulary, 0 for special, reserved and missing ones.

    Word-piece vocabularies list their words by falling frequency, but BERT's begins with a thousand single characters in order of code
    point. Those beyond ASCII go last here: as they stand, 929 foreign letters are ranked before "the", which then counts half as much as
    the rarest word (model2vec ranks them so).
    """
    real = [name is not None and name not in special and not UNUSED.fullmatch(name) for name in names]
    places = [place for place, stands in enumerate(real) if stands]
    places.sort(key=lambda place: len(names[place] or "") == 1 and not (names[place] or "").isascii())
    weights: Floats = np.zeros(len(names))
    weights[places] = zipf(len(places), sif)
    return weights


def zipf(n: int, sif: float) -> Floats:
    """(n,) weights sif / (sif + p) of n tokens in order of falling frequency, with p by Zipf's law from rank 2, as model2vec has it."""
    chance = 1 / np.arange(2, n + 2)
    weights: Floats = sif / (sif + chance / chance.sum())
    return weights


def distilled(vectors: Floats, nothing: Floats, weights: Floats, first: int, dimensions: int) -> Floats:
    """The table (v, dimensions) float32: the tokens' vectors (v, d) reduced by PCA and weighted, `nothing` at `first`.

    weights (v,): 0 for tokens that stand in no text; they take no part in the PCA, and their rows are 0.
    Raises InputError for more dimensions than the vectors have, or than there are tokens in texts.
    """
    real = weights > 0
    most = min(vectors.shape[1], int(real.sum()))
    if dimensions > most:
        raise InputError("more dimensions than the encoder has", where="encoder.dimensions", expected=f"1 .. {most}", found=str(dimensions))
    rows = vectors[real].astype(np.float64)
    mean = rows.mean(axis=0)
    axes = np.linalg.eigh((rows - mean).T @ (rows - mean))[1][:, ::-1][:, :dimensions]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(dimensions)])  # a direction has no sign of its own: fix one
    table = np.zeros((len(vectors), dimensions))
    table[real] = (rows - mean) @ axes * weights[real, None]
    faint = (nothing - mean) @ axes
    table[first] = FAINT * faint / np.linalg.norm(faint)
    return table.astype(np.float32)


def graph_of(table: Floats, kind: str) -> onnx.ModelProto:
    """`input_ids` and `attention_mask` int64[batch,tokens] to `embedding` float[batch,d]: rows looked up, summed, made unit."""
    import onnx
    from onnx import compose

    state: dict[str, NDArray[Any]] = {"one": np.array([1]), "tiny": np.array(1e-30, np.float32), "table": table}
    if kind == "int8":
        codes, scale = integers(table, FULL, axis=1)
        state |= {"table": codes, "scale": scale[:, 0]}
    tokens = "int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask"
    made = parsed(tokens, f"float[batch, {table.shape[1]}] embedding", GRAPH.format(weights=WEIGHTS[kind]), state)
    made = compose.add_prefix(made, PREFIX, rename_inputs=False, rename_outputs=False)
    onnx.checker.check_model(made, full_check=True)
    return made
