"""The cost model against a finished store: `python -m benchmarks.planning RUNS_DIR` (about a minute on two cores).

For every stage in the store of a run on this machine's CPU: the seconds that `restem plan`'s cost model gives it, and
those that its manifest has. The model is told what the records hold, which a plan has to assume: numbers of problems,
samples, pairs and steps, and tokens. How quick this machine is it learns here, from toy-s and toy-l on 128 problems of
toy-gsm (restem_lib/plan/measuring.py), never from the store; scoring is a constant. Judge a run of toy-m, then model
and samples are others. The bar is 25 % for the sum of each kind. Start it with the threads, and beside the load, that
the run had. `--save` keeps the result in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import describe, save
from restem_lib.batching import batches, distinct, tokens
from restem_lib.engines.torch_engine import SHARED
from restem_lib.files import StoreError
from restem_lib.models import TOYS, ModelError, identity, load_tokenizer
from restem_lib.plan.cost_model import Cluster, Cost, Draw, Training, decode, prefill, training
from restem_lib.plan.machines import Paces
from restem_lib.plan.measuring import this_machine
from restem_lib.plan.shapes import of
from restem_lib.plan.stage_costs import DISK, SCORING
from restem_lib.records import Candidate, Pair, Sample
from restem_lib.store import Shards, Stage, open_stage
from restem_lib.tasks import Task, load_task
from restem_lib.upkeep import stages

BAR = 0.25

tokenizer_of = cache(load_tokenizer)
task_of = cache(load_task)


class Judged(NamedTuple):
    """One stage: seconds."""

    kind: str
    model: str
    predicted: float
    measured: float


class Store:
    """The stages of a runs folder by name, and how this machine is to be counted."""

    def __init__(self, runs_dir: Path, models: list[Path], dtype: str) -> None:
        self.stages: dict[str, Stage] = {}
        for folder in stages(runs_dir):
            try:
                self.stages[folder.name] = open_stage(folder)
            except StoreError as error:
                print(f"left out: {error}")
        self.known = {identity(folder): folder for folder in [*TOYS.glob("toy-*"), *models]}
        self.machine, self.paces = this_machine(dtype)

    def folder(self, name: str) -> Path:
        """The folder of the model that a stage's settings name."""
        if name in self.known:
            return self.known[name]
        if name in self.stages:
            return self.stages[name].folder / "model"
        raise ModelError(f"the store does not hold the model {name}; name its folder with --models")

    def judged(self) -> Iterator[Judged]:
        """Every stage that takes time and is finished."""
        for stage in self.stages.values():
            if not stage.shards():
                continue
            if stage.kind == "sample":
                yield self.sample(stage)
            elif stage.kind == "score":
                yield self.score(stage)
            elif stage.kind == "tune":
                yield self.tune(stage)

    def sample(self, stage: Stage) -> Judged:
        """A stage of samples, shard by shard."""
        settings, shards = stage.key["settings"], stage.shards()
        folder, how = self.folder(settings["model"]), settings["sampling"]
        cost, seconds = Cost(), 0.0
        task = task_of(settings["task"])
        prompts = {problem.id: problem for problem in (*task.train, *task.test)}
        count = tokenizer_of(folder)
        for name, entry in shards.items():
            drawn = list(Shards(stage, (name,)).records(Sample))
            asked = [task.prompt(prompts[one]) for one in {sample.problem_id for sample in drawn}]
            shared = _shared(task, count)
            mean = sum(map(len, count(asked)["input_ids"])) / len(asked) - shared
            new = [sample.tokens for sample in drawn]
            draw = Draw(
                len(asked),
                len(drawn) // len(asked),
                shared,
                mean,
                sum(new) / len(new),
                max(new),
                settings["rows"],
                top_p=how["top_p"] < 1,
            )
            cost += self.drawing(folder, draw)
            seconds += entry["seconds"]
        kind = "greedy" if how["temperature"] == 0 else "pass@k" if how["top_p"] < 1 else "E-step"
        return Judged(f"sampling, {kind}", folder.name, cost.total, seconds)

    def drawing(self, folder: Path, draw: Draw) -> Cost:
        """Prompts and completions of one call."""
        shape, pace = of(str(folder)), self.paces.torch
        return prefill(shape, self.machine, pace, draw) + decode(shape, self.machine, pace, draw)

    def score(self, stage: Stage) -> Judged:
        """A stage of scores."""
        settings, shards = stage.key["settings"], stage.shards()
        task = self.stages[settings["samples"]].key["settings"]["task"]
        rows = sum(entry["rows"] for entry in shards.values())
        kind = _grader(settings["grader"], task)
        seconds = sum(entry["seconds"] for entry in shards.values())
        # Programs have all cores; an answer's helper processes are counted in the constant.
        cores = self.machine.cores if kind == "programs" else 1
        return Judged(f"scoring, {kind}", "", rows * SCORING[kind] / cores, seconds)

    def tune(self, stage: Stage) -> Judged:
        """An M-step, with its looks at the validation problems."""
        settings, folder = stage.key["settings"], self.folder(stage.key["settings"]["base"])
        history = list(Shards(stage, ("history.parquet",)).records(Candidate))
        source = self.stages[settings["pairs"]["stage"]]
        text = tokenizer_of(folder)
        examples = [tokens(pair, text) for pair in Shards(source, ("pairs.parquet",)).records(Pair)]
        lengths = [example.length for example in examples]
        cut = batches(lengths, settings["batch_size"], settings["seed"], 0)
        unlike = [example for one in cut for example, _ in distinct([examples[i] for i in one])]
        mean = sum(example.length for example in unlike) / len(unlike)
        target = sum(len(example.target) for example in unlike) / len(unlike)
        size = max(1, round(len(unlike) / len(cut)))
        micro = settings["micro_batch_size"]
        work = Training(history[-1].step, size, micro, mean, target, max(lengths))
        looks, shape, pace = len(history) - 1, of(str(folder)), self.paces.training
        cost = training(shape, Cluster(self.machine), pace, work)
        longest, rows = settings["max_new_tokens"], settings["rows"]
        draw = Draw(history[0].problems, 1, 0, mean - target, target, longest, rows)
        kind = _grader(settings["grader"][0], self.asked(source))
        grading = history[0].problems * SCORING[kind]
        cost += (self.drawing(folder, draw) + Cost({"grader": grading})) * looks
        written = looks * 14 * shape.parameters / DISK
        seconds = sum(entry["seconds"] for entry in stage.shards().values())
        name = "M-step, compiled" if settings["compiled"] else "M-step"
        return Judged(name, folder.name, cost.total + pace.start + written, seconds)

    def asked(self, pairs: Stage) -> str:
        """The task that pairs are of."""
        settings = pairs.key["settings"]
        if "task" in settings:
            return str(settings["task"])
        return str(self.stages[settings["samples"]["stage"]].key["settings"]["task"])


