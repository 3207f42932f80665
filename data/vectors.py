"""Files that are made once and kept: locked, sealed by sha256, and for embeddings memory-mapped and reused text by text."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from routewright.core.files import sha256, write_atomic
from routewright.core.types import Floats

log = logging.getLogger(__name__)


def kept(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """`path`, written by `write` unless it is there and whole; its sha256 lies beside it. Processes that want the same file take turns."""
    from filelock import FileLock

    if whole(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if not whole(path):  # while we waited, another process may have made it
            if path.exists():
                log.warning("%s is damaged (its sha256 is not the one recorded): made again", path)
            write_atomic(path, write)
            write_atomic(_seal(path), lambda stream: stream.write(sha256(path).encode()))
    return path


def whole(path: Path) -> bool:
    """Whether the file is there and is the one that was sealed."""
    return path.is_file() and _seal(path).is_file() and _seal(path).read_text() == sha256(path)


def _seal(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def cached_rows(folder: Path, texts: Sequence[str], compute: Callable[[list[str]], Floats]) -> Floats:
    """[n,d] rows for these texts, read-only and memory-mapped; compute(missing texts) gives those that no list in `folder` has yet.

    One file for each list of texts, named by their content, with the texts' own hashes beside it: a list that shares texts with an
    earlier one computes only what is new. The caller vouches that a text's row does not depend on its neighbours.
    """
    names = [_key(text) for text in texts]
    path = folder / f"{hashlib.sha256(b''.join(names)).hexdigest()[:32]}.npy"
    kept(path, lambda stream: np.save(stream, _filled(folder, names, texts, compute), allow_pickle=False))
    index = path.with_suffix(".keys")
    if not index.is_file():
        write_atomic(index, lambda stream: stream.write(b"".join(names)))
    rows: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    return rows


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _filled(folder: Path, names: Sequence[bytes], texts: Sequence[str], compute: Callable[[list[str]], Floats]) -> Floats:
    wanted = dict(zip(names, texts, strict=True))
    found = _known(folder, wanted)
    missing = [name for name in wanted if name not in found]
    if missing:
        found |= zip(missing, compute([wanted[name] for name in missing]), strict=True)
    return np.stack([found[name] for name in names])


def _known(folder: Path, wanted: dict[bytes, str]) -> dict[bytes, Floats]:
    """Rows that earlier lists hold, by text; a damaged list is passed over."""
    found: dict[bytes, Floats] = {}
    for index in sorted(folder.glob("*.keys")):
        path = index.with_suffix(".npy")
        stored = index.read_bytes()
        names = [stored[start : start + 16] for start in range(0, len(stored), 16)]
        useful = [(name, row) for row, name in enumerate(names) if name in wanted and name not in found]
        if useful and whole(path):
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            found |= {name: rows[row] for name, row in useful if len(rows) == len(names)}
    return found
