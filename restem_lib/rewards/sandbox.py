"""A sandbox for programs that a model wrote: what it is made of, whether it holds here, and a pool of it.

Levels, best first; each has the seccomp allow-list and resource limits of jail.py:

    bubblewrap+landlock   own file system with nothing writable, own network and process ids; Landlock within
    bubblewrap            the same on a kernel without Landlock
    landlock              host paths can be seen to exist, but not be read; the rest is seccomp's and Landlock's alone
    unsafe                limits only; never chosen unless asked for

A level counts as working only after canaries tried to get out of it and could not. The threat is careless and
reward-seeking code; a hole in the kernel is out of scope (use a virtual machine against that). Linux only. Nothing
but the standard library is imported here, and libseccomp by its C interface: its bindings are not kept up.
"""

from __future__ import annotations

import atexit
import base64
import ctypes
import ctypes.util
import errno
import functools
import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from restem_lib import UserError
from restem_lib.rewards import assertions, jail
from restem_lib.rewards.processes import Died, Pool, Server

LEVELS = ("bubblewrap+landlock", "bubblewrap", "landlock")
UNSAFE = "unsafe"
SECONDS = 4
"""CPU seconds of one test. The wall clock allows twice that and one more."""
MEMORY = 512 * 1024**2
"""Address space of one run in bytes."""
OUTPUT = 1_000_000
RECYCLED_AFTER = 500
"""Jobs after which a worker is replaced."""
NOBODY = 65534
START_LIMIT = 60.0


class SandboxError(UserError, RuntimeError):
    """No sandbox works here; the text says why and what to do."""


class Job(NamedTuple):
    """A program to run."""

    mode: str
    """"stdin", "call" or "asserts": see jail.py."""
    code: str
    input: str = ""
    """stdin: what the program reads."""
    entry: str = ""
    arguments: Sequence[Any] = ()
    """call: one list of arguments a call, of JSON values."""
    setup: str = ""
    asserts: str = ""
    seconds: int = SECONDS
    memory: int = MEMORY
    output: int = OUTPUT
    """Bytes that it may write, at most jail.LARGEST."""


class Ran(NamedTuple):
    """What became of it."""

    end: str
    """"exit" (code is the exit status), "signal" (code is its number), "time", "output" (too much) or "lost"."""
    code: int
    output: str
    values: tuple[str, ...]
    """call: each result as JSON, as far as they came."""
    passed: bool
    """asserts: whether all held."""
    error: str
    """The program's own error, "" if it ended well."""


# What a program may ask of the kernel.

_FREELY = """
    read readv pread64 write writev lseek close fstat stat lstat newfstatat statx access faccessat faccessat2
    readlink readlinkat getcwd getdents64 dup dup2 dup3 poll ppoll select pselect6
    mmap mprotect munmap mremap madvise brk futex sched_yield sched_getaffinity
    rt_sigreturn rt_sigprocmask sigaltstack restart_syscall
    getpid getppid gettid getuid geteuid getgid getegid uname sysinfo getrusage times
    clock_gettime clock_getres gettimeofday time nanosleep clock_nanosleep getrandom exit exit_group
"""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FCNTL = (0, 1, 2, 3, 4, 1030)  # duplicate, flags; not: whom to signal
_TERMINAL = (
    0x5401,
    0x5413,
    0x5450,
    0x5451,
)  # is it one, its size; close-on-exec: never input to one


class _Arg(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


@functools.cache
def allow_list() -> bytes:
    """The seccomp filter as a BPF program: calls outside the list fail with EPERM, foreign ABIs kill.

    Raises OSError without libseccomp.
    """
    name = ctypes.util.find_library("seccomp") or "libseccomp.so.2"
    library = ctypes.CDLL(name, use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(0x00050000 | errno.EPERM)))
    allow = ctypes.c_uint32(0x7FFF0000)

    def rule(call: str, *arguments: _Arg) -> None:
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # this machine has no such call
        made = library.seccomp_rule_add_array(
            context, allow, number, len(arguments), (_Arg * len(arguments))(*arguments)
        )
        if made:
            raise OSError(-made, f"libseccomp refused the rule for {call}")

    equal, masked = 4, 7
    for call in _FREELY.split():
        rule(call)
    rule("open", _Arg(1, masked, _WRITING, 0))
    rule("openat", _Arg(2, masked, _WRITING, 0))
    for request in _FCNTL:
        rule("fcntl", _Arg(1, equal, request, 0))
    for request in _TERMINAL:
        rule("ioctl", _Arg(1, equal, request, 0))
    with tempfile.TemporaryFile() as file:
        if library.seccomp_export_bpf(context, file.fileno()):
            raise OSError("libseccomp could not make the filter")
        library.seccomp_release(context)
        file.seek(0)
        return file.read()


