"""Sampling from Llama-like models, with every shared key stored, and attended to, once.

What a row attends to has three parts: what all prompts of a call begin with (few-shot examples),
the rest of its prompt, which its n samples share, and what it has written itself. In the first two
the queries of all rows that share the keys make one matrix product; only the third is a row's own.
Each part is attended to by itself, and the three are merged by their masses (log-sum-exp).

Rows that begin together are a cohort. They are always at the same step, so their own keys need
neither mask nor padding, and one that finishes leaves at once. When enough rows are free a new
cohort begins beside those in flight. All cohorts go through the weights together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from restem_lib.engines import native
from restem_lib.engines.drawing import Draws
from restem_lib.engines.llama import Decoder
from restem_lib.engines.parts import Part, attend, attend_within, merge
from restem_lib.engines.rows import States, Waiting

REFILL = 0.25
"""Share of the rows that must be free before a new cohort begins: smaller cohorts would be many."""
ROOM = 32
"""Places for new keys that a cohort begins with; doubled whenever they are full."""
NARROW = 16
"""Fewer keys than this, and the products of small matrices take a slow path: zeros make up for it."""


class Cohorts:
    """How `TorchEngine` computes a Llama-like model."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.spare: list[Tensor] = []
        """Memory of cohorts that are gone: pages that are new to a process cost more than what is written there. Not on
        GPUs, where torch itself keeps memory."""

    def prefill(self, shared: States, own: list[list[int]]) -> tuple[States, Tensor]:
        """Prompts after their shared states, longest first: their own states, logits [B, V]."""
        decoder, count, width = self.decoder, len(own), len(own[0])
        decoder.join()
        common = shared[0][0].shape[2] if shared else 0
        device = decoder.head.weight.device
        ids = torch.tensor([one + one[-1:] * (width - len(one)) for one in own], device=device)
        place = torch.arange(width, device=device)
        decoder.reserve(common + width)
        states: States = []

        def attend(i: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            keys, values = (
                x.view(count, width, *x.shape[1:]).transpose(1, 2).contiguous()
                for x in (keys, values)
            )
            states.append((keys, values))
            before = shared[i] if shared else None
            return attend_within(decoder.blocks[i], queries, keys, values, before)

        x = decoder.run(ids.flatten(), (common + place).repeat(count), attend)
        last = torch.tensor([i * width + len(one) - 1 for i, one in enumerate(own)], device=device)
        return states, decoder.logits(x[last])

    def decode(self, shared: States, queue: Iterator[Waiting], rows: int, draws: Draws) -> None:
        """Draw until the queue is empty and all rows are finished, `rows` at a time."""
        longest = draws.sampling.max_new_tokens
        flying: list[Cohort] = []
        waiting: Waiting | None = next(queue)
        while True:
            free = rows - sum(map(len, flying))
            while waiting is not None and free >= max(1, REFILL * rows):
                if len(waiting):
                    new = waiting[:free]
                    flying.append(Cohort(self.decoder, self.spare, shared, new, longest))
                    free, waiting = free - len(flying[-1]), waiting[free:]
                else:
                    waiting = next(queue, None)
            if not flying:
                return
            self._step(flying, draws)
            flying = [cohort for cohort in flying if len(cohort)]

    def _step(self, flying: list[Cohort], draws: Draws) -> None:
        """Feed every row its last token and draw the next."""
        decoder, sizes = self.decoder, [len(cohort) for cohort in flying]
        decoder.reserve(max(cohort.longest + cohort.step for cohort in flying))
        positions = torch.cat([cohort.length + cohort.step - 1 for cohort in flying])
        for cohort in flying:
            cohort.make_room()

        def attend(i: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            parts = zip(flying, *(x.split(sizes) for x in (queries, keys, values)), strict=True)
            done = [cohort.attend(i, *part) for cohort, *part in parts]
            return torch.cat(done) if len(done) > 1 else done[0]

        x = decoder.run(torch.cat([cohort.token for cohort in flying]), positions, attend)
        task = torch.cat([cohort.task for cohort in flying])
        step = torch.cat([torch.full_like(cohort.task, cohort.step) for cohort in flying])
        tokens, finished = draws.draw(decoder.logits(x), task, step, task >= 0)
        first = 0
        for cohort, own in zip(flying, tokens.split(sizes), strict=True):
            cohort.token = own
            cohort.step += 1
            last = first + len(own)
            cohort.drop([row - first for row in finished if first <= row < last])
            first = last


class Cohort:
    """Rows [R] that began together, in any order; they leave when they finish."""

    def __init__(
        self,
        decoder: Decoder,
        spare: list[Tensor],
        shared: States,
        waiting: Waiting,
        most: int,
    ) -> None:
        low, high = int(waiting.prompt.min()), int(waiting.prompt.max()) + 1
        self.blocks, self.shared, self.spare = decoder.blocks, shared, spare
        self.most = most + NARROW
        """Places for new keys that will do for ever."""
        self.common = shared[0][0].shape[2] if shared else 0
        self.token, self.task = waiting.token, waiting.task
        self.prompt, self.length = waiting.prompt - low, waiting.length
        """Which prompt of this cohort; tokens of the whole prompt, shared ones included."""
        self.longest = int(self.length.max())
        self.step = 1
        """Tokens drawn so far."""
        width = self.longest - self.common
        like, rows = waiting.states[0][0], len(self.task)
        capped = any(block.cap is not None for block in self.blocks)
        self.native = not capped and native.can(like)
        self.prompts = [
            (native.packed(keys) if self.native else keys, values)
            for keys, values in (
                (keys[low:high, :, :width], values[low:high, :, :width])
                for keys, values in waiting.states
            )
        ]
        own = self.length.new_zeros(high - low).scatter_(0, self.prompt, self.length - self.common)
        self.hidden = torch.arange(width, device=own.device) >= own[:, None]
        """Where a prompt [P, width] is shorter than the longest."""
        shape = len(waiting.states), 2, rows, like.shape[1], min(ROOM, self.most), like.shape[3]
        self.own = self._take(shape, like)
        """New keys and values of all blocks, [blocks, 2, R, heads, room, size]."""
        self._arrange()

    def __len__(self) -> int:
        return len(self.task)

    def make_room(self) -> None:
        """See that the next key has a place."""
        room = self.own.shape[4]
        if self.step + NARROW > room < self.most:
            old = self.own[:, :, : len(self), :, : self.step - 1]
            outgrown = self.memory
            self.own = self._take(
                (*old.shape[:4], min(2 * room, self.most), old.shape[5]), like=old
            )
            self.own[..., : self.step - 1, :] = old
            self._spare(outgrown)

    def _take(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory of this shape: spare if there is enough, else new, for which too small a piece goes."""
        size = math.prod(shape)
        self.spare.sort(key=len)
        fitting = [i for i, memory in enumerate(self.spare) if len(memory) >= size]
        if fitting:
            self.memory = self.spare.pop(fitting[0])
        else:
            del self.spare[:1]
            self.memory = like.new_empty(size)
        taken = self.memory[:size].view(shape)
        # Native code reads only what was written; matrix products read NARROW places.
        return taken if self.native else taken.zero_()

    def _spare(self, memory: Tensor) -> None:
        if memory.device.type == "cpu":
            self.spare.append(memory)

    def drop(self, rows: list[int]) -> None:
        """Take finished rows out; rows from the end move into their places."""
        if not rows:
            return
        gone, left = set(rows), len(self) - len(rows)
        holes = [row for row in rows if row < left]
        movers = [row for row in range(left, len(self)) if row not in gone]
        to, origin = (torch.tensor(at, device=self.task.device) for at in (holes, movers))
        if holes:
            self.own[:, :, to, :, : self.step - 1] = self.own[:, :, origin, :, : self.step - 1]
        for name in ("token", "task", "prompt", "length"):
            x = getattr(self, name)
            if holes:
                x = x.index_copy(0, to, x[origin])
            setattr(self, name, x[:left])
        if left:
            self._arrange()
        else:
            self._spare(self.memory)

    def _arrange(self) -> None:
        """Forget prompts without rows; give each row a slot beside the other rows of its prompt."""
        count = len(self.hidden)
        each = self.prompt.bincount(minlength=count)
        if 4 * int((each > 0).sum()) <= 3 * count:
            kept = each.nonzero().flatten()
            self.prompts = [(keys[kept], values[kept]) for keys, values in self.prompts]
            self.hidden, each, count = self.hidden[kept], each[kept], len(kept)
            self.prompt = torch.searchsorted(kept, self.prompt)
        if self.native:  # which takes rows in any order
            return
        rows = torch.arange(len(self), device=self.task.device)
        self.side = int(each.max())
        order = self.prompt.argsort()
        rank = rows - (each.cumsum(0) - each)[self.prompt[order]]
        self.slot = torch.empty_like(rows)
        """Where each row is in the grid [P, side] of rows by prompt."""
        self.slot[order] = self.prompt[order] * self.side + rank
        self.grid = torch.zeros(count * self.side, dtype=torch.long, device=rows.device)
        """Which row is in a slot; an empty slot computes the first row, and nobody looks."""
        self.grid[self.slot] = rows
        self.ragged = bool(self.hidden.any())

    def attend(self, i: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of block i for the newest token of each row: [R, heads * size]."""
        block, (rows, heads, group, size) = self.blocks[i], queries.shape
        begin = max(0, self.step - block.window) if block.window else 0
        if self.native:
            seen = self._first(block.window), self.length - self.common
            done = native.attend(
                *(queries, block.scale, (keys, values), self.prompts[i], (self.prompt, *seen)),
                *(self.own[i], begin, self.step),
            )
        else:
            for store, new_ones in zip(self.own[i], (keys, values), strict=True):
                store[:rows, :, self.step - 1] = new_ones
            done = self._attend_unshared(i, queries, begin)
        if self.shared:
            turned = queries.transpose(0, 1).reshape(heads, -1, size)
            far = self._far(block.window, self.common)
            hidden = None if far is None else far.repeat_interleave(group, 0)
            first, second = (state[0] for state in self.shared[i])
            both = attend(block, turned, first, second, hidden)
            done = merge(done, (x.view(heads, rows, group, -1).transpose(0, 1) for x in both))
        return done[0].flatten(1)

    def _attend_unshared(self, i: int, queries: Tensor, begin: int) -> Part:
        """Attention of block i on the rest of the prompts and on what the rows wrote."""
        block, (rows, heads, group, size) = self.blocks[i], queries.shape
        end = max(self.step, begin + NARROW)
        mine, said = (store[:rows, :, begin:end].flatten(0, 1) for store in self.own[i])
        later = torch.arange(begin, end, device=queries.device) >= self.step
        own = attend(block, queries.reshape(-1, group, size), mine, said, later)
        hidden = self.hidden.repeat_interleave(heads, 0)[:, None] if self.ragged else None
        far = self._far(block.window, self.common + self.hidden.shape[1])
        if far is not None:
            near = far[:, self.common :] | self.hidden[self.prompt]
            hidden = self._to_grid(near[:, None, None].expand(-1, heads, group, -1))
        theirs, told = (state.flatten(0, 1) for state in self.prompts[i])
        by_prompt = attend(block, self._to_grid(queries), theirs, told, hidden)
        done = own[0].view_as(queries), own[1].view(rows, heads, group, 1)
        return merge(done, (self._from_grid(x, heads, group) for x in by_prompt))

    def _first(self, window: int | None) -> Tensor:
        """The first key of the rest of its prompt that each row sees."""
        if window is None:
            return torch.zeros_like(self.length)
        return (self.length + self.step - window - self.common).clamp(min=0)

    def _far(self, window: int | None, keys: int) -> Tensor | None:
        """Which of the first `keys` of a whole prompt lie before each row's window; None: none do."""
        if window is None or self.longest + self.step <= window:
            return None
        at = torch.arange(keys, device=self.task.device)
        return (self.length + self.step - 1)[:, None] - at >= window

    def _to_grid(self, x: Tensor) -> Tensor:
        """[R, heads, group, K] -> [P * heads, side * group, K]: the rows of a prompt together."""
        grid = x[self.grid].view(len(self.hidden), self.side, *x.shape[1:])
        return grid.transpose(1, 2).reshape(len(self.hidden) * x.shape[1], -1, x.shape[3])

    def _from_grid(self, x: Tensor, heads: int, group: int) -> Tensor:
        """The way back."""
        grid = x.view(len(self.hidden), heads, self.side, group, -1).transpose(1, 2)
        return grid.flatten(0, 1)[self.slot]
