"""The figures of the first two notebooks: the loop in one picture, exact EM, the reward's errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from restem_lib.figures.look import legend

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from restem_lib.exact import HalfStep

METRICS = {
    "greedy": ("greedy pass@1", "o"),
    "pass@1": ("pass@1 at T=1", "s"),
    "pass@k": ("pass@{k} at T=1", "^"),
}
"""Metric -> its name in legends and its marker; the colour follows the order (colour-blind palette)."""


def iterations(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy over iterations with 95 % intervals.

    Rows: `model` ("base", "iteration 1", ..., "human SFT"), `metric` (a key of METRICS), `k`, `value`, `low`, `high`,
    `problems`. Human SFT is drawn apart, at the right.
    """
    import seaborn as sns

    order = [model for model in rows["model"].unique() if model != "human SFT"]
    apart = [*order, "human SFT"] if "human SFT" in set(rows["model"]) else order
    place = {model: i + 0.4 * (model == "human SFT") for i, model in enumerate(apart)}
    colours = sns.color_palette("colorblind")
    for (metric, (label, marker)), colour in zip(METRICS.items(), colours, strict=False):
        mine = rows[rows["metric"] == metric]
        if mine.empty:
            continue
        label = label.format(k=int(mine["k"].iloc[0]))
        for part, line, name in (
            (mine[mine["model"] != "human SFT"], "-", label),
            (mine[mine["model"] == "human SFT"], "", None),
        ):
            x = [place[model] for model in part["model"]]
            y = 100 * part["value"].to_numpy()
            spread = 100 * abs(part[["low", "high"]].to_numpy().T - part["value"].to_numpy())
            ax.errorbar(
                x, y, spread, color=colour, marker=marker, linestyle=line, capsize=3, label=name
            )
    ax.set_xticks(list(place.values()), [model.replace(" ", "\n") for model in place])
    low, high = int(rows["problems"].min()), int(rows["problems"].max())
    n = str(high) if low == high else f"{low} to {high}"
    ax.set(
        ylabel="test problems solved (%)",
        ylim=(0, 102),
        title=f"ours: n = {n} problems",
    )
    legend(ax)
    return ax


def paper_iterations(values: dict[str, Sequence[float]], ax: Axes) -> Axes:
    """The paper's own curve, in axes of its own: another model, another benchmark, not to be compared by height."""
    for (name, y), marker, line in zip(values.items(), "oDv", ("-", "--", ":"), strict=False):
        style: dict[str, Any] = {"color": "0.35", "marker": marker, "linestyle": line}
        ax.plot(range(len(y)), y, label=name, markerfacecolor="white", **style)
    longest = max(map(len, values.values()))
    ax.set_xticks(range(longest), ["base", *(f"iteration\n{i}" for i in range(1, longest))])
    ax.set(
        ylabel="MATH test problems solved (%)",
        ylim=(0, 102),
        title="the paper: PaLM 2, MATH, greedy",
    )
    legend(ax)
    return ax


def reward_errors(rows: pd.DataFrame, side: str, kind: str, ax: Axes) -> Axes:
    """Share of answers graded wrongly, by source and grader, with Wilson 95 % intervals.

    Rows: as `audit.Report.rows`; side: "equal" (rejected) or "wrong" (accepted); kind: a key of `audit.SUMS`.
    """
    import seaborn as sns

    mine = rows[(rows["side"] == side) & (rows["kind"] == kind)]
    sources = list(mine["source"].unique())
    graders = list(mine["grader"].unique())
    for i, (grader, colour, marker) in enumerate(
        zip(graders, sns.color_palette("colorblind"), "osD", strict=False)
    ):
        part = mine[mine["grader"] == grader].set_index("source").loc[sources]
        rate = 100 * part["rate"].to_numpy()
        spread = abs(100 * part[["low", "high"]].to_numpy().T - rate)
        y = [place + 0.22 * (i - 1) for place in range(len(sources))]
        ax.errorbar(
            rate, y, xerr=spread, color=colour, marker=marker, linestyle="", capsize=3, label=grader
        )
    for place, n in enumerate(mine.drop_duplicates("source")["n"]):
        ax.text(
            1, place - 0.34, f"n = {n:,}", transform=ax.get_yaxis_transform(), ha="right", size=8
        )
    ax.set_yticks(range(len(sources)), sources)
    ax.set_ylim(len(sources) - 0.5, -0.5)
    ax.set_xscale("symlog", linthresh=0.1)
    ax.set_xlim(-0.02, 100)
    ax.set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    what = {
        ("equal", "all"): "equal answers rejected (%)",
        ("wrong", "all"): "wrong answers accepted (%)",
        ("wrong", "by value"): "accepted of those wrong by value (%)",
    }
    ax.set_xlabel(what[side, kind])
    return ax


def elbo(steps: Sequence[HalfStep], ax: Axes) -> Axes:
    """The evidence lower bound over half-steps of exact EM, E- and M-steps told apart."""
    import seaborn as sns

    colours = dict(zip(("start", "E", "M"), sns.color_palette("colorblind"), strict=False))
    names = {"start": "start", "E": "after an E-step", "M": "after an M-step"}
    ax.plot([step.bound for step in steps], color="0.7", zorder=0)
    for kind, marker in (("start", "x"), ("E", "^"), ("M", "o")):
        places = [i for i, step in enumerate(steps) if step.step == kind]
        ax.plot(
            places, [steps[i].bound for i in places], marker, color=colours[kind], label=names[kind]
        )
    ax.axhline(0, color="0.7", linestyle=":")
    ax.set(xlabel="half-step", ylabel="lower bound on log p(success)", title="exact EM on a table")
    ax.legend(loc="lower right")
    return ax
