"""Whole Outcomes in one file and back: Parquet to keep, Arrow IPC to memory-map a table that memory cannot hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from routewright.core.files import json_bytes, write_atomic
from routewright.core.types import InputError, Outcomes, Pool, Queries
from routewright.data.split import SIDES

METADATA = b"routewright.outcomes"
PRICES = ("usd_input", "usd_cached_input", "usd_output", "usd_call")


def is_outcomes(path: Path) -> bool:
    """Whether this Parquet file was written by write_outcomes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return METADATA in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False  # the reader of the table says what is wrong with it


def _arrow(outcomes: Outcomes, metadata: Mapping[str, Any]) -> Any:
    """A pyarrow Table: one row a query, a fixed-size list for each [n,m] array, and the rest in the schema's metadata."""
    import pyarrow as pa

    queries = outcomes.queries
    columns = {name: pa.array(getattr(queries, name), pa.large_string()) for name in ("id", "text", "group")}
    matrices = {"quality": outcomes.quality, "cost": outcomes.cost, "latency": outcomes.latency, "embedding": queries.embedding}
    matrices |= {f"tokens:{name}": value for name, value in outcomes.tokens.items()}
    matrices |= {f"signal:{name}": value for name, value in outcomes.signals.items()}
    for name, matrix in matrices.items():
        if matrix is not None:
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    if outcomes.answer is not None:
        columns["answer"] = pa.FixedSizeListArray.from_arrays(pa.array(outcomes.answer.reshape(-1), pa.large_string()), len(outcomes.pool))
    for name in ("propensity", "logged"):
        if getattr(outcomes, name) is not None:
            columns[name] = pa.array(getattr(outcomes, name))
    pool = {name: getattr(outcomes.pool, name) for name in ("name", "variant", *PRICES)}
    about = {"pool": pool, "usage": outcomes.usage, "metadata": dict(metadata)}
    return pa.table(columns).replace_schema_metadata({METADATA: json_bytes(about)})


def write_outcomes(path: Path, outcomes: Outcomes, metadata: Mapping[str, Any] | None = None) -> Path:
    """Writes everything in `outcomes` to one file, atomically: .parquet (zstd, small) or .arrow (Arrow IPC, to be memory-mapped).

    metadata: JSON values of the caller's own, for read_metadata. Raises InputError for another suffix and for text Arrow cannot hold.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix not in (".parquet", ".arrow"):
        raise InputError("unknown kind of table", where=str(path), expected="a name ending in .parquet or .arrow", found=repr(path.suffix))
    try:
        table = _arrow(outcomes, metadata or {})
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise InputError(
            "the outcomes hold a value Arrow cannot store", where=str(path), expected="text or None", found=str(error).splitlines()[0]
        ) from None

    def write(stream: BinaryIO) -> None:
        if path.suffix == ".parquet":
            pq.write_table(table, stream, compression="zstd")
        else:
            with pa.ipc.new_file(stream, table.schema) as writer:
                writer.write_table(table)

    return write_atomic(path, write)


def _open(path: Path, memory_map: bool) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError("there is no such file", where=str(path), expected="a file of write_outcomes")
    try:
        if path.suffix == ".arrow":
            # the map outlives this call: the arrays made from the table hold on to it
            table = pa.ipc.open_file(pa.memory_map(str(path)) if memory_map else pa.BufferReader(path.read_bytes())).read_all()
        else:
            table = pq.ParquetFile(path, memory_map=memory_map).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError("the file cannot be read", where=str(path), expected="a whole file", found=str(error).splitlines()[0]) from None
    if METADATA not in (table.schema.metadata or {}):
        raise InputError(
            "the file holds no outcomes", where=str(path), expected="a file of write_outcomes", found="a table of another kind"
        )
    return table


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata given to write_outcomes."""
    about = json.loads(_open(path, True).schema.metadata[METADATA])
    return dict(about["metadata"])


def read_split(path: Path, n: int) -> list[str] | None:
    """train, calibration or test for each of n queries, from `split` in the metadata; None where that is no list. InputError for others."""
    labels = read_metadata(path).get("split")
    if not isinstance(labels, list):
        return None
    where = f"{path}, the metadata's split"
    for row, label in enumerate(labels):
        if label not in SIDES:
            mend = "Rename the labels, or do without them: split.kind=random."
            raise InputError(
                "unknown label of a split", where=f"{where}[{row}]", expected="train, calibration or test", found=repr(label), mend=mend
            )
    if len(labels) != n:
        raise InputError("the split does not fit the table", where=where, expected=f"{n} labels", found=str(len(labels)))
    return labels


def _matrix(column: Any, n: int) -> Any:
    """(n, width) or (n,) numpy view of an Arrow column; of text, a new object array."""
    import pyarrow as pa

    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if not pa.types.is_fixed_size_list(array.type):
        return array.to_numpy(zero_copy_only=False)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(n, array.type.list_size)


def read_outcomes(path: Path, memory_map: bool = True, *, answers: bool = True) -> Outcomes:
    """The inverse of write_outcomes. From .arrow with memory_map, numeric arrays are read-only views into the file: nothing is loaded.

    Texts become Python strings; answers=False leaves out the answers, the bulk of them. Raises InputError for a file of another kind.
    """
    table = _open(path, memory_map)
    about, n = json.loads(table.schema.metadata[METADATA]), table.num_rows
    names = [name for name in table.column_names if answers or name != "answer"]
    arrays: dict[str, Any] = {name: _matrix(table.column(name), n) for name in names}
    queries = Queries(arrays.pop("id"), arrays.pop("text"), arrays.pop("group"), arrays.pop("embedding", None))
    prices = {name: np.array(about["pool"][name], dtype=np.float64) for name in PRICES}  # null, no known price, becomes NaN
    pool = Pool(tuple(about["pool"]["name"]), variant=tuple(about["pool"]["variant"]), **prices)
    tokens, signals = (
        {name.partition(":")[2]: arrays.pop(name) for name in names if name.startswith(prefix)} for prefix in ("tokens:", "signal:")
    )
    return Outcomes(queries, pool, usage=about["usage"], tokens=tokens, signals=signals, **arrays)
