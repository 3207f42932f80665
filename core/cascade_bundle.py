"""Writes a cascade's bundle: the graphs that make its signals, the rule of every named operating point, golden vectors, all sealed.

gateway/cascade.py reads it. A file stands there only where some point reads what it gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from routewright.core.asking import Point, played, scene, told
from routewright.core.bundle import Facts, NoBundleError, hostile, longest, require_exportable, shared
from routewright.core.contracts import PRIOR, SCORE, USD_PRIOR, Cascade, Encoder, Router, Rule, Signal, Student
from routewright.core.feeds import Front, Query, Scoring
from routewright.core.files import sha256, write_atomic
from routewright.core.onnx_session import session
from routewright.core.pairs import pair_tokenizer
from routewright.core.probability import Probability
from routewright.core.seal import seal
from routewright.core.text import unfolded
from routewright.core.types import Floats, InputError, Queries

if TYPE_CHECKING:
    import onnx

SCHEMA = "cascade.schema.json"
STEP = 7  # texts between a golden query and the answer of the next model


class Scorers(Protocol):
    """What eval/scored.py keeps of a cascade's signals."""

    @property
    def router(self) -> Router | None: ...
    @property
    def prior(self) -> Probability | None: ...
    @property
    def signal(self) -> Signal | None: ...
    @property
    def score(self) -> Probability | None: ...


class Kept(Protocol):
    """What eval/cascading.py keeps of a run."""

    @property
    def cascade(self) -> Cascade: ...
    @property
    def scorers(self) -> Scorers: ...
    @property
    def student(self) -> Student | None: ...


class _Made(NamedTuple):
    """The graphs and tokenizers by file name, what router.onnx gives, and the scorer as described."""

    files: dict[str, bytes]
    outputs: tuple[str, ...]
    reader: dict[str, Any] | None
    fingerprint: str | None


def write_cascade(
    folder: Path,
    kept: Kept,
    encoder: Encoder | None,
    facts: Facts,
    points: Mapping[str, Mapping[str, Any]],
    usd_score: Floats | None = None,
) -> Path:
    """The folder with its graphs, tokenizers and, last, bundle.json.

    encoder: None where the router reads text. points: the named ones as metrics.json has them. usd_score[m]: what a score is expected to
    cost, None where scores are free. Raises NoBundleError, with the reason, where the cascade cannot leave: a student in its pool, a signal
    that is no graph, an encoder behind a network, a router of text beside a scorer that reads embeddings, no operating point.
    """
    try:
        rules = _rules(kept, points)
        needs = sorted({name for rule in rules.values() for name in rule.needs})
        made = _made(kept, encoder, needs)
        usd_prior = _usd_prior(kept.scorers.router, encoder) if USD_PRIOR in needs else None
    except InputError as error:
        raise NoBundleError.of(error) from None
    for name, data in made.files.items():
        _write(folder / name, data)
    scorer = None
    if made.reader is not None:
        untold = kept.scorers.score.untold if kept.scorers.score is not None else np.empty(0)
        scorer = {**made.reader, "untold": untold, "usd": None if usd_score is None else np.asarray(usd_score, dtype=np.float64)}
    tokenizer = made.files.get("tokenizer.json")
    described: dict[str, Any] = shared(facts) | {
        "kind": "cascade",
        "cascade": type(kept.cascade).__name__,
        "needs": needs,
        "operating_points": {name: {**point, "rule": rules[name].described()} for name, point in points.items()},
        "encoder": None if tokenizer is None else {"fingerprint": made.fingerprint, "max_tokens": longest(tokenizer.decode())},
        "outputs": list(made.outputs),
        "usd_prior": usd_prior,
        "scorer": scorer,
    }
    described["golden"] = _golden(described, made, rules)
    return seal(folder, described, tuple(made.files), SCHEMA)


def _write(path: Path, data: bytes) -> None:
    write_atomic(path, lambda stream: stream.write(data))


def _rules(kept: Kept, points: Mapping[str, Mapping[str, Any]]) -> dict[str, Rule]:
    if kept.student is not None:
        mend = "Train without student=..., or serve it as a model of your own."
        raise InputError("a student answers by code, which no bundle holds", expected="a pool without one", found="a student", mend=mend)
    if not points:
        mend = "Set split.calibration above 0, so that operating points can be chosen."
        raise InputError("a bundle needs an operating point", expected="at least one", found="none", mend=mend)
    return {name: kept.cascade.rule(float(point["knob"])) for name, point in points.items()}


# ---- graphs


def _made(kept: Kept, encoder: Encoder | None, needs: Sequence[str]) -> _Made:
    from routewright.core import scorer_graph

    scorers, scorer = kept.scorers, None
    files: dict[str, bytes] = {}
    if SCORE in needs:
        assert scorers.signal is not None
        assert scorers.score is not None
        scorer = scorers.signal.scorer()
        files["scorer.onnx"] = _bytes(scorer_graph.chance(scorer.graph, scorers.score))
        if scorer.tokenizer is not None:
            files["scorer_tokenizer.json"] = scorer.tokenizer.encode()
    embedding = scorer is not None and bool(scorer.reader.get("embedding"))
    router = scorers.router if PRIOR in needs else None
    outputs = (*(("quality",) if router is not None else ()), *(("embedding",) if embedding else ()))
    fingerprint = None
    if outputs:
        by_text = router is not None and router.reads == "text"
        _require_reader(encoder, by_text=by_text, embedding=embedding)
        reader: Any = router if by_text else encoder
        tokenizer: str = reader.tokenizer()
        files["router.onnx"] = _bytes(_front(encoder, router, scorers.prior, embedding=embedding))
        files["tokenizer.json"] = tokenizer.encode()
        fingerprint = sha256(tokenizer.encode()) if by_text else reader.fingerprint
    return _Made(files, outputs, None if scorer is None else scorer.reader, fingerprint)


