"""The forward pass of Llama-like models: fused projections, attention left to the caller.

Tokens come as one flat list [N], whatever rows they belong to; batches, padding and caches are the
caller's affair (cohorts.py). Weights stay the model's own: what changes them in place changes them here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm
from transformers import PreTrainedModel

from restem_lib.engines import native

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
"""Values of `model_type` whose layers are built as `Block` reads them."""
STEADY = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings that are the same whatever the length of the text."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(block, queries [N, kv heads, group, size], keys, values [N, kv heads, size]) -> [N, heads * size]."""


def is_llama_like(model: PreTrainedModel) -> bool:
    """Whether `Decoder` can run it: a known family, plain weights, steady positions."""
    config = model.config
    ropes = getattr(config, "rope_parameters", None) or {}
    kinds = [rope for rope in ropes.values() if isinstance(rope, dict)] or [ropes]
    return (
        config.model_type in FAMILIES
        and all(kind.get("rope_type", "default") in STEADY for kind in kinds)
        and not getattr(config, "use_bidirectional_attention", False)
        # Anything else, quantised or with an adapter, has a product of its own.
        and all(
            type(part) is nn.Linear
            for layer in model.model.layers
            for name, part in layer.named_modules()
            if name.endswith("_proj")
        )
    )


class Decoder:
    """A Llama-like model, block by block."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.inner: Any = model.model
        self.head: Any = model.lm_head
        self.cap: float | None = getattr(model.config, "final_logit_softcapping", None)
        self.blocks = [Block(layer) for layer in self.inner.layers]
        self._ropes: dict[str | None, tuple[Tensor, Tensor]] = {}
        self._length = 0
        self._made: tuple[torch.dtype, torch.device] | None = None

    def join(self) -> None:
        """Follow a model whose weights were replaced, moved or converted, not changed in place."""
        for block in self.blocks:
            block.join()
        weight = self.inner.embed_tokens.weight
        if self._made != (weight.dtype, weight.device):
            self._made, self._length = (weight.dtype, weight.device), 0

    def reserve(self, length: int) -> None:
        """Prepare positions below `length`."""
        if length <= self._length:
            return
        self._length = length = -(-length // 256) * 256
        weight = self.inner.embed_tokens.weight
        at = torch.arange(length, device=weight.device)[None]
        for kind in {block.rope for block in self.blocks}:
            named = () if kind is None else (kind,)
            cos, sin = self.inner.rotary_emb(weight, at, *named)
            half = cos.shape[-1] // 2  # the second half repeats the first
            self._ropes[kind] = cos[0, :, None, :half], sin[0, :, None, :half]

    def run(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Hidden states [N, width] of tokens [N] at their positions [N]."""
        x: Tensor = self.inner.embed_tokens(ids)
        ropes = {kind: (cos[positions], sin[positions]) for kind, (cos, sin) in self._ropes.items()}
        for i, block in enumerate(self.blocks):
            x = block.finish(x, attend(i, *block.project(x, *ropes[block.rope])))
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, width]."""
        logits: Tensor = self.head(_norm(x, self.inner.norm))
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


class Block:
    """One layer: its fused weights, and what its attention needs to know."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.layer, self.attention, self.mlp = layer, attention, mlp
        self.size: int = attention.head_dim
        self.kv_heads = attention.k_proj.out_features // self.size
        self.heads = attention.q_proj.out_features // self.size
        self.scale: float = attention.scaling
        # Mistral's window is the model's, others' a layer's; where neither is used the key can still be there.
        owner = attention.config if attention.config.model_type == "mistral" else attention
        self.window: int | None = getattr(owner, "sliding_window", None)
        self.cap: float | None = getattr(attention, "attn_logit_softcapping", None)
        # Only Gemma 3 has positions of several kinds, and its rotary embedding asks which.
        several = hasattr(attention, "is_sliding")
        self.rope: str | None = attention.layer_type if several else None
        self.silu = getattr(attention.config, "hidden_act", "") == "silu"
        self.join()

    def join(self) -> None:
        """Fuse the weights, if they are not, or no longer, one."""
        self.qkv = _fuse(self.attention.q_proj, self.attention.k_proj, self.attention.v_proj)
        self.gate_up = _fuse(self.mlp.gate_proj, self.mlp.up_proj)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [N, kv heads, group, size] and keys, both turned, and values [N, kv heads, size]."""
        qkv = linear(_norm(x, self.layer.input_layernorm), *self.qkv)
        qkv = qkv.view(len(x), self.heads + 2 * self.kv_heads, self.size)
        turned, values = qkv.split([self.heads + self.kv_heads, self.kv_heads], 1)
        if hasattr(self.attention, "q_norm"):
            queries, keys = turned.split([self.heads, self.kv_heads], 1)
            norms = self.attention.q_norm, self.attention.k_norm
            turned = torch.cat([_norm(queries, norms[0]), _norm(keys, norms[1])], 1)
            _turn(turned, turned.shape[1], cos, sin)
        else:
            _turn(qkv, turned.shape[1], cos, sin)
        queries, keys = turned.split([self.heads, self.kv_heads], 1)
        return queries.unflatten(1, (self.kv_heads, -1)), keys, values

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The block's output [N, width] from its input and what attention gave."""
        layer = self.layer
        sandwiched = hasattr(layer, "pre_feedforward_layernorm")
        out = self.attention.o_proj(attended)
        x = x + (_norm(out, layer.post_attention_layernorm) if sandwiched else out)
        norm = layer.pre_feedforward_layernorm if sandwiched else layer.post_attention_layernorm
        gate_up = linear(_norm(x, norm), *self.gate_up)
        if self.silu and native.can(gate_up):
            out = self.mlp.down_proj(native.gate(gate_up))
        else:
            gate, up = gate_up.chunk(2, -1)
            out = self.mlp.down_proj(self.mlp.act_fn(gate) * up)
        return x + (_norm(out, layer.post_feedforward_layernorm) if sandwiched else out)


