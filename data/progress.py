"""Shows a collection while it runs, on stderr: calls, dollars, errors, time left. A bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Self

from routewright.data.engine import Tally

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LINE_EVERY_S = 15.0  # where there is no terminal

log = logging.getLogger("routewright")


class Progress:
    """A context manager; `show` is the engine's watch. Logging goes on above the bar."""

    def __init__(self, label: str = "calls") -> None:
        self.label = label
        self._bar: Bar | None = None
        self._task: Any = None
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        if console.is_terminal:
            text = TextColumn("{task.fields[figures]}")
            self._bar = Bar(TextColumn(self.label), BarColumn(), MofNCompleteColumn(), text, console=console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=None, figures="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, tally: Tally) -> None:
        """Called by the engine a few times a second."""
        if self._bar is not None:
            self._bar.update(self._task, completed=tally.done, total=tally.asked or None, figures=figures(tally))
        elif time.monotonic() - self._told >= LINE_EVERY_S:
            self._told = time.monotonic()
            log.info("%s %d of %d  %s", self.label, tally.done, tally.asked, figures(tally))

    def tell(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            log.info("%s", text)


def figures(tally: Tally) -> str:
    """Dollars, errors and time left, as far as they are known."""
    parts = [f"USD {tally.usd:.4g}", f"{tally.failed} failed", f"{tally.retries} retried"]
    if tally.usd_unknown_calls:
        parts.append(f"{tally.usd_unknown_calls} without a cost")
    if tally.eta is not None:
        parts.append(f"{tally.eta / 60:.0f} min left" if tally.eta >= 90 else f"{tally.eta:.0f} s left")
    return "  ".join(parts)
