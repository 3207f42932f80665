"""The contracts: what a router, a cascade, its rule, an encoder, a source, a signal, a student, a grader and a backend must offer.

Structural (Protocol): nothing has to be inherited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from routewright.core.types import Battles, Bools, Floats, Ints, Outcomes, Predictions, Queries

if TYPE_CHECKING:
    import onnx

STOP = -1  # what Cascade.step returns for a query whose answer is good enough
# a cascade's signals: known before any call; bought with the answer; the score's own price
PRIOR, USD_PRIOR, SCORE, SAID, USD_SCORE = "prior", "usd_prior", "score", "said", "usd_score"

State = dict[str, np.ndarray[Any, Any]]


@runtime_checkable
class Router(Protocol):
    """Scores every model for a query, never chooses. __init__ takes keyword hyper-parameters and only stores them."""

    supervision: str  # "outcomes" or "battles": what fit wants
    reads: str  # "embedding" or "text": what predict and the graph start from; a router of text has tokenizer() -> JSON too

    def fit(self, train: Any, valid: Any = None, *, rng: np.random.Generator) -> Self:
        """Learns from encoded Outcomes or Battles, as `supervision` says; learned names end in _. Same rng state, same result."""

    def predict(self, queries: Queries) -> Predictions:
        """quality[n,m] and cost[n,m] for encoded queries. The order of models is the training pool's."""

    def state(self) -> State:
        """Everything learned, as named arrays."""

    def load(self, state: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        """The inverse of state()."""

    def onnx(self) -> onnx.ModelProto:
        """A graph from `embedding` float[N,d], or from `input_ids` and `attention_mask` int64[N,T], to `quality` float[N,m] that scores as
        predict does (1e-4).
        """


@runtime_checkable
class Cascade(Protocol):
    """Asks model after model until an answer is good enough. Sees only what it has bought.

    signals, by name, each [n,m]: `prior` (quality predicted from the query alone) and `usd_prior` (predicted USD) are seen from the start;
    `score` (the chance that the recorded answer is right, in [0, 1]) and `said` (a number for what the answer says: equal numbers in a row
    are equal answers, NaN is none) are NaN until that answer is bought, and `score` until it was looked at.
    """

    needs: Sequence[str]  # the signals it reads

    def fit(self, train: Outcomes, valid: Outcomes | None = None, *, rng: np.random.Generator) -> Self:
        """Chooses lists and thresholds. train holds every signal in `needs`, of every answer, from scorers that have not seen that row."""

    def state(self) -> State: ...

    def load(self, state: Mapping[str, np.ndarray[Any, Any]]) -> Self: ...

    def knobs(self) -> Floats:
        """[k] operating points, rising: shares of the way from the cheapest to the best model's mean cost that may be spent a query."""

    def step(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        """next[n]: the model to call for each query, or STOP. called[n,m] says what was bought; signals not bought are NaN."""

    def looks(self, called: Bools, last: Ints, *, knob: float) -> Bools:
        """[n]: whether the score of the answer that model last[n] has just given is bought. Asked only where a score costs something."""

    def select(self, queries: Queries, called: Bools, signals: Mapping[str, Floats], *, knob: float) -> Ints:
        """served[n]: whose answer is used, among those called."""

    def rule(self, knob: float) -> Rule:
        """What it does at one operating point, as plain data a gateway can follow. Raises InputError, with the reason, where it has no
        such form.
        """


@runtime_checkable
class Rule(Protocol):
    """A cascade at one operating point: step, looks and select as there, each row alone, and nothing but the signals in `needs`."""

    @property
    def needs(self) -> Sequence[str]:
        """The signals that decisions at this point read, some of PRIOR, USD_PRIOR, SCORE and SAID; none where one model answers alone."""

    def step(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """next[n]: the model to call for each query, or STOP. called[n,m] says what was bought; signals not bought are NaN."""

    def looks(self, called: Bools, last: Ints) -> Bools:
        """[n]: whether the score of the answer that model last[n] has just given is bought. Asked only where a score costs something."""

    def select(self, called: Bools, signals: Mapping[str, Floats]) -> Ints:
        """served[n]: whose answer is used, among those called, whichever they are."""

    def described(self) -> dict[str, Any]:
        """Plain JSON that core.rules.restored makes the same rule from: {"kind": ..., ...}, null for infinity, every float exact."""


@runtime_checkable
class Encoder(Protocol):
    """Texts to unit vectors."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the vectors could: weights, tokenizer, length limit, pooling."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """[n,d] float32 with unit rows; cached on disk by content."""

    def onnx(self) -> onnx.ModelProto:
        """A graph from `input_ids` and `attention_mask` int64[N,T] to `embedding` float[N,d]."""

    def tokenizer(self) -> str:
        """The tokenizers library's JSON, with truncation set to what the graph was made for and padding off."""


@runtime_checkable
class Source(Protocol):
    """Where outcomes or battles come from. Its YAML carries licence, citation, pinned revision and the sha256 of every file."""

    def load(self) -> Outcomes | Battles: ...

    def split(self) -> Sequence[str] | None:
        """train, calibration or test for each query where the data bring a split of their own, else None."""

    def said(self, answer: str) -> str | None:
        """The part of an answer that counts, in one spelling (equal strings mean the same answer); None where there is none."""

    def provenance(self) -> dict[str, Any]:
        """licence, citation, revision and files with their sha256, for the manifest."""


@runtime_checkable
class Signal(Protocol):
    """How likely each recorded answer is right, from the query, that answer and what was recorded with it. __init__ only stores."""

    def fit(self, train: Outcomes, *, rng: np.random.Generator) -> Self:
        """Learns from graded answers; a signal that learns nothing checks what it needs and returns itself."""

    def score(self, outcomes: Outcomes) -> Floats:
        """[n,m], higher means more likely right, NaN where it cannot tell. Never reads a grade, nor in one cell another model's column."""

    def cost(self, outcomes: Outcomes) -> Floats | None:
        """[n,m] USD that the score costs beyond the answer itself; None where it is free."""

    def scorer(self) -> Scorer:
        """What a gateway scores an answer with: the same scores as `score`, by a graph. Raises InputError, with the reason, where there
        can be none.
        """

    def state(self) -> State: ...

    def load(self, state: Mapping[str, np.ndarray[Any, Any]]) -> Self: ...


class Scorer(NamedTuple):
    """A signal for a gateway: plain JSON that says what to feed, the graph, and the tokenizer of a reader of pairs.

    reader: {"kind": "features", "names": the features in order, "recorded": the recorded signals in order, "embedding": whether the query's
    is fed}, {"kind": "pair", "max_tokens": n}, or {"kind": "recorded", "recorded": names, the first that is a number counts}. Inputs of
    the graph, N answers at once, `model` int64[N] always: `features` double[N,f], `recorded` double[N,s] where there are any and
    `embedding` float[N,d] where it is read; `input_ids` and `attention_mask` int64[N,T]; or `recorded` double[N,1]. Its output is `raw`
    double[N].
    """

    reader: dict[str, Any]
    graph: onnx.ModelProto
    tokenizer: str | None = None


@runtime_checkable
class Student(Protocol):
    """A small model that answers as its teacher does, having seen the teacher's answers alone, never a grade. __init__ only stores."""

    usd_call: float  # what a call of it costs
    teacher: str | None  # the model whose answers it learns; None: the best one on the training rows

    def fit(self, queries: Queries, said: Sequence[str | None], *, rng: np.random.Generator) -> Self:
        """Learns from encoded queries and what the teacher said to each; None: nothing readable, and that query teaches nothing."""

    def answer(self, queries: Queries) -> tuple[list[str], Floats]:
        """What it says to each query, one of the things that its teacher said, and how sure it is of that, confidence[n] in [0, 1]."""

    def state(self) -> State: ...

    def load(self, state: Mapping[str, np.ndarray[Any, Any]]) -> Self: ...


@runtime_checkable
class Grader(Protocol):
    """Tells how right an answer is, from its text. Never raises for an answer, however hostile; linear in its length."""

    @property
    def needs_gold(self) -> bool:
        """False: works from the answer and the question alone, and so can serve as a verifier."""

    def extract(self, answer: str) -> str | None:
        """The part of the answer that counts, in one canonical spelling (equal strings mean the same answer); None where there is none."""

    def grade(self, answer: str, gold: str, *, question: str = "") -> float:
        """In [0, 1]; an answer without anything to grade is 0. Raises InputError for a gold that cannot be graded against."""


@runtime_checkable
class Backend(Protocol):
    """Asks models. One object asks many at once: `ask` is awaited concurrently."""

    @property
    def remote(self) -> bool:
        """Whether requests travel and may get lost, so that they need a timeout. In this process they only wait for their turn."""

    @property
    def concurrency(self) -> int:
        """How many calls of one model it is best asked at once where the user does not say."""

    def identity(self, model: str) -> str:
        """Who answers under this name: a base URL, a hash of the weights. Part of a request's key. Raises InputError for no such model."""

    async def ask(self, request: Any) -> Any:
        """A data.calls.Reply for a data.calls.Request. Raises data.calls.CallError, and nothing else for what a server may do."""

    async def close(self) -> None:
        """Lets go of connections and threads."""
