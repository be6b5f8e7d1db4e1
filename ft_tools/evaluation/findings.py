"""What an evaluation warns of, refuses and says: the rows of findings.toml."""

from ft_tools.findings import FindingsTable

_TABLE = FindingsTable("evaluation")
warning, refusal, sentence = _TABLE.warning, _TABLE.refusal, _TABLE.sentence
