"""Figures show what their rows say, and come out in the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from restem_lib import figures
from restem_lib.mechanisms import Filling


def rows(**columns: list[object]) -> pd.DataFrame:
    size = len(next(iter(columns.values())))
    value = np.linspace(0.2, 0.4, size)
    ends = {"low": value - 0.05, "high": value + 0.05, "n": 100, "seeds": 2}
    return pd.DataFrame({**columns, "value": value, **ends})


def heights(ax: plt.Axes) -> list[float]:
    return sorted(float(y) for line in ax.get_lines() for y in np.asarray(line.get_ydata(), float))


@pytest.fixture(autouse=True)
def closed() -> object:
    figures.theme()
    yield
    plt.close("all")


def test_curves_are_in_per_cent_with_their_intervals() -> None:
    _, ax = plt.subplots()
    given = rows(iteration=[0, 1, 0, 1], method=["ReST^EM"] * 2 + ["ReST"] * 2)
    figures.curves(given, "iteration", "method", ax)
    shown = heights(ax)
    for value in given[["value", "low", "high"]].to_numpy().ravel():
        assert min(abs(y - 100 * value) for y in shown) < 1e-9
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ReST^EM", "ReST"]
    assert "n = 100 problems, 2 seeds" in ax.get_title()


def test_a_method_looks_the_same_everywhere() -> None:
    _, (one, two) = plt.subplots(1, 2)
    figures.curves(rows(k=[1, 2], method=["ReST^EM"] * 2), "k", "method", one)
    figures.curves(rows(k=[1, 2, 1, 2], method=["base"] * 2 + ["ReST^EM"] * 2), "k", "method", two)
    looks = [ax.containers[-1].lines[0] for ax in (one, two)]
    assert looks[0].get_color() == looks[1].get_color()
    assert looks[0].get_marker() == looks[1].get_marker()


def test_other_models_are_named_and_hollow() -> None:
    _, ax = plt.subplots()
    given = rows(
        task=["t"] * 6,
        model=["a"] * 3 + ["b"] * 3,
        method=["ReST^EM", "ReST^EM", "human SFT"] * 2,
        iteration=[0, 1, 1] * 2,
    )
    figures.scaling(given, "a", ax)
    assert {text.get_text() for text in ax.texts} == {"a", "b"}
    filled = [c.lines[0].get_markerfacecolor() == "white" for c in ax.containers]
    assert sorted(filled) == [False, False, True, True]


def test_a_long_name_stands_between_the_line_and_the_methods_beside() -> None:
    fig, axes = plt.subplots(1, 3, figsize=(16, 5.2))
    given = rows(
        task=["t"] * 6,
        model=["folder/SmolLM2-135M-Instruct.gguf"] * 3 + ["other"] * 3,
        method=["ReST^EM", "ReST^EM", "human SFT"] * 2,
        iteration=[0, 1, 1] * 2,
    )
    given[["value", "low", "high"]] = 0.0, 0.0, 0.3
    figures.scaling(given, "SmolLM2-135M-Instruct.gguf", axes[0])
    fig.draw_without_rendering()
    assert {text.get_text() for text in axes[0].texts} == {"SmolLM2-135M-Instruct", "other"}
    one, two = (text.get_window_extent() for text in axes[0].texts)
    assert not one.overlaps(two)
    beside = [c.lines[0].get_xdata()[0] for c in axes[0].containers if "human" in c.get_label()]
    assert max(one.x1, two.x1) < axes[0].transData.transform((min(beside), 0))[0]


def test_a_logarithmic_axis_has_numbers_at_its_ticks() -> None:
    _, ax = plt.subplots()
    ax.set_xscale("log", base=2)
    figures.curves(rows(k=[1, 2, 4], method=["base"] * 3), "k", "method", ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "4"]


def test_bars_of_filling_reach_the_whole() -> None:
    _, ax = plt.subplots()
    quarters = np.array([[0.1, 0.2, 0.3, 0.4]])
    figures.filling({"x": Filling(quarters, np.array([3.0]), np.array([9.0]))}, ax)
    assert max(bar.get_x() + bar.get_width() for bar in ax.patches) == pytest.approx(100.0)


def test_an_alt_text_tells_rows() -> None:
    given = rows(task=["a", "b"], method=["ReST^EM", "base"])
    assert figures.told(given, "task", "method") == "(task, method) a, ReST^EM: 20%; b, base: 40%."


def test_a_figure_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fig, ax = plt.subplots()
        figures.curves(rows(k=[1, 2], method=["base"] * 2), "k", "method", ax)
        figures.show(fig, "two points, rising", tmp_path / name)
    for ending in (".png", ".svg", ".json"):
        one, two = ((tmp_path / name).with_suffix(ending).read_bytes() for name in ("one", "two"))
        assert one == two and b"two points, rising" in one
