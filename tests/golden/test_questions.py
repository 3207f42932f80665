"""Questions from the user's table: columns, defaults, drawing, and one clear error for what cannot be asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from routewright.core.types import InputError
from routewright.data.questions import TableQuestions

CSV = '''id,query,gold,group,split
a,What is 2 + 2?,4,sums,train
b,"Spell ""cat""",C A T,words,train
c,What is 3 + 3?,6,sums,test
d,Who?,,words,train
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "mine.csv"
    made.write_text(CSV)
    return made


def test_all_columns(path: Path) -> None:
    found = TableQuestions(path=str(path)).load()
    assert found.queries.id.tolist() == ["a", "b", "c", "d"]
    assert found.queries.text[1] == 'Spell "cat"'
    assert found.gold.tolist() == ["4", "C A T", "6", ""]
    assert found.split.tolist() == ["train", "train", "test", "train"]


def test_split_and_groups_choose_rows(path: Path) -> None:
    assert TableQuestions(path=str(path), split="test").load().queries.id.tolist() == ["c"]
    assert TableQuestions(path=str(path), groups=["words"]).load().queries.id.tolist() == ["b", "d"]
    with pytest.raises(InputError, match="there is no group 'poems'"):
        TableQuestions(path=str(path), groups=["poems"]).load()
    with pytest.raises(InputError, match="no question is left"):
        TableQuestions(path=str(path), groups=["words"], split="test").load()


def test_examples_are_train_questions_with_an_answer(path: Path) -> None:
    assert TableQuestions(path=str(path), split="test").examples().queries.id.tolist() == ["a", "b"]


def test_texts_alone_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"query": "one"}\n{"query": "two"}\n')
    found = TableQuestions(path=str(path)).load()
    assert len(set(found.queries.id)) == 2
    assert found.gold.tolist() == ["", ""]
    assert found.split.tolist() == ["", ""]
    assert len(TableQuestions(path=str(path)).examples()) == 0


def test_golds_that_are_no_text_are_as_json_spells_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"query": "one", "gold": 4}\n{"query": "two", "gold": {"a": [1]}}\n{"query": "three", "gold": true}\n')
    assert TableQuestions(path=str(path)).load().gold.tolist() == ["4", '{"a": [1]}', "true"]


def test_drawn_is_without_replacement_in_order_and_seeded(path: Path) -> None:
    found = TableQuestions(path=str(path)).load()
    drawn = found.drawn(3, np.random.default_rng(1))
    assert len(set(drawn.queries.id)) == 3
    assert sorted(drawn.queries.id) == drawn.queries.id.tolist()
    assert drawn.queries.id.tolist() == found.drawn(3, np.random.default_rng(1)).queries.id.tolist()
    assert len(found.drawn(None, np.random.default_rng(1))) == 4
    assert len({tuple(found.drawn(2, np.random.default_rng(seed)).queries.id) for seed in range(20)}) > 2
    with pytest.raises(InputError, match="limit is too small"):
        found.drawn(0, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,gold\na,b\n", "there is no column 'query'.*questions.query=NAME"),
        ("id,query\na,x\na,y\n", "one query has two rows"),
        ("query\nx\nx\n", "one query has two rows"),
        ("query,split\nx,dev\n", "unknown label of a split"),
        ("query\n  \n", "no rows|the query is empty"),
    ],
)
def test_bad_tables_are_told_by_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        TableQuestions(path=str(path)).load()


def test_a_file_of_outcomes_is_not_a_file_of_questions(tmp_path: Path, outcomes) -> None:
    from routewright.data.tables import write_outcomes

    with pytest.raises(InputError, match="this is a file of outcomes"):
        TableQuestions(path=str(write_outcomes(tmp_path / "o.parquet", outcomes))).load()


def test_provenance_names_the_file(path: Path) -> None:
    told = TableQuestions(path=str(path)).provenance()
    assert list(told["files"]) == ["mine.csv"]
    assert told["questions"] == 4
