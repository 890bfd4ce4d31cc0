"""toy-math: word problems in 2 to 6 steps of integer arithmetic, the toy world's stand-in for MATH.

A story is a chain of moves on one running number. Its normal form, the arithmetic without the
words, decides by hash whether it belongs to the train split, the test split or the pretraining
text, so the three never share a problem. Solutions come in four styles; how often people write only
the answer differs from scene to scene, so that a base model trained on such text works step by step
in some scenes and guesses in others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from random import Random

from restem_lib.records import Problem
from restem_lib.tasks import Task

TEMPLATE = "Q: {question}\nA:"
LEVELS = (2, 3, 4, 5, 6)
TRAIN, TEST = 7_500, 5_000
LARGEST = 199
"""No value on the way exceeds it."""

STYLES = {"steps": 0.5, "slip": 0.2, "terse": 0.3}
"""Shares of the worked styles in pretraining text, among the solutions that are not a bare answer."""


@dataclass(frozen=True)
class Move:
    """One change of the running number: `value op product(factors)`; only + and - take two factors."""

    op: str
    factors: tuple[int, ...]

    @property
    def operand(self) -> int:
        """The product of the factors.

        >>> Move("+", (4, 6)).operand
        24
        """
        return self.factors[0] if len(self.factors) == 1 else self.factors[0] * self.factors[1]

    def apply(self, value: int) -> int:
        """The running number after the move; division rounds down (stories only divide exactly)."""
        if self.op == "+":
            return value + self.operand
        if self.op == "-":
            return value - self.operand
        return value * self.operand if self.op == "*" else value // self.operand


@dataclass(frozen=True)
class Scene:
    """Where stories play: words, and the share of people there who write only the answer."""

    bare: float
    things: tuple[str, ...]
    box: str
    gain: tuple[str, str]
    lose: tuple[str, str]


SCENES = (
    Scene(0.05, ("pens", "books", "cards"), "boxes", ("buys", "gets"), ("lends", "loses")),
    Scene(0.10, ("eggs", "apples", "plums"), "baskets", ("picks", "finds"), ("sells", "drops")),
    Scene(
        0.20,
        ("shells", "stones", "fish"),
        "buckets",
        ("collects", "finds"),
        ("loses", "throws away"),
    ),
    Scene(0.25, ("cakes", "buns", "pies"), "trays", ("bakes", "buys"), ("eats", "sells")),
    Scene(0.40, ("coins", "stamps", "medals"), "bags", ("wins", "gets"), ("spends", "trades")),
    Scene(0.50, ("seeds", "bulbs", "trees"), "rows", ("plants", "grows"), ("cuts", "digs up")),
)
NAMES = ("Ann", "Ben", "Carl", "Dora", "Eva", "Finn", "Gina", "Hugo", "Iris", "Jon", "Kim", "Leo")


@dataclass(frozen=True)
class Story:
    """A word problem with the arithmetic behind it."""

    scene: Scene
    moves: tuple[Move, ...]
    """The first one starts from 0."""
    question: str

    @property
    def level(self) -> int:
        """Number of arithmetic steps."""
        return sum(len(move.factors) for move in self.moves) - 1

    @property
    def answer(self) -> int:
        """The exact answer."""
        value = 0
        for move in self.moves:
            value = move.apply(value)
        return value


def normal_form(moves: tuple[Move, ...]) -> str:
    """The arithmetic without the words; the order within a sum or a product does not matter.

    >>> normal_form((Move("+", (8,)), Move("+", (3, 2)), Move("*", (4,))))
    '+(+2*3 +8)*4'
    """
    terms: list[tuple[str, tuple[str, ...]]] = []
    for move in moves:
        factors = tuple(map(str, move.factors))
        if move.op in "+-":
            terms.append((move.op, factors))
            continue
        whole = terms[0][1] if len(terms) == 1 else (f"({_sum(terms)})",)
        if move.op == "/":
            whole, factors = (f"({_sum([('+', whole)])})/{factors[0]}",), ()
        terms = [("+", whole + factors)]
    return _sum(terms)


def _sum(terms: list[tuple[str, tuple[str, ...]]]) -> str:
    return " ".join(sorted(sign + "*".join(sorted(factors)) for sign, factors in terms))


def split_of(form: str) -> str:
    """The split that a normal form belongs to: "train", "test" or "pretraining" (a quarter, a quarter, half)."""
    return ("train", "test", "pretraining", "pretraining")[sha256(form.encode()).digest()[0] % 4]


def _start(rng: Random) -> Move:
    return Move(
        "+", (rng.randint(5, 40),) if rng.random() < 0.7 else (rng.randint(2, 9), rng.randint(2, 9))
    )


def _move(rng: Random, value: int, room: int) -> Move:
    """A move that keeps the running number within 2..LARGEST and takes at most `room` steps."""
    while True:
        op = rng.choices("+-*/", (3, 3, 2, 1))[0]
        if op in "*/":
            move = Move(op, (rng.randint(2, 4),))
        elif room > 1 and rng.random() < 0.3:
            move = Move(op, (rng.randint(2, 9), rng.randint(2, 9)))
        else:
            move = Move(op, (rng.randint(2, 20),))
        exact = op != "/" or value % move.operand == 0
        if exact and 2 <= move.apply(value) <= LARGEST:
            return move


def _phrases(scene: Scene, move: Move, first: bool) -> tuple[str, ...]:
    """The ways to tell a move; {n} is a single factor, {a} and {b} are two."""
    if first:
        if len(move.factors) == 1:
            return ("{name} has {n} {things}.", "{name} starts with {n} {things}.")
        return (f"{{name}} has {{a}} {scene.box} of {{b}} {{things}}.",)
    if move.op == "*":
        return ("Now {name} has {n} times as many.", "That grows to {n} times as many.")
    if move.op == "/":
        return (
            "{name} makes {n} equal piles and keeps one.",
            "Only one of {n} equal piles is left.",
        )
    if move.op == "+":
        if len(move.factors) == 1:
            return (
                *(f"{{name}} {verb} {{n}} more." for verb in scene.gain),
                "{friend} gives {name} {n} more.",
            )
        return tuple(f"{{name}} {verb} {{a}} {scene.box} of {{b}}." for verb in scene.gain)
    if len(move.factors) == 1:
        return (
            *(f"{{name}} {verb} {{n}}." for verb in scene.lose),
            "{name} gives {n} to {friend}.",
        )
    return (
        "{name} gives {a} friends {b} each.",
        f"{{name}} {scene.lose[0]} {{a}} {scene.box} of {{b}}.",
    )


ASK = (
    "How many {things} does {name} have now?",
    "How many {things} are left?",
    "How many {things} is that in the end?",
)


def story(rng: Random) -> Story:
    """A fresh story; its level is uniform over LEVELS."""
    level = rng.choice(LEVELS)
    moves = [_start(rng)]
    value, steps = moves[0].operand, len(moves[0].factors) - 1
    while steps < level:
        moves.append(_move(rng, value, level - steps))
        value = moves[-1].apply(value)
        steps += len(moves[-1].factors)
    scene = rng.choice(SCENES)
    name, friend = rng.sample(NAMES, 2)
    words = {"name": name, "friend": friend, "things": rng.choice(scene.things)}
    told = []
    for index, move in enumerate(moves):
        numbers = dict(zip("n" if len(move.factors) == 1 else "ab", move.factors, strict=True))
        told.append(rng.choice(_phrases(scene, move, index == 0)).format(**words, **numbers))
    told.append(rng.choice(ASK).format(**words))
    return Story(scene, tuple(moves), " ".join(told))


def _steps(
    moves: tuple[Move, ...], slip_at: int = -1, error: int = 0
) -> tuple[list[str], list[int]]:
    """One operation a line, and the results; that of line `slip_at` is wrong by `error`, which carries through."""
    lines: list[str] = []
    results: list[int] = []

    def line(left: int, op: str, right: int) -> int:
        result = Move(op, (right,)).apply(left) + (error if len(lines) == slip_at else 0)
        lines.append(f"{left} {op} {right} = {result}")
        results.append(result)
        return result

    value = 0
    for index, move in enumerate(moves):
        operand = (
            move.factors[0]
            if len(move.factors) == 1
            else line(move.factors[0], "*", move.factors[1])
        )
        value = operand if index == 0 else line(value, move.op, operand)
    return lines, results


def _slip(told: Story, rng: Random) -> tuple[list[str], int]:
    """Step by step with one wrong result; the answer it arrives at is wrong."""
    while True:
        error = rng.choice((1, 2, 3, 10, 20)) * rng.choice((1, -1))
        lines, results = _steps(told.moves, rng.randrange(told.level), error)
        if min(results) >= 1 and results[-1] != told.answer:
            return lines, results[-1]


def _terse(told: Story, rng: Random) -> list[str]:
    """Correct lines of one to three operations, broken where brackets would be needed."""
    first = told.moves[0]
    lines: list[str] = []
    value, steps = first.operand, len(first.factors) - 1
    text, limit = " * ".join(map(str, first.factors)), rng.randint(1, 3)
    for move in told.moves[1:]:
        brackets = move.op in "*/" and ("+" in text or "-" in text)
        if brackets or (steps and steps + len(move.factors) > limit):
            lines.append(f"{text} = {value}")
            text, steps, limit = str(value), 0, rng.randint(1, 3)
        text += f" {move.op} " + " * ".join(map(str, move.factors))
        value, steps = move.apply(value), steps + len(move.factors)
    return [*lines, f"{text} = {value}"]


def solve(told: Story, style: str, rng: Random) -> str:
    """A solution in one of the styles, as the completion of the prompt; only "slip" is wrong, and always is.

    "steps": one operation a line. "slip": the same with an error that carries through. "terse": up to three
    operations a line, the form of the human solutions. "bare": the answer alone.

    >>> solve(Story(SCENES[0], (Move("+", (8,)), Move("+", (3, 2)), Move("/", (7,))), ""), "steps", Random(0))
    ' 3 * 2 = 6; 8 + 6 = 14; 14 / 7 = 2\\n#### 2'
    """
    answer = told.answer
    if style == "slip":
        lines, answer = _slip(told, rng)
    elif style == "steps":
        lines, _ = _steps(told.moves)
    else:
        lines = _terse(told, rng) if style == "terse" else []
    worked = " " + "; ".join(lines) if lines else ""
    return f"{worked}\n#### {answer}"


@cache
def load() -> Task:
    """The task: 7,500 train and 5,000 test problems, always the same ones; answers are integers in 2..199."""
    rng = Random("toy-math")
    wanted = {"train": TRAIN, "test": TEST}
    found: dict[str, dict[str, Problem]] = {split: {} for split in wanted}
    while any(len(found[split]) < wanted[split] for split in wanted):
        told = story(rng)
        form = normal_form(told.moves)
        split = split_of(form)
        if split not in wanted or form in found[split] or len(found[split]) == wanted[split]:
            continue
        found[split][form] = Problem(
            id=f"toy-math/{split}/{len(found[split])}",
            question=told.question,
            answer=str(told.answer),
            solution=solve(told, "terse", rng),
            level=told.level,
        )
    return Task("toy-math", tuple(found["train"].values()), tuple(found["test"].values()), TEMPLATE)


def pretraining_text(rng: Random, n: int) -> list[tuple[str, str]]:
    """n pairs (prompt, completion) in mixed styles, right and wrong; never a train or test problem."""
    pairs: list[tuple[str, str]] = []
    while len(pairs) < n:
        told = story(rng)
        if split_of(normal_form(told.moves)) == "pretraining":
            bare = rng.random() < told.scene.bare
            style = "bare" if bare else rng.choices(tuple(STYLES), tuple(STYLES.values()))[0]
            pairs.append((TEMPLATE.replace("{question}", told.question), solve(told, style, rng)))
    return pairs
