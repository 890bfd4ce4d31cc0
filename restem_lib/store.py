"""The stage store: every stage's output in a folder named by the hash of all that determines it.

    <runs_dir>/stages/<kind>-<hash>/
        key.json        what the hash stands for
        *.parquet       shards: deterministic content only
        model/          a model, where the stage makes one
        manifest.json   what is finished, with checksums, times and provenance; rewritten last

A shard is written under a temporary name, flushed, renamed, then entered in the manifest; what the manifest does
not list does not count. So a kill at any moment loses at most the shard in work, and a file that does not match
its checksum is an error that names it, never reused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restem_lib.files import (
    TEMPORARY,
    StoreError,
    file_sha256,
    holder,
    replace_whole,
    write_json,
    writing,
)
from restem_lib.provenance import provenance
from restem_lib.records import R, from_table, to_table

if TYPE_CHECKING:
    import pyarrow as pa

KEY, MANIFEST, LOCKS = "key.json", "manifest.json", ".locks"
OWN = re.compile(
    r"^(p\d{5}-[0-9a-f]{8}-s\d{4,}-\d{4,}\.parquet|(pairs|history)\.parquet|checkpoint-\d{6}|model)$"
)
"""Names that a stage gives its files; one of these outside the manifest was left by a kill and is made anew."""


def digest(value: Any) -> str:
    """16 hex digits that stand for any JSON value.

    >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    True
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def seed_for(*parts: str | int) -> int:
    """A 63-bit seed that depends on its parts alone: the same on every machine and in every order of work."""
    return int(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16], 16) >> 1


