"""A wrong setting stops a run before any work, and says what to write instead."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from restem_lib.config import (
    KEYS,
    PROJECT,
    Common,
    Config,
    anchor,
    from_mapping,
    from_names,
    load_preset,
)
from restem_lib.keys import ConfigError, parse_yaml

PARAMS = PROJECT / "params"


def test_the_defaults_are_the_cpu_preset() -> None:
    assert load_preset(PARAMS / "cpu.yaml") == Config()


@pytest.mark.parametrize("path", sorted(PARAMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_complete(path: Path) -> None:
    load_preset(path)


def test_an_unknown_key_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'math_sampels'.*did you mean 'math_samples'"):
        from_mapping({"math_sampels": 4}, "-p")


def test_a_preset_that_lacks_a_key_names_it(tmp_path: Path) -> None:
    text = (PARAMS / "cpu.yaml").read_text().replace("cap: 10\n", "")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match="lacks cap"):
        load_preset(tmp_path / "mine.yaml")


def test_a_preset_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'cup'.*cpu"):
        load_preset(PARAMS / "cup.yaml")


def test_a_key_given_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cap more than once"):
        parse_yaml("cap: 1\ncap: 2\n", "mine.yaml")


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.0e-4", "0.0001", ".1e-3"])
def test_a_number_in_any_form_is_a_float(text: str) -> None:
    value = parse_yaml(f"learning_rate: {text}", "a test")["learning_rate"]
    assert value == 1e-4
    assert isinstance(value, float)


def test_plain_papermill_hands_numbers_over_as_text() -> None:
    assert from_mapping({"learning_rate": "1e-4"}, "a notebook").learning_rate == 1e-4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("math_samples", 4.0),
        ("math_samples", "4"),
        ("math_samples", True),
        ("dedup", 1),
        ("models", "toy-m"),
        ("seeds", ["0"]),
        ("learning_rate", "fast"),
        ("learning_rate", True),
        ("keep", 1),
    ],
)
def test_a_wrong_type_is_named(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{key} in here is"):
        from_mapping({key: value}, "here")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("keep", "best"),
        ("start", "sft"),
        ("math_samples", 0),
        ("learning_rate", 0.0),
        ("warmup", 1.0),
        ("models", []),
        ("cap", -1),
        ("dtype", "fp8"),
        ("engine", "jax"),
        ("memory_share", 0.0),
        ("memory_share", 1.5),
    ],
)
def test_an_impossible_value_is_named(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        from_mapping({key: value}, "here")


def test_vllm_on_ray_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="worker_gpus is 0, but vLLM"):
        Common(executor="ray", engine="vllm")
    assert Common(executor="ray", engine="vllm", worker_gpus=1).worker_gpus == 1


def test_a_notebooks_other_variables_are_left_alone() -> None:
    config = from_names({"cap": 3, "np": object(), "runs_dir": "mine"})
    assert config.cap == 3
    assert config.runs_dir == str(PROJECT / "mine")


def test_a_loop_takes_every_shared_setting_from_its_preset() -> None:
    config = Config(
        cap=3, learning_rate=1e-3, model="a", models=("a", "b"), seeds=(7, 8), math_samples=5
    )
    loop = config.loop(model="b", seed=8)
    assert all(getattr(loop, field.name) == getattr(config, field.name) for field in fields(Common))
    assert (loop.model, loop.seed, loop.samples) == ("b", 8, 5)
    assert set(KEYS) >= {field.name for field in fields(Common)}


def test_seeds_are_for_the_one_model() -> None:
    config = Config(model="b", models=("a", "b", "c"), seeds=(1, 2), seeds_others=(3,))
    asked = (None, "b", "a", "c", "w")
    assert [config.seeds_of(model) for model in asked] == [(1, 2)] * 2 + [(3,)] * 3
    config = replace(config, code_seeds=(4,))
    assert [config.seeds_of(model, "code") for model in asked] == [(4,)] * 2 + [(3,)] * 3
    alone = replace(config, model="elsewhere")
    assert alone.ladder == ("elsewhere",) and alone.seeds_of() == (1, 2)


@pytest.mark.parametrize("key", ["seeds", "code_seeds", "models"])
def test_nothing_is_counted_twice(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} has one twice"):
        Config(**{key: ("a", "a")})


def test_folders_are_taken_from_the_root_or_from_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/her")
    own = Config(runs_dir="~/runs", out_dir="there", data_dir="~", accelerate_config="~/ddp.yaml")
    found = anchor(own)
    assert (found.runs_dir, found.out_dir) == ("/home/her/runs", str(PROJECT / "there"))
    assert (found.data_dir, found.accelerate_config) == ("/home/her", "/home/her/ddp.yaml")
    assert anchor(Config()).accelerate_config == ""
