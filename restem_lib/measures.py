"""What the notebooks measure on the models of their runs: rates of S seeds and P problems, [S, P]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restem_lib import em, evaluation
from restem_lib.config import Common, Config
from restem_lib.estimates import spread
from restem_lib.evaluation import Outcome
from restem_lib.experiments import Run, human, steps
from restem_lib.keys import ConfigError
from restem_lib.records import Problem
from restem_lib.scoring import score_samples
from restem_lib.statistics import majority, mcnemar, paired_difference, pass_at_k
from restem_lib.store import seed_for
from restem_lib.tables import Table, Values
from restem_lib.tasks import Task, load_task

if TYPE_CHECKING:
    import pandas as pd


def solved(
    models: Sequence[Path], task: Task, problems: Sequence[Problem], config: Common
) -> Values:
    """Which problems greedy decoding solves, for each of S models (of as many seeds): 0 or 1, [S, P]."""
    return np.stack(
        [evaluation.greedy(model, task, problems, config).correct[:, 0] for model in models]
    ).astype(np.float64)


def measure(
    table: Table,
    runs: Sequence[Run],
    task: str,
    config: Config,
    *,
    ends: bool = False,
    **names: Any,
) -> None:
    """Add greedy decoding of the base and after each iteration (`ends`: base and last alone) to the table."""
    loaded = load_task(task, config.data_dir)
    problems = tested(loaded, config)
    for i, models in enumerate(steps(runs)):
        if not ends or i in (0, len(runs[0].turns)):
            values = solved(models, loaded, problems, config)
            table.add(values, task=task, method=runs[0].method, iteration=i, **names)


def measure_models(
    table: Table, models: Sequence[Path], task: str, config: Config, method: str, **names: Any
) -> None:
    """Add greedy decoding of S models to the table, as iteration 1 of a method."""
    loaded = load_task(task, config.data_dir)
    values = solved(models, loaded, tested(loaded, config), config)
    table.add(values, task=task, method=method, iteration=1, **names)


def measure_human(table: Table, config: Config, *, domain: str, model: str) -> None:
    """Fine-tune on human solutions and add greedy decoding as iteration 1.

    The preset's `model` is trained on the terse ones of toy-math too, with the first seed.
    """
    task = config.loop(domain=domain).task
    tuned = human(config, domain=domain, model=model)
    measure_models(table, tuned, task, config, "human SFT", model=model)
    if task == "toy-math" and model == config.model:
        tuned = human(config, model=model, seeds=config.seeds[:1], task="toy-math-terse")
        measure_models(table, tuned, task, config, "human SFT, terse", model=model)


def add_gaps(table: Table, runs: Sequence[Run], config: Config, name: str) -> None:
    """Add train and test accuracy of the base and each iteration under set=`name`: train greedily and sampled.

    Sampled train accuracy is that of the E-step's samples, at its temperature; the last model draws once more for it.
    """
    loop = runs[0].loop
    task = load_task(loop.task, config.data_dir)
    train_problems, _ = em.split(task, loop)
    both = {"train, greedy": train_problems, "test, greedy": tested(task, config)}
    for measured, asked in both.items():
        for i, models in enumerate(steps(runs)):
            values = solved(models, task, asked, config)
            table.add(values, set=name, measure=measured, iteration=i)
    for i in range(len(runs[0].models)):
        rates = np.stack([_sampled_rate(run, task, train_problems, i) for run in runs])
        table.add(rates, set=name, measure="train, sampled", iteration=i)


def _sampled_rate(run: Run, task: Task, problems: Sequence[Problem], i: int) -> Values:
    """Share of right samples of each problem by the model of iteration i, as the E-step draws: [P]."""
    if i < len(run.turns):
        samples, scores = run.turns[i].samples, run.turns[i].scores
    else:
        samples = em.draw(run.models[i], task, problems, i + 1, run.loop)
        scores = score_samples(task, problems, samples, run.loop)
    found = evaluation.outcome(problems, samples, scores, greedy=False)
    return found.correct.mean(axis=1)


def slope(steps: Sequence[Values], x: Sequence[float] = ()) -> Values:
    """The least-squares slope of each seed's and problem's values over x (0, 1, 2 ... unless told): [S, P]."""
    at = np.array(x or range(len(steps)), dtype=np.float64)
    at -= at.mean()
    whole = np.stack(np.broadcast_arrays(*steps))  # the base has one row for all seeds
    stacked: Values = np.tensordot(at, whole, axes=1) / float((at**2).sum())
    return stacked


def drawn(models: Sequence[Path], task: Task, config: Config, seed: int = 0) -> list[Outcome]:
    """`pass_k_samples` samples of `pass_k_problems` problems at temperature 1, top-p 0.95, of each model.

    The s-th model draws with seed `seed` + s.
    """
    problems = sampled_problems(task, config)
    return [
        evaluation.sampled(model, task, problems, config.pass_k_samples, seed + s, config)
        for s, model in enumerate(models)
    ]


def sampled_problems(task: Task, config: Config) -> list[Problem]:
    """The first `pass_k_problems` of the test problems that the preset evaluates."""
    return tested(task, config)[: config.pass_k_problems or None]


def pass_at_ks(outcomes: Sequence[Outcome], ks: Sequence[int]) -> Values:
    """Unbiased pass@k of S models for each k: [S, K, P]."""
    return np.stack([[pass_at_k(one.correct, k) for k in ks] for one in outcomes])


def votes(outcomes: Sequence[Outcome]) -> Values:
    """The majority vote of S models, [S, P]."""
    return np.stack([majority(one.answers, one.correct) for one in outcomes])


def buckets(outcome: Outcome) -> dict[str, NDArray[np.bool_]]:
    """Which problems a model solves how often in the first half of its samples, as the paper's Figure 8 sorts them."""
    half = outcome.correct.shape[1] // 2
    rate = outcome.correct[:, :half].mean(axis=1)
    edges = {
        "easy": (0.75, 1.01),
        "medium": (0.5, 0.75),
        "hard": (0.25, 0.5),
        "very hard": (0.0, 0.25),
    }
    return {name: (low <= rate) & (rate < high) for name, (low, high) in edges.items()}


