"""Assertions on a program that runs in another process: it answers calls with plain values, and can do nothing else.

`host` is the program's side, `check` the assertions'. They talk in lines of JSON; a value is plain if it is made of
built-in types, and the assertions' side builds it anew, so no method, no module and no frame of the program's is near
them. Objects of the program's own classes stay where they are; the assertions hold a `Far` for each.

Given as text to jail.py, which runs inside the sandbox: standard library only.
"""

from __future__ import annotations

import ast
import builtins
import collections
import contextlib
import decimal
import fractions
import importlib
import itertools
import json
from collections.abc import Callable, Iterable
from typing import IO, Any

ITEMS = 100_000
"""Items of an iterator that are sent."""

_SEQUENCES: dict[str, Callable[[Iterable[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
    "iterator": iter,
}
_TYPES = {made: name for name, made in vars(builtins).items() if type(made) is type}
_VIEWS = {type({}.keys()): "set", type({}.values()): "list", type({}.items()): "set"}
"""Views of a dictionary compare as sets do, but for its values."""
_BASES: tuple[Any, ...] = (tuple, list, set, frozenset, collections.deque)
_WRITTEN = {"Decimal": decimal.Decimal, "Fraction": fractions.Fraction, "complex": complex}


class Foul(Exception):
    """What the program raised, or that it is gone."""


def encode(value: Any, other: Callable[[Any], Any]) -> Any:
    """A plain value as JSON values: a list begins with the kind of what it holds. `other` encodes what is not plain."""
    kind: Any = type(value)
    if value is None or kind is bool or kind is int or kind is float or kind is str:
        return value
    if kind is dict or isinstance(value, dict):
        return ["dict", *([encode(k, other), encode(v, other)] for k, v in dict.items(value))]
    for name, made in _SEQUENCES.items():
        if kind is made:
            return [name, *(encode(item, other) for item in value)]
    for base in _BASES:  # named tuples and their like
        if isinstance(value, base):
            return [base.__name__, *(encode(item, other) for item in base.__iter__(value))]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if kind in _VIEWS:
        return [_VIEWS[kind], *(encode(item, other) for item in value)]
    if kind is bytearray:
        return ["bytes", value.decode("latin-1")]
    for name, written in _WRITTEN.items():
        if kind is written:
            return [name, str(value)]
    if kind is bytes:
        return ["bytes", value.decode("latin-1")]
    if kind is range:
        return ["range", value.start, value.stop, value.step]
    if kind is type and value in _TYPES:
        return ["type", _TYPES[value]]
    if hasattr(kind, "__next__"):
        return ["iterator", *(encode(item, other) for item in itertools.islice(value, ITEMS))]
    return other(value)


def decode(data: Any, other: Callable[[str, Any], Any]) -> Any:
    """The inverse of `encode`; `other` is given the kind and content of what is not plain. Raises Foul for junk."""
    if not isinstance(data, list):
        return data if not isinstance(data, dict) else _junk(data)
    kind, items = (data[0], data[1:]) if data else ("", [])
    if kind == "dict":
        return {decode(key, other): decode(value, other) for key, value in items}
    if kind in _SEQUENCES:
        return _SEQUENCES[kind]([decode(item, other) for item in items])
    if kind in _WRITTEN:
        return _WRITTEN[kind](items[0])
    if kind == "bytes":
        return items[0].encode("latin-1")
    if kind == "range":
        return range(*items)
    if kind == "type" and isinstance(getattr(builtins, str(items[0]), None), type):
        return getattr(builtins, items[0])
    return other(kind, items)


def _junk(data: Any, items: Any = None) -> Any:
    raise Foul(f"the program sent junk: {str(data)[:60]}")


def _send(file: IO[bytes], data: Any) -> None:
    line = memoryview(json.dumps(data).encode() + b"\n")
    while line:
        line = line[file.write(line) :]


# The program's side.


def host(load: Callable[[], dict[str, Any]], requests: IO[bytes], replies: IO[bytes]) -> None:
    """Load a program, say what it defines, then answer calls until nobody asks any more."""
    send, kept = _send, list[Any]()

    def keep(value: Any) -> list[Any]:
        kept.append(value)
        return ["object", len(kept) - 1]

    def refuse(value: Any) -> Any:
        raise TypeError(f"returned {type(value).__name__}, which is no plain value")

    def find(kind: str, items: list[Any]) -> Any:
        return kept[items[0]]

    try:
        defined = load()
        kinds = {
            name: "class" if isinstance(value, type) else "call" if callable(value) else "value"
            for name, value in defined.items()
        }
    except BaseException as error:
        send(replies, ["error", _text(error)])
        return
    send(replies, ["ok", kinds])
    for line in requests:
        what, target, *rest = json.loads(line)
        try:
            arguments = [decode(item, find) for item in rest]
            if what == "value":
                reply = encode(defined[target], keep)
            elif what == "call":
                reply = encode(named(defined, target)(*arguments[0], **arguments[1]), refuse)
            elif what == "make":
                reply = keep(defined[target](*arguments[0], **arguments[1]))
            elif what == "set":
                setattr(kept[target], arguments[0], arguments[1])
                reply = None
            elif what == "do":
                reply = encode(getattr(kept[target], arguments[0])(*arguments[1]), refuse)
            else:
                found = getattr(kept[target], arguments[0])
                reply = ["method"] if callable(found) else encode(found, keep)
            send(replies, ["ok", reply])
        except BaseException as error:
            send(replies, ["error", _text(error)])


def named(defined: dict[str, Any], name: str) -> Callable[..., Any]:
    """The function of a name, or the method of a class Solution. Raises NameError."""
    if name in defined:
        return defined[name]
    if "Solution" in defined:
        return getattr(defined["Solution"](), name)
    raise NameError(f"the program does not define {name}")


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


# The assertions' side.


class _Line:
    """The line to the program's side."""

    def __init__(self, requests: IO[bytes], replies: IO[bytes]) -> None:
        self.requests, self.replies = requests, replies

    def hear(self) -> Any:
        """What the program's side says. Raises Foul."""
        heard = json.loads(self.replies.readline() or '["error", "the program ended"]')
        if not isinstance(heard, list) or len(heard) != 2:
            _junk(heard)
        if heard[0] != "ok":
            raise Foul(str(heard[1])[:240])
        return heard[1]

    def ask(self, what: str, target: Any, *rest: Any) -> Any:
        with contextlib.suppress(BrokenPipeError):  # why it ended may be waiting to be heard
            _send(self.requests, [what, target, *(encode(item, self._far) for item in rest)])
        return decode(self.hear(), self._near)

    def _far(self, value: Any) -> Any:
        if type(value) is Far:
            return ["object", object.__getattribute__(value, "_number")]
        raise Foul(f"the assertions give {type(value).__name__}, which is no plain value")

    def _near(self, kind: str, items: list[Any]) -> Any:
        if kind == "object" and len(items) == 1 and type(items[0]) is int:
            return Far(self, items[0])
        return ["method"] if kind == "method" else _junk(kind)


class Far:
    """An object of one of the program's classes: its attributes can be read, set and called; it equals only itself."""

    __slots__ = ("_line", "_number")

    def __init__(self, line: _Line, number: int) -> None:
        object.__setattr__(self, "_line", line)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        found = self._line.ask("get", self._number, name)
        if found == ["method"]:
            return lambda *arguments: self._line.ask("do", self._number, name, arguments)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        self._line.ask("set", self._number, name, value)

    def __bool__(self) -> bool:
        raise Foul("an object of the program's own is neither true nor false")


def check(
    tests: dict[str, Any], requests: IO[bytes], replies: IO[bytes], preloaded: Iterable[str]
) -> None:
    """Run setup and assertions of `tests`; what they name, and neither Python nor `setup` defines, is the program's.

    Raises whatever they raise, Foul when the program's side does.
    """
    line = _Line(requests, replies)
    kinds = line.hear()
    if not isinstance(kinds, dict):
        _junk(kinds)

    def calling(what: str, name: str) -> Callable[..., Any]:
        return lambda *arguments, **named: line.ask(what, name, arguments, named)

    space: dict[str, Any] = {"__name__": "tests"}
    used = ast.walk(ast.parse(f"{tests['setup']}\n{tests['asserts']}"))
    names = {node.id for node in used if isinstance(node, ast.Name)} - vars(builtins).keys()
    for name in sorted(names & kinds.keys()):
        if name in preloaded:
            space[name] = importlib.import_module(name)
        elif kinds[name] == "value":
            space[name] = line.ask("value", name)
        else:
            space[name] = calling("make" if kinds[name] == "class" else "call", name)
    exec(compile(tests["setup"], "setup.py", "exec"), space)
    if tests["entry"]:
        space[tests["entry"]] = calling("call", tests["entry"])
    exec(compile(tests["asserts"], "asserts.py", "exec"), space)