def _norm(x: Tensor, norm: Any) -> Tensor:
    if type(norm).__name__.startswith("Gemma"):
        # Gemma keeps the weight less one, and multiplies in float32.
        wide = rms_norm(x.float(), x.shape[-1:], 1 + norm.weight.float(), norm.eps)
        return wide.to(x.dtype)
    if x.dim() == 2 and native.can(x):
        return native.norm(x, norm.weight, norm.variance_epsilon)
    return rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


def _turn(x: Tensor, heads: int, cos: Tensor, sin: Tensor) -> None:
    """Rotary embedding, in place, of the first heads of x [N, all heads, size]."""
    if native.can(x):
        native.turn(x, heads, cos, sin)
        return
    first, second = x[:, :heads].chunk(2, -1)
    crossed = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(crossed)


def _fuse(*parts: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """One weight, and one bias if there is any, for projections of the same input."""
    biases: list[Tensor] = [part.bias for part in parts if part.bias is not None]
    weights: list[Tensor] = [part.weight for part in parts]
    return _joined(weights), _joined(biases) if biases else None


def _joined(own: list[Tensor]) -> Tensor:
    """Parameters as one tensor, of which they become views: memory is taken once, a change of one is of both.

    Those that were joined before stay where they are.
    """
    lengths = [len(one) for one in own]
    first = own[0].detach()
    ends = [one.data_ptr() + one.nbytes for one in own]
    storages = {one.untyped_storage().data_ptr() for one in own}
    packed = all(one.is_contiguous() for one in own)
    if packed and len(storages) == 1 and [one.data_ptr() for one in own[1:]] == ends[:-1]:
        return first.as_strided((sum(lengths), *first.shape[1:]), first.stride())
    with torch.inference_mode(False):  # what is made in inference mode could never be trained
        whole = torch.cat([one.detach() for one in own])
    for one, view in zip(own, whole.split(lengths), strict=True):
        one.data = view
    return whole
