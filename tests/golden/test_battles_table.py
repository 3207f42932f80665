"""Battles from verdicts, in their file and as outcomes, by hand; and the split that a file of outcomes keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.judged import win_shares
from routewright.core.types import Battles, InputError, Outcomes, Pool, Queries
from routewright.data.battles import battles, is_battles, read_battles, read_battles_metadata, verdicts, write_battles
from routewright.data.cells import file_format
from routewright.data.judge import PairJudge
from routewright.data.sources.table import Table
from routewright.data.tables import is_outcomes, write_outcomes

POOL = Pool(("small", "large", "idle"), usd_input=[1e-6, 2e-6, np.nan], variant=("", "shots=3", ""))
JUDGE = PairJudge(model="j")


def strings(*values: str) -> Any:
    return np.array(values, dtype=object)


QUERIES = Queries(strings("q1", "q2", "q3"), strings("What?", "Nobody fights here\n", "é"), strings("g", "", "h"))
# q3 before q1, and two battles of one pair on q1
FOUGHT = Battles(QUERIES, POOL, [2, 0, 0], [0, 0, 1], [1, 1, 0], [0, 0.5, 1], [1, 2, 0.5])


# ---- verdicts


def test_replies_become_verdicts() -> None:
    """Row 0: a better b in both orders; row 1: contradiction; row 2: unparsed; row 3: one order unanswered; row 4: b against c."""
    replies: dict[tuple[int, ...], str] = {(0, 0, 1): "[[A]]", (0, 1, 0): "[[B]]", (1, 0, 1): "[[A]]", (1, 1, 0): "[[A]]"}
    replies |= {(2, 0, 1): "?", (2, 1, 0): "[[A]]", (3, 0, 1): "[[A]]", (4, 1, 2): "[[B]]", (4, 2, 1): "[[A]]"}
    found, told = verdicts(JUDGE, replies)
    assert found == {(0, 0, 1): "first", (1, 0, 1): "tie", (4, 1, 2): "second"}
    assert (told["pairs"], told["unanswered"], told["inconsistent"]) == (4, 1, 1)
    assert told["verdicts"] == {"first": 1, "second": 1, "tie": 1, "unparsed": 1}
    found, told = verdicts(PairJudge(model="j", orders="first"), {(3, 0, 1): "[[A]]", (3, 0, 2): "[[C]]"})
    assert found == {(3, 0, 1): "first", (3, 0, 2): "tie"}
    assert told["unanswered"] == 0
    found, told = verdicts(JUDGE, {})
    assert (found, told["pairs"], told["unanswered"]) == ({}, 0, 0)


def test_verdicts_become_battles() -> None:
    cost = np.full((3, 3), 0.5)
    made = battles(QUERIES, POOL, {(0, 0, 1): "first", (1, 0, 2): None, (2, 1, 2): "second", (2, 0, 1): "tie"}, cost)
    assert made.query.tolist() == [0, 2, 2]
    assert made.a.tolist() == [0, 1, 0]
    assert made.b.tolist() == [1, 2, 1]
    assert made.outcome.tolist() == [1, 0, 0.5]
    assert made.cost is not None
    np.testing.assert_array_equal(made.cost, cost)
    assert len(battles(QUERIES, POOL, {}, None)) == 0
    with pytest.raises(InputError, match=r"unknown verdict in battle \(0, 0, 1\).*found 'A'"):
        battles(QUERIES, POOL, {(0, 0, 1): "A"}, None)


def test_shares_of_battles_won() -> None:
    """q1: a tie of weight 2, then large beats small at weight 0.5: small won (0.5 x 2 + 0 x 0.5) / 2.5 = 0.4. q3: large won."""
    np.testing.assert_allclose(win_shares(FOUGHT), [[0.4, 0.6, np.nan], [np.nan] * 3, [0, 1, np.nan]])


# ---- the file


def test_a_person_can_read_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = write_battles(tmp_path / "b.parquet", FOUGHT)
    rows = pandas.read_parquet(path)
    assert list(rows.columns) == ["id", "query", "group", "model_a", "model_b", "winner", "weight"]
    assert rows.to_numpy().tolist() == [
        ["q3", "é", "h", "small", "large", "model_b", 1.0],
        ["q1", "What?", "g", "small", "large", "tie", 2.0],
        ["q1", "What?", "g", "large", "small", "model_a", 0.5],
    ]


def test_a_file_of_battles_is_known_by_its_content(tmp_path: Path, outcomes: Outcomes) -> None:
    path = write_battles(tmp_path / "b.parquet", FOUGHT, {"judge": "j", "n": 3})
    other = write_outcomes(tmp_path / "o.parquet", outcomes)
    assert (is_battles(path), is_outcomes(path), file_format(path)) == (True, False, "battles")
    assert (is_battles(other), is_outcomes(other), file_format(other)) == (False, True, "outcomes")
    assert read_battles_metadata(path) == {"judge": "j", "n": 3}
    assert list(tmp_path.glob("*.part")) == []


def test_what_is_no_file_of_battles_is_refused(tmp_path: Path, outcomes: Outcomes) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_battles(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="unknown kind of table"):
        write_battles(tmp_path / "b.csv", FOUGHT)
    with pytest.raises(InputError, match="holds no battles"):
        read_battles(write_outcomes(tmp_path / "o.parquet", outcomes))
    half = tmp_path / "half.parquet"
    half.write_bytes(write_battles(tmp_path / "b.parquet", FOUGHT).read_bytes()[:-9])
    assert not is_battles(half)
    with pytest.raises(InputError, match="cannot be read"):
        read_battles(half)
    torn = Queries(strings("q"), strings("\ud800"), strings(""))
    with pytest.raises(InputError, match="Arrow cannot store"):
        write_battles(half, Battles(torn, POOL, [0], [0], [1], [1]))


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("winner", "both", "a battle cannot be read in .*row 1, column 'winner': expected model_a, tie, model_b, found 'both'"),
        ("winner", None, "row 1, column 'winner'.*found None"),
        ("model_a", "huge", "row 1, column 'model_a': expected one of small, large, idle, found 'huge'"),
        ("id", "q9", "row 1, column 'id'"),
        ("query", "Else?", "one query has two values in .*column 'query'"),
        ("group", "x", "one query has two values in .*column 'group'"),
        ("weight", -1.0, "impossible value"),
        ("model_a", "large", "a model fights itself"),
    ],
)
def test_broken_rows_are_told(tmp_path: Path, column: str, value: Any, told: str) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(write_battles(tmp_path / "b.parquet", FOUGHT))
    cells = table.column(column).to_pylist()
    cells[1] = value
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, column, pa.array(cells, table.schema.field(column).type)), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=told):
        read_battles(tmp_path / "b.parquet")


def test_a_lost_column_is_told(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = write_battles(tmp_path / "b.parquet", FOUGHT)
    pq.write_table(pq.read_table(path).drop_columns(["winner"]), path)
    with pytest.raises(InputError, match="there is no column 'winner'"):
        read_battles(path)


# ---- the split of outcomes


def kept(folder: Path, outcomes: Outcomes, name: str = "o.parquet", **metadata: Any) -> Table:
    return Table(str(write_outcomes(folder / name, outcomes, metadata)))


@pytest.mark.parametrize("name", ["o.parquet", "o.arrow"])
def test_outcomes_keep_their_split(tmp_path: Path, outcomes: Outcomes, name: str) -> None:
    labels = ["train", "calibration", "test", "test"] * (len(outcomes) // 4)
    source = kept(tmp_path, outcomes, name, split=labels)
    assert source.split() == labels, "before load"
    source.load()
    assert source.split() == labels, "after load"
    some = Table(source.path, models=[outcomes.pool.name[1], outcomes.pool.name[0]])
    assert some.split() == labels


@pytest.mark.parametrize("metadata", [{}, {"split": None}, {"split": "random"}, {"split": {"kind": "random"}}])
def test_outcomes_without_labels_have_no_split(tmp_path: Path, outcomes: Outcomes, metadata: dict[str, Any]) -> None:
    assert kept(tmp_path, outcomes, **metadata).split() is None


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["train"] * 199, "the split does not fit the table in .*o.parquet, the metadata's split: expected 200 labels, found 199"),
        ([], "expected 200 labels, found 0"),
        (["train", "dev"] * 100, r"unknown label of a split in .*split\[1\]: expected train, calibration or test, found 'dev'"),
        (["train", ""] * 100, r"unknown label of a split in .*split\[1\]"),
        ([["train"]] * 200, r"unknown label of a split in .*split\[0\]"),
    ],
)
def test_broken_labels_are_told(tmp_path: Path, outcomes: Outcomes, labels: Any, told: str) -> None:
    assert len(outcomes) == 200
    source = kept(tmp_path, outcomes, split=labels)
    source.load()
    with pytest.raises(InputError, match=told):
        source.split()
