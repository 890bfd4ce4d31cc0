"""Puzzles of toy-bbh about people: what they hold, say and are."""

from __future__ import annotations

from random import Random

from restem_lib.tasks.toy.puzzles import (
    COLOURS,
    Puzzle,
    Worked,
    astray,
    drawn_level,
    listed,
    puzzle,
    shuffled,
)

NAMES = ("Ann", "Ben", "Carl", "Dora", "Eva", "Finn", "Gina", "Hugo", "Iris", "Jon", "Kim", "Leo")


def swaps(rng: Random) -> Puzzle:
    """Ann has the red ball and Ben has the blue ball. Ann and Ben swap. Which ball does Ann have now?"""
    level = drawn_level(rng)
    people = rng.sample(NAMES, 3)
    balls = rng.sample(COLOURS, len(people))
    pairs = [rng.sample(range(len(people)), 2) for _ in range(level)]
    asked = rng.randrange(len(people))
    held = zip(people, balls, strict=True)
    if rng.random() < 0.5:
        begin = listed([f"{name} has the {ball} ball" for name, ball in held])
    else:
        begin = "First " + listed([f"the {ball} ball is with {name}" for name, ball in held])
    told = [f"{begin}."]
    told += [f"{people[a]} and {people[b]} swap." for a, b in pairs]
    told.append(f"Which ball does {people[asked]} have now?")

    def work(pairs: list[list[int]]) -> Worked:
        now = list(balls)
        steps = []
        for a, b in pairs:
            now[a], now[b] = now[b], now[a]
            steps.append(", ".join(map("{} has {}".format, people, now)) + ".")
        return " ".join(steps), now[asked]

    right = work(pairs)
    # A swap that is done with somebody else.
    attempts = (
        work([*pairs[:place], [pairs[place][side], other], *pairs[place + 1 :]])
        for place in shuffled(rng, level)
        for other in shuffled(rng, len(people))
        for side in (0, 1)
        if other not in pairs[place]
    )
    form = f"{sorted(zip(people, balls, strict=True))} {pairs} {asked}"
    return puzzle("swaps", level, form, " ".join(told), right, astray(right, attempts))


def lies(rng: Random) -> Puzzle:
    """Ann lies. Ben says Ann tells the truth. Does Ben tell the truth?"""
    level = drawn_level(rng)
    people = rng.sample(NAMES, level + rng.randint(1, 2))
    # The asked person's word depends on the first one's through those of the chain.
    chain = [0, *sorted(rng.sample(range(1, len(people)), level))]
    before = dict(zip(chain[1:], chain, strict=False))
    about = [before[i] if i in before else rng.randrange(i) for i in range(1, len(people))]
    honest = [rng.random() < 0.5 for _ in people]
    says = [honest[i] == honest[j] for i, j in enumerate(about, 1)]
    told = [f"{people[0]} {_honesty(honest[0])}."]
    for i, (j, claim) in enumerate(zip(about, says, strict=True), 1):
        told.append(f"{people[i]} says {people[j]} {_honesty(claim)}.")
    told.append(f"Does {people[chain[-1]]} tell the truth?")

    def work(slip: int) -> Worked:
        steps = [told[0]]
        belief = honest[0]
        for place, i in enumerate(chain[1:], 1):
            belief = (belief == says[i - 1]) != (place == slip)
            so = f"{people[i]} {_honesty(belief)}."
            because = f"{people[i]} says {people[about[i - 1]]} {_honesty(says[i - 1])}"
            steps.append(f"{because}, so {so}")
        return " ".join(steps), "Yes" if belief else "No"

    form = f"{people} {honest[0]} {about} {says} {chain[-1]}"
    wrong = work(rng.randint(1, level))
    return puzzle("lies", level, form, " ".join(told), work(0), wrong)


def _honesty(honest: bool) -> str:
    return "tells the truth" if honest else "lies"


QUALITIES = (
    ("older", "younger", "oldest", "youngest"),
    ("taller", "shorter", "tallest", "shortest"),
    ("heavier", "lighter", "heaviest", "lightest"),
)
ORDINALS = ("", "second ", "third ", "fourth ")


