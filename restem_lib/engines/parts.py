"""Attention on a part of the keys, and how two parts make one.

A part's attention comes with the log of its mass, the sum of the exponentials of its scores: attention on
both parts is the mean of the two, weighted by their masses.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from restem_lib.engines.llama import Block

SCORES = 2**26
"""Bound on the scores of one part that are kept at a time."""
LONG = 256
"""Prompts longer than this go through a fused kernel, which keeps no matrix of scores."""

Part = tuple[Tensor, Tensor]
"""Attention on some of the keys, and the log of their mass."""


def attend(
    block: Block, queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None
) -> Part:
    """Attention [B, M, size] on a part of the keys [B, K, size], and the log of its mass [B, M, 1]."""
    most = max(1, SCORES // (len(queries) * keys.shape[1]))
    if queries.shape[1] > most:
        places = range(0, queries.shape[1], most)
        pieces = [
            attend(block, queries[:, at : at + most], keys, values, _rows(hidden, at, most))
            for at in places
        ]
        return torch.cat([out for out, _ in pieces], 1), torch.cat([mass for _, mass in pieces], 1)
    scores = (queries * block.scale) @ keys.mT
    if block.cap is not None:
        scores = block.cap * torch.tanh(scores / block.cap)
    if hidden is not None:
        # Finite, so that a part of which all is hidden has next to no mass, and not NaN.
        scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32)
    # The largest weight is exp(largest score) / mass.
    mass = scores.amax(-1, keepdim=True) - weights.amax(-1, keepdim=True).log()
    return weights.to(values.dtype) @ values, mass


def _rows(hidden: Tensor | None, first: int, count: int) -> Tensor | None:
    """What is hidden [..., M, K] from some of the queries; one that is for all of them stays."""
    if hidden is None or hidden.dim() < 2 or hidden.shape[-2] == 1:
        return hidden
    return hidden[..., first : first + count, :]


def merge(one: Part, other: Iterable[Tensor]) -> Part:
    """Attention on two parts of the keys, from the attention on each."""
    (out, mass), (more, its) = one, other
    share = torch.sigmoid(its - mass).to(out.dtype)
    return torch.lerp(out, more, share), torch.logaddexp(mass, its)


def attend_within(
    block: Block, queries: Tensor, keys: Tensor, values: Tensor, shared: Part | None
) -> Tensor:
    """Attention of whole prompts on themselves and on what is shared: [B * T, heads * size].

    Queries [B * T, heads, group, size]; keys and values [B, heads, T, size].
    """
    count, heads, width, size = keys.shape
    common = shared[0].shape[2] if shared else 0
    near = block.window is None or common + width <= block.window
    queries = queries.view(count, width, heads, -1, size)
    if width > LONG and near and shared is None and block.cap is None:
        turned = queries.flatten(2, 3).transpose(1, 2)
        out = scaled_dot_product_attention(
            turned, keys, values, is_causal=True, scale=block.scale, enable_gqa=True
        )
        return out.transpose(1, 2).reshape(count * width, -1)
    group = queries.shape[3]
    key = torch.arange(common + width, device=keys.device)
    query = key[common:, None]
    hidden = key > query
    if block.window is not None:
        hidden |= query - key >= block.window
    hidden = hidden.repeat_interleave(group, 0)
    by_prompt = queries.transpose(1, 2).reshape(count * heads, -1, size)
    own = attend(block, by_prompt, keys.flatten(0, 1), values.flatten(0, 1), hidden[:, common:])
    out, mass = (x.view(count, heads, width, group, -1).transpose(1, 2) for x in own)
    if shared:
        turned = queries.permute(2, 0, 1, 3, 4).reshape(heads, -1, size)
        far = None if near else hidden[:, :common].repeat(count, 1)
        both = attend(block, turned, shared[0][0], shared[1][0], far)
        back = (x.view(heads, count, width, group, -1).permute(1, 2, 0, 3, 4) for x in both)
        out, _ = merge((out, mass), back)
    return out.reshape(count * width, -1)
