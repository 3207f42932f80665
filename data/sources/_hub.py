"""What the sources of Hugging Face data sets share: finding the files, loading them with `datasets`, checking columns, provenance."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np

from routewright.core.files import json_bytes, sha256
from routewright.core.prices import PriceBook
from routewright.core.types import Battles, InputError, Ints, Outcomes, Queries
from routewright.data.cells import Cells
from routewright.data.sources._pinned import check_labels
from routewright.data.sources._spoken import Spoken
from routewright.data.split import text_keys

FORMATS = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv", ".arrow": "arrow"}  # suffix -> the builder of `datasets`
# what data sets call their parts, and which side of a split that is
PARTS = {"train": "train", "validation": "calibration", "valid": "calibration", "val": "calibration", "dev": "calibration", "test": "test"}
FOLDERS = ("", "data/", "default/")  # where the files of the only, or the default, subset lie


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one data set, its parts one after the other.

    where: what messages call it. table: a pyarrow Table. parts: (name, number of rows) in order. files: relative path -> sha256.
    revision: the hub's commit, or of local files the first digits of a hash of their hashes.
    """

    where: Path
    table: Any
    parts: Sequence[tuple[str, int]]
    files: Mapping[str, str]
    revision: str

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def names(self) -> list[str]:
        return list(self.table.column_names)

    def need(self, columns: Sequence[str]) -> None:
        """Raises InputError where one of these columns is missing."""
        missing = [name for name in columns if name not in self.names]
        if missing:
            found = ", ".join(self.names[:20]) + (" ..." if len(self.names) > 20 else "")
            mend = "Give the data set itself, or a copy that kept the names of its columns."
            raise InputError(
                f"the data set lacks the column {missing[0]!r}", where=str(self.where), expected=", ".join(columns), found=found, mend=mend
            )

    def cells(self) -> Cells:
        """The rows as raw cells; a field of a struct column is the column `<struct>.<field>`. Rows count from 0 over all parts."""
        return Cells(self.where, "row", range(len(self)), self.names, lambda name: self.column(name).to_pylist())

    def column(self, name: str) -> Any:
        """A pyarrow ChunkedArray."""
        import pyarrow.compute as pc

        if name in self.names:
            return self.table.column(name)
        struct, _, part = name.rpartition(".")
        return pc.struct_field(self.table.column(struct), part)

    def part_of(self, rows: Ints) -> list[str]:
        """The part that each of these rows is from."""
        ends = np.cumsum([size for _, size in self.parts])
        return [self.parts[k][0] for k in np.searchsorted(ends, rows, side="right").tolist()]


class Made(NamedTuple):
    """What a source made of the rows: the table, the first row of each query (n,), and counts and remarks for the manifest."""

    table: Outcomes | Battles
    first: Ints
    told: dict[str, Any]


