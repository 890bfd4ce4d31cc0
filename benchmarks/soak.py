"""The toy loop under random faults: `python -m benchmarks.soak --minutes 60 --out FOLDER` (Linux).

In rounds: two drivers, the same `restem train` of toy-s on toy-code, share a fresh store. At random moments one of them
is killed or told to end, one of its sandbox workers is killed, or both are killed and a file of the store is truncated
or has a bit flipped, as disks do. Whoever ended is started again; where a message says what to delete, that is done. A
round ends when both drivers are through. Its store must then hold what an undisturbed run's does: every file the same
byte for byte, no shard missing, none too many, none with other rows.

All the while a third process, which lives as long as the soak, runs the same loop again and again
(benchmarks/steady.py); it loses sandbox workers too, and its memory must not grow. `--save` keeps tables and figure in
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
from benchmarks.steady import ARGUMENTS, descendants, differences, finished, flat, growth
from restem_lib.config import PROJECT
from restem_lib.figures.look import legend, look, show, theme
from restem_lib.store import MANIFEST, open_stage
from restem_lib.upkeep import damaged, stages

FAULTS = ("kill a driver", "end a driver", "kill a worker", "truncate a file", "flip a bit")
PER_ROUND = 6
"""Faults of a round at most, so that rounds end."""
DRIVERS = 2
COLUMNS = ("minute", "round", "fault", "recovery_seconds")
WRONG = ("lost", "duplicated", "different", "stuck", "processes left")
ADVICE = re.compile(r"[Dd]elete (?:that file|(?:the folder )?(/\S+))")


class Trouble(Exception):
    """A driver does not go on, or a message does not help."""


class Driver:
    """One `restem train` on a store."""

    def __init__(self, store: Path, number: int) -> None:
        self.log = store.parent / f"{store.name}-driver{number}.log"
        self.store = store
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

    def end(self, how: signal.Signals) -> None:
        """Send the signal and wait."""
        self.told = True
        self.process.send_signal(how)
        self.process.wait(60)


class Round:
    """Two drivers on a fresh store, and what happens to them."""

    def __init__(
        self, number: int, store: Path, rng: random.Random, began: float, steady: int
    ) -> None:
        self.number, self.store, self.rng, self.began = number, store, rng, began
        self.steady = steady
        """Process whose workers are killed too."""
        self.rows: list[dict[str, Any]] = []
        self.waiting: list[tuple[dict[str, Any], float, float]] = []
        """Rows of faults since which the store has gained nothing, with their time by two clocks."""
        self.stops, self.anew = 0, False
        self.drivers = [Driver(store, number) for number in range(DRIVERS)]

    def run(self, lasts: float, until: float) -> None:
        """Disturb the drivers until both are through; after `until` once at most. Raises Trouble."""
        faults, due = 0, time.monotonic() + self.rng.uniform(0.2, 0.9) * lasts
        last = time.monotonic() + 10 * lasts * (PER_ROUND + 1)
        while any(code != 0 for code in [driver.process.poll() for driver in self.drivers]):
            if time.monotonic() > last:
                raise Trouble("the drivers do not end")
            self._recovered()
            self._restart()
            now = time.monotonic()
            ready = due < now and faults < (PER_ROUND if now < until else 1)
            if ready and self._disturb(self.rng.choice(FAULTS)):
                faults += 1
                due = time.monotonic() + self.rng.uniform(0.2, 0.9) * lasts
            time.sleep(0.2)
        self._recovered()
        self._mend()

    def stop(self) -> None:
        """End the drivers."""
        for driver in self.drivers:
            driver.end(signal.SIGKILL)

    def _disturb(self, fault: str) -> bool:
        """Whether there was anything to do it to."""
        driver = self.rng.choice(self.drivers)
        if driver.process.poll() is not None:
            return False
        if fault == "kill a worker":
            whose = self.rng.choice([driver.process.pid, self.steady])
            workers = descendants(whose)
            if not workers:
                return False
            with suppress(ProcessLookupError):
                os.kill(self.rng.choice(workers), signal.SIGKILL)
            self._record(fault, waits=whose != self.steady)
            return True
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
            code = driver.process.poll()
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
        """Damage that nobody met: what `restem runs verify` names is deleted and made anew.

        A finished M-step does not look at its validation's samples again. Where a file is gone that only those would
        need, M-steps are made anew, once.
        """
        for _ in range(4):
            said = "\n".join(line for folder in stages(self.store) for line in damaged(folder))
            if not follow(said, self.store):
                if self.anew or not gone(self.store):
                    return
                self.anew = True
                for folder in self.store.glob("stages/tune-*"):
                    shutil.rmtree(folder)
            self.drivers[0].start()
            if self.drivers[0].process.wait(600):
                raise Trouble(self.drivers[0].log.read_text()[-2000:])

    def _record(self, fault: str, waits: bool = True) -> None:
        now = time.monotonic()
        row = {
            "minute": round((now - self.began) / 60, 3),
            "round": self.number,
            "fault": fault,
            "recovery_seconds": float("nan"),
        }
        self.rows.append(row)
        if waits:
            self.waiting.append((row, now, time.time()))

    def _recovered(self) -> None:
        """Enter how long it took the store to gain a finished file after a fault, by whichever driver."""
        newest = max(map(changed, self.store.glob(f"stages/*/{MANIFEST}")), default=0.0)
        through = all(driver.process.poll() == 0 for driver in self.drivers)
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


def gone(store: Path) -> list[Path]:
    """Files that were finished and are no longer there."""
    return [
        folder / name
        for folder in stages(store)
        for name in open_stage(folder).shards()
        if not (folder / name).exists()
    ]


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


def outliving(steady: int) -> list[int]:
    """Processes that are still there five seconds after their drivers, but for the steady one's."""
    for _ in range(50):
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # adopted ones that ended
                pass
        left = set(descendants(os.getpid())) - {steady, *descendants(steady)}
        if not left:
            break
        time.sleep(0.1)
    return sorted(left)


