"""Find and mask secrets and personal data."""

import re
import string
from collections.abc import Callable, Sequence
from typing import Any

from ft_tools.redaction import CHECKS, ESCAPED, PATTERNS, WORD, begins

EMAIL = re.compile(WORD + r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24}\b")
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
Check = Callable[[str], bool]
Rule = tuple[str, re.Pattern[str], Check]
"""Kind, what it looks like, and whether what looks like it is one."""
# Mailboxes of an office, and what people write for "some address".
IMPERSONAL = {
    "admin", "contact", "email", "example", "git", "hello", "help", "info", "noreply",
    "no-reply", "office", "pass", "password", "sales", "service", "someone", "support", "team",
    "user", "username", "you", "your", "youremail", "your.email", "your_email", "yourname"
}  # fmt: skip
# Nobody's: reserved for examples and tests. Source: RFC 2606 and RFC 6761.
RESERVED = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)$")
# One of these is in every value of its kind: plain search is many times faster.
SIGNS = {
    "hugging_face_token": ("hf_",),
    "openai_key": ("sk-",),
    "anthropic_key": ("sk-",),
    "github_token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    "aws_access_key": ("AKIA", "ASIA"),
    "google_api_key": ("AIza",),
    "slack_token": ("xox",),
    "gitlab_token": ("glpat-",),
    "stripe_key": ("k_live_",),
    "npm_token": ("npm_",),
    "jwt": ("eyJ",),
    "webhook_secret": ("whsec_",),
    "private_key": ("PRIVATE KEY",),
    "url_password": ("://",),
    "email": ("@",),
}
ANY_SIGN = tuple(dict.fromkeys(sign for signs in SIGNS.values() for sign in signs))
# What documents write for a password of an address: a word for it, or a place to put one.
STAND_IN = re.compile(
    r"[^:]*:(?:(?:(?:your|my|the|db|user)[_-]?)?(?:pass|password|passwd|pwd|secret)"
    r"|<[^<>]*>|\[[^\[\]]*\]|\$?\{[^{}]*\}|\$[a-z_]+|%[a-z_]+%?|\*{3,}|x{3,})",
    re.IGNORECASE,
)
# In texts of which all digits, or capitals, are one character: what each number, or IBAN, has.
_IN_NUMBERS = bytes(48 if chr(c) in "0123456789 ().-" else 32 for c in range(256))
_IN_IBANS = bytes(
    65 if chr(c) in string.ascii_uppercase else 48 if chr(c) in string.digits else 32
    for c in range(256)
)
TOKEN_END = re.compile(r"_[A-Za-z0-9]{16}")
LONG_NUMBER = re.compile(r"[0-9][0-9 ().-]{7,}[0-9]")


def secrets_in(text: str) -> list[str]:
    """Name the kinds of secrets in a text.

    >>> secrets_in("key: hf_" + "a" * 30)
    ['hugging_face_token']
    """
    return _kinds_in(text, SECRETS)


def personal_data_in(text: str) -> list[str]:
    """Name the kinds of personal data in a text.

    >>> personal_data_in("write to ada.king@mail.internal"), personal_data_in("ada@example.com")
    (['email'], [])
    """
    return _kinds_in(text, PERSONAL)


def may_hold(text: str) -> bool:
    """Return quickly whether a text could hold a secret or personal data; never false if it does.

    >>> [may_hold(text) for text in ("a text of 2026", "to ada@mail.internal", "12.345.678-9")]
    [False, True, True]
    """
    is_signed = any(map(text.__contains__, ANY_SIGN)) or TOKEN_END.search(text) is not None
    return is_signed or _has_number(text) or _begins_iban(text)


def _has_number(text: str) -> bool:
    """Return whether a text has a number as long as that of a card or phone."""
    plain = text.encode("ascii", "replace").translate(_IN_NUMBERS)
    return b"0" * 9 in plain and LONG_NUMBER.search(text) is not None


