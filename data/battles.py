"""Battles: from a judge's verdicts, in one arena-like Parquet file that a person can read, and as the share of them that a model won."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routewright.core.files import json_bytes, write_atomic
from routewright.core.types import Battles, Floats, InputError, Ints, Pool, Queries, Strings
from routewright.data.judge import PairJudge, report
from routewright.data.tables import PRICES

METADATA = b"routewright.battles"
COLUMNS = ("id", "query", "group", "model_a", "model_b", "winner", "weight")
WINNERS = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}
OUTCOME = {"first": 1.0, "tie": 0.5, "second": 0.0}

Pair = tuple[int, int, int]  # row of the query, columns of the two models


# ---- from verdicts


def verdicts(judge: PairJudge, replies: Mapping[tuple[int, ...], str]) -> tuple[dict[Pair, str], dict[str, Any]]:
    """The verdict on every pair, and judge.report with how many pairs are `unanswered`.

    replies: (row, a, b) -> what the judge said where a was shown first. Verdicts are under (row, a, b) with a < b, as "first" (a), "second"
    or "tie". A pair with an unparsed order has none. A pair of which an order was not answered has none either, and is in no other figure.
    """
    pairs = sorted({(row, min(a, b), max(a, b)) for row, a, b in replies})
    asked = [(pair, (pair[0], pair[2], pair[1])) for pair in pairs]
    whole = [(ab, ba) for ab, ba in asked if ab in replies and (judge.orders == "first" or ba in replies)]
    said = [(judge.read(replies[ab]), judge.read(replies[ba]) if judge.orders == "both" else None) for ab, ba in whole]
    found = {pair: judge.combine(*both) for (pair, _), both in zip(whole, said, strict=True)}
    told = report(judge, said) | {"unanswered": len(pairs) - len(whole)}
    return {pair: verdict for pair, verdict in found.items() if verdict is not None}, told


def battles(queries: Queries, pool: Pool, verdicts: Mapping[Pair, str | None], cost: Floats | None = None) -> Battles:
    """Battles of weight 1 from (row, a, b) -> "first" (a wins), "second", "tie" or None (no battle); cost[n,m] in USD goes along.

    Raises InputError for another verdict, and as Battles does.
    """
    fought = [(pair, verdict) for pair, verdict in verdicts.items() if verdict is not None]
    for pair, verdict in fought:
        if verdict not in OUTCOME:
            raise InputError("unknown verdict", where=f"battle {pair}", expected=", ".join(OUTCOME), found=repr(verdict))
    row, a, b = np.array([pair for pair, _ in fought], dtype=np.int64).reshape(-1, 3).T
    return Battles(queries, pool, row, a, b, np.array([OUTCOME[verdict] for _, verdict in fought]), cost=cost)


# ---- one file


def is_battles(path: Path) -> bool:
    """Whether this Parquet file was written by write_battles."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return METADATA in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False  # the reader of the table says what is wrong with it


