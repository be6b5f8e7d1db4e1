"""The tables of findings: every row is reported by the code, and the code reports no other."""

import re
from pathlib import Path

import pytest

import ft_tools
from ft_tools import facts

ROOT = Path(ft_tools.__path__[0])
TABLES = sorted(path.parent.name for path in ROOT.rglob("findings.toml"))
# Made of parts, or of a verdict, where they are reported.
COMPOSED = re.compile("preflight_|met|not_met|not_shown|length_bias|format_bias")


def code_of(package):
    return "".join(path.read_text("utf-8") for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", TABLES)
def test_every_row_of_the_table_is_used_and_every_used_row_is_in_it(package):
    table = facts.table_of("findings.toml", package)
    code = code_of(package)
    for kind, call in (("warnings", "warning"), ("refusals", "refusal"), ("sentences", "sentence")):
        assert set(re.findall(rf'\b{call}\(\s*"(\w+)"', code)) <= table.get(kind, {}).keys()
    kinds = table.values()
    if package == "data":
        # Readers and formats report findings of data, too.
        kinds, code = [table], code_of("")
    rows = {name: row for kind in kinds for name, row in kind.items()}
    # A row that names a metric of training is reported by what it names.
    named = [name for name, row in rows.items() if isinstance(row, str) or "metric" not in row]
    unused = [name for name in named if f'"{name}"' not in code]
    assert [name for name in unused if not COMPOSED.match(name)] == []
