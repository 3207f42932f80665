"""A bundle's files are verified byte by byte before they are used; what changed, is missing or of another kind is refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from routewright.core.types import InputError
from routewright.gateway.bundle import FILES, Bundle
from routewright.gateway.files import opened
from tests.gateway_bundles import tiny_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_one_flipped_byte_is_refused_by_name(copy: Path, name: str, place: float) -> None:
    data = bytearray((copy / name).read_bytes())
    data[int(place * len(data))] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name} was changed after export"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_refused_by_name(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=f"{name} was changed"):
        Bundle.load(copy)
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        Bundle.load(copy)


def resealed(folder: Path, **changed: object) -> Path:
    """With other entries in bundle.json and a seal that fits: what another version of the project might have written."""
    described = json.loads((folder / "bundle.json").read_text()) | changed
    described["sha256"]["bundle.json"] = ""
    blank = json.dumps(described, indent=2, sort_keys=True) + "\n"
    seal = hashlib.sha256(blank.encode()).hexdigest()
    (folder / "bundle.json").write_text(blank.replace('"bundle.json": ""', f'"bundle.json": "{seal}"'))
    return folder


def test_another_format_or_kind_is_refused(copy: Path) -> None:
    assert Bundle.load(resealed(copy)).models == ("small", "large")
    with pytest.raises(InputError, match=r"another format.*expected 2.*found 99|another format"):
        Bundle.load(resealed(copy, format=99))
    with pytest.raises(InputError, match="of the other kind"):
        Bundle.load(resealed(copy, format=2, kind="cascade"))
    with pytest.raises(InputError, match="of the other kind"):
        opened(resealed(copy, kind="router"), "cascade")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bundle\.json cannot be read"):
        Bundle.load(tmp_path / "nowhere")
    (tmp_path / "bundle.json").write_text("{")
    with pytest.raises(InputError, match=r"bundle\.json was changed"):
        Bundle.load(tmp_path)
