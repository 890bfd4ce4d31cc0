"""Which samples become training pairs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restem_lib.config import Common
from restem_lib.filtering import NothingKept, human_pairs, keep_correct, select
from restem_lib.records import Pair, Problem, Sample, Score
from restem_lib.store import Shards, Stage, write_records
from restem_lib.tasks import Task

PROBLEMS = tuple(Problem(f"p/{i}", f"q{i}", str(i)) for i in range(3))
TASK = Task("t", PROBLEMS, (), template="Q: {question}\nA:", prefix="Example.\n")
REWARDS = {"p/0": [1] * 14, "p/1": [0, 1, 0, 1], "p/2": [0, 0]}
"""An easy, a middling and an unsolved problem."""


def drawn(rewards: list[int], text: str = "text {}") -> list[tuple[Sample, int]]:
    return [(Sample("p", i, text.format(i), 5, "eos"), reward) for i, reward in enumerate(rewards)]


def store(root: Path, rewards: dict[str, list[int]] = REWARDS) -> tuple[Shards, Shards]:
    samples, scores = [], []
    for problem_id, row in rewards.items():
        for i, reward in enumerate(row):
            samples.append(Sample(problem_id, i, f" text {i}", 5, "eos"))
            verdict = "correct" if reward else "wrong"
            scores.append(Score(problem_id, i, reward, verdict, "1", "", "answers-1"))
    found = []
    for kind, records in ((Sample, samples), (Score, scores)):
        stage = Stage(root, kind.__name__.lower(), 1, {"rewards": rewards})
        with stage.work():
            write_records(stage, "p00000-00000000-s0000-0016.parquet", records, kind, 0.0)
        found.append(Shards(stage, ("p00000-00000000-s0000-0016.parquet",)))
    return found[0], found[1]


def pairs(
    root: Path, seed: int = 0, rewards: dict[str, list[int]] = REWARDS, **settings: object
) -> list[Pair]:
    samples, scores = store(root, rewards)
    config = Common(runs_dir=str(root), **settings)  # type: ignore[arg-type]
    return list(keep_correct(TASK, PROBLEMS, samples, scores, seed, config).records(Pair))


def test_only_reward_1_is_kept_at_most_cap_a_problem(tmp_path: Path) -> None:
    kept = pairs(tmp_path)
    assert Counter(pair.problem_id for pair in kept) == {"p/0": 10, "p/1": 2}
    assert [pair.index for pair in kept if pair.problem_id == "p/1"] == [1, 3]


def test_a_pair_holds_exactly_what_the_model_saw(tmp_path: Path) -> None:
    assert pairs(tmp_path)[-1] == Pair("p/1", 3, "Example.\nQ: q1\nA:", " text 3")


def test_the_cap_draws_at_random_and_by_the_seed(tmp_path: Path) -> None:
    def easy(seed: int) -> list[int]:
        return [
            pair.index for pair in pairs(tmp_path / str(seed), seed) if pair.problem_id == "p/0"
        ]

    assert easy(0) == easy(0)
    assert len({tuple(easy(seed)) for seed in range(8)}) > 4


def test_a_cap_of_zero_is_no_cap(tmp_path: Path) -> None:
    assert len(pairs(tmp_path, cap=0)) == 16


def test_every_right_sample_is_as_likely_to_be_kept() -> None:
    counts = Counter(
        s.index for seed in range(3000) for s in select(drawn([1] * 6), Common(cap=2), seed)
    )
    # Each of 6 is kept with probability 1/3: 1000 +- 26; five standard deviations either way.
    assert all(870 < counts[i] < 1130 for i in range(6))


def test_the_control_ignores_the_reward_but_keeps_as_many(tmp_path: Path) -> None:
    kept = pairs(tmp_path, keep="random")
    assert Counter(pair.problem_id for pair in kept) == {"p/0": 10, "p/1": 2}
    indices = {
        tuple(s.index for s in select(drawn([0, 1, 0, 1]), Common(keep="random"), seed))
        for seed in range(30)
    }
    assert (0, 2) in indices  # two wrong samples


def test_dedup_keeps_a_text_once() -> None:
    same = drawn([1, 1, 1], text="same")
    assert [s.index for s in select(same, Common(dedup=True), 0)] == [0]
    assert len(select(same, Common(), 0)) == 3


@given(
    st.lists(st.integers(0, 1), max_size=20),
    st.integers(0, 5),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_nothing_wrong_is_ever_kept(rewards: list[int], cap: int, dedup: bool, seed: int) -> None:
    kept = select(drawn(rewards), Common(cap=cap, dedup=dedup), seed)
    assert all(rewards[s.index] == 1 for s in kept)
    assert len(kept) == (min(cap, sum(rewards)) if cap else sum(rewards))
    assert [s.index for s in kept] == sorted({s.index for s in kept})


def test_nothing_right_is_a_clear_stop(tmp_path: Path) -> None:
    with pytest.raises(NothingKept, match="none of the 2 samples was right"):
        pairs(tmp_path, rewards={"p/2": [0, 0]})


def test_human_solutions_are_pairs_too(tmp_path: Path) -> None:
    solved = [Problem("p/0", "q", "1", " so 1"), Problem("p/1", "q", "2")]
    config = Common(runs_dir=str(tmp_path))
    assert list(human_pairs(TASK, solved, config).records(Pair)) == [
        Pair("p/0", 0, "Example.\nQ: q\nA:", " so 1")
    ]
    with pytest.raises(NothingKept, match="no human solutions"):
        human_pairs(TASK, solved[1:], config)
