"""What the toy world's functions are made of: sources, picks, filters, maps and folds, the common ones first.

Each is a line of Python and words for it (`snippets.py`).
"""

from __future__ import annotations

from restem_lib.tasks.toy.snippets import Op, Source, filter_, fold_, map_, pick_

# fmt: off
DIVISORS = "[d for d in range(1, {a} + 1) if {a} % d == 0]"
DIGITS = "[int(d) for d in str({a})]"
SOURCES = (
    Source("list", "numbers", "number", "{a}", "numbers in {a}"),
    Source("words", "text", "word", "{a}.split()", "words of {a}"),
    Source("range", "number", "number", "range(1, {a} + 1)", "numbers from 1 to {a}"),
    Source("number", "number", "number", "{a}", "{a}", listed=False),
    Source("letters", "text", "letter", "{a}", "letters of {a}"),
    Source("digits", "number", "number", DIGITS, "digits of {a}", loop=("str({a})", "x = int(x)")),
    Source("strings", "words", "word", "{a}", "words in {a}"),
    Source("between", "pair", "number", "range({a}, {b} + 1)", "numbers from {a} to {b}"),
    Source("divisors", "number", "number", DIVISORS, "divisors of {a}", loop=("range(1, {a} + 1)", "if {a} % x == 0:")),
    Source("added", "pair", "number", "{a} + {b}", "the sum of {a} and {b}", listed=False),
    Source("text", "text", "word", "{a}", "{a}", listed=False),
    Source("times", "pair", "number", "{a} * {b}", "the product of {a} and {b}", listed=False),
    Source("larger", "pair", "number", "max({a}, {b})", "the larger of {a} and {b}", listed=False),
)

ONES, FEW, MANY = tuple(range(10)), tuple(range(3, 10)), tuple(range(2, 21))
LETTERS = tuple("aeilnorst")

PICKS = (
    pick_("head", "{x}[:{k}]", "first {k} {things}", (2, 3, 4)),
    pick_("rest", "{x}[{k}:]", "{things} after the first {k}", (1, 2)),
    pick_("every", "{x}[::2]", "{things} at even positions"),
    pick_("tail", "{x}[-{k}:]", "last {k} {things}", (2, 3, 4)),
    pick_("others", "{x}[1::2]", "{things} at odd positions"),
)

FILTERS = {
    "number": (
        filter_("even", "{x} % 2 == 0", "are even"),
        filter_("over", "{x} > {k}", "are greater than {k}; are above {k}", MANY),
        filter_("odd", "{x} % 2 == 1", "are odd"),
        filter_("positive", "{x} > 0", "are positive"),
        filter_("by", "{x} % {k} == 0", "are divisible by {k}; are multiples of {k}|is a multiple of {k}", FEW),
        filter_("under", "{x} < {k}", "are less than {k}; are below {k}", MANY),
        filter_("ends", "abs({x}) % 10 == {k}", "end in {k}", ONES),
        filter_("not", "{x} != {k}", "are not {k}", ONES),
        filter_("atleast", "{x} >= {k}", "are at least {k}", MANY),
        filter_("atmost", "{x} <= {k}", "are at most {k}", MANY),
        filter_("negative", "{x} < 0", "are negative"),
        filter_("notby", "{x} % {k} != 0", "are not divisible by {k}", FEW),
        filter_("two", "9 < abs({x}) < 100", "have two digits"),
        filter_("leaves", "{x} % {k} == 1", "leave 1 when divided by {k}", FEW),
        filter_("has", "{k} in str({x})", "contain the digit {k}", tuple("0123456789")),
        filter_("same", "str({x}) == str({x})[::-1]", "read the same backwards"),
    ),
    "word": (
        filter_("longer", "len({x}) > {k}", "are longer than {k} letters", (2, 3, 4)),
        filter_("long", "len({x}) == {k}", "have {k} letters", (3, 4, 5)),
        filter_("starts", "{x}.startswith({k})", "start with {k}", LETTERS),
        filter_("with", "{k} in {x}", "contain {k}", LETTERS),
        filter_("shorter", "len({x}) < {k}", "are shorter than {k} letters", (4, 5)),
        filter_("ends", "{x}.endswith({k})", "end with {k}", LETTERS),
        filter_("without", "{k} not in {x}", "do not contain {k}", LETTERS),
        filter_("proper", "{x}[:1].isupper()", "start with a capital"),
        filter_("paired", "len({x}) % 2 == 0", "have an even length"),
        filter_("same", "{x} == {x}[::-1]", "read the same backwards"),
    ),
    "letter": (
        filter_("vowel", '{x} in "aeiou"', "are vowels|is a vowel"),
        filter_("other", "{x} != {k}", "are not {k}", LETTERS),
        filter_("upper", "{x}.isupper()", "are capitals|is a capital"),
        filter_("consonant", '{x} not in "aeiou"', "are not vowels|is not a vowel"),
        filter_("lower", "{x}.islower()", "are small letters|is a small letter"),
        filter_("solid", '{x} != " "', "are not spaces|is not a space"),
        filter_("is", "{x} == {k}", "are equal to {k}", LETTERS),
        filter_("after", "{x} > {k}", "come after {k}", LETTERS),
    ),
}

