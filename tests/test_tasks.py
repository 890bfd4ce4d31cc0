"""Tasks: right problems from local files, and errors that name file and line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from restem_lib.rewards.answers import grade
from restem_lib.tasks import gsm8k, jsonl, load_task
from restem_lib.tasks.local import TaskError


def lines(path: Path, rows: list[object]) -> Path:
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    )
    return path


def rows(n: int = 30) -> list[object]:
    return [{"id": f"q{i}", "prompt": f"What is {i} + 1?\n", "answer": i + 1} for i in range(n)]


def test_a_file_of_ones_own_is_split_by_a_hash_of_its_ids(tmp_path: Path) -> None:
    task = load_task(str(lines(tmp_path / "mine.jsonl", rows())))
    again = jsonl.load(lines(tmp_path / "mine.jsonl", list(reversed(rows()))))
    assert len(task.train) + len(task.test) == 30
    assert {problem.id for problem in task.test} == {problem.id for problem in again.test}
    assert task.prompt(task.train[0]).startswith("What is ")
    assert all(problem.answer == str(int(problem.id[1:]) + 1) for problem in task.train)


def test_answers_are_kept_as_they_are_written(tmp_path: Path) -> None:
    answers = ["2024-01-05", 3, 2.5, "007", "1e3"]
    made = [{"id": f"q{i}", "prompt": "p", "answer": answers[i % 5]} for i in range(30)]
    task = jsonl.load(lines(tmp_path / "mine.jsonl", made))
    read = {problem.id: problem.answer for problem in task.train + task.test}
    assert [read[f"q{i}"] for i in range(5)] == ["2024-01-05", "3", "2.5", "007", "1e3"]


def test_a_test_file_beside_it_is_the_test_split(tmp_path: Path) -> None:
    lines(
        tmp_path / "mine.test.jsonl", [{"id": "t", "prompt": "p", "answer": "a", "solution": "s"}]
    )
    task = jsonl.load(lines(tmp_path / "mine.jsonl", rows(3)))
    assert [problem.id for problem in task.test] == ["t"]
    assert task.test[0].solution == "s"
    assert len(task.train) == 3


def test_a_test_problem_in_the_training_file_is_refused(tmp_path: Path) -> None:
    lines(tmp_path / "mine.test.jsonl", rows(1))
    with pytest.raises(TaskError, match="'q0' is also in"):
        jsonl.load(lines(tmp_path / "mine.jsonl", rows(3)))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('{"id": "x", "prompt": "p"', "not JSON"),
        ("[1]", "not a JSON object"),
        ({"id": "x", "prompt": "p"}, "no 'answer'"),
        ({"id": "x", "prompt": "p", "answer": None}, "no 'answer'"),
        ({"id": "x", "prompt": "p", "answer": " "}, "'answer' is blank"),
        ({"id": "x", "prompt": "p", "answer": ["a"]}, "must be text or a number"),
        ({"id": "q1", "prompt": "p", "answer": "a"}, "'q1' is already in line 2"),
        ("", "not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: object, says: str) -> None:
    path = lines(tmp_path / "mine.jsonl", [*rows(3), bad, *rows(5)[3:]])
    with pytest.raises(TaskError, match=rf"mine\.jsonl, line 4: .*{says}"):
        jsonl.load(path)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(TaskError, match="is not UTF-8"):
        jsonl.load(tmp_path / "mine.jsonl")


def test_a_task_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(TaskError, match="no task 'toy-meth'; there are toy-math, gsm8k"):
        load_task("toy-meth")
    with pytest.raises(TaskError, match=r"no file .*none\.jsonl"):
        load_task("/none.jsonl")


def gsm8k_folder(root: Path, bad: str = "") -> Path:
    (root / "gsm8k").mkdir(parents=True)
    made = [
        {
            "question": f"What is {i} + 1? ",
            "answer": f"{i}+1=<<{i}+1={i + 1}>>{i + 1}\n#### {i + 1}",
        }
        for i in range(20)
    ]
    lines(root / "gsm8k" / "train.jsonl", [*made])
    lines(root / "gsm8k" / "test.jsonl", [*made, {"question": "q", "answer": bad}] if bad else made)
    return root


def test_gsm8k_prompts_with_examples_that_are_no_problems(tmp_path: Path) -> None:
    task = gsm8k.load(str(gsm8k_folder(tmp_path)))
    assert len(task.train) == 20 - len(gsm8k.SHOTS)
    assert not {f"gsm8k/train/{i}" for i in gsm8k.SHOTS} & {problem.id for problem in task.train}
    prompt = task.prompt(task.test[3])
    assert prompt.endswith("#### 13\n\nQuestion: What is 3 + 1?\nAnswer:")
    assert prompt.count("Question:") == len(gsm8k.SHOTS) + 1
    assert "<<" not in prompt
    assert task.train[0].solution == " 1+1=2\n#### 2"


def test_a_gsm8k_row_without_final_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"test\.jsonl, line 21: .*lacks its final"):
        gsm8k.load(str(gsm8k_folder(tmp_path, bad="no end")))


def test_a_data_folder_that_is_not_there_is_no_reason_to_ask_the_hub(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="data_dir names"):
        gsm8k.load(str(tmp_path / "none"))


def test_the_real_gsm8k_rewards_its_own_solutions() -> None:
    root = os.environ.get("RESTEM_DATA", "")
    if not (Path(root) / "gsm8k").is_dir() or not root:
        pytest.skip("RESTEM_DATA does not name a folder with gsm8k/")
    task = gsm8k.load()
    assert (len(task.train), len(task.test)) == (7473 - len(gsm8k.SHOTS), 1319)
    problems = task.train + task.test
    graded = grade([p.answer for p in problems], [p.solution for p in problems])
    assert [p.id for p, g in zip(problems, graded, strict=True) if g.verdict != "correct"] == []
