"""How fast the rewards are: `python -m benchmarks.rewards --json` (one run, a few minutes on two cores).

Answers: a realistic mix of whole responses with repeats, through our grader with empty caches, and through math-verify
as it is documented (parse and verify on the whole response); then 100,000 answers, watching memory. The last line of
the output is the result as JSON; `ratio_vs_math_verify` is math-verify's time by ours, on the same responses.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks import programs
from restem_lib import audit
from restem_lib.audit.equal import rewritings
from restem_lib.audit.wrong import mistakes
from restem_lib.rewards import algebra, answers

PROBLEMS = 120
SAMPLES = 32
RIGHT, WRONG = 0.5, 0.4
"""Shares of right and wrong responses; the rest is cut off before an answer."""
MISTAKES = 4
"""Different wrong answers that a problem's samples have between them: models err alike."""
LIKELY = (
    "one more",
    "one less",
    "doubled",
    "tenfold, tenth",
    "negated",
    "digits",
    "reciprocal",
    "swapped",
)
LIKELY += (
    "element changed",
    "element dropped",
    "last sign",
    "coefficient",
    "letter",
    "option",
    "exponent",
)
"""Kinds of wrong answers (restem_lib/audit/wrong.py) that models give every day."""
PLAIN = 0.8
"""Share of the right responses that have the answer as the gold spells it; the others have another spelling."""
ROUNDS = 3
MANY = 100_000
BAR = 10.0

Mix = tuple[list[str], list[str]]  # golds and responses, which pair up


def mix(problems: int, seed: int) -> tuple[Mix, list[str]]:
    """SAMPLES responses to each of `problems` problems, and the names of the sources.

    MATH-500 and GSM8K in equal parts where they can be had (RESTEM_DATA), our own golds otherwise.
    """
    rng = random.Random(seed)
    golds, notes = audit.read_golds()
    sources = ["math500", "gsm8k"] if not notes else ["hand-made"]
    asked = [
        pair for name in sources for pair in rng.choices(golds[name], k=problems // len(sources))
    ]
    items = []
    for gold, solution in asked:
        spelled = [
            one for kind, forms in rewritings(gold).items() if kind != "itself" for one in forms
        ]
        wrong = [one for kind, forms in mistakes(gold).items() if kind in LIKELY for one in forms]
        wrong = rng.sample(wrong, min(MISTAKES, len(wrong)))
        for _ in range(SAMPLES):
            draw, answer = rng.random(), gold
            if draw < RIGHT:
                answer = gold if rng.random() < PLAIN or not spelled else rng.choice(spelled)
            elif draw < RIGHT + WRONG and wrong:
                answer = rng.choices(wrong, weights=range(len(wrong), 0, -1))[0]
            text = audit.respond(gold, solution or "We compute step by step.\n" * 10, answer)
            items.append((gold, text if draw < RIGHT + WRONG else text[: len(text) // 2]))
    rng.shuffle(items)
    return ([gold for gold, _ in items], [text for _, text in items]), sources


def forget() -> None:
    """Empty our grader's caches."""
    answers._cache.clear()
    answers._clean.cache_clear()
    answers._settle.cache_clear()


def ours(golds: list[str], texts: list[str]) -> float:
    """Seconds that our grader takes, from empty caches, with new workers, whose start is not counted."""
    forget()
    algebra.close()
    algebra.check([("2x", "x+x")] * algebra.WORKERS, 60.0)
    start = time.perf_counter()
    answers.grade(golds, texts)
    return time.perf_counter() - start


def math_verify(golds: list[str], texts: list[str]) -> float:
    """Seconds that math-verify takes for the same in a process of its own, without our pipes around it."""
    code = (
        "import json, sys, time\n"
        "from math_verify import parse, verify\n"
        "verify(parse('$1$'), parse('$1$'))\n"  # builds the parser's tables
        "pairs = json.load(sys.stdin)\n"
        "start = time.perf_counter()\n"
        "for gold, text in pairs:\n"
        "    verify(parse(chr(92) + 'boxed{' + gold + '}'), parse(text))\n"
        "print(time.perf_counter() - start)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(list(zip(golds, texts, strict=True))),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def memory() -> float:
    """Resident MB of this process and all below it."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,rss="], stdout=subprocess.PIPE, text=True, check=True
    )
    rows = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    family, size = {os.getpid()}, 0
    while len(family) > size:
        size = len(family)
        family |= {pid for pid, parent, _ in rows if parent in family}
    return sum(rss for pid, _, rss in rows if pid in family) / 1024


def many(count: int) -> dict[str, float]:
    """`count` answers in blocks, as scoring gives them; MB after half of them (the caches are full) and at the end.

    Every block has other problems, so that memory that grows with what was seen would show.
    """
    done, seconds, first, seed = 0, 0.0, 0.0, 1000
    while done < count:
        (golds, texts), _ = mix(PROBLEMS, seed)
        start = time.perf_counter()
        answers.grade(golds, texts)
        seconds += time.perf_counter() - start
        done, seed = done + len(golds), seed + 1
        if not first and done >= count / 2:
            first = memory()
    last = memory()
    return {
        "answers": done,
        "answers_per_s": done / seconds,
        "mb_after_half": first,
        "mb_at_the_end": last,
        "growth_mb": last - first,
    }


def measure_answers(rounds: int = ROUNDS, count: int = MANY) -> dict[str, Any]:
    """The answers half of the result."""
    rounds_run: list[dict[str, float]] = []
    for seed in range(rounds):  # the two in turns, so that a busy machine slows both
        (golds, texts), sources = mix(PROBLEMS, seed)
        taken = {"ours_s": ours(golds, texts), "math_verify_s": math_verify(golds, texts)}
        rounds_run.append(taken | {"ratio": taken["math_verify_s"] / taken["ours_s"]})
    ratio = statistics.median(one["ratio"] for one in rounds_run)
    processes = 1 + algebra.WORKERS
    return {
        "sources": sources,
        "responses_a_round": len(texts),
        "distinct_in_the_last": len(set(zip(golds, texts, strict=True))),
        "rounds": rounds_run,
        "ours_processes": processes,
        "math_verify_processes": 1,
        "ratio_vs_math_verify": ratio,
        # As if all our processes were busy all the time; in truth this one waits for its workers.
        "ratio_per_process": ratio / processes,
        **many(count),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--count", type=int, default=MANY, help="answers of the memory run")
    options = parser.parse_args()
    result = measure_answers(count=options.count)
    result |= programs.measure()
    for name, value in result.items():
        print(f"{name:<24} {value}")
    print(f"{'bars':<24} ratio_vs_math_verify >= {BAR:g}, programs_per_s >= {programs.BAR:g}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
