"""Rows with the same prompt and different answers, for whoever decides which of them is right."""

from pathlib import Path

from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.named_columns import completed
from ft_tools.data.read.example_texts import lengths_of, text_of
from ft_tools.data.read.rows import Reader
from ft_tools.data.read.scan import scan
from ft_tools.data.repeats import contradictions, duplicates
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.request import PrepareRequest, ShowRequest

MOST_GROUPS, MOST_IN_GROUP = 10, 4
PROMPT_CHARS = 400


def pairs_of(request: ShowRequest, path: Path) -> list[list[tuple[int, str]]]:
    """Return the first groups of rows with one prompt and different answers.

    Returns:
        Of each row of a group: its line, and its prompt (with the first row) and answer.
    """
    mapping = completed(request.mapping or ColumnMapping(), Reader(request, path))
    asked = PrepareRequest(
        **request.model_dump(include={"path", "sheet", "query", "encoding", "where"}),
        mapping=mapping,
    )
    scanned = scan(
        asked, (path, None), Benchmarks([]), lambda _: None, lengths_of, with_pairs=False
    )
    ledger = scanned.ledger
    duplicates.mark_exact(ledger, lambda _, __: None)
    groups = contradictions.find(ledger, lambda _, __: None)[:MOST_GROUPS]
    wanted = {at for group in groups for at in group[:MOST_IN_GROUP]}
    texts: dict[int, tuple[str, str]] = {}
    for index, row in scanned.read_again():
        if index in wanted:
            example = scanned.example_of(ledger.lines[index], row.value)
            prompt, answer = map(text_of, example.prompt_and_answer())
            mark = "" if example.label is None else f" [{'good' if example.label else 'bad'}]"
            texts[index] = prompt, f"{answer}{mark}"
        if len(texts) == len(wanted):
            break
    return [
        [
            (ledger.lines[at], _said(*texts[at], with_prompt=place == 0))
            for place, at in enumerate(group[:MOST_IN_GROUP])
        ]
        for group in groups
    ]


def _said(prompt: str, answer: str, *, with_prompt: bool) -> str:
    return f"{prompt[:PROMPT_CHARS]} => {answer}" if with_prompt else f"=> {answer}"
