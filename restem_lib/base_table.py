"""The project's base models at the paper's operating points, beside the paper's numbers where it has some."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from restem_lib import evaluation, styles
from restem_lib.config import PROJECT, Common
from restem_lib.evaluation import Outcome
from restem_lib.files import replace_whole
from restem_lib.keys import ConfigError
from restem_lib.ladder import LADDER
from restem_lib.models import identity
from restem_lib.paper import entry as entry_of
from restem_lib.records import Evaluation, Problem
from restem_lib.rewards import grader
from restem_lib.statistics import Interval
from restem_lib.tasks import Task, load_task
from restem_lib.tasks.toy import LONGEST


class Point(NamedTuple):
    """A number that the paper gives of its base models, and ours that stands beside it."""

    task: str
    metric: str
    """"greedy", "pass@k", "majority@k" (both at temperature 1, top-p 0.95) or "points"."""
    k: int
    entry: str = ""
    """In paper/values.yaml; "" where the paper has none."""


POINTS = (
    Point("toy-math", "greedy", 1, "fig2_math"),
    Point("toy-math", "pass@k", 1, "fig5_math"),
    Point("toy-math", "pass@k", 64, "fig5_math"),
    Point("toy-math", "majority@k", 64, "majority_math"),
    Point("toy-gsm", "greedy", 1, "fig2_gsm8k"),
    Point("toy-code", "greedy", 1, "fig3_apps"),
    Point("toy-code", "pass@k", 1, "fig5_apps"),
    Point("toy-code", "pass@k", 10, "fig5_apps"),
    Point("toy-humaneval", "greedy", 1, "fig3_humaneval"),
    Point("toy-humaneval", "pass@k", 1, "fig5_humaneval"),
    Point("toy-humaneval", "pass@k", 60, "fig5_humaneval"),
    Point("toy-bbh", "greedy", 1, "bbh_reasoned"),
    Point("toy-bbh-direct", "greedy", 1, "bbh_direct"),
    Point("toy-exam", "greedy", 1),
    Point("toy-exam", "points", 1),
)
BESIDE = {"toy-s": ("PaLM 2-S", "PaLM 2-S*"), "toy-l": ("PaLM 2-L",)}
"""Our model -> the paper's that it stands beside; the starred one is the code variant."""
SIZES = ("toy-s", "toy-m", "toy-l")
"""Measured at every point; the other models of the ladder at the greedy ones."""
PROBLEMS = {"toy-bbh": 600, "toy-bbh-direct": 600, "toy-humaneval": 164, "toy-exam": 660}
"""Test problems of a task; MOST of the others."""
MOST = 500


class Paper(NamedTuple):
    """A number of the paper."""

    value: float
    """A rate in 0..1."""
    model: str
    where: str


@dataclass(frozen=True)
class Row:
    """One number of results/base.csv."""

    model: str
    task: str
    style: str
    """The solutions in this style alone; "" for all."""
    metric: str
    """Of a Point; "share" (of a style among greedy solutions), "false positives" (among right greedy solutions)."""
    k: int
    value: float
    low: float
    high: float
    problems: int
    """Problems (points: forms) behind the value."""
    samples: int
    luck: float
    """What the commonest answer scores on the task (`evaluation.Luck.by_kind`); NaN beside what is not the accuracy of
    one answer a problem: shares, points, pass@k with k > 1."""
    paper: float
    """NaN where the paper has none."""
    paper_model: str
    where: str
    """In the paper."""
    weights: str
    """Beginning of `models.identity` of the folder that was measured."""


def wanted(task: str) -> int:
    """How many test problems of a task the table is made of; 0 for a task that it does not have."""
    known = any(point.task == task for point in POINTS)
    return PROBLEMS.get(task, MOST) if known else 0


def paper(model: str, task: str, metric: str, k: int) -> Paper | None:
    """The paper's number beside one of ours, None where there is none."""
    for point in POINTS:
        if point[:3] == (task, metric, k) and point.entry:
            entry = entry_of(point.entry)
            for name in BESIDE.get(model, ()):
                if name in entry["values"]:
                    found = entry["values"][name]
                    if isinstance(found, list):
                        found = found[0]  # of the iterations, the base model
                    elif isinstance(found, dict):
                        found = found[metric.replace("@k", f"@{k}")]
                    return Paper(found / 100, name, entry["where"])
    return None


def measure(name: str, model: Path, config: Common, most: int = 0) -> list[Row]:
    """All rows of a base model; `most` test problems of a task at most, unless 0. Raises as evaluation does."""
    rows, weights = [], identity(model)[:12]
    for task_name in dict.fromkeys(point.task for point in POINTS):
        start = time.monotonic()
        task = load_task(task_name)
        problems = task.test[: min(wanted(task_name), most or wanted(task_name))]
        points = [point for point in POINTS if point.task == task_name]
        decoded = evaluation.greedy(model, task, problems, config)
        found = _numbers(name, model, task, problems, points, decoded, config)
        luck = evaluation.luck(task, problems)
        chance = luck.by_kind if luck else math.nan
        rows += [_row(name, task_name, number, chance, weights) for number in found]
        if task.styles:
            rows += _by_style(name, task, problems, decoded, chance, weights, config)
        print(f"{name} on {task_name}: {time.monotonic() - start:.0f} s", flush=True)
    return rows


