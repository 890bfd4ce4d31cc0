"""The commands that look: at tasks, plans, rewards, the exam, the store, this machine; cli.py reads their arguments."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from restem_lib.keys import ConfigError


def tasks(args: argparse.Namespace) -> None:
    """List the benchmarks: what can be loaded here, how many problems, and what overlaps."""
    from restem_lib.records import Problem
    from restem_lib.tasks import bbh, load_task, names
    from restem_lib.tasks.local import TaskError
    from restem_lib.tasks.overlap import overlaps

    sets: dict[str, Sequence[Problem]] = {}
    for name in args.tasks or names():
        try:
            task = load_task(name, args.data_dir)
        except TaskError as error:
            if args.tasks:
                raise
            print(f"{name:<15} cannot be loaded: {error}")
            continue
        print(
            f"{name:<15} {len(task.train):>5} train {len(task.test):>5} test  reward: {task.grader}"
        )
        for note in task.notes:
            print(f"{'':<15} {note}")
        if name.startswith("bbh"):  # without the examples, which its questions share
            sets["bbh test"] = [p for asked in bbh.problems(args.data_dir).values() for p in asked]
        elif name != "hungarian-auto":  # the same questions as those of "hungarian"
            sets |= {f"{name} train": task.train, f"{name} test": task.test}
    print(
        "\nThe second set's problems that the first holds too, or half of whose 13-word runs it holds:"
    )
    pairs = overlaps({name: problems for name, problems in sets.items() if problems})
    if not any(found.exact or found.partial for found in pairs):
        print("  none")
    for found in pairs:
        if found.exact or found.partial or args.all:
            such = "; ".join(" = ".join(pair) for pair in found.examples)
            print(
                f"  {found.first} / {found.second}: {found.exact} the same, {found.partial} partly, "
                f"of {found.of}{'  (' if such else ''}{such}{')' if such else ''}"
            )


def add_plan(parser: argparse.ArgumentParser) -> None:
    """The arguments of `restem plan`."""
    add = parser.add_argument
    add("--preset", default="cpu", help="a name in params/, or the path of a .yaml file")
    add("--gpus", type=int, default=0, help="in all (default: 0, this machine's CPU)")
    add("--gpu-type", default="", help="such as A100-80, H100, L40S; cpu: this machine")
    add("--nodes", type=int, help="with as many GPUs each (default: as few as hold 8 each)")


def plan(args: argparse.Namespace) -> None:
    """Say what a preset will take: hours, memory and disk, by a cost model."""
    from restem_lib.plan import forecast

    forecast.command(args)


def verify(args: argparse.Namespace) -> None:
    """Write the ids of the APPS train problems of which a human solution passes the tests."""
    from restem_lib.rewards import grader
    from restem_lib.tasks import apps

    _new(args.ids)
    task = apps.load(args.data_dir)
    found = apps.passing(
        task.train,
        apps.human_solutions(args.data_dir),
        grader("programs", args.unsafe_programs).grade,
    )
    if not found:
        raise ConfigError("no human solution passes its tests; nothing was written")
    args.ids.write_text("".join(f"{id} {which}\n" for id, which in found.items()))
    print(
        f"{len(found)} of {len(task.train)} problems have a human solution that passes, of the first "
        f"{apps.SOLUTIONS} of each: {args.ids}. Put it into the folder apps/ of your data folder as ids.txt."
    )


def audit_rewards(args: argparse.Namespace) -> int:
    """Audit the reward for final answers; exit code 1 when it misses a bar."""
    from restem_lib import audit

    if args.limit < 0:
        raise ConfigError(f"--limit is {args.limit}; it must be at least 0")
    print("auditing; 100 gold answers a source take about 4 minutes on two cores", flush=True)
    report = audit.run(args.data_dir, args.limit)
    print(report.text())
    return 0 if report.passes else 1


def exam_sheet(args: argparse.Namespace) -> None:
    """Write the exam's sheet with a model's greedy solutions, to be graded by hand."""
    from restem_lib import models
    from restem_lib.config import Common
    from restem_lib.engines import Sampling
    from restem_lib.records import Sample
    from restem_lib.sampling import draw_samples
    from restem_lib.tasks import hungarian

    _new(args.sheet)
    config = Common(runs_dir=args.out, data_dir=args.data_dir, max_new_tokens=args.max_new_tokens)
    task = hungarian.load(args.data_dir)
    try:
        worth = hungarian.points(args.data_dir)
    except hungarian.TaskError:
        worth = {}  # without a key the points are filled in by hand too
    model = models.resolve(args.model, args.out)
    sampling = Sampling(0.0, 0, 1.0, config.max_new_tokens, task.stop)
    drawn = draw_samples(model, task, task.test, 1, sampling, "greedy", 0, config)
    hungarian.write_sheet(args.sheet, task.test, list(drawn.records(Sample)), worth)
    print(
        f"{args.sheet}: {len(task.test)} questions; give points, then `restem exam read {args.sheet}`"
    )


def _new(path: Path) -> None:
    """Raise ConfigError, before any work, for a file that is there or cannot be made."""
    if path.exists():
        raise ConfigError(f"{path} exists already; choose another name or move it away")
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be made: {path.parent} is not a folder")


def exam_read(args: argparse.Namespace) -> None:
    """Read a graded sheet."""
    from restem_lib.tasks import hungarian

    found = hungarian.read_sheet(args.sheet)
    print(
        f"{found.score:.1f} % ({found.points:g} of {found.possible:g} points, {found.questions} questions, by hand)"
    )


def runs(args: argparse.Namespace) -> int:
    """List, explain or delete stages of the store, or verify them; exit code 1 where a file is damaged."""
    from restem_lib.upkeep import damaged, delete_stage, stages

    found = stages(args.out)
    if args.action == "list":
        for folder in found:
            print(_line(folder))
        print(f"{len(found)} stages in {Path(args.out) / 'stages'}")
        return 0
    if not args.stages and args.action != "verify":
        raise ConfigError(
            f"restem runs {args.action} needs the name of a stage; `restem runs` lists them"
        )
    chosen = [_named(name, found, args.out) for name in args.stages] or found
    if args.action == "verify":
        faults = [line for folder in chosen for line in damaged(folder)]
        print("\n".join([*faults, f"{len(chosen)} stages verified, {len(faults)} faults"]))
        return int(bool(faults))
    for folder in chosen:
        if args.action == "delete":
            delete_stage(args.out, folder)
            print(f"deleted {folder}")
        else:
            print(json.dumps(_explained(folder, found), indent=1, ensure_ascii=False))
    return 0


def _named(name: str, found: Sequence[Path], out: str) -> Path:
    """The one stage whose name, or the hash in it, begins so. Raises ConfigError."""
    matching = [
        folder
        for folder in found
        if name and (folder.name.startswith(name) or folder.name.partition("-")[2].startswith(name))
    ]
    if len(matching) != 1:
        raise ConfigError(
            f"{len(matching)} stages in {out} begin with {name!r}; `restem runs` lists them"
        )
    return matching[0]


def _line(folder: Path) -> str:
    from restem_lib.files import StoreError
    from restem_lib.store import open_stage

    try:
        stage = open_stage(folder)
        entries = stage.shards()
    except StoreError as error:
        return f"{folder.name}  damaged or never begun: {error}"
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    seconds = sum(entry["seconds"] for entry in entries.values())
    settings = stage.key["settings"]
    about = " ".join(
        str(settings[name]) for name in ("task", "stream", "model", "base") if name in settings
    )
    state = f"{len(entries)} files" if entries else "nothing finished"
    return f"{folder.name}  {state:>16}  {size:8.1f} MB  {seconds:7.0f} s  {about}"


def _explained(folder: Path, others: Sequence[Path]) -> dict[str, object]:
    from restem_lib.store import KEY, open_stage

    stage = open_stage(folder)
    keys = {
        other.name: other / KEY for other in others if other != folder and (other / KEY).is_file()
    }
    used_by = [name for name, key in keys.items() if stage.name in key.read_text(encoding="utf-8")]
    return {**stage.key, "files": stage.shards(), "used by": used_by}


def doctor(args: argparse.Namespace) -> None:
    """Report what is installed here."""
    from restem_lib.doctor import examine, report

    found = examine()
    print(json.dumps(found, indent=1) if args.json else report(found))
