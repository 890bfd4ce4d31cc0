"""Points and bars: methods side by side, buckets, an exam, what fills a training set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restem_lib import tables
from restem_lib.figures.look import counted, legend, look
from restem_lib.mechanisms import QUARTERS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from restem_lib.measures import Line
    from restem_lib.mechanisms import Filling
    from restem_lib.tables import Values


def dots(rows: pd.DataFrame, by: str, ax: Axes, base: float | None = None) -> Axes:
    """A point with its 95 % interval for each value of column `by`, one below the other; `base` as a dotted line.

    Rows: as `tables.row` makes them, each value of `by` once.
    """
    for place, row in enumerate(rows.to_dict("records")):
        ends = [[100 * (row["value"] - row["low"])], [100 * (row["high"] - row["value"])]]
        style = {**look(str(row[by]), place), "linestyle": "", "label": None}
        ax.errorbar(100 * row["value"], place, xerr=ends, capsize=3, **style)
    if base is not None:
        ax.axvline(100 * base, color="0.35", linestyle=":", label="base")
        legend(ax)
    names = list(rows[by].unique())
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set(xlabel="test problems solved (%)")
    ax.set_title(f"ours: {counted(rows)}")
    return ax


def paper_dots(values: Mapping[str, float], label: str, ax: Axes) -> Axes:
    """Single numbers of the paper, hollow and in grey, in axes of their own."""
    names = list(values)
    ax.plot(list(values.values()), range(len(names)), "o", color="0.35", markerfacecolor="white")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set(xlabel=label, title="the paper")
    return ax


def buckets(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Sampled accuracy by bucket of difficulty, the base beside the trained model, with 95 % intervals."""
    names = list(rows["bucket"].unique())
    for place, method in enumerate(rows["method"].unique()):
        mine = rows[rows["method"] == method].set_index("bucket").loc[names]
        y = 100 * mine["value"].to_numpy()
        ends = abs(100 * mine[["low", "high"]].to_numpy().T - y)
        x = [at + 0.1 * (2 * place - 1) for at in range(len(names))]
        ax.errorbar(x, y, ends, capsize=3, **{**look(method, place), "linestyle": ""})
    sizes = rows.drop_duplicates("bucket")["n"]
    ax.set_xticks(range(len(names)), [f"{b}\nn = {n}" for b, n in zip(names, sizes, strict=True)])
    ax.set(ylabel="samples right (%)", title="ours: buckets of difficulty")
    legend(ax)
    return ax


def exam(
    rates: Mapping[str, Values], points: Mapping[str, Values], line: Line | None, ax: Axes
) -> Axes:
    """Exam points over accuracy on the transfer task, a point a model, and the line through the others, if any.

    With 95 % intervals both ways. Named are the models after human SFT; a dotted line leads to each from its base.
    """
    ends = np.array([0.0, max(rate.mean() for rate in rates.values()) * 1.1])
    if line:
        ax.plot(100 * ends, 100 * (line.start + line.slope * ends), color="0.7", zorder=0)
    at = {name: (100 * rate.mean(), 100 * points[name].mean()) for name, rate in rates.items()}
    for name, (x, y) in at.items():
        method = "ReST^EM" if name == "ReST^EM" else "human SFT" if "human" in name else "base"
        across, up = (tables.row(of[name], model=name) for of in (rates, points))
        spread = [
            [[100 * (one["value"] - one["low"])], [100 * (one["high"] - one["value"])]]
            for one in (across, up)
        ]
        style = {**look(method), "linestyle": "", "elinewidth": 0.8}
        ax.errorbar(x, y, xerr=spread[0], yerr=spread[1], **style)
    tuned = {name: at[f"{name}, human SFT"] for name in at if f"{name}, human SFT" in at}
    for name, (x, y) in tuned.items():
        ax.plot(*zip(at[name], (x, y), strict=True), color="0.8", linestyle=":", zorder=0)
        side = 1 if x == max(right for right, _ in tuned.values()) else -1
        ax.annotate(
            Path(name).name.removesuffix(".gguf"),
            (x, y),
            textcoords="offset points",
            xytext=(7 * side, 4),
            ha="left" if side > 0 else "right",
            size=8,
        )
    ax.set(xlabel="transfer task solved (%)", ylabel="exam (%)")
    n, asked = (next(iter(of.values())).shape[1] for of in (points, rates))
    unit = "forms" if n == 20 else "questions"
    ax.set_title(f"ours: the exam, n = {n} {unit}\nover transfer, n = {asked} problems")
    legend(ax)
    return ax


def filling(filled: Mapping[str, Filling], ax: Axes) -> Axes:
    """Shares of the training pairs by quarter of the problems, from the hardest to the easiest, stacked; a bar each."""
    import seaborn as sns

    shades = sns.color_palette("cividis", 4)
    names = list(filled)
    left = np.zeros(len(names))
    for place, (quarter, shade) in enumerate(zip(QUARTERS, shades, strict=True)):
        share = np.array([100 * one.quarters[:, place].mean() for one in filled.values()])
        ax.barh(range(len(names)), share, left=left, color=shade, label=quarter, edgecolor="white")
        left += share
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set(xlabel="share of the training pairs (%), by quarter of the problems")
    seeds = len(next(iter(filled.values())).pairs)
    ax.set_title(f"ours: which problems fill the training set, {seeds} seed{'s' * (seeds != 1)}")
    ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8)
    return ax
