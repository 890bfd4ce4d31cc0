"""Rewards for programs: what passes, what is compared how, and what the benchmarks' own solutions get."""

from __future__ import annotations

import ast
import gzip
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib.rewards import programs
from restem_lib.rewards.programs import (
    Outcome,
    Tests,
    extract,
    grade,
    same_text,
    same_text_apps,
    same_value,
    same_value_apps,
)
from restem_lib.tasks import apps

QUICK = settings(deadline=None, max_examples=200, derandomize=True)


def verdicts(outcomes: list[Outcome]) -> list[str]:
    return [outcome.graded.verdict for outcome in outcomes]


# Tests as gold answers.


@pytest.mark.parametrize(
    "tests",
    [
        Tests(kind="stdin", inputs=("1\n", ""), outputs=("2", "\n")),
        Tests(kind="call", entry="f", inputs=([1, "a"], [None]), outputs=([1.5], {"k": True})),
        Tests(kind="asserts", entry="f", before="def f():\n", setup="x = 1", asserts="assert f()"),
    ],
)
def test_tests_survive_their_json(tests: Tests) -> None:
    assert Tests.from_json(tests.to_json()) == tests


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("[]", "object with 'kind'"),
        ('{"kind": "stdin", "input": []}', "object with 'kind'"),
        ('{"kind": "shell", "inputs": ["a"], "outputs": ["b"]}', "must be one of stdin"),
        ('{"kind": "stdin", "inputs": ["a"], "outputs": []}', "1 inputs for 0 outputs"),
        ('{"kind": "stdin", "inputs": [], "outputs": []}', "0 inputs for 0 outputs"),
        ('{"kind": "stdin", "inputs": "ab", "outputs": "cd"}', "must be lists"),
        ('{"kind": "stdin", "inputs": [1], "outputs": ["b"]}', "must each be a str"),
        ('{"kind": "stdin", "inputs": ["1"], "outputs": [2]}', "must each be text"),
        ('{"kind": "call", "inputs": [[1]], "outputs": [2]}', "need 'entry'"),
        ('{"kind": "call", "inputs": [1], "outputs": [2], "entry": "f"}', "must each be a list"),
        ('{"kind": "call", "inputs": [[1]], "outputs": [2], "entry": 3}', "must be text"),
        ('{"kind": "asserts"}', "need 'asserts'"),
        ('{"kind": "asserts", "asserts": "assert f("}', "not Python"),
        ("not JSON", "Expecting value"),
    ],
)
def test_bad_tests_are_refused_before_any_run(bad: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        grade([bad], ["print(1)"], "landlock")


# The program in a completion.


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("print(1)", "print(1)"),
        ("```python\nprint(1)\n```", "print(1)\n"),
        ("First\n```\na\n```\nbetter:\n```py\nb\n```\n", "b\n"),
        ("x = '```'", "x = '```'"),
        ("```python\nprint(1)", "```python\nprint(1)"),
        ("", ""),
    ],
)
def test_the_last_fenced_block_is_the_program(text: str, code: str) -> None:
    assert extract(text) == code


# Comparing.

TEXTS = [  # expected, got, strictly the same, the same to APPS
    ("1 2 3", "1 2 3\n", True, True),
    ("1 2 3", " 1  2 3  \n\n", True, True),
    ("1\n\n2", "1\n\n2", True, True),
    ("1\n\n2", "1\n2", False, True),
    ("1 2 3", "3 2 1", False, True),
    ("1 2", "1 1 1 2", False, True),
    ("1\n2", "2\n1", False, True),
    ("1 2", "1\n2", False, False),
    ("YES NO", "NO YES", False, True),
    ("YES", "yes", False, False),
    ("0.5", "0.5000001", True, True),
    ("0.5", "0.51", False, False),
    ("0.0001", "0.0004", False, True),
    ("1e3", "1000", True, True),
    ("3", "3.0", False, True),
    ("1000000.0", "1000000.5", True, True),
    ("1000000.0", "1000002", False, True),
    ("0.5", "nan", False, False),
    ("0.5", "inf", False, False),
    ("12e4567", "3", False, False),
    ("0.5", "0.5x", False, False),
    ("0.5", "9" * 500, False, False),
    ("", "", True, True),
    ("", "1", False, False),
    ("1", "", False, False),
]


@pytest.mark.parametrize(("expected", "got", "strict", "apps"), TEXTS)
def test_texts(expected: str, got: str, strict: bool, apps: bool) -> None:
    assert same_text(expected, got) is strict
    assert same_text_apps(expected, got) is apps


