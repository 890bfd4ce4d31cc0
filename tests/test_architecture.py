"""The shape of the library: imports follow the data, heavy ones only where they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from restem_lib.config import PROJECT

LIBRARY = PROJECT / "restem_lib"
ORDER = [
    "records",
    "keys",
    "config",
    "provenance",
    "files",
    "store",
    "checkpoints",
    "upkeep",
    "rewards",
    "tasks",
    "models",
    "ladder",
    "untrained",
    "pretrain",
    "engines",
    "executors",
    "cluster",
    "launching",
    "sampling",
    "scoring",
    "filtering",
    "batching",
    "learner",
    "training",
    "sft",
    "statistics",
    "evaluation",
    "styles",
    "report",
    "audit",
    "em",
    "exact",
    "paper",
    "estimates",
    "claims",
    "tables",
    "experiments",
    "measures",
    "prospects",
    "mechanisms",
    "base_table",
    "making",
    "cards",
    "figures",
    "plan",
    "doctor",
    "commands",
    "arguments",
    "surveys",
    "runner",
    "cli",
]
"""A module imports only from those before it (and from its own folder)."""


def place(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("restem_lib")
        ):
            names = (
                [node.module]
                if node.module != "restem_lib"
                else [f"restem_lib.{a.name}" for a in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("restem_lib.")]
        found |= {name.split(".")[1] for name in names if "." in name}
    return found - {"__version__", "UserError"}


MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path != LIBRARY / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_follow_the_flow_of_data(path: Path) -> None:
    here = place(path)
    later = {name for name in imported(path) if ORDER.index(name) > ORDER.index(here)}
    assert not later, f"{path} imports {later}, which come after it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_file_is_of_a_size_to_be_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420


@pytest.mark.parametrize(
    "module", ["restem_lib", "restem_lib.cli", "restem_lib.statistics", "restem_lib.figures"]
)
def test_what_needs_no_torch_does_not_import_it(module: str) -> None:
    heavy = ("torch", "transformers", "datasets", "papermill", "ray")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
