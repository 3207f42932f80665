"""Builds the pocket benchmark stage by stage into data/pocket/; a stage whose files are there is left alone, so a build can go on."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.files import sha256, write_atomic, write_json
from routewright.core.run import ROOT
from routewright.data.pocket import MODELS, POCKET, later, model_path
from routewright.data.pocket.collected import FILES as COLLECTED
from routewright.data.pocket.collected import collect
from routewright.data.pocket.measure import accuracy, answers
from routewright.data.pocket.questions import FAMILIES, PER_FAMILY, SEED, Benchmark, Question, benchmark, stream
from routewright.data.pocket.specs import SPECS
from routewright.data.pocket.tokenizer import build, save
from routewright.data.pocket.training import train

QUESTIONS = POCKET / "questions.parquet"
CARD = POCKET / "card.json"
STAGES = ("questions", "tokenizer", *(f"train:{name}" for name in MODELS), "collect", "signals", "card")
SCRATCH = ROOT / "build" / "pocket" / "collected"  # of the collection: its calls, so that it can be stopped
SAMPLE = 40_000  # training examples the tokenizer is made from

Say = Callable[[str], None]


def seeded() -> Benchmark:
    """The committed benchmark, from its seed."""
    return benchmark(np.random.default_rng(SEED))


def make_questions(to: Path = QUESTIONS) -> None:
    """Writes the questions as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = seeded().questions
    table = pa.table(
        {
            "id": pa.array([row.id for row in rows], pa.string()),
            "query": pa.array([row.text for row in rows], pa.string()),
            "group": pa.array([row.group for row in rows], pa.string()),
            "gold": pa.array([row.answer for row in rows], pa.string()),
            "split": pa.array([row.split for row in rows], pa.string()),
            "difficulty": pa.array([row.difficulty for row in rows], pa.float64()),
            "phrasing": pa.array([row.phrasing for row in rows], pa.int32()),
        }
    )
    write_atomic(to, lambda stream: pq.write_table(table, stream, compression="zstd"))


def read_questions(source: Path = QUESTIONS) -> list[Question]:
    import pyarrow.parquet as pq

    rows = pq.read_table(source).to_pylist()
    return [Question(r["id"], r["query"], r["group"], r["gold"], r["split"], r["difficulty"], r["phrasing"]) for r in rows]


def make_tokenizer() -> None:
    """Trains the tokenizer on training examples and puts it into every model's folder."""
    even = {family.name: 1.0 for family in FAMILIES}
    examples = itertools.islice(stream(seeded(), even, np.random.default_rng([SEED, 2])), SAMPLE)
    tokenizer = build(text for example in examples for pair in example.turns for text in pair)
    for name in MODELS:
        save(tokenizer, model_path(name))


def load_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_path(name), local_files_only=True)


def load_model(name: str) -> Any:
    """The model in float32: half precision is for the disk only."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_path(name), local_files_only=True, dtype=torch.float32).eval()  # type: ignore[no-untyped-call]


def rounds_done(name: str) -> list[dict[str, Any]]:
    """What training.json keeps of each finished round of this model."""
    kept = model_path(name) / "training.json"
    return json.loads(kept.read_bytes())["rounds"] if kept.exists() else []


def make_model(name: str, say: Say) -> None:
    """Trains the rounds of this model that are not done, and writes it in float16 after each."""
    import torch

    spec, tokenizer, avoid, folder = SPECS[name], load_tokenizer(name), seeded(), model_path(name)
    sample = [avoid.questions[i] for i in np.random.default_rng(3).permutation(len(avoid.questions))[:800].tolist()]

    def report(step: int, loss: float, seconds: float, model: Any) -> None:
        say(f"{name} step {step}, loss {loss:.4f}, {seconds:.0f} s")
        if step % 1000 == 0:
            model.eval()
            found = answers(model, tokenizer, [question.text for question in sample])
            say(f"{name} {json.dumps(accuracy(sample, found)['all'])}")
            model.train()

    done = rounds_done(name)
    for number in range(len(done), len(spec.rounds)):
        begun = time.perf_counter()
        model = train(spec, tokenizer, avoid, number=number, start=load_model(name) if number else None, report=report)
        seconds = round(time.perf_counter() - begun)
        model.to(torch.float16).save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)  # as every other file: safetensors writes for its owner alone
        done.append({"steps": spec.rounds[number].steps, "seconds": seconds, "threads": torch.get_num_threads()})
        parameters = sum(p.numel() for p in model.parameters())  # tied embeddings count once
        write_json(folder / "training.json", {"parameters": parameters, "seed": spec.seed, "rounds": done})


def measured(name: str, questions: list[Question]) -> dict[str, Any]:
    """The model's training.json with its accuracy on these questions, which is measured where it is not there yet."""
    kept = model_path(name) / "training.json"
    training: dict[str, Any] = json.loads(kept.read_bytes())
    if "accuracy" not in training:  # a new round of training writes the file without it
        found = answers(load_model(name), load_tokenizer(name), [question.text for question in questions])
        training["accuracy"] = accuracy(questions, found)
        write_json(kept, training)
    return training


def make_card(say: Say) -> None:
    """Measures every model on every question and writes card.json, with the hash of every file."""
    import torch
    import transformers

    questions = read_questions()
    models = {}
    for name in MODELS:
        training = measured(name, questions)
        table = training["accuracy"]
        say(f"{name} {table['all']['all']:.3f} of all, {table['train']['all']:.3f} train, {table['test']['all']:.3f} test")
        models[name] = training | {"mixture": dict(SPECS[name].mixture)}
    files = [
        QUESTIONS,
        *(POCKET / kept for kept in COLLECTED),
        *sorted(path for name in MODELS for path in model_path(name).iterdir() if path.is_file()),
    ]
    write_json(
        CARD,
        {
            "seed": SEED,
            "questions": len(questions),
            "per_family": PER_FAMILY,
            "families": [family.name for family in FAMILIES],
            "models": models,
            "made_with": {
                "python": sys.version.split()[0],
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
            "sha256": {str(path.relative_to(POCKET)): sha256(path) for path in files},
        },
    )


def make(stage: str, *, again: bool, say: Say) -> None:
    """One of STAGES; without `again`, nothing is done where its files are there."""
    name = stage.partition(":")[2]
    there = {
        "questions": QUESTIONS.exists(),
        "tokenizer": all((model_path(model) / "tokenizer.json").exists() for model in MODELS),
        "collect": all((POCKET / kept).exists() for kept in COLLECTED),
        "signals": later.OUTCOMES.exists() and not later.missing(),
        "train": bool(name) and len(rounds_done(name)) == len(SPECS[name].rounds),
        "card": CARD.exists(),
    }[stage.partition(":")[0]]
    if there and not again:
        say(f"{stage}: already there")
    elif stage == "questions":
        make_questions()
    elif stage == "tokenizer":
        make_tokenizer()
    elif stage == "collect":
        collect(SCRATCH, say)
    elif stage == "signals":
        later.add(lambda name: (load_model(name), load_tokenizer(name)), say)
    elif stage == "card":
        make_card(say)
    else:
        if again:
            (model_path(name) / "training.json").unlink(missing_ok=True)
        make_model(name, say)
