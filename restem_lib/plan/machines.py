"""GPUs by name, with the rates of their datasheets; this machine's CPU, measured."""

from __future__ import annotations

import difflib
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from restem_lib.keys import ConfigError
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
from restem_lib.plan.shapes import of

if TYPE_CHECKING:
    from restem_lib.batching import Example
    from restem_lib.learner import Learner


class Gpu(NamedTuple):
    """TFLOP/s of dense matrix products without TF32, GB/s, GB; GB/s one way to a GPU beside it."""

    bfloat16: float
    """0: the hardware has none, so everything is float32."""
    float32: float
    bandwidth: float
    memory: float
    link: float


GPUS = {
    "T4": Gpu(0, 8.1, 320, 16, 16),
    "V100": Gpu(0, 15.7, 900, 32, 150),
    "A10": Gpu(125, 31.2, 600, 24, 32),
    "A100-40": Gpu(312, 19.5, 1555, 40, 300),
    "A100-80": Gpu(312, 19.5, 2039, 80, 300),
    "L4": Gpu(121, 30.3, 300, 24, 32),
    "L40S": Gpu(362, 91.6, 864, 48, 32),
    "H100": Gpu(989, 67, 3350, 80, 450),
    "H200": Gpu(989, 67, 4800, 141, 450),
}
"""From the makers' datasheets; SXM where there is a choice. Links are NVLink, else PCIe."""

TORCH = Pace("torch", compute=0.4, bandwidth=0.5, layer=150e-6, start=30)
VLLM = Pace("vllm", compute=0.5, bandwidth=0.7, layer=10e-6, start=90, shares=False)
TRAINING = Pace("training", compute=0.4, bandwidth=0.7, layer=600e-6, start=60)
"""Of GPUs, all assumed: none has been at hand. Layers cost launches: vLLM replays a recorded graph."""


@dataclass(frozen=True)
class Paces:
    """What software makes of a machine, by what it does."""

    torch: Pace
    vllm: Pace
    training: Pace
    measured: str = ""
    """How, in words; "" where all are assumed."""


ASSUMED = Paces(TORCH, VLLM, TRAINING)


def gpu(name: str, dtype: str) -> Machine:
    """The GPU of a name in GPUS at the dtype of a preset. Raises ConfigError with the nearest names."""
    known = {one.lower(): one for one in GPUS}
    if name.lower() not in known:
        near = [one for one in known if one.startswith(name.lower())]
        near = near or difflib.get_close_matches(name.lower(), known, n=2)
        hint = f"did you mean {' or '.join(known[one] for one in near)}? Known" if near else "known"
        raise ConfigError(f"no GPU type {name!r}; {hint} are {', '.join(GPUS)}, and cpu")
    name = known[name.lower()]
    sheet = GPUS[name]
    narrow = dtype != "float32" and sheet.bfloat16 > 0
    return Machine(
        name,
        flops=(sheet.bfloat16 if narrow else sheet.float32) * 1e12,
        bandwidth=sheet.bandwidth * 1e9,
        memory=sheet.memory * 1e9,
        link=sheet.link * 1e9,
        width=2 if narrow else 4,
    )


PROBE = ("toy-s", "toy-l")
"""Models that a CPU is measured on: the smallest and the largest that the project has."""
PROBLEMS = 64
"""Problems of toy-gsm that it is measured on."""
_UNIT = Machine("unit", flops=1.0, bandwidth=math.inf, memory=math.inf)
_ONE = Pace("unit", 1.0, 1.0, layer=1.0, token=1.0)
"""With these the cost model counts passes through layers, tokens and operations."""


def this_machine(dtype: str) -> tuple[Machine, Paces]:
    """This machine's CPU, measured for half a minute: matrix products, copies, our engine and our M-step.

    Engine and M-step run on the project's smallest and largest toy model, on a few problems of toy-gsm: what a pass
    through a layer, a token and an operation cost is read off the differences.
    """
    import torch

    from restem_lib.models import pick_dtype

    kind = pick_dtype(dtype)
    a, memory = torch.randn(1024, 1024).to(kind), torch.zeros(2**26, dtype=torch.uint8)
    machine = Machine(
        "cpu",
        flops=2 * 1024**3 / _quickest(lambda: a @ a, 5),
        bandwidth=2 * len(memory) / _quickest(lambda: memory.clone(), 5),
        memory=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        cores=os.cpu_count() or 1,
        width=kind.itemsize,
    )
    drawn, trained = _sampling(machine, dtype), _training(machine, dtype)
    how = f"measured here on {' and '.join(PROBE)} and {PROBLEMS} problems of toy-gsm"
    return machine, Paces(drawn, replace(drawn, name="vllm"), trained, how)


