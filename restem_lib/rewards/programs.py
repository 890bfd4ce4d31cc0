"""Rewards for programs: run them in the sandbox on tests, compare what they give outside of it.

Three kinds of tests: text in, text out; calls of a function; assertions. For the first two the expected outputs stay
here, so a program cannot know them. Assertions (HumanEval, MBPP) go into the sandbox, but into a process of their own
that the program can only send plain values to; a nonce from there proves that they held. So of all three kinds a
program can pass by what it returns, and by nothing else. What remains is a hole in the sandbox or in Python itself.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from restem_lib.rewards import Graded, Grader, sandbox
from restem_lib.rewards.sandbox import Job, Ran

GRADER = "programs-1"
ASSERTS_SECONDS = 5 * sandbox.SECONDS
"""CPU seconds for assertions, which are several tests in one."""
KINDS = ("stdin", "call", "asserts")


@dataclass(frozen=True, kw_only=True)
class Tests:
    """What a program must do: the gold answer of a program problem."""

    __test__ = False  # not a test class, pytest

    kind: str
    """"stdin": a whole program, text in, text out; "call": a function, or method of a class Solution, called;
    "asserts": test code run beside the program."""
    inputs: tuple[Any, ...] = ()
    """stdin: texts; call: lists of arguments."""
    outputs: tuple[Any, ...] = ()
    """stdin: texts; call: values."""
    entry: str = ""
    """call, asserts: the name of the function under test."""
    before: str = ""
    """Code that stands before the completion to make the program (HumanEval: the prompt)."""
    setup: str = ""
    """asserts: code that the tests need, run apart from the program."""
    asserts: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"tests of kind {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if self.kind == "asserts":
            if not self.asserts.strip():
                raise ValueError("tests of kind 'asserts' need 'asserts'")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what the benchmark's authors wrote
                try:
                    ast.parse(f"{self.setup}\n{self.asserts}")
                except SyntaxError as error:
                    raise ValueError(f"the tests are not Python: {error}") from error
            return
        if not self.inputs or len(self.inputs) != len(self.outputs):
            raise ValueError(
                f"{len(self.inputs)} inputs for {len(self.outputs)} outputs: they must pair up"
            )
        kind = str if self.kind == "stdin" else list
        if not all(isinstance(value, kind) for value in self.inputs):
            raise ValueError(f"inputs of kind {self.kind!r} must each be a {kind.__name__}")
        if self.kind == "stdin" and not all(isinstance(value, str) for value in self.outputs):
            raise ValueError("outputs of kind 'stdin' must each be text")
        if self.kind == "call" and not self.entry:
            raise ValueError("tests of kind 'call' need 'entry', the function's name")

    def to_json(self) -> str:
        """As one line of JSON, empty fields left out."""
        return json.dumps({name: value for name, value in asdict(self).items() if value})

    @classmethod
    def from_json(cls, text: str) -> Tests:
        """The inverse of to_json. Raises ValueError for anything else."""
        found = value_of(text)
        names = {field.name for field in fields(cls)}
        if not isinstance(found, dict) or not found.keys() <= names or "kind" not in found:
            raise ValueError(f"tests are an object with 'kind' and some of {sorted(names)}")
        if not all(isinstance(found.get(name, []), list) for name in ("inputs", "outputs")):
            raise ValueError("'inputs' and 'outputs' must be lists")
        rest = {name: value for name, value in found.items() if name not in ("inputs", "outputs")}
        if not all(isinstance(value, str) for value in rest.values()):
            raise ValueError(f"{', '.join(rest)} must be text")
        return cls(
            inputs=tuple(found.get("inputs", ())), outputs=tuple(found.get("outputs", ())), **rest
        )


def value_of(text: str) -> Any:
    """JSON, with integers of thousands of digits as text. Raises ValueError."""
    # Integers of thousands of digits stay text: Python refuses to read them, and they compare as well so.
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 4000 else digits)


# The program in a completion.


def extract(text: str) -> str:
    r"""The program of a completion: its last fenced block, or all of it where there is none.

    >>> extract("Here:\n```python\nprint(1)\n```\nDone."), extract("    return x\n")
    ('print(1)\n', '    return x\n')
    """
    found, start, at = text, -1, 0
    for line in text.split("\n"):
        end, mark = at + len(line) + 1, line.strip(" \t")
        if start >= 0 and mark == "```":
            found, start = text[start:at], -1
        elif start < 0 and mark.startswith("```") and "`" not in mark[3:]:
            start = end
        at = end
    return found


# Comparing, outside the sandbox.

_FLOAT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
TOLERANCE = 1e-6
DIGITS = 400
"""Longest token that is read as a number: patterns take long over longer ones."""


def same_text(expected: str, got: str) -> bool:
    r"""Same tokens on the same lines; space at the ends of lines and of the text is free.

    An expected token with a decimal point or exponent accepts a number within TOLERANCE, relative above 1.

    >>> same_text("1 2\n0.5\n", "1  2 \n0.5000001"), same_text("1 2", "1\n2"), same_text("3", "3.0")
    (True, False, False)
    """
    left, right = ([line.split() for line in text.rstrip().split("\n")] for text in (expected, got))
    return len(left) == len(right) and all(
        len(a) == len(b) and all(map(_same_token, a, b)) for a, b in zip(left, right, strict=True)
    )


def _same_token(expected: str, got: str) -> bool:
    if expected == got:
        return True
    if len(got) > DIGITS or not _FLOAT.fullmatch(expected) or not _NUMBER.fullmatch(got):
        return False
    return _near(float(expected), float(got))


def _near(expected: float, got: float) -> bool:
    return (
        math.isfinite(expected)
        and math.isfinite(got)
        and abs(expected - got) <= TOLERANCE * max(1.0, abs(expected))
    )


def same_value(expected: Any, got: Any) -> bool:
    """Equal JSON values: true is not 1; an expected float accepts a number within TOLERANCE.

    >>> same_value([1, 2.5], [1, 2.5000001]), same_value(True, 1), same_value([1], 1)
    (True, False, False)
    """
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, list):
        return (
            isinstance(got, list)
            and len(expected) == len(got)
            and all(map(same_value, expected, got))
        )
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and expected.keys() == got.keys()
            and all(same_value(expected[key], got[key]) for key in expected)
        )
    if isinstance(expected, float) and isinstance(got, int | float):
        return _near(expected, float(got)) if abs(got) < 1e300 else False
    return type(expected) is type(got) and expected == got


def same_text_apps(expected: str, got: str) -> bool:
    """APPS's own comparison, restated: also any order of lines and of the tokens of a line, each counted once.

    It lets problems with several right answers pass, and wrong programs too ("3 2 1" for "1 2 3"): a second number
    beside ours, never a reward.
    """
    if same_text(expected, got):
        return True
    left, right = (
        [line.split() for line in text.split("\n") if line.strip()] for text in (expected, got)
    )
    if _as_sets(left) == _as_sets(right):
        return True
    if not all(
        len(token) <= DIGITS and _NUMBER.fullmatch(token) for line in left + right for token in line
    ):
        return False
    a, b = ([[float(token) for token in line] for line in lines] for lines in (left, right))
    close = [len(x) == len(y) and all(map(_all_close, x, y)) for x, y in zip(a, b, strict=False)]
    if len(a) == len(b) and all(close):
        return True
    if not all(math.isfinite(x) for line in a for x in line):
        return False
    return _as_sets([[round(x, 3) for x in line] for line in a]) == _as_sets(
        [[round(x, 3) for x in line] for line in b]
    )


def _as_sets(lines: Sequence[Sequence[Any]]) -> set[frozenset[Any]]:
    return {frozenset(line) for line in lines}


def _all_close(expected: float, got: float) -> bool:
    if not math.isfinite(expected):
        return False
    return abs(expected - got) <= 1e-8 + 1e-5 * abs(expected)  # numpy's defaults, used by APPS


def same_value_apps(expected: Any, got: Any) -> bool:
    """APPS's own comparison of values: the first element of an expected list will do."""
    return same_value(expected, got) or (
        isinstance(expected, list) and bool(expected) and same_value(expected[0], got)
    )


