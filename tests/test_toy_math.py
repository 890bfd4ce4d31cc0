"""toy-math: splits that share no problem, answers that re-solve, solutions that say what they claim."""

from __future__ import annotations

import re
from collections import Counter
from hashlib import sha256
from random import Random

import pytest

from restem_lib.rewards import answers
from restem_lib.tasks import toy_math
from restem_lib.tasks.toy_math import Move, normal_form, solve, split_of, story

TASK = toy_math.load()
STYLES = ("steps", "slip", "terse", "bare")


def result_of(line: str) -> tuple[int, int]:
    """A line "2 * 3 + 4 = 10" as (value of the left side, number on the right)."""
    left, right = line.split(" = ")
    assert re.fullmatch(r"\d+( [-+*/] \d+)+", left)
    return int(eval(left)), int(right)


def lines_of(solution: str) -> list[str]:
    worked = solution.split("\n")[0].strip()
    return worked.split("; ") if worked else []


def test_sizes_and_prompt() -> None:
    assert (TASK.name, len(TASK.train), len(TASK.test)) == ("toy-math", 7_500, 5_000)
    assert len({problem.id for problem in TASK.train + TASK.test}) == 12_500
    assert TASK.prompt(TASK.test[0]) == f"Q: {TASK.test[0].question}\nA:"
    assert {problem.level for problem in TASK.test} == {2, 3, 4, 5, 6}


def test_the_same_problems_for_ever() -> None:
    text = "\n".join(f"{p.id} {p.question} {p.solution}" for p in TASK.train[:50] + TASK.test[:50])
    assert sha256(text.encode()).hexdigest()[:16] == "d855b2e4dad3a049"


def numbers_in_order(question: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", question))


def test_no_problem_in_two_splits() -> None:
    train = {problem.question for problem in TASK.train}
    test = {problem.question for problem in TASK.test}
    pretraining = {prompt[3:-3] for prompt, _ in toy_math.pretraining_text(Random(1), 5_000)}
    assert not train & test and not (train | test) & pretraining
    solved = {
        split: {(numbers_in_order(p.question), p.solution) for p in problems}
        for split, problems in (("train", TASK.train), ("test", TASK.test))
    }
    assert not solved["train"] & solved["test"]


def test_every_split_is_the_hash_of_the_normal_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays the generators and looks at the arithmetic that they told."""
    told: list[toy_math.Story] = []

    def recorded(rng: Random) -> toy_math.Story:
        told.append(story(rng))
        return told[-1]

    monkeypatch.setattr(toy_math, "story", recorded)
    pairs = toy_math.pretraining_text(Random(2), 2_000)
    replay = toy_math.load.__wrapped__()
    forms = {one.question: normal_form(one.moves) for one in told}
    for split in ("train", "test"):
        of_split = [forms[problem.question] for problem in getattr(replay, split)]
        assert {split_of(form) for form in of_split} == {split}
        assert len(set(of_split)) == len(of_split)
    assert {split_of(forms[prompt[3:-3]]) for prompt, _ in pairs} == {"pretraining"}


def test_the_same_steps_are_never_in_two_splits() -> None:
    """Independent of the normal form: by what the step-by-step solution writes."""
    rng = Random(10)
    split_by_steps: dict[str, str] = {}
    for _ in range(10_000):
        told = story(rng)
        split = split_of(normal_form(told.moves))
        assert split_by_steps.setdefault(solve(told, "steps", rng), split) == split
    eight_fours = (Move("+", (8,)), Move("*", (4,))), (Move("+", (4, 8)),)
    assert normal_form(eight_fours[0]) == normal_form(eight_fours[1])


def test_normal_form_ignores_the_order_of_sums_and_factors() -> None:
    def moves(*parts: tuple[str, tuple[int, ...]]) -> tuple[Move, ...]:
        return tuple(Move(op, factors) for op, factors in parts)

    one = moves(("+", (8,)), ("+", (3, 2)), ("-", (5,)), ("*", (4,)), ("+", (1,)))
    other = moves(("+", (2, 3)), ("-", (5,)), ("+", (8,)), ("*", (4,)), ("+", (1,)))
    different = moves(("+", (8,)), ("+", (3, 2)), ("*", (4,)), ("-", (5,)), ("+", (1,)))
    assert normal_form(one) == normal_form(other) != normal_form(different)


def test_human_solutions_are_right_and_varied() -> None:
    for problem in TASK.train + TASK.test:
        assert problem.solution.endswith(f"\n#### {problem.answer}")
        lines = [result_of(line) for line in lines_of(problem.solution)]
        assert all(value == said for value, said in lines)
        assert lines[-1][1] == int(problem.answer)
        assert 2 <= int(problem.answer) <= toy_math.LARGEST
    operations = Counter(
        len(re.findall(r" [-+*/] ", line)) for p in TASK.train for line in lines_of(p.solution)
    )
    assert set(operations) == {1, 2, 3} and min(operations.values()) > 1_000


def test_answers_are_hard_to_guess() -> None:
    counts = Counter(problem.answer for problem in TASK.train + TASK.test)
    assert counts.most_common(1)[0][1] < 0.03 * 12_500


@pytest.mark.parametrize("style", STYLES)
def test_styles_say_what_they_claim(style: str) -> None:
    rng = Random(3)
    for _ in range(500):
        told = story(rng)
        text = solve(told, style, rng)
        final = int(re.fullmatch(r"(?:.*)\n#### (\d+)", text)[1])  # type: ignore[index]
        lines = [result_of(line) for line in lines_of(text)]
        wrong = sum(value != said for value, said in lines)
        assert (final == told.answer) == (style != "slip")
        assert wrong == (style == "slip")
        assert len(lines) == told.level if style in ("steps", "slip") else len(lines) <= told.level
        assert (style == "bare") == (not lines)


def test_the_extractor_finds_the_answer_of_every_style() -> None:
    rng = Random(4)
    for _ in range(100):
        told = story(rng)
        for style in ("steps", "terse", "bare"):
            assert answers.extract(solve(told, style, rng)) == str(told.answer)


def test_pretraining_text_is_deterministic_and_mixed() -> None:
    pairs = toy_math.pretraining_text(Random(5), 2_000)
    assert pairs == toy_math.pretraining_text(Random(5), 2_000)
    bare = sum(completion.startswith("\n") for _, completion in pairs) / len(pairs)
    expected = sum(scene.bare for scene in toy_math.SCENES) / len(toy_math.SCENES)
    assert abs(bare - expected) < 0.04
