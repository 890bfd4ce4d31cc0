"""The command line: `restem --help` lists the commands."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from restem_lib import UserError, __version__, commands, runner, surveys
from restem_lib.config import Common
from restem_lib.ladder import LADDER

_MODEL = "Hub id, local folder, .gguf file or toy model"
_TEST = f"the first of the task to evaluate on (default: {commands.TEST_PROBLEMS}, or all if there are fewer)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 after an error, 2 for bad usage, 130 after Ctrl-C or SIGTERM."""
    args = _parser().parse_args(arguments)
    # Pre-emption ends as cleanly as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return int(args.command(args) or 0)
    except KeyboardInterrupt:
        print(
            "\nStopped. Stages that are finished are kept: run the same command again to go on from there.",
            file=sys.stderr,
        )
        return 130
    except UserError as error:
        print(f"restem: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="restem", description="ReST^EM: sample, keep what is right, fine-tune, repeat."
    )
    parser.add_argument("--version", action="version", version=f"restem {__version__}")
    parsers = parser.add_subparsers(required=True, metavar="command")

    def add(
        name: str, command: Callable[[argparse.Namespace], int | None], text: str
    ) -> argparse.ArgumentParser:
        sub = parsers.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    runner.add_run(add("run", runner.run_command, "run notebooks with papermill at a preset"))
    runner.add_publish(
        add(
            "publish",
            runner.publish_command,
            "copy a preset's results, figures and notebooks into the project",
        )
    )

    text = (
        "hours, memory and disk of a preset on this machine or on a cluster, before anything runs"
    )
    surveys.add_plan(add("plan", surveys.plan, text))

    train = add("train", commands.train, "run the EM loop on a model and a task of one's own")
    _add_what(train)
    train.add_argument("--iterations", type=int, default=1)
    _add_sizes(train, problems=200, samples=8)
    train.add_argument(
        "--val-problems",
        type=int,
        default=0,
        help="held out for the stopping rule; 0: a tenth, at least 100",
    )
    train.add_argument("--test-problems", type=int, help=f"{_TEST}; 0: all")
    train.add_argument(
        "--pass-k-samples",
        type=int,
        default=0,
        help="also draw so many samples a test problem for pass@k",
    )
    train.add_argument(
        "--learning-rate",
        type=float,
        help=f"default {commands.RATE:g}; {commands.TOY_RATE:g} for toy models",
    )
    train.add_argument("--batch-size", type=int, default=Common.batch_size)
    train.add_argument(
        "--micro-batch-size",
        type=int,
        default=8,
        help="sequences a forward pass: smaller needs less memory",
    )
    train.add_argument("--max-epochs", type=float, default=Common.max_epochs)
    train.add_argument(
        "--eval-every", type=float, default=Common.eval_every, help="epochs between validations"
    )
    train.add_argument("--patience", type=int, default=Common.patience)
    train.add_argument(
        "--lora-rank",
        type=int,
        default=Common.lora_rank,
        help="train adapters of this rank and merge them at the end; 0: full fine-tuning",
    )
    train.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="less memory, more time in the M-step",
    )
    train.add_argument(
        "--compile",
        choices=("auto", "always", "never"),
        default=Common.compile,
        help="the M-step under torch.compile; auto: where it is long enough to pay",
    )
    train.add_argument(
        "--accelerate-config",
        default="",
        help="a file of `accelerate config`: M-steps run on its processes",
    )
    train.add_argument(
        "--cap", type=int, default=Common.cap, help="kept samples a problem at most; 0: no cap"
    )
    train.add_argument(
        "--keep",
        choices=("correct", "random"),
        default="correct",
        help="random: the control without reward",
    )
    train.add_argument("--dedup", action="store_true", help="keep identical completions once")
    train.add_argument(
        "--start", choices=("base", "last"), default="base", help="where each M-step starts"
    )
    _add_sampling(train)

    for name, command, text in (
        ("sample", commands.sample, "draw samples of training problems (the E-step's first half)"),
        (
            "score",
            commands.score,
            "score samples of training problems, drawing those that are not there yet",
        ),
    ):
        sub = add(name, command, text)
        _add_what(sub)
        _add_sizes(sub, problems=200, samples=8)
        _add_sampling(sub)

    evaluate = add(
        "evaluate",
        commands.evaluate,
        "greedy pass@1, pass@k and majority vote on test problems, with intervals",
    )
    _add_what(evaluate)
    evaluate.add_argument("--test-problems", type=int, help=f"{_TEST}; 0: all")
    evaluate.add_argument(
        "--samples",
        type=int,
        default=0,
        help="samples a problem for pass@k at temperature 1, top-p 0.95",
    )
    evaluate.add_argument(
        "--all-tests",
        action="store_true",
        help="programs: run all tests of each, and give the mean share passed",
    )
    evaluate.add_argument(
        "--against",
        metavar="MODEL",
        help="also compare with this model on the same problems, paired",
    )
    _add_engine(evaluate)

    table = add(
        "base-table",
        commands.make_base_table,
        "measure the project's base models beside the paper's: results/base.csv, README, model cards",
    )
    table.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="toy models to measure; rows of others stay (default: all that the project ships)",
    )
    table.add_argument(
        "--test-problems",
        type=int,
        default=0,
        help="of each task at most; the table is then only printed (default: 500; toy-bbh 600, toy-humaneval 164, "
        "toy-exam 660)",
    )
    table.add_argument(
        "--unsafe-programs",
        action="store_true",
        help="run model-written programs with your own rights where no sandbox works",
    )
    table.add_argument("--out", default="runs", help="root of the store")

    tasks = add("tasks", surveys.tasks, "list benchmarks: what is there, and what overlaps")
    tasks.add_argument("tasks", nargs="*", metavar="task", help="default: all")
    tasks.add_argument("--all", action="store_true", help="also print pairs without overlap")
    _add_data(tasks)

    verify = add(
        "verify-apps",
        surveys.verify,
        "list the APPS train problems of which a human solution passes the tests",
    )
    verify.add_argument("ids", type=Path, help="the file to write")
    verify.add_argument("--unsafe-programs", action="store_true")
    _add_data(verify)

    audit = add(
        "audit-rewards",
        surveys.audit_rewards,
        "how often the reward for final answers errs, beside string equality and math-verify",
    )
    audit.add_argument(
        "--limit",
        type=int,
        default=100,
        help="gold answers a benchmark at most (100: about 4 minutes on two cores); 0: all",
    )
    _add_data(audit)

    exam = add("exam", surveys.exam_sheet, "the Hungarian exam, graded by hand")
    exams = exam.add_subparsers(required=True, metavar="action")
    sheet = exams.add_parser("sheet", help="write a sheet with a model's solutions to fill in")
    sheet.set_defaults(command=surveys.exam_sheet)
    sheet.add_argument("sheet", type=Path, help="the CSV file to make")
    sheet.add_argument("--model", required=True, help=_MODEL)
    sheet.add_argument("--max-new-tokens", type=int, default=512)
    sheet.add_argument("--out", default="runs", help="root of the store")
    _add_data(sheet)
    read = exams.add_parser("read", help="the result of a sheet with points given")
    read.set_defaults(command=surveys.exam_read)
    read.add_argument("sheet", type=Path)

    pretrain = add("pretrain", commands.pretrain, "train a toy base model from scratch")
    pretrain.add_argument(
        "name",
        choices=tuple(LADDER),
    )
    pretrain.add_argument(
        "--out", type=Path, help="the model folder to make (default: runs/pretrained/NAME)"
    )
    pretrain.add_argument("--seed", type=int, help="another one than the recipe's")

    runs = add("runs", surveys.runs, "list, explain, verify and delete stages of the store")
    runs.add_argument(
        "action", nargs="?", choices=("list", "explain", "verify", "delete"), default="list"
    )
    runs.add_argument("stages", nargs="*", metavar="stage", help="names, or the beginning of one")
    runs.add_argument("--out", default="runs", help="root of the store")

    doctor = add("doctor", surveys.doctor, "what is installed here, what is missing, how to get it")
    doctor.add_argument("--json", action="store_true")
    return parser


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=_MODEL)
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
    _add_data(parser)
    parser.add_argument("--out", default="runs", help="root of the store")
    parser.add_argument("--seed", type=int, default=0)


def _add_data(parser: argparse.ArgumentParser) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
