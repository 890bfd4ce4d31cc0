"""MBPP: 974 short Python functions asked for in a sentence, with three asserts each (Austin et al. 2021).

A local folder (`<data_dir>/mbpp/mbpp.jsonl`, or the Hub's splits as files) first, then the Hub. Few-shot; the splits
are those of the data set's authors, by task_id.
"""

from __future__ import annotations

import ast
import json
import warnings
from typing import Any

from restem_lib.records import Problem
from restem_lib.rewards.programs import Tests
from restem_lib.tasks import Task
from restem_lib.tasks.local import TaskError, data_folder, hub_rows, read_rows

HUB = "google-research-datasets/mbpp"
REVISION = "4bb6404fdc6cacfda99d4ac4205087b89d32030c"
COLUMNS = ("task_id", "text", "code")
NESTED = ("test_list",)
HUB_SPLITS = ("prompt", "test", "validation", "train")
INSTEAD = "mbpp/mbpp.jsonl with the columns task_id, text, code, test_setup_code, test_list"
SPLITS = {"prompt": (1, 10), "test": (11, 510), "validation": (511, 600), "train": (601, 974)}
"""First and last task_id."""
SHOTS = (2, 7, 9)
"""Of the prompt split: a one-liner, one with an import, one with a loop."""
TEMPLATE = "Task: {question}\n\nProgram in Python:\n```python\n"
STOP = ("\n```",)


def load(data_dir: str = "") -> Task:
    """Train and test split with the few-shot prefix. Raises TaskError."""
    problems = {problem.id: problem for problem in all_rows(data_dir)}
    missing = [name for name in map(_name, SHOTS) if name not in problems]
    if missing:
        raise TaskError(f"MBPP lacks {missing[0]}, one of the few-shot examples")
    shots = [problems[_name(number)] for number in SHOTS]
    examples = (TEMPLATE.replace("{question}", shot.question) + shot.solution for shot in shots)
    split = {
        split: tuple(p for p in problems.values() if p.id.startswith(f"mbpp/{split}/"))
        for split in ("train", "test")
    }
    notes = ["Task ids 511 to 600, the validation split, are not used."]
    for name, found in split.items():
        first, last = SPLITS[name]
        if len(found) != last - first + 1:
            notes.append(
                f"The {name} split has {len(found)} problems; MBPP has {last - first + 1}."
            )
    return Task(
        name="mbpp",
        train=split["train"],
        test=split["test"],
        template=TEMPLATE,
        prefix="".join(f"{example}\n```\n\n" for example in examples),
        stop=STOP,
        grader="programs",
        notes=tuple(notes),
    )


def all_rows(data_dir: str = "") -> tuple[Problem, ...]:
    """Every problem of every split, by task_id. Raises TaskError."""
    folder = data_folder(data_dir, "mbpp")
    if folder is None:
        rows = [
            row
            for split in HUB_SPLITS
            for row in hub_rows(HUB, "full", split, COLUMNS, REVISION, INSTEAD, NESTED)
        ]
    else:
        names = ("mbpp.jsonl", *(f"{split}.jsonl" for split in HUB_SPLITS))
        paths = [folder / name for name in names if (folder / name).is_file()]
        if not paths:
            raise TaskError(f"{folder} has no file {names[0]} and none of a split")
        # mbpp.jsonl holds all splits: those beside it would come twice.
        paths = paths[:1] if paths[0].name == "mbpp.jsonl" else paths
        rows = [row for path in paths for row in read_rows(path, COLUMNS, NESTED)]
    return tuple(_problem(row) for row in sorted(rows, key=_number))


def _number(row: dict[str, Any]) -> int:
    if not row["task_id"].isdecimal() or not 1 <= int(row["task_id"]) <= 974:
        raise TaskError(f"MBPP's task_id is a number from 1 to 974, not {row['task_id']!r}")
    return int(row["task_id"])


def _name(number: int) -> str:
    split = next(name for name, (first, last) in SPLITS.items() if first <= number <= last)
    return f"mbpp/{split}/{number}"


def _problem(row: dict[str, Any]) -> Problem:
    name = _name(_number(row))
    code = _clean(row["code"])
    setup = _clean(row.get("test_setup_code") or "")
    asserts = _clean("\n".join(json.loads(row["test_list"])))
    shown = f"{setup}\n{asserts}" if setup else asserts
    tests = Tests(kind="asserts", entry=_entry(code, asserts, name), setup=setup, asserts=asserts)
    return Problem(
        id=name,
        question=f"{row['text'].strip()}\nIt must pass these tests:\n{shown}",
        answer=tests.to_json(),
        solution=code,
    )


def _clean(code: str) -> str:
    return code.replace("\r\n", "\n").rstrip()


def _entry(code: str, asserts: str, name: str) -> str:
    """The function under test: the first one called there that the reference program defines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "\\w" in a string, which several programs have
            program, checks = ast.parse(code), ast.parse(asserts)
    except SyntaxError as error:
        raise TaskError(f"{name}: code or tests are not Python ({error})") from error
    defined = {n.name for n in program.body if isinstance(n, ast.FunctionDef)}
    for node in ast.walk(checks):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in defined
        ):
            return node.func.id
    raise TaskError(f"{name}: the tests call no function that the code defines")