MAPS = {
    "number": (
        map_("add", "{x} + {k}", "add {k} to {it}; plus {k}", MANY),
        map_("times", "{x} * {k}", "multiply {it} by {k}; times {k}", tuple(range(2, 10))),
        map_("square", "{x} ** 2", "square {it}; squared"),
        map_("less", "{x} - {k}", "subtract {k} from {it}; minus {k}", MANY),
        map_("halve", "{x} // 2", "halve {it}; halved"),
        map_("mod", "{x} % {k}", "take {it} modulo {k}; modulo {k}", FEW),
        map_("abs", "abs({x})", "drop the sign of {it}; without sign"),
        map_("negate", "-{x}", "negate {it}; negated"),
        map_("divide", "{x} // {k}", "divide {it} by {k}; divided by {k}", FEW),
        map_("from", "{k} - {x}", "subtract {it} from {k}; taken from {k}", MANY),
        map_("digits", "sum(int(d) for d in str(abs({x})))", "take the digit sum of {it}; cut to the digit sum"),
        map_("cap", "min({x}, {k})", "limit {it} to at most {k}; limited to at most {k}", MANY),
        map_("raise", "max({x}, {k})", "raise {it} to at least {k}; raised to at least {k}", MANY),
        map_("last", "abs({x}) % 10", "take the last digit of {it}; cut to the last digit"),
        map_("cube", "{x} ** 3", "cube {it}; cubed"),
        map_("far", "abs({x} - {k})", "take the distance of {it} to {k}; cut to the distance to {k}", MANY),
        map_("size", "len(str(abs({x})))", "count the digits of {it}; cut to the number of digits"),
        map_("ones", 'bin({x}).count("1")', "count the binary ones of {it}; cut to the number of binary ones"),
    ),
    "word": (
        map_("len", "len({x})", "take the length of {it}; cut to the length", gives="number"),
        map_("upper", "{x}.upper()", "put {it} in capitals; in capitals"),
        map_("reverse", "{x}[::-1]", "reverse {it}; reversed"),
        map_("first", "{x}[:{k}]", "keep the first {k} letters of {it}; cut to the first {k} letters", (1, 2, 3)),
        map_("count", "{x}.count({k})", "count the letter {k} in {it}; cut to the count of {k}", LETTERS, "number"),
        map_("lower", "{x}.lower()", "put {it} in small letters; in small letters"),
        map_("end", "{x}[-{k}:]", "keep the last {k} letters of {it}; cut to the last {k} letters", (1, 2, 3)),
        map_("title", "{x}.capitalize()", "capitalize {it}; capitalized"),
        map_("drop", '{x}.replace({k}, "")', "remove {k} from {it}; without {k}", LETTERS),
        map_("twice", "{x} * 2", "write {it} twice; written twice"),
        map_("put", "{x} + {k}", "append {k} to {it}; followed by {k}", LETTERS),
        map_("swap", "{x}.swapcase()", "swap the case of {it}; in swapped case"),
    ),
    "letter": (
        map_("upper", "{x}.upper()", "put {it} in capitals; in capitals"),
        map_("twice", "{x} * 2", "write {it} twice; written twice", gives="word"),
        map_("lower", "{x}.lower()", "put {it} in small letters; in small letters"),
        map_("put", "{x} + {k}", "append {k} to {it}; followed by {k}", LETTERS, "word"),
        map_("swap", "{x}.swapcase()", "swap the case of {it}; in swapped case"),
        map_("code", "ord({x})", "take the code of {it}; cut to the code", gives="number"),
    ),
}
# fmt: on


