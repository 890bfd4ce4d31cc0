"""The sandbox's other adversary: programs that solve nothing and try to pass the tests all the same.

The task is f(x) = x * x. Each cheat is tried on a naive harness too, which runs it and its assertions in one process
and believes the exit status, as the harnesses of HumanEval and APPS do: there it must pass.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from restem_lib.rewards import programs
from restem_lib.rewards.programs import Tests
from restem_lib.rewards.sandbox import Probe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
pytest_plugins = ["sandbox_levels"]

HONEST = "def f(x):\n    return x * x\n"
EQUAL = """
class Equal:
    def __init__(self, *values): pass
    def __eq__(self, other): return True
    def __hash__(self): return 4
    def __iter__(self): return iter(())
"""
IS_4 = "assert f(2) == 4"
LATER = "assert f(1) == 1\nassert f(2) == 4"
CLOSE = "import math\nassert f(1) == 1\nassert math.isclose(f(2), 4)"
NEAR = "assert f(1) == 1\nassert abs(f(2) - 4) < 1e-6"

EQUALITY = {
    "an object equal to all": (f"{EQUAL}\ndef f(x): return Equal()", IS_4),
    "a number equal to all": (
        "class I(int):\n    __eq__ = lambda s, o: True\nf = lambda x: I(x)",
        IS_4,
    ),
    "a number unequal to none": (
        "class I(int):\n    __ne__ = lambda s, o: False\nf = lambda x: I(x)",
        "assert not f(2) != 4",
    ),
    "a number that subtracts to nothing": (
        "class F(float):\n    __sub__ = lambda s, o: 0\nf = lambda x: F(x + 1)",
        "assert abs(f(2) - 4) < 1e-6",
    ),
    "a list equal to all": (
        "class L(list):\n    __eq__ = lambda s, o: True\nf = lambda x: L()",
        "assert f(2) == [4]",
    ),
    "a text equal to all": (
        "class S(str):\n    __eq__ = lambda s, o: True\nf = lambda x: S()",
        "assert f(2) == '4'",
    ),
    "a named tuple equal to all": (
        "import collections\nclass T(collections.namedtuple('T', 'a')):\n    __eq__ = lambda s, o: True\n"
        "f = lambda x: T(1)",
        "assert f(2) == (4,)",
    ),
    "within a list": (f"{EQUAL}\ndef f(x): return [Equal()]", "assert f(2) == [4]"),
    "within a tuple": (f"{EQUAL}\ndef f(x): return (Equal(),)", "assert f(2) == (4,)"),
    "within a dict": (f"{EQUAL}\ndef f(x): return {{2: Equal()}}", "assert f(2) == {2: 4}"),
    "as a dict's key": (f"{EQUAL}\ndef f(x): return {{Equal(): 2}}", "assert f(2) == {4: 2}"),
    "within a set": (f"{EQUAL}\ndef f(x): return {{Equal()}}", "assert f(2) == {4}"),
    "within a generator": (f"{EQUAL}\ndef f(x): yield Equal()", "assert list(f(2)) == [4]"),
    "within a deque": (
        f"import collections\n{EQUAL}\ndef f(x): return collections.deque([Equal()])",
        "assert list(f(2)) == [4]",
    ),
    "within a default dict": (
        f"import collections\n{EQUAL}\ndef f(x): return collections.defaultdict(int, a=Equal())",
        "assert f(2) == {'a': 4}",
    ),
    "a class equal to all classes": (
        f"class Meta(type):\n    __eq__ = lambda s, o: True\n    __hash__ = type.__hash__\n{EQUAL}\n"
        "class Mine(Equal, metaclass=Meta): pass\nf = lambda x: Mine()",
        IS_4,
    ),
    "a class that claims to be int": (
        f"{EQUAL}\nclass int(Equal):\n    __class__ = property(lambda s: type(1))\nf = lambda x: int()",
        IS_4,
    ),
    "a class that claims to be a tuple": (
        f"{EQUAL}\nclass T(Equal):\n    __class__ = property(lambda s: tuple)\n"
        "    __iter__ = tuple.__iter__\nf = lambda x: T()",
        IS_4,
    ),
}
"""What a program returns has its own idea of equality."""

UNDER_THE_NAME = {
    "a callable object": f"{EQUAL}\nclass F:\n    def __call__(self, x): return Equal()\nf = F()",
    "a class": f"{EQUAL}\nclass f(Equal): pass",
    "a class with __new__": f"{EQUAL}\nclass f:\n    def __new__(cls, x): return Equal()",
    "a partial function": f"import functools\n{EQUAL}\nf = functools.partial(Equal, 1)",
    "a method": f"{EQUAL}\nclass A:\n    def f(self, x): return Equal()\nf = A().f",
    "a built-in method": f"{EQUAL}\nf = [Equal()].__getitem__\nf = (lambda g: {{2: Equal()}}.get)(f)",
    "a cached function": f"import functools\n{EQUAL}\n@functools.cache\ndef f(x): return Equal()",
    "a coroutine's class": f"{EQUAL}\nf = type('f', (Equal,), {{}})",
}
"""Something else than a function stands under the tested name."""

_PATCH = {
    "math.isclose": ("import math; math.isclose = lambda *a, **k: True", CLOSE),
    "abs": ("import builtins; builtins.abs = lambda x: 0", NEAR),
    "abs through __builtins__": ("__builtins__['abs'] = lambda x: 0", NEAR),
    "sorted": (
        "import builtins; builtins.sorted = lambda x: 0",
        "assert f(1) == 1\nassert sorted([f(2)]) == sorted([4])",
    ),
    "sys.modules": (
        "import sys, types; sys.modules['math'] = types.SimpleNamespace(isclose=lambda *a: True)",
        "assert f(1) == 1\nimport math\nassert math.isclose(f(2), 4)",
    ),
    "__import__": (
        "import builtins, types; builtins.__import__ = lambda *a: types.SimpleNamespace(isclose=lambda *a: True)",
        "assert f(1) == 1\nimport math\nassert math.isclose(f(2), 4)",
    ),
    "an import hook": (
        "import sys, types\nclass Hook:\n    find_spec = staticmethod(lambda *a: 1 / 0)\n"
        "sys.meta_path.insert(0, Hook)\nm = sys.modules['math'] = types.ModuleType('math')\n"
        "m.isclose = lambda *a: True",
        "assert f(1) == 1\nimport math\nassert math.isclose(f(2), 4)",
    ),
    "what rebuilds values: map": (
        f"{EQUAL}\nimport builtins; builtins.map = lambda f, x: x",
        "assert f(1) == 1\nassert f(2) == [4]",
    ),
    "what rebuilds values: Decimal": (
        f"{EQUAL}\nimport decimal; decimal.Decimal = Equal",
        LATER,
    ),
    "what rebuilds values: deque": (
        f"{EQUAL}\nimport collections; collections.deque = Equal",
        LATER,
    ),
    "what rebuilds values: OrderedDict": (
        f"{EQUAL}\nimport collections; collections.OrderedDict = Equal",
        LATER,
    ),
    "what rebuilds values: isinstance": (
        f"{EQUAL}\nimport builtins; builtins.isinstance = builtins.tuple = Equal",
        LATER,
    ),
}


def _indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())


def patches() -> Iterator[tuple[str, tuple[str, str]]]:
    """At once, and not before f is called, after the harness put all in order."""
    for what, (code, asserts) in _PATCH.items():
        returned = "[Equal()]" if "map" in what else "Equal()" if EQUAL in code else "7"
        yield f"{what} at once", (f"{code}\ndef f(x): return x if x == 1 else {returned}", asserts)
        body = f"{_indented(code)}    return x if x == 1 else {returned}"
        yield f"{what} in a call", (f"def f(x):\n{body}", asserts)


LEAVING = {
    "os._exit": ("import os; os._exit(0)", IS_4),
    "os._exit in a call": ("import os\nf = lambda x: os._exit(0)", IS_4),
    "sys.exit": ("import sys; sys.exit()", IS_4),
    "SystemExit in a call": ("def f(x): raise SystemExit(0)", IS_4),
    "at exit": ("import atexit, os\natexit.register(os._exit, 0)\nf = abs", IS_4),
    "the hook for errors": (
        "import os, sys\nsys.excepthook = lambda *error: os._exit(0)\nf = abs",
        IS_4,
    ),
    "pass marks": (
        "import os\nprint('OK', 'PASSED', '1 passed in 0.01s', 'all tests passed')\n"
        "print('{\"passed\": true}', '{\"nonce\": \"\"}', '[true]', flush=True); os._exit(0)",
        IS_4,
    ),
    "a report without the nonce": (
        "import os\nfor line in (b'{\"nonce\": \"\"}', b'{\"nonce\": null}', b'{\"value\": 4}', b'true', b'\\xff'):\n"
        "    for n in (1, 2, 3):\n        try: os.write(n, line + b'\\n')\n        except OSError: pass\n"
        "os._exit(0)",
        IS_4,
    ),
    "a profiler": (
        "import os, sys\ndef f(x):\n    sys.setprofile(lambda *a: os._exit(0))",
        IS_4,
    ),
}
"""A program leaves before the assertions could fail, and says that all is well."""

FRAMES = {
    "a tracer that jumps over assertions": (
        "import sys\ndef trace(frame, event, arg):\n    if frame.f_code.co_name == 'check' and event == 'line':\n"
        "        frame.f_lineno = max(n for *_, n in frame.f_code.co_lines() if n)\n    return trace\n"
        "sys.settrace(trace)\nf = lambda x: 7",
        "def check(f):\n    assert f(2) == 4\n    assert f(3) == 9\n    pass\ncheck(f)",
    ),
    "a tracer set in a call": (
        "import sys\ndef trace(frame, event, arg):\n"
        "    if event == 'line': frame.f_lineno = max(n for *_, n in frame.f_code.co_lines() if n)\n"
        "    return trace\n"
        "def f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        if frame.f_code.co_name == 'check': frame.f_trace = trace; sys.settrace(trace)\n"
        "        frame = frame.f_back\n    return 1",
        "def check(f):\n    assert f(1) == 1\n    assert f(3) == 9\n    pass\ncheck(f)",
    ),
    "another f in the callers' globals": (
        f"import sys\n{EQUAL}\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        frame.f_globals['f'] = Equal\n        frame = frame.f_back\n    return 1",
        LATER,
    ),
    "another abs in the callers' globals": (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        frame.f_globals['abs'] = lambda x: 0\n        frame = frame.f_back\n    return 1",
        NEAR,
    ),
    "another f in every dict": (
        f"import gc\n{EQUAL}\ndef f(x):\n    for each in gc.get_objects():\n"
        "        if type(each) is dict and 'f' in each: each['f'] = Equal\n    return 1",
        LATER,
    ),
    "a callback of the garbage collector": (
        "import gc, math\ndef hook(*a): math.isclose = lambda *a, **k: True\n"
        "gc.callbacks.append(hook)\ndef f(x):\n    gc.collect()\n    return 1",
        CLOSE,
    ),
}
"""A program changes those who call it."""

NAMES = {
    "abs defined anew": ("abs = lambda x: 0\nf = lambda x: 7", "assert abs(f(2) - 4) < 1e-6"),
    "set defined anew": ("def set(x): return 0\nf = lambda x: [7]", "assert set(f(2)) == set([4])"),
    "all defined anew": ("all = any\nf = lambda x: 1", "assert all([f(1) == 1, f(2) == 4])"),
    "a module of its own": (
        "class math:\n    isclose = staticmethod(lambda *a: True)\nf = lambda x: 7",
        "assert math.isclose(f(2), 4)",
    ),
    "arguments emptied": (
        "def f(x):\n    x.clear()\n    return []",
        "x = [3, 2]\nassert f(x) == sorted(x)",
    ),
}
"""A program gives names of the tests a meaning of its own."""

CHEATS = EQUALITY | {f"{what} under the name": (c, IS_4) for what, c in UNDER_THE_NAME.items()}
CHEATS |= {f"patched {what}": cheat for what, cheat in patches()}
CHEATS |= {f"leaving: {what}": cheat for what, cheat in LEAVING.items()} | FRAMES | NAMES


def asserts(code: str, entry: str = "f", setup: str = "") -> Tests:
    return Tests(kind="asserts", entry=entry, asserts=code, setup=setup)


def verdict(level: str, program: str, tests: Tests) -> str:
    return programs.grade([tests.to_json()], [program], level)[0].graded.verdict


# Assertions.


@pytest.mark.parametrize("cheat", CHEATS)
def test_the_cheat_is_one(cheat: str) -> None:
    program, assertions = CHEATS[cheat]
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"n = {{}}\nexec({program!r}, n)\nexec({assertions!r}, n)"],
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("cheat", CHEATS)
def test_it_passes_no_assertions(cheat: str, each_level: str) -> None:
    program, assertions = CHEATS[cheat]
    assert verdict(each_level, program, asserts(assertions)) != "correct"


@pytest.mark.parametrize("cheat", UNDER_THE_NAME)
def test_nor_without_an_entry_by_name(cheat: str, each_level: str) -> None:
    assert verdict(each_level, UNDER_THE_NAME[cheat], asserts(IS_4, entry="")) != "correct"


def test_helpers_of_the_tests_are_the_tests_own(each_level: str) -> None:
    tests = asserts("assert near(f(2), 4)", setup="def near(a, b): return abs(a - b) < 1e-6")
    for patch in ("near = lambda a, b: True", "def near(a, b): return True", "abs = lambda x: 0"):
        assert verdict(each_level, f"{patch}\ndef f(x): return 7", tests) == "wrong"
        assert verdict(each_level, f"{patch}\n{HONEST}", tests) == "correct"


def test_an_honest_program_passes_the_assertions_of_the_cheats(each_level: str) -> None:
    for assertions in (IS_4, LATER, CLOSE, NEAR, FRAMES["a tracer set in a call"][1]):
        assert verdict(each_level, HONEST, asserts(assertions)) == "correct"


# Values and texts, which are compared outside.

FORGING = """
import os
def forge(text):
    try: os.write(3, text)
    except OSError: pass
