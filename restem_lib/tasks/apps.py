"""APPS, the introductory problems: programs that read text, or functions that are called (Hendrycks et al. 2021).

A local folder (`<data_dir>/apps/{train,test}.jsonl`) first, then `apps_sample/*.jsonl`, then the Hub. Which of the 2639
introductory train problems the paper's 2342 are is not known: here a problem needs tests, and `restem
verify-apps` finds those one of whose human solutions passes them, for `<data_dir>/apps/ids.txt`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from restem_lib.records import Problem
from restem_lib.rewards import Graded
from restem_lib.rewards.programs import Tests, value_of
from restem_lib.tasks import Task
from restem_lib.tasks.local import TaskError, data_folder, hub_file, mixed, read_rows

HUB = "codeparrot/apps"
REVISION = "21e74ddf8de1a21436da12e3e653065c5213e9d1"
COLUMNS = ("question", "difficulty")
INSTEAD = (
    "apps/train.jsonl and apps/test.jsonl with the columns problem_id, question, solutions, input_output, "
    "difficulty, url, starter_code"
)
SOLUTIONS = 3
"""Human solutions a problem that are looked at."""
TEMPLATE = "Problem:\n{question}\n\nProgram in Python:\n```python\n"
STOP = ("\n```",)
READS = "The program reads standard input and prints the answer."
"""Fewer than 13 words, so that it makes no overlap between problems (overlap.py)."""
PRELUDE = """\
import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from typing import *
"""
"""Before functions that are called: on their sites these names were there, and solutions use them."""
SHOTS = (
    (
        "The first line has a whole number n, the second n whole numbers. Find the sum of those that are even.\n\n"
        "-----Example-----\nInput\n4\n1 2 3 4\nOutput\n6\n\n" + READS,
        "n = int(input())\nnumbers = map(int, input().split())\nprint(sum(x for x in numbers if x % 2 == 0))",
    ),
    (
        'Given a text, return how many of its words begin with a capital letter: "Ada met Bob" has 2.\n\n'
        "Define capital_words, beginning with:\ndef capital_words(text):",
        "def capital_words(text):\n    return sum(word[0].isupper() for word in text.split())",
    ),
)
"""Few-shot examples, one of each kind, written for this project: no problem of APPS is one."""

Entry = tuple[Problem, tuple[str, ...]]
"""A problem and its first human solutions."""


def load(data_dir: str = "", ids: Mapping[int, int] | None = None) -> Task:
    """Both splits; of the train split only the problem ids in `ids`, or in `apps/ids.txt`. Raises TaskError.

    ids also tells which of a problem's human solutions, from 0, is the one to fine-tune on.
    """
    splits, notes = _splits(data_dir)
    train = [problem for problem, _ in splits["train"]]
    test = [problem for problem, _ in splits["test"]]
    if ids is None:
        ids = _listed(data_dir)
    if ids is None:
        notes.append("Whether a human solution passes the tests was not asked: no apps/ids.txt.")
    else:
        kept = [
            replace(problem, solution=found[min(ids[_number(problem)], len(found) - 1)])
            if found
            else problem
            for problem, found in splits["train"]
            if _number(problem) in ids
        ]
        notes.append(f"The list of ids keeps {len(kept)} of {len(train)} train problems.")
        if len(kept) < len(ids):
            notes.append(f"{len(ids) - len(kept)} listed ids are no train problems here.")
        train = kept
    for name, problems in (("train", train), ("test", test)):
        if not problems:
            continue
        kinds = Counter(Tests.from_json(problem.answer).kind for problem in problems)
        notes.append(
            f"Of {len(problems)} {name} problems {kinds['call']} ask for a function that is called, "
            f"{kinds['stdin']} for a program that reads standard input."
        )
    examples = (TEMPLATE.replace("{question}", asked) + solved for asked, solved in SHOTS)
    return Task(
        name="apps",
        train=tuple(train),
        test=mixed(test),
        template=TEMPLATE,
        prefix="".join(f"{example}\n```\n\n" for example in examples),
        stop=STOP,
        grader="programs",
        second_grader="programs-apps",
        notes=tuple(notes),
    )


def human_solutions(data_dir: str = "") -> dict[str, tuple[str, ...]]:
    """Problem id -> its first human solutions, of both splits, for `passing`. Raises TaskError."""
    splits, _ = _splits(data_dir)
    return {problem.id: found for entries in splits.values() for problem, found in entries}


def passing(
    problems: Sequence[Problem],
    solutions: Mapping[str, Sequence[str]],
    grade: Callable[[Sequence[str], Sequence[str]], list[Graded]],
) -> dict[int, int]:
    """Problem id -> the first of its human solutions, from 0, that passes: what `apps/ids.txt` lists, a line each.

    grade is that of `rewards.grader("programs")`.
    """
    pairs = [(p, text) for p in problems for text in solutions.get(p.id, ())[:SOLUTIONS]]
    graded = grade([problem.answer for problem, _ in pairs], [text for _, text in pairs])
    passed: dict[int, int] = {}
    for (problem, text), outcome in zip(pairs, graded, strict=True):
        if outcome.verdict == "correct":
            passed.setdefault(_number(problem), list(solutions[problem.id]).index(text))
    return dict(sorted(passed.items()))


def _number(problem: Problem) -> int:
    return int(problem.id.rpartition("/")[2])


def _listed(data_dir: str) -> dict[int, int] | None:
    folder = data_folder(data_dir, "apps")
    if folder is None or not (folder / "ids.txt").is_file():
        return None
    ids = {}
    for number, line in enumerate((folder / "ids.txt").read_text(encoding="utf-8").split("\n"), 1):
        parts = line.split()
        if len(parts) > 2 or not all(map(str.isdecimal, parts)):
            raise TaskError(
                f"{folder / 'ids.txt'}, line {number}: {line!r} is no problem id, nor one and a solution's number"
            )
        if parts:
            ids[int(parts[0])] = int(parts[1]) if len(parts) == 2 else 0
    return ids


def _splits(data_dir: str) -> tuple[dict[str, list[Entry]], list[str]]:
    notes = []
    folder, sample = data_folder(data_dir, "apps"), data_folder(data_dir, "apps_sample")
    if folder is not None and (folder / "train.jsonl").is_file():
        files = {"train": [folder / "train.jsonl"], "test": [folder / "test.jsonl"]}
        if not files["test"][0].is_file():
            files["test"] = []
            notes.append(f"{folder} has no test.jsonl: there are no test problems.")
    elif sample is not None:
        files = {"train": sorted(sample.glob("*.jsonl")), "test": []}
        notes.append(f"Only the sample in {sample}: there are no test problems.")
    else:
        # `datasets` refuses the repository, which has a loading script; its files are plain JSON lines.
        files = {
            split: [hub_file(HUB, f"{split}.jsonl", REVISION, INSTEAD)]
            for split in ("train", "test")
        }
    return {split: _entries(paths, split, notes) for split, paths in files.items()}, notes


def _entries(paths: list[Path], split: str, notes: list[str]) -> list[Entry]:
    found: dict[str, Entry] = {}
    left_out = 0
    for path in paths:
        for row in read_rows(path, COLUMNS, keep=lambda row: row["difficulty"] == "introductory"):
            number = row.get("problem_id") or row.get("id") or ""  # "id" in the files of the Hub
            if not number.isdecimal():
                raise TaskError(f"{path}: a problem has problem_id {number!r}; it must be a number")
            tests = _tests(row)
            name = f"apps/{split}/{number}"
            if tests is None:
                left_out += 1
            elif name not in found:
                solutions = _solutions(row)
                first = solutions[0] if solutions else ""
                found[name] = (
                    Problem(name, _question(row, tests), tests.to_json(), first),
                    solutions,
                )
    if left_out:
        notes.append(f"{left_out} introductory {split} problems without usable tests left out.")
    return list(found.values())


def _question(row: dict[str, Any], tests: Tests) -> str:
    starter = (row.get("starter_code") or "").strip()
    if tests.kind == "stdin":
        form = f"{READS} Begin with:\n{starter}" if starter else READS
    else:
        form = f"Define {tests.entry}" + (f", beginning with:\n{starter}" if starter else ".")
    return f"{row['question'].strip()}\n\n{form}"


def _solutions(row: dict[str, Any]) -> tuple[str, ...]:
    found = _json(row.get("solutions"))
    if not isinstance(found, list):  # '' where there is none
        return ()
    texts = [text.replace("\r\n", "\n").strip() for text in found if isinstance(text, str)]
    return tuple(text for text in texts if text)[:SOLUTIONS]


def _tests(row: dict[str, Any]) -> Tests | None:
    """The tests of a row, None where there are none or they do not pair up."""
    found = _json(row.get("input_output"))
    if not isinstance(found, dict):
        return None
    inputs, outputs = found.get("inputs"), found.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        return None
    entry = found.get("fn_name") or ""
    wrapped = all(isinstance(value, list) and len(value) == 1 for value in outputs)
    try:
        if not entry:
            texts = tuple(map(_text, inputs)), tuple(map(_text, outputs))
            return Tests(kind="stdin", inputs=texts[0], outputs=texts[1])
        if wrapped and "codewars" in (row.get("url") or ""):
            # Of one element each on Codewars alone: elsewhere such a list is the value itself.
            outputs = [value[0] for value in outputs]
        return Tests(
            kind="call", inputs=tuple(inputs), outputs=tuple(outputs), entry=entry, before=PRELUDE
        )
    except ValueError:
        return None


def _text(value: Any) -> Any:
    """Some inputs and outputs are lists of lines."""
    return "\n".join(map(str, value)) if isinstance(value, list) else value


def _json(text: str | None) -> Any:
    try:
        return value_of(text or "")
    except ValueError:
        return None
