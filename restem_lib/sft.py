"""M-step: fine-tune a base model on kept pairs, loss on the completion only, stop on validation reward.

Paper, Algorithm 1: "while reward improves on D_val". The paper gives neither optimiser, rate, batch nor length of
training; here: AdamW, linear warm-up and decay, a candidate every `eval_every` epochs (the untouched start is the
first), the best by greedy reward on held-out problems wins, and `patience` candidates without improvement end it.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from restem_lib import UserError
from restem_lib.config import Common
from restem_lib.engines import PromptError, Sampling
from restem_lib.executors import run_stage
from restem_lib.models import identity, load_model, load_tokenizer, pick_dtype, save_model
from restem_lib.records import Candidate, Pair, Problem, Sample
from restem_lib.rewards import grader
from restem_lib.sampling import SAMPLE_VERSION, problem_blocks, progress
from restem_lib.scoring import SCORE_VERSION, score
from restem_lib.store import (
    Shards,
    Stage,
    StoreError,
    file_sha256,
    replace_whole,
    seed_for,
    write_records,
)
from restem_lib.tasks import Task

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TUNE_VERSION = 1
CLIP = 1.0
CHECKSUMS = "checksums.json"
EAGER_LENGTH = 256
"""Up to this many tokens a CPU trains with attention as plain matrix products: the fused kernel's backward pass is
slow there, and the memory that it saves is small."""


class Diverged(UserError):
    """The training loss is no longer a number."""


@dataclass(frozen=True)
class Tuned:
    """What an M-step gives: a model folder and how it was found."""

    model: Path
    history: tuple[Candidate, ...]
    seconds: float


def fine_tune(
    base: Path, pairs: Shards, task: Task, validation: Sequence[Problem], seed: int, config: Common
) -> Tuned:
    """Fine-tune `base` on pairs and keep the candidate with the best reward on the validation problems."""
    settings = {
        "base": identity(base),
        "pairs": pairs.ref,
        "validation": [name for name, _ in problem_blocks(task, validation, config.problem_block)],
        "stop": list(task.stop),
        "grader": [grader(task.grader, config.unsafe_programs).name, SCORE_VERSION],
        "engine": [config.engine, SAMPLE_VERSION],
        "seed": seed,
        "dtype": str(pick_dtype(config.dtype)),
        **{
            name: getattr(config, name)
            for name in (
                "learning_rate",
                "batch_size",
                "micro_batch_size",
                "max_epochs",
                "warmup",
                "eval_every",
                "patience",
                "max_new_tokens",
                "rows",
            )
        },
    }
    stage = Stage(config.runs_dir, "tune", TUNE_VERSION, settings)
    with stage.work():
        if not stage.has_folder("model") or stage.missing(["history.parquet"]):
            run_stage(_train, base, pairs, task, tuple(validation), seed, config, stage)
        for folder in _checkpoints(stage.folder):  # here, so that a kill cannot leave them for ever
            shutil.rmtree(folder)
    history = Shards(stage, ("history.parquet",))
    return Tuned(stage.read_folder("model"), tuple(history.records(Candidate)), history.seconds())


class Example(NamedTuple):
    """A pair as token ids: no loss on the prompt, loss on the target, which ends in the end-of-sequence token."""

    prompt: list[int]
    target: list[int]

    @property
    def length(self) -> int:
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
    return Example(prompt, [*target, tokenizer.eos_token_id])


def batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """An epoch's batches of example numbers: each example once, neighbours in length together, in random order.

    Examples are shuffled, sorted by length within groups of 16 batches, cut, and the batches shuffled again: little
    padding, yet no two epochs alike. A function of its arguments, so a resumed run continues the same order.
    """
    import numpy as np

    rng = np.random.default_rng(seed_for(seed, "batches", epoch))
    order = rng.permutation(len(lengths)).tolist()
    cut = []
    for start in range(0, len(order), 16 * size):
        group = sorted(order[start : start + 16 * size], key=lambda i: lengths[i])
        cut += [group[i : i + size] for i in range(0, len(group), size)]
    return [cut[i] for i in rng.permutation(len(cut))]


def schedule(step: int, total: int, warmup: float) -> float:
    """Factor on the learning rate at a step (from 0): linear warm-up, then linear decay to 0 at `total`.

    >>> [schedule(step, 4, 0.5) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = math.ceil(total * warmup)
    if step < rising:
        return (step + 1) / rising
    return (total - step) / (total - rising)


def completion_loss(model: PreTrainedModel, examples: Sequence[Example], pad: int) -> torch.Tensor:
    """Sum over the examples of the negative log-likelihood of their target tokens (paper, equations 1 and 3).

    Rows are padded on the left, so that all targets end together and logits are computed for them alone.
    """
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(example.length for example in examples)
    tail = max(len(example.target) for example in examples)
    ids = torch.full((len(examples), longest), pad)
    mask = torch.zeros((len(examples), longest), dtype=torch.long)
    labels = torch.full((len(examples), tail), -100)
    for row, example in enumerate(examples):
        ids[row, longest - example.length :] = torch.tensor(example.prompt + example.target)
        mask[row, longest - example.length :] = 1
        labels[row, tail - len(example.target) :] = torch.tensor(example.target)
    ids, mask, labels = ids.to(model.device), mask.to(model.device), labels.to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=False,
        logits_to_keep=tail + 1,
    ).logits[:, :-1]
    return cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum"
    )


