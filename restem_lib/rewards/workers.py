r"""math-verify in worker processes that can be killed: the only algebra done on model-written text.

`python -m restem_lib.rewards.workers` is one worker. It first writes a line when it is ready, then
answers each JSON line {"gold", "answer", "deadline"} on stdin with one JSON line {"verdict", "why"}
on stdout. math-verify limits its own time by signals, which need a main thread and which long
integer arithmetic ignores; so those are off, and a worker that stays silent for the deadline is
killed from outside and replaced. Linux and macOS.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import LifoQueue
from typing import IO, NamedTuple

WORKERS = min(2, os.cpu_count() or 1)
MEMORY = 3 * 1024**3
"""Address space of a worker in bytes."""
START_LIMIT = 120.0
"""Seconds a worker may take to import math-verify on a busy machine."""


class Outcome(NamedTuple):
    """What became of one comparison."""

    verdict: str
    """"correct", "wrong", "timeout" or "error"."""
    why: str


class _Worker:
    """One process, started at first use and again after it died; used by one thread at a time."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def check(self, gold: str, answer: str, deadline: float) -> Outcome:
        if self.process is None or self.process.poll() is not None:
            self.kill()
            self.process = self._start()
        request = json.dumps({"gold": gold, "answer": answer, "deadline": deadline})
        try:
            _stdin(self.process).write(request.encode() + b"\n")
            line = self._line(deadline)
        except TimeoutError:
            self.kill()
            return Outcome("timeout", f"math-verify killed after {deadline:g} s")
        except (EOFError, BrokenPipeError):
            return Outcome("error", f"the math-verify worker died, exit code {self.kill()}")
        reply = json.loads(line)
        return Outcome(reply["verdict"], reply["why"])

    def _start(self) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "restem_lib.rewards.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
            bufsize=0,
            start_new_session=True,
        )
        try:
            self._line(START_LIMIT)
        except (TimeoutError, EOFError) as fault:
            self.kill()
            raise RuntimeError(
                "the math-verify worker did not start; to see why, run "
                f"`{sys.executable} -m restem_lib.rewards.workers </dev/null`"
            ) from fault
        return self.process

    def _line(self, limit: float) -> bytes:
        """The next line from the process. TimeoutError after `limit` s, EOFError if it died."""
        assert self.process is not None and self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        poll = select.poll()  # unlike select.select, it takes file descriptors above 1023
        poll.register(pipe, select.POLLIN)
        end = time.monotonic() + limit
        line = b""
        while not line.endswith(b"\n"):
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(pipe, 65536)
            if not part:
                raise EOFError
            line += part
        return line

    def kill(self) -> int | None:
        """End the process and all it started; its exit code, None if there was no process."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return process.wait()


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


class _Pool:
    """WORKERS processes, each behind one thread, shared by all threads of this process."""

    def __init__(self) -> None:
        self.workers = [_Worker() for _ in range(WORKERS)]
        self.idle: LifoQueue[_Worker] = LifoQueue()
        for worker in self.workers:
            self.idle.put(worker)
        self.threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="math-verify")

    def check(self, pair: tuple[str, str], deadline: float) -> Outcome:
        worker = self.idle.get()
        try:
            return worker.check(*pair, deadline)
        finally:
            self.idle.put(worker)


_pool: _Pool | None = None
_pool_lock = threading.Lock()


def check(pairs: Sequence[tuple[str, str]], deadline: float) -> list[Outcome]:
    r"""math-verify on (gold, answer) pairs of LaTeX, in order; each may take `deadline` seconds.

    Safe to call from any thread. A pair that hangs, crashes or exhausts memory costs itself alone.
    Raises ValueError for a deadline that is not positive, RuntimeError when no worker starts.

    >>> check([("2x", "x+x"), ("2x", "x")], deadline=8.0)[0]
    Outcome(verdict='correct', why='math-verify: equal')
    """
    global _pool
    if not 0 < deadline < math.inf:
        raise ValueError(f"deadline must be a positive number of seconds, not {deadline}")
    if not pairs:
        return []
    with _pool_lock:
        if _pool is None:
            _pool = _Pool()
        pool = _pool
    return list(pool.threads.map(lambda pair: pool.check(pair, deadline), pairs))


@atexit.register
def close() -> None:
    """End the workers; the next check starts new ones."""
    global _pool
    with _pool_lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.threads.shutdown(cancel_futures=True)
        for worker in pool.workers:
            worker.kill()


def _forget() -> None:
    # A forked child has the parent's pipes but none of its threads: it must start its own workers.
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


# The worker's side.


def main() -> None:
    """Answer requests until stdin ends."""
    # Whatever the libraries print must not be taken for a verdict.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.platform == "linux":  # macOS refuses RLIMIT_AS
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _compare("1", "1")  # imports and builds the parser's tables before the first deadline runs
    print("ready", file=replies, flush=True)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        # Ends this process even if its parent is gone and arithmetic never returns to Python.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(request["deadline"]) + 5)
        try:
            equal = _compare(request["gold"], request["answer"])
            reply = (
                Outcome("correct", "math-verify: equal")
                if equal
                else Outcome("wrong", "math-verify: not equal")
            )
        except Exception as fault:
            reply = Outcome("error", f"math-verify raised {type(fault).__name__}")
        signal.alarm(0)
        print(json.dumps(reply._asdict()), file=replies, flush=True)


def _compare(gold: str, answer: str) -> bool:
    from latex2sympy2_extended import NormalizationConfig  # type: ignore[import-untyped]
    from math_verify import LatexExtractionConfig, parse, verify

    # Boxed only: unanchored, math-verify takes any readable piece of an answer it cannot read.
    # Units stay: it would drop "d", "m" and "thousand" alike.
    boxed = LatexExtractionConfig(
        try_extract_without_anchor=False,
        boxed_match_priority=0,
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all"
        ),
    )
    left, right = (
        parse(rf"\boxed{{{side}}}", [boxed], parsing_timeout=None, raise_on_error=True)
        for side in (gold, answer)
    )
    return bool(verify(left, right, float_rounding=12, timeout_seconds=None, raise_on_error=True))


if __name__ == "__main__":
    main()
