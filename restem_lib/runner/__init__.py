"""Run notebooks through papermill, strictly, and publish what they show.

papermill only warns about a parameter that no notebook has, and the status it leaves in a notebook
is wrong after a timeout, a dead kernel or an interrupt. So names and types are checked here before
any work, and `<out_dir>/status.json` alone says which notebook is done:

    <out_dir>/
        status.json     one entry a notebook: state, seconds, error, parameters, hash, provenance
        notebooks/      executed copies
        results/        what the notebooks wrote; claims/ has the verdicts of each
        figures/
"""

from __future__ import annotations

import argparse

from restem_lib.runner.plan import NOTEBOOKS, NotebookError, declared
from restem_lib.runner.publishing import publish
from restem_lib.runner.running import LONGEST_CELL, run

__all__ = ["NOTEBOOKS", "NotebookError", "declared", "publish", "run"]


def add_run(parser: argparse.ArgumentParser) -> None:
    """The arguments of `restem run`."""
    add = parser.add_argument
    add("notebooks", nargs="*", help="such as 00_tour, or a path (default: all of notebooks/)")
    _add_preset(parser)
    text = "change one key of the preset; may be given several times"
    add("-p", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=text)
    add("--again", action="store_true", help="run what is done already anew")
    text = "longest time for one cell, in seconds; 0: no limit (default: a day)"
    add("--timeout", type=float, default=LONGEST_CELL, metavar="S", help=text)


def add_publish(parser: argparse.ArgumentParser) -> None:
    """The arguments of `restem publish`."""
    text = (
        "of a preset that is for some notebooks only: these (default: all, and always all of cpu)"
    )
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help=text)
    _add_preset(parser)


def _add_preset(parser: argparse.ArgumentParser) -> None:
    text = "a name in params/, or the path of a .yaml file (default: cpu)"
    parser.add_argument("--preset", default="cpu", help=text)


def run_command(args: argparse.Namespace) -> int:
    """`restem run`. Raises ConfigError before any work."""
    again, timeout = args.again, args.timeout
    return run(args.notebooks, args.preset, args.overrides, again=again, cell_timeout=timeout)


def publish_command(args: argparse.Namespace) -> None:
    """`restem publish`. Raises NotebookError before anything is written."""
    publish(args.preset, args.notebooks)
