"""The command line: `restem run|train|sample|score|evaluate|pretrain|runs|publish|doctor`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restem_lib import __version__
from restem_lib.config import Common, ConfigError, Loop

if TYPE_CHECKING:
    from restem_lib.evaluation import Outcome
    from restem_lib.records import Evaluation, Problem
    from restem_lib.tasks import Task

TOY_RATE, RATE = 3e-4, 1e-5
"""Learning rates unless told: a toy model of two million parameters wants a larger one than a real model."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 after an error, 2 for bad usage, 130 after Ctrl-C or SIGTERM."""
    args = _parser().parse_args(arguments)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # pre-emption ends as cleanly as Ctrl-C
    try:
        return int(args.command(args) or 0)
    except KeyboardInterrupt:
        print(
            "\nStopped. What is finished is kept: run the same command again to go on from there.",
            file=sys.stderr,
        )
        return 130
    except Exception as error:
        if not _for_people(error):
            raise
        print(f"restem: {error}", file=sys.stderr)
        return 1


def _for_people(error: Exception) -> bool:
    """Whether the error's text says all a user needs; anything else is a bug and keeps its traceback."""
    names = {"ConfigError", "StoreError", "TaskError", "ModelError", "NothingKept", "Diverged", "NotebookError"}
    return type(error).__name__ in names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="restem", description="ReST^EM: sample, keep what is right, fine-tune, repeat."
    )
    parser.add_argument("--version", action="version", version=f"restem {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(
        name: str, command: Callable[[argparse.Namespace], int | None], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    from restem_lib import runner

    runner.add_run(add("run", runner.run_command, "run notebooks with papermill at a preset"))
    runner.add_publish(
        add(
            "publish",
            runner.publish_command,
            "copy a preset's results, figures and notebooks into the project",
        )
    )

    train = add("train", _train, "run the EM loop on a model and a task of one's own")
    _add_what(train)
    train.add_argument("--iterations", type=int, default=1)
    _add_sizes(train, problems=200, samples=8)
    train.add_argument(
        "--val-problems",
        type=int,
        default=0,
        help="held out for the stopping rule; 0: a tenth, at least 100",
    )
    train.add_argument(
        "--test-problems", type=int, default=200, help="evaluated before and after; 0: all"
    )
    train.add_argument(
        "--pass-k-samples",
        type=int,
        default=0,
        help="also draw so many samples a test problem for pass@k",
    )
    train.add_argument(
        "--learning-rate", type=float, help=f"default {RATE:g}; {TOY_RATE:g} for toy models"
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
        ("sample", _sample, "draw samples of training problems (the E-step's first half)"),
        (
            "score",
            _score,
            "score samples of training problems, drawing those that are not there yet",
        ),
    ):
        sub = add(name, command, text)
        _add_what(sub)
        _add_sizes(sub, problems=200, samples=8)
        _add_sampling(sub)

    evaluate = add(
        "evaluate",
        _evaluate,
        "greedy pass@1, pass@k and majority vote on test problems, with intervals",
    )
    _add_what(evaluate)
    evaluate.add_argument(
        "--test-problems", type=int, default=200, help="the first of the task; 0: all"
    )
    evaluate.add_argument(
        "--samples",
        type=int,
        default=0,
        help="samples a problem for pass@k at temperature 1, top-p 0.95",
    )
    evaluate.add_argument(
        "--against",
        metavar="MODEL",
        help="also compare with this model on the same problems, paired",
    )
    _add_engine(evaluate)

    pretrain = add("pretrain", _pretrain, "train a toy base model from scratch")
    pretrain.add_argument("size", choices=("toy-s", "toy-m"))
    pretrain.add_argument("--out", required=True, type=Path, help="the model folder to make")
    pretrain.add_argument("--seed", type=int, default=0)

    runs = add("runs", _runs, "list, explain and delete stages of the store")
    runs.add_argument("action", nargs="?", choices=("list", "explain", "delete"), default="list")
    runs.add_argument("stages", nargs="*", metavar="stage", help="names, or the beginning of one")
    runs.add_argument("--out", default="runs", help="root of the store")

    doctor = add("doctor", _doctor, "what is installed here, what is missing, how to get it")
    doctor.add_argument("--json", action="store_true")
    return parser


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", required=True, help="Hub id, local folder, .gguf file or toy model"
    )
    parser.add_argument(
        "--task", required=True, help="toy-math, gsm8k, or a .jsonl file with id, prompt, answer"
    )
    parser.add_argument(
        "--data-dir",
        default="",
        help="folder of local benchmarks (default: RESTEM_DATA, then the Hub)",
    )
    parser.add_argument("--out", default="runs", help="root of the store")
    parser.add_argument("--seed", type=int, default=0)


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
        "--problem-block", type=int, default=Common.problem_block, help="problems a shard"
    )
    parser.add_argument(
        "--sample-block", type=int, default=Common.sample_block, help="samples a problem in a shard"
    )


