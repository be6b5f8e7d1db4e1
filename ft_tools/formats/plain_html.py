"""HTML in texts: whether a text has it, and the text that a page would show of it."""

import re
from html.parser import HTMLParser

BREAKS = {
    **dict.fromkeys(("p", "h1", "h2", "h3", "h4", "ul", "ol", "table", "blockquote"), "\n\n"),
    **dict.fromkeys(("br", "div", "tr", "hr"), "\n"),
    "li": "\n- ",
    "td": " ",
    "th": " ",
}
INLINE = {"a", "b", "em", "font", "i", "img", "span", "strong", "sub", "sup", "tbody", "thead", "u"}
HIDDEN = {"script", "style"}
NAMES = "|".join(sorted({*BREAKS, *INLINE, *HIDDEN}, key=len, reverse=True))
SIGNS = ("</", "<br", "<p", "<div", "<img", "<li", "&amp", "&nbsp", "&lt", "&gt", "&quot", "&#")
"""In lower case; each match of `HTML` has one."""
HTML = re.compile(
    rf"</(?:{NAMES})>|<(?:br|p|div|img|li)(?:\s[^<>]{{0,300}})?/?>"
    r"|&(?:amp|nbsp|lt|gt|quot|#\d{1,6}|#x[0-9a-f]{1,5});",
    re.IGNORECASE,
)


class _Text(HTMLParser):
    """Collects what is shown; a tag that HTML does not have is text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.is_hidden = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._tag(tag, self.get_starttag_text() or "", BREAKS.get(tag, ""))
        self.is_hidden = tag in HIDDEN

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self._tag(tag, self.get_starttag_text() or "", BREAKS.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        ends = BREAKS.get(tag, "") if tag not in {"br", "li", "td", "th"} else ""
        self._tag(tag, f"</{tag}>", ends)
        self.is_hidden = False

    def handle_data(self, data: str) -> None:
        if not self.is_hidden:
            self.parts.append(data)

    def _tag(self, tag: str, text: str, shown: str) -> None:
        is_known = tag in BREAKS or tag in INLINE or tag in HIDDEN
        self.parts.append(shown if is_known else text)


def plain_html(text: str) -> str:
    r"""Return what a page shows of a text: tags as breaks, entities as characters.

    >>> plain_html("<p>Hi &amp; hello</p><p>one<br>two <b>bold</b></p>")
    'Hi & hello\n\none\ntwo bold'
    >>> plain_html("a <x> b, 3 < 4"), plain_html("<ul><li>a</li><li>b</li></ul>")
    ('a <x> b, 3 < 4', '- a\n- b')
    """
    if "<" not in text and "&" not in text:
        return text
    parser = _Text()
    parser.feed(text)
    parser.close()
    made = "".join(parser.parts).replace("\xa0", " ")
    made = re.sub(r"[ \t]+\n", "\n", made)
    return re.sub(r"\n{3,}", "\n\n", made).strip()
