"""The exercises can be done as they are put: solutions are there, their code runs, commands name keys that exist."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from restem_lib.config import PROJECT
from restem_lib.keys import ConfigError
from restem_lib.runner import NOTEBOOKS, add_run, declared
from restem_lib.runner.plan import joined, make_plan

NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
FILES = sorted((PROJECT / "solutions").glob("*.md"))
PLAN = NOTEBOOKS / "README.md"
every = pytest.mark.parametrize("name", NAMES)


def prose(name: str) -> str:
    """The text cells of a notebook."""
    page = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [joined(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join(cells)


def solution(name: str) -> str:
    return (PROJECT / "solutions" / f"{name}.md").read_text(encoding="utf-8")


# --- one answer an exercise


def test_every_notebook_has_its_solutions_and_nothing_else_has() -> None:
    assert [path.stem for path in FILES] == NAMES != []


@every
def test_every_exercise_has_an_answer_of_its_kind(name: str) -> None:
    exercises = prose(name).split("## Exercises", 1)[1].split("\n## ")[0]
    asked = re.findall(r"^(\d+)\. \*([^*]+)\*", exercises, re.MULTILINE)
    answered = re.findall(r"^## (\d+)\. \*([^*]+)\*$", solution(name), re.MULTILINE)
    assert asked and answered == asked


@every
def test_no_answer_is_empty(name: str) -> None:
    _, *answers = re.split(r"^## \d+\. .*$", solution(name), flags=re.MULTILINE)
    assert [len(answer.split()) >= 40 for answer in answers] == [True] * len(answers)


# --- the code in them


class Block(NamedTuple):
    file: Path
    number: int
    line: int
    code: str


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(path, number, text[: match.start(1)].count("\n"), match[1])
        for number, match in enumerate(found, 1)
    ]


def parameters() -> list[Any]:
    """Blocks as parameters; from the first in a file that trains a model on, they are slow."""
    found = []
    for path in FILES:
        slow = False
        for block in blocks(path):
            slow = slow or "load_preset" in block.code
            marks = [pytest.mark.slow] if slow else []
            found.append(pytest.param(block, marks=marks, id=f"{path.stem}-{block.number}"))
    return found


@pytest.fixture(scope="module")
def namespaces() -> dict[Path, list[Any]]:
    """Solutions file -> its names, and how many of its blocks have been run."""
    return {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the blocks run: their store is not the project's."""
    return tmp_path_factory.mktemp("solutions")


@pytest.mark.parametrize("block", parameters())
def test_a_block_runs_after_those_before_it(
    block: Block,
    namespaces: dict[Path, list[Any]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    state = namespaces.setdefault(block.file, [{"__name__": "solution"}, 0])
    for one in blocks(block.file)[state[1] : block.number]:
        source = "\n" * one.line + one.code  # so that an error names its line in the file
        exec(compile(source, str(one.file), "exec"), state[0])
        state[1] = one.number


BLOCKS = [one for path in FILES for one in blocks(path)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda one: f"{one.file.stem}-{one.number}")
def test_a_block_asserts_what_it_found(block: Block) -> None:
    assert re.search(r"^ *assert ", block.code, re.MULTILINE)


def test_no_code_is_left_out() -> None:
    """A fence that is not of the form above would never run."""
    for path in FILES:
        fences = re.findall(r"^ *```.*$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert fences == ["```python", "```"] * len(blocks(path)), path


# --- the commands in them


def runs(text: str) -> list[list[str]]:
    """The arguments of each `restem run` in a text: as code within a line, or on an indented line of its own."""
    inline = re.findall(r"`restem run\s([^`]+)`", text)
    own = re.findall(r"^    restem run (.+)$", text, re.MULTILINE)
    return [shlex.split(one, comments=True) for one in [*inline, *own]]


def changes(text: str) -> list[list[str]]:
    """Overrides that are quoted alone, as `-p key=value`."""
    return [shlex.split(one) for one in re.findall(r"`(-p \w+=[^`]+)`", text)]


def check(arguments: list[str]) -> None:
    """Raises ConfigError, or SystemExit, for what `restem run` would refuse."""
    parser = argparse.ArgumentParser()
    add_run(parser)
    args = parser.parse_args(arguments)
    make_plan(args.notebooks, args.preset, args.overrides, NOTEBOOKS)


@every
def test_restem_run_takes_what_is_quoted(name: str) -> None:
    for text in (prose(name), solution(name)):
        for arguments in runs(text):
            check(arguments)
        for arguments in changes(text):
            check([name, *arguments])


@every
def test_what_an_exercise_asks_to_run_is_answered_by_a_command(name: str) -> None:
    exercises = prose(name).split("## Exercises", 1)[1]
    answered = [one for one in runs(solution(name)) if one[0] == name]
    asked = runs(exercises) + [[name, *one] for one in changes(exercises)]
    assert [one for one in asked if one not in answered] == []


def test_a_refused_key_would_be_found() -> None:
    (arguments,) = runs("text `restem run 08_distillation -p cap=1` text")
    with pytest.raises(ConfigError, match="do not have it"):
        check(arguments)
    (arguments,) = changes("with `-p math_sample=4` it")
    with pytest.raises(ConfigError, match="math_samples"):
        check(["02_scaling", *arguments])


# --- the lesson plan


def test_the_lesson_plan_has_a_row_for_every_notebook_in_order() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.ipynb\) \|", PLAN.read_text(), re.MULTILINE)
    assert rows == [(name, name) for name in NAMES]


def test_the_lesson_plan_names_only_what_exists() -> None:
    text = PLAN.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (NOTEBOOKS / link).exists(), link
    assert runs(text)
    for arguments in runs(text):
        check(arguments)
    for name, rest in re.findall(r"papermill notebooks/(\w+)\.ipynb (.+)$", text, re.MULTILINE):
        assert set(re.findall(r"-p (\w+)", rest)) <= set(declared(NOTEBOOKS / f"{name}.ipynb"))
