"""How a base model was made, for its card: shape, text, recipe and training, read from its folder."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from restem_lib.base_table import SIZES
from restem_lib.keys import ConfigError
from restem_lib.ladder import LADDER, Recipe
from restem_lib.records import Problem
from restem_lib.tasks.toy import bbh, corpus, steps

READ = 2_000
"""Documents of a task that the styles of the text are counted in."""


def made(folder: Path, recipe: Recipe) -> dict[str, Any] | None:
    """What made.yaml tells of a model's making, None where there is none.

    Raises ConfigError for one that is damaged or tells of another recipe.
    """
    path = folder / "made.yaml"
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found["device"], [process["commit"] for process in found["processes"]]
        [float(found[number]) for number in ("seconds", "tokens_per_second", "padding")]
        same = asdict(recipe).items() <= found["recipe"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged: {error!r}") from error
    if not same:
        raise ConfigError(f"{path} is of another recipe than the ladder's {recipe}")
    return found


def about(name: str, folder: Path) -> dict[str, str]:
    """A model of the ladder for its card: what is told -> the text. Raises ConfigError as `made` does."""
    recipe = LADDER[name]
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    variant = {} if name in SIZES else {"beside toy-s": _difference(recipe)}
    documents = ", ".join(
        f"{100 * share:.0f} % {task}" for task, (share, _, _) in corpus.MIXTURE.items()
    )
    slips = ", ".join(
        f"{task} {100 * slips:.0f} %" for task, (_, _, slips) in corpus.MIXTURE.items()
    )
    return variant | {
        "architecture": f"Llama, {shape['num_hidden_layers']} layers, width {shape['hidden_size']}, feed-forward "
        f"{shape['intermediate_size']}, {shape['num_attention_heads']} heads, {_parameters(folder):,} parameters, "
        "tied embeddings, bfloat16",
        "tokenizer": f"words, single digits and signs of the toy world: {shape['vocab_size']} tokens",
        "text": f"documents of all tasks ({documents}), drawn by `restem_lib/tasks/toy/corpus.py`; "
        "never a train or test problem, nor, but for a few puzzles (ARCHITECTURE.md), one in other words",
        "slips in the text": f"tried in {slips}; a program has none where none can be made"
        if recipe.slips
        else "none: every solution is right",
        "styles of maths in the text": _styles_read(),
        "styles of puzzles in the text": f"{100 * bbh.DIRECT:.0f} % answered directly",
        "recipe": f"`restem pretrain {name}`: {recipe.tokens:,} tokens, padding included, in {recipe.steps:,} steps of "
        f"about {recipe.batch:,}, AdamW, peak rate {recipe.peak_lr:g}, cosine, weight decay {recipe.weight_decay:g}, "
        f"seed {recipe.seed}",
        "trained": _trained(recipe, folder),
    }


def _difference(recipe: Recipe) -> str:
    plain = asdict(LADDER[recipe.size])
    return "the same but for " + ", ".join(
        "text without wrong solutions" if key == "slips" else f"{key} {value}"
        for key, value in asdict(recipe).items()
        if value != plain[key]
    )


@cache
def _styles_read() -> str:
    """The shares of styles in the pretraining text, as the step checker reads it."""
    told = []
    for task in ("toy-math", "toy-gsm", "toy-exam"):
        _, draw, slips = corpus.MIXTURE[task]
        rng, nothing = Random("card"), Problem("", "", "")
        found = Counter(steps.read(nothing, draw(rng, slips)[1]).style for _ in range(READ))
        shares = ", ".join(
            f"{100 * found[style] / READ:.0f} % {style}" for style in steps.STYLES if found[style]
        )
        told.append(f"{task} {shares}")
    return "; ".join(told) + f" (of {READ:,} documents each)"


def _trained(recipe: Recipe, folder: Path) -> str:
    found = made(folder, recipe)
    if found is None:
        return "not recorded (no made.yaml); `loss.csv` is its curve"
    commits = dict.fromkeys(process["commit"] for process in found["processes"])
    return (
        f"on {found['device']} in {float(found['seconds']):,.0f} s, {float(found['tokens_per_second']):,.0f} "
        f"tokens/s ({100 * float(found['padding']):.0f} % of them padding), at commit {', then '.join(commits)}; "
        "`loss.csv` is its curve"
    )


def _parameters(folder: Path) -> int:
    """Counted in the headers of the weights."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header: Mapping[str, Any] = json.loads(
                file.read(int.from_bytes(file.read(8), "little"))
            )
        total += sum(
            math.prod(found["shape"]) for key, found in header.items() if key != "__metadata__"
        )
    return total
