"""Draw tokens from logits, and tell when a completion is finished."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from restem_lib.engines import Completion, LogitsError, Sampling


def choose(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """Draw one token a row by inverse CDF: logits [R, V], uniforms [R] float64 in [0, 1) -> [R].

    Temperature, top-k and top-p keep the tokens that `transformers` keeps: all that tie with the
    k-th, and the likeliest even where it alone exceeds top_p. Temperature 0 is argmax.

    >>> half = torch.tensor([0.5], dtype=torch.float64)
    >>> choose(torch.tensor([[0.0, 1.0]]), Sampling(1.0, 0, 1.0, 1), half)
    tensor([1])
    """
    logits = logits.float()
    if sampling.temperature == 0:
        return logits.argmax(-1)
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    # With the largest at 0 even a tiny temperature cannot overflow to NaN.
    scores = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    nucleus = sampling.top_p < 1
    if nucleus:
        scores, ids = scores.sort(stable=True)
    mass = scores.softmax(-1, dtype=torch.float64).cumsum(-1)
    total = mass[:, -1:]
    below = torch.zeros_like(total)
    if nucleus and mass.shape[-1] > 1:
        tail = mass[:, :-1]
        below = tail.masked_fill(tail > 1 - sampling.top_p, 0).amax(-1, keepdim=True)
    # Strictly below the total, so that the token found has a probability of its own.
    target = below + uniforms[:, None] * (total - below)
    target = target.minimum(total.nextafter(torch.zeros_like(total)))
    # NaN ends one past the last id: it must live until the caller reports the broken logits.
    place = torch.searchsorted(mass, target, right=True).clamp(max=mass.shape[-1] - 1)
    return (ids.gather(1, place) if nucleus else place).flatten()


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of tokens, special ones left out."""
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def tails(tokenizer: PreTrainedTokenizerBase, size: int) -> list[str | None]:
    """What each token id below `size` adds to a text, a separating space included.

    None where that is unclear: part of a character, or a change of what stands before it.
    """
    alone = ((i, decode(tokenizer, [i])) for i in range(size))
    word, before = next((i, text) for i, text in alone if text.strip() and "\ufffd" not in text)
    texts = [decode(tokenizer, [word, i]) for i in range(size)]
    return [
        text[len(before) :] if text.startswith(before) and "\ufffd" not in text else None
        for text in texts
    ]


class Draws:
    """What one call has drawn. Sample s of prompt p is task p * n + s.

    Each (prompt, sample, step) has a uniform number of its own, drawn from `seed` alone, so a
    sample's randomness does not depend on the rows that are computed beside it.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        tasks: int,
        sampling: Sampling,
        seed: int,
        eos: Tensor,
        tails: list[str | None],
        progress: Callable[[int], object] | None,
    ) -> None:
        self.tokenizer, self.sampling, self.progress = tokenizer, sampling, progress
        self.eos, self.tails = eos, tails
        lasts = {stop[-1] for stop in sampling.stop}
        ends = [tail is None or not lasts.isdisjoint(tail) for tail in tails]
        self.may_stop = torch.tensor(ends, dtype=torch.bool, device=eos.device)
        """Which tokens [V] can complete a stop string: those with its last character."""
        # One more, which is what -1 means: for rows that never had a task.
        size = tasks + 1, sampling.max_new_tokens
        self.tokens = torch.zeros(size, dtype=torch.long, device=eos.device)
        generator = torch.Generator().manual_seed(seed)
        self.uniforms = torch.rand(size, generator=generator, dtype=torch.float64).to(eos.device)
        self.completions: dict[int, Completion] = {}

    def draw(
        self, logits: Tensor, task: Tensor, step: Tensor, live: Tensor
    ) -> tuple[Tensor, list[int]]:
        """Draw token `step` of each row's task: ids [R], and the live rows that finish with it.

        Raises RuntimeError when a live row's logits are not finite.
        """
        token = choose(logits, self.sampling, self.uniforms[task, step])
        self.tokens[task, step] = token
        # -inf is a token that cannot be; NaN, +inf and a row of nothing else show in the maximum.
        broken = ~logits.amax(-1).isfinite()
        eos = torch.isin(token, self.eos)
        full = step == self.sampling.max_new_tokens - 1
        rows = (live & (broken | eos | full | self.may_stop[token])).nonzero().flatten()
        if not len(rows):
            return token, []
        facts = torch.stack([rows, task[rows], step[rows], broken[rows], eos[rows], full[rows]])
        finished = []
        for row, at, last, is_broken, is_eos, is_full in facts.T.tolist():
            if is_broken:
                raise LogitsError(
                    f"the model's logits are NaN or infinite at new token {last} of sample {at}: "
                    f"check the weights, or use a wider dtype than {logits.dtype}"
                )
            ids = self.tokens[at, : last + 1].tolist()
            completion = self._complete(ids, bool(is_eos), bool(is_full))
            if completion is not None:
                self.completions[at] = completion
                finished.append(row)
        if finished and self.progress is not None:
            self.progress(len(finished))
        return token, finished

    def _complete(self, ids: list[int], eos: bool, full: bool) -> Completion | None:
        if not (eos or full or self._may_end(ids)):
            return None
        text = decode(self.tokenizer, ids[:-1] if eos else ids)
        cuts = [cut for stop in self.sampling.stop if (cut := text.find(stop)) >= 0]
        if cuts:
            return Completion(text[: min(cuts)], len(ids), "stop")
        return Completion(text, len(ids), "eos" if eos else "length") if eos or full else None

    def _may_end(self, ids: list[int]) -> bool:
        """Whether a stop string may end in the last token, told from what the last few tokens add to a text."""
        longest, text = max(map(len, self.sampling.stop)), ""
        wanted = longest - 1 + len(self.tails[ids[-1]] or "")
        for one in reversed(ids):
            tail = self.tails[one]
            if tail is None:
                return True
            text = tail + text
            if len(text) >= wanted:
                break
        return any(stop in text for stop in self.sampling.stop)
