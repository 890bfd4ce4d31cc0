"""What a run of notebooks is asked to do, checked before any work."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from restem_lib.config import KEYS, PROJECT, Config, anchor, from_mapping, load_preset, preset_path
from restem_lib.files import file_sha256
from restem_lib.keys import ConfigError, parse_yaml
from restem_lib.models import WEIGHTS
from restem_lib.provenance import PACKAGES, version
from restem_lib.store import digest

NOTEBOOKS = PROJECT / "notebooks"
FOLDERS = ("runs_dir", "out_dir")
"""Keys that say where a run writes, not what it does: changing them makes no other run."""


class NotebookError(ConfigError):
    """A notebook, or the record of its run, is missing or unfit; the text says what to do."""


@dataclass(frozen=True)
class Job:
    """One notebook with the parameters it will get."""

    name: str
    source: Path
    defaults: dict[str, Any]
    parameters: dict[str, Any]
    """The keys that it declares, and those whose value is not the default."""
    hash: str
    """Stands for the notebook's cells, its parameters, the files among them, the library's code, paper/ and models/."""
    copy: Path
    """Where the executed notebook goes."""
    verdicts: Path
    """Where it writes its verdicts, if it judges a claim."""


@dataclass(frozen=True)
class Plan:
    """What one `restem run` is asked to do, checked."""

    preset: Path
    overrides: dict[str, Any]
    """Keys whose value differs from the preset's."""
    out_dir: Path
    jobs: tuple[Job, ...]


def make_plan(names: Sequence[str], preset: str, overrides: Sequence[str], notebooks: Path) -> Plan:
    """Check names, types and cells, and fix what each notebook gets. Raises ConfigError.

    A run that `overrides` modifies has its own out_dir: it never mixes with the preset's.
    """
    path = preset_path(preset)
    wanted = _parse(overrides)
    config, plain = load_preset(path, wanted), load_preset(path)
    sources = _sources(names, notebooks)
    defaults = {name: declared(source) for name, source in sources.items()}
    used = {"out_dir"}.union(*defaults.values())  # the runner itself writes to out_dir
    for key in wanted:
        if key not in used:
            asked = ", ".join(sources)
            raise ConfigError(
                f"-p {key}: the parameters cells of {asked} do not have it; a preset of your own can set it"
            )
    changed = {key: _plain(config, key) for key in wanted}
    changed = {key: value for key, value in changed.items() if value != _plain(plain, key)}
    modified = {key: value for key, value in changed.items() if key not in FOLDERS}
    if modified:
        config = replace(config, out_dir=f"{config.out_dir}-{digest(modified)[:6]}")
    out_dir, code, usual = Path(anchor(config).out_dir), _code(), Config()
    unusual = {key for key in KEYS if getattr(config, key) != getattr(usual, key)}
    jobs = []
    for name, source in sources.items():
        # A notebook takes the default of a key that it does not declare: it gets what differs.
        given = unusual.union(defaults[name])
        parameters = {key: _plain(config, key) for key in KEYS if key in given}
        files = _files(parameters)
        made_of = digest(
            {"cells": _cells(source), "parameters": parameters, "code": code, "files": files}
        )
        copy = out_dir / "notebooks" / f"{name}.ipynb"
        verdicts = out_dir / "results" / "claims" / f"{name}.csv"
        jobs.append(Job(name, source, defaults[name], parameters, made_of, copy, verdicts))
    return Plan(path, changed, out_dir, tuple(jobs))


def declared(path: Path) -> dict[str, Any]:
    """Names and default values of a notebook's parameters cell.

    The cell is tagged "parameters"; there is one, and it holds nothing but `key = literal` lines
    with keys of the key table: papermill sets values after it, so whatever it computed would keep
    the defaults. Raises NotebookError.
    """
    cells = [cell["source"] for cell in _cells(path) if "parameters" in cell["tags"]]
    if len(cells) != 1:
        raise NotebookError(f'{path} has {len(cells)} cells tagged "parameters", not exactly one')
    where = f"the parameters cell of {path}"
    try:
        lines = ast.parse(cells[0]).body
    except SyntaxError as error:
        raise NotebookError(f"{where} is not Python (line {error.lineno}: {error.msg})") from error
    values: dict[str, Any] = {}
    for line in lines:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                raise NotebookError(f"line {line.lineno} of {where} is not of the form key = value")
        if name in values:
            raise NotebookError(f"{where} gives {name} twice")
        try:
            values[name] = ast.literal_eval(value)
        except ValueError as error:
            raise NotebookError(
                f"{name} in {where} is computed; write a plain value there and compute in a later cell"
            ) from error
    try:
        from_mapping(values, where)
    except ConfigError as error:
        raise NotebookError(str(error)) from error
    return values


def _parse(overrides: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"-p {item} is not of the form key=value")
        if key in values:
            raise ConfigError(f"-p gives {key} twice")
        values[key] = parse_yaml(text, f"-p {item}") if text else ""
    from_mapping(values, "-p")
    return values


def _sources(names: Sequence[str], notebooks: Path) -> dict[str, Path]:
    there = {path.stem: path.resolve() for path in sorted(notebooks.glob("*.ipynb"))}
    found: dict[str, Path] = {}
    for name in names or there:
        path = Path(name)
        is_path = path.suffix == ".ipynb" and path.is_file()
        path = path.resolve() if is_path else there.get(path.stem, path)
        if not path.is_file():
            near = difflib.get_close_matches(path.stem, there, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there: {', '.join(there) or 'none'}"
            raise NotebookError(f"no notebook {name!r} in {notebooks}; {hint}")
        if found.setdefault(path.stem, path) != path:
            raise NotebookError(
                f"{path} and {found[path.stem]} have the same name; run one of them"
            )
    if not found:
        raise NotebookError(f"no notebooks in {notebooks}")
    return found


def _plain(config: Config, key: str) -> Any:
    value = getattr(config, key)
    return list(value) if isinstance(value, tuple) else value


def _cells(path: Path) -> list[dict[str, Any]]:
    """Type, source and tags of each cell: what determines a notebook's run."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [
            {
                "type": cell["cell_type"],
                "source": joined(cell["source"]),
                "tags": cell["metadata"].get("tags", []),
            }
            for cell in cells
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotebookError(f"{path} is not a readable notebook of format 4: {error}") from error


def joined(value: str | list[str]) -> str:
    """Text in a notebook file, which may be split into lines."""
    return value if isinstance(value, str) else "".join(value)


def _files(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Checksums of the files that parameters name: a model's, or a task's with its test problems."""
    found: dict[str, str] = {}
    for value in parameters.values():
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and (path := PROJECT / name).is_file():
                both = (path, path.with_suffix(f".test{path.suffix}"))
                found |= {one.name: file_sha256(one) for one in both if one.is_file()}
    return found


def _code() -> dict[str, Any]:
    code = [path for kind in ("*.py", "*.c") for path in (PROJECT / "restem_lib").rglob(kind)]
    files = [*sorted(code), *sorted((PROJECT / "paper").glob("*.yaml"))]
    models = sorted(path for kind in WEIGHTS for path in (PROJECT / "models").rglob(kind))
    return {
        "library": {str(file.relative_to(PROJECT)): file_sha256(file) for file in files},
        "models": {str(file.relative_to(PROJECT)): file_sha256(file) for file in models},
        "packages": {name: version(name) for name in PACKAGES},
    }
