"""The runs behind the notebooks, as plain functions: models and problems in, tidy rows out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restem_lib import claims, em, evaluation
from restem_lib.config import PROJECT, Common, Config, Loop, parse_yaml
from restem_lib.em import Iteration
from restem_lib.models import resolve
from restem_lib.records import Pair, Problem, Sample, Score
from restem_lib.scoring import score_samples
from restem_lib.statistics import interval, mcnemar, paired_difference
from restem_lib.store import seed_for
from restem_lib.tasks import Task, load_task

if TYPE_CHECKING:
    import pandas as pd

Values = NDArray[np.float64]

METHODS: dict[str, dict[str, Any]] = {
    "ReST^EM": {},
    "RFT": {"iterations": 1},
    "ReST": {"start": "last"},
    "random control": {"keep": "random"},
    "unfiltered": {"keep": "all"},
}
"""Method -> what it changes in the loop (paper, Table 1). RFT is one iteration; ReST is here what Figure 7 calls it,
going on from the last model, without its growing threshold, which means nothing for a reward of 0 or 1."""


@dataclass(frozen=True)
class Run:
    """What one method made of one base model with one seed."""

    method: str
    loop: Loop
    base: Path
    turns: tuple[Iteration, ...]

    @property
    def models(self) -> tuple[Path, ...]:
        """The base model, then the model of each iteration."""
        return (self.base, *(turn.model for turn in self.turns))


def train(
    config: Config,
    method: str = "ReST^EM",
    *,
    domain: str = "math",
    model: str | None = None,
    **changes: Any,
) -> list[Run]:
    """A run of a method for every seed of the preset; `changes` are keys of Loop that differ for all of them."""
    runs = []
    for seed in config.seeds_of(model):
        loop = replace(config.loop(model, seed, domain), **{**METHODS[method], **changes})
        turns = tuple(em.rest_em(loop, load_task(loop.task, loop.data_dir)))
        runs.append(Run(method, loop, resolve(loop.model, loop.runs_dir), turns))
    return runs


def iterations(runs: Sequence[Run], task: Task, problems: Sequence[Problem]) -> list[Values]:
    """Greedy decoding of the base and after each iteration of the runs: [S, P] each."""
    return [
        solved(models, task, problems, runs[0].loop)
        for models in zip(*(run.models for run in runs), strict=True)
    ]


def human(
    config: Config,
    *,
    domain: str = "math",
    model: str | None = None,
    task: str = "",
    **changes: Any,
) -> list[Path]:
    """The model fine-tuned on human solutions for every seed; `task`: where these are, if not in the preset's task."""
    tuned = []
    for seed in config.seeds_of(model):
        loop = replace(config.loop(model, seed, domain), **changes)
        loop = replace(loop, task=task or loop.task)
        tuned.append(em.sft_on_solutions(loop, load_task(loop.task, loop.data_dir)).model)
    return tuned


def solved(
    models: Sequence[Path], task: Task, problems: Sequence[Problem], config: Common
) -> Values:
    """Which problems greedy decoding solves, for each of S models (of as many seeds): 0 or 1, [S, P]."""
    return np.stack(
        [evaluation.greedy(model, task, problems, config).correct[:, 0] for model in models]
    ).astype(np.float64)


def measure(
    table: Table, config: Config, method: str, *, domain: str, model: str, **changes: Any
) -> list[Run]:
    """Train by a method and add greedy decoding of the base and after each iteration to the table."""
    runs = train(config, method, domain=domain, model=model, **changes)
    task = load_task(runs[0].loop.task, config.data_dir)
    for i, values in enumerate(iterations(runs, task, tested(task, config))):
        table.add(values, domain=domain, model=model, method=method, iteration=i)
    return runs


def measure_human(table: Table, config: Config, *, domain: str, model: str) -> None:
    """Fine-tune on human solutions, in toy-math on the terse ones too, and add greedy decoding as iteration 1."""
    task = load_task(config.loop(domain=domain).task, config.data_dir)
    sources = {"human SFT": task.name}
    if task.name == "toy-math":
        sources["human SFT, terse"] = "toy-math-terse"
    for method, source in sources.items():
        models = human(config, domain=domain, model=model, task=source)
        values = solved(models, task, tested(task, config), config)
        table.add(values, domain=domain, model=model, method=method, iteration=1)


def add_gaps(table: Table, runs: Sequence[Run], config: Config, name: str) -> None:
    """Add train and test accuracy of the base and each iteration under set=`name`: train greedily and sampled.

    Sampled train accuracy is that of the E-step's samples, at its temperature; the last model draws once more for it.
    """
    loop = runs[0].loop
    task = load_task(loop.task, config.data_dir)
    train_problems, _ = em.split(task, loop)
    both = {"train, greedy": train_problems, "test, greedy": tested(task, config)}
    for measure_, problems in both.items():
        for i, values in enumerate(iterations(runs, task, problems)):
            table.add(values, set=name, measure=measure_, iteration=i)
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


def raw(turn: Iteration, task: Task) -> str:
    """One right and one wrong sample of an E-step with its question and gold answer, as they are."""
    asked = {problem.id: problem for problem in task.train}
    told: dict[int, str] = {}
    for sample, score in zip(turn.samples.records(Sample), turn.scores.records(Score), strict=True):
        problem = asked[sample.problem_id]
        told.setdefault(
            score.reward,
            f"REWARD {score.reward}: {task.prompt(problem)}{sample.text}\n({score.why}; gold: {problem.answer[:60]})",
        )
    return "\n\n".join(told[reward] for reward in (1, 0) if reward in told)


