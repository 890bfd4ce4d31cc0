"""The runs behind the notebooks: which model starts where, and tables of seeds and problems."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from restem_lib import experiments, measures, tables
from restem_lib.config import Config
from restem_lib.records import Pair
from restem_lib.tasks import load_task


def test_methods_are_settings_of_the_same_loop(config: Config) -> None:
    made = {name: experiments.train(config, name) for name in experiments.METHODS}
    assert all([run.loop.seed for run in runs] == [0, 1] for runs in made.values())
    assert all(run.models[0] == run.base for runs in made.values() for run in runs)
    assert {name: len(runs[0].turns) for name, runs in made.items()} == {
        name: 1 if {"iterations": 1}.items() <= changes.items() else 2
        for name, changes in experiments.METHODS.items()
    }
    first = {name: runs[0].models[1] for name, runs in made.items()}
    assert first["ReST"] == first["ReST^EM"] and len({*first.values()}) == len(first) - 1
    assert made["ReST"][0].models[2] != made["ReST^EM"][0].models[2]
    kept = {
        name: sum(1 for _ in runs[0].turns[0].pairs.records(Pair)) for name, runs in made.items()
    }
    assert kept["unfiltered"] == 40 * 4 and kept["random control"] == kept["ReST^EM"]
    assert kept["RFT"] < kept["ReST^EM"] and kept["STaR"] <= 40


def test_tables_are_of_seeds_and_problems(config: Config) -> None:
    task = load_task(config.math_task)
    test = measures.tested(task, config)
    runs = experiments.train(config)
    values = measures.solved([run.models[-1] for run in runs], task, test, config)
    assert values.shape == (2, 50) and set(np.unique(values)) <= {0.0, 1.0}
    made = tables.row(values, method="ReST^EM", task="copying")
    assert made["low"] <= made["value"] == values.mean() <= made["high"]
    assert (made["n"], made["seeds"], made["method"]) == (50, 2, "ReST^EM")
    assert tables.row(np.ones((1, 9)), method="x")["low"] < 1


def test_human_solutions_are_those_of_the_task_or_another(config: Config, tmp_path: Path) -> None:
    asked = [json.loads(line) for line in Path(config.math_task).read_text().splitlines()]
    for name, before in (("full", ""), ("terse", " so")):
        told = [{**one, "solution": f"{before}\n#### {one['answer']}"} for one in asked]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, told)))
    config = replace(config, math_task=str(tmp_path / "full.jsonl"))
    full = experiments.human(config)
    terse = experiments.human(config, task=str(tmp_path / "terse.jsonl"))
    assert len({*full, *terse}) == 4
