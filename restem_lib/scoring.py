"""E-step, second half: the binary reward of every sample, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Sequence

from restem_lib.config import Common
from restem_lib.records import Problem, Sample, Score
from restem_lib.rewards import Graded, Grader, grader
from restem_lib.sampling import progress
from restem_lib.store import Shards, Stage, write_records
from restem_lib.tasks import Task

SCORE_VERSION = 1


def score_samples(
    task: Task, problems: Sequence[Problem], samples: Shards, config: Common, by: str = ""
) -> Shards:
    """A Score for each sample, in the same order and under the same shard names.

    by names another grader than the task's. A sample that was cut off by its length never ended its answer: no reward,
    whatever it holds so far. Raises SandboxError where programs cannot be run safely.
    """
    reward = grader(by or task.grader, config.unsafe_programs)
    stage = Stage(
        config.runs_dir,
        "score",
        SCORE_VERSION,
        {"samples": samples.stage.name, "grader": reward.name},
    )
    gold = {problem.id: problem.answer for problem in problems}
    with stage.work():
        todo = stage.missing(samples.names)
        with progress(len(todo), "scoring", "shard") as bar:
            for name in todo:
                start = time.monotonic()
                block = list(Shards(samples.stage, (name,)).records(Sample))
                scores = score(reward, [gold[sample.problem_id] for sample in block], block)
                write_records(stage, name, scores, Score, time.monotonic() - start)
                bar.update()
    return Shards(stage, samples.names)


def score(reward: Grader, golds: Sequence[str], samples: Sequence[Sample]) -> list[Score]:
    """Score samples against their gold answers."""
    whole = [i for i, sample in enumerate(samples) if sample.finish != "length"]
    graded = [
        Graded("no_answer", "", f"cut off after {sample.tokens} tokens") for sample in samples
    ]
    for i, result in zip(
        whole,
        reward.grade([golds[i] for i in whole], [samples[i].text for i in whole]),
        strict=True,
    ):
        graded[i] = result
    return [
        Score(
            sample.problem_id,
            sample.index,
            int(result.verdict == "correct"),
            result.verdict,
            result.answer,
            result.why,
            reward.name,
        )
        for sample, result in zip(samples, graded, strict=True)
    ]
