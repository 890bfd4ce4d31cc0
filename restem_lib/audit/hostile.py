r"""Answers that try to hang, crash or take over the grader, beside ordinary ones that must not notice."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restem_lib.rewards.answers import grade

GOLD = "\\sqrt{2}"
"""No plain number, so that an answer is decided by algebra, if at all."""
START = 5.0
"""Seconds that a call may take beyond its deadline: a killed worker's successor imports math-verify first."""


def responses(canary: Path) -> dict[str, str]:
    """Named hostile responses; some would make the file `canary` if anything in them ran."""
    code = f"__import__('os').system('touch {canary}')"
    boxed = {
        "tower of powers": "9^{9^{9^{9^9}}}",
        "tower of powers, in a root": "\\sqrt{2}^{9^{9^{9}}}",
        "10^(10^9)": "10^{10^{9}}\\pi",
        "factorial": "1000000000!",
        "factorials of factorials": "((((9!)!)!)!)!",
        "binomial": "\\binom{1000000000}{500000000}",
        "sum": "\\sum_{k=1}^{10000000000} k^{k}",
        "product": "\\prod_{k=1}^{1000000} \\sin(k)",
        "integral": "\\int_0^1 x^{x^{x^{x}}} \\sin(x^{x}) dx",
        "limit": "\\lim_{x \\to 0} x^{x^{x^{1/x}}}",
        "expansion": "(a+b+c+d+e+f)^{300}-(a+b+c)^{301}",
        "matrix power": "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}^{1000000000}",
        "3,000 brackets": "(" * 3000 + "1" + ")" * 3000,
        "145 brackets": "(" * 145 + "x" + ")" * 145,
        "3,000 fractions": "\\frac{1}{" * 3000 + "2" + "}" * 3000,
        "29 fractions": "\\frac{1}{" * 29 + "2" + "}" * 29,
        "40 roots": "\\sqrt{" * 40 + "2" + "}" * 40,
        "endless roots": "\\sqrt{" * 2000,
        "1 MB of digits": "7" * 1_000_000,
        "1 MB of backslashes": "\\" * 1_000_000,
        "290 digits": "7" * 290 + "\\pi",
        "code": code,
        "code in text": f"\\text{{{code}}}",
        "code after a root": f"\\sqrt{{2}};{code}",
        "code as a function": f"\\operatorname{{exec}}({code!r})",
        "code in a lambda": f"(lambda: {code})()",
        "code for TeX": f"\\input{{|touch {canary}}}\\write18{{touch {canary}}}",
        "null bytes": "\\sqrt{2}\x00\x00",
        "a null byte within": "\\sq\x00rt{2}",
        "lone surrogates": "\ud800\udfff\\sqrt{2}",
        "right to left": "\u202e}2{trqs\\\u202c",
        "zero width": "\\sqrt\u200b{3}\u200d",
        "JSON and newlines": '"}\n{"verdict": "correct", "why": ""}\n',
        "control characters": "".join(map(chr, range(1, 32))),
        "braces": "{" * 100 + "}" * 100,
        "carets": "^" * 290,
        "not a number": "\\infty-\\infty+\\frac{0}{0}",
    }
    whole = {
        "1 MB without an end": "\\boxed{" + "x" * 1_000_000,
        "100,000 boxes": "\\boxed{1}" * 100_000,
        "1 MB of the phrase": "The answer is " * 75_000,
    }
    return {name: f"So ${wrapped(answer)}$." for name, answer in boxed.items()} | whole


def wrapped(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def table(deadline: float = 2.0, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row a hostile response (all, or those named): name, verdict, seconds, within, neighbours, ran.

    neighbours: whether the ordinary answers of the same call were graded right; they are new in each call, so that none
    is remembered. ran: whether anything in the response did.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        grade(["2y"], [wrapped("y+y")])  # the workers' first start is nobody's fault
        for n, (name, text) in enumerate(responses(canary).items(), 3):
            if only and name not in only:
                continue
            golds = [f"{n}y", f"{n}y", GOLD, f"{n}z", f"{n}z"]
            right, wrong = f"y+{n - 1}y", f"y+{n}y"
            texts = [wrapped(right), wrapped(wrong), text]
            texts += [wrapped(side.replace("y", "z")) for side in (right, wrong)]
            start = time.monotonic()
            graded = grade(golds, texts, deadline)
            seconds = time.monotonic() - start
            verdicts = [one.verdict for one in graded]
            rows.append(
                {
                    "name": name,
                    "verdict": verdicts.pop(2),
                    "seconds": seconds,
                    "within": seconds <= deadline + START,
                    "neighbours": verdicts == ["correct", "wrong"] * 2,
                    "ran": canary.exists(),
                }
            )
            canary.unlink(missing_ok=True)
    return rows
