"""Draw samples from any Hugging Face decoder-only causal LM, on CPU and GPU.

A prompt is computed once for its n samples; what all prompts of a call begin with (few-shot
examples) is computed once for all. The rows of finished samples go to those that wait.

    prefill -> draw the first tokens -> admit -> step -> draw -> step -> draw -> ...

Llama-like models go through `cohorts.py`, all others through `any_model.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from restem_lib.engines import Completion, EngineError, Sampling, check, tokenise
from restem_lib.engines.any_model import AnyModel
from restem_lib.engines.cohorts import Cohorts
from restem_lib.engines.drawing import Draws, tails
from restem_lib.engines.llama import Decoder, is_llama_like
from restem_lib.engines.rows import States, Waiting
from restem_lib.models import out_of_memory

SHARED = 32
"""A common prefix of fewer tokens costs more to share than to compute again."""
PREFILL_TOKENS = 8192
"""Bound on the tokens of the prompts that are prefilled together, for the memory they take."""
PREFILL_LOGITS = 2**27
"""Bound on the logits of such a prefill."""
PREFILL_SCORES = 2**27
"""Bound on its attention scores, of one layer."""


class TorchEngine:
    """Draw samples from a causal LM; one with recurrent state raises ValueError.

    `rows` samples are computed at a time: more are faster and take more memory. A call that runs out
    of memory begins again with half the rows, and with prefills half as large, down to one row; later
    calls stay with what was enough. In float32 the texts do not depend on `rows`, but for rounding,
    which changes fewer than 1 in 100,000 tokens drawn. bfloat16 rounds sooner, and has no such bound.
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
        self.heads: int = config.num_attention_heads
        self.positions: int | None = getattr(config, "max_position_embeddings", None)
        llama_like = is_llama_like(model)
        self.path: Cohorts | AnyModel = Cohorts(Decoder(model)) if llama_like else AnyModel(model)
        self._tails: list[str | None] = []
        self._prefix: tuple[object, States] | None = None
        self._share = 1
        """Prefills stay within one `_share`-th of their bounds."""

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
        model, LogitsError when the model's logits are not finite, and EngineError when one row is
        too much for the memory.
        """
        check(n, sampling)
        ids = self.tokenise(prompts, sampling.max_new_tokens)
        if not ids:
            return []
        if sampling.stop and not self._tails:
            self._tails = tails(self.tokenizer, self.vocab)
        training = self.model.training
        self.model.eval()
        reported = 0
        try:
            while True:
                count = _Count(progress, reported)
                drawn = self._attempt(ids, n, sampling, seed, count)
                if drawn is not None:
                    return [[drawn[i * n + s] for s in range(n)] for i in range(len(ids))]
                reported = max(reported, count.seen)
                self._halve(len(ids) * n)
        finally:
            self.model.train(training)

    def _attempt(
        self,
        ids: list[list[int]],
        n: int,
        sampling: Sampling,
        seed: int,
        progress: Callable[[int], object],
    ) -> dict[int, Completion] | None:
        """All completions by task, None where memory ran out. What was computed is then let go with the frames."""
        adds = self._tails if sampling.stop else list[str | None]([""] * self.vocab)
        try:
            with torch.inference_mode():
                tasks = len(ids) * n
                draws = Draws(self.tokenizer, tasks, sampling, seed, self._eos(), adds, progress)
                self._sample(ids, n, draws)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None
        return draws.completions

    def _halve(self, tasks: int) -> None:
        """Work with half as much memory from now on. Raises EngineError where that is not possible."""
        self._prefix = None
        if isinstance(self.path, Cohorts):
            self.path.spare.clear()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        rows = min(self.rows, tasks)
        if rows == 1:
            raise EngineError(
                "out of memory with one sample at a time: lower max_new_tokens, take shorter prompts, a smaller model, "
                "dtype bfloat16, or smaller shards (problem_block, sample_block)"
            )
        self.rows, self._share = rows // 2, 2 * self._share
        print(
            f"note: out of memory with {rows} rows; trying again with {self.rows} "
            f"(rows: {self.rows} would spare the attempt)",
            flush=True,
        )

    def tokenise(self, prompts: Sequence[str], max_new_tokens: int) -> list[list[int]]:
        """Token ids of each prompt. Raises PromptError for one that is empty or leaves too little room."""
        return tokenise(self.tokenizer, prompts, max_new_tokens, self.positions)

    def _eos(self) -> Tensor:
        ends = self.model.generation_config.eos_token_id
        ids = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id} - {None}
        return torch.tensor(sorted(ids), dtype=torch.long, device=self.model.device)

    def _sample(self, ids: list[list[int]], n: int, draws: Draws) -> None:
        lengths = [len(own) for own in ids]
        common = min(_common(ids), min(lengths) - 1) if len(ids) > 1 else 0
        prefix = ids[0][:common] if common >= SHARED else []
        shared = self._shared(prefix) if prefix else []
        queue = self._prefilled(ids, len(prefix), shared, n, draws)
        self.path.decode(shared, queue, min(self.rows, len(ids) * n), draws)

    def _prefilled(
        self, ids: list[list[int]], common: int, shared: States, n: int, draws: Draws
    ) -> Iterator[Waiting]:
        """Prefill prompts, longest first, in batches; draw the first token of their samples."""
        device = self.model.device
        lengths = [len(own) for own in ids]
        for batch in _batches(lengths, common, self.vocab, self.heads, self._share):
            states, logits = self.path.prefill(shared, [ids[i][common:] for i in batch])
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
            states, _ = self.path.prefill([], [prefix])
            self._prefix = (prefix, weights), states
        return self._prefix[1]


def _common(ids: list[list[int]]) -> int:
    """Length of the longest common prefix."""
    low, high = min(ids), max(ids)
    pairs = enumerate(zip(low, high, strict=False))
    return next((i for i, (a, b) in pairs if a != b), len(low))


class _Count:
    """Reports finished completions beyond those that earlier attempts have reported."""

    def __init__(self, progress: Callable[[int], object] | None, reported: int) -> None:
        self.progress, self.reported, self.seen = progress, reported, 0

    def __call__(self, finished: int) -> None:
        before = max(self.seen, self.reported)
        self.seen += finished
        if self.progress is not None and self.seen > before:
            self.progress(self.seen - before)


def _batches(
    lengths: list[int], common: int, vocab: int, heads: int, share: int
) -> Iterator[list[int]]:
    """Prompts longest first, in batches within a share of the bounds: of the prompts alone, not of rows."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch:
            count, longest = len(batch) + 1, lengths[batch[0]]
            logits = count * (longest - lengths[i] + 1) * vocab
            tokens = count * (longest - common)
            scores = tokens * longest * heads
            sizes = (tokens, PREFILL_TOKENS), (logits, PREFILL_LOGITS), (scores, PREFILL_SCORES)
            if any(size * share > bound for size, bound in sizes):
                yield batch
                batch = []
        batch.append(i)
    yield batch
