"""Recognise how a table of text is encoded, from its first bytes."""

HEAD_BYTES = 2**20
MAX_LINES = 2_000
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Of UTF-16; without one the caller names the encoding."""
CANDIDATES = ("cp1252", "shift_jis", "gb18030", "cp1250", "cp1251")
"""In the order in which equally likely ones are chosen."""
AS_LIKELY = 0.01


def encoding_of(head: bytes) -> str:
    """Name the encoding of the first bytes of a text, as Python does.

    UTF-8 where a few lines alone are something else: those lines are then reported one by one, and
    the others are read as they were meant.

    >>> encoding_of("Größe; schön".encode("cp1252")), encoding_of("für".encode())
    ('cp1252', 'utf-8')
    """
    if head.startswith(BYTE_ORDER_MARKS):
        return "utf-16"
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
    return next((name for name in CANDIDATES if name in likely), "cp1252")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
