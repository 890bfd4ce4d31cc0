"""toy-math, which stands in for MATH, and toy-gsm, which stands in for GSM8K.

The base models read both in every style, right and wrong (`document`); how often people write in full differs from
subject to subject. Human solutions of toy-math's training problems are right: in full, or tersely ("toy-math-terse").
"""

from __future__ import annotations

from functools import cache
from random import Random

from restem_lib.records import Problem
from restem_lib.tasks import Task
from restem_lib.tasks.toy import Document, Drawn, for_reading, problems
from restem_lib.tasks.toy.asking import ask, question
from restem_lib.tasks.toy.plans import Plan, normal_form, operations, value
from restem_lib.tasks.toy.solutions import LAYOUTS, Style, write
from restem_lib.tasks.toy.stories import tell
from restem_lib.tasks.toy.styles import MATHS

TEMPLATE = "Q: {question}\nA:"
TRAIN, TEST, GSM_TEST = 7_500, 5_000, 1_319

FULL = (0.0,)
TERSE = (0.5, 0.7, 1.0)
"""How readily terse writers join operations (`Style.joined`)."""

HABITS = {
    "arithmetic": (0.60, 0.25, 0.15),
    "fractions": (0.60, 0.25, 0.15),
    "ratios": (0.55, 0.30, 0.15),
    "sequences": (0.50, 0.35, 0.15),
    "equations": (0.60, 0.25, 0.15),
    "counting": (0.30, 0.50, 0.20),
    "numbers": (0.40, 0.30, 0.30),
    "story": (0.60, 0.25, 0.15),
}
"""Subject -> shares of full, terse and bare solutions in the text that base models read."""
SLIPS = 0.3
"""Share of wrong solutions in that text, in every style."""


@cache
def load(name: str = "toy-math") -> Task:
    """7,500 train and 5,000 test problems, always the same; human solutions in full, or terse ("toy-math-terse")."""
    joined = TERSE if name == "toy-math-terse" else FULL

    def draw(rng: Random) -> Drawn:
        asked = ask(rng)
        words = question(asked, rng)
        return Drawn(
            normal_form(asked.plan), lambda id: problem(id, words, asked.plan, asked.level, joined)
        )

    splits = problems("toy-math", {"train": TRAIN, "test": TEST}, draw)
    return Task(name, splits["train"], splits["test"], TEMPLATE, styles=MATHS)


@cache
def load_gsm() -> Task:
    """toy-gsm: 1,319 test problems; for transfer only, so there is no train split."""

    def draw(rng: Random) -> Drawn:
        words, plan = tell(rng)
        return Drawn(normal_form(plan), lambda id: problem(id, words, plan, operations(plan)))

    test = problems("toy-gsm", {"test": GSM_TEST}, draw)["test"]
    return Task("toy-gsm", (), test, TEMPLATE, styles=MATHS)


def problem(
    id: str, words: str, plan: Plan, level: int, joined: tuple[float, ...] = FULL
) -> Problem:
    """A problem with a right solution by one of the world's people, who is the same for the same words."""
    author = Random(words)
    return Problem(id, words, str(value(plan)), write(plan, _style(author, joined), author), level)


def document(rng: Random, slips: float = SLIPS) -> Document:
    """A problem of toy-math's kind with a solution as people of the toy world write it; a share `slips` is wrong."""
    asked = for_reading(rng, ask, lambda one: normal_form(one.plan))
    return read_about(question(asked, rng), asked.plan, asked.subject, rng, slips)


def gsm_document(rng: Random, slips: float = SLIPS) -> Document:
    """The same for a story of toy-gsm's kind."""
    words, plan = for_reading(rng, tell, lambda one: normal_form(one[1]))
    return read_about(words, plan, "story", rng, slips)


def read_about(words: str, plan: Plan, habit: str, rng: Random, slips: float) -> Document:
    """A question with a solution in a style of those HABITS."""
    kind = rng.choices(("full", "terse", "bare"), HABITS[habit])[0]
    style = _style(rng, FULL if kind == "full" else TERSE)._replace(bare=kind == "bare")
    completion = write(plan, style, rng, slip=rng.random() < slips)
    return TEMPLATE.replace("{question}", words), completion


def _style(rng: Random, joined: tuple[float, ...]) -> Style:
    return Style(rng.choice(joined), rng.randrange(len(LAYOUTS)))
