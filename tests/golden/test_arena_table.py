"""Battles in the user's own table: every form of the arena's format by hand, what is kept, dropped and counted, each error by its place."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core.contracts import Source
from routewright.core.files import sha256
from routewright.core.judged import win_shares
from routewright.core.prices import PriceBook
from routewright.core.types import Battles, InputError, Outcomes, Pool, Queries
from routewright.data.arena import first_turn
from routewright.data.battles import write_battles
from routewright.data.sources.table import Table

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "OWN_DATA.md").read_text()
HEADER = "query,model_a,model_b,winner\n"

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(content: str, name: str = "my.csv") -> str:
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return make


def fights(path: str, **options: Any) -> Battles:
    made = Table(path, **options).load()
    assert isinstance(made, Battles)
    return made


def told(battles: Battles) -> list[tuple[str, str, str, float]]:
    """(query, a, b, outcome) of every battle."""
    names = battles.pool.name
    text = battles.queries.text[battles.query]
    return [(query, names[a], names[b], float(won)) for query, a, b, won in zip(text, battles.a, battles.b, battles.outcome, strict=True)]


def refused(path: str, **options: Any) -> str:
    with pytest.raises(InputError) as raised:
        Table(path, **options).load()
    message = str(raised.value)
    assert "\n" not in message
    what = re.sub(r"'[^']*'", "'m'", raised.value.what)
    begins = [re.sub(r"'[^']*'", "'m'", phrase) for phrase in re.findall(r"`([^`]+)`", DOC.partition("## What is refused")[2])]
    assert any(what.startswith(phrase) for phrase in begins), f"docs/OWN_DATA.md does not tell of {what!r}"
    return message


# ---- what is read


def test_the_documented_examples_are_the_same_battles(write: Write) -> None:
    blocks = re.findall(r"```(csv|json)\n(.*?)```", DOC.partition("## Battles")[2].partition("\n## ")[0], re.DOTALL)
    assert [kind for kind, _ in blocks] == ["csv", "csv", "json"]
    one, hot, lines = (write(content, f"b{i}.{kind}") for i, (kind, content) in enumerate(blocks))
    expected = [
        ("What is 2 + 2?", "small", "large", 0.5),
        ("What is 2 + 2?", "large", "tiny", 1),
        ("Prove that 17 is prime", "tiny", "small", 0),
    ]
    for path, options in ((one, {}), (hot, {}), (lines, {"query": "prompt"})):
        source = Table(path, **options)
        assert isinstance(source, Source)
        assert told(fights(path, **options)) == expected
        assert source.provenance()["layout"] == "battles"
        assert source.provenance()["files"] == {Path(path).name: sha256(Path(path))}


def test_queries_models_weights_and_groups(write: Write) -> None:
    path = write(
        "id,query,group,model_a,model_b,winner,weight,note\n7,x,g,m1,m2,model_a,2,n\n8,x,h,m3,m1,model_b,.5,n\n7,x,g,m2,m1,tie,1,n\n"
    )
    battles = fights(path)
    assert battles.queries.id.tolist() == ["7", "8"], "one text, two ids: two queries"
    assert battles.queries.group.tolist() == ["g", "h"]
    assert battles.pool.name == ("m1", "m2", "m3")
    assert battles.query.tolist() == [0, 1, 0]
    assert battles.outcome.tolist() == [1, 0, 0.5]
    assert battles.weight is not None
    assert battles.weight.tolist() == [2, 0.5, 1]
    # by hand: m1 on 7: (1 x 2 + .5 x 1) / 3
    np.testing.assert_allclose(win_shares(battles), [[2.5 / 3, 0.5 / 3, np.nan], [1, np.nan, 0]], rtol=1e-6)
    about = Table(path).provenance()
    counts = {"rows": 3, "queries": 2, "battles": 3, "ties": 1, "both_bad": 0, "repeated": 1, "dropped": 0}
    assert {name: about[name] for name in counts} == counts
    assert about["ignored_columns"] == ["note"]
    assert (about["usage"], about["prices"]) == ("none", None)
    plain = fights(write("query,model_a,model_b,winner\ny,m1,m2,model_a\ny,m1,m2,tie\n"))
    assert len(plain.queries) == 1, "without ids, rows of one text are one query"


@pytest.mark.parametrize(
    ("word", "outcome", "bad"),
    [
        ("model_a", 1, False),
        (" MODEL_B ", 0, False),
        ("Model A", 1, False),
        ("tie", 0.5, False),
        ("Tie", 0.5, False),
        ("tie (bothbad)", 0.5, True),
        ("Tie (Both Bad)", 0.5, True),
        ("both_bad", 0.5, True),
        ("tie_bothbad", 0.5, True),
        ("bothbad", 0.5, True),
    ],
)
def test_words_for_who_won(write: Write, word: str, outcome: float, bad: bool) -> None:
    path = write(f"{HEADER}x,a,b,{word}\ny,a,b,model_a\n")
    assert fights(path).outcome.tolist() == [outcome, 1]
    assert Table(path).provenance()["both_bad"] == int(bad)
    assert len(fights(path, bothbad="drop")) == 2 - bad
    assert len(fights(path, ties="drop")) == 2 - (outcome == 0.5)


def test_dropped_ties_take_their_queries_and_models_along(write: Write) -> None:
    path = write(f"{HEADER}x,a,b,model_a\ny,a,c,tie\nz,a,b,both_bad\n")
    assert fights(path).pool.name == ("a", "b", "c")
    decided = fights(path, ties="drop")
    assert decided.pool.name == ("a", "b")
    assert decided.queries.text.tolist() == ["x"]
    assert fights(path, bothbad="drop").queries.text.tolist() == ["x", "y"]
    assert "no battle is left" in refused(write(f"{HEADER}x,a,b,tie\n"), ties="drop")


def test_onehot_columns_of_numbers_and_of_truth(write: Write) -> None:
    header = "query,model_a,model_b,winner_model_a,winner_model_b,winner_tie\n"
    assert fights(write(header + "x,a,b,1,0,0\ny,a,b,0,1.0,0\nz,a,b,false,FALSE,true\n")).outcome.tolist() == [1, 0, 0.5]
    rows = [{"query": "x", "model_a": "a", "model_b": "b", "won_model_a": False, "won_model_b": True, "won_tie": False}]
    assert fights(write("\n".join(map(json.dumps, rows)), "b.jsonl"), winner="won").outcome.tolist() == [0]
    both = header.replace("\n", ",winner\n") + "x,a,b,1,0,0,model_b\n"
    assert fights(write(both)).outcome.tolist() == [0], "the words count where there are both"
    assert Table(write(both)).provenance()["ignored_columns"] == ["winner_model_a", "winner_model_b", "winner_tie"]


def test_the_first_turn_of_a_list_is_the_query(write: Write, tmp_path: Path) -> None:
    assert first_turn('["a", "b"]') == "a"
    assert first_turn(["a", "b"]) == "a"
    assert first_turn(' ["a"]') == "a"
    for other in ("plain", "[header] text", "[]", '[1, "a"]', '["a", null]', '{"a": 1}', "[" * 100_000, None, 3, []):
        assert first_turn(other) == other
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"prompt": [["x", "more"], ["y"]], "model_a": ["a", "a"], "model_b": ["b", "b"], "winner": ["model_a", "tie"]}
    pq.write_table(pa.table(columns), tmp_path / "turns.parquet")
    assert fights(str(tmp_path / "turns.parquet"), query="prompt").queries.text.tolist() == ["x", "y"]


def test_which_layout_it_is(write: Write) -> None:
    wide = Table(write("query,model_a,model_b\nx,1,0\n", "wide.csv"))
    assert isinstance(wide.load(), Outcomes), "two models that are called so"
    assert wide.provenance()["layout"] == "wide"
    other = write("query,left,right,won\nx,a,b,model_a\n")
    assert told(fights(other, model_a="left", model_b="right", winner="won")) == [("x", "a", "b", 1)]
    assert "there is no column 'model_a'" in (message := refused(other, layout="battles"))
    assert "data.model_a=left" in message
    assert "there is no column 'winner_model_a'" in refused(wide.path, layout="battles")
    assert "there is no column 'winner_tie'" in refused(write("query,model_a,model_b,winner_model_a,winner_model_b\nx,a,b,1,0\n"))
    assert "there is no column 'query'" in (message := refused(write(HEADER.replace("query", "prompt") + "x,a,b,tie\n")))
    assert "data.query=prompt" in message


def test_models_that_are_asked_for(write: Write) -> None:
    path = write(f"{HEADER}x,a,b,model_a\ny,b,c,tie\nz,a,c,model_b\nw,d,a,model_a\n")
    some = fights(path, models=["c", "a", "b"])
    assert some.pool.name == ("c", "a", "b")
    assert told(some) == [("x", "a", "b", 1), ("y", "b", "c", 0.5), ("z", "a", "c", 0)]
    assert some.queries.text.tolist() == ["x", "y", "z"]
    assert Table(path, models=["a", "b"]).provenance()["dropped"] == 3
    message = refused(path, models=["b", "d", "c"])
    assert "models that never fight" in message
    assert "found d" in message
    assert "Did you mean 'd'?" in refused(path, models=["a", "dd"])
    assert "the table has only one model" in refused(path, models=["a"])


def test_repeated_battles_all_count_and_are_told(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("query,model_a,model_b,winner,weight\nx,a,b,model_a,1\nx,b,a,model_a,3\nx,a,b,tie,1\ny,a,b,tie,1\n")
    with caplog.at_level(logging.INFO, "routewright"):
        battles = fights(path)
    assert len(battles) == 4
    assert "2 battles are between two models that met on the same query before" in caplog.text
    np.testing.assert_allclose(win_shares(battles)[0], [1.5 / 5, 3.5 / 5], rtol=1e-6)


def test_a_split_of_its_own_has_a_side_for_every_query(write: Write) -> None:
    header = HEADER.replace("\n", ",split\n")
    source = Table(write(f"{header}y,a,b,tie,test\nx,a,b,model_a,train\ny,b,a,model_a,test\nw,a,b,tie, calibration \n"))
    assert source.split() == ["test", "train", "calibration"]
    assert source.provenance()["ignored_columns"] == []
    assert Table(source.path, ties="drop").split() == ["test", "train"]
    torn = Table(write(f"{header}y,a,b,tie,test\nx,a,b,model_a,train\ny,b,a,model_a,train\n"))
    assert len(fights(torn.path)) == 3
    with pytest.raises(InputError, match=r"one query has two values in .*line 4, column 'split'.*'test' as in line 2"):
        torn.split()
    with pytest.raises(InputError, match=r"unknown label of a split in .*line 2, column 'split'.*'dev'"):
        Table(write(f"{header}y,a,b,tie,dev\n")).split()
    assert Table(write(f"{HEADER}y,a,b,tie\n")).split() is None


def test_a_file_of_our_own_gives_its_battles(tmp_path: Path) -> None:
    queries = Queries(*(np.array(values, dtype=object) for values in (["q1", "q2", "q3"], ["What?", "No fight", "é"], ["g", "", "h"])))
    pool = Pool(("small", "large", "idle"), usd_input=[1e-6, 2e-6, np.nan])
    path = write_battles(tmp_path / "b.parquet", Battles(queries, pool, [2, 0, 0], [0, 0, 1], [1, 1, 0], [0, 0.5, 1], [1, 2, 0.5]))
    for stated in ("auto", "battles", "parquet"):
        whole = fights(str(path), format=stated)
        assert whole.pool.name == pool.name, "a model that never fought is part of the file"
        assert whole.pool.usd_input[1] == 2e-6
        assert whole.queries.text.tolist() == queries.text.tolist()
        assert told(whole) == [("é", "small", "large", 0), ("What?", "small", "large", 0.5), ("What?", "large", "small", 1)]
    source = Table(str(path), prices=PriceBook(date="2026-01-01", source="s", models={}))
    assert source.split() is None
    about = source.provenance()
    assert (about["format"], about["rows"], about["battles"], about["ties"], about["repeated"]) == ("battles", 3, 3, 1, 1)
    assert (about["queries"], about["models"], about["usage"], about["prices"]) == (3, ["small", "large", "idle"], "none", None)
    assert about["files"] == {"b.parquet": sha256(path)}
    two = fights(str(path), models=["large", "small"], ties="drop")
    assert two.pool.name == ("large", "small")
    assert two.queries.id.tolist() == ["q1", "q3"], "without q2, where nobody fights"
    assert told(two) == [("é", "small", "large", 0), ("What?", "large", "small", 1)]
    assert "models that never fight" in refused(str(path), models=["large", "small", "idle"])
    assert "there is no model" in refused(str(path), models=["huge"])
    with pytest.raises(InputError, match="unknown ties"):
        Table(str(path), ties="half").load()


# ---- what is refused

HOT = "query,model_a,model_b,winner_model_a,winner_model_b,winner_tie\n"
ERRORS: list[tuple[str, list[str]]] = [
    (f"{HEADER}x,a,b,model_a\ny,a,b,both\n", ["unknown winner of a battle", "line 3, column 'winner'", "model_a, model_b, tie", "'both'"]),
    (f"{HEADER}x,a,b,\n", ["unknown winner of a battle", "''", "must go"]),
    (f"{HEADER}x,a,b,a\ny,a,b,b\n", ["unknown winner of a battle", "And 1 more: line 3"]),
    (f"{HEADER}x,a,a,model_a\n", ["a model fights itself", "line 2, column 'model_b'", "two different models"]),
    (f"{HEADER}x,a, a ,model_a\n", ["a model fights itself"]),
    (f"{HEADER}x,,b,model_a\n", ["the model is empty", "line 2, column 'model_a'"]),
    (f"{HEADER} ,a,b,model_a\n", ["the query is empty"]),
    (f"{HOT}x,a,b,1,0,0\ny,a,b,1,1,0\n", ["a battle without exactly one winner", "line 3, column 'winner_model_a'", "found 1, 1, 0"]),
    (f"{HOT}x,a,b,0,0,0\n", ["a battle without exactly one winner", "a single 1 and two 0", "Mark one of the three"]),
    (f"{HOT}x,a,b,.5,0.5,0\n", ["a battle without exactly one winner"]),
    (f"{HOT}x,a,b,1,,0\n", ["a battle without exactly one winner", "found 1, empty, 0"]),
    (f"{HOT}x,a,b,yes,0,0\n", ["a cell is not a number", "column 'winner_model_a'", "'yes'"]),
    (f"{HOT}x,a,b,2,0,0\n", ["a number is out of range", "'2'"]),
    ("query,model_a,model_b,winner,weight\nx,a,b,tie,0\n", ["a battle has no weight", "line 2, column 'weight'", "a number > 0", "'0'"]),
    ("query,model_a,model_b,winner,weight\nx,a,b,tie,\n", ["a battle has no weight"]),
    ("query,model_a,model_b,winner,weight\nx,a,b,tie,-1\n", ["a number is out of range"]),
    ("id,query,model_a,model_b,winner\n1,x,a,b,tie\n1,y,a,b,tie\n", ["one query has two values", "line 3, column 'query'"]),
    ("query,group,model_a,model_b,winner\nx,g,a,b,tie\nx,h,a,b,tie\n", ["one query has two values", "column 'group'"]),
    (HEADER, ["the table has no rows"]),
    ("", ["the file is empty"]),
]


@pytest.mark.parametrize(("content", "parts"), ERRORS, ids=[f"{parts[0]}-{i}" for i, (_, parts) in enumerate(ERRORS)])
def test_a_broken_table_of_battles_is_refused_by_place(write: Write, content: str, parts: list[str]) -> None:
    message = refused(write(content))
    for part in parts:
        assert part in message


def test_a_cell_is_told_once(write: Write) -> None:
    assert "more" not in refused(write(f"{HOT}x,a,b,yes,0,0\n"))
    assert "And 1 more: line 3" in refused(write(f"{HOT}x,a,b,yes,0,0\ny,a,b,0,0,0\n"))


@pytest.mark.parametrize(("option", "value"), [("ties", "half"), ("bothbad", "keep")])
def test_unknown_options_are_refused(write: Write, option: str, value: str) -> None:
    with pytest.raises(InputError, match=f"unknown {option}: expected .*, found '{value}'"):
        Table(write(f"{HEADER}x,a,b,tie\n"), **{option: value}).load()
