"""Lines: accuracy over iterations, over k, over the amount of data; the paper's in axes of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restem_lib.figures.look import counted, legend, look

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def curves(rows: pd.DataFrame, x: str, by: str, ax: Axes, mark: str = "") -> Axes:
    """A line for each value of column `by` over column `x`, in % with 95 % intervals.

    Rows: as `tables.row` makes them, with the columns `x` and `by`. Series are shifted a little, so that their
    intervals can be told apart. `mark` tells further series of the same names apart: it is added to their labels, and
    they are drawn hollow. Axes with a logarithmic scale of x keep it.
    """
    names = list(rows[by].unique())
    log = ax.get_xscale() == "log"
    step = 0.02 * float(np.ptp(rows[x].to_numpy(float)) or 1)
    for place, name in enumerate(names):
        mine = rows[rows[by] == name].sort_values(x)
        y = 100 * mine["value"].to_numpy()
        spread = abs(100 * mine[["low", "high"]].to_numpy().T - y)
        off = place - (len(names) - 1) / 2
        places = mine[x].to_numpy(float)
        shifted = places * 1.03**off if log else places + step * off
        style = look(name, place)
        if mark:
            style |= {"label": f"{name}, {mark}", "markerfacecolor": "white"}
        # A mark at 0 % is whole even where the axis ends at 0.
        ax.errorbar(shifted, y, spread, capsize=3, clip_on=False, **style)
    ax.set(xlabel=x, ylabel="test problems solved (%)")
    _ticks(ax, rows[x].unique())
    ax.set_title(f"ours: {counted(rows)}")
    legend(ax)
    return ax


def scaling(rows: pd.DataFrame, model: str, ax: Axes) -> Axes:
    """A task of notebook 02: ReST^EM of every model with its human SFT apart at the right; the controls of `model`.

    The notebook's one model is drawn filled, the others hollow.
    """
    last = int(rows["iteration"].max())
    longest = max(len(_shown(name)) for name in rows["model"].unique())
    share = min(0.02 * longest, 0.5)  # of the width of the axes, for the names
    line = last + 0.1 + (last + 1) * share / (1 - share)
    apart = line + 0.2
    ends = []
    for name in rows["model"].unique():
        mine = rows[rows["model"] == name].copy()
        chosen = name == Path(model).name
        if not chosen:
            mine = mine[mine["method"].isin(["ReST^EM", "human SFT"])]
        aside = mine["method"] != "ReST^EM"
        places = mine["iteration"].astype(float)
        mine["iteration"] = places.where(~aside, apart)
        order = {method: i for i, method in enumerate(mine.loc[aside, "method"].unique())}
        mine.loc[aside, "iteration"] += 0.22 * mine.loc[aside, "method"].map(order)
        curves(mine, "iteration", "method", ax, mark="" if chosen else "other models")
        end = mine[~aside].sort_values("iteration").iloc[-1]
        ends.append((100 * float(end["value"]), _shown(name), float(end["iteration"])))
    low, height = ax.get_ylim()[0], float(np.ptp(ax.get_ylim()))
    for value, name, x in sorted(ends):
        low = max(value, low)
        ax.annotate(name, (x, low), textcoords="offset points", xytext=(6, 0), va="center", size=8)
        low += 0.04 * height  # the next name stands clear of this one
    _ticks(ax, range(last + 1))
    ax.axvline(line, color="0.85", zorder=0)
    ax.set_title(f"ours: {rows['task'].iloc[0]}, {counted(rows)}")
    legend(ax)
    return ax


def beside(loop: pd.DataFrame, others: pd.DataFrame, ax: Axes) -> Axes:
    """A method over its iterations, and others of one iteration apart at the right."""
    curves(loop, "iteration", "method", ax)
    last = int(loop["iteration"].max())
    names = list(others["method"])
    apart = others.assign(iteration=[last + 0.5 + 0.25 * i for i in range(len(names))])
    curves(apart, "iteration", "method", ax)
    ax.axvline(last + 0.25, color="0.85", zorder=0)
    _ticks(ax, range(last + 1))
    return ax


def amounts(rows: pd.DataFrame, whole: int, ax: Axes) -> Axes:
    """Accuracy over the number of training pairs' sources, as a share of all: fewer problems, or fewer samples of each.

    Rows have the columns `problems` and `samples`; the base has 0 of both and is the dotted line.
    """
    most = int(rows["samples"].max())
    problems = rows[(rows["samples"] == most)].assign(series="fewer problems")
    samples = rows[(rows["problems"] == whole)].assign(series="fewer samples of each")
    problems = problems.assign(share=problems["problems"] / whole)
    samples = samples.assign(share=samples["samples"] / most)
    both = [problems, samples]
    for place, mine in enumerate(both):
        mine = mine.sort_values("share")
        y = 100 * mine["value"].to_numpy()
        ends = abs(100 * mine[["low", "high"]].to_numpy().T - y)
        style = look(mine["series"].iloc[0], place)
        ax.errorbar(mine["share"] * 1.02**place, y, ends, capsize=3, **style)
    base = rows[rows["problems"] == 0]["value"].iloc[0]
    ax.axhline(100 * base, color="0.35", linestyle=":", label="base")
    ax.set_xscale("log", base=2)
    _ticks(ax, [share for mine in both for share in mine["share"] if share])
    ax.set(xlabel=f"share of {whole} problems x {most} samples", ylabel="test problems solved (%)")
    ax.set_title(f"ours: {counted(rows)}")
    legend(ax)
    return ax


def paper_curves(values: Mapping[str, Sequence[float]], x: Sequence[float], ax: Axes) -> Axes:
    """The paper's numbers, hollow and in grey, in axes of their own: other models on other benchmarks."""
    for (name, y), marker, line in zip(
        values.items(), "oDvs^p", ("-", "--", ":", "-.", "-", "--"), strict=False
    ):
        style: dict[str, Any] = {
            "color": "0.35",
            "markerfacecolor": "white",
            "marker": marker,
            "linestyle": line,
        }
        ax.plot(x[: len(y)], y, label=name, **style)
    _ticks(ax, x)
    ax.set_title("the paper")
    legend(ax)
    return ax


def _shown(model: str) -> str:
    """A model's name without its folder and file ending."""
    return Path(model).name.removesuffix(".gguf")


def _ticks(ax: Axes, x: Iterable[float]) -> None:
    """A tick at each x where they are few, and powers of two as numbers where the scale is logarithmic."""
    from matplotlib.ticker import NullLocator

    places = sorted({round(float(place), 3) for place in x})
    if ax.get_xscale() == "log":
        places = [place for place in places if places[-1] >= 2 * place] + places[-1:]
        # Labels of near ones would run together.
        places = [p for i, p in enumerate(places) if not i or p >= 1.3 * places[i - 1]]
        if len(places) > 6:
            places = [2.0**i for i in range(int(np.log2(places[-1])) + 1)]
        ax.xaxis.set_minor_locator(NullLocator())
    if len(places) <= 8:
        ax.set_xticks(places, [f"{round(place, 2):g}" for place in places])
