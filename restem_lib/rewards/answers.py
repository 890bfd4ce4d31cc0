r"""Rewards for final answers: find the answer in a solution, compare it with the gold answer.

    text -> extract -> compare (exact) -> math-verify in a worker process -> Graded

A false positive is trained on, a false negative only lost, so every rule prefers precision. The
text is written by a model and may be hostile: here it meets regular expressions and integers only;
everything else happens in algebra.py, in processes that can be killed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import lru_cache

from restem_lib.rewards import Graded, algebra
from restem_lib.rewards.extraction import extract, trim
from restem_lib.rewards.quantities import quantity, same_quantity, same_time, split_unit, unfinished
from restem_lib.rewards.shapes import BETWEEN, same_elements, shape

GRADER = "answers-2"
CACHE_SIZE = 100_000


# Normal forms.

_CLEANING = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"√(\d+)", r"\\sqrt{\1}"),
        (r"\\(?:display|text)style(?![A-Za-z])", ""),
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"\\[dt]frac(?![A-Za-z])", r"\\frac"),
        (r"\{,\}|,\s*\\!\s*|(?<=\d)\\!\s*,", ","),
        (r"(?<=\d)\\,(?=\d{3})", ""),
        (r"(?<!\\)\\[!,;: ]|~", " "),
        (r"\\([$%])", r"\1"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])", "°"),
        (r"\s+", " "),
        (r"(?<=\d), (?=\d{3}(?!\d))", ";"),  # "100, 200" is a list, "100,200" a number
        (r" (?![A-Za-z0-9])|(?<![A-Za-z0-9]) ", ""),
        (r"(?<=\d)(?: |\\cdot ?|\\times ?|\*)(?=i(?![A-Za-z]))", ""),
        (r"(?<!\\)\\$", ""),
    )
)
_SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("−–", "-"),
        **{"π": "\\pi ", "∞": "\\infty ", "∪": "\\cup ", "±": "\\pm ", "∈": "\\in "},
        **{"×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "²": "^2", "³": "^3"},
    }
)
_BRACED = re.compile(r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)(?<!\\)\}")
_WRAPPED = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|math(?:bf|rm)|boldsymbol)\{([^{}\\]*)\}")
_OPTION = re.compile(r"\(([A-Z])\)")


@lru_cache(maxsize=5_000)
def _clean(answer: str) -> str:
    r"""LaTeX without what does not change its meaning: spacing, `\left`, `\dfrac`, `\text{all}`."""
    clean = trim(answer).translate(_SYMBOLS)
    for pattern, replacement in _CLEANING:
        clean = pattern.sub(replacement, clean)
    wrapped = _WRAPPED.fullmatch(clean) or _BRACED.fullmatch(clean)
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
    clean = _clean(answer)
    number = quantity(clean)
    if number is None:
        return _uncased(clean)
    if number.unit in ("", "$", "£", "€"):
        return str(number.value)
    return f"{number.value}{'' if number.unit in '%°' else ' '}{number.unit}"


def _uncased(clean: str) -> str:
    word = _letters(clean) and (len(clean) > 2 or clean.istitle())  # "No" but not "C" or "AB"
    return clean.casefold() if word and len(clean) > 1 else clean


# Comparing.

_ASSIGNED = re.compile(
    r"(?P<name>(?:\\(?:vec|math(?:bf|rm))\{[A-Za-z]+\}|\\?[A-Za-z]+)(?:_\{?\w+\}?)?(?:\([\w,]+\))?|\([A-Za-z](?:,[A-Za-z])+\))"
    r"(?:=|\\in(?=\s?(?:[\[(]|\\?\{|\\mathbb)))(?P<rest>[^=]+)"
)
_TURNED = re.compile(r"(?P<rest>[^=]*\d[^=]*)=(?P<name>[A-Za-z])")
_EQUALS = re.compile(r"(?<![<>!\\])=")
_UNREADABLE = re.compile(
    r"\\boxed|\$|\\[][()]|\\[a-z]?dots|\.\.|answer|[≈≡∼≅]|\\(?:approx|equiv|sim|cong|propto|in(?![A-Za-z]))",
    re.IGNORECASE,
)
_MARK = re.compile(r"'|′|\\prime(?![A-Za-z])|_")
_CAPITAL = re.compile(r"\\[A-Za-z]+|([A-Z])")


def _named(clean: str) -> tuple[str, str]:
    """A name and what is assigned to it; "" and all of it where nothing is.

    >>> _named("x=5"), _named("5=x"), _named("x=1,x=2"), _named("x=1,y=2")
    (('x', '5'), ('x', '5'), ('x', '1,2'), ('', 'x=1,y=2'))
    """
    assigned = _ASSIGNED.fullmatch(clean) or _TURNED.fullmatch(clean)
    if assigned:
        return assigned["name"], assigned["rest"]
    if clean.count("=") > 1:
        each = [_ASSIGNED.fullmatch(part) for part in BETWEEN.split(clean)]
        names = {one["name"] if one else "" for one in each}
        if len(names) == 1 and (name := names.pop()):
            return name, ",".join(one["rest"] for one in each if one)
    return "", clean


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


@lru_cache(maxsize=5_000)
def _settle(gold: str, answer: str) -> tuple[bool | None, str, str]:
    """compare's decision, and the two texts for math-verify where there is none."""
    left, right = _clean(gold), _clean(answer)
    if not right:
        return False, left, right
    # "x=5" and "5" mean the same, "x=5" and "y=5" do not, and neither do "18" and "x+5=18".
    (left_name, bare_left), (right_name, bare_right) = _named(left), _named(right)
    if left_name == right_name or not (left_name and right_name):
        left, right = bare_left, bare_right
    if _uncased(left) == _uncased(right):
        return True, left, right
    numbers = quantity(left), quantity(right)
    if numbers[0] and numbers[1]:
        return same_quantity(numbers[0], numbers[1]), left, right
    # The gold answer says whether the commas of "100,200" separate: here it is no number.
    at_once = None if numbers[0] else same_elements(left, right)
    if at_once is None:
        at_once = same_time(left, right)
    if at_once is not None:
        return at_once, left, right
    (left, left_unit), (right, right_unit) = split_unit(left), split_unit(right)
    # As among plain numbers: a missing unit is forgiven, but percent and cents are other values.
    if left_unit != right_unit and (left_unit or right_unit in ("%", "cent")) and right_unit:
        return False, left, right
    if right_unit == "°" and not left_unit and "\\pi" in right:  # degrees, for what is in radians
        return False, left, right
    if all(number or _letters(clean) for number, clean in zip(numbers, (left, right), strict=True)):
        return left == right, left, right
    if not numbers[1] and unfinished(left, right):
        return False, left, right
    # A number goes to math-verify as an exact fraction: a decimal near sqrt(2) is not sqrt(2).
    left, right = (
        str(number.value) if number else clean.replace(";", ", ")
        for number, clean in zip(numbers, (left, right), strict=True)
    )
    if _UNREADABLE.search(right) or _form(left) != _form(right):
        return False, left, right
    return None, left, right


def _form(clean: str) -> tuple[int, int, set[str], tuple[str, int] | None]:
    """What equal answers share: equations, primes and subscripts, capitals (math-verify ignores them), shape."""
    return (
        len(_EQUALS.findall(clean)),
        len(_MARK.findall(clean)),
        set(_CAPITAL.findall(clean)) - {""},
        shape(_named(clean)[1]),
    )


# Grading.

_Key = tuple[str, str, str]  # gold, answer, grader
_cache: dict[_Key, algebra.Outcome] = {}
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


def _check(pairs: list[_Key], deadline: float) -> dict[_Key, algebra.Outcome]:
    """math-verify's outcome for each pair, from memory where it is settled."""
    with _cache_lock:
        outcomes = {pair: _cache[pair] for pair in pairs if pair in _cache}
    new = [pair for pair in pairs if pair not in outcomes]
    for pair, outcome in zip(new, algebra.check([pair[:2] for pair in new], deadline), strict=True):
        outcomes[pair] = outcome
        if outcome.verdict in ("correct", "wrong"):
            with _cache_lock:
                _cache[pair] = outcome
                while len(_cache) > CACHE_SIZE:
                    del _cache[next(iter(_cache))]
    return outcomes