def _numbers(
    name: str,
    model: Path,
    task: Task,
    problems: Sequence[Problem],
    points: Sequence[Point],
    decoded: Outcome,
    config: Common,
) -> list[Evaluation]:
    n = max((point.k for point in points if "@" in point.metric), default=0)
    drawn = None
    if n and name in SIZES:
        drawn = evaluation.sampled(model, task, problems, n, 0, config)
    found: list[Evaluation | None] = []
    for point in points:
        if point.metric == "greedy":
            found.append(decoded.pass_at_k(1))
        elif point.metric == "points":
            found.append(evaluation.exam_points(decoded, problems))
        elif drawn:
            found.append(
                drawn.majority() if "majority" in point.metric else drawn.pass_at_k(point.k)
            )
    return [number for number in found if number]


def _row(model: str, task: str, found: Evaluation, luck: float, weights: str) -> Row:
    beside = paper(model, task, found.metric, found.k) or Paper(math.nan, "", "")
    one_answer = found.metric != "points" and (found.metric != "pass@k" or found.k == 1)
    return Row(
        model,
        task,
        "",
        **asdict(found),
        luck=luck if one_answer else math.nan,
        paper=beside[0],
        paper_model=beside[1],
        where=beside[2],
        weights=weights,
    )


def _by_style(
    model: str,
    task: Task,
    problems: Sequence[Problem],
    decoded: Outcome,
    luck: float,
    weights: str,
    config: Common,
) -> list[Row]:
    def row(style: str, metric: str, found: Interval, n: int, luck: float = math.nan) -> Row:
        name, no_paper = task.name, (math.nan, "", "")
        return Row(model, name, style, metric, 1, *found[:3], n, 1, luck, *no_paper, weights)

    styled = styles.read(decoded, task, problems, config)
    rows = []
    for one in styled.rows():
        if one.n:
            share = Interval(one.share, one.share_low, one.share_high, len(problems))
            rows.append(row(one.style, "share", share, share.n))
            within = Interval(one.correct, one.low, one.high, one.n)
            rows.append(row(one.style, "greedy", within, one.n, luck))
    wrong = styled.false_positives()
    if wrong and wrong.n:
        rows.append(row("", "false positives", wrong, wrong.n))
    return rows


def known(names: Sequence[str], project: Path = PROJECT) -> list[str]:
    """The names, or all of the ladder if there are none. Raises ConfigError for a model that is not there."""
    for name in names or LADDER:
        if name not in LADDER:
            raise ConfigError(f"no base model {name!r}; there are {', '.join(LADDER)}")
        if not (project / "models" / name / "config.json").is_file():
            raise ConfigError(
                f"no model in {project / 'models' / name}; `restem pretrain {name}` makes it"
            )
    return list(names or LADDER)


def make(names: Sequence[str], most: int, config: Common, project: Path = PROJECT) -> list[Row]:
    """The rows of the base models `names`, in the ladder's order. Raises ConfigError for most < 0."""
    if most < 0:
        raise ConfigError(f"--test-problems is {most}; it must be at least 0")
    grader("programs", config.unsafe_programs)  # refuses now rather than after the first tasks
    config = replace(config, max_new_tokens=min(config.max_new_tokens, LONGEST))
    return [
        row
        for name in LADDER
        if name in names
        for row in measure(name, project / "models" / name, config, most)
    ]


def keep(path: Path, rows: Sequence[Row]) -> None:
    """Put rows into results/base.csv; those of models that are not among them stay."""
    models = {row.model for row in rows}
    others = [row for row in read(path) if row.model not in models] if path.is_file() else []
    order = list(LADDER)
    write(path, sorted([*rows, *others], key=lambda row: order.index(row.model)))


def write(path: Path, rows: Iterable[Row]) -> None:
    """Rows as CSV: rates with four decimals, nothing for NaN."""

    def text(value: object) -> object:
        if isinstance(value, float):
            return "" if math.isnan(value) else f"{value:.4f}"
        return value

    def save(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(field.name for field in fields(Row))
            writer.writerows([text(value) for value in asdict(row).values()] for row in rows)

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, save)


def read(path: Path) -> list[Row]:
    """The inverse of write, up to rounding. Raises ConfigError for a file that is not like that."""
    types = {field.name: str(field.type) for field in fields(Row)}

    def value(name: str, text: str) -> int | float | str:
        if types[name] == "float":
            return float(text) if text else math.nan
        return int(text) if types[name] == "int" else text

    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {name: value(name, row[name]) for name in types} for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"cannot read {path}: {error!r}") from error
    return [Row(**row) for row in rows]  # type: ignore[arg-type]
