"""Bring what a run showed into the project: results, figures, notebooks, the table in the README."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from restem_lib import claims
from restem_lib.config import PROJECT
from restem_lib.runner.outcome import as_markdown, gather, in_order, read_minutes, save_minutes
from restem_lib.runner.plan import NOTEBOOKS, Job, NotebookError, make_plan
from restem_lib.runner.status import (
    KINDS,
    alone,
    longest_run,
    read_status,
    unfit,
    write_text,
)

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def publish(
    preset: str,
    names: Sequence[str] = (),
    *,
    notebooks: Path = NOTEBOOKS,
    project: Path = PROJECT,
) -> None:
    """Copy results and figures of a whole, unmodified, current run to results/ and figures/.

    The verdicts of all notebooks become one claims.csv, their minutes notebooks.csv. The cpu preset
    also refreshes the committed notebooks and the table in the README. Raises NotebookError, before
    anything is written, when a notebook of the project has not run at this preset, has failed, or
    has changed since. `names` are the notebooks of a preset that is for some only, what is published
    of others stays; the cpu preset is published whole.
    """
    plan = make_plan(names, preset, (), notebooks)
    name = plan.preset.stem
    if names and name == "cpu":
        raise NotebookError("the cpu preset is published whole: leave out the notebooks' names")
    with alone(plan.out_dir):
        status = read_status(plan.out_dir)
        refused = [f"  {job.name} {why}" for job in plan.jobs if (why := unfit(job, status))]
        if refused:
            raise NotebookError(
                "\n".join([f"the {name} run cannot be published:", *refused])
                + f"\n`restem run {' '.join([*names, '--preset', preset])}`, without -p, makes it whole"
            )
        verdicts = gather(plan.jobs)
        minutes = {job.name: round(longest_run(job, status) / 60, 1) for job in plan.jobs}
        readme = project / "README.md"
        table = _with_table(readme, as_markdown(verdicts, minutes)) if name == "cpu" else ""
        pages = {job.source: _clean(job) for job in plan.jobs} if name == "cpu" else {}
        judged, taken = (
            project / "results" / name / file for file in ("claims.csv", "notebooks.csv")
        )
        if names and judged.is_file():
            verdicts = in_order(
                [*verdicts, *(one for one in claims.read(judged) if one.notebook not in minutes)]
            )
            minutes = dict(sorted({**read_minutes(taken), **minutes}.items()))
        for kind in () if names else KINDS:
            shutil.rmtree(project / kind / name, ignore_errors=True)
        files = [file for job in plan.jobs for file in status[job.name].get("files", {})]
        _copy(plan.out_dir, files, project, name)
        claims.save(judged, verdicts)
        save_minutes(taken, minutes)
        for source, page in pages.items():
            write_text(source, page)
        if table:
            write_text(readme, table)
    print(f"published {len(plan.jobs)} notebooks of the {name} preset")


def _copy(out_dir: Path, files: Sequence[str], project: Path, preset: str) -> None:
    """Copy a run's files, KIND/NAME, to KIND/PRESET/NAME of the project."""
    for file in files:
        kind, *rest = Path(file).parts
        if rest[0] != "claims":  # claims.csv has them all
            target = project.joinpath(kind, preset, *rest)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(out_dir / file, target)


def _clean(job: Job) -> str:
    """The executed copy as it is committed: the source's cells; no times, versions or paths."""
    import nbformat

    differing = [key for key, value in job.defaults.items() if job.parameters[key] != value]
    if differing:
        keys = ", ".join(differing)
        raise NotebookError(
            f"the parameters cell of {job.source} differs from the preset in {keys}; make them agree"
        )
    page = nbformat.read(job.copy, as_version=4)
    injected = "injected-parameters"
    page.cells = [cell for cell in page.cells if injected not in cell.metadata.get("tags", [])]
    page.metadata.pop("papermill", None)
    page.metadata.get("language_info", {}).pop("version", None)
    count = 0
    for cell in page.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code" and cell.execution_count is not None:
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    return str(nbformat.writes(page)).rstrip("\n") + "\n"


def _with_table(readme: Path, table: str) -> str:
    """The README's text with another table of results."""
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise NotebookError(f"{readme} needs the line {BEGIN} and, below it, {END}, once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
