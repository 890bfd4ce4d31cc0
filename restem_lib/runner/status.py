"""The record of what was run: `<out_dir>/status.json`, one entry a notebook."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from restem_lib.files import file_sha256, replace_whole
from restem_lib.runner.plan import Job, NotebookError, joined

KINDS = ("results", "figures")
"""Folders that notebooks write to."""

Status = dict[str, dict[str, Any]]
"""Notebook -> entry."""


@contextmanager
def alone(out_dir: Path) -> Iterator[None]:
    """Make the folder and hold it: two runs never write to one. Raises NotebookError.

    The kernel gives the lock back when its owner dies, however it dies.
    """
    from filelock import FileLock, Timeout

    try:
        (out_dir / "notebooks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotebookError(
            f"cannot write to {out_dir}: {error.strerror}; choose another folder (-p out_dir=...)"
        ) from error
    lock = FileLock(out_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise NotebookError(
            f"another restem run is working in {out_dir}; wait for it or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def read_status(out_dir: Path) -> Status:
    """What is recorded so far. Raises NotebookError when the file is damaged."""
    path = out_dir / "status.json"
    if not path.exists():
        return {}
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
        for entry in status.values():
            entry["state"], entry["hash"], entry["seconds"], entry["last_done"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotebookError(
            f"{path} is damaged ({error}); delete it, and its notebooks run anew"
        ) from error
    return dict(status)


def enter(out_dir: Path, status: Status, job: Job, entry: Mapping[str, Any]) -> None:
    """Record an entry, in `status` and on disk."""
    status[job.name] = dict(entry)
    text = json.dumps(status, indent=1, sort_keys=True, ensure_ascii=False)
    write_text(out_dir / "status.json", text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing. Raises StoreError."""

    def save(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace_whole(path, save)


def longest_run(job: Job, status: Status) -> float:
    """Seconds of the longest finished run with these parameters, 0 without one: later runs find stages in the store."""
    entry = status.get(job.name)
    if entry is None or entry.get("parameters") != job.parameters:
        return 0.0
    return float(entry.get("longest") or entry["last_done"] or 0.0)


def done(job: Job, status: Status) -> bool:
    """Whether a notebook ran to its end with what it would get now."""
    return not unfit(job, status)


def unfit(job: Job, status: Status) -> str:
    """Why the recorded run of a notebook does not count as done; "" when it does."""
    entry = status.get(job.name)
    if entry is None:
        return "has not run"
    if entry["state"] == "running":
        return "was cut off"
    if entry["state"] == "failed":
        return f"failed ({entry['error']})"
    if entry["state"] != "done":
        return f"was {entry['state']}"
    if entry["hash"] != job.hash:
        return "has run, but the notebook, its parameters, the library or a model changed since"
    if not job.copy.is_file():
        return "has run, but its executed copy is gone"
    for name, checksum in entry.get("files", {}).items():
        path = job.copy.parent.parent / name
        if not path.is_file() or file_sha256(path) != checksum:
            return f"has run, but {name} was changed since, perhaps by a run without `restem run`"
    return ""


def stamps(out_dir: Path) -> dict[str, tuple[int, int]]:
    """All results and figures of a run's folder, and what tells whether one was written again."""
    paths = [path for kind in KINDS for path in sorted((out_dir / kind).rglob("*"))]
    files = {str(path.relative_to(out_dir)): path.stat() for path in paths if path.is_file()}
    return {name: (found.st_mtime_ns, found.st_ino) for name, found in files.items()}


def summary(copy: Path) -> str:
    """The text that cells tagged "summary" put out."""
    parts = []
    for cell in json.loads(copy.read_text(encoding="utf-8"))["cells"]:
        if "summary" in cell["metadata"].get("tags", []):
            for output in cell.get("outputs", []):
                if output["output_type"] == "stream" and output["name"] == "stdout":
                    parts.append(joined(output["text"]))
                elif "text/plain" in output.get("data", {}):
                    parts.append(joined(output["data"]["text/plain"]))
    return "\n".join(part.strip("\n") for part in parts)
