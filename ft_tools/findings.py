"""A package's findings.toml: warnings and refusals by id, filled in with their numbers.

A refusal's `rule` is an id of facts/anti_patterns.toml; its `error` a key of ERRORS, or bad_input.
"""

from dataclasses import dataclass
from typing import Any

from ft_tools import anti_patterns, facts
from ft_tools.errors import BadInput, FineTuningError, Missing, NotFound, Refused

ERRORS = {
    "bad_input": BadInput, "missing": Missing, "not_found": NotFound, "refused": Refused,
}  # fmt: skip


@dataclass(frozen=True)
class FindingsTable:
    """The findings of one package, such as `training`.

    Every method raises KeyError when there is no such row, or a field of it is missing.
    """

    package: str

    def warning(self, row_id: str, /, **fields: Any) -> str:
        """Return a warning as a sentence: its id, the problem, the cure.

        >>> FindingsTable("evaluation").warning("marked_bad", num=3)
        'marked_bad: 3 rows are skipped: their answer is marked bad'
        """
        return f"{row_id}: " + "; ".join(filter(None, self.message_and_cure(row_id, **fields)))

    def message_and_cure(self, row_id: str, /, **fields: Any) -> tuple[str, str]:
        """Return the two texts of a warning; the cure may be empty."""
        return _texts(self.rows("warnings")[row_id], fields)

    def refusal(self, row_id: str, /, **fields: Any) -> FineTuningError:
        """Return the error by which a request is refused: by its rule, or for what is wrong."""
        row = self.rows("refusals")[row_id]
        message, cure = _texts(row, fields)
        if "rule" in row:
            return anti_patterns.refusal(row["rule"], message, cure)
        return ERRORS[row.get("error", "bad_input")](f"{message}; {cure}")

    def sentence(self, row_id: str, /, **fields: Any) -> str:
        """Return a sentence of a report."""
        return str(self.rows("sentences")[row_id]).format(**fields)

    def rows(self, kind: str) -> dict[str, Any]:
        """Return the rows of one kind, by id."""
        found: dict[str, Any] = facts.table_of("findings.toml", self.package)[kind]
        return found


def _texts(row: dict[str, Any], fields: dict[str, Any]) -> tuple[str, str]:
    return row["message"].format(**fields), row.get("cure", "").format(**fields)
