"""Puzzles of toy-bbh: what they are made of, and those about symbols, days and steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import NamedTuple

COLOURS = ("red", "blue", "green", "black", "white", "pink", "gray", "brown")

Worked = tuple[str, str]
"""The sentences of a solution and the answer they lead to."""


class Puzzle(NamedTuple):
    """A question with a sound solution and a flawed one."""

    task: str
    level: int
    """1 to 4."""
    form: str
    """Its normal form: what is asked, not in what words. That of swaps, lies and ordering holds people's names, that of
    swaps depends on their order too, so that the same swaps told in another order may stand in another split."""
    question: str
    answer: str
    reasoning: str
    """A sound solution, as the completion of a prompt."""
    slip: str
    """The same with one wrong step and what follows from it."""
    mistaken: str
    """The slip's answer: never the right one."""


def puzzle(
    task: str, level: int, form: object, question: str, right: Worked, wrong: Worked
) -> Puzzle:
    """A puzzle from its parts."""
    return Puzzle(
        task, level, f"{task} {form}", question, right[1], _told(right), _told(wrong), wrong[1]
    )


def _told(worked: Worked) -> str:
    text, answer = worked
    return f" {text} So the answer is {answer}."


def astray(right: Worked, attempts: Iterable[Worked]) -> Worked:
    """The first attempt with another answer, for not every wrong step shows in the end."""
    return next(attempt for attempt in attempts if attempt[1] != right[1])


def listed(words: Sequence[str]) -> str:
    """The words as people list them.

    >>> listed(["a cat", "a dog", "a hen"])
    'a cat, a dog and a hen'
    """
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), words[-1]])


def shuffled(rng: Random, length: int) -> list[int]:
    """The places of a sequence in random order."""
    return rng.sample(range(length), length)


def drawn_level(rng: Random) -> int:
    """1 to 4, mostly low."""
    return rng.choices((1, 2, 3, 4), (4, 3, 2, 1))[0]


class Node(NamedTuple):
    """An operator and what it is applied to."""

    operator: str
    parts: tuple[Tree, ...]


Tree = bool | Node
MEANING: dict[str, Callable[[list[bool]], bool]] = {
    "not": lambda truths: not truths[0],
    "and": all,
    "or": any,
}


def booleans(rng: Random) -> Puzzle:
    """What is not ( True and False ) or True?"""
    level = drawn_level(rng)
    tree = _tree(rng, level)
    while (text := _written(tree)).count("not") > 2:
        tree = _tree(rng, level)
    asked = rng.choice((f"What is {text}?", f"Evaluate {text}.", f"{text} is"))
    right = _evaluated(tree, -1)
    steps = text.count("not") + level
    attempts = (_evaluated(tree, place) for place in shuffled(rng, steps))
    return puzzle("booleans", level, _sorted(tree), asked, right, astray(right, attempts))


def _tree(rng: Random, operators: int) -> Tree:
    if operators:
        left = rng.randrange(operators)
        parts = (_tree(rng, left), _tree(rng, operators - 1 - left))
        tree: Tree = Node(rng.choice(("and", "or")), parts)
    else:
        tree = rng.random() < 0.5
    return Node("not", (tree,)) if rng.random() < 0.2 else tree


def _written(tree: Tree, top: bool = True) -> str:
    if isinstance(tree, bool):
        return str(tree)
    if tree.operator == "not":
        return f"not {_written(tree.parts[0], top=False)}"
    text = f" {tree.operator} ".join(_written(part, top=False) for part in tree.parts)
    return text if top else f"( {text} )"


def _sorted(tree: Tree) -> str:
    """The expression with its operands in a fixed order: they may be exchanged."""
    if isinstance(tree, bool):
        return str(tree)
    return f"({tree.operator} {' '.join(sorted(map(_sorted, tree.parts)))})"


def _evaluated(tree: Tree, slip: int) -> Worked:
    texts = [_written(tree)]
    while isinstance(tree, Node):
        tree = _reduced(tree, wrong=len(texts) - 1 == slip)
        texts.append(_written(tree))
    return " = ".join(texts) + ".", str(tree)


def _reduced(node: Node, wrong: bool) -> Tree:
    """With its first innermost operator carried out."""
    for place, part in enumerate(node.parts):
        if isinstance(part, Node):
            smaller = _reduced(part, wrong)
            return Node(node.operator, (*node.parts[:place], smaller, *node.parts[place + 1 :]))
    return MEANING[node.operator]([part is True for part in node.parts]) != wrong


CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}


def brackets(rng: Random) -> Puzzle:
    """Complete the sequence: [ ( { }"""
    level = drawn_level(rng)
    pairs = rng.randint(1, 2)
    opening, closing = level + pairs, pairs
    marks: list[str] = []
    still_open: list[str] = []
    while opening or closing:
        if still_open and rng.random() < closing / (opening + closing):
            marks.append(CLOSING[still_open.pop()])
            closing -= 1
        elif opening:
            still_open.append(rng.choice(list(CLOSING)))
            marks.append(still_open[-1])
            opening -= 1
    text = " ".join(marks)
    asked = rng.choice(("Complete the sequence:", "Which brackets are missing at the end?"))
    right = _closed(marks, -1)
    attempts = (_closed(marks, place) for place in shuffled(rng, len(marks)))
    return puzzle("brackets", level, text, f"{asked} {text}", right, astray(right, attempts))


