"""Where a stage's work runs: here, or on a GPU in a process of its own, so that its memory is free when it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")


def run_stage(work: Callable[..., T], *arguments: Any) -> T:
    """Call `work(*arguments)`; `work` is a module-level function, its arguments can be pickled."""
    import torch

    return in_own_process(work, *arguments) if torch.cuda.is_available() else work(*arguments)


def in_own_process(work: Callable[..., T], *arguments: Any) -> T:
    """Call it in a fresh process that ends with the call, and with this process, however that ends."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_die_with, initargs=(os.getpid(),)) as pool:
        future = pool.submit(work, *arguments)
        try:
            return future.result()
        except KeyboardInterrupt:  # an M-step ends its step and writes a checkpoint
            for process in multiprocessing.active_children():
                process.terminate()
            wait([future])
            raise
        except BaseException:
            for process in multiprocessing.active_children():
                process.kill()
            raise


def _die_with(parent: int) -> None:
    # A worker that outlived its parent would write into a stage whose lock the kernel has given to somebody else.
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
