"""The mapping beside training files, so that production asks exactly what was trained."""

from pathlib import Path

from ft_tools.data.prepare.column_mapping import SNIPPET, ColumnMapping

MAPPING, SNIPPET_NAME = "mapping.json", "format_input.py"


def write_mapping(mapping: ColumnMapping, folder: Path) -> None:
    """Write a mapping, and the code that applies it where there is a template to fill."""
    (folder / MAPPING).write_text(mapping.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if not mapping.is_as_it_is:
        (folder / SNIPPET_NAME).write_text(SNIPPET, encoding="utf-8")


def mapping_beside(data: Path) -> ColumnMapping | None:
    """Return the mapping that made a training file; None if its rows were not made by one."""
    folder = data if data.is_dir() else data.parent
    if not (folder / SNIPPET_NAME).is_file():
        return None
    try:
        text = (folder / MAPPING).read_text(encoding="utf-8")
        return ColumnMapping.model_validate_json(text)
    except (OSError, ValueError):
        return None


def keep_mapping(data: Path, folder: Path) -> None:
    """Write the mapping beside a training file to another folder, with our code for it.

    The code beside the file is not copied: it may be anything, and is run in production.
    """
    mapping = mapping_beside(data)
    if mapping is not None:
        write_mapping(mapping, folder)
