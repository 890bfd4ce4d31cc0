"""The runs behind the notebooks, as plain functions: models and problems in, tidy rows out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restem_lib import evaluation
from restem_lib.config import PROJECT, Loop, parse_yaml
from restem_lib.em import Iteration
from restem_lib.records import Pair, Problem, Score
from restem_lib.statistics import mcnemar, paired_difference
from restem_lib.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


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
