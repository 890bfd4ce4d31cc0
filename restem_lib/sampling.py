"""E-step, first half: draw samples of every problem from a model, shard by shard."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restem_lib.cluster import hand_out
from restem_lib.config import Common
from restem_lib.engines import LogitsError, PromptError, Sampling, tokenise
from restem_lib.executors import in_own_process, run_stage
from restem_lib.launching import watched
from restem_lib.models import identity, load_model, load_tokenizer, pick_dtype
from restem_lib.records import Problem, Sample
from restem_lib.store import Shards, Stage, digest, seed_for, write_records
from restem_lib.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        label = f"sampling {stream}"
        if todo and config.executor == "ray":
            # The stage is of one precision, whatever each node would pick.
            config = replace(config, dtype=str(dtype).removeprefix("torch."))
            _draw_on_cluster(model, todo, sampling, stage, config, label)
        elif todo:
            # vLLM gives memory and threads back only when its process ends, on a CPU too.
            run = in_own_process if config.engine == "vllm" else run_stage
            run(_draw, model, todo, sampling, stage, config, label)
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


class Drawer:
    """A model that is loaded, and draws one unit's samples after another's.

    vLLM spreads it over `gpus` GPUs (tensor parallel), which has not run yet.
    """

    def __init__(self, model: Path, sampling: Sampling, config: Common, gpus: int = 1) -> None:
        self.model, self.sampling = model, sampling
        self.engine = _engine(model, config, gpus)

    def __call__(self, unit: Unit, progress: Callable[[int], object] | None = None) -> list[Sample]:
        try:
            drawn = self.engine.generate(unit.prompts, unit.n, self.sampling, unit.seed, progress)
        except LogitsError as error:
            raise LogitsError(f"the model in {self.model}: {error}") from error
        return [
            Sample(problem_id, unit.first + j, one.text, one.tokens, one.finish)
            for problem_id, completions in zip(unit.problem_ids, drawn, strict=True)
            for j, one in enumerate(completions)
        ]


def _engine(model: Path, config: Common, gpus: int) -> TorchEngine | VllmEngine:
    dtype = pick_dtype(config.dtype)
    if config.engine == "vllm":
        from restem_lib.engines.vllm_engine import VllmEngine

        return VllmEngine(model, dtype, config.rows, config.memory_share, gpus)
    from restem_lib.engines.torch_engine import TorchEngine

    return TorchEngine(load_model(model, dtype), load_tokenizer(model), config.rows)


def _draw(
    model: Path, units: list[Unit], sampling: Sampling, stage: Stage, config: Common, label: str
) -> None:
    draw = Drawer(model, sampling, config)
    _check(units, lambda prompts: draw.engine.tokenise(prompts, sampling.max_new_tokens))
    with progress(_size(units), label, "sample") as bar:
        for unit in units:
            start = time.monotonic()
            samples = draw(unit, bar.update)
            write_records(stage, unit.name, samples, Sample, time.monotonic() - start)


def _draw_on_cluster(
    model: Path, units: list[Unit], sampling: Sampling, stage: Stage, config: Common, label: str
) -> None:
    from transformers import AutoConfig

    model = model.absolute()  # a worker's working directory is another
    shape = AutoConfig.from_pretrained(model, trust_remote_code=False).get_text_config()
    positions = getattr(shape, "max_position_embeddings", None)
    tokenizer = load_tokenizer(model)
    _check(units, lambda prompts: tokenise(tokenizer, prompts, sampling.max_new_tokens, positions))
    arguments = (model, sampling, config, max(1, config.worker_gpus))
    with (
        progress(_size(units), label, "sample") as bar,
        closing(hand_out(Drawer, arguments, units, config, config.worker_gpus)) as finished,
    ):
        for unit, samples, seconds, notes in finished:
            write_records(stage, unit.name, samples, Sample, seconds, notes)
            bar.update(len(samples))


def _check(units: Sequence[Unit], read: Callable[[Sequence[str]], object]) -> None:
    """Raise PromptError, with the problem's name, now: the last block's long prompt is no news for hours later."""
    for prompts, problem_ids in {unit.prompts: unit.problem_ids for unit in units}.items():
        try:
            read(prompts)
        except PromptError as error:
            raise PromptError(f"problem {problem_ids[error.prompt]}: {error}") from error


def _size(units: Sequence[Unit]) -> int:
    return sum(len(unit.prompts) * unit.n for unit in units)


@contextmanager
def progress(total: int, label: str, unit: str) -> Iterator[tqdm[Any]]:
    """A progress bar with rate and time left, on terminals and in live notebooks; TQDM_DISABLE=1 turns it off."""
    from tqdm.auto import tqdm

    off = not watched() or bool(os.environ.get("TQDM_DISABLE"))
    with tqdm(
        total=total, desc=label, unit=f" {unit}s", leave=False, disable=off, smoothing=0.1
    ) as bar:
        yield bar
