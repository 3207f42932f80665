"""Verifies a bundle's files, every byte of them, and opens them: what changed since the export, or while it is read, is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from routewright.core.onnx_session import session
from routewright.core.types import InputError

FORMAT = 2
SEAL = re.compile(rb'"bundle\.json": "([0-9a-f]{64})"')


class Files:
    """The verified files of one folder. Small ones are read, graphs are opened from disk: as bytes they would lie in memory twice."""

    def __init__(self, folder: Path, sha256: dict[str, str]) -> None:
        """Raises InputError naming a file that is missing or changed."""
        self.folder, self._sha256 = folder, {name: value for name, value in sha256.items() if name != "bundle.json"}
        self._state = {name: self._verified(name) for name in self._sha256}

    def __contains__(self, name: str) -> bool:
        return name in self._sha256

    def read(self, name: str) -> bytes:
        """The bytes of one file, verified as they are handed out."""
        data = _read(self.folder, name)
        if hashlib.sha256(data).hexdigest() != self._sha256[name]:
            raise _changed(self.folder, name, f"sha256 {self._sha256[name][:12]}", "another content")
        return data

    def session(self, name: str, threads: int = 1) -> Any:
        """An onnxruntime session of one graph. Raises InputError where the file is no longer the one that was verified."""
        try:
            opened = session(self.folder / name, threads)
        except Exception as error:  # onnxruntime's own, which have no common base: what was verified may be gone by now
            if self._now(name) == self._state[name]:
                raise InputError(f"{name} cannot be opened", where=str(self.folder), found=str(error)) from None
            opened = None
        if self._now(name) != self._state[name]:
            raise _changed(self.folder, name, "the file that was verified", "another one while it was loaded")
        return opened

    def _verified(self, name: str) -> tuple[int, int, int]:
        """What tells this file from any later one of its name, once its sha256 holds."""
        try:
            with (self.folder / name).open("rb") as stream:
                got, state = hashlib.file_digest(stream, "sha256").hexdigest(), _state(os.fstat(stream.fileno()))
        except OSError as error:
            raise _unreadable(self.folder, name, error) from None
        if got != self._sha256[name]:
            raise _changed(self.folder, name, f"sha256 {self._sha256[name][:12]}", got[:12])
        return state

    def _now(self, name: str) -> tuple[int, int, int] | None:
        try:
            return _state((self.folder / name).stat())
        except OSError:
            return None


def opened(path: str | Path, kind: str | None) -> tuple[dict[str, Any], Files]:
    """(bundle.json, the verified files that it names). kind: "router" or "cascade", None for either.

    Raises InputError naming what is missing, changed, of another format, or of the other kind.
    """
    folder = Path(path)
    raw = _read(folder, "bundle.json")
    seals = SEAL.findall(raw)
    blank = SEAL.sub(b'"bundle.json": ""', raw)
    if len(seals) != 1 or hashlib.sha256(blank).hexdigest().encode() != seals[0]:
        raise _changed(folder, "bundle.json", "its own seal", "another content")
    described: dict[str, Any] = json.loads(raw)
    if described["format"] != FORMAT:
        expected, found = str(FORMAT), str(described["format"])
        mend = "Export the run again, or use the version of routewright that wrote it."
        raise InputError("bundle.json has another format", where=str(folder), expected=expected, found=found, mend=mend)
    if kind is not None and described["kind"] != kind:
        mend = "Open it with gateway.bundle.Bundle." if kind == "cascade" else "Open it with gateway.cascade.CascadeBundle."
        raise InputError("this bundle is of the other kind", where=str(folder), expected=kind, found=described["kind"], mend=mend)
    return described, Files(folder, described["sha256"])


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise _unreadable(folder, name, error) from None


def _unreadable(folder: Path, name: str, error: OSError) -> InputError:
    where, found = str(folder), str(error.strerror)
    return InputError(f"{name} cannot be read", where=where, expected="a folder that export.py wrote", found=found)


def _changed(folder: Path, name: str, expected: str, found: str) -> InputError:
    return InputError(f"{name} was changed after export", where=str(folder), expected=expected, found=found, mend="Export the run again.")
