r"""Rewards for final answers: find the answer in a solution, compare it with the gold answer.

    text -> extract -> compare (exact) -> math-verify in a worker process -> Graded

A false positive is trained on, a false negative only lost, so every rule prefers precision. The
text is written by a model and may be hostile: here it meets regular expressions and integers only;
everything else happens in workers.py, in processes that can be killed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from restem_lib.rewards import workers
from restem_lib.rewards.extraction import MAX_ANSWER, extract, trim

GRADER = "answers-1"
CACHE_SIZE = 100_000


class Graded(NamedTuple):
    """What became of one solution."""

    verdict: str
    """One of records.VERDICTS."""
    answer: str
    """The answer as the solution has it, "" if there is none."""
    why: str
    """One phrase for people: how it was compared, or what went wrong."""


# Numbers and units.

_UNITS = {
    alias: unit
    for unit, aliases in {
        "$": "dollar dollars usd",
        "%": "percent",
        "°": "degree degrees",
        "cent": "cents",
        "mm": "millimeter millimeters millimetre millimetres",
        "cm": "centimeter centimeters centimetre centimetres",
        "m": "meter meters metre metres",
        "km": "kilometer kilometers kilometre kilometres",
        "inch": "inches",
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
        "hour": "hours",
        "day": "days",
        "week": "weeks",
        "month": "months",
        "year": "years",
        "mph": "",
    }.items()
    for alias in (unit, *aliases.split())
}

_UNIT = re.compile(
    r"""(?: (?P<symbol>[%°])
          | (?<=[\d}])\s?(?P<word>[A-Za-z]{2,})
          | \\(?:text|mbox|mathrm)\{\s*(?P<text>[A-Za-z]+)\.?\s*\}
        )(?:\^\{?(?P<power>[23])\}?)?$""",
    re.VERBOSE,
)
_NUMBER = re.compile(
    r"""(?P<sign>[+-]?)(?P<currency>[$£€]?)(?P<minus>-?)
    (?: \\frac\s?(?:\{(?P<over>-?\d+)\}|(?P<over1>\d))(?:\{(?P<under>\d+)\}|\s?(?P<under1>\d))
      | (?P<top>\d+)/(?P<bottom>\d+)
      | (?P<decimal>(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+) (?:_\{?(?P<base>\d+)\}?)?
    )""",
    re.ASCII | re.VERBOSE,
)

_FRACTION = re.compile(r"/|\\frac")
_NUMERAL = re.compile(
    r"""(?P<open>\(|\\math(?:bf|rm)\{)?
        [+-]?\d*\.?\d+ (?:(?:\\times|\\cdot|\*)\s?10\^(?:\d|\{[+-]?\d+\}))?
        (?(open)[)}])""",
    re.ASCII | re.VERBOSE,
)


class _Quantity(NamedTuple):
    value: Fraction
    unit: str
    """A value of _UNITS, perhaps with "^2" or "^3", a currency sign, "base 8" or ""."""


def _split_unit(clean: str) -> tuple[str, str]:
    match = _UNIT.search(clean)
    name = "" if match is None else (match["symbol"] or match["word"] or match["text"]).lower()
    if match is None or name not in _UNITS:
        return clean, ""
    return clean[: match.start()], _UNITS[name] + (f"^{match['power']}" if match["power"] else "")


def _quantity(clean: str) -> _Quantity | None:
    """A plain number with at most one known unit; None for all else, as "36 or 7" or "1 4/5"."""
    if len(clean) > MAX_ANSWER:
        return None
    number, unit = _split_unit(clean)
    match = _NUMBER.fullmatch(number)
    if match is None or (match["sign"] and match["minus"]):
        return None
    units = [unit, match["currency"], f"base {match['base']}" if match["base"] else ""]
    if sum(map(bool, units)) > 1:
        return None
    if match["decimal"]:
        value = Fraction(match["decimal"].replace(",", "").rstrip("."))
    else:
        bottom = int(match["bottom"] or match["under"] or match["under1"])
        if bottom == 0:
            return None
        value = Fraction(int(match["top"] or match["over"] or match["over1"]), bottom)
    return _Quantity(-value if "-" in (match["sign"], match["minus"]) else value, "".join(units))


def _same_quantity(gold: _Quantity, answer: _Quantity) -> bool:
    """Equal values. A missing unit is forgiven, another unit or base is not; 50% is 50 and 1/2.

    Nor are cents for a bare number: that may be dollars, a hundred times as much.
    """
    if gold.unit == answer.unit:
        return gold.value == answer.value
    if (gold.unit and answer.unit) or answer.unit.startswith(("base", "cent")):
        return False
    if gold.value == answer.value:
        return True
    if "%" not in (gold.unit, answer.unit):
        return False
    percent, plain = (gold, answer) if gold.unit == "%" else (answer, gold)
    return percent.value == 100 * plain.value


# Normal forms.

_CLEANING = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[−–]", "-"),
        (r"\\(?:left|right)(?![A-Za-z])", ""),
        (r"\\[dt]frac(?![A-Za-z])", r"\\frac"),
        (r"\{,\}|,\s*\\!\s*", ","),
        (r"(?<=\d)\\,(?=\d{3})", ""),
        (r"(?<!\\)\\[!,;: ]|~", " "),
        (r"\\([$%])", r"\1"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", "°"),
        (r"\s+", " "),
        (r" (?![A-Za-z0-9])|(?<![A-Za-z0-9]) ", ""),
    )
)
_WRAPPED = re.compile(r"\\(?:text|mbox|mathrm|textbf)\{([^{}\\]*)\}")
_OPTION = re.compile(r"\(([A-Z])\)")


def _clean(answer: str) -> str:
    r"""LaTeX without what does not change its meaning: spacing, `\left`, `\dfrac`, `\text{all}`."""
    clean = trim(answer)
    for pattern, replacement in _CLEANING:
        clean = pattern.sub(replacement, clean)
    wrapped = _WRAPPED.fullmatch(clean)
    clean = wrapped[1].strip() if wrapped else clean
    option = _OPTION.fullmatch(clean)
    return option[1] if option else clean


def _letters(clean: str) -> bool:
    return clean.replace(" ", "").isalpha()


def canonical(answer: str) -> str:
    r"""One spelling for answers that are plainly the same: for majority votes and exact comparison.

    Numbers become reduced fractions without currency sign; other units stay. Words lose their case,
    variables do not. Anything else is only cleaned, never computed.

    >>> [canonical(answer) for answer in ("$1,800.00", "18.0", r"\dfrac{2}{4}", r"50\%", "East")]
    ['1800', '18', '1/2', '50%', 'east']
    """
    return _normal(_clean(answer))


def _normal(clean: str) -> str:
    quantity = _quantity(clean)
    if quantity is None:
        word = _letters(clean) and (len(clean) > 2 or clean.istitle())  # "No" but not "C" or "AB"
        return clean.casefold() if word and len(clean) > 1 else clean
    if quantity.unit in ("", "$", "£", "€"):
        return str(quantity.value)
    return f"{quantity.value}{'' if quantity.unit in '%°' else ' '}{quantity.unit}"


# Comparing.

_ASSIGNED = re.compile(
    r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([\w,]+\))?(?:=|\\in(?![A-Za-z]))(?P<rest>[^=]+)"
)
_EQUALS = re.compile(r"(?<![<>!\\])=")
_UNREADABLE = re.compile(r"\\boxed|\$|\\[][()]|\\[a-z]?dots|\.\.|answer", re.IGNORECASE)
_CAPITAL = re.compile(r"\\[A-Za-z]+|([A-Z])")
_STRUCTURE = re.compile(
    r"\\[{}]|[][(){},;]|\\text\{\s*(?:or|and)\s*\}| (?:or|and) |\\(?:pm|mp)(?![A-Za-z])"
)


def _shape(clean: str) -> tuple[str, int] | None:
    """The bracket pair round the whole, "" if none, and the number of elements; None if unbalanced.

    >>> _shape("(3,4]"), _shape("(a+5)(b+2)"), _shape("1,-2"), _shape("2)")
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


def _bare(clean: str) -> str:
    """What is assigned: "x=5" -> "5"; unchanged where nothing is."""
    assigned = _ASSIGNED.fullmatch(clean)
    return assigned["rest"] if assigned else clean


def compare(gold: str, answer: str) -> bool | None:
    r"""Whether an answer is the gold answer, decided without algebra; None where algebra is needed.

    Plain numbers and plain words are always decided, exactly. False as well for an answer of
    another shape (other brackets, another number of elements, an equation for a value), where
    math-verify alone would be lenient, and for arithmetic left undone: where the gold answer is an
    integer or a decimal, the answer must be one number, as a fraction or times a power of ten too.

    >>> compare("18", "$18.00"), compare("18", "19"), compare("(2,1)", "[2,1]")
    (True, False, False)
    >>> compare("18", "36/2"), compare("18", "9+9"), compare("18", "9 9")
    (True, False, False)
    >>> compare("2x", "x+x") is None
    True
    """
    decided, _, _ = _settle(gold, answer)
    return decided


def _settle(gold: str, answer: str) -> tuple[bool | None, str, str]:
    """compare's decision, and the two texts for math-verify where there is none."""
    left, right = _clean(gold), _clean(answer)
    if not right:
        return False, left, right
    if _normal(left) == _normal(right):
        return True, left, right
    # "x=5" and "5" mean the same, "x=5" and "y=5" do not, and neither do "18" and "x+5=18".
    bare_left, bare_right = _bare(left), _bare(right)
    if (bare_left == left) != (bare_right == right):
        left, right = bare_left, bare_right
    if left == right:
        return True, left, right
    numbers = _quantity(left), _quantity(right)
    if numbers[0] and numbers[1]:
        return _same_quantity(numbers[0], numbers[1]), left, right
    (left, left_unit), (right, right_unit) = _split_unit(left), _split_unit(right)
    if left_unit and right_unit and left_unit != right_unit:
        return False, left, right
    if all(number or _letters(clean) for number, clean in zip(numbers, (left, right), strict=True)):
        return left == right, left, right
    # Accept "9+9" for 18 and a model learns to copy numbers, never to compute.
    plain = _quantity(_bare(left)) and not _FRACTION.search(left)
    if plain and not _NUMERAL.fullmatch(_bare(right)):
        return False, left, right
    # A number goes to math-verify as an exact fraction: a decimal near sqrt(2) is not sqrt(2).
    left, right = (
        str(number.value) if number else clean
        for number, clean in zip(numbers, (left, right), strict=True)
    )
    if _UNREADABLE.search(right) or _form(left) != _form(right):
        return False, left, right
    return None, left, right


def _form(clean: str) -> tuple[int, set[str], tuple[str, int] | None]:
    """What equal answers share: number of equations, capitals (math-verify ignores case), shape."""
    return len(_EQUALS.findall(clean)), set(_CAPITAL.findall(clean)) - {""}, _shape(_bare(clean))


# Grading.

_Key = tuple[str, str, str]  # gold, answer, grader
_cache: dict[_Key, workers.Outcome] = {}
_cache_lock = threading.Lock()


def grade(golds: Sequence[str], texts: Sequence[str], deadline: float = 8.0) -> list[Graded]:
    r"""The verdict on each solution; `texts[i]` is graded against `golds[i]`.

    deadline is in seconds: what math-verify may take for one answer before it is killed and the
    verdict is "timeout". Pairs that only math-verify can decide are checked once and remembered
    ("timeout" and "error" are not). Safe to call from several threads. Raises ValueError for an
    empty gold answer or lists of unequal length.

    >>> [graded.verdict for graded in grade(["18", "18", "18"], ["#### 18", "#### 19", "?"])]
    ['correct', 'wrong', 'no_answer']
    """
    if len(golds) != len(texts):
        raise ValueError(f"{len(golds)} gold answers for {len(texts)} texts: they must pair up")
    for position, gold in enumerate(golds):
        if not _clean(gold):
            raise ValueError(f"the gold answer at position {position} is empty: drop that problem")

    graded: list[Graded] = []
    undecided: dict[_Key, list[int]] = {}
    for position, (gold, text) in enumerate(zip(golds, texts, strict=True)):
        answer = extract(text)
        decided, left, right = _settle(gold, answer)
        if not answer:
            graded.append(Graded("no_answer", "", "no final answer found"))
            continue
        if decided is None:
            undecided.setdefault((left, right, GRADER), []).append(position)
        graded.append(Graded("correct" if decided else "wrong", answer, "exact comparison"))

    for pair, outcome in _check(list(undecided), deadline).items():
        for position in undecided[pair]:
            graded[position] = Graded(outcome.verdict, graded[position].answer, outcome.why)
    return graded


def _check(pairs: list[_Key], deadline: float) -> dict[_Key, workers.Outcome]:
    """math-verify's outcome for each pair, from memory where it is settled."""
    with _cache_lock:
        outcomes = {pair: _cache[pair] for pair in pairs if pair in _cache}
    new = [pair for pair in pairs if pair not in outcomes]
    for pair, outcome in zip(new, workers.check([pair[:2] for pair in new], deadline), strict=True):
        outcomes[pair] = outcome
        if outcome.verdict in ("correct", "wrong"):
            with _cache_lock:
                _cache[pair] = outcome
                while len(_cache) > CACHE_SIZE:
                    del _cache[next(iter(_cache))]
    return outcomes
