"""The process that runs the tests: builds the jail, starts the answer's process in it, and judges what comes back. Standard library only.

Started by unit_tests.py as a program: a job (JSON) on stdin, a verdict (JSON) on stdout. The answer's code never runs here: a test that
calls the answer's function sends the arguments to the other process and receives plain data. So what the answer does to its own process
(exits, patches, reads its frames and memory) changes what it returns and nothing else.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

from . import _candidate, _jail  # noqa: TID251  # as a program it is not part of routewright

_UNIT = "__unit__"  # the name under which the tests mark themselves


class GoldError(Exception):
    """Tests that cannot be run, whatever the answer."""


class GoneError(Exception):
    """The answer's process has ended, or speaks nonsense."""


class ExpiredError(BaseException):
    """The time is over; no `except Exception` of a test may swallow it."""


class Link:
    """The connection to the answer's process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.unsendable = ""

    def ask(self, *message: Any) -> Any:
        try:
            _candidate.send(self.descriptor, message)
            status, *body = _candidate.receive(self.descriptor)
        except (OSError, EOFError, ValueError, TypeError, RecursionError) as error:
            raise GoneError(str(error)) from None
        if status == "ok":
            return body[0]
        kind = getattr(builtins, str(body[0]), None)
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
            raise kind(body[1])
        raise RuntimeError(f"{body[0]}: {body[1]}")  # SystemExit and the like would end the tests

    def pack(self, value: Any) -> Any:
        return _candidate.pack(value, self._handle)

    def unpack(self, packed: Any) -> Any:
        return _candidate.unpack(packed, lambda number, kind: Remote(self, number, kind))

    def _handle(self, value: Any) -> Any:
        if isinstance(value, Remote):
            return {"r": [value._number, value._kind]}
        self.unsendable = type(value).__name__
        raise _candidate.UnsendableError(f"a test hands over a {self.unsendable}")


class Remote:
    """What stands for an object in the answer's process. It equals nothing but itself, whatever that object says."""

    def __init__(self, link: Link, number: int, kind: str) -> None:
        self._link, self._number, self._kind = link, number, kind

    def __call__(self, *positional: Any, **named: Any) -> Any:
        link = self._link
        packed = {name: link.pack(value) for name, value in named.items()}
        result, after = link.ask("call", self._number, [link.pack(value) for value in positional], packed)
        for argument, changed in zip(positional, after, strict=True):
            if changed is not None:
                _overwrite(argument, link.unpack(changed))
        return link.unpack(result)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._link.unpack(self._link.ask("attr", self._number, name))

    def __iter__(self) -> Iterator[Any]:
        return iter([self._link.unpack(item) for item in self._link.ask("iter", self._number)])

    def __getitem__(self, key: Any) -> Any:
        return self._link.unpack(self._link.ask("item", self._number, self._link.pack(key)))

    def __len__(self) -> int:
        return int(self._link.unpack(self._link.ask("len", self._number)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._number == other._number

    def __hash__(self) -> int:
        return hash(self._number)


def _overwrite(argument: Any, changed: Any) -> None:
    """Makes the test's own list, set, dict or bytearray what the answer made of its copy."""
    if isinstance(argument, list | bytearray) and isinstance(changed, list | bytearray):
        argument[:] = changed
    elif isinstance(argument, dict | set) and isinstance(changed, dict | set):
        argument.clear()
        argument.update(changed)


class Units:
    """Which units of the tests passed: a unit is one statement that asserts, or one test function."""

    def __init__(self) -> None:
        self.total = 0
        self.outcome: dict[int, bool] = {}

    def wrap(self, statement: ast.stmt) -> ast.stmt:
        """The statement, with its outcome recorded and its exception kept from ending the others."""
        call = ast.Call(ast.Name(_UNIT, ast.Load()), [ast.Constant(self.total)], [])
        self.total += 1
        return ast.copy_location(ast.With([ast.withitem(call)], [statement]), statement)

    def __call__(self, number: int) -> AbstractContextManager[None]:
        return _Unit(self.outcome, number)

    @property
    def passed(self) -> int:
        return sum(self.outcome.values())


class _Unit(AbstractContextManager[None]):
    def __init__(self, outcome: dict[int, bool], number: int) -> None:
        self.outcome, self.number = outcome, number

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        self.outcome[self.number] = kind is None and self.outcome.get(self.number, True)
        return kind is not None and issubclass(kind, Exception)


def prepare(tests: str, entry_point: str) -> tuple[ast.Module, Units, set[str]]:
    """The tests ready to run, their units, and the names they take from elsewhere. Raises GoldError for tests that test nothing."""
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GoldError(f"the tests are not Python: {error}") from None
    units, body = Units(), []
    check = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"), None)
    if check is not None:
        check.body = [_wrapped(statement, units) for statement in check.body]
        if not any(_calls_check(statement) for statement in tree.body):
            if not entry_point:
                raise GoldError("the tests define check(candidate) but nothing says what to check")
            tree.body.append(ast.parse(f"check({entry_point})").body[0])
    for statement in tree.body:
        body.append(_wrapped(statement, units))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not node.args.args:
            body.append(units.wrap(ast.parse(f"{node.name}()").body[0]))
    if not units.total:
        raise GoldError("the tests assert nothing")
    tree.body = body
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {_UNIT}
    return ast.fix_missing_locations(tree), units, {name for name in used if name == entry_point or not hasattr(builtins, name)}


def _wrapped(statement: ast.stmt, units: Units) -> ast.stmt:
    definition = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(statement))
    return units.wrap(statement) if asserts and not definition else statement


def _calls_check(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef):
        return False
    return any(isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check" for node in ast.walk(statement))


def judge(link: Link, code: str, tests: str, entry_point: str) -> dict[str, Any]:
    """Runs the tests: {"passed", "total", "finished"}. Raises GoldError."""
    tree, units, wanted = prepare(tests, entry_point)
    finished = False
    try:
        link.ask("load", code)
        namespace: dict[str, Any] = {"__name__": "tests", _UNIT: units, **_taken(link, sorted(wanted))}
        exec(compile(tree, "<tests>", "exec", dont_inherit=True), namespace)  # noqa: S102  # the user's own tests
        finished = True
    except (Exception, ExpiredError):
        finished = False  # the answer does not load, lacks a function, or is too slow: an outcome, not a fault
    if link.unsendable:
        raise GoldError(f"a test hands a {link.unsendable} to the answer; only plain data can cross")
    return {"passed": units.passed, "total": units.total, "finished": finished}


def _taken(link: Link, wanted: list[str]) -> dict[str, Any]:
    """What the tests use of the answer's names. A standard module is the real one, not what the answer made of it."""
    found = {}
    for name, (kind, value) in link.ask("names", wanted).items():
        if kind != "module":
            found[name] = link.unpack(value)
        elif str(value).partition(".")[0] in sys.stdlib_module_names:
            found[name] = __import__(str(value), fromlist=["_"])
    return found


def start(job: dict[str, Any], source: str) -> int:
    """Starts the answer's process; the descriptor to talk to it."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        try:
            ours.close()
            os.set_inheritable(theirs.fileno(), True)
            _jail.die_with_parent()
            _jail.limit(**job["limits"])
            # one hash seed for every run: sets have one order, and so the same answer has the same grade
            os.execve(job["python"], [*job["command"], "-c", source, str(theirs.fileno())], {"PYTHONHASHSEED": "0"})  # noqa: S606
        finally:
            os._exit(127)
    theirs.close()
    return ours.detach()


def expire(_signal: int, _frame: FrameType | None) -> None:
    raise ExpiredError


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    verdict = os.dup(1)  # closed on exec, like every descriptor that Python makes
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    source = inspect.getsource(_candidate)  # while its file can be seen
    _jail.die_with_parent()
    signal.alarm(job["end_s"])  # should the caller be killed, this ends alone
    if job["isolation"] == "namespace":
        try:
            _jail.enter(Path(job["folder"]), job["shown"], disk_bytes=job["limits"]["file_bytes"])
            if (child := os.fork()) != 0:
                os.waitpid(child, 0)
                return
            _jail.new_process_namespace()
            _jail.drop_rights()
            _jail.die_with_parent()
        except (OSError, KeyError, AttributeError) as error:  # no such system call on this machine
            _write(verdict, {"refused": str(error), "token": job["token"]})
            return
    _jail.hide_memory()
    signal.signal(signal.SIGALRM, expire)
    try:
        link = Link(start(job, source))
        signal.setitimer(signal.ITIMER_REAL, job["timeout_s"])
        report = judge(link, job["code"], job["tests"], job["entry_point"])
    except GoldError as error:
        report = {"gold": str(error)}
    except ExpiredError:
        report = {"passed": 0, "total": 1, "finished": False}
    signal.setitimer(signal.ITIMER_REAL, 0)
    _write(verdict, {**report, "token": job["token"]})
    os._exit(0)


def _write(descriptor: int, report: dict[str, Any]) -> None:
    with os.fdopen(descriptor, "w") as stream:
        stream.write(json.dumps(report))
