"""The flags of the commands that run the loop: `restem train`, `sample`, `score` and `evaluate`."""

from __future__ import annotations

import argparse

from restem_lib import commands
from restem_lib.config import Common

MODEL = "Hub id, local folder, .gguf file or toy model"
_TEST = f"the first of the task to evaluate on (default: {commands.TEST_PROBLEMS}, or all if there are fewer)"


def add_train(parser: argparse.ArgumentParser) -> None:
    """The flags of `restem train`."""
    _add_what(parser)
    parser.add_argument("--iterations", type=int, default=1)
    _add_sizes(parser, problems=200, samples=8)
    parser.add_argument(
        "--val-problems",
        type=int,
        default=0,
        help="held out for the stopping rule; 0: a tenth, at least 100",
    )
    parser.add_argument("--test-problems", type=int, help=f"{_TEST}; 0: all")
    parser.add_argument(
        "--pass-k-samples",
        type=int,
        default=0,
        help="also draw so many samples a test problem for pass@k",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        help=f"default {commands.RATE:g}; {commands.TOY_RATE:g} for toy models",
    )
    parser.add_argument("--batch-size", type=int, default=Common.batch_size)
    parser.add_argument(
        "--micro-batch-size",
        type=int,
        default=8,
        help="sequences a forward pass: smaller needs less memory",
    )
    parser.add_argument("--max-epochs", type=float, default=Common.max_epochs)
    parser.add_argument(
        "--eval-every", type=float, default=Common.eval_every, help="epochs between validations"
    )
    parser.add_argument("--patience", type=int, default=Common.patience)
    parser.add_argument(
        "--lora-rank",
        type=int,
        default=Common.lora_rank,
        help="train adapters of this rank and merge them at the end; 0: full fine-tuning",
    )
    parser.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="less memory, more time in the M-step",
    )
    parser.add_argument(
        "--compile",
        choices=("auto", "always", "never"),
        default=Common.compile,
        help="the M-step under torch.compile; auto: where it is long enough to pay",
    )
    parser.add_argument(
        "--accelerate-config",
        default="",
        help="a file of `accelerate config`: M-steps run on its processes",
    )
    parser.add_argument(
        "--cap", type=int, default=Common.cap, help="kept samples a problem at most; 0: no cap"
    )
    parser.add_argument(
        "--keep",
        choices=("correct", "random"),
        default="correct",
        help="random: the control without reward",
    )
    parser.add_argument("--dedup", action="store_true", help="keep identical completions once")
    parser.add_argument(
        "--start", choices=("base", "last"), default="base", help="where each M-step starts"
    )
    _add_sampling(parser)


def add_sample(parser: argparse.ArgumentParser) -> None:
    """The flags of `restem sample` and `restem score`."""
    _add_what(parser)
    _add_sizes(parser, problems=200, samples=8)
    _add_sampling(parser)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The flags of `restem evaluate`."""
    _add_what(parser)
    parser.add_argument("--test-problems", type=int, help=f"{_TEST}; 0: all")
    parser.add_argument(
        "--samples",
        type=int,
        default=0,
        help="samples a problem for pass@k at temperature 1, top-p 0.95",
    )
    parser.add_argument(
        "--all-tests",
        action="store_true",
        help="programs: run all tests of each, and give the mean share passed",
    )
    parser.add_argument(
        "--against",
        metavar="MODEL",
        help="also compare with this model on the same problems, paired",
    )
    _add_engine(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=MODEL)
    parser.add_argument(
        "--task",
        required=True,
        help="one of `restem tasks`, or a .jsonl file with id, prompt, and answer or tests",
    )
    parser.add_argument(
        "--unsafe-programs",
        action="store_true",
        help="run model-written programs with your own rights where no sandbox works",
    )
    add_data(parser)
    parser.add_argument("--out", default="runs", help="root of the store")
    parser.add_argument("--seed", type=int, default=0)


def add_data(parser: argparse.ArgumentParser) -> None:
    """The flag for local benchmarks, of all commands that read some."""
    parser.add_argument(
        "--data-dir",
        default="",
        help="folder of local benchmarks (default: RESTEM_DATA, then the Hub)",
    )


def _add_sizes(parser: argparse.ArgumentParser, problems: int, samples: int) -> None:
    parser.add_argument("--problems", type=int, default=problems, help="training problems; 0: all")
    parser.add_argument(
        "--samples", type=int, default=samples, help="samples a problem and iteration"
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--temperature", type=float, default=Common.temperature)
    parser.add_argument("--top-k", type=int, default=Common.top_k)
    _add_engine(parser)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument(
        "--rows",
        type=int,
        default=Common.rows,
        help="samples worked on at a time: fewer need less memory",
    )
    parser.add_argument(
        "--engine",
        choices=("torch", "vllm"),
        default=Common.engine,
        help="vllm: for GPUs, installed apart",
    )
    parser.add_argument(
        "--memory-share",
        type=float,
        default=Common.memory_share,
        help="share of a GPU's memory that vLLM may take",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default=Common.executor,
        help="ray: draw and score samples on a Ray cluster",
    )
    parser.add_argument(
        "--ray-address", default="", help="default: RAY_ADDRESS, then a cluster on this machine"
    )
    parser.add_argument("--worker-cpus", type=int, default=Common.worker_cpus, help="Ray: cores")
    parser.add_argument("--worker-gpus", type=int, default=Common.worker_gpus, help="Ray: GPUs")
    parser.add_argument(
        "--problem-block", type=int, default=Common.problem_block, help="problems a shard"
    )
    parser.add_argument(
        "--sample-block", type=int, default=Common.sample_block, help="samples a problem in a shard"
    )
