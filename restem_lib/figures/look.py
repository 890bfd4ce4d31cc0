"""The one look of all figures, and how they are shown and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restem_lib.provenance import provenance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    "all at once, cap": (3, "*", "-"),
    "all at once, no cap": (9, "X", "-"),
    "train, greedy": (5, "H", "--"),
    "train, sampled": (9, "d", ":"),
    "test, greedy": ("0", "o", "-"),
    "student, iteration 1": (0, "o", "-"),
    "student, last iteration": (0, "d", "-"),
    "teacher": (3, "p", "-"),
    "fewer problems": (0, "o", "-"),
    "fewer samples of each": (0, "D", "--"),
}
"""Method -> its colour (place in the colour-blind palette, or a grey), marker and line, in all figures alike."""


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


def look(name: str, place: int = 0) -> dict[str, Any]:
    """The style of a series: that of its method, or the `place`-th of the palette where it is none."""
    import seaborn as sns

    palette = sns.color_palette("colorblind")
    colour, marker, line = LOOKS.get(name, (place, "osD^vPpX"[place % 8], "-"))
    colour = colour if isinstance(colour, str) else palette[colour]
    return {"color": colour, "marker": marker, "linestyle": line, "label": name}


def legend(ax: Axes) -> None:
    """The legend under the axes, where it hides nothing; each name once."""
    series = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ax.legend(
        series.values(),
        series,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=2,
        fontsize=9,
    )


def counted(rows: pd.DataFrame, what: str = "problems") -> str:
    """n and seeds of rows, as ranges where they differ.

    >>> import pandas as pd
    >>> counted(pd.DataFrame({"n": [200, 640], "seeds": [1, 5]}))
    'n = 200 to 640 problems, 1 to 5 seeds'
    """
    n, seeds = (_range(rows[name]) for name in ("n", "seeds"))
    return f"n = {n} {what}, {seeds} seed{'s' * (seeds != '1')}"


def _range(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return str(low) if low == high else f"{low} to {high}"


def told(rows: pd.DataFrame, *columns: str) -> str:
    """Rows as a sentence for an alt text: the columns, their values and the value in %, 40 rows at most."""
    shown = [
        f"{', '.join(Path(str(row[name])).name for name in columns)}: {row['value']:.0%}"
        for row in rows.head(40).to_dict("records")
    ]
    return f"({', '.join(columns)}) {'; '.join(shown)}."


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
