"""The toy world as a whole: frozen, every problem in the split of its form, and no form of a problem in the text."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from restem_lib.records import Problem
from restem_lib.tasks import load_task
from restem_lib.tasks.toy import (
    Drawn,
    bbh,
    code,
    corpus,
    exam,
    for_reading,
    functions,
    humaneval,
    maths,
    problems,
    split_of,
)
from restem_lib.tasks.toy.plans import normal_form

FROZEN = {
    "toy-math": "d43cf7ebe54a9a34",
    "toy-math-terse": "58af09e469616dec",
    "toy-gsm": "ebf8d5b67f4bafa8",
    "toy-exam": "2f3e439a137a9156",
    "toy-code": "f6893718a229a589",
    "toy-humaneval": "cfec09edfb2fb6a4",
    "toy-bbh": "76d720be4150a801",
    "held-out tests": "27ab40b0a366d0e5",
    "text": "e256bbb458da5b30",
}
"""Of all problems of all splits, their answers and human solutions, and of the first 1,000 documents of a seed."""


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def digests() -> dict[str, str]:
    tasks = [load_task(name) for name in FROZEN if name.startswith("toy-")]
    found = {task.name: digest(repr((task.train, task.test))) for task in tasks}
    text = islice(corpus.documents(Random("text")), 1_000)
    found["held-out tests"] = digest(repr(sorted(code.held_out().items())))
    return found | {"text": digest("".join("".join(pair) for pair in text))}


def test_the_world_is_frozen() -> None:
    assert digests() == FROZEN


@pytest.mark.slow
def test_the_world_is_the_same_in_another_process() -> None:
    """Whose strings have other hashes, so that sets have another order."""
    here = Path(__file__)
    shown = subprocess.run(
        [sys.executable, "-c", f"import {here.stem} as world; print(world.digests())"],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        cwd=here.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == str(FROZEN)


# Splits.


class Replayed(NamedTuple):
    """A problem as its task draws it, with the form behind its words."""

    split: str
    form: str
    problem: Problem


@pytest.fixture(scope="module")
def world() -> dict[str, list[Replayed]]:
    """Task -> its problems, drawn again as the task draws them."""
    found: dict[str, list[Replayed]] = {}

    def spied(
        name: str, wanted: Mapping[str, int], draw: Callable[[Random], Drawn]
    ) -> dict[str, tuple[Problem, ...]]:
        task = found.setdefault(name.split("/")[0], [])

        def watched(rng: Random) -> Drawn:
            form, problem = draw(rng)

            def noted(id: str) -> Problem:
                task.append(Replayed(id.split("/")[-2], form, problem(id)))
                return task[-1].problem

            return Drawn(form, noted)

        return problems(name, wanted, watched)

    with pytest.MonkeyPatch.context() as patch:
        for module in (maths, exam, code, humaneval, bbh):
            patch.setattr(module, "problems", spied)
        for cached in (maths.load, maths.load_gsm, exam.load, code._made, humaneval.load):
            cached.__wrapped__()
        for kind in bbh.TASKS:
            bbh._asked.__wrapped__(kind)
    return found


@pytest.mark.slow
def test_the_replay_draws_the_tasks_problems(world: dict[str, list[Replayed]]) -> None:
    assert sum(map(len, world.values())) == 20_985
    for name, drawn in world.items():
        task = load_task(name)
        for split, there in (("train", task.train), ("test", task.test)):
            again = Counter((p.question, p.solution) for s, _, p in drawn if s == split)
            assert again == Counter((p.question, p.solution) for p in there)


@pytest.mark.slow
def test_every_problem_stands_in_the_split_of_its_form(world: dict[str, list[Replayed]]) -> None:
    wrong = [one for drawn in world.values() for one in drawn if split_of(one.form) != one.split]
    assert not wrong, wrong[:3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [("toy-math", "toy-gsm", "toy-exam"), ("toy-code", "toy-humaneval"), ("toy-bbh",)]
)
def test_no_form_is_in_train_and_test(
    world: dict[str, list[Replayed]], names: tuple[str, ...]
) -> None:
    drawn = [one for name in names for one in world[name]]
    train, test = ({one.form for one in drawn if one.split == s} for s in ("train", "test"))
    assert not train & test


@pytest.mark.slow
def test_no_form_is_twice_in_a_task(world: dict[str, list[Replayed]]) -> None:
    """But in toy-exam, whose levels are drawn apart."""
    forms = {name: [one.form for one in drawn] for name, drawn in world.items()}
    twice = {name: len(found) - len(set(found)) for name, found in forms.items()}
    exam_twice = twice.pop("toy-exam")
    assert set(twice.values()) == {0} and exam_twice < 10


@pytest.mark.slow
def test_the_text_holds_no_problem(
    world: dict[str, list[Replayed]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the forms of what is written, and by the prompts."""
    read: list[str] = []

    def watch(module: Any, name: str, forms: Callable[..., list[str]]) -> None:
        real = getattr(module, name)

        def watched(*given: Any) -> Any:
            read.extend(forms(*given))
            return real(*given)

        monkeypatch.setattr(module, name, watched)

    for module in (maths, exam):
        watch(module, "read_about", lambda words, plan, *rest: [normal_form(plan)])
    for module, name in ((code, "asked"), (humaneval, "_written")):
        watch(module, name, lambda spec, written, rng: [*map(functions.form, (spec, written))])

    def puzzle(*given: Any) -> Any:
        made = for_reading(*given)
        read.append(made.form)
        return made

    monkeypatch.setattr(bbh, "for_reading", puzzle)
    prompts = [prompt for prompt, _ in islice(corpus.documents(Random("read")), 30_000)]
    assert len(read) > 27_000
    assert not {one.form for drawn in world.values() for one in drawn}.intersection(read)
    assert {split_of(form) for form in read} == {"pretraining"}
    for name in (*world, "toy-bbh-direct"):
        task = load_task(name)
        assert not {task.prompt(p) for p in task.train + task.test}.intersection(prompts)
