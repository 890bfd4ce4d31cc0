"""The base models beside the paper's: where the numbers come from, and that what is written agrees with them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from restem_lib import base_table, cards
from restem_lib.base_table import BESIDE, POINTS, SIZES, Row, paper
from restem_lib.cli import main
from restem_lib.config import PROJECT, Common
from restem_lib.keys import ConfigError
from restem_lib.ladder import LADDER
from restem_lib.models import identity
from restem_lib.tasks import load_task

ROW = Row(
    "toy-s",
    "toy-math",
    "",
    "greedy",
    1,
    0.25,
    0.125,
    0.5,
    8,
    1,
    0.02,
    0.166,
    "PaLM 2-S",
    "Figure 2",
    "0123456789ab",
)


def test_every_point_of_the_paper_is_in_its_file() -> None:
    for point in POINTS:
        found = {name: paper(name, point.task, point.metric, point.k) for name in BESIDE}
        assert any(found.values()) == bool(point.entry), point
        assert paper("toy-m", point.task, point.metric, point.k) is None
        for one in found.values():
            assert one is None or (0 < one.value < 1 and one.where)
    assert paper("toy-s", "toy-math", "greedy", 1) == (0.1661, "PaLM 2-S", "Figure 2, left")
    assert paper("toy-s", "toy-humaneval", "greedy", 1) == (
        0.39,
        "PaLM 2-S*",
        "Figure 3, right, of version 1",
    )
    sampled = paper("toy-l", "toy-math", "pass@k", 64)
    assert sampled is not None and sampled.value == pytest.approx(0.759)
    assert paper("toy-l", "toy-math", "pass@k", 8) is paper("toy-l", "math", "greedy", 1) is None


def test_every_entry_of_the_papers_numbers_says_where_it_is_from() -> None:
    entries = yaml.safe_load((PROJECT / "paper" / "values.yaml").read_text())
    for name, entry in entries.items():
        assert set(entry) == {"where", "what", "read", "accuracy", "values"}, name


def test_models_and_tasks_are_those_of_the_project() -> None:
    assert set(SIZES) | set(BESIDE) <= set(LADDER)
    for name in dict.fromkeys(point.task for point in POINTS):
        wanted = base_table.PROBLEMS.get(name, base_table.MOST)
        assert len(load_task(name).test) >= wanted and name in cards.STANDS_FOR


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, style="full", luck=math.nan, paper=math.nan, where='a "b", c')]
    base_table.write(tmp_path / "results" / "base.csv", rows)
    found = base_table.read(tmp_path / "results" / "base.csv")
    assert found[0] == ROW and math.isnan(found[1].luck) and found[1].where == 'a "b", c'
    base_table.write(tmp_path / "again.csv", found)
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "results" / "base.csv").read_text()
    (tmp_path / "again.csv").write_text("model,task\ntoy-s,toy-math\n")
    with pytest.raises(ConfigError, match=r"cannot read .*again\.csv"):
        base_table.read(tmp_path / "again.csv")
    with pytest.raises(ConfigError, match="cannot read"):
        base_table.read(tmp_path / "none.csv")


# A project of one tiny model under two names.


@pytest.fixture
def project(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("toy-s", "toy-s-seed1"):
        shutil.copytree(tiny, tmp_path / "models" / name)
    (tmp_path / "README.md").write_text(f"before\n{cards.BEGIN}\nold\n{cards.END}\nafter\n")
    few = [point for point in POINTS if point.task in ("toy-math", "toy-bbh", "toy-exam")]
    monkeypatch.setattr(base_table, "POINTS", tuple(few))
    monkeypatch.setattr(cards, "POINTS", tuple(few))
    return tmp_path


def make(project: Path, names: Sequence[str], most: int = 4) -> list[Row]:
    config = Common(runs_dir=str(project / "runs"), max_new_tokens=8)
    path = project / "results" / "base.csv"
    base_table.keep(path, base_table.make(names, most, config, project))
    return base_table.read(path)


def test_the_table_and_the_cards_are_made_of_the_rows(
    project: Path, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make(project, ["toy-s", "toy-s-seed1"])
    assert {(row.model, row.metric) for row in rows if row.k == 64} == {
        ("toy-s", "pass@k"),
        ("toy-s", "majority@k"),
    }
    greedy = next(row for row in rows if row.task == "toy-math" and row.metric == "greedy")
    assert (greedy.problems, greedy.paper, greedy.paper_model) == (4, 0.1661, "PaLM 2-S")
    assert {row.metric for row in rows} >= {"share", "greedy"}
    math_rows = [row for row in rows if row.task == "toy-math" and not row.style]
    without = {(row.metric, row.k) for row in math_rows if math.isnan(row.luck)}
    assert without - {("false positives", 1)} == {("pass@k", 64)}
    assert {row.weights for row in rows} == {identity(project / "models" / "toy-s")[:12]}
    assert "points" not in {row.metric for row in rows}  # no whole form

    cards.prepare(["toy-s"], project)
    assert "the card will not tell what made toy-s\n" in capsys.readouterr().out
    table = cards.publish(project)
    readme = (project / "README.md").read_text()
    assert readme == f"before\n{cards.BEGIN}\n{table}\n{cards.END}\nafter\n"
    assert "| `toy-math` (MATH), greedy | 4 | " in table and "| 16.6 |" in table
    assert "[toy-s-seed1](models/toy-s-seed1)" in table
    _, front, text = (project / "models" / "toy-s" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "apache-2.0"
    assert "(PaLM 2-S, Figure 2, left)" in text and "not recorded (no made.yaml)" in text
    assert f"{LADDER['toy-s'].tokens:,} tokens" in text
    assert (
        "| beside toy-s | the same but for seed 1 |"
        in (project / "models" / "toy-s-seed1" / "README.md").read_text()
    )
    assert cards.publish(project) == table and (project / "README.md").read_text() == readme


def test_rows_of_other_models_stay(project: Path, level: str) -> None:
    other = replace(ROW, model="toy-l")
    base_table.write(project / "results" / "base.csv", [other, replace(ROW, value=0.7531)])
    rows = make(project, ["toy-s"])
    assert other in rows and all(row.value != 0.7531 for row in rows)
    assert [row.model for row in rows] == ["toy-s"] * (len(rows) - 1) + ["toy-l"]


def test_a_small_table_is_only_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = [
        PROJECT / name for name in ("results/base.csv", "README.md", "models/toy-s/README.md")
    ]
    before = [path.read_bytes() for path in written]
    monkeypatch.setattr(base_table, "measure", lambda *_: [ROW])
    assert main(["base-table", "--models", "toy-s", "--test-problems", "8"]) == 0
    assert "| 8 | 2.0 | 25.0 (12.5 to 50.0) | 16.6 |" in capsys.readouterr().out
    assert [path.read_bytes() for path in written] == before


def test_made_json_is_told_and_checked(project: Path) -> None:
    folder = project / "models" / "toy-s"
    recipe = asdict(LADDER["toy-s"])
    facts = {
        "padding": 0.125,
        "seconds": 60.0,
        "tokens_per_second": 2e5,
        "device": "one core",
        "processes": [{"commit": "abc123"}, {"commit": "abc123"}, {"commit": "def456"}],
    }
    path = folder / "made.yaml"
    path.write_text(json.dumps({**facts, "recipe": {**recipe, "text": "1234"}}))
    told = "on one core in 60 s, 200,000 tokens/s (12 % of them padding), at commit abc123, then def456"
    assert told in cards.card("toy-s", [ROW], folder)
    path.write_text(json.dumps({**facts, "recipe": {**recipe, "seed": 7}}))
    with pytest.raises(ConfigError, match="of another recipe"):
        cards.prepare(["toy-s"], project)
    path.write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="damaged"):
        cards.prepare(["toy-s"], project)


def test_what_is_missing_is_said_before_any_work(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="no base model 'toy-x'; there are toy-s"):
        base_table.known(["toy-x"], project)
    with pytest.raises(ConfigError, match="`restem pretrain toy-m` makes it"):
        base_table.known([], project)
    with pytest.raises(ConfigError, match="--test-problems is -1"):
        make(project, ["toy-s"], most=-1)
    (project / "README.md").write_text(cards.END + cards.BEGIN)
    with pytest.raises(ConfigError, match="needs the line"):
        cards.prepare(["toy-s"], project)
    assert main(["base-table", "--models", "toy-x"]) == 1
    assert capsys.readouterr().err.startswith("restem: no base model 'toy-x'")


def test_evaluate_shows_the_papers_number_beside_a_base_model(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(project / "models" / "toy-s")
    rest = ["--task", "toy-math", "--test-problems", "4", "--max-new-tokens", "8"]
    assert main(["evaluate", "--model", model, "--out", str(project / "runs"), *rest]) == 0
    assert "PaLM 2-S in the paper: greedy 16.6% (Figure 2, left)" in capsys.readouterr().out


# What is committed.


def test_readme_and_cards_agree_with_the_results() -> None:
    path = PROJECT / "results" / "base.csv"
    rows = base_table.read(path)
    assert {row.model for row in rows} == set(LADDER)
    for row in rows:
        assert row.weights == identity(PROJECT / "models" / row.model)[:12], row.model
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert f"{cards.BEGIN}\n{cards.base_table(rows)}\n{cards.END}" in readme
    for name in {row.model for row in rows}:
        folder = PROJECT / "models" / name
        assert (folder / "README.md").read_text(encoding="utf-8") == cards.card(name, rows, folder)
