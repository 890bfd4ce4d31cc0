"""Faults: what each costs, and that what was resumed ends as what was never disturbed. README's table names these."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from benchmarks.soak import follow
from restem_lib import em
from restem_lib.cli import main
from restem_lib.config import Common, Loop
from restem_lib.engines import EngineError, LogitsError, PromptError, Sampling, torch_engine
from restem_lib.engines.torch_engine import TorchEngine
from restem_lib.engines.vllm_engine import VllmEngine
from restem_lib.filtering import NothingKept
from restem_lib.models import TOYS, load_model, load_tokenizer, out_of_memory, save_model
from restem_lib.records import Problem, Sample, Score
from restem_lib.rewards import algebra, answers
from restem_lib.scoring import score_samples
from restem_lib.store import Shards, Stage, open_stage, write_records
from restem_lib.tasks import Task, jsonl
from restem_lib.upkeep import contents, stages

FORK = multiprocessing.get_context("forkserver")
SHARD = "p00000-00000000-s0000-0020.parquet"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The same bytes are promised for the same number of threads: here one, in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def task(copying: Path) -> Task:
    return jsonl.load(copying)


@pytest.fixture
def loop(tiny: Path, copying: Path, tmp_path: Path) -> Loop:
    return Loop(
        model=str(tiny),
        task=str(copying),
        problems=16,
        samples=4,
        max_new_tokens=6,
        dtype="float32",
        runs_dir=str(tmp_path / "runs"),
    )


def command(tiny: Path, copying: Path, out: Path) -> list[str]:
    """The loop at its smallest: two iterations, each of a few shards, with a checkpoint at every other step."""
    return (
        f"train --model {tiny} --task {copying} --out {out} --dtype float32 --problems 24 --samples 4 --iterations 2 "
        "--max-new-tokens 6 --test-problems 20 --val-problems 20 --learning-rate 1e-2 --batch-size 8 --max-epochs 2 "
        "--eval-every 0.5 --patience 9 --problem-block 8 --sample-block 2 --compile never"
    ).split()


def again(arguments: list[str]) -> None:
    """Run the command to its end and print what that took: `pytest -rP` shows it."""
    began = time.monotonic()
    assert main(arguments) == 0
    print(f"time to recover: {time.monotonic() - began:.1f} s")


# --- the engine runs out of memory ------------------------------------------------------------------------------------


def short_of_memory(
    engine: TorchEngine, enough: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the engine's decoding fail, half way, with more than `enough` rows."""
    decode = engine.path.decode

    def failing(shared: Any, queue: Any, rows: int, draws: Any) -> None:
        if rows > enough:
            draws.progress(rows // 2)
            raise error
        decode(shared, queue, rows, draws)

    monkeypatch.setattr(engine.path, "decode", failing)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["gpu", "cpu", "python", "driver", "cublas"],
)
def test_out_of_memory_halves_the_rows_and_keeps_the_texts(
    tiny: Path,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, tokenizer = load_model(tiny, torch.float32), load_tokenizer(tiny)
    prompts, sampling = [f"Q: {i % 10}\nA:" for i in range(60)], Sampling(1.0, 0, 1.0, 8)
    whole = TorchEngine(model, tokenizer, 256).generate(prompts, 8, sampling, 0)
    engine, seen = TorchEngine(model, tokenizer, 256), list[int]()
    short_of_memory(engine, 64, error, monkeypatch)
    assert engine.generate(prompts, 8, sampling, 0, progress=seen.append) == whole
    assert sum(seen) == 60 * 8
    assert capsys.readouterr().out.count("note: out of memory") == 2
    assert engine.generate(prompts, 8, sampling, 0) == whole
    assert capsys.readouterr().out == ""


def test_out_of_memory_at_one_row_says_what_to_change(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TorchEngine(load_model(tiny, torch.float32), load_tokenizer(tiny), 4)
    short_of_memory(engine, 0, MemoryError(), monkeypatch)
    with pytest.raises(EngineError, match=r"max_new_tokens.*smaller model.*bfloat16"):
        engine.generate(["Q: 1\nA:"], 8, Sampling(1.0, 0, 1.0, 4), 0)


def test_prefills_shrink_with_the_rows() -> None:
    lengths = [40] * 64
    whole, half = (list(torch_engine._batches(lengths, 0, 100, 2, share=2**i * 8)) for i in (0, 1))
    assert len(half) == 2 * len(whole)
    assert sorted(i for batch in half for i in batch) == list(range(64))


def test_other_errors_are_not_taken_for_out_of_memory() -> None:
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not out_of_memory(ValueError("can't allocate memory"))


def starved(limit: int, results: Any) -> None:
    """Draw within `limit` bytes beyond what is there, then without a limit; the rows it took, whether texts agree."""
    torch.set_num_threads(1)
    model, tokenizer = load_model(TOYS / "toy-s", torch.float32), load_tokenizer(TOYS / "toy-s")
    engine, other = (TorchEngine(model, tokenizer, 1024) for _ in range(2))
    sampling, prompts = Sampling(1.0, 0, 1.0, 60), [f"Q: {i % 10}\nA:" for i in range(1024)]
    engine.generate(prompts[:4], 1, sampling, 0)  # what is allocated once is there now
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + limit, resource.RLIM_INFINITY))
    few = engine.generate(prompts, 1, sampling, 0)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    results.put((engine.rows, few == other.generate(prompts, 1, sampling, 0)))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a limit on address space")
