"""Processes that answer JSON lines and can be killed from outside, and a pool of them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import LifoQueue
from typing import Any, Generic, Protocol, TypeVar


class Died(Exception):
    """The process ended without an answer."""


class Server:
    """One process that answers each line of JSON on stdin with one on stdout; used by one thread at a time."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process anew. Raises OSError."""
        if self._stopped:
            raise OSError("stopped")
        self.kill()
        self._process = self._start()

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        """The answer to a request. Raises TimeoutError after `limit` seconds, Died if the process ended."""
        return self.exchange(json.dumps(request).encode() + b"\n", limit)[0]

    def hear(self, limit: float) -> dict[str, Any]:
        """What the process says unasked, as when it is ready. Raises as `ask` does."""
        return self.exchange(b"", limit)[0]

    def exchange(self, request: bytes, limit: float) -> tuple[dict[str, Any], bytes]:
        """Send bytes; the line of JSON that comes back, and the bytes that its "sizes" announce. Raises as ask does."""
        assert self._process is not None
        assert self._process.stdin is not None and self._process.stdout is not None
        end = time.monotonic() + limit
        waiting = memoryview(request)
        into, out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(into, False)
        poll = select.poll()  # unlike select.select, it takes file descriptors above 1023
        poll.register(out, select.POLLIN)
        if waiting:
            poll.register(into, select.POLLOUT)
        answer = bytearray()
        line, more = -1, 0
        while line < 0 or len(answer) < line + 1 + more:
            ready = dict(poll.poll(max(0.0, end - time.monotonic()) * 1000))
            if not ready:
                raise TimeoutError(f"no answer for {limit:g} s")
            if out in ready:
                part = os.read(out, 1 << 20)
                if not part:
                    raise Died(f"exit code {self.kill()}")
                answer += part
                if line < 0 and b"\n" in part:
                    line = answer.index(b"\n")
                    answered: dict[str, Any] = json.loads(answer[:line])
                    more = sum(answered.get("sizes", ()))
            elif into in ready:
                try:
                    waiting = waiting[os.write(into, waiting[: 1 << 16]) :]
                except BrokenPipeError as error:
                    raise Died(f"exit code {self.kill()}") from error
                if not waiting:
                    poll.unregister(into)
        return answered, bytes(answer[line + 1 :])

    def stop(self) -> None:
        """End the process for good."""
        self._stopped = True
        self.kill()

    def kill(self) -> int | None:
        """End the process and all it started; its exit code, None if there was no process."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return process.wait()


class Serving(Protocol):
    """A worker of a pool: what it does is done by a Server."""

    server: Server


W = TypeVar("W", bound=Serving)
T = TypeVar("T")
R = TypeVar("R")


class Pool(Generic[W]):
    """Workers, each behind one thread, shared by all threads of this process."""

    def __init__(self, workers: Sequence[W], name: str) -> None:
        self.workers = list(workers)
        self.closed = False
        self._idle: LifoQueue[W] = LifoQueue()
        for worker in workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(len(self.workers), thread_name_prefix=name)

    def map(self, work: Callable[[W, T], R], items: Sequence[T]) -> list[R]:
        """work(worker, item) for every item, in order, each with a worker of its own meanwhile."""

        def one(item: T) -> R:
            worker = self._idle.get()
            try:
                return work(worker, item)
            finally:
                self._idle.put(worker)

        try:
            return list(self._threads.map(one, items))
        except BaseException:  # Ctrl-C above all: nobody waits for what the others still have to do
            self.close()
            raise

    def close(self) -> None:
        """End the workers, and with them what they do; the pool is of no more use."""
        self.closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            worker.server.stop()
