"""`restem plan`: its arithmetic against hand-made cases, what must not get worse, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import planning as comparison
from restem_lib.cli import main
from restem_lib.config import Config, load_preset, preset_path
from restem_lib.models import TOYS, ModelError
from restem_lib.plan import forecast, machines, shapes
from restem_lib.plan.cost_model import (
    PEAK,
    Cluster,
    Cost,
    Draw,
    Machine,
    Training,
    decode,
    makespan,
    prefill,
    training,
)
from restem_lib.plan.lengths import Lengths, Tasks, measured
from restem_lib.plan.machines import ASSUMED, Paces
from restem_lib.plan.memory import main_memory, training_memory
from restem_lib.plan.stage_costs import Amounts, Setting, sampling
from restem_lib.tasks import load_task

H100 = machines.gpu("H100", "auto")
SEVEN = shapes.of("Qwen/Qwen2.5-7B")
CPU = Machine("cpu", 1e11, 1e10, 16e9, cores=2)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("RESTEM_DATA", raising=False)
    return


@pytest.fixture
def known_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that need not be measured."""
    paces = Paces(ASSUMED.torch, ASSUMED.vllm, ASSUMED.training, "not measured")
    monkeypatch.setattr(forecast, "this_machine", lambda dtype: (CPU, paces))


@pytest.mark.parametrize("name", ["toy-s", "toy-m", "toy-l"])
def test_a_shape_has_the_parameters_of_the_model(name: str) -> None:
    from safetensors import safe_open

    with safe_open(TOYS / name / "model.safetensors", "pt") as file:
        sizes = [file.get_tensor(key).numel() for key in file.keys()]  # noqa: SIM118
    assert shapes.of(name).parameters == sum(sizes)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-7B", 7_615_616_512),
        ("SmolLM2-135M-Instruct.gguf", 134_515_008),
    ],
)
def test_shapes_in_the_table_have_the_published_parameters(name: str, published: int) -> None:
    assert shapes.of(name).parameters == published


def test_one_row_is_decoded_as_fast_as_the_weights_are_read() -> None:
    one = Draw(prompts=1, n=1, shared=0, prompt=0, new=100, longest=100, rows=1)
    read = 2 * (SEVEN.layer_weights + SEVEN.head_weights)
    assert read == pytest.approx(14e9, rel=0.02)
    cost = decode(SEVEN, H100, PEAK, one)
    assert cost.bound == "bandwidth"
    assert cost.total / 100 == pytest.approx(read / 3.35e12, rel=0.001)


def test_many_rows_are_bound_by_compute() -> None:
    many = Draw(prompts=4096, n=1, shared=0, prompt=0, new=100, longest=100, rows=4096)
    cost = decode(SEVEN, H100, PEAK, many)
    assert cost.bound == "compute"
    assert cost.total == pytest.approx(4096 * 100 * 2 * 7.07e9 / 989e12, rel=0.01)


def test_prefill_is_two_flops_a_weight_and_token() -> None:
    draw = Draw(prompts=100, n=8, shared=0, prompt=100, new=1, longest=1, rows=8)
    flops = 2 * SEVEN.layer_weights * 100 * 100
    assert prefill(SEVEN, H100, PEAK, draw).total == pytest.approx(flops / 989e12, rel=0.02)


def test_training_is_six_flops_a_weight_and_token() -> None:
    work = Training(steps=10, batch=64, micro=8, length=1000, target=500, longest=1500)
    tokens = 10 * 64 * 1000 * 1.05
    least = 6 * SEVEN.layer_weights * tokens / 989e12
    assert least < training(SEVEN, Cluster(H100), PEAK, work).total < 1.15 * least


def test_gradients_of_small_batches_are_bound_by_the_link() -> None:
    work = Training(steps=1, batch=64, micro=1, length=100, target=50, longest=100)
    cost = training(SEVEN, Cluster(H100, 64, 8), PEAK, work)
    assert cost.bound == "link"
    moved = 2 * 63 / 64 * 4 * SEVEN.parameters
    assert cost.total == pytest.approx(moved / 50e9)


