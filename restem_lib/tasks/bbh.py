"""BIG-Bench Hard: 23 reasoning tasks in 27 files, 6511 questions (Suzgun et al. 2022); for evaluation only.

A local folder (`<data_dir>/bbh/bbh/*.json` and `<data_dir>/bbh/cot-prompts/*.txt`, the authors' repository) first, then
the Hub, which has no examples. Three examples a task: with their reasoning ("bbh"), or with the answers alone
("bbh-direct"); without cot-prompts there are neither. The files carry a canary: nothing of them may be trained on.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restem_lib.records import Problem
from restem_lib.tasks import Task
from restem_lib.tasks.local import TaskError, data_folder, hub_rows, mixed

HUB = "SaylorTwift/bbh"
REVISION = "b5306be6f827cfafbb545ff5a51f96916029b0fd"
COLUMNS = ("input", "target")
INSTEAD = "bbh/bbh/*.json and bbh/cot-prompts/*.txt as in github.com/suzgunmirac/BIG-Bench-Hard"
TASKS = (
    "boolean_expressions",
    "causal_judgement",
    "date_understanding",
    "disambiguation_qa",
    "dyck_languages",
    "formal_fallacies",
    "geometric_shapes",
    "hyperbaton",
    "logical_deduction",
    "movie_recommendation",
    "multistep_arithmetic_two",
    "navigate",
    "object_counting",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
    "temporal_sequences",
    "tracking_shuffled_objects",
    "web_of_lies",
    "word_sorting",
)
SIZES = ("three", "five", "seven")
FILES = {
    task: tuple(f"{task}_{size}_objects" for size in SIZES)
    if task in ("logical_deduction", "tracking_shuffled_objects")
    else (task,)
    for task in TASKS
}
"""Task -> its files."""
EXPECTED = 6511
QUESTION = "Q: {question}\n"
DIRECT = "A:"
REASONED = "A: Let's think step by step.\n"
STOP = ("\nQ:",)
_ANSWER = "So the answer is "
_SHOT = re.compile(r"(.*?)\nA: Let's think step by step\.\s+(.*)", re.DOTALL)
_OPTION = re.compile(r"\([A-Z]\)")


def load(data_dir: str = "", name: str = "bbh") -> Task:
    """ "bbh" or "bbh-direct", with ":" and a task or file for one alone, e.g. "bbh:date_understanding".

    Examples stand in Task.prefix where all problems have the same, else in each question. Raises TaskError.
    """
    kind, _, part = name.partition(":")
    files = _files(part)
    asked = problems(data_dir, files)
    examples = {file: _examples(data_dir, file) for file in files}
    found = any(examples.values())
    reasoned = found and kind == "bbh"
    prefixes = {
        file: _prefix(*texts, reasoned) if texts else "" for file, texts in examples.items()
    }
    common = len(set(prefixes.values())) == 1
    test = [
        problem
        if common
        else Problem(
            problem.id,
            prefixes[file] + QUESTION.replace("{question}", problem.question),
            problem.answer,
        )
        for file, asked_here in asked.items()
        for problem in asked_here
    ]
    return Task(
        name=name,
        train=(),
        test=mixed(test),
        template=(QUESTION if common else "{question}") + (REASONED if reasoned else DIRECT),
        prefix=prefixes[files[0]] if common else "",
        stop=STOP if reasoned else ("\n\n", *STOP),
        grader="labels",
        notes=tuple(_notes(asked, found, part)),
    )


def problems(data_dir: str = "", files: Sequence[str] = ()) -> dict[str, list[Problem]]:
    """File -> its questions without any example, for all files or some. Raises TaskError."""
    folder = data_folder(data_dir, "bbh")
    local = folder is not None and any((folder / "bbh").glob("*.json"))
    found = {}
    for file in files or _files(""):
        if folder is not None and local:
            rows = _read(folder / "bbh" / f"{file}.json")
        else:
            rows = hub_rows(HUB, file, "test", COLUMNS, REVISION, INSTEAD)
        found[file] = [
            Problem(f"bbh/{file}/{index}", row["input"].strip(), row["target"].strip())
            for index, row in enumerate(rows)
        ]
    return found


def baseline(problems: Sequence[Problem]) -> dict[str, float]:
    """File -> accuracy of always giving its commonest target: above one half in several files."""
    targets: dict[str, Counter[str]] = {}
    for problem in problems:
        targets.setdefault(problem.id.split("/")[1], Counter())[problem.answer] += 1
    return {
        file: counts.most_common(1)[0][1] / counts.total()
        for file, counts in sorted(targets.items())
    }


def _files(part: str) -> tuple[str, ...]:
    every = tuple(file for files in FILES.values() for file in files)
    if not part:
        return every
    if part not in FILES and part not in every:
        raise TaskError(f"BBH has no task {part!r}; there are {', '.join(FILES)}")
    return FILES.get(part, (part,))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise TaskError(f"no file {path}")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["examples"]
    except (ValueError, KeyError, TypeError) as error:
        raise TaskError(f"{path}: not a JSON object with 'examples' ({error})") from error
    for number, row in enumerate(rows, 1):
        for column in COLUMNS:
            if not isinstance(row, dict) or not str(row.get(column) or "").strip():
                raise TaskError(f"{path}, example {number}: no {column!r}")
    return [{column: str(row[column]) for column in COLUMNS} for row in rows]


def _examples(data_dir: str, file: str) -> tuple[str, list[tuple[str, str]]] | None:
    """The description of a file's task and its examples, each a question and a reasoning with answer."""
    folder = data_folder(data_dir, "bbh")
    if folder is None or not (folder / "cot-prompts").is_dir():
        return None
    path = folder / "cot-prompts" / f"{file}.txt"
    if not path.is_file():
        raise TaskError(f"no file {path}")
    # Before the line of hyphens stands the canary, which belongs in no prompt.
    _, line, text = path.read_text(encoding="utf-8").partition("\n-----\n")
    description, *blocks = text.strip().split("\n\nQ: ")
    matches = [_SHOT.fullmatch(block.strip()) for block in blocks]
    shots = [(match[1].strip(), match[2].strip()) for match in matches if match]
    if not line or not shots or len(shots) < len(blocks) or any(_ANSWER not in s[1] for s in shots):
        raise TaskError(f"{path}: not a canary, a line of hyphens and examples with their answers")
    return description.strip(), shots


def _prefix(description: str, shots: list[tuple[str, str]], reasoned: bool) -> str:
    blocks = [description]
    for question, reasoning in shots:
        answer = reasoning.rpartition(_ANSWER)[2].removesuffix(".")
        ending = REASONED + reasoning if reasoned else f"{DIRECT} {answer}"
        blocks.append(QUESTION.replace("{question}", question) + ending)
    return "".join(f"{block}\n\n" for block in blocks)


def _notes(asked: dict[str, list[Problem]], found: bool, part: str) -> list[str]:
    every = [problem for here in asked.values() for problem in here]
    notes = ["For evaluation only: the files carry a canary, so there is no train split."]
    if not found:
        notes.append("No bbh/cot-prompts in the data folder: asked directly, without examples.")
    if not part and len(every) != EXPECTED:
        notes.append(f"There are {len(every)} questions; BBH has {EXPECTED}.")
    odd = []
    for here in asked.values():
        others = [problem.id for problem in here if not _OPTION.fullmatch(problem.answer)]
        if len(others) < len(here) / 2:  # else the answers are words or numbers
            odd += others
    if odd:
        notes.append(f"Kept though their target is no option letter: {', '.join(odd)}.")
    return notes