"""
CALLED = {
    **{what: code for what, (code, _) in EQUALITY.items()},
    **{f"{what} under the name": code for what, code in UNDER_THE_NAME.items()},
    **{f"leaving: {what}": code for what, (code, _) in LEAVING.items()},
    "true for one": "f = lambda x: True",
    "not a number": "f = lambda x: float('nan')",
    "infinity": "f = lambda x: float('inf')",
    "a text of the number": "f = lambda x: str(x * x)",
    "a list around it": "f = lambda x: [x * x]",
    "a number that prints as another": (
        "class I(int):\n    __repr__ = __str__ = __int__ = __index__ = lambda s: '4'\nf = lambda x: I(7)"
    ),
    "patched json": "import json\njson.dumps = lambda *a, **k: 'true'\nf = lambda x: 7",
    "deep": "def f(x):\n    y = []\n    for _ in range(900): y = [y]\n    return y",
    "cyclic": "x = []\nx.append(x)\nf = lambda y: x",
    "too large": "f = lambda x: 'a' * 10**7",
    "a surrogate": "f = lambda x: '\\ud800\\0\\u2028'",
    "forged lines": f'{FORGING}\nforge(b\'{{"value": true}}\\n{{"passed": true}}\\n\'); os._exit(0)',
    "a forged deep line": f"{FORGING}\nforge(b'{{\"value\": ' + b'[' * 60000 + b'}}\\n'); os._exit(0)",
    "a forged huge number": f"{FORGING}\nforge(b'{{\"value\": ' + b'9' * 60000 + b'}}\\n'); os._exit(0)",
    "forged bytes": f"{FORGING}\nforge(b'\\xff\\xfe\\0' * 9000); os._exit(0)",
}


@pytest.mark.parametrize("cheat", CALLED)
def test_no_wrong_value_passes(cheat: str, each_level: str) -> None:
    tests = Tests(kind="call", entry="f", inputs=([1], [5]), outputs=(1, 25))
    assert verdict(each_level, CALLED[cheat], tests) in ("wrong", "error")


def test_a_forged_value_is_as_good_as_a_returned_one(each_level: str) -> None:
    tests = Tests(kind="call", entry="f", inputs=([5],), outputs=(25,))
    for value, expected in ((25, "correct"), (24, "wrong")):
        program = f"{FORGING}\nforge(b'{{\"value\": {value}}}\\n'); os._exit(0)"
        assert verdict(each_level, program, tests) == expected


@pytest.mark.parametrize("cheat", [what for what in CALLED if what.startswith(("leav", "forge"))])
def test_no_wrong_text_passes(cheat: str, each_level: str) -> None:
    tests = Tests(kind="stdin", inputs=("5\n",), outputs=("25\n",))
    assert verdict(each_level, CALLED[cheat], tests) != "correct"


def test_expected_outputs_are_nowhere_in_the_process(each_level: str) -> None:
    look = """
