"""soak"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ADVICE = re.compile(r"[Dd]elete (?:that file|(?:the folder )?(/\S+))")


def follow(said: str, root: Path) -> list[Path]:
    """Delete what messages about damage in the store `root` advise to delete; what that was."""
    deleted = []
    for line in said.splitlines():
        advice = ADVICE.search(line)
        if advice:
            named = advice[1] or next(word for word in line.split() if word.startswith(str(root)))
            path = Path(named.rstrip(".,:;"))
            if root / "stages" not in path.parents:
                raise ValueError(f"{path} is not in the store {root}: {line}")
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            deleted.append(path)
    return deleted
