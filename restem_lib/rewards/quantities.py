r"""Plain numbers with units, and times of day: what can be compared exactly, with regular expressions and integers."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from restem_lib.rewards.extraction import MAX_ANSWER

_UNITS = {
    alias: unit
    for unit, aliases in {
        "$": "dollar dollars usd",
        "€": "euro euros",
        "%": "percent",
        "°": "degree degrees",
        "radian": "radians rad",
        "cent": "cents",
        "mm": "millimeter millimeters millimetre millimetres",
        "cm": "centimeter centimeters centimetre centimetres",
        "m": "meter meters metre metres",
        "km": "kilometer kilometers kilometre kilometres",
        "inch": "inches in",
        "foot": "feet ft",
        "yard": "yards",
        "mile": "miles",
        "unit": "units",
        "g": "gram grams",
        "kg": "kilogram kilograms",
        "pound": "pounds lb lbs",
        "ounce": "ounces oz",
        "second": "seconds",
        "minute": "minutes",
        "hour": "hours h",
        "day": "days",
        "week": "weeks",
        "month": "months",
        "year": "years",
    }.items()
    for alias in (unit, *aliases.split())
}
_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}
_UNIT = re.compile(
    r"""(?: (?P<symbol>[%°])
          | (?<=[\d}])\s?(?P<words>[A-Za-z]{2,}(?:[.\s][A-Za-z]+){0,3}\.?)
          | \\(?:text|mbox|mathrm)\{\s*(?P<text>[A-Za-z]+(?:[.\s/][A-Za-z]+){0,3}\.?)
            \s*(?:\^\{?(?P<inside>[23])\}?)?\s*\}
        )(?:\^\{?(?P<power>[23])\}?)?$""",
    re.VERBOSE,
)
_NUMBER = re.compile(
    r"""(?P<sign>[+-]?)(?P<currency>[$£€]?)(?P<minus>-?)
    (?: (?P<whole>\d+)?\s?\\frac\s?(?:\{(?P<over>-?\d+)\}|(?P<over1>\d))
                                  (?:\{(?P<under>-?\d+)\}|\s?(?P<under1>\d))
      | (?:(?P<before>\d+)\s)?(?P<top>\d+)/(?P<bottom>\d+)
      | (?P<decimal>(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)
        (?: _\{?(?:\\text\{)?(?P<base>\d+)\}{0,2}
          | \s?(?:\\times|\\cdot|\*)\s?10\^(?:(?P<ten>\d)|\{(?P<tens>[+-]?\d{1,3})\}))?
    )""",
    re.ASCII | re.VERBOSE,
)
_FRACTION = re.compile(r"/|\\frac")
_IN_BRACKETS = re.compile(r"\(([^(),]*)\)")
_ROOTS = re.compile(r"(?:(?<![\d)}])\\(?:frac|sqrt)|(?<![\d)}])\(|[\d.{})/]|(?<![\d)}])-)+")
_TIME = re.compile(
    r"(?P<hour>\d{1,2})(?::(?P<minute>[0-5]\d))?"
    r"\s?(?:\\(?:text|mbox|mathrm)\{\s*)?(?:(?P<half>[AP])\.?\s?M\.?)?\}?",
    re.ASCII | re.IGNORECASE,
)


class Quantity(NamedTuple):
    """A plain number."""

    value: Fraction
    unit: str
    """A value of _UNITS, perhaps with "^2", "^3" or over another, a currency sign, "base 8" or ""."""


def split_unit(clean: str) -> tuple[str, str]:
    r"""What stands before a known unit, and the unit; all of it and "" where there is none.

    >>> split_unit(r"12\pi\text{ square inches}"), split_unit("18 thousand")
    (('12\\pi', 'inch^2'), ('18 thousand', ''))
    """
    match = _UNIT.search(clean)
    if match is None:
        return clean, ""
    power = match["power"] or match["inside"]
    unit = _unit(match["symbol"] or match["words"] or match["text"], f"^{power}" if power else "")
    return (clean[: match.start()], unit) if unit else (clean, "")


def _unit(phrase: str, power: str) -> str:
    """The one name of a unit: "sq. ft" -> "foot^2", "mph" -> "mile/hour"; "" for an unknown one."""
    phrase = phrase.lower().replace(".", " ").replace("mph", "miles/hour").replace("kph", "km/h")
    over, _, under = phrase.replace(" per ", "/").partition("/")
    words = over.split()
    for position in (0, -1):
        if len(words) > 1 and words[position] in _POWERS:
            if power:
                return ""
            power = _POWERS[words.pop(position)]
    name, rate = _UNITS.get(" ".join(words), ""), _UNITS.get(under.strip(), "")
    if not name or (under and not rate):
        return ""
    return name + power + (f"/{rate}" if rate else "")


def quantity(clean: str) -> Quantity | None:
    r"""A plain number with at most one known unit; None for all else, as "36 or 7" or "9+9".

    Plain are integers, decimals, fractions, mixed numbers and a decimal times a power of ten.
    """
    if len(clean) > MAX_ANSWER:
        return None
    number, unit = split_unit(clean)
    match = _NUMBER.fullmatch(number)
    if match is None:
        inside = _IN_BRACKETS.fullmatch(number)
        inner = quantity(inside[1]) if inside else None
        return None if inner is None or inner.unit else Quantity(inner.value, unit)
    if match["sign"] and match["minus"]:
        return None
    units = {unit, match["currency"], f"base {match['base']}" if match["base"] else ""} - {""}
    if len(units) > 1:
        return None
    value = _value(match)
    if value is None:
        return None
    return Quantity(-value if "-" in (match["sign"], match["minus"]) else value, "".join(units))


def _value(match: re.Match[str]) -> Fraction | None:
    if match["decimal"]:
        power = int(match["ten"] or match["tens"] or 0)
        return Fraction(match["decimal"].replace(",", "").rstrip(".")) * Fraction(10) ** power
    over = int(match["top"] or match["over"] or match["over1"])
    under = int(match["bottom"] or match["under"] or match["under1"])
    whole = match["whole"] or match["before"]
    # Only a proper fraction after a whole number makes a mixed number; "9\frac{9}{1}" is a product.
    if under == 0 or (whole and not 0 < over < under):
        return None
    return int(whole or 0) + Fraction(over, under)


def same_quantity(gold: Quantity, answer: Quantity) -> bool:
    """Equal values. A missing unit is forgiven, another unit or base is not; 50% is 50 and 1/2.

    Nor are cents for a bare number: that may be dollars, a hundred times as much. Nor is 0.5% for
    a bare 0.5: up to one, a bare number is a part, of which 0.5% is a hundredth.
    """
    if gold.unit == answer.unit:
        return gold.value == answer.value
    if (gold.unit and answer.unit) or answer.unit.startswith(("base", "cent")):
        return False
    if "%" not in (gold.unit, answer.unit):
        return gold.value == answer.value
    percent, plain = (gold, answer) if gold.unit == "%" else (answer, gold)
    if percent.value == 100 * plain.value:
        return True
    return percent.value == plain.value and (percent is gold or abs(plain.value) > 1)


def unfinished(gold: str, answer: str) -> bool:
    r"""Whether an answer that is no plain number leaves undone the arithmetic that a plain gold asks for.

    Accept "9+9" for 18 and a model learns to copy numbers, never to compute. So a gold integer or
    decimal wants one number, a fraction at most fractions and roots within each other.

    >>> unfinished("18", "9+9"), unfinished("1/3", r"\frac{1}{\sqrt{9}}"), unfinished("2x", "x+x")
    (True, False, False)
    """
    if quantity(gold) is None:
        return False
    return not (_FRACTION.search(gold) and _ROOTS.fullmatch(answer))


def same_time(gold: str, answer: str) -> bool | None:
    """Whether two times of day are the same; None where the gold answer, or both, may be something else.

    Without a.m. or p.m. an answer is read by 24 hours; a gold answer may then be either half.

    >>> same_time("4:30 p.m.", "16:30"), same_time("4:30 p.m.", "4:30"), same_time("1:30", "2:60")
    (True, False, None)
    """
    left, right = _TIME.fullmatch(gold), _TIME.fullmatch(answer)
    if left is None or not (left["half"] or left["minute"]):
        return None
    if right is None or not (right["half"] or right["minute"]):
        return False if left["half"] else None
    at, answered = _minutes(left), _minutes(right)
    if at is None or answered is None:
        return False if left["half"] else None
    if left["half"]:
        return at == answered
    if right["half"]:
        return at < 13 * 60 and at % 720 == answered % 720
    return True if at == answered else None  # two ratios, perhaps


def _minutes(time: re.Match[str]) -> int | None:
    hour, minute = int(time["hour"]), int(time["minute"] or 0)
    if time["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if time["half"] in "pP" else 0)
    return 60 * hour + minute if hour < 24 else None
