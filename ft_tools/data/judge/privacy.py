"""Find and mask secrets and personal data."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ft_tools.data.judge.joined import Joined
from ft_tools.redaction import ESCAPES, PATTERNS, begins

# In JSON inside a string, what follows `\n` begins behind it, and the letter is no part of it.
ESCAPED = "|".join(rf"(?<=\\{escape})" for escape in ESCAPES)
EMAIL = re.compile(
    rf"(?:{ESCAPED}|\b(?!(?<=\\)(?:{'|'.join(ESCAPES)})))"
    r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24}\b"
)
# International, or the North American shape; bare digit groups are too often something else.
PHONE = re.compile(
    rf"(?:(?<![\w.+-])|{ESCAPED})"
    r"(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"
    r"|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4})(?![\w-])"
)
CARD = re.compile(
    rf"(?:(?<![\d.])|{ESCAPED})(?:\d{{4}}[ -]?){{3}}\d{{4}}(?!\.?\d)"
    rf"|(?:(?<!\d)|{ESCAPED})3[47]\d{{2}}[ -]?\d{{6}}[ -]?\d{{5}}(?!\d)"
)
IBAN = re.compile(begins(r"[A-Z]{2}\d{2}") + r"(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
# Mailboxes of an office, and what people write for "some address".
IMPERSONAL = {
    "admin",
    "contact",
    "email",
    "example",
    "git",
    "hello",
    "help",
    "info",
    "noreply",
    "no-reply",
    "office",
    "pass",
    "password",
    "sales",
    "service",
    "someone",
    "support",
    "team",
    "user",
    "username",
    "you",
    "your",
    "youremail",
    "your.email",
    "your_email",
    "yourname",
}
# Nobody's: reserved for examples and tests. Source: RFC 2606 and RFC 6761.
RESERVED = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)$")
# One of these is in every secret that a pattern knows: plain search is many times faster.
HINTS = ("AKIA", "ASIA", "AIza", "xox", "eyJ", "PRIVATE KEY", "://", "sk-", "glpat-")
HINTS_WITH_BARS = (
    "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "k_live_", "npm_"
)  # fmt: skip
# What documents write for a password of an address: a word for it, or a place to put one.
STAND_IN = re.compile(
    r"[^:]*:(?:(?:(?:your|my|the|db|user)[_-]?)?(?:pass|password|passwd|pwd|secret)"
    r"|<[^<>]*>|\[[^\[\]]*\]|\$?\{[^{}]*\}|\$[a-z_]+|%[a-z_]+%?|\*{3,}|x{3,})",
    re.IGNORECASE,
)
DIGITS = "0123456789"
# Every card and phone number has such a run.
LONG_NUMBER = re.compile(r"[0-9][0-9 ().-]{7,}[0-9]")
# Texts in which all that is alike is one character are searched many times faster.
_IN_NUMBERS = bytes(48 if chr(c) in f"{DIGITS} ().-" else 32 for c in range(256))
_IN_IBANS = bytes(
    65 if c in range(65, 91) else 48 if c in range(48, 58) else 32 for c in range(256)
)


def secrets_in(text: str) -> list[str]:
    """Name the kinds of secrets in a text.

    >>> secrets_in("key: hf_" + "a" * 30)
    ['hugging_face_token']
    """
    if not has_hint(text):
        return []
    return [name for name, pattern in PATTERNS.items() if _holds_secret(name, pattern, text)]


def has_hint(text: str) -> bool:
    """Return quickly whether a text could hold a secret; never false if it does."""
    return ("_" in text and any(map(text.__contains__, HINTS_WITH_BARS))) or any(
        map(text.__contains__, HINTS)
    )


def personal_data_in(text: str) -> list[str]:
    """Name the kinds of personal data in a text.

    >>> personal_data_in("write to ada.king@mail.internal"), personal_data_in("ada@example.com")
    (['email'], [])
    """
    found = []
    if "@" in text and any(_is_personal(m.group()) for m in EMAIL.finditer(text)):
        found.append("email")
    if _begins_an_iban(text) and any(is_iban(m.group()) for m in IBAN.finditer(text)):
        found.append("iban")
    if not _has_long_number(text):
        return found
    if any(passes_luhn(m.group()) for m in CARD.finditer(text)):
        found.append("card")
    if any(is_phone(m.group()) for m in PHONE.finditer(text)):
        found.append("phone")
    return found


def that_may_hold(texts: Sequence[str]) -> set[int]:
    """Return quickly which texts could hold a secret or personal data; none that does is missed.

    >>> that_may_hold(["a plain sentence of 2026", "to ada@mail.internal", "12.345.678-90"])
    {1, 2}
    """
    joined = Joined(texts)
    found = {at for at in joined.having("_") if has_hint(texts[at])}
    found.update(*map(joined.having, ("@", *HINTS)))
    # The nine characters of the shortest number are of a number each.
    for at in joined.having(b"0" * 9, _IN_NUMBERS):
        if LONG_NUMBER.search(texts[at]):
            found.add(at)
    return found | joined.having(b"AA00", _IN_IBANS)


def may_hold(text: str) -> bool:
    """Return the same of one text."""
    return "@" in text or has_hint(text) or _has_long_number(text) or _begins_an_iban(text)


def _has_long_number(text: str) -> bool:
    # The nine characters of the shortest one are of a number each.
    plain = text.encode("ascii", "replace").translate(_IN_NUMBERS)
    return b"0" * 9 in plain and LONG_NUMBER.search(text) is not None


def _begins_an_iban(text: str) -> bool:
    return b"AA00" in text.encode("ascii", "replace").translate(_IN_IBANS)


Seen = dict[tuple[str, str], str]
"""Kind and value of what was found in one example -> what stands in its place."""


def mask(text: str, seen: Seen | None = None) -> str:
    """Replace secrets and personal data by what kind they are of.

    Args:
        text: Of an example.
        seen: What was found in the example before; the same value gets the same replacement, and
            another value of the kind a number of its own.
    """
    if has_hint(text):
        for name, pattern in PATTERNS.items():
            text = pattern.sub(_replacing("secret", partial(_is_secret, name), seen), text)
    if "@" in text:
        text = EMAIL.sub(_replacing("email", _is_personal, seen), text)
    if _begins_an_iban(text):
        text = IBAN.sub(_replacing("iban", is_iban, seen), text)
    if _has_long_number(text):
        text = CARD.sub(_replacing("card", passes_luhn, seen), text)
        text = PHONE.sub(_replacing("phone", is_phone, seen), text)
    return text


def mask_all(value: Any, seen: Seen | None = None) -> Any:
    """Mask every string and whole number inside a JSON value, keys included, however deep it is."""
    made = [value]
    left: list[tuple[Any, Any]] = [(made, 0)]
    while left:
        holder, at = left.pop()
        item = holder[at]
        if isinstance(item, str):
            holder[at] = mask(item, seen)
        elif isinstance(item, int):
            masked = mask(str(item), seen)
            holder[at] = item if masked == str(item) else masked
        elif isinstance(item, list):
            holder[at] = list(item)
            left += [(holder[at], number) for number in range(len(item))]
        elif isinstance(item, dict):
            holder[at] = {mask(str(key), seen): inner for key, inner in item.items()}
            left += [(holder[at], key) for key in holder[at]]
    return made[0]


def passes_luhn(number: str) -> bool:
    """Check a card number's last digit. Source: ISO/IEC 7812-1, annex B.

    >>> passes_luhn("4111 1111 1111 1111"), passes_luhn("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(char) for char in number if char.isdigit()]
    if len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_iban(text: str) -> bool:
    """Check an IBAN's two check digits. Source: ISO 13616, ISO 7064 mod 97-10.

    >>> is_iban("GB82 WEST 1234 5698 7654 32"), is_iban("GB83 WEST 1234 5698 7654 32")
    (True, False)
    """
    compact = text.replace(" ", "")
    if not 15 <= len(compact) <= 34:
        return False
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def _holds_secret(kind: str, pattern: re.Pattern[str], text: str) -> bool:
    return any(_is_secret(kind, found.group()) for found in pattern.finditer(text))


def _is_secret(kind: str, found: str) -> bool:
    return not _is_stand_in(kind, found)


def _is_stand_in(kind: str, found: str) -> bool:
    """Return whether it is no secret but what documents write for one.

    >>> [_is_stand_in("url_password", said) for said in ("user:password", "me:${PASS}", "me:pa55")]
    [True, True, False]
    """
    return kind == "url_password" and STAND_IN.fullmatch(found) is not None


def is_phone(text: str) -> bool:
    """Return whether somebody can have a number: in North America not each has that shape.

    An area and an exchange begin with 2 to 9; area 555, and 555-0100 to 555-0199 in each area, are
    kept for fiction. Source: https://en.wikipedia.org/wiki/North_American_Numbering_Plan

    >>> is_phone("(212) 736-5000"), is_phone("(555) 123-4567"), is_phone("123-456-7890")
    (True, False, False)
    """
    digits = "".join(filter(str.isdigit, text))
    american = digits.removeprefix("1") if text.startswith("+1") else digits
    if len(american) != 10 or (text.startswith("+") and american == digits):
        return True
    area, exchange, line = american[:3], american[3:6], american[6:]
    is_fiction = area == "555" or (exchange == "555" and line.startswith("01"))
    return area >= "2" and exchange >= "2" and not is_fiction


def _is_personal(address: str) -> bool:
    name, _, domain = address.lower().partition("@")
    return name not in IMPERSONAL and not RESERVED.search(domain)


def _replacing(
    kind: str, check: Callable[[str], bool], seen: Seen | None
) -> Callable[[re.Match[str]], str]:
    def replacement(found: re.Match[str]) -> str:
        value = found.group()
        if not check(value):
            return value
        if seen is None:
            return f"[{kind}]"
        if (kind, value) not in seen:
            number = 1 + sum(one == kind for one, _ in seen)
            seen[kind, value] = f"[{kind}]" if number == 1 else f"[{kind} {number}]"
        return seen[kind, value]

    return replacement
