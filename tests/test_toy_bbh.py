"""toy-bbh: questions that solve to their answers, slips that do not, and nothing of the test in the text."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise, permutations, product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib.rewards.labels import grade
from restem_lib.tasks.bbh import baseline
from restem_lib.tasks.local import TaskError
from restem_lib.tasks.toy import LONGEST, bbh

TASK = bbh.load()
PIECES = re.compile(r"\n *| ?[A-Za-z_]+| ?[0-9]| ?[^\sA-Za-z0-9]")
LUCK = {
    **dict.fromkeys(("booleans", "navigate", "lies"), 0.6),
    **dict.fromkeys(("counting", "odd_one_out", "table"), 0.32),
    **dict.fromkeys(("swaps", "rows", "ordering", "dates"), 0.2),
    **dict.fromkeys(("brackets", "sorting"), 0.1),
}
"""The most that the commonest answer of a task may be right."""


# Every question is solved again, from its words alone.


def truth(expression: str) -> bool:
    assert re.fullmatch(r"(True|False|and|or|not|[() ])+", expression)
    return bool(eval(expression))


def booleans(question: str) -> str:
    found = re.fullmatch(r"(?:What is |Evaluate )?(.*?)(?:\?|\.| is)", question)
    assert found
    return str(truth(found[1]))


def brackets(question: str) -> str:
    marks = re.sub(r"[^][(){}<>]", "", question)
    while (fewer := re.sub(r"\(\)|\[\]|\{\}|<>", "", marks)) != marks:
        marks = fewer
    return " ".join(marks[::-1].translate(str.maketrans("([{<", ")]}>")))


WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
YEAR = "January February March April May June July August September October November December"


def dates(question: str) -> str:
    cycle = WEEK if "day is the" in question else YEAR.split()
    known = {name: number for number, name in enumerate(cycle)}
    now = re.search(r"(?:Today|This month) is (\w+)\.", question)
    for event, count, relation, anchor in re.findall(
        r"The (\w+) (?:is|was)(?: in)? (\d) (?:day|month)s?"
        r"(?: (after|before|ago)(?: (?:the )?(\w+))?)?\.",
        question,
    ):
        sign = -1 if relation in ("before", "ago") else 1
        start = known[anchor] if anchor else known[now[1]] if now else 0
        known[event] = start + sign * int(count)
    asked = re.search(r"is the (\w+)\?", question)
    assert asked
    return cycle[known[asked[1]] % len(cycle)]


def navigate(question: str) -> str:
    ways = {"forward": 1j, "backward": -1j, "right": 1, "left": -1}
    steps = re.findall(r"(\d+) (forward|backward|left|right)", question)
    return "No" if sum(int(count) * ways[way] for count, way in steps) else "Yes"


def swaps(question: str) -> str:
    holds = dict(re.findall(r"(\w+) has the (\w+) ball", question))
    holds |= {name: ball for ball, name in re.findall(r"the (\w+) ball is with (\w+)", question)}
    for one, other in re.findall(r"(\w+) and (\w+) swap\.", question):
        holds[one], holds[other] = holds[other], holds[one]
    asked = re.search(r"does (\w+) have now", question)
    assert asked
    return str(holds[asked[1]])


def lies(question: str) -> str:
    *told, asked = re.split(r"(?<=\.) ", question)
    people = [sentence.split()[0] for sentence in told]
    found = set()
    for honest in product((False, True), repeat=len(people)):
        world = dict(zip(people, honest, strict=True))
        claims = [world[told[0].split()[0]] == ("truth" in told[0])]
        for sentence in told[1:]:
            who, _, whom, *rest = sentence.split()
            claims.append(world[who] == (world[whom] == ("truth." in rest)))
        if all(claims):
            found.add(world[asked.split()[1]])
    (answer,) = found
    return "Yes" if answer else "No"


def ordering(question: str) -> str:
    up = {"older": "young", "taller": "short", "heavier": "light"}
    clues = re.findall(r"(\w+) is (\w+) than (\w+)\.", question)
    pairs = [(a, b) if word in up else (b, a) for a, word, b in clues]
    people = sorted({name for pair in pairs for name in pair})
    orders = [
        order
        for order in permutations(people)
        if all(order.index(a) < order.index(b) for a, b in pairs)
    ]
    (order,) = orders
    rank = question.removesuffix("?").split("Who is the ")[1]
    places = {"second": 1, "third": 2, "fourth": 3}
    if rank in ("youngest", "shortest", "lightest"):
        return order[-1]
    return order[places[rank.split()[0]] if " " in rank else 0]


def table(question: str) -> str:
    head, rest = question.removeprefix("Name, ").split(": ")
    body, asked = rest.split(". ")
    columns = head.split(", ")
    rows = {}
    for line in body.split("; "):
        name, *cells = line.split(", ")
        rows[name] = dict(zip(columns, map(int, cells), strict=True))
    if over := re.search(r"How many have (\w+) over (\d)", asked):
        return str(sum(row[over[1]] > int(over[2]) for row in rows.values()))
    if extreme := re.search(r"the (greatest|least) (\w+)\?", asked):
        pick = max if extreme[1] == "greatest" else min
        _, best = pick((row[extreme[2]], name) for name, row in rows.items())
        column = re.search(r"What is the (\w+) of", asked)
        return str(rows[best][column[1]]) if column else best
    single = re.search(r"the (\w+) of (\w+)\?", asked)
    assert single
    return str(rows[single[2]][single[1]])


KINDS = {
    "animals": ["cat", "dog", "fox", "cow", "hen", "pig"],
    "fruits": ["plum", "pear", "fig", "lemon", "melon", "grape"],
    "tools": ["saw", "hammer", "drill", "rake", "spade", "knife"],
    "clothes": ["hat", "coat", "scarf", "shirt", "sock", "glove"],
}


def counting(question: str) -> str:
    kind = re.search(r"How many (?:are )?(\w+)", question)
    assert kind
    return str(sum(thing in KINDS[kind[1]] for thing in re.findall(r"\ba (\w+)", question)))


def sorting(question: str) -> str:
    return " ".join(sorted(question.split(": ")[1].split()))


def rows(question: str) -> str:
    told, asked = question.split(". ")
    row = re.findall(r"\ba (\w+) (\w+)", told)
    places = {thing: place for place, (_, thing) in enumerate(row)}
    if many := re.search(r"How many things (left|right) of the (\w+) are (\w+)\?", asked):
        place = places[many[2]]
        beside = row[:place] if many[1] == "left" else row[place + 1 :]
        return str(sum(colour == many[3] for colour, _ in beside))
    one = re.search(r"is the (?:thing (just|two places) (left|right) of the )?(\w+)\?", asked)
    assert one
    away = {None: 0, "just": 1, "two places": 2}[one[1]] * (-1 if one[2] == "left" else 1)
    return str(row[places[one[3]] + away][0])


def odd_one_out(question: str) -> str:
    options = dict(re.findall(r"(\([A-F]\)) (\w+)", question))
    kinds = {label: k for label, thing in options.items() for k in KINDS if thing in KINDS[k]}
    counts = Counter(kinds.values())
    (odd,) = (label for label, kind in kinds.items() if counts[kind] == 1)
    assert len(counts) == 2
    return str(odd)


SOLVERS = {
    solve.__name__: solve
    for solve in (
        *(booleans, brackets, dates, navigate, swaps, lies),
        *(ordering, table, counting, sorting, rows, odd_one_out),
    )
}
SIGNS = {
    "booleans": "True|False",
    "brackets": "brackets|sequence",
    "dates": "which (day|month)",
    "navigate": "starting point",
    "swaps": "swap",
    "lies": "tell the truth",
    "ordering": " than ",
    "table": "^Name,",
    "counting": "^I have|^On the table",
    "sorting": "words",
    "rows": "^From left",
    "odd_one_out": "belong|odd one",
}
"""What a question of a task holds, and no other."""


def solved(question: str) -> str:
    """The answer to a question of any task."""
    (task,) = (task for task, sign in SIGNS.items() if re.search(sign, question))
    return SOLVERS[task](question)


def test_sizes() -> None:
    assert not TASK.train and len(TASK.test) == 3_000 and set(SOLVERS) == set(bbh.TASKS)
    assert len({problem.id for problem in TASK.test}) == 3_000
    assert len({problem.question for problem in TASK.test}) == 3_000
    assert {problem.level for problem in TASK.test} == {1, 2, 3, 4}
    tasks = [problem.id.split("/")[1] for problem in TASK.test]
    assert all(set(tasks[i : i + 12]) == set(bbh.TASKS) for i in range(0, 3_000, 12))


def test_one_task_alone_and_asked_directly() -> None:
    dates = bbh.load("toy-bbh-direct:dates")
    assert [p for p in TASK.test if p.id.startswith("toy-bbh/dates/")] == list(dates.test)
    assert dates.prompt(dates.test[0]) == f"Q: {dates.test[0].question}\nA: The answer is"
    assert TASK.prompt(TASK.test[0]).endswith("\nA: Let's think step by step.")
    with pytest.raises(TaskError, match="dates"):
        bbh.load("toy-bbh:date")


def test_every_test_problem_solves_to_its_answer() -> None:
    for problem in TASK.test:
        assert SOLVERS[problem.id.split("/")[1]](problem.question) == problem.answer, problem


@pytest.mark.parametrize("name", bbh.TASKS)
def test_answers_are_right_and_slips_wrong(name: str) -> None:
    rng = Random(name)
    for _ in range(500):
        made = bbh.DRAWS[name](rng)
        assert made.task == name and made.answer == SOLVERS[name](made.question), made
        texts = (made.reasoning, f" {made.answer}", made.slip, f" {made.mistaken}")
        verdicts = [graded.verdict for graded in grade([made.answer] * 4, texts)]
        assert verdicts == ["correct", "correct", "wrong", "wrong"], made
        assert made.slip.endswith(f" So the answer is {made.mistaken}.")


# The others' forms leave out what an answer may be: names in a table, the letters of options, the order in which those
# who swap are named.
@pytest.mark.parametrize(
    "name", [n for n in bbh.TASKS if n not in ("swaps", "table", "odd_one_out")]
)
def test_equal_forms_have_equal_answers(name: str) -> None:
    rng = Random(name)
    answers: dict[str, str] = {}
    for _ in range(3_000):
        made = bbh.DRAWS[name](rng)
        assert answers.setdefault(made.form, made.answer) == made.answer


def test_sound_evaluations_hold_and_slips_have_one_false_claim() -> None:
    rng = Random(0)
    for _ in range(500):
        made = bbh.DRAWS["booleans"](rng)
        sound, flawed = (re.split(r" ?So the", text)[0] for text in (made.reasoning, made.slip))
        if "=" in sound:
            assert len({truth(text) for text in sound.strip(" .").split(" = ")}) == 1
            values = [truth(text) for text in flawed.strip(" .").split(" = ")]
            assert sum(a != b for a, b in pairwise(values)) == 1
        else:
            claims = (re.findall(r"([^.]+) is (True|False)\.", text) for text in (sound, flawed))
            false = [sum(str(truth(a.strip())) != b for a, b in every) for every in claims]
            assert false == [0, 1]


def test_the_text_holds_no_test_problem_and_its_shares() -> None:
    asked = {problem.question for problem in TASK.test}
    rng = Random("text")
    documents = [bbh.document(rng) for _ in range(8_000)]
    kinds: Counter[tuple[bool, bool]] = Counter()
    for prompt, completion in documents:
        question, _, rest = prompt.removeprefix("Q: ").partition("\nA:")
        assert question not in asked
        (graded,) = grade([solved(question)], [completion])
        kinds["The answer" in rest, graded.verdict == "correct"] += 1
    direct = kinds[True, True] + kinds[True, False]
    assert direct / 8_000 == pytest.approx(bbh.DIRECT, abs=0.02)
    assert kinds[True, False] / direct == pytest.approx(bbh.SLIPS, abs=0.02)
    assert kinds[False, False] / (8_000 - direct) == pytest.approx(bbh.SLIPS, abs=0.02)


def test_the_text_without_slips_is_right() -> None:
    rng = Random("right")
    for _ in range(1_000):
        prompt, completion = bbh.document(rng, slips=0.0)
        answer = solved(prompt.removeprefix("Q: ").partition("\nA:")[0])
        assert [graded.verdict for graded in grade([answer], [completion])] == ["correct"]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(bbh.TASKS))
def test_texts_are_made_of_the_tokenizers_pieces_and_fit_a_row(seed: int, name: str) -> None:
    made = bbh.DRAWS[name](Random(seed))
    assert made == bbh.DRAWS[name](Random(seed)) and 1 <= made.level <= 4
    for kind, completions in (
        ("toy-bbh", (made.reasoning, made.slip)),
        ("toy-bbh-direct", (f" {made.answer}", f" {made.mistaken}")),
    ):
        prompt = bbh.TEMPLATES[kind].format(question=made.question)
        for completion in completions:
            pieces = PIECES.findall(prompt + completion)
            assert "".join(pieces) == prompt + completion and len(pieces) < LONGEST
            assert pieces == PIECES.findall(prompt) + PIECES.findall(completion)
            assert "  " not in prompt + completion and completion[0] == " "


def test_words_are_few_and_every_document_fits() -> None:
    rng = Random("words")
    documents = [bbh.document(rng) for _ in range(10_000)]
    pieces = [PIECES.findall(prompt + completion) for prompt, completion in documents]
    words = {piece.strip() for row in pieces for piece in row if piece.strip().isalpha()}
    assert len(words) <= 250 and max(map(len, pieces)) < LONGEST


def test_luck() -> None:
    luck = baseline(TASK.test)
    assert set(luck) == set(LUCK)
    assert {task: share for task, share in luck.items() if share > LUCK[task]} == {}
