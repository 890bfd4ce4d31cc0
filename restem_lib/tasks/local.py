"""Rows of a benchmark, read through `datasets`: from a local folder of JSON lines first, then from the Hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from restem_lib import UserError


class TaskError(UserError, ValueError):
    """A benchmark cannot be found, or a row of it is unusable; the text names file and line."""


def data_folder(data_dir: str, name: str) -> Path | None:
    """`<data_dir>/<name>` if it exists; data_dir defaults to the environment variable RESTEM_DATA.

    Raises TaskError when a data folder was named but is not there.
    """
    root = data_dir or os.environ.get("RESTEM_DATA", "")
    if not root:
        return None
    if not Path(root).is_dir():
        source = "data_dir" if data_dir else "RESTEM_DATA"
        raise TaskError(f"{source} names {root}, which is not a folder")
    folder = Path(root) / name
    return folder if folder.is_dir() else None


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """All rows of a JSON-lines file. Raises TaskError naming file and line for a bad one.

    Each of `columns` must be there and hold text (or a number, which becomes text) that is not blank.
    """
    from datasets import Dataset, disable_progress_bars, enable_progress_bars
    from datasets.utils import are_progress_bars_disabled

    if not path.is_file():
        raise TaskError(f"no file {path}")
    checked = _check_lines(path, columns)
    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        # As text: left to itself Arrow reads dates into answers and turns 3 beside 2.5 into 3.0.
        rows = Dataset.from_list(checked).to_list()
    except Exception as error:  # `datasets` wraps what Arrow says in several kinds
        raise TaskError(f"cannot read {path}: {error.__cause__ or error}") from error
    finally:
        if not quiet:
            enable_progress_bars()
    return rows


def hub_rows(
    repository: str, config: str, split: str, columns: tuple[str, ...]
) -> list[dict[str, Any]]:
    """All rows of a split on the Hub, with the same checks. Raises TaskError."""
    from datasets import load_dataset

    try:
        rows = load_dataset(repository, config, split=split).to_list()
    except Exception as error:  # network, authentication, a moved repository: one message for all
        raise TaskError(
            f"cannot load {repository} ({config}, {split}) from the Hub: {error}. "
            "To work without the Hub put its JSON lines in a folder and name that with --data-dir or RESTEM_DATA"
        ) from error
    for number, row in enumerate(rows, 1):
        _check_row(row, columns, f"{repository} {split}, row {number}")
    return rows


def _check_lines(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    # Our own pass over the lines: `datasets` does not say in which line a file is broken.
    rows = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                where = f"{path}, line {number}"
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise TaskError(f"{where}: not JSON ({error})") from error
                if not isinstance(row, dict):
                    raise TaskError(f"{where}: not a JSON object")
                _check_row(row, columns, where)
                rows.append({name: str(value) for name, value in row.items() if value is not None})
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 text ({error})") from error
    return rows


def _check_row(row: dict[str, Any], columns: tuple[str, ...], where: str) -> None:
    for name in columns:
        value = row.get(name)
        if value is None:
            raise TaskError(f"{where}: no {name!r}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TaskError(f"{where}: {name!r} is {value!r}; it must be text or a number")
        if not str(value).strip(" \t\r\n$*.#"):
            raise TaskError(f"{where}: {name!r} is blank")
