"""Fills a template of ours: one self-contained HTML page, every value escaped, what cannot be shown made legible."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from routewright.eval.numerals import legible


def filled(template: str, **values: Any) -> str:
    """The page as text. Same input, same bytes; a value that a template asks for and does not get is an error."""
    return str(_environment().get_template(template).render(values))


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: legible(value) if type(value) is str else value,
    )
