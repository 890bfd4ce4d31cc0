"""Engines draw samples from a model: prompts, n, sampling, seed -> n completions a prompt.

    engine.generate(prompts, n, sampling, seed) -> list[list[Completion]]

torch_engine.py runs any Hugging Face causal LM on CPU and GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from restem_lib import UserError


class PromptError(UserError, ValueError):
    """A prompt that the model cannot take."""


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
