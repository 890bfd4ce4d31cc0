"""What every benchmark says of the machine: its devices and versions, and how fast it multiplies matrices."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from restem_lib.models import device
from restem_lib.provenance import provenance, version

RESULTS = Path(__file__).parent / "results"


def describe(*packages: str) -> dict[str, Any]:
    """Device, threads, commit and versions, also of `packages`, as plain JSON values."""
    gpu = torch.cuda.get_device_name() if device().type == "cuda" else ""
    return {
        "device": gpu or provenance()["cpu"],
        **provenance(),
        **{name: version(name) for name in packages},
    }


def matmul_peak(seconds: float = 0.5, size: int = 1024) -> dict[str, float]:
    """FLOP/s of square matrix products by dtype, each measured for about `seconds` after one to warm up."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size, device=device()).to(dtype)
        count, taken = 0, 0.0
        a @ a
        _wait()
        start = time.perf_counter()
        while taken < seconds:
            a @ a
            _wait()
            count += 1
            taken = time.perf_counter() - start
        found[str(dtype).removeprefix("torch.")] = 2 * size**3 * count / taken
    return found


def save(name: str, result: dict[str, Any]) -> Path:
    """Write a result beside the benchmarks, under its name and the device's."""
    plain = "".join(c if c.isalnum() else "-" for c in result["device"].lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{plain}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def _wait() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()
