"""From scores to training pairs: keep reward 1, at most `cap` a problem (paper, section 5)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from restem_lib import UserError
from restem_lib.config import Common
from restem_lib.records import Pair, Problem, Sample, Score
from restem_lib.sampling import problem_blocks
from restem_lib.store import Shards, Stage, digest, seed_for, write_records
from restem_lib.tasks import Task

FILTER_VERSION = 1


class NothingKept(UserError):
    """No sample earned reward 1: there is nothing to train on."""


def keep_correct(
    task: Task,
    problems: Sequence[Problem],
    samples: Shards,
    scores: Shards,
    seed: int,
    config: Common,
) -> Shards:
    """The training pairs of one E-step, as one shard. Raises NothingKept when there are none."""
    settings = {
        "samples": samples.ref,
        "scores": scores.ref,
        "keep": config.keep,
        "cap": config.cap,
        "dedup": config.dedup,
        "seed": seed,
    }
    stage = Stage(config.runs_dir, "filter", FILTER_VERSION, settings)
    with stage.work():
        if stage.missing(["pairs.parquet"]):
            start = time.monotonic()
            prompts = {problem.id: task.prompt(problem) for problem in problems}
            drawn: dict[str, list[tuple[Sample, int]]] = {problem.id: [] for problem in problems}
            both = zip(samples.records(Sample), scores.records(Score), strict=True)
            for sample, score in both:
                if (sample.problem_id, sample.index) != (score.problem_id, score.index):
                    raise RuntimeError(
                        f"scores of {scores.stage.name} do not belong to {samples.stage.name}"
                    )
                drawn[sample.problem_id].append((sample, score.reward))
            pairs = [
                Pair(kept.problem_id, kept.index, prompts[kept.problem_id], kept.text)
                for problem_id, rewarded in drawn.items()
                for kept in select(rewarded, config, seed_for(seed, "filter", problem_id))
            ]
            if not pairs:
                every = [sample for rewarded in drawn.values() for sample, _ in rewarded]
                cut = sum(sample.finish == "length" for sample in every)
                raise NothingKept(
                    f"none of the {len(every)} samples was right ({cut} were cut off), so there is nothing to train "
                    "on; draw more samples a problem, take easier problems, a stronger model, or allow longer "
                    "completions (max_new_tokens)"
                )
            write_records(stage, "pairs.parquet", pairs, Pair, time.monotonic() - start)
    return Shards(stage, ("pairs.parquet",))


def select(rewarded: Sequence[tuple[Sample, int]], config: Common, seed: int) -> list[Sample]:
    """The kept samples of one problem, in sampling order.

    The controls ignore the reward: "random" takes as many as would have been kept, "all" as many as the cap allows.
    Paper: which solutions fill the cap is not said; here they are drawn at random.
    """
    right = _distinct([sample for sample, reward in rewarded if reward == 1], config.dedup)
    every = _distinct([sample for sample, _ in rewarded], config.dedup)
    pool = right if config.keep == "correct" else every
    wanted = len(every if config.keep == "all" else right)
    size = min(wanted, config.cap) if config.cap else wanted
    chosen = (
        np.random.default_rng(seed).choice(len(pool), size=size, replace=False)
        if size
        else np.array([], int)
    )
    return [pool[i] for i in sorted(chosen)]


def human_pairs(task: Task, problems: Sequence[Problem], config: Common) -> Shards:
    """The human solutions as training pairs: the paper's SFT baseline. Raises NothingKept where there are none."""
    names = [name for name, _ in problem_blocks(task, problems, config.problem_block)]
    solutions = [problem.solution for problem in problems]
    stage = Stage(
        config.runs_dir,
        "human",
        FILTER_VERSION,
        {"task": task.name, "problems": names, "solutions": digest(solutions)},
    )
    with stage.work():
        if stage.missing(["pairs.parquet"]):
            pairs = [Pair(p.id, 0, task.prompt(p), p.solution) for p in problems if p.solution]
            if not pairs:
                raise NothingKept(f"the task {task.name} has no human solutions to train on")
            write_records(stage, "pairs.parquet", pairs, Pair, 0.0)
    return Shards(stage, ("pairs.parquet",))


def _distinct(samples: list[Sample], dedup: bool) -> list[Sample]:
    if not dedup:
        return samples
    by_text = sorted(samples, key=lambda sample: (sample.text, sample.index))
    first = [next(group) for _, group in groupby(by_text, key=lambda sample: sample.text)]
    return sorted(first, key=lambda sample: sample.index)
