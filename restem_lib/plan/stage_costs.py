"""What one stage of a run costs on a cluster: from a preset's keys, a task's lengths and the cost model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from restem_lib import launching
from restem_lib.config import Config, Loop
from restem_lib.plan.cost_model import (
    CHECKPOINT_BYTES,
    Cluster,
    Cost,
    Draw,
    Training,
    decode,
    exchange,
    makespan,
    prefill,
    training,
)
from restem_lib.plan.lengths import Lengths
from restem_lib.plan.machines import Paces
from restem_lib.plan.memory import sampling_memory, training_memory
from restem_lib.plan.shapes import Shape

DISK = 1e9
"""Bytes a second that are read from the store or written to it, checksums included."""
USABLE = 0.9
"""Share of a GPU's memory that a stage may fill."""
SCORING = {"answers": 2.5e-3, "toy answers": 5e-5, "labels": 1e-5, "programs": 8.6e-3}
"""Seconds a sample and core. Two cores ran 232 programs a second (LOG.md, `python -m benchmarks.rewards`). The others
are in no log: on those cores one process with two helpers graded 1,280 responses to MATH-500 and GSM8K in 3.1 s, 4,000
answers to toy-gsm (whole numbers, many alike) in 0.2 s, and 5,000 labels in 0.04 s. Reading and writing samples is too
little to count: notebook 00 of the cpu preset scored its toy answers at 4.5e-5 s each, all in."""
PROGRAMS = {"apps", "humaneval", "mbpp"}


@dataclass(frozen=True)
class Setting:
    """A preset on a cluster."""

    config: Config
    cluster: Cluster
    paces: Paces

    @property
    def joined(self) -> int:
        """GPUs a worker."""
        return 1 if self.cluster.machine.name == "cpu" else max(1, self.config.worker_gpus)

    @property
    def workers(self) -> int:
        return self.cluster.gpus // self.joined


@dataclass(frozen=True)
class Amounts:
    """One domain's run of a model, or its evaluation on another task: problems and tokens."""

    loop: Loop
    shape: Shape
    lengths: Lengths
    grader: str
    """One of SCORING."""
    train: int
    validation: int
    test: int

    @property
    def name(self) -> str:
        model = self.loop.model.rpartition("/")[2].removesuffix(".gguf")
        return f"{Path(self.loop.task).stem}, {model}"

    def draw(self, prompts: int, n: int, *, top_p: bool = False) -> Draw:
        """n completions of each of so many problems, the longest as long as may be."""
        one = self.lengths
        longest = max(one.new, self.loop.max_new_tokens)
        rows = self.loop.rows
        return Draw(prompts, n, one.shared, one.prompt, one.new, longest, rows, top_p)


def sampling(setting: Setting, given: Amounts, draw: Draw) -> Cost:
    """Seconds to draw samples, shard by shard, on all workers."""
    pace = setting.paces.vllm if given.loop.engine == "vllm" else setting.paces.torch
    team = replace(setting.cluster, gpus=setting.joined, nodes=1)
    worker = setting.cluster.machine.joined(setting.joined)
    draw = replace(draw, rows=rows(setting, given, draw))

    def shard(prompts: int, n: int) -> Cost:
        one = replace(draw, prompts=prompts, n=n)
        cost = prefill(given.shape, worker, pace, one) + decode(given.shape, worker, pace, one)
        return cost + exchange(given.shape, team, pace, one)

    sizes = list(units(given.loop, draw))
    costs = {size: shard(*size) for size in set(sizes)}
    weights = given.shape.parameters * setting.cluster.machine.width
    start = Cost({"start-up": pace.start + weights / DISK})
    return makespan((costs[size] for size in sizes), setting.workers) + start


def units(loop: Loop, draw: Draw) -> Iterator[tuple[int, int]]:
    """Problems and samples a problem of each shard."""
    for first in range(0, draw.prompts, loop.problem_block):
        for sample in range(0, draw.n, loop.sample_block):
            problems = min(loop.problem_block, draw.prompts - first)
            yield problems, min(loop.sample_block, draw.n - sample)


def rows(setting: Setting, given: Amounts, draw: Draw) -> int:
    """Completions drawn at a time: those of the preset, but vLLM takes no more than the memory holds."""
    if given.loop.engine != "vllm":
        return given.loop.rows
    worker = setting.cluster.machine.joined(setting.joined)
    room = given.loop.memory_share * worker.memory - given.shape.parameters * worker.width
    row = given.shape.cache(worker.width) * (draw.prompt + draw.longest)
    return max(1, min(given.loop.rows, math.floor(room / row)))


