"""The source `table`: the documented examples load to the numbers in them, and every documented error is raised, by its place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.contracts import Source
from routewright.core.files import sha256
from routewright.core.prices import PriceBook
from routewright.core.types import InputError
from routewright.data.sources.table import Table, hash_id
from routewright.data.tables import write_outcomes

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "tests" / "data"
DOC = (ROOT / "docs" / "OWN_DATA.md").read_text()
QUALITY = [[1, 1], [0.25, 0.75], [np.nan, 1]]
COST = [[0.0001, 0.003], [0.0002, 0.0041], [np.nan, 0.0052]]

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(content: str | bytes, name: str = "my.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return make


def refused(path: str, **options: Any) -> str:
    with pytest.raises(InputError) as raised:
        Table(path, **options).load()
    message = str(raised.value)
    assert "\n" not in message
    what = re.sub(r"'[^']*'", "'m'", raised.value.what)
    begins = [re.sub(r"'[^']*'", "'m'", phrase) for phrase in re.findall(r"`([^`]+)`", DOC.partition("## What is refused")[2])]
    assert any(what.startswith(phrase) for phrase in begins), f"docs/OWN_DATA.md does not tell of {what!r}"
    return message


@pytest.mark.parametrize("name", ["own_long.csv", "own_wide.csv", "own.jsonl"])
def test_the_documented_examples_load(name: str) -> None:
    block = re.search(rf"<!-- tests/data/{re.escape(name)} -->\n```\w+\n(.*?)```", DOC, re.DOTALL)
    assert block is not None
    assert block[1] == (EXAMPLES / name).read_text(), "the documentation shows another file"
    source = Table(str(EXAMPLES / name))
    assert isinstance(source, Source)
    outcomes = source.load()
    assert outcomes.pool.name == ("small", "large")
    assert outcomes.queries.id.tolist() == ["q1", "q2", "q3"]
    assert outcomes.queries.text[1] == "Write a haiku about rain,\nin Dutch"
    assert outcomes.queries.group.tolist() == ["sums", "poems", "sums"]
    np.testing.assert_array_equal(outcomes.quality, QUALITY)
    np.testing.assert_array_equal(outcomes.cost, COST)
    assert outcomes.usage == "measured"
    about = source.provenance()
    assert about["files"] == {name: sha256(EXAMPLES / name)}
    assert (about["rows"], about["missing_quality"], about["missing_cost"]) == (3 if "wide" in name else 6, 1, 1)


def test_the_documented_parquet_is_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.csv").write_text((EXAMPLES / "own_long.csv").read_text())
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", DOC, re.DOTALL)
    assert code is not None
    exec(code[1], {})
    outcomes = Table("my.parquet").load()
    np.testing.assert_array_equal(outcomes.quality, QUALITY)
    np.testing.assert_array_equal(outcomes.cost, COST)
    assert outcomes.answer is not None
    assert outcomes.answer[2].tolist() == [None, "It has no divisor but 1 and itself."]


def test_an_own_arrow_file_is_read_as_it_is(tmp_path: Path) -> None:
    outcomes = Table(str(EXAMPLES / "own_long.csv")).load()
    for name in ("own.arrow", "own.parquet"):
        again = Table(str(write_outcomes(tmp_path / name, outcomes)), models=["large", "small"])
        np.testing.assert_array_equal(again.load().quality, np.array(QUALITY)[:, ::-1])
        assert again.provenance()["format"] == "outcomes"


def test_ids_are_made_from_the_text_and_stay(write: Write) -> None:
    one = Table(write("query,a,b\nx,1,0\ny,0,1\n")).load()
    other = Table(write("query,a,b\ny,0,1\nx,1,0\n")).load()
    # printf x | sha256sum
    assert one.queries.id[0] == other.queries.id[1] == hash_id("x") == "q-2d711642b726"
    assert one.usage == "none"
    assert np.isnan(one.cost).all()


def test_names_layouts_subsets_and_ignored_columns(write: Write) -> None:
    path = write("prompt;llm;score;note\nx;b;1;n\nx;a;0;n\nx;c;.5;n\ny;a;1e-1;n\n")
    source = Table(path, query="prompt", model="llm", quality="score", delimiter=";", models=["a", "b"])
    np.testing.assert_allclose(source.load().quality, [[0, 1], [0.1, np.nan]], rtol=1e-6)
    assert source.provenance()["ignored_columns"] == ["note"]
    wide = Table(write("query,quality:m/1,quality:m:2,note,extra\nx,1,0,hm,.5\n"))
    assert wide.load().pool.name == ("m/1", "m:2")
    assert wide.provenance()["ignored_columns"] == ["note", "extra"]
    named = Table(wide.path, models=["extra", "m/1"]).load()
    np.testing.assert_array_equal(named.quality, [[0.5, 1.0]])
    assert Table(write("query,a,cost:z,b\nx,1,2,0\n"), models=["b", "a"]).load().pool.name == ("b", "a")


def test_forms_of_csv_that_are_accepted(write: Write) -> None:
    long_text = "x" * 100_000 + "é\u2028 y" * 30_000
    content = f'\ufeffquery, a ,b\r\n"{long_text}",TRUE,0.0\r\n\r\nz,False, 1 \r\n'
    outcomes = Table(write(content)).load()
    assert outcomes.queries.text[0] == long_text
    np.testing.assert_array_equal(outcomes.quality, [[1, 0], [0, 1]])
    numbered = Table(write(",query,a,b\n0,x,1,0\n")).load()
    assert numbered.pool.name == ("a", "b")
    assert Table(write("query\ta\tb\nx, y\t1\t0\n", "my.tsv")).load().queries.text[0] == "x, y"


def test_tokens_are_priced_only_where_no_cost_is_given(write: Write) -> None:
    book = PriceBook(date="2025-01-01", source="test", models={"a": {"input": 1, "output": 2}, "b": {"input": 10, "output": 20}})
    tokens = "query,model,quality,input_tokens,output_tokens\nx,a,1,100,10\nx,b,1,100,20\ny,a,0,50,5\ny,b,1,50,\n"
    source = Table(write(tokens), prices=book)
    priced = source.load()
    assert source.provenance()["prices"] == {"date": "2025-01-01", "source": "test"}
    # by hand: 100 * $1e-6 + 10 * $2e-6 = $1.2e-4
    np.testing.assert_allclose(priced.cost, [[1.2e-4, 1.4e-3], [6e-5, np.nan]], rtol=1e-12)
    assert priced.usage == "measured"
    assert priced.pool.usd_input[1] == pytest.approx(1e-5)
    assert np.isnan(Table(write(tokens)).load().cost).all()
    stated = "query,model,quality,cost,input_tokens,output_tokens\nx,a,1,7,100,10\nx,b,1,8,100,20\n"
    source = Table(write(stated), prices=book)
    np.testing.assert_array_equal(source.load().cost, [[7, 8]])
    assert source.provenance()["prices"] is None


def test_a_model_that_costs_nothing_must_be_declared_free(write: Write) -> None:
    rows = "".join(f"q{i},0,1,0,{i + 1}\n" for i in range(20))
    path = write("query,quality:a,quality:b,cost:a,cost:b\n" + rows)
    assert "every cost of model 'a' is zero" in refused(path)
    assert Table(path, allow_zero_cost=True).load().cost[0, 0] == 0
    few = write("query,quality:a,quality:b,cost:a,cost:b\n" + rows[: rows.index("q19")])
    assert Table(few).load().cost[0, 0] == 0


def test_a_split_of_its_own_is_read_only_when_asked(write: Write) -> None:
    long = "query,model,quality,split\ny,a,1,test\ny,b,1,test\nx,a,1,train\nx,b,0,train\n"
    assert Table(write(long)).split() == ["test", "train"]
    wide = Table(write("query,a,b,split\nx,1,0, train \ny,0,1,dev\n"))
    assert wide.load().pool.name == ("a", "b")
    with pytest.raises(InputError, match=r"unknown label of a split in .*line 3, column 'split'.*'dev'"):
        wide.split()
    torn = Table(write(long.replace("b,0,train", "b,0,test")))
    assert len(torn.load()) == 2
    with pytest.raises(InputError, match=r"one query has two values in .*line 5, column 'split'.*'train' as in line 4"):
        torn.split()
    assert Table(write("query,a,b\nx,1,0\n")).split() is None


CSV_ERRORS = [
    ("query,a,b\nx,1,0\ny,85,1\n", ["a number is out of range", "line 3, column 'a'", "[0, 1]", "'85'", "divide percentages by 100"]),
    ('query,a,b\n"x\n\nx",1,0\ny,0,good\n', ["a cell is not a number", "line 5, column 'b'", "'good'"]),
    ("query,a,b\nx,nan,0\n", ["a cell is not a number", "'nan'"]),
    ("query,a,b\nx,1,inf\n", ["a cell is not a number", "'inf'"]),
    ("query,a,b\nx,1e999,0\n", ["a cell is not a number", "'1e999'"]),
    ("query,a,b\nx,1_0,0\n", ["a cell is not a number", "'1_0'"]),
    ("query,model,quality,cost\nx,a,1,-0.1\nx,b,1,true\n", ["a number is out of range", "line 2, column 'cost'", "And 1 more: line 3"]),
    ("query,model,quality,input_tokens\nx,a,1,1.5\nx,b,1,2\n", ["a number is out of range", "whole number"]),
    ("query,a,b\n  ,1,0\n", ["the query is empty", "line 2, column 'query'"]),
    (
        "query,model,quality\nx,a,1\nx,b,1\nx,a,0\n",
        ["'a' answers one query twice", "line 4", "quality 0 here and 1 in line 2", "id column"],
    ),
    ("query,model,quality\nx,a,1\nx,b,1\nx,a,1\n", ["'a' answers one query twice", "line 4", "quality 1 here and 1 in line 2"]),
    ("id,query,model,quality\n1,x,a,1\n1,y,b,1\n", ["one query has two values", "line 3, column 'query'", "'x' as in line 2"]),
    ("query,group,model,quality\nx,g,a,1\nx,h,b,1\n", ["one query has two values", "column 'group'"]),
    ("query,a,b\nx,1,0\nx,1,1\n", ["one query has two rows", "line 3", "in line 2"]),
    ("query,model,quality\nx,a,1\ny,a,1\n", ["the table has only one model", "a router needs two"]),
    ("query,model,Score\nx,a,1\n", ["there is no column 'quality'", "'Score'", "data.quality=Score"]),
    ("prompt,a,b\nx,1,0\n", ["there is no column 'query'", "data.query=prompt"]),
    ("query;a;b\nx;1;0\n", ["there is no column 'query'", "data.delimiter=';'"]),
    ("query\nx\n", ["there is no column 'quality'"]),
    ("query,a,b,note\nx,1,0,hm\n", ["a cell is not a number", "If 'note' is not a model", "data.models"]),
    ("query,quality:a,quality:b,cost:c\nx,1,0,1\n", ["column 'cost:c' belongs to no model", "quality:c"]),
    ("query,a,b\nx,1\ny,1,0,0\n", ["wrong number of cells", "line 2", "found 2", "And 1 more: line 3"]),
    ('query,a,b\nx,1,0\n"y,1,0\nz,1,0\n', ["the CSV cannot be read", "line 3"]),
    ("query,a,a\nx,1,0\n", ["a column stands twice", "'a'"]),
    ("query,a,b\n", ["the table has no rows"]),
    ("\n \n", ["the file is empty"]),
    ("", ["the file is empty", "0 bytes"]),
]


@pytest.mark.parametrize(("content", "told"), CSV_ERRORS, ids=[told[0] + f"-{i}" for i, (_, told) in enumerate(CSV_ERRORS)])
def test_a_broken_csv_is_refused_by_place(write: Write, content: str, told: list[str]) -> None:
    path = write(content)
    message = refused(path)
    assert path in message
    for part in told:
        assert part in message


def test_many_problems_are_one_line(write: Write) -> None:
    message = refused(write("query,a,b\n" + "".join(f"q{i},{i + 2},1\n" for i in range(9))))
    assert "And 8 more: line 3, column 'a'; line 4, column 'a'; line 5, column 'a'; line 6, column 'a' ..." in message
    five = refused(write("query,a,b\n" + "".join(f"q{i},{i + 2},1\n" for i in range(5))))
    assert five.count("line ") == 5
    assert "And 4 more" in five


JSON_ERRORS: list[tuple[list[str], list[str]]] = [
    (['{"query": "x", "a": 1, "b": 0}', "", '{"query": "y",'], ["a line is not a JSON object", "line 3"]),
    (['{"query": "x", "a": NaN, "b": 0}'], ["a line is not a JSON object", "use null"]),
    (['{"query": "x", "a": 1, "a": 0}'], ["a line is not a JSON object", "'a' stands twice"]),
    (['"x"'], ["a line is not a JSON object", "found 'x'"]),
    (["[" * 100], ["the file is one JSON array", "jq -c"]),
    (['{"q": ' + "[" * 100_000], ["a line is not a JSON object"]),
    (['{"query": ["x"], "a": 1, "b": 0}'], ["the query is not text", "['x']"]),
    (['{"query": "x\\ud83d", "a": 1, "b": 0}'], ["the query holds half a character"]),
    (['{"query": "x", "a": 1, "b": [0]}'], ["a cell is not a number", "line 1, column 'b'"]),
    (['{"query": "x", "a": 1, "b": 1' + "0" * 400 + "}"], ["a cell is not a number"]),
    (['{"a": 1, "b": 1}', '{"query": "x"}'], ["the query is empty", "line 1"]),
]


@pytest.mark.parametrize(("lines", "told"), JSON_ERRORS, ids=[f"{told[0]}-{i}" for i, (_, told) in enumerate(JSON_ERRORS)])
def test_a_broken_jsonl_is_refused_by_place(write: Write, lines: list[str], told: list[str]) -> None:
    message = refused(write("\n".join(lines), "my.jsonl"))
    for part in told:
        assert part in message


def test_wrong_files_are_refused(write: Write, tmp_path: Path) -> None:
    assert "there is no such file" in refused(str(tmp_path / "none.csv"))
    assert "the path is a folder" in refused(str(tmp_path))
    assert "unknown kind of table" in refused(write("x", "my.xlsx"))
    assert "line 3" in refused(write("query,a,b\nx,1,0\ncaf\xe9,1,0\n".encode("latin-1")))
    assert "the Parquet file cannot be read" in refused(write("PAR1 and nothing else", "my.parquet"))
    assert "'larg'" in (message := refused(str(EXAMPLES / "own_wide.csv"), models=["small", "larg"]))
    assert "Did you mean 'large'?" in message
    with pytest.raises(InputError, match="unknown layout"):
        Table(str(EXAMPLES / "own_wide.csv"), layout="tall").load()


def test_a_parquet_row_is_named_as_pandas_prints_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "my.parquet"
    pandas.DataFrame({"query": ["x", "y", "z"], "a": [1.0, np.nan, 0.5], "b": [0.0, 1.0, np.inf]}).to_parquet(path)
    assert "row 2, column 'b'" in refused(str(path))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_values_agree_with_pandas(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    """The same random numbers, written by pandas, come back to the last digit of the types."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"query": [f'a "quoted", text\n{i}' for i in range(50)], "a": rng.random(50), "b": rng.random(50)})
    frame["cost:a"] = 10.0 ** rng.uniform(-9, 2, 50)
    path = tmp_path / f"my.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    outcomes = Table(str(path)).load()
    assert outcomes.queries.text.tolist() == frame["query"].tolist()
    np.testing.assert_array_equal(outcomes.quality, frame[["a", "b"]].to_numpy().astype(np.float32))
    np.testing.assert_array_equal(outcomes.cost[:, 0], frame["cost:a"].to_numpy())
    assert np.isnan(outcomes.cost[:, 1]).all()


def test_the_config_makes_the_source_with_every_option() -> None:
    hydra = pytest.importorskip("hydra.utils")
    from dataclasses import fields

    from omegaconf import OmegaConf

    config = OmegaConf.load(ROOT / "configs" / "data" / "table.yaml")
    assert {str(key) for key in config} == {f.name for f in fields(Table) if f.init} | {"_target_"}
    # the default prices are composed from another group
    source = hydra.instantiate(
        OmegaConf.merge(config, {"path": str(EXAMPLES / "own_wide.csv"), "prices": None, "models": ["large", "small"]})
    )
    assert source.load().pool.name == ("large", "small")
