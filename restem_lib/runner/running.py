"""Run notebooks through papermill and tell what happens."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from restem_lib.config import PROJECT
from restem_lib.files import file_sha256
from restem_lib.provenance import provenance
from restem_lib.runner.outcome import as_text, gather, published
from restem_lib.runner.plan import NOTEBOOKS, Job, Plan, make_plan
from restem_lib.runner.status import (
    Status,
    alone,
    done,
    enter,
    longest_run,
    read_status,
    stamps,
    summary,
    unfit,
)

LONGEST_CELL = 86_400.0
"""Seconds; a day."""
CHECKPOINT_TIME = 60.0
"""Seconds that a stopped kernel has to end a step of an M-step and write a checkpoint. Jupyter sends a kernel Ctrl-C,
SIGTERM after half of the time it gives it, which would interrupt the writing, and SIGKILL at the end of it."""


def run(
    names: Sequence[str],
    preset: str,
    overrides: Sequence[str] = (),
    *,
    again: bool = False,
    cell_timeout: float = LONGEST_CELL,
    notebooks: Path = NOTEBOOKS,
) -> int:
    """Run notebooks at a preset; one that is done with the same inputs is skipped unless `again`.

    A failing notebook does not stop the others. `cell_timeout` is in seconds, for each cell; 0: no
    limit. Returns 0 when every asked notebook is done, 1 when one failed, 130 after Ctrl-C. Raises
    ConfigError before any work.
    """
    plan = make_plan(names, preset, overrides, notebooks)
    elsewhere = published(plan)
    with alone(plan.out_dir):
        status = read_status(plan.out_dir)
        todo = [job for job in plan.jobs if again or not done(job, status)]
        _print_plan(plan, todo, status, elsewhere)
        finished = _run_all(plan, todo, status, elsewhere, cell_timeout)
        _print_summary(plan, status)
    if not finished:
        return 130
    return 0 if all(done(job, status) for job in plan.jobs) else 1


def _run_all(
    plan: Plan,
    todo: Sequence[Job],
    status: Status,
    elsewhere: Mapping[str, float],
    cell_timeout: float,
) -> bool:
    """Run the jobs in turn; False when interrupted."""
    began = time.monotonic()
    for number, job in enumerate(todo, 1):
        past = status.get(job.name, {}).get("last_done")
        longest = longest_run(job, status)
        entry = {
            "state": "running",
            "seconds": 0.0,
            "last_done": past,
            "longest": longest,
            "error": "",
            "preset": plan.preset.stem,
            "overrides": plan.overrides,
            "parameters": job.parameters,
            "hash": job.hash,
            "provenance": provenance(),
        }
        print(f"[{number}/{len(todo)}] {job.name} ...", flush=True)
        started = time.monotonic()
        for name in status.get(job.name, {}).get("files", {}):
            (plan.out_dir / name).unlink(missing_ok=True)
        before = stamps(plan.out_dir)
        enter(plan.out_dir, status, job, entry)
        try:
            error = _execute(job, cell_timeout)
            state = "failed" if error else "done"
        except KeyboardInterrupt:
            state, error = "interrupted", "interrupted"
        seconds = round(time.monotonic() - started, 1)
        entry |= {"state": state, "seconds": seconds, "error": error}
        if state == "done":
            entry |= {"last_done": seconds, "longest": max(seconds, longest)}
            after = stamps(plan.out_dir)
            written = [name for name, stamp in after.items() if before.get(name) != stamp]
            entry["files"] = {name: file_sha256(plan.out_dir / name) for name in written}
        enter(plan.out_dir, status, job, entry)
        print(f"[{number}/{len(todo)}] {job.name} {state} after {duration(seconds)}", flush=True)
        if state == "failed":
            print(f"    {error}\n    see {_shown(job.copy)}", flush=True)
        if state == "interrupted":
            print("    To go on, give the same command: what is finished is kept and used again.")
            return False
        if number < len(todo):
            left = _expected(todo[number:], status, elsewhere)
            print(f"    {duration(time.monotonic() - began)} gone, left: {left}", flush=True)
    return True


def _execute(job: Job, cell_timeout: float) -> str:
    """Run one notebook; what went wrong, in a line, or ""."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config as Traits

    logging.getLogger("papermill").setLevel(
        logging.CRITICAL
    )  # it would say everything a second time
    job.copy.unlink(missing_ok=True)
    job.verdicts.unlink(missing_ok=True)
    try:
        with _environment(TQDM_DISABLE="1", PYTHONHASHSEED="0"):
            papermill.execute_notebook(
                _literal(job.source),
                _literal(job.copy),
                parameters=job.parameters,
                kernel_name="python3",
                cwd=job.source.parent,
                execution_timeout=math.ceil(cell_timeout) or None,
                progress_bar=False,
                config=Traits(
                    KernelManager={"transport": "ipc", "shutdown_wait_time": 2 * CHECKPOINT_TIME}
                ),
                extra_arguments=["--log-level=50"],  # a stopped kernel may log its own traceback
                iopub_timeout=60,  # 4 s by default, too little for a busy machine
                record_timing=False,
                coalesce_streams=True,
            )
        error = ""
    except PapermillExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}"
    except DeadKernelError:
        error = "the kernel died, perhaps for lack of memory"
    except Exception as failure:  # whatever it is, the other notebooks still run
        error = f"{type(failure).__name__}: {' '.join(str(failure).splitlines()[:2])}"
    cell, seen = _last_cell(job.copy)
    if not error and not seen:
        return ""
    where = f"cell [{cell}]: " if cell else ""
    return where + textwrap.shorten(error or seen, 240, placeholder=" ...")


