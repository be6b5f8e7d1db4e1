"""What a creation warns of and refuses: the rows of findings.toml."""

from ft_tools.findings import FindingsTable

_TABLE = FindingsTable("creation")
warning, refusal, sentence = _TABLE.warning, _TABLE.refusal, _TABLE.sentence