# Starting a worker at a level.


def _python() -> str:
    return str(Path(sys.executable).resolve())


def readable() -> list[str]:
    """Folders that a program may read: Python's standard library and the system's shared libraries."""
    python = (sysconfig.get_path("stdlib"), f"{sys.base_prefix}/lib")
    system = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64")
    return sorted({path for path in (*python, *system) if Path(path).is_dir()})


def _command(level: str) -> list[str]:
    source = Path(jail.__file__).read_text(encoding="utf-8")
    python = [_python(), "-s", "-S", "-P", "-c", source]
    if not level.startswith("bubblewrap"):
        return python
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise OSError("bubblewrap is not installed")
    command = [bubblewrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--new-session", "--die-with-parent", "--clearenv"]
    command += ["--setenv", "PYTHONHASHSEED", "0", "--cap-drop", "ALL"]
    if os.getuid() == 0:
        # Root makes its namespaces without a user namespace: in one it would still be root to the kernel. The worker
        # needs these two to become nobody, and loses them by that.
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--disable-userns"]
    for path in (_python(), *readable()):
        command += ["--ro-bind", path, path]
    return [*command, "--remount-ro", "/", "--chdir", "/", "--", *python]


def _settings(level: str) -> dict[str, Any]:
    safe = level != UNSAFE
    return {
        "uid": NOBODY if safe and os.getuid() == 0 else None,
        "landlock": readable() if "landlock" in level else None,
        "assertions": Path(assertions.__file__).read_text(encoding="utf-8"),
        "filter": base64.b64encode(allow_list()).decode() if safe else None,
    }


def _start(level: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(level),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONHASHSEED": "0"},  # the same order of sets in every run
        bufsize=0,
        start_new_session=True,
    )


class _Worker:
    """One warm process at a level; used by one thread at a time."""

    def __init__(self, level: str) -> None:
        self.level = level
        self.server = Server(lambda: _start(level))
        self.jobs = 0

    def run(self, job: Job) -> Ran:
        """Run a job. Raises OSError when the worker cannot start."""
        if self.jobs >= RECYCLED_AFTER:
            self.close()
        for _ in range(2):  # a worker can die of what others do, as when memory runs out
            try:
                if not self.server.alive:
                    self._begin()
                self.jobs += 1
                return self._ask(job)
            except (TimeoutError, Died) as fault:
                self.close()
                lost = str(fault)
        if not self.jobs:
            raise OSError(f"the worker did not start: {lost}")
        return Ran("lost", 0, "", (), False, f"the sandbox worker was lost: {lost}")

    def _ask(self, job: Job) -> Ran:
        nonce = secrets.token_hex(16)
        run: dict[str, Any] = {"code": job.code, "input": job.input}
        run |= {"entry": job.entry, "arguments": job.arguments} if job.mode == "call" else {}
        tests = {"setup": job.setup, "asserts": job.asserts, "entry": job.entry, "nonce": nonce}
        parts = [run, tests] if job.mode == "asserts" else [run]
        sent = [json.dumps(part).encode() for part in parts]
        wall = 2 * job.seconds + 1
        head = {"mode": job.mode, "seconds": job.seconds, "wall": wall, "memory": job.memory}
        head |= {"output": min(job.output, jail.LARGEST), "sizes": [len(part) for part in sent]}
        request = b"".join([json.dumps(head).encode() + b"\n", *sent])
        return _ran(*self.server.exchange(request, wall + 10), nonce)

    def _begin(self) -> None:
        self.jobs = 0
        self.server.start()
        settings = json.dumps(_settings(self.level)).encode() + b"\n"
        ready, _ = self.server.exchange(settings, START_LIMIT)
        if not ready["ready"]:
            self.close()
            raise OSError(ready["why"])

    def close(self) -> None:
        self.server.kill()


def _ran(reply: dict[str, Any], raw: bytes, nonce: str) -> Ran:
    """A worker's reply, believing of the report only what a program could as well have returned."""
    values: list[str] = []
    error, passed, proof = "", False, json.dumps({"nonce": nonce})
    output, report = (
        part.decode("utf-8", "replace")
        for part in (raw[: reply["sizes"][0]], raw[reply["sizes"][0] :])
    )
    for line in report.splitlines():
        if line.startswith('{"value": ') and line.endswith("}"):
            values.append(line[len('{"value": ') : -1])
        elif line.startswith('{"error": ') and len(line) < 4000:
            error = _printable(line)
            values.append("")
        passed = passed or line == proof
    end, code = reply["end"], reply["code"]
    if not error and end == "exit" and code:
        error = f"exit status {code}"
    return Ran(end, code, output, tuple(values), passed, error)


def _printable(line: str) -> str:
    try:
        text = str(json.loads(line)["error"])
    except (ValueError, TypeError, LookupError, RecursionError):
        text = "an error that cannot be read"
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:240]