def _loop(args: argparse.Namespace) -> Loop:
    given = {
        name: value
        for name, value in vars(args).items()
        if name in Loop.__dataclass_fields__ and value is not None
    }
    if given.get("learning_rate") is None:
        given["learning_rate"] = TOY_RATE if "toy-" in args.model else RATE
    return Loop(**given, runs_dir=args.out)


def _load(loop: Loop) -> Task:
    from restem_lib.tasks import load_task

    return load_task(loop.task, loop.data_dir)


def _train(args: argparse.Namespace) -> None:
    from restem_lib import em, evaluation, models
    from restem_lib.records import Pair

    loop = _loop(args)
    task = _load(loop)
    problems, validation = em.split(task, loop)
    test = em.held_out(task, loop)
    base = models.resolve(loop.model, loop.runs_dir)
    print(
        f"{loop.iterations} iterations of ReST^EM: {loop.model} on {task.name}; {len(problems)} problems x {loop.samples} "
        f"samples, {len(validation)} to validate, {len(test)} to test; learning rate {loop.learning_rate:g}"
    )

    def measure(model: Path) -> list[Evaluation]:
        numbers = [evaluation.greedy(model, task, test, loop).pass_at_k(1)]
        if args.pass_k_samples:
            drawn = evaluation.sampled(model, task, test, args.pass_k_samples, loop.seed, loop)
            numbers += [drawn.pass_at_k(1), drawn.pass_at_k(args.pass_k_samples)]
        return numbers

    before = measure(base)
    _say("base", before)
    model = base
    for turn in em.rest_em(loop, task):
        model = turn.model
        drawn = sum(1 for _ in _scores(turn.scores))
        right = sum(score.reward for score in _scores(turn.scores))
        kept = sum(1 for _ in turn.pairs.records(Pair))
        best = next(c for c in turn.tuned.history if c.best)
        print(
            f"iteration {turn.number}: {right} of {drawn} samples right, {kept} kept; M-step best at epoch {best.epoch:g} "
            f"(validation {best.reward:.3f}, n={best.problems}); seconds: sampling {turn.samples.seconds():.0f}, "
            f"scoring {turn.scores.seconds():.0f}, fine-tuning {turn.tuned.seconds:.0f}"
        )
        _say(f"iteration {turn.number}", measure(model))
    first = evaluation.greedy(base, task, test, loop)
    last = evaluation.greedy(model, task, test, loop)
    _compare("greedy pass@1, last iteration against base", first, last)
    print(f"model: {model}")


def _scores(scores: Any) -> Any:
    from restem_lib.records import Score

    return scores.records(Score)


def _say(name: str, numbers: Sequence[Evaluation]) -> None:
    for number in numbers:
        label = number.metric.replace("k", str(number.k)) if number.samples > 1 else "greedy pass@1"
        interval = f"{number.low:.3f} to {number.high:.3f}"
        print(
            f"{name:>12}  {label:<14} {number.value:.3f} (95 % interval {interval}, n={number.problems})",
            flush=True,
        )


def _compare(what: str, first: Outcome, second: Outcome) -> None:
    import numpy as np

    from restem_lib.statistics import mcnemar, paired_difference

    a, b = first.correct[:, 0], second.correct[:, 0]
    change = paired_difference(a.astype(float), b.astype(float), np.random.default_rng(0))
    test = mcnemar(a, b)
    print(
        f"{what}: {change.value:+.3f} (95 % interval {change.low:+.3f} to {change.high:+.3f}, paired, n={change.n}; "
        f"{test.only_b} gained, {test.only_a} lost, McNemar p = {test.p:.2g})"
    )


