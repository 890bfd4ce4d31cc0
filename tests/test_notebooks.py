"""What every committed notebook must look like, and that all of them run, twice, to the same end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from restem_lib.config import KEYS, PROJECT, load_preset
from restem_lib.runner import NOTEBOOKS, declared, run

PRESETS = sorted((PROJECT / "params").glob("*.yaml"))
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
HEADINGS = (
    "Claim",
    "Predict",
    "Run",
    "Figure",
    "Check",
    "Limits|What this does not show",
    "Exercises",
)
every = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def tagged(path: Path, tag: str) -> list[Any]:
    return [cell for cell in cells(path, "code") if tag in cell.metadata.get("tags", [])]


def prose(path: Path) -> str:
    return "\n".join(cell.source for cell in cells(path, "markdown"))


def test_there_are_notebooks() -> None:
    assert PATHS


# --- presets


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_complete_and_in_the_order_of_the_default(path: Path) -> None:
    config = load_preset(path)
    assert config.out_dir == f"runs/{path.stem}" and config.runs_dir == "runs"

    def outline(preset: Path) -> list[str]:
        """Headings and keys."""
        body = preset.read_text(encoding="utf-8").split("\n\n", 1)[1]
        return [line.split(":")[0] for line in body.splitlines()]

    assert outline(path) == outline(PROJECT / "params" / "cpu.yaml")


def test_presets_that_nobody_ran_say_so_first() -> None:
    first = {path.stem: path.read_text(encoding="utf-8").split("\n")[0] for path in PRESETS}
    assert {name for name, line in first.items() if line.startswith("# Never run:")} == {
        "cluster",
        "gpu",
        "paper",
    }


def test_the_paper_preset_has_the_papers_settings() -> None:
    config = load_preset(PROJECT / "params" / "paper.yaml")
    samples = (config.math_samples, config.pass_k_samples, config.cap, config.math_iterations)
    assert samples == (32, 64, 10, 3)
    assert (config.temperature, config.top_k, config.start) == (0.7, 40, "base")


# --- each notebook


@every
def test_the_parameters_cell_holds_the_cpu_preset(path: Path) -> None:
    config = load_preset(PROJECT / "params" / "cpu.yaml")
    for key, value in declared(path).items():
        preset = getattr(config, key)
        assert value == (list(preset) if isinstance(preset, tuple) else preset), key
    assert {"runs_dir", "out_dir"} <= set(declared(path)) <= set(KEYS)


@every
def test_it_is_a_valid_notebook_for_the_python3_kernel(path: Path) -> None:
    page = nbformat.read(path, as_version=4)
    nbformat.validate(page)
    assert page.metadata.kernelspec.name == "python3"
    assert path.stat().st_size <= 300_000


@every
def test_it_holds_what_its_last_run_showed(path: Path) -> None:
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
    assert "papermill" not in path.read_text(encoding="utf-8")


@every
def test_some_cells_are_compared_and_one_is_the_summary(path: Path) -> None:
    for tag in ("nbval-check-output", "summary"):
        found = tagged(path, tag)
        assert found and all(cell.outputs for cell in found), tag


@every
def test_every_image_has_a_description(path: Path) -> None:
    images = [
        output
        for cell in cells(path, "code")
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert images
    for output in images:
        assert len(output.metadata.get("image/png", {}).get("alt", "").split()) >= 5


@every
def test_its_code_is_short_and_plain(path: Path) -> None:
    code = cells(path, "code")
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    assert len(nbformat.read(path, as_version=4).cells) <= 28
    assert len(lines) <= 100
    assert [line for line in lines if len(line) > 76] == []
    for cell in code:
        assert not cell.source.rstrip().endswith(";")
    assert "exit(" not in "\n".join(lines)  # sys.exit(0) looks like success to papermill


@every
def test_it_makes_its_argument(path: Path) -> None:
    text = prose(path)
    assert len(text.split()) >= 600
    assert "model organism" in text
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    places = []
    for wanted in HEADINGS:
        found = [i for i, heading in enumerate(headings) if re.match(rf"({wanted})\b", heading)]
        assert found, f"no heading that starts with {wanted}"
        places.append(found[0])
    assert places == sorted(places)


# --- all of them, run

# One thread: two that share a busy core wait for each other, many times longer than smoke runs take.
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONHASHSEED": "0"}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with store/ and out/ after `restem run --preset smoke`."""
    folder = tmp_path_factory.mktemp("smoke")
    overrides = [f"runs_dir={folder / 'store'}", f"out_dir={folder / 'out'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        assert run((), "smoke", overrides, cell_timeout=300) == 0
    return folder


@pytest.mark.notebooks
@every
def test_plain_papermill_runs_it_too(smoke: Path, tmp_path: Path, path: Path) -> None:
    folders = ["-p", "runs_dir", str(smoke / "store"), "-p", "out_dir", str(tmp_path / "out")]
    command = [sys.executable, "-m", "papermill", str(path), str(tmp_path / path.name)]
    command += ["-f", str(PROJECT / "params" / "smoke.yaml"), "--no-progress-bar", *folders]
    done = subprocess.run(command, cwd=tmp_path, env=QUIET, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").is_dir()


@pytest.mark.notebooks
def test_running_again_from_an_empty_store_shows_the_same(smoke: Path) -> None:
    copies = smoke / "out" / "notebooks"
    names = sorted(path.name for path in copies.glob("*.ipynb"))
    assert names == [path.name for path in PATHS]
    shutil.rmtree(smoke / "store" / "stages")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax"]
    command += ["--nbval-current-env", "--nbval-cell-timeout", "300", *names]
    done = subprocess.run(command, cwd=copies, env=QUIET, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert (smoke / "store" / "stages").is_dir()
