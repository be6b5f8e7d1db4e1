"""What two programs can be compared by although names or language differ: comments, shape, values.

Every scan is linear in the text, which may be hostile.
"""

import re

MAX_CHARS = 20_000
"""Looked at in one text."""
MAX_COMMENTS = 20
MIN_COMMENT_WORDS = 4
NGRAM_TOKENS = 24
"""With 16, 2.1% of codegen-instruct share a run with HumanEval's solutions; with 24, 0.3%. Source:
benchmarks/contamination.json has the rates of the whole search."""
BLOCKS = (('"""', '"""'), ("'''", "'''"), ("/*", "*/"))
PROGRAM = re.compile(
    r"^[ \t]{0,16}(?:def |class |function |func |fn |public |private |static |const |let |var "
    r"|import |from \w+ import |#include|void |int |float |double |bool |string )|```",
    re.MULTILINE,
)
FENCE = re.compile(r"```[\w+#-]{0,20}\n?")
# Where a comment stops saying what the program does, and shows or lists.
SHOWS = re.compile(
    r">>>|\bexamples?\b|[@:](?:param|returns?|example)\b|\b(?:args|parameters|returns|note):",
    re.IGNORECASE,
)
VALUES = re.compile(
    r""""[^"\\n]{2,60}"|'[^'\\n]{2,60}'|(?<![\w.])-?\d{1,18}(?:\.\d{1,18})?"""
    r"""(?:[, ] ?-?\d{1,18}(?:\.\d{1,18})?){1,40}"""
)
TOKEN = re.compile(
    r""""(?:[^"\\n]|\\.)*+"|'(?:[^'\\n]|\\.)*+'|[A-Za-z_]\w*|\d+(?:\.\d+)?|[^\s\w]"""
)
KEPT = (
    "if elif else for while return and or not in is def lambda break continue range len sum max "
    "min abs int str sorted set list dict append true false none null function const let var of "
    "new math floor push length"
)
KEPT_WORDS = frozenset(KEPT.split())


def is_program(text: str) -> bool:
    """Tell whether a text holds lines of a program.

    >>> is_program("def f(x):"), is_program("Define a function.")
    (True, False)
    """
    return PROGRAM.search(text[:MAX_CHARS]) is not None


def comments_of(text: str) -> list[str]:
    r"""Return what the comments of a program say it does, without examples and parameters.

    >>> comments_of('def f(a):\n    "Sum up."')
    []
    >>> comments_of("// Return the sum of\n// all even numbers.\nfunction f(a) {}")
    ['Return the sum of all even numbers.']
    """
    text = FENCE.sub("\n", text[:MAX_CHARS])
    found: list[str] = []
    for opening, closing in BLOCKS:
        at = 0
        while len(found) < MAX_COMMENTS and (start := text.find(opening, at)) >= 0:
            end = text.find(closing, start + len(opening))
            if end < 0:
                break
            found.append(text[start + len(opening) : end])
            at = end + len(closing)
    found += _line_comments(text)
    said = (_said(comment) for comment in found[:MAX_COMMENTS])
    return [comment for comment in said if len(comment.split()) >= MIN_COMMENT_WORDS]


def without_comments(text: str) -> str:
    """Return a program without its blocks of comments."""
    for opening, closing in BLOCKS:
        parts = text[:MAX_CHARS].split(opening)
        if opening == closing:
            text = "\n".join(parts[::2])
        else:
            text = "\n".join([parts[0], *(part.partition(closing)[2] for part in parts[1:])])
    return text


def values_of(text: str) -> frozenset[str]:
    """Return the texts and the rows of numbers that stand in a program or its examples.

    >>> sorted(values_of("f([1.0, 2], 'ab') == 7"))
    ['1,2', 'ab']
    """
    found = (re.sub(r"[\s\"']|\.0(?!\d)", "", one) for one in VALUES.findall(text[:MAX_CHARS]))
    return frozenset(one for one in found if len(one) > 1)


def shape_of(program: str) -> list[str]:
    """Return the tokens of a program with its names and texts masked.

    >>> shape_of("total = total + x[1]") == shape_of("s = s + row[1]")
    True
    """
    return [_masked(token) for token in TOKEN.findall(program[:MAX_CHARS])]


def _masked(token: str) -> str:
    if token[0] in "\"'" and len(token) > 1:
        return "'"
    if token[0].isalpha() or token[0] == "_":
        return token.lower() if token.lower() in KEPT_WORDS else "_"
    return token


def _line_comments(text: str) -> list[str]:
    """Return the runs of lines that are comments."""
    runs: list[list[str]] = []
    was_comment = False
    for line in text.split("\n"):
        start = line.strip()
        is_comment = start.startswith("//") or (
            start.startswith("#") and not start.startswith(("#include", "#define"))
        )
        if is_comment and not was_comment:
            runs.append([])
        if is_comment:
            runs[-1].append(start.lstrip("/# "))
        was_comment = is_comment
    return ["\n".join(run) for run in runs]


def _said(comment: str) -> str:
    lines = (line.strip().lstrip("*/# ") for line in SHOWS.split(comment)[0].split("\n"))
    return " ".join(" ".join(lines).split())
