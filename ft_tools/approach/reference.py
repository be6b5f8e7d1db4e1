"""The parts of references/choosing.md that are made from the tables.

`python -m ft_tools.approach.reference references/choosing.md` writes them anew; a test compares.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ft_tools.approach.table import Condition, Range, table
from ft_tools.rules import markdown_table

PART = re.compile(r"(<!-- made from (\w+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def fill(text: str) -> str:
    """Return a document with every generated part made anew.

    Raises:
        KeyError: A part has a name that nothing makes.
    """
    return PART.sub(lambda match: f"{match[1]}\n{PARTS[match[2]]()}\n{match[3]}", text)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _rows() -> str:
    rows = [(f"`{row.id}`", _when(row.when), f"`{row.approach}`", row.why) for row in table().rows]
    return _table(("row", "if", "then", "because"), rows)


def _when(when: dict[str, Condition]) -> str:
    parts = [_condition(field, condition) for field, condition in when.items()]
    return "; ".join(parts) or "nothing above holds"


def _condition(field: str, condition: Condition) -> str:
    if isinstance(condition, Range):
        bounds = {">=": condition.at_least, "<": condition.below}
        text = " and ".join(f"{field} {sign} {name}" for sign, name in bounds.items() if name)
        return text + (" (or unknown)" if condition.unknown else "")
    if field in ("all", "any", "none"):
        return f"{field} of {', '.join(condition)}"
    return f"{field} is {' or '.join(condition)}"


def _thresholds() -> str:
    rows = [
        (f"`{name}`", f"{each.value:,.10g} {each.units}", each.why, _source(each.source))
        for name, each in table().thresholds.items()
    ]
    return _table(("threshold", "value", "why", "source"), rows)


def _evidence() -> str:
    rows = [
        (each.claim, each.grade.replace("_", "-"), _source(each.source))
        for each in table().evidence.values()
    ]
    return _table(("finding", "how read", "source"), rows)


def _classics() -> str:
    evidence = table().evidence
    rows = [
        (row.rule, row.limit, _source(evidence[row.evidence].source)) for row in table().classics
    ]
    return _table(("rule of thumb", "its limit", "source"), rows)


def _measurements() -> str:
    evidence = table().evidence
    rows = [
        (row.measure, row.result, row.then, _source(evidence[row.evidence].source))
        for row in table().measurements
    ]
    return _table(("measure", "if it is", "then", "source"), rows)


def _mistakes() -> str:
    evidence = table().evidence
    rows = [
        (row.mistake, row.ask, _source(evidence[row.evidence].source)) for row in table().mistakes
    ]
    return _table(("mistake", "ask", "source"), rows)


def _source(source: str) -> str:
    return f"[source]({source})" if source.startswith("https://") else source


PARTS: dict[str, Callable[[], str]] = {
    "rows": _rows,
    "thresholds": _thresholds,
    "evidence": _evidence,
    "classics": _classics,
    "measurements": _measurements,
    "mistakes": _mistakes,
    "rules": markdown_table,
}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
