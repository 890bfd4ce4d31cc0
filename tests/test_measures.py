"""What the notebooks measure: each measure on cases where the right number is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restem_lib import em, estimates, experiments, measures, mechanisms, prospects, tables
from restem_lib.config import Config
from restem_lib.evaluation import Outcome
from restem_lib.experiments import Run
from restem_lib.keys import ConfigError
from restem_lib.models import load_model, load_tokenizer
from restem_lib.paper import read_claims
from restem_lib.records import Pair, Problem, Sample, Score
from restem_lib.statistics import ratio
from restem_lib.store import Shards
from restem_lib.tasks import Task, load_task


@pytest.fixture
def runs(config: Config) -> list[Run]:
    return experiments.train(config)


def test_a_slope_is_that_of_the_line() -> None:
    base = np.array([[0.1, 0.4]])
    assert measures.slope([base, base + 0.1, base + 0.2]) == pytest.approx(np.full((1, 2), 0.1))
    uneven = measures.slope([base, base + 0.2, base + 0.4], [0.0, 1.0, 2.0])
    assert uneven == pytest.approx(np.full((1, 2), 0.2))
    assert measures.slope([base, base + 0.3], [0.0, 3.0]) == pytest.approx(np.full((1, 2), 0.1))


def outcome(correct: list[list[int]]) -> Outcome:
    return Outcome(np.array(correct, bool), (), None, None, False)  # type: ignore[arg-type]


def test_buckets_are_made_by_one_half_of_the_samples_and_rated_by_the_other() -> None:
    rows = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    found = measures.buckets(outcome([[*row, 0, 0, 1, 1] for row in rows]))
    assert {name: np.flatnonzero(inside).tolist() for name, inside in found.items()} == {
        "easy": [0, 1],
        "medium": [2],
        "hard": [3],
        "very hard": [4],
    }
    rates = measures.second_half([outcome([[*row, 0, 0, 1, 1] for row in rows])])
    assert (rates == 0.5).all() and rates.shape == (1, 5)


def test_regression_to_the_mean_is_not_taken_for_a_gain() -> None:
    rng = np.random.default_rng(0)
    chances = rng.random(3_000)
    one = outcome((rng.random((3_000, 16)) < chances[:, None]).tolist())
    again = outcome((rng.random((3_000, 16)) < chances[:, None]).tolist())
    for inside in measures.buckets(one).values():
        before, after = measures.second_half([one]), measures.second_half([again])
        assert abs((after - before)[:, inside].mean()) < 0.02


def test_pass_at_k_and_votes_are_of_each_model() -> None:
    models = [outcome([[1, 0], [0, 0]]), outcome([[1, 1], [1, 0]])]
    assert measures.pass_at_ks(models, [1, 2]).tolist() == [
        [[0.5, 0.0], [1.0, 0.0]],
        [[1.0, 0.5], [1.0, 1.0]],
    ]


def test_kinds_are_the_middle_of_ids_and_their_p_values_are_adjusted() -> None:
    problems = [Problem(f"x/{kind}/{i}", "", "", "") for kind in "ab" for i in range(200)]
    rng = np.random.default_rng(0)
    before = (rng.random((1, 400)) < 0.5).astype(float)
    after = np.stack([before[0]] * 3)
    after[:, :60] = 1.0
    parts = measures.by_kind(problems, after)
    assert {kind: part.shape for kind, part in parts.items()} == {"a": (3, 200), "b": (3, 200)}
    table = measures.kinds(problems, before, after)
    assert table["p"]["a"] < 0.01 and table["p"]["b"] > 0.9
    assert table["n"].tolist() == [200, 200] and table["after"]["a"] > table["before"]["a"]


def test_a_share_spreads_as_a_ratio_does() -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(0, 9, size=(2, 400)).astype(float)
    flawed = rng.binomial(right.astype(int), 0.3).astype(float)
    values = mechanisms.share(right, flawed)
    assert values is not None
    assert values.mean(axis=1) == pytest.approx(flawed.sum(axis=1) / right.sum(axis=1))
    one = estimates.estimate(values[:1], read_claims()["C25"], rng)
    other = ratio(flawed[0], right[0], rng)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.004)
    assert mechanisms.share(np.zeros((1, 4)), np.zeros((1, 4))) is None


def test_filling_tells_how_pairs_spread_over_problems(runs: list[Run], config: Config) -> None:
    found = mechanisms.filling(runs)
    counts = [sum(1 for _ in run.turns[0].pairs.records(Pair)) for run in runs]
    assert found.pairs.tolist() == counts and found.quarters.shape == (2, 4)
    assert found.quarters.sum(axis=1) == pytest.approx(1.0)
    single = mechanisms.filling(experiments.train(config, "one", iterations=1, cap=1))
    assert single.effective == pytest.approx(single.pairs)
    table = mechanisms.filling_table({"x": found})
    assert table["pairs"]["x"] == round(np.mean(counts))


def test_coverage_is_of_problems_with_a_right_sample(runs: list[Run], config: Config) -> None:
    first = [run.turns[0] for run in runs]
    found = mechanisms.coverage(runs)
    assert found.shape == (2, config.math_problems)
    assert found.sum(axis=1).tolist() == [len(experiments.covered(turn)) for turn in first]


def test_drift_is_relative_to_the_base(runs: list[Run]) -> None:
    table = mechanisms.drift({"ReST^EM": runs})
    base = load_model(runs[0].base, _float32()).state_dict()
    by_hand = []
    for run in runs:
        tuned = load_model(run.models[1], _float32()).state_dict()
        away = sum(float(((tuned[name] - base[name]) ** 2).sum()) for name in base)
        by_hand.append(100 * (away / sum(float((w**2).sum()) for w in base.values())) ** 0.5)
    assert table["iteration 1"]["ReST^EM"] == pytest.approx(np.mean(by_hand), abs=0.01) and all(
        one > 0 for one in by_hand
    )


def _float32() -> object:
    import torch

    return torch.float32


def test_a_teacher_draws_for_a_student(runs: list[Run], config: Config) -> None:
    teacher = runs[0].models[-1]
    taught = experiments.train(config, "distilled", teachers=[teacher], iterations=1)
    for run in taught:
        drawn = em.draw(
            teacher, load_task(config.math_task), experiments.problems(run), 1, run.loop
        )
        assert run.turns[0].samples.stage.name == drawn.stage.name
        assert run.base == runs[0].base
        assert len({sample.index for sample in run.turns[0].samples.records(Sample)}) == 6
    assert taught[0].models[1] != runs[0].models[1]


def test_human_solutions_can_be_restricted_to_covered_questions(
    config: Config, tmp_path: Path
) -> None:
    import json

    rows = [json.loads(line) for line in Path(config.math_task).read_text().splitlines()]
    told = tmp_path / "told.jsonl"
    told.write_text(
        "\n".join(json.dumps({**row, "solution": f"\n#### {row['answer']}"}) for row in rows)
    )
    config = replace(config, math_task=str(told))
    loop, task = config.loop(), load_task(str(told))
    training, _ = em.split(task, loop)
    whole = em.sft_on_solutions(loop, task)
    ids = {problem.id for problem in training}
    assert em.sft_on_solutions(loop, task, ids).model == whole.model
    assert em.sft_on_solutions(loop, task, set(sorted(ids)[:10])).model != whole.model


def test_likelihoods_are_those_of_the_base(config: Config) -> None:
    import torch

    config = replace(
        config, math_task="toy-math", model="toy-s", math_problems=8, max_new_tokens=48
    )
    (run,) = experiments.train(replace(config, seeds=(0,)), iterations=1, max_epochs=0.1)
    table = mechanisms.likelihoods(config, run)
    assert list(table.index) == ["own, right", "human", "human, terse"]
    model, tokenizer = load_model(run.base, torch.float32), load_tokenizer(run.base)
    total, tokens = 0.0, 0
    for pair in run.turns[0].pairs.records(Pair):
        prompt = tokenizer(pair.prompt)["input_ids"]
        ids = [*tokenizer(pair.prompt + pair.completion)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        for at in range(len(prompt), len(ids)):
            total, tokens = total + float(logits[at - 1, ids[at]]), tokens + 1
    assert table["log p a token"]["own, right"] == pytest.approx(total / tokens, abs=0.006)


def test_the_answer_is_shown_where_it_is_said_to_be(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    draw = em.draw

    def seen(model: Path, task: Task, problems: Sequence[Problem], *rest: Any) -> Shards:
        asked.extend(task.prompt(problem) for problem in problems)
        return draw(model, task, problems, *rest)

    config = replace(
        config, math_task="toy-math", model="toy-s", math_problems=8, max_new_tokens=48
    )
    runs = experiments.train(replace(config, seeds=(0,)), iterations=1, max_epochs=0.1)
    plain, flawed = mechanisms.accepted(config, runs, shown=False)
    assert plain.shape == flawed.shape == (1, 8) and (flawed <= plain).all()
    monkeypatch.setattr(em, "draw", seen)
    shown, _ = mechanisms.accepted(config, runs, shown=True)
    assert shown.shape == (1, 8) and len(asked) == 8
    for prompt, problem in zip(asked, experiments.problems(runs[0]), strict=True):
        assert problem.question in prompt and f"The answer is {problem.answer}." in prompt


def test_a_task_without_styles_has_no_style_gains(runs: list[Run], config: Config) -> None:
    task = load_task(config.math_task)
    assert mechanisms.style_gains(runs[0].base, {}, task, config).empty


def test_an_exam_without_a_rubric_counts_questions(runs: list[Run], config: Config) -> None:
    task = load_task(config.math_task)
    found = measures.exam([runs[0].base], task, config)
    assert found.shape == (1, len(task.test)) and set(np.unique(found)) <= {0.0, 1.0}


def test_a_line_leaves_out_the_model_it_judges() -> None:
    x = {
        name: np.full((2, 5), at)
        for name, at in zip("abcde", (0.1, 0.2, 0.3, 0.4, 0.5), strict=True)
    }
    y = {name: 0.1 + 2 * values for name, values in x.items()}
    y["e"] = y["e"] + 0.3
    found = measures.line(x, y, "e")
    assert found is not None
    assert (found.slope, found.start) == pytest.approx((2.0, 0.1))
    assert found.expected == pytest.approx(np.full((2, 5), 1.1))
    assert found.error == pytest.approx((0.0, 2.0), abs=1e-9)
    y["a"] = y["a"] + 0.05
    scattered = measures.line(x, y, "e")
    assert scattered is not None
    left = [
        y[name].mean() - (scattered.start + scattered.slope * x[name].mean()) for name in "abcd"
    ]
    scatter = (np.square(left).sum() / 2) ** 0.5
    assert scattered.error[0] == pytest.approx(scatter * (1 + 1 / 4 + 0.25**2 / 0.05) ** 0.5)
    assert measures.line({name: x[name] for name in "abce"}, y, "e") is None


def test_broken_promises_are_found(runs: list[Run], config: Config) -> None:
    assert not experiments.broken_promises(runs[0].turns, config.cap)
    over = experiments.broken_promises(runs[0].turns, 1)
    assert over and all("pairs of" in one for one in over)
    (run, _) = experiments.train(config, "random control")
    unearned = experiments.broken_promises(run.turns, config.cap)
    assert any("without reward" in one for one in unearned)


def test_an_unknown_method_is_not_taken_for_another(config: Config) -> None:
    with pytest.raises(ValueError, match=r"no method 'random'; there are ReST\^EM, RFT"):
        experiments.train(config, "random")


def test_a_part_of_the_problems_keeps_the_validation_slice(config: Config) -> None:
    config = replace(config, seeds=(0,), val_problems=0, math_problems=0, max_epochs=0.1)
    (whole,) = experiments.train(config, iterations=1)
    (part,) = experiments.train(config, iterations=1, problems=20)
    ids = [{problem.id for problem in experiments.problems(run)} for run in (whole, part)]
    assert len(ids[1]) == 20 and ids[1] < ids[0]
    assert whole.loop.val_problems == part.loop.val_problems == 100


def test_gaps_are_of_train_and_test_problems(runs: list[Run], config: Config) -> None:
    table = tables.Table()
    measures.add_gaps(table, runs, config, "x")
    sampled = table.iterations(set="x", measure="train, sampled")
    greedy = table.iterations(set="x", measure="train, greedy")
    test = table.iterations(set="x", measure="test, greedy")
    assert [one.shape for one in sampled] == [(2, 40)] * 3
    assert [one.shape for one in greedy] == [(1, 40), (2, 40), (2, 40)]
    assert [one.shape for one in test] == [(1, 50), (2, 50), (2, 50)]
    rewards = [score.reward for score in runs[0].turns[1].scores.records(Score)]
    assert sampled[1][0].mean() == pytest.approx(np.mean(rewards))
    assert greedy[2].mean() > greedy[0].mean()
    with pytest.raises(ValueError, match="is there already"):
        measures.add_gaps(table, runs, config, "x")


def test_rows_of_several_seeds_claim_no_certainty() -> None:
    sure = tables.row(np.ones((5, 9)))
    assert sure["low"] < 1.0 == sure["value"] == sure["high"]
    never = tables.row(np.zeros((5, 1_000)))
    assert never["low"] == 0.0 < never["high"] < 0.01
    lucky = tables.row(np.array([[1.0] * 97 + [0.0] * 3, [1.0] * 90 + [0.0] * 10]))
    assert 0.0 <= lucky["low"] < lucky["high"] <= 1.0


def test_a_table_names_files_by_their_last_part() -> None:
    table = tables.Table()
    values = np.ones((1, 4))
    table.add(values, task="/some/where/sums.jsonl", model="m/toy-s", iteration=0)
    table.add(values, task="toy-math", model="m/toy-s", iteration=0)
    assert table.of(task="sums.jsonl", model="toy-s", iteration=0) is values
    assert len(table.iterations(task="elsewhere/sums.jsonl", model="toy-s")) == 1
    assert list(table.rows(task="/some/where/sums.jsonl")["task"]) == ["sums.jsonl"]
    assert len(table.rows(model="m/toy-s")) == 2


def test_a_notebook_that_cannot_end_does_not_begin(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text('{"id": "a", "prompt": "1 + 1 = ", "answer": "2"}\n')
    config = Config(math_task=str(path))
    path.with_name("asked.test.jsonl").write_text(
        '{"id": "b", "prompt": "2 + 1 = ", "answer": "3"}\n'
    )
    assert list(prospects.ready(config, str(path))) == [str(path)]
    with pytest.raises(ConfigError, match="has no human solutions"):
        prospects.ready(config, str(path), solutions=[str(path)])


def test_the_planned_power_is_of_these_problems_and_seeds() -> None:
    task = load_task("toy-gsm")
    told = prospects.planned(Config(test_problems=100), task, verdicts=4)
    assert "(n = 100, 5 seeds, 4 verdicts)" in told and "for 80 % it takes" in told
    fewer = prospects.planned(Config(seeds=(0,)), task, verdicts=1, problems=50)
    assert "(n = 50, 1 seed, 1 verdict)" in fewer