# Grading.


def grader(unsafe: bool = False, lenient: bool = False) -> Grader:
    """The grader at this machine's sandbox level, which is in its name. Raises SandboxError where there is none."""
    level = sandbox.level_here(unsafe)
    kind = " compared as APPS does" if lenient else ""
    return Grader(
        f"{GRADER} ({level}){kind}",
        lambda golds, texts: [outcome.graded for outcome in grade(golds, texts, level, lenient)],
    )


@dataclass(frozen=True)
class Outcome:
    """A program's verdict, and on how many of its tests it rests."""

    graded: Graded
    passed: int
    tests: int
    """How many there are; with every=False none is run after the first that fails."""


def grade(
    golds: Sequence[str],
    texts: Sequence[str],
    level: str,
    lenient: bool = False,
    every: bool = False,
) -> list[Outcome]:
    """The verdict on each completion; `texts[i]` is run on the tests `golds[i]` (JSON of Tests) at a sandbox level.

    The first failing test ends a program's run; with every=True all are run. Assertions count as one test. Equal
    programs with equal tests are run once. Raises ValueError for tests that are none, SandboxError when the sandbox
    does not start.
    """
    if len(golds) != len(texts):
        raise ValueError(f"{len(golds)} tests for {len(texts)} programs: they must pair up")
    parsed = {gold: Tests.from_json(gold) for gold in dict.fromkeys(golds)}
    pairs = list(dict.fromkeys(zip(golds, texts, strict=True)))

    def work(run: Callable[[Job], Ran], pair: tuple[str, str]) -> Outcome:
        return _judge(run, parsed[pair[0]], extract(pair[1]), lenient, every)

    outcomes = dict(zip(pairs, sandbox.each(work, pairs, level), strict=True))
    return [outcomes[pair] for pair in zip(golds, texts, strict=True)]


