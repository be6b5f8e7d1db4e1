"""Recognise and count documents: Markdown, text, HTML, PDF, DOCX, and folders of them.

They hold no examples to train on; how much they hold decides what they are good for. No text of
them leaves this module.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ft_tools import workspace
from ft_tools.errors import BadData, BadInput, MissingExtra, require_installed
from ft_tools.formats.readers.encodings import BYTE_ORDER_MARKS
from ft_tools.formats.readers.source import files_in, has_data

KINDS = {
    ".md": "markdown", ".markdown": "markdown", ".rst": "text", ".txt": "text", ".adoc": "text",
    ".html": "html", ".htm": "html", ".xhtml": "html", ".pdf": "pdf", ".docx": "docx",
}  # fmt: skip
MAX_FILE_BYTES = 64 * 2**20
MAX_SECONDS = 25.0
"""Documents that are not read by then are counted by their size."""
# English has about four characters per token; scripts without spaces about 1.5.
# Source: https://platform.openai.com/tokenizer
CHARACTERS_PER_TOKEN = 4.0
WIDE_CHARACTERS_PER_TOKEN = 1.5


@dataclass(frozen=True)
class DocumentCounts:
    """What a file or folder of documents holds, in numbers."""

    kinds: dict[str, int]
    """Kind of document -> files."""
    num_tokens: int
    """Estimated from characters; of large files, or those not read in time, from bytes."""
    num_without_text: int
    """Files without any text, such as scanned PDFs."""


def kind_of(path: Path) -> str | None:
    """Name the kind of document a file is by its name and first bytes; None if it is none."""
    kind = KINDS.get(path.suffix.lower())
    with workspace.open_file(path) as stream:
        head = stream.read(1024)
    if head.startswith(b"%PDF"):
        return "pdf"
    if head.startswith(b"version https://git-lfs") or kind == "pdf":
        return None
    if kind == "docx" or head.startswith(b"PK\x03\x04"):
        return kind if kind == "docx" and head.startswith(b"PK") else None
    # A text that begins like JSON is read as data, whatever it is called.
    return None if head.lstrip()[:1] in {b"{", b"["} and kind == "text" else kind


def is_documents(path: Path) -> bool:
    """Return whether a path is a document, or a folder of documents and no data files."""
    return next(documents_in(path), None) is not None


def count_documents(path: Path) -> DocumentCounts:
    """Count a document, or the documents of a folder.

    Raises:
        BadData: None has any text.
        MissingExtra: A PDF or DOCX needs `fine-tuning-llm[data]`.
    """
    until = time.monotonic() + MAX_SECONDS
    kinds: Counter[str] = Counter()
    tokens = without = 0
    for file, kind in documents_in(path):
        kinds[kind] += 1
        size = file.stat().st_size
        if size > MAX_FILE_BYTES or time.monotonic() > until:
            tokens += int(size / CHARACTERS_PER_TOKEN)
            continue
        text = text_of_document(file, kind)
        without += not text.strip()
        tokens += _tokens(text)
    if without == kinds.total():
        files = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        problem = f"has no text that can be read ({files}): empty, damaged or scanned"
        raise BadData(path, problem, "export or download it again, or run OCR on scans")
    return DocumentCounts(dict(kinds), tokens, without)


def documents_in(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each document of a path with its kind, those of a folder by name."""
    files = files_in(path, lambda file: file.suffix.lower() in KINDS) if path.is_dir() else [path]
    for file in files:
        resolved = workspace.existing(str(file))
        if (kind := kind_of(resolved)) is not None:
            yield resolved, kind


def require_data(path: Path) -> None:
    """Refuse documents, which hold no examples.

    Raises:
        BadInput: With the tool that reads them.
    """
    if is_documents(path) and not has_data(path):
        raise BadInput(
            f"path={path.name!r} holds documents and no rows of data; recommend_approach "
            "(documents) counts them, and create_dataset makes rows of them"
        )


def text_of_document(path: Path, kind: str) -> str:
    """Return the text of a document; empty if it cannot be read as what it claims to be."""
    try:
        return _READERS[kind](path)
    except MissingExtra:
        raise
    except Exception:
        # Readers of PDF and DOCX raise whatever they like on a damaged file.
        return ""


def _plain(path: Path) -> str:
    with workspace.open_file(path) as stream:
        content = stream.read(MAX_FILE_BYTES)
    is_utf_16 = content.startswith(BYTE_ORDER_MARKS)
    return content.decode("utf-16" if is_utf_16 else "utf-8", "replace")


def _html(path: Path) -> str:
    require_installed("data", "selectolax")
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(_plain(path))
    tree.strip_tags(["script", "style", "noscript", "template"])
    return tree.body.text(separator="\n", strip=True) if tree.body is not None else ""


def _pdf(path: Path) -> str:
    require_installed("data", "pypdf")
    from pypdf import PdfReader

    # What is wrong with a file is in the answer; pypdf says it on stderr, too.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    with workspace.open_file(path) as stream:
        return "\n\n".join(page.extract_text() for page in PdfReader(stream).pages)


def _docx(path: Path) -> str:
    require_installed("data", "docx")
    from docx import Document
    from docx.table import Table

    with workspace.open_file(path) as stream:
        parts = []
        for block in Document(stream).iter_inner_content():
            if isinstance(block, Table):
                parts += [" | ".join(cell.text for cell in row.cells) for row in block.rows]
            else:
                parts.append(block.text)
    return "\n\n".join(parts)


_READERS: dict[str, Callable[[Path], str]] = {
    "markdown": _plain,
    "text": _plain,
    "html": _html,
    "pdf": _pdf,
    "docx": _docx,
}


def _tokens(text: str) -> int:
    wide = sum("\u2e80" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7af" for char in text)
    return int(wide / WIDE_CHARACTERS_PER_TOKEN + (len(text) - wide) / CHARACTERS_PER_TOKEN)
