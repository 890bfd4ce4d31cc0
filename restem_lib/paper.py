"""What stands in paper/: the paper's numbers (values.yaml) and its claims (claims.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from restem_lib.config import PROJECT
from restem_lib.keys import ConfigError, parse_yaml

CLAIMS = PROJECT / "paper" / "claims.yaml"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, as it is judged here."""

    name: str
    """C1 to C27."""
    statement: str
    statistic: str
    """What is measured, in words."""
    direction: str
    """"above" (the value lies above the margin) or "same" (within the margin on both sides of 0)."""
    margin: float
    """As the statistic is: rates and their differences are in 0..1."""
    where: str
    """In the paper."""
    strength: str
    """How strong the paper's own evidence is."""
    paper: str
    """The paper's number."""
    unit: str = "points"
    """"points" (hundredths of a rate) or "nats" (of a log-likelihood)."""


def read_claims(path: Path = CLAIMS) -> dict[str, Claim]:
    """The claims by name. Raises ConfigError for a file that is not like that."""
    found = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    names = {field.name for field in fields(Claim)} - {"name", "unit"}
    claims = {}
    for name, entry in found.items():
        if set(entry) - {"unit"} != names:
            raise ConfigError(
                f"{path}: {name} must have {', '.join(sorted(names))}, perhaps unit, no more"
            )
        if entry["direction"] not in ("above", "same"):
            raise ConfigError(
                f"{path}: {name} has direction {entry['direction']!r}, not above or same"
            )
        if entry.get("unit", "points") not in ("points", "nats"):
            raise ConfigError(f"{path}: {name} has unit {entry['unit']!r}, not points or nats")
        claims[name] = Claim(name=name, **entry)
    return claims


def values(name: str) -> dict[str, list[float]]:
    """Numbers of the paper from paper/values.yaml, by series."""
    found: dict[str, list[float]] = entry(name)["values"]
    return found


def entry(name: str) -> dict[str, Any]:
    """An entry of paper/values.yaml: where, what, read, accuracy and values."""
    path = PROJECT / "paper" / "values.yaml"
    found: dict[str, Any] = parse_yaml(path.read_text(encoding="utf-8"), str(path))[name]
    return found
