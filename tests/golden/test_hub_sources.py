"""The sources of Hugging Face data sets on small local copies: every number by hand, every refusal by its text, and never a network."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from routewright.core.contracts import Source
from routewright.core.files import sha256
from routewright.core.judged import win_shares
from routewright.core.prices import PriceBook
from routewright.core.types import Battles, InputError, Outcomes
from routewright.data import audit
from routewright.data.sources._hub import HubSource, read_rows
from tests.hub_data import MAKERS, parquet, write

pa = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")
hub = pytest.importorskip("huggingface_hub")

CONFIGS = Path(__file__).parents[2] / "configs"
BATTLES = ("lmsys_arena_55k", "routellm_gpt4")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of its own, and a network that fails the test. The libraries think they are online: being told is not enough."""

    def reached(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", reached)
    monkeypatch.setattr(socket, "getaddrinfo", reached)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache" / "datasets"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def source(name: str, dataset: Path | str, *overrides: str) -> HubSource:
    """As train.py makes it, from its YAML."""
    files = {"data": f"data/{name}.yaml", "prices": "prices/routellm_2024.yaml"}
    config = OmegaConf.create({group: OmegaConf.load(CONFIGS / path) for group, path in files.items()} | {"labels": "clean"})
    made: HubSource = instantiate(OmegaConf.merge(config, OmegaConf.from_dotlist([f"data.dataset={dataset}", *overrides])).data)
    return made


def outcomes(made: HubSource) -> Outcomes:
    table = made.load()
    assert isinstance(table, Outcomes)
    return table


def battles(made: HubSource) -> Battles:
    table = made.load()
    assert isinstance(table, Battles)
    return table


# ---- all of them


@pytest.mark.parametrize("name", MAKERS)
def test_a_local_copy_loads_and_tells_where_it_is_from(name: str, tmp_path: Path) -> None:
    made = source(name, write(name, tmp_path / "copy"))
    assert isinstance(made, Source)
    table = made.load()
    assert isinstance(table, Battles if name in BATTLES else Outcomes)
    assert len(table.queries) >= 30
    assert len(table.pool) >= 2
    if isinstance(table, Outcomes):
        assert audit.check(table) == (
            ["No cost is known: routers can be compared by share of calls, not in USD."] if name == "embedllm" else []
        )
    else:
        assert (~np.isnan(win_shares(table))).any(axis=1).all(), "every query has a battle"
    about = json.loads(json.dumps(made.provenance()))
    assert about == made.provenance()
    assert about["name"] == name
    assert about["files"] == {
        path.relative_to(tmp_path / "copy").as_posix(): sha256(path)
        for path in (tmp_path / "copy").rglob("*.parquet")
        if made.part.split("+")[0] in path.name or "+" in made.part
    }
    assert len(about["revision"]) == 12
    assert about["queries"] == len(table.queries)
    assert about["models"] == list(table.pool.name)
    assert about["labels"] == "clean"
    assert source(name, tmp_path / "copy", "labels=published").provenance()["labels"] == "published"
    with pytest.raises(InputError, match=f"labels of {name}: expected one of clean, published, found 'wrong'"):
        source(name, tmp_path / "copy", "labels=wrong").load()
    assert source(name, tmp_path / "copy").provenance()["revision"] == about["revision"]


@pytest.mark.parametrize("name", MAKERS)
def test_a_lost_column_is_told(name: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write(name, tmp_path)
    column = source(name, tmp_path).columns[-1]
    for path in tmp_path.rglob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(InputError, match=rf"the data set lacks the column '{column}' in .*: expected .*{column}.*, found .*prompt"):
        source(name, tmp_path).load()


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("told", [None, "1", "true"])
def test_offline_it_says_how_to_get_it(name: str, told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if told is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", told)
    with pytest.raises(InputError) as raised:
        source(name, "somebody/something").load()
    message = str(raised.value)
    assert "\n" not in message
    assert "data set 'somebody/something' cannot be read: expected a local folder or file, or a copy in the Hugging Face cache" in message
    if name == "routerbench":
        assert "pickles, which are never read" in message
        assert "to_csv('routerbench_0shot.csv', index=False)" in message
    else:
        assert "Set HF_HUB_OFFLINE=0 (hub=true on the command line) to download it, or give a local copy: data.dataset=folder." in message


@pytest.mark.parametrize(
    ("name", "part"), [("lmsys_arena_55k", "train"), ("sprout", "train+validation+test"), ("embedllm", "train+val+test")]
)
def test_what_the_cache_holds_is_read_without_a_network(name: str, part: str, tmp_path: Path) -> None:
    """Laid out as huggingface_hub leaves it: refs/main names the commit, snapshots/<commit> has the files."""
    kept, commit = tmp_path / "cache" / "hub" / "datasets--somebody--something", "c" * 40
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    write(name, kept / "snapshots" / commit)
    (kept / "snapshots" / commit / "model_order.csv").write_text("not,asked,for\n")
    made, local = source(name, "somebody/something"), source(name, write(name, tmp_path / "copy"))
    assert made.load().queries.text.tolist() == local.load().queries.text.tolist()
    assert (made.provenance()["revision"], made.provenance()["part"]) == (commit, part)
    assert made.provenance()["files"] == local.provenance()["files"]
    assert source(name, "somebody/something", f"data.revision={commit}").provenance()["revision"] == commit
    with pytest.raises(InputError, match="cannot be read"):
        source(name, "somebody/something", f"data.revision={'d' * 40}").load()


def test_online_only_the_files_of_the_part_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(write("embedllm", tmp_path / "abc123"))

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    made = source("embedllm", "RZ412/EmbedLLM", "data.part=val")
    assert len(made.load().queries) == 8
    assert made.provenance()["revision"] == "abc123"
    assert list(made.provenance()["files"]) == ["val.parquet"]
    assert (asked["name"], asked["repo_type"], asked["revision"], asked["local_files_only"]) == ("RZ412/EmbedLLM", "dataset", None, False)
    assert {"val.csv", "data/val-*-of-*.parquet", "default/val/*.parquet"} <= set(asked["allow_patterns"])
    assert not any("train" in pattern or pattern.startswith("*") or "pkl" in pattern for pattern in asked["allow_patterns"])

    def broken(*_: Any, **__: Any) -> NoReturn:
        raise OSError("no such repository\nand more")

    monkeypatch.setattr(hub, "snapshot_download", broken)
    with pytest.raises(InputError, match=r"expected a download, found OSError: no such repository\. Check the name and the network"):
        made.load()


# ---- files


def frame() -> dict[str, list[Any]]:
    return {"a": ["NA", "null", "x"], "b": [1.0, None, 3.0]}


def test_every_format_and_layout_gives_the_same_rows(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = pandas.DataFrame(frame())
    makers: dict[str, Callable[[Path], object]] = {
        "one.parquet": rows.to_parquet,
        "one.csv": lambda path: rows.to_csv(path, index=False),
        "one.jsonl": lambda path: rows.to_json(path, orient="records", lines=True),
        "hub/data/train-00000-of-00001.parquet": rows.to_parquet,
        "old/train-00000-of-00001-0a1b2c3d4e5f6a7b.parquet": rows.to_parquet,
        "converted/default/train/0000.parquet": rows.to_parquet,
        "plain/train.csv": lambda path: rows.to_csv(path, index=False),
        "unnamed/whatever.parquet": rows.to_parquet,
    }
    for name, make in makers.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        make(tmp_path / name)
    made = datasets.Dataset.from_dict(frame())
    made.save_to_disk(str(tmp_path / "disk"))
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(tmp_path / "dict"))
    for name in ["one.parquet", "one.csv", "one.jsonl", "hub", "old", "converted", "plain", "unnamed", "disk", "dict"]:
        read = read_rows(str(tmp_path / name), ["train"])
        assert read.column("a").to_pylist() == ["NA", "null", "x"], name
        assert read.column("b").to_pylist() == [1.0, None, 3.0], name
        assert read.parts == [("train", 3)]
    assert read_rows(str(tmp_path / "dict"), ["train", "test"]).part_of(np.arange(6)) == ["train"] * 3 + ["test"] * 3


def test_shards_are_read_in_order_and_a_subset_from_its_folder(tmp_path: Path) -> None:
    for i in range(3):
        parquet(tmp_path / "data" / f"train-0000{i}-of-00003.parquet", {"a": [2 * i, 2 * i + 1]})
    parquet(tmp_path / "small" / "train.parquet", {"a": [9]})
    assert read_rows(str(tmp_path), ["train"]).column("a").to_pylist() == list(range(6))
    assert read_rows(str(tmp_path), ["train"], subset="small").column("a").to_pylist() == [9]
    with pytest.raises(InputError, match=r"the data set has no part 'test' in .*: expected test\.parquet.*found data/train-00000"):
        read_rows(str(tmp_path), ["train", "test"])


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = parquet(tmp_path / "one.parquet", {"a": [1]})
    before = read_rows(str(path), ["train"])
    parquet(path, {"a": [1, 2, 3]})
    after = read_rows(str(path), ["train"])
    assert (len(before), len(after)) == (1, 3)
    assert before.revision != after.revision


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("one.pkl", b"\x80\x04.", r"unknown kind of data file in .*one\.pkl: expected \.parquet, \.jsonl, \.csv, \.arrow, found '\.pkl'"),
        ("one.parquet", b"PAR1 and nothing", "the data set cannot be read in .*: expected whole parquet files, found Arrow"),
        ("one.jsonl", b'{"a": 1}\n{"a":', "the data set cannot be read"),
        ("one.csv", b'a,b\n1,"2\n', "the data set cannot be read"),
        ("one.csv", b"a,b\n", "a part of the data set is empty|the data set cannot be read"),
        ("train/one.csv", b"a,b\n1,2\n", "the data set lies there twice"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if "/" in name:
        parquet(tmp_path / "train" / "two.parquet", {"a": [1]})
        path = tmp_path
    with pytest.raises(InputError, match=told):
        read_rows(str(path), ["train"])


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data set '/nowhere/at/all' cannot be read.*data\.dataset=folder"):
        read_rows("/nowhere/at/all", ["train"])
    with pytest.raises(InputError, match=r"the data set has no part 'train' in .*found no file"):
        read_rows(str(tmp_path), ["train"])
    path = parquet(tmp_path / "one.parquet", {"a": [1]})
    with pytest.raises(InputError, match=r"one file has one part in .*found train\+test"):
        read_rows(str(path), ["train", "test"])


# ---- each of them


def test_arena_by_hand(tmp_path: Path) -> None:
    long, emoji = "Tell me about the rivers of Asia", "What is \ud83d and \U0001f600 for?"
    rows = [
        ([long, "More."], "m1", "m2", 1, 0, 0),
        (["Hi"], "m1", "m2", 0, 1, 0),
        (["   fifteen chars.   "], "m1", "m2", 0, 1, 0),
        (["  sixteen chars...  "], "m3", "m1", 0, 1, 0),
        ([long], "m2", "m1", 0, 0, 1),
        ([emoji], "m2", "m3", 0, 0, 1),
        (['["a list of text in the text"]'], "m1", "m3", 1, 0, 0),
    ]
    columns = dict(
        zip(("prompt", "model_a", "model_b", "winner_model_a", "winner_model_b", "winner_tie"), zip(*rows, strict=True), strict=True)
    )
    columns["prompt"] = [json.dumps(turns) for turns in columns["prompt"]]
    path = parquet(tmp_path / "train.parquet", {name: list(column) for name, column in columns.items()})
    made = source("lmsys_arena_55k", path)
    fought = battles(made)
    assert fought.queries.text.tolist() == [
        long,
        "  sixteen chars...  ",
        "What is \ufffd and \U0001f600 for?",
        '["a list of text in the text"]',
    ]
    assert fought.pool.name == ("m1", "m2", "m3")
    assert fought.query.tolist() == [0, 1, 0, 2, 3]
    assert fought.outcome.tolist() == [1, 0, 0.5, 0.5, 1]
    about = made.provenance()
    counts = {"rows": 7, "short_prompts": 2, "battles": 5, "ties": 2, "repeated": 1}
    assert {name: about[name] for name in counts} == counts
    assert len(battles(source("lmsys_arena_55k", path, "data.shortest=1"))) == 7
    assert len(battles(source("lmsys_arena_55k", path, "data.ties=drop"))) == 3
    assert len(battles(source("lmsys_arena_55k", path, "data.models=[m2,m1]"))) == 2
    with pytest.raises(InputError, match="there is no model 'm9'"):
        source("lmsys_arena_55k", path, "data.models=[m1,m9]").load()
    assert made.split() is None
    columns["winner_tie"] = [1, *columns["winner_tie"][1:]]
    parquet(path, {name: list(column) for name, column in columns.items()})
    with pytest.raises(InputError, match=r"a battle without exactly one winner in .*row 0, column 'winner_model_a'.*found 1, 0, 1"):
        made.load()


def test_judge_scores_become_battles(tmp_path: Path) -> None:
    folder = write("routellm_gpt4", tmp_path)
    made = source("routellm_gpt4", folder)
    fought = battles(made)
    assert fought.pool.name == ("mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview")
    assert (fought.a == 0).all()
    assert fought.outcome[:5].tolist() == [0, 0, 0, 1, 1], "scores 1 to 5"
    assert fought.queries.group[:3].tolist() == ["rivers", "sums", "poems"]
    assert made.split() is None
    assert battles(source("routellm_gpt4", folder, "data.enough=tie")).outcome[:5].tolist() == [0, 0, 0, 0.5, 0.5]
    assert battles(source("routellm_gpt4", folder, "data.threshold=2")).outcome[:5].tolist() == [0, 1, 1, 1, 1]
    assert len(battles(source("routellm_gpt4", folder, "data.part=train+validation"))) == 50
    for override, told in {
        "data.threshold=1": "a score from 2 to 5, found 1",
        "data.enough=maybe": "win or tie, found 'maybe'",
        "data.models=[a]": r"\[weak, strong\]",
    }.items():
        with pytest.raises(InputError, match=f"of routellm_gpt4: expected {told}"):
            source("routellm_gpt4", folder, override).load()
    for score in (6, 0, 2.5, None):
        path = parquet(tmp_path / "bad.parquet", {"prompt": ["x", "y"], "source": ["s", "s"], "mixtral_score": [3.0, score]})
        with pytest.raises(InputError, match=r"row 1, column 'mixtral_score'"):
            source("routellm_gpt4", path).load()
    twice = {"prompt": ["x", "x", '["y"]'], "source": [["s", "t"], ["u"], ["v"]], "mixtral_score": [3, 5, 1]}
    fought = battles(source("routellm_gpt4", parquet(tmp_path / "twice.parquet", twice)))
    assert fought.queries.text.tolist() == ["x", '["y"]']
    assert fought.queries.group.tolist() == ["s+t", "v"]
    np.testing.assert_allclose(win_shares(fought), [[0.5, 0.5], [0, 1]])


def test_routerbench_by_hand(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "sample_id": ["s.1", "s.2", "s.3"],
        "prompt": ["['What is 2 + 2?', 'And then?']", "[header] How to swim", str(['It\'s "quoted"\nhere'])],
        "eval_name": ["sums", "hellaswag", "sums"],
        "m/1": [1.0, 0.25, None],
        "m/2": [0.0, 1.0, 1.0],
        "m/1|model_response": ["['4']", "['no']", None],
        "m/1|total_cost": [1e-5, 2e-5, None],
        "m/2|total_cost": [1e-3, 2e-3, 3e-3],
        "oracle_model_to_route_to": ["m/1", "m/2", "m/2"],
    }
    path = parquet(tmp_path / "routerbench_0shot.parquet", columns)
    made = source("routerbench", tmp_path)
    table = outcomes(made)
    assert table.queries.id.tolist() == ["s.1", "s.2", "s.3"]
    assert table.queries.text.tolist() == ["What is 2 + 2?", "[header] How to swim", 'It\'s "quoted"\nhere']
    assert table.queries.group.tolist() == ["sums", "hellaswag", "sums"]
    assert table.pool.name == ("m/1", "m/2")
    np.testing.assert_array_equal(table.quality, np.array([[1, 0], [0.25, 1], [np.nan, 1]], dtype=np.float32))
    np.testing.assert_array_equal(table.cost, [[1e-5, 1e-3], [2e-5, 2e-3], [np.nan, 3e-3]])
    assert table.usage == "estimated"
    assert table.answer is not None
    assert table.answer.tolist() == [["4", None], ["no", None], [None, None]]
    assert outcomes(source("routerbench", path, "data.answers=false", "data.models=[m/2,m/1]")).answer is None
    with pytest.raises(InputError, match="one query has two rows"):
        source("routerbench", parquet(tmp_path / "b.parquet", columns | {"sample_id": ["s.1", "s.2", "s.1"]})).load()
    with pytest.raises(InputError, match=r"a number is out of range in .*row 1, column 'm/2'"):
        source("routerbench", parquet(tmp_path / "c.parquet", columns | {"m/2": [0.0, 9.0, 1.0]})).load()
    for gone, told in (("m/2", "no column 'm/2'"), ("total_cost", "found sample_id")):
        some = {name: values for name, values in columns.items() if name != gone and not (gone == "total_cost" and gone in name)}
        with pytest.raises(InputError, match=f"the data set lacks scores in .*: expected <model> and <model>|total_cost.*{told}"):
            source("routerbench", parquet(tmp_path / "d.parquet", some)).load()
    with pytest.raises(InputError, match="the table has only one model"):
        source("routerbench", path, "data.models=[m/1]").load()
    with pytest.raises(InputError, match="the data set has no part 'routerbench_5shot'"):
        source("routerbench", tmp_path, "data.part=routerbench_5shot").load()


def test_routerbench_survives_the_conversion_that_is_proposed(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    whole = write("routerbench", tmp_path)
    pandas.read_parquet(whole / "routerbench_0shot.parquet").to_csv(tmp_path / "routerbench_0shot.csv", index=False)
    first, second = (
        outcomes(source("routerbench", whole / "routerbench_0shot.parquet")),
        outcomes(source("routerbench", tmp_path / "routerbench_0shot.csv")),
    )
    assert second.queries.text.tolist() == first.queries.text.tolist()
    np.testing.assert_array_equal(second.quality, first.quality)
    np.testing.assert_allclose(second.cost, first.cost, rtol=1e-12)


def test_pickles_of_routerbench_are_never_opened(tmp_path: Path) -> None:
    """A pickle that would leave a file behind if anybody read it."""
    mark = tmp_path / "opened"
    content = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    for path in (tmp_path / "a" / "routerbench_0shot.pkl", tmp_path / "b" / "some.pkl"):
        path.parent.mkdir()
        path.write_bytes(content)
    for dataset in (tmp_path / "a", tmp_path / "a" / "routerbench_0shot.pkl", tmp_path / "b"):
        with pytest.raises(InputError, match=r"pickles, which are never read\. Convert it"):
            source("routerbench", dataset).load()
    assert not mark.exists()


def test_sprout_by_hand(tmp_path: Path) -> None:
    def call(score: float | None, given: int | None, made: int | None) -> dict[str, Any]:
        return {"num_input_tokens": given, "num_output_tokens": made, "response": "r", "score": score}

    columns: dict[str, list[Any]] = {
        "prompt": ["x", "y", "x"],
        "dataset": ["d", "e", "d"],
        "golden_answer": ["1", "2", "3"],
        "small": [call(1.0, 100, 10), call(0.5, 200, 20), call(None, 300, 30)],
        "large": [call(1.0, 100, 40), None, call(0.0, None, 50)],
        "extra": [{"level": 1}] * 3,
    }
    path = parquet(tmp_path / "train.parquet", columns)
    made = source("sprout", path, "data.part=train")
    made.prices = PriceBook(
        date="2025-01-01", source="s", models={"small": {"input": 1, "output": 2}, "large": {"input": 10, "output": 20}}
    )
    table = outcomes(made)
    assert table.pool.name == ("small", "large")
    assert table.queries.id.tolist() == ["sprout-train-00000", "sprout-train-00001", "sprout-train-00002"]
    assert table.queries.group.tolist() == ["d", "e", "d"]
    np.testing.assert_array_equal(table.quality, [[1, 1], [0.5, np.nan], [np.nan, 0]])
    # by hand: 100 x $1e-6 + 10 x $2e-6
    np.testing.assert_allclose(table.cost, [[1.2e-4, 1.8e-3], [2.4e-4, np.nan], [3.6e-4, np.nan]], rtol=1e-12)
    np.testing.assert_array_equal(table.tokens["input"], [[100, 100], [200, np.nan], [300, np.nan]])
    assert table.usage == "measured"
    assert table.answer is None
    assert made.provenance()["prices"] == {"date": "2025-01-01", "source": "s"}
    assert made.provenance()["missing_quality"] == 2
    with pytest.raises(InputError, match="model 'small' has no price"):
        source("sprout", path, "data.part=train").load()
    unpriced = source("sprout", path, "data.part=train", "data.prices=null", "data.answers=true", "data.models=[large,small]")
    table = outcomes(unpriced)
    assert np.isnan(table.cost).all()
    assert table.answer is not None
    assert table.answer.tolist() == [["r", "r"], [None, "r"], ["r", "r"]]
    torn = columns | {"large": [{"score": 1.0}] * 3}
    with pytest.raises(
        InputError, match=r"lacks models in .*: expected .*num_input_tokens, num_output_tokens, score, found large with score"
    ):
        source("sprout", parquet(tmp_path / "b.parquet", torn), "data.part=train").load()
    plain = {name: values for name, values in columns.items() if name not in ("small", "large")}
    with pytest.raises(InputError, match="lacks models"):
        source("sprout", parquet(tmp_path / "c.parquet", plain), "data.part=train").load()


def test_sprout_is_priced_by_its_authors_or_by_you(tmp_path: Path) -> None:
    folder = write("sprout", tmp_path)
    table = outcomes(source("sprout", folder))
    prompt, answer = (table.tokens[kind][0, 0] for kind in ("input", "output"))
    assert table.cost[0, 0] == pytest.approx((2.5 * prompt + 10 * answer) * 1e-6, rel=1e-12), "gpt-4o"
    with pytest.raises(InputError, match="model 'openai-gpt-4o' has no price"):
        source("sprout", folder, "data.prices=${prices}").load()


@pytest.mark.parametrize("name", ["sprout", "embedllm"])
def test_parts_are_a_split(name: str, tmp_path: Path) -> None:
    folder = write(name, tmp_path)
    assert source(name, folder).split() == ["train"] * 30 + ["calibration"] * 8 + ["test"] * 14
    assert source(name, folder, "data.part=test").split() is None
    assert source(name, folder, "data.part=train+test").split() == ["train"] * 30 + ["test"] * 14


def test_a_text_in_two_parts_is_trained_on_only(tmp_path: Path) -> None:
    call = {"num_input_tokens": 1, "num_output_tokens": 1, "score": 1.0}
    for part, text in {"train": ["x", "y"], "test": ["z", " X "]}.items():
        parquet(tmp_path / f"{part}.parquet", {"prompt": text, "dataset": ["d", "d"], "a": [call] * 2, "b": [call] * 2})
    made = source("sprout", tmp_path, "data.part=train+test", "data.prices=null")
    assert made.load().queries.text.tolist() == ["x", "y", "z", " X "]
    assert made.split() == ["train", "train", "test", "train"]


def test_embedllm_by_hand(tmp_path: Path) -> None:
    rows = [
        (3, "x", "m1", "gpqa_a", 1),
        (3, "x", "m2", "gpqa_a", 0),
        (1, "y", "m2", "piqa", 1),
        (3, "x", "m1", "gpqa_b", 0),
        (3, "x", "m1", "gpqa_c", 0),
        (1, "y", "m3", "piqa", None),
    ]
    columns = dict(zip(("prompt_id", "prompt", "model_name", "category", "label"), map(list, zip(*rows, strict=True)), strict=True))
    made = source("embedllm", parquet(tmp_path / "train.parquet", columns), "data.part=train")
    table = outcomes(made)
    assert table.queries.id.tolist() == ["3", "1"]
    assert table.queries.text.tolist() == ["x", "y"]
    assert table.queries.group.tolist() == ["gpqa_a", "piqa"]
    assert table.pool.name == ("m1", "m2", "m3")
    np.testing.assert_allclose(table.quality, [[1 / 3, 0, np.nan], [np.nan, 1, np.nan]], rtol=1e-6)
    assert np.isnan(table.cost).all()
    assert table.usage == "none"
    assert (made.provenance()["rows"], made.provenance()["repeated"], made.provenance()["missing_quality"]) == (6, 2, 3)
    made.models = ["m2", "m1"]
    np.testing.assert_allclose(outcomes(made).quality, [[0, 1 / 3], [1, np.nan]], rtol=1e-6)
    for name, values, told in (
        ("label", [1, 0, 2, 0, 0, 1], "a label is neither right nor wrong in .*row 2, column 'label': expected 0 or 1, found 2"),
        ("label", ["yes"] * 6, "the labels are no numbers in .*row 0"),
        (
            "prompt",
            ["x", "x", "y", "z", "x", "y"],
            "one query has two values in .*row 3, column 'prompt': expected 'x' as in row 0, found 'z'",
        ),
        ("model_name", ["m1", None, "m2", "m1", "m1", "m3"], "a cell is empty in .*row 1, column 'model_name'"),
    ):
        with pytest.raises(InputError, match=told):
            source("embedllm", parquet(tmp_path / "bad.parquet", columns | {name: values}), "data.part=train").load()
