"""HTML in texts: whether a text has it, and the text that a page would show of it."""

import re
from collections.abc import Iterator
from html import unescape

APART = ("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre")
BREAKS = {
    **dict.fromkeys(APART, "\n\n"),
    **dict.fromkeys(("br", "div", "tr", "hr"), "\n"),
    "li": "\n- ",
    "td": " ",
    "th": " ",
}
INLINE = {
    *("a", "b", "em", "font", "i", "img", "span", "strong", "sub", "sup", "tbody", "thead", "u"),
    *("html", "head", "body", "meta", "link", "center", "code", "small", "del", "ins"),
}
HIDDEN = {"script", "style", "title"}
NAMES = "|".join(sorted({*BREAKS, *INLINE, *HIDDEN}, key=len, reverse=True))
SIGNS = ("</", "<br", "<p", "<div", "<img", "<li", "&amp", "&nbsp", "&lt", "&gt", "&quot", "&#")
"""In lower case; each match of `HTML` has one."""
HTML = re.compile(
    rf"</(?:{NAMES})>|<(?:br|p|div|img|li)(?:\s[^<>]{{0,300}})?/?>"
    r"|&(?:amp|nbsp|lt|gt|quot|#\d{1,6}|#x[0-9a-f]{1,5});",
    re.IGNORECASE,
)


TAG = re.compile(
    rf"<(/?)({NAMES})(?:\s(?:\"[^\"<]*\"|'[^'<]*'|[^<>\"'])*)?/?>|<[!?][^<>]*>", re.IGNORECASE
)
"""A tag that HTML has, or a declaration. No match reaches beyond the next `<`, so that a text which
begins many tags and ends none takes no longer."""
HIDDEN_END = re.compile(rf"</({'|'.join(sorted(HIDDEN))})>", re.IGNORECASE)
BLANK_END = re.compile(r"(?<![ \t])[ \t]+\n")


def _uncommented(text: str) -> str:
    first, *parts = text.split("<!--")
    cut = [(part, *part.partition("-->")[1:]) for part in parts]
    return first + "".join(after if end else f"<!--{part}" for part, end, after in cut)


def _shown(text: str) -> Iterator[str]:
    """Yield what a page shows; what follows a `<script>` that does not end is text."""
    ends = {found[1].lower(): found.start() for found in HIDDEN_END.finditer(text)}
    at, hidden = 0, ""
    for found in TAG.finditer(text):
        tag, is_end = (found[2] or "").lower(), bool(found[1])
        if hidden:
            hidden = "" if is_end and tag == hidden else hidden
        else:
            yield unescape(text[at : found.start()])
            if tag in HIDDEN and not is_end:
                hidden = tag if ends.get(tag, 0) >= found.end() else ""
                yield "" if hidden else found[0]
            else:
                yield "" if is_end and tag in {"br", "li", "td", "th"} else BREAKS.get(tag, "")
        at = found.end()
    yield unescape(text[at:])


def plain_html(text: str) -> str:
    r"""Return what a page shows of a text: tags as breaks, entities as characters.

    >>> plain_html("<p>Hi &amp; hello</p><p>one<br>two <b>bold</b></p>")
    'Hi & hello\n\none\ntwo bold'
    >>> plain_html("a <x> b, 3 < 4"), plain_html("<ul><li>a</li><li>b</li></ul>")
    ('a <x> b, 3 < 4', '- a\n- b')
    """
    if "<" not in text and "&" not in text:
        return text
    made = "".join(_shown(_uncommented(text))).replace("\xa0", " ")
    made = BLANK_END.sub("\n", made)
    return re.sub(r"\n{3,}", "\n\n", made).strip()
