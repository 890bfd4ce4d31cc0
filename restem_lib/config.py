"""The one flat key table of every run, and its strict loading.

`Config` is a preset (`params/*.yaml`): what the notebooks run. `Loop` is one run of the EM loop on one model and
one task: `Config.loop` makes it for the notebooks, the command line makes it from its flags. Both share `Common`.
A key that is unknown, missing or of the wrong type stops the run before any work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from restem_lib.keys import ConfigError, at_least, check_names, choice, parse_yaml, typed

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout that this package runs from."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """Settings that a preset and a single run share. Defaults are those of `params/cpu.yaml`."""

    val_problems: int = 200
    """Training problems held out for the M-step's stopping rule; 0: a tenth of them, at least 100."""
    test_problems: int = 512
    """Test problems evaluated (the first of the task); 0: all."""
    temperature: float = 0.7
    """E-step temperature (paper: 0.7)."""
    top_k: int = 40
    """E-step top-k (paper: 40)."""
    max_new_tokens: int = 128
    """Longest completion; a sample cut off there earns no reward."""
    keep: str = "correct"
    """Which samples become training pairs: "correct" (reward 1), or a control: "random" (as many a problem as are
    correct, whatever their reward), "all" (every one up to the cap: self-training without a filter)."""
    cap: int = 10
    """Kept samples per problem at most, drawn at random (paper: 10; which ones it does not say); 0: no cap."""
    dedup: bool = False
    """Keep identical completions of a problem once (the paper does not mention it; RFT does it)."""
    start: str = "base"
    """Where every M-step starts: "base" (ReST^EM) or "last" (continue from the last iteration, as ReST does)."""
    learning_rate: float = 3e-4
    batch_size: int = 32
    """Sequences an optimiser step."""
    micro_batch_size: int = 32
    """Sequences a forward pass; smaller ones accumulate gradients and give the same step."""
    max_epochs: float = 1.0
    warmup: float = 0.1
    """Share of the steps with rising learning rate; after it, linear decay to zero at max_epochs."""
    eval_every: float = 1.0
    """Epochs between candidates for the M-step's stopping rule."""
    patience: int = 4
    """Candidates without improvement of the validation reward before the M-step stops."""
    lora_rank: int = 0
    """Rank of LoRA adapters (with peft), which are merged into the base at the end; 0: full fine-tuning."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    compile: str = "auto"
    """M-steps under torch.compile: "auto" (where they are long enough and a compiler is there), "always", "never"."""
    engine: str = "torch"
    """What draws samples: "torch", or "vllm", which is for GPUs and installed apart. Validation within an M-step is
    always by torch."""
    dtype: str = "auto"
    """"float32", "bfloat16", or "auto": bfloat16 where the hardware is quick at it."""
    rows: int = 1024
    """Samples the engine works on at a time."""
    memory_share: float = 0.9
    """Share of a GPU's memory that vLLM may take."""
    executor: str = "local"
    """Where samples are drawn and scored: "local", or "ray": on the nodes of a Ray cluster."""
    ray_address: str = ""
    """The cluster: "" is the environment variable RAY_ADDRESS, or else a cluster that runs on this machine."""
    worker_cpus: int = 1
    """CPU cores, and threads, of each Ray worker."""
    worker_gpus: int = 0
    """GPUs of each Ray worker; several are shared by one vLLM (tensor parallel)."""
    accelerate_config: str = ""
    """A file of `accelerate config`: M-steps then run on its processes (DDP, FSDP); "": in one process."""
    problem_block: int = 512
    """Problems a shard: with sample_block the unit of work, of resume and of seeds."""
    sample_block: int = 6
    unsafe_programs: bool = False
    """Run programs even where no sandbox works: model-written code then has the user's rights."""
    data_dir: str = ""
    """Folder with local benchmarks; "" is the environment variable RESTEM_DATA, then the Hub."""
    runs_dir: str = "runs"
    """Root of the stage store."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{field.name} is {value}; it must be a finite number")
        choice(self, "keep", ("correct", "random", "all"))
        choice(self, "start", ("base", "last"))
        choice(self, "engine", ("torch", "vllm"))
        choice(self, "dtype", ("auto", "float32", "bfloat16"))
        choice(self, "compile", ("auto", "always", "never"))
        choice(self, "executor", ("local", "ray"))
        at_least(self, 0, "val_problems", "test_problems", "top_k", "cap", "temperature")
        at_least(self, 0, "lora_rank", "worker_gpus")
        at_least(self, 1, "worker_cpus", "max_new_tokens", "batch_size", "micro_batch_size")
        at_least(self, 1, "patience", "rows", "problem_block", "sample_block")
        for name in ("learning_rate", "max_epochs", "eval_every"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.executor == "ray" and self.engine == "vllm" and not self.worker_gpus:
            raise ConfigError(
                "worker_gpus is 0, but vLLM draws on GPUs: set how many each Ray worker gets (worker_gpus: 1), or "
                "engine: torch"
            )
        if not 0 < self.memory_share <= 1:
            raise ConfigError(
                f"memory_share is {self.memory_share}; it is a share of a GPU's memory, above 0 and up to 1"
            )
        if not 0 <= self.warmup < 1:
            raise ConfigError(
                f"warmup is {self.warmup}; it is a share of the steps, from 0 to below 1"
            )


@dataclass(frozen=True, kw_only=True)
class Config(Common):
    """A preset: everything the notebooks can be told. The fields are the key table."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    model: str = "toy-m"
    """The base model of every notebook that has one: a toy name, a Hub id, a local folder or a .gguf file."""
    models: tuple[str, ...] = ("toy-s", "toy-m", "toy-l")
    """The ladder of base models, the smallest first, the last the teacher of the first; unused where `model` is none of
    them."""
    seeds_others: tuple[int, ...] = (0,)
    """Training seeds of all other models."""
    worlds: tuple[str, ...] = ("toy-s-seed1", "toy-s-no-slips")
    """More base models for a look at how much hangs on the base, trained with `seeds_others`; may be empty."""
    math_task: str = "toy-math"
    math_problems: int = 392
    """Training problems of the maths task; 0: all but the validation slice."""
    math_samples: int = 6
    """Samples per problem and iteration (paper: 32)."""
    math_iterations: int = 3
    math_transfer: str = "toy-gsm"
    """Where the gain in maths may carry over to (paper: GSM8K); never trained on."""
    small_problems: int = 112
    """Training problems of the small set of maths problems, for overfitting and for how many problems it takes."""
    code_task: str = "toy-code"
    code_problems: int = 112
    """Training problems of the task of programs; 0: all but the validation slice."""
    code_samples: int = 6
    """Samples per problem and iteration (paper: 64)."""
    code_iterations: int = 2
    code_seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds of `model` on programs; fewer will do, for an M-step is three times as long there."""
    code_transfer: str = "toy-humaneval"
    unrelated: str = "toy-bbh"
    """Tasks unlike those trained on, reasoned; NAME-direct has the same, answered directly."""
    exam: str = "toy-exam"
    pass_k_problems: int = 128
    """Test problems for what is sampled: pass@k, majority vote, difficulty; 0: as many as test_problems."""
    pass_k_samples: int = 32
    """Samples of each of them (paper: 64)."""
    out_dir: str = "runs/cpu"
    """Where notebooks write results and figures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("seeds", "code_seeds", "models", "seeds_others"):
            values = getattr(self, name)
            if not values:
                raise ConfigError(f"{name} is empty; give at least one")
            if len(set(values)) < len(values):
                raise ConfigError(f"{name} has one twice: {', '.join(map(str, values))}")
        at_least(self, 1, "math_samples", "code_samples", "math_iterations", "code_iterations")
        at_least(self, 1, "small_problems")
        # One half sorts problems by difficulty, the other rates them.
        at_least(self, 2, "pass_k_samples")
        at_least(self, 0, "math_problems", "code_problems", "pass_k_problems")

    @property
    def ladder(self) -> tuple[str, ...]:
        """`models`, or `model` alone where it is not among them."""
        return self.models if self.model in self.models else (self.model,)

    def seeds_of(self, model: str | None = None, domain: str = "math") -> tuple[int, ...]:
        """The training seeds of a model (`model` unless told) in "math" or "code"."""
        if model not in (None, self.model):
            return self.seeds_others
        return self.code_seeds if domain == "code" else self.seeds

    def loop(self, model: str | None = None, seed: int | None = None, domain: str = "math") -> Loop:
        """The run of this preset in "math" or "code" for one model and seed (`model` and the first unless told)."""
        common = {field.name: getattr(self, field.name) for field in fields(Common)}
        mine = {
            key: getattr(self, f"{domain}_{key}")
            for key in ("task", "problems", "samples", "iterations")
        }
        return Loop(
            model=self.model if model is None else model,
            seed=self.seeds_of(model, domain)[0] if seed is None else seed,
            **mine,
            **common,
        )