def second_half(outcomes: Sequence[Outcome]) -> Values:
    """Share of right ones in the second half of each problem's samples, [S, P]: what did not decide its bucket."""
    return np.stack([one.correct[:, one.correct.shape[1] // 2 :].mean(axis=1) for one in outcomes])


def exam(models: Sequence[Path], task: Task, config: Config) -> Values:
    """Shares of the points that S models get in an exam: of each whole form of toy-exam, else of each question."""
    found = [evaluation.greedy(model, task, task.test, config) for model in models]
    if task.name == "toy-exam":
        return np.stack([evaluation.exam_forms(one, task.test) for one in found])
    return np.stack([one.correct[:, 0] for one in found]).astype(np.float64)


class Line(NamedTuple):
    """A least-squares line through all models but one, and what it expects of that one."""

    slope: float
    start: float
    expected: Values
    """[S, P]"""
    error: tuple[float, float]
    """How far one more model may lie from the line: standard error, with the line's own; degrees of freedom."""


def line(x: Mapping[str, Values], y: Mapping[str, Values], name: str) -> Line | None:
    """The line through the means of y over those of x of all models but `name`; None for fewer than four of them."""
    others = [model for model in x if model != name]
    if len(others) < 4:
        return None
    xs, ys = (np.array([values[model].mean() for model in others]) for values in (x, y))
    slope, start = np.polyfit(xs, ys, 1)
    free = len(xs) - 2
    away = (x[name].mean() - xs.mean()) ** 2 / ((xs - xs.mean()) ** 2).sum()
    left = ys - (start + slope * xs)
    error = np.sqrt((left**2).sum() / free * (1 + 1 / len(xs) + away))
    expected = start + slope * x[name]
    return Line(float(slope), float(start), expected, (float(error), float(free)))


def raw(model: Path, task: Task, config: Common) -> str:
    """A right and a wrong greedy solution of test problems with their questions and gold answers, as they are."""
    found = evaluation.greedy(model, task, task.test, config)
    right, told = found.correct[:, 0].tolist(), []
    for wanted in (True, False):
        if wanted in right:
            at = right.index(wanted)
            asked, text = task.test[at], found.texts(task.test)[at][0]
            told.append(
                f"REWARD {int(wanted)}: {task.prompt(asked)}{text}\n(gold: {asked.answer[:60]})"
            )
    return "\n\n".join(told)


def by_kind(problems: Sequence[Problem], values: Values) -> dict[str, Values]:
    """Values, [S, P], parted by the kind of the problems, the middle of their ids "task/KIND/number"."""
    kinds = np.array([problem.id.split("/")[1] for problem in problems])
    return {str(kind): values[:, kinds == kind] for kind in np.unique(kinds)}


def kinds(problems: Sequence[Problem], before: Values, after: Values) -> pd.DataFrame:
    """Accuracy before and after by kind of problem, in %, and the change's p-value, adjusted for the number of kinds.

    `before` is of one model, `after` of S; p is two-sided, over problems and seeds, by Benjamini and Hochberg.
    """
    import pandas as pd
    from scipy.stats import false_discovery_control

    old, new = by_kind(problems, before), by_kind(problems, after)
    rows, ps = [], []
    for kind, values in new.items():
        rng = np.random.default_rng(seed_for("kind", kind))
        drawn = spread(values - old[kind], rng)
        ps.append(
            min(1.0, 2 * (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / (1 + len(drawn)))
        )
        ends = {"before": old[kind].mean(), "after": values.mean()}
        rows.append(
            {"kind": kind, "n": values.shape[1], **{k: round(100 * v, 1) for k, v in ends.items()}}
        )
    table = pd.DataFrame(rows).set_index("kind")
    return table.assign(p=false_discovery_control(ps).round(4))


def tested(task: Task, config: Common) -> list[Problem]:
    """The first test problems of a task, as many as are asked for and there. Raises ConfigError for none."""
    if not task.test:
        raise ConfigError(f"{task.name} has no test problems here")
    return list(task.test[: config.test_problems or None])


class Comparison(NamedTuple):
    """Several models on the same problems."""

    rows: pd.DataFrame
    """One row a model and metric: the fields of Evaluation and `model`."""
    greedy: dict[str, NDArray[np.bool_]]
    """Model -> which problems its greedy decoding solves, [P]."""

    def save(self, path: Path) -> None:
        """Write the rows as CSV."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows.to_csv(path, index=False, float_format="%.6f")

    def change(self, before: str, after: str) -> str:
        """Greedy pass@1 of one model against another: difference, paired interval, n and McNemar's p, as text."""
        a, b = self.greedy[before], self.greedy[after]
        found = paired_difference(a, b, np.random.default_rng(0))
        return (
            f"greedy pass@1, {after} against {before}: {100 * found.value:+.1f} points\n"
            f"  95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}, paired, n = {found.n}, "
            f"McNemar p = {mcnemar(a, b).p:.1g}"
        )


def compare(models: Mapping[str, Path], task: Task, config: Config) -> Comparison:
    """Evaluate models on the same problems: greedy, and by `drawn` pass@1, pass@n and majority."""
    import pandas as pd

    problems, n = tested(task, config), config.pass_k_samples
    rows, greedy = [], {}
    for name, model in models.items():
        decoded = evaluation.greedy(model, task, problems, config)
        (sampled,) = drawn([model], task, config)
        greedy[name] = decoded.correct[:, 0]
        measured = {
            "greedy": decoded.pass_at_k(1),
            "pass@1": sampled.pass_at_k(1),
            "pass@k": sampled.pass_at_k(n),
            "majority": sampled.majority(),
        }
        rows += [
            {"model": name, **vars(number), "metric": metric} for metric, number in measured.items()
        ]
    return Comparison(pd.DataFrame(rows), greedy)
