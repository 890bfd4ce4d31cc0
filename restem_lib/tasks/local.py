"""Rows of a benchmark, read through `datasets`: from a local folder of JSON lines first, then from the Hub."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from restem_lib import UserError
from restem_lib.records import Problem
from restem_lib.store import digest

Rows = list[dict[str, Any]]
"""Every value is text (lists and objects as JSON), or None where a row lacks a column that another has."""


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


def first_file(folder: Path, *names: str) -> Path:
    """The first of these files that the folder holds. Raises TaskError."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise TaskError(f"{folder} has no file {' or '.join(names)}")


def mixed(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """In the order of a hash of their ids, so that the first n of sorted problems are a fair sample of all."""
    return tuple(sorted(problems, key=lambda problem: digest(problem.id)))


def read_rows(
    path: Path,
    columns: tuple[str, ...],
    nested: tuple[str, ...] = (),
    keep: Callable[[dict[str, Any]], bool] = lambda row: True,
) -> Rows:
    """All rows of a JSON-lines file (.gz too) for which `keep` holds. Raises TaskError naming file and line.

    Each of `columns` must be there and hold text (or a number, which becomes text) that is not blank, each of
    `nested` a list or object that is not empty.
    """
    from datasets import Dataset, disable_progress_bars, enable_progress_bars
    from datasets.utils import are_progress_bars_disabled

    if not path.is_file():
        raise TaskError(f"no file {path}")
    checked = _check_lines(path, columns, nested, keep)
    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    names = dict.fromkeys(name for row in checked for name in row)
    try:
        # As text: left to itself Arrow reads dates into answers and turns 3 beside 2.5 into 3.0. With every column in
        # every row: from_list knows only those of the first.
        rows = Dataset.from_list(
            [{name: row.get(name) for name in names} for row in checked]
        ).to_list()
    except Exception as error:  # `datasets` wraps what Arrow says in several kinds
        raise TaskError(f"cannot read {path}: {error.__cause__ or error}") from error
    finally:
        if not quiet:
            enable_progress_bars()
    return rows


def hub_rows(
    repository: str,
    config: str | None,
    split: str,
    columns: tuple[str, ...],
    revision: str,
    instead: str,
    nested: tuple[str, ...] = (),
    data_files: dict[str, str] | None = None,
) -> Rows:
    """All rows of a split on the Hub, with the same checks; `instead` says what a local folder must hold.

    Raises TaskError.
    """
    from datasets import load_dataset

    try:
        rows = load_dataset(
            repository, config, split=split, revision=revision, data_files=data_files
        ).to_list()
    except Exception as error:  # network, authentication, a moved repository: one message for all
        name = ", ".join(part for part in (config, split) if part)
        raise _no_hub(f"{repository} ({name})", error, instead) from error
    for number, row in enumerate(rows, 1):
        _check_row(row, columns, nested, f"{repository} {split}, row {number}")
    return [_as_text(row) for row in rows]


def hub_file(repository: str, filename: str, revision: str, instead: str) -> Path:
    """A data file of a Hub repository that `datasets` cannot load, downloaded. Raises TaskError."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, filename, repo_type="dataset", revision=revision))
    except Exception as error:
        raise _no_hub(f"{repository} ({filename})", error, instead) from error


def _no_hub(what: str, error: Exception, instead: str) -> TaskError:
    return TaskError(
        f"cannot load {what} from the Hub: {error}. To work without the Hub name a folder with "
        f"--data-dir or RESTEM_DATA that holds {instead}"
    )


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _check_lines(
    path: Path,
    columns: tuple[str, ...],
    nested: tuple[str, ...],
    keep: Callable[[dict[str, Any]], bool],
) -> list[dict[str, str]]:
    # Our own pass over the lines: `datasets` does not say in which line a file is broken.
    rows = []
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                where = f"{path}, line {number}"
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise TaskError(f"{where}: not JSON ({error})") from error
                if not isinstance(row, dict):
                    raise TaskError(f"{where}: not a JSON object")
                _check_row(row, columns, nested, where)
                if keep(row):
                    rows.append(_as_text(row))
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 text ({error})") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise TaskError(f"{path} is not a whole gzip file ({error})") from error
    return rows


def _as_text(row: dict[str, Any]) -> dict[str, str]:
    return {
        name: json.dumps(value, ensure_ascii=False)
        if isinstance(value, list | dict)
        else str(value)
        for name, value in row.items()
        if value is not None
    }


def _check_row(
    row: dict[str, Any], columns: tuple[str, ...], nested: tuple[str, ...], where: str
) -> None:
    for name in columns:
        value = row.get(name)
        if value is None:
            raise TaskError(f"{where}: no {name!r}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TaskError(f"{where}: {name!r} is {value!r}; it must be text or a number")
        if not str(value).strip(" \t\r\n$*.#"):
            raise TaskError(f"{where}: {name!r} is blank")
    for name in nested:
        value = row.get(name)
        if value is None:
            raise TaskError(f"{where}: no {name!r}")
        if not isinstance(value, list | dict) or not value:
            raise TaskError(
                f"{where}: {name!r} is {value!r}; it must be a list or object that is not empty"
            )
