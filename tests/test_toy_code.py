"""toy-code and toy-humaneval: what their problems are, that right programs pass, and that slips do not."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib.records import Problem
from restem_lib.rewards import programs
from restem_lib.rewards.programs import Tests
from restem_lib.tasks.toy import (
    LONGEST,
    PIECES,
    code,
    functions,
    humaneval,
    operations,
    slips,
    split_of,
)
from restem_lib.tasks.toy.functions import Spec, Step, run
from restem_lib.tasks.toy.neighbours import neighbours
from restem_lib.tasks.toy.slips import slip
from restem_lib.tasks.toy.snippets import Source
from restem_lib.tasks.toy.writing import NAMES, STYLES, function, wording

QUICK = settings(deadline=None, max_examples=150, derandomize=True)
SPLITS = ("train", "test", "pretraining")
LEVELS = (1, 1, 1, 1, 1)


def op(kind: str, on: str, name: str, k: int | str = 0) -> Step:
    tables = {"filter": operations.FILTERS, "map": operations.MAPS, "fold": operations.FOLDS}
    table = operations.PICKS if kind == "pick" else tables[kind][on]
    return Step(next(op for op in table if op.name == name), k)


def source(name: str) -> Source:
    return next(source for source in operations.SOURCES if source.name == name)


@cache
def read(module: Any, n: int) -> list[tuple[str, str]]:
    rng = Random("read")
    return [module.document(rng) for _ in range(n)]


def everything() -> tuple[Problem, ...]:
    task = code.load()
    return (*task.train, *task.test, *humaneval.load().test)


# The problems.


def test_sizes() -> None:
    task, other = code.load(), humaneval.load()
    assert (len(task.train), len(task.test)) == (2_342, 1_000)
    assert (len(other.train), len(other.test)) == (0, 164)
    assert len({problem.id for problem in everything()}) == 3_506
    assert {problem.level for problem in task.train} == {1, 2, 3, 4, 5}
    kinds = [Tests.from_json(problem.answer).kind for problem in task.test]
    assert 0.2 < kinds.count("stdin") / len(kinds) < 0.4


def test_a_constant_or_an_argument_passes_no_tests() -> None:
    for problem in everything():
        tests = Tests.from_json(problem.answer)
        assert len(set(map(repr, tests.outputs))) > 1
        for at in range(len(tests.inputs[0]) if tests.kind == "call" else 1):
            arguments = [value[at] if tests.kind == "call" else value for value in tests.inputs]
            same = programs.same_value if tests.kind == "call" else programs.same_text
            assert not all(map(same, tests.outputs, arguments))


# What functions mean, and which are the same.

MEANT = [
    ("list", [op("filter", "number", "even"), op("fold", "number", "sum")], ([1, 2, 4],), 6),
    ("list", [op("fold", "number", "largest")], ([],), 0),
    ("list", [op("fold", "number", "largest")], ([-3, -2],), -2),
    ("list", [op("pick", "", "tail", 2), op("fold", "number", "product")], ([5, 2, 3],), 6),
    ("list", [op("map", "number", "halve"), op("fold", "number", "list")], ([5, -5],), [2, -3]),
    ("list", [op("fold", "number", "second")], ([4, 9, 7],), 7),
    ("list", [op("fold", "number", "unique")], ([2, 1, 2],), [2, 1]),
    ("range", [op("filter", "number", "by", 3), op("fold", "number", "count")], (10,), 3),
    ("divisors", [op("fold", "number", "list")], (12,), [1, 2, 3, 4, 6, 12]),
    ("digits", [op("fold", "number", "descending")], (4719,), [9, 7, 4, 1]),
    ("between", [op("fold", "number", "alternate")], (1, 4), -2),
    ("number", [op("map", "number", "square"), op("map", "number", "last")], (7,), 9),
    ("larger", [op("map", "number", "digits")], (38, 9), 11),
    ("words", [op("map", "word", "len"), op("fold", "number", "sum")], ("red sun a",), 7),
    ("words", [op("fold", "word", "longest")], ("",), ""),
    ("strings", [op("filter", "word", "starts", "r"), op("fold", "word", "text")], (["ra", "b", "r"],), "ra r"),
    ("letters", [op("filter", "letter", "vowel"), op("fold", "letter", "text")], ("Anna eye",), "aee"),
    ("text", [op("map", "word", "reverse")], ("ab c",), "c ba"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "steps", "arguments", "gives"), MEANT)
def test_what_functions_give(name: str, steps: list[Step], arguments: Any, gives: Any) -> None:
    assert run(Spec(source(name), tuple(steps)), *arguments) == gives


def test_two_ways_to_say_one_function_have_one_form() -> None:
    even, over = op("filter", "number", "even"), op("filter", "number", "over", 5)
    add = op("map", "number", "add", 4)
    total = op("fold", "number", "sum")
    forms = [
        functions.form(Spec(source("list"), (*steps, total)))
        for steps in ((even, over), (over, even), (op("filter", "number", "atleast", 6), even))
    ]
    assert len(set(forms)) == 1
    assert functions.form(Spec(source("list"), (even, add, total))) not in forms
    digits = functions.form(Spec(source("digits"), (total,)))
    assert digits == functions.form(Spec(source("number"), (op("map", "number", "digits"),)))


def test_there_are_many_functions() -> None:
    rng = Random("many")
    forms = {functions.form(functions.draw(rng, 0, (0, 0, 1, 1, 1), SPLITS)) for _ in range(3_000)}
    assert len(forms) > 2_900


# Tests of programs, here: what is run is the world's own.

TAKEN: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "numbers": lambda line: ([int(number) for number in line.split()],),
    "number": lambda line: (int(line),),
    "pair": lambda line: tuple(map(int, line.split())),
    "text": lambda line: (line.removesuffix("\n"),),
}


def passes(spec: Spec, takes: str, tests: Tests) -> bool:
    """Whether a function passes tests; one that fails on an argument does not."""
    for taken, gives in zip(tests.inputs, tests.outputs, strict=True):
        try:
            found = run(spec, *(taken if tests.kind == "call" else TAKEN[takes](taken)))
        except (ValueError, IndexError):
            return False
        if (found if tests.kind == "call" else code._line(found)) != gives:
            return False
    return True


def shorter(spec: Spec) -> Iterator[Spec]:
    """The functions without one of its steps, or without the condition of one."""
    for at, step in enumerate(spec.steps):
        before, after = spec.steps[:at], spec.steps[at + 1 :]
        if step.op.kind != "fold" and not step.op.gives and len(spec.steps) > 1:
            yield Spec(spec.source, (*before, *after))
        if step.where:
            always = step._replace(where=None, other=None)
            yield Spec(spec.source, (*before, always, *after))


def passing(others: Callable[[Spec], Iterable[Spec]]) -> Counter[str]:
    """Other functions on the tests of toy-code's test problems.

    "visible", "held out": the problems where some function passes these; "functions": how many there are; "wrong": how
    many of them pass the held-out tests and yet give something else on ordinary arguments.
    """
    _, specs = code._made()
    held_out, counts = code.held_out(), Counter[str]()
    for problem in code.load().test:
        spec = specs[problem.id]
        takes, found = spec.source.takes, list(others(spec))
        visible, hidden = Tests.from_json(problem.answer), Tests.from_json(held_out[problem.id])
        still = [other for other in found if passes(other, takes, hidden)]
        rng = Random(problem.id)
        ordinary = [functions.arguments(takes, rng) for _ in range(200)] if still else []
        counts["functions"] += len(found)
        counts["visible"] += any(passes(other, takes, visible) for other in found)
        counts["held out"] += bool(still)
        counts["wrong"] += sum(any(run(o, *a) != run(spec, *a) for a in ordinary) for o in still)
    return counts


def test_without_a_step_many_pass_the_visible_tests_and_none_the_held_out_ones() -> None:
    counts = passing(shorter)
    assert (counts["visible"], counts["held out"]) == (217, 0)


def test_with_a_number_one_off_hardly_any_pass_the_held_out_tests() -> None:
    counts = passing(neighbours)
    assert counts["wrong"] < 0.01 * counts["functions"]


def test_every_human_solution_passes_visible_and_held_out_tests() -> None:
    held_out = code.held_out()
    for problem in everything():
        for gold in filter(None, (problem.answer, held_out.get(problem.id))):
            assert wrong_in(Tests.from_json(gold), problem.solution) == []


def wrong_in(tests: Tests, text: str) -> list[Any]:
    """The inputs on which a program of the world's own fails its tests."""
    compiled, wrong = compile(tests.before + text, "solution", "exec"), []
    for taken, gives in zip(tests.inputs, tests.outputs, strict=True):
        printed, names = io.StringIO(), dict[str, Any]()
        if tests.kind == "stdin":
            names["input"] = iter(taken.split("\n")).__next__
        with contextlib.redirect_stdout(printed):
            exec(compiled, names)
        if tests.kind == "call":
            right = programs.same_value(gives, names[tests.entry](*taken))
        else:
            right = programs.same_text(gives, printed.getvalue())
        wrong += [] if right else [taken]
    return wrong


