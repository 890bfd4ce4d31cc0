"""The sandbox's adversary: programs that try to get out, to harm the machine, the pool or the next run.

One test a promise, at each level that works here. What the programs can do without a sandbox is tried too: an attack
that is none would be stopped by anything. Cheating the tests is in test_sandbox_tests.py.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import sandbox_attacks as attacks
from sandbox_levels import ORDINARY, run, tree, workers

from restem_lib.rewards import sandbox
from restem_lib.rewards.sandbox import Job, Probe, Ran

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
pytest_plugins = ["sandbox_levels"]
X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers and code of x86-64")


# Getting out.


@pytest.mark.parametrize("promise", attacks.attacks())
def test_the_attack_is_one(promise: str, tmp_path: Path) -> None:
    printed = attacks.outside(attacks.attacks()[promise], attacks.host(tmp_path))
    assert "out" in printed.split(), printed
    assert "refused:" not in printed or "refused: []" in printed


@pytest.mark.parametrize("promise", attacks.attacks())
def test_it_is_stopped(promise: str, each_level: str, same_workers: None, tmp_path: Path) -> None:
    given = attacks.host(tmp_path)
    before = attacks.seen(tmp_path)
    program = attacks.PRELUDE + attacks.attacks()[promise]
    ran = run(each_level, Job("stdin", program, given, seconds=1))[0]
    assert (ran.end, "out" in ran.output.split()) == ("exit", False)
    assert "through:" not in ran.output or "through: 0" in ran.output
    assert attacks.seen(tmp_path) == before
    for own in ("NameError", "ImportError", "ModuleNotFound", "SyntaxError", "TypeError"):
        assert own not in ran.error  # stopped by the sandbox, not by a mistake of its own


@X86
def test_no_call_outside_the_list_gets_through(each_level: str, same_workers: None) -> None:
    library = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2")
    named = [*sandbox._FREELY.split(), "open", "openat", "fcntl", "ioctl"]
    allowed = {library.seccomp_syscall_resolve_name(name.encode()) for name in named}
    assert {39, 60, 231} < allowed and not allowed & {41, 56, 57, 59, 62, 101, 157, 435}
    program = """
for number in range(600):
    if number not in allowed | {335, 336}:  # uprobes' own calls pass every filter and end in SIGILL
        if reached(call(number, -1, -1, -1, -1, -1, -1)) or ctypes.get_errno() != 1:
            out(); print(number)
print("tried")
"""
    code = f"{attacks.PRELUDE}\nallowed = {allowed}{program}"
    assert run(each_level, Job("stdin", code, attacks.PLACES))[0].output == "tried\n"


MACHINE = """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
def machine(code):
    page = libc.mmap(None, ctypes.c_size_t(4096), 7, 0x22, -1, ctypes.c_size_t(0))
    ctypes.memmove(page, code, len(code))
    print("returned", ctypes.CFUNCTYPE(ctypes.c_int)(page)(), flush=True)
"""


@X86
@pytest.mark.parametrize(
    ("number", "ends"),
    [(39, "exit"), (57, "exit"), *((0x40000000 | n, "signal") for n in (39, 57, 59, 257, 520))],
)
def test_calls_by_machine_code_and_x32(each_level: str, number: int, ends: str) -> None:
    code = f"machine(b'\\xb8' + ({number}).to_bytes(4, 'little') + b'\\x0f\\x05\\xc3')"
    ran = run(each_level, Job("stdin", MACHINE + code))[0]
    assert ran.end == ends
    if number == 39:
        assert int(ran.output.split()[1]) > 1  # getpid: the code itself is sound
    elif ends == "exit":
        assert ran.output == "returned -1\n"


@X86
@pytest.mark.parametrize("number", [2, 5, 11, 20, 120])
def test_calls_of_32_bits_kill(each_level: str, same_workers: None, number: int) -> None:
    code = f"machine(b'\\xb8' + ({number}).to_bytes(4, 'little') + b'\\xcd\\x80\\xc3')"
    ran = run(each_level, Job("stdin", MACHINE + code))[0]
    assert (ran.end, ran.output) == ("signal", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
@pytest.mark.parametrize("target", ["os.getppid()", "1", "-os.getpgid(0)"])
def test_the_worker_gets_no_signal(
    each_level: str, same_workers: None, number: int, target: str
) -> None:
    code = f"""
import ctypes, os, time
libc = ctypes.CDLL(None)
try: target = {target}
except OSError: target = 0
for own in range(4):  # by name, and by the owner of a file
    libc.fcntl(own, 8, target), libc.fcntl(own, 10, {number}), libc.fcntl(own, 4, 0o20001)
