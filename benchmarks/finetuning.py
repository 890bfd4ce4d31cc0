"""How fast the M-step is: `python -m benchmarks.finetuning --json` (3 minutes on two cores, once pairs are drawn).

Our steps, compiled and not, beside trl's SFTTrainer on the same kept pairs of toy-math: completion-only loss, the same
optimiser, schedule and number of steps, in turns. trl draws batches at random, groups them by length, or takes ours in
our order, which suits it best; `ratio_vs_trl` is our best by its best. Tokens are those of the batch without padding.
Copies of a pair are computed once here; `ratio_if_copies_did_not_count` leaves them out of our tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from restem_lib import em, models, training
from restem_lib.batching import Example, batches, distinct, tokens
from restem_lib.config import Loop
from restem_lib.filtering import keep_correct
from restem_lib.learner import Learner, NotCompiled, compiles
from restem_lib.records import Pair
from restem_lib.scoring import score_samples
from restem_lib.tasks import load_task

MODEL, BATCH, RATE, WARMUP = "toy-m", 32, 1e-4, 0.1
PROBLEMS, SAMPLES = 600, 16
"""Of the E-step that the pairs are from: about 4,400 are kept."""
UNCOUNTED = 2
"""First steps of each run, which are not timed."""
TOLERANCE = 0.02
"""Relative difference of the mean losses of the last quarter that counts as equal."""
BAR = 2.5


@dataclass
class Run:
    """One run of some steps."""

    losses: list[float]
    """Mean over the target tokens, a step."""
    seconds: float
    """Of the timed steps."""
    useful: int
    """Tokens in the timed steps, without padding."""
    computed: int
    """The same without copies, where they are computed once."""
    preparing: float = 0.0
    """Seconds to load and, where it is, to compile."""


def kept_pairs(store: Path) -> list[Example]:
    """Pairs of one E-step of the model on toy-math; drawn once and kept in `store`."""
    loop = Loop(
        model=MODEL, task="toy-math", problems=PROBLEMS, samples=SAMPLES, runs_dir=str(store)
    )
    task = load_task(loop.task)
    problems, _ = em.split(task, loop)
    samples = em.draw(models.resolve(MODEL, store), task, problems, 1, loop)
    pairs = keep_correct(
        task, problems, samples, score_samples(task, problems, samples, loop), 0, loop
    )
    tokenizer = models.load_tokenizer(models.TOYS / MODEL)
    return [tokens(pair, tokenizer) for pair in pairs.records(Pair)]


def ours(plan: list[list[Example]], dtype: str, compiled: bool) -> Run:
    """The M-step's steps on these batches. Raises NotCompiled."""
    config = Loop(
        model=MODEL,
        task="toy-math",
        dtype=dtype,
        batch_size=BATCH,
        micro_batch_size=BATCH,
        learning_rate=RATE,
    )
    start = time.perf_counter()
    longest = max(example.length for batch in plan for example in batch)
    one = Learner(models.TOYS / MODEL, longest, 0, 0, config, compiled)
    preparing = time.perf_counter() - start
    losses, ends = [], []
    for step, batch in enumerate(plan):
        summed = one.step(batch, RATE * training.schedule(step, len(plan), WARMUP))
        losses.append(summed / sum(len(example.target) for example in batch))
        ends.append(time.perf_counter())
    counted = plan[UNCOUNTED:]
    useful = sum(example.length for batch in counted for example in batch)
    computed = sum(example.length for batch in counted for example, _ in distinct(batch))
    return Run(losses, ends[-1] - ends[UNCOUNTED - 1], useful, computed, preparing)


def trl(plan: list[list[Example]], dtype: str, order: str, attention: str) -> Run:
    """SFTTrainer on the examples of these batches, drawn in its way `order` ("sequential": ours)."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ends, useful, preparing = [], [], time.perf_counter()

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    class Counting(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            useful.append(int(inputs["attention_mask"].sum()))
            return super().training_step(model, inputs, *rest, **more)

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            # Ours: trl's own wastes the first step on a rate of zero.
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda step: training.schedule(step, num_training_steps, WARMUP),
            )
            return self.lr_scheduler

    model = models.load_model(models.TOYS / MODEL, torch.float32)
    model.set_attn_implementation(attention)
    examples = [example for batch in plan for example in batch]
    data = Dataset.from_dict(
        {
            "input_ids": [example.prompt + example.target for example in examples],
            "completion_mask": [
                [0] * len(example.prompt) + [1] * len(example.target) for example in examples
            ],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Counting(
            model,
            SFTConfig(
                folder,
                completion_only_loss=True,
                train_sampling_strategy=order,
                max_steps=len(plan),
                per_device_train_batch_size=BATCH,
                learning_rate=RATE,
                adam_beta2=0.95,
                weight_decay=0.01,
                max_grad_norm=1.0,
                bf16=dtype == "bfloat16",
                gradient_checkpointing=False,
                max_length=None,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=data,
            processing_class=models.load_tokenizer(models.TOYS / MODEL),
            callbacks=[Clock()],
        )
        trainer.log = lambda logs, *_: trainer.state.log_history.append(logs)  # without printing
        preparing = time.perf_counter() - preparing
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    counted = sum(useful[UNCOUNTED:])
    return Run(losses, ends[-1] - ends[UNCOUNTED - 1], counted, counted, preparing)


def flops(length: float) -> float:
    """Of a training step, a token of a sequence of `length`: six a weight but the embedding's, and attention."""
    model = models.load_model(models.TOYS / MODEL, torch.float32)
    config = model.config
    table = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is table  # then it is the head's, which is used
    weights = sum(p.numel() for p in model.parameters()) - (0 if tied else table.numel())
    return 6 * weights + 12 * config.num_hidden_layers * config.hidden_size * length


