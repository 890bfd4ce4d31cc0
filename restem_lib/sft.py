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
from typing import TYPE_CHECKING

from restem_lib.batching import batches, tokens
from restem_lib.config import Common
from restem_lib.engines import PromptError, Sampling
from restem_lib.executors import run_stage
from restem_lib.learner import Learner, NotCompiled, check_lora, compiles
from restem_lib.models import identity, load_model, load_tokenizer, pick_dtype, save_model
from restem_lib.records import Candidate, Pair, Problem, Sample, Score
from restem_lib.rewards import grader
from restem_lib.sampling import SAMPLE_VERSION, draw_samples, problem_blocks, progress
from restem_lib.scoring import SCORE_VERSION, score, score_samples
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

TUNE_VERSION = 2
CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Tuned:
    """What an M-step gives: a model folder and how it was found."""

    model: Path
    history: tuple[Candidate, ...]
    seconds: float


def fine_tune(
    base: Path, pairs: Shards, task: Task, validation: Sequence[Problem], seed: int, config: Common
) -> Tuned:
    """Fine-tune `base` on pairs and keep the candidate with the best reward on the validation problems.

    Compiled where that pays and works. The result then differs in rounding, so it is a stage of its own.
    """
    check_lora(config.lora_rank)
    characters = sum(len(pair.prompt + pair.completion) for pair in pairs.records(Pair))
    if compiles(base, characters * config.max_epochs, config.compile):
        try:
            return _tuned(base, pairs, task, validation, seed, config, compiled=True)
        except NotCompiled as error:
            print(f"note: the M-step is not compiled ({error})", flush=True)
    return _tuned(base, pairs, task, validation, seed, config, compiled=False)


def _tuned(
    base: Path,
    pairs: Shards,
    task: Task,
    validation: Sequence[Problem],
    seed: int,
    config: Common,
    *,
    compiled: bool,
) -> Tuned:
    settings = {
        "base": identity(base),
        "pairs": pairs.ref,
        "validation": [name for name, _ in problem_blocks(task, validation, config.problem_block)],
        "stop": list(task.stop),
        "grader": [grader(task.grader, config.unsafe_programs).name, SCORE_VERSION],
        "engine": ["torch", SAMPLE_VERSION],
        "seed": seed,
        "dtype": str(pick_dtype(config.dtype)),
        "compiled": compiled,
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
                "lora_rank",
                "gradient_checkpointing",
                "max_new_tokens",
                "rows",
            )
        },
    }
    stage = Stage(config.runs_dir, "tune", TUNE_VERSION, settings)
    with stage.work():
        if not stage.has_folder("model") or stage.missing(["history.parquet"]):
            first = _untouched(base, task, validation, config)
            run_stage(
                _train, base, pairs, task, tuple(validation), seed, config, compiled, first, stage
            )
        for folder in _checkpoints(stage.folder):  # here, so that a kill cannot leave them for ever
            shutil.rmtree(folder)
    history = Shards(stage, ("history.parquet",))
    return Tuned(stage.read_folder("model"), tuple(history.records(Candidate)), history.seconds())


def schedule(step: int, total: int, warmup: float) -> float:
    """Factor on the learning rate at a step (from 0): linear warm-up, then linear decay to 0 at `total`.

    >>> [schedule(step, 4, 0.5) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = math.ceil(total * warmup)
    if step < rising:
        return (step + 1) / rising
    return (total - step) / (total - rising)


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
    compiled: bool,
    first: float,
    stage: Stage,
) -> None:
    import torch
    from safetensors.torch import load_file

    began = time.monotonic()
    # It warns at every checkpoint that tied weights are stored once, which is what we want.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
    tokenizer = load_tokenizer(base)
    examples = [tokens(pair, tokenizer) for pair in pairs.records(Pair)]
    lengths = [example.length for example in examples]
    epoch_steps = math.ceil(len(examples) / config.batch_size)
    total = max(1, round(config.max_epochs * epoch_steps))
    every = max(1, round(config.eval_every * epoch_steps))

    probe = load_model(base, pick_dtype(config.dtype))  # a candidate as it would be saved
    _check_lengths(lengths, probe.config)
    learner = Learner(base, max(lengths), tokenizer.pad_token_id, seed, config, compiled)

    def judge(state: Progress, reward: float) -> None:
        loss = state.loss / state.target_tokens if state.target_tokens else math.nan
        epoch = round(state.step / epoch_steps, 4)
        state.history.append(Candidate(epoch, state.step, loss, reward, len(validation), 0))
        state.loss, state.target_tokens = 0.0, 0

    checkpoint = _latest(stage.folder)
    if checkpoint is None:
        state = Progress()
        judge(state, first)
        best = _copy(probe)
    else:
        state = _read_progress(checkpoint)
        learner.accelerator.load_state(str(checkpoint))
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
            rate = config.learning_rate * schedule(state.step, total, config.warmup)
            # A resumed run drops the same units.
            torch.manual_seed(seed_for(seed, "dropout", state.step))
            state.loss += learner.step(batch, rate)
            state.target_tokens += sum(len(example.target) for example in batch)
            state.step += 1
            bar.update()
            if state.step % every == 0 or state.step == total:
                probe.load_state_dict(learner.weights())
                judge(state, _reward(probe, tokenizer, task, validation, config))
                if state.waited == 0:
                    best = _copy(probe)
                state.seconds = earlier + time.monotonic() - began
                _checkpoint(stage.folder, learner.accelerator, state, best)
                bar.set_postfix(validation=f"{state.history[-1].reward:.3f}")

    probe.load_state_dict(best)
    history = [replace(c, best=int(i == state.best)) for i, c in enumerate(state.history)]
    stage.write_folder("model", lambda folder: save_model(probe, tokenizer, folder), 0.0)
    write_records(stage, "history.parquet", history, Candidate, earlier + time.monotonic() - began)
    learner.accelerator.free_memory()


def _check_lengths(lengths: Sequence[int], model: PreTrainedConfig) -> None:
    positions = getattr(model, "max_position_embeddings", None)
    if positions and max(lengths) > positions:
        raise PromptError(
            f"a training pair has {max(lengths)} tokens, prompt and completion together, but the model has {positions} "
            "positions; lower max_new_tokens or drop the long problems"
        )


def _untouched(base: Path, task: Task, validation: Sequence[Problem], config: Common) -> float:
    """Greedy reward of the model that an M-step starts from; M-steps with the same start share it."""
    greedy, config = _greedy(task, config), replace(config, engine="torch")
    samples = draw_samples(base, task, validation, 1, greedy, "validation", 0, config)
    scores = score_samples(task, validation, samples, config)
    return sum(one.reward for one in scores.records(Score)) / len(validation)


def _greedy(task: Task, config: Common) -> Sampling:
    return Sampling(
        temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=config.max_new_tokens, stop=task.stop
    )


def _reward(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    validation: Sequence[Problem],
    config: Common,
) -> float:
    from restem_lib.engines.torch_engine import TorchEngine

    # Whatever draws the samples: the weights are here, and change between two looks.
    engine = TorchEngine(model, tokenizer, rows=config.rows)
    drawn = engine.generate(
        [task.prompt(problem) for problem in validation], 1, _greedy(task, config), seed=0
    )
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
