"""The styles of the toy world's solutions, read from their text alone: no program is parsed or run here."""

from __future__ import annotations

import re

from restem_lib.records import Problem
from restem_lib.rewards.programs import extract
from restem_lib.tasks import Styles
from restem_lib.tasks.toy import steps

_ANSWER = re.compile(r"\bthe answer is\b", re.IGNORECASE)
_STATEMENT = re.compile(r"^[ \t]*(?:for|while)\b", re.MULTILINE)
_WITHIN = re.compile(r"\bfor\b")
LEFT_OUT = 2
"""Words that a direct answer may have beside those of the answer."""


def reasoned(problem: Problem, text: str) -> str:
    """Of an answer to a puzzle: "reasoned", "direct" (the answer, and nothing that leads to it) or "other" (neither).

    >>> asked = Problem("x", "Which day is it?", "Monday")
    >>> [reasoned(asked, text) for text in (" It is so. So the answer is Monday.", " Monday", " It is, it is, it is")]
    ['reasoned', 'direct', 'other']
    """
    found = _ANSWER.search(text)
    before = (text[: found.start()] if found else text).split()
    if found:
        return "reasoned" if before not in ([], ["So"]) else "direct"
    return "direct" if 0 < len(before) <= len(problem.answer.split()) + LEFT_OUT else "other"


def of_program(problem: Problem, text: str) -> str:
    r"""Of a program: "loop" (a for or while statement), "comprehension" (a for in an expression), "plain" or "other".

    >>> of_program(Problem("x", "", "-"), "\n    t = 0\n    for x in xs:\n        t += x\n    return t")
    'loop'
    >>> of_program(Problem("x", "", "-"), "\ndef f(xs):\n    return sum(x for x in xs)")
    'comprehension'
    """
    code = extract(text)
    if not code.strip():
        return "other"
    if _STATEMENT.search(code):
        return "loop"
    return "comprehension" if _WITHIN.search(code) else "plain"


def flawed(problem: Problem, text: str) -> bool | None:
    r"""Whether a solution's steps are not valid, None for an answer alone.

    Of steps that cannot be read nothing is known: they count as not valid, so a right answer after them counts as a
    false positive.

    >>> asked = Problem("x", "What is 3 times 2?", "6", " 3 * 2 = 6\n#### 6")
    >>> [flawed(asked, text) for text in (" 3 * 2 = 6\n#### 6", " 5 + 1 = 6\n#### 6", " 3 twice\n#### 6", "\n#### 6")]
    [False, True, True, None]
    """
    found = steps.read(problem, text)
    return None if found.style == "bare" else not found.valid


def written(problem: Problem, text: str) -> str:
    """The style of a maths solution, one of `steps.STYLES`."""
    return steps.read(problem, text).style


MATHS = Styles(steps.STYLES, written, flawed)
PUZZLES = Styles(("reasoned", "direct", "other"), reasoned)
PROGRAMS = Styles(("loop", "comprehension", "plain", "other"), of_program)
