r"""The audit of the final-answer reward: how often it errs, beside plain string equality and math-verify.

Gold answers are taken for themselves, in other spellings (`equal.py`) and changed (`wrong.py`); hostile answers
(`hostile.py`) must cost nobody else anything. `run` does it all; what comes out is a `Report`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from restem_lib import statistics
from restem_lib.audit import hostile
from restem_lib.audit.equal import rewritings
from restem_lib.audit.golds import GOLDS
from restem_lib.audit.wrong import CONVENTION, mistakes
from restem_lib.rewards import algebra
from restem_lib.rewards.answers import GRADER, grade
from restem_lib.rewards.extraction import extract
from restem_lib.tasks.local import data_folder, read_rows
from restem_lib.tasks.toy import maths

Golds = Mapping[str, Sequence[tuple[str, str]]]
"""Of each source: gold answers, each with a solution that ends in it ("" where there is none)."""

OURS, STRING, MATH_VERIFY = GRADER, "string", "math-verify"
EQUAL_BAR, WRONG_BAR = 0.005, 0.001
"""The most of the equal rewritings that may be rejected, and of the wrong variants that may be accepted."""
EXAMPLES = 3
SUMS = ("itself", "all", "by value")
"""The kinds that sum a side up; "by value" leaves out what is wrong by convention only (`wrong.CONVENTION`)."""
DECLARED = (
    "#### {}",
    "The answer is {}.",
    "The answer is ${}$.",
    "So the answer is: \\({}\\)",
    "**Answer:** {}",
    "Final Answer: The final answer is ${}$. I hope it is correct.",
    "Thus we get\n\\[\\boxed{{}}.\\]",
)
"""Ways to end a solution; "{}" stands for the gold answer."""


@dataclass(frozen=True)
class Report:
    """What an audit found."""

    rows: list[dict[str, Any]]
    """One row a source, side ("equal", "wrong"), kind and grader: n, errors, rate, low, high (Wilson 95 %), examples.

    The kind "all" sums up a side, without the kind "itself"; "by value" is in SUMS.
    """
    hostile: list[dict[str, Any]]
    """One row a hostile answer: name, verdict, seconds, within, neighbours, ran."""
    notes: tuple[str, ...]
    """What was left out."""

    @property
    def bars(self) -> dict[str, bool]:
        """Each bar that our grader must meet, and whether it does."""
        found = {}
        for row in self.rows:
            if row["grader"] != OURS or row["kind"] not in ("itself", "all"):
                continue
            if row["kind"] == "itself":
                found[f"{row['source']}: gold against itself 100 %"] = row["errors"] == 0
            elif row["side"] == "equal":
                found[f"{row['source']}: equal rewritings rejected < {EQUAL_BAR:.1%}"] = (
                    row["rate"] < EQUAL_BAR
                )
            else:
                found[f"{row['source']}: wrong variants accepted < {WRONG_BAR:.1%}"] = (
                    row["rate"] < WRONG_BAR
                )
        if self.hostile:
            found["hostile answers cost at most their deadline"] = all(
                row["within"] for row in self.hostile
            )
            found["hostile answers cost no other item"] = all(
                row["neighbours"] for row in self.hostile
            )
            found["hostile answers are never right and never run"] = not any(
                row["ran"] or row["verdict"] == "correct" for row in self.hostile
            )
        return found

    @property
    def passes(self) -> bool:
        """Whether every bar is met."""
        return all(self.bars.values())

    def text(self) -> str:
        """Plain tables: errors of each grader by source and kind, hostile answers, bars, what was left out."""
        lines = [*self._errors(), ""]
        if self.hostile:
            lines += ["hostile answer                verdict    seconds  neighbours  ran"]
            for row in self.hostile:
                lines.append(
                    f"{row['name']:<30}{row['verdict']:<11}{row['seconds']:>7.2f}  "
                    f"{'right' if row['neighbours'] else 'WRONG':<11} {'YES' if row['ran'] else 'no'}"
                )
            lines.append("")
        lines += [f"{'met   ' if met else 'MISSED'} {bar}" for bar, met in self.bars.items()]
        return "\n".join([*lines, *(f"left out: {note}" for note in self.notes)])

    def _errors(self) -> list[str]:
        graders = list(dict.fromkeys(row["grader"] for row in self.rows))
        lines = [
            "errors: equal spellings rejected, wrong answers accepted (rate, Wilson 95 % interval)",
            f"{'source':<11}{'side':<7}{'kind':<22}{'n':>7}"
            + "".join(f"  {name:<26}" for name in graders),
        ]
        cells: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
        for row in self.rows:
            cells[row["source"], row["side"], row["kind"]][row["grader"]] = row
        for (source, side, kind), by in cells.items():
            line = f"{source:<11}{side:<7}{kind:<22}{next(iter(by.values()))['n']:>7}"
            for name in graders:
                row = by[name]
                shown = f"{row['errors']} ({row['rate']:.2%}, {row['low']:.2%}..{row['high']:.2%})"
                line += f"  {shown:<26}"
            lines.append(line.rstrip())
        for row in self.rows:
            if row["grader"] == OURS and row["kind"] not in ("all", "by value"):
                lines += [f"  {row['source']}, {row['kind']}: {one}" for one in row["examples"]]
        return lines


def run(data_dir: str = "", limit: int = 0) -> Report:
    """The whole audit, on at most `limit` gold answers of a source (0: all), spread evenly.

    MATH-500 and GSM8K come from `<data_dir>/math500/test.jsonl` and `<data_dir>/gsm8k/test.jsonl` (data_dir defaults to
    RESTEM_DATA) and are left out where they are not there. Raises TaskError for an unusable file. All of it takes a few
    minutes on two cores, most of them math-verify's.
    """
    golds, notes = read_golds(data_dir)
    fewer = {source: spread(pairs, limit) for source, pairs in golds.items()}
    return Report(audit(fewer), hostile.table(), tuple(notes))


def read_golds(data_dir: str = "") -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """The gold answers to audit, by source, and what could not be had. Raises TaskError."""
    golds = {
        "hand-made": [(gold, "") for gold in GOLDS],
        # A few hundred whole numbers, over and over: each once.
        "toy-math": list({one.answer: one.solution for one in maths.load().test}.items()),
    }
    notes = []
    for source, columns in (("math500", ("answer", "solution")), ("gsm8k", ("answer", "answer"))):
        folder = data_folder(data_dir, source)
        if folder is None or not (folder / "test.jsonl").is_file():
            notes.append(f"{source}, for want of {source}/test.jsonl in RESTEM_DATA or --data-dir")
            continue
        rows = read_rows(folder / "test.jsonl", columns[:1])
        golds[source] = [
            # GSM8K has no column for the answer alone; as everywhere here, it loses its commas.
            (row["answer"].rpartition("####")[2].strip().replace(",", ""), row["answer"])
            if source == "gsm8k"
            else (row["answer"], row["solution"])
            for row in rows
        ]
    return golds, notes


def audit(
    golds: Golds, graders: Sequence[str] = (OURS, STRING, MATH_VERIFY)
) -> list[dict[str, Any]]:
    """`Report.rows` for these gold answers. Variants of one gold answer are many items, not one."""
    rows = []
    for source, pairs in golds.items():
        items = [item for gold, text in pairs for item in _items(gold, text)]
        for name in graders:
            accepted = _GRADERS[name]([item[2] for item in items], [item[4] for item in items])
            rows += _rows(source, name, items, accepted)
    return rows


def respond(gold: str, solution: str, answer: str) -> str:
    """A solution that ends in another answer, boxed as graders expect it."""
    boxed = f"\\boxed{{{answer}}}"
    for marker in (f"\\boxed{{{gold}}}", "####"):
        if marker in solution:
            head, _, tail = solution.rpartition(marker)
            return f"{head}{boxed}{tail}" if marker != "####" else f"{head}The answer is ${boxed}$."
    return f"{solution}\nThe answer is ${boxed}$."


_Item = tuple[str, str, str, str, str]  # side, kind, gold, answer, response


def _items(gold: str, solution: str) -> list[_Item]:
    found = [("equal", "itself", gold, gold, solution or respond(gold, "", gold))]
    found += [
        ("equal", "declared", gold, form, form.replace("{}", gold, 1))
        if "boxed" not in form
        else ("equal", "declared", gold, form, form.replace("{}", f"{{{gold}}}", 1))
        for form in DECLARED
    ]
    for side, make in (("equal", rewritings), ("wrong", mistakes)):
        for kind, variants in make(gold).items():
            if kind != "itself":
                found += [(side, kind, gold, one, respond(gold, solution, one)) for one in variants]
    return found


def _rows(
    source: str, grader: str, items: list[_Item], accepted: list[bool]
) -> list[dict[str, Any]]:
    wrongly: dict[tuple[str, str], list[tuple[bool, _Item]]] = defaultdict(list)
    for item, accept in zip(items, accepted, strict=True):
        side, kind = item[:2]
        err = accept == (side == "wrong")
        wrongly[side, kind].append((err, item))
        if kind != "itself":
            wrongly[side, "all"].append((err, item))
        if side == "wrong" and kind not in CONVENTION:
            wrongly[side, "by value"].append((err, item))
    rows = []
    for (side, kind), marked in sorted(wrongly.items(), key=lambda entry: _place(*entry[0])):
        errors = [item for err, item in marked if err]
        rate = statistics.interval(
            [float(err) for err, _ in marked], np.random.default_rng(0)
        )  # of zeros and ones: Wilson's, which draws nothing
        rows.append(
            {
                "source": source,
                "side": side,
                "kind": kind,
                "grader": grader,
                "n": len(marked),
                "errors": len(errors),
                "rate": rate.value,
                "low": rate.low,
                "high": rate.high,
                "examples": [f"{item[2]} | {item[3]}" for item in errors[:EXAMPLES]],
            }
        )
    return rows


def _place(side: str, kind: str) -> tuple[str, bool, str]:
    return side, kind not in SUMS, kind


def spread(pairs: list[tuple[str, str]], limit: int) -> list[tuple[str, str]]:
    """At most `limit` of the gold answers (0: all), evenly."""
    if not 0 < limit < len(pairs):
        return pairs
    return [pairs[i * len(pairs) // limit] for i in range(limit)]


def _ours(golds: list[str], texts: list[str]) -> list[bool]:
    return [one.verdict == "correct" for one in grade(golds, texts)]


def _string(golds: list[str], texts: list[str]) -> list[bool]:
    return [extract(text) == gold for gold, text in zip(golds, texts, strict=True)]


def _math_verify(golds: list[str], texts: list[str]) -> list[bool]:
    """As its documentation has it: the whole response, its own defaults; in workers only so that it can be killed."""
    pairs = list(zip(golds, texts, strict=True))
    return [one.verdict == "correct" for one in algebra.check(pairs, 30.0, whole=True)]


_GRADERS: dict[str, Callable[[list[str], list[str]], list[bool]]] = {
    OURS: _ours,
    STRING: _string,
    MATH_VERIFY: _math_verify,
}