libc.kill(target or -1, {number})
print("x", flush=True)
time.sleep(0.05)
print("alive")
"""
    assert run(each_level, Job("stdin", code, seconds=1))[0].output == "x\nalive\n"


def test_only_its_own_four_descriptors_are_open(each_level: str, tmp_path: Path) -> None:
    code = """
import os, stat
for number in range(5000):
    try: print(number, stat.S_ISFIFO(os.fstat(number).st_mode))
    except OSError: pass
"""
    with Path(tmp_path, "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        worker = sandbox._Worker(each_level)
        try:
            printed = worker.run(Job("stdin", code)).output
        finally:
            worker.close()
    assert (
        printed == "0 False\n1 True\n2 True\n3 True\n"
    )  # the input lies in memory, the rest are pipes


SCAN = """
import ctypes, gc, re
libc = ctypes.CDLL(None, use_errno=True)
def there(page):
    ctypes.set_errno(0)
    libc.access(ctypes.c_void_p(page), 0)
    return ctypes.get_errno() != 14
pages, found = set(), set()
for near in sorted({id(each) & ~0xfffff for each in gc.get_objects()}):
    for page in range(max(4096, near - 64 * 4096), near + 320 * 4096, 4096):
        if page not in pages and there(page):
            pages.add(page)
            found |= set(re.findall(rb"MARK[:]([0-9]{5,})", ctypes.string_at(page, 4096)))
print(len(pages) > 100, found)
"""


def test_nothing_of_another_program_is_in_memory(each_level: str) -> None:
    """Neither what it was, nor what it read, nor what it wrote."""
    mark = "MA" + "RK:12345678"
    first = Job(
        "stdin", f"text = '{mark}'\nfor i in range(99): print(text, input())", f"{mark}\n" * 99
    )
    ran = run(each_level, first, Job("stdin", SCAN), ORDINARY, Job("stdin", SCAN))
    assert ran[0].output.count(mark) == 198
    assert [ran[1].output, ran[3].output] == ["True set()\n"] * 2
    own = Job("stdin", f"text = 3 * '{mark}'\n{SCAN}")
    assert run(each_level, own)[0].output == "True {b'12345678'}\n"


def test_the_worker_itself_has_no_rights(each_level: str) -> None:
    run(each_level, ORDINARY)
    inner = tree(workers(each_level)[0])[-1]
    lines = Path(f"/proc/{inner}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    user = sandbox.NOBODY if os.getuid() == 0 else os.getuid()
    assert status["Uid"].split() == [str(user)] * 4
    if os.getuid() == 0:
        assert status["Gid"].split() == [str(user)] * 4
        assert status["Groups"].split() == []
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Prm", "Eff", "Amb")} == {0}
    assert status["NoNewPrivs"].strip() == "1"


def test_the_worker_s_frames_give_no_way_to_its_answers(
    each_level: str, same_workers: None
) -> None:
    code = """
import sys
frame = sys._getframe()
while frame:
    found = frame.f_locals.get("replies")
    if found: break
    frame = frame.f_back
print("found", flush=True)
found.write('{"end": "exit", "code": 0, "output": "forged", "report": ""}\\n')
found.flush()
"""
    ran = run(each_level, Job("stdin", code))[0]
    assert (ran.output, ran.values) == ("found\n", ())


def test_an_error_that_cannot_be_told_ends_the_run(each_level: str, same_workers: None) -> None:
    code = "class Silent(BaseException):\n    def __str__(self): raise self\nraise Silent"
    assert run(each_level, Job("stdin", code))[0].code == 1


# Harming the machine.

HEAVY = {
    "bytes": "print(len(bytearray(1 << 30)))",
    "text": "x = 'a'\nwhile True: x += x",
    "a huge number": "print((1 << (1 << 33)).bit_length())",
    "a list": "x = [0]\nwhile True: x += x",
    "a result": "print('a' * (1 << 31))",
    "deep parentheses": "(" * 100_000,
    "deep signs": "-" * 100_000 + "1",
    "deep lambdas": "lambda: " * 50_000 + "0",
    "deep attributes": "a" + ".b" * 100_000,
    "deep choices": "if 0: pass\n" + "elif 0: pass\n" * 20_000,
    "recursion of repr": "class A:\n    def __repr__(self): return repr([self])\nrepr(A())",
    "NUL in the program": "print(1)\0",
    "a lone surrogate in the program": "print('\ud800')",
    "a stack overflow": "import sys; sys.setrecursionlimit(10**9)\n"
    "class A:\n    def __getattr__(self, n): return getattr(self, n + 'x')\nA().a",
}


@pytest.mark.parametrize("what", HEAVY)
def test_memory_and_compile_bombs(each_level: str, same_workers: None, what: str) -> None:
    memory = 128 * 1024**2
    ran = run(each_level, Job("stdin", HEAVY[what], seconds=1, memory=memory))[0]
    assert (ran.end, bool(ran.code)) in [("exit", True), ("signal", True)]
    assert ran.output == ""


@pytest.mark.parametrize("output", [1, 2, 3])
def test_floods_of_output(each_level: str, same_workers: None, output: int) -> None:
    began = time.process_time()
    code = f"import os\nwhile True: os.write({output}, b'\\n' * 4096)"
    ran = run(each_level, Job("stdin", code, seconds=1))[0]
    assert ran.end == "output"
    assert len(ran.output) <= 1_100_000
    assert time.process_time() - began < 0.8  # of our own


ENDLESS = {
    "swallowed signals and errors": """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
