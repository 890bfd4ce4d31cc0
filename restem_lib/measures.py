"""What the notebooks measure on the models of their runs: rates of S seeds and P problems, [S, P]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restem_lib import em, evaluation, styles
from restem_lib.batching import completion_loss, distinct, tokens
from restem_lib.config import Common, Config, Loop
from restem_lib.evaluation import Outcome
from restem_lib.experiments import Run, human, steps
from restem_lib.filtering import human_pairs
from restem_lib.models import load_model, load_tokenizer, pick_dtype
from restem_lib.records import Pair, Problem
from restem_lib.scoring import score_samples
from restem_lib.statistics import Interval, majority, mcnemar, paired_difference, pass_at_k
from restem_lib.styles import Styled
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
    """Fine-tune on human solutions, in toy-math on the terse ones too, and add greedy decoding as iteration 1."""
    task = config.loop(domain=domain).task
    sources = {"human SFT": task}
    if task == "toy-math":
        sources["human SFT, terse"] = "toy-math-terse"
    for method, source in sources.items():
        models = human(config, domain=domain, model=model, task=source)
        measure_models(table, models, task, config, method, model=model)


def add_gaps(table: Table, runs: Sequence[Run], config: Config, name: str) -> None:
    """Add train and test accuracy of the base and each iteration under set=`name`: train greedily and sampled.

    Sampled train accuracy is that of the E-step's samples, at its temperature; the last model draws once more for it.
    """
    loop = runs[0].loop
    task = load_task(loop.task, config.data_dir)
    train_problems, _ = em.split(task, loop)
    both = {"train, greedy": train_problems, "test, greedy": tested(task, config)}
    for measured, problems in both.items():
        for i, models in enumerate(steps(runs)):
            values = solved(models, task, problems, config)
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


def slope(steps: Sequence[Values]) -> Values:
    """The least-squares slope over 0, 1, 2 ... of each seed's and problem's values: [S, P]."""
    x = np.arange(len(steps)) - (len(steps) - 1) / 2
    stacked: Values = np.tensordot(x, np.stack(steps), axes=1) / float((x**2).sum())
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


def exam_forms(models: Sequence[Path], task: Task, config: Config) -> Values:
    """Points of S models in each whole form of toy-exam, as shares of its 100: [S, F]."""
    return np.stack(
        [
            evaluation.exam_forms(evaluation.greedy(model, task, task.test, config), task.test)
            for model in models
        ]
    )


def by_style(models: Sequence[Path], task: Task, config: Config) -> Styled:
    """The styles of S models' greedy solutions of the test problems, as S solutions of each."""
    problems = tested(task, config)
    each = [
        styles.read(evaluation.greedy(model, task, problems, config), task, problems, config)
        for model in models
    ]
    return Styled(
        each[0].names,
        np.concatenate([one.style for one in each], axis=1),
        np.concatenate([one.correct for one in each], axis=1),
        None,
        None,
    )


def style_gains(
    base: Path, after: Mapping[str, Sequence[Path]], task: Task, config: Config
) -> pd.DataFrame:
    """Gain of each method over the base in points, by choice of style and by accuracy within it (`styles.gain`)."""
    import pandas as pd

    before, rows = by_style([base], task, config), []
    for name, models in after.items():
        split = styles.gain(before, by_style(models, task, config))
        parts = zip(("gain", "by style", "within style"), split, strict=True)
        rows.append({"method": name, **{part: _points(found) for part, found in parts}})
    return pd.DataFrame(rows).set_index("method")


def _points(found: Interval) -> str:
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def likelihoods(config: Config, run: Run) -> pd.DataFrame:
    """How likely the base finds what a run's first M-step trained on, and the human solutions of the same problems."""
    import pandas as pd

    loop = run.loop
    sets = {"own, right": run.turns[0].pairs}
    names = {"human": loop.task}
    if loop.task == "toy-math":
        names["human, terse"] = "toy-math-terse"
    for name, source in names.items():
        task = load_task(source, config.data_dir)
        sets[name] = human_pairs(task, em.split(task, loop)[0], loop)
    model, tokenizer = load_model(run.base, pick_dtype(config.dtype)), load_tokenizer(run.base)
    model.requires_grad_(False)
    rows, at_once = [], config.micro_batch_size
    for name, pairs in sets.items():
        examples = [tokens(pair, tokenizer) for pair in pairs.records(Pair)]
        size = sum(len(example.target) for example in examples)
        loss = sum(
            float(completion_loss(model, distinct(part), tokenizer.pad_token_id))
            for part in (examples[i : i + at_once] for i in range(0, len(examples), at_once))
        )
        rows.append({"solutions": name, "pairs": len(examples), "log p a token": -loss / size})
    return pd.DataFrame(rows).set_index("solutions").round(2)


def accepted(config: Config, runs: Sequence[Run], *, shown: bool) -> tuple[Values, Values]:
    """How many of a first E-step's samples the reward accepts and the step checker can check, and how many of these are
    false positives: [S, P] each.

    `shown`: the base draws again from questions that end in their answer, as STaR's rationalisation does.
    """
    counts = []
    for run in runs:
        task = load_task(run.loop.task, config.data_dir)
        problems, _ = em.split(task, run.loop)
        samples, scores = run.turns[0].samples, run.turns[0].scores
        if shown:
            told = [
                replace(p, question=f"{p.question} The answer is {p.answer}.") for p in problems
            ]
            samples = em.draw(run.base, task, told, 1, run.loop)
            scores = score_samples(task, told, samples, run.loop)
        found = evaluation.outcome(problems, samples, scores, greedy=False)
        read = styles.read(found, task, problems, config)
        assert read.flawed is not None and read.checked is not None
        counts.append((read.checked.sum(axis=1), read.flawed.sum(axis=1)))
    right, flawed = np.stack(counts, axis=1).astype(np.float64)
    return right, flawed


def tested(task: Task, config: Common) -> list[Problem]:
    """The first test problems of a task, as many as the preset asks for and the task has."""
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


def compare(
    models: Mapping[str, Path], task: Task, problems: Sequence[Problem], n: int, loop: Loop
) -> Comparison:
    """Evaluate models on the same problems: greedy, and n samples at temperature 1 for pass@1, pass@n and majority."""
    import pandas as pd

    rows, greedy = [], {}
    for name, model in models.items():
        decoded = evaluation.greedy(model, task, problems, loop)
        drawn = evaluation.sampled(model, task, problems, n, loop.seed, loop)
        greedy[name] = decoded.correct[:, 0]
        measured = {
            "greedy": decoded.pass_at_k(1),
            "pass@1": drawn.pass_at_k(1),
            "pass@k": drawn.pass_at_k(n),
            "majority": drawn.majority(),
        }
        rows += [
            {"model": name, **vars(number), "metric": metric} for metric, number in measured.items()
        ]
    return Comparison(pd.DataFrame(rows), greedy)
