"""The toy world's functions in words and in Python, each in several ways that people have."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from restem_lib.tasks.toy.functions import Spec, Step
from restem_lib.tasks.toy.operations import PICKS
from restem_lib.tasks.toy.snippets import Constant, Op

STYLES = ("builtin", "loop", "stepwise")
"""Ways to write a program: one expression, a loop with an accumulator, a named list a step."""
NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "numbers": (("xs",), ("nums",)),
    "number": (("n",),),
    "pair": (("a", "b"),),
    "text": (("s",), ("text",)),
    "words": (("ws",),),
}
"""What the parameters are called, by what a function takes."""
READ = {
    "numbers": "{a} = list(map(int, input().split()))",
    "number": "{a} = int(input())",
    "pair": "{a}, {b} = map(int, input().split())",
    "text": "{a} = input()",
}
"""How a program reads its input, by what it takes."""
ELEMENT = {"number": "x", "word": "w", "letter": "c"}


def _named(text: str, names: Sequence[str]) -> str:
    return text.format(a=names[0], b=names[-1])


# In words.


def wording(spec: Spec, names: Sequence[str], rng: Random, give: str = "return") -> str:
    """What is to be done, as an imperative: what to give, or step by step.

    >>> from restem_lib.tasks.toy import operations as ops
    >>> spec = Spec(ops.SOURCES[0], (Step(ops.FILTERS["number"][0]), Step(ops.FOLDS["number"][1])))
    >>> wording(spec, ("xs",), Random(3))
    'return the total of the numbers in xs that are even'
    >>> wording(spec, ("xs",), Random(0), "print")
    'take the numbers in xs, keep those that are even and print the sum of them'
    """
    things, steps = _named(spec.source.says, names), list(spec.steps)
    if steps[0].op in PICKS:
        things = _said(steps[0].op.says[0], steps[0].k, things=things)
        steps = steps[1:]
    fold = next((at for at, step in enumerate(steps) if step.op.kind == "fold"), len(steps))
    after = "".join(_becomes(step) for step in steps[fold + 1 :])
    them = f"the {things}" if spec.source.listed else things
    if rng.random() < 0.5:
        found = _chain(spec, them, steps[:fold], rng)
        if fold < len(steps):
            found = _said(rng.choice(steps[fold].op.says), 0, them=found)
        return f"find t, {found}, and {give} t {after}" if after else f"{give} {found}"
    it = "each" if spec.source.listed else "it"
    told = [f"take {them}", *(_imperative(step, it, rng) for step in steps[:fold])]
    last = it
    if fold < len(steps):
        last = _said(rng.choice(steps[fold].op.says), 0, them="them")
    end = f"find t, {last}, and {give} t {after}" if after else f"{give} {last}"
    return f"{', '.join(told)} and {end}"


def _said(text: str, k: Constant, **words: str) -> str:
    return text.format(k=k, **words)


def _clause(op: Op, k: Constant, rng: Random, plural: bool) -> str:
    """A filter as what is said of those, or of it."""
    text, _, single = rng.choice(op.says).partition("|")
    if not plural:
        verb, _, rest = text.partition(" ")
        verb = {"are": "is", "have": "has", "do": "does"}.get(verb, f"{verb}s")
        text = single or f"{verb} {rest}"
    return _said(text, k)


def _becomes(step: Step) -> str:
    return _said(step.op.says[1], step.k)


def _chain(spec: Spec, them: str, steps: Sequence[Step], rng: Random) -> str:
    """The things, and what they are after each step."""
    last = ""
    for step in steps:
        if step.op.kind == "filter":
            link = {"": " that", "filter": " and that", "map": ", only those that"}[last]
            them += f"{link} {_clause(step.op, step.k, rng, True)}"
        else:
            first = ", each" if spec.source.listed else ""
            link = ", then" if last == "map" else first
            them += f"{link} {_becomes(step)}"
            if step.where:
                them += f" if it {_clause(*step.where, rng, False)}"
            if step.other:
                them += f", otherwise {_becomes(Step(*step.other))}"
        last = step.op.kind
    return them


def _imperative(step: Step, it: str, rng: Random) -> str:
    if step.op.kind == "filter":
        return f"keep those that {_clause(step.op, step.k, rng, True)}"
    told = _said(step.op.says[0], step.k, it=it)
    if step.where:
        told += f" if it {_clause(*step.where, rng, False)}"
    if step.other:
        told += f", otherwise {_said(step.other[0].says[0], step.other[1], it='it')}"
    return told


# In Python.


def body(spec: Spec, names: Sequence[str], style: str, rng: Random) -> tuple[list[str], str]:
    """The lines that work out what the function gives, and the expression that is it."""
    style = next((step.op.style for step in spec.steps if step.op.style), style)
    start = _named(spec.source.code, names)
    if not spec.source.listed:
        return _single(spec, start, names[0] if len(names) == 1 else "t", style)
    fold = next(at for at, step in enumerate(spec.steps) if step.op.kind == "fold")
    how, middle, after = spec.steps[fold].op, spec.steps[:fold], spec.steps[fold + 1 :]
    if style == "loop":
        lines, result = _loop(spec, start, names, middle, how, rng)
    else:
        lines = []
        start = (_stepwise if style == "stepwise" else _fused)(spec, start, middle, lines)
        if "::" in how.code or how.code == "{x}":
            start = _listed(start)
        if how.code.count("{x}") > 1 and not start.isidentifier():
            lines.append(f"ys = {start}")
            start = "ys"
        if how.name == "sum" and start[0] == "[" and start.count("[") == 1 and rng.random() < 0.5:
            start = start[1:-1]
        result = _code(how, 0, start)
        if "math." in result:
            lines.insert(0, "import math")
    for step in after:
        if rng.random() < 0.5 and not result.isidentifier():
            lines.append(f"t = {result}")
            result = "t"
        result = _map(step, result)
    return lines, result


def function(spec: Spec, entry: str, names: Sequence[str], style: str, rng: Random) -> str:
    """A definition of the function."""
    return f"def {entry}({', '.join(names)}):{indented(*body(spec, names, style, rng))}"


def indented(lines: Sequence[str], result: str) -> str:
    """The lines of a function's body, each after a line break."""
    return "".join(f"\n    {line}" for line in (*lines, f"return {result}"))


