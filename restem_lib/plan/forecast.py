"""`restem plan`: hours, memory and disk of a preset before anything starts, as text."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace

from restem_lib.config import Config, anchor, load_preset, preset_path
from restem_lib.keys import ConfigError
from restem_lib.plan.cost_model import NETWORK, NODE, Cluster
from restem_lib.plan.lengths import Tasks
from restem_lib.plan.machines import ASSUMED, Paces, gpu
from restem_lib.plan.measuring import this_machine
from restem_lib.plan.stage_costs import DISK, SCORING, Setting
from restem_lib.plan.stages import Plan, make

SIZES = (1, 8, 64)
"""Numbers of GPUs that are set side by side."""
PARTS = ("E-step", "scoring", "M-step", "validation", "evaluation")
BRIEF = 7200
"""Seconds below which a plan is in minutes."""
POOR = 0.5
"""Share of its GPUs below which a part no longer scales."""
SMALL = 0.01
"""Share of the hours below which that does not matter."""


def command(args: argparse.Namespace) -> None:
    """`restem plan`. Raises UserError."""
    config = anchor(load_preset(preset_path(args.preset)))
    setting = place(config, args.gpus, args.gpu_type, args.nodes)
    tasks = Tasks(config.data_dir)
    plan = make(setting, tasks)
    print("\n".join(text(plan, args.preset)))
    if setting.cluster.machine.name != "cpu":
        print("\n".join(["", *scaling(setting, tasks)]))
    print("\n".join(["", "Assumed:", *(f"- {one}" for one in assumptions(plan))]))


def place(config: Config, gpus: int, gpu_type: str, nodes: int | None) -> Setting:
    """The preset on so many GPUs, or, for none or the type "cpu", on this machine. Raises ConfigError."""
    if gpus < 0:
        raise ConfigError(f"--gpus is {gpus}; it must be 0 (this machine's CPU) or more")
    if gpus == 0 or gpu_type.lower() == "cpu":
        if gpus > 1 or (nodes or 1) > 1:
            raise ConfigError("cpu is this machine alone: give no --nodes, and --gpus 0")
        if gpus == 0 and gpu_type.lower() not in ("", "cpu"):
            raise ConfigError(f"--gpu-type is {gpu_type}, but --gpus is 0; give their number")
        machine, paces = this_machine(config.dtype)
        return Setting(config, Cluster(machine), paces)
    if not gpu_type:
        raise ConfigError(f"--gpus is {gpus}, but of which kind? give --gpu-type (such as H100)")
    nodes = math.ceil(gpus / NODE) if nodes is None else nodes
    if nodes < 1 or gpus % nodes:
        raise ConfigError(
            f"{gpus} GPUs cannot be spread evenly over {nodes} nodes; give --gpus as a multiple of --nodes"
        )
    return Setting(config, Cluster(gpu(gpu_type, config.dtype), gpus, nodes), ASSUMED)


def text(plan: Plan, name: str) -> list[str]:
    """The stages with their sums, the disk and what needs a change."""
    cluster = plan.setting.cluster
    where = "this machine's CPU"
    if cluster.machine.name != "cpu":
        where = f"{cluster.gpus} x {cluster.machine.name} on {_count(cluster.nodes, 'node')}"
    cpu = cluster.machine.name == "cpu"
    minutes = plan.seconds < BRIEF
    show = _minutes if minutes else _hours
    unit, memory = "minutes" if minutes else "hours", "GB" if cpu else "GB a GPU"
    head = ("stage", "count", unit, "bound by", memory)
    rows = [
        (
            stage.name,
            str(stage.count),
            show(stage.cost.total),
            stage.cost.bound,
            _gigabytes(stage.memory) if stage.memory else "",
        )
        for stage in plan.stages
    ]
    most = max(stage.memory for stage in plan.stages)
    total = ("all", "", show(plan.seconds), "", f"{_gigabytes(most)}")
    bounds = dict.fromkeys(stage.cost.bound for stage in plan.stages)
    meant = "; ".join(f"{one}: {_WHY[one]}" for one in bounds if one not in _WHY[one])
    disk = sum(plan.disk.values())
    parts = ", ".join(f"{what} {_gigabytes(size)}" for what, size in plan.disk.items())
    lines = [f"{name} on {where}", "", *table(head, [*rows, total]), ""]
    lines += [f"Bound by {meant}."] if meant else []
    lines += [f"Disk: {_gigabytes(disk)} GB ({parts})."]
    if not cpu:
        room = _gigabytes(plan.main_memory)
        lines += [
            f"Main memory: {room} GB on the node that trains, while every process loads the model."
        ]
    if plan.warnings:
        lines += ["", "To change:", *(f"- {one}" for one in plan.warnings)]
    return lines


def scaling(setting: Setting, tasks: Tasks) -> list[str]:
    """How hours and their parts move with the number of GPUs, and what stops scaling."""
    cluster = setting.cluster
    each = cluster.gpus // cluster.nodes if cluster.nodes > 1 else NODE
    plans: dict[int, Plan] = {}
    for gpus in sorted({*SIZES, cluster.gpus}):
        nodes = cluster.nodes if gpus == cluster.gpus else math.ceil(gpus / each)
        if gpus % nodes == 0 and gpus >= setting.joined:
            there = replace(setting, cluster=Cluster(cluster.machine, gpus, nodes))
            plans[gpus] = make(there, tasks)
    rows = []
    for gpus, plan in plans.items():
        parts = plan.parts()
        hours = [_hours(parts[part].total) for part in PARTS]
        largest = max(parts, key=lambda part: parts[part].total)
        share = parts[largest].total / plan.seconds
        bound = f"{largest}, {share:.0%} of the hours ({_bound(plan, largest)})"
        fits = "yes" if plan.fits else "no"
        spent = _hours(gpus * plan.seconds)
        rows.append((str(gpus), _hours(plan.seconds), *hours, spent, fits, bound))
    head = ("GPUs", "hours", *PARTS, "GPU-hours", "fits", "bottleneck")
    lines = ["Hours with fewer and more GPUs:", "", *table(head, rows)]
    if len(plans) > 1:
        many = max(plans)
        few = min((gpus for gpus in plans if plans[gpus].fits and gpus < many), default=min(plans))
        lines += ["", *_lost(plans[few], plans[many])]
    return lines


def _bound(plan: Plan, part: str) -> str:
    one_node = part == "M-step" and plan.setting.cluster.nodes > 1
    return "one node" if one_node else plan.parts()[part].bound


def _lost(first: Plan, last: Plan) -> list[str]:
    """The parts that more GPUs hardly help, the largest first."""
    few, many = first.setting.cluster.gpus, last.setting.cluster.gpus
    before, after = first.parts(), last.parts()
    whole = first.seconds / last.seconds
    lines = [
        f"From {few} to {many} GPUs, {many / few:.3g} times as many, all of it gets {whole:.2g} times as fast. "
        "What holds it back:"
    ]
    for part in sorted(after, key=lambda part: -after[part].total):
        faster = before[part].total / after[part].total
        share = after[part].total / last.seconds
        if faster < POOR * many / few and share > SMALL:
            bound = _bound(last, part)
            gain = f"{faster:.2g} times as fast as" if faster > 1.05 else "no faster than"
            lines.append(
                f"- {part}, {share:.0%} of the hours at {many} GPUs, {gain} at {few}: bound by {_WHY[bound]}"
            )
            if bound == "one node":
                here, there = _hours(after[part].total), _hours(last.wide.total)
                lines[-1] += (
                    f" (there by {_WHY[after[part].bound]}). On all {last.setting.cluster.nodes} nodes, which it "
                    f"cannot use, it would take {there} hours instead of {here}, bound by {_WHY[last.wide.bound]}"
                )
    return lines if len(lines) > 1 else []


_WHY = {
    "compute": "matrix products",
    "bandwidth": "reading weights and caches from memory",
    "drawing": "picking tokens",
    "elementwise": "what is not a matrix product",
    "one node": "the GPUs of one node, for which the other nodes wait",
    "one GPU": "one GPU, for which the others wait",
    "shards": "shards: too few, or the last ones, for which idle workers wait",
    "start-up": "the start-up of engines and processes",
    "grader": "the CPU cores of the graders",
    "link": "the link between GPUs",
    "disk": "the disk, to which one process writes checkpoints",
    "launches": "starting operations, as many on each GPU",
}


def assumptions(plan: Plan) -> list[str]:
    """What the plan takes for granted, with its values."""
    setting = plan.setting
    machine, paces, config = setting.cluster.machine, setting.paces, setting.config
    kind = "float32" if machine.width == 4 else "bfloat16"
    rates = f"{machine.flops / 1e12:.3g} TFLOP/s in {kind}, {machine.bandwidth / 1e9:.4g} GB/s, "
    rates += f"{machine.memory / 1e9:.0f} GB"
    lines = [f"{machine.name}: {rates}" + (" (measured now)" if paces.measured else " (datasheet)")]
    if not paces.measured:
        lines.append(
            f"links: {machine.link / 1e9:g} GB/s within a node (datasheet), {NETWORK / 1e9:g} GB/s between nodes; "
            f"{machine.cores} CPU cores a GPU"
        )
        lines.append(
            "M-steps run on the GPUs of one node, their validation on one GPU; samples are drawn and scored on all"
        )
    lines += _paces(paces, config.engine)
    lines += plan.assumed
    scoring = ", ".join(f"{name} {1000 * seconds:g}" for name, seconds in SCORING.items())
    lines += [
        f"scoring, milliseconds a sample and core: {scoring} (measured on two cores of an AMD EPYC)",
        f"disk: {DISK / 1e9:g} GB/s; no pair is a copy of another; some completion of every shard is max_new_tokens "
        "long; M-steps go on to max_epochs, with a look at the validation problems each eval_every",
        "counted: the loops of math and code for all models and seeds, SFT on human solutions, greedy and pass@k "
        "evaluations, greedy on the transfer tasks; not counted: the other experiments of notebooks 01 and 03 to 10, "
        "downloads",
    ]
    return lines


def _paces(paces: Paces, engine: str) -> list[str]:
    used = {"torch": paces.torch, "training": paces.training}
    if engine == "vllm":
        used = {"vllm": paces.vllm, "validation by torch": paces.torch, "training": paces.training}
    how = paces.measured or "assumed, never measured on a GPU"
    lines = []
    for name, pace in used.items():
        token = f", {1e6 * pace.token:,.0f} µs a token" if pace.token else ""
        lines.append(
            f"{name}: {pace.compute:.0%} of the matrix-product peak, {pace.bandwidth:.0%} of the bandwidth, "
            f"{1e6 * pace.layer:,.0f} µs a layer and pass{token}, {pace.start:.2g} s to start ({how})"
        )
    return lines


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of aligned columns, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    numeric = [
        all(not cell or cell[0].isdigit() or cell[0] == "<" for cell in column)
        for column in zip(*rows, strict=True)
    ]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return "<0.01" if 0 < hours < 0.01 else f"{hours:,.2f}" if hours < 10 else f"{hours:,.0f}"


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return "<0.1" if 0 < minutes < 0.1 else f"{minutes:.1f}" if minutes < 10 else f"{minutes:.0f}"


def _gigabytes(size: float) -> str:
    found = size / 1e9
    return "<0.1" if found < 0.1 else f"{found:,.1f}" if found < 10 else f"{found:,.0f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
