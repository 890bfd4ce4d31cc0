"""MATH: competition problems in seven subjects; 7500 train, 5000 test (Hendrycks et al. 2021), and MATH-500.

A local folder (`<data_dir>/math/{train,test}.jsonl`, `<data_dir>/math500/test.jsonl`) first, then the Hub. Few-shot
with examples from the train split, which are then no training problems; zero-shot where there is no train split.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from restem_lib.records import Problem
from restem_lib.rewards.extraction import extract
from restem_lib.tasks import Task
from restem_lib.tasks.local import TaskError, data_folder, hub_rows, mixed, read_rows

HUB = "EleutherAI/hendrycks_math"
REVISION = "21a5633873b6a120296cce3e2df9d5550074f4a3"
HUB_500 = "HuggingFaceH4/MATH-500"
REVISION_500 = "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"
COLUMNS = ("problem", "solution")
INSTEAD = (
    "math/train.jsonl and math/test.jsonl with the columns problem, solution, level, type (subject)"
)
INSTEAD_500 = "math500/test.jsonl with the columns problem, solution, level, subject"
SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
EXPECTED = {"train": 7500, "test": 5000}
TEMPLATE = "Problem:\n{question}\n\nSolution:"
STOP = ("\n\nProblem:", "\nProblem:")
"""The first as well, so that no empty line is left at the end of a completion."""
SHOT_SUBJECTS = ("prealgebra", "algebra", "counting_and_probability", "number_theory")
"""Each gives one example: its first problem of the train split that is short, has no figure and is no level 1 or 5."""


def load(data_dir: str = "") -> Task:
    """Both splits of MATH with the few-shot prefix. Raises TaskError."""
    train, notes = _train(data_dir)
    test, more = _problems(_rows(data_dir, "test"), "test")
    return _task("math", train, mixed(test), notes + more)


def load_500(data_dir: str = "") -> Task:
    """MATH-500 as the test split, MATH's train split where it can be had. Raises TaskError."""
    folder = data_folder(data_dir, "math500")
    if folder is None:
        rows = hub_rows(HUB_500, None, "test", COLUMNS, REVISION_500, INSTEAD_500)
    else:
        rows = read_rows(folder / "test.jsonl", COLUMNS)
    test = [_problem(row, f"math500/test/{index}") for index, row in enumerate(rows)]
    without = [problem.id for problem in test if not problem.answer]
    if without:
        raise TaskError(f"{without[0]}: the solution has no final answer in a \\boxed{{}}")
    try:
        train, notes = _train(data_dir)
    except TaskError:
        if data_folder(data_dir, "math") is not None:
            raise  # the user's own file is broken: that is for the user to know
        train, notes = [], ["MATH's train split is neither in the data folder nor on the Hub."]
    return _task("math500", train, tuple(test), notes)


def _train(data_dir: str) -> tuple[list[Problem], list[str]]:
    folder = data_folder(data_dir, "math")
    if folder is not None and not (folder / "train.jsonl").is_file():
        return [], [f"{folder} has no train.jsonl."]
    return _problems(_rows(data_dir, "train"), "train")


def _rows(data_dir: str, split: str) -> list[dict[str, Any]]:
    folder = data_folder(data_dir, "math")
    if folder is not None:
        return read_rows(folder / f"{split}.jsonl", COLUMNS)
    return [
        {"type": subject, **row}
        for subject in SUBJECTS
        for row in hub_rows(HUB, subject, split, COLUMNS, REVISION, INSTEAD)
    ]


def _problems(rows: list[dict[str, Any]], split: str) -> tuple[list[Problem], list[str]]:
    """Problems with an answer, and what there is to say of the others."""
    positions: Counter[str] = Counter()
    problems = []
    for row in rows:
        subject = re.sub(r"\W+", "_", str(row.get("type") or "all").lower().replace("&", "and"))
        problem = _problem(row, f"math/{split}/{subject}/{positions[subject]}")
        positions[subject] += 1
        if problem.answer:
            problems.append(problem)
    notes = []
    if len(rows) != EXPECTED[split]:
        notes.append(f"The {split} split has {len(rows)} problems; MATH has {EXPECTED[split]}.")
    if len(problems) < len(rows):
        left_out = len(rows) - len(problems)
        notes.append(f"{left_out} {split} problems without a final answer were left out.")
    return problems, notes


def _problem(row: dict[str, Any], name: str) -> Problem:
    level = re.search(r"\d+", str(row.get("level") or ""))  # two train problems have "Level ?"
    return Problem(
        id=name,
        question=row["problem"].strip(),
        answer=extract(row["solution"]),
        solution=" " + row["solution"].strip(),
        level=int(level[0]) if level else 0,
    )


def _task(name: str, train: list[Problem], test: tuple[Problem, ...], notes: list[str]) -> Task:
    shots = [_shot(train, subject) for subject in SHOT_SUBJECTS] if train else []
    if shots:
        notes = [*notes, f"Few-shot examples: {', '.join(shot.id for shot in shots)}."]
    else:
        notes = [*notes, "No train split: nothing to train on, and prompts without examples."]
    examples = (TEMPLATE.replace("{question}", shot.question) + shot.solution for shot in shots)
    return Task(
        name=name,
        train=tuple(problem for problem in train if problem not in shots),
        test=test,
        template=TEMPLATE,
        prefix="".join(f"{example}\n\n" for example in examples),
        stop=STOP,
        notes=tuple(notes),
    )


def _shot(train: list[Problem], subject: str) -> Problem:
    for problem in train:
        if (
            problem.id.startswith(f"math/train/{subject}/")
            and problem.level not in (1, 5)
            and len(problem.question) <= 300
            and 80 <= len(problem.solution) <= 500
            and "[asy]" not in problem.question + problem.solution
        ):
            return problem
    raise TaskError(
        f"MATH's train split has no short problem of the subject {subject!r} to serve as a few-shot "
        "example (the column 'type' names the subject)"
    )
