"""A Ray cluster gives what one machine gives, byte for byte, and a lost worker, node or driver costs a unit at most."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray_cluster

from restem_lib import cluster
from restem_lib.cluster import ClusterError, Done, hand_out
from restem_lib.config import PROJECT, Common
from restem_lib.engines import PromptError
from restem_lib.store import Stage, open_stage
from restem_lib.upkeep import contents, stages

pytestmark = [
    pytest.mark.slow,
    # Ray starts processes of its own that it leaves to the system to end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_without_ray_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'restem-lib\[ray\]'"):
        cluster.connect("")


def test_nothing_to_do_needs_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(hand_out(square, (), [], Common())) == []


# --- handing out, on a cluster in this process ----------------------------------------------------------------------


class Number(NamedTuple):
    name: str
    value: int


NUMBERS = [Number(f"unit {i}", i) for i in range(6)]
Work = Callable[[Number], int]


def square() -> Work:
    return lambda unit: unit.value**2


def dies(folder: Path, times: int) -> Work:
    """On unit 2, so many times in all."""

    def work(unit: Number) -> int:
        mark = folder / str(len(list(folder.iterdir())))
        if unit.value == 2 and int(mark.name) < times:
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return unit.value**2

    return work


def refuses() -> Work:
    def work(unit: Number) -> int:
        raise PromptError(f"{unit.name} is too long")

    return work


def lacks_a_model() -> Work:
    raise FileNotFoundError("no folder /models/big")


@pytest.fixture(scope="module")
def small() -> Iterator[Common]:
    """Ray with two CPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", f"{PROJECT}:{PROJECT / 'tests'}")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        import ray  # which reads these now

        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=80_000_000,
        )
        yield Common(executor="ray")
        ray.shutdown()


def finish(
    make: Callable[..., Work], arguments: tuple[object, ...], config: Common
) -> dict[str, Done]:
    with closing(hand_out(make, arguments, NUMBERS, config)) as finished:
        return {done.unit.name: done for done in finished}


def test_every_unit_is_done_once(small: Common) -> None:
    with closing(hand_out(square, (), NUMBERS, small)) as finished:
        results = sorted((done.unit.value, done.result) for done in finished)
    assert results == [(i, i * i) for i in range(6)]


def test_a_lost_worker_costs_its_unit_only_and_the_reason_is_kept(
    small: Common, tmp_path: Path
) -> None:
    done = {}
    with closing(hand_out(dies, (tmp_path, 1), NUMBERS, small)) as finished:
        for one in finished:
            done[one.unit.name] = one
            if one.notes.get("lost"):
                print(f"recovered in {time.time() - (tmp_path / '0').stat().st_mtime:.1f} s")
    assert [done[unit.name].result for unit in NUMBERS] == [i * i for i in range(6)]
    lost = {name: one.notes["lost"] for name, one in done.items() if "lost" in one.notes}
    assert list(lost) == ["unit 2"]
    assert len(lost["unit 2"]) == 1
    assert "worker process has died" in lost["unit 2"][0]


def test_a_unit_that_always_kills_its_worker_is_given_up_by_name(
    small: Common, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match=r"unit 2 lost 3 workers.*process has died"):
        finish(dies, (tmp_path, 99), small)
    assert len(list(tmp_path.iterdir())) == cluster.TRIES


def test_what_a_unit_raises_comes_through_as_itself(small: Common) -> None:
    with pytest.raises(PromptError, match=r"^unit . is too long$"):
        finish(refuses, (), small)


def test_workers_that_cannot_start_end_in_an_error_that_says_why(small: Common) -> None:
    with pytest.raises(ClusterError, match=r"5 workers did not start.*no folder /models/big"):
        finish(lacks_a_model, (), small)