def program(spec: Spec, names: Sequence[str], style: str, rng: Random) -> str:
    """A program that reads the arguments and prints what the function gives."""
    lines, result = body(spec, names, style, rng)
    given = f"print(*{_atom(result)})" if spec.gives == "list" else f"print({result})"
    return "\n".join((_named(READ[spec.source.takes], names), *lines, given))


def _atom(code: str) -> str:
    """An expression that can stand in another one: in brackets, if it needs them.

    >>> _atom("x + 1"), _atom("f(x + 1)[0]"), _atom("-x")
    ('(x + 1)', 'f(x + 1)[0]', '(-x)')
    """
    depth, bare = 0, code[0] == "-"
    for char in code:
        depth += (char in "([") - (char in ")]")
        bare |= char == " " and depth == 0
    return f"({code})" if bare else code


def _code(op: Op, k: Constant, x: str) -> str:
    constant = f'"{k}"' if isinstance(k, str) else k
    return _bare(op.code).format(x=_atom(x), k=constant, bare=x)


def _bare(code: str) -> str:
    """With {bare} for each {x} that needs no brackets of its own."""
    code = (
        code.replace("({x})", "({bare})").replace("({x},", "({bare},").replace("[{x}]", "[{bare}]")
    )
    return f"{code[:-3]}{{bare}}" if code.endswith("= {x}") else code


def _map(step: Step, x: str) -> str:
    done = _code(step.op, step.k, x)
    if not step.where:
        return done
    other = _code(*step.other, x) if step.other else x
    return f"{done} if {_code(*step.where, x)} else {other}"


