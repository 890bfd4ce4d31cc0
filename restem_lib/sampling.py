"""E-step, first half: draw samples of every problem from a model, shard by shard."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restem_lib.config import Common
from restem_lib.engines import LogitsError, PromptError, Sampling
from restem_lib.executors import in_own_process, run_stage
from restem_lib.models import identity, load_model, load_tokenizer, pick_dtype
from restem_lib.records import Problem, Sample
from restem_lib.store import Shards, Stage, digest, seed_for, write_records
from restem_lib.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tqdm import tqdm

    from restem_lib.engines.torch_engine import TorchEngine
    from restem_lib.engines.vllm_engine import VllmEngine

SAMPLE_VERSION = 2


@dataclass(frozen=True)
class Unit:
    """One shard to make: a block of problems x a block of sample numbers."""

    name: str
    problem_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    first: int
    """Number of the block's first sample."""
    n: int
    seed: int


def draw_samples(
    model: Path,
    task: Task,
    problems: Sequence[Problem],
    n: int,
    sampling: Sampling,
    stream: str,
    seed: int,
    config: Common,
) -> Shards:
    """n samples of each problem; what the store already has is not drawn again.

    `stream` names the use ("e-step-1", "test"): seeds derive from (seed, task, stream, problem block, sample block)
    alone, so asking for more samples later reuses the blocks there are.
    """
    dtype = pick_dtype(config.dtype)
    stage = Stage(
        config.runs_dir,
        "sample",
        SAMPLE_VERSION,
        {
            "model": identity(model),
            "task": task.name,
            "sampling": asdict(sampling),
            "stream": stream,
            "seed": seed,
            "engine": config.engine,
            "dtype": str(dtype),
            "rows": config.rows,
        },
    )
    units = list(_units(task, problems, n, stream, seed, config))
    with stage.work():
        missing = set(stage.missing(unit.name for unit in units))
        todo = [unit for unit in units if unit.name in missing]
        if todo:
            # vLLM gives memory and threads back only when its process ends, on a CPU too.
            run = in_own_process if config.engine == "vllm" else run_stage
            run(_draw, model, todo, sampling, stage, config, f"sampling {stream}")
    return Shards(stage, tuple(unit.name for unit in units))


def problem_blocks(
    task: Task, problems: Sequence[Problem], size: int
) -> Iterator[tuple[str, Sequence[Problem]]]:
    """Blocks of problems with a name that a changed problem, prompt or gold answer changes too."""
    for number, start in enumerate(range(0, len(problems), size)):
        block = problems[start : start + size]
        content = digest([[problem.id, task.prompt(problem), problem.answer] for problem in block])
        yield f"p{number:05d}-{content[:8]}", block


def _units(
    task: Task, problems: Sequence[Problem], n: int, stream: str, seed: int, config: Common
) -> Iterator[Unit]:
    for block_name, block in problem_blocks(task, problems, config.problem_block):
        for first in range(0, n, config.sample_block):
            last = min(n, first + config.sample_block)
            yield Unit(
                name=f"{block_name}-s{first:04d}-{last:04d}.parquet",
                problem_ids=tuple(problem.id for problem in block),
                prompts=tuple(task.prompt(problem) for problem in block),
                first=first,
                n=last - first,
                seed=seed_for(seed, task.name, stream, int(block_name[1:6]), first),
            )


def _engine(model: Path, config: Common) -> TorchEngine | VllmEngine:
    dtype = pick_dtype(config.dtype)
    if config.engine == "vllm":
        from restem_lib.engines.vllm_engine import VllmEngine

        return VllmEngine(model, dtype, config.rows, config.memory_share)
    from restem_lib.engines.torch_engine import TorchEngine

    return TorchEngine(load_model(model, dtype), load_tokenizer(model), config.rows)


def _draw(
    model: Path, units: list[Unit], sampling: Sampling, stage: Stage, config: Common, label: str
) -> None:
    engine = _engine(model, config)
    # The last block's long prompt is no news for hours later.
    for prompts, problem_ids in {unit.prompts: unit.problem_ids for unit in units}.items():
        try:
            engine.tokenise(prompts, sampling.max_new_tokens)
        except PromptError as error:
            raise PromptError(f"problem {problem_ids[error.prompt]}: {error}") from error
    total = sum(len(unit.prompts) * unit.n for unit in units)
    with progress(total, label, "sample") as bar:
        for unit in units:
            start = time.monotonic()
            try:
                drawn = engine.generate(
                    unit.prompts, unit.n, sampling, unit.seed, progress=bar.update
                )
            except LogitsError as error:
                raise LogitsError(f"the model in {model}: {error}") from error
            samples = [
                Sample(
                    problem_id,
                    unit.first + j,
                    completion.text,
                    completion.tokens,
                    completion.finish,
                )
                for problem_id, completions in zip(unit.problem_ids, drawn, strict=True)
                for j, completion in enumerate(completions)
            ]
            write_records(stage, unit.name, samples, Sample, time.monotonic() - start)


@contextmanager
def progress(total: int, label: str, unit: str) -> Iterator[tqdm[Any]]:
    """A progress bar with rate and time left, on terminals and in live notebooks; TQDM_DISABLE=1 turns it off."""
    from tqdm.auto import tqdm

    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    off = not watched or bool(os.environ.get("TQDM_DISABLE"))
    with tqdm(
        total=total, desc=label, unit=f" {unit}s", leave=False, disable=off, smoothing=0.1
    ) as bar:
        yield bar
