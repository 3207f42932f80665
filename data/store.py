"""The call store: every request that was paid for, and what came back, in one append-only SQLite file that survives being killed."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from routewright.core.types import InputError
from routewright.data.calls import UNKNOWN, Call, Reply, Request

APPLICATION_ID = 0x52575343  # "RWSC", in the file's header: how `file` and we know it
SCHEMA_VERSION = 1
SYNC_EVERY_S = 1.0
WAL_PAGES = 4096  # 16 MB: beyond it the committing thread folds the log back itself, so that it cannot grow without end
PACK_FROM = 512  # bytes; shorter texts gain nothing from zlib

_TABLES = """
CREATE TABLE run (number INTEGER PRIMARY KEY, time TEXT NOT NULL);
-- one row a request that is about to be sent; usd: the most it may cost, NULL where there are no prices
CREATE TABLE sent (number INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, usd REAL);
-- one row a request that brought no answer; billed: no, yes or unknown
CREATE TABLE lost (number INTEGER PRIMARY KEY, sent INTEGER NOT NULL REFERENCES sent, billed TEXT NOT NULL, kind TEXT NOT NULL);
-- one row a finished call; sent: its last request; request, reply and queries: JSON, in zlib where it is a blob
CREATE TABLE call (
    number INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run, sent INTEGER REFERENCES sent, key TEXT NOT NULL, time TEXT NOT NULL,
    model TEXT NOT NULL, status TEXT NOT NULL CHECK (status IN ('ok', 'empty', 'error')), usd REAL, attempts INTEGER NOT NULL,
    lost INTEGER NOT NULL, error TEXT NOT NULL, input INTEGER, cached_input INTEGER, output INTEGER, reasoning INTEGER,
    queries NOT NULL, request NOT NULL, reply NOT NULL
);
CREATE INDEX call_key ON call (key, status);
CREATE INDEX lost_sent ON lost (sent);
"""
# REPLACE would delete without a DELETE trigger: a number that stands is refused as well
_GUARD = """
CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'the call store is append-only'); END;
CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, 'the call store is append-only'); END;
CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE number = NEW.number)
BEGIN SELECT RAISE(ABORT, 'the call store is append-only'); END;
"""
_SCHEMA = _TABLES + "".join(_GUARD.format(table=table) for table in ("run", "sent", "lost", "call"))
_KEPT = "SELECT {columns} FROM call WHERE key = ? AND status IN ('ok', 'empty') ORDER BY number DESC LIMIT 1"
_COLUMNS = "key, time, queries, request, status, reply, usd, attempts, lost, error"
_COUNTED = ("input", "cached_input", "output", "reasoning")
# a request is open where neither its run finished the call afterwards nor the request itself came back without an answer
_OPEN = """
SELECT run.number, run.time, sent.key, sent.usd FROM sent JOIN run ON run.number = sent.run
WHERE sent.run <> ? AND NOT EXISTS (SELECT 1 FROM lost WHERE lost.sent = sent.number)
AND NOT EXISTS (SELECT 1 FROM call WHERE call.key = sent.key AND call.run = sent.run AND call.sent >= sent.number) ORDER BY sent.number
"""
_MEND = {
    "SQLITE_FULL": "Free some space and run the same command: every call that was committed is kept and is not asked again.",
    "SQLITE_IOERR": "Is the disk full, over its quota or gone? Every call that was committed is kept and is not asked again.",
    "SQLITE_CORRUPT": "Keep the file, save what can be read with `sqlite3 FILE .recover`, and name another store.",
    "SQLITE_NOTADB": "Name another file: a store is made where there is none.",
    "SQLITE_CANTOPEN": "Is its folder there and writable?",
    "SQLITE_READONLY": "Is it writable for this user?",
}


@dataclass(frozen=True)
class Interrupted:
    """A run that ended without its requests coming back: killed, cut off or stopped. usd: the most they may have cost; NaN: no prices."""

    run: int
    time: str
    keys: tuple[str, ...]
    usd: float

    def __str__(self) -> str:
        most = "USD not known: no prices" if math.isnan(self.usd) else f"at most USD {self.usd:.6g}"
        return f"{len(self.keys)} requests were in flight when the run of {self.time} ended: they may have been billed ({most})"


@dataclass(frozen=True)
class Totals:
    """Everything the store has paid for, over all runs.

    usd: of calls with a known cost. usd_unknown_calls: paid calls without one. lost: requests that brought nothing and may have been
    billed; lost_usd: the most they cost. interrupted, interrupted_usd: the same for requests that were in flight when a run ended.
    """

    calls: int
    ok: int
    empty: int
    error: int
    usd: float
    usd_by_model: Mapping[str, float]
    usd_unknown_calls: int
    lost: int
    lost_usd: float
    interrupted: int
    interrupted_usd: float
    tokens: Mapping[str, int] = field(default_factory=dict)


class Store:
    """One file of calls, used from one thread as a context manager; the last good call of a key is what the key answers.

    A call, once `put` returns, survives SIGKILL: each is a commit of its own in SQLite's write-ahead log. The log is flushed to the disk
    about every second and at the end, so that a power cut costs at most that second. Nothing is changed or deleted; triggers see to it.
    Raises InputError, naming the file, for a file that is no store, a newer or a corrupt one, one in use by another process, a full disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock: Any = None
        self._run: int | None = None
        self._sent: dict[str, int] = {}  # key -> its last request, while it is in flight
        self._dirty, self._ended = threading.Event(), threading.Event()
        self._fault: sqlite3.Error | None = None
        self._acquire()
        try:
            with self._told():
                self._db = self._open()
            self._syncing = threading.Thread(target=self._sync, name="store", daemon=True)
            self._syncing.start()
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Flushes everything to the disk and lets go of the file. Twice does no harm."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._dirty.set()
        self._syncing.join()
        try:
            with self._told():
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.close()
            self._release()

    def begin(self, key: str, usd_forecast: float = UNKNOWN) -> int:
        """Notes that a request of this key is about to be sent and may cost so much (USD, NaN: not known). Returns the request's number."""
        number = self._write("INSERT INTO sent (run, key, usd) VALUES (?, ?, ?)", (self._started(), key, _null(usd_forecast)))
        self._sent[key] = number
        return number

    def failed(self, number: int, kind: str, billed: str) -> None:
        """Notes that this request brought no answer. billed: no, yes or unknown."""
        self._write("INSERT INTO lost (sent, billed, kind) VALUES (?, ?, ?)", (number, billed, kind))

    def put(self, call: Call) -> None:
        """Keeps a finished call."""
        tokens = call.reply.tokens or {}
        row = (
            *(self._started(), self._sent.get(call.key), call.key, call.time, call.request.model, call.status, _null(call.usd)),
            *(call.attempts, call.lost, _whole(call.error), *(tokens.get(kind) for kind in _COUNTED)),
            *(_pack(call.queries), _pack(call.request.plain()), _pack(_plain_reply(call.reply))),
        )
        self._write(f"INSERT INTO call VALUES (NULL, {', '.join('?' * len(row))})", row)  # noqa: S608 - placeholders alone
        self._sent.pop(call.key, None)

    def has(self, key: str) -> bool:
        """Whether this key was answered, or was paid for without an answer. A failed call does not count."""
        return self.paid_before(key) is not None

    def paid_before(self, key: str) -> float | None:
        """USD an earlier run paid for what `get` would give: NaN where not known, 0 for a call of this run; None where there is none."""
        with self._told():
            row = self._db.execute(_KEPT.format(columns="usd, run"), (key,)).fetchone()
        return None if row is None else 0.0 if row[1] == self._run else _number(row[0])

    def get(self, key: str) -> Call | None:
        """The last call of this key that ended ok or empty; None where it must be asked (again)."""
        with self._told():
            row = self._db.execute(_KEPT.format(columns=_COLUMNS), (key,)).fetchone()
        return None if row is None else self._read(row)

    def calls(self, keys: Iterable[str] | None = None) -> Iterator[Call]:
        """get() of each of these keys that has one, in their order; without keys every call there is, failed ones too, as written."""
        if keys is not None:
            yield from (call for key in keys if (call := self.get(key)) is not None)
            return
        last = 0
        while True:  # by number, so that calls may be written while this goes on
            with self._told():
                rows = self._db.execute(
                    f"SELECT {_COLUMNS}, number FROM call WHERE number > ? ORDER BY number LIMIT 100",  # noqa: S608 - constants alone
                    (last,),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][-1]
            yield from (self._read(row[:-1]) for row in rows)

    def interrupted(self) -> tuple[Interrupted, ...]:
        """Every earlier run with requests that never came back, oldest first. They stay: nobody can tell whether they were billed."""
        with self._told():
            rows = self._db.execute(_OPEN, (self._run or 0,)).fetchall()
        runs: dict[tuple[int, str], list[tuple[str, float]]] = {}
        for number, begun, key, usd in rows:
            runs.setdefault((number, begun), []).append((key, _number(usd)))
        return tuple(
            Interrupted(number, begun, tuple(key for key, _ in found), math.fsum(usd for _, usd in found))
            for (number, begun), found in runs.items()
        )

    def last_run(self) -> int:
        """The number of the last run before this one, 0 for none."""
        with self._told():
            found: int | None = self._db.execute("SELECT max(number) FROM run WHERE number < ?", (self._run or 1 << 62,)).fetchone()[0]
        return found or 0

    def totals(self) -> Totals:
        """The ledger over all runs."""
        cut = self.interrupted()
        with self._told():
            status = dict(self._db.execute("SELECT status, count(*) FROM call GROUP BY status").fetchall())
            spent = dict(self._db.execute("SELECT model, total(usd) FROM call GROUP BY model").fetchall())
            unknown = self._db.execute("SELECT count(*) FROM call WHERE usd IS NULL AND status IN ('ok', 'empty')").fetchone()[0]
            counted = self._db.execute("SELECT " + ", ".join(f"coalesce(sum({kind}), 0)" for kind in _COUNTED) + " FROM call").fetchone()  # noqa: S608
            lost = self._db.execute("SELECT usd FROM lost JOIN sent ON sent.number = lost.sent WHERE billed = 'unknown'").fetchall()
        return Totals(
            calls=sum(status.values()),
            **{name: status.get(name, 0) for name in ("ok", "empty", "error")},
            usd=math.fsum(spent.values()),
            usd_by_model=spent,
            usd_unknown_calls=unknown,
            lost=len(lost),
            lost_usd=math.fsum(_number(usd) for (usd,) in lost),
            interrupted=sum(len(run.keys) for run in cut),
            interrupted_usd=math.fsum(run.usd for run in cut),
            tokens=dict(zip(_COUNTED, counted, strict=True)),
        )

    def _started(self) -> int:
        """This run's number; a store that is only read has no run."""
        if self._run is None:
            self._run = self._write("INSERT INTO run (time) VALUES (?)", (datetime.now(UTC).isoformat(timespec="seconds"),))
        return self._run

    def _write(self, statement: str, row: tuple[Any, ...]) -> int:
        """One row, one commit; its number."""
        with self._told():
            if self._fault is not None:
                raise self._fault
            number = self._db.execute(statement, row).lastrowid
        self._dirty.set()
        assert number is not None
        return number

    def _sync(self) -> None:
        """In a thread of its own with a connection of its own: flushes what was committed, about every second, while others commit."""
        try:
            db = sqlite3.connect(self.path, isolation_level=None)
            db.execute("PRAGMA synchronous=NORMAL")
            while not self._ended.wait(SYNC_EVERY_S):
                if self._dirty.is_set():
                    self._dirty.clear()
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            db.close()
        except sqlite3.Error as error:
            self._fault = error  # the next write raises it

    def _open(self) -> sqlite3.Connection:
        """The file's connection, its schema made where it is new. Raises InputError for what is no store of ours."""
        db = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        known, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        new = known == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not new and known != APPLICATION_ID:
            mend = "Name another file: a store is made where there is none."
            raise InputError("this SQLite file is no call store", where=str(self.path), mend=mend)
        if version > SCHEMA_VERSION:
            expected, found = f"schema {SCHEMA_VERSION} or older", f"schema {version}"
            raise InputError("the call store is newer than this program", where=str(self.path), expected=expected, found=found)
        if not new and (fault := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise InputError("the call store is damaged", where=str(self.path), found=fault, mend=_MEND["SQLITE_CORRUPT"])
        if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            mend = "Put the store on a local disk."
            raise InputError("the call store cannot keep a write-ahead log here", where=str(self.path), mend=mend)
        for pragma in ("synchronous=NORMAL", f"wal_autocheckpoint={WAL_PAGES}", "recursive_triggers=ON"):
            db.execute(f"PRAGMA {pragma}")
        if new:
            db.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )

    def _acquire(self) -> None:
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(f"{self.path}.lock", timeout=0)
            self._lock.acquire()
        except Timeout:
            mend = "Wait for the other run to end, or name another store."
            raise InputError("the call store is in use by another process", where=str(self.path), mend=mend) from None
        except OSError as error:
            raise InputError("the call store cannot be opened", where=str(self.path), found=str(error)) from None

    def _release(self) -> None:
        self._lock.release()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns SQLite's errors into an InputError that names the file."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            mend = next((text for prefix, text in _MEND.items() if name.startswith(prefix)), "")
            raise InputError("the call store cannot be used", where=str(self.path), found=str(error), mend=mend) from error

    def _read(self, row: tuple[Any, ...]) -> Call:
        """A Call from _COLUMNS."""
        try:
            return _call(row)
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            found, mend = f"call {row[0]}: {error!r}", _MEND["SQLITE_CORRUPT"]
            raise InputError("a call cannot be read", where=str(self.path), found=found, mend=mend) from error


