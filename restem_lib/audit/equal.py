r"""Other spellings of a gold answer that mean the same: each kind is a function from a gold to its rewritings.

[] where a kind does not apply. A spelling belongs here only if a teacher would mark it right without a question:
`tests/test_audit.py` recomputes all of them with sympy, where they have a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from restem_lib.audit import equal_sums as sums
from restem_lib.audit import equal_words as words
from restem_lib.audit.reading import MATRIX, decimal, group, matrix, number, rows


def itself(gold: str) -> list[str]:
    return [gold]


def sized_brackets(gold: str) -> list[str]:
    plain = re.sub(r"\\(?:left|right)(?![A-Za-z])\s*", "", gold)
    sized = re.sub(r"(\\\{|[(\[])", r"\\left\1", plain)
    sized = re.sub(r"(\\\}|[)\]])", r"\\right\1", sized)
    if "\\text{" in plain:
        return []
    return [plain, sized, re.sub(r"\\left", r"\\bigl", sized).replace("\\right", "\\bigr")]


def spaces(gold: str) -> list[str]:
    """After commas, but not those of a number; round + and - between operands; round brackets."""
    if (
        number(gold)
        or "\\text" in gold
        or ("," in gold and group(gold) is None and "\\cup" not in gold)
    ):
        return []
    wide = re.sub(r",\s*", ", ", gold)
    wide = re.sub(r"(?<=[\w})])\s*([-+=])\s*(?=[\w\\(])", r" \1 ", wide)
    narrow = re.sub(r"(?<=[\w})])\s*([-+=,])\s*(?=[\w\\(-])", r"\1", gold)
    return [
        wide,
        *([narrow] if number(narrow) is None else []),  # 100, 200 is not 100,200
        re.sub(r"([(\[])(.*)([)\]])", r"\1 \2 \3", wide),
        wide.replace(", ", ",\\ "),
    ]


def maths_signs(gold: str) -> list[str]:
    return [f"${gold}$", f"\\({gold}\\)", f"{gold}."]


def assigned(gold: str) -> list[str]:
    """A value given a name, and a named value without it."""
    bare = re.fullmatch(r"([a-z])\s*(=|\\in)\s*(.+)", gold)
    if bare and bare[1] not in bare[3]:
        return [bare[3], f"{bare[1]}{bare[2]}{' ' * (bare[2] != '=')}{bare[3]}"]
    read, parts = number(gold), group(gold)
    if read and not read.after:
        return [f"x = {gold}", f"n={gold}"]
    if parts and (parts.left == "[" or parts.right == "]" or "\\infty" in gold):
        return [f"x \\in {gold}"]
    if "\\cup" in gold and gold[0] in "([\\":
        return [f"x \\in {gold}"]
    if parts and parts.left == "(" and len(parts.items) == 3:  # a pair may be an interval
        return [f"(x, y, z) = {gold}", f"(a,b,c)={gold}"]
    return []


def assigned_each(gold: str) -> list[str]:
    parts = group(gold)
    if parts is None or parts.left or "\\text" in gold:
        return []
    each = [f"x = {item}" for item in parts.items]
    return [
        f"x = {gold}",
        ", ".join(each),
        " \\text{ or } ".join(each),
        " \\text{ and } ".join(each),
    ]


def named_vector(gold: str) -> list[str]:
    return [f"\\mathbf{{v}} = {gold}", f"\\vec{{v}}={gold}"] if rows(gold) else []


def reordered(gold: str) -> list[str]:
    """Solutions without brackets and sets have no order; nor have unions."""
    if "\\cup" in gold:
        return [" \\cup ".join(reversed([part.strip() for part in gold.split("\\cup")]))]
    parts = group(gold)
    if parts is None or parts.left not in ("", "\\{"):
        return []
    first, *rest = parts.items
    return [parts.spelled(parts.items[::-1]), parts.spelled([*rest, first])]


def listed_in_words(gold: str) -> list[str]:
    parts = group(gold)
    if parts is None or parts.left or len(parts.items) != 2 or "\\text" in gold:
        return []
    return [f"{parts.items[0]} \\text{{ {word} }} {parts.items[1]}" for word in ("and", "or")]


def plus_minus(gold: str) -> list[str]:
    r"""a \pm b written out, as an element of a list or set too."""
    if gold.count("\\pm") != 1 or number(gold):
        return []
    parts = group(gold)
    items = parts.items if parts else [gold]
    written = []
    for item in items:
        left, found, right = (side.strip() for side in item.partition("\\pm"))
        written += [f"{left}+{right}" if left else right, f"{left}-{right}"] if found else [item]
    if parts and parts.left not in ("", "\\{"):
        return []
    left, right = (parts.left, parts.right) if parts else ("", "")
    return [f"{left}{', '.join(order)}{right}" for order in (written, written[::-1])]


def matrix_brackets(gold: str) -> list[str]:
    match, entries = MATRIX.fullmatch(gold), rows(gold)
    if match is None or entries is None or match[1] == "v":
        return []
    columns = "c" * len(entries[0])
    array = matrix(entries).replace("{pmatrix}", f"{{array}}{{{columns}}}", 1)
    return [
        matrix(entries, "bmatrix"),
        matrix(entries).replace(" ", ""),
        matrix(entries).replace("\\\\ ", "\\\\\n"),
        f"\\left({array.replace('{pmatrix}', '{array}')}\\right)",
    ]


def matrix_fractions(gold: str) -> list[str]:
    entries = rows(gold)
    if entries is None or "/" not in gold:
        return []
    return [re.sub(r"(\d+)/(\d+)", macro + r"{\1}{\2}", gold) for macro in (r"\\frac", r"\\tfrac")]


def exponent_braces(gold: str) -> list[str]:
    return [re.sub(r"\^(\d)", r"^{\1}", gold), re.sub(r"\^\{(\d)\}", r"^\1", gold)]


def decimal_elements(gold: str) -> list[str]:
    """Decimals for the fractions in a tuple, list, set or interval."""
    parts = group(gold)
    if parts is None:
        return []
    read = [number(item) for item in parts.items]
    digits = [
        (decimal(one.value) if one and one.written == "fraction" else None) or item
        for one, item in zip(read, parts.items, strict=True)
    ]
    return [parts.spelled(digits)] if digits != parts.items else []


def style(gold: str) -> list[str]:
    """What changes the look alone."""
    bold = (
        [f"\\mathbf{{{gold}}}", f"\\boldsymbol{{{gold}}}"]
        if number(gold) and gold.isdecimal()
        else []
    )
    return [
        f"\\displaystyle {gold}",
        f"{{{gold}}}",
        f"{gold}\\,",
        f"\\ {gold}\\ ",
        f" {gold} ",
        f"**{gold}**",
        *bold,
    ]


def symbols(gold: str) -> list[str]:
    """Unicode for LaTeX, and its minus."""
    spelled = re.sub(r"\\sqrt\{(\d+)\}", r"√\1", gold)
    for latex, symbol in (("pi", "π"), ("infty", "∞"), ("cup", "∪"), ("pm", "±"), ("in ", "∈ ")):
        spelled = re.sub(rf"\\{latex}(?![A-Za-z])\s?", symbol, spelled)
    minus = gold if "\\text" in gold or "\\begin" in gold else gold.replace("-", "−")
    return [minus] if "\\frac" in gold else [minus, spelled]


def equation_moved(gold: str) -> list[str]:
    """Both sides negated; the constant on the other side."""
    match = re.fullmatch(r"([^=]*[a-z]) ([-+]) (\d+) = 0", gold)
    if match is None:
        return []
    return [
        f"{match[1]} = {'-' if match[2] == '+' else ''}{match[3]}",
        f"-({match[1]}) = {match[2].strip('+')}{match[3]}",
    ]


def equation_turned(gold: str) -> list[str]:
    if gold.count("=") != 1 or re.fullmatch(r"[a-z]\s*=\s*\S+", gold):
        return []
    left, right = (side.strip() for side in gold.split("="))
    return [f"{right} = {left}"]


EQUAL: dict[str, Callable[[str], list[str]]] = {
    "itself": itself,
    "dfrac, tfrac": words.fraction_macro,
    "a/b": words.slash,
    "frac12": words.short_fraction,
    "frac{1}{2}": words.long_fraction,
    "sign of a fraction": words.fraction_sign,
    "unreduced fraction": words.unreduced_fraction,
    "mixed number": words.mixed_number,
    "fraction as decimal": words.decimal_of_fraction,
    "decimal as fraction": words.fraction_of_decimal,
    "trailing zeros": words.trailing_zeros,
    "leading zero": words.leading_zero,
    "thousands": words.thousands,
    "power of ten": words.power_of_ten,
    "left, right": sized_brackets,
    "spaces": spaces,
    "maths signs": maths_signs,
    "text round words": words.word_macro,
    "case of words": words.word_case,
    "option": words.option_brackets,
    "degrees": words.degrees,
    "percent": words.percent,
    "currency": words.currency,
    "unit": words.unit,
    "x = ...": assigned,
    "another order": reordered,
    "and, or": listed_in_words,
    "plus-minus": plus_minus,
    "sqrt2": sums.root_braces,
    "rationalised": sums.root_rationalised,
    "factor under the root": sums.root_factor,
    "terms commuted": sums.terms_commuted,
    "factors commuted": sums.factors_commuted,
    "product sign": sums.product_sign,
    "time of day": words.time_of_day,
    "matrix": matrix_brackets,
    "matrix fractions": matrix_fractions,
    "base": words.base_braces,
    "x = a, x = b": assigned_each,
    "v = ...": named_vector,
    "root as a power": sums.root_as_power,
    "factor beside": sums.factor_beside,
    "x^{2}": exponent_braces,
    "decimals in a tuple": decimal_elements,
    "style": style,
    "symbols": symbols,
    "equation moved": equation_moved,
    "sides of an equation": equation_turned,
}


def rewritings(gold: str) -> dict[str, list[str]]:
    """All equal spellings by kind, without the gold itself (but for the kind "itself") and without repeats."""
    found = {}
    for kind, make in EQUAL.items():
        variants = list(dict.fromkeys(make(gold)))
        found[kind] = [one for one in variants if one != gold or kind == "itself"]
    return {kind: variants for kind, variants in found.items() if variants}
