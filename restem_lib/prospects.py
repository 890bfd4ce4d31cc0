"""Before a notebook starts: whether it can run to its end, and what it could tell."""

from __future__ import annotations

from collections.abc import Sequence

from restem_lib import UserError
from restem_lib.config import Config
from restem_lib.estimates import power
from restem_lib.keys import ConfigError
from restem_lib.measures import tested
from restem_lib.rewards import grader
from restem_lib.tasks import Task, load_task


def ready(config: Config, *names: str, solutions: Sequence[str] = ()) -> dict[str, Task]:
    """The tasks of these names, once it is sure that a notebook can evaluate on them; those of `solutions` have some.

    Called before any work. Raises ConfigError for a task without test problems or human solutions, or graded by hand.
    """
    found = {name: load_task(name, config.data_dir) for name in names}
    for name, task in found.items():
        tested(task, config)
        try:
            grader(task.grader, config.unsafe_programs)
        except UserError as error:
            raise ConfigError(f"{task.name} cannot be evaluated here: {error}") from error
        if name in solutions and not any(problem.solution for problem in task.train):
            raise ConfigError(
                f"{task.name} has no human solutions, with which this notebook compares; a .jsonl file gives them as "
                "`solution`"
            )
    return found


def planned(config: Config, task: Task, verdicts: int, problems: int = 0) -> str:
    """The power to find a difference of 5 points between two models, before anything is run, as text.

    On all test problems, or so many. Assumed: a quarter of the problems change sides, and training seeds differ by 1
    point (standard deviation).
    """
    n, seeds = len(tested(task, config)[: problems or None]), len(config.seeds)
    found = power(0.05, 0.25, n, seeds, 0.01, 1 - 0.05 / verdicts)
    enough = f"{found.problems:,} problems" if found.problems < 10**9 else "more seeds"
    amounts = {"seed": seeds, "verdict": verdicts}
    few = ", ".join(f"{number} {what}{'s' * (number != 1)}" for what, number in amounts.items())
    return (
        f"planned: a difference of 5 points is found in {found.power:.0%} of such runs (n = {n}, {few}); "
        f"for 80 % it takes {enough}"
    )
