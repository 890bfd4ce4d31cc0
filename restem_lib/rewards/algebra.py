r"""math-verify in worker processes that can be killed: the only algebra done on model-written text.

`python -m restem_lib.rewards.algebra` is one worker. It first writes an empty object when it is ready,
then answers each JSON line {"gold", "answer", "deadline", "whole"} on stdin with one JSON line {"verdict", "why"}
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
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from restem_lib.rewards.processes import Died, Pool, Server

WORKERS = min(2, os.cpu_count() or 1)
MEMORY = 3 * 1024**3
"""Address space of a worker in bytes."""
START_LIMIT = 120.0
"""Seconds a worker may take to import math-verify on a busy machine."""
KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHASHSEED", "LANG", "LC_ALL")
"""What a worker gets of the environment: it reads model-written text, so no tokens of the user's."""


class Outcome(NamedTuple):
    """What became of one comparison."""

    verdict: str
    """"correct", "wrong", "timeout" or "error"."""
    why: str


class _Worker:
    """One process, started at first use and again after it died; used by one thread at a time."""

    def __init__(self) -> None:
        self.server = Server(_start)

    def check(
        self, gold: str, answer: str, deadline: float, whole: bool, tries: int = 2
    ) -> Outcome:
        """A pair at which the worker dies is tried again: perhaps it was killed for no fault of the pair's."""
        if not self.server.alive:
            self._begin()
        request = {"gold": gold, "answer": answer, "deadline": deadline, "whole": whole}
        try:
            reply = self.server.ask(request, deadline)
        except TimeoutError:
            self.close()
            return Outcome("timeout", f"math-verify killed after {deadline:g} s")
        except Died as fault:
            if tries > 1:
                return self.check(gold, answer, deadline, whole, tries - 1)
            return Outcome("error", f"the math-verify worker died, {fault}")
        return Outcome(reply["verdict"], reply["why"])

    def _begin(self, tries: int = 2) -> None:
        try:
            self.server.start()
            self.server.hear(START_LIMIT)
        except (TimeoutError, Died) as fault:
            self.close()
            if isinstance(fault, Died) and tries > 1:
                return self._begin(tries - 1)
            raise RuntimeError(
                "the math-verify worker did not start; to see why, run "
                f"`{sys.executable} -m restem_lib.rewards.algebra </dev/null`"
            ) from fault

    def close(self) -> None:
        self.server.kill()


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return subprocess.Popen(
        [sys.executable, "-m", "restem_lib.rewards.algebra"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in KEPT if name in os.environ} | {"PYTHONPATH": path},
        bufsize=0,
        start_new_session=True,
    )


_pool: Pool[_Worker] | None = None
_lock = threading.Lock()


def check(pairs: Sequence[tuple[str, str]], deadline: float, whole: bool = False) -> list[Outcome]:
    r"""math-verify on (gold, answer) pairs of LaTeX, in order; each may take `deadline` seconds.

    whole is for the audit: the answers are whole responses, in which math-verify looks for the answer itself, as it is
    documented and with its own defaults.
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
    with _lock:
        if _pool is None or _pool.closed:
            _pool = Pool([_Worker() for _ in range(WORKERS)], "math-verify")
        pool = _pool
    return pool.map(lambda worker, pair: worker.check(*pair, deadline, whole), pairs)


@atexit.register
def close() -> None:
    """End the workers; the next check starts new ones."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool:
        pool.close()


def _forget() -> None:
    # A forked child has the parent's pipes but none of its threads: it must start its own workers.
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


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
    print("{}", file=replies, flush=True)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        # Ends this process even if its parent is gone and arithmetic never returns to Python.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(request["deadline"]) + 5)
        try:
            compare = _compare_whole if request["whole"] else _compare
            equal = compare(request["gold"], request["answer"])
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


def _compare_whole(gold: str, response: str) -> bool:
    from math_verify import parse, verify

    return bool(verify(parse(rf"\boxed{{{gold}}}"), parse(response)))


if __name__ == "__main__":
    main()
