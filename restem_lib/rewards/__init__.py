"""Rewards: how a solution's text becomes a verdict.

`extraction.py` finds a final answer, `answers.py` compares it (`algebra.py` in processes that can be killed,
`processes.py`), `labels.py` compares options and words, `programs.py` runs programs in `sandbox.py`, whose inside is
`jail.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from restem_lib import UserError


class Graded(NamedTuple):
    """What became of one solution."""

    verdict: str
    """One of records.VERDICTS."""
    answer: str
    """The answer as the solution has it, "" if there is none; for programs the program."""
    why: str
    """One phrase for people: how it was compared, or what went wrong."""


class Grader(NamedTuple):
    """A reward function."""

    name: str
    """Name and version, for programs the sandbox's level too: it stands in every score."""
    grade: Callable[[Sequence[str], Sequence[str]], list[Graded]]
    """Verdicts on solutions: gold answers (`Problem.answer`) and texts, which pair up."""


GRADERS = ("answers", "labels", "programs", "programs-apps", "by-hand")


def grader(name: str, unsafe: bool = False) -> Grader:
    """The grader of a name in GRADERS.

    unsafe lets programs run without a sandbox where none works. Raises SandboxError for programs where none works and
    unsafe is not set, UserError for "by-hand", KeyError for another name.
    """
    if name == "by-hand":
        raise UserError(
            "this task is graded by hand: `restem exam sheet` writes a sheet to fill in, "
            "`restem exam read` takes it back"
        )
    from restem_lib.rewards import answers, labels, programs

    makers: dict[str, Callable[[], Grader]] = {
        "answers": lambda: Grader(answers.GRADER, answers.grade),
        "labels": lambda: Grader(labels.GRADER, labels.grade),
        "programs": lambda: programs.grader(unsafe),
        "programs-apps": lambda: programs.grader(unsafe, lenient=True),
    }
    return makers[name]()
