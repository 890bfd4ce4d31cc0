r"""Equal spellings of numbers, units, words and times: see `equal.py`."""

from __future__ import annotations

import re
from fractions import Fraction

from restem_lib.audit.reading import (
    BASE,
    FRACTION,
    OPTION,
    TIME,
    WORD,
    decimal,
    number,
    sides,
    spell,
)

_ATOM = re.compile(r"-?(?:\d+|\d*[a-z]|\d*\\pi|\d*\\sqrt\{?\d+\}?)")
_FREE = (
    re.compile(r"(?:^|[-+(\[,&=]|\\\\)\s*$"),
    re.compile(r"^\s*(?:$|[-+)\],&]|\\\\|\\(?:right|end))"),
)
_UNITS = {
    "inches": ("in", "inches", "in."),
    "cm": ("cm", "centimeters"),
    "cents": ("cents",),
    "degrees": ("degrees",),
    "dollars": ("dollars",),
    "hours": ("hours",),
    "meters": ("m", "meters"),
    "square feet": ("square feet", "ft^2", "sq ft"),
    "mph": ("mph", "miles per hour"),
}
"""Spellings of the units that golds here have."""


def fraction_macro(gold: str) -> list[str]:
    return [re.sub(r"\\[dt]?frac", rf"\\{kind}frac", gold) for kind in ("d", "t", "")]


def slash(gold: str) -> list[str]:
    """Where nothing stands beside it that the slash would take in, as in 1/2x."""
    spelled = gold
    for match in reversed(list(FRACTION.finditer(gold))):
        over, under = sides(match)
        free = _FREE[0].search(gold[: match.start()]) and _FREE[1].search(gold[match.end() :])
        if not (free and _ATOM.fullmatch(over) and _ATOM.fullmatch(under)):
            return []
        if re.search(r"[a-z]", under.replace("\\pi", "").replace("\\sqrt", "")) or under[0] == "-":
            return []
        if re.match(r"\d+\D", under):  # 1/2\pi
            return []
        spelled = f"{spelled[: match.start()]}{over}/{under}{spelled[match.end() :]}"
    return [spelled]


def short_fraction(gold: str) -> list[str]:
    return [re.sub(r"(frac)\{(\d)\}\{(\d)\}", rf"\1{gap}\2\3", gold) for gap in ("", " ")]


def long_fraction(gold: str) -> list[str]:
    return [FRACTION.sub(lambda match: "\\frac{{{}}}{{{}}}".format(*sides(match)), gold)]


