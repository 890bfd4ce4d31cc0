"""Pretraining of the toy base models: small Llamas trained from scratch on the toy world's text.

What comes out is an ordinary Hugging Face folder. A run killed anywhere resumes from its last
checkpoint and ends in the same weights (same machine, threads and versions).
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from restem_lib.models import device as pick_device
from restem_lib.models import quick_bfloat16, save_model
from restem_lib.tasks import toy_math

SIZES = {
    "toy-s": {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 4, "heads": 3},
    "toy-m": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "heads": 6},
}
"""Width, feed-forward width, layers and heads of each model of the ladder."""

TOKENS = {"toy-s": 10_000_000, "toy-m": 8_000_000}
"""Training budget of each model that the project ships."""

ROW = 160
"""Tokens of a training row; no text of the world is longer."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the code and the machine."""

    size: str
    tokens: int
    """Budget in row positions, padding included (a few per cent)."""
    seed: int
    rows: int = 16
    """Rows of ROW tokens a step."""
    peak_lr: float = 3e-3
    """Reached after the first 5 % of the steps; then a cosine down to a tenth."""
    weight_decay: float = 0.1

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.tokens // (self.rows * ROW)

    def lr(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        warmup = max(1, self.steps // 20)
        if step < warmup:
            return self.peak_lr * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.peak_lr * (0.55 + 0.45 * math.cos(math.pi * done))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The world's tokenizer: whole words and single digits, each with the space before it.

    So `decode(encode(text)) == text` exactly. No token is added around a text; "<eos>" ends a
    document and doubles as the token that begins one.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    pieces = pre_tokenizers.Split(
        Regex(r"\n####| ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]|\s"), behavior="isolated"
    )
    texts = toy_math.pretraining_text(Random("tokenizer"), 5_000)
    seen = {piece for pair in texts for piece, _ in pieces.pre_tokenize_str("".join(pair))}
    digits = {space + str(digit) for space in ("", " ") for digit in range(10)}
    special = ["<pad>", "<eos>", "<unk>"]
    vocabulary = {token: index for index, token in enumerate([*special, *sorted(seen | digits)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<eos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def build_model(size: str, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model of the ladder, float32; weights come from torch's global seed."""
    shape = SIZES[size]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape["hidden_size"],
        intermediate_size=shape["intermediate_size"],
        num_hidden_layers=shape["num_hidden_layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["heads"],
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config._attn_implementation = "eager"
    return LlamaForCausalLM(config)


def pack(documents: Iterable[list[int]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole documents packed into rows of ROW tokens: ids and document numbers, uint8 [rows, ROW].

    Document numbers count from 1 within a row, 0 is padding. Each document goes to the fullest of
    64 open rows that has room. Raises ValueError for a document longer than a row.
    """
    closed: list[list[list[int]]] = []
    opened: list[tuple[int, list[list[int]]]] = []
    for document in documents:
        if len(document) > ROW:
            raise ValueError(f"a document of {len(document)} tokens does not fit a row of {ROW}")
        fits = [at for at, (room, _) in enumerate(opened) if room >= len(document)]
        at = min(fits, key=lambda at: opened[at][0], default=-1)
        room, row = opened.pop(at) if fits else (ROW, [])
        row.append(document)
        opened.append((room - len(document), row))
        if len(opened) > 64:
            fullest = min(range(len(opened)), key=lambda at: opened[at][0])
            closed.append(opened.pop(fullest)[1])
    closed.extend(row for _, row in opened)
    ids = np.full((len(closed), ROW), pad, dtype=np.uint8)
    numbers = np.zeros_like(ids)
    for index, row in enumerate(closed):
        start = 0
        for number, document in enumerate(row, 1):
            ids[index, start : start + len(document)] = document
            numbers[index, start : start + len(document)] = number
            start += len(document)
    return ids, numbers


def training_rows(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast
) -> tuple[np.ndarray, np.ndarray]:
    """All rows of a run, as `pack` gives them, in random order: [steps * rows, ROW]."""
    rng = Random(f"pretraining/{recipe.seed}")
    wanted = recipe.steps * recipe.rows
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    while sum(len(ids) for ids, _ in parts) < wanted:
        texts = ["".join(pair) for pair in toy_math.pretraining_text(rng, 10_000)]
        ids = tokenizer(texts, return_attention_mask=False)["input_ids"]
        parts.append(pack(([*row, tokenizer.eos_token_id] for row in ids), tokenizer.pad_token_id))
    order = np.random.default_rng(recipe.seed).permutation(sum(len(ids) for ids, _ in parts))
    ids, numbers = (np.concatenate(part)[order[:wanted]] for part in zip(*parts, strict=True))
    return ids, numbers


def row_loss(model: Any, ids: torch.Tensor, numbers: torch.Tensor, bf16: bool) -> torch.Tensor:
    """Mean cross-entropy in nats over all tokens but a document's first; ids, numbers [B, ROW].

    A token attends to its own document only.
    """
    seen = (numbers[:, :, None] == numbers[:, None, :]).tril()
    mask = torch.zeros(seen.shape, device=ids.device)
    mask = mask.masked_fill(~seen, torch.finfo(mask.dtype).min)[:, None]
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=bf16):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    targets = ids[:, 1:].masked_fill(
        (numbers[:, 1:] != numbers[:, :-1]) | (numbers[:, 1:] == 0), -100
    )
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def _save_atomically(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".tmp")
    torch.save(state, partial)
    partial.replace(path)


def pretrain(
    size: str,
    out: Path,
    tokens: int = 0,
    seed: int = 0,
    *,
    rows: int = 16,
    save_every: int = 100,
    compiled: bool = True,
    stop_at: int | None = None,
) -> Path:
    """Train a base model and write it to the folder `out`: bf16 safetensors, tokenizer, loss.csv.

    Work in progress is kept beside it, in ".<name>.partial"; the folder appears whole at the end.
    `tokens` 0 is the size's own budget (TOKENS). `compiled` runs the model under torch.compile,
    which takes half a minute first. `stop_at` ends the run after that step, as a kill would, and
    returns the work in progress. Raises FileExistsError when `out` exists, ValueError when the
    work in progress has another recipe.
    """
    recipe = Recipe(size, tokens or TOKENS[size], seed, rows)
    if out.exists():
        raise FileExistsError(f"{out} exists: remove it, or choose another folder")
    torch.manual_seed(recipe.seed)
    device = pick_device()
    bf16 = quick_bfloat16()
    tokenizer = build_tokenizer()
    model = build_model(recipe.size, tokenizer).to(device)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
    )
    partial = out.parent / f".{out.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    checkpoint = partial / "checkpoint.pt"
    curve: list[tuple[int, float, float]] = []
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        if state["recipe"] != asdict(recipe):
            raise ValueError(f"{partial} holds another run, {state['recipe']}: remove the folder")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        curve = state["curve"]

    ids, numbers = training_rows(recipe, tokenizer)
    model.train()
    forward = torch.compile(model, dynamic=False) if compiled else model
    began, first = time.monotonic(), len(curve)
    for step in range(first, recipe.steps):
        batch = slice(step * recipe.rows, (step + 1) * recipe.rows)
        rate = recipe.lr(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = row_loss(
            forward,
            torch.from_numpy(ids[batch]).to(device, torch.long),
            torch.from_numpy(numbers[batch]).to(device),
            bf16,
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        curve.append((step + 1, rate, loss.item()))
        if (step + 1) % save_every == 0 or step + 1 in (stop_at, recipe.steps):
            rows = recipe.rows * (step + 1 - first)
            speed = rows * ROW / (time.monotonic() - began)
            print(
                f"step {step + 1}/{recipe.steps}  loss {curve[-1][2]:.3f}  {speed:,.0f} tokens/s",
                flush=True,
            )
            _save_atomically(
                {
                    "recipe": asdict(recipe),
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "curve": curve,
                },
                checkpoint,
            )
        if step + 1 == stop_at:
            return partial
    save_model(model.to(torch.bfloat16), tokenizer, partial)
    with (partial / "loss.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "learning_rate", "loss"])
        writer.writerows((step, f"{rate:.6g}", f"{loss:.4f}") for step, rate, loss in curve)
    checkpoint.unlink()
    partial.replace(out)
    return out
