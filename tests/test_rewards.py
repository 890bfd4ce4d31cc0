"""Rewards for final answers: what is found, what is accepted; hostile answers hurt nobody else."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib.records import VERDICTS
from restem_lib.rewards import algebra, answers
from restem_lib.rewards.answers import canonical, compare, grade
from restem_lib.rewards.extraction import MAX_ANSWER, extract

CASES = json.loads((Path(__file__).parent / "cases" / "answers.json").read_text(encoding="utf-8"))
QUICK = settings(deadline=None, max_examples=100, derandomize=True)
integers = st.integers(min_value=-(10**12), max_value=10**12)


def boxed(answer: str) -> str:
    return rf"Therefore $\boxed{{{answer}}}$."


@pytest.fixture
def empty_cache() -> Iterator[None]:
    answers._cache.clear()
    yield
    answers._cache.clear()


@pytest.fixture(scope="module")
def golden() -> list[answers.Graded]:
    texts = [case["text"] if "text" in case else boxed(case["answer"]) for case in CASES]
    return grade([case["gold"] for case in CASES], texts)


@pytest.mark.parametrize("index", range(len(CASES)))
def test_golden_table(golden: list[answers.Graded], index: int) -> None:
    case, graded = CASES[index], golden[index]
    assert graded.verdict == case["verdict"], (case, graded)
    assert graded.why


# Finding the answer.


@QUICK
@given(
    st.lists(
        st.sampled_from(["\\boxed{", "####", "The answer is ", *"\\{}$#*. \n18,"])
        | st.text(max_size=9)
    )
)
def test_extract_never_raises(pieces: list[str]) -> None:
    text = "".join(pieces)
    answer = extract(text)
    assert len(answer) <= MAX_ANSWER
    assert answer == answer.strip()
    assert compare("18", answer) is not True or "18" in answer


@QUICK
@given(st.text())
def test_no_answer_is_never_right(text: str) -> None:
    text = text.replace("#", "").replace("\\", "").replace("nswer", "")
    assert extract(text) == ""
    assert grade(["18"], [text])[0].verdict == "no_answer"


@pytest.mark.parametrize(
    "hostile",
    [
        "{" * 1_000_000 + "\\boxed{",
        "\\boxed{" * 100_000,
        "\\boxed{" * 100_000 + "}" * 50_000,
        "}" * 1_000_000,
        "\\boxed{" + " " * 1_000_000 + "}",
        "\\boxed{" + "$" * 1_000_000 + "}",
        "the answer is " * 70_000,
        "the answer is" + " " * 1_000_000,
        "the answer is $" + "a " * 500_000,
        "the answer is \\(" + "\\" * 1_000_000,
        "\n" * 1_000_000 + "Answer",
        "*" * 1_000_000,
        "#" * 1_000_000,
    ],
    ids=range(13),
)
def test_extract_is_linear(hostile: str) -> None:
    start = time.process_time()
    answer = extract(hostile)
    assert time.process_time() - start < 5
    assert grade(["18"], [hostile])[0].verdict in ("wrong", "no_answer"), answer


# Numbers.


def usual_forms(n: int) -> list[str]:
    sign, size = ("-" if n < 0 else ""), abs(n)
    return [
        f"{n}", f"{n}.", f"{n}.0", f"{n}.00", f"{n:,}", f"{sign}${size}", f"${n}",
        f"{sign}\\${size}", f"{sign}${size:,}.00", f"{2 * n}/2", f"{sign}\\frac{{{size}}}{{1}}",
        f"\\text{{{n}}}", f"{n} dollars", f"x = {n}",
    ]  # fmt: skip


@QUICK
@given(integers)
def test_a_number_accepts_itself_and_not_the_next(n: int) -> None:
    for form in usual_forms(n):
        for text in (boxed(form), f"The answer is {form}.", f"#### {form}"):
            assert compare(str(n), extract(text)) is True, text
            assert compare(str(n + 1), extract(text)) is False, text
    assert len({canonical(form) for form in usual_forms(n)[:-1]}) == 1


@QUICK
@given(integers, st.integers(min_value=1, max_value=10**6))
def test_fractions_are_exact(over: int, under: int) -> None:
    assert compare(f"{over}/{under}", f"\\frac{{{2 * over}}}{{{2 * under}}}") is True
    assert compare(f"{over}/{under}", f"{over * 10**9 + under}/{under * 10**9}") is False


@QUICK
@given(st.text(max_size=60), st.text(max_size=60))
def test_comparison_is_total_and_spelling_is_stable(gold: str, answer: str) -> None:
    assert compare(gold, answer) in (True, False, None)
    assert compare(answer, answer) is True or not answers._clean(answer)
    assert not canonical(answer) or compare(gold, "") is False


# Grading.


def test_empty_gold_is_an_error() -> None:
    with pytest.raises(ValueError, match="position 1"):
        grade(["18", " "], ["#### 18", "#### 18"])
    with pytest.raises(ValueError, match="pair up"):
        grade(["18"], [])
    with pytest.raises(ValueError, match="deadline"):
        grade(["2x"], [boxed("x+x")], deadline=0)
    assert grade([], []) == []


def test_settled_pairs_are_checked_once(empty_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def check(pairs: list[tuple[str, str]], deadline: float) -> list[algebra.Outcome]:
        asked.extend(pairs)
        return [algebra.Outcome("timeout" if "y" in pair[1] else "wrong", "") for pair in pairs]

    monkeypatch.setattr(algebra, "check", check)
    monkeypatch.setattr(answers, "CACHE_SIZE", 2)
    for _ in range(2):
        graded = grade(["2x"] * 3, [boxed("3x"), boxed("3x"), boxed("y^2")])
        assert [one.verdict for one in graded] == ["wrong", "wrong", "timeout"]
    assert asked == [("2x", "3x"), ("2x", "y^2"), ("2x", "y^2")]
    grade(["2x"] * 3, [boxed(f"{n}x") for n in (4, 5, 6)])
    assert len(answers._cache) == 2


def test_hostile_answers_cost_only_themselves(empty_cache: None, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    hostile = {
        "9^{9^{9^9}}": {"timeout", "error", "wrong"},
        "1000000000!": {"timeout", "error", "wrong"},
        f"__import__('os').system('touch {mark}')": {"wrong"},
        "\x00\udcff{}^_\\": {"wrong", "error", "no_answer"},
    }
    good = [("2x", "x+x"), ("\\frac{\\sqrt{3}}{3}", "1/\\sqrt{3}"), ("p-q", "-q+p")]
    golds = ["\\sqrt{2}"] * len(hostile) + [gold for gold, _ in good]
    texts = [boxed(answer) for answer in hostile] + [boxed(answer) for _, answer in good]
    start = time.monotonic()
    graded = grade(golds, texts, deadline=1.0)
    # Each may cost its deadline, and the start of a new worker on a busy machine.
    assert time.monotonic() - start < len(hostile) * (1.0 + 4.0)
    for one, allowed in zip(graded, hostile.values(), strict=False):
        assert one.verdict in allowed, one
    assert graded[0].verdict == "timeout"
    assert "1 s" in graded[0].why
    assert [one.verdict for one in graded[len(hostile) :]] == ["correct"] * len(good)
    assert {one.verdict for one in graded} <= set(VERDICTS)
    assert not mark.exists()


def test_workers_survive_what_extract_would_stop(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    code = f"__import__('os').system('touch {mark}')"
    pairs = [
        ("1", "(" * 3000 + "1" + ")" * 3000),
        ("1", "1" * 1_000_000),
        ("1", "x" + "\x00" * 10),
        ("1", f"\\text{{{code}}}"),
        (code, code + "+0"),
        ("2x", "x+x"),
    ]
    outcomes = algebra.check(pairs, 1.0)
    assert all(outcome.verdict != "correct" for outcome in outcomes[:4])
    assert outcomes[-1].verdict == "correct"
    assert not mark.exists()


def test_a_killed_worker_loses_nothing(empty_cache: None) -> None:
    with ThreadPoolExecutor(1) as threads:
        texts = [boxed("x+x"), boxed("9^{9^{9^9}}"), boxed("3x-x")]
        future = threads.submit(grade, ["2x", "\\sqrt{2}", "2x"], texts, 6.0)
        busy: list[algebra._Worker] = []
        end = time.monotonic() + 20
        # The hostile item is the only one that stays with its worker for long.
        while time.monotonic() < end and not future.done():
            pool = algebra._pool
            seen = [w for w in pool.workers if w not in pool._idle.queue] if pool else []
            if len(seen) == 1 and seen == busy and seen[0].server.pid:
                os.kill(seen[0].server.pid, signal.SIGKILL)
                break
            busy = seen
            time.sleep(0.4)
        graded = future.result()
    # The item was tried again, and took its time.
    assert [one.verdict for one in graded] == ["correct", "timeout", "correct"]
    assert grade(["3y"], [boxed("y+2y")])[0].verdict == "correct"


def test_four_threads_at_once(empty_cache: None) -> None:
    started = threading.Barrier(4)

    def run(n: int) -> list[str]:
        started.wait()
        texts = [boxed(f"{n}x+{k}x") for k in range(10)]
        golds = [f"{n + k + k % 2}x" for k in range(10)]
        return [one.verdict for one in grade(golds, texts)]

    with ThreadPoolExecutor(4) as threads:
        for verdicts in threads.map(run, range(10, 14)):
            assert verdicts == ["correct", "wrong"] * 5


def test_workers_end_with_their_parent() -> None:
    script = (
        "import os, signal; from restem_lib.rewards import algebra; "
        "algebra.check([('2x', 'x+x')], 8.0); "
        "print(*[w.server.pid for w in algebra._pool.workers if w.server.pid], flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True, timeout=60
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids
    end = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], stdout=subprocess.PIPE, text=True)
    return bool(state.stdout.strip()) and not state.stdout.strip().startswith("Z")


def test_a_forked_child_starts_its_own_workers() -> None:
    assert algebra.check([("2x", "x+x")], 8.0)[0].verdict == "correct"
    child = os.fork()
    if child == 0:
        outcome = algebra.check([("2x", "x+x+0")], 30.0)[0]
        algebra.close()
        os._exit(0 if outcome.verdict == "correct" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert algebra.check([("2x", "3x-x")], 8.0)[0].verdict == "correct"


# Real data.


@pytest.fixture(scope="module")
def gsm8k() -> list[str]:
    folder = os.environ.get("RESTEM_DATA")
    path = Path(folder or ".") / "gsm8k" / "test.jsonl"
    if not folder or not path.exists():
        pytest.skip("set RESTEM_DATA to a folder with gsm8k/test.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["answer"] for line in lines]


def test_gsm8k_golds_in_every_usual_form(gsm8k: list[str]) -> None:
    golds = [extract(solution) for solution in gsm8k]
    assert len(golds) == 1319
    assert all(golds)
    assert {one.verdict for one in grade(golds, gsm8k)} == {"correct"}
    for form in range(len(usual_forms(0))):
        texts = [f"The answer is {usual_forms(int(g.replace(',', '')))[form]}" for g in golds]
        assert {one.verdict for one in grade(golds, texts)} == {"correct"}, texts[0]
    wrong = [f"The answer is {int(gold.replace(',', '')) + 1}" for gold in golds]
    assert {one.verdict for one in grade(golds, wrong)} == {"wrong"}


@pytest.mark.parametrize("constant", ["#### x", "#### yes", "#### 18 or 5", "#### 0.123", "?", ""])
def test_a_constant_never_passes(gsm8k: list[str], constant: str) -> None:
    golds = [extract(solution) for solution in gsm8k]
    assert "correct" not in {one.verdict for one in grade(golds, [constant] * len(golds))}
