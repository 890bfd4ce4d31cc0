"""Tasks: problems with gold answers, the prompt that asks them, what ends an answer. One module a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from restem_lib.records import Problem


class Styles(NamedTuple):
    """How a task's solutions are told apart, beside right and wrong."""

    names: tuple[str, ...]
    of: Callable[[Problem, str], str]
    """The style of a solution, one of the names."""
    flawed: Callable[[Problem, str], bool | None] | None = None
    """Whether a solution's steps do not hold, None for one without steps. No function where texts cannot tell."""
    held_out: Callable[[], Mapping[str, str]] | None = None
    """Problem id -> more tests of a program than its reward runs (`rewards.programs.Tests` as JSON)."""


@dataclass(frozen=True)
class Task:
    """A loaded benchmark."""

    name: str
    train: tuple[Problem, ...]
    test: tuple[Problem, ...]
    template: str
    """The prompt around one question; contains "{question}" once."""
    prefix: str = ""
    """Few-shot examples before every prompt; engines compute it once."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion, beside the end-of-sequence token."""
    grader: str = "answers"
    """The reward, one of `rewards.GRADERS`."""
    second_grader: str = ""
    """A more lenient comparison that evaluations report beside it, never trained on; "" for none."""
    notes: tuple[str, ...] = ()
    """What a user should know of these problems: what was left out, what could not be had."""
    styles: Styles | None = None
    """None where nothing is known of how solutions are written: all real benchmarks."""

    def prompt(self, problem: Problem) -> str:
        """Exactly what the model sees: in the E-step, in evaluation, and as M-step input (paper, section 5)."""
        return self.prefix + self.template.replace("{question}", problem.question)


def load_task(name: str, data_dir: str = "") -> Task:
    """The task of a name in `names()`, one task of BBH ("bbh:snarks"), or of a .jsonl file. Raises TaskError."""
    from restem_lib.tasks import bbh, jsonl
    from restem_lib.tasks.local import TaskError
    from restem_lib.tasks.toy import bbh as toy_bbh

    if name.endswith(".jsonl"):
        return jsonl.load(name)
    if name.startswith(("bbh:", "bbh-direct:")):
        return bbh.load(data_dir, name)
    if name.startswith(("toy-bbh:", "toy-bbh-direct:")):
        return toy_bbh.load(name)
    loaders = _loaders(data_dir)
    if name not in loaders:
        raise TaskError(
            f"no task {name!r}; there are {', '.join(loaders)}, or a path ending in .jsonl"
        )
    return loaders[name]()


def names() -> tuple[str, ...]:
    """The names of all benchmarks, whether or not their data can be had here."""
    return tuple(_loaders(""))


def _loaders(data_dir: str) -> dict[str, Callable[[], Task]]:
    # Imported here, for they import Task from this module.
    from restem_lib.tasks import (
        apps,
        bbh,
        gsm8k,
        hendrycks_math,
        humaneval,
        hungarian,
        mbpp,
    )
    from restem_lib.tasks.toy import bbh as toy_bbh
    from restem_lib.tasks.toy import code, exam, maths
    from restem_lib.tasks.toy import humaneval as toy_humaneval

    return {
        "toy-math": maths.load,
        "toy-math-terse": lambda: maths.load("toy-math-terse"),
        "toy-gsm": maths.load_gsm,
        "toy-code": code.load,
        "toy-humaneval": toy_humaneval.load,
        "toy-bbh": toy_bbh.load,
        "toy-bbh-direct": lambda: toy_bbh.load("toy-bbh-direct"),
        "toy-exam": exam.load,
        "gsm8k": lambda: gsm8k.load(data_dir),
        "math": lambda: hendrycks_math.load(data_dir),
        "math500": lambda: hendrycks_math.load_500(data_dir),
        "apps": lambda: apps.load(data_dir),
        "humaneval": lambda: humaneval.load(data_dir),
        "mbpp": lambda: mbpp.load(data_dir),
        "bbh": lambda: bbh.load(data_dir, "bbh"),
        "bbh-direct": lambda: bbh.load(data_dir, "bbh-direct"),
        "hungarian": lambda: hungarian.load(data_dir),
        "hungarian-auto": lambda: hungarian.load_auto(data_dir),
    }