def scoring(setting: Setting, given: Amounts, draw: Draw) -> Cost:
    """Seconds to score samples: in one process, or shard by shard in workers; programs have all of a worker's cores."""
    cluster, config = setting.cluster, setting.config
    workers, cores = 1, cluster.cores // cluster.nodes
    if cluster.gpus > 1 or config.executor == "ray":
        shards = sum(1 for _ in units(given.loop, draw))
        workers = max(1, min(shards, cluster.cores // config.worker_cpus))
        cores = config.worker_cpus
    if given.grader != "programs":
        cores = 1  # its helpers are counted in SCORING
    return Cost({"grader": draw.prompts * draw.n * SCORING[given.grader] / (workers * cores)})


def evaluated(setting: Setting, given: Amounts, draw: Draw) -> Cost:
    """Seconds to draw and score."""
    return sampling(setting, given, draw) + scoring(setting, given, draw)


class MStep(NamedTuple):
    """One M-step: its steps, a look at the validation problems, their number, bytes."""

    steps: Cost
    look: Cost
    candidates: int
    work: Training
    memory: float
    """On the fullest GPU."""
    checkpoint: float


def trainers(setting: Setting) -> Cluster:
    """The GPUs that M-steps run on: those of one node, or as many of them as accelerate_config says.

    Raises ConfigError for a file that is not there.
    """
    node = setting.cluster.node
    _, wanted = launching.check(setting.config.accelerate_config) or ("", node)
    return Cluster(setting.cluster.machine, min(node, wanted))


def m_step(setting: Setting, given: Amounts, pairs: int, on: Cluster) -> MStep:
    """An M-step on so many pairs to its last epoch: how soon the validation reward ends it nobody knows.

    Raises ConfigError for an accelerate_config that is not there.
    """
    loop, shape = given.loop, given.shape
    pairs = max(1, pairs)
    epoch = math.ceil(pairs / loop.batch_size)
    total = max(1, round(loop.max_epochs * epoch))
    candidates = math.ceil(total / max(1, round(loop.eval_every * epoch)))
    before, after = given.lengths.shared + given.lengths.prompt, given.lengths.new
    work = Training(
        total,
        min(loop.batch_size, pairs),
        loop.micro_batch_size,
        length=before + after,
        target=after,
        longest=before + max(after, loop.max_new_tokens),
        checkpointing=loop.gradient_checkpointing,
        lora=loop.lora_rank,
    )
    kind, _ = launching.check(setting.config.accelerate_config) or ("", 0)
    small = m_step_memory(setting, given, work, on.gpus) <= USABLE * on.machine.memory
    work = replace(work, sharded=kind == "FSDP" if kind else on.gpus > 1 and not small)
    model = shape.parameters * on.machine.width
    checkpoint = model + shape.parameters * (4 if loop.lora_rank else CHECKPOINT_BYTES)
    written = Cost({"disk": (candidates * checkpoint + model) / DISK})
    pace = setting.paces.training
    steps = training(shape, on, pace, work) + written
    steps += Cost({"start-up": pace.start + 4 * shape.parameters / DISK})
    memory = m_step_memory(setting, given, work, on.gpus)
    return MStep(steps, validation(setting, given), candidates, work, memory, checkpoint)


def validation(setting: Setting, given: Amounts) -> Cost:
    """Seconds of one look at the validation problems: on one GPU, while the others wait."""
    machine, pace = setting.cluster.machine, setting.paces.torch
    draw = given.draw(given.validation, 1)
    cost = prefill(given.shape, machine, pace, draw) + decode(given.shape, machine, pace, draw)
    cost += Cost({"grader": given.validation * SCORING[given.grader]})
    return cost if setting.cluster.gpus == 1 else Cost({"one GPU": cost.total})


def m_step_memory(setting: Setting, given: Amounts, work: Training, gpus: int) -> float:
    """Bytes on the fullest of so many GPUs, with what it takes to draw the candidate's samples."""
    machine, look = setting.cluster.machine, given.draw(given.validation, 1)
    beside = sampling_memory(given.shape, machine, look, setting.paces.torch)
    if machine.name != "cpu":  # which also holds the best candidate, as large as the one drawn from
        beside -= given.shape.parameters * machine.width  # counted already
    return training_memory(given.shape, Cluster(machine, gpus), work) + beside
