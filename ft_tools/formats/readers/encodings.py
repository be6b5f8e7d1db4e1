"""Recognise how a table of text is encoded, from its first bytes."""

HEAD_BYTES = 2**20
MAX_LINES = 2_000
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
UTF_16_NULLS = 0.2
"""Share of zero bytes from which a text is UTF-16: that of Latin letters is a half. Judgement."""
ONE_SIDED = 10
"""Times as many zero bytes in one half of a text's pairs as in the other. Judgement."""
CANDIDATES = ("utf_16", "cp1252", "shift_jis", "gb18030", "cp1250", "cp1251")
"""In the order in which equally likely ones are chosen."""
AS_LIKELY = 0.01


def encoding_of(head: bytes) -> str:
    """Name the encoding of the first bytes of a text, as Python does.

    UTF-8 where a few lines alone are something else: those lines are then reported one by one, and
    the others are read as they were meant.

    >>> encoding_of("Größe; schön".encode("cp1252")), encoding_of("für".encode())
    ('cp1252', 'utf-8')
    """
    if utf_16 := utf_16_of(head):
        return utf_16
    lines = head.splitlines()
    if len(head) == HEAD_BYTES:
        lines.pop()  # it may end within a character
    special = [line for line in lines if not line.isascii()]
    broken = [line for line in special if not _is_utf8(line)]
    if 2 * len(broken) <= len(special):
        return "utf-8"
    from charset_normalizer import from_bytes

    text = b"\n".join(broken[:MAX_LINES])
    found = list(from_bytes(text, cp_isolation=list(CANDIDATES), threshold=0.5))
    if not found:
        return "cp1252"
    least = min(match.percent_chaos for match in found) / 100 + AS_LIKELY
    likely = {
        name
        for match in found
        if match.percent_chaos / 100 <= least
        for name in match.could_be_from_charset
    }
    best = next((name for name in CANDIDATES if name in likely), "cp1252")
    return best.replace("_", "-") if best == "utf_16" else best


def utf_16_of(head: bytes) -> str:
    """Name the UTF-16 of the first bytes of a text, with or without a mark; empty if it is none.

    >>> utf_16_of("a,b".encode("utf-16")), utf_16_of("a,b".encode("utf-16-le")), utf_16_of(b"a,b")
    ('utf-16', 'utf-16-le', '')
    """
    if head.startswith(BYTE_ORDER_MARKS):
        return "utf-16"
    zeros = (head[::2].count(0), head[1::2].count(0))
    # Other files have zeros on both sides.
    if sum(zeros) <= UTF_16_NULLS * len(head) or ONE_SIDED * min(zeros) > max(zeros):
        return ""
    return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