def _closed(marks: list[str], slip: int) -> Worked:
    """A slip forgets that a bracket was closed, or takes an opening one for another."""
    kinds = list(CLOSING)
    stack: list[str] = []
    states = []
    for place, mark in enumerate(marks):
        if mark in CLOSING:
            stack.append(kinds[(kinds.index(mark) + 1) % 4] if place == slip else mark)
        elif place != slip:
            stack.pop()
        states.append(f"{mark} leaves {' '.join(stack) or 'nothing'}")
    return f"{'; '.join(states)}.", " ".join(CLOSING[mark] for mark in reversed(stack))


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
EVENTS = ("party", "trip", "game", "fair", "show", "race")


def dates(rng: Random) -> Puzzle:
    """The party is 3 days after Monday. The trip is 5 days before the party. On which day is the trip?"""
    level = drawn_level(rng)
    unit, cycle = rng.choice((("day", DAYS), ("month", MONTHS)))
    start = rng.randrange(len(cycle))
    shifts = [rng.randint(1, 6) * rng.choice((-1, 1)) for _ in range(level)]
    events = rng.sample(EVENTS, level)
    if rng.random() < 0.5:
        told = [f"The {events[0]} is {_span(shifts[0], unit)} {cycle[start]}."]
    else:
        length = _span(shifts[0], unit).rpartition(" ")[0]
        when = f"is in {length}" if shifts[0] > 0 else f"was {length} ago"
        now = "Today" if unit == "day" else "This month"
        told = [f"{now} is {cycle[start]}. The {events[0]} {when}."]
    for before, event, shift in zip(events, events[1:], shifts[1:], strict=False):
        told.append(f"The {event} is {_span(shift, unit)} the {before}.")
    preposition = "on" if unit == "day" else "in"
    told.append(f"{preposition.title()} which {unit} is the {events[-1]}?")

    def work(taken: list[int]) -> Worked:
        here = start
        steps = []
        for shift, moved in zip(shifts, taken, strict=True):
            sign = 1 if moved > 0 else -1
            passed = [cycle[(here + sign * i) % len(cycle)] for i in range(abs(moved) + 1)]
            here += moved
            steps.append(f"{_span(shift, unit)} {passed[0]}: {', '.join(passed[1:])}.")
        return " ".join(steps), cycle[here % len(cycle)]

    wrong = list(shifts)
    place = rng.randrange(level)
    more = abs(shifts[place]) + (1 if shifts[place] in (1, -1) else rng.choice((-1, 1)))
    wrong[place] = more if shifts[place] > 0 else -more
    form = f"{unit} {start} {shifts}"
    return puzzle("dates", level, form, " ".join(told), work(shifts), work(wrong))


def _span(shift: int, unit: str) -> str:
    size = abs(shift)
    return f"{size} {unit}{'s' if size > 1 else ''} {'after' if shift > 0 else 'before'}"


DIRECTIONS = {"forward": (0, 1), "backward": (0, -1), "right": (1, 1), "left": (1, -1)}
"""Word -> its axis and its sign there."""
OPPOSITE = {"forward": "backward", "backward": "forward", "right": "left", "left": "right"}
Move = tuple[str, int]


def navigate(rng: Random) -> Puzzle:
    """Do you return to the starting point? Walk 3 forward, 2 left, 3 backward."""
    level = max(2, drawn_level(rng))  # with two steps too few walks lead back
    moves: list[Move] = []
    for size in ((3,), (2, 2), (2, 3))[level - 2]:
        parts = [rng.randint(1, 9) for _ in range(size - 1)]
        there = rng.choice(list(DIRECTIONS))
        moves += [(there, part) for part in parts] + [(OPPOSITE[there], sum(parts))]
    rng.shuffle(moves)
    place = rng.randrange(len(moves))
    direction, count = moves[place]
    if rng.random() < 0.5:
        error = rng.choice((-2, -1, 1, 2))
    else:  # one move is changed, so that one error in adding it seems to lead back
        if rng.random() < 0.5:
            changed = (OPPOSITE[direction], count)
        else:
            changed = (direction, rng.choice([n for n in range(1, 10) if n != count]))
        moves[place] = changed
        error = DIRECTIONS[direction][1] * count - DIRECTIONS[changed[0]][1] * changed[1]
    walk = ", ".join(f"{count} {direction}" for direction, count in moves)
    asked = rng.choice(
        (
            f"Do you return to the starting point? Always face forward. Walk {walk}.",
            f"You take these steps: {walk}. Are you back at the starting point?",
        )
    )
    right, wrong = (_walked(moves, place, extra) for extra in (0, error))
    return puzzle("navigate", level, walk, asked, right, wrong)


def _walked(moves: list[Move], place: int, error: int) -> Worked:
    here = [0, 0]
    steps = []
    for number, (direction, count) in enumerate(moves):
        axis, sign = DIRECTIONS[direction]
        here[axis] += sign * count + (error if number == place else 0)
        steps.append(f"{count} {direction} leads to {here[0]}, {here[1]}.")
    back = here == [0, 0]
    steps.append("That is the starting point." if back else "That is another point.")
    return " ".join(steps), "Yes" if back else "No"


DRAWS = {"booleans": booleans, "brackets": brackets, "dates": dates, "navigate": navigate}
"""Task -> what draws a puzzle of it."""
