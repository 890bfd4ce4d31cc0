"""The commands that run the loop or a part of it; cli.py reads their arguments, surveys.py has the others."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from restem_lib.config import PROJECT, Common, Loop
from restem_lib.keys import ConfigError
from restem_lib.ladder import LADDER
from restem_lib.tasks.toy import LONGEST

if TYPE_CHECKING:
    from restem_lib.evaluation import Outcome
    from restem_lib.records import Evaluation, Problem, Score
    from restem_lib.store import Shards
    from restem_lib.styles import Styled
    from restem_lib.tasks import Task

TOY_RATE, RATE = Common.learning_rate, 1e-5
"""Learning rates unless told: a toy model of two million parameters wants a larger one than a real model."""
TEST_PROBLEMS = 200


def _ready(args: argparse.Namespace) -> tuple[Loop, Task, Path]:
    """The run that the flags describe, its task, and its model's folder."""
    from restem_lib import launching, models
    from restem_lib.rewards import grader
    from restem_lib.tasks import load_task
    from restem_lib.tasks.overlap import overlaps

    flags = {name: value for name, value in vars(args).items() if name in Loop.__dataclass_fields__}
    flags.setdefault("val_problems", 0)  # the same split as train makes
    loop = Loop(
        **{name: value for name, value in flags.items() if value is not None}, runs_dir=args.out
    )
    task = load_task(loop.task, loop.data_dir)
    for note in task.notes:
        print(f"note: {note}")
    for both in overlaps({"train": task.train, "test": task.test}):
        if both.exact or both.partial:
            print(
                f"note: of {both.of} test problems of {task.name} {both.exact} are training problems too, "
                f"{both.partial} share a run of words with one"
            )
    grader(task.grader, loop.unsafe_programs)  # refuses now rather than after the sampling
    launching.check(loop.accelerate_config)
    model = models.resolve(loop.model, loop.runs_dir)
    if flags.get("learning_rate") is None:
        loop = replace(loop, learning_rate=TOY_RATE if models.is_toy(model) else RATE)
    if models.is_toy(model):  # nothing longer was in its text
        loop = replace(loop, max_new_tokens=min(loop.max_new_tokens, LONGEST))
    if flags.get("test_problems") is None:
        loop = replace(loop, test_problems=min(TEST_PROBLEMS, len(task.test)))
    return loop, task, model


def train(args: argparse.Namespace) -> None:
    """Run the EM loop, evaluating before it and after every iteration."""
    from restem_lib import em, evaluation, report
    from restem_lib.records import Pair

    loop, task, base = _ready(args)
    problems, validation = em.split(task, loop)
    test = em.held_out(task, loop)
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
    print(report.change("greedy pass@1, last iteration against base", first, last))
    print(f"model: {model}")


def _scores(scores: Shards) -> Iterator[Score]:
    from restem_lib.records import Score

    return scores.records(Score)


def _say(name: str, numbers: Sequence[Evaluation]) -> None:
    from restem_lib import report

    for number in numbers:
        print(f"{name:>12}  {report.number(number)}", flush=True)


def _drawn(args: argparse.Namespace) -> tuple[Loop, Task, list[Problem], Shards]:
    from restem_lib import em

    loop, task, model = _ready(args)
    problems, _ = em.split(task, loop)
    return loop, task, problems, em.draw(model, task, problems, 1, loop)


def sample(args: argparse.Namespace) -> None:
    """Draw samples of training problems."""
    loop, _, problems, samples = _drawn(args)
    print(
        f"{len(problems)} problems x {loop.samples} samples in {len(samples.names)} shards: {samples.stage.folder}"
    )


