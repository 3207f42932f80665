"""The unit-test grader against right code, wrong code, and code written to cheat, to escape or to break the machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from routewright.core.types import InputError
from routewright.data.graders import _runner
from routewright.data.graders.unit_tests import _BOOT, SHOWN, UnitTests

ADD = "def add(a, b):\n    return a + b"
TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"
HUMANEVAL = json.dumps({"test": "def check(candidate):\n    assert candidate(1, 2) == 3\n", "entry_point": "add"})
MBPP = json.dumps({"test_setup_code": "x = 1", "test_list": ["assert add(x, 2) == 3"], "challenge_test_list": []})


def _namespaces() -> bool:
    try:
        UnitTests().grade(ADD, TESTS)
    except InputError:
        return False
    return True


ISOLATIONS = ["none", *(["namespace"] if _namespaces() else [])]
isolated = pytest.mark.skipif("namespace" not in ISOLATIONS, reason="this kernel refuses namespaces")


@pytest.fixture(params=ISOLATIONS)
def grader(request: pytest.FixtureRequest) -> UnitTests:
    return UnitTests(isolation=request.param, timeout_s=4, memory_mb=512)


def fenced(code: str, label: str = "python") -> str:
    return f"Here it is:\n```{label}\n{code}\n```\nDone."


@pytest.mark.parametrize("gold", [TESTS, HUMANEVAL, MBPP, f"def test_it():\n    assert add(1, 2) == 3\n{TESTS}"])
def test_right_code_passes_in_every_shape_of_tests(grader: UnitTests, gold: str) -> None:
    assert grader.grade(fenced(ADD), gold) == 1
    assert grader.grade(fenced(ADD.replace("+", "-")), gold) == 0


def test_check_takes_its_function_from_the_setting_or_from_a_call() -> None:
    tests = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
    assert UnitTests(isolation="none", entry_point="add").grade(ADD, tests) == 1
    assert UnitTests(isolation="none").grade(ADD, tests + "check(add)") == 1
    with pytest.raises(InputError, match="what to check"):
        UnitTests(isolation="none").grade(ADD, tests)


def test_partial_credit_is_the_share_of_tests(grader: UnitTests) -> None:
    tests = "assert add(1, 1) == 2\nassert add(1, 1) == 3\nassert add(2, 2) == 4\nfor i in range(9):\n    assert add(i, 0) == i"
    share = UnitTests(isolation=grader.isolation, partial=True)
    assert share.grade(ADD, tests) == 0.75
    assert grader.grade(ADD, tests) == 0
    slow = "def add(a, b):\n    while a > 1: pass\n    return a + b"
    assert UnitTests(isolation=grader.isolation, partial=True, timeout_s=1).grade(slow, tests) == 0.25, (
        "what passed before the time was over"
    )


def test_plain_data_of_every_kind_crosses(grader: UnitTests) -> None:
    values = (
        "[None, True, 1, -(10**50), 2.5, float('inf'), 'a\\ud800', b'x', bytearray(b'y'), (1, (2,)), {1, 2}, frozenset({3}), "
        "{'k': [1], (1, 2): 3}, 1j]"
    )
    tests = f"assert same({values}) == {values}\nassert isinstance(same((1,)), tuple)\nassert same(x=True) is True\nassert same(2.0) != 2.5"
    assert grader.grade("def same(x):\n    return x", tests) == 1


def test_tests_see_changes_exceptions_iterators_and_helpers(grader: UnitTests) -> None:
    code = (
        "import math\nclass Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n"
        "    def total(self): return self.a + self.b\n"
        "def sort(x): x.sort()\ndef fill(d): d['k'] = 1\ndef bad(): raise KeyError('no')\ndef count():\n    yield from range(3)\n"
        "def first(pairs): return pairs[0]\nclass Bag(dict): pass\ndef bag(): return Bag(a=1)"
    )
    tests = (
        "x = [3, 1]\nsort(x)\nassert x == [1, 3]\nd = {}\nfill(d)\nassert d == {'k': 1}\nassert list(count()) == [0, 1, 2]\n"
        "try:\n    bad()\n    assert False\nexcept KeyError:\n    pass\nassert math.floor(2.5) == 2\n"
        "p = Pair(1, 2)\nassert first([p]) == p\nassert p.a == 1 and p.total() == 3\nassert bag() == {'a': 1}\nassert bag()['a'] == 1"
    )
    assert grader.grade(code, tests) == 1


def test_the_last_python_block_is_the_code() -> None:
    grader = UnitTests()
    assert grader.extract(f"```python\nx = 1\n```\n```py\n{ADD}  \n```\n```text\nout\n```") == ADD
    assert grader.extract(f"```\n{ADD}\n```") == ADD
    assert grader.extract(f"```python\n{ADD}") == ADD, "cut off by the length limit"
    assert grader.extract(f"{ADD}\n\n") == ADD
    assert grader.extract("```python\n```") is None
    assert grader.extract("~~~python\nx = '''\n```\n'''\n~~~") == "x = '''\n```\n'''"


@pytest.mark.parametrize(
    "answer", ["", "def add(:", "(" * 100_000, "\0", "x = '\ud800'\n" + ADD[:9], "raise SystemExit(0)", "-" * 200_000 + "1"]
)
def test_what_does_not_load_is_wrong(grader: UnitTests, answer: str) -> None:
    assert grader.grade(answer, TESTS) == 0


@pytest.mark.parametrize(
    ("gold", "says"),
    [
        ("def f(:", "not Python"),
        ("x = 1", "assert nothing"),
        ("", "assert nothing"),
        ("[1, 2]", "JSON without tests"),
        ('{"entry_point": "add"}', "JSON without tests"),
        ('{"test_list": [1]}', "JSON without tests"),
        ('{"test": "assert True", "entry_point": "a b"}', "no name of a function"),
        ("assert apply(lambda: 1)", "only plain data can cross"),
    ],
)
def test_unusable_tests_are_refused(grader: UnitTests, gold: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        grader.grade("def apply(f): return f()", gold)


def test_unusable_settings_are_refused() -> None:
    for settings in ({"isolation": "docker"}, {"timeout_s": 0.0}, {"memory_mb": -1}, {"timeout_s": float("nan")}):
        with pytest.raises(InputError, match="cannot run so"):
            UnitTests(**settings).grade(ADD, TESTS)


def test_tests_of_the_question_make_a_verifier() -> None:
    grader = UnitTests(needs_gold=False, isolation="none")
    question = 'Write add.\nassert add(1, 2) == 3\n"""\n    >>> add(2, 2)\n    4\n    >>> print(add)\n    <function>\n"""'
    assert grader.grade(ADD, "", question=question) == 1
    assert grader.grade(ADD.replace("+", "-"), "", question=question) == 0
    assert grader.grade("def add(a, b): return 3", "", question=question) == 0, "the example counts too"
    with pytest.raises(InputError, match="shows no tests"):
        grader.grade(ADD, "", question="assert yourself: write add")


def test_a_completion_continues_the_question() -> None:
    grader = UnitTests(prepend_question=True, isolation="none")
    assert grader.grade("    return a + b", HUMANEVAL, question="def add(a, b):\n") == 1


EQUAL = "def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    __hash__ = None"
DESCRIPTORS = "import os\nfor d in range(3, 64):\n    try: {}\n    except OSError: pass\ndef add(a, b): return None"
VERDICT = '{"passed": 5, "total": 5, "finished": true, "token": ""}'

CHEATS = {
    "exit at once": "import sys\nsys.exit(0)",
    "hard exit at once": "import os\nos._exit(0)",
    "exit in the call": "import os\ndef add(a, b): os._exit(0)",
    "SystemExit in the call": "def add(a, b): raise SystemExit(0)",
    "equal to everything": f"class E:\n    {EQUAL}\ndef add(a, b): return E()",
    "an int equal to everything": f"class E(int):\n    {EQUAL}\ndef add(a, b): return E(7)",
    "a class equal to everything": f"class M(type):\n    {EQUAL}\nclass add(metaclass=M):\n    def __init__(self, a, b): pass",
    "patched builtins": (
        "import builtins\nbuiltins.AssertionError = type('A', (BaseException,), {})\nbuiltins.all = lambda x: True\n"
        "builtins.abs = lambda x: 0\ndef add(a, b): return None"
    ),
    "patched harness": (
        "import __main__\n__main__.Server.answer = lambda self, m: ['ok', True]\n__main__.pack = lambda *a: True\n"
        "def add(a, b): return None"
    ),
    "printing a verdict": f"print('{VERDICT}')\ndef add(a, b): return None",
    "a verdict on every descriptor": DESCRIPTORS.format(f"os.write(d, b'{VERDICT}')"),
    "forged replies": DESCRIPTORS.format(
        "[os.write(d, len(m).to_bytes(4, 'big') + m) for m in (b'[\"ok\", null]', b'[\"ok\", {}]', b'[\"ok\", [true, []]]') * 9]"
    ),
    "a frame without end": DESCRIPTORS.format("os.write(d, b'\\xff' * 99)"),
    "expected values in frames": (
        "import sys, gc\ndef add(a, b):\n    f = sys._getframe()\n    while f:\n        for v in f.f_locals.values():\n"
        "            if isinstance(v, str) and 'assert' in v: return eval(v.split('==')[1])\n        f = f.f_back\n"
        "    for o in gc.get_objects():\n        if isinstance(o, str) and 'assert add' in o: return eval(o.split('==')[1])"
    ),
    "at exit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef add(a, b): raise SystemExit",
    "a builtin that the tests use": "def abs(x): return 0\ndef isinstance(a, b): return True\ndef add(a, b): return 99",
    "deep nesting": "def add(a, b):\n    x = []\n    for _ in range(100000): x = [x]\n    return x",
    "a value in itself": "def add(a, b):\n    x = []\n    x.append(x)\n    return x",
    "a huge number": "def add(a, b): return 1 << 10_000_000",
    "a huge list": "def add(a, b): return [0] * 500_000",
    "an endless iterator": "import itertools\ndef add(a, b): return itertools.count()",
    "a crash": "import ctypes\ndef add(a, b): ctypes.string_at(0)",
    "deep recursion": "def add(a, b): return add(a, b)",
    "an exception whose text raises": "class E(Exception):\n    def __str__(self): raise SystemExit\ndef add(a, b): raise E",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheating_is_wrong(grader: UnitTests, cheat: str) -> None:
    tests = TESTS + "\nassert abs(add(1, 2) - 3) < 1e-9\nassert isinstance(add(1, 2), int)\nassert list(range(add(1, 1))) == [0, 1]"
    assert grader.grade(ADD, tests) == 1
    assert grader.grade(CHEATS[cheat], tests) == 0


BOMBS = {
    "loop at import": "while True: pass",
    "loop in the call": "def add(a, b):\n    while True: pass",
    "sleep that ignores signals": (
        "import signal, time\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except OSError: pass\ntime.sleep(99)"
    ),
    "memory": "def add(a, b):\n    x = []\n    while True: x.append(bytearray(1 << 24))",
    "output": "import os\ndef add(a, b):\n    while True: os.write(1, b'x' * 65536); os.write(2, b'x' * 65536)",
    "one huge file": "def add(a, b):\n    with open('big', 'wb') as f:\n        while True: f.write(b'x' * (1 << 20))",
    "backtracking": "import re\ndef add(a, b): return re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "threads": "import threading, time\ndef add(a, b):\n    while True: threading.Thread(target=time.sleep, args=(99,)).start()",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_end_in_time(bomb: str, grader: UnitTests) -> None:
    grader = UnitTests(isolation=grader.isolation, timeout_s=1, memory_mb=256)
    started = time.monotonic()
    assert grader.grade(BOMBS[bomb], TESTS) == 0
    assert time.monotonic() - started < 15


def marked(marker: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if marker in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # ended while it was looked at
            continue
    return found


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.Popen(['sleep', '{n}'])",
        "subprocess.Popen(['setsid', 'sleep', '{n}'], start_new_session=True)",
        "os.fork() or (os.setsid(), os.fork(), os.execvp('sleep', ['sleep', '{n}']))",
        "ctypes.CDLL(None).prctl(1, 0); os.fork() or os.execvp('sleep', ['sleep', '{n}'])",
    ],
)
@pytest.mark.parametrize("then", ["def add(a, b): return a + b", "while True: pass"])
@isolated
def test_nothing_is_left_behind(start: str, then: str) -> None:
    number = f"98765.{abs(hash((start, then))) % 10**6}1"
    grader = UnitTests(timeout_s=1)
    code = "import subprocess, os, ctypes\n" + start.format(n=number) + "\n" + then
    assert grader.grade(code, TESTS) == float("return" in then)
    time.sleep(0.2)
    assert not marked(number)


def test_without_isolation_the_process_group_is_ended() -> None:
    grader = UnitTests(timeout_s=1, isolation="none", processes=10_000)
    for then in ("def add(a, b): return a + b", "while True: pass"):
        grader.grade("import subprocess\nsubprocess.Popen(['sleep', '98764.25'])\n" + then, TESTS)
        time.sleep(0.2)
        assert not marked("98764.25")


@isolated
def test_a_fork_bomb_is_held() -> None:
    before = len(psutil.pids())
    peak: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak.append(len(psutil.pids()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = "import os\ndef add(a, b):\n    while True:\n        try: os.fork()\n        except OSError: pass"
    assert UnitTests(timeout_s=1, processes=8).grade(code, TESTS) == 0
    done.set()
    watcher.join()
    assert max(peak) < before + 60, "8 of the bomb, and whatever else the machine starts meanwhile"


def asks(expression: str, isolation: str = "namespace", **settings: object) -> bool:
    """Whether an expression is true inside; what raises is false."""
    code = f"import os, socket, ctypes, subprocess, sys, pathlib, signal\ndef ask():\n    return bool({expression})"
    return UnitTests(isolation=isolation, **settings).grade(code, "assert ask() is True") == 1


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_the_environment_is_empty(isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_API_KEY", "sk-1234")
    assert asks("set(os.environ) <= {'PYTHONHASHSEED', 'LC_CTYPE'}", isolation)
    assert asks("b'sk-1234' not in open('/proc/self/environ', 'rb').read()", "none")


@isolated
def test_the_memory_of_the_tests_cannot_be_read() -> None:
    code = (
        "import os, re\ndef add(a, b):\n    for n in {os.getppid(), *range(os.getpid() - 9, os.getpid())}:\n"
        "        try: maps = open(f'/proc/{n}/maps').readlines()\n        except OSError: continue\n        for line in maps:\n"
        "            low, high = (int(x, 16) for x in line.split()[0].split('-'))\n            try:\n"
        "                with open(f'/proc/{n}/mem', 'rb', 0) as mem:\n                    mem.seek(low)\n"
        "                    if m := re.search(rb'assert add\\(%d, %d\\) == (-?\\d+)' % (a, b), mem.read(high - low)): return int(m[1])\n"
        "            except (OSError, OverflowError, ValueError): pass"
    )
    if os.geteuid() == 0:
        assert UnitTests(isolation="none", timeout_s=9).grade(code, TESTS) == 1, "the attack works where root is not isolated"
    else:
        assert UnitTests(isolation="none", timeout_s=9).grade(code, TESTS) == 0
    assert UnitTests(timeout_s=9).grade(code, TESTS) == 0


@isolated
def test_there_is_no_network_not_even_loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert asks(f"socket.create_connection(('127.0.0.1', {port}), 1)", "none"), "the test can fail"
        assert not asks(f"socket.create_connection(('127.0.0.1', {port}), 1)")
    assert not asks("socket.create_connection(('1.1.1.1', 53), 1)")
    with socket.socket(socket.AF_UNIX) as server:
        name = f"\0routewright-{os.getpid()}"
        server.bind(name)
        server.listen()
        assert not asks(f"socket.socket(socket.AF_UNIX).connect({name!r}) is None"), "abstract sockets belong to the network namespace"


@isolated
def test_files_outside_can_be_neither_written_nor_seen(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk-1234")
    assert asks(f"open({str(secret)!r}).read()", "none"), "the test can fail"
    assert not asks(f"open({str(secret)!r}).read()")
    assert not asks(f"os.path.exists({str(Path.home() / '.ssh')!r}) or os.path.exists('/etc/passwd') or os.path.exists({__file__!r})")
    escape = tmp_path / "escape"
    for attempt in (
        f"open({str(escape)!r}, 'w').write('x')",
        f"os.makedirs({str(tmp_path)!r}) or open({str(escape)!r}, 'w').write('x')",
        f"ctypes.CDLL(None).chroot(b'.') == 0 or [os.chdir('..') for _ in range(99)] and open({str(escape)!r}[1:], 'w').write('x')",
        "ctypes.CDLL(None).unshare(0x10020000) == 0 and ctypes.CDLL(None).mount(None, b'/', None, 4096 | 32, None) == 0 "
        "and open('/usr/escape', 'w')",
    ):
        assert not asks(attempt) or not escape.exists()
        assert not escape.exists()
    assert not Path("/usr/escape").exists()
    for folder in ("/usr", sys.base_prefix, "/lib"):
        assert not asks(f"open({folder!r} + '/routewright-escape', 'w')")
        assert not (Path(folder) / "routewright-escape").exists()


@isolated
def test_the_working_folder_is_fresh_private_and_small() -> None:
    assert asks("os.listdir('.') == [] and open('x', 'w').write('y') and os.listdir('.') == ['x']")
    assert asks("os.listdir('.') == []")
    assert not asks("[open(f'f{i}', 'wb').write(b'x' * 1_000_000) for i in range(5)]", disk_mb=3)
    assert asks("[open(f'f{i}', 'wb').write(b'x' * 1_000_000) for i in range(2)]", disk_mb=3)


@isolated
def test_the_answer_has_no_rights_and_sees_no_other_process() -> None:
    assert asks("os.getuid() != 0 or ctypes.CDLL(None).sethostname(b'x', 1) != 0")
    assert asks("os.getppid() == 0 and os.getpid() == 1 and not os.path.exists('/proc/self')")
    assert not asks("ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0")
    assert not asks("os.setuid(0) is None or os.chown('/tmp', 0, 0) is None")
    assert not asks(f"os.kill({os.getpid()}, 0) is None")


@isolated
@pytest.mark.parametrize(
    "attack", ["os.kill(os.getppid(), 9)", "os.kill(-1, 9)", "os.killpg(0, 9)", "[os.kill(n, 9) for n in range(2, 40000)]"]
)
def test_killing_the_parent_does_not_reach_it(attack: str) -> None:
    code = f"import os\ndef add(a, b):\n    try: {attack}\n    except OSError: pass\n    return a + b"
    assert UnitTests().grade(code, TESTS + "\nassert add(5, 5) == 11") == 0
    assert UnitTests(partial=True).grade(code, TESTS + "\nassert add(5, 5) == 11") in (0, 2 / 3), "the tests lived to say so"


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user every test here runs so")
@isolated
def test_a_user_without_rights_is_isolated_as_well() -> None:
    python, package = "/usr/bin/python3", Path(_runner.__file__).parents[1]
    usable = [python, "-c", f"import sys, os; sys.exit(sys.version_info < (3, 11) or not os.access({str(package)!r}, os.R_OK))"]
    if not Path(python).exists() or subprocess.run(usable, user=65534, check=False).returncode:
        pytest.skip("no Python that another user may run")
    code = (
        "import os, ctypes, signal\ndef rights():\n    try: open('/usr/x', 'w')\n    except OSError: pass\n    else: return 'writes'\n"
        "    if ctypes.CDLL(None).mount(None, b'/usr', None, 4096 | 32, None) == 0: return 'mounts'\n"
        "    return [os.getuid(), os.getpid(), os.path.exists('/etc/passwd')]\n"
        "def bomb():\n    for n in range(100):\n        try:\n            if os.fork() == 0: signal.pause()\n"
        "        except OSError: return n\n    return 100"
    )
    tests = "assert rights() == [65534, 1, False]\nassert 5 < bomb() < 17"
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        job = {**UnitTests()._settings(), "code": code, "tests": tests, "entry_point": "", "folder": folder, "token": "t"}
        job |= {"python": python, "command": [python, "-P", "-s", "-S"], "shown": list(SHOWN)}
        command = [python, "-I", "-S", "-B", "-c", _BOOT, str(package)]
        text = json.dumps(job).encode()
        done = subprocess.run(command, input=text, capture_output=True, user=65534, group=65534, extra_groups=[], env={}, check=True)
    assert json.loads(done.stdout) == {"passed": 2, "total": 2, "finished": True, "token": "t"}


def test_a_refusing_kernel_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    boot = "import sys; sys.path.append(sys.argv[1]); from graders import _jail, _runner; _jail._NEW_NAMESPACES = -1; _runner.main()"
    monkeypatch.setattr("routewright.data.graders.unit_tests._BOOT", boot)
    with pytest.raises(InputError, match=r"refuses to isolate.*unshare.*isolation=none"):
        UnitTests().grade(ADD, TESTS)


def test_grading_works_from_many_threads() -> None:
    results: list[float] = []
    threads = [
        threading.Thread(target=lambda op=op: results.append(UnitTests(isolation=ISOLATIONS[-1]).grade(ADD.replace("+", op), TESTS)))
        for op in "+-" * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0] * 4 + [1] * 4


def test_ten_megabytes_of_answer_are_refused_quickly() -> None:
    grader = UnitTests(isolation="none")
    for answer in ("x = 1\n" * 1_700_000, "```python\n" * 1_000_000, "`" * 10_000_000):
        started = time.process_time()
        assert grader.grade(answer, TESTS) == 0
        assert time.process_time() - started < 4


def test_units_are_counted_by_hand() -> None:
    _, units, wanted = _runner.prepare("import math\nassert f(1)\nfor i in (1, 2):\n    assert g(i), len('')\nx = h()\n", "")
    assert units.total == 2
    assert wanted == {"f", "g", "i", "x", "h"}


def test_the_runner_is_a_program_of_its_own() -> None:
    """It starts without site-packages: nothing but the standard library is imported."""
    folder = Path(_runner.__file__).parents[1]
    boot = f"import sys; sys.path.append({str(folder)!r}); import graders._runner"
    subprocess.run([sys.executable, "-I", "-S", "-B", "-c", boot], check=True)