VALUES: list[tuple[Any, Any, bool, bool]] = [
    (1, 1, True, True),
    (True, 1, False, False),
    (1, True, False, False),
    (1.5, 1.5000001, True, True),
    (2.0, 2, True, True),
    (2, 2.0, False, False),
    ([1], 1, False, True),
    ([1, 2], [1, 2], True, True),
    ([1, 2], [2, 1], False, False),
    ("a", "a", True, True),
    ("1", 1, False, False),
    (None, None, True, True),
    ({"a": [1.0]}, {"a": [1]}, True, True),
    ({"a": 1}, {"b": 1}, False, False),
    (0.5, 10**400, False, False),
    ([], None, False, False),
]


@pytest.mark.parametrize(("expected", "got", "strict", "apps"), VALUES)
def test_values(expected: Any, got: Any, strict: bool, apps: bool) -> None:
    assert same_value(expected, got) is strict
    assert same_value_apps(expected, got) is apps


@QUICK
@given(st.text(max_size=40), st.text(max_size=40))
def test_comparing_texts_is_total_and_strict_implies_lenient(a: str, b: str) -> None:
    assert same_text(a, a)
    assert same_text_apps(a, b) or not same_text(a, b)
    assert same_text(a, b) == (
        [line.split() for line in a.rstrip().split("\n")]
        == [line.split() for line in b.rstrip().split("\n")]
    ) or any(letter in a for letter in ".eE")


@QUICK
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e-3, 1e-3))
def test_the_tolerance_is_one_millionth(value: float, error: float) -> None:
    near = abs(error) <= 0.99e-6
    far = abs(error) >= 1.01e-6
    got = value + error * max(1.0, abs(value))
    if abs(value) < 1e300 and (near or far):
        assert same_value(value, got) is near
        assert same_text(repr(value), repr(got)) is near


# Grading.

ECHO = Tests(kind="stdin", inputs=("1\n", "2\n", "3\n"), outputs=("2", "4", "6")).to_json()
CALL = Tests(kind="call", entry="f", inputs=([1], [2], [3]), outputs=(2, 4, 6)).to_json()
ASSERTS = Tests(
    kind="asserts", entry="f", asserts="assert f(1) == 2\nassert f(2) == 4\nassert f(3) == 6"
).to_json()


@pytest.mark.parametrize(
    ("gold", "program", "verdict", "passed"),
    [
        (ECHO, "print(2 * int(input()))", "correct", 3),
        (ECHO, "print(int(input()) + 1)", "wrong", 1),
        (ECHO, "import sys\nprint(2 * int(sys.stdin.read()))\nsys.exit()", "correct", 3),
        (ECHO, "print(2 * int(open(0).readline()))\nexit(0)", "correct", 3),
        (ECHO, "print(2 * int(input()))\nexit(1)", "error", 0),
        (ECHO, "n = int(input())\nprint(2 * n if n < 3 else 1 / 0)", "error", 2),
        (ECHO, "print(2 *", "error", 0),
        (ECHO, "", "no_answer", 0),
        (ECHO, "if __name__ == '__main__':\n    print(2 * int(input()))", "correct", 3),
        (CALL, "def f(x):\n    return 2 * x", "correct", 3),
        (CALL, "class Solution:\n    def f(self, x):\n        return 2 * x", "correct", 3),
        (CALL, "def f(x):\n    print('2')\n    return x + 1", "wrong", 1),
        (CALL, "def g(x):\n    return 2 * x", "error", 0),
        (CALL, "def f(x):\n    return {x}", "error", 0),
        (CALL, "f = lambda x: 2 * x if x < 3 else 1 / 0", "error", 2),
        (ASSERTS, "def f(x):\n    return 2 * x", "correct", 1),
        (ASSERTS, "def f(x):\n    return x + 1", "wrong", 0),
        (ASSERTS, "def f(x):\n    return 1 / 0", "error", 0),
        (ASSERTS, "print('passed')", "error", 0),
    ],
)
def test_verdicts(level: str, gold: str, program: str, verdict: str, passed: int) -> None:
    [outcome] = grade([gold], [program], level)
    assert (outcome.graded.verdict, outcome.passed) == (verdict, passed), outcome
    assert outcome.graded.why