@dataclass
class Progress:
    """Where an M-step stands; with weights and optimiser it makes a checkpoint."""

    step: int = 0
    loss: float = 0.0
    """Loss and target tokens since the last candidate."""
    target_tokens: int = 0
    seconds: float = 0.0
    history: list[Candidate] = field(default_factory=list)

    @property
    def best(self) -> int:
        """Number of the best candidate; the earliest of equals, which lies nearest to the base."""
        return max(range(len(self.history)), key=lambda i: (self.history[i].reward, -i))

    @property
    def waited(self) -> int:
        """Candidates since the best one."""
        return len(self.history) - 1 - self.best


def _train(
    base: Path,
    pairs: Shards,
    task: Task,
    validation: tuple[Problem, ...],
    seed: int,
    config: Common,
    stage: Stage,
) -> None:
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from safetensors.torch import load_file

    began = time.monotonic()
    # It warns at every checkpoint that tied weights are stored once, which is what we want.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
    dtype = pick_dtype(config.dtype)
    AcceleratorState._reset_state()  # else a second M-step of a notebook could not have another precision
    accelerator = Accelerator(mixed_precision="bf16" if dtype is torch.bfloat16 else "no")
    tokenizer = load_tokenizer(base)
    examples = [tokens(pair, tokenizer) for pair in pairs.records(Pair)]
    lengths = [example.length for example in examples]
    epoch_steps = math.ceil(len(examples) / config.batch_size)
    total = max(1, round(config.max_epochs * epoch_steps))
    every = max(1, round(config.eval_every * epoch_steps))

    plain = load_model(base, torch.float32)  # master weights; autocast gives the speed
    _check_lengths(lengths, plain.config)
    if plain.device.type == "cpu" and max(lengths) <= EAGER_LENGTH:
        plain.set_attn_implementation("eager")
    model, optimizer = accelerator.prepare(plain.train(), _optimizer(plain, config))
    probe = load_model(base, dtype)  # a candidate as it would be saved

    def judge(state: Progress) -> None:
        loss = state.loss / state.target_tokens if state.target_tokens else math.nan
        reward = _reward(probe, tokenizer, task, validation, config)
        epoch = round(state.step / epoch_steps, 4)
        state.history.append(Candidate(epoch, state.step, loss, reward, len(validation), 0))
        state.loss, state.target_tokens = 0.0, 0

    checkpoint = _latest(stage.folder)
    if checkpoint is None:
        state = Progress()
        judge(state)
        best = _copy(probe)
    else:
        state = _read_progress(checkpoint)
        accelerator.load_state(str(checkpoint))
        best = load_file(checkpoint / "best.safetensors")
    earlier = state.seconds
    plan: list[list[int]] = []

    with progress(total, "fine-tuning", "step") as bar:
        bar.update(state.step)
        while state.step < total and state.waited < config.patience:
            epoch, place = divmod(state.step, epoch_steps)
            if place == 0 or not plan:
                plan = batches(lengths, config.batch_size, seed, epoch)
            batch = [examples[i] for i in plan[place]]
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * schedule(state.step, total, config.warmup)
            torch.manual_seed(
                seed_for(seed, "dropout", state.step)
            )  # a resumed run drops the same units
            state.loss += _step(
                model, optimizer, accelerator, batch, tokenizer.pad_token_id, config
            )
            state.target_tokens += sum(len(example.target) for example in batch)
            state.step += 1
            bar.update()
            if state.step % every == 0 or state.step == total:
                probe.load_state_dict(accelerator.unwrap_model(model).state_dict())
                judge(state)
                if state.waited == 0:
                    best = _copy(probe)
                state.seconds = earlier + time.monotonic() - began
                _checkpoint(stage.folder, accelerator, state, best)
                bar.set_postfix(validation=f"{state.history[-1].reward:.3f}")

    probe.load_state_dict(best)
    history = [replace(c, best=int(i == state.best)) for i, c in enumerate(state.history)]
    stage.write_folder("model", lambda folder: save_model(probe, tokenizer, folder), 0.0)
    write_records(stage, "history.parquet", history, Candidate, earlier + time.monotonic() - began)
    accelerator.free_memory()


