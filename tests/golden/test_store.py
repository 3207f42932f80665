"""The call store: what goes in comes out, nothing changes or goes away, and what can go wrong with a file is told by name."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routewright.core.types import InputError
from routewright.data.calls import Call, Reply, Request
from routewright.data.store import APPLICATION_ID, Store, now

REPLY = Reply(
    "Paris \N{SNOWMAN} \x00 \ud83d",
    {"input": 12, "cached_input": 4, "output": 3, "reasoning": 1},
    (-0.1, -0.25, -1e-300),
    ("Par", "is", " "),
    "stop",
    0.25,
    1.5,
)


def call(name: str = "q", status: str = "ok", **changes: Any) -> Call:
    request = Request("http://x/v1", "m", (("system", "Be brief."), ("user", name)), 0.5, 64, 1, True, {"top_p": 0.9})
    return replace(Call(request.key(), now(), (name, "twin"), request, status, REPLY, 0.125, 3, 1, ""), **changes)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    made = call()
    long = call("long " * 1000, reply=Reply("word " * 5000), usd=math.nan)
    with Store(tmp_path / "new folder" / "a.sqlite") as store:
        store.put(made)
        store.put(long)
    with Store(tmp_path / "new folder" / "a.sqlite") as store:
        assert store.get(made.key) == made
        found = store.get(long.key)
        assert found is not None
        assert found.reply.text == "word " * 5000
        assert math.isnan(found.usd)
        assert found.reply.tokens is None
        assert found.request.key() == long.key
    assert (tmp_path / "new folder" / "a.sqlite").stat().st_size < 60_000  # 30 kB of text, most of it packed


def test_an_error_does_not_count_and_the_last_good_call_does(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        failed = call(status="error", error="rate_limit: \ud800 slow down", reply=Reply(""), usd=math.nan)
        store.put(failed)
        assert store.get(failed.key) is None
        assert not store.has(failed.key)
        store.put(call(status="empty", reply=Reply("")))
        assert store.has(failed.key)
        store.put(call())
        store.put(failed)
        found = store.get(failed.key)
        assert found is not None
        assert found.status == "ok"
        assert [item.status for item in store.calls()] == ["error", "empty", "ok", "error"]
        assert [item.status for item in store.calls(["nothing", failed.key])] == ["ok"]
        assert next(store.calls()).error == "rate_limit: ? slow down"


def test_every_call_comes_in_the_order_it_was_written(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        for i in range(250):
            store.put(call(f"q{i}"))
        assert [item.queries[0] for item in store.calls()] == [f"q{i}" for i in range(250)]


@pytest.mark.parametrize("table", ["call", "sent", "lost", "run"])
def test_nothing_is_changed_or_deleted(tmp_path: Path, table: str) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        store.failed(store.begin(call().key, 0.5), "timeout", "unknown")
        store.put(call())
    db = sqlite3.connect(tmp_path / "a.sqlite")
    before = db.execute(f"SELECT * FROM {table}").fetchall()
    assert len(before) == 1
    for statement in (f"UPDATE {table} SET number = 7", f"DELETE FROM {table}", f"REPLACE INTO {table} SELECT * FROM {table}"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    assert db.execute(f"SELECT * FROM {table}").fetchall() == before
    db.close()


def test_requests_that_never_came_back_are_told_for_good(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with Store(path) as store:
        store.begin(call("answered").key, 0.25)
        store.put(call("answered"))
        store.failed(store.begin(call("refused").key, 0.25), "server", "no")
        store.failed(store.begin(call("lost").key, 0.5), "timeout", "unknown")
        store.begin(call("open").key, 1.0)
        store.begin(call("again").key, 2.0)
        assert store.interrupted() == ()  # this run is not over
    with Store(path) as store:
        assert store.last_run() == 1
        (cut,) = store.interrupted()
        assert set(cut.keys) == {call("open").key, call("again").key}
        assert cut.usd == 3.0
        assert "2 requests were in flight" in str(cut)
        assert "at most USD 3)" in str(cut)
        store.begin(call("again").key, 2.0)
        store.put(call("again"))  # answers it, and tells nothing about the first request
    with Store(path) as store:
        assert [item.run for item in store.interrupted()] == [1]
        assert len(store.interrupted()[0].keys) == 2
        assert store.last_run() == 2
        totals = store.totals()
        assert (totals.lost, totals.lost_usd, totals.interrupted, totals.interrupted_usd) == (1, 0.5, 2, 3.0)


def test_a_call_that_failed_and_was_asked_again_in_the_same_run_is_open_again(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        store.begin(call().key, 1.0)
        store.put(call(status="error"))
        store.begin(call().key, 1.0)
    with Store(tmp_path / "a.sqlite") as store:
        assert store.interrupted()[0].keys == (call().key,)


def test_the_ledger_is_the_sum_of_the_calls(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        for i in range(3):
            store.put(call(f"q{i}"))
        store.put(call("free", usd=math.nan, reply=Reply("text")))
        store.put(call("bad", status="error", usd=math.nan, reply=Reply("")))
        store.put(call("none", status="empty", usd=0.5, reply=Reply("", {"input": 2, "output": 0})))
        totals = store.totals()
    assert (totals.calls, totals.ok, totals.empty, totals.error) == (6, 4, 1, 1)
    assert totals.usd == 3 * 0.125 + 0.5
    assert totals.usd_by_model == {"m": totals.usd}
    assert totals.usd_unknown_calls == 1
    assert totals.tokens == {"input": 3 * 12 + 2, "cached_input": 12, "output": 9, "reasoning": 3}


def test_what_an_earlier_run_paid_is_told_apart(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        store.put(call())
        assert store.paid_before(call().key) == 0.0
        assert store.paid_before("other") is None
    with Store(tmp_path / "a.sqlite") as store:
        assert store.paid_before(call().key) == 0.125


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    code = f"from routewright.data.store import Store\nfrom pathlib import Path\nStore(Path({str(path)!r}))"
    with Store(path) as store:
        store.put(call())
        with pytest.raises(InputError, match=r"in use by another process in .*a\.sqlite"):
            Store(path)
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "in use by another process" in other.stderr
        assert store.has(call().key)
    Store(path).close()  # free again


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"id,text\n1,hello\n" * 100, "not a database"),
        (b"SQLite format 3\x00" + b"\x07" * 4000, "cannot be used"),
    ],
)
def test_a_file_that_is_no_store(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told) as error:
        Store(path)
    assert "a.csv" in str(error.value)
    assert path.read_bytes() == content


def test_another_program_s_database(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "b.sqlite")
    db.execute("CREATE TABLE mine (x)")
    db.commit()
    db.close()
    with pytest.raises(InputError, match=r"no call store in .*b\.sqlite"):
        Store(tmp_path / "b.sqlite")


def test_a_folder_and_an_unreachable_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        Store(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be opened"):
        Store(tmp_path / "file" / "a.sqlite")


def test_a_newer_store(tmp_path: Path) -> None:
    Store(tmp_path / "a.sqlite").close()
    db = sqlite3.connect(tmp_path / "a.sqlite")
    assert db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(InputError, match=r"newer than this program.*schema 99"):
        Store(tmp_path / "a.sqlite")


def test_a_damaged_store(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with Store(path) as store:
        for i in range(300):
            store.put(call(f"q{i}"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    with pytest.raises(InputError, match=r"a\.sqlite"):
        Store(path)
    path.write_bytes(whole[:8192] + os.urandom(len(whole) - 8192))
    with pytest.raises(InputError, match=r"(damaged|malformed|cannot be used).*a\.sqlite"):
        Store(path)


def test_a_record_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with Store(path) as store:
        store.put(call())
    db = sqlite3.connect(path)
    kept = "run, sent, key, time, model, status, usd, attempts, lost, error, input, cached_input, output, reasoning, queries"
    db.execute(f"INSERT INTO call SELECT NULL, {kept}, x'00', reply FROM call")
    db.commit()
    db.close()
    with Store(path) as store, pytest.raises(InputError, match="a call cannot be read"):
        store.get(call().key)


def test_an_interrupted_making_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").touch()
    with Store(tmp_path / "a.sqlite") as store:
        store.put(call())
    empty = sqlite3.connect(tmp_path / "b.sqlite", isolation_level=None)
    empty.execute("PRAGMA journal_mode=WAL")
    empty.close()
    with Store(tmp_path / "b.sqlite") as store:
        store.put(call())
        assert store.has(call().key)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.golden.test_store import call
from routewright.data.store import Store
store = Store(Path(sys.argv[1]))
for i in range(40):
    store.begin(call(f"q{i}").key, 1.0)
    store.put(call(f"q{i}"))
store.begin(call("open").key, 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_put_survives_being_killed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.sqlite")], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    with Store(tmp_path / "a.sqlite") as store:
        assert [item.queries[0] for item in store.calls()] == [f"q{i}" for i in range(40)]
        assert store.interrupted()[0].keys == (call("open").key,)


def write_on(store: Store, kept: list[int]) -> None:
    noise = os.urandom(2000).hex()
    for i in range(3000):
        store.put(call(f"q{i}", reply=Reply(f"{i} {noise}")))
        kept.append(i)


def filled(store: Store) -> int:
    """Writes until the disk is full; how many calls were put."""
    kept: list[int] = []
    with pytest.raises(InputError, match=r"call store.*a\.sqlite.*kept"):
        write_on(store, kept)
    return len(kept)


def test_a_full_disk_costs_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    store = Store(path)
    store._db.execute("PRAGMA max_page_count = 60")
    kept = filled(store)
    assert kept > 5
    with pytest.raises(InputError):  # and it stays full
        store.put(call("one more", reply=Reply(os.urandom(9000).hex())))
    store.close()
    with Store(path) as store:
        assert len(list(store.calls())) == kept
        store.put(call("more"))  # there is room again
        assert store.has(call("more").key)


LIMITED = """
import resource, signal, sys
from pathlib import Path
from tests.golden.test_store import filled
from routewright.data.store import Store
from routewright.core.types import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
print(filled(store))
try:
    store.close()