def _last_cell(copy: Path) -> tuple[int, str]:
    """Number of the last code cell that ran, from 1 (0: none), and the error it shows ("": none).

    Of papermill's own marks only a cell's start is reliable: it calls cells completed that never
    ran, and `sys.exit(0)` a success.
    """
    last = 0
    if copy.exists():
        cells = json.loads(copy.read_text(encoding="utf-8"))["cells"]
        for number, cell in enumerate((c for c in cells if c["cell_type"] == "code"), 1):
            for output in cell["outputs"]:
                if output["output_type"] == "error":
                    return number, f"{output['ename']}: {output['evalue']}"
            if cell["metadata"].get("papermill", {}).get("start_time"):
                last = number
    return last, ""


def _literal(path: Path) -> str:
    """papermill takes paths for format strings."""
    return str(path).replace("{", "{{").replace("}", "}}")


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _print_plan(
    plan: Plan, todo: Sequence[Job], status: Status, elsewhere: Mapping[str, float]
) -> None:
    print(f"preset {plan.preset.stem} ({_shown(plan.preset)})")
    about = takewhile(
        lambda line: line.startswith("#"), plan.preset.read_text("utf-8").splitlines()
    )
    told = [line.lstrip("# ") for line in about]
    if told and re.search(r"\bnever (been )?run\b", told[0], re.IGNORECASE):
        print("\n".join(told))
    for key, value in plan.overrides.items():
        print(f"  with {key} = {value}")
    print(f"writing to {_shown(plan.out_dir)}")
    width = max(len(job.name) for job in plan.jobs)
    for job in plan.jobs:
        past = status.get(job.name, {}).get("last_done")
        if job not in todo:
            text = f"done before in {duration(status[job.name]['seconds'])}; --again runs it anew"
        else:
            if past is not None:
                text = f"to run, {duration(past)} last time"
            elif job.name in elsewhere:
                minutes = elsewhere[job.name]
                text = f"to run, published: about {minutes:g} min on another machine"
            else:
                text = "to run, time unknown"
            if job.name in status and (why := unfit(job, status)):
                text += f"; {why}"
        print(f"  {job.name:{width}}  {text}")
    if todo:
        print(f"expected: {_expected(todo, status, elsewhere)}", flush=True)


def _expected(jobs: Sequence[Job], status: Status, elsewhere: Mapping[str, float]) -> str:
    """Time that the jobs need, from the last time each was done, else from the published minutes."""
    past = {job.name: status.get(job.name, {}).get("last_done") for job in jobs}
    here = [seconds for seconds in past.values() if seconds is not None]
    never = [name for name, seconds in past.items() if seconds is None]
    there = [60 * elsewhere[name] for name in never if name in elsewhere]
    if not here + there:
        return "unknown"
    text = f"about {duration(sum(here + there))}"
    if there:
        text += f", {len(there)} of {len(jobs)} by another machine"
    unknown = len(never) - len(there)
    return text + (f", and {unknown} of unknown time" if unknown else "")


def _print_summary(plan: Plan, status: Status) -> None:
    width = max(len(job.name) for job in plan.jobs)
    print(f"\n{'notebook':{width}}  {'state':11}  {'time':>12}  executed copy")
    for job in plan.jobs:
        entry = status.get(job.name, {"state": "not run", "seconds": 0.0})
        copy = _shown(job.copy) if job.copy.exists() else "-"
        print(f"{job.name:{width}}  {entry['state']:11}  {duration(entry['seconds']):>12}  {copy}")
    ended = [job for job in plan.jobs if done(job, status)]
    for job in ended:
        if not job.verdicts.is_file() and (text := summary(job.copy)):
            print(f"\n{job.name}\n{textwrap.indent(text, '  ')}")
    if verdicts := gather(ended):
        changed = ", ".join(f"{key} = {value}" for key, value in plan.overrides.items())
        print(f"\nclaims, preset {plan.preset.stem}" + (f" with {changed}" if changed else ""))
        print(as_text(verdicts))


def duration(seconds: float) -> str:
    """Seconds, to be read at a glance.

    >>> duration(0.4), duration(34.2), duration(310), duration(7500)
    ('0.4 s', '34 s', '5 min 10 s', '2 h 05 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)
