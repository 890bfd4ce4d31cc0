"""The ladder of toy base models: their shapes and recipes. Imports nothing heavy: the command line lists them."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHAPES = {
    "toy-s": {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 4, "heads": 3},
    "toy-m": {"hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 4, "heads": 5},
    "toy-l": {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 5, "heads": 8},
}
"""Size -> width, feed-forward width, layers and heads."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a base model's weights, beside the code and the machine."""

    size: str
    tokens: int
    """Budget in row positions, padding (about an eighth) included."""
    seed: int = 0
    slips: bool = True
    """Whether the text holds wrong solutions too."""
    batch: int = 1280
    """Tokens a step, about."""
    peak_lr: float = 3e-3
    """Reached after the first 5 % of the steps; then a cosine down to a tenth."""
    weight_decay: float = 0.1

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.tokens // self.batch

    def lr(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        warmup = max(1, self.steps // 20)
        if step < warmup:
            return self.peak_lr * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.peak_lr * (0.55 + 0.45 * math.cos(math.pi * done))


LADDER = {
    "toy-s": Recipe("toy-s", 14_000_000),
    "toy-m": Recipe("toy-m", 14_000_000),
    "toy-l": Recipe("toy-l", 14_000_000, peak_lr=2e-3),
    "toy-s-seed1": Recipe("toy-s", 14_000_000, seed=1),
    "toy-s-seed2": Recipe("toy-s", 14_000_000, seed=2),
    "toy-s-no-slips": Recipe("toy-s", 14_000_000, slips=False),
}
"""The base models that the project ships; the last three show what hangs on the world's make."""
