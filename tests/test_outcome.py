"""Verdicts and minutes of a run: gathered in order, told in text and in the README, damage named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from restem_lib import claims
from restem_lib.claims import FAILS, HOLDS, SMALL
from restem_lib.paper import read_claims
from restem_lib.runner import NotebookError, outcome
from restem_lib.runner.plan import Job

ONE = claims.Verdict(
    "C1", "toy-math", HOLDS, "gain", 0.05, 0.02, 0.08, 1000, 5, 0.001, 0.0, "+6 (S*)", "02_x"
)


def job(folder: Path, name: str) -> Job:
    return Job(name, folder, {}, {}, "", folder, folder / f"{name}.csv")


def test_verdicts_are_gathered_in_the_order_of_the_claims(tmp_path: Path) -> None:
    jobs = [job(tmp_path, name) for name in ("01_none", "02_x", "03_y")]
    mine = [replace(ONE, claim=claim, part=part) for claim, part in (("C12", "b"), ("C2", "a"))]
    others = [replace(ONE, claim=claim, notebook="03_y") for claim in ("C11b", "C11", "C2")]
    claims.save(jobs[1].verdicts, mine)
    claims.save(jobs[2].verdicts, others)
    found = outcome.gather(jobs)
    assert [one.claim for one in found] == ["C2", "C2", "C11", "C11b", "C12"]
    assert found[0] == mine[1] and found[1] == others[2]  # in the order of the notebooks


def test_verdicts_under_the_name_of_another_notebook_are_refused(tmp_path: Path) -> None:
    claims.save(job(tmp_path, "03_y").verdicts, [ONE])
    with pytest.raises(NotebookError, match=r"03_y\.csv holds verdicts of 02_x, not of 03_y"):
        outcome.gather([job(tmp_path, "03_y")])


def test_a_claim_is_a_row_of_the_readme_and_six_parts_of_it() -> None:
    verdicts = [replace(ONE, part=f"p{i}") for i in range(6)]
    verdicts += [replace(ONE, part="p6", verdict=FAILS, notebook="03_y")]
    verdicts += [replace(ONE, claim="C2", part="a|b", verdict=SMALL, paper="none")]
    lines = outcome.as_markdown(verdicts, {"00_z": 1.0, "02_x": 2.0, "03_y": 0.3}).splitlines()
    rows = [line for line in lines if line.startswith("| **")]
    six = "<br>".join(f"p{i}: +5.0 points (+2.0 to +8.0; n = 1000, 5 seeds)" for i in range(6))
    links = [f"[{name}](notebooks/{name}.ipynb)" for name in ("00_z", "02_x", "03_y")]
    known = read_claims()
    assert rows == [
        f"| **C1** {known['C1'].statement} | +6 (S\\*) | {six}<br>and 1 more "
        "| holds<br>holds<br>holds<br>holds<br>holds<br>holds<br>0 hold, 1 does not, 0 too small to tell "
        f"| {links[1]}<br>{links[2]} | 2.0<br>0.3 |",
        f"| **C2** {known['C2'].statement} | none "
        "| a\\|b: +5.0 points (+2.0 to +8.0; n = 1000, 5 seeds) | too small to tell "
        f"| {links[1]} | 2.0 |",
    ]
    assert "model organism" in lines[0]
    below = lines[lines.index(rows[-1]) + 2 :]
    assert below == [
        "6 hold, 1 does not, 1 too small to tell. Every part: [claims.csv](results/cpu/claims.csv).",
        f"Not judged: {', '.join(name for name in known if name not in ('C1', 'C2'))}.",
        f"Notebooks without a verdict: {links[0]} (1.0 min).",
    ]


def test_minutes_are_read_as_they_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "notebooks.csv"
    outcome.save_minutes(path, {"00_x": 3.0, "01_y": 0.25})
    assert path.read_text() == "notebook,minutes\n00_x,3.0\n01_y,0.2\n"
    assert outcome.read_minutes(path) == {"00_x": 3.0, "01_y": 0.2}


@pytest.mark.parametrize("text", ["name,minutes\nx,1\n", "notebook,minutes\nx,long\n"])
def test_damaged_minutes_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notebooks.csv"
    path.write_text(text)
    with pytest.raises(NotebookError, match=r"notebooks\.csv is damaged .*restem publish"):
        outcome.read_minutes(path)
