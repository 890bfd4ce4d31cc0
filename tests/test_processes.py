"""The M-step on several processes: the same training as in one, and nothing lost when they end early."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from restem_lib import em, launching
from restem_lib.config import PROJECT, Common, Loop
from restem_lib.executors import STOPS
from restem_lib.keys import ConfigError
from restem_lib.launching import LaunchError
from restem_lib.learner import Diverged
from restem_lib.models import load_model
from restem_lib.records import Pair, Problem
from restem_lib.sft import Tuned, fine_tune
from restem_lib.store import Shards, Stage, StoreError, open_stage, write_records
from restem_lib.tasks import Task, jsonl, load_task, names
from restem_lib.upkeep import contents, stages

VALIDATION = [Problem(f"v/{i}", str(i % 10), str(i % 10)) for i in range(20)]
TASK = Task("copy", (), (), template="Q: {question}\nA:")
DDP = str(PROJECT / "params" / "accelerate" / "ddp_cpu2.yaml")


@pytest.fixture(scope="session")
def fsdp(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The project's own configuration for FSDP, on two CPU processes."""
    text = (PROJECT / "params" / "accelerate" / "fsdp.yaml").read_text()
    path = tmp_path_factory.mktemp("accelerate") / "fsdp_cpu2.yaml"
    path.write_text(text.replace("num_processes: 8", "num_processes: 2") + "use_cpu: true\n")
    return str(path)


def tune(base: Path, root: Path, **settings: object) -> Tuned:
    """Ten steps on batches of 8, the last of them of one example; answers differ in length."""
    stage = Stage(root, "filter", 1, {"of": "test"})
    pairs = [
        Pair(f"p/{i}", 0, f"Q: {i % 10}\nA:", f"{' 1' * (i % 10 == 9)}\n#### {i % 10}")
        for i in range(33)
    ]
    with stage.work():
        if stage.missing(["pairs.parquet"]):
            write_records(stage, "pairs.parquet", pairs, Pair, 0.0)
    defaults = {
        "learning_rate": 1e-3,
        "batch_size": 8,
        "max_epochs": 2.0,
        "eval_every": 1.0,
        "patience": 99,
        "max_new_tokens": 12,
        "dtype": "float32",
    }
    config = Common(runs_dir=str(root), **{**defaults, **settings})  # type: ignore[arg-type]
    return fine_tune(base, Shards(stage, ("pairs.parquet",)), TASK, VALIDATION, 0, config)


def weights(model: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(model, torch.float32).state_dict())