def test_fsdp_moves_weights_and_gradients_in_each_pass_and_ddp_gradients_once_a_step() -> None:
    slow = Cluster(replace(H100, link=1e9), 8)  # so that nothing but the link counts
    for passes, micro in ((1, 8), (4, 2)):
        work = Training(steps=1, batch=64, micro=micro, length=10, target=5, longest=10)
        ddp = training(SEVEN, slow, PEAK, work)
        assert ddp.seconds["link"] == pytest.approx(7 / 8 * 2 * 4 * SEVEN.parameters / 1e9)
        fsdp = training(SEVEN, slow, PEAK, replace(work, sharded=True))
        moved = passes * (2 + 2 + 4) * SEVEN.parameters
        assert fsdp.seconds["link"] == pytest.approx(7 / 8 * moved / 1e9)
        adapters = training(SEVEN, slow, PEAK, replace(work, sharded=True, lora=16))
        moved = passes * (4 * SEVEN.parameters + 4 * SEVEN.adapters(16))
        assert adapters.seconds["link"] == pytest.approx(7 / 8 * moved / 1e9)


def test_the_documented_bytes_of_an_m_step() -> None:
    bare = Training(steps=1, batch=64, micro=1, length=0, target=0, longest=0)
    billion = SEVEN.parameters / 1e9  # so GB by bytes a parameter
    alone = training_memory(SEVEN, Cluster(H100), bare) / 1e9
    assert alone == pytest.approx((16 + 2 + 2) * billion)  # states, bfloat16 copies, the candidate
    ddp = training_memory(SEVEN, Cluster(H100, 8), bare) / 1e9
    assert ddp == pytest.approx((20 + 2 + 2) * billion)
    assert round(22 * billion) == 168  # docs/cluster.md, as the rest here
    fsdp = training_memory(SEVEN, Cluster(H100, 8), replace(bare, sharded=True)) / 1e9
    largest = 8 * SEVEN.head_weights / 1e9
    assert fsdp == pytest.approx((16 / 8 + 2) * billion + largest)
    assert (round(2 * billion), round(largest)) == (15, 4)
    assert round(main_memory(SEVEN, Cluster(H100, 8)) / 1e9) == 244


def test_full_fine_tuning_of_seven_billion_needs_more_than_one_gpu() -> None:
    work = Training(steps=1, batch=64, micro=2, length=500, target=250, longest=1000)
    alone = training_memory(SEVEN, Cluster(H100), work)
    assert alone > 16 * SEVEN.parameters > H100.memory
    shared = training_memory(SEVEN, Cluster(H100, 8), replace(work, sharded=True))
    assert shared < H100.memory
    adapters = training_memory(
        SEVEN, Cluster(H100), replace(work, lora=16, micro=1, checkpointing=True)
    )
    assert adapters < alone / 2


def test_idle_workers_are_counted_as_waiting_for_shards() -> None:
    unit = Cost({"compute": 60.0})
    assert makespan([unit] * 3, 3).seconds == {"compute": 60.0, "shards": 0.0}
    assert makespan([unit] * 3, 2).seconds == {"compute": 90.0, "shards": 30.0}
    assert makespan([unit], 4).bound == "shards"


sizes = st.integers(min_value=1, max_value=700)


def amounts(problems: int, samples: int, engine: str) -> Amounts:
    config = Config(
        model="Qwen/Qwen2.5-7B",
        math_samples=samples,
        engine=engine,
        problem_block=64,
        sample_block=16,
        rows=256,
    )
    found = Lengths(500.0, 150.0, 200.0, 0.3, "given")
    return Amounts(config.loop(), SEVEN, found, "answers", problems, 100, 100)


def e_step(problems: int, samples: int, gpus: int, engine: str) -> float:
    given = amounts(problems, samples, engine)
    config = replace(Config(), engine=engine)
    setting = Setting(config, Cluster(H100, gpus, 1), ASSUMED)
    return sampling(setting, given, given.draw(problems, samples)).total


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, sizes, sizes, st.sampled_from(["torch", "vllm"]))
def test_more_gpus_never_take_longer(
    problems: int, samples: int, gpus: int, more: int, engine: str
) -> None:
    few, many = (e_step(problems, samples, one, engine) for one in (gpus, gpus + more))
    assert many <= few * (1 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, sizes, sizes, st.sampled_from(["torch", "vllm"]))