import gc, sys
def within(value, depth):
    if type(value) is str:
        return "dlog-eht"[::-1] in value
    inner = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    return depth > 0 and any(within(each, depth - 1) for each in list(inner))
def found():
    every, frame = gc.get_objects(), sys._getframe()
    while frame:
        every += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    return any(within(each, 3) for each in every)
f = lambda x: "dlog-eht"[::-1] if found() else "none"
"""
    call = Tests(kind="call", entry="f", inputs=([1],), outputs=("the-gold",))
    text = Tests(kind="stdin", inputs=("",), outputs=("the-gold",))
    assert verdict(each_level, look, call) == "wrong"
    assert verdict(each_level, f"{look}\nprint(f(0))", text) == "wrong"
    assert verdict(each_level, f"{look}\nx = 'the' + '-gold'\nprint(f(0))", text) == "correct"


AWARE = {
    "reads what comes in": (
        "import os\nfor n in range(20):\n    try: os.set_blocking(n, False); seen = os.read(n, 999)\n"
        "    except OSError: continue\n"
        "    os.write(3, seen)\nos._exit(0)"
    ),
    "answers for itself": (
        'import os\nos.write(3, b\'["ok", {"f": "call"}]\\n["ok", ["set", ["list"]]]\\n\')\n'
        "os.read(4, 999); os._exit(0)"
    ),
    "claims the tests' names": (
        'import os\nos.write(3, b\'["ok", {"f": "call", "print": "call", "math": "class"}]\\n\')\n'
        "os.read(4, 999); os._exit(0)"
    ),
    "says it is equal": (
        'import os\nos.write(3, b\'["ok", {"f": "class"}]\\n["ok", ["object", 0]]\\n\')\n'
        "os.read(4, 999); os._exit(0)"
    ),
    "sends a bomb": "import os\nos.write(3, b'[' * 100_000 + b'\\n'); os._exit(0)",
    "sends what is no JSON": "import os\nos.write(3, b'\\xff\\n' * 99); os._exit(0)",
    "fills the line": "import os\nwhile True: os.write(3, b'x' * 65536)",
    "proves it": 'import os\nos.write(3, b\'{"nonce": ""}\\n{"read": true}\\n\'); os._exit(0)',
}
"""Programs written against jail.py and assertions.py: they can send values, and these are not the right ones."""


@pytest.mark.parametrize("what", AWARE)
def test_knowing_the_sandbox_by_heart_does_not_help(each_level: str, what: str) -> None:
    assert verdict(each_level, AWARE[what], asserts(IS_4)) in ("wrong", "error")
    call = Tests(kind="call", entry="f", inputs=([5],), outputs=(25,))
    assert verdict(each_level, AWARE[what], call) != "correct"


def test_assertions_are_not_where_the_program_is(each_level: str) -> None:
    """Nor is anything of another run's assertions in its memory or frames."""
    secret = "e8b1c5f0" * 4
    for _ in range(4):  # on every worker
        gold = asserts(f"assert f(1) == 'x', '{secret}'")
        assert verdict(each_level, "def f(x):\n    return 1", gold) == "wrong"
    look = (
        "import gc, sys\ndef f(x):\n    frame, texts = sys._getframe(), []\n"
        "    while frame:\n        texts.append(repr(frame.f_locals)); frame = frame.f_back\n"
        "    texts += [repr(o) for o in gc.get_objects() if type(o) in (dict, list, tuple)]\n"
        "    return 5 if any('0f5c1b8e0f5c1b8e' in t[::-1] for t in texts) else 4"
    )
    assert verdict(each_level, look, asserts(f"assert f(1) == 4, '{secret}'")) == "correct"


