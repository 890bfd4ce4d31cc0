"""What a stage costs, by arithmetic alone: seconds of prefill, decoding and training.

A roofline: work takes the longer of its floating-point operations over the machine's rate and its bytes over the
machine's bandwidth. `Pace` says what share of both the software reaches and what each launch costs beside that.
Nothing here is measured; machines.py measures a CPU, stages.py turns a preset into these terms.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from restem_lib.plan.shapes import Shape

PREFILL_TOKENS = 8192
"""Tokens that are prefilled together."""
PADDING = 1.05
"""Training tokens computed for each token that is there: batches hold examples of about one length."""
UPDATE_BYTES = 28
"""Bytes a trained parameter that an update moves: weight, gradient and two averages are read, three written."""
GRADIENT_BYTES = 4
"""Bytes a trained parameter that processes exchange: float32 gradients, whatever the dtype."""
CHECKPOINT_BYTES = 12
"""Bytes a trained parameter in a checkpoint: the state without gradients."""


@dataclass(frozen=True)
class Machine:
    """One GPU, or a CPU; bytes and seconds. Rates are peaks."""

    name: str
    flops: float
    """Dense matrix products, FLOP/s, in the dtype that is used."""
    bandwidth: float
    memory: float
    link: float = math.inf
    """Bytes/s that one GPU sends to another of its node."""
    cores: int = 8
    """CPU cores beside it, for rewards."""
    width: int = 2
    """Bytes of a weight in the dtype that is used."""

    def joined(self, count: int) -> Machine:
        """Several as one, as tensor parallelism uses them."""
        return replace(
            self,
            flops=count * self.flops,
            bandwidth=count * self.bandwidth,
            memory=count * self.memory,
            cores=count * self.cores,
        )


NETWORK = 50e9
"""Bytes/s between nodes, each way and node: 400 Gbit/s."""
NODE = 8
"""GPUs a node at most, unless told."""


@dataclass(frozen=True)
class Cluster:
    """GPUs of one type, as many on each node."""

    machine: Machine
    gpus: int = 1
    nodes: int = 1

    @property
    def node(self) -> int:
        """GPUs of a node."""
        return self.gpus // self.nodes

    @property
    def link(self) -> float:
        """Bytes/s of a ring through the GPUs: the slowest hop."""
        return self.machine.link if self.nodes == 1 else min(self.machine.link, NETWORK)

    @property
    def cores(self) -> int:
        return self.gpus * self.machine.cores


@dataclass(frozen=True)
class Pace:
    """What software makes of a machine."""

    name: str
    compute: float
    """Share of the peak in matrix products."""
    bandwidth: float
    """Share of the bandwidth, of links too."""
    layer: float = 0.0
    """Seconds a layer and pass: launching its kernels."""
    token: float = 0.0
    """Seconds a token beside matrix products: drawing it, or in training everything elementwise."""
    entry: float = 0.0
    """More of them a vocabulary entry where the entries are sorted (top-p)."""
    start: float = 0.0
    """Seconds until the first token: process, weights, compilation."""
    shares: bool = True
    """Whether a prompt's keys are read once for its n samples."""


PEAK = Pace("peak", 1.0, 1.0)


@dataclass(frozen=True)
class Cost:
    """Seconds by what they are spent on."""

    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def bound(self) -> str:
        """What most of them are spent on; "" for none."""
        return max(self.seconds, key=lambda name: self.seconds[name], default="")

    def __add__(self, other: Cost) -> Cost:
        names = [*self.seconds, *(name for name in other.seconds if name not in self.seconds)]
        both = {name: self.seconds.get(name, 0.0) + other.seconds.get(name, 0.0) for name in names}
        return Cost(both)

    def __mul__(self, times: float) -> Cost:
        return Cost({name: times * seconds for name, seconds in self.seconds.items()})


def roofline(machine: Machine, pace: Pace, flops: float, moved: float) -> Cost:
    """Seconds of work with so many operations and bytes: the longer of the two."""
    compute = flops / (machine.flops * pace.compute)
    bandwidth = moved / (machine.bandwidth * pace.bandwidth)
    return Cost({"compute": compute} if compute >= bandwidth else {"bandwidth": bandwidth})


@dataclass(frozen=True)
class Draw:
    """n completions of each of so many prompts; mean lengths in tokens."""

    prompts: int
    n: int
    shared: float
    """What all prompts begin with."""
    prompt: float
    """The rest of each."""
    new: float
    longest: float
    """The longest completion."""
    rows: int
    """Completions drawn at a time."""
    top_p: bool = False

    @property
    def tokens(self) -> float:
        """Drawn by the whole."""
        return self.prompts * self.n * self.new


