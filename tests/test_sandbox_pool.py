"""The pool of sandboxes lives on: killed workers and parents, threads, forks; other users; machines without tools."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sandbox_attacks as attacks
from sandbox_levels import ORDINARY, run, soon, tree, workers

from restem_lib.rewards import sandbox
from restem_lib.rewards.sandbox import Job, Probe, Ran, SandboxError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
pytest_plugins = ["sandbox_levels"]
PACKAGE = Path(sandbox.__file__).parents[1]


@pytest.fixture
def asleep(
    each_level: str,
) -> Iterator[Callable[[float], tuple[Future[Ran], Callable[[], list[int]]]]]:
    """Runs a program that sleeps, on a worker of its own; the processes of that worker while the program runs."""
    worker = sandbox._Worker(each_level)
    worker.run(ORDINARY)
    idle = len(tree(worker.server.pid or 0))
    threads = ThreadPoolExecutor(1)

    def begin(seconds: float) -> tuple[Future[Ran], Callable[[], list[int]]]:
        code = f"import time; time.sleep({seconds}); print('slept')"
        future = threads.submit(worker.run, Job("stdin", code, seconds=30))

        def running() -> list[int]:
            found: list[int] = []

            def more() -> bool:
                found[:] = tree(worker.server.pid or 0)
                return len(found) > idle

            assert soon(more)
            return found

        return future, running

    yield begin
    worker.close()
    threads.shutdown()


WHICH = pytest.mark.parametrize(("which", "place"), [("started", 0), ("innermost", -2)])


@WHICH
def test_a_killed_worker_s_item_is_tried_again(asleep: Any, which: str, place: int) -> None:
    future, running = asleep(0.5)
    os.kill(running()[place], signal.SIGKILL)
    began = time.monotonic()
    assert future.result(10).output == "slept\n"
    print(f"time to recover: {time.monotonic() - began:.1f} s")


@WHICH
def test_a_worker_s_program_ends_with_it(
    asleep: Any, which: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    future, running = asleep(60)
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", lambda *ids: None)  # as when the worker is seen to be dead
        for _ in range(2):
            found = running()
            os.kill(found[place], signal.SIGKILL)
            left = [pid for pid in found if not soon(lambda pid=pid: not tree(pid), 1)]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            assert not left
    assert future.result(10).end == "lost"


def test_a_killed_worker_loses_no_other_item(each_level: str) -> None:
    jobs = [Job("stdin", f"import time; time.sleep(0.05); print({n})") for n in range(12)]
    run(each_level, ORDINARY)
    with ThreadPoolExecutor(1) as threads:
        got = threads.submit(sandbox.each, lambda run, job: run(job), jobs, each_level)
        time.sleep(0.15)
        os.kill(workers(each_level)[0], signal.SIGKILL)
        assert [ran.output for ran in got.result(20)] == [f"{n}\n" for n in range(12)]


def test_nothing_outlives_a_killed_parent(each_level: str) -> None:
    script = f"""
