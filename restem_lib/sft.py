"""M-step: fine-tune a base model on kept pairs, loss on the completion only, stop on validation reward.

Paper, Algorithm 1: "while reward improves on D_val". The paper gives neither optimiser, rate, batch nor length of
training; here: AdamW, linear warm-up and decay, a candidate every `eval_every` epochs (the untouched start is the
first), the best by greedy reward on held-out problems wins, and `patience` candidates without improvement end it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from restem_lib import checkpoints, launching
from restem_lib.config import Common
from restem_lib.executors import run_stage
from restem_lib.learner import NotCompiled, check_lora, compiles
from restem_lib.models import identity, pick_dtype
from restem_lib.records import Candidate, Pair, Problem, Score
from restem_lib.rewards import grader
from restem_lib.sampling import SAMPLE_VERSION, draw_samples, problem_blocks
from restem_lib.scoring import SCORE_VERSION, score_samples
from restem_lib.store import Shards, Stage
from restem_lib.tasks import Task
from restem_lib.training import greedy, train

TUNE_VERSION = 2


@dataclass(frozen=True)
class Tuned:
    """What an M-step gives: a model folder and how it was found."""

    model: Path
    history: tuple[Candidate, ...]
    seconds: float


def fine_tune(
    base: Path, pairs: Shards, task: Task, validation: Sequence[Problem], seed: int, config: Common
) -> Tuned:
    """Fine-tune `base` on pairs and keep the candidate with the best reward on the validation problems.

    Compiled where that pays and works, or on the processes of `accelerate_config`, then never compiled. The result
    then differs in rounding, so it is a stage of its own. Raises ConfigError for a configuration that is of no use.
    """
    check_lora(config.lora_rank)
    if launching.check(config.accelerate_config):
        return _tuned(base, pairs, task, validation, seed, config, compiled=False)
    characters = sum(len(pair.prompt + pair.completion) for pair in pairs.records(Pair))
    if compiles(base, characters * config.max_epochs, config.compile):
        try:
            return _tuned(base, pairs, task, validation, seed, config, compiled=True)
        except NotCompiled as error:
            print(f"note: the M-step is not compiled ({error})", flush=True)
    return _tuned(base, pairs, task, validation, seed, config, compiled=False)


def _tuned(
    base: Path,
    pairs: Shards,
    task: Task,
    validation: Sequence[Problem],
    seed: int,
    config: Common,
    *,
    compiled: bool,
) -> Tuned:
    processes = launching.check(config.accelerate_config)
    config = replace(config, dtype=str(pick_dtype(config.dtype)).removeprefix("torch."))
    settings = {
        "base": identity(base),
        "pairs": pairs.ref,
        "validation": [name for name, _ in problem_blocks(task, validation, config.problem_block)],
        "stop": list(task.stop),
        "grader": [grader(task.grader, config.unsafe_programs).name, SCORE_VERSION],
        "engine": ["torch", SAMPLE_VERSION],
        "seed": seed,
        "dtype": str(pick_dtype(config.dtype)),
        "compiled": compiled,
        **{
            name: getattr(config, name)
            for name in (
                "learning_rate",
                "batch_size",
                "micro_batch_size",
                "max_epochs",
                "warmup",
                "eval_every",
                "patience",
                "lora_rank",
                "gradient_checkpointing",
                "max_new_tokens",
                "rows",
            )
        },
        **({"processes": list(processes)} if processes else {}),
    }
    stage = Stage(config.runs_dir, "tune", TUNE_VERSION, settings)
    with stage.work():
        if not stage.has_folder("model") or stage.missing(["history.parquet"]):
            first = _untouched(base, task, validation, config)
            where = partial(launching.run, config.accelerate_config) if processes else run_stage
            try:
                where(
                    train,
                    base,
                    pairs,
                    task,
                    tuple(validation),
                    seed,
                    config,
                    compiled,
                    first,
                    checkpoints.latest(stage.folder),
                    stage,
                )
            except BaseException:
                checkpoints.clean(stage.folder)
                raise
        for folder in checkpoints.found(
            stage.folder
        ):  # here, so that a kill cannot leave them for ever
            shutil.rmtree(folder)
    history = Shards(stage, ("history.parquet",))
    return Tuned(stage.read_folder("model"), tuple(history.records(Candidate)), history.seconds())


def _untouched(base: Path, task: Task, validation: Sequence[Problem], config: Common) -> float:
    """Greedy reward of the model that an M-step starts from; M-steps with the same start share it."""
    config = replace(config, engine="torch")
    samples = draw_samples(base, task, validation, 1, greedy(task, config), "validation", 0, config)
    scores = score_samples(task, validation, samples, config)
    return sum(one.reward for one in scores.records(Score)) / len(validation)
