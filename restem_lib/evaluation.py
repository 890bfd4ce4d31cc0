"""Measure a model on problems: greedy pass@1, unbiased pass@k and majority vote, each with interval and n."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restem_lib import statistics
from restem_lib.config import Common
from restem_lib.engines import Sampling
from restem_lib.records import Evaluation, Problem, Sample, Score
from restem_lib.rewards import labels, programs, sandbox
from restem_lib.rewards.answers import canonical
from restem_lib.rewards.programs import Tests
from restem_lib.sampling import draw_samples
from restem_lib.scoring import score_samples
from restem_lib.store import Shards, seed_for
from restem_lib.tasks import Task
from restem_lib.tasks.bbh import baseline
from restem_lib.tasks.toy import exam


@dataclass(frozen=True)
class Outcome:
    """A model's scored samples on P problems, N a problem."""

    correct: NDArray[np.bool_]
    """[P, N]"""
    answers: tuple[tuple[str, ...], ...]
    """[P][N], in canonical form; "" where there is none."""
    samples: Shards
    scores: Shards
    greedy: bool
    """Whether the samples are greedy."""

    def pass_at_k(self, k: int) -> Evaluation:
        """Unbiased pass@k (Chen et al. 2021); NaN where k > N."""
        return self._number(
            "greedy" if self.greedy else "pass@k", k, statistics.pass_at_k(self.correct, k)
        )

    def majority(self) -> Evaluation:
        """Accuracy of the commonest answer among all N samples."""
        values = statistics.majority(self.answers, self.correct)
        return self._number("majority@k", self.correct.shape[1], values)

    def texts(self, problems: Sequence[Problem]) -> list[list[str]]:
        """The solutions as text, [P][N], in the order of `correct`; `problems` are those of the outcome."""
        rows: dict[str, list[Sample]] = {problem.id: [] for problem in problems}
        for sample in self.samples.records(Sample):
            rows[sample.problem_id].append(sample)
        return [
            [sample.text for sample in sorted(row, key=lambda sample: sample.index)]
            for row in rows.values()
        ]

    def _number(self, metric: str, k: int, values: NDArray[np.float64]) -> Evaluation:
        rng = np.random.default_rng(seed_for("interval", metric, k))
        value, low, high, n = statistics.interval(values, rng)
        return Evaluation(metric, k, value, low, high, n, self.correct.shape[1])


def greedy(model: Path, task: Task, problems: Sequence[Problem], config: Common) -> Outcome:
    """Greedy decoding, one sample a problem: the paper's pass@1."""
    sampling = Sampling(0.0, 0, 1.0, config.max_new_tokens, task.stop)
    return _outcome(model, task, problems, 1, sampling, "greedy", 0, config)


def sampled(
    model: Path, task: Task, problems: Sequence[Problem], n: int, seed: int, config: Common
) -> Outcome:
    """n samples a problem at temperature 1, top-p 0.95: the paper's setting for pass@k (section 5.2)."""
    sampling = Sampling(1.0, 0, 0.95, config.max_new_tokens, task.stop)
    return _outcome(model, task, problems, n, sampling, "pass@k", seed, config)


def regraded(
    drawn: Outcome, task: Task, problems: Sequence[Problem], by: str, config: Common
) -> Outcome:
    """The same samples under another grader, one of `rewards.GRADERS`."""
    scores = score_samples(task, problems, drawn.samples, config, by)
    return outcome(problems, drawn.samples, scores, drawn.greedy)


def tests_passed(drawn: Outcome, problems: Sequence[Problem], config: Common) -> Evaluation:
    """Mean share of its tests that a program passes: all are run, where a reward stops at the first that fails."""
    golds = {problem.id: problem.answer for problem in problems}
    samples = [s for s in drawn.samples.records(Sample) if s.problem_id in golds]
    level = sandbox.level_here(config.unsafe_programs)
    graded = programs.grade(
        [golds[s.problem_id] for s in samples], [s.text for s in samples], level, every=True
    )
    shares: dict[str, list[float]] = {problem.id: [] for problem in problems}
    for sample, judged in zip(samples, graded, strict=True):
        whole = sample.finish != "length"  # cut off: no reward, as everywhere
        shares[sample.problem_id].append(whole * judged.passed / judged.tests)
    values = np.array([np.mean(shares[problem.id]) for problem in problems])
    rng = np.random.default_rng(seed_for("interval", "tests passed", 1))
    value, low, high, n = statistics.interval(values, rng)
    return Evaluation("tests passed", 1, value, low, high, n, drawn.correct.shape[1])


