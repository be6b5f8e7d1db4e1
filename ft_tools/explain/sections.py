"""The references in sections: one per heading, cut into parts that a report can hold."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ft_tools.errors import NotFound

MAX_CHARS = 1800
"""Of a section's text: about 450 tokens."""

_HEADING = re.compile(r"(#{1,4}) (.+)")
_MAY_CUT = re.compile(r"$|\||[-*] |\d+\. ")
"""Lines before which a long section is cut: blank ones, rows of tables, items of lists."""
_FENCE = ("```", "~~~")
_COMMENT = "<!--"
"""The beginning of a line that is a comment."""


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
    found, path, lines, is_code = [], ["", "", "", ""], list[str](), False
    for line in [*markdown.splitlines(), "# "]:
        if line.startswith(_COMMENT):
            continue
        is_code ^= line.startswith(_FENCE)
        heading = None if is_code else _HEADING.fullmatch(line)
        if heading is None and line != "# ":
            lines.append(line)
            continue
        titles = tuple(filter(None, path))
        address = f"{name}#{anchor(titles[-1])}" if titles else name
        for number, text in enumerate(_parts(lines), start=1):
            found.append(Section(address + (f"/{number}" if number > 1 else ""), titles, text))
        lines = []
        if heading is not None:
            level = len(heading[1])
            path[level - 1 :] = [heading[2].strip(), *[""] * (4 - level)]
    return found


def _parts(lines: list[str]) -> list[str]:
    """Cut lines into texts of at most MAX_CHARS, a table's with its head."""
    blocks, is_code = [""], False
    for line in lines:
        if not is_code and _MAY_CUT.match(line):
            blocks.append(line)
        else:
            blocks[-1] += f"\n{line}"
        is_code ^= line.startswith(_FENCE)
    parts, head = [""], list[str]()
    for block in blocks:
        head = [*head, block][:2] if block.startswith("|") else []
        if len(parts[-1]) + len(block) > MAX_CHARS:
            parts.append("\n".join(head) if block not in head else "")
        parts[-1] += f"\n{block}"
    return [text for part in parts if (text := part.strip("\n"))]


def anchor(heading: str) -> str:
    """Return the name that GitHub gives to a heading.

    >>> anchor("Marks (`KTO`)")
    'marks-kto'
    """
    return re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
