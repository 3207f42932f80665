"""Grades code by running tests against it, in a process without network, files, environment or rights.

The gold is Python that asserts (MBPP: one assert a line; HumanEval: check(candidate); pytest: functions test_*), or one JSON object with
the fields of HumanEval (test, entry_point) or MBPP (test_list, test_setup_code). With needs_gold=false the tests are those of the
question: its lines that begin with "assert", and its examples ">>> call" whose next line is a literal.

Held, where isolation is "namespace": the answer runs in a process of its own, and the tests in another that it can neither see nor signal;
they talk in plain data. So exiting early, patching builtins or the assert machinery, objects that equal everything, atexit, and searching
frames, memory or /proc for what passes win nothing. No network, not even loopback; no file but a small /tmp in memory; no environment but a
fixed hash seed; limits on time, memory, processes and files; at the end the kernel ends every process that is left.

Not held: an answer that computes wrong values which the tests do not catch, or knows the tests by heart; faults of the kernel; the reading
of /usr and of the Python installation; memory is limited by process, so `processes` times it is the worst case. Names that the tests take
from the answer (helpers, classes) are the answer's. A test cannot hand over functions, subclass or isinstance-check the answer's classes,
or see what it prints. With isolation "none" the limits on one process, the empty environment and the separate test process hold; network,
files and other processes of the user are open: for throw-away containers only.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routewright.core.types import InputError
from routewright.data.graders._text import fenced_blocks

ISOLATIONS = ("namespace", "none")
LABELS = ("python", "py", "python3", "py3")
SHOWN = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/etc/ld.so.cache", "/dev/null")
GRACE_S = 20  # for starting two interpreters on a busy machine; then the run is ended from outside

_BOOT = "import sys; sys.path.append(sys.argv[1]); from graders._runner import main; main()"
_ASSERT = re.compile(r"^[ \t]*(assert\b[^\n]*)$", re.MULTILINE)
_EXAMPLE = re.compile(r"^[ \t]*>>>[ \t]*([^\n]+)\n[ \t]*([^\n]+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class UnitTests:
    """1 where the answer's code passes every test, else 0; with partial=true the share of tests it passes.

    A test is a top-level statement of the gold, or of its check(), that asserts, or a function test_*. The code is the last fenced block
    labelled Python, else the last block, else the whole answer. entry_point: what check() is called with, where the gold does not say.
    prepend_question: the answer continues the question's code (base models on HumanEval). timeout_s: for loading and all tests.
    memory_mb: of each process; disk_mb: of all files; processes: at once. packages: whether installed packages can be imported.
    """

    needs_gold: bool = True
    entry_point: str = ""
    partial: bool = False
    prepend_question: bool = False
    timeout_s: float = 5.0
    memory_mb: int = 1024
    disk_mb: int = 16
    processes: int = 16
    packages: bool = False
    isolation: str = "namespace"

    def extract(self, answer: str) -> str | None:
        """The code, without trailing white space; None where there is none. Other spellings of one program are other answers."""
        blocks = fenced_blocks(answer)
        labelled = [body for label, body in blocks if label in LABELS]
        code = (labelled or [body for _, body in blocks] or [answer])[-1]
        return "\n".join(line.rstrip() for line in code.splitlines()).strip("\n") or None

    def grade(self, answer: str, gold: str, *, question: str = "") -> float:
        """The share of tests passed, or 1 or 0. Raises InputError for tests that cannot be run and where the kernel refuses isolation."""
        tests, entry_point = _read_gold(gold) if self.needs_gold else (_tests_of(question), "")
        entry_point = entry_point or self.entry_point
        if entry_point and not entry_point.isidentifier():
            raise InputError("an entry point is no name of a function", where="a gold answer", found=repr(entry_point))
        code = self.extract(answer)
        if code is None:
            return 0.0
        code = f"{question.rstrip()}\n{code}" if self.prepend_question else code
        verdict = self._run({"code": code, "tests": tests, "entry_point": entry_point})
        if verdict is None:
            return 0.0
        if self.partial:
            return float(verdict["passed"] / verdict["total"])
        return float(verdict["finished"] and verdict["passed"] == verdict["total"])

    def _run(self, job: dict[str, str]) -> dict[str, Any] | None:
        """The runner's verdict; None where it was ended from outside or wrote none."""
        token = secrets.token_hex(16)
        with tempfile.TemporaryDirectory(prefix="routewright-") as folder:
            report = _start({**job, **self._settings(), "folder": folder, "token": token}, self.isolation, folder)
        if report is None or report.get("token") != token:
            return None
        if "refused" in report:
            raise InputError(
                "the kernel refuses to isolate an answer's code",
                expected="Linux 5.12 or later that lets this user make namespaces",
                found=report["refused"],
                mend="Run as root or allow unprivileged user namespaces; in a throw-away container, set grader.isolation=none.",
            )
        if "gold" in report:
            raise InputError("the tests of a gold answer cannot be run", found=report["gold"], mend="See data/graders/unit_tests.py.")
        return report

    def _settings(self) -> dict[str, Any]:
        limits = (self.timeout_s, self.memory_mb, self.disk_mb, self.processes)
        if self.isolation not in ISOLATIONS or not all(limit > 0 and math.isfinite(limit) for limit in limits):
            raise InputError(
                "the unit-test grader cannot run so",
                expected=f"isolation one of {', '.join(ISOLATIONS)}, every limit above 0",
                found=f"isolation={self.isolation}, timeout_s, memory_mb, disk_mb, processes={limits}",
            )
        base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        python = sys.executable if self.packages else base
        return {
            "isolation": self.isolation,
            "python": python,
            "command": [python, "-P", "-s", *([] if self.packages else ["-S"])],
            "shown": [*SHOWN, sys.base_prefix, *([sys.prefix] if self.packages else [])],
            "timeout_s": self.timeout_s,
            "end_s": math.ceil(self.timeout_s) + GRACE_S,
            "limits": {
                "cpu_s": math.ceil(self.timeout_s),
                "memory_bytes": self.memory_mb << 20,
                "file_bytes": self.disk_mb << 20,
                "processes": self.processes,
            },
        }