def test_a_reward_stops_at_the_first_failing_test_and_an_evaluation_need_not(level: str) -> None:
    program = "n = int(input())\nprint(5 if n == 1 else 2 * n)"
    [first] = grade([ECHO], [program], level)
    [every] = grade([ECHO], [program], level, every=True)
    assert (first.passed, every.passed, every.tests) == (0, 2, 3)
    assert first.graded.verdict == every.graded.verdict == "wrong"
    assert "2 of 3" in every.graded.why


def test_an_error_in_one_call_leaves_the_others_their_verdicts(level: str) -> None:
    program = "def f(x):\n    return 2 * x if x > 1 else 1 / 0"
    [every] = grade([CALL], [program], level, every=True)
    assert (every.passed, every.tests, every.graded.verdict) == (2, 3, "error")


def test_a_call_knows_nothing_of_the_others(level: str) -> None:
    program = "seen = []\ndef f(x):\n    seen.append(x)\n    return 2 * x if len(seen) == 1 else 0"
    assert verdicts(grade([CALL], [program], level)) == ["correct"]


def test_integers_may_be_long_and_outputs_large(level: str) -> None:
    texts = Tests(kind="stdin", inputs=("",), outputs=("7" * 5000,)).to_json()
    large = Tests(kind="stdin", inputs=("",), outputs=("x\n" * 900_000,)).to_json()
    value = Tests(kind="call", entry="f", inputs=([1],), outputs=("7" * 5000,)).to_json()
    found = grade(
        [texts, large, value],
        ["print(int('7' * 5000))", "print('x\\n' * 900_000)", "def f(x): return int('7' * 5000)"],
        level,
    )
    assert verdicts(found) == ["correct"] * 3


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("{1: 2}.keys()", "{1}"),
        ("type('L', (list,), {})([1, 2])", "[1, 2]"),
        ("__import__('enum').IntEnum('E', 'a b').b", "2"),
        ("__import__('collections').namedtuple('P', 'x y')(1, 2)", "(1, 2)"),
        ("(n for n in (1, 2))", "[1, 2]"),
        ("bytearray(b'ab')", "b'ab'"),
        ("int", "int"),
    ],
)
def test_assertions_see_plain_values(level: str, returned: str, expected: str) -> None:
    made = f"list({expected}) == list(f())" if "for n" in returned else f"f() == {expected}"
    gold = Tests(kind="asserts", entry="f", asserts=f"assert {made}").to_json()
    assert verdicts(grade([gold], [f"def f():\n    return {returned}"], level)) == ["correct"]


def test_a_slow_program_times_out_and_costs_no_other(level: str) -> None:
    slow = Tests(kind="stdin", inputs=("",), outputs=("1",)).to_json()
    assert verdicts(grade([slow] * 3, ["while True: pass", "print(1)", "print(1)  #"], level)) == [
        "timeout",
        "correct",
        "correct",
    ]


def test_texts_and_tests_must_pair_up() -> None:
    with pytest.raises(ValueError, match="pair up"):
        grade([ECHO], [], "landlock")


# The benchmarks' own solutions.


def rows(*parts: str) -> list[dict[str, Any]]:
    folder = os.environ.get("RESTEM_DATA", "")
    path = Path(folder, *parts)
    if not folder or not path.exists():
        pytest.skip(f"set RESTEM_DATA to a folder with {'/'.join(parts)}")
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return [json.loads(line) for line in text.splitlines()]


def humaneval() -> tuple[list[str], list[str], list[str]]:
    """Tests, solutions and function names of all problems."""
    found = rows("humaneval", "HumanEval.jsonl.gz")
    golds = [
        Tests(
            kind="asserts",
            before=row["prompt"],
            setup=row["prompt"],
            entry=row["entry_point"],
            asserts=f"{row['test']}\ncheck({row['entry_point']})",
        ).to_json()
        for row in found
    ]
    names = [row["entry_point"] for row in found]
    return golds, [row["canonical_solution"] for row in found], names


def mbpp() -> tuple[list[str], list[str], list[str]]:
    found = rows("mbpp", "mbpp.jsonl")
    golds, names = [], []
    for row in found:
        asserts = "\n".join(row["test_list"])
        defined = re.findall(r"^def (\w+)", row["code"], re.MULTILINE)
        names.append(next(name for name in defined if re.search(rf"\b{name}\b", asserts)))
        gold = Tests(kind="asserts", entry=names[-1], setup=row["test_setup_code"], asserts=asserts)
        golds.append(gold.to_json())
    return golds, [row["code"] for row in found], names


SETS = pytest.mark.parametrize(("read", "count"), [(humaneval, 164), (mbpp, 974)])


