"""RouterBench (withmartian/routerbench): 36,497 prompts of 86 benchmarks, 11 models, with answers and the cost of each call.

Hu et al. 2024, arXiv 2403.12031. Upstream has only pickles, and a pickle runs code when it is read: they are never opened here. Read is a
conversion to Parquet or CSV that keeps the columns: sample_id, prompt, eval_name, and for every model `<model>` (the score),
`<model>|model_response` and `<model>|total_cost` (USD).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from routewright.core.types import Floats, InputError, Strings
from routewright.data.arena import with_columns
from routewright.data.cells import Cells, Problems, distinct, numbers, texts
from routewright.data.grid import Grid, answers, chosen, objects, only_one
from routewright.data.sources._hub import HubSource, Made, Rows

UPSTREAM = "withmartian/routerbench"
COST, ANSWER = "|total_cost", "|model_response"
CONVERT = (
    'Convert it where you trust the file, in a throw-away environment: python -c "import pandas; '
    "pandas.read_pickle('routerbench_0shot.pkl').to_csv('routerbench_0shot.csv', index=False)\"; then data.dataset=routerbench_0shot.csv."
)


@dataclass(kw_only=True, eq=False)
class RouterBench(HubSource):
    """Outcomes; the group is the benchmark. Costs are the authors' estimates: their tokenizer's counts at list prices of early 2024.

    part: routerbench_0shot or routerbench_5shot, the name of the file. A prompt that is a list of texts in text form is its first text.
    answers: also keep the models' answers.
    """

    columns: ClassVar[tuple[str, ...]] = ("sample_id", "prompt", "eval_name")
    notes: ClassVar[str] = "Costs as published, estimated from counted tokens at list prices."
    hint: ClassVar[str] = f"The hub has RouterBench as pickles, which are never read. {CONVERT}"

    part: str = "routerbench_0shot"
    answers: bool = True

    def _read(self, rows: Rows) -> Made:
        cells = rows.cells()
        there = [name.removesuffix(COST) for name in cells.names if name.endswith(COST)]
        lacking = [name for name in there if name not in cells.names]
        if lacking or not there:
            found = f"no column {lacking[0]!r}" if lacking else ", ".join(cells.names[:20])
            raise InputError("the data set lacks scores", where=str(cells.path), expected="<model> and <model>|total_cost", found=found)
        models = chosen(there, self.models, cells.path)
        if len(models) < 2:
            only_one(cells.path, models)
        plain = with_columns(cells, {"prompt": [_first(cell) for cell in cells.column("prompt")]})
        problems = Problems(cells.path, cells.unit, cells.line)
        ids = texts(plain, "sample_id", problems, what="id")
        text = texts(plain, "prompt", problems, what="query", strip=False)
        group = texts(plain, "eval_name", problems, what="group")
        quality = np.stack([numbers(cells, name, problems, high=1.0, booleans=True) for name in models], axis=1)
        cost = np.stack([numbers(cells, f"{name}{COST}", problems) for name in models], axis=1)
        distinct(problems, "sample_id", ids)
        problems.check()
        grid = Grid(
            ids, text, group, models, {"quality": quality, "cost": cost}, self._answers(cells, models, quality), np.arange(len(text))
        )
        return Made(grid.outcomes(cells.path, None, usage="estimated"), grid.at, {"missing_quality": int(np.isnan(quality).sum())})

    def _answers(self, cells: Cells, models: list[str], quality: Floats) -> Strings | None:
        """(n, m) texts, None where a model has no column of answers; None without any."""
        if not self.answers or not any(f"{name}{ANSWER}" in cells.names for name in models):
            return None
        made = np.full(quality.shape, None, dtype=object)
        for j, name in enumerate(models):
            if f"{name}{ANSWER}" in cells.names:
                said = [_first(cell) for cell in cells.column(f"{name}{ANSWER}")]
                made[:, j] = objects(answers(with_columns(cells, {"said": said}), "said"))
        return made


def _first(cell: Any) -> Any:
    """The first text of a list of texts, be it a list or its Python literal; anything else as it is."""
    turns = cell
    if isinstance(cell, str) and cell.startswith("["):
        try:
            turns = ast.literal_eval(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return cell  # a prompt may begin with a bracket, as HellaSwag's "[header]" does
    return turns[0] if isinstance(turns, list) and turns and all(isinstance(turn, str) for turn in turns) else cell
