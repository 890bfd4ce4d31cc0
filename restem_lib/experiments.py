"""The runs behind the notebooks: methods as settings of one loop, every seed of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restem_lib import em
from restem_lib.config import Config, Loop
from restem_lib.em import Iteration
from restem_lib.models import resolve
from restem_lib.records import Pair, Problem, Sample, Score
from restem_lib.tasks import Task, load_task

if TYPE_CHECKING:
    import pandas as pd

METHODS: dict[str, dict[str, Any]] = {
    "ReST^EM": {},
    "RFT": {"iterations": 1, "dedup": True},
    "ReST": {"start": "last"},
    "STaR": {"samples": 1, "temperature": 0.0},
    "random control": {"keep": "random", "iterations": 1},
    "unfiltered": {"keep": "all", "iterations": 1, "cap": 4},
}
"""Method -> what it changes in the loop (paper, Table 1). RFT is one iteration without copies. ReST is what Figure 7
calls it, going on from the last model, without its growing threshold, which means nothing for a reward of 0 or 1. STaR
is greedy, without rationalisation. The controls do not look at the reward: "random" keeps as many samples of each
problem as are right, "unfiltered" up to four of each, both for one iteration."""


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
    seeds: Sequence[int] = (),
    teachers: Sequence[Path] = (),
    **changes: Any,
) -> list[Run]:
    """A run of a method for every seed, those of the preset unless told; `changes` are keys of Loop that differ.

    Raises ValueError for a method that there is not, unless it is a name for what `changes` or `teachers` make.
    `teachers` draw the first iteration's samples, the s-th those of seed s; where there are fewer, they take turns.
    """
    runs = []
    if method not in METHODS and not (changes or teachers):
        raise ValueError(
            f"no method {method!r}; there are {', '.join(METHODS)}, or give what it changes"
        )
    for at, seed in enumerate(seeds or config.seeds_of(model, domain)):
        loop = replace(_loop(config, model, seed, domain), **{**METHODS.get(method, {}), **changes})
        teacher = teachers[at % len(teachers)] if teachers else None
        turns = tuple(em.rest_em(loop, load_task(loop.task, loop.data_dir), teacher))
        runs.append(Run(method, loop, resolve(loop.model, loop.runs_dir), turns))
    return runs


def human(
    config: Config,
    *,
    domain: str = "math",
    model: str | None = None,
    seeds: Sequence[int] = (),
    task: str = "",
    on: Sequence[Run] = (),
) -> list[Path]:
    """The model fine-tuned on human solutions for every seed, those of the preset unless told.

    `task`: where the solutions are, if not in the preset's task. `on`: runs, one a seed, to whose first iteration's
    questions the solutions are restricted.
    """
    tuned = []
    for at, seed in enumerate(seeds or config.seeds_of(model, domain)):
        loop = _loop(config, model, seed, domain)
        loop = replace(loop, task=task or loop.task)
        only = covered(on[at].turns[0]) if on else None
        tuned.append(em.sft_on_solutions(loop, load_task(loop.task, loop.data_dir), only).model)
    return tuned


def untaught(config: Config) -> dict[str, list[Path]]:
    """The base models of the ladder and what human SFT in maths makes of them, by name: all without ReST^EM."""
    found = {}
    for path in config.ladder:
        name = Path(path).name
        found[name] = [resolve(path, config.runs_dir)]
        found[f"{name}, human SFT"] = human(config, model=path)
    return found


def _loop(config: Config, model: str | None, seed: int, domain: str) -> Loop:
    """The preset's run, with as many validation problems for a part of the training problems as for all."""
    loop = config.loop(model, seed, domain)
    _, validation = em.split(load_task(loop.task, loop.data_dir), loop)
    return replace(loop, val_problems=len(validation))


def problems(run: Run) -> list[Problem]:
    """What a run was trained on, if it kept a solution of it."""
    return em.split(load_task(run.loop.task, run.loop.data_dir), run.loop)[0]


def covered(turn: Iteration) -> frozenset[str]:
    """Ids of the problems of which an iteration kept a solution."""
    return frozenset(pair.problem_id for pair in turn.pairs.records(Pair))


def steps(runs: Sequence[Run]) -> list[list[Path]]:
    """The base, which is one for all seeds, then the models of each iteration, one a seed."""
    each = [list(models) for models in zip(*(run.models for run in runs), strict=True)]
    return [[runs[0].base], *each[1:]]


def last(runs: Sequence[Run]) -> list[Path]:
    """The models of the last iteration, one a seed."""
    return [run.models[-1] for run in runs]


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
