"""Rows with the same prompt and different answers, for whoever decides which of them is right."""

from collections.abc import Iterator

from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.pipeline import Methods, process, with_completed_mapping
from ft_tools.data.read.example_texts import text_of
from ft_tools.data.request import PrepareRequest, ShowRequest

MOST_GROUPS, MOST_IN_GROUP = 10, 4
PROMPT_CHARS = 400


def contradicting_rows(request: ShowRequest) -> Iterator[tuple[int, str]]:
    """Yield the first rows with one prompt and different answers, group by group.

    Yields:
        The row, and the prompt (with the first row of a group) and answer.
    """
    asked, _ = with_completed_mapping(
        PrepareRequest(
            **request.model_dump(include={"path", "sheet", "query", "encoding", "where"}),
            mapping=request.mapping or ColumnMapping(),
        )
    )
    data = process(asked, Methods(with_pairs=False))
    scanned, lines = data.scan, data.scan.ledger.lines
    groups = [group[:MOST_IN_GROUP] for group in data.groups[:MOST_GROUPS]]
    wanted = {at for group in groups for at in group}
    texts: dict[int, tuple[str, str]] = {}
    for index, _, example in scanned.examples_at(wanted):
        prompt, answer = map(text_of, example.prompt_and_answer())
        mark = "" if example.label is None else f" [{'good' if example.label else 'bad'}]"
        texts[index] = prompt[:PROMPT_CHARS], f"=> {answer}{mark}"
    for group in groups:
        for at in group:
            prompt, answer = texts[at]
            yield lines[at], f"{prompt} {answer}" if at == group[0] else answer
