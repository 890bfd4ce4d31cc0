"""The store as a whole: what is in it, whether all of it is sound, and how a stage is deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

from restem_lib import checkpoints
from restem_lib.files import TEMPORARY, StoreError, file_sha256, holder, writing
from restem_lib.store import LOCKS, MANIFEST, Stage, open_stage


def stages(runs_dir: str | Path) -> list[Path]:
    """Folders of all stages in the store, oldest first."""
    root = Path(runs_dir) / "stages"
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if path.is_dir() and path.name != LOCKS]
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def damaged(folder: Path) -> list[str]:
    """What is wrong in a stage's folder, a line for each file and what to do about it; [] where all is sound.

    Reads every finished file, and the checkpoint that an M-step would go on from. A stage that a process works on now,
    or that was stopped, is sound as far as it is done. A file that is gone is no fault: what needs it has it made anew.
    """
    if all(path.name.startswith(TEMPORARY) for path in folder.iterdir()):  # killed as it began
        return []
    try:
        stage = open_stage(folder)
        names = [name for name in stage.shards() if (folder / name).exists()]
    except StoreError as error:
        return [str(error)]
    faults = [_fault(stage, name) for name in names]
    if "history.parquet" not in names:
        faults.append(_fault_of_checkpoint(stage))
    return [line for line in faults if line]


def _fault(stage: Stage, name: str) -> str:
    try:
        stage.check(name)
    except StoreError as error:
        return str(error)
    return ""


def _fault_of_checkpoint(stage: Stage) -> str:
    newest = checkpoints.found(stage.folder)[-1:]
    try:
        checkpoints.latest(stage.folder)
    except StoreError as error:
        # A process that works on the stage may have removed it meanwhile.
        working = checkpoints.found(stage.folder)[-1:] != newest
        return "" if working or "history.parquet" in stage.shards() else str(error)
    return ""


def contents(runs_dir: str | Path) -> dict[str, str]:
    """Checksums by name of all that is deterministic in a store: every file but manifests, which hold times, and locks.

    Two stores that the same command made on one machine have the same contents, whatever happened on the way.
    """
    root = Path(runs_dir)
    return {
        str(path.relative_to(root)): file_sha256(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != MANIFEST and LOCKS not in path.parts
    }


def delete_stage(runs_dir: str | Path, folder: Path) -> None:
    """Delete a stage's folder. Raises StoreError while a process works on it."""
    from filelock import FileLock, Timeout

    locks = Path(runs_dir) / "stages" / LOCKS
    with writing(locks):
        locks.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(locks / f"{folder.name}.lock").acquire(timeout=0):
                shutil.rmtree(folder)
        except Timeout as error:
            who = holder(locks / f"{folder.name}.owner")
            raise StoreError(f"{folder} is in use by {who}; stop that first") from error