def test_a_machine_that_is_really_out_of_memory_goes_on_with_fewer_rows() -> None:
    results = FORK.Queue()
    process = FORK.Process(target=starved, args=(60 * 2**20, results))
    process.start()
    rows, same = results.get(timeout=120)
    process.join()
    assert rows < 1024
    assert same


def test_vllm_giving_up_a_sample_is_a_clear_error() -> None:
    output = SimpleNamespace(token_ids=[1, 2], stop_reason=None, finish_reason="abort")
    with pytest.raises(EngineError, match=r"gave up a sample after 2 tokens \(abort\)"):
        VllmEngine._completion(VllmEngine.__new__(VllmEngine), output, Sampling(1.0, 0, 1.0, 4))


# --- a model that is no good ------------------------------------------------------------------------------------------


def changed(tiny: Path, folder: Path, change: Callable[[Any], None]) -> str:
    """A copy of the tiny model with its weights or settings changed."""
    model = load_model(tiny, torch.float32)
    with torch.no_grad():
        change(model)
    save_model(model, load_tokenizer(tiny), folder)
    return str(folder)


def test_a_model_that_emits_nan_is_named(
    loop: Loop, task: Task, tiny: Path, tmp_path: Path
) -> None:
    broken = changed(tiny, tmp_path / "nan", lambda m: m.lm_head.weight.fill_(float("nan")))
    with pytest.raises(LogitsError, match=r"nan: the model's logits are NaN.*check the weights"):
        next(em.rest_em(replace(loop, model=broken), task))
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_model_that_never_stops_is_never_right(
    loop: Loop, task: Task, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchEngine, "_eos", lambda self: torch.tensor([], dtype=torch.long))
    with pytest.raises(
        NothingKept, match=r"none of the 64 samples was right \(64 were cut off\).*max_new_tokens"
    ):
        next(em.rest_em(loop, task))
    (stage,) = Path(loop.runs_dir).glob("stages/score-*")
    scores = Shards(open_stage(stage), tuple(open_stage(stage).shards())).records(Score)
    assert {score.verdict for score in scores} == {"no_answer"}


def test_a_model_that_writes_nothing_is_a_clear_stop(
    loop: Loop, task: Task, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchEngine, "_eos", lambda self: torch.arange(self.vocab))
    with pytest.raises(NothingKept, match=r"none of the 64 samples was right \(0 were cut off\)"):
        next(em.rest_em(loop, task))