# Which level works here.

CANARIES = {
    "read a file of the host": "print(open({secret!r}).read())",
    "list a folder of the host": "import os; print(os.listdir({folder!r}))",
    "write a file": "open({folder!r} + '/written', 'w').close()",
    "write to a folder for all": "import os; os.close(os.open('/dev/shm/' + {name!r}, os.O_CREAT | os.O_WRONLY))",
    "open a TCP socket": "import ctypes; assert ctypes.CDLL(None).socket(2, 1, 0) >= 0",
    "open a unix socket": "import ctypes; assert ctypes.CDLL(None).socket(1, 1, 0) >= 0",
    "start a process": "import os; os.fork() or os._exit(0)",
    "run a command": "import os; os.execv('/bin/sh', ['sh', '-c', 'echo'])",
    "signal another process": "import os; os.kill(os.getppid(), 0)",
    "make a namespace": "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "read the memory of others": "open('/proc/%d/mem' % __import__('os').getppid(), 'rb')",
    "reach kernel settings": "__import__('os').open('/proc/sys/kernel/core_pattern', __import__('os').O_WRONLY)",
}
"""What must fail inside a level. {secret} is a file that everyone on the host can read."""
_UNSEEN = "import os; os.stat({secret!r})"


class Probe(NamedTuple):
    """Whether a level works here."""

    level: str
    works: bool
    why: str
    """What failed, or how many canaries were held."""


def probe(level: str) -> Probe:
    """Start a worker at a level, see that it runs a program, and let canaries try to get out of it."""
    worker = _Worker(level)
    try:
        ran = worker.run(Job("stdin", "print(6 * int(input()))", "7\n", seconds=2))
        if ran.output.split() != ["42"]:
            return Probe(level, False, f"a plain program did not run: {ran.error or ran.end}")
        with tempfile.TemporaryDirectory() as folder:
            secret = Path(folder, "secret")
            secret.write_text("secret")
            Path(folder).chmod(0o777)
            names = {"secret": str(secret), "folder": folder, "name": Path(folder).name}
            canaries = dict(CANARIES)
            if level.startswith("bubblewrap"):
                canaries["see the host's paths"] = _UNSEEN
            for what, code in canaries.items():
                ran = worker.run(Job("stdin", f"{code.format(**names)}\nprint('out')", seconds=2))
                if "out" in ran.output or Path(folder, "written").exists():
                    return Probe(level, False, f"a program could {what}")
        return Probe(level, True, f"{len(canaries)} canaries held")
    except OSError as error:
        return Probe(level, False, str(error))
    finally:
        worker.close()


@functools.cache
def level_here(unsafe: bool = False) -> str:
    """The best level whose probe succeeds, "unsafe" if none does and that is allowed. Raises SandboxError."""
    failed = []
    for level in LEVELS if sys.platform == "linux" else ():
        found = probe(level)
        if found.works:
            return level
        failed.append(f"{level}: {found.why}")
    if unsafe:
        return UNSAFE
    raise SandboxError(
        "no sandbox for model-written programs works here ("
        + ("; ".join(failed) or "Linux is needed")
        + "). "
        "Install bubblewrap and libseccomp2 (`apt install bubblewrap libseccomp2`); `restem doctor` says more. "
        "--unsafe-programs runs them with your own rights."
    )


# The pool.

T = TypeVar("T")
R = TypeVar("R")

WORKERS = os.cpu_count() or 1
"""Programs that run at a time."""
_pools: dict[str, Pool[_Worker]] = {}
_lock = threading.Lock()


def each(work: Callable[[Callable[[Job], Ran], T], R], items: Sequence[T], level: str) -> list[R]:
    """work(run, item) for every item, in order; run runs jobs at the level on a warm worker of its own meanwhile.

    Safe to call from any thread. Raises SandboxError.

    >>> each(lambda run, text: run(Job("stdin", "print(input()[::-1])", text)).output, ["abc"], level_here())
    ['cba\\n']
    """
    with _lock:
        if level not in _pools or _pools[level].closed:
            _pools[level] = Pool([_Worker(level) for _ in range(WORKERS)], "sandbox")
        pool = _pools[level]
    try:
        return pool.map(lambda worker, item: work(worker.run, item), items)
    except OSError as error:
        raise SandboxError(f"the sandbox ({level}) does not start any more: {error}") from error


@atexit.register
def close() -> None:
    """End the workers; the next run starts new ones."""
    with _lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close()


def _forget() -> None:
    # A forked child has the parent's pipes but none of its threads: it must start its own workers.
    global _lock
    _lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget)