def test_a_worker_that_no_node_can_hold_is_waited_for_and_then_an_error(
    small: Common, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    with pytest.raises(ClusterError, match=r"1000000 CPUs and 0 GPUs \(it has .* with 2 CPUs"):
        finish(square, (), Common(executor="ray", worker_cpus=10**6))
    assert "waiting up to 1 s" in capsys.readouterr().out


def test_workers_that_wait_for_room_are_told_of(
    small: Common, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    monkeypatch.setattr(cluster, "TELL", 0.1)
    other = ray.remote(cluster.Worker).options(num_cpus=2).remote(square, ())  # other people's work
    ray.get(other.prepare.remote())
    begun = threading.Timer(5.0, ray.kill, [other])
    begun.start()
    assert len(finish(square, (), small)) == len(NUMBERS)
    begun.join()
    assert "waiting for 2 workers, each of 1 CPUs and 0 GPUs" in capsys.readouterr().out


# --- on a cluster of three nodes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started() -> Iterator[ray_cluster.Cluster]:
    nodes = ray_cluster.Cluster(ray_cluster.namespaces_permitted())
    try:
        nodes.open()
        yield nodes
    finally:
        nodes.close()


@pytest.fixture
def nodes(started: ray_cluster.Cluster) -> ray_cluster.Cluster:
    """All three at work, whatever the last test did to them."""
    started.mend()
    return started


@pytest.fixture
def loopback() -> Iterator[ray_cluster.Cluster]:
    """Three more on loopback addresses, where the others are in namespaces."""
    if not ray_cluster.namespaces_permitted():
        pytest.skip("no network namespaces here, so the other clusters are on loopback addresses")
    nodes = ray_cluster.Cluster(namespaces=False)
    try:
        nodes.open()
        yield nodes
    finally:
        nodes.close()


LIMIT = 300
"""Seconds that a run may take on a busy machine."""


def meets(folder: Path) -> Work:
    """Leave the node's mark, and wait for another node's."""

    def work(unit: Number) -> int:
        import ray

        (folder / ray.util.get_node_ip_address()).touch()
        end = time.monotonic() + LIMIT / 2
        while len(list(folder.iterdir())) < 2:
            if time.monotonic() > end:
                raise TimeoutError("no other node has a unit")
            time.sleep(0.02)
        return unit.value**2

    return work


def meet(folder: Path, address: str) -> None:
    """What the driver runs: print which nodes did what."""
    done = finish(meets, (folder,), Common(executor="ray", ray_address=address))
    print(json.dumps([{one.notes["node"]: one.result} for one in done.values()]))


def test_every_node_has_units_at_the_same_time(nodes: ray_cluster.Cluster, tmp_path: Path) -> None:
    call = f"import test_cluster as t; t.meet(t.Path({str(tmp_path)!r}), {nodes.address!r})"
    driver = nodes.start([sys.executable, "-c", call], ray_cluster.HEAD)
    output, _ = driver.communicate(timeout=LIMIT)
    assert driver.returncode == 0, output
    made = [pair for one in json.loads(output.splitlines()[-1]) for pair in one.items()]
    assert sorted(result for _, result in made) == [i * i for i in range(6)]
    assert {node for node, _ in made} == {nodes.ip(2), nodes.ip(3)}


Command = Callable[[str, Path], list[str]]
UNITS = 40 * 8
"""Of an E-step: so many that one is far from done when a test has seen its first shards."""


@pytest.fixture(scope="module")
def command(tiny: Path, copying: Path) -> Command:
    """`restem train` or `restem score`, of many short units."""

    def build(name: str, out: Path) -> list[str]:
        words = (
            f"--model {tiny} --task {copying} --out {out} --dtype float32 --problems 40 --samples 8"
        )
        words += " --max-new-tokens 6 --problem-block 1 --sample-block 1"
        if name == "train":
            words += " --test-problems 40 --learning-rate 1e-2 --batch-size 8 --max-epochs 1"
        return [sys.executable, "-m", "restem_lib.cli", name, *words.split()]

    return build


@pytest.fixture(scope="module")
def whole(
    started: ray_cluster.Cluster, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The store of a run on this machine, in one thread."""
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(command("train", out), env=started.environment, check=True, timeout=300)
    return out


def notes(out: Path, kind: str = "") -> list[dict[str, Any]]:
    """Manifest entries of the shards that were drawn or scored."""
    kinds = (kind,) if kind else ("sample", "score")
    begun = [path for path in stages(out) if (path / "manifest.json").exists()]
    found = [open_stage(path) for path in begun if path.name.startswith(kinds)]
    return [entry for stage in found for entry in stage.shards().values()]


def drawing(out: Path, entries: int) -> Stage:
    """Wait until the E-step has so many shards."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        for path in out.glob("stages/sample-*"):
            if (path / "manifest.json").exists():
                stage = open_stage(path)
                if stage.key["settings"]["stream"] == "e-step-1" and len(stage.shards()) >= entries:
                    return stage
        time.sleep(0.02)
    raise TimeoutError("no E-step")


def lost(out: Path) -> list[str]:
    """How workers were lost on shards that are finished."""
    return [reason for entry in notes(out) for reason in entry.get("lost", [])]


def recovered(run: subprocess.Popen[str], done: Callable[[], object]) -> None:
    """Print the seconds from now until something is done, in README's table."""
    began = time.monotonic()
    while not done() and run.poll() is None:
        time.sleep(0.05)
    print(f"recovered in {time.monotonic() - began:.1f} s")


def test_an_e_step_gives_on_a_cluster_what_it_gives_here(
    nodes: ray_cluster.Cluster, command: Command, whole: Path, tmp_path: Path
) -> None:
    run = nodes.drive(command("score", tmp_path))
    output, _ = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, output
    assert contents(tmp_path).items() <= contents(whole).items()
    for kind in ("sample", "score"):
        made = notes(tmp_path, kind)
        assert len(made) == UNITS
        assert {entry["node"] for entry in made} <= {nodes.ip(2), nodes.ip(3)}  # not the driver's
        assert not [entry for entry in made if "lost" in entry]


@pytest.mark.parametrize("where", ["nodes", "loopback"])
def test_a_loop_whose_node_is_killed_at_work_ends_as_one_on_this_machine(
    where: str, request: pytest.FixtureRequest, command: Command, whole: Path, tmp_path: Path
) -> None:
    nodes: ray_cluster.Cluster = request.getfixturevalue(where)
    run = nodes.drive(command("train", tmp_path))
    last = str(list(drawing(tmp_path, 3).shards().values())[-1]["node"])
    nodes.freeze(int(last[-1]))
    time.sleep(
        1
    )  # it has a unit then, for the driver hands out the next one when the last comes back
    nodes.kill(int(last[-1]))
    recovered(run, lambda: lost(tmp_path))
    output, _ = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, output
    assert contents(tmp_path) == contents(whole)
    reasons = lost(tmp_path)
    assert reasons and all(reason.startswith(f"node {last}: ") for reason in reasons), reasons


def test_a_loop_one_of_whose_nodes_is_cut_off_ends_as_one_on_this_machine(
    nodes: ray_cluster.Cluster, command: Command, whole: Path, tmp_path: Path
) -> None:
    if not nodes.namespaces:
        pytest.skip("no network namespaces here, so there is no link to cut")
    run = nodes.drive(command("train", tmp_path))
    last = str(list(drawing(tmp_path, 3).shards().values())[-1]["node"])
    nodes.cut_off(int(last[-1]))
    recovered(run, lambda: lost(tmp_path))
    output, _ = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, output
    assert contents(tmp_path) == contents(whole)
    reasons = lost(tmp_path)
    assert reasons and all(reason.startswith(f"node {last}: ") for reason in reasons), reasons


def test_when_the_head_is_lost_the_driver_ends_and_a_new_cluster_goes_on(
    nodes: ray_cluster.Cluster, command: Command, whole: Path, tmp_path: Path
) -> None:
    run = nodes.drive(command("train", tmp_path))
    drawing(tmp_path, 5)
    began = time.monotonic()
    nodes.kill(ray_cluster.HEAD)
    output, _ = run.communicate(timeout=LIMIT)
    print(f"the driver ended after {time.monotonic() - began:.1f} s:", output[-3000:])
    assert run.returncode != 0
    assert "GCS may have been killed" in output  # Ray ends the process at once, with its own words
    assert "Traceback" not in output
    nodes.mend()
    before = len(notes(tmp_path))
    again = nodes.drive(command("train", tmp_path))
    recovered(again, lambda: len(notes(tmp_path)) > before)
    output, _ = again.communicate(timeout=LIMIT)
    assert again.returncode == 0, output
    assert contents(tmp_path) == contents(whole)


def test_a_killed_driver_goes_on_where_it_was(
    nodes: ray_cluster.Cluster, command: Command, whole: Path, tmp_path: Path
) -> None:
    run = nodes.drive(command("score", tmp_path))
    drawing(tmp_path, 5)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    before = json.loads(next(tmp_path.glob("stages/sample-*/manifest.json")).read_text())["shards"]
    again = nodes.drive(command("score", tmp_path))
    recovered(again, lambda: len(notes(tmp_path)) > len(before))
    output, _ = again.communicate(timeout=LIMIT)
    assert again.returncode == 0, output
    after = json.loads(next(tmp_path.glob("stages/sample-*/manifest.json")).read_text())["shards"]
    assert {name: after[name] for name in before} == before
    assert len(before) < len(after) == len(notes(tmp_path, "score")) == UNITS
    assert contents(tmp_path).items() <= contents(whole).items()


def test_a_wrong_token_is_refused(
    nodes: ray_cluster.Cluster, command: Command, tmp_path: Path
) -> None:
    refused = nodes.drive(command("score", tmp_path), RAY_AUTH_TOKEN="f" * 64)
    output, _ = refused.communicate(timeout=LIMIT)
    assert refused.returncode == 1
    assert "restem: cannot use a Ray cluster" in output
    assert "Traceback" not in output
    assert notes(tmp_path) == []
