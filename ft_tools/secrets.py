"""What a secret looks like, for audits that must find one and for files that must not hold one.

The texts are hostile: each pattern needs time linear in their length (no pattern starts inside a
stretch of characters that an earlier start has scanned already).
"""

import os
import re

MASK = "[redacted]"

# Shapes are the issuers' documented token prefixes.
PATTERNS = {
    "hugging_face_token": re.compile(r"\bhf_[A-Za-z0-9]{20,}\b"),
    "openai_key": re.compile(r"\bsk-(?!ant-)[A-Za-z0-9_-]{20,}"),
    "anthropic_key": re.compile(r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    "github_token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})\b"),
    "aws_access_key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "google_api_key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    "slack_token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "gitlab_token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "stripe_key": re.compile(r"\b[sr]k_live_[A-Za-z0-9]{16,}"),
    "npm_token": re.compile(r"\bnpm_[A-Za-z0-9]{30,}"),
    "jwt": re.compile(
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    ),
    # A key that was cut off counts up to where it ends; RFC 7468 has no "-----" inside one.
    "private_key": re.compile(
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----))*+"
        r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
    ),
    "url_password": re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
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
