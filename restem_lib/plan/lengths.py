"""How many tokens a task's prompts and a model's completions have, by a few problems and what the store holds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from restem_lib.config import Common
from restem_lib.files import StoreError
from restem_lib.models import TOYS, identity, load_tokenizer
from restem_lib.records import Problem, Sample, Score
from restem_lib.store import Shards, open_stage
from restem_lib.tasks import Task, load_task, names
from restem_lib.tasks.local import TaskError, data_folder
from restem_lib.upkeep import stages

if TYPE_CHECKING:
    from collections.abc import Callable

PROBLEMS = 64
"""Problems whose prompts are counted."""
CHARACTERS = 3.5
"""Of a token, where the model's tokenizer is not on this machine."""
OWN, SHARED = 200, 800
"""Tokens of a prompt and of the examples before it, where the task's data are not at hand."""
WRITTEN = 0.5
"""Share of max_new_tokens that a completion has, where nothing is known of completions."""
RIGHT = 0.3
"""Share of samples that are right, where none has been scored."""
PUBLISHED = {
    "math": (7500, 5000),
    "math500": (7500, 500),
    "gsm8k": (7469, 1319),
    "apps": (2342, 1000),
    "humaneval": (0, 164),
    "mbpp": (374, 500),
    "bbh": (0, 6511),
}
"""Training and test problems of benchmarks that are not at hand; of APPS as many as the paper trained on."""


@dataclass(frozen=True)
class Lengths:
    """Means in tokens, and where they are from."""

    shared: float
    prompt: float
    new: float
    right: float
    """Share of the samples with reward 1."""
    source: str

    def __str__(self) -> str:
        after = f" after {self.shared:.0f} shared ones" if self.shared else ""
        return (
            f"{self.prompt:.0f} tokens a prompt{after}, {self.new:.0f} a completion ({self.source})"
        )


@dataclass
class Tasks:
    """Tasks that are at hand. After a first one that the Hub does not give, the Hub is not asked again."""

    data_dir: str
    offline: bool = False

    def __post_init__(self) -> None:
        self.found: dict[str, Task | None] = {}

    def get(self, name: str) -> Task | None:
        """The task, or None for a known benchmark that cannot be had here. Raises TaskError for any other."""
        if name not in self.found:
            try:
                self.found[name] = (
                    None if self.offline and self._of_hub(name) else load_task(name, self.data_dir)
                )
            except TaskError:
                if name not in PUBLISHED or not self._of_hub(name):
                    raise
                self.offline, self.found[name] = True, None
        return self.found[name]

    def _of_hub(self, name: str) -> bool:
        made_here = name.startswith("toy-") or name not in names()
        return not made_here and data_folder(self.data_dir, name) is None


def measured(task: Task | None, problems: Sequence[Problem], model: str, config: Common) -> Lengths:
    """Lengths of a model's prompts and completions on a task; `task` None: nothing is at hand, all is assumed."""
    folder = next((one for one in (Path(model).expanduser(), TOYS / model) if one.is_dir()), None)
    if task is None:
        new = WRITTEN * config.max_new_tokens
        source = f"data not at hand, so assumed; {_written(config)}; {_GUESS}"
        return Lengths(SHARED, OWN, new, RIGHT, source)
    count, how = _counter(folder)
    some = problems[:PROBLEMS]
    shared = count(task.prefix) if task.prefix else 0
    prompt = statistics.mean(count(task.prompt(one)) for one in some) - shared
    source = f"prompts of {len(some)} problems, {how}"
    drawn = _drawn(task, folder, config) if folder else None
    if drawn:
        new, right, told = drawn
        return Lengths(shared, prompt, new, right, f"{source}; {told}")
    solved = [one.solution for one in some if one.solution]
    if solved:
        new = min(config.max_new_tokens, statistics.mean(map(count, solved)) + 1)
        told = f"completions as long as {len(solved)} human solutions"
    else:
        new, told = WRITTEN * config.max_new_tokens, _written(config)
    return Lengths(shared, prompt, new, RIGHT, f"{source}; {told}; {_GUESS}")


_GUESS = f"{RIGHT:.0%} of samples assumed right"


def _written(config: Common) -> str:
    return f"completions assumed to be {WRITTEN:.0%} of max_new_tokens ({config.max_new_tokens})"


def _counter(folder: Path | None) -> tuple[Callable[[str], int], str]:
    if folder is None or not (folder / "tokenizer_config.json").is_file():
        return lambda text: round(
            len(text) / CHARACTERS
        ), f"{CHARACTERS:g} characters a token assumed"
    tokenizer = _tokenizer(folder)
    return lambda text: len(tokenizer(text)["input_ids"]), "by the model's tokenizer"


_tokenizer = cache(load_tokenizer)


def _drawn(task: Task, folder: Path, config: Common) -> tuple[float, float, str] | None:
    """Mean tokens of the base's E-step samples in the store, the share that is right, and in words."""
    wanted = {"task": task.name, "model": identity(folder), "stream": "e-step-1"}
    tokens: list[int] = []
    rewards: list[int] = []
    for path in stages(config.runs_dir):
        try:
            if path.name.startswith("sample-"):
                stage = open_stage(path)
                settings = stage.key["settings"]
                if wanted.items() <= settings.items():
                    shards = Shards(stage, tuple(stage.shards()))
                    tokens += [sample.tokens for sample in shards.records(Sample)]
                    rewards += _rewards(stage.name, config)
        except StoreError:
            continue  # damaged or in work: what is left will do
    if not tokens:
        return None
    right = statistics.mean(rewards) if rewards else RIGHT
    told = f"completions and share of right ones ({right:.0%}) of {len(tokens)} samples in {config.runs_dir}"
    return statistics.mean(tokens), right, told


def _rewards(samples: str, config: Common) -> list[int]:
    for path in stages(config.runs_dir):
        if path.name.startswith("score-"):
            stage = open_stage(path)
            if stage.key["settings"].get("samples") == samples:
                shards = Shards(stage, tuple(stage.shards()))
                return [score.reward for score in shards.records(Score)]
    return []
