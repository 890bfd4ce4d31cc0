"""Other spellings of a gold answer with roots, sums or products in it: kinds of `equal.EQUAL`."""

from __future__ import annotations

import re
from fractions import Fraction

from restem_lib.audit.reading import terms


def root_braces(gold: str) -> list[str]:
    return [
        re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", gold),
        re.sub(r"\\sqrt\s?(\d)", r"\\sqrt{\1}", gold),
        re.sub(r"\\sqrt\{(\d+)\}", r"\\sqrt{ \1 }", gold),
    ]


def root_rationalised(gold: str) -> list[str]:
    r"""\frac{\sqrt{3}}{3} is \frac{1}{\sqrt{3}}, \frac{\sqrt{21}}{5} is \frac{21}{5\sqrt{21}}."""
    match = re.fullmatch(r"(-?)\\frac\{\\sqrt\{(\d+)\}\}\{(\d+)\}", gold)
    if match is None:
        return []
    sign, root, under = match[1], int(match[2]), int(match[3])
    value = Fraction(root, under)
    bottom = f"{value.denominator if value.denominator > 1 else ''}\\sqrt{{{root}}}"
    return [f"{sign}\\frac{{{value.numerator}}}{{{bottom}}}"]


def root_factor(gold: str) -> list[str]:
    r"""2\sqrt{5} is \sqrt{20} and \sqrt{5} \cdot 2."""
    match = re.fullmatch(r"(\d+)\s?\\sqrt\{?(\d+)\}?", gold)
    if match is None:
        return []
    times, root = int(match[1]), int(match[2])
    return [f"\\sqrt{{{times**2 * root}}}", f"{times}*\\sqrt{{{root}}}"]


def root_as_power(gold: str) -> list[str]:
    form = re.compile(r"\\sqrt\{(\d+)\}")
    return [form.sub(r"\1^{\\frac{1}{2}}", gold)] if re.fullmatch(r"-?\\sqrt\{\d+\}", gold) else []


def factor_beside(gold: str) -> list[str]:
    r"""\frac{5\pi}{4} is \frac{5}{4}\pi."""
    form = re.compile(r"\\frac\{(\d*)(\\pi|\\sqrt\{\d+\})\}\{(\d+)\}")
    fraction = form.search(gold)
    if fraction is None:
        return []
    head, tail = gold[: fraction.start()], gold[fraction.end() :]
    apart = rf"\frac{{{fraction[1] or 1}}}{{{fraction[3]}}}"
    return [f"{head}{apart}{gap}{fraction[2]}{tail}" for gap in ("", " \\cdot ", "\\, ")]


def terms_commuted(gold: str) -> list[str]:
    parts = terms(gold)
    if parts is None:
        return []
    signed = [part if part[0] in "+-" else f"+{part}" for part in reversed(parts)]
    return [between.join(signed).removeprefix("+") for between in ("", " ")]


def factors_commuted(gold: str) -> list[str]:
    product = re.fullmatch(r"(\([^()]*\))(\([^()]*\))", gold)
    if product:
        return [product[2] + product[1]]
    product = re.fullmatch(r"(\d+)\s?(\\sqrt\{?\d+\}?|\\pi)", gold)
    return [f"{product[2]} \\cdot {product[1]}"] if product else []


def product_sign(gold: str) -> list[str]:
    if re.search(r"\\(?:begin|text|mbox)|_", gold):
        return []
    between = re.compile(r"(?<![\^\d])(\d+)\s?(?=\\sqrt|\\pi|[a-z](?![a-z]))")
    if not between.search(gold):
        return []
    return [between.sub(rf"\g<1>{sign}", gold) for sign in (r"\\cdot ", r" \\times ", r"\\,")]
