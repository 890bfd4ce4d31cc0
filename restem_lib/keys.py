"""Names and values of settings, read strictly: YAML, types, choices and limits, with errors that say what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from restem_lib import UserError


class ConfigError(UserError, ValueError):
    """A setting is unknown, missing, mistyped or impossible; the text says which and what to do."""


WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "tuple[int, ...]": "a list of whole numbers",
    "tuple[str, ...]": "a list of texts",
}
"""Types of keys as errors call them."""


def parse_yaml(text: str, where: str) -> Any:
    """Safe YAML in which 1e-4 is a number (PyYAML follows YAML 1.1, where it is a string). Raises ConfigError."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = {key for key in keys if keys.count(key) > 1}
            if twice:
                raise ConfigError(
                    f"{where} gives {', '.join(map(str, sorted(twice)))} more than once"
                )
            return super().construct_mapping(node, deep)

    number = re.compile(r"^[-+]?(\d[\d_]*(\.\d*)?|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from error


def check_names(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise ConfigError for the first name that is not known, with the nearest one that is."""
    known = list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = (
                f"; did you mean {near[0]!r}?"
                if near
                else f"; known are {', '.join(sorted(known))}"
            )
            raise ConfigError(f"unknown key {name!r} in {where}{hint}")


def typed(name: str, kind: str, value: Any, where: str) -> Any:
    """The value of a key as its type (of WORDS) wants it. `where` names the source in errors. Raises ConfigError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int" and isinstance(value, int) and number:
        return value
    if kind == "float" and number:
        return float(value)
    if kind == "float" and isinstance(value, str):  # plain papermill hands 1e-4 over as text
        try:
            return float(value)
        except ValueError:
            pass
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind.startswith("tuple") and isinstance(value, list | tuple):
        item = int if "int" in kind else str
        if all(isinstance(v, item) and not isinstance(v, bool) for v in value):
            return tuple(value)
    raise ConfigError(f"{name} in {where} is {value!r}; it must be {WORDS[kind]}")


def choice(settings: object, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless the setting is one of those allowed."""
    if getattr(settings, name) not in allowed:
        raise ConfigError(
            f"{name} is {getattr(settings, name)!r}; it must be one of {', '.join(allowed)}"
        )


def at_least(settings: object, low: int, *names: str) -> None:
    """Raise ConfigError for the first of the settings that is below `low`."""
    for name in names:
        if getattr(settings, name) < low:
            raise ConfigError(f"{name} is {getattr(settings, name)}; it must be at least {low}")
