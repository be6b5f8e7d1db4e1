"""What explain takes."""

from pydantic import Field

from ft_tools.contract import Request


class ExplainRequest(Request):
    """Look up an option, an id of a report, a threshold with its source, or any question.

    Returns at most 500 tokens, and the ids of further sections.
    """

    topic: str = Field(
        min_length=1,
        max_length=300,
        description="'launch_sft options', 'evaluate.systems', a finding's id, or keywords.",
    )
