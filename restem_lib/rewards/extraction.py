r"""Find the final answer in a solution. The text is written by a model: here it meets regular expressions only."""

from __future__ import annotations

import re

MAX_ANSWER = 300
"""Longest answer in characters; a longer one is not an answer."""

_BRACE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_PHRASE = re.compile(
    r"(?<!\#)\#{4}(?!\#)"
    r"|\b(?:the|final)\ answer\ is\b[ \t]*:?"
    r"|^[ \t]*\**(?:final\ )?answer\**[ \t]*:",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_MATHS = re.compile(
    r"\$\$(?P<display>[^$]+)\$\$"
    r"|\$(?P<inline>[^\s$](?:[^$]*[^\s$])?)\$(?!\d)"
    r"|\\\((?P<round>.*?)\\\)"
)
_SENTENCE_END = re.compile(r"\.(?=\s|$)|\sI hope\b")
_ENDS_HERE = re.compile(r"[\s*]*(?:\.(?!\.)|I hope\b|\Z)")
_MORE = re.compile(r"[\d$\\]")
_STOP = re.compile(r"(?<![.])\.$")
_MATHS_SIGN = re.compile(r"^\${1,2}|(?<!\\)\${1,2}$|^\\\(|\\\)$")


def extract(text: str) -> str:
    r"""The final answer of a solution, or "" if it declares none.

    The last balanced `\boxed{}` (the inner one where they are nested) counts, whatever the boxes
    before it hold and whatever text follows: MATH's convention. Without a box it is what follows
    the last of "####", "the answer is", "final answer is" and a line starting with "Answer:", up to
    the end of the sentence; a digit or maths after that sentence, on its line, takes the answer
    back. More than MAX_ANSWER characters is no answer. Time is linear in the text, whatever it
    holds.

    >>> extract("So 9 + 9 = 18. The answer is $18.")
    '18'
    >>> extract(r"Hence $\boxed{\frac{1}{2}}$. The answer is 3.")
    '\\frac{1}{2}'
    >>> extract(r"\boxed{17} \boxed{18}"), extract("The answer is $18$, $19$ or $20$.")
    ('18', '18$, $19$ or $20')
    >>> extract("I do not know."), extract("The answer is 18. No, it is 19.")
    ('', '')
    """
    found = _last_boxed(text)
    if found is None:
        found = _last_declared(text)
    return trim(found) if len(found) <= MAX_ANSWER else ""


def _last_boxed(text: str) -> str | None:
    if "\\boxed" not in text:
        return None
    best: tuple[int, int] | None = None
    open_braces: list[int] = []  # where the content of a box starts, -1 for any other brace
    for token in _BRACE.finditer(text):
        symbol = token.group()
        if symbol == "{":
            open_braces.append(-1)
        elif symbol == "}":
            start = open_braces.pop() if open_braces else -1
            if start >= 0 and (best is None or start > best[0]):
                best = (start, token.start())
        elif symbol.endswith("{") and symbol != "\\{":
            open_braces.append(token.end())
    return None if best is None else text[best[0] : best[1]]


def _last_declared(text: str) -> str:
    end = -1
    for phrase in _PHRASE.finditer(text):
        end = phrase.end()
    if end < 0:
        return ""
    line = text[end:].lstrip(" \t\r\n*:").split("\n", 1)[0]
    maths = _MATHS.match(line)
    if maths and _ENDS_HERE.match(line, maths.end()):
        answer, end = maths[maths.lastgroup or 0], maths.end()
    else:
        stop = _SENTENCE_END.search(line)
        end = stop.start() if stop else len(line)
        answer = line[:end]
    return "" if _MORE.search(line, end) else answer


def trim(answer: str) -> str:
    """An answer without what surrounds it in a sentence: spaces, emphasis, dollar signs, a full stop."""
    for _ in range(2):  # "18$." and "18.$" both occur
        answer = answer.strip().strip("*").strip()
        answer = _MATHS_SIGN.sub("", _STOP.sub("", answer))
    return answer.strip()
