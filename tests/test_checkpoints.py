"""What an M-step keeps when it is stopped, killed, or cannot write: resumed, it ends in the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from torch.distributed import checkpoint as dcp

from restem_lib import UserError, checkpoints, learner, sft, training
from restem_lib.config import Common
from restem_lib.executors import STOPS, in_own_process
from restem_lib.learner import Learner, OutOfMemory
from restem_lib.records import Candidate, Pair, Problem
from restem_lib.sft import Tuned, fine_tune
from restem_lib.store import Shards, Stage, StoreError, write_records
from restem_lib.tasks import Task
from restem_lib.upkeep import contents, damaged

VALIDATION = [Problem(f"v/{i}", str(i % 10), str(i % 10)) for i in range(20)]
TASK = Task("copy", (), (), template="Q: {question}\nA:")


def tune(base: Path, root: Path) -> Tuned:
    """21 steps, a candidate after every second; no longer than seconds."""
    stage = Stage(root, "filter", 1, {"of": "test"})
    pairs = [Pair(f"p/{i}", 0, f"Q: {i % 10}\nA:", f"\n#### {i % 10}") for i in range(50)]
    with stage.work():
        if stage.missing(["pairs.parquet"]):
            write_records(stage, "pairs.parquet", pairs, Pair, 0.0)
    config = Common(
        runs_dir=str(root),
        learning_rate=3e-3,
        batch_size=8,
        max_epochs=3.0,
        eval_every=0.3,
        patience=99,
        max_new_tokens=6,
        dtype="float32",
    )
    return fine_tune(base, Shards(stage, ("pairs.parquet",)), TASK, VALIDATION, 0, config)


def bytes_of(tuned: Tuned) -> dict[str, str]:
    """Checksums of the M-step's files."""
    return contents(tuned.model.parent)


def again(base: Path, root: Path) -> dict[str, str]:
    """Checksums of the M-step that goes on; prints how long that takes: `pytest -rP` shows it."""
    began = time.monotonic()
    tuned = tune(base, root)
    print(f"time to recover: {time.monotonic() - began:.1f} s")
    return bytes_of(tuned)


def kept(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("stages/tune-*/*check*"))


