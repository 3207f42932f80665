"""EmbedLLM (RZ412/EmbedLLM): 35,673 questions of public benchmarks, 112 open models, right or wrong, a row for each question and model.

Zhuang et al. 2024, arXiv 2410.02223. Columns: prompt_id, prompt, model_id, model_name, category_id, category, label (0 or 1). No costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from routewright.core.types import Floats, InputError, Ints, Outcomes, Pool, Queries
from routewright.data.grid import chosen, objects, only_one
from routewright.data.sources._hub import HubSource, Made, Rows


@dataclass(kw_only=True, eq=False)
class EmbedLLM(HubSource):
    """Outcomes without a cost; the group is the category. A question is its prompt_id; a model that was not asked is not observed.

    Upstream lists some questions under several categories (the variants of GPQA), so that a model has several labels: the quality is their
    mean and the group the first category. The authors' two programs disagree here: knn.py takes the best label, mf.py every row for itself.
    """

    columns: ClassVar[tuple[str, ...]] = ("prompt_id", "prompt", "model_name", "category", "label")
    notes: ClassVar[str] = "Right or wrong by the benchmarks' own graders; the mean where a question stands there under several categories."

    part: str = "train+val+test"

    def _read(self, rows: Rows) -> Made:
        # millions of rows: whole columns at a time, and every text once
        at, ids = _coded(rows, "prompt_id")
        model, names = _coded(rows, "model_name")
        first = np.unique(at, return_index=True)[1]
        text, (code, categories) = _one_each(rows, "prompt", at, first), _coded(rows, "category")
        group = [categories[k] for k in code[first].tolist()]
        models = chosen(names, self.models, rows.where)
        if len(models) < 2:
            only_one(rows.where, models)
        place = {name: j for j, name in enumerate(models)}
        which = np.array([place.get(name, -1) for name in names])[model]
        label = _labels(rows)
        kept = np.flatnonzero((which >= 0) & ~np.isnan(label))
        shape, cell = (len(ids), len(models)), at[kept] * len(models) + which[kept]
        asked, right = np.bincount(cell, minlength=shape[0] * shape[1]), np.bincount(cell, label[kept], shape[0] * shape[1])
        quality = np.divide(right, asked, out=np.full(len(asked), np.nan), where=asked > 0).reshape(shape)
        queries = Queries(objects(ids), objects(text), objects(group))
        told = {"repeated": len(kept) - int(np.isfinite(quality).sum()), "missing_quality": int(np.isnan(quality).sum())}
        return Made(Outcomes(queries, Pool(tuple(models)), quality, np.full(quality.shape, np.nan)), first, told)


def _refused(rows: Rows, row: int, name: str, what: str, expected: str) -> InputError:
    return InputError(
        what, where=f"{rows.where}, row {row}, column {name!r}", expected=expected, found=repr(rows.column(name)[row].as_py())
    )


def _coded(rows: Rows, name: str) -> tuple[Ints, list[str]]:
    """(rows,) a number for each distinct value, from 0 in order of first appearance, and those values as text; no cell may be empty."""
    column = rows.column(name)
    if column.null_count:
        raise _refused(rows, int(np.flatnonzero(column.is_null().to_numpy())[0]), name, "a cell is empty", "a value")
    chunks = column.dictionary_encode().unify_dictionaries().chunks  # as one array the texts would not fit 32-bit offsets
    numbers = np.concatenate([chunk.indices.to_numpy() for chunk in chunks]).astype(np.int64)
    return numbers, [str(value) for value in chunks[0].dictionary.to_pylist()]


def _one_each(rows: Rows, name: str, at: Ints, first: Ints) -> list[str]:
    """The one value of each query; InputError where a query has two."""
    code, values = _coded(rows, name)
    torn = np.flatnonzero(code != code[first][at])
    if len(torn):
        expected = f"{values[code[first[at[torn[0]]]]][:60]!r} as in row {first[at[torn[0]]]}"
        raise _refused(rows, int(torn[0]), name, "one query has two values", expected)
    return [values[k] for k in code[first].tolist()]


def _labels(rows: Rows) -> Floats:
    """(rows,) 0 or 1, NaN where there is no label."""
    import pyarrow as pa

    column: Any = rows.column("label")
    try:
        label: Floats = column.cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _refused(rows, 0, "label", "the labels are no numbers", "0 or 1") from error
    wrong = np.flatnonzero(~np.isin(label, (0, 1)) & ~np.isnan(label))
    if len(wrong):
        raise _refused(rows, int(wrong[0]), "label", "a label is neither right nor wrong", "0 or 1")
    return label
