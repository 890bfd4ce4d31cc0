r"""Tuples, intervals, sets, lists and matrices: their brackets, and their elements where those are plain numbers."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

from restem_lib.rewards.quantities import quantity

BETWEEN = re.compile(r"[,;]| (?:or|and) |\\text\{(?:or|and)\}")
"""What separates the elements of a list."""
_STRUCTURE = re.compile(
    r"\\[{}]|[][(){},;]|\\text\{\s*(?:or|and)\s*\}| (?:or|and) |\\(?:pm|mp)(?![A-Za-z])"
)
_MATRIX = re.compile(r"\\begin\{([pb])matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)

_Value = Fraction | str
"""A number, or "\\infty" or "-\\infty"."""


def shape(clean: str) -> tuple[str, int] | None:
    """The bracket pair round the whole, "" if none, and the number of elements; None if unbalanced.

    >>> shape("(3,4]"), shape("(a+5)(b+2)"), shape("1,-2"), shape("2)")
    (('(]', 2), ('', 1), ('', 2), None)
    """
    depth, first_close = 0, -1
    separators = {0: 0, 1: 0}
    for token in _STRUCTURE.finditer(clean):
        symbol = token.group().removeprefix("\\")
        if symbol in "([{":
            depth += 1
        elif symbol in ")]}":
            depth -= 1
            if depth < 0:
                return None
            if depth == 0 and first_close < 0:
                first_close = token.end()
        elif depth in separators:
            separators[depth] += 1
    if depth:
        return None
    enclosed = clean.startswith(("(", "[", "{", "\\{")) and first_close == len(clean)
    elements = separators[1 if enclosed else 0] + 1
    brackets = clean.removeprefix("\\")[0] + clean[-1] if enclosed else ""
    return ("" if brackets == "()" and elements == 1 else brackets), elements


def same_elements(gold: str, answer: str) -> bool | None:
    r"""Whether two groups of plain numbers are the same, exactly; None where one is something else.

    Lists without brackets and sets have no order; an element given twice counts twice.

    >>> same_elements("(1,0.5)", r"(1,\frac12)"), same_elements("1,2", "2,1"), same_elements("(1,2)", "(1,2]")
    (True, True, False)
    >>> same_elements("(1,x)", "(1,2)") is None
    True
    """
    left, right = _read(gold), _read(answer)
    if left is None or right is None:
        return None
    if left[0] != right[0]:
        # A point is no matrix here, but which brackets a matrix may have is not ours to say.
        return None if "matrix" in (left[0], right[0]) else False
    if left[0] in ("", "{}"):
        return Counter(left[1][0]) == Counter(right[1][0])
    return left[1] == right[1]


def _read(clean: str) -> tuple[str, list[list[_Value]]] | None:
    """Kind of brackets, or "matrix", and the rows of elements (one row but for a matrix)."""
    matrix = _MATRIX.fullmatch(clean)
    if matrix:
        rows = [row.split("&") for row in matrix[2].removesuffix("\\\\").split("\\\\")]
        kind = "matrix"
    else:
        found = shape(clean)
        if found is None or found[1] < 2:
            return None
        kind = found[0]
        inside = clean.removeprefix("\\")[1:-1].removesuffix("\\") if kind else clean
        rows = [BETWEEN.split(inside)]
    read = [[_value(cell) for cell in row] for row in rows]
    values = [[one for one in row if one is not None] for row in read]
    return (kind, values) if values == read else None


def _value(cell: str) -> _Value | None:
    text = cell.strip()
    if text.lstrip("+-") == "\\infty" and len(text) < 8:
        return text.lstrip("+")
    number = quantity(text)
    return number.value if number is not None and not number.unit else None
