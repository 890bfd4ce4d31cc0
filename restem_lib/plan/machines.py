"""GPUs by name, with the rates of their datasheets, and what is assumed of the software on them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import NamedTuple

from restem_lib.keys import ConfigError
from restem_lib.plan.cost_model import Machine, Pace


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
