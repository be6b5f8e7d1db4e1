"""The tools, one row each; the server and the command line are made from this table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from ft_tools.approach import ApproachReport, ApproachRequest, recommend_approach
from ft_tools.runs.observe import ListRunsReport, ListRunsRequest, RunRequest, get_run, list_runs
from ft_tools.runs.records import RunReport
from ft_tools.runs.stop import CancelRequest, ResumeRequest, cancel_run, resume_run

Effect = Literal["reads", "starts", "stops"]


@dataclass(frozen=True)
class Tool:
    """A function of `ft_tools`, the two models that bound it, and what it does to the world."""

    title: str
    function: Callable[[Any], BaseModel]
    request: type[BaseModel]
    report: type[BaseModel]
    effect: Effect


TOOLS = {
    "recommend_approach": Tool(
        "Choose an approach", recommend_approach, ApproachRequest, ApproachReport, "reads"
    ),
    "list_runs": Tool("List runs", list_runs, ListRunsRequest, ListRunsReport, "reads"),
    "get_run": Tool("Look at a run", get_run, RunRequest, RunReport, "reads"),
    "cancel_run": Tool("Cancel a run", cancel_run, CancelRequest, RunReport, "stops"),
    "resume_run": Tool("Resume a run", resume_run, ResumeRequest, RunReport, "starts"),
}