@dataclass(frozen=True, kw_only=True)
class Loop(Common):
    """One run of the EM loop: one base model, one task, one seed."""

    model: str
    task: str
    seed: int = 0
    problems: int = 0
    """Training problems; 0: all but the validation slice."""
    samples: int = 32
    """Samples per problem and iteration."""
    iterations: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "problems")
        at_least(self, 1, "samples", "iterations")


KEYS: dict[str, str] = {field.name: str(field.type) for field in fields(Config)}
"""The key table: name -> type."""


def from_names(names: Mapping[str, Any]) -> Config:
    """The config that a notebook's variables describe; names outside the key table are left alone.

    A notebook calls `from_names(globals())`; keys that its parameters cell does not declare keep their defaults.
    Relative folders and files are taken from the project's root: papermill, nbval and JupyterLab each start elsewhere.
    """
    known = {name: value for name, value in names.items() if name in KEYS}
    return anchor(from_mapping(known, "the notebook's parameters"))


def anchor(config: Config) -> Config:
    """The config with its relative folders and files taken from the project's root."""
    anchored: dict[str, Any] = {name: _anchored(getattr(config, name)) for name in TASKS}
    for name in ("models", "worlds"):
        anchored[name] = tuple(_anchored(model) for model in getattr(config, name))
    return replace(
        config,
        **anchored,
        model=_anchored(config.model),
        data_dir=config.data_dir and _from_root(config.data_dir),
        accelerate_config=config.accelerate_config and _from_root(config.accelerate_config),
        runs_dir=_from_root(config.runs_dir),
        out_dir=_from_root(config.out_dir),
    )


