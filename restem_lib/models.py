"""Load and save causal language models: a Hub id, a local folder, a .gguf file, or a toy model of the project."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restem_lib import UserError
from restem_lib.config import PROJECT
from restem_lib.files import StoreError, file_sha256
from restem_lib.provenance import version
from restem_lib.store import KEY, Stage, digest, open_stage

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOYS = PROJECT / "models"
GGUF_VERSION = 1
WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""Files fetched from the Hub: safetensors only, never pickled weights."""
OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""In what torch says where an error of no class of its own means it."""


class ModelError(UserError, ValueError):
    """A model cannot be found or loaded; the text says what was tried."""


def resolve(name: str, runs_dir: str | Path) -> Path:
    """The local folder of a model, fetched from the Hub or converted from GGUF if need be.

    `name` is a toy model ("toy-m"), a folder, a .gguf file (converted once into the store) or a Hub id
    ("org/name", or "org/name@revision"). Raises ModelError.
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"no model file {path}")
        return _from_gguf(path, runs_dir)
    if name.startswith("toy-") and not path.is_dir():
        path = TOYS / name
        if not path.is_dir():
            ready = ", ".join(sorted(p.name for p in TOYS.glob("toy-*"))) or "none"
            raise ModelError(
                f"no toy model {name!r} in {TOYS} (there: {ready}); `restem pretrain` makes one"
            )
    if path.is_dir():
        if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
            raise ModelError(
                f"{path} is not a model folder: it needs config.json and *.safetensors"
            )
        if (path / "adapter_config.json").exists():  # transformers would load another model
            raise ModelError(
                f"{path} holds adapters, not a whole model: merge them into their base first"
            )
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"no model {name!r}: not a folder, not a .gguf file, not a toy model, not a Hub id (org/name)"
        )
    return _from_hub(name)


def identity(folder: Path) -> str:
    """What stands for a model in the settings of a stage: a hash of the files that determine its behaviour.

    A model that a store made is named by its stage; anything else by the content of its files.
    """
    if folder.name == "model" and (folder.parent / KEY).exists():
        try:
            return open_stage(folder.parent).name
        except StoreError:
            pass  # somebody else's key.json
    files = {file for pattern in WEIGHTS for file in folder.glob(pattern)}
    return digest(
        {
            file.name: _content(file, file.stat().st_size, file.stat().st_mtime_ns)
            for file in sorted(files)
        }
    )


@cache
def _content(file: Path, size: int, changed: int) -> str:
    return file_sha256(file)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; a missing padding token becomes the end-of-sequence token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load the tokenizer in {folder}: {error}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer in {folder} has no end-of-sequence token; completions could not end"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    folder: Path, dtype: torch.dtype, place: torch.device | None = None
) -> PreTrainedModel:
    """The model of a folder on a device (this machine's unless told), in eval mode. Safetensors only, no remote code.

    Raises ModelError.
    """
    from transformers import AutoModelForCausalLM

    _no_bars()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
        return model.to(place or device()).eval()
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load a causal language model from {folder}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            f"the model in {folder} does not fit into memory as {dtype}: choose a smaller one, or dtype bfloat16"
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, be it a GPU's or this machine's."""
    import torch

    says = str(error) if isinstance(error, RuntimeError) else ""
    return any(words in says for words in OUT_OF_MEMORY) or isinstance(
        error, MemoryError | torch.OutOfMemoryError
    )


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write an ordinary Hugging Face folder, in the weights' own dtype."""
    _no_bars()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(name: str) -> torch.dtype:
    """The torch dtype of a setting; "auto" is bfloat16 where the hardware has instructions for it."""
    import torch

    if name == "auto":
        return torch.bfloat16 if quick_bfloat16() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def quick_bfloat16() -> bool:
    """Whether bfloat16 matrix products are fast here. Read from flags: a timed probe could change its mind."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    cpu: Any = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    patterns = list(WEIGHTS)
    try:
        return Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
        )
    except Exception as error:  # the Hub client raises many kinds; each means the same to the user
        try:
            return Path(
                snapshot_download(
                    repository,
                    revision=revision or None,
                    allow_patterns=patterns,
                    local_files_only=True,
                )
            )
        except Exception:
            raise ModelError(
                f"cannot fetch {name!r} from the Hub, and it is not in the local cache: {error}"
            ) from error


def _from_gguf(path: Path, runs_dir: str | Path) -> Path:
    """Dequantise once into the store, as bfloat16 (finer than any GGUF quantisation it is used for here)."""
    stage = Stage(
        runs_dir,
        "convert",
        GGUF_VERSION,
        {"gguf": file_sha256(path), "transformers": version("transformers")},
    )
    with stage.work():
        if not stage.has_folder("model"):
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer

            _no_bars()
            start = time.monotonic()
            try:
                quantised = AutoModelForCausalLM.from_pretrained(
                    path.parent,
                    gguf_file=path.name,
                    dtype=torch.float32,
                    trust_remote_code=False,
                )
                tokenizer = AutoTokenizer.from_pretrained(
                    path.parent, gguf_file=path.name, trust_remote_code=False
                )
            except (OSError, ValueError, ImportError, KeyError) as error:
                raise ModelError(f"cannot read the GGUF file {path}: {error}") from error
            # A model that knows it came from GGUF refuses to be saved: its weights go into a plain one.
            config = type(quantised.config)(
                **_without(quantised.config.to_dict(), "quantization_config")
            )
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            model.load_state_dict(quantised.state_dict())
            model.generation_config = quantised.generation_config
            stage.write_folder(
                "model",
                lambda folder: save_model(model.to(torch.bfloat16), tokenizer, folder),
                time.monotonic() - start,
            )
    return stage.read_folder("model")


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _no_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


def is_toy(folder: Path) -> bool:
    """Whether a model is of the toy world's size: weights of less than 50 MB."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) < 50 * 2**20
