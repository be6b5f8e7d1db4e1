"""What shipping warns of, refuses and reports: the rows of findings.toml."""

from ft_tools.findings import FindingsTable

_TABLE = FindingsTable("shipping")
warning, refusal, sentence = _TABLE.warning, _TABLE.refusal, _TABLE.sentence
