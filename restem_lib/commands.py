"""What each command of the command line does; cli.py reads its arguments."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from restem_lib.config import ConfigError, Loop

if TYPE_CHECKING:
    from restem_lib.evaluation import Outcome
    from restem_lib.records import Evaluation, Problem, Score
    from restem_lib.store import Shards
    from restem_lib.tasks import Task

TOY_RATE, RATE = 3e-4, 1e-5
"""Learning rates unless told: a toy model of two million parameters wants a larger one than a real model."""
TEST_PROBLEMS = 200


def _loop(args: argparse.Namespace) -> Loop:
    given = {
        name: value
        for name, value in vars(args).items()
        if name in Loop.__dataclass_fields__ and value is not None
    }
    if given.get("learning_rate") is None:
        given["learning_rate"] = TOY_RATE if "toy-" in args.model else RATE
    return Loop(**given, runs_dir=args.out)


def _ready(args: argparse.Namespace) -> tuple[Loop, Task]:
    from restem_lib.tasks import load_task

    loop = _loop(args)
    task = load_task(loop.task, loop.data_dir)
    if getattr(args, "test_problems", None) is None:
        loop = replace(loop, test_problems=min(TEST_PROBLEMS, len(task.test)))
    return loop, task


def train(args: argparse.Namespace) -> None:
    from restem_lib import em, evaluation, models
    from restem_lib.records import Pair

    loop, task = _ready(args)
    problems, validation = em.split(task, loop)
    test = em.held_out(task, loop)
    base = models.resolve(loop.model, loop.runs_dir)
    print(
        f"{loop.iterations} iterations of ReST^EM: {loop.model} on {task.name}; {len(problems)} problems x "
        f"{loop.samples} samples, {len(validation)} to validate, {len(test)} to test; "
        f"learning rate {loop.learning_rate:g}"
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
            f"iteration {turn.number}: {right} of {drawn} samples right, {kept} kept; M-step best at epoch "
            f"{best.epoch:g} (validation {best.reward:.3f}, n={best.problems}); "
            f"seconds: sampling {turn.samples.seconds():.0f}, "
            f"scoring {turn.scores.seconds():.0f}, fine-tuning {turn.tuned.seconds:.0f}"
        )
        _say(f"iteration {turn.number}", measure(model))
    first = evaluation.greedy(base, task, test, loop)
    last = evaluation.greedy(model, task, test, loop)
    _compare("greedy pass@1, last iteration against base", first, last)
    print(f"model: {model}")


def _scores(scores: Shards) -> Iterator[Score]:
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


def _drawn(args: argparse.Namespace) -> tuple[Loop, Task, list[Problem], Shards]:
    from restem_lib import em, models
    from restem_lib.engines import Sampling
    from restem_lib.sampling import draw_samples

    loop, task = _ready(args)
    problems, _ = em.split(task, loop)
    model = models.resolve(loop.model, loop.runs_dir)
    sampling = Sampling(loop.temperature, loop.top_k, 1.0, loop.max_new_tokens, task.stop)
    return (
        loop,
        task,
        problems,
        draw_samples(model, task, problems, loop.samples, sampling, "e-step-1", loop.seed, loop),
    )


def sample(args: argparse.Namespace) -> None:
    loop, _, problems, samples = _drawn(args)
    print(
        f"{len(problems)} problems x {loop.samples} samples in {len(samples.names)} shards: {samples.stage.folder}"
    )


def score(args: argparse.Namespace) -> None:
    from restem_lib.scoring import score_samples

    loop, _, problems, samples = _drawn(args)
    scores = score_samples(problems, samples, loop)
    verdicts = Counter(score.verdict for score in _scores(scores))
    total = sum(verdicts.values())
    for verdict, count in verdicts.most_common():
        print(f"{verdict:>10}  {count:>7}  {count / total:6.1%}")
    print(f"{total} scores: {scores.stage.folder}")


def evaluate(args: argparse.Namespace) -> None:
    from restem_lib import em, evaluation, models

    wanted, args.samples = args.samples, 1
    loop, task = _ready(args)
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


def pretrain(args: argparse.Namespace) -> None:
    from restem_lib.pretrain import pretrain

    if args.out.exists():
        raise ConfigError(f"{args.out} exists already; choose another folder or move it away")
    start = time.monotonic()
    pretrain(args.size, args.out, seed=args.seed)
    print(f"{args.out}: done in {time.monotonic() - start:.0f} s")


def runs(args: argparse.Namespace) -> None:
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


def doctor(args: argparse.Namespace) -> None:
    from restem_lib.doctor import examine, report

    found = examine()
    print(json.dumps(found, indent=1) if args.json else report(found))
