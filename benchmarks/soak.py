"""The toy loop under random faults: `python -m benchmarks.soak --minutes 60 --out FOLDER` (Linux).

In rounds: two drivers, the same `restem train` of toy-s on toy-code, share a fresh store. At random moments one of them
is killed or told to end, one of its sandbox workers is killed, or both are killed and a file of the store is truncated
or has a bit flipped, as disks do. Whoever ended is started again; where a message says what to delete, that is done. A
round ends when both drivers are through. Its store must then hold what an undisturbed run's does: every file the same
byte for byte, no shard missing, none too many, none with other rows. `--save` keeps table and figure in
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from benchmarks.machine import RESULTS, describe, save
from restem_lib.config import PROJECT
from restem_lib.figures.look import legend, look, show, theme
from restem_lib.store import MANIFEST, open_stage
from restem_lib.upkeep import contents, damaged, stages

ARGUMENTS = (
    "train --model toy-s --task toy-code --dtype float32 --problems 48 --samples 4 --iterations 2 --val-problems 24 "
    "--test-problems 24 --problem-block 16 --sample-block 2 --learning-rate 1e-3 --max-epochs 2 --eval-every 0.5 "
    "--compile never"
)
FAULTS = ("kill a driver", "end a driver", "kill a worker", "truncate a file", "flip a bit")
END = "a round ends"
"""Stands in the table where a fault would."""
PER_ROUND = 6
"""Faults of a round at most, so that rounds end."""
DRIVERS = 2
COLUMNS = ("minute", "round", "fault", "recovery_seconds", "rss_mb")
WRONG = ("lost", "duplicated", "different", "stuck", "processes left")
ADVICE = re.compile(r"[Dd]elete (?:that file|(?:the folder )?(/\S+))")


class Trouble(Exception):
    """A driver does not go on, or a message does not help."""


class Driver:
    """One `restem train` on a store."""

    def __init__(self, store: Path, number: int) -> None:
        self.log = store.parent / f"{store.name}-driver{number}.log"
        self.store, self.peak = store, 0.0
        self.start()

    def start(self) -> None:
        """Start it, again too."""
        command = [sys.executable, "-m", "restem_lib.cli", *ARGUMENTS.split(), "--out"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
        self.told = False
        """Whether its end was asked for."""
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, str(self.store)], cwd=PROJECT, stdout=log, stderr=log, env=environment
            )

    def look(self) -> int | None:
        """Take note of its peak memory in MB; its exit code, None while it works."""
        with suppress(OSError):
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+)", status)
            self.peak = int(found[1]) / 1024 if found else self.peak
        return self.process.poll()

    def end(self, how: signal.Signals) -> None:
        """Send the signal and wait."""
        self.told = True
        self.process.send_signal(how)
        self.process.wait(60)


class Round:
    """Two drivers on a fresh store, and what happens to them."""

    def __init__(self, number: int, store: Path, rng: random.Random, began: float) -> None:
        self.number, self.store, self.rng, self.began = number, store, rng, began
        self.rows: list[dict[str, Any]] = []
        self.waiting: list[tuple[dict[str, Any], float, float]] = []
        """Rows of faults since which the store has gained nothing, with their time by two clocks."""
        self.stops = 0
        self.drivers = [Driver(store, number) for number in range(DRIVERS)]

    def run(self, lasts: float, until: float) -> None:
        """Disturb the drivers until both are through; after `until` no more. Raises Trouble."""
        faults, due = 0, time.monotonic() + self.rng.uniform(0.2, 0.9) * lasts
        while any(code != 0 for code in [driver.look() for driver in self.drivers]):
            self._recovered()
            self._restart()
            ready = faults < PER_ROUND and due < time.monotonic() < until
            if ready and self._disturb(self.rng.choice(FAULTS)):
                faults += 1
                due = time.monotonic() + self.rng.uniform(0.2, 0.9) * lasts
            time.sleep(0.2)
        self._recovered()
        self._record(END)
        self._mend()

    def stop(self) -> None:
        """End the drivers."""
        for driver in self.drivers:
            driver.end(signal.SIGKILL)

    def _disturb(self, fault: str) -> bool:
        """Whether there was anything to do it to."""
        driver = self.rng.choice(self.drivers)
        if driver.look() is not None:
            return False
        if fault == "kill a worker":
            workers = descendants(driver.process.pid)
            if not workers:
                return False
            with suppress(ProcessLookupError):
                os.kill(self.rng.choice(workers), signal.SIGKILL)
        elif fault in ("kill a driver", "end a driver"):
            driver.end(signal.SIGKILL if fault == "kill a driver" else signal.SIGTERM)
        else:
            self.stop()
            files = [path for path in self.store.glob("stages/*-*/**/*") if path.is_file()]
            if not files:
                return False
            harm(self.rng.choice(files), fault, self.rng)
        self._record(fault)
        return True

    def _restart(self) -> None:
        for driver in self.drivers:
            code = driver.look()
            if code in (None, 0):
                continue
            said = driver.log.read_text()
            if not driver.told:
                self.stops += 1
                if "Traceback" in said or self.stops > 2 * PER_ROUND:
                    raise Trouble(f"a driver does not go on: {said[-2000:]}")
            if code == 1:  # a message for people: do as they would, with nobody else at work
                self.stop()
                follow(said, self.store)
            driver.start()

    def _mend(self) -> None:
        """Damage that nobody met: what `restem runs verify` names is deleted and made anew."""
        for _ in range(3):
            said = "\n".join(line for folder in stages(self.store) for line in damaged(folder))
            if not follow(said, self.store):
                return
            self.drivers[0].start()
            if self.drivers[0].process.wait(600):
                raise Trouble(self.drivers[0].log.read_text()[-2000:])

    def _record(self, fault: str) -> None:
        now = time.monotonic()
        row = {
            "minute": round((now - self.began) / 60, 3),
            "round": self.number,
            "fault": fault,
            "recovery_seconds": float("nan"),
            "rss_mb": round(max(driver.peak for driver in self.drivers), 1),
        }
        self.rows.append(row)
        if fault != END:
            self.waiting.append((row, now, time.time()))

    def _recovered(self) -> None:
        """Enter how long it took the store to gain a finished file after a fault."""
        newest = max(map(changed, self.store.glob(f"stages/*/{MANIFEST}")), default=0.0)
        through = all(driver.look() == 0 for driver in self.drivers)
        done = [one for one in self.waiting if newest > one[2] or through]
        for row, since, _ in done:
            row["recovery_seconds"] = round(time.monotonic() - since, 1)
        self.waiting = [one for one in self.waiting if one not in done]


def changed(path: Path) -> float:
    """When a file was written; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def harm(path: Path, how: str, rng: random.Random) -> None:
    """Truncate a file somewhere, or flip one of its bits."""
    data = bytearray(path.read_bytes())
    if data:
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data[:place] if how == "truncate a file" else data)


