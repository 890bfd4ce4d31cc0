"""The inside of the sandbox: a warm Python process that forks once for every program it is given.

Started by sandbox.py as `python -c <this file>`, so it imports the standard library only. One line of JSON on stdin
sets it up (see `main`), then every line is a job and is answered by one line. The process itself never runs what a
model wrote; its forks do, each after giving up everything it will not need:

    process:  unprivileged user -> no new privileges, not traceable -> Landlock
    fork:     ends with its worker -> own pipes only -> resource limits -> seccomp allow-list -> the program

Expected outputs never come in here. Assertions do, but not where the program is: they run in a second fork, which alone
reads them and alone can report that they held (assertions.py, which comes with the set-up line).
"""

from __future__ import annotations

import base64
import builtins
import ctypes
import gc
import importlib
import io
import json
import mmap
import os
import random
import resource
import select
import signal
import struct
import sys
import time
import types
from collections.abc import Callable
from typing import Any, NoReturn

LARGEST = 1 << 24
"""Bytes that any program may write, to all its outputs together."""
CHUNK = 1 << 16
FILES = 32
REPORT = 3
"""File descriptor for what a program's run gives back beside its output."""

PRELOADED = """
    abc argparse array ast base64 binascii bisect builtins calendar cmath codecs collections collections.abc contextlib
    copy csv dataclasses datetime decimal difflib encodings.ascii encodings.latin_1 enum fileinput fractions functools
    hashlib heapq inspect io itertools json keyword locale logging math numbers operator os os.path pathlib pprint queue
    random re secrets shutil signal statistics string struct sys tempfile textwrap threading time timeit traceback types
    typing unicodedata uuid warnings weakref zlib
"""
"""Modules that are there from the start: loading them once is faster, and an unprivileged user may be unable to."""

_libc = ctypes.CDLL(None, use_errno=True)


# Giving up rights.


def drop_user(uid: int) -> None:
    """Become an unprivileged user without groups; there is no way back."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def lock_privileges() -> None:
    """No new privileges by any exec; no debugger, no core dump. Raises OSError."""
    for option, value in ((38, 1), (4, 0)):  # PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE
        _checked(_libc.prctl(option, value, 0, 0, 0), "prctl")


def file_rules(readable: list[str]) -> int:
    """Landlock rules: nothing but reading below `readable`; no TCP and no signals to others where the kernel can.

    Raises OSError where the kernel has no Landlock.
    """
    create, add = 444, 445
    abi = _checked(_libc.syscall(create, None, 0, 1), "Landlock")
    files = (1 << (13, 13, 14, 15, 15, 16)[min(abi, 5)]) - 1
    attributes = struct.pack("QQQ", files, 3, 3)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    rules = _checked(_libc.syscall(create, attributes, len(attributes), 0), "Landlock")
    for path in readable:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        read = 1 << 2 | 1 << 3  # files and folders
        rule = struct.pack("=Qi", read, folder)
        _checked(_libc.syscall(add, rules, 1, rule, 0), f"Landlock rule for {path}")
        os.close(folder)
    return rules


def end_with(parent: int) -> None:
    """Be killed as soon as the parent is dead."""
    _checked(_libc.prctl(1, signal.SIGKILL, 0, 0, 0), "prctl")  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def filter_calls(program: bytes) -> None:
    """Load a seccomp filter; system calls outside it fail from here on. Raises OSError."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    _checked(_libc.prctl(22, 2, fprog, 0, 0), "seccomp")  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def limit(seconds: int, memory: int) -> None:
    """Limits of one run: CPU seconds, address space in bytes; no files written, no processes, no core dump."""
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


# The worker.