def _judge(
    run: Callable[[Job], Ran], tests: Tests, code: str, lenient: bool, every: bool
) -> Outcome:
    total = 1 if tests.kind == "asserts" else len(tests.inputs)
    if not code.strip():
        return Outcome(Graded("no_answer", "", "no program found"), 0, total)
    verdicts = {"stdin": _whole, "call": _called, "asserts": _asserted}[tests.kind]
    passed, failed = 0, ("", "")
    for verdict, why in verdicts(run, tests, tests.before + code, lenient):
        if verdict == "correct":
            passed += 1
            continue
        failed = failed if failed[0] else (verdict, why)
        if not every:
            break
    if not failed[0]:
        what = "the assertions held" if tests.kind == "asserts" else f"passed {total} tests"
        return Outcome(Graded("correct", code, what), passed, total)
    where = "" if tests.kind == "asserts" else f"{passed} of {total} tests passed; "
    return Outcome(Graded(failed[0], code, where + failed[1]), passed, total)


_Verdicts = Iterator[
    tuple[str, str]
]  # verdict and why of each test, which runs when it is asked for


def _whole(run: Callable[[Job], Ran], tests: Tests, code: str, lenient: bool) -> _Verdicts:
    same = same_text_apps if lenient else same_text
    for given, expected in zip(tests.inputs, tests.outputs, strict=True):
        ran = run(Job("stdin", code, given, output=sandbox.OUTPUT + 2 * len(expected)))
        yield _ended(ran) or _compared(same(expected, ran.output), ran.output)


def _called(run: Callable[[Job], Ran], tests: Tests, code: str, lenient: bool) -> _Verdicts:
    same = same_value_apps if lenient else same_value
    for arguments, expected in zip(tests.inputs, tests.outputs, strict=True):
        ran = run(Job("call", code, entry=tests.entry, arguments=(arguments,)))
        if _ended(ran) or not ran.values or not ran.values[0]:
            yield _ended(ran) or ("error", "no value returned")
            continue
        try:
            yield _compared(same(expected, value_of(ran.values[0])), ran.values[0])
        except (ValueError, RecursionError):
            yield "wrong", "returned what cannot be read"


def _asserted(run: Callable[[Job], Ran], tests: Tests, code: str, lenient: bool) -> _Verdicts:
    ran = run(
        Job(
            "asserts",
            code,
            entry=tests.entry,
            setup=tests.setup,
            asserts=tests.asserts,
            seconds=ASSERTS_SECONDS,
        )
    )
    if ran.passed and not ran.error:
        yield "correct", ""
    elif ran.error.startswith("AssertionError"):
        yield "wrong", "an assertion failed"
    else:
        yield _ended(ran) or ("wrong", "ended before the assertions did")


def _compared(same: bool, got: str) -> tuple[str, str]:
    return ("correct", "") if same else ("wrong", f"gave {got[:60]!r}")


def _ended(ran: Ran) -> tuple[str, str] | None:
    """Verdict and reason of a run that did not end well, None of one that did."""
    if ran.end == "time":
        return "timeout", "took too long"
    if ran.end == "output":
        return "error", "wrote too much"
    if ran.end == "signal":
        return "error", f"died of signal {ran.code}"
    return ("error", ran.error) if ran.error or ran.end == "lost" else None
