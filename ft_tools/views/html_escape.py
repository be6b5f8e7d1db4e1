"""Show untrusted text in HTML: markup is escaped; invisible and unsafe characters are spelt out."""

import html
import re

# Control characters, bidirectional overrides, invisible characters and lone surrogates: they can
# make a text look like another one, and a surrogate cannot be written as UTF-8 at all.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


class Html(str):
    """A string that is HTML already; `escape` leaves it as it is."""

    __slots__ = ()


def escape(value: object) -> str:
    r"""Return HTML that shows exactly these characters; what is unsafe is spelt out.

    >>> escape("<b>\u202e")
    '&lt;b&gt;\\u202e'
    """
    if isinstance(value, Html):
        return str(value)
    spelt = _UNSAFE.sub(_spell, str(value).replace("\r\n", "\n"))
    return html.escape(spelt, quote=True)


def _spell(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