class Stage:
    """One folder of the store: a pure function of `settings` (inputs included), `kind` and `version`.

    Raise `version` when a change of code changes what the stage writes.
    """

    def __init__(
        self, runs_dir: str | Path, kind: str, version: int, settings: Mapping[str, Any]
    ) -> None:
        self.runs_dir = Path(runs_dir)
        self.kind = kind
        self.key: dict[str, Any] = {"kind": kind, "version": version, "settings": dict(settings)}
        self.name = f"{kind}-{digest(self.key)}"
        self.folder = self.runs_dir / "stages" / self.name

    @contextmanager
    def work(self) -> Iterator[None]:
        """Hold the stage alone: a second process that wants it waits, then finds the work done.

        The kernel gives the lock back when its owner dies, however it dies. Raises StoreError for a foreign file.
        """
        from filelock import FileLock, Timeout

        locks = self.runs_dir / "stages" / LOCKS
        with writing(self.folder):
            locks.mkdir(parents=True, exist_ok=True)
        lock, owner = FileLock(locks / f"{self.name}.lock"), locks / f"{self.name}.owner"
        with writing(locks / f"{self.name}.lock"):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print(f"waiting for {holder(owner)}, which is working on {self.name}", flush=True)
                lock.acquire()
        try:
            with writing(self.folder):
                self.folder.mkdir(exist_ok=True)
            self._clean()
            me = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
            write_json(owner, me)
            if not (self.folder / KEY).exists():
                write_json(self.folder / KEY, self.key)
            yield
        finally:
            lock.release()

    def shards(self) -> dict[str, dict[str, Any]]:
        """Finished files by name, with sha256, rows, seconds. Raises StoreError when the manifest is damaged."""
        return self._manifest()["shards"]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are not finished, or no longer there."""
        finished = self.shards()
        return [name for name in names if name not in finished or not (self.folder / name).exists()]

    def write(
        self, name: str, table: pa.Table, seconds: float, notes: Mapping[str, Any] | None = None
    ) -> None:
        """Write one Parquet shard, then enter it in the manifest, with notes on how it was made."""
        import pyarrow.parquet as pq

        def save(path: Path) -> None:
            pq.write_table(table, path, compression="zstd", write_page_checksum=True)

        path = self.folder / name
        replace_whole(path, save)
        self._enter({name: {**_entry(path, table.num_rows, seconds), **(notes or {})}})

    def read(self, name: str) -> pa.Table:
        """Read one shard. Raises StoreError when it is not finished, or not what was written."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / name
        self.check(name)
        try:
            return pq.read_table(path, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"cannot read {path}: {error}") from error

    def write_folder(self, name: str, save: Callable[[Path], None], seconds: float) -> None:
        """Write a folder of files (a model) through `save(folder)`; all of it or nothing."""
        path = self.folder / name
        with writing(path):
            if path.exists():  # left by a kill between the rename and the manifest
                shutil.rmtree(path)
        replace_whole(path, save)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        share = seconds / max(1, len(files))
        self._enter({str(f.relative_to(self.folder)): _entry(f, 0, share) for f in files})

    def has_folder(self, name: str) -> bool:
        """Whether the folder is finished and whole."""
        files = [file for file in self.shards() if file.startswith(f"{name}/")]
        return bool(files) and all((self.folder / file).exists() for file in files)

    def read_folder(self, name: str) -> Path:
        """The folder's path, once every file in it matches its checksum. Raises StoreError."""
        if not self.has_folder(name):
            raise self._unfinished(self.folder / name)
        for file in self.shards():
            if file.startswith(f"{name}/"):
                self.check(file)
        return self.folder / name

    def check(self, name: str) -> None:
        """Raise StoreError unless the file is finished and is what was written."""
        path, entry = self.folder / name, self.shards().get(name)
        if entry is None or not path.exists():
            raise self._unfinished(path)
        if file_sha256(path) != entry["sha256"]:
            made = "the whole stage" if "model/" in name or self.kind == "tune" else "only it"
            raise StoreError(
                f"{path} is damaged: it is not what was written (its checksum differs). "
                f"Delete that file and run again; {made} is made anew where it is needed"
            )

    def _unfinished(self, path: Path) -> StoreError:
        return StoreError(f"{path} is not finished; run the stage again to have it made")

    def _manifest(self) -> dict[str, Any]:
        path = self.folder / MANIFEST
        if not path.exists():
            return {"shards": {}}
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            checksum = manifest.pop("checksum")
            if not isinstance(manifest["shards"], dict) or digest(manifest) != checksum:
                raise ValueError("its checksum differs")
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise StoreError(
                f"{path} is damaged ({error}). Delete the folder {self.folder} and run again; "
                "only this stage is made anew"
            ) from error
        return manifest

    def _enter(self, entries: Mapping[str, dict[str, Any]]) -> None:
        manifest = self._manifest()
        finished = {name: {**entry, "finished": _now()} for name, entry in entries.items()}
        manifest = {
            "stage": self.name,
            "shards": {**manifest["shards"], **finished},
            "provenance": provenance(),
        }
        write_json(self.folder / MANIFEST, {**manifest, "checksum": digest(manifest)})

    def _clean(self) -> None:
        """Under the lock: remove what a killed run left half-written; stop at a file that is not ours."""
        known = set(self.shards())
        tops = {name.split("/")[0] for name in known} | {KEY, MANIFEST}
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith(TEMPORARY):
                with writing(path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            elif path.name not in tops and not OWN.match(path.name):
                raise StoreError(
                    f"{path} does not belong to the stage {self.name}; move it away and run again"
                )
        if (self.folder / KEY).exists():
            try:
                key = json.loads((self.folder / KEY).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise StoreError(
                    f"{self.folder / KEY} is damaged ({error}); delete that file and run again"
                ) from error
            if key != json.loads(json.dumps(self.key)):
                raise StoreError(
                    f"{self.folder / KEY} describes another stage; delete the folder {self.folder} and run again"
                )


@dataclass(frozen=True)
class Shards:
    """Some finished shards of a stage: what one stage hands to the next."""

    stage: Stage
    names: tuple[str, ...]

    @property
    def ref(self) -> dict[str, Any]:
        """What stands for these records in the settings of a later stage."""
        return {"stage": self.stage.name, "shards": digest(list(self.names))}

    def records(self, kind: type[R]) -> Iterator[R]:
        """All records, shard by shard: memory does not grow with their number."""
        for name in self.names:
            try:
                yield from from_table(self.stage.read(name), kind)
            except ValueError as error:
                raise StoreError(f"{self.stage.folder / name}: {error}") from error

    def seconds(self) -> float:
        """Time it took to make them, whenever that was."""
        entries = self.stage.shards()
        return float(sum(entries[name]["seconds"] for name in self.names))


def write_records(
    stage: Stage,
    name: str,
    records: list[R],
    kind: type[R],
    seconds: float,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write records as one shard."""
    stage.write(name, to_table(records, kind), seconds, notes)


def open_stage(folder: Path) -> Stage:
    """The stage in a folder of the store, from its key.json. Raises StoreError."""
    try:
        key = json.loads((folder / KEY).read_text(encoding="utf-8"))
        stage = Stage(folder.parent.parent, key["kind"], key["version"], key["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / KEY} is missing or damaged; delete the folder {folder}"
        ) from error
    if stage.name != folder.name:
        raise StoreError(f"{folder / KEY} describes another stage; delete the folder {folder}")
    return stage


def _entry(path: Path, rows: int, seconds: float) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "rows": rows, "seconds": round(seconds, 3)}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