def _sampling(machine: Machine, dtype: str) -> Pace:
    from restem_lib.engines import Sampling
    from restem_lib.engines.torch_engine import TorchEngine
    from restem_lib.models import TOYS, load_model, load_tokenizer, pick_dtype
    from restem_lib.tasks.toy import maths

    task = maths.load_gsm()
    prompts = [task.prompt(problem) for problem in task.test[:PROBLEMS]]
    counted: list[Cost] = []
    taken: list[float] = []
    for name in PROBE:
        start = time.perf_counter()
        model, tokenizer = load_model(TOYS / name, pick_dtype(dtype)), load_tokenizer(TOYS / name)
        engine = TorchEngine(model, tokenizer)
        loading = time.perf_counter() - start

        def case(
            asked: Sequence[str],
            n: int,
            sampling: Sampling,
            engine: TorchEngine = engine,
            name: str = name,
        ) -> tuple[Cost, float]:
            """What the cost model counts in a call of the engine, and its seconds."""
            work = partial(engine.generate, asked, n, sampling, 0)
            new = [one.tokens for drawn in work() for one in drawn]
            ids = engine.tokenise(asked, sampling.max_new_tokens)
            mean, longest = statistics.mean(map(len, ids)), max(new)
            draw = Draw(len(asked), n, 0, mean, statistics.mean(new), longest, engine.rows)
            shape = of(name)
            cost = prefill(shape, _UNIT, _ONE, draw) + decode(shape, _UNIT, _ONE, draw)
            return cost, _quickest(work, 2)

        plain = Sampling(0.7, 40, 1.0, 64, task.stop)
        cases = [case(prompts[:16], 1, plain), case(prompts, 4, plain)]
        counted += [cost for cost, _ in cases]
        taken += [seconds for _, seconds in cases]
        if name == PROBE[0]:
            cost, seconds = case(prompts, 4, replace(plain, top_k=0, top_p=0.95))
            sorting = (cost, seconds, of(name).vocab)
    layer, token, operation = _fitted(counted, taken, ("launches", "drawing", "compute"))
    cost, seconds, vocab = sorting
    tokens, passes, work = (cost.seconds[name] for name in ("drawing", "launches", "compute"))
    rest = seconds - tokens * token - passes * layer - work * operation
    return Pace(
        "torch",
        compute=1 / (operation * machine.flops),
        bandwidth=1.0,
        layer=layer,
        token=token,
        entry=max(0.0, rest / tokens / vocab),
        start=loading,
    )


def _training(machine: Machine, dtype: str) -> Pace:
    from restem_lib.batching import batches, tokens
    from restem_lib.config import Common
    from restem_lib.learner import Learner
    from restem_lib.models import TOYS, load_tokenizer
    from restem_lib.records import Pair
    from restem_lib.tasks.toy import maths

    task = maths.load_gsm()
    pairs = [Pair(p.id, 0, task.prompt(p), p.solution) for p in task.test[:PROBLEMS]]
    counted, taken = [], []
    for name in PROBE:
        start = time.perf_counter()
        tokenizer = load_tokenizer(TOYS / name)
        examples = [tokens(pair, tokenizer) for pair in pairs]
        longest = max(example.length for example in examples)
        config = Common(dtype=dtype, compile="never")
        learner = Learner(TOYS / name, longest, 0, 0, config, compiled=False)
        loading = time.perf_counter() - start
        for some, size in ((examples[:16], 4), (examples, 32)):
            lengths = [example.length for example in some]
            plan = [[some[i] for i in batch] for batch in batches(lengths, size, 0, 0)]

            def epoch(plan: Sequence[list[Example]] = plan, learner: Learner = learner) -> None:
                for batch in plan:
                    learner.step(batch, 1e-6)

            mean = statistics.mean(lengths)
            target = statistics.mean(len(example.target) for example in some)
            work = Training(len(plan), size, size, mean, target, longest)
            counted.append(training(of(name), Cluster(_UNIT), _ONE, work))
            taken.append(_quickest(epoch, 2))
    layer, token, operation = _fitted(counted, taken, ("launches", "elementwise", "compute"))
    return Pace(
        "training",
        compute=1 / (operation * machine.flops),
        bandwidth=1.0,
        layer=layer,
        token=token,
        start=2 * loading,  # the candidate is loaded beside it
    )


def _fitted(costs: Sequence[Cost], seconds: Sequence[float], names: Sequence[str]) -> list[float]:
    """What one of each kind costs, none below 0, by least squares of the relative errors."""
    import numpy as np
    from scipy.optimize import nnls

    rows = np.array([[cost.seconds[name] for name in names] for cost in costs])
    scale = rows.max(axis=0)
    found = nnls(rows / scale / np.array(seconds)[:, None], np.ones(len(seconds)))[0] / scale
    return [max(float(one), 1e-15) for one in found]


def _quickest(work: Callable[[], object], times: int) -> float:
    """Seconds of the quickest of several runs, after one to warm up."""
    work()
    least = math.inf
    for _ in range(times):
        start = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - start)
    return least