def test_every_entry_of_the_slips_can_be_chosen() -> None:
    tables = (operations.FILTERS, operations.MAPS, operations.FOLDS)
    every = [op for table in tables for ops in table.values() for op in ops]
    chosen = {(op.name, other.name) for op in every for other in slips._instead(op)}
    assert chosen == {(name, o) for name, others in slips.INSTEAD.items() for o in others.split()}
    assert {other for _, other in chosen}.issuperset(op.name for op in slips.SLIPPED)
    assert {source.name for source in operations.SOURCES}.issuperset(slips.SLIPPED_SOURCES)


# Programs, in the sandbox.


def test_human_solutions_pass_in_the_sandbox(level: str) -> None:
    held_out = code.held_out()
    some = [*code.load().train[::60], *code.load().test[::60]]
    assert held_out.keys() == {p.id for p in (*code.load().train, *code.load().test)}
    golds = [p.answer for p in some] + [held_out[p.id] for p in some]
    texts = [p.solution for p in some] * 2
    functions_only = humaneval.load().test[::8]
    golds += [p.answer for p in functions_only]
    texts += [p.solution for p in functions_only]
    outcomes = programs.grade(golds, texts, level)
    wrong = [o.graded for o in outcomes if o.graded.verdict != "correct"]
    assert wrong == []


