"""What lies behind a gain: style, likelihood, false positives, which problems fill a training set, drift."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restem_lib import em, evaluation, styles
from restem_lib.batching import completion_loss, distinct, tokens
from restem_lib.config import Config
from restem_lib.experiments import Run, covered, problems, steps
from restem_lib.filtering import human_pairs
from restem_lib.measures import tested
from restem_lib.models import load_model, load_tokenizer, pick_dtype
from restem_lib.records import Pair, Score
from restem_lib.scoring import score_samples
from restem_lib.statistics import Interval
from restem_lib.styles import Styled
from restem_lib.tables import Values
from restem_lib.tasks import Task, load_task

if TYPE_CHECKING:
    import pandas as pd

QUARTERS = ("hardest", "harder", "easier", "easiest")


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
    """Gain of each method over the base in points, by choice of style and by accuracy within it (`styles.gain`).

    No rows for a task whose styles are not known.
    """
    import pandas as pd

    if task.styles is None:
        return pd.DataFrame()
    before, rows = by_style([base], task, config), []
    for name, models in after.items():
        split = styles.gain(before, by_style(models, task, config))
        parts = zip(("gain", "by style", "within style"), split, strict=True)
        rows.append({"method": name, **{part: _points(found) for part, found in parts}})
    return pd.DataFrame(rows).set_index("method")


def _points(found: Interval) -> str:
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def likelihoods(config: Config, run: Run) -> pd.DataFrame:
    """How likely the base finds what a run's first M-step trained on, and human solutions of the same problems."""
    import pandas as pd

    loop = run.loop
    sets = {"own, right": run.turns[0].pairs}
    names = {"human": loop.task}
    if loop.task == "toy-math":
        names["human, terse"] = "toy-math-terse"
    for name, source in names.items():
        task, wanted = load_task(source, config.data_dir), covered(run.turns[0])
        asked = [problem for problem in em.split(task, loop)[0] if problem.id in wanted]
        sets[name] = human_pairs(task, asked, loop)
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


def share(right: Values, flawed: Values) -> Values | None:
    """Share of flawed ones among right ones, as [S, P] of which the mean is each seed's share; None where one has none.

    A problem's value is the share plus its own part in it (the delta method), so that it spreads as the share does.
    """
    if not right.any(axis=1).all():
        return None
    rate = (flawed.sum(axis=1) / right.sum(axis=1))[:, None]
    values: Values = rate + (flawed - rate * right) / right.mean(axis=1)[:, None]
    return values


def coverage(runs: Sequence[Run], turn: int = 0) -> Values:
    """Of which training problems S runs kept a solution in an iteration (the first unless told): 0 or 1, [S, P]."""
    asked = problems(runs[0])
    found = [covered(run.turns[turn]) for run in runs]
    return np.array([[float(problem.id in one) for problem in asked] for one in found])


class Filling(NamedTuple):
    """How an M-step's training pairs spread over the problems, for S seeds."""

    quarters: Values
    """Shares of the pairs, [S, 4], of the quarters of the problems that have any, from the hardest for the base on."""
    effective: NDArray[np.float64]
    """[S]: as many problems of equal share would be as even: 1 / sum of squared shares."""
    pairs: NDArray[np.float64]
    """[S]"""


def filling(runs: Sequence[Run], turn: int = 0) -> Filling:
    """The spread of an iteration's pairs (the first's unless told).

    How hard a problem is for the base says the first E-step of the next seed: the same samples for both would find
    the easiest problems to have the most pairs whatever the truth. (With one seed there is no other.)
    """
    quarters, effective, pairs = [], [], []
    for run, other in zip(runs, [*runs[1:], runs[0]], strict=True):
        right: Counter[str] = Counter()
        for score in other.turns[0].scores.records(Score):
            right[score.problem_id] += score.reward
        kept = Counter(pair.problem_id for pair in run.turns[turn].pairs.records(Pair))
        order = sorted(kept, key=lambda problem: (right[problem], problem))
        counts = np.array([kept[problem] for problem in order], dtype=np.float64)
        quarters.append([part.sum() / counts.sum() for part in np.array_split(counts, 4)])
        effective.append(counts.sum() ** 2 / (counts**2).sum())
        pairs.append(counts.sum())
    return Filling(np.array(quarters), np.array(effective), np.array(pairs))


def filling_table(filled: Mapping[str, Filling]) -> pd.DataFrame:
    """A row each, means over seeds: shares of the quarters in %, problems of equal share, pairs."""
    import pandas as pd

    rows = {
        name: {
            **dict(zip(QUARTERS, 100 * one.quarters.mean(axis=0), strict=True)),
            "problems of equal share": one.effective.mean(),
            "pairs": one.pairs.mean(),
        }
        for name, one in filled.items()
    }
    return pd.DataFrame(rows).T.round(0).astype(int)


def drift(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Distance of the models from their base, in % of its norm: means over seeds, a row a run."""
    import pandas as pd

    rows = {}
    for name, made in runs.items():
        base = _weights(made[0].base)
        norm = np.sqrt(sum((weight**2).sum() for weight in base.values()))
        rows[name] = {
            f"iteration {i}": np.mean([_distance(base, _weights(model)) for model in models]) / norm
            for i, models in enumerate(steps(made))
            if i
        }
    return (100 * pd.DataFrame(rows).T).round(2)


def _weights(model: Path) -> dict[str, NDArray[np.float32]]:
    loaded = load_model(model, pick_dtype("float32"))
    return {name: weight.numpy() for name, weight in loaded.state_dict().items()}


def _distance(a: Mapping[str, NDArray[np.float32]], b: Mapping[str, NDArray[np.float32]]) -> float:
    return float(np.sqrt(sum(((a[name] - b[name]) ** 2).sum() for name in a)))
