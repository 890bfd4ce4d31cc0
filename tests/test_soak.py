"""The soak: it finds nothing wrong, ends by itself, and leaves no process when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.soak import COLUMNS, WRONG, draw
from benchmarks.steady import COLUMNS as STEADY
from benchmarks.steady import ENOUGH, flat, growth
from restem_lib.config import PROJECT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def soak(out: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak", "--out", str(out), *more],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def working_on(out: Path) -> list[str]:
    """Command lines of processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if str(out).encode() in command:
            found.append(command.decode())
    return found


def test_a_short_soak_loses_nothing(level: str, tmp_path: Path) -> None:
    process = soak(tmp_path / "out", "--minutes", "0.35")
    try:
        said, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, said + errors
    result = json.loads((tmp_path / "out" / "soak.json").read_text())
    assert {what: result[what] for what in WRONG} == dict.fromkeys(WRONG, 0)
    rows = pd.read_csv(tmp_path / "out" / "soak.csv")
    assert tuple(rows.columns) == COLUMNS
    assert sum(result["faults"].values()) == len(rows) > 0
    steady = pd.read_csv(tmp_path / "out" / "steady.csv")
    assert tuple(steady.columns) == STEADY and len(steady) == result["steady_runs"] > 0
    assert not working_on(tmp_path)

    import matplotlib.pyplot as plt

    fig, ax = plt.subplots()
    assert draw(rows, steady, ax).get_title().endswith(f"{len(rows)} faults beside")
    plt.close(fig)


@pytest.mark.parametrize(
    ("grown", "expected"),
    [("", True), ("rss_mb", False), ("processes", False), ("open_files", False)],
)
def test_growth_is_seen(grown: str, expected: bool) -> None:
    noise = [float(run % 3) for run in range(40)]
    table = pd.DataFrame(
        {"minute": range(40), **{name: [500 + n for n in noise] for name in STEADY[1:]}}
    )
    if grown:
        table[grown] += [2.0 * run for run in range(40)]
    assert flat(growth(table)) is expected
    assert growth(table.head(ENOUGH - 1)) == {}


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    process = soak(tmp_path / "out")
    while len(working_on(tmp_path)) < 2:  # itself and the first driver
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, said + errors
    assert not working_on(tmp_path)
