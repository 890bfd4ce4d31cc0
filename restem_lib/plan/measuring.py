"""This machine's CPU, measured: matrix products, copies, and what our engine and our M-step make of it."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from restem_lib.plan.cost_model import (
    Cluster,
    Cost,
    Draw,
    Machine,
    Pace,
    Training,
    decode,
    prefill,
    training,
)
from restem_lib.plan.machines import Paces
from restem_lib.plan.shapes import of

if TYPE_CHECKING:
    from restem_lib.batching import Example

MODELS = ("toy-s", "toy-l")
"""Models that a CPU is measured on: the smallest and the largest that the project has."""
PROBLEMS, FEW = 128, 16
"""Problems of toy-gsm that it is measured on; those of them that show what a launch costs."""
SAMPLES = 6
ROUNDS = 3
"""Times that each case is timed, in turns, as a machine's pace changes by the minute. The median counts: a run takes
what is usual, not what is possible."""
_UNIT = Machine("unit", flops=1.0, bandwidth=math.inf, memory=math.inf)
_ONE = Pace("unit", 1.0, 1.0, layer=1.0, token=1.0)
"""With these the cost model counts passes through layers, tokens and operations."""


class Case(NamedTuple):
    """Something to be timed."""

    counted: Cost
    """What the cost model counts in it."""
    work: Callable[[], object]


def this_machine(dtype: str) -> tuple[Machine, Paces]:
    """This machine's CPU and what the software makes of it; takes about a minute.

    Engine and M-step run on the project's smallest and largest toy model, on a few problems of toy-gsm: what a pass
    through a layer, a token and an operation cost is read off the differences.
    """
    import torch

    from restem_lib.models import pick_dtype

    kind = pick_dtype(dtype)
    a, memory = torch.randn(1024, 1024).to(kind), torch.zeros(2**26, dtype=torch.uint8)
    product, copy = _timed([lambda: a @ a, memory.clone])
    machine = Machine(
        "cpu",
        flops=2 * 1024**3 / product,
        bandwidth=2 * len(memory) / copy,
        memory=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        cores=os.cpu_count() or 1,
        width=kind.itemsize,
    )
    began = time.perf_counter()
    drawn = [case for name in MODELS for case in _sampling(name, dtype)]
    trained = [case for name in MODELS for case in _training(name, dtype)]
    seconds = _timed([case.work for case in (*drawn, *trained)])
    sampling = _pace("torch", machine, drawn, seconds[: len(drawn)])
    steps = _pace("training", machine, trained, seconds[len(drawn) :])
    how = (
        f"measured here for {time.perf_counter() - began:.0f} s "
        f"on {' and '.join(MODELS)} and {PROBLEMS} problems of toy-gsm"
    )
    return machine, Paces(sampling, replace(sampling, name="vllm"), steps, how)


def _sampling(name: str, dtype: str) -> Iterator[Case]:
    """Calls of the engine: few prompts, many samples, and these with all tokens sorted."""
    from restem_lib.engines import Sampling
    from restem_lib.engines.torch_engine import TorchEngine
    from restem_lib.models import TOYS, load_model, load_tokenizer, pick_dtype
    from restem_lib.tasks.toy import maths

    task, shape = maths.load_gsm(), of(name)
    prompts = [task.prompt(problem) for problem in task.test[:PROBLEMS]]
    model, tokenizer = load_model(TOYS / name, pick_dtype(dtype)), load_tokenizer(TOYS / name)
    engine = TorchEngine(model, tokenizer, PROBLEMS * SAMPLES)
    plain = Sampling(0.7, 40, 1.0, 64, task.stop)
    nucleus = Sampling(1.0, 0, 0.95, 64, task.stop)
    for asked, n, how in (
        (prompts[:FEW], 1, plain),
        (prompts, SAMPLES, plain),
        (prompts, SAMPLES, nucleus),
    ):

        def work(asked: Sequence[str] = asked, n: int = n, how: Sampling = how) -> list[int]:
            return [one.tokens for drawn in engine.generate(asked, n, how, 0) for one in drawn]

        new = work()
        before = statistics.mean(map(len, engine.tokenise(asked, how.max_new_tokens)))
        draw = Draw(len(asked), n, 0, before, statistics.mean(new), max(new), engine.rows)
        cost = prefill(shape, _UNIT, _ONE, draw) + decode(shape, _UNIT, _ONE, draw)
        yield Case(cost + Cost({"entries": (how.top_p < 1) * sum(new) * shape.vocab}), work)


def _training(name: str, dtype: str) -> Iterator[Case]:
    """Epochs on human solutions: a few in small batches, many in large ones."""
    from restem_lib.batching import batches, tokens
    from restem_lib.config import Common
    from restem_lib.learner import Learner
    from restem_lib.models import TOYS, load_tokenizer
    from restem_lib.records import Pair
    from restem_lib.tasks.toy import maths

    task, tokenizer = maths.load_gsm(), load_tokenizer(TOYS / name)
    pairs = [Pair(p.id, 0, task.prompt(p), p.solution) for p in task.test[:PROBLEMS]]
    examples = [tokens(pair, tokenizer) for pair in pairs]
    longest = max(example.length for example in examples)
    learner = Learner(
        TOYS / name, longest, 0, 0, Common(dtype=dtype, compile="never"), compiled=False
    )
    for some, size in ((examples[:FEW], 4), (examples, 32)):
        lengths = [example.length for example in some]
        plan = [[some[i] for i in batch] for batch in batches(lengths, size, 0, 0)]

        def epoch(plan: Sequence[list[Example]] = plan) -> None:
            for batch in plan:
                learner.step(batch, 1e-6)

        epoch()
        target = statistics.mean(len(example.target) for example in some)
        work = Training(len(plan), size, size, statistics.mean(lengths), target, longest)
        yield Case(training(of(name), Cluster(_UNIT), _ONE, work), epoch)


def _pace(name: str, machine: Machine, cases: Sequence[Case], seconds: Sequence[float]) -> Pace:
    """What one of each kind costs, none below 0, by least squares of the relative errors."""
    import numpy as np
    from scipy.optimize import nnls

    kinds = ("launches", "drawing", "elementwise", "entries", "compute")
    counts = np.array([[case.counted.seconds.get(kind, 0.0) for kind in kinds] for case in cases])
    scale = np.maximum(counts.max(axis=0), 1.0)
    found = nnls(counts / scale / np.array(seconds)[:, None], np.ones(len(seconds)))[0] / scale
    layer, token, elementwise, entry, operation = map(float, found)
    return Pace(
        name,
        compute=1 / (max(operation, 1e-15) * machine.flops),
        bandwidth=1.0,
        layer=layer,
        token=token + elementwise,
        entry=entry,
    )


def _timed(works: Sequence[Callable[[], object]]) -> list[float]:
    """Seconds of each, the median of ROUNDS in which they take turns, after one to warm up."""
    taken: list[list[float]] = [[] for _ in works]
    for again in range(1 + ROUNDS):
        for work, times in zip(works, taken, strict=True):
            started = time.perf_counter()
            work()
            if again:
                times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in taken]
