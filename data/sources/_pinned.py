"""What the sources of pinned files share: their settings, the download, the labels they may be asked for, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routewright.core.types import InputError
from routewright.data.fetch import RemoteFile, fetch
from routewright.data.sources._spoken import Spoken

LABELS = ("clean", "published")


def check_labels(source: str, labels: str) -> None:
    """Raises InputError for labels that there are not."""
    if labels not in LABELS:
        raise InputError(f"labels of {source}", expected="one of " + ", ".join(LABELS), found=repr(labels))


def fetched(owner: str, repo: str, commit: str, files: Mapping[str, str]) -> dict[str, Path]:
    """The verified local path of each file {path: sha256}, by its path upstream."""
    return dict(zip(files, fetch([RemoteFile(owner, repo, commit, *item) for item in files.items()]), strict=True))


@dataclass(frozen=True, kw_only=True)
class Pinned(Spoken):
    """Files of one repository at a pinned revision.

    name, licence, citation: for the manifest. owner, repo, commit, files {path: sha256}: what is fetched. models: which to keep, by their
    names in the files, in the pool's order. labels: "clean" or "published".
    """

    name: str
    models: Sequence[str]
    owner: str
    repo: str
    commit: str
    files: Mapping[str, str]
    licence: str
    citation: str
    labels: str = "clean"

    def split(self) -> Sequence[str] | None:
        """None: what is pinned here brings no split of its own."""
        return None

    def provenance(self) -> dict[str, Any]:
        """Licence, citation, pinned revision, files with sha256, models and labels: plain values for the manifest."""
        return {
            "name": self.name,
            "licence": self.licence,
            "citation": self.citation,
            "revision": f"{self.owner}/{self.repo}@{self.commit}",
            "files": dict(self._needed()),
            "models": list(self.models),
            "labels": self.labels,
        }

    def _check(self) -> None:
        """Raises InputError for settings that no table can be read with."""
        check_labels(self.name, self.labels)

    def _needed(self) -> Mapping[str, str]:
        """The files that this table is read from: path -> sha256."""
        return self.files

    def _fetch(self) -> dict[str, Path]:
        return fetched(self.owner, self.repo, self.commit, self._needed())


@dataclass(frozen=True, kw_only=True)
class PinnedBattles(Pinned):
    """Battles between every two of `models`; nothing is known of what an answer cost."""

    def provenance(self) -> dict[str, Any]:
        return {**super().provenance(), "usage": "none", "prices": None}

    def _check(self) -> None:
        super()._check()
        if len(self.models) < 2 or len(set(self.models)) != len(self.models):
            raise InputError(f"models of {self.name}", expected="two or more, each once", found=", ".join(self.models) or "none")
