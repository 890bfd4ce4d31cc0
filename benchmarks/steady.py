"""One process, the toy loop again and again: `python -m benchmarks.steady FOLDER --minutes 10` (Linux).

Each time the same `restem train` of toy-s on toy-code, in a store of its own that is compared with the first one's and
deleted. After each: memory that this process holds, with pages that C's allocator has free given back, number of its
child processes, and of its open files, a line of FOLDER/steady.csv. A loop that keeps what it does not need shows here
as growth.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import shutil
import sys
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pandas as pd

from restem_lib.cli import main as restem
from restem_lib.store import open_stage
from restem_lib.upkeep import contents, stages

ARGUMENTS = (
    "train --model toy-s --task toy-code --dtype float32 --problems 48 --samples 4 --iterations 2 --val-problems 24 "
    "--test-problems 24 --problem-block 16 --sample-block 2 --learning-rate 1e-3 --max-epochs 2 --eval-every 0.5 "
    "--compile never"
)
COLUMNS = ("minute", "rss_mb", "processes", "open_files")
FLAT = 0.02
"""Growth between the second and the last quarter of the runs, as a share, up to which memory is called flat."""
ENOUGH = 12
"""Runs below which nothing is said about growth."""


def steady(folder: Path, minutes: float) -> int:
    """Run until the time is over; the exit code of the run that failed, 1 where one differs from the first, else 0."""
    began, rows = time.monotonic(), list[dict[str, float]]()
    while time.monotonic() - began < 60 * minutes:
        store = folder / ("steady" if rows else "steady-reference")
        with (folder / "steady.log").open("w") as log, redirect_stdout(log):
            code = restem([*ARGUMENTS.split(), "--out", str(store)])
        if code:
            return code
        if rows:
            if found := differences(store, folder / "steady-reference"):
                print(f"run {len(rows) + 1} is not as the first: {found}", file=sys.stderr)
                return 1
            shutil.rmtree(store)
        gc.collect()
        # Else what the allocator's arenas have free counts as held: it differs from run to run by tens of megabytes.
        ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        rows.append(
            {
                "minute": round((time.monotonic() - began) / 60, 3),
                "rss_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
                "processes": len(descendants(os.getpid())),
                "open_files": len(list(Path("/proc/self/fd").iterdir())),
            }
        )
        pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "steady.csv", index=False)
    return 0


def growth(table: pd.DataFrame) -> dict[str, float]:
    """Medians of the second and of the last quarter of the runs; {} below ENOUGH runs. The first quarter warms up."""
    quarter = len(table) // 4
    if len(table) < ENOUGH:
        return {}
    second, last = table.iloc[quarter : 2 * quarter], table.iloc[-quarter:]
    return {
        f"{name}_{which}_quarter": float(rows[name].median())
        for name in COLUMNS[1:]
        for which, rows in (("second", second), ("last", last))
    }


def flat(found: dict[str, float]) -> bool | None:
    """Whether nothing grew: memory by no more than FLAT, processes and open files not at all; None if not known."""
    if not found:
        return None
    limits = {"rss_mb": 1 + FLAT, "processes": 1.0, "open_files": 1.0}
    return all(
        found[f"{name}_last_quarter"] <= limit * found[f"{name}_second_quarter"]
        for name, limit in limits.items()
    )


def finished(store: Path) -> dict[str, int]:
    """Rows of every finished file that a store has, by the manifests."""
    return {
        f"{folder.name}/{name}": entry["rows"]
        for folder in stages(store)
        for name, entry in open_stage(folder).shards().items()
        if (folder / name).exists()
    }


def differences(store: Path, reference: Path) -> dict[str, list[str]]:
    """What a store lost, has twice or too much, and which files differ from the reference's; {} if nothing."""
    wanted, got = finished(reference), finished(store)
    here, there = contents(store), contents(reference)
    more = [name for name in wanted if got.get(name, 0) > wanted[name]]
    found = {
        "lost": sorted(wanted.keys() - got.keys()),
        "duplicated": sorted([*(got.keys() - wanted.keys()), *more]),
        "different": sorted(n for n in here.keys() | there.keys() if here.get(n) != there.get(n)),
    }
    return {what: names for what, names in found.items() if names}


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, todo = list[int](), [pid]
    while todo:
        mine = children.get(todo.pop(), [])
        found += mine
        todo += mine
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    code = steady(options.folder.resolve(), options.minutes)
    if code:
        return code
    found = growth(pd.read_csv(options.folder / "steady.csv"))
    print(json.dumps({"benchmark": "steady", **found, "flat": flat(found)}))
    return int(flat(found) is False)


if __name__ == "__main__":
    sys.exit(main())
