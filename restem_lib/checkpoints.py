"""Checkpoints of an M-step: where it stands, weights and optimiser, with a checksum for each file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from restem_lib.files import TEMPORARY, StoreError, file_sha256, replace_whole, writing
from restem_lib.records import Candidate

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

CHECKSUMS, PROGRESS, BEST = "checksums.json", "progress.json", "best.safetensors"


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


def save(
    folder: Path, accelerator: Accelerator, state: Progress, best: dict[str, torch.Tensor]
) -> None:
    """Write a checkpoint into `folder`, then remove the older ones; called by all processes. Raises StoreError.

    `best` holds the best candidate's weights, in the main process.
    """
    # Steps and candidates: each step, and each look at the weights after it, has a name of its own.
    path = folder / f"checkpoint-{state.step + len(state.history):06d}"
    if path.exists():  # stopped in a look that was stopped before: nothing has changed since
        return

    def save_all(temporary: Path) -> None:
        from safetensors.torch import save_file

        temporary.mkdir()
        _save_state(accelerator, temporary)
        save_file({name: weight.contiguous() for name, weight in best.items()}, temporary / BEST)
        (temporary / PROGRESS).write_text(json.dumps(asdict(state)))
        files = sorted(file for file in temporary.rglob("*") if file.is_file())
        sums = {str(file.relative_to(temporary)): file_sha256(file) for file in files}
        (temporary / CHECKSUMS).write_text(json.dumps(sums))

    with writing(path):
        if accelerator.is_main_process:
            older = found(folder)
            replace_whole(path, save_all)
            for checkpoint in older:
                rmtree(checkpoint)
        else:
            _save_state(accelerator, path.with_name(f"{TEMPORARY}{path.name}"))


def _save_state(accelerator: Accelerator, temporary: Path) -> None:
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()


def found(folder: Path) -> list[Path]:
    """All checkpoints in a folder, the oldest first."""
    return sorted(folder.glob("checkpoint-*"))


def clean(folder: Path) -> None:
    """Remove what is half-written, where the processes that wrote it have ended: a full disk gets its room back."""
    for path in folder.glob(f"{TEMPORARY}checkpoint-*"):
        rmtree(path, ignore_errors=True)


def latest(folder: Path) -> Path | None:
    """The newest checkpoint, once every file in it matches its checksum. Raises StoreError."""
    checkpoint = max(found(folder), default=None)
    if checkpoint is None:
        return None
    advice = f"Delete {checkpoint} and run again; this M-step then starts anew"
    try:
        sums = dict(json.loads((checkpoint / CHECKSUMS).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{checkpoint / CHECKSUMS} is damaged ({error}). {advice}") from error
    for name, checksum in sums.items():
        if not (checkpoint / name).is_file():
            raise StoreError(f"{checkpoint / name} is missing. {advice}")
        if file_sha256(checkpoint / name) != checksum:
            raise StoreError(f"{checkpoint / name} is damaged: its checksum differs. {advice}")
    return checkpoint


def load(checkpoint: Path, accelerator: Accelerator) -> Progress:
    """Take up weights, optimiser and progress from a checkpoint that `latest` gave; called by all processes."""
    # Optimiser and random numbers are read with weights_only, so as tensors and plain values; the index of a sharded
    # checkpoint is a pickle. Checksums find damage, not malice: who can write to the store can run code here.
    accelerator.load_state(str(checkpoint))
    values = json.loads((checkpoint / PROGRESS).read_text())
    return Progress(**{**values, "history": [Candidate(**c) for c in values["history"]]})


def load_best(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights of the best candidate so far."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = load_file(checkpoint / BEST)
    return weights
