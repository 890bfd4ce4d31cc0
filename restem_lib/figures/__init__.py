"""Figures: one function each, tidy rows -> axes; `show` displays, describes and saves them."""

from restem_lib.figures.lines import amounts, beside, curves, paper_curves, scaling
from restem_lib.figures.look import look, show, theme, told
from restem_lib.figures.points import buckets, dots, exam, filling, paper_dots
from restem_lib.figures.tour import elbo, iterations, paper_iterations, reward_errors

__all__ = [
    "amounts",
    "beside",
    "buckets",
    "curves",
    "dots",
    "elbo",
    "exam",
    "filling",
    "iterations",
    "look",
    "paper_curves",
    "paper_dots",
    "paper_iterations",
    "reward_errors",
    "scaling",
    "show",
    "theme",
    "told",
]
