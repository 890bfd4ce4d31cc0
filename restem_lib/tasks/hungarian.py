"""The Hungarian national high-school finals exam in mathematics, 33 questions (Paster 2023); graded by hand.

A local folder (`<data_dir>/hungarian/test.csv` or `test.jsonl`, column question) first, then the Hub. No key came with
the questions: `write_sheet` and `read_sheet` are for a person with the official rubric. "hungarian-auto" compares final
answers with a key of the user's own (`<data_dir>/hungarian/key.jsonl`: number, answer, points); that is another number.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from restem_lib.records import Problem, Sample
from restem_lib.tasks import Task
from restem_lib.tasks.hendrycks_math import STOP, TEMPLATE
from restem_lib.tasks.local import TaskError, data_folder, hub_rows, read_rows

HUB = "keirp/hungarian_national_hs_finals_exam"
REVISION = "main"
"""No commit is known to us; the questions' number is checked instead."""
INSTEAD = "hungarian/test.csv or hungarian/test.jsonl with the column question"
QUESTIONS = 33
BY_HAND = "by hand"
HEADER = ("number", "question", "solution", "points possible", "points given", "remark")
TOTAL = "total"


@dataclass(frozen=True)
class Result:
    """A graded sheet."""

    points: float
    possible: float
    questions: int

    @property
    def score(self) -> float:
        """In percent of the points possible."""
        return 100 * self.points / self.possible


def load(data_dir: str = "") -> Task:
    """The questions, to be graded by hand. Raises TaskError."""
    return Task(
        name="hungarian",
        train=(),
        test=tuple(_problems(data_dir)),
        template=TEMPLATE,
        stop=STOP,
        grader="by-hand",
        notes=(
            "To be graded by hand with the official rubric.",
            "Prompts have no examples; the paper used one.",
        ),
    )


def load_auto(data_dir: str = "") -> Task:
    """The questions that the user's key answers, compared automatically. Raises TaskError naming file and line."""
    key = {number: answer for number, (answer, _) in _key(data_dir).items() if answer}
    problems = _problems(data_dir)
    test = [replace(p, answer=key[n]) for n, p in enumerate(problems, 1) if n in key]
    return Task(
        name="hungarian-auto",
        train=(),
        test=tuple(test),
        template=TEMPLATE,
        stop=STOP,
        notes=(
            f"hungarian-auto: proxy over {len(test)} of {QUESTIONS} questions, not the exam's score.",
        ),
    )


def points(data_dir: str = "") -> dict[int, float]:
    """Question number -> points possible, as far as the user's key says. Raises TaskError naming file and line."""
    return {number: worth for number, (_, worth) in _key(data_dir).items() if worth}


