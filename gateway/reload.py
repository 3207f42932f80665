"""Keeps the newest good bundle of a folder in service: a new one is loaded and checked beside the old one, then swapped in at once.

A new bundle that is corrupt or half written is refused, counted and logged, and the old one goes on serving.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from routewright.core.types import InputError

log = logging.getLogger("routewright")

Stamp = tuple[tuple[str, int, int, int], ...]


class Checked(Protocol):
    """A bundle of any kind, as far as it is looked at here."""

    verdict: str
    hash: str

    def check_golden(self) -> float:
        """Raises InputError where it scores or decides differently here."""


B = TypeVar("B", bound=Checked)
B_co = TypeVar("B_co", bound=Checked, covariant=True)


class Load(Protocol[B_co]):
    """How a bundle is opened: Bundle.load, or `quiet` for those who tell the verdict themselves."""

    def __call__(self, path: Path, /, *, threads: int) -> B_co:
        """Raises InputError where it refuses."""


class Served(NamedTuple, Generic[B]):
    """A bundle in service, and since when (Unix seconds)."""

    bundle: B
    since: float


class _State(NamedTuple, Generic[B]):
    """What is in service, and why what lies in the folder now is not: one of the two is always there."""

    served: Served[B] | None
    refused: InputError | None


class Reloading(Generic[B]):
    """The bundle of a folder that may be replaced while it serves. Thread-safe.

    The folder is looked at once when this is made, and then by every `check`; `start` has a thread do it every `every_s` seconds. A folder
    has changed when the name, time, inode or size of one of its files has, so that files may be replaced one by one: what does not fit
    together yet is refused by its sha256, and the last file to come mends it. A refused folder that stays as it is, is tried again every
    `again_s` seconds, since what failed may have been this machine. The first load may fail too: then `bundle` raises until one succeeds.

    reloads: swaps to another bundle, the first load not counted. failures: loads that were refused.
    """

    def __init__(self, path: str | Path, load: Load[B], *, threads: int = 1, every_s: float = 1.0, again_s: float = 60.0) -> None:
        if not (every_s > 0 and again_s > 0 and threads >= 1):
            found = f"every_s={every_s:g}, again_s={again_s:g}, threads={threads}"
            raise InputError("impossible reloading", expected="every_s > 0, again_s > 0, threads >= 1", found=found)
        self.path, self.threads, self.every_s, self.again_s = Path(path), threads, every_s, again_s
        self.failures, self.reloads = 0, 0
        self._load = load
        self._state: _State[B] = _State(None, None)
        self._seen: Stamp | None = None
        self._tried = 0.0
        self._lock = threading.Lock()
        self._watch: _Watch | None = None
        self.check()

    @property
    def bundle(self) -> B:
        """The one in service. Raises InputError, with the reason, while there is none."""
        served, refused = self._state
        if served is not None:
            return served.bundle
        assert refused is not None, "the first check leaves a bundle or a reason"
        raise InputError(refused.what, where=refused.where, expected=refused.expected, found=refused.found, mend=refused.mend)

    @property
    def current(self) -> Served[B] | None:
        """The bundle in service with its time; None while there is none."""
        return self._state.served

    @property
    def refused(self) -> InputError | None:
        """Why what lies in the folder now is not in service; None where it is."""
        return self._state.refused

    def check(self, *, force: bool = False) -> bool:
        """Looks once; True where another bundle was swapped in. force: opens a folder that has not changed, too. Never raises."""
        with self._lock:
            stamp = _stamp(self.path)
            again = self.refused is not None and time.monotonic() - self._tried >= self.again_s
            if stamp == self._seen and not again and not force:
                return False
            # stamped before it is read: what is written meanwhile is seen the next time
            self._seen, self._tried = stamp, time.monotonic()
            return self._try()

    def start(self) -> None:
        """Begins to look every `every_s` seconds, in a daemon thread; does nothing where that runs already."""
        if self._watch is None:
            self._watch = _Watch(self.check, self.every_s)
            self._watch.start()

    def stop(self) -> None:
        """Ends the thread, after the load it is at; the bundle stays in service."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()

    def wake(self) -> None:
        """Has the thread open the folder now, changed or not, without waiting for it. Raises InputError where none runs."""
        if self._watch is None:
            raise InputError("nobody watches the bundle", where=str(self.path), mend="Call start() first, or check(force=True).")
        self._watch.now()

    def _try(self) -> bool:
        old = self._state.served
        try:
            bundle = self._load(self.path.resolve(), threads=self.threads)  # one folder, though a link be swapped meanwhile
            same = old is not None and bundle.hash == old.bundle.hash
            if not same:
                bundle.check_golden()
        except Exception as error:  # whatever is wrong with the new one, the old one serves
            refused = _refusal(self.path, error)
            self._state = _State(old, refused)
            self.failures += 1
            log.error("bundle refused, %s: %s", "the old one serves" if old else "none to serve", refused)
            return False
        if same:
            self._state = _State(old, None)
            return False
        self._state = _State(Served(bundle, time.time()), None)  # one assignment: a request has the old one or the new one, whole
        self.reloads += old is not None
        log.info("bundle %s in service (%s)", bundle.hash[:12], bundle.verdict)
        return old is not None


class _Watch(threading.Thread):
    """Calls `check` every so often, and at once when it is woken."""

    def __init__(self, check: Callable[..., bool], every_s: float) -> None:
        super().__init__(name="bundle-watch", daemon=True)
        self._check, self._every_s = check, every_s
        self._woken, self._ended = threading.Event(), threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            woken = self._woken.wait(self._every_s)
            self._woken.clear()
            if not self._ended.is_set():
                self._check(force=woken)

    def now(self) -> None:
        self._woken.set()

    def end(self) -> None:
        self._ended.set()
        self._woken.set()
        self.join()


def _stamp(folder: Path) -> Stamp:
    """Name, time, inode and size of every file in a folder; () where it cannot be listed, which loading then tells."""
    try:
        return tuple(_marks(path) for path in sorted(folder.iterdir()))
    except OSError:
        return ()


def _marks(path: Path) -> tuple[str, int, int, int]:
    try:
        stat = path.stat()  # of what a link leads to: mounted files may be links that are swapped
    except OSError:
        return path.name, 0, 0, 0
    return path.name, stat.st_mtime_ns, stat.st_ino, stat.st_size


def _refusal(folder: Path, error: Exception) -> InputError:
    """What a load raised, as what the user can mend: an older onnxruntime raises its own errors for a newer graph."""
    if isinstance(error, InputError):
        return error
    mend = "Export the run again with the versions that serve it."
    return InputError("the bundle cannot be opened", where=str(folder), found=f"{type(error).__name__}: {error}"[:300], mend=mend)