def exam_forms(drawn: Outcome, problems: Sequence[Problem]) -> NDArray[np.float64]:
    """toy-exam: the share of its 100 points that each form got, of the forms that are there in full: [F]."""
    given = {
        problem.id: exam.points(problem, texts[0], bool(right[0]))
        for problem, texts, right in zip(
            problems, drawn.texts(problems), drawn.correct, strict=True
        )
    }
    return np.array(exam.by_form(given)) / 100


def exam_points(drawn: Outcome, problems: Sequence[Problem]) -> Evaluation | None:
    """The mean of `exam_forms`; None if there is no whole form."""
    forms = exam_forms(drawn, problems)
    if not len(forms):
        return None
    rng = np.random.default_rng(seed_for("interval", "points", 1))
    value, low, high, n = statistics.interval(forms, rng)
    return Evaluation("points", 1, value, low, high, n, 1)


class Luck(NamedTuple):
    """What a model scores that does not read the problems."""

    answer: str
    """The one that is always given: the commonest in the train split, else in the test; "" for programs."""
    value: float
    """Share of the problems that it solves; for programs of those that one output, whichever, would solve."""
    kinds: dict[str, float]
    """Labels: kind of problem -> share of the whole test split solved by its own commonest answer."""
    by_kind: float
    """Their mean over the problems; `value` where there are no kinds."""


def luck(task: Task, problems: Sequence[Problem]) -> Luck | None:
    """What always giving one answer scores on the problems; None where it cannot be said (assertions, by hand).

    The kind of a problem is the middle of its id, "task/KIND/number".
    """
    if task.grader == "by-hand":
        return None
    if task.grader == "programs":
        tests = [Tests.from_json(problem.answer) for problem in problems]
        if any(one.kind == "asserts" for one in tests):
            return None
        value = float(np.mean([_constant(one) for one in tests]))
        return Luck("", value, {}, value)
    same = labels.normal if task.grader == "labels" else canonical
    golds = Counter(same(problem.answer) for problem in task.train or task.test)
    answer = golds.most_common(1)[0][0]
    value = float(np.mean([same(problem.answer) == answer for problem in problems]))
    if task.grader != "labels":
        return Luck(answer, value, {}, value)
    kinds = baseline(task.test)  # in a few problems something would always be common by chance
    by_kind = float(np.mean([kinds[problem.id.split("/")[1]] for problem in problems]))
    return Luck(answer, value, kinds, by_kind)


def _constant(tests: Tests) -> bool:
    """Whether the first output passes all tests."""
    same = programs.same_text if tests.kind == "stdin" else programs.same_value
    return all(same(expected, tests.outputs[0]) for expected in tests.outputs)


def outcome(problems: Sequence[Problem], samples: Shards, scores: Shards, greedy: bool) -> Outcome:
    """Scores of n samples for each problem as arrays, in the order of the problems."""
    rows: dict[str, list[Score]] = {problem.id: [] for problem in problems}
    for score in scores.records(Score):
        rows[score.problem_id].append(score)
    ordered = [sorted(rows[problem.id], key=lambda score: score.index) for problem in problems]
    return Outcome(
        np.array([[score.reward == 1 for score in row] for row in ordered]),
        tuple(tuple(canonical(score.answer) for score in row) for row in ordered),
        samples,
        scores,
        greedy,
    )


def _outcome(
    model: Path,
    task: Task,
    problems: Sequence[Problem],
    n: int,
    sampling: Sampling,
    stream: str,
    seed: int,
    config: Common,
) -> Outcome:
    samples = draw_samples(model, task, problems, n, sampling, stream, seed, config)
    return outcome(
        problems,
        samples,
        score_samples(task, problems, samples, config),
        sampling.temperature == 0,
    )