@pytest.fixture(scope="session")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of an uninterrupted run."""
    return bytes_of(tune(tiny, tmp_path_factory.mktemp("whole")))


@contextmanager
def at_step(wanted: int, act: Callable[[], object]) -> Iterator[None]:
    """Do something in the middle of a step of the M-step."""
    step, count = Learner.step, 0

    def acting(self: Learner, *arguments: object) -> float:
        nonlocal count
        count += 1
        if count == wanted:
            act()
        return step(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", acting)
        yield


def test_a_checkpoint_of_the_same_moment_is_left_as_it_is(tmp_path: Path) -> None:
    there = tmp_path / "checkpoint-000003"
    there.mkdir()
    state = checkpoints.Progress(step=2, history=[Candidate(0.0, 0, 0.0, 0.5, 20, 0)])
    checkpoints.save(tmp_path, None, state, {})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [there]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [3, 4, 21])  # between candidates, before one, at the end
def test_a_stopped_m_step_writes_a_checkpoint_and_goes_on_from_it(
    tiny: Path, tmp_path: Path, whole: dict[str, str], step: int, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with (
        at_step(step, lambda: os.kill(os.getpid(), number)),
        pytest.raises(KeyboardInterrupt),
    ):
        tune(tiny, tmp_path)
    assert signal.getsignal(number) is before
    [checkpoint] = tmp_path.glob("stages/tune-*/checkpoint-*")
    assert f'"step": {step}' in (checkpoint / "progress.json").read_text()
    assert again(tiny, tmp_path) == whole
    assert kept(tmp_path) == []


def test_a_second_ctrl_c_does_not_wait_for_the_step(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "IMPATIENCE", 0.0)

    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second was ignored")

    with at_step(3, twice), pytest.raises(KeyboardInterrupt):
        tune(tiny, tmp_path)


def test_checkpoints_are_written_by_the_clock_too(
    tiny: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut() -> None:
        raise SystemExit

    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 0.0)
    with at_step(6, power_cut), pytest.raises(SystemExit):
        tune(tiny, tmp_path)
    [checkpoint] = tmp_path.glob("stages/tune-*/checkpoint-*")
    assert '"step": 5' in (checkpoint / "progress.json").read_text()
    monkeypatch.undo()
    assert again(tiny, tmp_path) == whole


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.bin", "best.safetensors", "progress.json", "checksums.json"],
)
def test_a_damaged_checkpoint_is_named_before_any_training(
    tiny: Path, tmp_path: Path, name: str, damage: str
) -> None:
    stage = tmp_path / "checkpoint-000003"
    stage.mkdir()
    for other in ("model.safetensors", "optimizer.bin", "best.safetensors", "progress.json"):
        (stage / other).write_bytes(bytes(range(200)))
    sums = {file.name: checkpoints.file_sha256(file) for file in stage.iterdir()}
    (stage / "checksums.json").write_text(str(sums).replace("'", '"'))
    assert checkpoints.latest(tmp_path) == stage
    file = stage / name
    content = file.read_bytes()
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:150] if damage == "truncated" else flipped)
    with pytest.raises(
        StoreError, match=r"checkpoint-000003/.*Delete .*checkpoint-000003"
    ) as error:
        checkpoints.latest(tmp_path)
    assert name in str(error.value) or name == "checksums.json"  # which may then blame another


@pytest.mark.parametrize(
    "limit", [60_000, 1_000]
)  # of a file: the weights do not fit, nothing does
def test_a_full_disk_keeps_the_checkpoint_before(
    tiny: Path, tmp_path: Path, whole: dict[str, str], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, unlimited = checkpoints.save, resource.getrlimit(resource.RLIMIT_FSIZE)
    calls = 0

    def saving(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        try:
            save(*arguments)  # type: ignore[arg-type]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    monkeypatch.setattr(checkpoints, "save", saving)
    with pytest.raises(StoreError, match=r"cannot write .*checkpoint-.*make room"):
        tune(tiny, tmp_path)
    assert kept(tmp_path) == ["checkpoint-000004"]
    monkeypatch.undo()
    assert again(tiny, tmp_path) == whole


def save(folder: Path, save_state: Callable[[str], object], main: bool = True) -> None:
    accelerator = SimpleNamespace(
        is_main_process=main, wait_for_everyone=lambda: None, save_state=save_state
    )
    checkpoints.save(folder, accelerator, checkpoints.Progress(), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("main", [True, False])
@pytest.mark.parametrize(
    ("error", "disk"),
    [
        (OSError(28, "No space left on device"), True),
        (SafetensorError("Error while serializing: I/O error: (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704"), True),
        (UserError("shown as it is"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (RuntimeError("Connection closed by peer"), False),
        (ValueError("a bug"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=repr,
)
def test_only_what_a_disk_can_cause_asks_for_room(
    tmp_path: Path, error: BaseException, disk: bool, main: bool
) -> None:
    def save_state(folder: str) -> None:
        raise error

    with pytest.raises(StoreError if disk else type(error)) as raised:
        save(tmp_path, save_state, main)
    assert ("make room" in str(raised.value)) is disk
    assert disk or raised.value is error


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_under_a_sharded_checkpoint_is_told_as_any_other(tmp_path: Path) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_state(folder: str) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))
        try:
            dcp.save({"weights": torch.zeros(10_000)}, checkpoint_id=Path(folder) / "sharded")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    with pytest.raises(StoreError, match=r"cannot write .*: RuntimeError: .*make room"):
        save(tmp_path, save_state)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_found_by_verifying_until_it_is_of_no_more_use(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, "tune", 1, {})
    with stage.work():
        assert damaged(stage.folder) == []
        save(stage.folder, lambda folder: (Path(folder) / "optimizer.bin").write_bytes(b"12"))
        assert damaged(stage.folder) == []
        [checkpoint] = checkpoints.found(stage.folder)
        (checkpoint / "optimizer.bin").write_bytes(b"13")
        [line] = damaged(stage.folder)
        assert f"{checkpoint / 'optimizer.bin'} is damaged" in line and "Delete" in line
        write_records(stage, "history.parquet", [], Candidate, 0.0)
        assert damaged(stage.folder) == []


def test_a_stage_killed_as_it_began_is_empty_not_damaged(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "tune", 1, {})
    stage.folder.mkdir(parents=True)
    assert damaged(stage.folder) == []
    with stage.work():
        write_records(stage, "history.parquet", [], Candidate, 0.0)
    (stage.folder / "key.json").unlink()
    assert "key.json is missing" in damaged(stage.folder)[0]


def test_a_step_without_enough_memory_says_what_to_lower(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "completion_loss", lambda *_: torch.empty(1 << 50))
    with pytest.raises(OutOfMemory, match=r"Lower micro_batch_size \(now 32\)"):
        tune(tiny, tmp_path)


@pytest.mark.slow
def test_ctrl_c_reaches_an_m_step_in_a_process_of_its_own(
    tiny: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU."""

    def interrupt() -> None:
        while not kept(tmp_path):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sft, "run_stage", in_own_process)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        tune(tiny, tmp_path)
    assert len(kept(tmp_path)) == 1
    assert again(tiny, tmp_path) == whole


def stubborn(began: Path) -> None:
    """Work that does not hear of any stop."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    began.write_text(str(os.getpid()))
    time.sleep(120)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_process_of_its_own_at_once(tmp_path: Path) -> None:
    began = tmp_path / "began"

    def interrupt() -> None:
        while not began.exists():
            time.sleep(0.01)
        for _ in range(2):
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

    impatient = threading.Thread(target=interrupt, daemon=True)
    impatient.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        in_own_process(stubborn, began)
    impatient.join()
    assert time.monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int(began.read_text()), 0)


def child(base: Path, root: Path, threads: int) -> None:
    torch.set_num_threads(threads)  # the bytes are those of as many
    tune(base, root)


@pytest.mark.slow
def test_an_m_step_killed_at_random_moments_ends_in_the_same_bytes(
    tiny: Path, tmp_path: Path, whole: dict[str, str]
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["restem_lib.sft", "restem_lib.engines.torch_engine", "datasets"]
    )
    rng, kills = random.Random(0), 0
    for attempt in range(60):
        process = context.Process(target=child, args=(tiny, tmp_path, torch.get_num_threads()))
        process.start()
        began = time.monotonic()
        # Some die as they start, most between steps and checkpoints; later ones live longer.
        while not kept(tmp_path) and attempt > 2 and time.monotonic() - began < 30:
            time.sleep(0.005)
            if process.exitcode is not None:
                break
        process.join(rng.uniform(0.0, 0.6) * (1 + attempt / 10))
        if process.exitcode is not None:
            break
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert process.exitcode == 0
    print(f"time to recover: {time.monotonic() - began:.1f} s")
    assert kills >= 4
    assert bytes_of(tune(tiny, tmp_path)) == whole
