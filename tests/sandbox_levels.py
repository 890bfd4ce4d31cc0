"""What the sandbox's tests share: the levels that work here, and the pool that must live on.

A pytest plugin, imported by its tests as well: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restem_lib.rewards import sandbox
from restem_lib.rewards.sandbox import Job, Probe, Ran

ORDINARY = Job("stdin", "print(6 * int(input()))", "7\n")


def run(level: str, *jobs: Job) -> list[Ran]:
    """The jobs in order on one worker."""
    return sandbox.each(lambda run, jobs: [run(job) for job in jobs], [jobs], level)[0]


def workers(level: str) -> list[int]:
    """Process ids of the level's workers."""
    pool = sandbox._pools.get(level)
    return [w.server.pid for w in pool.workers if w.server.alive and w.server.pid] if pool else []


def tree(pid: int) -> list[int]:
    """A process and all below it, each after its parent."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = [pid] if pid in parents else []
    for each in found:
        found += sorted(child for child, parent in parents.items() if parent == each)
    return found


def soon(reached: Callable[[], object], limit: float = 5.0) -> bool:
    """Whether it becomes true within the limit."""
    end = time.monotonic() + limit
    while not reached() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(reached())


@pytest.fixture(scope="session")
def probes() -> dict[str, Probe]:
    return {level: sandbox.probe(level) for level in sandbox.LEVELS}


BEST, *LESSER = sandbox.LEVELS


@pytest.fixture(params=[BEST, *(pytest.param(level, marks=pytest.mark.slow) for level in LESSER)])
def each_level(request: pytest.FixtureRequest, probes: dict[str, Probe]) -> Iterator[str]:
    """Each level that works here; an ordinary program runs on its pool right after the test."""
    found = probes[request.param]
    if not found.works:
        pytest.skip(f"{found.level}: {found.why}")
    yield found.level
    assert run(found.level, ORDINARY)[0].output == "42\n"


@pytest.fixture
def same_workers(each_level: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No worker is lost meanwhile."""
    monkeypatch.setattr(sandbox, "RECYCLED_AFTER", 10**9)
    run(each_level, ORDINARY)
    before = workers(each_level)
    yield
    assert set(before) <= set(workers(each_level))