def follow(said: str, root: Path) -> list[Path]:
    """Delete what messages about damage in the store `root` advise to delete; what that was."""
    deleted = []
    for line in said.splitlines():
        advice = ADVICE.search(line)
        if advice:
            named = advice[1] or next(word for word in line.split() if word.startswith(str(root)))
            path = Path(named.rstrip(".,:;"))
            if root / "stages" not in path.parents:
                raise Trouble(f"{path} is not in the store {root}: {line}")
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            deleted.append(path)
    return deleted


def finished(store: Path) -> dict[str, int]:
    """Rows of every finished file of a store, by the manifests."""
    return {
        f"{folder.name}/{name}": entry["rows"]
        for folder in stages(store)
        for name, entry in open_stage(folder).shards().items()
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


@contextmanager
def nothing_left() -> Iterator[None]:
    """Adopt what killed drivers leave behind, and end all of it at the end, however that comes."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def outliving() -> list[int]:
    """Processes that are still there five seconds after their drivers."""
    for _ in range(50):
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # adopted ones that ended
                pass
        left = descendants(os.getpid())
        if not left:
            break
        time.sleep(0.1)
    return left


def soak(minutes: float, out: Path, seed: int) -> dict[str, Any]:
    """Rounds of faults for so many minutes, and to the end of the last: writes out/soak.csv, keeps stores that differ.

    Raises Trouble when the undisturbed run fails.
    """
    out.mkdir(parents=True)
    began, rng = time.monotonic(), random.Random(seed)
    undisturbed = Driver(out / "reference", 0)
    if undisturbed.process.wait(1200):
        raise Trouble(f"the undisturbed run failed: {undisturbed.log.read_text()[-2000:]}")
    lasts, reference = time.monotonic() - began, finished(out / "reference")
    print(f"undisturbed: {lasts:.0f} s, {len(reference)} finished files", flush=True)
    rows, wrong = list[dict[str, Any]](), Counter[str]()
    number, until = 0, time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        number += 1
        store = out / f"round{number}"
        one = Round(number, store, rng, began)
        try:
            one.run(lasts, until)
            found = differences(store, out / "reference")
        except Trouble as trouble:
            found = {"stuck": [str(trouble)]}
        one.stop()
        if left := outliving():
            found["processes left"] = [str(pid) for pid in left]
        rows += one.rows
        pd.DataFrame(rows, columns=COLUMNS).to_csv(out / "soak.csv", index=False)
        wrong.update({what: len(names) for what, names in found.items()})
        faults = Counter(row["fault"] for row in one.rows if row["fault"] != END)
        print(f"round {number}, {dict(faults)}: {found or 'as undisturbed'}", flush=True)
        if not found:
            shutil.rmtree(store)
    table = pd.DataFrame(rows, columns=COLUMNS)
    ends, hit = table[table["fault"] == END]["rss_mb"], table[table["fault"] != END]
    recovery = hit.dropna().groupby("fault")["recovery_seconds"]
    return {
        "benchmark": "soak",
        **describe(),
        "threads": 1,
        "minutes": minutes,
        "seed": seed,
        "rounds": number,
        "undisturbed_seconds": round(lasts, 1),
        "files_a_round": len(reference),
        "rows_a_round": sum(reference.values()),
        "faults": {fault: int(count) for fault, count in hit["fault"].value_counts().items()},
        **{what: wrong[what] for what in WRONG},
        "recovery_seconds_median": recovery.median().to_dict(),
        "recovery_seconds_longest": recovery.max().to_dict(),
        "peak_mb_first_half": float(ends.iloc[: (len(ends) + 1) // 2].median()),
        "peak_mb_second_half": float(ends.iloc[len(ends) // 2 :].median()),
    }


def draw(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Peak memory of the drivers over time: at each fault, and when a round ends."""
    for place, fault in enumerate((END, *FAULTS)):
        mine = rows[rows["fault"] == fault]
        style = look(fault, place) | ({} if fault == END else {"linestyle": ""})
        ax.plot(mine["minute"], mine["rss_mb"], **style, markersize=4)
    ax.set(xlabel="minutes", ylabel="peak memory of a driver (MB)")
    ax.set_ylim(bottom=0)
    ax.set_title(f"rounds: {rows['round'].nunique()}, faults: {int((rows['fault'] != END).sum())}")
    legend(ax)
    return ax


def keep(result: dict[str, Any], table: Path) -> None:
    """Put result, table and figure into benchmarks/results/."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    print("kept in", save("soak", result))
    shutil.copy(table, RESULTS / "soak.csv")
    theme()
    fig, ax = plt.subplots(figsize=(7, 4))
    draw(pd.read_csv(table), ax)
    alt = (
        f"Peak memory of the drivers over {result['minutes']:g} minutes and {result['rounds']} rounds: "
        f"{result['peak_mb_first_half']:.0f} MB in the first half, {result['peak_mb_second_half']:.0f} in the second."
    )
    show(fig, alt, RESULTS / "soak")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="keep it in benchmarks/results/")
    options = parser.parse_args()
    with nothing_left():
        try:
            result = soak(options.minutes, options.out.resolve(), options.seed)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
        except Trouble as trouble:
            print(f"soak: {trouble}", file=sys.stderr)
            return 1
    (options.out / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    if options.save:
        keep(result, options.out / "soak.csv")
    return int(any(result[what] for what in WRONG))


if __name__ == "__main__":
    sys.exit(main())
