"""Pretraining of the toy base models: small Llamas trained from scratch on the toy world's text.

What comes out is an ordinary Hugging Face folder. A run killed anywhere resumes from its last
checkpoint and ends in the same weights (same machine, threads and versions).
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import time
from dataclasses import asdict
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from restem_lib import UserError
from restem_lib.files import replace_whole
from restem_lib.ladder import Recipe
from restem_lib.models import device as pick_device
from restem_lib.models import quick_bfloat16, save_model
from restem_lib.provenance import provenance
from restem_lib.tasks.toy import LONGEST, corpus
from restem_lib.untrained import build_model, build_tokenizer

EDGES = (32, 48, 64, 80, 96, 128, LONGEST)
"""Lengths that batches are padded to."""
FIRST = 20
"""Steps after which the speed, and how long it takes, is told for the first time."""
MADE = "made.yaml"
"""How a model folder came about: recipe, padding, seconds, and the commit, versions and hardware of every process that
worked on it. JSON, which is YAML too; not named .json because those files are part of a model's identity."""


class PretrainError(UserError, ValueError):
    """A base model cannot be trained as asked."""


def training_batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    """All batches of a run in random order: ids, uint16 [B, T], padded on the right.

    A batch holds documents of about one length, T is one of EDGES, and B * T about recipe.batch: less padding than in
    random batches, few shapes to compile for, and no attention beyond a document.
    """
    documents = corpus.documents(Random(f"pretraining/{recipe.seed}"), recipe.slips)
    batches: list[np.ndarray] = []
    waiting: dict[int, list[list[int]]] = {edge: [] for edge in EDGES}
    while len(batches) < recipe.steps:
        texts = ["".join(pair) for pair in islice(documents, 1_000)]
        for ids in tokenizer(texts, return_attention_mask=False)["input_ids"]:
            edge = next((edge for edge in EDGES if len(ids) < edge), 0)
            if not edge:  # a rare word fell into letters
                continue
            waiting[edge].append([*ids, tokenizer.eos_token_id])
            if len(waiting[edge]) == recipe.batch // edge:
                batch = np.full((len(waiting[edge]), edge), tokenizer.pad_token_id, dtype=np.uint16)
                for row, document in zip(batch, waiting[edge], strict=True):
                    row[: len(document)] = document
                batches.append(batch)
                waiting[edge] = []
    order = np.random.default_rng(recipe.seed).permutation(len(batches))
    return [batches[at] for at in order[: recipe.steps]]