def _listed(code: str) -> str:
    """A range as a list."""
    return f"list({code})" if code.startswith("range(") else code


def _single(spec: Spec, x: str, name: str, style: str) -> tuple[list[str], str]:
    """Of one value: one expression, or a line a step."""
    lines: list[str] = []
    for step in spec.steps:
        if not x.isidentifier() and (step.where or style != "builtin"):
            lines.append(f"{name} = {x}")
            x = name
        if step.where and style != "builtin":
            lines += _branch(step, x, name)
            x = name
        else:
            x = _map(step, x)
    return lines, x


def _branch(step: Step, x: str, name: str) -> list[str]:
    """A map with a condition, as a statement."""
    assert step.where
    lines = [f"if {_code(*step.where, x)}:", f"    {name} = {_code(step.op, step.k, x)}"]
    if step.other:
        lines += ["else:", f"    {name} = {_code(*step.other, x)}"]
    return lines


def _fused(spec: Spec, start: str, steps: Sequence[Step], _: list[str]) -> str:
    """All steps in one list comprehension."""
    if steps and steps[0].op.kind == "pick":
        start, steps = _code(steps[0].op, steps[0].k, start), steps[1:]
    if not steps:
        return start
    x = name = ELEMENT[spec.source.gives]
    tests = []
    for step in steps:
        if step.op.kind == "filter":
            tests.append(_code(step.op, step.k, x))
        else:
            x = _map(step, x)
    return f"[{x} for {name} in {start}{' if ' if tests else ''}{' and '.join(tests)}]"


def _stepwise(spec: Spec, start: str, steps: Sequence[Step], lines: list[str]) -> str:
    """A list a step, each with a name."""
    kind = spec.source.gives
    for step, name in zip(steps, ("ys", "zs", "us", "vs", "ts"), strict=False):
        pick = step.op.kind == "pick"
        made = _code(step.op, step.k, start) if pick else _one(step, start, ELEMENT[kind])
        lines.append(f"{name} = {_listed(made)}")
        start, kind = name, step.op.gives or kind
    return start


def _one(step: Step, start: str, x: str) -> str:
    if step.op.kind == "filter":
        return f"[{x} for {x} in {start} if {_code(step.op, step.k, x)}]"
    return f"[{_map(step, x)} for {x} in {start}]"


def _loop(
    spec: Spec, start: str, names: Sequence[str], steps: Sequence[Step], fold: Op, rng: Random
) -> tuple[list[str], str]:
    """A loop with an accumulator."""
    x = name = ELEMENT[spec.source.gives]
    begin, update, result = fold.loop
    t = "ys" if begin == "[]" else rng.choice(("t", "total"))
    over, first = (_named(text, names) for text in spec.source.loop)
    if steps and steps[0].op.kind == "pick":
        start, over, steps = _code(steps[0].op, steps[0].k, start), "", steps[1:]
    lines, depth = [f"{t} = {begin}", f"for {name} in {over or start}:"], 1
    if over:
        lines.append(f"    {first}")
        depth += first.endswith(":")
    for at, step in enumerate(steps):
        if step.op.kind == "filter":
            test = _code(step.op, step.k, name)
            if at and steps[at - 1].op.kind == "filter" and rng.random() < 0.5:
                lines[-1] = f"{lines[-1][:-1]} and {test}:"
            else:
                lines.append(f"{'    ' * depth}if {test}:")
                depth += 1
        elif step.where:
            lines += (f"{'    ' * depth}{line}" for line in _branch(step, name, name))
        elif at == len(steps) - 1 and update.count("{x}") == 1:
            x = _map(step, name)
        else:
            lines.append(f"{'    ' * depth}{name} = {_map(step, name)}")
    for line in _bare(update).format(x=_atom(x), t=t, bare=x).split("\n"):
        lines.append(f"{'    ' * depth}{line}")
    return lines, result.format(t=t) if result else _code(fold, 0, t)
