"""Patterns of secrets: audits find them, and files that we write must not contain them.

The texts are hostile: each pattern needs time linear in their length (no pattern starts inside a
stretch of characters that an earlier start has scanned already).
"""

import os
import re
from collections.abc import Callable, Mapping

MASK = "[redacted]"
# JSON inside a string spells a line break with a letter, and a word may begin right behind it.
ESCAPES = ("[bfnrt]", "u[0-9a-fA-F]{4}")
"""What stands behind the backslash, by width."""


# In JSON inside a string, what follows `\n` begins behind it, and the letter is no part of it.
ESCAPED = "|".join(rf"(?<=\\{escape})" for escape in ESCAPES)
WORD = rf"(?:{ESCAPED}|\b(?!(?<=\\)(?:{'|'.join(ESCAPES)})))"
"""Where a word begins, in JSON text too, whatever it begins with."""


def begins(prefix: str, at: str = r"\b") -> str:
    """Return a pattern for a prefix of fixed width where a word begins, in JSON text too.

    What stands before it is looked at behind it: a search for plain letters is faster.
    """
    places = (at, *(rf"\\{escape}" for escape in ESCAPES))
    return f"{prefix}(?:{'|'.join(f'(?<={place}{prefix})' for place in places)})"


# Shapes are the issuers' documented token prefixes.
PATTERNS = {
    "hugging_face_token": re.compile(begins("hf_") + r"[A-Za-z0-9]{20,}\b"),
    "openai_key": re.compile(begins("sk-") + r"(?!ant-)[A-Za-z0-9_-]{20,}"),
    "anthropic_key": re.compile(begins("sk-ant-") + r"[A-Za-z0-9_-]{20,}"),
    "github_token": re.compile(
        rf"{begins('gh[pousr]_')}[A-Za-z0-9]{{20,}}\b"
        rf"|{begins('github_pat_')}[A-Za-z0-9_]{{20,}}\b"
    ),
    "aws_access_key": re.compile(begins("A[KS]IA") + r"[A-Z0-9]{16}\b"),
    "google_api_key": re.compile(begins("AIza") + r"[A-Za-z0-9_-]{35}"),
    "slack_token": re.compile(begins("xox[abprs]-") + r"[A-Za-z0-9-]{10,}"),
    "gitlab_token": re.compile(begins("glpat-") + r"[A-Za-z0-9_-]{20,}"),
    "stripe_key": re.compile(begins("[sr]k_live_") + r"[A-Za-z0-9]{16,}"),
    "npm_token": re.compile(begins("npm_") + r"[A-Za-z0-9]{30,}"),
    "jwt": re.compile(
        begins("eyJ", r"(?<![A-Za-z0-9_-])")
        + r"[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    ),
    "webhook_secret": re.compile(begins("whsec_") + r"[A-Za-z0-9+/=_-]{20,}"),
    # Of vendors that nobody listed: words joined to what was drawn at random (`is_random`).
    "unknown_token": re.compile(
        WORD + r"(?!hf_|gh[pousr]_|github_pat_|[sr]k_live_|npm_|whsec_)"
        r"(?:[A-Za-z][A-Za-z0-9]{0,14}_){1,5}+[A-Za-z0-9]{16,}+[A-Za-z0-9_-]*+"
    ),
    # A key that was cut off counts up to where it ends; RFC 7468 has no "-----" inside one.
    "private_key": re.compile(
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----))*+"
        r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
    ),
    # Redis has a password and no name.
    "url_password": re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
}
RANDOM = re.compile(r"(?P<before>.*?_)(?P<text>[A-Za-z0-9]{16,64})")
SYLLABLES = re.compile(r"(?=[a-z]*[aeiouy])[a-z]{3,}")
CHANGE = re.compile(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])")
SECRET_WORD = re.compile(
    r"(?:^|_)(?:live|test|prod|secret|sec|[spr]k|key|token|pat|api|auth)_$", re.I
)
IDENTITY = re.compile(
    r"(?:call|(?:srv)?toolu|msg|resp|r?s|fc|run|step|thread|asst|file|req|batch|item|gen|evt|obj"
    r"|session|trace|span|pi|ch|cus|acct|sub|price|prod|in|org|proj|user|vs|ws)_"
)
"""How identities begin that APIs give to calls, messages and objects; they open nothing."""


def is_random(found: str) -> bool:
    """Return whether what looks like a token of an unknown vendor was drawn at random.

    >>> random = "WyvRhouhTjusCPbGcYawknPxZuh65bTr553J"
    >>> [is_random(f"{name}_{random}") for name in ("rwk_live", "acme", "call")]
    [True, True, False]
    >>> is_random("test_integration2fixtures"), is_random("Java_nativeGetNameOfThingV2ForTesting")
    (False, False)
    """
    held = RANDOM.match(found)
    if held is None:
        return False
    text, is_marked = held["text"], SECRET_WORD.search(held["before"]) is not None
    digits, small, large = (re.search(kind, text) for kind in ("[0-9]", "[a-z]", "[A-Z]"))
    # Shares that part random text from names: of letters in syllables, of changes in one case.
    if small and large:
        is_long = digits is not None and len(text) >= 24 and IDENTITY.match(found) is None
        return (is_marked or is_long) and len("".join(SYLLABLES.findall(text))) < len(text) * 0.4
    return is_marked and len(CHANGE.findall(text)) >= len(text) * 0.2


CHECKS: Mapping[str, Callable[[str], bool]] = {"unknown_token": is_random}
"""Kind -> whether what its pattern finds is one; of the others all is."""
NAMES = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(?:API|ACCESS|PRIVATE)_?KEY", re.IGNORECASE
)
NOT_VALUES = re.compile(r"(?:PATH|FILE|DIR|URL|URI)$", re.IGNORECASE)
"""Such a variable says where a secret is; the place is no secret."""


def redact(text: str) -> str:
    """Replace what looks like a secret, and every secret of the environment, by a mask."""
    for value in environment_secrets():
        text = text.replace(value, MASK)
    for kind, pattern in PATTERNS.items():
        text = pattern.sub(_masking(CHECKS.get(kind, bool)), text)
    return text


def _masking(is_one: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
    return lambda found: MASK if is_one(found[0]) else found[0]


def environment_secrets() -> list[str]:
    """Return the values of environment variables whose names say that they are secret.

    Returns:
        The longest first: one that contains another is masked as a whole.
    """
    found = {
        value
        for name, value in os.environ.items()
        if NAMES.search(name) and not NOT_VALUES.search(name) and len(value) >= 8
    }
    return sorted(found, key=lambda value: (-len(value), value))