import os, signal, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from restem_lib.rewards import sandbox
import sandbox_levels as levels
job = sandbox.Job("stdin", "import time; time.sleep(30)", seconds=9)
levels.run({each_level!r}, levels.ORDINARY)
idle = len(levels.tree(os.getpid()))
threading.Thread(target=lambda: levels.run({each_level!r}, job)).start()
assert levels.soon(lambda: len(levels.tree(os.getpid())) > idle)
time.sleep(0.1)
print(*levels.tree(os.getpid())[1:], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    below = [int(pid) for pid in done.stdout.split()]
    assert len(below) >= 2, done.stderr
    assert soon(lambda: not any(tree(pid) for pid in below))


def test_ctrl_c_does_not_wait_for_the_programs(each_level: str) -> None:
    script = f"""
from restem_lib.rewards import sandbox
job = sandbox.Job("stdin", "import time; time.sleep(8)", seconds=9)
sandbox.each(lambda run, job: run(job), [sandbox.Job("stdin", "print(1)")] * 4, {each_level!r})
print("ready", flush=True)
sandbox.each(lambda run, job: run(job), [job] * 9, {each_level!r})
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, cwd=PACKAGE.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        time.sleep(0.5)
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert time.monotonic() - began < 4
    assert b"KeyboardInterrupt" in errors


def test_two_threads_at_once(each_level: str) -> None:
    got: dict[int, list[str]] = {}

    def ask(n: int) -> None:
        jobs = [Job("stdin", "print(int(input()) * 2)", f"{n + k}\n") for k in range(10)]
        ran = sandbox.each(lambda run, job: run(job), jobs, each_level)
        got[n] = [one.output for one in ran]

    threads = [threading.Thread(target=ask, args=(n,)) for n in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {n: [f"{2 * (n + k)}\n" for k in range(10)] for n in (0, 100)}


def test_a_forked_child_starts_its_own_workers(each_level: str) -> None:
    run(each_level, ORDINARY)
    ours = workers(each_level)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            fine = run(each_level, ORDINARY)[0].output == "42\n" and not set(
                workers(each_level)
            ) & set(ours)
            sandbox.close()
            code = 0 if fine else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert workers(each_level) == ours


# An ordinary user; machines that lack a tool.

USER = 12345


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that every user can read, with what the sandbox is made of in it."""
    folder = Path(tempfile.mkdtemp(prefix="restem-"))
    try:
        for name in (
            "__init__",
            *(f"rewards/{n}" for n in ("__init__", "assertions", "jail", "processes", "sandbox")),
        ):
            copy = folder / "restem_lib" / f"{name}.py"
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(PACKAGE / f"{name}.py", copy)
        shutil.copy(attacks.__file__, folder / "sandbox_attacks.py")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        (folder / "host").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_attacks_of_an_ordinary_user_are_stopped_too(open_to_all: Path) -> None:
    python, setpriv = "/usr/bin/python3", shutil.which("setpriv")
    if os.getuid() != 0:
        pytest.skip("the other tests ran as an ordinary user")
    new = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if setpriv is None or not Path(python).exists() or subprocess.run(new).returncode:
        pytest.skip("setpriv and a Python >= 3.11 that all can read are needed")
    os.chown(open_to_all / "host", USER, USER)
    user = [setpriv, f"--reuid={USER}", f"--regid={USER}", "--clear-groups", python]
    done = subprocess.run(
        [*user, "sandbox_attacks.py", str(open_to_all / "host")],
        cwd=open_to_all,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("user") == {"id": USER, "no attack": []}
    working = [level for level in found if found[level]["works"]]
    if not working:
        pytest.skip(str(found))
    for level in working:
        assert (found[level]["got out"], found[level]["broken"]) == ([], []), level


@pytest.fixture
def asked_anew() -> Iterator[None]:
    sandbox.level_here.cache_clear()
    yield
    sandbox.level_here.cache_clear()


def test_without_bubblewrap_landlock_is_used(
    probes: dict[str, Probe], asked_anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not probes["landlock"].works:
        pytest.skip(probes["landlock"].why)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "bubblewrap is not installed" in sandbox.probe("bubblewrap").why
    assert sandbox.level_here() == "landlock"


def test_with_neither_it_says_what_to_install_and_runs_nothing(
    asked_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "probe", lambda level: Probe(level, False, f"no {level}"))
    with pytest.raises(SandboxError, match=r"no landlock.*apt install bubblewrap libseccomp2"):
        sandbox.level_here()
    assert sandbox.level_here(unsafe=True) == sandbox.UNSAFE
    assert run(sandbox.UNSAFE, ORDINARY)[0].output == "42\n"


def test_a_level_with_a_hole_does_not_count(
    probes: dict[str, Probe], asked_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sandbox._settings
    none = dict.fromkeys(("uid", "landlock", "filter"))
    monkeypatch.setattr(sandbox, "_settings", lambda level: whole(level) | none)
    found = sandbox.probe("landlock")
    assert not found.works
    assert "a program could" in found.why
