"""Figures: one function each, tidy rows -> axes; `show` displays, describes and saves them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restem_lib.provenance import provenance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from restem_lib.claims import Verdict
    from restem_lib.exact import HalfStep

METRICS = {
    "greedy": ("greedy pass@1", "o"),
    "pass@1": ("pass@1 at T=1", "s"),
    "pass@k": ("pass@{k} at T=1", "^"),
}
"""Metric -> its name in legends and its marker; the colour follows the order (colour-blind palette)."""


def theme() -> None:
    """The one look of all figures: quiet, colour-blind safe, the same bytes on every run."""
    import matplotlib as mpl
    import seaborn as sns

    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.95)
    mpl.rcParams.update(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
            "svg.hashsalt": "restem",
        }
    )


LOOKS = {
    "base": ("0.35", "x", ":"),
    "ReST^EM": (0, "o", "-"),
    "human SFT": (1, "s", "--"),
    "human SFT, terse": (1, "D", ":"),
    "ReST": (2, "^", "-"),
    "RFT": (4, "v", "--"),
    "STaR": (5, "P", "--"),
    "random control": (7, "<", ":"),
    "unfiltered": (6, ">", ":"),
    "distilled": (3, "p", "-"),
    "distilled, one a question": (3, "h", "--"),
    "own, one a question": (0, "d", "--"),
    "human, same questions": (1, "X", "--"),
    "3x samples": (8, "*", "--"),
    "train, greedy": (1, "s", "--"),
    "train, sampled": (4, "^", ":"),
    "test, greedy": (0, "o", "-"),
}
"""Method -> its colour (place in the colour-blind palette, or a grey), marker and line, in all figures alike."""


def look(name: str, place: int = 0) -> dict[str, Any]:
    """The style of a series: that of its method, or the `place`-th of the palette where it is none."""
    import seaborn as sns

    palette = sns.color_palette("colorblind")
    colour, marker, line = LOOKS.get(name, (place, "osD^vPpX"[place % 8], "-"))
    colour = colour if isinstance(colour, str) else palette[colour]
    return {"color": colour, "marker": marker, "linestyle": line, "label": name}


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
        ax.errorbar(shifted, y, spread, capsize=3, **style)
    n, seeds = int(rows["n"].min()), int(rows["seeds"].max())
    ax.set(xlabel=x, ylabel="test problems solved (%)")
    if not log and len(rows[x].unique()) < 8:
        ax.set_xticks(sorted(rows[x].unique()))
    ax.set_title(f"ours: n = {n} problems, {seeds} seed{'s' * (seeds > 1)}")
    ax.legend()
    return ax


def scaling(rows: pd.DataFrame, model: str, ax: Axes) -> Axes:
    """A task of notebook 02: ReST^EM of every model with its human SFT apart at the right; the controls of `model`.

    The notebook's one model is drawn filled, the others hollow.
    """
    last = int(rows["iteration"].max())
    apart = last + 0.5
    for name in rows["model"].unique():
        mine = rows[rows["model"] == name].copy()
        chosen = name == model
        if not chosen:
            mine = mine[mine["method"].isin(["ReST^EM", "human SFT"])]
        aside = mine["method"] != "ReST^EM"
        places = mine["iteration"].astype(float)
        mine["iteration"] = places.where(~aside, apart)
        order = {method: i for i, method in enumerate(mine.loc[aside, "method"].unique())}
        mine.loc[aside, "iteration"] += 0.22 * mine.loc[aside, "method"].map(order)
        curves(mine, "iteration", "method", ax, mark="" if chosen else Path(name).name)
    ax.set_xticks(range(last + 1))
    ax.axvline(last + 0.3, color="0.85", zorder=0)
    seeds = sorted({int(n) for n in rows["seeds"]})
    ax.set_title(
        f"ours: {rows['task'].iloc[0]}, n = {rows['n'].min()}, seeds: {', '.join(map(str, seeds))}"
    )
    ax.legend(fontsize=7)
    return ax


def dots(rows: pd.DataFrame, by: str, ax: Axes, base: float | None = None) -> Axes:
    """A point with its 95 % interval for each value of column `by`, one below the other; `base` as a dotted line.

    Rows: as `tables.row` makes them, each value of `by` once.
    """
    for place, (name, mine) in enumerate(rows.groupby(by, sort=False)):
        (row,) = mine.itertuples()
        ends = [[100 * (row.value - row.low)], [100 * (row.high - row.value)]]
        style = {**look(str(name), place), "linestyle": "", "label": None}
        ax.errorbar(100 * row.value, place, xerr=ends, capsize=3, **style)
    if base is not None:
        ax.axvline(100 * base, color="0.35", linestyle=":", label="base")
        ax.legend(fontsize=8)
    names = list(rows[by].unique())
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    n, seeds = int(rows["n"].min()), int(rows["seeds"].max())
    ax.set(xlabel="test problems solved (%)")
    ax.set_title(f"ours: n = {n} problems, {seeds} seed{'s' * (seeds > 1)}")
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
    ax.set_title("the paper")
    ax.legend()
    return ax


def forest(verdicts: Sequence[Verdict], ax: Axes) -> Axes:
    """Verdicts, one below the other: estimate, interval and margin in points, n and seeds at the right."""
    import seaborn as sns

    palette = sns.color_palette("colorblind")
    shown = {"holds": (palette[0], "o"), "does not hold": (palette[3], "X")}
    for place, one in enumerate(verdicts):
        colour, marker = shown.get(one.verdict, ("0.5", "D"))
        ends = [[100 * (one.estimate - one.low)], [100 * (one.high - one.estimate)]]
        ax.errorbar(100 * one.estimate, place, xerr=ends, color=colour, marker=marker, capsize=3)
        ax.plot([100 * one.margin] * 2, [place - 0.3, place + 0.3], color="0.6", linestyle="--")
        told = f"{one.verdict}, n = {one.n}, {one.seeds} seed{'s' * (one.seeds > 1)}"
        ax.text(1.02, place, told, transform=ax.get_yaxis_transform(), va="center", size=8)
    ax.axvline(0, color="0.85", zorder=0)
    ax.set_yticks(range(len(verdicts)), [f"{one.claim} {one.part}" for one in verdicts])
    ax.set_ylim(len(verdicts) - 0.5, -0.5)
    ax.set_xlabel("difference in points; dashed: the claim's margin")
    return ax


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
    n = int(rows["problems"].iloc[0])
    ax.set(
        ylabel="test problems solved (%)",
        ylim=(0, 102),
        title=f"ours: model organism, n = {n} problems",
    )
    ax.legend(loc="upper left")
    return ax


def paper_iterations(values: dict[str, Sequence[float]], ax: Axes) -> Axes:
    """The paper's own curve, in axes of its own: another model, another benchmark, not to be compared by height."""
    for (name, y), marker, line in zip(values.items(), "oDv", ("-", "--", ":"), strict=False):
        ax.plot(range(len(y)), y, color="0.35", marker=marker, linestyle=line, label=name)
    longest = max(map(len, values.values()))
    ax.set_xticks(range(longest), ["base", *(f"iteration\n{i}" for i in range(1, longest))])
    ax.set(
        ylabel="MATH test problems solved (%)",
        ylim=(0, 102),
        title="the paper: PaLM 2, MATH, greedy",
    )
    ax.legend(loc="upper left")
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


def told(rows: pd.DataFrame, *columns: str) -> str:
    """Rows as a sentence for an alt text: the columns' values and the value in %, 40 rows at most."""
    shown = [
        f"{', '.join(Path(str(getattr(row, name))).name for name in columns)}: {row.value:.0%}"
        for row in rows.head(40).itertuples()
    ]
    return "; ".join(shown) + "."


def show(fig: Figure, alt: str, path: Path) -> None:
    """Display a figure with its alt text and save it as PNG and SVG, with alt text and provenance inside.

    `path` has no ending: "figures/00_tour" gives figures/00_tour.png, .svg and .json.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    path.parent.mkdir(parents=True, exist_ok=True)
    stable = ("restem", "commit", "modified", "python", "torch", "transformers", "cpu")
    facts: dict[str, Any] = {"alt": alt, **{name: provenance()[name] for name in stable}}
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    fig.savefig(path.with_suffix(".png"), dpi=200, metadata={"Software": None, "Description": text})
    fig.savefig(
        path.with_suffix(".svg"), metadata={"Date": None, "Creator": None, "Description": text}
    )
    path.with_suffix(".json").write_text(
        json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    plt.close(fig)
    display(fig, metadata={"image/png": {"alt": alt}})
