"""Where a number comes from: commit, versions, hardware. Kept in manifests, figures and notebooks, never in records."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import restem_lib
from restem_lib.config import PROJECT

PACKAGES = (
    "torch",
    "transformers",
    "vllm",
    "accelerate",
    "datasets",
    "numpy",
    "pyarrow",
    "math-verify",
)


@cache
def provenance() -> dict[str, Any]:
    """Commit, versions and hardware of this process, as plain JSON values. Imports nothing heavy."""
    return {
        "restem": restem_lib.__version__,
        **_commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "threads": _threads(),
    }


def version(package: str) -> str:
    """The installed version of a package, or "absent"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> dict[str, Any]:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout.strip()

    try:
        # An installed copy inside somebody else's repository must not claim that repository's commit.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != PROJECT:
            return {"commit": "unknown", "modified": False}
        return {
            "commit": git("rev-parse", "HEAD"),
            "modified": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"commit": "unknown", "modified": False}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _threads() -> int:
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 0)
