"""Writes a bundle's card and, last, bundle.json with the sha256 of every file and a seal of its own: gateway/files.py verifies them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from routewright.core.card import card
from routewright.core.files import json_bytes, sha256, write_atomic
from routewright.core.types import InputError

CARD = "CARD.md"


def seal(folder: Path, described: Mapping[str, Any], names: Sequence[str], schema: str) -> Path:
    """folder/CARD.md and, last, bundle.json: `described` with sha256 of the named files, the card and itself, its own taken with that field
    blank. Returns the folder.

    schema: the file in core/ that it is held to before it is written. Raises InputError, by JSON path, where it would not fit.
    """
    hashes = {name: sha256(folder / name) for name in names}
    check({**described, "sha256": hashes | {"bundle.json": ""}}, schema)
    text = card(json.loads(json_bytes({**described, "sha256": hashes})))  # as it is read back, so that the same run gives the same card
    write_atomic(folder / CARD, lambda stream: stream.write(text.encode()))
    whole = {**described, "sha256": hashes | {CARD: sha256(folder / CARD), "bundle.json": ""}}
    data = json_bytes(whole)
    own = hashlib.sha256(data).hexdigest()
    # the blank seal is the only empty "bundle.json" entry: filling it in must not move another byte
    blank, filled = b'"bundle.json": ""', b'"bundle.json": "' + own.encode() + b'"'
    assert data.count(blank) == 1
    return write_atomic(folder / "bundle.json", lambda stream: stream.write(data.replace(blank, filled))).parent


def check(described: Mapping[str, Any], schema: str) -> None:
    """Raises InputError, by JSON path, where bundle.json does not fit its published schema."""
    import jsonschema

    rules = json.loads((Path(__file__).parent / schema).read_text())
    try:
        jsonschema.validate(json.loads(json_bytes(described)), rules)
    except jsonschema.ValidationError as error:
        raise InputError("bundle.json would not fit its schema", where=error.json_path, found=error.message) from None
