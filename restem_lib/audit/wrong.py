r"""Wrong answers near a gold answer: each kind is a function from a gold to answers that must not be accepted.

[] where a kind does not apply or might, for this gold, come out right after all (-0, the reciprocal of 1, a pair of
equals swapped, a set in another order). Some are wrong by convention, not by value: arithmetic left undone where a
number is asked for, several guesses, an ellipsis, other brackets round the same numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from restem_lib.audit import wrong_values as values
from restem_lib.audit.reading import WORD, group, irrational, matrix, number, rows, spell, terms


def swapped(gold: str) -> list[str]:
    """The first two elements of a tuple, or the ends of an interval, that differ."""
    entries, parts = rows(gold), group(gold)
    if entries and len(entries) > 1 and _differ(entries[0][0], entries[1][0]):
        if len(entries[0]) > 1:
            return []  # a matrix of equal rows may stay itself
        first, second, *rest = entries
        return [matrix([second, first, *rest])]
    if parts is None or parts.left not in ("(", "[") or not _differ(*parts.items[:2]):
        return []
    first_item, second_item, *others = parts.items
    return [
        parts.spelled([second_item, first_item, *others]),
        parts.spelled([second_item, *others, first_item]),
    ]


def _differ(left: str, right: str) -> bool:
    """Certainly of different value."""
    read = _value(left), _value(right)
    if None not in read:
        return read[0] != read[1]
    # A number with a root or pi in it is none of the rationals; infinity is no number.
    return (read[0] is None) != (read[1] is None) and all(
        value is not None or irrational(side) is not None or "\\infty" in side
        for value, side in zip(read, (left, right), strict=True)
    )


def _value(text: str) -> Fraction | None:
    read = number(text)
    slashed = re.fullmatch(r"(-?\d+)/(\d+)", text)
    return Fraction(int(slashed[1]), int(slashed[2])) if slashed else read.value if read else None


def element_changed(gold: str) -> list[str]:
    """One element of a tuple, list, set or matrix is one more, or has another sign."""
    entries, parts, found = rows(gold), group(gold), []
    if entries and (first := _value(entries[0][0])) is not None:
        others = [first + 1, -first] if first else [first + 1]
        found = [matrix([[spell(one), *entries[0][1:]], *entries[1:]]) for one in others]
    if parts and (last := _value(parts.items[-1])) is not None:
        others = [last + 1, -last] if last else [last + 1]
        taken = [_value(item) for item in parts.items]  # 1,-1 with one sign changed is 1,1
        found = [
            parts.spelled([*parts.items[:-1], spell(one)]) for one in others if one not in taken
        ]
    return found


def element_dropped(gold: str) -> list[str]:
    if "\\cup" in gold:
        return [part.strip() for part in gold.split("\\cup")]
    entries, parts = rows(gold), group(gold)
    if entries and len(entries) > 1:
        return [matrix(entries[:-1])]
    if parts is None:
        return []
    return [parts.spelled(parts.items[:-1]), parts.spelled(parts.items[1:])]


def element_repeated(gold: str) -> list[str]:
    """As many elements, but one of them twice instead of another."""
    parts = group(gold)
    if parts is None or not _differ(parts.items[0], parts.items[-1]) or "\\pm" in gold:
        return []
    return [parts.spelled([*parts.items[:-1], parts.items[0]])]


def one_of_two(gold: str) -> list[str]:
    r"""One side of a \pm b."""
    if "\\pm" not in gold or group(gold):
        return []
    plus, minus = gold.replace("\\pm", "+"), gold.replace("\\pm", "-")
    return [plus, minus, f"{plus}, {plus}", f"{plus}, {minus}, 0"]


def element_added(gold: str) -> list[str]:
    if "\\cup" in gold:  # a ray may hold whatever is added
        return [] if "\\infty" in gold else [gold + " \\cup (1000,1001)"]
    entries, parts = rows(gold), group(gold)
    if entries:
        return [matrix([*entries, ["1234"] * len(entries[0])])]
    return [] if parts is None else [parts.spelled([*parts.items, "1234"])]


def plus_to_minus(gold: str) -> list[str]:
    """The sign of the last term that is not the first."""
    parts = terms(gold)
    if parts is None:
        return []
    last = parts[-1]
    return [" ".join([*parts[:-1], ("-" if last[0] == "+" else "+") + last[1:]])]


def brackets(gold: str) -> list[str]:
    """Tuple, open, closed and half-open interval, set and list are six different things."""
    parts = group(gold)
    if parts is None or len(parts.items) != 2:
        kinds: tuple[tuple[str, str], ...] = (("(", ")"), ("[", "]"), ("\\{", "\\}"))
        if parts is None or not parts.left:
            return []
    else:
        kinds = (("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), ("\\{", "\\}"))
        if not parts.left:
            kinds = kinds[:-1]  # a set of solutions may be meant
    found = [
        parts.spelled(parts.items, *kind) for kind in kinds if kind != (parts.left, parts.right)
    ]
    return (
        found
        if not parts.left or parts.left == "\\{"
        else [*found, parts.spelled(parts.items, "", "")]
    )


def infinity_turned(gold: str) -> list[str]:
    parts = group(gold)
    if parts is None or "\\infty" not in gold or len(parts.items) != 2:
        return []
    low, high = parts.items
    turn = {"(": ")", "[": "]", ")": "(", "]": "["}
    if high == "\\infty":
        return [parts.spelled(["-\\infty", low], "(", turn[parts.left])]
    return [parts.spelled([high, "\\infty"], turn[parts.right], ")")]


def letter(gold: str) -> list[str]:
    """A word with another letter, or a variable with another name."""
    word = WORD.fullmatch(gold)
    if word:
        text = word[1]
        changed = text[:-1] + ("m" if text[-1] != "m" else "n")
        return [f"\\text{{{one}}}" for one in (changed, text + "s", text[:-1]) if len(one) > 1]
    if number(gold) or "\\text" in gold or "\\begin" in gold or "\\in" in gold:
        return []
    names = sorted(set(re.findall(r"(?<![\\A-Za-z])[a-zA-Z](?![A-Za-z])", gold)) - {"e", "i"})
    if not names or (re.fullmatch(rf"{names[0]}\s*=[^a-zA-Z]*", gold) and len(names) > 1):
        return []
    new = next(name for name in "tuvw" if name not in names)
    return [re.sub(rf"(?<![\\A-Za-z]){names[0]}(?![A-Za-z])", new, gold)]


def exponent(gold: str) -> list[str]:
    if irrational(gold) is not None and "\\pi" in gold:
        return [gold.replace("\\pi", "\\pi^2")]
    match = re.search(r"(?<=[a-zA-Z)])\^(?:(\d)|\{(\d+)\})", gold)
    if match is None or "\\text" in gold or "\\mbox" in gold:
        return []
    power = int(match[1] or match[2]) + 1
    return [f"{gold[: match.start()]}^{{{power}}}{gold[match.end() :]}"]


def coefficient(gold: str) -> list[str]:
    """The first whole number in an expression or equation is one more."""
    if number(gold) or group(gold) or re.search(r"\\(?:text|begin|mbox)|[:_]", gold):
        return []
    match = re.search(r"(?<![\d^.{])\d+(?![\d.}])", gold)
    if match is None:
        return []
    return [f"{gold[: match.start()]}{int(match[0]) + 1}{gold[match.end() :]}"]


def right_side(gold: str) -> list[str]:
    """Another name for the value, or an equation that is not the one."""
    match = re.fullmatch(r"([a-z])\s*=\s*(-?\d+)", gold)
    if match:
        name = "y" if match[1] != "y" else "z"
        return [
            f"{name} = {match[2]}",
            f"{match[1]} = {int(match[2]) + 1}",
            f"{match[1]} \\ne {match[2]}",
            f"{match[1]} > {match[2]}",
            f"2{match[1]} = {match[2]}",
        ]
    if gold.count("=") == 1:
        left, right = (side.strip() for side in gold.split("="))
        return [f"{left} = {right}+1", f"{left}", f"{left} > {right}"]
    return []


def run_together(gold: str) -> list[str]:
    """A list without its commas, and a number with a comma that separates."""
    read, parts = number(gold), group(gold)
    if parts and not parts.left and all(item.isdecimal() for item in parts.items):
        return ["".join(parts.items), " ".join(parts.items)]
    if read and read.written == "integer" and abs(read.value) >= 1000 and not read.after:
        return [
            f"{int(read.value):,}".replace(",", ", "),
            f"{int(read.value):,}".replace(",", "; "),
        ]
    return []


def transposed(gold: str) -> list[str]:
    entries = rows(gold)
    if entries is None or len(entries) < 2 or len(entries[0]) > 1:
        return []
    turned = [list(column) for column in zip(*entries, strict=True)]
    # Whether a point may stand for a column vector is a matter of taste; here it may not.
    return [matrix(turned), f"({', '.join(turned[0])})"]


def determinant(gold: str) -> list[str]:
    entries = rows(gold)
    return [matrix(entries, "vmatrix")] if entries and "vmatrix" not in gold else []


def letter_case(gold: str) -> list[str]:
    """r and R are two variables."""
    if (
        number(gold)
        or WORD.fullmatch(gold)
        or re.search(r"\\(?:text|mbox|begin|in)(?![a-z])", gold)
    ):
        return []
    names = sorted(set(re.findall(r"(?<![\\A-Za-z])[a-zA-Z](?![A-Za-z])", gold)) - {"e", "i"})
    return [
        re.sub(rf"(?<![\\A-Za-z]){name}(?![A-Za-z])", name.swapcase(), gold) for name in names[:1]
    ]


WRONG: dict[str, Callable[[str], list[str]]] = {
    "one more": values.one_more,
    "one less": values.one_less,
    "negated": values.negated,
    "reciprocal": values.reciprocal,
    "tenfold, tenth": values.shifted,
    "doubled": values.doubled,
    "digits": values.digit,
    "rounded": values.rounded,
    "swapped": swapped,
    "element changed": element_changed,
    "element dropped": element_dropped,
    "element added": element_added,
    "guesses": values.guesses,
    "taken back": values.not_it,
    "cut off": values.cut_off,
    "scale word": values.scale_word,
    "variable added": values.variable_added,
    "left undone": values.left_undone,
    "last sign": plus_to_minus,
    "brackets": brackets,
    "infinity": infinity_turned,
    "other unit": values.other_unit,
    "percent scale": values.percent_scale,
    "other base": values.other_base,
    "letter": letter,
    "option": values.option_letter,
    "exponent": exponent,
    "coefficient": coefficient,
    "equation": right_side,
    "time of day": values.time_changed,
    "run together": run_together,
    "transposed": transposed,
    "determinant": determinant,
    "case of a letter": letter_case,
    "element repeated": element_repeated,
    "one of two": one_of_two,
}

CONVENTION = frozenset(
    (
        *(
            "guesses",
            "taken back",
            "cut off",
            "scale word",
            "left undone",
            "brackets",
            "other unit",
        ),
        *("percent scale", "other base", "run together", "transposed", "determinant"),
    )
)
"""Kinds that are wrong by convention more than by value, in which graders may differ with good reason."""


def mistakes(gold: str) -> dict[str, list[str]]:
    """All wrong answers near a gold answer, by kind, without repeats."""
    found = {kind: list(dict.fromkeys(make(gold))) for kind, make in WRONG.items()}
    return {kind: variants for kind, variants in found.items() if variants}