ROUNDING = 1e-6
"""How far apart one and two processes may be after ten steps: losses relatively, weights absolutely."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ddp", {}),
        ("ddp", {"micro_batch_size": 2}),
        ("ddp", {"lora_rank": 4}),
        ("fsdp", {"micro_batch_size": 2}),
        ("fsdp", {"lora_rank": 4, "gradient_checkpointing": True}),
    ],
    ids=str,
)
def test_two_processes_train_as_one(
    tiny: Path, tmp_path: Path, fsdp: str, kind: str, settings: dict[str, object]
) -> None:
    if "lora_rank" in settings:
        pytest.importorskip("peft")
        settings = {**settings, "learning_rate": 1e-2}
    one = tune(tiny, tmp_path, **settings)
    two = tune(tiny, tmp_path, **settings, accelerate_config=DDP if kind == "ddp" else fsdp)
    kinds = {"ddp": "MULTI_CPU", "fsdp": "FSDP"}
    assert open_stage(two.model.parent).key["settings"]["processes"] == [kinds[kind], 2]
    assert "processes" not in open_stage(one.model.parent).key["settings"]
    for a, b in zip(one.history[1:], two.history[1:], strict=True):
        assert b.loss == pytest.approx(a.loss, rel=ROUNDING)
        assert (a.step, a.reward, a.best) == (b.step, b.reward, b.best)
    before, after, other = weights(tiny), weights(one.model), weights(two.model)
    assert not one.history[0].best
    assert after.keys() == other.keys()
    assert max(float((after[name] - other[name]).abs().max()) for name in after) < ROUNDING
    assert max(float((after[name] - before[name]).abs().max()) for name in after) > 1e-3


@pytest.mark.slow
def test_a_sharded_checkpoint_is_gone_on_from(tiny: Path, tmp_path: Path, fsdp: str) -> None:
    def interrupt() -> None:
        while not list(tmp_path.glob("stopped/stages/tune-*/checkpoint-*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    settings = {"accelerate_config": fsdp, "eval_every": 0.2}
    whole = tune(tiny, tmp_path / "whole", **settings)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        tune(tiny, tmp_path / "stopped", **settings)
    [checkpoint] = tmp_path.glob("stopped/stages/tune-*/checkpoint-*")
    assert (checkpoint / "optimizer_0").is_dir()
    resumed = tune(tiny, tmp_path / "stopped", **settings)
    for name in ("model/model.safetensors", "history.parquet"):
        a, b = (tuned.model.parent / name for tuned in (whole, resumed))
        assert a.read_bytes() == b.read_bytes()


@pytest.mark.slow
def test_every_task_of_the_toy_world_can_be_sent_to_a_process() -> None:
    for name in names():
        if name.startswith("toy-"):
            assert pickle.loads(pickle.dumps(load_task(name))).name == name


@pytest.mark.slow
def test_an_error_for_people_comes_out_of_a_process_as_itself(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"Lower learning_rate \(now 1e\+30\)"):
        tune(tiny, tmp_path, learning_rate=1e30, accelerate_config=DDP)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("raise ValueError('a bug')", "ValueError: a bug"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("sys.exit(0)", "exit code 0"),
    ],
)
def test_a_process_that_dies_takes_the_others_along_and_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, found: str
) -> None:
    (tmp_path / "dying.py").write_text(
        "import os, sys, time\n"
        "def work():\n"
        f"    if os.environ['RANK'] == '1': {code}\n"
        "    if 'exit' not in CODE: time.sleep(90)\n"
        "    sys.exit(0)\n"
        f"CODE = {code!r}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import dying  # type: ignore[import-not-found]

    began = time.monotonic()
    with pytest.raises(LaunchError, match=found):
        launching.run(DDP, dying.work)
    assert time.monotonic() - began < 70  # torch kills after 30 s what does not end when told to


@pytest.mark.slow
def test_what_fails_because_another_process_did_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing.py").write_text(
        "import atexit, os, time\n"
        "from accelerate import Accelerator\n"
        "from restem_lib.files import StoreError\n"
        "def work():\n"
        "    accelerator = Accelerator(cpu=True)\n"
        "    if accelerator.is_main_process:\n"
        "        accelerator.wait_for_everyone()\n"
        "    time.sleep(1)\n"
        "    atexit.register(os._exit, 0)  # at once: the other finds its connection closed\n"
        "    raise StoreError(f'no room in {accelerator.process_index}')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import failing  # type: ignore[import-not-found]

    with pytest.raises(StoreError, match="no room in 1"):
        launching.run(DDP, failing.work)
    assert capsys.readouterr().err == ""


CASES = {
    "missing": (None, "which is no file"),
    "not YAML": ("a: [", "not valid YAML"),
    "no keys": ("- 1\n", "holds no keys"),
    "no type": ("num_processes: 2\n", "distributed_type in .* is None"),
    "one process": ("distributed_type: 'NO'\nnum_processes: 1\n", "leave accelerate_config empty"),
    "deepspeed": ("distributed_type: DEEPSPEED\nnum_processes: 2\n", "MULTI_CPU, MULTI_GPU, FSDP"),
    "no number": ("distributed_type: MULTI_CPU\n", "num_processes in .* is None"),
    "none": ("distributed_type: MULTI_CPU\nnum_processes: 0\n", "a whole number from 1"),
    "machines": (
        "distributed_type: MULTI_GPU\nnum_processes: 16\nnum_machines: 2\n",
        "runs on one machine",
    ),
    "FSDP 1": ("distributed_type: FSDP\nnum_processes: 2\n", "set fsdp_version: 2"),
    "FSDP, no keys": ("distributed_type: FSDP\nnum_processes: 2\nfsdp_config: [1]\n", "no keys"),
    **{
        f"FSDP, {key}": (
            "distributed_type: FSDP\nnum_processes: 2\nfsdp_config:\n  fsdp_version: 2\n"
            + (f"  {key}: {value}\n" if value else ""),
            f"{key} in .*; set {key}: ",
        )
        for key, value in (
            ("fsdp_offload_params", "true"),
            ("fsdp_state_dict_type", "FULL_STATE_DICT"),
            ("fsdp_cpu_ram_efficient_loading", ""),
            ("fsdp_activation_checkpointing", "true"),
        )
    },
    "code": ("distributed_type: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
}


@pytest.mark.parametrize(("text", "found"), CASES.values(), ids=CASES)
def test_a_configuration_of_no_use_stops_before_any_work(
    tiny: Path, copying: Path, tmp_path: Path, text: str | None, found: str
) -> None:
    file = tmp_path / "accelerate.yaml"
    if text is not None:
        file.write_text(text)
    loop = Loop(
        model=str(tiny), task=str(copying), runs_dir=str(tmp_path), accelerate_config=str(file)
    )
    with pytest.raises(ConfigError, match=found):
        next(em.rest_em(loop, jsonl.load(copying)))
    with pytest.raises(ConfigError, match=found):
        em.sft_on_solutions(loop, jsonl.load(copying))
    assert stages(tmp_path) == []


@pytest.mark.parametrize("path", sorted((PROJECT / "params" / "accelerate").iterdir()), ids=str)
def test_the_projects_configurations_are_of_use(path: Path) -> None:
    assert launching.check(str(path))


def test_too_few_gpus_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ConfigError, match="wants 8 GPUs, but 4 are here"):
        launching.run(str(PROJECT / "params" / "accelerate" / "ddp.yaml"), print)


# --- the same command ---------------------------------------------------------------------------------------------


def train(tiny: Path, copying: Path, out: Path, every: float = 0.5) -> list[str]:
    """The command of a run whose M-step has many steps, with a candidate every so many epochs."""
    flags = {
        "model": tiny,
        "task": copying,
        "out": out,
        "dtype": "float32",
        "problems": 40,
        "samples": 6,
        "max-new-tokens": 6,
        "test-problems": 50,
        "learning-rate": 1e-3,
        "batch-size": 8,
        "max-epochs": 4,
        "eval-every": every,
        "patience": 99,
        "accelerate-config": DDP,
    }
    given = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-m", "restem_lib.cli", "train", *given]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def again(command: list[str]) -> None:
    """Run the command to its end and print what that took, with Python's start: `pytest -rP` shows it."""
    began = time.monotonic()
    process = start(command)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    print(f"time to recover: {time.monotonic() - began:.1f} s")


