"""The records that flow through the loop, and their Arrow schemas.

problems -> samples -> scores -> kept pairs -> model -> evaluation. A record is a frozen dataclass of plain
values; on disk it is one row of a Parquet shard, so `datasets.load_dataset("parquet", ...)` opens it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

VERDICTS = ("correct", "wrong", "no_answer", "timeout", "error")


@dataclass(frozen=True)
class Problem:
    """One problem x of a task."""

    id: str
    """Unique within the task, e.g. "gsm8k/train/17"."""
    question: str
    """What is asked, without the prompt around it."""
    answer: str
    """What the reward compares with, never empty: a final answer, or the tests of a program (`rewards.programs.Tests`)
    as JSON."""
    solution: str = ""
    """A human(-style) solution in the form a model should write it, or "" where the task has none."""
    level: int = 0
    """Difficulty as the task counts it (toy-math: number of steps); 0 where it does not."""


@dataclass(frozen=True)
class Sample:
    """One solution y drawn from a model for a problem."""

    problem_id: str
    index: int
    """Which of the problem's samples, from 0."""
    text: str
    """The completion, without prompt, end-of-sequence token or stop string."""
    tokens: int
    """Generated tokens, the end-of-sequence token included."""
    finish: str
    """Why it ended: "eos", "stop" (a stop string) or "length" (cut off)."""


@dataclass(frozen=True)
class Score:
    """The binary reward r(x, y) of a sample, and how it came about."""

    problem_id: str
    index: int
    reward: int
    """1 or 0."""
    verdict: str
    """One of VERDICTS; only "correct" has reward 1."""
    answer: str
    """The answer taken from the sample, "" if there is none."""
    why: str
    """One phrase for people: how it was compared, or what went wrong."""
    grader: str
    """Name and version of the grader, e.g. "answers-1"."""


@dataclass(frozen=True)
class Pair:
    """A kept sample as training example: loss on the completion only."""

    problem_id: str
    index: int
    prompt: str
    """Exactly what the model saw when it was sampled, few-shot examples included."""
    completion: str


@dataclass(frozen=True)
class Evaluation:
    """One number measured on a model: never without its interval and n."""

    metric: str
    """"greedy", "pass@k", "majority@k", "tests passed", "points"; k is in the next field."""
    k: int
    value: float
    """A rate in 0..1; NaN where it is undefined (pass@k with k > n)."""
    low: float
    """Lower end of the 95 % interval over problems."""
    high: float
    problems: int
    """Number of problems behind the value."""
    samples: int
    """Samples per problem behind the value."""


@dataclass(frozen=True)
class Candidate:
    """One point of an M-step at which the stopping rule looked at the validation reward."""

    epoch: float
    step: int
    loss: float
    """Mean training loss per target token since the last candidate; NaN at the start."""
    reward: float
    """Mean greedy reward on the validation problems."""
    problems: int
    best: int
    """1 for the candidate that became the stage's model."""


R = TypeVar("R", Problem, Sample, Score, Pair, Evaluation, Candidate)


def schema(kind: type[R]) -> pa.Schema:
    """Arrow schema of a record type; str -> string, int -> int64, float -> float64.

    >>> schema(Pair).names
    ['problem_id', 'index', 'prompt', 'completion']
    """
    import pyarrow as pa

    arrow = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    return pa.schema([(field.name, arrow[str(field.type)]) for field in fields(kind)])


def to_table(records: Iterable[R], kind: type[R]) -> pa.Table:
    """Records as an Arrow table, in the order given."""
    import pyarrow as pa

    return pa.Table.from_pylist([asdict(record) for record in records], schema=schema(kind))


def from_table(table: pa.Table, kind: type[R]) -> list[R]:
    """The inverse of `to_table`. Raises ValueError when the columns are not the record's fields."""
    if table.schema.names != schema(kind).names:
        raise ValueError(
            f"columns {table.schema.names} are not those of {kind.__name__}: {schema(kind).names}"
        )
    return [kind(**row) for row in table.to_pylist()]