def _start(job: dict[str, Any], isolation: str, folder: str) -> dict[str, Any] | None:
    """Runs the runner on this job and reads its report; ends it, with all that it started, where it takes too long."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    runner = subprocess.Popen(
        [python, "-I", "-S", "-B", "-c", _BOOT, str(Path(__file__).resolve().parents[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={},
        start_new_session=True,
    )
    try:
        output, _ = runner.communicate(json.dumps(job).encode(), timeout=job["end_s"])
    except subprocess.TimeoutExpired:
        return None
    finally:
        if runner.poll() is None or isolation == "none":
            _end(runner)
    try:
        return json.loads(output)
    except ValueError:
        return None  # ended before it could write: without isolation, an answer's code can do that


def _end(runner: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(runner.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing was left
    runner.communicate()


def _read_gold(gold: str) -> tuple[str, str]:
    """(tests, entry point or "") of a gold answer. Raises InputError for an object without tests."""
    try:
        fields = json.loads(gold)
    except (ValueError, RecursionError):
        return gold, ""  # Python, as it stands
    tests = fields.get("test", fields.get("test_list")) if isinstance(fields, dict) else None
    lines = tests if isinstance(tests, list) else [tests]
    if not isinstance(fields, dict) or not all(isinstance(line, str) for line in lines):
        raise InputError(
            "a gold answer is JSON without tests", expected="test and entry_point, or test_list and test_setup_code", found=repr(gold[:200])
        )
    return "\n".join([str(fields.get("test_setup_code") or ""), *lines]), str(fields.get("entry_point") or "")


def _tests_of(question: str) -> str:
    """The tests that a question shows. Raises InputError where there are none."""
    tests = [match[1].strip() for match in _ASSERT.finditer(question) if _parses(match[1].strip(), "exec")]
    for match in _EXAMPLE.finditer(question):
        call, expected = match[1].strip(), match[2].strip()
        if _parses(call, "eval") and _is_literal(expected):
            tests.append(f"assert ({call}) == ({expected})")
    if not tests:
        raise InputError(
            "a question shows no tests",
            expected='lines "assert ..." or examples ">>> call" followed by a literal',
            found=repr(question[:200]),
            mend="Give tests as the gold, and set grader.needs_gold=true.",
        )
    return "\n".join(tests)


def _parses(text: str, mode: str) -> bool:
    try:
        compile(text, "<question>", mode, ast.PyCF_ONLY_AST)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    return True
