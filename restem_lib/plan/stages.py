"""What a preset's runs of ReST^EM will cost: the stages of each domain, model and seed as the cost model sees them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from restem_lib import em, launching
from restem_lib.config import Config
from restem_lib.keys import ConfigError
from restem_lib.plan import shapes
from restem_lib.plan.cost_model import Cost, Draw
from restem_lib.plan.lengths import PUBLISHED, Tasks, measured
from restem_lib.plan.memory import main_memory, sampling_memory
from restem_lib.plan.stage_costs import (
    PROGRAMS,
    USABLE,
    Amounts,
    MStep,
    Setting,
    evaluated,
    m_step,
    m_step_memory,
    rows,
    sampling,
    scoring,
    trainers,
    units,
)

TOKEN_BYTES = 4
"""Bytes on disk a token of a sample with its score."""


@dataclass(frozen=True)
class Stage:
    """Equal stages of a plan: their number, the cost of all, bytes on the fullest GPU."""

    name: str
    part: str
    count: int
    cost: Cost
    memory: float


@dataclass
class Plan:
    """Stages, disk in bytes, what was assumed and what needs a change."""

    setting: Setting
    stages: list[Stage] = field(default_factory=list)
    disk: dict[str, float] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    fits: bool = True
    """Into the memory."""
    main_memory: float = 0.0
    """Bytes beside the GPUs of the node that trains."""
    wide: Cost = field(default_factory=Cost)
    """What M-steps would cost on all nodes; they run on one."""

    @property
    def seconds(self) -> float:
        return sum(stage.cost.total for stage in self.stages)

    def parts(self) -> dict[str, Cost]:
        """The cost of each part of all runs."""
        found: dict[str, Cost] = {}
        for stage in self.stages:
            found[stage.part] = found.get(stage.part, Cost()) + stage.cost
        return found

    def warn(self, text: str) -> None:
        """Note what needs a change, once."""
        if text not in self.warnings:
            self.warnings.append(text)


def make(setting: Setting, tasks: Tasks) -> Plan:
    """The plan of the loops, baselines and evaluations of a preset. Raises UserError."""
    config, plan = setting.config, Plan(setting)
    if not setting.workers:
        raise ConfigError(
            f"worker_gpus is {config.worker_gpus}, but there are {setting.cluster.gpus} GPUs; give more with --gpus"
        )
    _check(plan)
    upto = config.ladder.index(config.model) + 1
    for domain, models in (("math", config.ladder), ("code", config.ladder[:upto])):
        for model in models:
            _add(plan, domain, model, tasks)
    return plan


def _check(plan: Plan) -> None:
    config, cluster, training = plan.setting.config, plan.setting.cluster, trainers(plan.setting)
    if cluster.gpus > 1 and config.executor == "local":
        plan.warn(
            "executor is local: one GPU would draw all samples; this plan is for executor: ray"
        )
    if cluster.gpus > 1 and not config.accelerate_config:
        plan.warn(
            "accelerate_config is empty: one GPU would train; this plan is for all of a node's"
        )
    kind, wanted = launching.check(config.accelerate_config) or ("", cluster.node)
    gpus = cluster.machine.name != "cpu"
    if gpus and kind == "MULTI_CPU":
        plan.warn(
            "accelerate_config is for CPUs (MULTI_CPU): M-steps would not use the GPUs; this plan is for GPUs"
        )
    elif gpus and wanted < cluster.node:
        plan.warn(
            f"num_processes in accelerate_config is {wanted}: so many of {cluster.node} GPUs train"
        )
    elif gpus and wanted > cluster.node:
        plan.fits = False
        plan.warn(
            f"num_processes in accelerate_config is {wanted}, but a node has {cluster.node} GPUs: M-steps do not "
            f"start; this plan is for {cluster.node}"
        )
    if config.batch_size < training.gpus:
        plan.warn(
            f"batch_size is {config.batch_size}: {training.gpus - config.batch_size} of {training.gpus} GPUs that "
            "train have nothing to do"
        )


def amounts(config: Config, domain: str, model: str, tasks: Tasks, task: str = "") -> Amounts:
    """A model's run in "math" or "code", or its evaluation on another task. Raises UserError."""
    loop = config.loop(model, domain=domain)
    if task:
        loop = replace(loop, task=task)
    loaded, shape = tasks.get(loop.task), shapes.of(model)
    if loaded is None:
        train, tested = PUBLISHED[loop.task]
        held = loop.val_problems or max(100, (loop.problems or train) // 10)
        counts = loop.problems or train - held, held, min(loop.test_problems or tested, tested)
        labels = "labels" if loop.task == "bbh" else "answers"
        grader = "programs" if loop.task in PROGRAMS else labels
        return Amounts(loop, shape, measured(None, (), model, config), grader, *counts)
    grader = loaded.grader.removesuffix("-apps")
    if grader == "answers" and loaded.name.startswith("toy-"):
        grader = "toy answers"
    problems, validation = ((), ()) if task else em.split(loaded, loop)
    test = loaded.test[: loop.test_problems or None]
    found = measured(loaded, problems or test, model, config)
    return Amounts(loop, shape, found, grader, len(problems), len(validation), len(test))


def _add(plan: Plan, domain: str, model: str, tasks: Tasks) -> None:
    """Add the runs of a model in a domain, with all seeds, and what they are compared with."""
    setting, config = plan.setting, plan.setting.config
    given = amounts(config, domain, model, tasks)
    loop, seeds = given.loop, len(config.seeds_of(model, domain))
    turns = seeds * loop.iterations
    models = 1 + turns + seeds
    plan.assumed.append(f"{given.name}: {given.lengths}")

    def add(part: str, count: int, cost: Cost, memory: float = 0.0, of: Amounts = given) -> None:
        kind = part.partition(", ")[0]
        plan.stages.append(Stage(f"{of.name}: {part}", kind, count, cost * count, memory))

    draw = given.draw(given.train, loop.samples)
    _check_units(plan, given, draw)
    add("E-step", turns, sampling(setting, given, draw), _sampling_memory(plan, given, draw))
    add("scoring", turns, scoring(setting, given, draw))
    kept = loop.samples * given.lengths.right
    pairs = round(given.train * (min(loop.cap, kept) if loop.cap else kept))
    training = trainers(setting)
    own = m_step(setting, given, pairs, training)
    human = m_step(setting, given, given.train, training)
    for count, amount in ((turns, pairs), (seeds, given.train)):
        plan.wide += m_step(setting, given, amount, setting.cluster).steps * count
    _check_m_step(plan, given, own)
    plan.main_memory = max(plan.main_memory, main_memory(given.shape, training))
    add("M-step", turns, own.steps, own.memory)
    add("M-step, SFT on human solutions", seeds, human.steps, human.memory)
    looks = turns * own.candidates + seeds * human.candidates + 1
    add("validation", looks, own.look)
    add("evaluation, greedy", models, evaluated(setting, given, given.draw(given.test, 1)))
    tested = min(config.pass_k_problems or given.test, given.test)
    many = given.draw(tested, config.pass_k_samples, top_p=True)
    memory = _sampling_memory(plan, given, many)
    add("evaluation, pass@k", 1 + seeds, evaluated(setting, given, many), memory)
    drawn = models * given.test + (1 + seeds) * tested * config.pass_k_samples
    if model == config.model:
        other = amounts(config, domain, model, tasks, getattr(config, f"{domain}_transfer"))
        cost = evaluated(setting, other, other.draw(other.test, 1))
        add("evaluation, greedy", models, cost, of=other)
        drawn += models * other.test

    weights = given.shape.parameters * setting.cluster.machine.width
    tokens = turns * draw.tokens + drawn * given.lengths.new
    for what, size in (
        ("samples and scores", tokens * TOKEN_BYTES),
        ("models", (turns + seeds) * weights),
    ):
        plan.disk[what] = plan.disk.get(what, 0.0) + size
    what = "checkpoints of one M-step, deleted after it"
    plan.disk[what] = max(plan.disk.get(what, 0.0), 2 * own.checkpoint)


def _check_units(plan: Plan, given: Amounts, draw: Draw) -> None:
    shards, workers = len(list(units(given.loop, draw))), plan.setting.workers
    if shards < workers:
        plan.warn(
            f"{given.name}: the E-step has {shards} shards for {workers} workers; a smaller problem_block or "
            "sample_block makes more (and other seeds)"
        )


def _sampling_memory(plan: Plan, given: Amounts, draw: Draw) -> float:
    """Bytes a GPU; warns where they are too many."""
    setting, loop = plan.setting, given.loop
    machine, joined = setting.cluster.machine, setting.joined
    held = replace(draw, rows=rows(setting, given, draw))
    shared = setting.paces.vllm if loop.engine == "vllm" else setting.paces.torch
    needed = sampling_memory(given.shape, machine, held, shared) / joined
    if needed > USABLE * machine.memory:
        plan.fits = False
        plan.warn(
            f"{loop.model}: sampling does not fit: {needed / 1e9:.0f} GB a GPU of {machine.memory / 1e9:.0f}; what "
            "helps: fewer rows, or vLLM on several GPUs a worker (engine: vllm, worker_gpus)"
        )
    return loop.memory_share * machine.memory if loop.engine == "vllm" else needed


def _check_m_step(plan: Plan, given: Amounts, made: MStep) -> None:
    machine, loop = plan.setting.cluster.machine, given.loop
    room = USABLE * machine.memory
    kind = "LoRA" if loop.lora_rank else "full fine-tuning"
    told = f"{loop.model}: {kind} does not fit"
    if made.memory <= room or any(one.startswith(told) for one in plan.warnings):
        return
    plan.fits, gpus = False, trainers(plan.setting).gpus
    fsdp, thrifty = (
        replace(made.work, sharded=True),
        replace(made.work, micro=1, checkpointing=True),
    )
    node = plan.setting.cluster.node
    enough = (n for n in (2, 4, 8) if m_step_memory(plan.setting, given, fsdp, n) <= room)
    helps = [
        f"an accelerate_config with FSDP on {n} GPUs of a node"
        if n <= node
        else f"a node with {n} GPUs, and an accelerate_config with FSDP on them"
        for n in enough
    ][:1]
    if m_step_memory(plan.setting, given, thrifty, gpus) <= room:
        helps.append("micro_batch_size 1 with gradient_checkpointing")
    if m_step_memory(plan.setting, given, replace(thrifty, lora=16), gpus) <= room:
        helps.append("lora_rank 16 with micro_batch_size 1 and gradient_checkpointing")
    plan.warn(
        f"{told}: {made.memory / 1e9:.0f} GB a GPU, which has {machine.memory / 1e9:.0f}; "
        f"what helps: {'; '.join(helps) or 'GPUs with more memory'}"
    )
