"""Files that are made once and kept: locked, sealed by sha256, and for embeddings memory-mapped and reused text by text."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from routewright.core.files import sha256, write_atomic
from routewright.core.types import Floats

log = logging.getLogger(__name__)

Keep = Callable[[list[str], Floats], None]


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


def cached_parts(folder: Path, texts: Sequence[str], compute: Callable[[list[str], Keep], None]) -> Floats:
    """As cached_rows, for rows that are dear: compute(missing, keep) hands over keep(some texts, their rows) part by part.

    Each part is a list of its own the moment it comes, so what an interrupted caller has kept, every later one finds. In `folder` one
    computes at a time: of two lists that share texts, the second finds what the first has paid for.
    """
    from filelock import FileLock

    def filled(wanted: list[str]) -> Floats:
        named = {_key(text): text for text in wanted}
        with FileLock(folder / "computing.lock"):
            found = _known(folder, named)  # while we waited, others may have kept some

            def keep(some: list[str], rows: Floats) -> None:
                names = [_key(text) for text in some]
                _keep(folder, names, rows)
                found.update(zip(names, rows, strict=True))

            missing = [text for name, text in named.items() if name not in found]
            if missing:
                compute(missing, keep)
        return np.stack([found[name] for name in named])

    return cached_rows(folder, texts, filled)


def _keep(folder: Path, names: Sequence[bytes], rows: Floats) -> None:
    """A list of these rows, as cached_rows writes it, but the rows last: nobody finds them unsealed, and calls them damaged."""
    path = folder / f"{hashlib.sha256(b''.join(names)).hexdigest()[:32]}.npy"
    stream = io.BytesIO()
    np.save(stream, rows, allow_pickle=False)
    data = stream.getvalue()
    write_atomic(path.with_suffix(".keys"), lambda file: file.write(b"".join(names)))
    write_atomic(_seal(path), lambda file: file.write(sha256(data).encode()))
    write_atomic(path, lambda file: file.write(data))


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