def now() -> str:
    """The time, as calls carry it: UTC, ISO 8601, to the millisecond."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")


def _null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _number(value: float | None) -> float:
    return UNKNOWN if value is None else float(value)


def _whole(text: str) -> str:
    """Text that SQLite takes: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _pack(value: Any) -> str | bytes:
    text = json.dumps(value, separators=(",", ":"))  # ASCII: half a surrogate pair from a model is text too
    return text if len(text) < PACK_FROM else zlib.compress(text.encode(), 1 if len(text) > 1 << 20 else 6)


def _unpack(value: str | bytes) -> Any:
    return json.loads(zlib.decompress(value) if isinstance(value, bytes) else value)


def _plain_reply(reply: Reply) -> dict[str, Any]:
    """JSON values; what is not known is left out."""
    found = {
        "text": reply.text,
        "tokens": None if reply.tokens is None else dict(reply.tokens),
        "logprobs": reply.logprobs,
        "pieces": reply.pieces,
        "entropy": reply.entropy,
        "finish": reply.finish,
        "first_s": _null(reply.first_s),
        "total_s": _null(reply.total_s),
    }
    return {name: value for name, value in found.items() if value is not None}


def _call(row: tuple[Any, ...]) -> Call:
    """A Call from _COLUMNS."""
    key, at, queries, request, status, reply, usd, attempts, lost, error = row
    asked, came = _unpack(request), _unpack(reply)
    asked["messages"] = tuple((role, content) for role, content in asked["messages"])
    for name in ("logprobs", "pieces", "entropy"):
        came[name] = tuple(came[name]) if name in came else None
    return Call(key, at, tuple(_unpack(queries)), Request(**asked), status, Reply(**came), _number(usd), attempts, lost, error)
