"""What is written about the base models: the README's table and the model cards, made from results/base.csv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from restem_lib import making
from restem_lib.base_table import BESIDE, POINTS, SIZES, Row, read
from restem_lib.config import PROJECT
from restem_lib.files import replace_whole
from restem_lib.keys import ConfigError
from restem_lib.ladder import LADDER

BEGIN, END = "<!-- base:begin -->", "<!-- base:end -->"
STANDS_FOR = {
    "toy-math": "MATH",
    "toy-gsm": "GSM8K",
    "toy-code": "APPS introductory",
    "toy-humaneval": "HumanEval",
    "toy-bbh": "BBH, chain of thought",
    "toy-bbh-direct": "BBH, direct",
    "toy-exam": "the Hungarian exam",
}
FRONT = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags:
- model-organism
- restem
- toy
---
"""
LIMITS = """## Limits

For studying ReST^EM and for nothing else: the model knows the English of a few hundred words and the toy world's
problems. Size and operating point move together on this ladder: all sizes read the same text, so a larger model also
starts from another accuracy, and a difference in what ReST^EM does to them may come from either (toy-l's peak
learning rate is lower, too). The problems are made by the same generators as the text: no real model knows the
wording of its benchmarks so well. The paper's numbers are those of other models on other problems; they say near
which operating point this one stands, and no more. Intervals are over problems, of one model:
another training seed gives other numbers."""


def publish(project: Path = PROJECT) -> str:
    """Write the README's table, and the card of every model with rows, from results/base.csv; returns the table.

    Raises ConfigError where files are missing or damaged.
    """
    rows = read(project / "results" / "base.csv")
    text, table = _readme(project), base_table(rows)
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    written = {project / "README.md": f"{before}{BEGIN}\n{table}\n{END}{after}"}
    for name in dict.fromkeys(row.model for row in rows):
        folder = project / "models" / name
        written[folder / "README.md"] = card(name, rows, folder)
    for path, new in written.items():
        _write(path, new)
    return table


def prepare(names: Sequence[str], project: Path = PROJECT) -> None:
    """Look for what `publish` needs, before the work; says what the cards will lack. Raises ConfigError as it does."""
    _readme(project)
    for name in names or LADDER:
        folder = project / "models" / name
        if making.made(folder, LADDER[name]) is None:
            print(f"note: no {folder / 'made.yaml'}: the card will not tell what made {name}")


def _readme(project: Path) -> str:
    readme = project / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ConfigError(f"{readme} needs the line {BEGIN} and, below it, {END}, once each")
    return text


def base_table(rows: Sequence[Row]) -> str:
    """The README's table: the sizes beside the paper's models; then greedy decoding of the other base models."""
    found = {(row.model, row.task, row.metric, row.k): row for row in rows if not row.style}
    lines = [
        f"| | n | luck | {' | '.join(_heads())} |",
        f"|---|---|---|{'---|' * len(_heads())}",
    ]
    for task, metric, k, _ in POINTS:
        mine = {name: found.get((name, task, metric, k)) for name in SIZES}
        some = next((row for row in mine.values() if row), None)
        if some is None:
            continue
        cells = []
        for name, row in mine.items():
            cells.append(_cell(row))
            if name in BESIDE:
                cells.append(_beside(row))
        lines.append(
            f"| `{task}` ({STANDS_FOR[task]}), {label(metric, k)} | {_n(some)} | {_percent(some.luck)} | "
            f"{' | '.join(cells)} |"
        )
    others = [
        name for name in LADDER if name not in SIZES and any(row.model == name for row in rows)
    ]
    tasks = [point.task for point in POINTS if point.metric == "greedy"]
    if others:
        lines += ["", f"| greedy | {' | '.join(f'`{task}`' for task in tasks)} |"]
        lines.append(f"|---|{'---|' * len(tasks)}")
        for name in ("toy-s", *others):
            cells = [_cell(found.get((name, task, "greedy", 1))) for task in tasks]
            lines.append(f"| [{name}](models/{name}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def card(name: str, rows: Sequence[Row], folder: Path) -> str:
    """A Hugging Face model card. Raises ConfigError as `making.made` does."""
    mine = [row for row in rows if row.model == name]
    about = "\n".join(f"| {what} | {text} |" for what, text in making.about(name, folder).items())
    scores = "\n".join(
        f"| `{row.task}`, {label(row.metric, row.k)} | {_percent(row.value)} | {_span(row)} | {_n(row)} "
        f"| {_percent(row.luck)} | {_paper(row)} |"
        for row in mine
        if not row.style and row.metric != "false positives"
    )
    share = {(row.task, row.style): row for row in mine if row.metric == "share"}
    styles = "\n".join(
        f"| `{row.task}` | {row.style} | {_cell(share[row.task, row.style])} | {_cell(row)} | {row.problems} |"
        for row in mine
        if row.style and row.metric == "greedy"
    )
    wrong = "; ".join(
        f"`{row.task}` {_cell(row)}, n = {row.problems}"
        for row in mine
        if row.metric == "false positives"
    )
    return f"""{FRONT}
# {name}

A base model of the toy world, trained from scratch: a **model organism** of the project in which it lies, for studying
ReST^EM. Its numbers are its own and say nothing about real language models.

| | |
|---|---|
{about}

## What it scores

In %, with 95 % intervals over n test problems; pass@k and majority at temperature 1, top-p 0.95. Luck is what always
giving the commonest answer would score (of each kind of puzzle in toy-bbh; for programs one output, whichever).

| task, measure | value | interval | n | luck | the paper |
|---|---|---|---|---|---|
{scores}

## How it writes

Greedy solutions by style: the share of each, and what is right in it.

| task | style | share | right in it | n |
|---|---|---|---|---|
{styles}

False positives, in % of the right solutions that show steps (steps that do not hold) or are programs (that fail
held-out tests):
{wrong or "none to tell of"}.

{LIMITS}
"""


def label(metric: str, k: int) -> str:
    """A metric in words."""
    if metric == "points":
        return "points of 100 a form"
    return f"majority of {k}" if metric == "majority@k" else metric.replace("@k", f"@{k}")


def _heads() -> list[str]:
    heads = []
    for name in SIZES:
        heads.append(f"[{name}](models/{name})")
        if name in BESIDE:
            heads.append(BESIDE[name][0])
    return heads


def _n(row: Row) -> str:
    return f"{row.problems} forms" if row.metric == "points" else str(row.problems)


def _percent(rate: float) -> str:
    return "-" if math.isnan(rate) else f"{100 * rate:.1f}"


def _span(row: Row) -> str:
    return f"{_percent(row.low)} to {_percent(row.high)}"


def _cell(row: Row | None) -> str:
    return f"{_percent(row.value)} ({_span(row)})" if row else "-"


def _beside(row: Row | None) -> str:
    """The paper's number in the README, starred where its model is the code variant."""
    if row is None or math.isnan(row.paper):
        return "-"
    return _percent(row.paper) + ("\\*" if row.paper_model.endswith("*") else "")


def _paper(row: Row) -> str:
    if math.isnan(row.paper):
        return "-"
    return f"{_percent(row.paper)} ({row.paper_model.replace('*', chr(92) + '*')}, {row.where})"


def _write(path: Path, text: str) -> None:
    replace_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
