"""Patterns of secrets: audits find them, and files that we write must not contain them.

The texts are hostile: each pattern needs time linear in their length (no pattern starts inside a
stretch of characters that an earlier start has scanned already).
"""

import os
import re

MASK = "[redacted]"
# JSON inside a string spells a line break with a letter, and a word may begin right behind it.
ESCAPES = ("[bfnrt]", "u[0-9a-fA-F]{4}")
"""What stands behind the backslash, by width."""


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
    # A key that was cut off counts up to where it ends; RFC 7468 has no "-----" inside one.
    "private_key": re.compile(
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----))*+"
        r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
    ),
    # Redis has a password and no name.
    "url_password": re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
}
NAMES = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(?:API|ACCESS|PRIVATE)_?KEY", re.IGNORECASE
)
NOT_VALUES = re.compile(r"(?:PATH|FILE|DIR|URL|URI)$", re.IGNORECASE)
"""Such a variable says where a secret is; the place is no secret."""


def redact(text: str) -> str:
    """Replace what looks like a secret, and every secret of the environment, by a mask."""
    for value in environment_secrets():
        text = text.replace(value, MASK)
    for pattern in PATTERNS.values():
        text = pattern.sub(MASK, text)
    return text


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
