"""Chatbot Arena's 55k human preferences (lmsys/lmsys-arena-human-preference-55k): battles of 64 models on what visitors asked.

RouteLLM (Ong et al. 2024, arXiv 2406.18665, appendix A) trains on such battles, without prompts of fewer than 16 characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from routewright.data import arena
from routewright.data.sources._hub import HubSource, Made, Rows


@dataclass(kw_only=True, eq=False)
class LmsysArena55k(HubSource):
    """Battles; the query is the first turn of the prompt, and rows of one text are one query. Ties count half unless ties=drop.

    shortest: battles on a shorter first turn are left out; 16 characters as in RouteLLM, blanks at both ends not counted.
    Half a character in a prompt (a cut emoji) becomes U+FFFD.
    """

    columns: ClassVar[tuple[str, ...]] = ("model_a", "model_b", "prompt", "winner_model_a", "winner_model_b", "winner_tie")
    notes: ClassVar[str] = "Votes of visitors, not grades; a tie and 'both are bad' are one value upstream."

    shortest: int = 16
    ties: str = "keep"

    def _read(self, rows: Rows) -> Made:
        cells = rows.cells()
        turns = [_whole(arena.first_turn(cell)) for cell in cells.column("prompt")]
        short = [isinstance(text, str) and len(text.strip()) < self.shortest for text in turns]
        long = np.flatnonzero(~np.array(short))
        # in lists, so that no first turn is taken for a list of turns itself
        some = arena.with_columns(cells, {"prompt": [[text] for text in turns]}, long)
        fights = arena.read(some, arena.Columns(query="prompt", id="", group="", weight=""), ties=self.ties, models=self.models)
        first = long[fights.rows[np.unique(fights.battles.query, return_index=True)[1]]]
        return Made(fights.battles, first, {"short_prompts": len(cells) - len(long), **fights.counts})


def _whole(text: Any) -> Any:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(text, str) else text
