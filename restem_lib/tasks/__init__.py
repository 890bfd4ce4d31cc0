"""Tasks: problems with gold answers, the prompt that asks them, what ends an answer. One module a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from restem_lib.records import Problem


@dataclass(frozen=True)
class Task:
    """A loaded benchmark."""

    name: str
    train: tuple[Problem, ...]
    test: tuple[Problem, ...]
    template: str
    """The prompt around one question; contains "{question}" once."""
    prefix: str = ""
    """Few-shot examples before every prompt; engines compute it once."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion, beside the end-of-sequence token."""

    def prompt(self, problem: Problem) -> str:
        """Exactly what the model sees: in the E-step, in evaluation, and as M-step input (paper, section 5)."""
        return self.prefix + self.template.replace("{question}", problem.question)


def load_task(name: str, data_dir: str = "") -> Task:
    """The task of a name: "toy-math", "gsm8k", or the path of a .jsonl file of one's own. Raises TaskError."""
    from restem_lib.tasks import gsm8k, jsonl, toy_math
    from restem_lib.tasks.local import TaskError

    if name.endswith(".jsonl"):
        return jsonl.load(name)
    loaders: dict[str, Callable[[], Task]] = {
        "toy-math": toy_math.load,
        "gsm8k": lambda: gsm8k.load(data_dir),
    }
    if name not in loaders:
        raise TaskError(
            f"no task {name!r}; there are {', '.join(loaders)}, or a path ending in .jsonl"
        )
    return loaders[name]()