def slope(steps: Sequence[Values]) -> Values:
    """The least-squares slope over 0, 1, 2 ... of each seed's and problem's values: [S, P]."""
    x = np.arange(len(steps)) - (len(steps) - 1) / 2
    stacked: Values = np.tensordot(x, np.stack(steps), axes=1) / float((x**2).sum())
    return stacked


def drawn(
    models: Sequence[Path], task: Task, problems: Sequence[Problem], n: int, config: Common
) -> list[evaluation.Outcome]:
    """n samples of every problem at temperature 1, top-p 0.95, for each model; the s-th with seed s."""
    return [
        evaluation.sampled(model, task, problems, n, seed, config)
        for seed, model in enumerate(models)
    ]


def tested(task: Task, config: Common) -> list[Problem]:
    """The first test problems of a task, as many as the preset asks for and the task has."""
    return list(task.test[: config.test_problems or None])


class Table:
    """What a notebook measures: rates, [S, P], each under its names (task, model, method, iteration ...)."""

    def __init__(self) -> None:
        self._values: dict[frozenset[tuple[str, Any]], Values] = {}
        self._rows: list[dict[str, Any]] = []

    def add(self, values: Values, **names: Any) -> None:
        """One measurement. Raises ValueError for names that are there already."""
        key = frozenset(names.items())
        if key in self._values:
            raise ValueError(f"{names} is there already")
        self._values[key] = values
        self._rows.append(row(values, **names))

    def of(self, **names: Any) -> Values:
        """What was added under exactly these names."""
        return self._values[frozenset(names.items())]

    def iterations(self, **names: Any) -> list[Values]:
        """What was added under these names and iteration 0, 1, 2 ..., as far as they go."""
        found: list[Values] = []
        while frozenset({**names, "iteration": len(found)}.items()) in self._values:
            found.append(self.of(**names, iteration=len(found)))
        return found

    def rows(self) -> pd.DataFrame:
        """A row for each: names, value, low, high, n, seeds."""
        import pandas as pd

        return pd.DataFrame(self._rows)

    def save(self, path: Path) -> None:
        """Write the rows as CSV."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows().to_csv(path, index=False, float_format="%.6f")


def row(values: Values, **names: Any) -> dict[str, Any]:
    """A row of a tidy table: the names given, the mean of rates, [S, P], its 95 % interval, n and seeds."""
    rng = np.random.default_rng(seed_for("row", *map(str, names.values())))
    if len(values) == 1:
        value, low, high, _ = interval(values[0], rng)
    else:
        value = float(values.mean())
        low, high = np.quantile(claims.spread(values, rng), (0.025, 0.975))
    seeds, n = values.shape
    return {**names, "value": value, "low": low, "high": high, "n": n, "seeds": seeds}


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


def paper_values(name: str) -> dict[str, list[float]]:
    """Numbers of the paper from paper/values.yaml, by series."""
    values: dict[str, list[float]] = paper_entry(name)["values"]
    return values


def paper_entry(name: str) -> dict[str, Any]:
    """An entry of paper/values.yaml: where, what, read, accuracy and values."""
    path = PROJECT / "paper" / "values.yaml"
    entry: dict[str, Any] = parse_yaml(path.read_text(encoding="utf-8"), str(path))[name]
    return entry


def history(turn: Iteration) -> pd.DataFrame:
    """The candidates of an iteration's M-step, a row each."""
    import pandas as pd

    return pd.DataFrame([vars(candidate) for candidate in turn.tuned.history]).round(3)


def progress_of(turns: Iterable[Iteration]) -> pd.DataFrame:
    """What each iteration drew, kept and trained: one row an iteration. "right" is the sampler's train accuracy."""
    import pandas as pd

    rows = []
    for turn in turns:
        rewards = [score.reward for score in turn.scores.records(Score)]
        kept = [pair.problem_id for pair in turn.pairs.records(Pair)]
        best = next(candidate for candidate in turn.tuned.history if candidate.best)
        rows.append(
            {
                "iteration": turn.number,
                "samples": len(rewards),
                "right (%)": round(100 * float(np.mean(rewards)), 1),
                "kept pairs": len(kept),
                "problems with a pair": len(set(kept)),
                "best epoch": best.epoch,
                "validation (%)": round(100 * best.reward, 1),
                "seconds": round(
                    turn.samples.seconds() + turn.scores.seconds() + turn.tuned.seconds
                ),
            }
        )
    return pd.DataFrame(rows).set_index("iteration")


def broken_promises(turns: Iterable[Iteration], cap: int) -> list[str]:
    """What contradicts the method in finished iterations: pairs without reward 1, problems over the cap."""
    found = []
    for turn in turns:
        earned = {(s.problem_id, s.index) for s in turn.scores.records(Score) if s.reward == 1}
        pairs = list(turn.pairs.records(Pair))
        counts: dict[str, int] = {}
        for pair in pairs:
            counts[pair.problem_id] = counts.get(pair.problem_id, 0) + 1
            if (pair.problem_id, pair.index) not in earned:
                found.append(
                    f"iteration {turn.number} kept {pair.problem_id} #{pair.index} without reward"
                )
        found += [
            f"iteration {turn.number} kept {count} pairs of {problem_id}"
            for problem_id, count in counts.items()
            if cap and count > cap
        ]
    return found
