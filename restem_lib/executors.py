"""Where a stage's work runs: here, or on a GPU in a process of its own, so that its memory is free when it ends."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run_stage(work: Callable[..., T], *arguments: Any) -> T:
    """Call `work(*arguments)`; `work` is a module-level function, its arguments can be pickled."""
    import torch

    if not torch.cuda.is_available():
        return work(*arguments)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()
