"""Draw samples from any Hugging Face decoder-only causal LM, on CPU and GPU.

A prompt is computed once, its keys and values are copied to its n samples; what all prompts of a
call begin with (few-shot examples) is computed once for all. A finished row is refilled at once.

    prefill -> draw the first tokens -> admit -> step -> draw -> step -> draw -> ...
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, DynamicCache

from restem_lib.engines import Completion, PromptError, Sampling
from restem_lib.engines.drawing import Draws, tails
from restem_lib.engines.rows import Rows, States, Waiting

SHARED = 32
"""A common prefix of fewer tokens costs more to share than to compute again."""
PREFILL_TOKENS = 8192
"""Bound on the tokens of the prompts that are prefilled together, for the memory they take."""
PREFILL_LOGITS = 2**27
"""Bound on the logits of such a prefill."""


class TorchEngine:
    """Draw samples from a causal LM; one with recurrent state raises ValueError.

    `rows` samples are computed at a time: more are faster and take more memory. In float32 the
    texts do not depend on `rows`, but for rounding.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: int = 256
    ) -> None:
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        if model._is_stateful:
            raise ValueError(f"{type(model).__name__} has recurrent state: it cannot be sampled")
        self.model, self.tokenizer, self.rows = model, tokenizer, rows
        config = model.config.get_text_config()
        self.vocab: int = config.vocab_size
        self.positions: int | None = getattr(config, "max_position_embeddings", None)
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self._tails: list[str | None] = []
        self._prefix: tuple[object, States] | None = None

    def generate(
        self,
        prompts: Sequence[str],
        n: int,
        sampling: Sampling,
        seed: int,
        progress: Callable[[int], object] | None = None,
    ) -> list[list[Completion]]:
        """Draw n completions a prompt: [len(prompts)][n].

        `progress(k)` is called when k more completions are finished. Raises ValueError, before any
        work, for settings that make no sense and for a prompt that is empty or too long for the
        model, and RuntimeError when the model's logits are not finite.
        """
        _check(n, sampling)
        ids = self.tokenise(prompts, sampling.max_new_tokens)
        if not ids:
            return []
        stops, eos = self._may_stop(sampling.stop), self._eos()
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                tasks = len(ids) * n
                draws = Draws(self.tokenizer, tasks, sampling, seed, eos, stops, progress)
                self._sample(ids, n, draws)
        finally:
            self.model.train(training)
        return [[draws.completions[i * n + s] for s in range(n)] for i in range(len(ids))]

    def tokenise(self, prompts: Sequence[str], max_new_tokens: int) -> list[list[int]]:
        """Token ids of each prompt. Raises PromptError for one that is empty or leaves too little room."""
        ids: list[list[int]] = self.tokenizer(list(prompts))["input_ids"] if prompts else []
        for i, (prompt, own) in enumerate(zip(prompts, ids, strict=True)):
            if not own:
                raise PromptError(f"prompt {i} ({prompt[:40]!r}) has no tokens")
            if self.positions is not None and len(own) + max_new_tokens > self.positions:
                raise PromptError(
                    f"prompt {i} ({prompt[:40]!r}) has {len(own)} tokens and max_new_tokens is "
                    f"{max_new_tokens}, but the model has {self.positions} positions: "
                    "shorten the prompt or lower max_new_tokens"
                )
        return ids

    def _eos(self) -> Tensor:
        ends = self.model.generation_config.eos_token_id
        ids = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id} - {None}
        return torch.tensor(sorted(ids), dtype=torch.long, device=self.model.device)

    def _may_stop(self, stops: tuple[str, ...]) -> Tensor:
        """Which tokens [V] can complete a stop string: those with its last character."""
        if stops and not self._tails:
            self._tails = tails(self.tokenizer, self.vocab)
        lasts = {stop[-1] for stop in stops}
        may = [tail is None or not lasts.isdisjoint(tail) for tail in self._tails]
        return torch.tensor(may if stops else [False] * self.vocab, device=self.model.device)

    def _sample(self, ids: list[list[int]], n: int, draws: Draws) -> None:
        queue = self._prefilled(ids, n, draws)
        waiting: Waiting | None
        waiting = first = next(queue)
        rows = Rows(first.states, min(self.rows, len(ids) * n))
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

    def _prefilled(self, ids: list[list[int]], n: int, draws: Draws) -> Iterator[Waiting]:
        """Prefill prompts, longest first, in batches; draw the first token of their samples."""
        device = self.model.device
        lengths = [len(own) for own in ids]
        common = min(_common(ids), min(lengths) - 1) if len(ids) > 1 else 0
        prefix = ids[0][:common] if common >= SHARED else []
        shared = self._shared(prefix) if prefix else []
        for batch in _batches(lengths, self.vocab):
            states, logits = self._prefill(shared, [ids[i][len(prefix) :] for i in batch])
            prompt = torch.arange(len(batch), device=device).repeat_interleave(n)
            length = torch.tensor([lengths[i] for i in batch], device=device)[prompt]
            sample = torch.arange(n, device=device).repeat(len(batch))
            task = torch.tensor(batch, device=device)[prompt] * n + sample
            token, live = torch.zeros_like(task), torch.ones_like(task, dtype=torch.bool)
            for part in torch.arange(len(task), device=device).split(self.rows):
                first = logits[prompt[part]], task[part], token[part], live[part]
                token[part], finished = draws.draw(*first)
                live[part[finished]] = False
            yield Waiting(states, prompt, length, task, token)[live]

    def _shared(self, prefix: list[int]) -> States:
        """States of what all prompts begin with; kept for the next call until a weight changes."""
        weights = [(weight.data_ptr(), weight._version) for weight in self.model.parameters()]
        if self._prefix is None or self._prefix[0] != (prefix, weights):
            cache = DynamicCache()
            self._forward([prefix], 0, cache, keep=1)
            self._prefix = (prefix, weights), _states(cache)
        return self._prefix[1]

    def _prefill(self, shared: States, own: list[list[int]]) -> tuple[States, Tensor]:
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


def _common(ids: list[list[int]]) -> int:
    """Length of the longest common prefix."""
    low, high = min(ids), max(ids)
    pairs = enumerate(zip(low, high, strict=False))
    return next((i for i, (a, b) in pairs if a != b), len(low))


def _batches(lengths: list[int], vocab: int) -> Iterator[list[int]]:
    """Prompts longest first, in batches within the bounds: of the prompts alone, not of rows."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch:
            count, longest = len(batch) + 1, lengths[batch[0]]
            logits = count * (longest - lengths[i] + 1) * vocab
            if count * longest > PREFILL_TOKENS or logits > PREFILL_LOGITS:
                yield batch
                batch = []
        batch.append(i)
    yield batch


def _check(n: int, sampling: Sampling) -> None:
    wrong = {
        f"n is {n}, but must be at least 1": n < 1,
        f"temperature is {sampling.temperature}, but must be finite and 0 or more": not (
            0 <= sampling.temperature < math.inf
        ),
        f"top_k is {sampling.top_k}, but must be 0 (all) or more": sampling.top_k < 0,
        f"top_p is {sampling.top_p}, but must be in (0, 1]": not 0 < sampling.top_p <= 1,
        f"max_new_tokens is {sampling.max_new_tokens}, but must be at least 1": (
            sampling.max_new_tokens < 1
        ),
        f"stop is {sampling.stop!r}, but must not hold an empty string": "" in sampling.stop,
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(message)
