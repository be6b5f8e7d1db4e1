"""The tools, one row each; the server and the command line are made from this table.

What a client sees of a tool is its request: the docstring is the description, the fields are the
arguments. The function, with all that it imports, is loaded when it is called for the first time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc
from pkgutil import resolve_name
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, TypeAdapter

from ft_tools import system_errors
from ft_tools.advice.request import ApproachRequest
from ft_tools.contract import Request
from ft_tools.creation.request import CreateRequest
from ft_tools.data.request import AuditRequest, PrepareRequest, ShowRequest
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.explain.request import ExplainRequest
from ft_tools.lora.request import LoraRequest
from ft_tools.memory.request import VramRequest
from ft_tools.runs.request import CancelRequest, ResumeRequest, RunRequest
from ft_tools.shipping.request import ShipRequest
from ft_tools.training.grpo.request import GrpoRequest
from ft_tools.training.request import DpoRequest, SftRequest

Effect = Literal["reads", "starts", "stops"]


@dataclass(frozen=True)
class Tool:
    """A function of `ft_tools`, what it takes, and what it does to the world."""

    title: str
    address: str
    request: type[Request]
    effect: Effect
    main: tuple[str, ...] = ()
    """The arguments that most calls need; all others are keys of `options`. Empty: all of them."""

    @property
    def options(self) -> list[str]:
        """Return the arguments that are keys of `options`."""
        return [key for key in self.request.model_fields if self.main and key not in self.main]

    @property
    def description(self) -> str:
        """Return what a model reads to choose the tool."""
        return getdoc(self.request) or ""

    @property
    def function(self) -> Callable[[Any], BaseModel]:
        """Return the function, from a request to a report."""
        function: Callable[[Any], BaseModel] = resolve_name(self.address)
        return function

    def parse_report(self, content: Any) -> BaseModel:
        """Return what the function returned, out of its JSON values."""
        report: BaseModel = TypeAdapter(get_type_hints(self.function)["return"]).validate_python(
            content
        )
        return report

    def call(self, request: Request) -> BaseModel:
        """Load the function if this is its first call, and call it.

        Raises:
            FineTuningError: The request cannot be met, or the system refused a file.
        """
        with system_errors.explained():
            return self.function(request)


TOOLS = {
    "recommend_approach": Tool(
        "Choose an approach",
        "ft_tools.advice.tool:recommend_approach",
        ApproachRequest,
        "reads",
        ("problem", "considering", "dataset", "documents", "evaluations", "model", "gpu"),
    ),
    "audit_dataset": Tool(
        "Audit a dataset",
        "ft_tools.data.tool:audit_dataset",
        AuditRequest,
        "starts",
        ("path", "model", "purpose", "output_dir"),
    ),
    "prepare_dataset": Tool(
        "Prepare training files",
        "ft_tools.data.prepare:prepare_dataset",
        PrepareRequest,
        "starts",
        ("path", "mapping", "output_dir", "confirm"),
    ),
    "create_dataset": Tool(
        "Create training rows",
        "ft_tools.creation.tool:create_dataset",
        CreateRequest,
        "starts",
        ("source", "kind", "teacher", "checks", "output_dir", "budget_usd", "confirm"),
    ),
    "show_examples": Tool(
        "Quote examples",
        "ft_tools.data.show.show_examples:show_examples",
        ShowRequest,
        "reads",
        ("path", "lines", "field"),
    ),
    "suggest_lora_config": Tool(
        "Suggest a configuration",
        "ft_tools.training.suggestion:suggest_lora_config",
        LoraRequest,
        "reads",
        ("model", "dataset", "goal", "gpu"),
    ),
    "estimate_vram": Tool(
        "Estimate GPU memory",
        "ft_tools.memory.tool:estimate_vram",
        VramRequest,
        "reads",
        ("model", "gpu", "method", "seq_len", "micro_batch"),
    ),
    "launch_sft": Tool(
        "Fine-tune on examples",
        "ft_tools.training.tool:launch_sft",
        SftRequest,
        "starts",
        ("model", "dataset", "validation", "training", "peft", "confirm", "request_id"),
    ),
    "launch_dpo": Tool(
        "Fine-tune on preferences",
        "ft_tools.training.tool:launch_dpo",
        DpoRequest,
        "starts",
        ("model", "sft_run", "dataset", "validation", "training", "peft", "confirm", "request_id"),
    ),
    "launch_grpo": Tool(
        "Reinforce checked answers",
        "ft_tools.training.tool:launch_grpo",
        GrpoRequest,
        "starts",
        (
            *("model", "sft_run", "dataset", "rewards", "validation", "training", "peft"),
            *("confirm", "request_id"),
        ),
    ),
    "merge_and_quantize": Tool(
        "Merge and quantize",
        "ft_tools.shipping.tool:merge_and_quantize",
        ShipRequest,
        "starts",
        ("source", "formats", "output_dir", "confirm"),
    ),
    "evaluate": Tool(
        "Measure before and after",
        "ft_tools.evaluation.tool:evaluate",
        EvaluateRequest,
        "starts",
        ("model", "systems", "dataset", "metrics", "target", "confirm"),
    ),
    "get_run": Tool("Follow runs", "ft_tools.runs.tool:get_run", RunRequest, "reads", ("run_id",)),
    "cancel_run": Tool("Cancel a run", "ft_tools.runs.tool:cancel_run", CancelRequest, "stops"),
    "resume_run": Tool("Resume a run", "ft_tools.runs.tool:resume_run", ResumeRequest, "starts"),
    "explain": Tool("Explain", "ft_tools.explain.tool:explain", ExplainRequest, "reads"),
}