def main() -> None:
    """Set up as the first line says, answer whether that worked, then one answer a job until stdin ends.

    Set-up: {"uid": int or null, "landlock": [folders] or null, "filter": base64 of a BPF program or null,
    "assertions": the text of assertions.py}. A job is a line {"mode", "seconds", "wall", "memory", "output", "sizes"},
    then so many bytes of JSON for the program's fork, then for the assertions' one. The forks read these themselves,
    and what they write passes through here in buffers that are emptied: no program finds anything of another here.
    """
    requests = io.FileIO(0, closefd=False)
    replies = os.fdopen(os.dup(1), "w")
    settings = json.loads(_line_of(requests))
    os.chdir("/")
    for name in PRELOADED.split():
        importlib.import_module(name)
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # `python -S` has none
    calls = base64.b64decode(settings["filter"]) if settings["filter"] else b""
    try:
        # Made first: the unprivileged user may be unable to reach Python's own folder.
        rules = file_rules(settings["landlock"]) if settings["landlock"] else None
        if settings["uid"] is not None:
            drop_user(settings["uid"])
        if calls:
            lock_privileges()
        if rules is not None:
            _checked(_libc.syscall(446, rules, 0), "Landlock")
            os.close(rules)
    except OSError as error:
        print(json.dumps({"ready": False, "why": str(error)}), file=replies, flush=True)
        return
    module = types.ModuleType("assertions")
    exec(compile(settings["assertions"], "assertions.py", "exec"), vars(module))
    gc.collect()
    gc.freeze()
    print(json.dumps({"ready": True}), file=replies, flush=True)
    buffers = {
        number: mmap.mmap(-1, LARGEST + CHUNK, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for number in (1, 2, REPORT)
    }
    while line := _line_of(requests):
        head = json.loads(line)
        end, code, used = _serve(head, calls, module, buffers)
        parts = [memoryview(buffers[number])[: used[number]] for number in (1, REPORT)]
        sizes = [len(part) for part in parts]
        print(json.dumps({"end": end, "code": code, "sizes": sizes}), file=replies, flush=True)
        for part in parts:
            while part:
                part = part[os.write(replies.fileno(), part) :]
        for buffer in buffers.values():
            buffer.madvise(mmap.MADV_DONTNEED)  # zeros from here on


def _line_of(file: io.FileIO) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (letter := file.read(1)):
        line += letter
    return line


def _bytes_of(file: io.FileIO, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (part := file.read(size - len(found))):
        found += part
    return bytes(found)


def _serve(
    head: dict[str, Any], calls: bytes, assertions: types.ModuleType, buffers: dict[int, mmap.mmap]
) -> tuple[str, int, dict[int, int]]:
    """Run one job: how it ended, its code, and how many bytes of each buffer it wrote.

    It ended by "exit" (code: the exit status), "signal" (code: which), "time" (CPU or wall) or "output" (too much).
    """
    pipes = {number: os.pipe() for number in (1, 2, REPORT)}
    ours = {number: pipes[number][0] for number in pipes}
    theirs = {number: pipes[number][1] for number in pipes}
    used = [*theirs.values()]
    if head["mode"] == "asserts":
        ask, tell = os.pipe(), os.pipe()
        used += [*ask, *tell]
        program = {**theirs, REPORT: tell[1], REPORT + 1: ask[0]}
        children = [_fork(head, 0, program, calls, lambda job: host(job, assertions))]
        checker = {**theirs, REPORT + 1: tell[0], REPORT + 2: ask[1]}
        children.append(_fork(head, 1, checker, calls, lambda tests: check(tests, assertions)))
    elif head["mode"] == "call":
        children = [_fork(head, 0, theirs, calls, lambda job: called(job, assertions))]
    else:
        children = [_fork(head, 0, theirs, calls, whole)]
    for used_end in used:
        os.close(used_end)
    end, wrote = _watch(head, ours, children[-1], buffers)
    code = 0
    for child in children:  # the one that reports is the last
        os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        code = os.waitstatus_to_exitcode(status)
        spent = usage.ru_utime + usage.ru_stime
        # The kernel counts by another clock than it reports; nothing else kills so.
        if (
            end == "exit"
            and code in (-signal.SIGKILL, -signal.SIGXCPU)
            and 2 * spent > head["seconds"]
        ):
            end = "time"
    if end == "exit" and code < 0:
        end, code = "signal", -code
    return end, code if end in ("exit", "signal") else 0, wrote


def _watch(
    head: dict[str, Any], ours: dict[int, int], last: int, buffers: dict[int, mmap.mmap]
) -> tuple[str, dict[int, int]]:
    """Drain a run until its last child has ended, or has to: how, and how many bytes it wrote to each buffer."""
    wrote = dict.fromkeys(buffers, 0)
    exited = os.pidfd_open(last)
    poll = select.poll()
    names = {ours[number]: number for number in ours}
    for source in (*names, exited):
        poll.register(source, select.POLLIN)
    poll.register(0, 0)  # our own master's death
    end = ""
    deadline = time.monotonic() + head["wall"]
    while not end:
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            end = "time"
        for source, event in ready:
            if source == 0 and event & (select.POLLHUP | select.POLLERR):
                os._exit(0)  # and the children with us
            if source in names:
                number = names[source]
                at = wrote[number]
                got = os.readv(source, [memoryview(buffers[number])[at : at + CHUNK]])
                wrote[number] += got
                if not got:
                    poll.unregister(source)
                if sum(wrote.values()) > head["output"]:
                    end = "output"
            elif source == exited and all(where == exited for where, _ in ready):
                end = "exit"  # and nothing is left to read
        if time.monotonic() > deadline:
            end = end or "time"
    for open_end in (*ours.values(), exited):
        os.close(open_end)
    return end, wrote


# One run, in a fork that never returns.


def _fork(
    head: dict[str, Any],
    part: int,
    ends: dict[int, int],
    calls: bytes,
    run: Callable[[dict[str, Any]], None],
) -> int:
    """A child that reads its part of the job from the worker's stdin, and runs it."""
    worker = os.getpid()
    read, ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            end_with(worker)
            given = json.loads(_bytes_of(io.FileIO(0, closefd=False), head["sizes"][part]))
            os.write(ready, b"!")
            _program(head, given, ends, calls, run)
        finally:
            os._exit(1)
    os.close(ready)
    if os.read(read, 1) != b"!":
        os._exit(1)  # what it did not read would be taken for the next job
    os.close(read)
    return child


def _program(
    head: dict[str, Any],
    given: dict[str, Any],
    ends: dict[int, int],
    calls: bytes,
    run: Callable[[dict[str, Any]], None],
) -> NoReturn:
    write, leave = os.write, os._exit
    code = 1
    try:
        source = os.memfd_create("stdin")
        waiting = memoryview(given.pop("input", "").encode("utf-8", "surrogatepass"))
        while waiting:
            waiting = waiting[write(source, waiting) :]
        os.lseek(source, 0, os.SEEK_SET)
        ends = {0: source, **ends}
        moved = [os.dup2(end, 64 + number) for number, end in ends.items()]
        for number, end in zip(ends, moved, strict=True):
            os.dup2(end, number)
        os.closerange(max(ends) + 1, 4096)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            stream = open(  # noqa: SIM115
                number, "w" if number else "r", encoding="utf-8", errors="replace", closefd=False
            )
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        sys.argv = ["program.py"]
        sys.set_int_max_str_digits(0)  # the limit on CPU time bounds what long integers cost
        random.seed(0)
        limit(head["seconds"], head["memory"])
        if calls:
            filter_calls(calls)
        run(given)
        code = 0
    except SystemExit as leaving:
        code = 0 if leaving.code is None or leaving.code == 0 else 1
        if code:
            write(REPORT, _line(error=f"exit status {_words(leaving.code)}"))
    except BaseException as error:
        write(REPORT, _line(error=f"{type(error).__name__}: {_words(error)}"))
    try:
        sys.stdout.flush()
    except BaseException:
        code = 1
    leave(code)


def _words(error: object) -> str:
    try:
        return str(error)[:200]
    except BaseException:  # a program's own __str__ may do anything
        return "?"


def _line(**values: Any) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _load(code: str) -> dict[str, Any]:
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(code, "program.py", "exec"), vars(module))
    return vars(module)


def whole(job: dict[str, Any]) -> None:
    """A whole program: text in, text out."""
    _load(job["code"])


def called(job: dict[str, Any], assertions: types.ModuleType) -> None:
    """A function called with each list of arguments; a line {"value"} for each result."""
    write = os.write
    function = assertions.named(_load(job["code"]), job["entry"])
    for arguments in job["arguments"]:
        value = function(*arguments)
        try:
            line = _line(value=value)
        except (TypeError, ValueError, RecursionError) as error:
            line = _line(error=f"returned what JSON cannot hold: {error}")
        while line:
            line = line[write(REPORT, line) :]


def host(job: dict[str, Any], assertions: types.ModuleType) -> None:
    """The program of assertions, in the fork that runs it."""
    assertions.host(
        lambda: _load(job["code"]),
        io.BufferedReader(io.FileIO(REPORT + 1)),
        io.FileIO(REPORT, "w"),
    )


def check(tests: dict[str, Any], assertions: types.ModuleType) -> None:
    """The assertions, in a fork of their own; the line {"nonce"} when all of them held."""
    assertions.check(
        tests,
        io.FileIO(REPORT + 2, "w"),
        io.BufferedReader(io.FileIO(REPORT + 1)),
        PRELOADED.split(),
    )
    os.write(REPORT, _line(nonce=tests["nonce"]))


if __name__ == "__main__":
    main()