def test_every_style_is_right_and_every_slip_wrong(level: str) -> None:
    rng, golds, texts, right = Random("styles"), list[str](), list[str](), list[bool]()
    for _ in range(24):
        spec = functions.draw(rng, 0, LEVELS, SPLITS)
        slipped = slip(spec, rng)
        names = NAMES[spec.source.takes][0]
        given = functions.battery(spec.source.takes)
        outputs = tuple(run(spec, *arguments) for arguments in given)
        tests = Tests(kind="call", entry="f", inputs=tuple(map(list, given)), outputs=outputs)
        for style in STYLES:
            for written in (spec, slipped) if slipped else (spec,):
                golds.append(tests.to_json())
                texts.append(function(written, "f", names, style, rng))
                right.append(written is spec)
    outcomes = programs.grade(golds, texts, level)
    for text, expected, outcome in zip(texts, right, outcomes, strict=True):
        assert (outcome.graded.verdict == "correct") == expected, text


def test_some_slips_pass_the_visible_tests_and_none_the_held_out_ones(level: str) -> None:
    _, specs = code._made()
    rng, slips = Random("slips"), list[tuple[Problem, str]]()
    for problem in code.load().train[:150]:
        spec, tests = specs[problem.id], Tests.from_json(problem.answer)
        slipped = slip(spec, rng)
        if slipped and tests.kind == "call":
            names = NAMES[spec.source.takes][0]
            text = function(slipped, tests.entry, names, rng.choice(STYLES), rng)
            slips.append((problem, text))
    held_out = code.held_out()
    texts = [text for _, text in slips]
    visible = programs.grade([problem.answer for problem, _ in slips], texts, level)
    hidden = programs.grade([held_out[problem.id] for problem, _ in slips], texts, level)
    passed = [outcome.graded.verdict == "correct" for outcome in visible]
    assert 0 < sum(passed) < len(passed) / 2
    assert not any(outcome.graded.verdict == "correct" for outcome in hidden)


@QUICK
@given(st.integers(0, 10**9))
def test_slips_are_other_functions_of_the_pretraining_text(seed: int) -> None:
    rng = Random(seed)
    spec = functions.draw(rng, 0.5, LEVELS, ("pretraining",))
    slipped = slip(spec, rng)
    if slipped:
        assert functions.form(slipped) != functions.form(spec)
        assert split_of(functions.form(slipped)) == "pretraining"


# Documents.


@pytest.mark.parametrize("module", [code, humaneval])
def test_documents_fit_and_fall_into_pieces(module: Any) -> None:
    for prompt, completion in read(module, 3_000):
        pieces = re.findall(PIECES, prompt + completion)
        assert "".join(pieces) == prompt + completion
        assert len(pieces) < LONGEST
        assert re.findall(PIECES, prompt) + re.findall(PIECES, completion) == pieces


@pytest.mark.parametrize(("module", "task"), [(code, code.load), (humaneval, humaneval.load)])
def test_problems_are_said_in_the_words_that_are_read(module: Any, task: Any) -> None:
    words = {p for text in read(module, 3_000) for p in re.findall(PIECES, "".join(text))}
    problems = [*task().train, *task().test]
    said = [task().prompt(problem) + problem.solution for problem in problems]
    unknown = [text for text in said if not words.issuperset(re.findall(PIECES, text))]
    assert len(unknown) < len(said) / 20


def test_documents_without_slips_are_right(level: str) -> None:
    rng = Random("right")
    golds, texts = [], []
    for _ in range(40):
        prompt, completion = humaneval.document(rng, buggy=0)
        examples = re.findall(r">>> (\w+)\((.*)\)\n    (.*)", prompt)
        checks = "\n".join(
            f"assert {entry}({given}) == {gives}" for entry, given, gives in examples
        )
        golds.append(Tests(kind="asserts", entry=examples[0][0], before=prompt, asserts=checks).to_json())  # fmt: skip
        texts.append(completion)
    outcomes = programs.grade(golds, texts, level)
    assert {outcome.graded.verdict for outcome in outcomes} == {"correct"}


@QUICK
@given(st.integers(0, 10**9))
def test_wordings_are_clean(seed: int) -> None:
    rng = Random(seed)
    spec = functions.draw(rng, 0, LEVELS, SPLITS)
    said = wording(spec, NAMES[spec.source.takes][0], rng)
    assert re.fullmatch(r"[a-z][a-zA-Z0-9 ,-]*", said)
    assert "  " not in said