@pytest.mark.benchmarks
@SETS
def test_every_reference_solution_passes(level: str, read: Any, count: int) -> None:
    golds, solutions, _ = read()
    found = grade(golds, solutions, level)
    assert len(found) == count
    assert [outcome.graded for outcome in found if outcome.graded.verdict != "correct"] == []


@pytest.mark.benchmarks
@SETS
@pytest.mark.parametrize("value", ["None", "'mutant'"])
def test_no_constant_passes(level: str, read: Any, count: int, value: str) -> None:
    golds, solutions, names = read()
    mutants = [
        f"{solution}\ndef {name}(*arguments, **named):\n    return {value}\n"
        for solution, name in zip(solutions, names, strict=True)
    ]
    assert verdicts(grade(golds, mutants, level)).count("correct") == 0


SURVIVED = {164: 0.05, 974: 0.10}
"""Share of mutants, by size of the set, that its tests may fail to tell from the solution (seen: 0.03, 0.07)."""


class Mutation(ast.NodeTransformer):
    """The first operator or comparison becomes its opposite."""

    opposites: ClassVar[dict[type, type]] = {
        ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult,
        ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Add, ast.Lt: ast.GtE,
        ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
        ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    }  # fmt: skip
    done = False

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not self.done and type(node) in self.opposites:
            self.done = True
            return self.opposites[type(node)]()
        return super().generic_visit(node)


def mutated(program: str) -> str | None:
    """A program with one operator wrong; None where it has none."""
    mutation = Mutation()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the benchmarks write "\w" without an r
        tree = mutation.visit(ast.parse(program))
    return ast.unparse(tree) if mutation.done else None


@pytest.mark.benchmarks
@SETS
def test_one_wrong_operator_is_mostly_found(
    level: str, read: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "ASSERTS_SECONDS", 1)
    golds, solutions, _ = read()
    pairs = [
        (gold, mutant)
        for gold, solution in zip(golds, solutions, strict=True)
        if (mutant := mutated(Tests.from_json(gold).before + solution))
    ]
    bare = [Tests(**{**vars(Tests.from_json(gold)), "before": ""}).to_json() for gold, _ in pairs]
    found = verdicts(grade(bare, [mutant for _, mutant in pairs], level))
    survived = found.count("correct") / len(found)
    assert len(pairs) > 0.7 * count
    # Some are no change (x and y swapped in a symmetric place), some the benchmarks' few tests miss.
    assert survived < SURVIVED[count], survived


@pytest.mark.benchmarks
@SETS
def test_negated_results_fail(level: str, read: Any, count: int) -> None:
    golds, solutions, names = read()
    mutants = [
        f"{solution}\n_right = {name}\ndef {name}(*arguments):\n    return not _right(*arguments)\n"
        for solution, name in zip(solutions, names, strict=True)
    ]
    assert verdicts(grade(golds, mutants, level)).count("correct") == 0


APPS_FAILURES = {
    # id: how many of the first three human solutions fail, and why
    2365: (1, "another right order of the same groups"),
    2369: (1, "module-level nonlocal, legal only within APPS's own wrapper"),
    2378: (2, "another right sequence of moves"),
    2382: (1, "module-level nonlocal"),
    2386: (1, "another right order"),
    2391: (2, "one module-level nonlocal, one other right colouring"),
    2396: (1, "module-level nonlocal"),
    2398: (3, "two module-level nonlocal, one other right order"),
    2400: (3, "other right constructions"),
}
"""Why human solutions of the APPS sample fail the strict comparison; all others pass."""


@pytest.mark.benchmarks
def test_human_solutions_of_the_apps_sample_pass_but_for_those_explained(level: str) -> None:
    rows("apps_sample", "codechain_minival_introductory.jsonl")
    solutions = apps.human_solutions()
    pairs = [(p, text) for p in apps.load().train for text in solutions[p.id]]
    golds, texts = [p.answer for p, _ in pairs], [text for _, text in pairs]
    strict = verdicts(grade(golds, texts, level))
    failed = [
        int(p.id.rpartition("/")[2])
        for (p, _), v in zip(pairs, strict, strict=True)
        if v != "correct"
    ]
    assert {id: failed.count(id) for id in failed} == {
        id: n for id, (n, _) in APPS_FAILURES.items()
    }
    lenient = verdicts(grade(golds, texts, level, lenient=True))
    # 51 problems: the reference sample's 50, of whose 147 solutions 132 pass, and one more.
    assert (len(texts), strict.count("correct"), lenient.count("correct")) == (150, 135, 141)
