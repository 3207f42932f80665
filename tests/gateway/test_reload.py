"""A bundle's folder that changes while it serves: good ones are swapped in, all others refused, and somebody always serves."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.types import InputError
from routewright.gateway.bundle import FILES, Bundle
from routewright.gateway.reload import Reloading
from tests.gateway.served import until
from tests.gateway_bundles import put


@pytest.fixture
def folder(bundles: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(bundles[0], tmp_path / "bundle")


def hash_of(folder: Path) -> str:
    return str(json.loads((folder / "bundle.json").read_text())["sha256"]["bundle.json"])


def resealed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """bundle.json changed, and sealed as an export would."""
    described = json.loads((folder / "bundle.json").read_text())
    change(described)
    described["sha256"]["bundle.json"] = ""
    blank = json.dumps(described)
    seal = hashlib.sha256(blank.encode()).hexdigest()
    (folder / "bundle.json").write_text(blank.replace('"bundle.json": ""', f'"bundle.json": "{seal}"'))


def test_a_new_bundle_is_swapped_in_once(bundles: tuple[Path, Path], folder: Path) -> None:
    reloading = Reloading(folder, Bundle.load)
    assert reloading.bundle.hash == hash_of(bundles[0])
    assert not reloading.check()
    old = reloading.current
    put(bundles[1], folder)
    assert reloading.check()
    assert not reloading.check()
    assert reloading.bundle.hash == hash_of(bundles[1]) != hash_of(bundles[0])
    assert (reloading.reloads, reloading.failures, reloading.refused) == (1, 0, None)
    assert old is not None
    assert reloading.current is not None
    assert reloading.current.since >= old.since


@pytest.mark.parametrize("name", FILES)
def test_a_corrupt_bundle_is_refused_once_and_the_old_one_serves(bundles: tuple[Path, Path], folder: Path, name: str) -> None:
    reloading = Reloading(folder, Bundle.load)
    put(bundles[1], folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert not reloading.check()
    assert not reloading.check()
    assert reloading.bundle.hash == hash_of(bundles[0])
    assert reloading.bundle.decide("abc").model
    assert (reloading.reloads, reloading.failures) == (0, 1)
    assert re.match(re.escape(name) + " was changed", str(reloading.refused))
    put(bundles[1], folder)
    assert reloading.check()
    assert (reloading.reloads, reloading.failures, reloading.refused) == (1, 1, None)


@pytest.mark.parametrize("order", [FILES, FILES[::-1]])
def test_files_that_come_one_by_one_are_taken_when_the_last_is_there(
    bundles: tuple[Path, Path], folder: Path, order: tuple[str, ...]
) -> None:
    """A copy in any order: bundle.json does not change again when the graph comes after it."""
    reloading, swapped = Reloading(folder, Bundle.load), []
    for name in order:
        data = (bundles[1] / name).read_bytes()
        for part in (data[: len(data) // 2], data):
            (folder / name).write_bytes(part)
            swapped.append(reloading.check())
    assert swapped.count(True) == 1
    assert reloading.refused is None
    assert reloading.bundle.hash == hash_of(bundles[1])


def test_the_same_bundle_again_is_no_reload(bundles: tuple[Path, Path], folder: Path) -> None:
    """Sessions and counts go on where a deployment writes what is there already."""
    reloading = Reloading(folder, Bundle.load)
    before = reloading.bundle
    put(bundles[0], folder)
    assert not reloading.check()
    assert not reloading.check(force=True)
    assert reloading.bundle is before
    assert (reloading.reloads, reloading.failures) == (0, 0)


def test_wrong_golden_vectors_are_refused(bundles: tuple[Path, Path], folder: Path) -> None:
    """Whole and sealed, and yet it would decide differently from what was trained."""
    reloading = Reloading(folder, Bundle.load)

    def change(described: dict[str, Any]) -> None:
        described["golden"][5]["quality"][0] += 0.01

    resealed(folder, change)
    assert hash_of(folder) == Bundle.load(folder).hash, "the seal itself is right"
    assert not reloading.check()
    assert "scores differently" in str(reloading.refused)
    assert reloading.bundle.hash == hash_of(bundles[0])


def test_sealed_nonsense_is_refused_too(bundles: tuple[Path, Path], folder: Path) -> None:
    reloading = Reloading(folder, Bundle.load)
    resealed(folder, lambda described: described.pop("models"))
    assert not reloading.check()
    assert "the bundle cannot be opened" in str(reloading.refused)
    assert reloading.bundle.hash == hash_of(bundles[0])


def test_none_at_first_says_why_until_one_comes(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    reloading = Reloading(folder, Bundle.load)
    assert reloading.current is None
    for _ in range(2):
        with pytest.raises(InputError, match=r"bundle\.json cannot be read"):
            _ = reloading.bundle
    assert reloading.failures == 1
    shutil.copytree(bundles[0], folder)
    assert not reloading.check(), "the first bundle replaces none"
    assert reloading.bundle.hash == hash_of(bundles[0])
    assert reloading.reloads == 0


def test_a_removed_folder_leaves_the_old_bundle_in_service(folder: Path) -> None:
    reloading = Reloading(folder, Bundle.load)
    shutil.rmtree(folder)
    assert not reloading.check()
    assert reloading.failures == 1
    assert reloading.bundle.decide("abc").model


def test_a_link_that_is_swapped_is_followed(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundles[0])
    reloading = Reloading(link, Bundle.load)
    (tmp_path / "next").symlink_to(bundles[1])
    (tmp_path / "next").rename(link)
    assert reloading.check()
    assert reloading.bundle.hash == hash_of(bundles[1])


def test_what_this_machine_refused_is_tried_again(folder: Path) -> None:
    """A folder that does not change, and an error that passes."""
    failing = [OSError("too many open files")]

    def load(path: Path, /, *, threads: int) -> Bundle:
        if failing:
            raise failing.pop()
        return Bundle.load(path, threads=threads)

    reloading = Reloading(folder, load, again_s=0.05)
    assert "too many open files" in str(reloading.refused)
    time.sleep(0.06)
    reloading.check()
    assert reloading.bundle.decide("abc").model


def test_the_thread_looks_by_itself_and_when_it_is_woken(bundles: tuple[Path, Path], folder: Path) -> None:
    reloading = Reloading(folder, Bundle.load, every_s=0.02)
    with pytest.raises(InputError, match="nobody watches"):
        reloading.wake()
    reloading.start()
    reloading.start()
    put(bundles[1], folder)
    assert until(lambda: reloading.reloads == 1)
    reloading.stop()
    reloading.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "bundle-watch"]
    slow = Reloading(folder, Bundle.load, every_s=3600.0)
    slow.start()
    put(bundles[0], folder)
    slow.wake()
    assert until(lambda: slow.reloads == 1)
    slow.stop()


def test_readers_never_miss_a_bundle_or_mix_two(bundles: tuple[Path, Path], folder: Path) -> None:
    expected = {bundle.hash: bundle.score(["abc"])[0].tolist() for bundle in map(Bundle.load, bundles)}
    reloading, ended, seen = Reloading(folder, Bundle.load, every_s=0.005), threading.Event(), list[tuple[str, bool]]()

    def read() -> None:
        while not ended.is_set():
            decision = reloading.bundle.decide("abc")
            quality = {row.model: row.quality for row in decision.ranked}
            seen.append((decision.bundle, expected[decision.bundle] == pytest.approx([quality["small"], quality["large"]], abs=1e-6)))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    reloading.start()
    for turn in range(1, 7):
        put(bundles[turn % 2], folder)
        assert until(lambda turn=turn: reloading.bundle.hash == hash_of(bundles[turn % 2]))  # type: ignore[misc]
    ended.set()
    for reader in readers:
        reader.join()
    reloading.stop()
    assert {name for name, _ in seen} == set(expected)
    assert all(right for _, right in seen)


@given(st.lists(st.sampled_from(["a", "b", "corrupt", "missing", "nothing"]), max_size=12))
def test_the_last_good_bundle_serves_whatever_comes(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """Against a model of three lines: the newest good content is in service, and counts are of changes."""
    folder = tmp_path_factory.mktemp("any")
    file = folder / "bundle.json"

    def load(path: Path, /, *, threads: int) -> Any:
        try:
            text = (path / "bundle.json").read_text()
        except OSError:
            raise InputError("bundle.json cannot be read") from None
        if text.startswith("corrupt"):
            raise InputError("bundle.json was changed")
        return SimpleNamespace(hash=text, verdict="helps", check_golden=lambda: 0.0)

    file.write_text("a")
    reloading = Reloading(folder, load)
    good, bad, reloads, failures = "a", False, 0, 0
    for i, step in enumerate(steps):
        if step == "missing":
            failures, bad = failures + file.exists(), True
            file.unlink(missing_ok=True)
        elif step != "nothing":
            file.unlink(missing_ok=True)
            file.write_text(step if step != "corrupt" else f"corrupt {i}")
            # written within one tick of the clock, of the same size and at the same inode a file cannot be told apart
            at = time.time_ns() + i * 10_000_000
            os.utime(file, ns=(at, at))
            bad = step == "corrupt"
            failures += bad
            reloads += not bad and step != good
            good = good if bad else step
        before = reloading.reloads
        assert reloading.check() == (reloads > before)
        assert (reloading.bundle.hash, reloading.reloads, reloading.failures) == (good, reloads, failures)
        assert (reloading.refused is not None) == bad