@pytest.fixture(scope="module")
def whole(tiny: Path, copying: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an uninterrupted run writes; the same command once more finds all done."""
    out = tmp_path_factory.mktemp("whole")
    made = []
    for _ in range(2):
        process = start(train(tiny, copying, out))
        said, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        assert "model: " in said
        [tuned] = out.glob("stages/tune-*")
        assert open_stage(tuned).key["settings"]["processes"] == ["MULTI_CPU", 2]
        made.append((tuned / "manifest.json").stat().st_mtime_ns)
    assert made[0] == made[1]
    return contents(out)


def checkpoint(out: Path, process: subprocess.Popen[str]) -> Path:
    """Wait for the first."""
    while not (found := list(out.glob("stages/tune-*/checkpoint-*"))):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return found[0]


def processes_of(out: Path, role: bytes = b"") -> list[int]:
    """Those that work for a run: its own process, `accelerate launch`, the processes of the M-step."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if (
            folder.name.isdigit()
            and b"restem_lib" in words
            and role in words
            and os.fsencode(out) in environment
        ):
            found.append(int(folder.name))
    return sorted(found)


def open_threads(pid: int) -> list[str]:
    """Threads of a process that Ctrl-C or SIGTERM can end."""
    stops = sum(1 << (number - 1) for number in STOPS)
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it ended meanwhile
            status = (task / "status").read_text()
            mask = int(status.partition("SigBlk:")[2].split()[0], 16)
            found += [task.name] * (mask & stops != stops)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["driver", "one"])
