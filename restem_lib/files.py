"""Files that are written whole or not at all, their checksums, and who holds a lock."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from restem_lib import UserError

TEMPORARY = ".tmp-"
"""What the names of half-written files begin with."""
FAILED_WRITE = re.compile(
    r"\(os error \d+\)|Error: \[Errno (?:5|13|27|28|30|122)\]|PytorchStreamWriter|inline_container"
)
"""In what safetensors and torch say, with exceptions of their own, when a file cannot be written."""


class StoreError(UserError, RuntimeError):
    """Something in the store cannot be read, written or trusted; the text names the file and what to do."""


def file_sha256(path: Path) -> str:
    """Checksum of a file. Raises StoreError naming it when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def replace_whole(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file or folder through `save(temporary)`, flush it, rename it: never half of it. Raises StoreError."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    with writing(path):
        try:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            save(temporary)
            for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
                _flush(file)
            temporary.replace(path)
            _flush(path.parent)
        except BaseException:
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all. Raises StoreError."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    replace_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says when `path` cannot be written into a StoreError that says what to do."""
    try:
        yield
    except (UserError, ConnectionError, TimeoutError):
        raise
    except BaseException as error:  # torch's CheckpointException is no Exception
        said = [line for line in str(error).splitlines() if FAILED_WRITE.search(line)]
        if not isinstance(error, OSError) and not said:
            raise
        reason = getattr(error, "strerror", "") or "".join(said[:1]) or str(error)
        raise StoreError(
            f"cannot write {path}: {reason}. What was finished before is kept; "
            "make room or choose another folder with --out (runs_dir), then run the same command again"
        ) from error


def holder(path: Path) -> str:
    """Who holds a lock, in words, from the file that its owner left beside it."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
