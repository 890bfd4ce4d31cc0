"""The audit: its variants are what they claim, by a computation of their own; the grader meets its bars."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib import audit
from restem_lib.audit import hostile
from restem_lib.audit.equal import EQUAL, rewritings
from restem_lib.audit.golds import GOLDS
from restem_lib.audit.reading import decimal, group, irrational, number, spell, terms
from restem_lib.audit.wrong import WRONG, mistakes
from restem_lib.rewards import Graded
from restem_lib.rewards.answers import grade

QUICK = settings(deadline=None, max_examples=25, derandomize=True)

# The value of an answer, computed by sympy from the text alone: nothing of the grader's or the audit's reading of it.

NOT_VALUES = {
    # Spellings of words, units and looks, which have no value to compute.
    *(
        "maths signs",
        "text round words",
        "case of words",
        "option",
        "degrees",
        "percent",
        "currency",
        "unit",
    ),
    *("time of day", "base", "style"),
}
BY_CONVENTION = {
    # Wrong whatever their value: several answers, arithmetic left undone, another unit or bracket.
    *(
        "guesses",
        "taken back",
        "cut off",
        "scale word",
        "variable added",
        "left undone",
        "brackets",
    ),
    *(
        "other unit",
        "percent scale",
        "other base",
        "option",
        "time of day",
        "equation",
        "transposed",
        "run together",
        "determinant",
    ),
}
CONSTANTS = {"pi": sympy.pi, "oo": sympy.Float(10) ** 40, "i": sympy.I, "sqrt": sympy.sqrt}
FUNCTIONS = {"tan": sympy.tan, "cot": sympy.cot}
# Any point will do: two different expressions of this size agree at none but by a miracle.
POINTS = {
    letter: sympy.Rational(2 * n + 37, 11 * n + 7)
    for n, letter in enumerate(map(chr, range(65, 123)))
}


def tidy(text: str) -> str:
    for symbol, latex in (
        ("π", "\\pi "),
        ("∞", "\\infty "),
        ("∪", "\\cup "),
        ("±", "\\pm "),
        ("∈", "\\in "),
        ("−", "-"),
    ):
        text = text.replace(symbol, latex)
    text = re.sub(r"√(\d+)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\(?:left|right|bigl|bigr|displaystyle)(?![A-Za-z])", "", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|,\s*\\!\s*|\\!,|\\,(?=\d{3}))", ",", text)
    if re.fullmatch(r"(?:[a-z] ?= ?)?(?:\\\$)?-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        text = text.replace(",", "")
    text = re.sub(r"(?<!\\)\\[,! ]|~", " ", text)
    text = re.sub(
        r"\\\$|\\%|\^\\circ|\s*\\(?:text|mbox)\{(?! ?(?:and|or))[^{}]*\}(?:\^\{?\d\}?)?", "", text
    )
    return re.sub(r"\\([dt])frac", r"\\frac", text).strip().removesuffix(".")


@functools.cache
def scalar(text: str) -> sympy.Expr:
    text = re.sub(r"\\frac\s*(\d)", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\{[^{}]*\})\s*(\d)", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", text)
    text = re.sub(r"(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}", r"(\1+(\2)/(\3))", text)
    text = re.sub(r"(\d+) (\d+)/(\d+)", r"(\1+(\2)/(\3))", text)
    text = re.sub(r"\\(tan|cot) ([A-Za-z])", r"\1(\2)", text)
    while "{" in text:
        before = text
        text = re.sub(r"\\frac\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", text)
        text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text)
        assert text != before, text
    text = re.sub(r"\\cdot|\\times", "*", text).replace("\\pi", " pi ").replace("\\infty", " oo ")
    token = re.compile(r"sqrt|tan|cot|pi|oo|\d+\.?\d*|\.\d+|[A-Za-z]|[-+*/^()]")
    assert not token.sub("", text).strip(), text
    code = ""
    for part in token.findall(text):
        value = part[0] not in "+-*/^)"
        if value and code and (code[-1] in ")'" or code[-1] == "]"):
            code += "*"
        if part in ("sqrt", "tan", "cot"):
            code += f"f[{part!r}]".replace("]", "].__call__")
        elif value and part != "(":
            code += f"v[{part!r}]"
        else:
            code += {"^": "**"}.get(part, part)
    values = {part: POINTS[part] for part in POINTS} | CONSTANTS
    for part in token.findall(text):
        if part[0].isdigit() or part[0] == ".":
            values[part] = sympy.Rational(part)
    return eval(code, {"__builtins__": {}}, {"v": values, "f": FUNCTIONS | {"sqrt": sympy.sqrt}})


def elements(text: str) -> list[str]:
    text = re.sub(r"\\text\{ ?(?:and|or) ?\}", ",", text)
    depth, found = 0, [""]
    for symbol in text:
        depth += (symbol in "([{") - (symbol in ")]}")
        if symbol == "," and depth == 0:
            found.append("")
        else:
            found[-1] += symbol
    return [
        one.strip() if sign is None else one.strip().replace("\\pm", sign)
        for one in found
        for sign in (("+", "-") if "\\pm" in one else (None,))
    ]


def value(text: str) -> object:
    """Nested tuples and multisets of numbers, compared by `same`."""
    text = tidy(text)
    matrix = re.fullmatch(
        r"\(?\\begin\{(\w+)\}(?:\{c+\})?(.*)\\end\{\1\}\)?",
        re.sub(r"^\\(?:mathbf|vec)\{v\} ?=", "", text).strip(),
        re.DOTALL,
    )
    if matrix:
        rows = matrix[2].split("\\\\")
        return ("matrix", *(tuple(scalar(cell.strip()) for cell in row.split("&")) for row in rows))
    text = re.sub(r"^(?:[a-z]|\([a-z](?:, ?[a-z])+\))\s*(?:=|\\in)\s*(?=[^=]*$)", "", text)
    text = re.sub(r"^([^=]*\d[^=]*) = [a-z]$", r"\1", text)
    if "=" in text and text.count("x =") == len(elements(text)):
        text = text.replace("x =", "")
    if "=" in text:
        left, right = text.split("=")
        return ("equation", scalar(left), scalar(right))
    if "\\cup" in text:
        return ("union", *(value(part) for part in text.split("\\cup")))
    brackets = re.fullmatch(r"(\(|\[|\\\{)(.*)(\)|\]|\\\})", text)
    several = brackets and (brackets[1] + brackets[3] != "()" or len(elements(brackets[2])) > 1)
    if brackets and several:
        kind = "set" if brackets[1] == "\\{" else brackets[1] + brackets[3]
        return (kind, *map(scalar, elements(brackets[2])))
    found = elements(text)
    return ("set", *map(scalar, found)) if len(found) > 1 else scalar(found[0])


def same(left: object, right: object) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        if len(left) != len(right) or left[0] != right[0]:
            return False
        if left[0] == "equation":  # at a point that satisfies neither
            difference = [side[1] - side[2] for side in (left, right)]
            return same(abs(difference[0]), abs(difference[1]))
        if left[0] in ("set", "union"):
            rest = list(right[1:])
            for one in left[1:]:
                match = next((other for other in rest if same(one, other)), None)
                if match is None:
                    return False
                rest.remove(match)
            return True
        return all(same(a, b) for a, b in zip(left[1:], right[1:], strict=True))
    if isinstance(left, tuple) or isinstance(right, tuple):
        return False
    assert isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr)
    return bool(abs(sympy.N(left - right, 30)) < sympy.Float(10) ** -18)


def has_value(gold: str) -> bool:
    return (
        not re.search(
            r"\\text\{[^{}]*[A-Za-z(]|_|:",
            re.sub(r"\\text\{ (?:and|or) \}|\\text\{ degrees\}", "", gold),
        )
        or number(gold) is not None
    )


def dishonest(golds: list[str]) -> list[str]:
    """The variants that are not what their kind says, of those that have a value."""
    found = []
    for gold in golds:
        if not has_value(gold):
            continue
        own = value(gold)
        for kind, variants in rewritings(gold).items():
            if kind not in NOT_VALUES:
                found += [
                    f"{kind}: {gold} is not {one}" for one in variants if not same(own, value(one))
                ]
        for kind, variants in mistakes(gold).items():
            renamed = kind == "letter" and re.fullmatch(r"[a-z]\s*=[^a-z]*", gold)
            if kind not in BY_CONVENTION and not renamed:
                found += [f"{kind}: {gold} is {one}" for one in variants if same(own, value(one))]
    return found


def test_variants_are_what_they_claim() -> None:
    assert same(value("\\frac{\\sqrt3}{3}"), value("\\frac{1}{\\sqrt{3}}"))
    assert not same(value("(1,2)"), value("(2,1)"))
    assert not same(value("x^2+y"), value("x^2-y"))
    assert dishonest(list(GOLDS)) == []
    checked = [
        kind for gold in GOLDS if has_value(gold) for kind in (rewritings(gold) | mistakes(gold))
    ]
    assert Counter(checked).keys() >= (set(EQUAL) | set(WRONG)) - NOT_VALUES - BY_CONVENTION - {
        "letter"
    }


integers = st.integers(min_value=-(10**9), max_value=10**9)


def fraction(text: str) -> Fraction:
    return Fraction(str(sympy.Rational(value(text))))


@QUICK
@given(integers, st.integers(min_value=1, max_value=5000))
def test_variants_of_any_fraction(over: int, under: int) -> None:
    exact = Fraction(over, under)
    for gold in (spell(exact), decimal(exact) or spell(exact)):
        read = number(gold)
        assert read is not None and read.value == exact
        for kind, variants in rewritings(gold).items():
            if kind not in NOT_VALUES:
                assert {fraction(one) for one in variants} == {exact}, (kind, variants)
        for kind, variants in mistakes(gold).items():
            if kind not in BY_CONVENTION:
                assert exact not in {fraction(one) for one in variants}, (kind, variants)


@QUICK
@given(
    st.lists(st.integers(-99, 99), min_size=2, max_size=4),
    st.sampled_from(["()", "[]", "{}", "(]", ""]),
)
def test_variants_of_any_group(items: list[int], brackets: str) -> None:
    left, right = ("\\{", "\\}") if brackets == "{}" else (brackets[:1], brackets[1:])
    gold = left + ", ".join(map(str, items)) + right
    if number(gold) is None:  # "1, 234" is none, but "1,234" is
        assert group(gold) is not None
    assert dishonest([gold]) == []


def test_reading() -> None:
    assert number("12,\\!600") == number("12600") != number("12,60")
    assert number("\\$7.80") == ("\\$", Fraction(39, 5), "", "decimal")
    assert number("2\\frac{5}{3}") is number("\\frac{1}{0}") is number("3x") is None
    assert irrational("\\sqrt{49}") is irrational("\\frac{\\pi}{x}") is None
    assert irrational("-\\frac{2\\sqrt{3}}{3}") == pytest.approx(-1.1547, abs=1e-4)
    assert terms("(a+1)(b-4)") is terms("3,+4") is None
    assert terms("x^2 - 3x") == ["x^2", "-3x"]
    assert group("1,234") is group("f(x)") is None


# The bars.


@pytest.mark.slow
def test_our_grader_meets_its_bars_on_hand_made_golds() -> None:
    report = audit.Report(
        audit.audit({"hand-made": [(gold, "") for gold in GOLDS]}, [audit.OURS]), [], ()
    )
    assert report.passes, report.text()
    assert len(report.bars) == 3
    kinds = {row["kind"] for row in report.rows}
    assert kinds >= (set(EQUAL) | set(WRONG)), "a kind that no gold answer has"


def test_all_three_graders_and_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESTEM_DATA", raising=False)
    golds, notes = audit.read_golds()
    assert sorted(golds) == ["hand-made", "toy-math"] and len(notes) == 2
    rows = audit.audit({"hand-made": [(gold, "") for gold in ("12", "(1,5)", "50\\%")]})
    by = {(row["grader"], row["side"], row["kind"]): row for row in rows}
    assert {key[0] for key in by} == {audit.OURS, audit.STRING, audit.MATH_VERIFY}
    assert (
        by[audit.OURS, "wrong", "all"]["errors"] == by[audit.STRING, "wrong", "all"]["errors"] == 0
    )
    assert by[audit.STRING, "equal", "all"]["errors"] > 0
    # What it is there to show: math-verify takes arithmetic left undone for the number.
    assert by[audit.MATH_VERIFY, "wrong", "left undone"]["errors"] > 0
    assert by[audit.MATH_VERIFY, "equal", "itself"]["errors"] == 0
    row = by[audit.STRING, "equal", "all"]
    assert 0 <= row["low"] < row["rate"] < row["high"] <= 1 and len(row["examples"]) == 3
    report = audit.Report(rows, [], tuple(notes))
    assert "left out: gsm8k" in report.text() and "MISSED" not in report.text()


def test_a_bar_that_is_missed_shows() -> None:
    row = {
        "source": "s",
        "side": "wrong",
        "kind": "all",
        "grader": audit.OURS,
        "n": 100,
        "errors": 1,
    }
    row |= {"rate": 0.01, "low": 0.0, "high": 0.05, "examples": ["1 | 2"]}
    hurt = {
        "name": "h",
        "verdict": "wrong",
        "seconds": 1.0,
        "within": True,
        "neighbours": False,
        "ran": False,
    }
    report = audit.Report([row], [hurt], ())
    assert not report.passes
    assert sorted(report.bars.values()) == [False, False, True, True]
    assert report.text().count("MISSED") == 2


def test_responses_end_in_the_answer() -> None:
    assert audit.respond("3", "so $\\boxed{3}$. Check: 3.", "4") == "so $\\boxed{4}$. Check: 3."
    assert audit.respond("3", "1 + 2 = 3\n#### 3", "4") == "1 + 2 = 3\nThe answer is $\\boxed{4}$."
    assert audit.respond("3", "", "4") == "\nThe answer is $\\boxed{4}$."


def test_hostile_answers_cost_only_themselves() -> None:
    only = (
        "tower of powers",
        "3,000 brackets",
        "145 brackets",
        "1 MB of digits",
        "code",
        "null bytes",
        "lone surrogates",
    )
    rows = hostile.table(0.7, only)
    assert [row["name"] for row in rows] == list(only)
    assert audit.Report([], rows, ()).passes, rows
    assert rows[0]["verdict"] == "timeout"


def test_a_neighbour_is_new_to_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def watch(golds: list[str], texts: list[str], deadline: float = 8.0) -> list[Graded]:
        asked.extend(gold for gold in golds if gold != hostile.GOLD)
        return grade(["1"] * len(golds), ["#### 2"] * len(golds))

    monkeypatch.setattr(hostile, "grade", watch)
    rows = hostile.table(1.0, ("code", "carets"))
    assert len(set(asked[1:])) == 4 and not any(row["neighbours"] for row in rows)


# Real data.


@pytest.fixture(scope="module")
def benchmarks() -> dict[str, list[tuple[str, str]]]:
    golds, notes = audit.read_golds() if os.environ.get("RESTEM_DATA") else ({}, ["all"])
    if notes:
        pytest.skip("set RESTEM_DATA to a folder with math500/test.jsonl and gsm8k/test.jsonl")
    return {source: golds[source] for source in ("math500", "gsm8k")}


@pytest.mark.benchmarks
def test_variants_of_real_golds_are_what_they_claim(
    benchmarks: dict[str, list[tuple[str, str]]],
) -> None:
    assert dishonest(sorted({gold for gold, _ in benchmarks["math500"]})) == []


@pytest.mark.benchmarks
def test_our_grader_meets_its_bars_on_real_golds(
    benchmarks: dict[str, list[tuple[str, str]]],
) -> None:
    distinct = {source: list(dict(pairs).items()) for source, pairs in benchmarks.items()}
    report = audit.Report(audit.audit(distinct, [audit.OURS]), [], ())
    assert report.passes, report.text()
    assert len(report.bars) == 6
    itself = [one for pairs in benchmarks.values() for one in pairs]
    graded = grade([gold for gold, _ in itself], [text for _, text in itself])
    assert {one.verdict for one in graded} == {"correct"}
