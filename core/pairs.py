"""A query and an answer as one row of tokens, "[CLS] query [SEP] answer [SEP]", cut to what an encoder can read.

Training and gateway cut a pair by these lines. Numpy, and the tokenizers library where a pair is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from routewright.core.types import InputError, Ints

LONGEST = 16  # characters of a token, in a text that is cut
BREAK = "\x1e"  # between query and answer, where both stand in one text


def joined(query: str, answer: str) -> str:
    """Both as one text, which `parted` takes apart: a query loses its own BREAKs."""
    return f"{query.replace(BREAK, ' ')}{BREAK}{answer}"


def parted(text: str) -> tuple[str, str]:
    """(query, answer) of a joined text."""
    query, _, answer = text.partition(BREAK)
    return query, answer


def pair_ids(pairs: Sequence[tuple[str, str]], tokenizer: Any, max_tokens: int) -> list[Ints]:
    """Token ids int64 of each (query, answer), at most max_tokens of them.

    Of a long query the beginning is kept, a third of the room at least; of a long answer the beginning and the end, where it concludes.
    tokenizer: with truncation off. Raises InputError for a text that is not Unicode.
    """
    before, between, after = special_ids(tokenizer)
    room = max_tokens - len(before) - len(between) - len(after)
    parts = [_cut(part, room) for pair in pairs for part in pair]
    try:
        found = [encoding.ids for encoding in tokenizer.encode_batch_fast(parts, add_special_tokens=False)]
    except (TypeError, UnicodeEncodeError):
        raise InputError("a text is not Unicode", where="a query or its answer", expected="no lone surrogates", found="one") from None
    made: list[Ints] = []
    for asked, said in zip(found[::2], found[1::2], strict=True):
        first = asked[: max(room // 3, room - len(said))]
        rest = room - len(first)
        kept = said if len(said) <= rest else said[: rest // 2] + said[len(said) - (rest - rest // 2) :]
        made.append(np.array([*before, *first, *between, *kept, *after], dtype=np.int64))
    return made


def pair_tokenizer(data: bytes) -> Any:
    """The tokenizers library's object for `pair_ids`, of its JSON: pairs are cut here, never by its own truncation."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(data.decode())
    made.no_truncation()
    return made


def special_ids(tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    """The ids that the model's own template puts before, between and after the two texts of a pair."""
    sample = tokenizer.encode("a", "a")
    place = [i for i, part in enumerate(sample.sequence_ids) if part is not None]
    second = sample.sequence_ids.index(1)
    first = max(i for i, part in enumerate(sample.sequence_ids) if part == 0)
    return sample.ids[: place[0]], sample.ids[first + 1 : second], sample.ids[place[-1] + 1 :]


def _cut(text: str, room: int) -> str:
    """Without a middle that could not be read anyway, or a text without end would take as long to split into tokens."""
    most = LONGEST * room
    return text if len(text) <= 2 * most else f"{text[:most]} {text[-most:]}"
