"""How the cost of sampling grows with the work: `python -m benchmarks.scaling --json` (about 2 minutes on two cores).

Our engine, toy-m, toy-math. Each series multiplies one size of the work and leaves the others: problems (x1, x4, x16),
samples a problem (4 to 64), tokens of the prompt (about x1, x3, x5, x10, by worked examples, another set before every
problem, so that nothing is shared). The exponent is the slope of log seconds over log size: 1 is in proportion, less is
economy. The samples of a problem share its prompt, so both other exponents should be below 1. Rounds are interleaved,
seconds are medians. `--save` keeps the result in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe, save
from restem_lib.engines import Sampling
from restem_lib.engines.torch_engine import TorchEngine
from restem_lib.models import TOYS, load_model, load_tokenizer, quick_bfloat16
from restem_lib.tasks.toy import maths

PROBLEMS, SAMPLES, BLOCK, ROWS, NEW = 32, 16, 64, 1024, 32
"""Every completion has NEW tokens, so that the work is what the sizes say."""
ROUNDS = 3
BAR = 1.05
"""For problems and samples: in proportion, but for what a clock can tell."""

Case = tuple[list[str], int]
"""Prompts, samples of each."""


def cases() -> dict[str, dict[int, Case]]:
    """By series: size -> work."""
    task, tokenizer = maths.load(), load_tokenizer(TOYS / "toy-m")
    asked = [task.prompt(problem) for problem in task.train[: 16 * PROBLEMS]]
    some = asked[:PROBLEMS]
    worked = [asked[i] + task.train[i].solution + "\n" for i in range(16 * PROBLEMS)]

    def longer(i: int, times: int) -> str:
        """Problem i after as many examples as give its prompt `times` the tokens, to within one example."""
        text, at = asked[i], i
        wanted = times * 40
        while True:
            at = (at + PROBLEMS) % len(worked)
            grown = worked[at] + text
            if len(tokenizer(grown)["input_ids"]) > wanted:
                return text
            text = grown

    prompts = {times: [longer(i, times) for i in range(PROBLEMS)] for times in (1, 3, 5, 10)}
    mean = {
        times: round(statistics.mean(map(len, tokenizer(texts)["input_ids"])))
        for times, texts in prompts.items()
    }
    return {
        "problems": {
            PROBLEMS * times: (asked[: PROBLEMS * times], SAMPLES) for times in (1, 4, 16)
        },
        "samples": {n: (some, n) for n in (4, 8, 16, 32, 64)},
        "prompt_tokens": {mean[times]: (prompts[times], SAMPLES) for times in prompts},
    }


def seconds(engine: TorchEngine, case: Case, seed: int) -> float:
    """To sample a case, in blocks of problems as the E-step does."""
    prompts, n = case
    sampling = Sampling(temperature=0.7, top_k=40, top_p=1.0, max_new_tokens=NEW)
    start = time.perf_counter()
    for first in range(0, len(prompts), BLOCK):
        engine.generate(prompts[first : first + BLOCK], n, sampling, seed)
    return time.perf_counter() - start


def endless(dtype: torch.dtype) -> TorchEngine:
    """An engine whose completions never end by themselves."""
    model, tokenizer = load_model(TOYS / "toy-m", dtype), load_tokenizer(TOYS / "toy-m")
    model.generation_config.eos_token_id = tokenizer.eos_token = None
    return TorchEngine(model, tokenizer, ROWS)


def measure(rounds: int) -> dict[str, Any]:
    """Seconds of every case and the exponent of every series."""
    dtype = torch.bfloat16 if quick_bfloat16() else torch.float32
    engine = endless(dtype)
    work = cases()
    for case in work["samples"].values():
        seconds(engine, case, 0)
    taken = [
        {
            name: {size: seconds(engine, case, seed) for size, case in series.items()}
            for name, series in work.items()
        }
        for seed in range(rounds)
    ]
    result: dict[str, Any] = {
        "benchmark": "scaling",
        **describe(),
        "new_tokens": NEW,
        "dtype": str(dtype),
    }
    for name, series in work.items():
        medians = {size: statistics.median(one[name][size] for one in taken) for size in series}
        slope, _ = np.polyfit(np.log(list(medians)), np.log(list(medians.values())), 1)
        result[name] = {"seconds": medians, "exponent": float(slope)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--save", action="store_true", help="keep it in benchmarks/results/")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    result = measure(options.rounds)
    for name in ("problems", "samples", "prompt_tokens"):
        line = ", ".join(f"{size}: {s:.2f} s" for size, s in result[name]["seconds"].items())
        print(f"{name:<14} {line}; exponent {result[name]['exponent']:.2f}")
    print(f"bar: exponents of problems and samples at most {BAR:g}")
    if options.save:
        print("kept in", save("scaling", result))
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