def soak(minutes: float, out: Path, seed: int) -> dict[str, Any]:
    """Rounds of faults for so many minutes, and to the end of the last: writes out/soak.csv, keeps stores that differ.

    Raises Trouble when the undisturbed run fails, or the steady process ends.
    """
    out.mkdir(parents=True)
    began, rng = time.monotonic(), random.Random(seed)
    undisturbed = Driver(out / "reference", 0)
    if undisturbed.process.wait(1200):
        raise Trouble(f"the undisturbed run failed: {undisturbed.log.read_text()[-2000:]}")
    lasts, reference = time.monotonic() - began, finished(out / "reference")
    print(f"undisturbed: {lasts:.0f} s, {len(reference)} finished files", flush=True)
    rows, wrong = list[dict[str, Any]](), Counter[str]()
    number, anew, until = 0, 0, time.monotonic() + 60 * minutes
    command = [sys.executable, "-m", "benchmarks.steady", str(out), "--minutes", str(minutes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    steady = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL)
    while time.monotonic() < until:
        number += 1
        store = out / f"round{number}"
        one = Round(number, store, rng, began, steady.pid)
        try:
            one.run(lasts, until)
            found = differences(store, out / "reference")
        except (Trouble, subprocess.TimeoutExpired) as trouble:
            found = {"stuck": [str(trouble)]}
        one.stop()
        anew += one.anew
        if left := outliving(steady.pid):
            found["processes left"] = [str(pid) for pid in left]
        rows += one.rows
        pd.DataFrame(rows, columns=COLUMNS).to_csv(out / "soak.csv", index=False)
        wrong.update({what: len(names) for what, names in found.items()})
        faults = Counter(row["fault"] for row in one.rows)
        print(f"round {number}, {dict(faults)}: {found or 'as undisturbed'}", flush=True)
        if not found:
            shutil.rmtree(store)
    steady.wait()  # ends by itself, with 1 where it grew, which its table tells too
    alone = pd.DataFrame()
    if (out / "steady.csv").exists():
        alone = pd.read_csv(out / "steady.csv")
    if steady.returncode and flat(growth(alone)) is not False:
        raise Trouble(f"the steady process ended with exit code {steady.returncode}")
    table = pd.DataFrame(rows, columns=COLUMNS)
    recovery = table.dropna().groupby("fault")["recovery_seconds"]
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
        "faults": {fault: int(count) for fault, count in table["fault"].value_counts().items()},
        **{what: wrong[what] for what in WRONG},
        "rounds_with_m_steps_made_anew": anew,
        "recovery_seconds_median": recovery.median().to_dict(),
        "recovery_seconds_longest": recovery.max().to_dict(),
        "steady_runs": len(alone),
        **{f"steady_{name}": value for name, value in growth(alone).items()},
        "flat": flat(growth(alone)),
    }


def draw(faults: pd.DataFrame, steady: pd.DataFrame, ax: Axes) -> Axes:
    """Memory of the process that lives on, after each of its runs, and under it when there were which faults."""
    ax.plot(steady["minute"], steady["rss_mb"], color="0.35", label="one process, run after run")
    lowest = -0.05 * steady["rss_mb"].max()
    for place, fault in enumerate(FAULTS):
        mine = faults[faults["fault"] == fault]
        style = look(fault, place) | {"linestyle": ""}
        ax.plot(mine["minute"], [(place + 1) * lowest] * len(mine), **style, markersize=4)
    ax.axhline(0, color="0.8", linewidth=0.8)
    ax.set(xlabel="minutes", ylabel="memory (MB)")
    ax.set_ylim(lowest * (len(FAULTS) + 1), steady["rss_mb"].max() * 1.15)
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= steady["rss_mb"].max() * 1.15])
    ax.set_title(f"{len(steady)} runs of the toy loop in one process, {len(faults)} faults beside")
    legend(ax)
    return ax


def keep(result: dict[str, Any], out: Path) -> None:
    """Put result, tables and figure into benchmarks/results/."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    print("kept in", save("soak", result))
    tables = []
    for name in ("soak", "steady"):
        shutil.copy(out / f"{name}.csv", RESULTS)
        tables.append(pd.read_csv(out / f"{name}.csv"))
    theme()
    fig, ax = plt.subplots(figsize=(7, 4.5))
    draw(*tables, ax)
    memory = (
        f"median {result['steady_rss_mb_second_quarter']:.0f} MB in the second quarter of them, "
        f"{result['steady_rss_mb_last_quarter']:.0f} MB in the last"
        if "steady_rss_mb_last_quarter" in result
        else "too few to tell growth"
    )
    alt = (
        f"Memory of one process over {result['minutes']:g} minutes and {result['steady_runs']} runs of the toy loop: "
        f"{memory}. Below, the times of {sum(result['faults'].values())} faults by kind."
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
        keep(result, options.out)
    return int(any(result[what] for what in WRONG) or result["flat"] is False)


if __name__ == "__main__":
    sys.exit(main())
