"""The user's own task: a file of JSON lines with `id`, `prompt`, `answer` (and, if there are any, `solution`).

For programs `tests` stands in place of `answer`: an object with the fields of `rewards.programs.Tests`, e.g.
{"kind": "call", "entry": "add", "inputs": [[1, 2]], "outputs": [3]}. The prompt is used as it stands. `NAME.test.jsonl`
beside `NAME.jsonl` is the test split; without it a fifth of the problems, chosen by a hash of their ids, is held out
for testing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from restem_lib.files import file_sha256
from restem_lib.records import Problem
from restem_lib.rewards.programs import Tests
from restem_lib.store import digest
from restem_lib.tasks import Task
from restem_lib.tasks.local import TaskError, read_rows

COLUMNS = ("id", "prompt")


def load(path: str | Path) -> Task:
    """Both splits of a file. Raises TaskError naming file and line."""
    path = Path(path)
    beside = path.with_name(f"{path.stem}.test.jsonl")
    programs = _has_tests(path)
    problems = _problems(path, programs)
    if beside.is_file():
        train, test = problems, _problems(beside, programs)
        both = {problem.id for problem in train} & {problem.id for problem in test}
        if both:
            raise TaskError(
                f"{beside}: id {min(both)!r} is also in {path}; a test problem must not be trained on"
            )
    else:
        train = [problem for problem in problems if int(digest(problem.id), 16) % 5]
        test = [problem for problem in problems if int(digest(problem.id), 16) % 5 == 0]
    if not train or not test:
        raise TaskError(f"{path} has {len(problems)} problems: too few to train and to test on")
    return Task(
        name=f"jsonl-{path.stem}-{file_sha256(path)[:8]}",
        train=tuple(train),
        test=tuple(test),
        template="{question}",
        grader="programs" if programs else "answers",
    )


def _has_tests(path: Path) -> bool:
    """Whether the first line has tests; all lines must be like it."""
    try:
        with path.open(encoding="utf-8") as file:
            row = json.loads(file.readline())
    except (OSError, ValueError):
        return False  # read_rows says what is wrong
    return isinstance(row, dict) and "tests" in row


def _problems(path: Path, programs: bool) -> list[Problem]:
    seen: dict[str, int] = {}
    problems = []
    columns, nested = (COLUMNS, ("tests",)) if programs else ((*COLUMNS, "answer"), ())
    for number, row in enumerate(read_rows(path, columns, nested), 1):
        where = f"{path}, line {number}"
        if row["id"] in seen:
            raise TaskError(f"{where}: id {row['id']!r} is already in line {seen[row['id']]}")
        seen[row["id"]] = number
        if row.get("answer" if programs else "tests") is not None:
            raise TaskError(f"{where}: every line has 'answer', or every line 'tests'; not both")
        answer = _tests(row, where) if programs else row["answer"]
        problems.append(Problem(row["id"], row["prompt"], answer, str(row.get("solution") or "")))
    return problems


def _tests(row: dict[str, Any], where: str) -> str:
    try:
        return Tests.from_json(row["tests"]).to_json()
    except ValueError as error:
        raise TaskError(f"{where}: 'tests': {error}") from error