def ordering(rng: Random) -> Puzzle:
    """Ann is older than Ben. Carl is younger than Ben. Who is the second oldest?"""
    level = drawn_level(rng)
    size = (3, 3, 4, 5)[level - 1]
    more, less, most, least = rng.choice(QUALITIES)
    people = rng.sample(NAMES, size)
    pairs = [(i, i + 1) for i in range(size - 1)]
    if level > 1 and rng.random() < 0.5:  # a clue that says nothing new
        pairs.append(rng.choice([(i, j) for j in range(size) for i in range(j - 1)]))
    rng.shuffle(pairs)
    clues = [(i, j) if rng.random() < 0.5 else (j, i) for i, j in pairs]
    told = [f"{people[i]} is {more if i < j else less} than {people[j]}." for i, j in clues]
    place = rng.randrange(size)
    rank = least if place == size - 1 else ORDINALS[place] + most
    told.append(f"Who is the {rank}?")

    def work(order: list[str]) -> Worked:
        return f"From {most} to {least}: {', '.join(order)}.", order[place]

    other = place + 1 if place == 0 or (place < size - 1 and rng.random() < 0.5) else place - 1
    wrong = list(people)
    wrong[place], wrong[other] = wrong[other], wrong[place]
    form = f"{sorted((people[i], people[j]) for i, j in pairs)} {place}"
    return puzzle("ordering", level, form, " ".join(told), work(people), work(wrong))


COLUMNS = ("age", "height", "weight")


def table(rng: Random) -> Puzzle:
    """Name, age, weight: Ann, 3, 7; Ben, 5, 2. Who has the greatest age?"""
    level = drawn_level(rng)
    people = rng.sample(NAMES, 3)
    columns = rng.sample(COLUMNS, rng.randint(2, 3))
    cells = {column: rng.sample(range(1, 10), len(people)) for column in columns}
    lines = [
        ", ".join([name, *(str(cells[column][i]) for column in columns)])
        for i, name in enumerate(people)
    ]
    head = f"Name, {', '.join(columns)}: {'; '.join(lines)}."
    asked, other = rng.sample(columns, 2)
    values = cells[asked]
    place = rng.randrange(len(people))
    extreme = rng.choice(("greatest", "least"))
    best = values.index(max(values) if extreme == "greatest" else min(values))
    limit = rng.choice(sorted(values)[:-1])
    numbers = listed([str(value) for value in values])

    def work(found: int) -> Worked:
        first = f"The {extreme} of {numbers} is {values[found]}, the {asked} of {people[found]}."
        if level == 1:
            return (
                f"The row is {lines[place]}. The {asked} of {people[place]} is {values[found]}.",
                str(values[found]),
            )
        if level == 2:
            return first, people[found]
        there = cells[other][found]
        return f"{first} The {other} of {people[found]} is {there}.", str(there)

    def count(flaw: int) -> Worked:
        over = [v for i, v in enumerate(values) if (v > limit) != (i == flaw)]
        shown = listed([str(value) for value in over]) if over else "none"
        return f"Of {numbers} over {limit}: {shown}. That makes {len(over)}.", str(len(over))

    question, form, target = (
        (f"What is the {asked} of {people[place]}?", f"of {place}", place),
        (f"Who has the {extreme} {asked}?", extreme, best),
        (f"What is the {other} of the one with the {extreme} {asked}?", f"{extreme} {other}", best),
        (f"How many have {asked} over {limit}?", f"over {limit}", -1),
    )[level - 1]
    flaw = rng.choice([i for i in range(len(people)) if i != target])
    right, wrong = (count(-1), count(flaw)) if level == 4 else (work(target), work(flaw))
    whole = f"{sorted(cells.items())} {asked} {form}"
    return puzzle("table", level, whole, f"{head} {question}", right, wrong)


DRAWS = {"swaps": swaps, "lies": lies, "ordering": ordering, "table": table}
"""Task -> what draws a puzzle of it."""