def measure(store: Path, steps: int, rounds: int) -> dict[str, Any]:
    """Medians over the rounds, in which all take their turns."""
    examples = kept_pairs(store)
    plan = [
        [examples[i] for i in batch]
        for batch in batches([example.length for example in examples], BATCH, 0, 0)
        if len(batch) == BATCH
    ][:steps]
    dtypes = ["float32", *(["bfloat16"] if models.quick_bfloat16() else [])]
    contenders: dict[str, Callable[[], Run]] = {}
    for dtype in dtypes:
        contenders[f"ours {dtype}"] = lambda dtype=dtype: ours(plan, dtype, False)
        if compiles(models.TOYS / MODEL, 0, "always"):
            contenders[f"ours {dtype} compiled"] = lambda dtype=dtype: ours(plan, dtype, True)
        for order in ("random", "group_by_length", "sequential"):
            for attention in ("sdpa", "eager"):
                contenders[f"trl {dtype} {order} {attention}"] = (
                    lambda dtype=dtype, order=order, attention=attention: trl(
                        plan, dtype, order, attention
                    )
                )
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    peaks: list[dict[str, float]] = []
    for _ in range(rounds):
        peaks.append(machine.matmul_peak())
        for name, contender in contenders.items():
            try:
                runs[name].append(contender())
            except NotCompiled as error:
                print(f"{name}: {error}")
    peak = {name: statistics.median(one[name] for one in peaks) for name in peaks[0]}
    each = flops(statistics.mean(example.length for example in examples))
    table = {}
    for name, done in runs.items():
        if done:
            speeds = [run.useful / run.seconds for run in done]
            computed = statistics.median(run.computed / run.seconds for run in done)
            table[name] = {
                "tokens_per_s": statistics.median(speeds),
                "lowest": min(speeds),
                "highest": max(speeds),
                "computed_tokens_per_s": computed,
                "share_of_peak": computed * each / peak[name.split()[1]],
                "preparing_s": [run.preparing for run in done],
                "last_losses": statistics.mean(done[0].losses[-(steps // 4) :]),
            }

    def best(of: str, what: str = "tokens_per_s") -> float:
        return max(row[what] for name, row in table.items() if name.startswith(of))

    same = [
        table["ours float32"]["last_losses"],
        table["trl float32 sequential sdpa"]["last_losses"],
    ]
    first = runs["ours float32"][0]
    return {
        **machine.describe("trl"),
        "pairs": len(examples),
        "mean_tokens": statistics.mean(example.length for example in examples),
        "mean_target_tokens": statistics.mean(len(example.target) for example in examples),
        "steps": steps,
        "rounds": rounds,
        "matmul_flops": peak,
        "training_flops_a_token": each,
        "copies": 1 - first.computed / first.useful,
        "each": table,
        "loss_difference": abs(same[0] / same[1] - 1),
        "loss_tolerance": TOLERANCE,
        "losses_equal": abs(same[0] / same[1] - 1) <= TOLERANCE,
        "tokens_per_s": best("ours"),
        "trl_tokens_per_s": best("trl"),
        "ratio_vs_trl": best("ours") / best("trl"),
        "ratio_vs_trl_in_random_order": best("ours")
        / max(row["tokens_per_s"] for name, row in table.items() if " random " in name),
        "ratio_if_copies_did_not_count": best("ours", "computed_tokens_per_s") / best("trl"),
        "bar": BAR,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--save", action="store_true", help="also write it to benchmarks/results/")
    parser.add_argument("--steps", type=int, default=24, help="optimiser steps a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--store",
        type=Path,
        default=Path(tempfile.gettempdir()) / "restem-benchmarks",
        help="where the pairs are kept between runs (making them takes minutes)",
    )
    options = parser.parse_args()
    result = measure(options.store, options.steps, options.rounds)
    for name, row in result["each"].items():
        print(
            f"{name:<36} {row['tokens_per_s']:>8,.0f} tokens/s ({row['lowest']:,.0f} to {row['highest']:,.0f}), "
            f"{row['share_of_peak']:.0%} of the matmul peak, loss {row['last_losses']:.5f}, "
            f"ready after {', '.join(f'{s:.1f}' for s in row['preparing_s'])} s"
        )
    for name, value in result.items():
        if isinstance(value, int | float) and name not in ("cores", "threads"):
            print(f"{name:<30} {value:,.3f}")
    if options.save:
        print(machine.save("finetuning", result))
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
