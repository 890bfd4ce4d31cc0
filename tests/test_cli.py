"""The commands as a user types them: bad input, stopping, the store's housekeeping, the doctor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from restem_lib.cli import main
from restem_lib.engines import EngineError
from restem_lib.engines.vllm_engine import VllmEngine
from restem_lib.models import ModelError, load_model

RESTEM = [sys.executable, "-m", "restem_lib.cli"]


def small(tiny: Path, copying: Path, out: Path) -> list[str]:
    return [
        *("--model", str(tiny), "--task", str(copying), "--out", str(out), "--dtype", "float32"),
        *("--max-new-tokens", "6"),
    ]


def test_help_is_quick_and_names_every_command() -> None:
    began = time.monotonic()
    done = subprocess.run([*RESTEM, "--help"], capture_output=True, text=True, check=True)
    assert (
        time.monotonic() - began < 5
    )  # far above what it takes: this guards against heavy imports only
    for name in [
        "run",
        "train",
        "sample",
        "score",
        "evaluate",
        "base-table",
        "pretrain",
        "runs",
        "publish",
        "doctor",
    ]:
        assert f"\n    {name} " in done.stdout


def test_an_engine_that_is_not_installed_says_how_to_get_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EngineError, match=r"needs vLLM .* pip install 'restem-lib\[vllm\]'"):
        VllmEngine(tiny, torch.float32)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "toy-xl"], "no toy model 'toy-xl'"),
        (["--model", "/no/such/folder"], "no model '/no/such/folder'"),
        (["--model", "none.gguf"], "no model file none.gguf"),
        (["--task", "/no/such/file.jsonl"], "no file /no/such/file.jsonl"),
        (["--task", "mathematics"], "no task 'mathematics'"),
        (["--problems", "100000"], "too few"),
        (["--test-problems", "100000"], "test problems"),
        (["--samples", "0"], "samples is 0"),
        (["--learning-rate", "-1"], "learning_rate is -1.0"),
        (["--memory-share", "0"], "memory_share is 0.0"),
        (["--out", "/proc/none"], "cannot write /proc/none"),
    ],
)
def test_bad_input_is_one_line_and_no_work(
    tiny: Path,
    copying: Path,
    tmp_path: Path,
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = [*small(tiny, copying, tmp_path / "out"), "--problems", "8", "--test-problems", "8"]
    assert main(["train", *base, *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("restem: ")
    assert says in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_folder_that_is_no_model_says_what_it_lacks(
    copying: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["evaluate", "--model", str(tmp_path), "--task", str(copying), "--out", str(tmp_path)])
        == 1
    )
    assert "needs config.json and *.safetensors" in capsys.readouterr().err


def test_pickled_weights_are_not_loaded(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(
        f"cos\nsystem\n(S'touch {tmp_path}/ran'\ntR.".encode()
    )
    with pytest.raises(ModelError, match="cannot load a causal language model"):
        load_model(tmp_path, torch.float32)
    assert not (tmp_path / "ran").exists()


def test_sample_score_and_evaluate_share_their_work(
    tiny: Path, copying: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = small(tiny, copying, tmp_path)
    assert main(["sample", *base, "--problems", "16", "--samples", "4"]) == 0
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("sample-*/*.parquet")}
    assert main(["score", *base, "--problems", "16", "--samples", "4"]) == 0
    assert {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("sample-*/*.parquet")
    } == shards
    text = capsys.readouterr().out
    assert "16 problems x 4 samples" in text
    assert "64 scores" in text
    assert (
        main(["evaluate", *base, "--test-problems", "20", "--samples", "8", "--against", str(tiny)])
        == 0
    )
    text = capsys.readouterr().out
    for label in ("greedy pass@1", "pass@1", "pass@4", "pass@8", "majority@8"):
        assert label in text
    assert "+0.000" in text  # a model against itself
    assert text.count("n=20") == 2 * 5 + 1


def test_the_store_is_listed_explained_and_cleared(
    tiny: Path, copying: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["score", *small(tiny, copying, tmp_path), "--problems", "8", "--samples", "2"]) == 0
    )
    capsys.readouterr()
    assert main(["runs", "--out", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "2 stages" in listed
    sample = next(line.split()[0] for line in listed.splitlines() if line.startswith("sample-"))
    assert main(["runs", "explain", sample, "--out", str(tmp_path)]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained["settings"]["stream"] == "e-step-1"
    assert [name[:6] for name in explained["used by"]] == ["score-"]
    assert main(["runs", "delete", sample, "--out", str(tmp_path)]) == 0
    assert main(["runs", "delete", sample, "--out", str(tmp_path)]) == 1
    assert "0 stages in" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_ends_cleanly_and_says_how_to_go_on(
    tiny: Path, copying: Path, tmp_path: Path, how: signal.Signals
) -> None:
    arguments = [
        *small(tiny, copying, tmp_path),
        "--problems",
        "200",
        "--samples",
        "512",
        "--sample-block",
        "4",
    ]
    process = subprocess.Popen(
        [*RESTEM, "sample", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for _ in range(600):
        if list(tmp_path.rglob("manifest.json")):
            break
        time.sleep(0.1)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob(".tmp-*"))


def test_the_doctor_tells_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["torch"]["ok"]
    assert found["toy models"]["found"].startswith("toy-")
    assert all({"ok", "found", "advice"} == set(row) for row in found.values())
    assert main(["doctor"]) == 0
    assert "ok  python" in capsys.readouterr().out


def test_pretraining_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "toy-s", "--out", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