def _drawn(args: argparse.Namespace) -> tuple[Loop, Task, list[Problem], Any]:
    from restem_lib import em, models
    from restem_lib.engines import Sampling
    from restem_lib.sampling import draw_samples

    loop = _loop(args)
    task = _load(loop)
    problems, _ = em.split(task, loop)
    model = models.resolve(loop.model, loop.runs_dir)
    sampling = Sampling(loop.temperature, loop.top_k, 1.0, loop.max_new_tokens, task.stop)
    return (
        loop,
        task,
        problems,
        draw_samples(model, task, problems, loop.samples, sampling, "e-step-1", loop.seed, loop),
    )


def _sample(args: argparse.Namespace) -> None:
    loop, _, problems, samples = _drawn(args)
    print(
        f"{len(problems)} problems x {loop.samples} samples in {len(samples.names)} shards: {samples.stage.folder}"
    )


def _score(args: argparse.Namespace) -> None:
    from restem_lib.scoring import score_samples

    loop, _, problems, samples = _drawn(args)
    scores = score_samples(problems, samples, loop)
    verdicts = Counter(score.verdict for score in _scores(scores))
    total = sum(verdicts.values())
    for verdict, count in verdicts.most_common():
        print(f"{verdict:>10}  {count:>7}  {count / total:6.1%}")
    print(f"{total} scores: {scores.stage.folder}")


def _evaluate(args: argparse.Namespace) -> None:
    from restem_lib import em, evaluation, models

    wanted, args.samples = args.samples, 1
    loop = _loop(args)
    task = _load(loop)
    test = em.held_out(task, loop)

    def measure(name: str) -> Outcome:
        model = models.resolve(name, loop.runs_dir)
        decoded = evaluation.greedy(model, task, test, loop)
        numbers = [decoded.pass_at_k(1)]
        if wanted:
            drawn = evaluation.sampled(model, task, test, wanted, loop.seed, loop)
            numbers += [drawn.pass_at_k(k) for k in sorted({1, min(4, wanted), wanted})] + [
                drawn.majority()
            ]
        _say(Path(name).name, numbers)
        return decoded

    outcome = measure(args.model)
    if args.against:
        _compare(
            f"greedy pass@1, {args.model} against {args.against}", measure(args.against), outcome
        )


def _pretrain(args: argparse.Namespace) -> None:
    from restem_lib.pretrain import pretrain

    if args.out.exists():
        raise ConfigError(f"{args.out} exists already; choose another folder or move it away")
    start = time.monotonic()
    pretrain(args.size, args.out, seed=args.seed)
    print(f"{args.out}: done in {time.monotonic() - start:.0f} s")


def _runs(args: argparse.Namespace) -> None:
    from restem_lib.store import delete_stage, open_stage, stages

    found = stages(args.out)
    if args.action == "list" and not args.stages:
        for folder in found:
            stage = open_stage(folder)
            entries = stage.shards()
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            seconds = sum(entry["seconds"] for entry in entries.values())
            settings = stage.key["settings"]
            about = " ".join(
                str(settings[name])
                for name in ("task", "stream", "model", "base")
                if name in settings
            )
            state = f"{len(entries)} files" if entries else "nothing finished"
            print(f"{folder.name}  {state:>16}  {size / 2**20:8.1f} MB  {seconds:7.0f} s  {about}")
        print(f"{len(found)} stages in {Path(args.out) / 'stages'}")
        return
    if not args.stages:
        raise ConfigError(
            f"restem runs {args.action} needs the name of a stage; `restem runs` lists them"
        )
    for name in args.stages:
        matching = [
            folder
            for folder in found
            if folder.name.startswith(name) or folder.name.split("-", 1)[1].startswith(name)
        ]
        if len(matching) != 1:
            raise ConfigError(
                f"{len(matching)} stages in {args.out} begin with {name!r}; `restem runs` lists them"
            )
        if args.action == "delete":
            delete_stage(args.out, matching[0])
            print(f"deleted {matching[0]}")
        else:
            stage = open_stage(matching[0])
            used_by = [
                f.name for f in found if stage.name in json.dumps(open_stage(f).key["settings"])
            ]
            print(
                json.dumps(
                    {**stage.key, "files": stage.shards(), "used by": used_by},
                    indent=1,
                    ensure_ascii=False,
                )
            )


def _doctor(args: argparse.Namespace) -> None:
    from restem_lib.doctor import examine, report

    found = examine()
    print(json.dumps(found, indent=1) if args.json else report(found))


if __name__ == "__main__":
    sys.exit(main())