@dataclass(kw_only=True, eq=False)
class HubSource(Spoken, ABC):
    """A Hugging Face data set as Outcomes or Battles; subclasses read the rows.

    dataset: a hub name (owner/name), a local folder with files laid out as on the hub or as save_to_disk leaves them, or one .parquet,
    .jsonl or .csv file of the same columns. The hub is asked only where HF_HUB_OFFLINE=0; else its copy in the Hugging Face cache is taken.
    subset: the folder of a data set that has several. revision: a commit or a tag of the hub's. part: train, or several as train+test.
    models: which to keep, in this order (None: all). labels: clean or published, the same grades here.
    """

    columns: ClassVar[tuple[str, ...]]  # those that must be there
    usage: ClassVar[str] = "none"
    notes: ClassVar[str] = ""
    hint: ClassVar[str] = ""  # how to get the files where the hub has none that can be read

    name: str
    dataset: str
    licence: str
    citation: str
    subset: str | None = None
    revision: str | None = None
    part: str = "train"
    models: Sequence[str] | None = None
    labels: str = "clean"
    about_: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    sides_: tuple[Queries, list[str]] | None = field(default=None, init=False, repr=False)

    def load(self) -> Outcomes | Battles:
        """The table. Raises InputError for data that are not there, other columns, broken rows, unknown models and unknown labels."""
        check_labels(self.name, self.labels)
        rows = read_rows(self.dataset, self.part.split("+"), subset=self.subset, revision=self.revision, hint=self.hint)
        rows.need(self.columns)
        table, first, told = self._read(rows)
        self.sides_ = table.queries, [PARTS.get(part, "") for part in rows.part_of(first)]
        prices = self._prices()
        self.about_ = {
            "name": self.name,
            "licence": self.licence,
            "citation": self.citation,
            "dataset": self.dataset,
            "part": self.part,
            "revision": rows.revision,
            "files": dict(rows.files),
            "models": list(table.pool.name),
            "labels": self.labels,
            "usage": table.usage if isinstance(table, Outcomes) else "none",
            "prices": None if prices is None else {"date": prices.date, "source": prices.source},
            "notes": self.notes,
            "rows": len(rows),
            "queries": len(table.queries),
            **told,
        }
        return table

    def split(self) -> list[str] | None:
        """The part of each query as train, calibration or test, where `part` names train and test; else None.

        A text that stands in two parts is counted to the first, so that nothing is judged on what was learned.
        """
        if self.sides_ is None:
            self.load()
        assert self.sides_ is not None
        queries, sides = self.sides_
        if not {"train", "test"} <= set(sides) or "" in sides:
            return None
        first = np.unique(keys := text_keys(queries), return_index=True)[1]
        return [sides[row] for row in first[keys].tolist()]

    def provenance(self) -> dict[str, Any]:
        """Licence, citation, revision, files with sha256, what was read and what was left out: plain values for the manifest."""
        if not self.about_:
            self.load()
        return dict(self.about_)

    @abstractmethod
    def _read(self, rows: Rows) -> Made:
        """The table from rows that have `columns`."""

    def _prices(self) -> PriceBook | None:
        return None


# ---- files


def read_rows(dataset: str, parts: Sequence[str], *, subset: str | None = None, revision: str | None = None, hint: str = "") -> Rows:
    """The rows of these parts through `datasets.load_dataset`, from local files or from the hub's in the Hugging Face cache.

    Of the hub, the files are fetched first and then read as local ones: `datasets` itself does not find by name offline what it cached with
    data_files (huggingface/datasets issue 6837), and the hashes of the files are wanted. No code of a data set is ever run.
    Raises InputError where there is nothing to read.
    """
    local = Path(dataset).expanduser()
    where = local
    if local.is_file():
        if len(parts) > 1:
            raise InputError(
                "one file has one part", where=dataset, expected="a single part", found="+".join(parts), mend="Give the folder."
            )
        files = {parts[0]: [_readable(local, hint)]}
        root = local.parent
    elif local.is_dir():
        root = local
        files = {part: _files_of(root, part, subset, hint) for part in parts}
        if files == {"train": []}:
            files["train"] = _unnamed(root)
    else:
        root = _snapshot(dataset, parts, subset, revision, hint)
        files = {part: _files_of(root, part, subset, hint) for part in parts}
    for part, found in files.items():
        if not found:
            _no_files(where, root, part, subset, hint)
    every = [path for found in files.values() for path in found]
    kinds = sorted({path.suffix.lower() for path in every})
    if len(kinds) > 1:
        raise InputError(
            "the data set lies there twice", where=dataset, expected="files of one format", found=", ".join(kinds), mend="Name one file."
        )
    digests = {path.relative_to(root).as_posix(): sha256(path) for path in every}
    commit = sha256(json_bytes(digests))[:12] if local.exists() else root.name
    tables = _loaded(where, FORMATS[kinds[0]], files)
    import pyarrow as pa

    sizes = [(part, int(table.num_rows)) for part, table in tables.items()]
    return Rows(where, pa.concat_tables(list(tables.values())), sizes, digests, commit)