def _check_lengths(lengths: Sequence[int], model: PreTrainedConfig) -> None:
    positions = getattr(model, "max_position_embeddings", None)
    if positions and max(lengths) > positions:
        raise PromptError(
            f"a training pair has {max(lengths)} tokens, prompt and completion together, but the model has {positions} "
            "positions; lower max_new_tokens or drop the long problems"
        )


def _optimizer(model: PreTrainedModel, config: Common) -> torch.optim.Optimizer:
    import torch

    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def _step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    batch: Sequence[Example],
    pad: int,
    config: Common,
) -> float:
    """One optimiser step; the summed loss of the batch. Its mean is over all target tokens, however it is split."""
    count = sum(len(example.target) for example in batch)
    summed = 0.0
    for start in range(0, len(batch), config.micro_batch_size):
        loss = completion_loss(model, batch[start : start + config.micro_batch_size], pad)
        accelerator.backward(loss / count)
        summed += loss.item()
    if not math.isfinite(summed):
        raise Diverged(
            f"the training loss is {summed}: the M-step diverged. Lower learning_rate (now {config.learning_rate})"
        )
    accelerator.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return summed


def _reward(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    validation: Sequence[Problem],
    config: Common,
) -> float:
    from restem_lib.engines.torch_engine import TorchEngine

    greedy = Sampling(
        temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=config.max_new_tokens, stop=task.stop
    )
    engine = TorchEngine(model, tokenizer, rows=config.rows)
    drawn = engine.generate([task.prompt(problem) for problem in validation], 1, greedy, seed=0)
    samples = [
        Sample(problem.id, 0, completions[0].text, completions[0].tokens, completions[0].finish)
        for problem, completions in zip(validation, drawn, strict=True)
    ]
    reward = grader(task.grader, config.unsafe_programs)
    scores = score(reward, [problem.answer for problem in validation], samples)
    return sum(s.reward for s in scores) / len(scores)


def _copy(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def _checkpoint(
    folder: Path, accelerator: Accelerator, state: Progress, best: dict[str, torch.Tensor]
) -> None:
    from safetensors.torch import save_file

    def save(path: Path) -> None:
        accelerator.save_state(str(path))
        save_file(
            {name: weight.contiguous() for name, weight in best.items()}, path / "best.safetensors"
        )
        (path / "progress.json").write_text(json.dumps(asdict(state)))
        files = sorted(file for file in path.rglob("*") if file.is_file())
        sums = {str(file.relative_to(path)): file_sha256(file) for file in files}
        (path / CHECKSUMS).write_text(json.dumps(sums))

    older = _checkpoints(folder)
    replace_whole(folder / f"checkpoint-{state.step:06d}", save)
    for path in older:
        shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"))


def _latest(folder: Path) -> Path | None:
    """The newest checkpoint, once every file in it matches its checksum. Raises StoreError."""
    checkpoint = max(_checkpoints(folder), default=None)
    if checkpoint is not None:
        advice = f"Delete {checkpoint} and run again; this M-step then starts anew"
        try:
            sums = json.loads((checkpoint / CHECKSUMS).read_text())
        except (OSError, ValueError) as error:
            raise StoreError(f"{checkpoint / CHECKSUMS} is damaged ({error}). {advice}") from error
        for name, checksum in sums.items():
            if file_sha256(checkpoint / name) != checksum:
                raise StoreError(f"{checkpoint / name} is damaged: its checksum differs. {advice}")
    return checkpoint


def _read_progress(checkpoint: Path) -> Progress:
    values = json.loads((checkpoint / "progress.json").read_text())
    return Progress(**{**values, "history": [Candidate(**c) for c in values["history"]]})
