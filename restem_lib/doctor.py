"""`restem doctor`: what this machine has for the suite, what it lacks, and how to get it."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from restem_lib.models import TOYS, quick_bfloat16
from restem_lib.provenance import provenance, version

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "papermill",
    "jupyterlab",
    "seaborn",
    "math-verify",
    "gguf",
)


def examine() -> dict[str, Any]:
    """Findings as plain JSON values: {name: {"ok": bool, "found": text, "advice": text}}."""
    import torch

    gpu = torch.cuda.is_available()
    free = shutil.disk_usage(".").free / 2**30
    toys = sorted(path.name for path in TOYS.glob("toy-*"))
    data = os.environ.get("RESTEM_DATA", "")
    where = provenance()
    found = {
        "python": _row(
            sys.version_info >= (3, 11), where["python"], "Python 3.11 or newer is needed"
        ),
        **{
            name: _row(version(name) != "absent", version(name), f"pip install {name}")
            for name in PACKAGES
        },
        "cpu": _row(
            True,
            f"{where['cpu']}, {where['cores']} cores, {torch.get_num_threads()} threads for torch",
            "",
        ),
        "bfloat16": _row(
            quick_bfloat16(),
            "fast here" if quick_bfloat16() else "slow here",
            "float32 is used instead",
        ),
        "compiled engine": _compiled(),
        "gpu": _row(
            gpu,
            torch.cuda.get_device_name() if gpu else "none",
            "the toy world needs none; real models of more than about 0.2 billion parameters do",
        ),
        "disk": _row(
            free > 5,
            f"{free:.0f} GB free here",
            "the toy world needs about 1 GB, a 7B model over 100 GB",
        ),
        "toy models": _row(
            bool(toys),
            ", ".join(toys) or "none",
            "clone the whole project, or run `restem pretrain`",
        ),
        "local benchmarks": _row(
            Path(data).is_dir() if data else False,
            data or "RESTEM_DATA is not set",
            "benchmarks then come from the Hub; toy tasks need neither",
        ),
        "vllm": _row(
            find_spec("vllm") is not None,
            version("vllm"),
            "pip install 'restem-lib[vllm]' in an environment of its own; the torch engine does without",
        ),
        "ray": _row(
            find_spec("ray") is not None,
            version("ray"),
            "pip install 'restem-lib[ray]' for a cluster (docs/cluster.md); one machine needs none",
        ),
        "sandbox": _sandbox(),
        "grader workers": _row(
            *_graders(), "final answers that need algebra could not be compared"
        ),
    }
    return found


def report(found: dict[str, Any]) -> str:
    """The findings for people, a line each."""
    lines = []
    for name, row in found.items():
        advice = "" if row["ok"] or not row["advice"] else f"  ({row['advice']})"
        lines.append(f"{'ok' if row['ok'] else '--'}  {name:<17} {row['found']}{advice}")
    return "\n".join(lines)


def _row(ok: bool, found: str, advice: str) -> dict[str, Any]:
    return {"ok": ok, "found": found, "advice": advice}


def _compiled() -> dict[str, Any]:
    from restem_lib.engines import native

    why = native.why_not()
    found = f"native.c cannot be used: {why}" if why else "native.c is compiled"
    return _row(not why, found, "in float32 on a CPU the torch engine is two fifths slower without")


def _graders() -> tuple[bool, str]:
    from restem_lib.rewards.answers import grade

    try:
        verdict = grade([r"\sqrt{8}"], [r"\boxed{2\sqrt{2}}"])[0].verdict
    except Exception as error:  # the doctor reports what would stop others
        return False, f"no worker starts: {error}"
    return (
        verdict == "correct",
        "a worker compared 2√2 with √8" if verdict == "correct" else f"a worker said {verdict}",
    )


def _sandbox() -> dict[str, Any]:
    """The level that model-written programs would run at, and what keeps them from a better one."""
    from restem_lib.rewards.sandbox import LEVELS, probe

    probes = [probe(level) for level in LEVELS]
    working = next((found for found in probes if found.works), None)
    refused = "; ".join(f"{found.level}: {found.why}" for found in probes if not found.works)
    how = (
        "apt install bubblewrap libseccomp2; in a container bubblewrap also needs the right to make namespaces, on "
        "Ubuntu an AppArmor profile that grants unprivileged ones"
    )
    if working is None:
        return _row(False, "none works", f"programs are refused. {refused}. {how}")
    best = working.level == LEVELS[0]
    return _row(best, f"{working.level}, {working.why}", f"{refused}. {how}")