def write_sheet(
    path: Path,
    problems: Sequence[Problem],
    samples: Sequence[Sample],
    worth: Mapping[int, float] | None = None,
) -> None:
    """A CSV file to grade in: each question with its first sample; worth is question number -> points possible.

    Where points are not known, the column is to be filled in, the total too. Raises TaskError for a question without a
    sample and where the file exists.
    """
    worth = worth or {}
    first = {sample.problem_id: sample.text for sample in reversed(samples)}
    missing = [problem.id for problem in problems if problem.id not in first]
    if missing:
        raise TaskError(f"no sample of {missing[0]}: nothing to grade")
    numbers = [_number(problem) for problem in problems]
    total = _plain(sum(worth[n] for n in numbers)) if set(numbers) <= worth.keys() else ""
    try:
        with path.open("x", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            for number, problem in zip(numbers, problems, strict=True):
                possible = _plain(worth[number]) if number in worth else ""
                texts = _cell(problem.question), _cell(first[problem.id])
                writer.writerow([number, *texts, possible, "", ""])
            writer.writerow([TOTAL, "", "", total, "", ""])
    except FileExistsError as error:
        raise TaskError(f"{path} exists, and may hold points given; name another file") from error


def read_sheet(path: Path, questions: int = QUESTIONS) -> Result:
    """The result of a sheet graded in full. Raises TaskError naming the file and question that is not in order."""
    rows = _sheet(path)
    numbers = [row["number"] for row in rows]
    if numbers != [*map(str, range(1, questions + 1)), TOTAL]:
        raise TaskError(
            f"{path}: the numbers must be 1 to {questions}, then {TOTAL!r}; they are {', '.join(numbers)}"
        )
    given, possible = 0.0, 0.0
    for row in rows[:-1]:
        where = f"{path}, question {row['number']}"
        most, got = (_points(row[name], f"{where}, {name}") for name in HEADER[3:5])
        if most <= 0 or got > most:
            raise TaskError(f"{where}: {_plain(got)} points given of {_plain(most)} possible")
        given, possible = given + got, possible + most
    stated = _points(rows[-1]["points possible"], f"{path}, {TOTAL}, points possible")
    if not math.isclose(stated, possible):
        raise TaskError(
            f"{path}: the points possible add up to {_plain(possible)}, but the total says {_plain(stated)}"
        )
    return Result(given, possible, questions)


def _problems(data_dir: str) -> list[Problem]:
    folder = data_folder(data_dir, "hungarian")
    if folder is None:
        # By file name: beside the questions the repository holds PDF files.
        rows = hub_rows(
            HUB, None, "test", ("Question",), REVISION, INSTEAD, data_files={"test": "*.csv"}
        )
    elif (folder / "test.csv").is_file():
        rows = list(_csv(folder / "test.csv"))
    else:
        rows = read_rows(folder / "test.jsonl", ())
    texts = [str(row.get("Question") or row.get("question") or "").strip() for row in rows]
    if len(texts) != QUESTIONS or not all(texts):
        found = sum(map(bool, texts))
        raise TaskError(
            f"{folder or HUB}: {found} questions in {len(texts)} rows (column question); the exam has {QUESTIONS}"
        )
    return [Problem(f"hungarian/{n}", text, BY_HAND) for n, text in enumerate(texts, 1)]


def _number(problem: Problem) -> int:
    return int(problem.id.rpartition("/")[2])


def _key(data_dir: str) -> dict[int, tuple[str, float]]:
    """Question number -> answer and points, "" and 0 where the key does not say."""
    folder = data_folder(data_dir, "hungarian")
    if folder is None or not (folder / "key.jsonl").is_file():
        raise TaskError(
            "no key: put your own in hungarian/key.jsonl of the folder that --data-dir or RESTEM_DATA names, lines "
            'like {"number": 1, "answer": "...", "points": 2}'
        )
    path = folder / "key.jsonl"
    key: dict[int, tuple[str, float]] = {}
    for line, row in enumerate(read_rows(path, ("number",)), 1):
        where = f"{path}, line {line}"
        if not row["number"].isdecimal() or not 1 <= int(row["number"]) <= QUESTIONS:
            raise TaskError(f"{where}: number {row['number']!r} is not from 1 to {QUESTIONS}")
        number = int(row["number"])
        if number in key:
            raise TaskError(f"{where}: number {number} is already there")
        worth = _points(row["points"], f"{where}, points") if row.get("points") else 0.0
        key[number] = str(row.get("answer") or "").strip(), worth
    return key


def _csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"cannot read {path}: {error}") from error


def _sheet(path: Path) -> list[dict[str, str]]:
    rows = _csv(path)
    if not rows or not {*HEADER[:1], *HEADER[3:5]} <= rows[0].keys():
        raise TaskError(f"{path}: not a sheet with the columns {', '.join(HEADER)}")
    return [{name: (row[name] or "").strip() for name in HEADER if name in row} for row in rows]


def _points(text: str, where: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = -1.0
    if not math.isfinite(value) or value < 0:
        raise TaskError(f"{where}: {text!r} is no number of points")
    return value


def _plain(value: float) -> str:
    return f"{value:g}"


def _cell(text: str) -> str:
    # A spreadsheet would run text that begins like a formula, and a model wrote it.
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