def test_a_run_killed_in_its_m_step_ends_as_an_uninterrupted_one(
    tiny: Path,
    copying: Path,
    tmp_path: Path,
    whole: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
) -> None:
    monkeypatch.setenv("RUN_OF_A_TEST", str(tmp_path))
    out = tmp_path / "out"
    process = start(train(tiny, copying, out))
    checkpoint(out, process)
    alive = processes_of(tmp_path)
    assert len(alive) == 4
    os.kill(process.pid if victim == "driver" else max(alive), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (1 if victim == "one" else -signal.SIGKILL)
    if victim == "one":
        assert "run the same command again" in errors
    deadline = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(tmp_path) == []
    assert list(out.glob("stages/tune-*/checkpoint-*"))
    again(train(tiny, copying, out))
    assert contents(out) == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "at", ["driver", "all", "one at its start"]
)  # Ctrl-C and kill; what a scheduler may do
def test_a_run_stopped_in_its_m_step_goes_on_from_there(
    tiny: Path,
    copying: Path,
    tmp_path: Path,
    whole: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    monkeypatch.setenv("RUN_OF_A_TEST", str(tmp_path))
    out = tmp_path / "out"
    process = start(train(tiny, copying, out))
    first = ""
    if at == "one at its start":
        while not (at_work := processes_of(tmp_path, b"\0work\0")):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.5)  # its Python is there, libraries are not
        at_work = at_work[-1:]
    else:
        first = checkpoint(out, process).name
        at_work = processes_of(tmp_path)
        for pid in set(at_work) - {process.pid}:
            assert open_threads(pid) == []
    for pid in [process.pid] if at == "driver" else at_work:
        os.kill(pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 130, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    [last] = out.glob("stages/tune-*/checkpoint-*")
    assert last.name >= first
    if not first:
        assert json.loads((last / "progress.json").read_text())["step"] == 1

    damaged = last / "optimizer.bin"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-9] + b"?" + content[-8:])
    refused = start(train(tiny, copying, out))
    assert f"{damaged} is damaged" in refused.communicate(timeout=100)[1]
    assert refused.returncode == 1
    damaged.write_bytes(content)
    again(train(tiny, copying, out))
    assert contents(out) == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("every", "room", "what"),
    [
        (0.5, 8.0, "checkpoint-"),  # the second one: the first goes only when it is there
        (4.0, 5.9, "model"),  # after the only checkpoint
    ],
)
def test_a_full_disk_in_an_m_step_ends_both_processes_and_more_room_lets_it_go_on(
    tiny: Path,
    copying: Path,
    tmp_path: Path,
    mounted: tuple[Path, Callable[[str], None]],
    monkeypatch: pytest.MonkeyPatch,
    every: float,
    room: float,
    what: str,
) -> None:
    """`room` is in sizes of the model's weights: a checkpoint takes 5.1, the model's folder 1.3."""
    monkeypatch.setenv("RUN_OF_A_TEST", str(tmp_path))
    disk, mount = mounted
    command = train(tiny, copying, disk, every)
    mount("remount,size=64m")
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    undisturbed = contents(disk)
    [tuned] = disk.glob("stages/tune-*")
    weights = (tuned / "model" / "model.safetensors").stat().st_size
    shutil.rmtree(tuned)
    mount(f"remount,size={shutil.disk_usage(disk).used + int(room * weights)}")

    process = start(command)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    [told] = errors.splitlines()
    assert f"cannot write {tuned / what}" in told and "make room" in told
    assert processes_of(tmp_path) == []
    assert len(list(tuned.glob("checkpoint-*"))) == 1
    assert not list(disk.rglob(".tmp-*"))

    mount("remount,size=64m")
    again(command)
    assert contents(disk) == undisturbed