def _ends(empty: str, gives: str = "") -> tuple[Op, Op]:
    """The first and the last of a list, which are `empty` where there is none."""
    return (
        fold_("first", f"{{x}}[0] if {{x}} else {empty}", "the first of {them}", gives),
        fold_(
            "last",
            f"{{x}}[-1] if {{x}} else {empty}",
            "the last of {them}",
            gives,
            loop=f"{empty}; {{t}} = {{x}}; {{t}}",
        ),
    )


def _extreme(name: str, call: str, sign: str) -> Op:
    loop = f"None; if {{t}} is None or {{x}} {sign} {{t}}:\n    {{t}} = {{x}}; {{t}} or 0"
    return fold_(
        name,
        f"{call}({{x}}, default=0)",
        f"the {name} of {{them}}; the {call}imum of {{them}}",
        loop=loop,
    )


_NEW = "[]; if {x} not in {t}:\n    {t}.append({x}); "
LIST = fold_("list", "{x}", "the list of {them}", "list", "[]; {t}.append({x}); {t}")
COUNT = fold_(
    "count", "len({x})", "the number of {them}; the count of {them}", "number", "0; {t} += 1; {t}"
)
SORTED = fold_("sorted", "sorted({x})", "the sorted list of {them}", "list")
REVERSED = fold_(
    "reversed", "{x}[::-1]", "the reversed list of {them}", "list", "[]; {t} = [{x}] + {t}; {t}"
)
DISTINCT = fold_(
    "distinct",
    "len(set({x}))",
    "the number of different values among {them}",
    "number",
    _NEW + "len({t})",
)
UNIQUE = fold_(
    "unique", "list(dict.fromkeys({x}))", "the list without repeats of {them}", "list", _NEW + "{t}"
)
GLUED = '""; {t} += {x}; {t}'

# fmt: off
FOLDS = {
    "number": (
        LIST,
        fold_("sum", "sum({x})", "the sum of {them}; the total of {them}", loop="0; {t} += {x}; {t}"),
        COUNT,
        _extreme("largest", "max", ">"),
        _extreme("smallest", "min", "<"),
        SORTED,
        fold_("product", "math.prod({x})", "the product of {them}", loop="1; {t} *= {x}; {t}"),
        *_ends("0"),
        DISTINCT,
        REVERSED,
        UNIQUE,
        fold_("descending", "sorted({x}, reverse=True)", "the list of {them} from large to small", "list"),
        fold_("spread", "max({x}) - min({x}) if {x} else 0", "the largest minus the smallest of {them}"),
        fold_("average", "sum({x}) // len({x}) if {x} else 0", "the rounded average of {them}"),
        fold_("second", "sorted({x})[-2] if len({x}) > 1 else 0", "the second largest of {them}"),
        fold_("frequent", "max({x}, key={x}.count) if {x} else 0", "the most frequent of {them}"),
        fold_("alternate", "sum({x}[::2]) - sum({x}[1::2])", "the alternating sum of {them}"),
    ),
    "word": (
        fold_("text", '" ".join({x})', "the text of {them}", "word"),
        COUNT,
        fold_("longest", 'max({x}, key=len, default="")', "the longest of {them}"),
        LIST,
        SORTED,
        fold_("glued", '"".join({x})', "the text without spaces of {them}", loop=GLUED),
        *_ends('""'),
        REVERSED,
        fold_("shortest", 'min({x}, key=len, default="")', "the shortest of {them}"),
        UNIQUE,
        DISTINCT,
        fold_("bylength", "sorted({x}, key=len)", "the list of {them} from short to long", "list"),
    ),
    "letter": (
        fold_("text", '"".join({x})', "the text of {them}", "word", GLUED),
        COUNT,
        fold_("backwards", '"".join({x}[::-1])', "the reversed text of {them}", "word", '""; {t} = {x} + {t}; {t}'),
        DISTINCT,
        fold_("ordered", '"".join(sorted({x}))', "the sorted text of {them}", "word"),
        *_ends('""', "word"),
        fold_("frequent", 'max({x}, key={x}.count) if {x} else ""', "the most frequent of {them}", "word"),
    ),
}