def _shared(task: Task, count: Any) -> int:
    shared = len(count(task.prefix)["input_ids"]) if task.prefix else 0
    return shared if shared >= SHARED else 0


def _grader(name: str, task: str) -> str:
    kind = name.partition("-")[0]
    return "toy answers" if kind == "answers" and task.startswith("toy-") else kind


def summary(found: list[Judged]) -> dict[str, dict[str, float]]:
    """Sums and their ratio by kind of stage, and of all."""
    sums: dict[str, dict[str, float]] = defaultdict(
        lambda: {"stages": 0, "predicted_s": 0.0, "measured_s": 0.0}
    )
    for one in found:
        for kind in (one.kind, "all"):
            sums[kind]["stages"] += 1
            sums[kind]["predicted_s"] += one.predicted
            sums[kind]["measured_s"] += one.measured
    kinds = [*sorted(kind for kind in sums if kind != "all"), "all"]
    return {
        kind: {
            **sums[kind],
            "ratio": sums[kind]["predicted_s"] / max(1e-3, sums[kind]["measured_s"]),
        }
        for kind in kinds
        if kind in sums
    }


def report(kinds: dict[str, dict[str, float]]) -> Iterator[str]:
    """The summary as lines."""
    yield f"{'stage':<22} {'count':>5} {'predicted':>10} {'measured':>10} {'ratio':>6}"
    for kind, one in kinds.items():
        off = one["ratio"] - 1
        within = f"within {BAR:.0%}" if abs(off) <= BAR else f"off by {off:+.0%}"
        yield (
            f"{kind:<22} {one['stages']:>5.0f} {one['predicted_s']:>8.1f} s {one['measured_s']:>8.1f} s "
            f"{one['ratio']:>6.2f}  {within}"
        )


def threads(store: Store) -> set[int]:
    """Threads of the processes that wrote the store."""
    manifests = (stage.folder / "manifest.json" for stage in store.stages.values())
    return {
        json.loads(one.read_text())["provenance"]["threads"] for one in manifests if one.is_file()
    }


def how(paces: Paces) -> dict[str, Any]:
    """The constants that were measured, as plain values."""
    return {name: vars(getattr(paces, name)) for name in ("torch", "training")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="folders of other bases")
    parser.add_argument("--dtype", default="auto", help="that of the run (default: auto)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--save", action="store_true", help="keep it in benchmarks/results/")
    options = parser.parse_args()
    store = Store(options.runs_dir, options.models, options.dtype)
    found = list(store.judged())
    if not found:
        parser.error(f"{options.runs_dir} holds no finished stages")
    here = describe()
    if there := threads(store) - {here["threads"]}:
        print(
            f"note: parts of the store are of processes with {there} threads, this one has {here['threads']}"
        )
    kinds = summary(found)
    print("\n".join(report(kinds)))
    print(f"engine and M-step {store.paces.measured}")
    result = {"benchmark": "planning", **here, "paces": how(store.paces), "kinds": kinds}
    if options.save:
        print("kept in", save("planning", result))
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