except InputError:
    pass
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "a.sqlite")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    with Store(tmp_path / "a.sqlite") as store:
        assert len(list(store.calls())) == int(done.stdout) > 5


def test_a_full_file_system(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        store = Store(small / "a.sqlite")
        kept = filled(store)
        with contextlib.suppress(InputError):  # it may or may not find room to fold its log back
            store.close()
        for name in ("a.sqlite", "a.sqlite-wal"):
            if (small / name).exists():
                (tmp_path / name).write_bytes((small / name).read_bytes())
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    with Store(tmp_path / "a.sqlite") as store:
        assert len(list(store.calls())) == kept > 5


def test_a_fault_of_the_disk_while_flushing_is_told_by_the_next_write(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        store._fault = sqlite3.OperationalError("disk I/O error")
        with pytest.raises(InputError, match="disk I/O error"):
            store.put(call())
        store._fault = None
        store.put(call())


def test_what_was_committed_reaches_the_file_within_seconds(tmp_path: Path) -> None:
    """Without the write-ahead log: what a copy of the main file alone holds after the flush."""
    with Store(tmp_path / "a.sqlite") as store:
        store.put(call())
        end = time.monotonic() + 30
        while time.monotonic() < end:
            (tmp_path / "copy.sqlite").write_bytes((tmp_path / "a.sqlite").read_bytes())
            copy = sqlite3.connect(tmp_path / "copy.sqlite")
            found = copy.execute("SELECT count(*) FROM sqlite_master WHERE name = 'call'").fetchone()[0]
            rows = copy.execute("SELECT count(*) FROM call").fetchone()[0] if found else 0
            copy.close()
            if rows:
                return
            time.sleep(0.1)
    raise AssertionError("it was never flushed")
