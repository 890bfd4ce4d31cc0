"""Sampling from any Hugging Face decoder-only causal LM, by calling it as it is.

Slower than `cohorts.py`: a prompt's keys and values are copied to each of its n samples. A finished
row is refilled at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from restem_lib.engines.drawing import Draws
from restem_lib.engines.rows import Rows, States, Waiting


class AnyModel:
    """How `TorchEngine` computes a model that it knows nothing about."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    def prefill(self, shared: States, own: list[list[int]]) -> tuple[States, Tensor]:
        """Prompts after their shared states, longest first: states right-aligned, logits [B, V]."""
        device, count = self.model.device, len(own)
        common = shared[0][0].shape[2] if shared else 0
        width, shortest = len(own[0]), len(own[-1])
        # Padding on the right: nothing sees it, and contexts stay whole, as sliding windows need.
        padded = [ids + ids[-1:] * (width - len(ids)) for ids in own]
        cache = DynamicCache([tuple(x.expand(count, -1, -1, -1) for x in kv) for kv in shared])
        logits = self._forward(padded, common, cache, keep=width - shortest + 1)
        length = torch.tensor([len(ids) for ids in own], device=device)
        place = torch.arange(common + width, device=device) - (width - length)[:, None]
        place = place.clamp(min=0)[:, None, :, None]

        def align(x: Tensor) -> Tensor:
            return x.gather(2, place.expand(-1, x.shape[1], -1, x.shape[3]))

        states = [(align(keys), align(values)) for keys, values in _states(cache)]
        return states, logits[torch.arange(count, device=device), length - shortest]

    def decode(self, shared: States, queue: Iterator[Waiting], count: int, draws: Draws) -> None:
        """Draw until the queue is empty and all rows are finished, `count` rows at a time."""
        waiting: Waiting | None
        waiting = first = next(queue)
        rows = Rows(first.states, count)
        while True:
            while waiting is not None and rows.free:
                waiting = waiting[rows.admit(waiting) :] if len(waiting) else next(queue, None)
            if rows.free == len(rows.live):
                return
            rows.settle()
            finished: list[int] = []
            while not finished:
                rows.make_room()
                logits = self._step(rows)
                rows.token, finished = draws.draw(logits, rows.task, rows.step, rows.live)
            rows.finish(finished)

    def _forward(self, ids: list[list[int]], first: int, cache: Cache, keep: int) -> Tensor:
        """Run tokens [B, T] that follow `first` cached ones: the last logits [B, keep, V]."""
        tokens = torch.tensor(ids, device=self.model.device)
        seen = tokens.new_ones(len(ids), first + tokens.shape[1])
        positions = torch.arange(first, seen.shape[1], device=tokens.device).expand_as(tokens)
        return self._logits(tokens, seen, positions, cache, keep)

    def _step(self, rows: Rows) -> Tensor:
        """Feed each row its last token: logits [R, V]; the clock moves on."""
        clock, start = rows.clock, rows.start[:, None]
        seen = torch.arange(clock.low, clock.now + 1, device=start.device) >= start
        tokens, positions = rows.token[:, None], clock.now - start
        logits = self._logits(tokens, seen.long(), positions, rows.cache, keep=1)
        clock.now += 1
        return logits[:, -1]

    def _logits(
        self, tokens: Tensor, seen: Tensor, positions: Tensor, cache: Cache, keep: int
    ) -> Tensor:
        given: dict[str, Any] = {"position_ids": positions} if self._takes_positions else {}
        given |= {"past_key_values": cache, "use_cache": True, "logits_to_keep": keep}
        logits: Tensor = self.model(input_ids=tokens, attention_mask=seen, **given).logits
        return logits


def _states(cache: Cache) -> States:
    layers: list[Any] = cache.layers
    return [(layer.keys, layer.values) for layer in layers]
