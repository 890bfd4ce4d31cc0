"""Puzzles of toy-bbh about words and things."""

from __future__ import annotations

from random import Random

from restem_lib.tasks.toy.puzzles import COLOURS, Puzzle, Worked, drawn_level, listed, puzzle

KINDS = {
    "animals": ("cat", "dog", "fox", "cow", "hen", "pig"),
    "fruits": ("plum", "pear", "fig", "lemon", "melon", "grape"),
    "tools": ("saw", "hammer", "drill", "rake", "spade", "knife"),
    "clothes": ("hat", "coat", "scarf", "shirt", "sock", "glove"),
}
THINGS = tuple(thing for things in KINDS.values() for thing in things)
KIND = {thing: kind for kind, things in KINDS.items() for thing in things}


def counting(rng: Random) -> Puzzle:
    """I have a cat, a plum, a saw and a dog. How many animals do I have?"""
    level = drawn_level(rng)
    kind = rng.choice(list(KINDS))
    size = 2 * level + rng.randint(1, 2)
    number = rng.randint(1, min(6, size - 1))
    others = rng.sample([thing for thing in THINGS if KIND[thing] != kind], size - number)
    things = rng.sample(KINDS[kind], number) + others
    rng.shuffle(things)
    row = listed([f"a {thing}" for thing in things])
    asked = rng.choice(
        (
            f"I have {row}. How many {kind} do I have?",
            f"On the table are {row}. How many are {kind}?",
        )
    )

    def work(counted: list[str]) -> Worked:
        marks = [f"{thing} {i}" for i, thing in enumerate(counted, 1)]
        return f"Counting {kind}: {', '.join(marks)}.", str(len(counted))

    right = [thing for thing in things if KIND[thing] == kind]
    # One is overlooked, or something else is taken for one.
    odd = rng.choice(right if number > 1 and rng.random() < 0.5 else others)
    wrong = [thing for thing in things if (KIND[thing] == kind) != (thing == odd)]
    form = f"{kind} {sorted(things)}"
    return puzzle("counting", level, form, asked, work(right), work(wrong))


def sorting(rng: Random) -> Puzzle:
    """Sort these words: pear dog cat"""
    level = drawn_level(rng)
    words = rng.sample(THINGS + COLOURS, level + 2)
    asked = rng.choice(("Sort these words: ", "Put these words in order: ")) + " ".join(words)

    def work(slip: int) -> Worked:
        left, taken = list(words), list[str]()
        while left:
            taken.append(sorted(left)[1 if len(taken) == slip else 0])
            left.remove(taken[-1])
        return f"In order: {', '.join(taken)}.", " ".join(taken)

    wrong = work(rng.randint(0, level))
    return puzzle("sorting", level, sorted(words), asked, work(-1), wrong)


def rows(rng: Random) -> Puzzle:
    """From left to right there are a red hat, a blue saw and a pink sock. What colour is the hat?"""
    level = drawn_level(rng)
    size = rng.randint(3, 4)
    things = rng.sample(KINDS["tools"] + KINDS["clothes"], size)
    colours = rng.sample(COLOURS, size)
    if level == 4:
        colours = [rng.choice(colours[:3]) for _ in things]
    seen = [f"{colour} {thing}" for colour, thing in zip(colours, things, strict=True)]
    row = f"From left to right there are {listed([f'a {one}' for one in seen])}."
    side, sign = rng.choice((("left", -1), ("right", 1)))
    if level == 4:
        return _beside(rng, row, things, colours, side)
    steps = (level - 1) * sign
    place = rng.choice([i for i in range(size) if 0 <= i + steps < size])
    thing = things[place]
    where = ("", "Just", "Two places")[level - 1]
    target = thing if level == 1 else f"thing {where.lower()} {side} of the {thing}"
    asked = f"What colour is the {target}?"

    def work(found: int) -> Worked:
        if level == 1:
            return f"The {thing} is {colours[found]}.", colours[found]
        return (
            f"{where} {side} of the {thing} is the {things[found]}. The {things[found]} is {colours[found]}.",
            colours[found],
        )

    wrong = rng.choice([i for i in range(size) if i not in (place, place + steps)])
    form = f"{seen} {place} {steps}"
    return puzzle("rows", level, form, f"{row} {asked}", work(place + steps), work(wrong))


def _beside(rng: Random, row: str, things: list[str], colours: list[str], side: str) -> Puzzle:
    """How many things left of the hat are red?"""
    size = len(things)
    place = rng.randrange(2, size) if side == "left" else rng.randrange(size - 2)
    beside = range(place) if side == "left" else range(place + 1, size)
    colour = rng.choice(colours)
    where = f"{side} of the {things[place]}"

    def work(counted: list[int]) -> Worked:
        found = listed([things[i] for i in counted]) if counted else "none"
        number = len(counted)
        return f"{where.capitalize()}, {colour} are: {found}. That makes {number}.", str(number)

    right = [i for i in beside if colours[i] == colour]
    wrong = sorted({*right} ^ {rng.choice(beside)})
    form = f"{row} {place} {side} {colour}"
    return puzzle(
        "rows", 4, form, f"{row} How many things {where} are {colour}?", work(right), work(wrong)
    )


def odd_one_out(rng: Random) -> Puzzle:
    """Which one does not belong? (A) plum (B) dog (C) pear"""
    level = drawn_level(rng)
    kind, other = rng.sample(list(KINDS), 2)
    odd = rng.choice(KINDS[other])
    things = [odd, *rng.sample(KINDS[kind], level + 1)]
    rng.shuffle(things)
    options = " ".join(f"({'ABCDEF'[i]}) {thing}" for i, thing in enumerate(things))
    asked = rng.choice(("Which one does not belong? ", "Find the odd one out. ")) + options

    def work(odd: str) -> Worked:
        return f"All but {odd} are {kind}.", f"({'ABCDEF'[things.index(odd)]})"

    wrong = work(rng.choice([thing for thing in things if thing != odd]))
    return puzzle("odd_one_out", level, sorted(things), asked, work(odd), wrong)


DRAWS = {"counting": counting, "sorting": sorting, "rows": rows, "odd_one_out": odd_one_out}
"""Task -> what draws a puzzle of it."""
