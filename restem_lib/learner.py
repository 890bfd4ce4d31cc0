"""A model in training, a step at a time: precision, attention, compilation, LoRA and the optimiser."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restem_lib import UserError
from restem_lib.batching import Example, completion_loss, distinct
from restem_lib.config import Common
from restem_lib.models import device, load_model, pick_dtype
from restem_lib.store import seed_for

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel

CLIP = 1.0
EAGER_LENGTH = 256
"""Up to this many tokens a CPU trains with attention as plain matrix products: the fused kernel is no quicker there
in float32, and its backward pass takes half of the step in bfloat16."""
COMPILE_WORK = 2e13
"""Bytes of weights times characters trained on above which compiling pays: on two cores it takes half a minute at
first, about five seconds when its results are still in the cache, and saves an eighth of the time
(benchmarks/finetuning.py)."""


class Diverged(UserError):
    """The training loss is no longer a number."""


class NotCompiled(UserError):
    """The model cannot be compiled here; the text says why."""


def compiles(base: Path, characters: float, choice: str) -> bool:
    """Whether an M-step is to be compiled, by its size and what is installed: nothing that time or load could change.

    `characters` are those of all pairs, times the epochs; `choice` is the setting "auto", "always" or "never".
    """
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    wanted = choice == "always" or (choice == "auto" and weights * characters > COMPILE_WORK)
    if not wanted:
        return False
    if device().type == "cuda":
        missing = "" if find_spec("triton") else "triton is not installed"
    else:
        found = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++")
        missing = "" if found else "no C++ compiler: neither $CXX nor g++ is there"
    if missing:
        print(f"note: the M-step is not compiled ({missing})")
    return not missing


def check_lora(rank: int) -> None:
    """Raise UserError where adapters are asked for and peft is missing."""
    if rank and not find_spec("peft"):
        raise UserError(f"lora_rank is {rank}, which needs peft: pip install 'restem-lib[lora]'")


class Learner:
    """The base model of a folder and its optimiser, with float32 weights; bfloat16 where it is quick, by autocast.

    `longest` is the length in tokens of the longest example. Raises NotCompiled when `compiled` is asked for in vain.
    """

    def __init__(
        self, base: Path, longest: int, pad: int, seed: int, config: Common, compiled: bool
    ) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        self.config, self.pad = config, pad
        self.plain = load_model(base, torch.float32).train()
        if self.plain.device.type == "cpu" and longest <= EAGER_LENGTH:
            self.plain.set_attn_implementation("eager")
        if config.lora_rank:
            torch.manual_seed(seed_for(seed, "lora"))
            _adapt(self.plain, config.lora_rank)
        if config.gradient_checkpointing:
            # Older versions of transformers know it by the second name.
            names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
            name = next(name for name in names if hasattr(self.plain, name))
            getattr(self.plain, name)({"use_reentrant": False})
        AcceleratorState._reset_state()  # else a second one in a process could not have another precision
        bf16 = pick_dtype(config.dtype) is torch.bfloat16
        self.accelerator: Accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no")
        self.model, self.optimizer = self.accelerator.prepare(
            self.plain, _optimizer(self.plain, config.learning_rate)
        )
        if compiled:
            _compile(self.plain)
            self._try_out(longest)

    def step(self, batch: Sequence[Example], rate: float) -> float:
        """One optimiser step at a learning rate: the summed loss of the batch. Raises Diverged.

        The step is on the mean over all target tokens, in however many forward passes it is computed.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        tokens = sum(len(example.target) for example in batch)
        examples, size = distinct(batch), self.config.micro_batch_size
        losses = []
        for start in range(0, len(examples), size):
            loss = completion_loss(self.model, examples[start : start + size], self.pad)
            self.accelerator.backward(loss / tokens)
            losses.append(loss.detach())
        summed = float(sum(losses))  # here, so that a GPU is waited for once a step
        if not math.isfinite(summed):
            raise Diverged(
                f"the training loss is {summed}: the M-step diverged. "
                f"Lower learning_rate (now {self.config.learning_rate})"
            )
        self.accelerator.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return summed

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights as the base model names them; adapters are added to what they adapt."""
        import torch

        if not self.config.lora_rank:
            return dict(self.plain.state_dict())
        modules = dict(self.plain.named_modules())
        merged = {}
        for name, weight in self.plain.state_dict().items():
            if ".lora_" in name:
                continue
            owner, inside, last = name.partition(".base_layer.")
            if inside and last == "weight":
                adapted: Any = modules[owner]
                with torch.no_grad():
                    weight = weight + adapted.get_delta_weight("default")
            merged[name.replace(".base_layer.", ".")] = weight
        return merged

    def _try_out(self, longest: int) -> None:
        """Compile now, on a batch whose shape is rounded, so that what is compiled hardly depends on the data."""
        import torch

        limit = getattr(self.plain.config, "max_position_embeddings", None) or longest + 64
        length = max(2, min(-(-longest // 64) * 64, limit))
        example = Example((self.pad,) * (length - length // 2), (self.pad,) * (length // 2))
        rows = [(example, 1)] * max(2, self.config.micro_batch_size)
        try:
            self.accelerator.backward(completion_loss(self.model, rows, self.pad))
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of many kinds, and each of the others means the same
            why = next(iter(str(error).splitlines()), "")
            raise NotCompiled(f"{type(error).__name__}: {why}") from error
        self.optimizer.zero_grad()


def _adapt(model: PreTrainedModel, rank: int) -> None:
    """Put LoRA adapters beside all linear layers but the head; nothing else is trained."""
    from peft import LoraConfig, inject_adapter_in_model

    adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    inject_adapter_in_model(adapters, model)


def _compile(model: PreTrainedModel) -> None:
    """Compile the layer that the model repeats, once for any number of rows and tokens. Raises NotCompiled."""
    import torch

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / "restem" / "inductor"))
    torch.compiler.reset()  # else several M-steps of a notebook would use up what torch allows a function
    repeated = set(model._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in repeated]
    if not layers:
        raise NotCompiled(f"{type(model).__name__} does not say which layers it repeats")
    for layer in layers:
        layer.compile(dynamic=True)


def _optimizer(model: PreTrainedModel, rate: float) -> torch.optim.Optimizer:
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=rate, betas=(0.9, 0.95), fused=True
    )
