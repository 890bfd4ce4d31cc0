"""The command line: `restem --help` lists the commands."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from restem_lib import UserError, __version__, arguments, commands, runner, surveys
from restem_lib.ladder import LADDER


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 after an error, 2 for bad usage, 130 after Ctrl-C or SIGTERM."""
    args = _parser().parse_args(words)
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

    text = "run the EM loop on a model and a task of one's own"
    arguments.add_train(add("train", commands.train, text))

    for name, command, text in (
        ("sample", commands.sample, "draw samples of training problems (the E-step's first half)"),
        (
            "score",
            commands.score,
            "score samples of training problems, drawing those that are not there yet",
        ),
    ):
        arguments.add_sample(add(name, command, text))

    arguments.add_evaluate(
        add(
            "evaluate",
            commands.evaluate,
            "greedy pass@1, pass@k and majority vote on test problems, with intervals",
        )
    )

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
    arguments.add_data(tasks)

    verify = add(
        "verify-apps",
        surveys.verify,
        "list the APPS train problems of which a human solution passes the tests",
    )
    verify.add_argument("ids", type=Path, help="the file to write")
    verify.add_argument("--unsafe-programs", action="store_true")
    arguments.add_data(verify)

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
    arguments.add_data(audit)

    exam = add("exam", surveys.exam_sheet, "the Hungarian exam, graded by hand")
    exams = exam.add_subparsers(required=True, metavar="action")
    sheet = exams.add_parser("sheet", help="write a sheet with a model's solutions to fill in")
    sheet.set_defaults(command=surveys.exam_sheet)
    sheet.add_argument("sheet", type=Path, help="the CSV file to make")
    sheet.add_argument("--model", required=True, help=arguments.MODEL)
    sheet.add_argument("--max-new-tokens", type=int, default=512)
    sheet.add_argument("--out", default="runs", help="root of the store")
    arguments.add_data(sheet)
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


if __name__ == "__main__":
    sys.exit(main())