def test_a_problem_longer_than_the_context_is_named_before_any_sampling(
    loop: Loop, task: Task, tmp_path: Path
) -> None:
    problems, _ = em.split(task, loop)
    last = problems[-1].id
    train = tuple(replace(p, question="Q: 1 " * 99) if p.id == last else p for p in task.train)
    with pytest.raises(PromptError, match=f"problem {last}: prompt .* the model has 128 positions"):
        next(em.rest_em(replace(loop, problem_block=4), replace(task, train=train)))
    assert not list(tmp_path.rglob("*.parquet"))


# --- one sample, one worker -------------------------------------------------------------------------------------------

GOLDS = ["2x", "x^2", "\\sqrt{2}"]
ANSWERS = ["x+x", "x*x", "2^{1/2}", "3x", "x^3"]
HOSTILE = "9^{9^{9^9}}"


def scored(root: Path, texts: list[str], disturb: Callable[[], None] = lambda: None) -> list[Score]:
    """Scores of texts, sample i for the gold answer i modulo 3, through the store."""
    problems = tuple(Problem(f"x/{i}", "?", gold) for i, gold in enumerate(GOLDS))
    task = Task("x", problems, problems, "{question}")
    samples = [Sample(f"x/{i % 3}", i // 3, text, 9, "eos") for i, text in enumerate(texts)]
    stage = Stage(root, "sample", 1, {"by": "hand"})
    with stage.work():
        write_records(stage, SHARD, samples, Sample, 0.0)
    algebra.close()
    monkey = threading.Thread(target=disturb)
    monkey.start()
    answers._cache.clear()
    shards = score_samples(task, problems, Shards(stage, (SHARD,)), Common(runs_dir=str(root)))
    monkey.join()
    return list(shards.records(Score))


@pytest.mark.slow
def test_one_hostile_sample_leaves_the_others_their_scores(tmp_path: Path) -> None:
    texts = [f"\\boxed{{{ANSWERS[i % 5]} + 0}}" for i in range(30)]
    plain = scored(tmp_path / "plain", texts)
    texts[13] = f"\\boxed{{{HOSTILE}}}"
    hostile = scored(tmp_path / "hostile", texts)
    assert hostile[13].verdict in ("timeout", "error")
    assert [s for i, s in enumerate(hostile) if i != 13] == [
        s for i, s in enumerate(plain) if i != 13
    ]
    assert {score.reward for score in plain} == {0, 1}


@pytest.mark.slow
def test_killed_scoring_workers_change_no_score(tmp_path: Path) -> None:
    texts = [f"\\boxed{{{ANSWERS[i % 5]} + {i} - {i}}}" for i in range(60)]
    killed = dict[int, int]()

    def kill() -> None:
        """Each worker once, at whatever it is doing, its start included."""
        end = time.monotonic() + 60
        while len(killed) < algebra.WORKERS and time.monotonic() < end:
            for number, worker in enumerate(algebra._pool.workers if algebra._pool else []):
                pid = worker.server.pid
                if pid and number not in killed:
                    time.sleep(0.7 * number)
                    os.kill(pid, signal.SIGKILL)
                    killed[number] = pid
            time.sleep(0.05)

    assert scored(tmp_path / "killed", texts, kill) == scored(tmp_path / "whole", texts)
    assert len(killed) == algebra.WORKERS
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


# --- the store is damaged ---------------------------------------------------------------------------------------------


class Whole(NamedTuple):
    """The store of a run that nothing disturbed."""

    root: Path
    kept: dict[str, str]


@pytest.fixture(scope="module")
def whole(tiny: Path, copying: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root = tmp_path_factory.mktemp("whole")
    assert main(command(tiny, copying, root)) == 0
    return Whole(root, contents(root))


def harm(path: Path, how: str) -> None:
    """Cut a file in half, or flip a bit in its middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data[: len(data) // 2] if how == "truncated" else data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "how"),
    [
        ("sample-*/p*.parquet", "truncated"),
        ("sample-*/p*.parquet", "flipped"),
        ("score-*/p*.parquet", "flipped"),
        ("filter-*/pairs.parquet", "truncated"),
        ("tune-*/history.parquet", "flipped"),
        ("tune-*/model/model.safetensors", "truncated"),
        ("tune-*/model/model.safetensors", "flipped"),
        ("tune-*/manifest.json", "truncated"),
        ("score-*/manifest.json", "flipped"),
        ("tune-*/key.json", "truncated"),
    ],
)
def test_what_is_damaged_is_named_and_mended_as_the_message_says(
    whole: Whole,
    tiny: Path,
    copying: Path,
    tmp_path: Path,
    which: str,
    how: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "runs"
    shutil.copytree(whole.root, out)
    path = min((out / "stages").glob(which))
    harm(path, how)
    # What a finished run has no use for it does not read; `restem runs verify` reads everything.
    stopped = main(command(tiny, copying, out)) or main(["runs", "verify", "--out", str(out)])
    captured = capsys.readouterr()
    assert stopped == 1
    assert str(path) in captured.out + captured.err
    assert follow(captured.out + captured.err, out)
    again(command(tiny, copying, out))
    assert main(["runs", "verify", "--out", str(out)]) == 0
    assert contents(out) == whole.kept


@pytest.mark.slow
@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_damaged_validation_samples_are_made_anew_with_the_m_steps_that_used_them(
    whole: Whole,
    tiny: Path,
    copying: Path,
    tmp_path: Path,
    how: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "runs"
    shutil.copytree(whole.root, out)
    verify = ["runs", "verify", "--out", str(out)]
    [folder] = [
        folder
        for folder in stages(out)
        if open_stage(folder).key["settings"].get("stream") == "validation"
    ]
    path = min(folder.glob("p*.parquet"))
    harm(path, how)
    assert main(command(tiny, copying, out)) == 0  # a finished M-step looks at them no more
    assert main(verify) == 1
    said = capsys.readouterr().out
    assert str(path) in said
    assert follow(said, out) == [path]
    assert main(command(tiny, copying, out)) == 0
    assert main(verify) == 0
    assert whole.kept.keys() - contents(out).keys() == {str(path.relative_to(out))}

    tuned = [folder.name for folder in stages(out) if folder.name.startswith("tune-")]
    assert main(["runs", "delete", *tuned, "--out", str(out)]) == 0
    again(command(tiny, copying, out))
    assert main(verify) == 0
    assert contents(out) == whole.kept


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_mended_as_the_message_says(
    whole: Whole, tiny: Path, copying: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = drive(command(tiny, copying, tmp_path / "runs"))
    await_file(tmp_path, "runs/stages/tune-*/checkpoint-*", driver)
    kill(driver, signal.SIGKILL)
    checkpoint = max((tmp_path / "runs" / "stages").glob("tune-*/checkpoint-*"))
    largest = max((f for f in checkpoint.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    harm(largest, "flipped")
    assert main(["runs", "verify", "--out", str(tmp_path / "runs")]) == 1
    assert str(largest) in capsys.readouterr().out
    assert main(command(tiny, copying, tmp_path / "runs")) == 1
    said = capsys.readouterr().err
    assert str(largest) in said
    assert follow(said, tmp_path / "runs") == [checkpoint]
    again(command(tiny, copying, tmp_path / "runs"))
    assert contents(tmp_path / "runs") == whole.kept


# --- drivers ----------------------------------------------------------------------------------------------------------


def _drive(arguments: list[str], log: Path | None) -> None:
    import restem_lib.store

    torch.set_num_threads(1)
    if log is not None:  # a line for every shard that this process writes
        write = restem_lib.store.Stage.write

        def logged(stage: Stage, name: str, *rest: Any) -> None:
            with log.open("a") as file:
                file.write(f"{stage.name}/{name}\n")
            write(stage, name, *rest)

        restem_lib.store.Stage.write = logged  # type: ignore[method-assign]
    raise SystemExit(main(arguments))


def drive(arguments: list[str], log: Path | None = None) -> Any:
    """A driver in a process of its own."""
    FORK.set_forkserver_preload(
        ["restem_lib.em", "restem_lib.engines.torch_engine", "accelerate", "datasets"]
    )
    process = FORK.Process(target=_drive, args=(arguments, log))
    process.start()
    return process


def await_file(root: Path, pattern: str, driver: Any) -> None:
    end = time.monotonic() + 120
    while not list(root.glob(pattern)):
        assert driver.is_alive(), "the driver ended before the file was there"
        assert time.monotonic() < end
        time.sleep(0.01)


def kill(driver: Any, how: signal.Signals) -> int:
    """Send the signal; the exit code."""
    os.kill(driver.pid, how)
    driver.join(60)
    return driver.exitcode


@pytest.mark.slow
def test_pre_emption_at_every_kind_of_stage_ends_cleanly_and_resumes_to_the_same_bytes(
    whole: Whole, tiny: Path, copying: Path, tmp_path: Path
) -> None:
    arguments = command(tiny, copying, tmp_path / "runs")
    for pattern in ("sample-*/manifest.json", "score-*/key.json", "tune-*/checkpoint-*"):
        driver = drive(arguments)
        await_file(tmp_path / "runs" / "stages", pattern, driver)
        assert kill(driver, signal.SIGTERM) == 130
        assert not list((tmp_path / "runs").rglob(".tmp-*"))
    again(arguments)
    assert contents(tmp_path / "runs") == whole.kept


@pytest.mark.slow
def test_two_drivers_on_one_store_do_the_work_once(
    whole: Whole, tiny: Path, copying: Path, tmp_path: Path
) -> None:
    arguments, log = command(tiny, copying, tmp_path / "runs"), tmp_path / "log"
    drivers = [drive(arguments, log) for _ in range(2)]
    for driver in drivers:
        driver.join(240)
    assert [driver.exitcode for driver in drivers] == [0, 0]
    written = log.read_text().splitlines()
    assert len(written) == len(set(written))
    assert set(written) == {
        str(path.relative_to(tmp_path / "runs" / "stages"))
        for path in (tmp_path / "runs" / "stages").rglob("*.parquet")
    }
    assert contents(tmp_path / "runs") == whole.kept


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_more_room_lets_it_go_on(
    whole: Whole,
    tiny: Path,
    copying: Path,
    mounted: tuple[Path, Callable[[str], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk, mount = mounted
    arguments = command(tiny, copying, disk)
    sizes, codes = (300, 400, 500, 700, 1000, 64_000), []
    for size in sizes:  # ends in an E-step, in a checkpoint, in a model ...
        mount(f"remount,size={size}k")
        codes.append(main(arguments))
        said = capsys.readouterr().err
        assert codes[-1] == 0 or (f"cannot write {disk}" in said and "make room" in said), said
        assert not list(disk.rglob(".tmp-*"))
    assert codes[-1] == 0
    assert codes.count(1) >= 3
    assert contents(disk) == whole.kept


@pytest.mark.slow
def test_a_read_only_store_is_named_and_left_as_it_is(
    whole: Whole,
    tiny: Path,
    copying: Path,
    mounted: tuple[Path, Callable[[str], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk, mount = mounted
    mount("remount,size=64m")
    shutil.copytree(whole.root, disk, dirs_exist_ok=True)
    mount("remount,ro")
    assert main(command(tiny, copying, disk)) == 1
    assert f"cannot write {disk}" in capsys.readouterr().err
    assert main(["runs", "verify", "--out", str(disk)]) == 0
    assert contents(disk) == whole.kept