def test_more_samples_never_take_less(
    problems: int, samples: int, gpus: int, more: int, engine: str
) -> None:
    few, many = (e_step(problems, one, gpus, engine) for one in (samples, samples + more))
    assert many >= few * (1 - 1e-9)


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_cpu_preset_is_planned_for_this_machine(
    known_cpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    said = planned(capsys)
    for stage in (
        "toy-math, toy-m: E-step",
        "toy-code, toy-s: M-step",
        "toy-math, toy-l: validation",
    ):
        assert stage in said
    assert "64 human solutions" in said and "Disk: " in said and "GPU-hours" not in said


def test_the_gpu_preset_is_planned_without_its_models_and_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = planned(capsys, "--preset", "gpu", "--gpus", "1", "--gpu-type", "a100-80")
    assert "gpu on 1 x A100-80 on 1 node" in said
    assert "To change" not in said
    assert "data not at hand, so assumed" in said
    assert "312 TFLOP/s in bfloat16" in said and "assumed, never measured on a GPU" in said


def test_the_paper_preset_says_what_does_not_fit_and_what_stops_scaling(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = planned(capsys, "--preset", "paper", "--gpus", "1", "--gpu-type", "H100")
    assert "full fine-tuning does not fit" in said and "a node with 8 GPUs" in said
    rows = {line.split()[0]: line for line in said.splitlines() if "of the hours (" in line}
    assert rows.keys() == {"1", "8", "64"}
    assert " no " in rows["1"] and " yes " in rows["64"]
    assert rows["1"].endswith("(compute)") and rows["64"].endswith("(one node)")
    back = said.partition("From 8 to 64 GPUs")[2]
    assert "- validation" in back and "no faster than at 8: bound by the GPUs of one node" in back
    assert "16 GPUs" not in said


def test_a_plan_is_the_same_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = ("--preset", "cluster", "--gpus", "8", "--gpu-type", "h100")
    here = planned(capsys, *cluster)
    monkeypatch.chdir(tmp_path)
    assert planned(capsys, *cluster) == here
    assert "Main memory: 244 GB" in here and "To change" not in here


def test_no_more_processes_than_a_node_has_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    said = planned(
        capsys, "--preset", "cluster", "--gpus", "8", "--gpu-type", "H100", "--nodes", "2"
    )
    assert "num_processes in accelerate_config is 8, but a node has 4 GPUs" in said
    row = next(line for line in said.splitlines() if line.split()[:1] == ["8"])
    assert " no " in row
    said = planned(capsys, "--preset", "paper", "--gpus", "8", "--gpu-type", "L4", "--nodes", "4")
    assert "full fine-tuning does not fit" in said and "GPUs of a node" not in said


def test_fewer_shards_than_workers_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    said = planned(capsys, "--preset", "gpu", "--gpus", "64", "--gpu-type", "H100", "--nodes", "8")
    assert "the E-step has 10 shards for 64 workers; a smaller problem_block" in said
    assert "executor is local" in said and "accelerate_config is empty" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--gpus", "4", "--gpu-type", "a100"), "did you mean A100-40 or A100-80?"),
        (("--gpus", "4", "--gpu-type", "H10"), "did you mean H100?"),
        (("--gpus", "4", "--gpu-type", "abacus"), "known are T4"),
        (("--gpus", "4"), "give --gpu-type"),
        (("--gpus", "9", "--gpu-type", "H100", "--nodes", "2"), "a multiple of --nodes"),
        (("--gpus", "0", "--gpu-type", "H100"), "give their number"),
        (("--gpus", "-1"), "--gpus is -1"),
        (("--gpus", "2", "--gpu-type", "cpu"), "cpu is this machine alone"),
        (("--preset", "papr"), "no preset 'papr'"),
    ],
)
def test_errors_say_what_to_do(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 1
    assert told in capsys.readouterr().err


def test_a_worker_of_more_gpus_than_there_are_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = preset_path("paper").read_text().replace("worker_gpus: 0", "worker_gpus: 4")
    (tmp_path / "wide.yaml").write_text(text)
    wide = str(tmp_path / "wide.yaml")
    assert main(["plan", "--preset", wide, "--gpus", "2", "--gpu-type", "H100"]) == 1
    assert "worker_gpus is 4, but there are 2 GPUs" in capsys.readouterr().err


def test_a_configuration_of_accelerate_decides_how_the_m_step_is_spread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ddp.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 4\n")
    text = preset_path("paper").read_text()
    text = text.replace('accelerate_config: ""', f"accelerate_config: {tmp_path / 'ddp.yaml'}")
    (tmp_path / "own.yaml").write_text(text)
    own = ("--preset", str(tmp_path / "own.yaml"), "--gpus", "8", "--gpu-type", "H100")
    said = planned(capsys, *own)
    assert "full fine-tuning does not fit" in said  # DDP keeps all of it on each GPU
    assert "num_processes in accelerate_config is 4: so many of 8 GPUs train" in said
    (tmp_path / "ddp.yaml").write_text("distributed_type: MULTI_CPU\nnum_processes: 2\n")
    assert "M-steps would not use the GPUs" in planned(capsys, *own)
    (tmp_path / "ddp.yaml").unlink()
    assert main(["plan", *own]) == 1
    assert "which is no file" in capsys.readouterr().err


def test_the_shape_of_a_folder_is_read_from_its_config(tmp_path: Path) -> None:
    config = json.loads((TOYS / "toy-m" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 9}))
    assert shapes.of(str(tmp_path)).layers == 9
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_local_experts": 8}))
    with pytest.raises(ModelError, match="mixture of experts"):
        shapes.of(str(tmp_path))
    del config["intermediate_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no 'intermediate_size'"):
        shapes.of(str(tmp_path))


