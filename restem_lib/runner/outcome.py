"""What a run found and how long it took: verdicts on claims and minutes, as files, text and the README's table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from restem_lib import claims
from restem_lib.claims import Verdict
from restem_lib.paper import read_claims
from restem_lib.runner.plan import FOLDERS, Job, NotebookError, Plan

SHOWN = 6
"""Parts of a claim that the README shows; claims.csv has all."""


def gather(jobs: Iterable[Job]) -> list[Verdict]:
    """The verdicts of the notebooks that judge claims, in the order of the claims. Raises ConfigError."""
    found: list[Verdict] = []
    for job in jobs:
        if job.verdicts.is_file():
            mine = claims.read(job.verdicts)
            for other in {one.notebook for one in mine} - {job.name}:
                raise NotebookError(f"{job.verdicts} holds verdicts of {other}, not of {job.name}")
            found += mine
    return in_order(found)


def in_order(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Verdicts in the order of the claims."""
    order = list(read_claims())
    return sorted(verdicts, key=lambda one: order.index(one.claim))


def save_minutes(path: Path, minutes: Mapping[str, float]) -> None:
    """Write the minutes of each notebook as CSV."""
    rows = [f"{name},{taken:.1f}\n" for name, taken in minutes.items()]
    path.write_text("notebook,minutes\n" + "".join(rows), encoding="utf-8")


def read_minutes(path: Path) -> dict[str, float]:
    """The inverse of save_minutes, up to rounding. Raises NotebookError for a damaged file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["notebook"]: float(row["minutes"]) for row in csv.DictReader(file)}
    except (KeyError, ValueError, TypeError) as error:
        raise NotebookError(f"{path} is damaged ({error!r}); `restem publish` writes it") from error


def published(plan: Plan) -> dict[str, float]:
    """The minutes that the project states for a preset's notebooks; none for a modified preset."""
    path = plan.preset.resolve().parent.parent / "results" / plan.preset.stem / "notebooks.csv"
    return read_minutes(path) if path.is_file() and plan.overrides.keys() <= set(FOLDERS) else {}


def as_text(verdicts: Sequence[Verdict]) -> str:
    """Verdicts as a table to be printed, a line a part, and their count."""
    rows = [("claim", "part", "estimate", "verdict")]
    rows += [(one.claim, one.part, claims.amount(one), one.verdict) for one in verdicts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, claims.counted(verdicts)])


def as_markdown(verdicts: Sequence[Verdict], minutes: Mapping[str, float]) -> str:
    """The README's table of the cpu preset, a row a claim, from what claims.csv and notebooks.csv hold."""
    lines = [
        "Ours are numbers of a **model organism** (the toy world at the `cpu` preset), never of the paper's models.",
        "The 95 % intervals hold for all verdicts of a notebook at once; points are percentage points. A notebook's",
        "minutes leave out what an earlier one has trained; of several runs the longest counts, for later ones find",
        "their stages in the store.",
        "",
        "| claim | the paper | ours | verdict | notebook | minutes |",
        "|---|---|---|---|---|---|",
    ]
    found = read_claims()
    judged = {name: [one for one in verdicts if one.claim == name] for name in found}
    for name, parts in judged.items():
        if parts:
            shown, rest = parts[:SHOWN], parts[SHOWN:]
            ours = [_escaped(f"{one.part}: {claims.amount(one)}") for one in shown]
            told = [one.verdict for one in shown]
            if rest:
                ours.append(f"and {len(rest)} more")
                told.append(claims.counted(rest))
            where = list(dict.fromkeys(one.notebook for one in parts))
            claim = f"**{name}** {_escaped(found[name].statement)}"
            cells = [[claim], [_escaped(parts[0].paper)], ours, told]
            cells += [[_link(one) for one in where], [f"{minutes[one]:.1f}" for one in where]]
            lines.append(f"| {' | '.join('<br>'.join(cell) for cell in cells)} |")
    lines += ["", f"{claims.counted(verdicts)}. Every part: [claims.csv](results/cpu/claims.csv)."]
    if open_ := [name for name, parts in judged.items() if not parts]:
        lines.append(f"Not judged: {', '.join(open_)}.")
    others = [name for name in minutes if name not in {one.notebook for one in verdicts}]
    if others:
        listed = ", ".join(f"{_link(name)} ({minutes[name]:.1f} min)" for name in others)
        lines.append(f"Notebooks without a verdict: {listed}.")
    return "\n".join(lines)


def _link(notebook: str) -> str:
    return f"[{notebook}](notebooks/{notebook}.ipynb)"


def _escaped(text: str) -> str:
    """Without the edge of a cell or emphasis, as Markdown would read | and *."""
    return re.sub(r"([|*])", r"\\\1", text)