while True:
    try:
        while True: pass
    except BaseException: pass
""",
    "a loop within C": "sum(range(10**12))",
    "a regular expression": "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')",
}


def test_cpu_time_is_limited(each_level: str, same_workers: None) -> None:
    """The first at each level, all at the best: each takes its second of CPU time."""
    for what in list(ENDLESS)[: 3 if each_level == sandbox.level_here() else 1]:
        began = time.monotonic()
        assert run(each_level, Job("stdin", ENDLESS[what], seconds=1))[0].end == "time", what
        assert time.monotonic() - began < 10


def test_wall_time_is_limited(probes: dict[str, Probe]) -> None:
    sleeping = Job("stdin", "import time; print(1, flush=True); time.sleep(60)", seconds=1)
    ended: dict[str, list[Ran]] = {}
    levels = [level for level in probes if probes[level].works]
    threads = [
        threading.Thread(target=lambda at=at: ended.update({at: run(at, sleeping, ORDINARY)}))
        for at in levels
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 12
    assert [[ran.end for ran in ended[level]] for level in levels] == [["time", "exit"]] * len(
        levels
    )


@pytest.mark.parametrize(
    "code",
    [
        "import os\nfor n in range(4): os.close(n)",
        "import sys; sys.stdin.close(); sys.stdout.close(); sys.stderr.close()",
        "import os, sys\nfor n in (1, 3): os.dup2(0, n)",
        "import atexit, gc, time; atexit.register(time.sleep, 60); gc.disable()",
        "#" + "a" * 1_000_000,
        "print(chr(0xd800) + chr(0) + chr(0x2028))",
    ],
)
def test_odd_programs_end_at_once(each_level: str, same_workers: None, code: str) -> None:
    began = time.monotonic()
    assert run(each_level, Job("stdin", code, "unread" * 50_000, seconds=1))[0].end == "exit"
    assert time.monotonic() - began < 2.5


# The next run.

CHANGE = """
import builtins, decimal, gc, json, math, os, random, sys, warnings
os.environ["LEFT"] = "x"
builtins.left = math.pi = sys.left = json.left = 3
builtins.len = lambda x: 0
sys.path.append("left"); sys.setrecursionlimit(77777); sys.modules["left"] = math
decimal.getcontext().prec = 3
random.seed(5); random.random()
warnings.simplefilter("error"); gc.disable(); sys.settrace(None)
for change in (lambda: os.umask(0), lambda: os.chdir("/lib"), lambda: os.nice(5)):
    try: change()
    except OSError: pass
"""
SHOW = """
import builtins, decimal, gc, json, math, os, random, resource, signal, sys, warnings
print(os.environ, math.pi, len("four"), sys.path, sys.getrecursionlimit(), "left" in sys.modules)
print(hasattr(builtins, "left"), hasattr(json, "left"), hasattr(sys, "left"), decimal.getcontext())
print(random.random(), warnings.filters, gc.isenabled(), os.getcwd())
"""


def test_nothing_is_left_for_the_next_run(each_level: str, same_workers: None) -> None:
    show, both = Job("stdin", SHOW), Job("stdin", CHANGE + SHOW)
    before, changed, after = run(each_level, show, both, show)
    assert before.output.count("\n") == 3
    assert all(
        a != b
        for a, b in zip(before.output.split("\n")[:3], changed.output.split("\n"), strict=False)
    )
    assert after == before


def test_sets_hashes_and_chance_are_the_same_everywhere(probes: dict[str, Probe]) -> None:
    code = "import random; print({str(n) for n in range(50)}, hash('x'), random.random())"
    printed = set()
    for level in [level for level in probes if probes[level].works]:
        jobs = [Job("stdin", code)] * 4
        printed |= {ran.output for ran in sandbox.each(lambda run, job: run(job), jobs, level)}
        worker = sandbox._Worker(level)
        printed.add(worker.run(jobs[0]).output)
        worker.close()
    assert len(printed) == 1
    assert "39" in printed.pop()
