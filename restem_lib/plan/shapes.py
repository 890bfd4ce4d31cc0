"""Sizes of models, read from their configuration alone: no weights are loaded or fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restem_lib.models import TOYS, ModelError


@dataclass(frozen=True)
class Shape:
    """A dense Llama-like model, as its config.json gives it."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocab: int
    tied: bool
    """Whether the output layer is the embedding."""
    bias: bool = False
    """Whether queries, keys and values have one."""

    @property
    def layer_weights(self) -> int:
        """Weights of the matrices of all layers."""
        attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_size
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head_weights(self) -> int:
        """Weights of the output layer."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All weights."""
        biases = (self.heads + 2 * self.kv_heads) * self.head_size if self.bias else 0
        small = self.layers * (2 * self.hidden + biases) + self.hidden
        return self.layer_weights + self.head_weights * (1 if self.tied else 2) + small

    def adapters(self, rank: int) -> int:
        """Weights of LoRA adapters on all linear layers but the head."""
        attention = 2 * self.hidden + 2 * (self.heads + self.kv_heads) * self.head_size
        outputs = 2 * self.hidden + 3 * (self.hidden + self.intermediate)
        return self.layers * rank * (attention + outputs)

    def cache(self, width: int) -> int:
        """Bytes of keys and values a token, each of `width` bytes."""
        return 2 * self.layers * self.kv_heads * self.head_size * width

    def attention(self, tokens: float, context: float) -> float:
        """FLOPs of tokens that attend to so many others each."""
        return 4 * self.layers * self.heads * self.head_size * tokens * context


KNOWN = {
    "SmolLM2-135M-Instruct": Shape(30, 576, 1536, 9, 3, 64, 49152, tied=True),
    "Qwen2.5-0.5B": Shape(24, 896, 4864, 14, 2, 64, 151936, tied=True, bias=True),
    "Qwen2.5-1.5B": Shape(28, 1536, 8960, 12, 2, 128, 151936, tied=True, bias=True),
    "Qwen2.5-7B": Shape(28, 3584, 18944, 28, 4, 128, 152064, tied=False, bias=True),
}
"""Models of the presets, so that a plan needs no network."""


def of(name: str) -> Shape:
    """The shape of a model: a toy name, a folder, a .gguf file or a Hub id, of which config.json alone is fetched.

    Raises ModelError.
    """
    path = Path(name).expanduser()
    for folder in (path, TOYS / name):
        if (folder / "config.json").is_file():
            return _read(folder / "config.json", name)
    if path.suffix == ".gguf" and path.is_file():
        return _from_gguf(path)
    known = name.rpartition("/")[2].partition("@")[0].removesuffix(".gguf")
    if known in KNOWN:
        return KNOWN[known]
    if name.count("/") != 1 or path.suffix == ".gguf" or name.startswith((".", "/", "~")):
        raise ModelError(
            f"no model {name!r} to plan for: not a folder with config.json, not a .gguf file, not a toy model, "
            "not a Hub id (org/name)"
        )
    return _read(_from_hub(name), name)


def from_config(config: Mapping[str, Any], name: str) -> Shape:
    """The shape in the values of a config.json. Raises ModelError for a model that is not dense and Llama-like."""
    if any("expert" in key and value for key, value in config.items()):
        raise ModelError(f"{name} is a mixture of experts, which the cost model does not know")
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        return Shape(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_size=config.get("head_dim") or hidden // heads,
            vocab=config["vocab_size"],
            tied=config.get(
                "tie_word_embeddings", str(config.get("model_type")).startswith("gemma")
            ),
            bias=bool(config.get("attention_bias")) or config.get("model_type") == "qwen2",
        )
    except KeyError as error:
        raise ModelError(
            f"the config.json of {name} has no {error}: the cost model knows Llama-like models only"
        ) from error


def _read(path: Path, name: str) -> Shape:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a model's configuration")
    return from_config(values.get("text_config") or values, name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    repository, _, revision = name.partition("@")
    try:
        return Path(hf_hub_download(repository, "config.json", revision=revision or None))
    except Exception as error:  # the Hub client raises many kinds; each means the same to the user
        raise ModelError(
            f"cannot fetch the config.json of {name!r} from the Hub: {error}. Without a network give a folder that "
            f"holds it, or plan for one of {', '.join(KNOWN)}"
        ) from error


def _from_gguf(path: Path) -> Shape:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        prefix = reader.fields["general.architecture"].contents()

        def value(key: str) -> int:
            return int(reader.fields[f"{prefix}.{key}"].contents())

        names = {tensor.name for tensor in reader.tensors}
        heads, hidden = value("attention.head_count"), value("embedding_length")
        return Shape(
            layers=value("block_count"),
            hidden=hidden,
            intermediate=value("feed_forward_length"),
            heads=heads,
            kv_heads=value("attention.head_count_kv"),
            head_size=hidden // heads,
            vocab=len(reader.fields["tokenizer.ggml.tokens"].data),
            tied="output.weight" not in names,
            bias="blk.0.attn_q.bias" in names,
        )
    except (KeyError, ValueError, OSError, IndexError) as error:
        raise ModelError(f"cannot read the shape of a model from {path}: {error}") from error