def _require_reader(encoder: Encoder | None, *, by_text: bool, embedding: bool) -> None:
    """Raises InputError where no single graph can read the query."""
    if by_text and embedding:
        mend = "Say signal.query=0, or choose a router on embeddings."
        found = "a router of text and a scorer of embeddings"
        raise InputError("a cascade reads a query by one encoder", expected="one", found=found, mend=mend)
    if not by_text and encoder is None:
        raise InputError("this cascade reads a query's embedding", expected="an encoder, and no endpoint over a network", found="none")
    if not by_text:
        require_exportable(encoder)


def _front(encoder: Encoder | None, router: Router | None, prior: Probability | None, *, embedding: bool) -> onnx.ModelProto:
    """Tokens to `quality`, the calibrated prior, and `embedding`, as far as each is read."""
    from routewright.core import graph, scorer_graph

    if router is None:
        assert encoder is not None
        return encoder.onnx()
    assert prior is not None
    if router.reads == "text":
        return scorer_graph.prior(router.onnx(), prior)
    head = scorer_graph.prior(scorer_graph.widened(router.onnx()), prior)
    assert encoder is not None
    first = encoder.onnx()
    whole = graph.merge(first, head)
    if embedding:
        whole.graph.output.extend(value for value in first.graph.output if value.name == "embedding")
    return whole


def _bytes(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _usd_prior(router: Router | None, encoder: Encoder | None) -> Floats:
    """[m] what the router says a call costs, as float32 holds it. Raises InputError where that depends on the query."""
    assert router is not None
    names = np.array(["short", "long"], dtype=object)
    queries = Queries(names, np.array(["2 + 2?", "Write a long story. " * 20], dtype=object), names)
    if router.reads != "text":
        assert encoder is not None
        queries = queries.encoded(encoder.encode(list(queries.text)))
    usd = router.predict(queries).cost.astype(np.float32)
    if not np.array_equal(usd[0], usd[1], equal_nan=True):
        raise InputError("this router's cost depends on the query, which no bundle holds", expected="one cost a model", found="others")
    return usd[0].astype(np.float64)


# ---- golden vectors


def _golden(described: Mapping[str, Any], made: _Made, rules: Mapping[str, Rule]) -> list[dict[str, Any]]:
    """Every hostile text as a query, with others of them as the models' answers: the prior, the scores, and what every point does.

    Scores stand for the models that some point asked, and one more in turn.
    """
    entries, m = hostile(), len(described["models"])
    texts = [unfolded(entry) for entry in entries]
    scorer, front = described["scorer"], _opened_front(made)
    scoring = None if scorer is None else _opened_scorer(made, scorer)
    usd = np.array([np.nan if model["expected_usd"] is None else model["expected_usd"] for model in described["models"]])
    price = None if scorer is None else scorer["usd"]
    names = tuple(model["name"] for model in described["models"])
    all_points = {name: Point(name, rule, names, usd, scoring, price, described["usd_prior"]) for name, rule in rules.items()}
    out = []
    for i, entry in enumerate(entries):
        item: dict[str, Any] = {"text": entry, **_scene(i, m, len(entries), [] if scorer is None else scorer.get("recorded", []))}
        given = scene(item, texts)
        read = {} if front is None else front(texts[i])
        prior = read["quality"][0] if "quality" in read else None
        query = Query(texts[i], prior, read.get("embedding"), None if scoring is None else scoring.asked(texts[i]))
        ended = {name: played(point.start(query), *given) for name, point in all_points.items()}
        wanted = {i % m, *(j for state in ended.values() for j in state.order)}
        scores = None
        if scoring is not None:
            scores = [float(scoring(query, j, given.answers[j], given.recorded[j])) if j in wanted else None for j in range(m)]
        item |= {"prior": prior, "scores": scores, "points": {name: told(state) for name, state in ended.items()}}
        out.append(item)
    return out


def _scene(i: int, m: int, n: int, recorded: Sequence[str]) -> dict[str, Any]:
    """Which texts the models answer query i with, what counts of them (some alike, some unreadable), and made-up recorded numbers."""
    values = [None if (i + j) % 7 == 0 else ((3 * i + 5 * j) % 11) / 10 for j in range(m)]
    signed = {
        name: [None if value is None else -2 * value if name.startswith("logprob") else value for value in values] for name in recorded
    }
    said = [None if (i + 2 * j) % 5 == 4 else str((i + j) % 3) for j in range(m)]
    return {"answers": [(i + 1 + STEP * j) % n for j in range(m)], "said": said, "recorded": signed}


def _opened_front(made: _Made) -> Front | None:
    if not made.outputs:
        return None
    from tokenizers import Tokenizer

    read = Tokenizer.from_str(made.files["tokenizer.json"].decode())
    return Front(session(made.files["router.onnx"]), lambda text: np.array(read.encode(text).ids, dtype=np.int64), made.outputs)


def _opened_scorer(made: _Made, scorer: Mapping[str, Any]) -> Scoring:
    data = made.files.get("scorer_tokenizer.json")
    tokenizer = None if data is None else pair_tokenizer(data)
    return Scoring(scorer, session(made.files["scorer.onnx"]), np.asarray(scorer["untold"]), tokenizer)
