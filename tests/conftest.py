"""A task and a model of a few thousand parameters that is sometimes right: the whole loop in seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from restem_lib.config import Config

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A shell that starts the tests in the background has Ctrl-C ignored, and their processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def copying_rows(n: int = 400) -> list[dict[str, str]]:
    """A task to learn at once: give back the digit."""
    return [
        {"id": f"copy/{i}", "prompt": f"Q: {i % 10}\nA:", "answer": str(i % 10)} for i in range(n)
    ]


@pytest.fixture(scope="session")
def copying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task's file."""
    path = tmp_path_factory.mktemp("task") / "copy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in copying_rows()))
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model for it, of one layer: mostly right on digits below 5, mostly wrong by one on the others."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from restem_lib.models import TOYS, load_tokenizer, save_model

    torch.manual_seed(0)
    tokenizer = load_tokenizer(TOYS / "toy-s")
    end = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=end,
        eos_token_id=end,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = torch.Generator().manual_seed(0)
    for step in range(150):
        asked = torch.randint(10, (64,), generator=rng)
        right = torch.rand(64, generator=rng) < torch.where(asked < 5, 0.6, 0.3)
        said = torch.where(right, asked, (asked + 1) % 10)
        texts = [
            f"Q: {a}\nA:\n#### {b}" for a, b in zip(asked.tolist(), said.tolist(), strict=True)
        ]
        ids = torch.tensor([[*tokenizer(text)["input_ids"], end] for text in texts])
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 150)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(model, tokenizer, folder)
    return folder


@pytest.fixture
def config(tiny: Path, copying: Path, tmp_path: Path) -> Config:
    """A preset of two seeds for them."""
    return Config(
        model=str(tiny),
        seeds=(0, 1),
        math_task=str(copying),
        math_problems=40,
        val_problems=40,
        test_problems=50,
        math_samples=6,
        math_iterations=2,
        max_new_tokens=6,
        learning_rate=1e-2,
        batch_size=8,
        max_epochs=2.0,
        dtype="float32",
        runs_dir=str(tmp_path / "runs"),
    )


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A disk of 300 kB of its own, and how to mount it anew with other options; skipped where nobody may mount."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)],
            check=True,
            capture_output=True,
        )

    try:
        mount("size=300k")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a disk")
    yield disk, mount
    subprocess.run(["umount", str(disk)], check=True)


USED = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def level(request: pytest.FixtureRequest) -> str:
    """The best sandbox that works here; tests that run programs are skipped where none does."""
    from restem_lib.rewards import sandbox

    try:
        request.config.stash[USED] = sandbox.level_here()
    except sandbox.SandboxError as error:
        request.config.stash[USED] = "none: tests of programs were skipped"
        pytest.skip(str(error))
    return request.config.stash[USED]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell it to the process that reports, where pytest-xdist runs several."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["sandbox"] = session.config.stash.get(USED, "")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    used = getattr(node, "workeroutput", {}).get("sandbox")
    if used:
        node.config.stash[USED] = used


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the programs of these tests ran in."""
    used = terminalreporter.config.stash.get(USED, "")
    if used:
        terminalreporter.write_line(f"sandbox for programs: {used}")
