"""ReST^EM: Algorithm 1 of the paper, as a loop over stages of the store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from restem_lib import launching
from restem_lib.config import Loop
from restem_lib.engines import Sampling
from restem_lib.filtering import human_pairs, keep_correct
from restem_lib.keys import ConfigError
from restem_lib.models import resolve
from restem_lib.records import Problem
from restem_lib.sampling import draw_samples
from restem_lib.scoring import score_samples
from restem_lib.sft import Tuned, fine_tune
from restem_lib.store import Shards, digest
from restem_lib.tasks import Task


@dataclass(frozen=True)
class Iteration:
    """One turn of the loop: what the E-step gave and the model that the M-step made of it."""

    number: int
    samples: Shards
    scores: Shards
    pairs: Shards
    tuned: Tuned

    @property
    def model(self) -> Path:
        return self.tuned.model


def rest_em(loop: Loop, task: Task, teacher: Path | None = None) -> Iterator[Iteration]:
    """Run the loop, yielding each iteration as it ends. Raises NothingKept when no sample is right.

    Every M-step starts from the base model, and D_i holds samples of the current model only (paper, section 3). With a
    teacher, that model draws the samples of the first iteration: distillation (paper, section 5.3).
    """
    launching.check(loop.accelerate_config)  # now rather than after the sampling
    problems, validation = split(task, loop)
    base = model = resolve(loop.model, loop.runs_dir)
    for i in range(1, loop.iterations + 1):
        samples = draw(teacher or model if i == 1 else model, task, problems, i, loop)
        scores = score_samples(task, problems, samples, loop)
        pairs = keep_correct(task, problems, samples, scores, loop.seed, loop)
        start = base if loop.start == "base" else model
        tuned = fine_tune(start, pairs, task, validation, loop.seed, loop)
        model = tuned.model
        yield Iteration(i, samples, scores, pairs, tuned)


def draw(model: Path, task: Task, problems: Sequence[Problem], i: int, loop: Loop) -> Shards:
    """The samples of E-step i: temperature and top-k, no top-p (paper, section 5)."""
    sampling = Sampling(loop.temperature, loop.top_k, 1.0, loop.max_new_tokens, task.stop)
    return draw_samples(
        model, task, problems, loop.samples, sampling, f"e-step-{i}", loop.seed, loop
    )


def sft_on_solutions(loop: Loop, task: Task, only: Collection[str] | None = None) -> Tuned:
    """The paper's baseline: fine-tune the base on the human solutions of the same problems (`only`: these)."""
    launching.check(loop.accelerate_config)  # now rather than in the M-step
    problems, validation = split(task, loop)
    if only is not None:
        problems = [problem for problem in problems if problem.id in only]
    return fine_tune(
        resolve(loop.model, loop.runs_dir),
        human_pairs(task, problems, loop),
        task,
        validation,
        loop.seed,
        loop,
    )


def split(task: Task, loop: Loop) -> tuple[list[Problem], list[Problem]]:
    """Training problems and the validation slice (D_val), disjoint; the same for every seed, method and model.

    The order is a hash of the ids. The paper gives neither size nor source of D_val: here a tenth of the training
    problems, at least 100. Raises ConfigError when the task has too few problems.
    """
    if not task.train:
        raise ConfigError(f"{task.name} has no training problems here: it is for evaluation")
    order = sorted(task.train, key=lambda problem: digest(problem.id))
    reserved = loop.val_problems or max(100, (loop.problems or len(order)) // 10)
    wanted = loop.problems or len(order) - reserved
    if wanted < 1 or reserved + wanted > len(order):
        raise ConfigError(
            f"{task.name} has {len(order)} training problems: too few for {max(wanted, 1)} to train on and {reserved} "
            "to validate on; lower the number of problems or of validation problems (val_problems)"
        )
    return order[reserved : reserved + wanted], order[:reserved]


def held_out(task: Task, loop: Loop) -> list[Problem]:
    """The test problems that the run evaluates on. Raises ConfigError when the task has fewer."""
    if not task.test:
        raise ConfigError(f"{task.name} has no test problems here")
    if loop.test_problems > len(task.test):
        raise ConfigError(
            f"{task.name} has {len(task.test)} test problems, not {loop.test_problems} (test_problems)"
        )
    return list(task.test[: loop.test_problems or None])
