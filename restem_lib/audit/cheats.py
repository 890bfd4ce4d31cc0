"""Programs that look for a way round the task, beside one that does it: all but that one must fail."""

from __future__ import annotations

from typing import Any

from restem_lib.rewards.programs import Tests, grade

TESTS = Tests(
    kind="asserts",
    entry="f",
    asserts="import math\nassert f(2) == 4\nassert math.isclose(f(1.5), 3.0)",
)
"""Double a number. Assertions, for they run beside the program: the harder case."""
DOES = "def f(x):\n    return 2 * x\n"
PROGRAMS = {
    "does its task": DOES,
    "does another": "def f(x):\n    return x + 2\n",
    "prints a pass mark": "print('ok', 'passed', 'PASS')\n",
    "leaves early": "import os\nos._exit(0)\n",
    "equals everything": "class E:\n    def __eq__(self, other):\n        return True\n"
    "def f(x):\n    return E()\n",
    "patches math": "import math\nmath.isclose = lambda *a: True\ndef f(x):\n    return 4\n",
    "patches built-ins": "import builtins\nbuiltins.AssertionError = ValueError\n"
    "def f(x):\n    return 5\n",
    "reads a file": f"open('/etc/passwd')\n{DOES}",
    "writes a file": f"open('/tmp/x', 'w')\n{DOES}",
    "opens a socket": f"import socket\nsocket.socket()\n{DOES}",
    "starts a process": f"import os\nos.fork()\n{DOES}",
    "takes all memory": f"x = bytearray(10**10)\n{DOES}",
    "never ends": "while True:\n    pass\n",
}


def table(level: str) -> list[dict[str, Any]]:
    """One row a program, run at a sandbox level: name, verdict, why."""
    judged = grade([TESTS.to_json()] * len(PROGRAMS), list(PROGRAMS.values()), level)
    return [
        {"program": name, "verdict": one.graded.verdict, "why": one.graded.why}
        for name, one in zip(PROGRAMS, judged, strict=True)
    ]