def write_battles(path: Path, battles: Battles, metadata: Mapping[str, Any] | None = None) -> Path:
    """Writes one row a battle, atomically: id, query, group, model_a, model_b, winner (model_a, model_b, tie), weight.

    The pool with its prices, the queries' order, those without a battle, and `metadata` (JSON values of the caller's own) stand in the
    schema's metadata. Costs and embeddings are not kept: they belong to outcomes. Raises InputError for a name that does not end in
    .parquet and for text Arrow cannot hold.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix != ".parquet":
        raise InputError("unknown kind of table", where=str(path), expected="a name ending in .parquet", found=repr(path.suffix))
    try:
        table = _arrow(battles, metadata or {})
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise InputError(
            "the battles hold a value Arrow cannot store", where=str(path), expected="whole text", found=str(error).splitlines()[0]
        ) from None
    return write_atomic(path, lambda stream: pq.write_table(table, stream, compression="zstd"))


def _arrow(battles: Battles, metadata: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    queries, pool, row = battles.queries, battles.pool, battles.query
    named = np.array(pool.name, dtype=object)
    winner = np.array(["model_b", "tie", "model_a"], dtype=object)[(battles.outcome * 2).astype(int)]
    texts = (queries.id[row], queries.text[row], queries.group[row], named[battles.a], named[battles.b], winner)
    columns = {name: pa.array(column, pa.large_string()) for name, column in zip(COLUMNS, texts, strict=False)}
    idle = sorted(set(range(len(queries))) - set(row.tolist()))
    about = {
        "pool": {name: getattr(pool, name) for name in ("name", "variant", *PRICES)},
        "queries": queries.id.tolist(),
        "without": [[queries.id[i], queries.text[i], queries.group[i]] for i in idle],
        "metadata": dict(metadata),
    }
    return pa.table(columns | {"weight": pa.array(battles.weight)}).replace_schema_metadata({METADATA: json_bytes(about)})


def read_battles(path: Path) -> Battles:
    """The inverse of write_battles, but for costs and embeddings. Raises InputError for a file of another kind and for broken rows."""
    table, about = _open(path)
    column = {name: table.column(name).to_numpy() for name in COLUMNS}
    rows = dict(zip(about["queries"], range(len(about["queries"])), strict=True))
    prices = {name: np.array(about["pool"][name], dtype=np.float64) for name in PRICES}  # null, no known price, becomes NaN
    pool = Pool(tuple(about["pool"]["name"]), variant=tuple(about["pool"]["variant"]), **prices)
    models = {name: j for j, name in enumerate(pool.name)}
    row = _found(path, "id", column["id"], rows, "a query of the file's metadata")
    a, b = (_found(path, name, column[name], models, "one of " + ", ".join(pool.name)) for name in ("model_a", "model_b"))
    won = np.array(list(WINNERS.values()))[
        _found(path, "winner", column["winner"], {name: i for i, name in enumerate(WINNERS)}, ", ".join(WINNERS))
    ]
    return Battles(_queries(path, about, column, row), pool, row, a, b, won, column["weight"])


def read_battles_metadata(path: Path) -> dict[str, Any]:
    """The metadata given to write_battles."""
    return dict(_open(path)[1]["metadata"])


def _open(path: Path) -> tuple[Any, dict[str, Any]]:
    """The Arrow table and what its metadata say."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError("there is no such file", where=str(path), expected="a file of write_battles")
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            "the Parquet file cannot be read", where=str(path), expected="a whole file", found=str(error).splitlines()[0]
        ) from None
    about = (table.schema.metadata or {}).get(METADATA)
    if about is None:
        raise InputError("the file holds no battles", where=str(path), expected="a file of write_battles", found="a table of another kind")
    lost = [name for name in COLUMNS if name not in table.column_names]
    if lost:
        raise InputError(
            f"there is no column {lost[0]!r}", where=str(path), expected=", ".join(COLUMNS), found=", ".join(table.column_names)
        )
    return table, json.loads(about)


def _found(path: Path, name: str, values: Sequence[Any], known: Mapping[str, int], expected: str) -> Ints:
    """The number of each value; InputError by place for one that has none."""
    numbers = np.array([known.get(value, -1) for value in values], dtype=np.int64)
    wrong = np.flatnonzero(numbers < 0)
    if len(wrong):
        where = f"{path}, row {wrong[0]}, column {name!r}"
        raise InputError("a battle cannot be read", where=where, expected=expected, found=repr(values[wrong[0]]))
    return numbers


def _queries(path: Path, about: Mapping[str, Any], column: Mapping[str, Any], row: Ints) -> Queries:
    """All queries in their order, those without a battle from the metadata."""
    n = len(about["queries"])
    place = {name: i for i, name in enumerate(about["queries"])}
    made: list[Strings] = []
    for k, name in enumerate(("query", "group"), start=1):
        texts = np.full(n, None, dtype=object)
        texts[[place[item[0]] for item in about["without"]]] = [item[k] for item in about["without"]]
        texts[row] = column[name]
        torn = np.flatnonzero(texts[row] != column[name])
        if len(torn):
            where = f"{path}, row {torn[0]}, column {name!r}"
            found, mend = repr(column[name][torn[0]]), "Give different queries different ids."
            raise InputError("one query has two values", where=where, expected=repr(texts[row[torn[0]]]), found=found, mend=mend)
        made.append(texts)
    return Queries(np.array([*about["queries"], ""], dtype=object)[:-1], made[0], made[1])
