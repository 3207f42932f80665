"""The contract suite of sources: every configs/data/*.yaml is pinned, says whose its data are, and loads to audited outcomes or battles.

A source on the Hugging Face hub is read from a small local copy of the same schema (tests/hub_data.py) by the same code.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from routewright.core.artifact import content_hash
from routewright.core.contracts import Source
from routewright.core.files import json_bytes, sha256
from routewright.core.judged import judged
from routewright.core.types import Battles, InputError, Outcomes
from routewright.data import audit
from routewright.data.load import load, provenance
from tests.hub_data import write

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "data").glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]
EXAMPLE = ROOT / "tests" / "data" / "own_wide.csv"
SPLITS = {"train", "calibration", "test"}


def read(name: str) -> DictConfig:
    """The YAML alone, without what it takes from other groups."""
    config = OmegaConf.load(ROOT / "configs" / "data" / f"{name}.yaml")
    assert isinstance(config, DictConfig)
    return config


def pinned(name: str) -> list[tuple[str, str, str, str]]:
    """(owner/repo, commit, path, sha256) of every file that the source fetches, those of nested blocks too."""
    found = []
    blocks = [OmegaConf.to_container(read(name), resolve=False)]
    while blocks:
        block = blocks.pop()
        if isinstance(block, dict):
            blocks += list(block.values())
            if "files" in block:
                found += [(f"{block['owner']}/{block['repo']}", block["commit"], path, digest) for path, digest in block["files"].items()]
    return found


FETCHED = [name for name in NAMES if pinned(name)]
# the user's own file; what is neither fetched nor theirs comes with the repository. A value that is still ??? is not `in` a DictConfig
OWN = [name for name in NAMES if "path" in set(read(name))]
HUB = [name for name in NAMES if "dataset" in set(read(name))]
# what is not known of every query, and why
UNCOSTED = {"embedllm": "upstream has grades alone"}
UNPRICED = {*UNCOSTED, "routerbench"}  # the latter's costs come with it, not from a price book
SPARSE = {"embedllm": "a model was asked some questions only", "lmsys_arena_55k": "a battle is between two of many models"}


@cache
def local_copy(name: str) -> Path:
    """A small data set of the hub source's schema."""
    return write(name, Path(tempfile.mkdtemp(prefix=f"{name}-")))


def longer_table(folder: Path) -> Path:
    """The example's three queries five times over, with ids and texts of their own: enough of them to learn from."""
    with EXAMPLE.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    path = folder / "longer.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows([f"{row[0]}-{i}", f"{row[1]} ({i})", *row[2:]] for i in range(5) for row in rows)
    return path


def source(name: str, *overrides: str) -> Source:
    """As train.py makes it."""
    GlobalHydra.instance().clear()
    path = [f"data.path={EXAMPLE}"] if name in OWN else [f"data.dataset={local_copy(name)}"] if name in HUB else []
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        made: Source = instantiate(compose("train", [f"data={name}", *path, *overrides]).data)
    return made


@cache
def whole(name: str) -> tuple[Source, Outcomes | Battles]:
    """The source and what it loads."""
    made = source(name)
    table = made.load()
    assert isinstance(table, Outcomes | Battles)
    return made, table