def fraction_sign(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.written != "fraction" or read.value > 0:
        return []
    over, under = -read.value.numerator, read.value.denominator
    forms = (
        rf"-\frac{{{over}}}{{{under}}}",
        rf"\frac{{-{over}}}{{{under}}}",
        rf"\frac{{{over}}}{{-{under}}}",
        f"-{over}/{under}",
    )
    return [read.spelled(form) for form in forms]


def unreduced_fraction(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.written != "fraction":
        return []
    sign, size = ("-" if read.value < 0 else ""), abs(read.value)
    return [read.spelled(rf"{sign}\frac{{{3 * size.numerator}}}{{{3 * size.denominator}}}")]


def mixed_number(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.written not in ("fraction", "mixed") or abs(read.value) < 1:
        return []
    if read.value.denominator == 1:
        return []
    sign, size = ("-" if read.value < 0 else ""), abs(read.value)
    whole, rest = divmod(size, 1)
    forms = (
        rf"{sign}{whole}\frac{{{rest.numerator}}}{{{rest.denominator}}}",
        rf"{sign}{whole} \frac{{{rest.numerator}}}{{{rest.denominator}}}",
        rf"{sign}{whole}\,\dfrac{{{rest.numerator}}}{{{rest.denominator}}}",
        f"{sign}{whole} {rest.numerator}/{rest.denominator}",
        spell(read.value),
    )
    return [read.spelled(form) for form in forms]


def decimal_of_fraction(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.written not in ("fraction", "mixed"):
        return []
    digits = decimal(read.value)
    return [read.spelled(digits)] if digits else []


def fraction_of_decimal(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.written != "decimal" or read.before or read.after:
        return []  # nobody writes $\frac{189}{10}
    return [spell(read.value)]


def trailing_zeros(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.written not in ("integer", "decimal"):
        return []
    digits = decimal(read.value) or ""
    point = "" if "." in digits else "."
    return [read.spelled(f"{digits}{point}{zeros}") for zeros in ("0", "00")]


def leading_zero(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.written != "decimal" or not 0 < read.value < 1:
        return []
    digits = decimal(read.value) or ""
    return [read.spelled(digits), read.spelled(digits[1:])]


def thousands(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.written not in ("integer", "decimal") or abs(read.value) < 1000:
        return []
    digits = decimal(read.value) or ""
    whole, point, places = digits.partition(".")
    separators = ("", ",", "{,}", ",\\!", "\\!,", "\\,", ", \\! ")
    return [
        read.spelled(f"{int(whole):,}".replace(",", mark) + point + places) for mark in separators
    ]


def power_of_ten(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.before or read.after or read.written in ("fraction", "mixed"):
        return []
    size, power = abs(read.value), 0
    if not size or Fraction(1, 100) <= size < 10_000:
        return []  # nobody would
    while size >= 10:
        size, power = size / 10, power + 1
    while size < 1:
        size, power = size * 10, power - 1
    sign = "-" if read.value < 0 else ""
    return [f"{sign}{decimal(size)} {times} 10^{{{power}}}" for times in ("\\times", "\\cdot")]


def word_macro(gold: str) -> list[str]:
    word = WORD.fullmatch(gold)
    if word is None:
        return []
    return [word[1], *(f"\\{macro}{{{word[1]}}}" for macro in ("text", "mathrm", "textbf", "mbox"))]


def word_case(gold: str) -> list[str]:
    word = WORD.fullmatch(gold)
    if word is None or len(word[1]) < 3:
        return []  # AB may be a segment
    return [word[1].lower(), word[1].capitalize(), f"\\text{{{word[1].upper()}}}"]


def option_brackets(gold: str) -> list[str]:
    option = OPTION.fullmatch(gold)
    if option is None:
        return []
    letter = option[1]
    return [
        letter,
        f"({letter})",
        f"\\text{{({letter})}}",
        f"\\text{{{letter}}}",
        f"\\textbf{{({letter})}}",
    ]


def degrees(gold: str) -> list[str]:
    if not re.search(r"\^\\circ$|degrees", gold):
        return []
    bare = re.sub(r"\^\\circ$|\s*\\text\{\s*degrees\}$", "", gold)
    forms = ("", "^\\circ", "^{\\circ}", "°", " \\text{ degrees}", "\\degree")
    plain = [" degrees"] if bare.isdecimal() else []
    return [bare + form for form in (*forms, *plain)]


def percent(gold: str) -> list[str]:
    read = number(gold)
    if read is None or read.after.strip() != "\\%":
        return []
    digits = decimal(read.value)
    if digits is None:
        return [spell(read.value), spell(read.value) + "\\%"]
    part = decimal(read.value / 100)
    return [
        digits,
        f"{digits}%",
        f"{digits}\\%",
        f"{digits} \\%",
        f"{digits}\\text{{ percent}}",
        f"{digits} percent",
        f"{part}",
    ]


def currency(gold: str) -> list[str]:
    read = number(gold)
    if read is None or not read.before:
        return []
    digits = decimal(read.value) or ""
    return [
        digits,
        f"${digits}",
        f"\\${digits}",
        f"\\$ {digits}",
        f"{digits} dollars",
        f"{digits}\\text{{ dollars}}",
        f"\\text{{\\${digits}}}",
    ]


def unit(gold: str) -> list[str]:
    r"""Left out, in another macro, or in another spelling; areas as "square inches" too."""
    match = re.fullmatch(r"(.*?)\s*\\(?:text|mbox)\{\s*([a-z ]+)\}(?:\^([23]))?", gold)
    if match is None or match[2] not in _UNITS:
        return []
    bare, name, power = match[1], match[2], match[3]
    found = [bare]
    for spelled in _UNITS[name]:
        raised = f"^{power}" if power else ""
        found += [f"{bare}\\text{{ {spelled}}}{raised}", f"{bare}\\ \\mathrm{{{spelled}}}{raised}"]
        if power:
            word = {"2": "square", "3": "cubic"}[power]
            found.append(f"{bare}\\text{{ {word} {spelled}}}")
        elif bare.isdecimal() and len(spelled) > 1:
            found.append(f"{bare} {spelled}")
    return found


def time_of_day(gold: str) -> list[str]:
    match = TIME.fullmatch(gold)
    if match is None:
        return []
    hour, minute, half = int(match[1]), match[2], match[3].lower()
    late = hour % 12 + 12 * (half == "p")
    return [
        f"{hour}:{minute} {half}.m.",
        f"{hour}:{minute} {half.upper()}M",
        f"{hour}:{minute}{half}m",
        f"{hour}:{minute}\\text{{ {half}.m.}}",
        f"{hour}:{minute}\\ \\text{{{half.upper()}M}}",
        f"{hour}:{minute} \\, \\mathrm{{{half}m}}",
        f"\\text{{{hour}:{minute} {half}.m.}}",
        f"{hour:02}:{minute} {half.upper()}.M.",
        f"{late:02}:{minute}",
    ]


def base_braces(gold: str) -> list[str]:
    match = BASE.fullmatch(gold)
    if match is None:
        return []
    return [
        f"{match[1]}_{match[2]}",
        f"{match[1]}_{{{match[2]}}}",
        match[1],
        f"{match[1]}_{{\\text{{{match[2]}}}}}",
    ]
