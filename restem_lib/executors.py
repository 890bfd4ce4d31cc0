"""Where a stage's work runs: here, or on a GPU in a process of its own, so that its memory is free when it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")
STOPS = {signal.SIGINT, signal.SIGTERM}


def run_stage(work: Callable[..., T], *arguments: Any) -> T:
    """Call `work(*arguments)`; `work` is a module-level function, its arguments can be pickled."""
    import torch

    return in_own_process(work, *arguments) if torch.cuda.is_available() else work(*arguments)


def in_own_process(work: Callable[..., T], *arguments: Any) -> T:
    """Call it in a fresh process that ends with the call, and with this process, however that ends.

    Ctrl-C asks it to stop, as SIGTERM would, and waits for it; a second one ends it at once.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_end_with, initargs=(os.getpid(),)) as pool:
        future = pool.submit(work, *arguments)
        try:
            try:
                return future.result()
            except KeyboardInterrupt:  # an M-step ends its step and writes a checkpoint
                for process in multiprocessing.active_children():
                    process.terminate()
                wait([future])
                raise
        except BaseException:  # a second Ctrl-C too, which waits for nothing
            for process in multiprocessing.active_children():
                process.kill()
            raise


def end_unless(alive: Callable[[], bool]) -> None:
    """End this process, whatever it is at, as soon as `alive()` is false; asked five times a second in a thread."""

    # A process that outlived its parent would write into a stage whose lock the kernel has given to somebody else.
    def watch() -> None:
        while alive():
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end_with(parent: int) -> None:
    # In a group of its own: a terminal's Ctrl-C, and what Jupyter sends to a kernel's children, would be more stops.
    os.setpgid(0, 0)
    end_unless(lambda: os.getppid() == parent)
