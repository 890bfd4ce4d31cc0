"""The loop of an M-step, in one process or in each of several: steps, candidates, checkpoints."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restem_lib import checkpoints
from restem_lib.batching import batches, tokens
from restem_lib.checkpoints import Progress
from restem_lib.config import Common
from restem_lib.engines import PromptError, Sampling
from restem_lib.executors import STOPS
from restem_lib.learner import Learner
from restem_lib.models import load_model, load_tokenizer, pick_dtype, save_model
from restem_lib.records import Candidate, Pair, Problem, Sample
from restem_lib.rewards import grader
from restem_lib.sampling import progress
from restem_lib.scoring import score
from restem_lib.store import Shards, Stage, seed_for, write_records
from restem_lib.tasks import Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CHECKPOINT_EVERY = 600.0
"""Seconds between checkpoints; there is one at each candidate too."""
IMPATIENCE = 2.0
"""Seconds after which a second Ctrl-C or SIGTERM does not wait for the step; sooner, it may be a scheduler's, sent to
this process and to its parent, which passes it on."""


def schedule(step: int, total: int, warmup: float) -> float:
    """Factor on the learning rate at a step (from 0): linear warm-up, then linear decay to 0 at `total`.

    >>> [schedule(step, 4, 0.5) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = math.ceil(total * warmup)
    if step < rising:
        return (step + 1) / rising
    return (total - step) / (total - rising)


def train(
    base: Path,
    pairs: Shards,
    task: Task,
    validation: tuple[Problem, ...],
    seed: int,
    config: Common,
    compiled: bool,
    first: float,
    checkpoint: Path | None,
    stage: Stage,
) -> None:
    """Train and write the stage's model/ and history.parquet; of several processes the main one looks and writes.

    `first` is the reward of the untouched base, `checkpoint` where an earlier run stopped. After Ctrl-C or SIGTERM the
    step in work ends, a checkpoint is written and KeyboardInterrupt raised. Raises PromptError, Diverged, OutOfMemory,
    NotCompiled, StoreError.
    """
    import torch

    began = time.monotonic()
    # It warns at every checkpoint that tied weights are stored once, which is what we want.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
    tokenizer = load_tokenizer(base)
    examples = [tokens(pair, tokenizer) for pair in pairs.records(Pair)]
    lengths = [example.length for example in examples]
    epoch_steps = math.ceil(len(examples) / config.batch_size)
    total = max(1, round(config.max_epochs * epoch_steps))
    every = max(1, round(config.eval_every * epoch_steps))

    learner = Learner(base, max(lengths), tokenizer.pad_token_id, seed, config, compiled)
    _check_lengths(lengths, learner.plain.config)
    probe, best = None, {}
    if learner.accelerator.is_main_process:
        probe = load_model(base, pick_dtype(config.dtype))  # a candidate as it would be saved
        best = _copy(probe)

    def judge(state: Progress, reward: float) -> None:
        loss = state.loss / state.target_tokens if state.target_tokens else math.nan
        epoch = round(state.step / epoch_steps, 4)
        state.history.append(Candidate(epoch, state.step, loss, reward, len(validation), 0))
        state.loss, state.target_tokens = 0.0, 0

    if checkpoint is None:
        state = Progress()
        judge(state, first)
    else:
        state = checkpoints.load(checkpoint, learner.accelerator)
        best = checkpoints.load_best(checkpoint) if probe else {}
    earlier, written = state.seconds, time.monotonic()
    plan: list[list[int]] = []

    with _stop_asked() as asked, progress(total, "fine-tuning", "step") as bar:
        bar.update(state.step)
        while True:
            new = state.step % every == 0 or state.step == total
            look = new and state.history[-1].step != state.step
            if look:
                weights, reward = learner.weights(), 0.0
                if probe:
                    probe.load_state_dict(weights)
                    reward = _reward(probe, tokenizer, task, validation, config)
            elif state.step < total and state.waited < config.patience:
                epoch, place = divmod(state.step, epoch_steps)
                if place == 0 or not plan:
                    plan = batches(lengths, config.batch_size, seed, epoch)
                batch = [examples[i] for i in plan[place]]
                rate = config.learning_rate * schedule(state.step, total, config.warmup)
                # A resumed run drops the same units, each process its own.
                rank = learner.accelerator.process_index
                torch.manual_seed(seed_for(seed, "dropout", state.step) + rank)
                state.loss += learner.step(batch, rate)
                state.target_tokens += sum(len(example.target) for example in batch)
                state.step += 1
                bar.update()
            else:
                break
            overdue = probe is not None and time.monotonic() - written > CHECKPOINT_EVERY
            stop, due = learner.total(asked(), overdue)
            if (
                look and not stop
            ):  # what stopped us may have hit the grader too: looked at again when resumed
                judge(state, learner.total(reward)[0])
                if probe and state.waited == 0:
                    best = _copy(probe)
                bar.set_postfix(validation=f"{state.history[-1].reward:.3f}")
            if look or due or stop:
                state.seconds = earlier + time.monotonic() - began
                checkpoints.save(stage.folder, learner.accelerator, state, best)
                written = time.monotonic()
            if stop:
                raise KeyboardInterrupt

    if probe:
        probe.load_state_dict(best)
        history = [replace(c, best=int(i == state.best)) for i, c in enumerate(state.history)]
        seconds = earlier + time.monotonic() - began
        stage.write_folder("model", lambda folder: save_model(probe, tokenizer, folder), 0.0)
        write_records(stage, "history.parquet", history, Candidate, seconds)
    learner.close()


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Tells whether Ctrl-C or SIGTERM came. The first is only noted, so that a step can end; a later one interrupts.

    In one of several processes, where both are blocked (`launching`), nothing interrupts: all end together or none.
    """
    came: list[float] = []

    def note(number: int, _: Any) -> None:
        if came and time.monotonic() - came[0] > IMPATIENCE:
            raise KeyboardInterrupt
        came.append(time.monotonic())

    if threading.current_thread() is not threading.main_thread():  # which alone can have handlers
        yield lambda: False
        return
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= STOPS:
        yield lambda: bool(signal.sigpending() & STOPS)
        return
    before = {number: signal.signal(number, note) for number in STOPS}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:  # after the last step
        raise KeyboardInterrupt


def _check_lengths(lengths: Sequence[int], model: PreTrainedConfig) -> None:
    positions = getattr(model, "max_position_embeddings", None)
    if positions and max(lengths) > positions:
        raise PromptError(
            f"a training pair has {max(lengths)} tokens, prompt and completion together, but the model has {positions} "
            "positions; lower max_new_tokens or drop the long problems"
        )


def greedy(task: Task, config: Common) -> Sampling:
    """How candidates are drawn from: one greedy completion a problem."""
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
        [task.prompt(problem) for problem in validation], 1, greedy(task, config), seed=0
    )
    samples = [
        Sample(problem.id, 0, completions[0].text, completions[0].tokens, completions[0].finish)
        for problem, completions in zip(validation, drawn, strict=True)
    ]
    reward = grader(task.grader, config.unsafe_programs)
    scores = score(reward, [problem.answer for problem in validation], samples)
    return sum(s.reward for s in scores) / len(scores)


def _copy(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights in main memory, for a GPU has better use for its own."""
    return {
        name: weight.detach().to("cpu", copy=True) for name, weight in model.state_dict().items()
    }
