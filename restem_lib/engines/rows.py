"""The rows that a model computes together, and their keys and values.

Every row writes its next key at the same place of one buffer, the clock, and has its context
right-aligned before it. So a finished row can be refilled at once, by copying the keys and values
of the next prompt to the left of the clock, and a model needs only an attention mask and position
ids to know nothing of it. Contexts are contiguous: sliding windows stay right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

States = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, [rows, heads, positions, size of a head]."""


@dataclass
class _Clock:
    low: int
    """The first place of the buffer that any row still sees."""
    now: int
    """Where the next key goes."""


class _Layer(DynamicLayer):
    """Keys and values of one layer in a buffer that is written in place."""

    def __init__(self, clock: _Clock, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.clock, self.keys, self.values = clock, keys, values
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        low, end = self.clock.low, self.clock.now + 1
        self.keys[:, :, end - 1 : end] = key_states
        self.values[:, :, end - 1 : end] = value_states
        return self.keys[:, :, low:end], self.values[:, :, low:end]

    def get_seq_length(self) -> int:
        return self.clock.now - self.clock.low


@dataclass
class Waiting:
    """Samples [K] that have their first token and wait for a row."""

    states: States
    """Of their prompts, right-aligned."""
    prompt: Tensor
    """Which row of `states`."""
    length: Tensor
    task: Tensor
    token: Tensor

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, part: slice | Tensor) -> Waiting:
        of = (self.prompt[part], self.length[part], self.task[part], self.token[part])
        return Waiting(self.states, *of)


class Rows:
    """The rows [R] in flight.

    Prompts come longest first, so a waiting context always fits between 0 and the clock.
    """

    def __init__(self, like: States, count: int) -> None:
        keys = like[0][0]
        self.clock = _Clock(0, keys.shape[2])
        empty = [[x.new_zeros(count, x.shape[1], 0, x.shape[3]) for x in layer] for layer in like]
        self.layers = [_Layer(self.clock, *layer) for layer in empty]
        self.cache = Cache(layers=self.layers)
        self.token = torch.zeros(count, dtype=torch.long, device=keys.device)
        self.length, self.start = self.token.clone(), self.token + self.clock.now
        self.task = self.token - 1
        """-1 until a row has its first."""
        self.live, self.free = self.task >= 0, count
        self._move(slice(None))

    @property
    def step(self) -> Tensor:
        """Which token of its completion each row draws next."""
        return self.clock.now - self.start - self.length

    def admit(self, waiting: Waiting) -> int:
        """Fill free rows with samples; returns how many."""
        rows = (~self.live).nonzero().flatten()[: len(waiting)]
        taken, now = waiting[: len(rows)], self.clock.now
        for layer, states in zip(self.layers, taken.states, strict=True):
            for buffer, state in zip((layer.keys, layer.values), states, strict=True):
                width = min(now, state.shape[2])
                buffer[rows, :, now - width : now] = state[taken.prompt, :, -width:]
        self.task[rows], self.token[rows], self.length[rows] = taken.task, taken.token, taken.length
        self.start[rows], self.live[rows] = now - taken.length, True
        self.free -= len(rows)
        return len(rows)

    def finish(self, rows: list[int]) -> None:
        """Free rows; until they are refilled they compute on, and see nothing of before."""
        at = torch.tensor(rows, device=self.task.device)
        self.live[at], self.start[at], self.length[at] = False, self.clock.now, 0
        self.free += len(rows)

    def settle(self) -> None:
        """Drop the rows that stay free, once they are many."""
        self.clock.low = int(self.start.min())
        if 4 * self.free >= len(self.live):
            self._move(self.live.nonzero().flatten())
            self.free = 0

    def make_room(self) -> None:
        """See that the next key has a place."""
        if self.clock.now == self.layers[0].keys.shape[2]:
            self._move(slice(None))

    def _move(self, rows: Tensor | slice) -> None:
        """Keep these rows, and what they still see, at the front of a new buffer."""
        low, now = self.clock.low, self.clock.now
        capacity = now - low + max(64, (now - low) // 4)
        for layer in self.layers:
            for name in ("keys", "values"):
                old = getattr(layer, name)[rows, :, low:now]
                # Zeros: what the mask hides is still multiplied by 0 and must not be NaN.
                new = old.new_zeros(old.shape[0], old.shape[1], capacity, old.shape[3])
                new[:, :, : old.shape[2]] = old
                setattr(layer, name, new)
        self.task, self.token, self.live = self.task[rows], self.token[rows], self.live[rows]
        self.start, self.length = self.start[rows] - low, self.length[rows]
        self.clock.low, self.clock.now = 0, now - low