# What is printed must not hold up those who compare it, and no text those who look for the program in it.

SLOW = {
    "digits": ("print('1' * 6000 + 'x')", "0.5\n"),
    "digits and a point": ("print('1' * 6000 + '.' + '1' * 6000 + 'e')", "0.5\n"),
    "many numbers": ("print('1 ' * 30_000)", "0.5 " * 30_000),
    "many lines": ("print('1\\n' * 30_000)", "0.5\n" * 30_000),
    "a huge number": ("print('9' * 900_000)", "0.5\n"),
    "lines of the report": ("import os\nwhile True: os.write(3, b'\\n' * 60000)", "0.5\n"),
}


@pytest.mark.parametrize("what", SLOW)
@pytest.mark.parametrize("lenient", [False, True])
def test_comparing_is_quick(what: str, lenient: bool, probes: dict[str, Probe]) -> None:
    level = next((each for each in probes if probes[each].works), "")
    if not level:
        pytest.skip("no level works here")
    program, expected = SLOW[what]
    gold = Tests(kind="stdin", inputs=("",), outputs=(expected,)).to_json()
    began = time.process_time()
    assert programs.grade([gold], [program], level, lenient)[0].graded.verdict != "correct"
    assert time.process_time() - began < 3  # quadratic patterns took 18 s and more


@pytest.mark.parametrize(
    "text", ["```x\n" * 8000, "```\n" + "\n" * 40_000, " " * 40_000 + "```x\n" * 2000]
)
def test_finding_the_program_is_quick(text: str) -> None:
    began = time.process_time()
    programs.extract(text)
    assert time.process_time() - began < 0.2
