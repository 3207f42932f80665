"""SPROUT (CARROT-LLM-Routing/SPROUT): 44k prompts, 13 models, graded by a judge, with the tokens of every call.

Somerstep et al. 2025, arXiv 2502.03261. Columns as the authors' code (somerstep/CARROT, gen_sprout.py) reads them: prompt, dataset, and for
every model a struct of score, num_input_tokens and num_output_tokens (and the answer as `response`); whatever lacks them is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from routewright.core.prices import PriceBook
from routewright.core.types import InputError
from routewright.data.cells import Problems, numbers, texts
from routewright.data.grid import Grid, answers, chosen, objects, only_one
from routewright.data.sources._hub import HubSource, Made, Rows

FIELDS = {"quality": "score", "input_tokens": "num_input_tokens", "output_tokens": "num_output_tokens"}


@dataclass(kw_only=True, eq=False)
class Sprout(HubSource):
    """Outcomes; the group is the benchmark that a prompt is from. A call that was not graded is not observed.

    prices: a PriceBook; the authors' own in configs/data/sprout.yaml; None leaves the cost unknown. answers: also keep the models' answers.
    """

    columns: ClassVar[tuple[str, ...]] = ("prompt", "dataset")
    notes: ClassVar[str] = "Scores in [0, 1] by a language model that saw the right answer; token counts as the providers gave them."

    part: str = "train+validation+test"
    prices: PriceBook | None = None
    answers: bool = False

    def _read(self, rows: Rows) -> Made:
        cells = rows.cells()
        models = chosen(self._models(rows), self.models, cells.path)
        if len(models) < 2:
            only_one(cells.path, models)
        problems = Problems(cells.path, cells.unit, cells.line)
        text = texts(cells, "prompt", problems, what="query", strip=False)
        group = texts(cells, "dataset", problems, what="group")
        numeric = {
            kind: np.stack(
                [
                    numbers(cells, f"{name}.{part}", problems, high=1.0 if kind == "quality" else np.inf, whole=kind != "quality")
                    for name in models
                ],
                axis=1,
            )
            for kind, part in FIELDS.items()
        }
        problems.check()
        said = None
        if self.answers:
            said = np.stack([objects(answers(cells, f"{name}.response")) for name in models], axis=1)
        at = np.arange(len(text))
        # the authors' `key` is not known to be unique: the place in the part is
        ids = [f"{self.name}-{part}-{i:05d}" for part, size in rows.parts for i in range(size)]
        grid = Grid(ids, text, group, models, numeric, said, at)
        return Made(grid.outcomes(cells.path, self.prices), at, {"missing_quality": int(np.isnan(numeric["quality"]).sum())})

    def _models(self, rows: Rows) -> list[str]:
        """The columns that are structs with a score and token counts."""
        import pyarrow as pa

        needed = {*FIELDS.values(), *(("response",) if self.answers else ())}
        kinds = {item.name: item.type for item in rows.table.schema}
        structs: dict[str, Any] = {name: {part.name for part in kind} for name, kind in kinds.items() if pa.types.is_struct(kind)}
        whole = [name for name, parts in structs.items() if needed <= parts]
        graded = [name for name, parts in structs.items() if "score" in parts]
        if not whole or whole != graded:
            torn = next(
                (f"{name} with {', '.join(sorted(structs[name]))}" for name in graded if name not in whole), ", ".join(rows.names[:20])
            )
            wanted = "for every model a struct of " + ", ".join(sorted(needed))
            raise InputError("the data set lacks models", where=str(rows.where), expected=wanted, found=torn)
        return whole

    def _prices(self) -> PriceBook | None:
        return self.prices
