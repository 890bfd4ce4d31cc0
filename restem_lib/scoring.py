"""E-step, second half: the binary reward of every sample, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from restem_lib.cluster import ClusterError, Done, hand_out
from restem_lib.config import Common
from restem_lib.records import Problem, Sample, Score
from restem_lib.rewards import Graded, Grader, algebra, grader, sandbox
from restem_lib.sampling import progress
from restem_lib.store import Shards, Stage, write_records
from restem_lib.tasks import Task

SCORE_VERSION = 1


@dataclass(frozen=True)
class Block:
    """One shard to score."""

    name: str
    golds: tuple[str, ...]
    samples: tuple[Sample, ...]


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
        blocks = _blocks(samples, todo, gold)
        if config.executor == "ray":
            finished = hand_out(Scorer, (by or task.grader, reward.name, config), blocks, config)
        else:
            finished = _score_here(reward, blocks)
        with progress(len(todo), "scoring", "shard") as bar, closing(finished):
            for block, scores, seconds, notes in finished:
                write_records(stage, block.name, scores, Score, seconds, notes)
                bar.update()
    return Shards(stage, samples.names)


def _blocks(samples: Shards, names: Sequence[str], gold: dict[str, str]) -> Iterator[Block]:
    for name in names:
        block = tuple(Shards(samples.stage, (name,)).records(Sample))
        yield Block(name, tuple(gold[sample.problem_id] for sample in block), block)


def _score_here(reward: Grader, blocks: Iterator[Block]) -> Generator[Done]:
    for block in blocks:
        start = time.monotonic()
        scores = score(reward, block.golds, block.samples)
        yield Done(block, scores, time.monotonic() - start, {})


class Scorer:
    """A grader on a node of a cluster.

    Raises ClusterError where it would not be the driver's (for programs: another level of the sandbox).
    """

    def __init__(self, by: str, name: str, config: Common) -> None:
        algebra.WORKERS = min(algebra.WORKERS, config.worker_cpus)
        sandbox.WORKERS = config.worker_cpus  # the node's other cores are other workers'
        self.reward = grader(by, config.unsafe_programs)
        if self.reward.name != name:
            raise ClusterError(f"the grader here is {self.reward.name}, the driver's is {name}")

    def __call__(self, block: Block) -> list[Score]:
        return score(self.reward, block.golds, block.samples)


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
