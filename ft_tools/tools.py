"""The tools, one row each; the server and the command line are made from this table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from ft_tools.approach import ApproachReport, ApproachRequest, recommend_approach
from ft_tools.data.prepare.report import PrepareReport
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset
from ft_tools.data.quote import show_examples
from ft_tools.data.report import AuditReport, ShowReport
from ft_tools.data.request import AuditRequest, ShowRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.lora import LoraReport, LoraRequest, suggest_lora_config
from ft_tools.runs.launch import Launch
from ft_tools.runs.report import ListRunsReport, RunReport
from ft_tools.runs.request import CancelRequest, ListRunsRequest, ResumeRequest, RunRequest
from ft_tools.runs.tool import cancel_run, get_run, list_runs, resume_run
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.tool import launch_dpo, launch_sft
from ft_tools.vram.report import VramReport
from ft_tools.vram.request import VramRequest
from ft_tools.vram.tool import estimate_vram
from ft_tools.vram.trace import TraceRequest, TraceStarted, trace_vram

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
    "audit_dataset": Tool("Audit a dataset", audit_dataset, AuditRequest, AuditReport, "starts"),
    "prepare_dataset": Tool(
        "Prepare training files", prepare_dataset, PrepareRequest, PrepareReport, "starts"
    ),
    "show_examples": Tool("Quote examples", show_examples, ShowRequest, ShowReport, "reads"),
    "suggest_lora_config": Tool(
        "Suggest a configuration", suggest_lora_config, LoraRequest, LoraReport, "reads"
    ),
    "estimate_vram": Tool("Estimate GPU memory", estimate_vram, VramRequest, VramReport, "reads"),
    "trace_vram": Tool("Trace GPU memory", trace_vram, TraceRequest, TraceStarted, "starts"),
    "launch_sft": Tool("Fine-tune on examples", launch_sft, SftRequest, Launch, "starts"),
    "launch_dpo": Tool("Fine-tune on preferences", launch_dpo, DpoRequest, Launch, "starts"),
    "merge_and_quantize": Tool(
        "Merge and quantize", merge_and_quantize, ShipRequest, Launch, "starts"
    ),
    "evaluate": Tool("Measure before and after", evaluate, EvaluateRequest, Launch, "starts"),
    "list_runs": Tool("List runs", list_runs, ListRunsRequest, ListRunsReport, "reads"),
    "get_run": Tool("Look at a run", get_run, RunRequest, RunReport, "reads"),
    "cancel_run": Tool("Cancel a run", cancel_run, CancelRequest, RunReport, "stops"),
    "resume_run": Tool("Resume a run", resume_run, ResumeRequest, RunReport, "starts"),
}
