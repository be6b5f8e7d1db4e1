"""What an evaluation warns of and refuses: the rows of findings.toml."""

from ft_tools.findings import FindingsTable

_TABLE = FindingsTable("evaluation")
warning, refusal = _TABLE.warning, _TABLE.refusal
