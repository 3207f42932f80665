"""The user's own ungraded queries: read from every kind of file, in order and with repetitions, and refused by line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from routewright.core.files import sha256
from routewright.core.types import Floats, InputError
from routewright.data.traffic import read_traffic

ASKED = ["What is 2 + 2?", "Tell me, please: why?", "What is 2 + 2?"]


def lengths(texts: Sequence[str]) -> Floats:
    """An encoder that knows the number of characters."""
    return np.array([[len(text)] for text in texts], dtype=np.float32)


def written(tmp_path: Path, suffix: str) -> Path:
    path = tmp_path / f"log{suffix}"
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"when": [1, 2, 3], "query": ASKED}), path)
        return path
    texts = {
        ".csv": 'when,query\n1,What is 2 + 2?\n2,"Tell me, please: why?"\n3,What is 2 + 2?\n',
        ".jsonl": "".join(f'{{"query": "{text}", "when": 1}}\n' for text in ASKED),
        ".txt": "\ufeffWhat is 2 + 2?\r\n\r\nTell me, please: why?\n   \nWhat is 2 + 2?",
    }
    path.write_bytes(texts[suffix].encode())
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt", ".parquet"])
def test_every_kind_of_file_says_the_same(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix)
    found = read_traffic(str(path), lengths)
    assert found is not None
    assert list(found.queries.text) == ASKED
    assert found.queries.vectors()[:, 0].tolist() == [len(text) for text in ASKED]
    assert (found.name, found.sha256) == (path.name, sha256(path))


def test_no_path_no_traffic_and_no_encoder_no_embedding(tmp_path: Path) -> None:
    assert read_traffic(None, lengths) is None
    found = read_traffic(str(written(tmp_path, ".txt")), None)
    assert found is not None
    assert (list(found.queries.text), found.queries.embedding) == (ASKED, None)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.csv", None, r"there is no such file in .*none\.csv.*policy\.queries"),
        ("log.docx", b"x", r"unknown kind of file.*\.txt.*found '\.docx'"),
        ("log.csv", b"prompt,n\nhello,1\n", r"there is no column 'query'.*found prompt, n"),
        ("log.csv", b"query,n\nhello,1\n,2\n", r"the query is empty.*line 3"),
        ("log.txt", b"\n  \n", "the file has no queries"),
        ("log.txt", b"caf\xe9\n", "not UTF-8.*line 1"),
        ("log.csv", b"query\n", "no rows"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        read_traffic(str(tmp_path / name), lengths)
