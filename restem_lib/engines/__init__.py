"""Engines draw samples from a model: prompts, n, sampling, seed -> n completions a prompt.

    engine.generate(prompts, n, sampling, seed) -> list[list[Completion]]

torch_engine.py runs any Hugging Face causal LM on CPU and GPU, vllm_engine.py those that vLLM knows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restem_lib import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptError(UserError, ValueError):
    """A prompt that the model cannot take: number `prompt` of those it was given."""

    def __init__(self, text: str, prompt: int = 0) -> None:
        super().__init__(text)
        self.prompt = prompt


class EngineError(UserError, RuntimeError):
    """An engine cannot be had here, or cannot go on; the text says what to do."""


class LogitsError(UserError, RuntimeError):
    """A model that does not give finite numbers."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: temperature, then top-k, then top-p, as `transformers` orders them.

    The paper's E-step uses temperature 0.7 and top-k 40; its pass@k uses temperature 1 and top-p 0.95.
    """

    temperature: float
    """0 is greedy decoding."""
    top_k: int
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float
    """Keep the smallest set of tokens with at least this probability; 1 keeps all."""
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    """A completion ends before the first of these strings."""


@dataclass(frozen=True)
class Completion:
    """What an engine returns for one sample."""

    text: str
    """Without prompt, special tokens or stop string."""
    tokens: int
    """Generated tokens, the end-of-sequence token included."""
    finish: str
    """"eos", "stop" or "length"."""


def check(n: int, sampling: Sampling) -> None:
    """Raise ValueError for settings that make no sense."""
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


def tokenise(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    positions: int | None,
) -> list[list[int]]:
    """Token ids of each prompt. Raises PromptError for one that is empty or leaves too little room."""
    ids: list[list[int]] = tokenizer(list(prompts))["input_ids"] if prompts else []
    for i, (prompt, own) in enumerate(zip(prompts, ids, strict=True)):
        if not own:
            raise PromptError(f"prompt {i} ({prompt[:40]!r}) has no tokens", i)
        if positions is not None and len(own) + max_new_tokens > positions:
            raise PromptError(
                f"prompt {i} ({prompt[:40]!r}) has {len(own)} tokens and max_new_tokens is "
                f"{max_new_tokens}, but the model has {positions} positions: "
                "shorten the prompt or lower max_new_tokens",
                i,
            )
    return ids