TASKS = ("math_task", "math_transfer", "code_task", "code_transfer", "unrelated", "exam")
"""Keys whose value may be a file."""


def _from_root(path: str) -> str:
    return str(PROJECT / Path(path).expanduser())


def _anchored(name: str) -> str:
    return str(PROJECT / name) if (PROJECT / name).exists() else name


def from_mapping(values: Mapping[str, Any], where: str) -> Config:
    """Check names and types and build the Config. `where` names the source in errors. Raises ConfigError."""
    check_names(values, KEYS, where)
    return Config(**{name: typed(name, KEYS[name], value, where) for name, value in values.items()})


def preset_path(name: str) -> Path:
    """The file of a preset: a name in params/, or a path that ends in .yaml."""
    is_file = name.endswith((".yaml", ".yml"))
    return Path(name) if is_file else PROJECT / "params" / f"{name}.yaml"


def load_preset(path: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a complete preset file; every key of the table must be there. Raises ConfigError."""
    if not path.is_file():
        found = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise ConfigError(f"no preset {path.stem!r}: {path} is not a file (presets there: {found})")
    values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys; expected 'name: value' lines")
    check_names(values, KEYS, str(path))
    missing = [name for name in KEYS if name not in values]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}; a preset gives every key")
    overrides = overrides or {}
    check_names(overrides, KEYS, "-p")
    return from_mapping({**values, **overrides}, str(path))
