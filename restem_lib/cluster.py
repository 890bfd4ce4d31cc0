"""A stage's units on the nodes of a Ray cluster: each to whichever worker is free, a lost worker costs its unit only.

A worker is a Ray actor that keeps what it loaded (a model, a grader) from unit to unit. Results come back to the
driver, which alone writes to the store and holds the stage's lock: a worker that dies, or that is cut off and goes
on, leaves nothing behind.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from restem_lib import UserError
from restem_lib.config import Common

TRIES = 3
"""Workers that a unit may lose."""
STARTS = 5
"""Workers that may fail to start, one after the other."""
PATIENCE = 300.0
"""Seconds that a cluster may have no node for a worker."""
TELL = 30.0
"""Seconds without a worker at work after which the driver says what it waits for, again and again."""
LOOK = 2.0
"""Seconds between looks at the cluster's nodes."""


class ClusterError(UserError, RuntimeError):
    """The cluster cannot be used, or lost a unit too often; the text says what happened where."""


class Unit(Protocol):
    """Work for one call of a worker; it can be pickled."""

    @property
    def name(self) -> str: ...


class Done(NamedTuple):
    """A unit that is finished."""

    unit: Any
    result: Any
    seconds: float
    notes: dict[str, Any]
    """For the manifest: "node", the worker's address, and "lost", how earlier workers on it ended, if any did."""


class Worker:
    """What runs in an actor: make(*arguments) builds, on the node, the function from unit to result."""

    def __init__(
        self, make: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]
    ) -> None:
        self.make, self.arguments = make, arguments

    def prepare(self) -> str:
        """Load what is needed; the node's address. Raises ClusterError."""
        import ray

        node = str(ray.util.get_node_ip_address())
        try:
            self.work = self.make(*self.arguments)
        except Exception as error:  # another node may do better, and any kind counts the same
            raise ClusterError(f"node {node}: {error}") from error
        return node

    def do(self, unit: Any) -> tuple[Any, float]:
        """The unit's result, and the seconds it took."""
        start = time.monotonic()
        return self.work(unit), time.monotonic() - start


@dataclass(eq=False)
class _Task:
    unit: Unit
    lost: list[str] = field(default_factory=list)

    def lose(self, reason: str) -> None:
        self.lost.append(reason)
        if len(self.lost) >= TRIES:
            raise ClusterError(
                f"{self.unit.name} lost {TRIES} workers, one after the other: {'; '.join(self.lost)}. What is finished "
                "is kept. If memory ran out: fewer rows, a smaller memory_share or smaller blocks need less"
            )


class _Lost(NamedTuple):
    """What comes of a call when the worker is lost."""

    reason: str


@dataclass(eq=False)
class _Hired:
    """An actor with its one open call: its task, or `prepare` where that is None."""

    actor: Any
    node: str = ""
    task: _Task | None = None


def hand_out(
    make: Callable[..., Callable[[Any], Any]],
    arguments: tuple[Any, ...],
    units: Iterable[Unit],
    config: Common,
    gpus: int = 0,
) -> Generator[Done]:
    """make(*arguments)(unit) for every unit, in the order in which they are finished.

    `make` is a module-level class or function; what it takes and gives can be pickled. Units are asked for as workers
    fall free. What `make(...)` raises on a unit is raised here. Raises ClusterError where no cluster is reachable, no
    node can hold a worker of config.worker_cpus and `gpus`, workers do not start, or a unit loses TRIES workers. Close
    it (contextlib.closing) to end the workers.
    """
    source = iter(units)
    waiting = deque(_Task(unit) for unit in islice(source, 1))
    if not waiting:
        return
    ray = connect(config.ray_address)
    crew = _Crew(ray, make, arguments, config.worker_cpus, gpus)
    try:
        while True:
            room = max(1, crew.room())
            waiting.extend(_Task(unit) for unit in islice(source, max(0, room - len(waiting))))
            at_work = sum(hired.task is not None for hired in crew.calls.values())
            if not waiting and not at_work:
                return
            crew.hire(min(room, len(waiting) + at_work))
            for hired, answer in crew.answers():
                task = hired.task
                if isinstance(answer, _Lost):
                    if task is None:
                        crew.false_starts.append(answer.reason)
                    else:
                        task.lose(f"node {hired.node}: {answer.reason}")
                        waiting.appendleft(task)
                    continue
                if task is None:
                    hired.node = answer
                    crew.false_starts.clear()
                crew.give(hired, waiting.popleft() if waiting else None)
                if task is not None:
                    result, seconds = answer
                    lost = {"lost": task.lost} if task.lost else {}
                    yield Done(task.unit, result, seconds, {"node": hired.node, **lost})
    finally:
        crew.end()


