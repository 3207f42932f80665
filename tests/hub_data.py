"""Small local copies of the Hugging Face data sets that there are sources for: the same columns and files, made-up rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SUBJECTS = ("rivers", "sums", "poems", "engines")


def write(name: str, folder: Path) -> Path:
    """Makes the data set of the source `name` as Parquet under `folder`, returned as what data.dataset is to be; always the same rows."""
    parts = MAKERS[name](np.random.default_rng(7))
    for part, columns in parts.items():
        parquet(folder / part, columns)
    return folder


def parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def _text(i: int) -> str:
    return f"Question {i}: what should one know about {SUBJECTS[i % len(SUBJECTS)]}, and why?"


def _arena(rng: np.random.Generator) -> dict[str, dict[str, list[Any]]]:
    """60 battles of four models on 45 prompts, and 4 on one that is too short; every prompt is a JSON list of turns."""
    models = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1", "claude-2.1", "vicuna-13b")
    rows = []
    for i in range(64):
        a, b = rng.choice(len(models), 2, replace=False)
        chance = rng.random() + 0.1 * (b - a)  # earlier ones are better
        won = 2 if abs(chance - 0.5) < 0.1 else int(chance < 0.5)
        turns = ["Hi"] if i % 16 == 15 else [_text(i % 48), "Go on."][: 1 + i % 2]
        rows.append((1000 + i, models[a], models[b], json.dumps(turns), '["A."]', '["B."]', int(won == 0), int(won == 1), int(won == 2)))
    names = ("id", "model_a", "model_b", "prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie")
    return {"data/train-00000-of-00001.parquet": dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))}


def _gpt4(rng: np.random.Generator) -> dict[str, dict[str, list[Any]]]:
    def part(start: int, size: int) -> dict[str, list[Any]]:
        return {
            "prompt": [_text(i) for i in range(start, start + size)],
            "source": [[SUBJECTS[i % 4]] for i in range(size)],
            "gpt4_response": [f"G{i}" for i in range(size)],
            "mixtral_response": [f"M{i}" for i in range(size)],
            "mixtral_score": [1 + i % 5 for i in range(size)],
        }

    return {"data/train-00000-of-00001.parquet": part(0, 40), "data/validation-00000-of-00001.parquet": part(40, 10)}


def _routerbench(rng: np.random.Generator) -> dict[str, dict[str, list[Any]]]:
    n, columns = 40, {}
    columns["sample_id"] = [f"{SUBJECTS[i % 4]}.val.{i}" for i in range(n)]
    columns["prompt"] = [str([_text(i), "And then?"][: 1 + i % 2]) for i in range(n)]
    columns["eval_name"] = [SUBJECTS[i % 4] for i in range(n)]
    models = {"mistralai/mistral-7b-chat": (0.4, 2e-5), "claude-v2": (0.6, 6e-4), "gpt-4-1106-preview": (0.8, 9e-4)}
    for name, (skill, _) in models.items():
        columns[name] = (rng.random(n) < skill).astype(float).tolist()
    for name in models:
        columns[f"{name}|model_response"] = [str([f"{name} on {i}"]) for i in range(n)]
    for name, (_, usd) in models.items():
        columns[f"{name}|total_cost"] = (usd * (0.5 + rng.random(n))).tolist()
    columns["oracle_model_to_route_to"] = ["claude-v2"] * n
    return {"routerbench_0shot.parquet": columns}


def _sprout(rng: np.random.Generator) -> dict[str, dict[str, list[Any]]]:
    def part(start: int, size: int) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {
            "key": list(range(start, start + size)),
            "dataset": [SUBJECTS[i % 4] for i in range(size)],
            "dataset_level": ["0"] * size,
            "dataset_idx": list(range(size)),
            "prompt": [_text(i) for i in range(start, start + size)],
            "golden_answer": ["42"] * size,
        }
        for name, skill in {"openai-gpt-4o": 0.8, "openai-gpt-4o-mini": 0.6, "wxai-llama-3-2-1b-instruct": 0.3}.items():
            columns[name] = [
                {
                    "num_input_tokens": int(20 + 5 * (i % 4) + rng.integers(10)),
                    "num_output_tokens": int(50 + rng.integers(200)),
                    "response": f"{name} on {start + i}",
                    "score": round(float(rng.random() < skill), 1),
                }
                for i in range(size)
            ]
        return columns

    names = {"train": (0, 30), "validation": (30, 8), "test": (38, 14)}
    return {f"data/{name}-00000-of-00001.parquet": part(*span) for name, span in names.items()}


def _embedllm(rng: np.random.Generator) -> dict[str, dict[str, list[Any]]]:
    models = {"deepseek-ai__deepseek-math-7b": 0.5, "google__gemma-2b-it": 0.3, "meta-llama__Llama-2-70b": 0.7}

    def part(start: int, size: int) -> dict[str, list[Any]]:
        rows = [
            (i, _text(i), 10 + j, name, i % 4, SUBJECTS[i % 4], int(rng.random() < skill))
            for i in range(start, start + size)
            for j, (name, skill) in enumerate(models.items())
        ]
        names = ("prompt_id", "prompt", "model_id", "model_name", "category_id", "category", "label")
        return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))

    return {f"{name}.parquet": part(*span) for name, span in {"train": (0, 30), "val": (30, 8), "test": (38, 14)}.items()}


MAKERS: dict[str, Callable[[np.random.Generator], dict[str, dict[str, list[Any]]]]] = {
    "lmsys_arena_55k": _arena,
    "routellm_gpt4": _gpt4,
    "routerbench": _routerbench,
    "sprout": _sprout,
    "embedllm": _embedllm,
}
