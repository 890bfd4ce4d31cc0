"""GSM8K: grade-school word problems; 7473 train, 1319 test (Cobbe et al. 2021).

A local folder (`<data_dir>/gsm8k/{train,test}.jsonl`) first, then `openai/gsm8k` on the Hub. Few-shot, with examples
from the train split itself, which are then no training problems.
"""

from __future__ import annotations

import re
from typing import Any

from restem_lib.records import Problem
from restem_lib.tasks import Task
from restem_lib.tasks.local import TaskError, data_folder, hub_rows, read_rows

HUB = "openai/gsm8k"
REVISION = "740312add88f781978c0658806c59bc2815b9866"
COLUMNS = ("question", "answer")
INSTEAD = "gsm8k/train.jsonl and gsm8k/test.jsonl with the columns question, answer"
TEMPLATE = "Question: {question}\nAnswer:"
SHOTS = (0, 2, 6, 12)
"""Rows of the train split (from 0) that serve as examples: short ones, of two to four steps."""
CALCULATOR = re.compile(r"<<[^<>]*>>")


def load(data_dir: str = "") -> Task:
    """Both splits with the few-shot prefix. Raises TaskError."""
    folder = data_folder(data_dir, "gsm8k")
    splits = {}
    for split in ("train", "test"):
        if folder is None:
            rows = hub_rows(HUB, "main", split, COLUMNS, REVISION, INSTEAD)
            source = f"{HUB} {split}, row"
        else:
            path = folder / f"{split}.jsonl"
            rows, source = read_rows(path, COLUMNS), f"{path}, line"
        splits[split] = [_problem(row, split, index, source) for index, row in enumerate(rows)]
    train = splits["train"]
    if len(train) <= max(SHOTS):
        raise TaskError(
            f"the train split of GSM8K has {len(train)} problems; the few-shot examples are rows {SHOTS}"
        )
    examples = [
        TEMPLATE.replace("{question}", train[i].question) + train[i].solution for i in SHOTS
    ]
    return Task(
        name="gsm8k",
        train=tuple(problem for index, problem in enumerate(train) if index not in SHOTS),
        test=tuple(splits["test"]),
        template=TEMPLATE,
        prefix="".join(f"{example}\n\n" for example in examples),
        stop=("\n\n", "Question:"),
    )


def _problem(row: dict[str, Any], split: str, index: int, source: str) -> Problem:
    solution, found, answer = row["answer"].rpartition("####")
    if not found or not answer.strip():
        raise TaskError(f"{source} {index + 1}: the solution lacks its final '#### answer'")
    # The calculator marks are an artefact of how the solutions were collected; nobody would write them.
    steps = CALCULATOR.sub("", solution).strip()
    return Problem(
        id=f"gsm8k/{split}/{index}",
        question=row["question"].strip(),
        answer=answer.strip().replace(",", ""),
        solution=f" {steps}\n#### {answer.strip()}",
    )
