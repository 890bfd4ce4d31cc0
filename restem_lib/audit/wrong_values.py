r"""Wrong numbers, units and times, and hedges beside a right value: see `wrong.py`."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from restem_lib.audit.reading import (
    BASE,
    OPTION,
    TIME,
    WORD,
    decimal,
    group,
    irrational,
    number,
    spell,
    terms,
)

_OTHER_UNITS = {
    "inches": ("\\text{ cm}", "\\text{ feet}"),
    "cm": ("\\text{ m}", "\\text{ mm}", "\\text{ inches}"),
    "cents": ("\\text{ dollars}",),
    "degrees": ("\\text{ radians}", "\\%"),
    "dollars": ("\\text{ cents}", "\\text{ euros}"),
    "hours": ("\\text{ minutes}", "\\text{ days}"),
    "meters": ("\\text{ km}", "\\text{ feet}"),
    "square feet": ("\\text{ feet}", "\\text{ square inches}"),
    "mph": ("\\text{ km/h}", "\\text{ hours}"),
}


def _written(value: Fraction) -> str:
    return decimal(value) or spell(value)


def _respelled(gold: str, change: Callable[[Fraction], Fraction]) -> list[str]:
    """The gold answer with its number changed, in the same spelling and with the same unit."""
    read = number(gold)
    if read is None or change(read.value) == read.value:
        return []
    value = change(read.value)
    form = spell(value) if read.written in ("fraction", "mixed") else _written(value)
    return [read.spelled(form)]


def _bare(gold: str) -> str | None:
    """A gold answer that is one value without a unit or name, so that more can be written beside it."""
    read = number(gold)
    single = read is not None and not read.after and not read.before
    return gold if single or irrational(gold) is not None else None


def one_more(gold: str) -> list[str]:
    single = [f"{gold}+1"] if terms(gold) or irrational(gold) is not None else []
    return _respelled(gold, lambda value: value + 1) + single


def one_less(gold: str) -> list[str]:
    single = [f"{gold}-1"] if terms(gold) or irrational(gold) is not None else []
    return _respelled(gold, lambda value: value - 1) + single


def negated(gold: str) -> list[str]:
    single = []
    if irrational(gold) is not None:
        single = [gold[1:] if gold.startswith("-") else f"-{gold}"]
    elif terms(gold):
        single = [f"-({gold})"]
    return _respelled(gold, lambda value: -value) + single


def reciprocal(gold: str) -> list[str]:
    read = number(gold)
    return [] if read is None or not read.value else _respelled(gold, lambda value: 1 / value)


def shifted(gold: str) -> list[str]:
    """Off by a power of ten; not by a hundred, which may be another way to write a percentage."""
    return _respelled(gold, lambda value: value * 10) + _respelled(gold, lambda value: value / 10)


def doubled(gold: str) -> list[str]:
    single = [f"2 \\cdot {gold}"] if irrational(gold) is not None else []
    return _respelled(gold, lambda value: value * 2) + single


def digit(gold: str) -> list[str]:
    """The last two digits swapped, or the last one left out."""
    read = number(gold)
    if read is None or read.written != "integer" or abs(read.value) < 10:
        return []
    digits = str(int(read.value))
    swapped = digits[:-2] + digits[-1] + digits[-2]
    return [read.spelled(one) for one in (swapped, digits[:-1]) if int(one) != read.value]


def rounded(gold: str) -> list[str]:
    """A decimal that stops short of a value that has none."""
    read, size = number(gold), irrational(gold)
    if read is not None:
        if decimal(read.value) is not None:
            return []
        places = [f"{float(read.value):.{n}f}" for n in (2, 4, 6, 12)]
        return [read.spelled(one) for one in places if Fraction(one) != read.value]
    return [] if size is None else [f"{size:.{n}f}" for n in (2, 4, 6, 12)] + [repr(size)]


def guesses(gold: str) -> list[str]:
    """The gold answer beside another: a hedge."""
    read, parts = number(gold), group(gold)
    other = "1234" if read is None else str(int(read.value) + 7)
    if read is None and parts and parts.left:
        other = parts.spelled(["1234"] * len(parts.items))
    elif WORD.fullmatch(gold):
        other = "\\text{other}"
    elif terms(gold) or "=" in gold:
        other = f"{gold}+1"
    elif _bare(gold) is None:
        return []
    found = [
        f"{gold} or {other}",
        f"{other} or {gold}",
        f"{gold}\\text{{ or }}{other}",
        f"{gold}, {other}",
        f"{other}, {gold}",
        f"{gold} \\text{{ and }} {other}",
        f"{gold}; {other}",
        f"{gold} \\lor {other}",
        f"{gold} \\quad {other}",
        f"{gold} \\ne {other}",
        f"{gold} \\to {other}",
        f"{gold}\\text{{ (or }}{other})",
    ]
    if _bare(gold):
        found += [
            f"\\{{{gold}, {other}\\}}",
            f"{gold} \\pm {other}",
            f"{gold}\\text{{ to }}{other}",
            f"{gold} \\text{{ (not }} {other})",
            f"{gold} = {other}",
            f"{other} = {gold}",
        ]
    return found


def not_it(gold: str) -> list[str]:
    """Words that take the answer back."""
    if _bare(gold) is None:
        return []
    return [
        f"not {gold}",
        f"\\text{{not }}{gold}",
        f"{gold}\\text{{ is wrong}}",
        f"\\ne {gold}",
        f"> {gold}",
    ]


def cut_off(gold: str) -> list[str]:
    return (
        []
        if _bare(gold) is None
        else [f"{gold}\\ldots", f"{gold}...", f"{gold}+", f"{gold}, \\dots"]
    )


def scale_word(gold: str) -> list[str]:
    read = number(gold)
    if _bare(gold) is None or read is None or read.value == 0:
        return []
    return [
        f"{gold}\\text{{ thousand}}",
        f"{gold} million",
        f"{gold}\\text{{ dozen}}",
        f"{gold}k",
        f"{gold} hundred",
    ]


def variable_added(gold: str) -> list[str]:
    read = number(gold)
    if _bare(gold) is None or (read and not read.value):
        return []
    return [f"{gold}x", f"{gold}i", f"x+{gold}", f"x^{{{gold}}}"]


def left_undone(gold: str) -> list[str]:
    """Arithmetic that would give the number: a model that copies it from the question has computed nothing."""
    read = number(gold)
    if read is None or _bare(gold) is None or read.written == "mixed":
        return []
    value = read.value
    one_less_, half = spell(value - 1), spell(value / 2)
    found = [
        f"{one_less_}+1",
        f"{spell(value + 1)}-1",
        f"{half}+{half}",
        f"2 \\cdot {half}",
        f"2 \\times ({half})",
        f"2({half})",
    ]
    if read.written == "integer" and value > 1:
        found += [
            f"\\sqrt{{{int(value) ** 2}}}",
            f"{int(value)}^1",
            f"\\binom{{{int(value)}}}{{1}}",
            f"\\frac{{{int(value) - 1}+1}}{{1}}",
            f"{int(value)}!/{int(value) - 1}!",
        ]
    return found


def other_unit(gold: str) -> list[str]:
    match = re.fullmatch(r"(.*?)\s*\\(?:text|mbox)\{\s*([a-z ]+)\}(\^[23])?", gold)
    if match and match[2] in _OTHER_UNITS:
        power = match[3] or ""
        found = [match[1] + one + power for one in _OTHER_UNITS[match[2]]]
        return [*found, f"{match[1]}\\text{{ {match[2]}}}^{'2' if power == '^3' else '3'}"]
    if gold.endswith("^\\circ"):
        bare = gold.removesuffix("^\\circ")
        return [
            f"{bare}\\text{{ radians}}",
            f"{bare}\\%",
            f"{bare}\\text{{ cm}}",
            f"{bare}\\pi",
            f"{bare}'",
        ]
    if gold.startswith("\\$"):
        return [
            f"{gold[2:]}\\text{{ cents}}",
            f"{gold[2:]} cents",
            f"{gold[2:]}\\%",
            f"€{gold[2:]}",
        ]
    return []


def percent_scale(gold: str) -> list[str]:
    """A hundredth or a hundred times as many percent; the digits of a part of one taken for percent."""
    read = number(gold)
    if read is None or read.before or not read.value:
        return []
    if read.after.strip() == "\\%":
        return [
            f"{_written(read.value / 100)}\\%",
            f"{_written(read.value * 100)}\\%",
            _written(read.value * 100),
        ]
    return [f"{_written(read.value)}\\%"] if not read.after and abs(read.value) < 1 else []


def other_base(gold: str) -> list[str]:
    match, read = BASE.fullmatch(gold), number(gold)
    if match:
        base = int(match[2])
        in_ten = int(match[1], base)
        return [
            f"{match[1]}_{{{base + 1}}}",
            f"{match[1]}_{base - 1}",
            str(in_ten),
            f"{in_ten}_{{{base}}}",
        ]
    if read and read.written == "integer" and read.value > 9 and not read.after and not read.before:
        return [f"{int(read.value)}_7", f"{int(read.value)}_{{16}}"]
    return []


def option_letter(gold: str) -> list[str]:
    match = OPTION.fullmatch(gold)
    if match is None:
        return []
    others = [one for one in "ABCDE" if one != match[1]]
    found = [form for one in others for form in (f"\\text{{({one})}}", one)]
    return [
        *found,
        f"({match[1]}) or ({others[0]})",
        f"{match[1]}{others[0]}",
        f"{match[1]}, {others[0]}",
    ]


def time_changed(gold: str) -> list[str]:
    match = TIME.fullmatch(gold)
    if match is None:
        return []
    hour, minute, half = int(match[1]), int(match[2]), match[3].lower()
    other = "a" if half == "p" else "p"
    late = (hour % 12 + 12 * (other == "p")) % 24
    return [
        f"{hour}:{minute:02}\\text{{ {other}.m.}}",
        f"{hour}:{minute:02} {other.upper()}M",
        f"{hour}:{(minute + 1) % 60:02}\\text{{ {half}.m.}}",
        f"{hour % 12 + 1}:{minute:02}\\text{{ {half}.m.}}",
        f"{late:02}:{minute:02}",
        f"{hour}.{minute:02}",
        f"{hour}{minute:02}",
    ]
