"""Input safety: what strangers wrote (models, data, samples) runs nowhere, and no secret is kept. See SECURITY.md."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from restem_lib.cli import main
from restem_lib.config import PROJECT, load_preset
from restem_lib.keys import ConfigError, parse_yaml
from restem_lib.models import ModelError, load_model, load_tokenizer, resolve
from restem_lib.provenance import provenance
from restem_lib.rewards import algebra
from restem_lib.runner import plan
from restem_lib.store import Stage
from restem_lib.tasks import jsonl

SECRETS = {
    "HF_TOKEN": "hf_sentinelsentinelsentinelsentinel",
    "RAY_AUTH_TOKEN": "ray-sentinel-5f1c08fefba7",
    "AWS_SECRET_ACCESS_KEY": "aws-sentinel-3bc8244789c6",
}


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.mark), "w")


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that is there once a payload has run."""
    return tmp_path / "ran"


def test_the_payload_is_one(mark: Path) -> None:
    pickle.loads(pickle.dumps(Payload(mark))).close()
    assert mark.exists()


def test_a_folder_with_pickled_weights_only_is_refused(
    tiny: Path, tmp_path: Path, mark: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(Payload(mark), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"needs config.json and \*.safetensors"):
        resolve(str(folder), tmp_path)
    with pytest.raises(ModelError, match="cannot load"):
        load_model(folder, torch.float32)
    assert not mark.exists()


def test_pickled_weights_beside_safe_ones_are_not_read(
    tiny: Path, tmp_path: Path, mark: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    torch.save(Payload(mark), folder / "pytorch_model.bin")
    (folder / "training_args.bin").write_bytes(pickle.dumps(Payload(mark)))
    load_model(resolve(str(folder), tmp_path), torch.float32)
    load_tokenizer(folder)
    assert not mark.exists()


def test_adapters_are_not_taken_for_a_model(tiny: Path, tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    adapter = {"base_model_name_or_path": str(tiny), "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    torch.save(Payload(mark), folder / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapters.*merge them"):
        resolve(str(folder), tmp_path)
    assert not mark.exists()


def with_code(tiny: Path, folder: Path, mark: Path, kind: str) -> Path:
    """A model folder whose configuration, tokenizer or both name code of its own."""
    shutil.copytree(tiny, folder)
    (folder / "own.py").write_text(
        f"open({str(mark)!r}, 'w')\nOwnConfig = OwnModel = OwnTokenizer = object\n"
    )
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    if "model" in kind:
        config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    if "unknown" in kind:
        config["model_type"] = "own"
    if "tokenizer" in kind:
        tokenizer["auto_map"] = {"AutoTokenizer": ["own.OwnTokenizer", "own.OwnTokenizer"]}
        tokenizer["tokenizer_class"] = "OwnTokenizer"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.mark.parametrize("kind", ["model", "unknown model", "tokenizer", "model, tokenizer"])
def test_code_that_a_model_brings_never_runs(
    tiny: Path, tmp_path: Path, mark: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_code(tiny, tmp_path / "model", mark, kind)
    monkeypatch.setattr("builtins.input", lambda *text: pytest.fail("the user was asked"))
    for load in (lambda: load_model(folder, torch.float32), lambda: load_tokenizer(folder)):
        try:
            load()
        except ModelError as error:
            assert str(folder) in str(error)
    assert not mark.exists()


def test_code_beside_a_gguf_file_never_runs(tiny: Path, tmp_path: Path, mark: Path) -> None:
    folder = with_code(tiny, tmp_path / "model", mark, "unknown model, tokenizer")
    (folder / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match="cannot read the GGUF file"):
        resolve(str(folder / "model.gguf"), tmp_path / "runs")
    assert not mark.exists()


# --- parameter files and data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "model: !!python/object/apply:os.system ['touch {mark}']",
        "model: !!python/name:os.system",
        "!!python/object/new:subprocess.Popen [['touch', '{mark}']]",
    ],
)
def test_yaml_makes_no_objects(text: str, tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text.format(mark=mark))
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_preset(path)
    with pytest.raises(ConfigError, match="is not valid YAML"):
        parse_yaml(path.read_text(), "-p")
    assert not mark.exists()


def test_names_from_data_are_no_paths(tiny: Path, tmp_path: Path) -> None:
    task = tmp_path / "data" / "..task.jsonl"
    task.parent.mkdir()
    rows = [
        {"id": f"../../{i}/../x\x00", "prompt": f"Q: {i % 10}\nA:", "answer": f"{i % 10}"}
        for i in range(300)
    ]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = sorted(tmp_path.rglob("*"))
    arguments = f"score --model {tiny} --task {task} --problems 8 --samples 2 --max-new-tokens 4"
    assert main([*arguments.split(), "--out", str(tmp_path / "a" / "runs")]) == 0
    made = {path for path in tmp_path.rglob("*") if path not in before}
    outside = {p for p in made if tmp_path / "a" / "runs" not in p.parents}
    assert outside == {tmp_path / "a", tmp_path / "a" / "runs"}
    assert "/" not in jsonl.load(task).name


def test_a_stage_stays_in_the_store_whatever_its_settings(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "sample", 1, {"task": "../../../etc", "stream": "/etc/passwd"})
    assert stage.folder.parent == tmp_path / "stages"


def test_deleting_takes_names_of_stages_and_no_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "stages").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    for name in ("../../mine", str(tmp_path / "mine"), "..", ""):
        assert main(["runs", "delete", name, "--out", str(tmp_path / "runs")]) == 1
        assert "0 stages in" in capsys.readouterr().err
    assert (tmp_path / "mine").is_dir()


def test_a_notebook_s_copy_stays_in_its_folder(tmp_path: Path) -> None:
    there = plan.NOTEBOOKS / "00_tour.ipynb"
    made = plan.make_plan([str(there)], "smoke", [f"out_dir={tmp_path}"], plan.NOTEBOOKS)
    assert [job.copy for job in made.jobs] == [tmp_path / "notebooks" / "00_tour.ipynb"]
    with pytest.raises(ConfigError, match="no notebook"):
        plan.make_plan(["../params/smoke"], "smoke", [], plan.NOTEBOOKS)


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_secret_of_the_environment_is_written_or_printed(
    tiny: Path, copying: Path, tmp_path: Path
) -> None:
    arguments = (
        f"train --model {tiny} --task {copying} --out {tmp_path / 'runs'} --problems 16 --samples 4"
    )
    more = "--max-new-tokens 6 --test-problems 8 --learning-rate 1e-2 --compile never"
    environment = {
        **os.environ,
        **SECRETS,
        "OMP_NUM_THREADS": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    done = [
        subprocess.run(
            [sys.executable, "-m", "restem_lib.cli", *words],
            capture_output=True,
            env=environment,
            timeout=200,
        )
        for words in (
            [*arguments.split(), *more.split()],
            f"sample --model some/model --task {copying}".split(),  # what a failing download says
            ["doctor"],
        )
    ]
    assert [one.returncode for one in done] == [0, 1, 0], done
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 20
    printed = [text for one in done for text in (one.stdout, one.stderr)]
    for secret in SECRETS.values():
        assert not [text for text in written + printed if secret.encode() in text]


def test_provenance_holds_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    provenance.cache_clear()
    text = json.dumps(provenance())
    provenance.cache_clear()
    assert not [secret for secret in SECRETS.values() if secret in text]
    assert str(Path.home()) not in text or Path.home() == Path("/")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_workers_that_read_answers_get_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    algebra.close()
    algebra.check([("2x", "x+x")], 8.0)
    assert algebra._pool is not None
    pids = [worker.server.pid for worker in algebra._pool.workers if worker.server.alive]
    assert pids
    for pid in pids:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert not [secret for secret in SECRETS.values() if secret.encode() in environment]
    algebra.close()


def test_every_test_that_security_md_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+\.py)::(\w+)`", (PROJECT / "SECURITY.md").read_text()))
    assert len(named) > 15
    for file, name in named:
        assert f"def {name}(" in (PROJECT / "tests" / file).read_text(), f"{file}::{name}"
