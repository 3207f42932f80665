"""Every YAML under configs/: composed as an entry point composes it, instantiated, and introduced by a line that says what it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from routewright.core.contracts import Backend, Cascade, Encoder, Grader, Router, Signal, Source, Student
from routewright.core.policy import POLICIES
from routewright.core.prices import PriceBook
from routewright.data import split
from routewright.eval.assess import Judging

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
ENTRIES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "base")
MEMBERS = sorted((path.parent.name, path.stem) for path in CONFIGS.glob("*/*.yaml"))
TABLE = ROOT / "tests" / "data" / "own_wide.csv"
NEEDED = {"train": [f"data.path={TABLE}"], "evaluate": ["runs=[outputs/a]"], "export": ["run=outputs/a"], "collect": []}
# what a group's members must be
KINDS: dict[str, type] = {"data": Source, "router": Router, "encoder": Encoder, "backend": Backend, "grader": Grader}
KINDS |= {"cascade": Cascade, "signal": Signal, "student": Student}
COLLECT = ("backend", "questions", "grader", "judge")  # groups of collect.py alone
# what a member asks its user for
ASKED = {
    ("encoder", "sentence_transformer"): "encoder.model=some/model",
    ("backend", "replay"): "backend.path=calls.parquet",
    ("questions", "table"): f"questions.path={TABLE}",
    ("judge", "score"): "judge.model=some-model",
    ("judge", "pairwise"): "judge.model=some-model",
}


def offered(kind: type) -> set[str]:
    """What a contract asks for. isinstance would read an encoder's fingerprint, for which it opens its weights."""
    return {name for name in {*vars(kind), *kind.__annotations__} if not name.startswith("_")}


@pytest.fixture(autouse=True)
def configs() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def composed(entry: str = "train", *words: str) -> DictConfig:
    table = ["data=table"] if entry == "train" and not any(word.startswith("data=") for word in words) else []
    own = any(word.startswith("data=") and word != "data=table" for word in words)
    return compose(entry, [*table, *([] if own and entry == "train" else NEEDED[entry]), *words])


def owner(group: str) -> str:
    """The entry point that reads this group."""
    return "collect" if group in COLLECT else "train"


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_first_line_says_what_it_is(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert re.fullmatch(r"# \S.{15,}", first), f"{path.name} begins with {first!r}"


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_point_composes_and_has_its_script(entry: str) -> None:
    assert (ROOT / f"{entry}.py").is_file()
    config = composed(entry)
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    assert {"seed", "labels", "hub", "outputs"} <= set(plain), "what configs/base.yaml gives everybody"
    assert not plain["hub"], "nothing reaches the hub unasked"


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_example_on_its_first_line_is_true(entry: str) -> None:
    first = (CONFIGS / f"{entry}.yaml").read_text().splitlines()[0]
    assert first.startswith(f"# python {entry}.py")
    for group in re.findall(r"\[(\w+)=\.\.\.\]", first):
        assert group in compose(entry, NEEDED[entry] if entry != "train" else []) or (CONFIGS / group).is_dir()


@pytest.mark.parametrize(("group", "name"), MEMBERS, ids=lambda value: str(value))
def test_every_member_of_every_group_composes_and_instantiates(group: str, name: str) -> None:
    words, entry = [f"{group}={name}"], owner(group)
    if (group, name) in ASKED:
        with pytest.raises(MissingMandatoryValue):
            instantiate(composed(entry, *words)[group])
        words.append(ASKED[group, name])
    part = composed(entry, *words)[group]
    made: Any = instantiate(part)
    if "_target_" in part:
        assert type(made) is get_class(part["_target_"])
        assert type(made).__module__.startswith("routewright.")
    else:
        assert group == "policy", "only a policy is a name and no object"
        assert made.name in ("auto", *POLICIES)
        assert made.name == name
        Judging(policy=made.name)
    if group in KINDS:
        assert offered(KINDS[group]) <= set(dir(made))
    if group == "prices":
        assert isinstance(made, PriceBook)
    if group == "tracking":
        assert callable(made.log)


@pytest.mark.parametrize("group", sorted({group for group, _ in MEMBERS}))
def test_every_group_is_read_by_an_entry_point(group: str) -> None:
    text = (CONFIGS / f"{owner(group)}.yaml").read_text()
    assert re.search(rf"^  - (optional )?{group}: \w+", text, re.MULTILINE), "a group that no entry point reads is dead"


def test_the_default_split_and_judging_are_possible() -> None:
    config = composed()
    assert config.split.kind in ("auto", *split.KINDS)
    assert 0 < config.split.test + config.split.calibration < 1
    assert config.cv is None
    assert Judging(config.policy.name, config.protocol, config.replicates).protocol == "exact"


def test_prices_and_labels_reach_the_data() -> None:
    config = composed("train", "data=routellm_mtbench", "labels=published")
    assert config.data.labels == "published"
    assert config.data.prices == config.prices
    assert instantiate(config.data).prices == instantiate(config.prices)


def test_tracking_follows_the_outputs_folder() -> None:
    tracker = instantiate(composed("train", "outputs=elsewhere").tracking)
    assert tracker.uri == "sqlite:///elsewhere/mlflow.db"


def test_the_readme_names_every_router() -> None:
    text = (ROOT / "README.md").read_text().split("| router | what it does |")[1].split("\n\n")[0]
    named = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named == {path.stem for path in (CONFIGS / "router").glob("*.yaml")}


@pytest.mark.parametrize("group", ["cascade", "signal", "student"])
def test_the_page_on_cascades_names_every_part(group: str) -> None:
    text = (ROOT / "docs" / "CASCADES.md").read_text().split(f"| {group} | what it")[1].split("\n\n")[0]
    named = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named == {path.stem for path in (CONFIGS / group).glob("*.yaml")}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_command_of_the_readme_can_be_composed(entry: str) -> None:
    """Words as the README types them: groups, keys and values that exist. Sweeps are left to Hydra's own parser."""
    lines = [line.split("#")[0] for line in (ROOT / "README.md").read_text().splitlines() if f"python {entry}.py" in line]
    assert lines
    for line in lines:
        words = shlex.split(line.split(f"{entry}.py")[1])
        if "-m" not in words:
            compose(entry, words)


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("train", "ruter=knn"),
        ("train", "router.neighbours=3"),
        ("train", "data.file=x.csv"),
        ("train", "encoder.size=3"),
        ("train", "split.seed=3"),
        ("train", "tracking.url=x"),
        ("train", "policy.knob=1"),
        ("train", "prices.day=x"),
        ("evaluate", "run=outputs/a"),
        ("evaluate", "replicate=100"),
        ("export", "runs=[outputs/a]"),
        ("export", "samples=3"),
        ("collect", "arm=[x]"),
        ("collect", "backend.url=x"),
        ("collect", "limits.retries=3"),
    ],
)
def test_a_key_that_does_not_exist_is_refused(entry: str, word: str) -> None:
    with pytest.raises(ConfigCompositionException, match=f"Could not override '{word.split('=')[0]}'"):
        composed(entry, word)


@pytest.mark.parametrize("group", sorted({group for group, _ in MEMBERS}))
def test_a_member_that_does_not_exist_lists_those_that_do(group: str) -> None:
    with pytest.raises(ConfigCompositionException) as caught:
        composed(owner(group), f"{group}=nonesuch")
    said = str(caught.value) + str(caught.value.__cause__ or "")
    for other, name in MEMBERS:
        if other == group:
            assert name in said
