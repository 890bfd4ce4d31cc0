"""Programs a second: the sandbox's warm workers beside a plain process for every program.

The plain process has no protection at all, so it is a lower bound of what any safe one-process-a-program way costs.
Both run the same distinct programs on as many at a time as there are cores; each program reads a text and prints.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from restem_lib.rewards import sandbox
from restem_lib.rewards.programs import Tests, grade

PROGRAM = """\
import collections

numbers = list(map(int, input().split()))
counts = collections.Counter(n % 7 for n in numbers)
total = 0
for n in sorted(set(numbers)):
    total += n * counts[n % 7]
print(total)  # {i}
"""
BAR = 200
GIVEN = " ".join(str(37 * i % 101) for i in range(40))


def measure(programs: int = 400, rounds: int = 3) -> dict[str, float | str]:
    """Median rates over interleaved rounds, and the sandbox's level."""
    level = sandbox.level_here()
    texts = [PROGRAM.replace("{i}", str(i)) for i in range(programs)]
    expected = _plain(texts[0])
    gold = Tests(kind="stdin", inputs=(GIVEN,), outputs=(expected,)).to_json()
    grade([gold] * 8, texts[:8], level)  # the workers start
    warm, plain = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        outcomes = grade([gold] * programs, texts, level)
        warm.append(programs / (time.perf_counter() - start))
        assert all(outcome.graded.verdict == "correct" for outcome in outcomes)
        start = time.perf_counter()
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            assert all(output == expected for output in threads.map(_plain, texts))
        plain.append(programs / (time.perf_counter() - start))
    return {
        "sandbox": level,
        "programs": programs,
        "programs_per_s": round(statistics.median(warm), 1),
        "plain_subprocess_per_s": round(statistics.median(plain), 1),
    }


def _plain(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", text], input=GIVEN, capture_output=True, text=True
    )
    return done.stdout
