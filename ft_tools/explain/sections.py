"""The references in sections: one per heading, cut into parts that a report can hold."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ft_tools.errors import NotFound

MAX_CHARS = 1800
"""Of a section's text: about 450 tokens."""

_HEADING = re.compile(r"(#{1,4}) (.+)")
_FENCE = ("```", "~~~")


@dataclass(frozen=True)
class Section:
    """What stands under one heading, or a part of it where that is long.

    `id` is the file, the heading's anchor as GitHub makes it, and from the second part on its
    number: "data#findings", "data#findings/2".
    """

    id: str
    headings: tuple[str, ...]
    text: str


def folder() -> Path:
    """Return the folder of the references: in an installed wheel, or in a checkout.

    Raises:
        NotFound: Neither is there; the installation is incomplete.
    """
    root = Path(__file__).parents[2]
    for place in (root / "mcp_server" / "skill" / "references", root / "references"):
        if place.is_dir():
            return place
    raise NotFound(f"no references below {root}; reinstall fine-tuning-llm")


@cache
def sections(under: str = "") -> tuple[Section, ...]:
    """Return the sections of all references, or of those in one folder of them.

    Args:
        under: A folder in references/, as "evidence".

    Raises:
        NotFound: The references are not there.
    """
    root = folder()
    return tuple(
        section
        for path in sorted((root / under).rglob("*.md"))
        for section in parse(
            path.relative_to(root).with_suffix("").as_posix(), path.read_text(encoding="utf-8")
        )
    )


def parse(name: str, markdown: str) -> list[Section]:
    r"""Return the sections of a file; headings without text of their own have none.

    >>> parse("lora", "# LoRA\n\n## Rank\n\nHigher is not better.\n")
    [Section(id='lora#rank', headings=('LoRA', 'Rank'), text='Higher is not better.')]
    """
    found, path, lines = [], ["", "", "", ""], list[str]()
    for heading, line in [*_headings(_without_comments(markdown)), (None, None)]:
        if line is not None and heading is None:
            lines.append(line)
            continue
        titles = tuple(filter(None, path))
        address = f"{name}#{anchor(titles[-1])}" if titles else name
        for number, text in enumerate(_parts("\n".join(lines)), start=1):
            found.append(Section(address + (f"/{number}" if number > 1 else ""), titles, text))
        lines = []
        if heading is not None:
            level, title = heading
            path[level - 1 :] = [title, *[""] * (4 - level)]
    return found


def anchor(heading: str) -> str:
    """Return the name that GitHub gives to a heading.

    >>> anchor("Marks (`KTO`)")
    'marks-kto'
    """
    return re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")


def _without_comments(markdown: str) -> str:
    text, *others = markdown.split("<!--")
    return text + "".join(other.partition("-->")[2].removeprefix("\n") for other in others)


def _headings(text: str) -> Iterator[tuple[tuple[int, str] | None, str]]:
    """Yield each line with the level and title if it is a heading, which code blocks lack."""
    is_code = False
    for line in text.splitlines():
        is_code ^= line.startswith(_FENCE)
        match = None if is_code else _HEADING.fullmatch(line)
        yield (len(match[1]), match[2].strip()) if match else None, line


def _parts(text: str) -> list[str]:
    """Pack the blocks of a section into parts of at most MAX_CHARS, if no block is longer."""
    parts = list[str]()
    for block in _blocks(text):
        if parts and len(parts[-1]) + len(block) + 2 <= MAX_CHARS:
            parts[-1] += f"\n\n{block}"
        else:
            parts.append(block)
    return parts


def _blocks(text: str) -> Iterator[str]:
    """Yield paragraphs, lists, code and tables; long lists and tables in pieces."""
    for lines in _paragraphs(text):
        is_table = len(lines) > 2 and lines[0].startswith("|")
        head = lines[:2] if is_table else []
        piece = list(head)
        for line in lines[len(head) :]:
            is_item = is_table or re.match(r"[-*] |\d+\. ", line)
            if is_item and len("\n".join([*piece, line])) > MAX_CHARS and len(piece) > len(head):
                yield "\n".join(piece)
                piece = list(head)
            piece.append(line)
        yield "\n".join(piece)


def _paragraphs(text: str) -> Iterator[list[str]]:
    """Yield the lines between blank lines; those of a code block are together."""
    lines, is_code = list[str](), False
    for line in text.split("\n"):
        is_code ^= line.startswith(_FENCE)
        if line.strip() or is_code:
            lines.append(line)
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines
