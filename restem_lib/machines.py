"""GPUs by name, with the rates of their datasheets; this machine's CPU, measured."""

from __future__ import annotations

import difflib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from restem_lib.config import ConfigError
from restem_lib.cost_model import Machine, Pace
from restem_lib.shapes import of


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
NEW = 24
"""Tokens a row that are drawn for it."""


def this_machine(dtype: str) -> tuple[Machine, Paces]:
    """This machine's CPU, measured for some seconds: matrix products, copies, our engine and our M-step.

    Engine and M-step run on the project's smallest and largest toy model, on made-up tokens: what a launch, a token and
    an operation cost is read off the differences.
    """
    import torch

    from restem_lib.models import pick_dtype

    kind = pick_dtype(dtype)
    a, memory = torch.randn(1024, 1024).to(kind), torch.zeros(2**26, dtype=torch.uint8)
    flops = 2 * 1024**3 / _quickest(lambda: a @ a, 5)
    bandwidth = 2 * len(memory) / _quickest(lambda: memory.clone(), 5)
    machine = Machine(
        "cpu",
        flops,
        bandwidth,
        float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        cores=os.cpu_count() or 1,
        width=kind.itemsize,
    )
    torch_pace, training = _decoding(machine, dtype), _training(machine, dtype)
    how = f"engine and M-step measured here on {' and '.join(PROBE)} in some seconds"
    return machine, Paces(torch_pace, replace(torch_pace, name="vllm"), training, how)


def _decoding(machine: Machine, dtype: str) -> Pace:
    from restem_lib.engines import Sampling
    from restem_lib.engines.torch_engine import TorchEngine
    from restem_lib.models import TOYS, load_model, load_tokenizer, pick_dtype

    sums = [f"{i} + {i + 1} = {2 * i + 1}\n" for i in range(10, 80)]
    prompts = ["".join(sums[i : i + 4]) for i in range(64)]
    rows, cases, sorting = [], [], 0.0
    for name in PROBE:
        start = time.perf_counter()
        model, tokenizer = load_model(TOYS / name, pick_dtype(dtype)), load_tokenizer(TOYS / name)
        model.generation_config.eos_token_id = tokenizer.eos_token = None  # nothing ends early
        engine = TorchEngine(model, tokenizer, rows=512)
        loaded = time.perf_counter()
        one = Sampling(0.7, 40, 1.0, 1, stop=("\n\n\n",))
        engine.generate(prompts[:32], 1, one, 0)
        called = time.perf_counter()
        engine.generate(prompts[:32], 1, one, 0)
        # What the second model takes: a process loads and calls many, only one is the first.
        loading, first = loaded - start, max(0.0, 2 * called - loaded - time.perf_counter())

        def step(
            count: int, n: int, top_k: int, top_p: float, engine: TorchEngine = engine
        ) -> float:
            """Seconds of a step of n rows of each of so many prompts."""
            long, short = (
                _quickest(partial(engine.generate, prompts[:count], n, one, 0), 2)
                for one in (Sampling(0.7, top_k, top_p, new) for new in (NEW, 1))
            )
            return max(1e-6, long - short) / (NEW - 1)

        shape = of(name)
        operations = 2 * (shape.layer_weights + shape.head_weights)
        for count, n in ((32, 1), (64, 8)):
            rows.append((shape.layers, count * n, count * n * operations))
            cases.append(step(count, n, 40, 1.0))
        if name == PROBE[0]:
            sorting = max(0.0, step(64, 8, 0, 0.95) - cases[-1]) / 512 / shape.vocab
    layer, token, operation = _fitted(rows, cases)
    return Pace(
        "torch",
        compute=1 / (operation * machine.flops),
        bandwidth=1.0,
        layer=layer,
        token=token,
        entry=sorting,
        start=loading,
        first=first,
    )


def _training(machine: Machine, dtype: str) -> Pace:
    from restem_lib.batching import Example
    from restem_lib.config import Common
    from restem_lib.learner import Learner
    from restem_lib.models import TOYS

    rows, cases, length = [], [], 64
    for name in PROBE:
        start = time.perf_counter()
        config = Common(dtype=dtype, compile="never")
        learner = Learner(TOYS / name, length, 0, 0, config, compiled=False)
        loading = time.perf_counter() - start
        shape = of(name)
        for count in (4, 32):
            # No two examples alike: copies are computed once.
            ids = [tuple((7 * i + j) % 500 + 5 for j in range(length // 2)) for i in range(count)]
            batch = [Example(one, one) for one in ids]
            start = time.perf_counter()
            learner.step(batch, 1e-6)
            taken = time.perf_counter() - start
            cases.append(_quickest(partial(learner.step, batch, 1e-6), 2))
            if count == 4:
                first = max(0.0, taken - cases[-1])
            tokens = count * length
            operations = 6 * (shape.layer_weights + shape.head_weights / 2)
            rows.append((shape.layers, tokens, tokens * operations))
    layer, token, operation = _fitted(rows, cases)
    return Pace(
        "training",
        compute=1 / (operation * machine.flops),
        bandwidth=1.0,
        layer=layer,
        token=token,
        start=2 * loading,  # the candidate is loaded beside it
        first=first,
    )


def _fitted(rows: Sequence[tuple[float, ...]], seconds: Sequence[float]) -> list[float]:
    """What each column costs, none below 0, by least squares of the relative errors."""
    import numpy as np
    from scipy.optimize import nnls

    scale = np.max(np.abs(np.array(rows, float)), axis=0)
    weighted = np.array(rows, float) / scale / np.array(seconds)[:, None]
    found = nnls(weighted, np.ones(len(seconds)))[0] / scale
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