class _Crew:
    """The actors of one call of hand_out."""

    def __init__(
        self, ray: Any, make: Callable[..., Any], arguments: tuple[Any, ...], cpus: int, gpus: int
    ) -> None:
        self.ray, self.cpus, self.gpus = ray, cpus, gpus
        self._new = lambda: (
            ray.remote(Worker)
            .options(
                num_cpus=cpus,
                num_gpus=gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
                runtime_env={"env_vars": {"OMP_NUM_THREADS": str(cpus)}},  # torch's threads too
            )
            .remote(make, arguments)
        )
        self.calls: dict[Any, _Hired] = {}
        self.false_starts: list[str] = []
        """Why the last workers did not start, since one did."""
        self._nodes: dict[str, dict[str, Any]] = {}
        self._room, self._looked = 0, -LOOK
        self._none_since: float | None = None
        self._heard = time.monotonic()

    def room(self) -> int:
        """Workers that the cluster's nodes can hold. Raises ClusterError when that was none for PATIENCE."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return self._room
        self._looked = now
        nodes = {node["NodeID"]: node for node in self.ray.nodes() if node["Alive"]}
        if nodes.keys() != self._nodes.keys():
            self.false_starts.clear()  # a new node may do what others could not
        self._nodes = nodes
        self._room = sum(self._fit(node["Resources"]) for node in nodes.values())
        if self._room:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
            print(f"waiting up to {PATIENCE:g} s for {self._wanted()}", flush=True)
        elif now - self._none_since > PATIENCE:
            raise ClusterError(
                f"there was no {self._wanted()}. Start workers (`ray start --address=...` on other nodes), or ask for "
                "less with worker_cpus and worker_gpus"
            )
        return self._room

    def _fit(self, has: dict[str, float]) -> int:
        cpus = int(has.get("CPU", 0) // self.cpus)
        return min(cpus, int(has.get("GPU", 0) // self.gpus)) if self.gpus else cpus

    def _wanted(self) -> str:
        has = ", ".join(
            f"{node['NodeManagerAddress']} with {node['Resources'].get('CPU', 0):g} CPUs and "
            f"{node['Resources'].get('GPU', 0):g} GPUs"
            for node in self._nodes.values()
        )
        return f"node of the Ray cluster that can hold a worker of {self.cpus} CPUs and {self.gpus} GPUs (it has {has})"

    def hire(self, wanted: int) -> None:
        """Start actors until there are so many. Raises ClusterError when none is left and none starts."""
        if len(self.false_starts) < STARTS:
            while len(self.calls) < wanted:
                hired = _Hired(self._new())
                self.calls[hired.actor.prepare.remote()] = hired
        elif not self.calls:
            reasons = "; ".join(dict.fromkeys(self.false_starts))
            raise ClusterError(
                f"{STARTS} workers did not start, one after the other: {reasons}. Every node needs the same checkout "
                "and environment, and must see runs_dir and the model's folder under the same paths"
            )

    def give(self, hired: _Hired, task: _Task | None) -> None:
        """The worker's next task; None ends it."""
        hired.task = task
        if task is None:
            self.ray.kill(hired.actor)
        else:
            self.calls[hired.actor.do.remote(task.unit)] = hired

    def answers(self) -> Iterator[tuple[_Hired, Any]]:
        """What has come of open calls within the next LOOK seconds. Raises what `make(...)` raised on a unit."""
        errors = self.ray.exceptions
        done = self.ray.wait(list(self.calls), timeout=LOOK)[0]
        if done or any(hired.node for hired in self.calls.values()):
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > TELL:
            self._heard = time.monotonic()
            self._tell()
        for call in done:
            hired = self.calls.pop(call)
            try:
                yield hired, self.ray.get(call)
            except errors.RayTaskError as error:
                self.ray.kill(hired.actor)
                if hired.task is not None:
                    raise error.cause from error
                yield hired, _Lost(str(error.cause))
            except errors.RayError as error:
                self.ray.kill(hired.actor)
                yield hired, _Lost(_reason(error))

    def _tell(self) -> None:
        free = self.ray.available_resources()
        print(
            f"waiting for {len(self.calls)} workers, each of {self.cpus} CPUs and {self.gpus} GPUs, to start: the Ray "
            f"cluster has {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free. Other work may hold the "
            "rest (`ray status`), or workers are loading",
            flush=True,
        )

    def end(self) -> None:
        """Kill all actors, whatever they do."""
        for hired in self.calls.values():
            self.ray.kill(hired.actor)
        self.calls.clear()


def connect(address: str) -> Any:
    """The module ray, connected: to `address`, else to RAY_ADDRESS, else to the cluster that runs on this machine.

    A connection that this process has is used as it is. Raises ClusterError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports its use to its makers
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            f"executor ray needs Ray ({error}): pip install 'restem-lib[ray]'"
        ) from error
    if ray.is_initialized():
        return ray
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises many kinds; each means the same to the user
        raise ClusterError(
            f"cannot use a Ray cluster at {address!r}: {_reason(error)}. The driver runs on a node of the cluster "
            "(`ray start` there first, docs/cluster.md), with the same versions of Ray and Python, and with its token "
            "where it asks for one (RAY_AUTH_MODE, RAY_AUTH_TOKEN)"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(
                signal.SIGTERM, handler
            )  # Ray's own would not let stages end as after Ctrl-C
    return ray


def _reason(error: Exception) -> str:
    """Ray's text as one line: without its table of ids and its guesses; of a traceback the end."""
    lines = [line.strip() for line in str(error).splitlines() if not re.match(r"\s+\w+: ", line)]
    if any(line.startswith("File ") for line in lines):
        return lines[-1]
    return " ".join(lines).split(" Some common causes")[0].rstrip(". ")
