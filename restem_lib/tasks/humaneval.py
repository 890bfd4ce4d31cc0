"""HumanEval: 164 functions to complete from signature and docstring (Chen et al. 2021); for evaluation only.

A local folder (`<data_dir>/humaneval/HumanEval.jsonl.gz`) first, then `openai/openai_humaneval` on the Hub. Zero-shot:
the prompt is the beginning of the program, and the completion its end.
"""

from __future__ import annotations

from typing import Any

from restem_lib.records import Problem
from restem_lib.rewards.programs import Tests
from restem_lib.tasks import Task
from restem_lib.tasks.local import data_folder, first_file, hub_rows, read_rows

HUB = "openai/openai_humaneval"
CONFIG = "openai_humaneval"
REVISION = "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544"
COLUMNS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
FILES = ("HumanEval.jsonl.gz", "HumanEval.jsonl", "test.jsonl")
INSTEAD = f"humaneval/{FILES[0]} (or {FILES[2]}) with the columns {', '.join(COLUMNS)}"
STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""What follows the function, at the start of a line; a body is indented, so none of these ends it."""
EXPECTED = 164


def load(data_dir: str = "") -> Task:
    """The test split; there is no other. Raises TaskError."""
    folder = data_folder(data_dir, "humaneval")
    if folder is None:
        rows = hub_rows(HUB, CONFIG, "test", COLUMNS, REVISION, INSTEAD)
    else:
        rows = read_rows(first_file(folder, *FILES), COLUMNS)
    notes = ["For evaluation only: there is no train split."]
    if len(rows) != EXPECTED:
        notes.append(f"There are {len(rows)} problems; HumanEval has {EXPECTED}.")
    return Task(
        name="humaneval",
        train=(),
        test=tuple(_problem(row) for row in rows),
        template="{question}",
        stop=STOP,
        grader="programs",
        notes=tuple(notes),
    )


def _problem(row: dict[str, Any]) -> Problem:
    entry = row["entry_point"]
    tests = Tests(
        kind="asserts",
        entry=entry,
        before=row["prompt"],
        setup=row["prompt"],  # some tests call helpers that the prompt defines
        asserts=f"{row['test'].rstrip()}\n\ncheck({entry})\n",
    )
    return Problem(
        id=f"humaneval/test/{row['task_id'].rpartition('/')[2]}",
        question=row["prompt"],
        answer=tests.to_json(),
        solution=row["canonical_solution"],
    )
