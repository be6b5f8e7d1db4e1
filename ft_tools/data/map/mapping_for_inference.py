"""The mapping beside training files, so that production asks exactly what was trained."""

from pathlib import Path

from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.errors import BadData

MAPPING, SNIPPET_NAME = "mapping.json", "format_input.py"
SNIPPET = '''"""Ask the model about a row exactly as it was trained; needs only mapping.json."""

import json
from pathlib import Path

try:
    import regex as re
except ImportError:
    import re

MAPPING = json.loads((Path(__file__).parent / "mapping.json").read_text(encoding="utf-8"))


def cell(value):
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)


def find(row, name):
    """Return the value of a column; `a.b` is the column b of the object a."""
    if name in row:
        return row[name]
    for at in (i for i, char in enumerate(name) if char == "."):
        if isinstance(row.get(name[:at]), dict):
            return find(row[name[:at]], name[at + 1 :])
    return None


def format_input(row):
    # Columns of a table are known without the blanks around their names.
    row = {**{str(name).strip(): row[name] for name in row}, **row}
    put = lambda m: cell(find(row, m[1]))
    asked = re.sub(r"\\{([^{}\\n]{1,100})\\}", put, MAPPING["prompt"]).strip()
    told = MAPPING["system"] or ""
    for pattern, text in MAPPING["replace"].items():
        told, asked = (
            re.sub(pattern, lambda _: text, one, flags=re.MULTILINE) for one in (told, asked)
        )
    system = [{"role": "system", "content": told}] if told else []
    return [*system, {"role": "user", "content": asked.strip()}]
'''
"""`format_input` for production, without this package."""


def write_mapping(mapping: ColumnMapping, folder: Path) -> None:
    """Write a mapping, and the code that applies it where there is a template to fill."""
    (folder / MAPPING).write_text(mapping.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if not mapping.is_as_it_is:
        (folder / SNIPPET_NAME).write_text(SNIPPET, encoding="utf-8")


def mapping_beside(data: Path) -> ColumnMapping | None:
    """Return the mapping that made a training file; None if its rows were not made by one.

    Raises:
        BadData: It is none that this version reads.
    """
    folder = data if data.is_dir() else data.parent
    path = folder / MAPPING
    if not (folder / SNIPPET_NAME).is_file() or not path.is_file():
        return None
    try:
        return ColumnMapping.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadData(
            path,
            "is no mapping that this version reads (earlier previews wrote other keys)",
            "prepare the original file again with prepare_dataset, or move this file and "
            f"{SNIPPET_NAME} away: then nothing is known of the prompts",
        ) from error


def keep_mapping(data: Path, folder: Path) -> None:
    """Write the mapping beside a training file to another folder, with our code for it.

    The code beside the file is not copied: it may be anything, and is run in production.
    """
    mapping = mapping_beside(data)
    if mapping is not None:
        write_mapping(mapping, folder)
