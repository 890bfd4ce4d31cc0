"""Tasks: right problems from local files, and errors that name file and line."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import pytest

from restem_lib.records import Problem, Sample
from restem_lib.rewards import Graded
from restem_lib.rewards.answers import grade
from restem_lib.rewards.programs import Tests
from restem_lib.tasks import (
    apps,
    bbh,
    gsm8k,
    hendrycks_math,
    humaneval,
    hungarian,
    jsonl,
    load_task,
    mbpp,
    names,
)
from restem_lib.tasks.local import TaskError, mixed, read_rows
from restem_lib.tasks.overlap import overlaps


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
    with pytest.raises(TaskError, match="no task 'toy-meth'; there are toy-math, toy-math-terse"):
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


# Files and the Hub.


def test_a_column_that_only_later_rows_have_is_read(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", [*rows(3), {**rows(4)[3], "solution": "s"}])  # type: ignore[dict-item]
    assert [row["solution"] for row in read_rows(path, ("id",))] == [None, None, None, "s"]


def test_gzip_and_lists_are_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": 1, "list": ["a", 2]}\n'))
    assert read_rows(path, ("id",), nested=("list",)) == [{"id": "1", "list": '["a", 2]'}]


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": 1}\n' * 1000)[:-9])
    with pytest.raises(TaskError, match=r"mine\.jsonl\.gz is not a whole gzip file"):
        read_rows(path, ("id",))


@pytest.mark.parametrize(
    ("bad", "says"),
    [({}, "no 'list'"), ({"list": "[1]"}, "must be a list"), ({"list": []}, "must be a list")],
)
def test_a_list_that_is_none_is_named(tmp_path: Path, bad: object, says: str) -> None:
    path = lines(tmp_path / "mine.jsonl", [{"list": [1]}, bad])
    with pytest.raises(TaskError, match=f"line 2: .*{says}"):
        read_rows(path, (), nested=("list",))


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.delenv("RESTEM_DATA", raising=False)


HUB_NAMES = [n for n in names() if not n.startswith("toy-") and n != "hungarian-auto"]


@pytest.mark.parametrize("name", HUB_NAMES)
def test_a_benchmark_that_cannot_be_had_says_what_to_put_where(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch)
    folder = name.partition("-")[0]
    with pytest.raises(TaskError, match=rf"no network.*RESTEM_DATA that holds {folder}/"):
        load_task(name)


def test_the_hub_is_asked_for_a_fixed_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    asked: list[object] = []

    def note(*_: object, revision: object, **__: object) -> None:
        asked.append(revision)
        raise ConnectionError

    monkeypatch.setattr("datasets.load_dataset", note)
    for name in ("gsm8k", "math", "humaneval", "mbpp", "bbh"):
        with pytest.raises(TaskError):
            load_task(name)
    assert [len(str(revision)) for revision in asked] == [40] * 5


def hub(monkeypatch: pytest.MonkeyPatch, made: dict[tuple[str | None, str], list[object]]) -> None:
    """A Hub that has these (config, split) only."""
    monkeypatch.delenv("RESTEM_DATA", raising=False)

    class Split(list[object]):
        def to_list(self) -> list[object]:
            return list(self)

    def load(repository: str, config: str | None, *, split: str, **_: object) -> Split:
        return Split(made[config, split])

    monkeypatch.setattr("datasets.load_dataset", load)


def test_the_subjects_of_math_on_the_hub_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = {"counting_and_probability": "Counting & Probability"}
    made = {
        (name, split): [
            math_row(i, titles.get(name, name.replace("_", " ").title())) for i in range(2)
        ]
        for name in hendrycks_math.SUBJECTS
        for split in ("train", "test")
    }
    hub(monkeypatch, made)  # type: ignore[arg-type]
    task = load_task("math")
    assert {problem.id for problem in task.test} == {
        f"math/test/{name}/{i}" for name in hendrycks_math.SUBJECTS for i in range(2)
    }
    assert len(task.train) == 14 - 4


def test_the_splits_of_mbpp_on_the_hub_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {"prompt": (2, 7, 9), "test": (11,), "validation": (511,), "train": (601,)}
    hub(monkeypatch, {("full", split): [mbpp_row(i) for i in ids[split]] for split in ids})
    task = load_task("mbpp")
    assert [problem.id for problem in task.train + task.test] == ["mbpp/train/601", "mbpp/test/11"]


def test_bbh_on_the_hub_has_no_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {("snarks", "test"): [{"input": "Which?", "target": "(A)"}]})
    task = load_task("bbh:snarks")
    assert task.prompt(task.test[0]) == "Q: Which?\nA:"


def test_the_first_of_sorted_problems_are_mixed() -> None:
    problems = [Problem(f"t/{i:03}", "q", "a") for i in range(200)]
    first = [int(problem.id[2:]) for problem in mixed(problems)[:50]]
    assert 70 < sum(first) / 50 < 130
    assert mixed(problems) == mixed(reversed(problems))


# One's own programs.

ADD = {"kind": "call", "entry": "add", "inputs": [[1, 2]], "outputs": [3]}


def programs(n: int = 30) -> list[object]:
    return [{"id": f"p{i}", "prompt": "Add.", "tests": ADD} for i in range(n)]


def test_a_file_of_programs_is_graded_by_its_tests(tmp_path: Path) -> None:
    task = load_task(str(lines(tmp_path / "mine.jsonl", programs())))
    assert task.grader == "programs"
    tests = Tests.from_json(task.train[0].answer)
    assert (tests.kind, tests.entry, tests.inputs, tests.outputs) == (
        "call",
        "add",
        ([1, 2],),
        (3,),
    )


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"id": "x", "prompt": "p", "answer": "a"}, "no 'tests'"),
        ({"id": "x", "prompt": "p", "tests": ADD, "answer": "a"}, "not both"),
        ({"id": "x", "prompt": "p", "tests": "assert 1"}, "must be a list or object"),
        ({"id": "x", "prompt": "p", "tests": {**ADD, "outputs": []}}, "must pair up"),
        ({"id": "x", "prompt": "p", "tests": {**ADD, "kind": "shell"}}, "kind 'shell'"),
        ({"id": "x", "prompt": "p", "tests": {**ADD, "timeout": 3}}, "object with 'kind'"),
    ],
)
def test_a_bad_line_of_programs_is_named(tmp_path: Path, bad: object, says: str) -> None:
    path = lines(tmp_path / "mine.jsonl", [*programs(3), bad])
    with pytest.raises(TaskError, match=rf"mine\.jsonl, line 4: .*{says}"):
        jsonl.load(path)


def test_a_program_among_answers_is_named(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "mine.jsonl", [*rows(3), {"id": "x", "prompt": "p", "answer": "a", "tests": ADD}]
    )
    with pytest.raises(TaskError, match=r"line 4: .*not both"):
        jsonl.load(path)


# MATH.


def math_row(
    i: int, subject: str = "Algebra", boxed: str = "\\boxed{%d}", level: str = "Level 3"
) -> dict[str, str]:
    work = "We add one to the number that is given, once, and write down what comes out of it: "
    answer = boxed % i if "%d" in boxed else boxed
    return {
        "problem": f"Add: {i} + 1?",
        "level": level,
        "type": subject,
        "solution": f"{work}{answer}.",
    }


def math_folder(root: Path, train: bool = True) -> Path:
    (root / "math").mkdir(parents=True)
    subjects = ("Prealgebra", "Algebra", "Counting & Probability", "Number Theory")
    made = [math_row(i, subject) for subject in subjects for i in range(3)]
    odd = [
        math_row(7, boxed="\\boxed{1} or \\boxed{\\frac{1}{2}}", level="Level ?"),
        math_row(8, boxed="\\boxed{}"),
    ]
    if train:
        lines(root / "math" / "train.jsonl", [*made, *odd])
    lines(root / "math" / "test.jsonl", [math_row(i) for i in range(40)])
    return root


def test_math_answers_are_the_last_boxes_of_the_solutions(tmp_path: Path) -> None:
    task = load_task("math", str(math_folder(tmp_path)))
    last = task.train[-1]
    assert (last.id, last.answer, last.level) == ("math/train/algebra/3", "\\frac{1}{2}", 0)
    assert task.train[0].level == 3


def test_math_leaves_out_and_counts_problems_without_an_answer(tmp_path: Path) -> None:
    task = load_task("math", str(math_folder(tmp_path)))
    assert len(task.train) == 14 - 1 - 4
    assert "1 train problems without a final answer were left out." in task.notes
    assert "The train split has 14 problems; MATH has 7500." in task.notes


def test_math_examples_are_no_training_problems(tmp_path: Path) -> None:
    task = load_task("math", str(math_folder(tmp_path)))
    assert task.prefix.count("Problem:") == len(hendrycks_math.SHOT_SUBJECTS)
    assert "math/train/prealgebra/0" not in {problem.id for problem in task.train}
    assert "math/train/prealgebra/0" in task.notes[-1]
    assert task.prompt(task.test[0]).endswith("\n\nSolution:")


def test_math_without_a_train_split_has_no_examples_and_says_so(tmp_path: Path) -> None:
    task = load_task("math", str(math_folder(tmp_path, train=False)))
    assert (task.train, task.prefix) == ((), "")
    assert any("without examples" in note for note in task.notes)


def test_math_without_a_short_problem_of_a_subject_names_it(tmp_path: Path) -> None:
    folder = math_folder(tmp_path) / "math"
    lines(folder / "train.jsonl", [math_row(i) for i in range(9)])
    with pytest.raises(TaskError, match="no short problem of the subject 'prealgebra'"):
        load_task("math", str(tmp_path))


def test_math500_trains_on_math_where_it_is_there(tmp_path: Path) -> None:
    (math_folder(tmp_path) / "math500").mkdir()
    lines(tmp_path / "math500" / "test.jsonl", [math_row(i) for i in range(5)])
    task = load_task("math500", str(tmp_path))
    assert task.train == load_task("math", str(tmp_path)).train
    assert [problem.answer for problem in task.test] == ["0", "1", "2", "3", "4"]


def test_a_broken_train_file_of_math_is_not_passed_over_by_math500(tmp_path: Path) -> None:
    (math_folder(tmp_path) / "math500").mkdir()
    lines(tmp_path / "math500" / "test.jsonl", [math_row(1)])
    lines(tmp_path / "math" / "train.jsonl", ["{"])
    with pytest.raises(TaskError, match=r"train\.jsonl, line 1: not JSON"):
        load_task("math500", str(tmp_path))


# APPS.


def apps_row(number: int, **other: object) -> dict[str, object]:
    return {
        "problem_id": number,
        "question": f"Double the number, problem {number}.",
        "solutions": json.dumps(
            [f"print(2 * int(input()))  # {number}\r\n", "second", "third", "fourth"]
        ),
        "input_output": json.dumps({"inputs": ["1\n"], "outputs": ["2\n"]}),
        "difficulty": "introductory",
        "url": "https://codeforces.com/1",
        "starter_code": "",
        **other,
    }


def called(outputs: list[object], url: str) -> dict[str, object]:
    tests = {"fn_name": "f", "inputs": [[1], [2]], "outputs": outputs}
    return {"input_output": json.dumps(tests), "url": url, "starter_code": "def f(n):\n\t"}


def apps_folder(root: Path, train: list[object], name: str = "apps") -> str:
    (root / name).mkdir()
    lines(root / name / "train.jsonl", train)
    return str(root)


def test_apps_keeps_introductory_problems_with_tests_that_pair_up(tmp_path: Path) -> None:
    unpaired = json.dumps({"inputs": ["1"], "outputs": []})
    data = apps_folder(
        tmp_path,
        [
            apps_row(2361),
            apps_row(2362, difficulty="interview"),
            apps_row(2363, input_output=""),
            apps_row(2364, input_output=unpaired),
            apps_row(2365, input_output="{"),
        ],
    )
    task = load_task("apps", data)
    assert [problem.id for problem in task.train] == ["apps/train/2361"]
    assert "3 introductory train problems without usable tests left out." in task.notes
    assert (task.grader, task.second_grader) == ("programs", "programs-apps")


def test_apps_on_the_hub_calls_the_number_id(tmp_path: Path) -> None:
    row = apps_row(5)
    row["id"] = row.pop("problem_id")
    assert load_task("apps", apps_folder(tmp_path, [row])).train[0].id == "apps/train/5"


def test_apps_unwraps_outputs_of_codewars_alone(tmp_path: Path) -> None:
    wars, leet = "https://www.codewars.com/kata/1", "https://leetcode.com/problems/x"
    made: list[object] = [
        apps_row(1, **called([[1], [2]], wars)),
        apps_row(2, **called([[1], [2, 3]], wars)),
        apps_row(3, **called([[1], [2]], leet)),
    ]
    task = load_task("apps", apps_folder(tmp_path, made))
    outputs = [Tests.from_json(problem.answer).outputs for problem in task.train]
    assert outputs == [(1, 2), ([1], [2, 3]), ([1], [2])]


def test_apps_prompts_hold_the_form_and_the_starter_code(tmp_path: Path) -> None:
    made: list[object] = [apps_row(1), apps_row(2, **called([1, 2], "u"))]
    reads, calls = load_task("apps", apps_folder(tmp_path, made)).train
    assert reads.question.endswith(apps.READS)
    assert calls.question.endswith("beginning with:\ndef f(n):")
    assert Tests.from_json(calls.answer).kind == "call"


def test_apps_reads_lists_of_lines_as_text(tmp_path: Path) -> None:
    tests = json.dumps({"inputs": [["1", "2"]], "outputs": [["3"]]})
    task = load_task("apps", apps_folder(tmp_path, [apps_row(1, input_output=tests)]))
    assert Tests.from_json(task.train[0].answer).inputs == ("1\n2",)


def test_apps_reads_integers_of_thousands_of_digits(tmp_path: Path) -> None:
    tests = '{"fn_name": "f", "inputs": [[1]], "outputs": [' + "9" * 5000 + "]}"
    task = load_task("apps", apps_folder(tmp_path, [apps_row(1, input_output=tests)]))
    assert Tests.from_json(task.train[0].answer).outputs == ("9" * 5000,)


def test_apps_keeps_the_problems_that_a_list_names(tmp_path: Path) -> None:
    data = apps_folder(tmp_path, [apps_row(i) for i in range(1, 6)])
    (tmp_path / "apps" / "ids.txt").write_text("2 1\n4\n9\n")
    task = load_task("apps", data)
    assert [problem.id for problem in task.train] == ["apps/train/2", "apps/train/4"]
    assert task.train[0].solution != apps.load(data, ids={2: 0}).train[0].solution
    assert "The list of ids keeps 2 of 5 train problems." in task.notes
    assert "1 listed ids are no train problems here." in task.notes
    assert len(apps.load(data, ids={1: 0}).train) == 1


def test_a_line_of_the_list_that_is_no_id_is_named(tmp_path: Path) -> None:
    data = apps_folder(tmp_path, [apps_row(1)])
    (tmp_path / "apps" / "ids.txt").write_text("2 0\ntwo\n")
    with pytest.raises(TaskError, match=r"ids\.txt, line 2: 'two'"):
        load_task("apps", data)


def test_apps_falls_back_on_the_sample(tmp_path: Path) -> None:
    data = apps_folder(tmp_path, [apps_row(1), apps_row(1)], "apps_sample")
    task = load_task("apps", data)
    assert (len(task.train), task.test) == (1, ())
    assert any("Only the sample" in note for note in task.notes)


def test_apps_problems_pass_when_one_of_three_solutions_does(tmp_path: Path) -> None:
    data = apps_folder(tmp_path, [apps_row(1), apps_row(2), apps_row(3, solutions="")])
    task = load_task("apps", data)

    def grade_it(good: str) -> dict[int, int]:
        def grade(golds: object, texts: list[str]) -> list[Graded]:
            return [Graded("correct" if good in text else "wrong", "", "") for text in texts]

        return apps.passing(task.train, apps.human_solutions(data), grade)  # type: ignore[arg-type]

    assert grade_it("third") == {1: 2, 2: 2}
    assert grade_it("# 2") == {2: 0}
    assert grade_it("fourth") == {}
    assert task.train[0].solution == "print(2 * int(input()))  # 1"


# MBPP and HumanEval.


def mbpp_row(i: int) -> object:
    return {
        "task_id": i,
        "text": "Add one.",
        "code": f"import math\r\ndef other():\r\n  pass\r\ndef add{i}(x):\r\n  return x + 1",
        "test_list": [f"assert sorted([add{i}(1)]) == [2]", f"assert add{i}(2) == 3"],
        "test_setup_code": "",
    }


def test_mbpp_splits_by_task_id(tmp_path: Path) -> None:
    made = [mbpp_row(i) for i in (2, 7, 9, 10, 11, 510, 511, 600, 601, 974)]
    (tmp_path / "mbpp").mkdir()
    lines(tmp_path / "mbpp" / "mbpp.jsonl", made)
    task = load_task("mbpp", str(tmp_path))
    assert [problem.id for problem in task.train] == ["mbpp/train/601", "mbpp/train/974"]
    assert [problem.id for problem in task.test] == ["mbpp/test/11", "mbpp/test/510"]
    tests = Tests.from_json(task.train[0].answer)
    assert (tests.kind, tests.entry) == ("asserts", "add601")
    assert "\r" not in task.prefix + task.train[0].solution
    assert task.prompt(task.test[0]).count("add11(2) == 3") == 1


def test_mbpp_tests_of_no_function_are_named(tmp_path: Path) -> None:
    row = {"task_id": 3, "text": "t", "code": "x = 1", "test_list": ["assert f(1)"]}
    (tmp_path / "mbpp").mkdir()
    lines(tmp_path / "mbpp" / "mbpp.jsonl", [row])
    with pytest.raises(TaskError, match="mbpp/prompt/3: the tests call no function"):
        mbpp.load(str(tmp_path))


def test_humaneval_completes_its_prompt(tmp_path: Path) -> None:
    row = {
        "task_id": "HumanEval/0",
        "prompt": 'def one():\n    """One."""\n',
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
        "entry_point": "one",
    }
    (tmp_path / "humaneval").mkdir()
    lines(tmp_path / "humaneval" / "test.jsonl", [row])
    task = load_task("humaneval", str(tmp_path))
    tests = Tests.from_json(task.test[0].answer)
    assert task.train == ()
    assert task.prompt(task.test[0]) == tests.before == tests.setup == row["prompt"]
    program: dict[str, object] = {}
    exec(tests.before + task.test[0].solution + tests.asserts, program)


@pytest.mark.parametrize("stop", humaneval.STOP)
def test_humaneval_stops_only_where_a_line_begins(stop: str) -> None:
    assert stop not in "    x = 1\n    if x:\n        print(x)\n    # why\n    def f(): ..."


# BBH.

CANARY = "DO NOT TRAIN ON THIS, canary 123"


def bbh_folder(root: Path, shots: bool = True) -> str:
    (root / "bbh" / "bbh").mkdir(parents=True)
    (root / "bbh" / "cot-prompts").mkdir()
    for file in (file for files in bbh.FILES.values() for file in files):
        asked = [
            {
                "input": f"{file} {i}?\nOptions:\n(A) a\n(B) b",
                "target": "a" if i == 7 else "(A)" if i < 7 else "(B)",
            }
            for i in range(10)
        ]
        (root / "bbh" / "bbh" / f"{file}.json").write_text(
            json.dumps({"canary": CANARY, "examples": asked})
        )
        cue = "A: Let's think step by step."
        # Sizes of one task have the same examples.
        name = (
            file.removesuffix("_objects")
            .removesuffix("_three")
            .removesuffix("_five")
            .removesuffix("_seven")
        )
        one = f"Q: one?\n{cue}\nIt is.\nSo the answer is (A)."
        text = f"{name}: a task.\n\n{one}\n\nQ: two?\n{cue} So the answer is ] ).\n"
        if shots:
            (root / "bbh" / "cot-prompts" / f"{file}.txt").write_text(f"{CANARY}\n-----\n{text}")
    if not shots:
        (root / "bbh" / "cot-prompts").rmdir()
    return str(root)


def test_bbh_is_for_evaluation_only(tmp_path: Path) -> None:
    task = load_task("bbh", bbh_folder(tmp_path))
    assert (task.train, task.grader, len(task.test)) == ((), "labels", 270)


@pytest.mark.parametrize(
    "name", ["bbh", "bbh-direct", "bbh:snarks", "bbh-direct:logical_deduction"]
)
def test_no_prompt_of_bbh_holds_the_canary(tmp_path: Path, name: str) -> None:
    task = load_task(name, bbh_folder(tmp_path))
    prompts = [task.prompt(problem) for problem in task.test]
    assert not any("canary" in prompt or "-----" in prompt for prompt in prompts)


def test_bbh_prompts_hold_the_examples_of_their_task(tmp_path: Path) -> None:
    data = bbh_folder(tmp_path)
    task = load_task("bbh:snarks", data)
    assert task.prefix == (
        "snarks: a task.\n\n"
        "Q: one?\nA: Let's think step by step.\nIt is.\nSo the answer is (A).\n\n"
        "Q: two?\nA: Let's think step by step.\nSo the answer is ] ).\n\n"
    )
    end = "Q: snarks 0?\nOptions:\n(A) a\n(B) b\nA: Let's think step by step.\n"
    assert task.prefix + end in {task.prompt(problem) for problem in task.test}


def test_bbh_asks_directly_with_the_answers_alone(tmp_path: Path) -> None:
    task = load_task("bbh-direct:snarks", bbh_folder(tmp_path))
    assert task.prefix == "snarks: a task.\n\nQ: one?\nA: (A)\n\nQ: two?\nA: ] )\n\n"
    assert task.prompt(task.test[0]).endswith("(B) b\nA:")


@pytest.mark.parametrize("kind", ["bbh", "bbh-direct"])
def test_all_of_bbh_asks_as_each_task_does(tmp_path: Path, kind: str) -> None:
    data = bbh_folder(tmp_path)
    whole, one = load_task(kind, data), load_task(f"{kind}:logical_deduction", data)
    prompts = {problem.id: whole.prompt(problem) for problem in whole.test}
    assert len(one.test) == 30
    assert all(prompts[problem.id] == one.prompt(problem) for problem in one.test)


def test_bbh_without_examples_is_asked_directly_and_says_so(tmp_path: Path) -> None:
    task = load_task("bbh", bbh_folder(tmp_path, shots=False))
    assert task.prompt(task.test[0]).startswith("Q: ")
    assert task.prompt(task.test[0]).endswith("\nA:")
    assert any("without examples" in note for note in task.notes)


def test_bbh_names_targets_that_are_no_option(tmp_path: Path) -> None:
    task = load_task("bbh:snarks", bbh_folder(tmp_path))
    assert "Kept though their target is no option letter: bbh/snarks/7." in task.notes


def test_the_baseline_of_bbh_gives_the_commonest_target(tmp_path: Path) -> None:
    task = load_task("bbh:snarks", bbh_folder(tmp_path))
    assert bbh.baseline(task.test) == {"snarks": 0.7}


def test_a_task_that_bbh_does_not_have_names_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no task 'sarcasm'; there are boolean_expressions"):
        load_task("bbh:sarcasm", bbh_folder(tmp_path))


def test_a_bad_file_of_bbh_is_named(tmp_path: Path) -> None:
    data = bbh_folder(tmp_path)
    path = tmp_path / "bbh" / "bbh" / "snarks.json"
    path.write_text('{"examples": [{"input": "q", "target": "a"}, {"input": "q"}]}')
    with pytest.raises(TaskError, match=r"snarks\.json, example 2: no 'target'"):
        load_task("bbh:snarks", data)
    path.write_text("[]")
    with pytest.raises(TaskError, match=r"snarks\.json: not a JSON object"):
        load_task("bbh:snarks", data)


def test_examples_of_bbh_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    data = bbh_folder(tmp_path)
    (tmp_path / "bbh" / "cot-prompts" / "snarks.txt").write_text("Q: one?\nA: it is so.")
    with pytest.raises(TaskError, match=r"snarks\.txt: not a canary"):
        load_task("bbh:snarks", data)


# The Hungarian exam.


def hungarian_folder(root: Path, key: list[object] | None = None, n: int = 33) -> str:
    (root / "hungarian").mkdir()
    with (root / "hungarian" / "test.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Question"])
        writer.writerows([f"What is {i} + 1,\nwritten out?"] for i in range(1, n + 1))
    if key is not None:
        lines(root / "hungarian" / "key.jsonl", key)
    return str(root)


def test_the_hungarian_exam_is_graded_by_hand(tmp_path: Path) -> None:
    task = load_task("hungarian", hungarian_folder(tmp_path))
    assert (len(task.test), task.train, task.grader) == (33, (), "by-hand")
    assert task.test[0].question == "What is 1 + 1,\nwritten out?"


def test_the_hungarian_exam_has_33_questions(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="32 questions in 32 rows"):
        load_task("hungarian", hungarian_folder(tmp_path, n=32))


def test_the_proxy_asks_what_the_key_answers_and_says_what_it_is(tmp_path: Path) -> None:
    key: list[object] = [
        {"number": 2, "points": 3},
        {"number": 3, "answer": 4},
        {"number": 1, "answer": "2"},
    ]
    data = hungarian_folder(tmp_path, key)
    task = load_task("hungarian-auto", data)
    assert [(problem.id, problem.answer) for problem in task.test] == [
        ("hungarian/1", "2"),
        ("hungarian/3", "4"),
    ]
    assert task.grader == "answers"
    assert task.notes[0] == "hungarian-auto: proxy over 2 of 33 questions, not the exam's score."
    assert hungarian.points(data) == {2: 3.0}


def test_the_proxy_without_a_key_says_where_to_put_one(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"put your own in hungarian/key\.jsonl"):
        load_task("hungarian-auto", hungarian_folder(tmp_path))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"number": 34, "answer": "1"}, "not from 1 to 33"),
        ({"number": 1, "answer": "1"}, "number 1 is already there"),
        ({"number": 2, "points": "many"}, "no number of points"),
        ({"answer": "1"}, "no 'number'"),
    ],
)
def test_a_bad_line_of_the_key_is_named(tmp_path: Path, bad: object, says: str) -> None:
    data = hungarian_folder(tmp_path, [{"number": 1, "answer": "2"}, bad])
    with pytest.raises(TaskError, match=rf"key\.jsonl, line 2.*{says}"):
        load_task("hungarian-auto", data)


def sheet(
    tmp_path: Path, change: dict[str, tuple[int, str]] | None = None, text: str = "2"
) -> Path:
    """A sheet of the exam, each question worth 2 and given 1; change is column -> (row from 0, value)."""
    task = load_task("hungarian", hungarian_folder(tmp_path))
    samples = [
        Sample(problem.id, i, f"{text}{i}", 1, "eos") for problem in task.test for i in (0, 1)
    ]
    path = tmp_path / "sheet.csv"
    hungarian.write_sheet(path, task.test, samples, dict.fromkeys(range(1, 34), 2.0))
    with path.open(encoding="utf-8-sig", newline="") as file:
        made = list(csv.DictReader(file))
    for row in made[:-1]:
        row["points given"] = "1"
    for column, (number, value) in (change or {}).items():
        made[number][column] = value
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, hungarian.HEADER)
        writer.writeheader()
        writer.writerows(made)
    return path


def test_a_sheet_filled_in_gives_the_score(tmp_path: Path) -> None:
    result = hungarian.read_sheet(sheet(tmp_path, {"points given": (4, "1,5")}))
    assert (result.points, result.possible, result.questions) == (33.5, 66.0, 33)
    assert result.score == pytest.approx(100 * 33.5 / 66)


def test_a_sheet_shows_each_question_with_its_first_sample(tmp_path: Path) -> None:
    with sheet(tmp_path).open(encoding="utf-8-sig", newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["number"], row["question"], row["solution"]) == (
        "1",
        "What is 1 + 1,\nwritten out?",
        "20",
    )


def test_a_sheet_makes_no_formula_of_what_a_model_wrote(tmp_path: Path) -> None:
    with sheet(tmp_path, text="=1+").open(encoding="utf-8-sig", newline="") as file:
        assert next(csv.DictReader(file))["solution"] == "'=1+0"


@pytest.mark.parametrize(
    ("column", "row", "value", "says"),
    [
        ("points given", 2, "", "question 3, points given: '' is no number"),
        ("points given", 2, "3", "question 3: 3 points given of 2 possible"),
        ("points given", 2, "-1", "question 3, points given: '-1' is no number"),
        ("points given", 2, "nan", "question 3, points given: 'nan' is no number"),
        ("points possible", 2, "0", "question 3: 1 points given of 0 possible"),
        ("points possible", 2, "3", "add up to 67, but the total says 66"),
        ("points possible", 33, "100", "add up to 66, but the total says 100"),
        ("number", 2, "2", "the numbers must be 1 to 33"),
        ("number", 33, "34", "the numbers must be 1 to 33"),
    ],
)
def test_a_sheet_that_is_not_in_order_says_why(
    tmp_path: Path, column: str, row: int, value: str, says: str
) -> None:
    path = sheet(tmp_path, {column: (row, value)})
    with pytest.raises(TaskError, match=rf"sheet\.csv.*{says}"):
        hungarian.read_sheet(path)


def test_a_sheet_is_not_written_over(tmp_path: Path) -> None:
    path = sheet(tmp_path)
    with pytest.raises(TaskError, match="may hold points given"):
        hungarian.write_sheet(path, [], [])


def test_a_sheet_needs_a_sample_of_every_question(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no sample of hungarian/1"):
        hungarian.write_sheet(tmp_path / "s.csv", [Problem("hungarian/1", "q", "a")], [])


# Overlap.

STORY = "Ada has three red apples and buys nine more on the market before she eats one of them"


def asked(*texts: str) -> list[Problem]:
    return [Problem(f"{i}", text, "a") for i, text in enumerate(texts)]


def test_questions_with_the_same_words_overlap_exactly() -> None:
    (found,) = overlaps(
        {"train": asked("other", "What is  2 + 3?"), "test": asked("what is 2+3", "2")}
    )
    assert (found.exact, found.partial, found.of) == (1, 0, 2)
    assert found.examples == (("1", "0"),)


def test_questions_that_share_half_their_runs_of_words_overlap_in_part() -> None:
    longer = f"{STORY}. How many are left"
    (found,) = overlaps({"train": asked(longer), "test": asked(STORY, f"{STORY} {' x' * 20}")})
    assert (found.exact, found.partial, found.of) == (0, 1, 2)


def test_questions_of_few_words_overlap_only_exactly() -> None:
    (found,) = overlaps({"train": asked(STORY), "test": asked("Ada has three red apples")})
    assert (found.exact, found.partial) == (0, 0)


def test_every_pair_of_sets_is_compared() -> None:
    found = overlaps({"a": asked("1"), "b": asked("1"), "c": asked("2")})
    assert [(o.first, o.second, o.exact) for o in found] == [
        ("a", "b", 1),
        ("a", "c", 0),
        ("b", "c", 0),
    ]