def prefill(shape: Shape, machine: Machine, pace: Pace, draw: Draw) -> Cost:
    """Seconds to compute the prompts."""
    tokens = draw.shared + draw.prompts * draw.prompt
    flops = 2 * shape.layer_weights * tokens + 2 * shape.head_weights * draw.prompts
    flops += shape.attention(draw.prompts * draw.prompt, draw.shared + draw.prompt / 2)
    flops += shape.attention(draw.shared, draw.shared / 2)
    batches = math.ceil(tokens / PREFILL_TOKENS)
    cost = roofline(machine, pace, flops, batches * shape.parameters * machine.width)
    return cost + Cost({"launches": batches * shape.layers * pace.layer})


def decode(shape: Shape, machine: Machine, pace: Pace, draw: Draw) -> Cost:
    """Seconds to draw the completions: rows are refilled until none waits, then run out."""
    rows = min(draw.rows, draw.prompts * draw.n)
    steps = draw.longest + draw.new * (draw.prompts * draw.n / rows - 1)
    per_token = 2 * (shape.layer_weights + shape.head_weights)
    context = draw.shared + draw.prompt + draw.new / 2
    flops = draw.tokens * per_token + shape.attention(draw.tokens, context)
    weights = (shape.layer_weights + shape.head_weights) * machine.width
    cache = shape.cache(machine.width)
    if pace.shares:
        read = draw.tokens * (draw.new / 2 + draw.prompt / draw.n) + steps * draw.shared
    else:
        read = draw.tokens * context
    cost = roofline(machine, pace, flops, steps * weights + read * cache)
    drawing = pace.token + (pace.entry * shape.vocab if draw.top_p else 0.0)
    return cost + Cost(
        {"launches": steps * shape.layers * pace.layer, "drawing": draw.tokens * drawing}
    )


def exchange(shape: Shape, cluster: Cluster, pace: Pace, draw: Draw) -> Cost:
    """Seconds that tensor parallelism over a worker's GPUs spends on the link: two sums a layer and token."""
    tokens = draw.tokens + draw.shared + draw.prompts * draw.prompt
    moved = 2 * shape.layers * shape.hidden * cluster.machine.width * tokens
    ring = 2 * (cluster.gpus - 1) / cluster.gpus
    return Cost({"link": ring * moved / (cluster.link * pace.bandwidth)} if ring else {})


def makespan(units: Iterable[Cost], workers: int) -> Cost:
    """Seconds of units that workers take in order as they become free; idle workers count as "shards"."""
    loads = [0.0] * workers
    whole = Cost()
    for unit in units:
        heapq.heapreplace(loads, loads[0] + unit.total)
        whole += unit
    share = whole * (1 / workers)
    return share + Cost({"shards": max(loads) - share.total})


@dataclass(frozen=True)
class Training:
    """Steps of an M-step; lengths in tokens."""

    steps: int
    batch: int
    """Sequences a step, over all GPUs."""
    micro: int
    """Sequences a pass on a GPU."""
    length: float
    """Mean of prompt and completion together."""
    target: float
    """Mean of the completion."""
    longest: float
    checkpointing: bool = False
    lora: int = 0
    sharded: bool = False
    """FSDP, else DDP."""


def training(shape: Shape, cluster: Cluster, pace: Pace, work: Training) -> Cost:
    """Seconds of the steps: each the longer of its computation and its traffic, and the update."""
    machine, busy = cluster.machine, min(cluster.gpus, work.batch)
    mine = math.ceil(work.batch / busy)
    passes = math.ceil(mine / work.micro)
    tokens = mine * work.length * PADDING
    forward = 2 * shape.layer_weights * tokens + 2 * shape.head_weights * mine * work.target
    forward += shape.attention(tokens, work.length / 2)
    flops = forward * ((2 if work.lora else 3) + work.checkpointing)
    trained = shape.adapters(work.lora) if work.lora else shape.parameters
    held = trained / cluster.gpus if work.sharded else trained
    moved = passes * 3 * shape.parameters * machine.width + held * UPDATE_BYTES
    step = roofline(machine, pace, flops, moved)
    if cluster.gpus > 1:
        ring = (cluster.gpus - 1) / cluster.gpus / (cluster.link * pace.bandwidth)
        gradients = GRADIENT_BYTES * trained
        # DDP sums gradients in a step's last pass, there and back. FSDP gathers the weights in each pass, forward and
        # backward, and scatters the sums of gradients.
        each = 2 * shape.parameters * machine.width + gradients
        sent = passes * each if work.sharded else 2 * gradients
        if ring * sent > step.total:
            step = Cost({"link": ring * sent})
    step += Cost(
        {"launches": passes * shape.layers * pace.layer, "elementwise": tokens * pace.token}
    )
    return step * work.steps
