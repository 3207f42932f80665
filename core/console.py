"""Tables as plain text for a terminal, a pipe and a test: the same everywhere."""

from __future__ import annotations

import io
from typing import Any


def as_text(*tables: Any) -> str:
    """rich tables at a fixed width, without colours; names are shown as they are, never as markup."""
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=140, color_system=None, legacy_windows=False, markup=False, emoji=False, highlight=False)
    for table in tables:
        console.print(table)
    return stream.getvalue()