def _loaded(where: Path, builder: str, files: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """part -> pyarrow Table, memory-mapped from the Arrow files in the cache of `datasets`."""
    import datasets
    import pyarrow as pa

    # an answer "NA" or "null" is a text; only an empty cell is missing
    options: dict[str, Any] = {"keep_default_na": False, "na_values": [""]} if builder == "csv" else {}
    try:
        with _uncounted():
            loaded = datasets.load_dataset(
                builder, data_files={part: [str(path) for path in found] for part, found in files.items()}, **options
            )
    except (datasets.exceptions.DatasetsError, pa.ArrowException, OSError, ValueError) as error:
        cause = error.__cause__ or error
        found = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"
        raise InputError("the data set cannot be read", where=str(where), expected=f"whole {builder} files", found=found) from error
    tables = {part: loaded[part].with_format("arrow")[:] for part in files}
    if not all(table.num_rows for table in tables.values()):
        raise InputError("a part of the data set is empty", where=str(where), expected="rows", found=", ".join(files))
    return tables


@contextmanager
def _uncounted() -> Iterator[None]:
    """`datasets` would tell its makers over the network that a file was loaded, even a local one."""
    from datasets import config

    before, config.HF_UPDATE_DOWNLOAD_COUNTS = config.HF_UPDATE_DOWNLOAD_COUNTS, False
    try:
        yield
    finally:
        config.HF_UPDATE_DOWNLOAD_COUNTS = before


def _snapshot(name: str, parts: Sequence[str], subset: str | None, revision: str | None, hint: str) -> Path:
    """The folder of `owner/name` in the Hugging Face cache, with the files of these parts."""
    from huggingface_hub import snapshot_download

    online = os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("0", "false", "no", "off")
    patterns = [
        f"{folder}{part}{rest}{suffix}"
        for folder in _folders(subset)
        for part in parts
        for rest in ("", "-*-of-*", "/*")
        for suffix in FORMATS
    ]
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=not online, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        found = f"{type(error).__name__}: {str(error).partition(chr(10))[0].rstrip('.')}"
        wanted = "a download" if online else "a local folder or file, or a copy in the Hugging Face cache (the network is off)"
        get = "Check the name and the network" if online else "Set HF_HUB_OFFLINE=0 (hub=true on the command line) to download it"
        mend = hint or f"{get}, or give a local copy: data.dataset=folder."
        raise InputError(f"data set {name!r} cannot be read", expected=wanted, found=found, mend=mend) from error


def _folders(subset: str | None) -> list[str]:
    return list(FOLDERS) if subset is None else [f"{subset.rstrip('/')}/"]


def _files_of(root: Path, part: str, subset: str | None, hint: str) -> list[Path]:
    """`train.csv`, `train-00000-of-00002.parquet` or `train/anything.arrow`, at the root or where data sets keep their files."""
    named = re.compile(rf"{re.escape(part)}(-\d+-of-\d+.*)?\.[a-z]+")
    found = [path for folder in _folders(subset) for path in _inside(root / folder) if named.fullmatch(path.name)]
    found += [path for folder in _folders(subset) for path in _inside(root / folder / part) if path.suffix != ".json"]
    readable = [path for path in found if path.suffix.lower() in FORMATS]
    if found and not readable:
        _readable(found[0], hint)
    return readable


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _unnamed(root: Path) -> list[Path]:
    """The data files of a folder that names none after a part: `train` is what such a data set is called."""
    files = [path for path in _inside(root) if path.suffix.lower() in FORMATS]
    return [] if any(re.split(r"[-.]", path.name)[0] in PARTS for path in files) else files


def _readable(path: Path, hint: str) -> Path:
    """The path itself; InputError for a format that is not read."""
    if path.suffix.lower() not in FORMATS:
        mend = hint or "Convert it to Parquet."
        raise InputError("unknown kind of data file", where=str(path), expected=", ".join(FORMATS), found=repr(path.suffix), mend=mend)
    return path


def _no_files(where: Path, root: Path, part: str, subset: str | None, hint: str) -> NoReturn:
    there = [path.relative_to(root).as_posix() for folder in _folders(subset) for path in _inside(root / folder)]
    raise InputError(
        f"the data set has no part {part!r}",
        where=str(where),
        expected=f"{part}.parquet, {part}-00000-of-00001.parquet or {part}/*.parquet, at the root or in data/ (or .jsonl, .csv, .arrow)",
        found=", ".join(there[:10]) + (" ..." if len(there) > 10 else "") if there else "no file",
        mend=hint or "Correct data.part (several: train+test), data.subset or data.dataset.",
    )
