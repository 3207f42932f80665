"""Pinned downloads: one file of one commit of one repository, proven by its sha256, from the cache, a mirror folder or the network.

Nothing is fetched at import. ROUTEWRIGHT_MIRROR names a folder laid out as owner/repository/commit/path; ROUTEWRIGHT_OFFLINE=1 forbids the
network; ROUTEWRIGHT_CACHE moves the cache (core/files.py).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from routewright.core.files import cache_dir, sha256, write_atomic
from routewright.core.types import InputError

BASE_URL = "https://raw.githubusercontent.com"
RETRIES = 3  # with 1, 2, 3 seconds between them
TIMEOUT = 30.0  # seconds without a byte

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a public repository at a full commit hash, with the sha256 of its bytes. Raises InputError for anything not pinned."""

    owner: str
    repo: str
    commit: str
    path: str
    sha256: str

    def __post_init__(self) -> None:
        parts = [self.owner, self.repo, *PurePosixPath(self.path).parts]
        if not self.path or any(part in ("", "..", "/") or "\\" in part for part in parts) or "/" in self.owner + self.repo:
            raise InputError("a remote file has an unsafe path", expected="owner, repo and a relative path without ..", found=str(self))
        for name, value, size in (("commit", self.commit, 40), ("sha256", self.sha256, 64)):
            if not re.fullmatch(f"[0-9a-f]{{{size}}}", value):
                raise InputError(
                    f"{name} of {self.path} is not pinned",
                    expected=f"{size} lower-case hexadecimal digits",
                    found=repr(value),
                    mend="Name one exact version.",
                )

    @property
    def inside(self) -> str:
        """owner/repo/commit/path: the same below the cache, a mirror and the base URL."""
        return f"{self.owner}/{self.repo}/{self.commit}/{self.path}"


def fetch(files: Sequence[RemoteFile]) -> list[Path]:
    """A verified local path for each file, in order: from the cache, else the mirror (read in place), else the network.

    Raises InputError for a wrong sha256, for a file that cannot be had offline, and for a download that keeps failing. Several processes
    may fetch the same file at once: a file appears in the cache whole and by rename.
    """
    return [_fetch_one(file) for file in files]


def offline() -> bool:
    return os.environ.get("ROUTEWRIGHT_OFFLINE", "").lower() not in ("", "0", "false")


def _fetch_one(file: RemoteFile) -> Path:
    cached = cache_dir() / "downloads" / file.inside
    corrupt = False
    if cached.is_file():
        found = sha256(cached)
        if found == file.sha256:
            return cached
        corrupt = True
        log.warning("corrupt cached file %s is replaced: expected sha256 %s, found %s", cached, file.sha256, found)
    mirror = os.environ.get("ROUTEWRIGHT_MIRROR")
    mirrored = Path(mirror).expanduser() / file.inside if mirror else None
    if mirrored is not None and mirrored.is_file():
        content = mirrored.read_bytes()
        _verify(file, sha256(content), str(mirrored), "Copy the file into the mirror again.")
        return write_atomic(cached, lambda stream: stream.write(content)) if corrupt else mirrored
    if offline():
        raise _unavailable(file, "ROUTEWRIGHT_OFFLINE is set" + (f" and the mirror {mirror} lacks it" if mirror else ""))
    return _download(file, cached)


def _verify(file: RemoteFile, found: str, where: str, mend: str) -> None:
    if found != file.sha256:
        raise InputError(
            f"wrong sha256 of {file.path}", where=where, expected=file.sha256, found=found, mend=f"The file is refused. {mend}"
        )


def _unavailable(file: RemoteFile, reason: str) -> InputError:
    return InputError(
        f"{file.path} of {file.owner}/{file.repo} is neither cached nor mirrored, and it cannot be downloaded",
        expected="the cache, a mirror or the network to have it",
        found=" ".join(reason.split()),
        mend=f"Set ROUTEWRIGHT_MIRROR to a folder that holds {file.inside}, or connect once: the file is then cached.",
    )


def _download(file: RemoteFile, cached: Path) -> Path:
    """Through pooch: a temporary name beside the target, the hash, then a rename."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    url = f"{BASE_URL}/{quote(file.inside)}"
    download = pooch.HTTPDownloader(timeout=TIMEOUT, chunk_size=1 << 16)

    def verified(url: str, output: str, owner: object) -> None:
        download(url, output, owner)
        _verify(file, sha256(Path(output)), url, "Try again, or check the pinned commit and sha256.")

    # pooch makes this folder without tolerance for a second process that makes it at the same moment
    cached.parent.mkdir(parents=True, exist_ok=True)
    store = pooch.create(
        path=cached.parent,
        base_url="",
        registry={cached.name: f"sha256:{file.sha256}"},
        urls={cached.name: url},
        retry_if_failed=RETRIES,
    )
    try:
        return Path(store.fetch(cached.name, downloader=verified))
    except requests.exceptions.RequestException as error:
        raise _unavailable(file, f"{type(error).__name__}: {error}") from error