def _begins_iban(text: str) -> bool:
    return b"AA00" in text.encode("ascii", "replace").translate(_IN_IBANS)


def _may_hold(kind: str, text: str) -> bool:
    """Return quickly whether a text could hold a value of a kind."""
    if kind in SIGNS:
        return any(map(text.__contains__, SIGNS[kind]))
    if kind == "unknown_token":
        return TOKEN_END.search(text) is not None
    return _begins_iban(text) if kind == "iban" else _has_number(text)


def _kinds_in(text: str, rules: Sequence[Rule]) -> list[str]:
    return [
        kind
        for kind, pattern, is_meant in rules
        if _may_hold(kind, text) and any(is_meant(m.group()) for m in pattern.finditer(text))
    ]


Seen = dict[tuple[str, str], str]
"""Kind and value of what was found in one example -> what stands in its place."""


def mask(text: str, seen: Seen | None = None) -> str:
    """Replace secrets and personal data by what kind they are of.

    Addresses of reserved domains are masked, too: whoever writes them in data may mean somebody.

    A value that was seen in the example before gets the same replacement, and another value of the
    kind a number of its own. Without `seen`, for what is only shown, `[masked email]` stands in its
    place, which is told from an `[email]` of the text.
    """
    if not may_hold(text):
        return text
    for kind, pattern, is_meant in MASKED:
        if _may_hold(kind, text):
            name = "secret" if kind in PATTERNS else kind
            text = pattern.sub(_replacing(name, is_meant, seen), text)
    return text


def mask_all(value: Any, seen: Seen | None = None) -> Any:
    """Mask every string and whole number inside a JSON value."""
    return changed_all(value, lambda text: mask(text, seen))


def changed_all(value: Any, change: Callable[[str], str]) -> Any:
    """Change each string and whole number inside a JSON value, keys too, however deep it is."""
    made = [value]
    left: list[tuple[Any, Any]] = [(made, 0)]
    while left:
        holder, at = left.pop()
        item = holder[at]
        if isinstance(item, str):
            holder[at] = change(item)
        elif isinstance(item, int):
            changed = change(str(item))
            holder[at] = item if changed == str(item) else changed
        elif isinstance(item, list):
            holder[at] = list(item)
            left += [(holder[at], number) for number in range(len(item))]
        elif isinstance(item, dict):
            holder[at] = {change(str(key)): inner for key, inner in item.items()}
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


def _is_password(found: str) -> bool:
    """Return whether it is no stand-in that documents write for a password.

    >>> [_is_password(found) for found in ("user:password", "me:${PASS}", "me:pa55")]
    [False, False, True]
    """
    return STAND_IN.fullmatch(found) is None


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
    return _is_of_a_person(address) and not RESERVED.search(address.lower().partition("@")[2])


def _is_of_a_person(address: str) -> bool:
    return address.lower().partition("@")[0] not in IMPERSONAL


SECRETS: list[Rule] = [
    (kind, pattern, CHECKS.get(kind, _is_password if kind == "url_password" else bool))
    for kind, pattern in PATTERNS.items()
]
PERSONAL: list[Rule] = [
    ("email", EMAIL, _is_personal),
    ("iban", IBAN, is_iban),
    ("card", CARD, passes_luhn),
    ("phone", PHONE, is_phone),
]
MASKED: list[Rule] = [*SECRETS, ("email", EMAIL, _is_of_a_person), *PERSONAL[1:]]


def _replacing(kind: str, check: Check, seen: Seen | None) -> Callable[[re.Match[str]], str]:
    def replacement(found: re.Match[str]) -> str:
        value = found.group()
        if not check(value):
            return value
        if seen is None:
            return f"[masked {kind}]"
        if (kind, value) not in seen:
            number = 1 + sum(one == kind for one, _ in seen)
            seen[kind, value] = f"[{kind}]" if number == 1 else f"[{kind} {number}]"
        return seen[kind, value]

    return replacement
