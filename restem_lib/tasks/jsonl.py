"""The user's own task: a file of JSON lines with `id`, `prompt`, `answer` (and, if there are any, `solution`).

The prompt is used as it stands. `NAME.test.jsonl` beside `NAME.jsonl` is the test split; without it a fifth of the
problems, chosen by a hash of their ids, is held out for testing.
"""

from __future__ import annotations

from pathlib import Path

from restem_lib.records import Problem
from restem_lib.store import digest, file_sha256
from restem_lib.tasks import Task
from restem_lib.tasks.local import TaskError, read_rows

COLUMNS = ("id", "prompt", "answer")


def load(path: str | Path) -> Task:
    """Both splits of a file. Raises TaskError naming file and line."""
    path = Path(path)
    beside = path.with_name(f"{path.stem}.test.jsonl")
    problems = _problems(path)
    if beside.is_file():
        train, test = problems, _problems(beside)
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
    )


def _problems(path: Path) -> list[Problem]:
    seen: dict[str, int] = {}
    problems = []
    for number, row in enumerate(read_rows(path, COLUMNS), 1):
        if row["id"] in seen:
            raise TaskError(
                f"{path}, line {number}: id {row['id']!r} is already in line {seen[row['id']]}"
            )
        seen[row["id"]] = number
        problems.append(
            Problem(row["id"], row["prompt"], row["answer"], str(row.get("solution") or ""))
        )
    return problems