def score(args: argparse.Namespace) -> None:
    """Score samples of training problems and count the verdicts."""
    from restem_lib.scoring import score_samples

    loop, task, problems, samples = _drawn(args)
    scores = score_samples(task, problems, samples, loop)
    verdicts = Counter(score.verdict for score in _scores(scores))
    total = sum(verdicts.values())
    for verdict, count in verdicts.most_common():
        print(f"{verdict:>10}  {count:>7}  {count / total:6.1%}")
    print(f"{total} scores: {scores.stage.folder}")


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate a model on test problems, and compare it with another.

    On a toy task by default as many problems as the base table has: the same samples are then shared with it.
    """
    from restem_lib import base_table, em, evaluation, models, report, styles

    wanted, args.samples = args.samples, 1
    if args.test_problems is None:
        args.test_problems = base_table.wanted(args.task) or None
    loop, task, _ = _ready(args)
    if args.all_tests and task.grader != "programs":
        raise ConfigError(f"--all-tests is for tasks of programs; {task.name} has final answers")
    test = em.held_out(task, loop)
    luck = evaluation.luck(task, test)
    if luck:
        print(report.luck(luck))

    def measure(name: str) -> tuple[Outcome, Styled | None]:
        model = models.resolve(name, loop.runs_dir)
        decoded = evaluation.greedy(model, task, test, loop)
        numbers = [decoded.pass_at_k(1)]
        if args.all_tests:
            numbers.append(evaluation.tests_passed(decoded, test, loop))
        drawn = None
        if wanted:
            drawn = evaluation.sampled(model, task, test, wanted, loop.seed, loop)
            numbers += [drawn.pass_at_k(k) for k in sorted({1, min(4, wanted), wanted})]
            if task.grader != "programs":  # which differ in wording, not in answer
                numbers.append(drawn.majority())
        _say(Path(name).name, numbers)
        lines = _beside(model, task, numbers) + report.exam(decoded, task, test)
        if luck:
            lines += report.kinds(decoded, test, luck)
        if task.second_grader:
            second = evaluation.regraded(decoded, task, test, task.second_grader, loop)
            lines.append(f"by {task.second_grader}: {report.number(second.pass_at_k(1))}")
        styled = styles.read(decoded, task, test, loop) if task.styles else None
        if styled:
            lines += report.styles(styled, "greedy solutions")
        if styled and drawn:
            lines += report.styles(styles.read(drawn, task, test, loop), "samples")
        for line in lines:
            print(f"{'':>12}  {line}", flush=True)
        return decoded, styled

    outcome, styled = measure(args.model)
    if args.against:
        other, before = measure(args.against)
        what = f"greedy pass@1, {args.model} against {args.against}"
        print(report.change(what, other, outcome))
        if styled and before:
            print(report.gain(styles.gain(before, styled), what))


def _beside(model: Path, task: Task, numbers: Sequence[Evaluation]) -> list[str]:
    """What the paper has beside a toy base model's numbers."""
    from restem_lib import base_table, cards, models

    lines = []
    for number in numbers if models.is_toy(model) else ():
        found = base_table.paper(model.name, task.name, number.metric, number.k)
        if found:
            what = cards.label(number.metric, number.k)
            lines.append(f"{found.model} in the paper: {what} {found.value:.1%} ({found.where})")
    return lines


def make_base_table(args: argparse.Namespace) -> None:
    """Measure the shipped base models beside the paper's numbers: results/base.csv, the README's table, model cards.

    On fewer test problems than the table is made of, it is only printed.
    """
    from restem_lib import base_table, cards

    names = base_table.known(args.models)
    cards.prepare(names)
    config = Common(runs_dir=args.out, unsafe_programs=args.unsafe_programs, max_new_tokens=LONGEST)
    rows = base_table.make(names, args.test_problems, config)
    if args.test_problems:
        print(cards.base_table(rows))
        return
    base_table.keep(PROJECT / "results" / "base.csv", rows)
    print(cards.publish())


def pretrain(args: argparse.Namespace) -> None:
    """Train a toy base model from scratch."""
    from restem_lib.pretrain import pretrain

    recipe = LADDER[args.name]
    out = args.out or Path("runs/pretrained") / args.name
    if out.exists():
        raise ConfigError(f"{out} exists already; choose another folder or move it away")
    start = time.monotonic()
    pretrain(recipe if args.seed is None else replace(recipe, seed=args.seed), out)
    print(f"{out}: done in {(time.monotonic() - start) / 60:.0f} minutes")
