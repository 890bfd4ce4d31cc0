"""A model in training, a step at a time: precision, attention, compilation, LoRA and the optimiser."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from restem_lib import UserError
from restem_lib.batching import Example, completion_loss, distinct
from restem_lib.config import Common
from restem_lib.models import device, load_model, out_of_memory, pick_dtype
from restem_lib.store import seed_for

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel

CLIP = 1.0
LOOK = timedelta(hours=12)
"""How long processes wait for one another: for the look at the validation reward, which one of them takes."""
EAGER_LENGTH = 256
"""Up to this many tokens a CPU trains with attention as plain matrix products: the fused kernel is no quicker there
in float32, and its backward pass takes half of the step in bfloat16."""
COMPILE_WORK = 2e13
"""Bytes of weights times characters trained on above which compiling pays: on two cores it takes half a minute at
first, about five seconds when its results are still in the cache, and saves an eighth of the time
(benchmarks/finetuning.py)."""


class Diverged(UserError):
    """The training loss is no longer a number."""


class OutOfMemory(UserError):
    """A step of the M-step wants more memory than there is; the text says which settings lower it."""


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

        self.config, self.pad = config, pad
        self.accelerator = _accelerator(pick_dtype(config.dtype))
        # A model that is to be sharded may not fit onto one GPU.
        place = torch.device("cpu") if self.accelerator.is_fsdp2 else device()
        self.plain = load_model(base, torch.float32, place).train()
        if device().type == "cpu" and longest <= EAGER_LENGTH:
            self.plain.set_attn_implementation("eager")
        if config.lora_rank:
            torch.manual_seed(seed_for(seed, "lora"))
            _adapt(self.plain, config.lora_rank)
        if config.gradient_checkpointing:
            # Older versions of transformers know it by the second name.
            names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
            name = next(name for name in names if hasattr(self.plain, name))
            getattr(self.plain, name)({"use_reentrant": False})
        self.adapters = {  # how a product of two adapters is added: times what, transposed or not
            name: (module.scaling["default"], module.fan_in_fan_out)
            for name, module in self.plain.named_modules()
            if hasattr(module, "lora_A")
        }
        self.model, self.optimizer = self.accelerator.prepare(
            self.plain, _optimizer(self.plain, config.learning_rate)
        )
        if compiled:
            _compile(self.plain)
            self._try_out(longest)

    def step(self, batch: Sequence[Example], rate: float) -> float:
        """One optimiser step at a learning rate: the summed loss of the batch. Raises Diverged, OutOfMemory.

        The step is on the mean over all target tokens, in however many forward passes and processes it is computed.
        All processes get the whole batch.
        """
        with _memory(self.config):
            return self._step(batch, rate)

    def _step(self, batch: Sequence[Example], rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        tokens = sum(len(example.target) for example in batch)
        examples, size = distinct(batch), self.config.micro_batch_size
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        mine = examples[rank::processes]
        passes = math.ceil(math.ceil(len(examples) / processes) / size)  # as many in each process
        losses = []
        for i in range(passes):
            rows = mine[i * size : (i + 1) * size] or [(examples[0][0], 0)]
            # Sharded gradients are summed at each pass: FSDP would keep them whole till the last one.
            now = i == passes - 1 or self.accelerator.is_fsdp2
            with nullcontext() if now else self.accelerator.no_sync(self.model):
                loss = completion_loss(self.model, rows, self.pad)
                # Gradients of the processes are averaged, but the step is on their sum.
                self.accelerator.backward(loss * processes / tokens)
            losses.append(loss.detach())
        [summed] = self.total(float(sum(losses)))  # here, so that a GPU is waited for once a step
        if not math.isfinite(summed):
            raise Diverged(
                f"the training loss is {summed}: the M-step diverged. "
                f"Lower learning_rate (now {self.config.learning_rate})"
            )
        self.accelerator.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return summed

    def total(self, *values: float) -> list[float]:
        """Each value's sum over the processes."""
        import torch

        if self.accelerator.num_processes == 1:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        summed: list[float] = self.accelerator.reduce(mine, "sum").tolist()
        return summed

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights as the base model names them; adapters are added to what they adapt, in main memory.

        To be called by all processes; only the main one is sure to get them.
        """
        kind = pick_dtype(
            self.config.dtype
        )  # a candidate's: half of float32 is enough to hold at once
        weights: dict[str, torch.Tensor] = self.accelerator.get_state_dict(self.model)
        merged = {}
        for name, weight in weights.items():
            owner, inside, last = name.partition(".base_layer.")
            if inside and last == "weight":
                up, down = (weights[f"{owner}.lora_{one}.default.weight"].cpu() for one in "BA")
                scale, transposed = self.adapters[owner]
                delta = up @ down
                weight = (weight.cpu() + (delta.T if transposed else delta) * scale).to(kind)
            if ".lora_" not in name:
                merged[name.replace(".base_layer.", ".")] = weight
        return merged

    def close(self) -> None:
        """Give memory and the connection to other processes back."""
        self.accelerator.free_memory()
        self.accelerator.end_training()

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


def _accelerator(dtype: torch.dtype) -> Accelerator:
    """Of this process, or of the processes that `accelerate launch` started, one of which this is."""
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    AcceleratorState._reset_state()  # else a second one in a process could not have another precision
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and device().type == "cpu":
        # accelerate shards on GPUs only, but nothing that it calls needs one.
        PartialState(cpu=True, timeout=LOOK).distributed_type = DistributedType.MULTI_GPU
    accelerator = Accelerator(
        mixed_precision="bf16" if dtype is torch.bfloat16 else "no",
        dynamo_backend="no",  # whatever the configuration says: `compile` decides
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LOOK)],
    )
    if accelerator.is_fsdp2:  # whose default sums the gradients of processes in bfloat16
        from torch.distributed.fsdp import MixedPrecisionPolicy

        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
        accelerator.state.fsdp_plugin.mixed_precision_policy = policy
    return accelerator


@contextmanager
def _memory(config: Common) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory in a training step ({next(iter(str(error).splitlines()), 'MemoryError')}). "
            f"Lower micro_batch_size (now {config.micro_batch_size}), which does not change the step; if that is not "
            "enough, set gradient_checkpointing: true, or train adapters (lora_rank: 16). Then run again"
        ) from error


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