def batch_loss(model: Any, ids: torch.Tensor, pad: int, bf16: bool) -> torch.Tensor:
    """Mean cross-entropy in nats over all tokens but a document's first; ids [B, T], padded on the right."""
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=bf16):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    targets = ids[:, 1:].masked_fill(ids[:, 1:] == pad, -100)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class _Run:
    """A model in pretraining: what a checkpoint holds, and one step of it."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.pad = recipe, tokenizer.pad_token_id
        self.device, self.bf16 = pick_device(), quick_bfloat16()
        self.model = build_model(recipe.size, tokenizer).to(self.device).train()
        self.forward: Any = self.model
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.95),
            fused=True,
        )
        self.curve: list[tuple[int, float, float]] = []
        """Step, learning rate and loss of every step so far."""
        self.seconds = 0.0
        self.processes: list[dict[str, Any]] = []
        """Provenance of every process that worked on the run, and the step that it went on from."""

    def most_minutes(self) -> float:
        """How long the whole run takes at most: by the quickest of ten steps that are not compiled."""
        batch = np.ones((self.recipe.batch // 64, 64), dtype=np.uint16)
        quickest = math.inf
        for _ in range(10):
            began = time.monotonic()
            self._loss(self.model, batch).backward()
            quickest = min(quickest, time.monotonic() - began)
        self.optimizer.zero_grad()
        return quickest * self.recipe.steps / 60

    def compile(self, batches: list[np.ndarray]) -> None:
        """Compile for every length that there is; where that fails, say so and stay as it is."""
        print("compiling", flush=True)
        self.forward = torch.compile(self.model, dynamic=False)
        try:
            for batch in {batch.shape: batch for batch in batches}.values():
                self._loss(self.forward, batch).backward()
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of many kinds, and each of the others means the same
            why = next(iter(str(error).splitlines()), "")
            print(f"note: not compiled, so slower ({type(error).__name__}: {why})", flush=True)
            self.forward = self.model
        self.optimizer.zero_grad()

    def begin(self, here: dict[str, Any]) -> None:
        """Note down the process that now works on the run."""
        compiled = self.forward is not self.model
        self.processes.append({"from_step": len(self.curve), "compiled": compiled, **here})

    def step(self, batch: np.ndarray) -> None:
        began = time.monotonic()
        rate = self.recipe.lr(len(self.curve))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._loss(self.forward, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.curve.append((len(self.curve) + 1, rate, loss.item()))
        self.seconds += time.monotonic() - began

    def _loss(self, model: Any, batch: np.ndarray) -> torch.Tensor:
        ids = torch.from_numpy(batch.astype(np.int64)).to(self.device)
        return batch_loss(model, ids, self.pad, self.bf16)

    def save(self, path: Path, made_of: dict[str, Any]) -> None:
        """A checkpoint, written whole or not at all."""
        state = {
            "made_of": made_of,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curve": self.curve,
            "seconds": self.seconds,
            "processes": self.processes,
        }
        replace_whole(path, lambda temporary: torch.save(state, temporary))

    def resume(self, path: Path, made_of: dict[str, Any]) -> None:
        """Go on from a checkpoint. Raises PretrainError for a damaged one, or one of another recipe or text."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            found = state["made_of"]
            self.curve, self.seconds = state["curve"], state["seconds"]
            self.processes = state["processes"]
        except Exception as error:  # torch raises many kinds
            why = next(iter(str(error).splitlines()), "")
            raise PretrainError(f"{path} is damaged ({why}): remove {path.parent}") from error
        if found != made_of:
            raise PretrainError(f"{path.parent} holds another run, {found}: remove the folder")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        print(f"going on after step {len(self.curve)}", flush=True)

    def made(self) -> dict[str, Any]:
        """How the run went, for MADE."""
        last = self.processes[-1]
        gpu = self.device.type == "cuda"
        return {
            "seconds": round(self.seconds),
            "tokens_per_second": round(self.recipe.tokens / self.seconds),
            "device": torch.cuda.get_device_name()
            if gpu
            else f"{last['cpu']}, {last['threads']} threads",
            "processes": self.processes,
        }

    def write(self, folder: Path, tokenizer: PreTrainedTokenizerFast, made: dict[str, Any]) -> None:
        """The finished model's folder."""
        save_model(self.model.to(torch.bfloat16), tokenizer, folder)
        with (folder / "loss.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "learning_rate", "loss"])
            writer.writerows(
                (step, f"{rate:.6g}", f"{loss:.4f}") for step, rate, loss in self.curve
            )
        (folder / MADE).write_text(json.dumps(made, indent=1) + "\n")


def pretrain(recipe: Recipe, out: Path, *, save_every: int = 100, compiled: bool = True) -> Path:
    """Train a base model and write it to the folder `out`: bf16 safetensors, tokenizer, loss.csv, and made.yaml.

    Work in progress is kept beside it, in ".<name>.partial"; the folder appears whole at the end. `compiled` runs the
    model under torch.compile, which takes a minute or two first. Raises PretrainError when `out` exists, or when the
    work in progress is damaged or of another recipe or text.
    """
    if out.exists():
        raise PretrainError(f"{out} exists: remove it, or choose another folder")
    partial = out.parent / f".{out.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    checkpoint = partial / "checkpoint.pt"
    here = provenance()  # now: the commit may be another one in an hour
    tokenizer = build_tokenizer()
    run = _Run(recipe, tokenizer)
    minutes = run.most_minutes()
    print(f"{recipe.steps:,} steps, at most about {minutes:.0f} minutes here", flush=True)
    print(f"writing the text, {recipe.tokens:,} tokens", flush=True)
    batches = training_batches(recipe, tokenizer)
    text = sha256(b"".join(batch.tobytes() for batch in batches)).hexdigest()
    made_of = {**asdict(recipe), "text": text}
    if checkpoint.exists():
        run.resume(checkpoint, made_of)
    if compiled:
        run.compile(batches)
    run.begin(here)

    first, before = len(run.curve), run.seconds
    for batch in batches[first:]:
        run.step(batch)
        done = len(run.curve)
        if done - first == FIRST or done % save_every == 0:
            a_second = (done - first) / (run.seconds - before)
            print(
                f"step {done}/{recipe.steps}  loss {run.curve[-1][2]:.3f}  "
                f"{a_second * recipe.batch:,.0f} tokens/s, "
                f"{(recipe.steps - done) / a_second / 60:.0f} minutes left",
                flush=True,
            )
        if done % save_every == 0 or done == recipe.steps:
            run.save(checkpoint, made_of)
    made = {"recipe": made_of, "padding": _padding(batches, run.pad), **run.made()}
    replace_whole(out, lambda folder: run.write(folder, tokenizer, made))
    shutil.rmtree(partial)
    return out


def _padding(batches: list[np.ndarray], pad: int) -> float:
    """Share of the positions that hold no token."""
    empty = sum(int((batch == pad).sum()) for batch in batches)
    return round(empty / sum(batch.size for batch in batches), 4)
