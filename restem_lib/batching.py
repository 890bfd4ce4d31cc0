"""Kept pairs as token ids, the batches of an epoch, and the loss of a batch: what an M-step computes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from restem_lib.records import Pair
from restem_lib.store import seed_for

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GROUP = 16
"""Batches among which examples are sorted by length. More leave less padding, and batches less random."""


class Example(NamedTuple):
    """A pair as token ids: no loss on the prompt, loss on the target, which ends in the end-of-sequence token."""

    prompt: tuple[int, ...]
    target: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.target)


def tokens(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> Example:
    """Token ids of a pair. The prompt's are exactly those that the model saw when it was sampled."""
    prompt: list[int] = tokenizer(pair.prompt)["input_ids"]
    whole: list[int] = tokenizer(pair.prompt + pair.completion)["input_ids"]
    if whole[: len(prompt)] == prompt:
        target = whole[len(prompt) :]
    else:  # a token spans the boundary, which sampling can never produce
        target = tokenizer(pair.completion, add_special_tokens=False)["input_ids"]
    if target and target[-1] == tokenizer.eos_token_id:  # some tokenizers end every text themselves
        target = target[:-1]
    return Example(tuple(prompt), (*target, tokenizer.eos_token_id))


def batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """An epoch's batches of example numbers: each example once, neighbours in length together, in random order.

    Examples are shuffled, sorted by length within groups of GROUP batches, cut, and the batches shuffled again: little
    padding, yet no two epochs alike. A function of its arguments, so a resumed run continues the same order.
    """
    import numpy as np

    rng = np.random.default_rng(seed_for(seed, "batches", epoch))
    order = rng.permutation(len(lengths)).tolist()
    cut = []
    for start in range(0, len(order), GROUP * size):
        group = sorted(order[start : start + GROUP * size], key=lambda i: lengths[i])
        cut += [group[i : i + size] for i in range(0, len(group), size)]
    return [cut[i] for i in rng.permutation(len(cut))]


def distinct(batch: Sequence[Example]) -> list[tuple[Example, int]]:
    """The different examples of a batch and how often each is there.

    A model draws some solutions many times over, and equal lengths lie together in a batch: each is computed once and
    counts as often as it is there, which is the same gradient. (Copies then share their dropout, where there is any.)
    """
    return list(Counter(batch).items())


def completion_loss(
    model: PreTrainedModel, examples: Sequence[tuple[Example, int]], pad: int
) -> torch.Tensor:
    """Sum over the examples, times their counts, of -log p(target | prompt) (paper, equations 1 and 3); a scalar.

    Rows are padded on the right, where no causal model looks: it needs no mask, and any position scheme is right.
    Logits are computed for target tokens alone.
    """
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(example.length for example, _ in examples)
    rows: list[list[int]] = []
    places: list[int] = []
    labels: list[int] = []
    counts: list[int] = []
    for row, (example, count) in enumerate(examples):
        rows.append([*example.prompt, *example.target] + [pad] * (longest - example.length))
        first = row * longest + len(example.prompt) - 1  # which predicts the first target token
        places += range(first, first + len(example.target))
        labels += example.target
        counts += [count] * len(example.target)
    device = model.device
    ids, targets = torch.tensor(rows, device=device), torch.tensor(labels, device=device)
    wanted = torch.tensor(places, device=device)

    def pick(_: torch.nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (given[0].flatten(0, 1)[wanted],)

    whole: PreTrainedModel = getattr(model, "module", model)  # DDP has it inside
    hook = whole.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
    losses = cross_entropy(logits.float(), targets, reduction="none")
    return (losses * torch.tensor(counts, device=device)).sum()