@cache
def loaded(name: str) -> tuple[Source, Outcomes]:
    """The source and the table that is judged; of battles, the shares that were won."""
    made, table = whole(name)
    return made, judged(table)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Every source; one that is fetched needs the mirror."""
    if request.param in FETCHED:
        request.getfixturevalue("mirror")
    return str(request.param)


@pytest.mark.parametrize("each", NAMES)
def test_the_config_says_what_it_is_and_whose(each: str) -> None:
    first, *_ = (ROOT / "configs" / "data" / f"{each}.yaml").read_text().splitlines()
    assert re.fullmatch(r"# \S.{10,}", first)
    config = read(each)
    assert get_class(config["_target_"]).__doc__
    assert config["_target_"].startswith("routewright.data.sources.")
    assert config["licence"].strip()
    assert "citation" in config
    if each not in OWN:
        assert config["citation"].strip()
        assert config["name"] == each


def test_sources_are_fetched_from_the_hub_the_users_own_or_committed() -> None:
    assert len(FETCHED) >= 3
    assert OWN == ["table"]
    assert len(HUB) >= 5
    assert "pocket" in set(NAMES) - set(FETCHED) - set(OWN) - set(HUB), "one needs neither a network nor a file"


@pytest.mark.parametrize("each", FETCHED)
def test_every_file_is_pinned_by_commit_and_hash(each: str) -> None:
    files = pinned(each)
    for repo, commit, path, digest in files:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", repo)
        assert re.fullmatch(r"[0-9a-f]{40}", commit), path
        assert re.fullmatch(r"[0-9a-f]{64}", digest), path
        assert not Path(path).is_absolute()
    assert len({path for _, _, path, _ in files}) == len(files)
    assert len({digest for *_, digest in files}) == len(files), "the same bytes under two names is a slip"


@pytest.mark.parametrize("each", FETCHED)
def test_the_pins_are_those_of_the_mirror(each: str, mirror: Path) -> None:
    listed = {(row["repo"], row["commit"], row["path"]): row["sha256"] for row in json.loads((mirror / "MANIFEST.json").read_text())}
    for repo, commit, path, digest in pinned(each):
        assert listed.get((repo, commit, path)) == digest, path


def test_it_is_a_source_that_makes_outcomes_or_battles(name: str) -> None:
    made, table = whole(name)
    outcomes = loaded(name)[1]
    assert isinstance(made, Source)
    assert len(outcomes) > 2
    assert len(outcomes.pool) >= 2
    assert len(set(outcomes.queries.id)) == len(outcomes)
    assert all(text.strip() for text in outcomes.queries.text)
    assert np.isfinite(outcomes.quality).any(axis=0).all(), "every model was graded somewhere"
    if isinstance(table, Battles):
        assert table.cost is None
        assert set(np.unique(table.outcome)) <= {0.0, 0.5, 1.0}
        assert len(np.unique(table.outcome)) > 1, "somebody wins"
    if name in OWN:
        return
    assert outcomes.observed().all() or name in SPARSE
    if isinstance(table, Outcomes) and name not in UNCOSTED:
        assert np.isfinite(outcomes.cost).all()
        assert (outcomes.cost > 0).all()
        assert np.ptp(outcomes.cost, axis=0).min() > 0, "cost follows usage"


def test_it_passes_the_audit(name: str, tmp_path: Path) -> None:
    if name not in OWN:
        _, outcomes = loaded(name)
    else:
        outcomes = load(source(name, f"data.path={longer_table(tmp_path)}")).outcomes
        with pytest.raises(InputError, match="too few queries"):
            load(source(name))
    notes = audit.check(outcomes)
    assert all(isinstance(note, str) and note.endswith(".") for note in notes)


def test_its_own_split_has_a_side_for_every_query(name: str, tmp_path: Path) -> None:
    made, outcomes = loaded(name)
    given = made.split()
    if given is not None:
        assert len(given) == len(outcomes)
        assert set(given) <= SPLITS
        assert load(made, kind="auto").kind == "given"
    else:
        longer = longer_table(tmp_path)
        kept = source(name, f"data.path={longer}") if name in OWN else SimpleNamespace(load=lambda: outcomes, split=made.split)
        with pytest.raises(InputError, match="no split of their own"):
            load(kept, kind="given")
        assert load(kept, kind="auto").kind == "random"


def test_provenance_is_plain_and_complete(name: str) -> None:
    made, outcomes = loaded(name)
    told = json.loads(json.dumps(made.provenance()))
    assert told == made.provenance(), "tuples and numpy values would come back as something else"
    assert {"name", "labels", "licence", "citation", "revision", "files", "usage", "prices", "models"} <= set(told)
    assert told["name"] == name
    assert told["models"] == list(outcomes.pool.name)
    assert told["usage"] == outcomes.usage
    assert told["licence"]
    assert told["files"]
    for path, digest in told["files"].items():
        assert re.fullmatch(r"[0-9a-f]{64}", digest), path
    if name not in {*OWN, *UNPRICED} and isinstance(whole(name)[1], Outcomes):
        assert told["prices"]["date"]
    if name in FETCHED:
        assert {digest for *_, digest in pinned(name)} >= set(told["files"].values())
    if name in OWN:
        assert told["files"] == {EXAMPLE.name: sha256(EXAMPLE)}
    about = provenance(made, outcomes)["data"]
    assert about["queries"] == len(outcomes)
    assert about["content_sha256"] == content_hash(outcomes)
    assert json_bytes(about)


def test_loaded_again_it_is_the_same_table(name: str) -> None:
    _, first = loaded(name)
    second = judged(source(name).load())
    assert content_hash(second) == content_hash(first)
    assert second.queries.id.tolist() == first.queries.id.tolist()


@pytest.mark.parametrize("each", FETCHED)
def test_labels_reach_the_source_and_its_provenance(each: str, mirror: Path) -> None:
    assert loaded(each)[0].provenance()["labels"] == "clean"
    assert source(each, "labels=published").provenance()["labels"] == "published"
    with pytest.raises(InputError, match="clean, published"):
        source(each, "labels=wrong").load()


def test_the_content_hash_sees_every_column() -> None:
    """A changed text, group, name, grade or cost is another table; the order of rows counts too."""
    _, outcomes = loaded("table")
    rows = np.arange(len(outcomes))
    config: dict[str, Any] = {"quality": outcomes.quality.copy(), "cost": outcomes.cost.copy()}
    config["quality"][0, 0] = 0.5
    config["cost"][0, 0] = 9.0
    others = [
        Outcomes(outcomes.queries, outcomes.pool, **({"quality": outcomes.quality, "cost": outcomes.cost} | {k: v}))
        for k, v in config.items()
    ]
    others += [outcomes.take(rows[::-1]), outcomes.take(rows[:-1]), outcomes.models(list(outcomes.pool.name[::-1]))]
    hashes = {content_hash(other) for other in [outcomes, *others]}
    assert len(hashes) == 6