@pytest.mark.parametrize("name", ["nobody", "./nobody", "a/b/c", "lost.gguf"])
def test_a_model_that_is_nowhere_is_an_error(name: str) -> None:
    with pytest.raises(ModelError, match="no model"):
        shapes.of(name)


def test_a_model_of_the_hub_without_a_network_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"cannot fetch the config\.json of 'some/where'"):
        shapes.of("some/where")


def test_a_gpu_without_bfloat16_is_planned_in_float32() -> None:
    old, new = machines.gpu("V100", "auto"), machines.gpu("A100-40", "auto")
    assert (old.width, new.width) == (4, 2)
    assert machines.gpu("A100-40", "float32").flops == 19.5e12


def test_lengths_come_from_the_store_where_it_has_samples(tmp_path: Path) -> None:
    from restem_lib import em
    from restem_lib.scoring import score_samples

    config = Config(model="toy-s", math_problems=12, val_problems=8, math_samples=2)
    config = replace(config, max_new_tokens=16, runs_dir=str(tmp_path), dtype="float32")
    task, loop = load_task("toy-math"), config.loop()
    problems, _ = em.split(task, loop)
    before = measured(task, problems, "toy-s", config)
    assert "human solutions" in before.source and before.right == 0.3
    samples = em.draw(TOYS / "toy-s", task, problems, 1, loop)
    score_samples(task, problems, samples, loop)
    after = measured(task, problems, "toy-s", config)
    assert "of 24 samples" in after.source and after.new <= 16
    assert after.prompt == before.prompt


def test_a_benchmark_that_is_not_here_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from restem_lib.tasks.local import TaskError

    asked = []

    def refuse(name: str, data_dir: str) -> None:
        asked.append(name)
        raise TaskError("not here")

    monkeypatch.setattr("restem_lib.plan.lengths.load_task", refuse)
    tasks = Tasks("")
    assert tasks.get("math") is tasks.get("gsm8k") is tasks.get("math") is None
    assert asked == ["math"]
    with pytest.raises(TaskError):
        tasks.get("missing.jsonl")


def test_all_presets_name_models_that_can_be_planned_without_a_network() -> None:
    for path in preset_path("cpu").parent.glob("*.yaml"):
        for model in load_preset(path).ladder:
            assert shapes.of(model).parameters > 0


@pytest.mark.slow
def test_this_machine_is_measured_and_a_store_compared(tmp_path: Path) -> None:
    arguments = "train --model toy-m --task toy-math --problems 24 --samples 4 --val-problems 16"
    arguments += f" --test-problems 16 --max-epochs 1 --compile never --out {tmp_path}"
    assert main(arguments.split()) == 0
    store = comparison.Store(tmp_path, [], "auto")
    kinds = comparison.summary(list(store.judged()))
    expected = {"M-step", "sampling, E-step", "sampling, greedy", "scoring, toy answers", "all"}
    assert kinds.keys() == expected
    for one in kinds.values():
        assert one["predicted_s"] > 0 and one["measured_s"] > 0
    assert store.machine.flops > 1e9 and store.paces.torch.layer > 0
