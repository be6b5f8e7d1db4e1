"""Audit a dataset as a run: semantic near-duplicates with MiniLM, real tokens with a model."""

from dataclasses import replace
from pathlib import Path

from ft_tools import workspace
from ft_tools.data.audit import perform
from ft_tools.data.judge.findings import note
from ft_tools.data.pipeline import Methods
from ft_tools.data.read.scan import Scan
from ft_tools.data.repeats.near import FindNear, Near, find_lexical
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import readable_tokenizer
from ft_tools.data.worker.tokens import TemplateTokens
from ft_tools.formats.readers.source import find_sources
from ft_tools.runs.processes.worker_session import Session, Stopped, main
from ft_tools.similarity.minilm import minilm_for, why_by_words
from ft_tools.similarity.words import MAX_WORK_OF_A_RUN


class Progress:
    """Reports progress to the run, and stops it when that was asked."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last = 0

    def rows(self, done: int) -> None:
        """Report rows read; how many there are is not known before the end.

        Raises:
            Stopped: A cancel was asked; an audit leaves nothing half-written.
        """
        if self._session.should_stop:
            raise Stopped
        if done - self._last >= 5000 or done < self._last:
            self._session.metrics({"rows_done": float(done)})
            self._last = done

    def of(self, done: int, total: int) -> None:
        """Report texts encoded or compared, of a known total."""
        if self._session.should_stop:
            raise Stopped
        self._session.progress(done, total)


def work(session: Session) -> AuditReport:
    """Do the audit that request.json asks for."""
    asked = session.request(AuditRequest)
    request, unread = readable_tokenizer(asked)
    progress = Progress(session)
    methods = Methods(
        tick=progress.rows,
        named_model=asked.model,
        page_to=Path(session.run_dir) / "report.html",
        token_notes=lambda: unread,
    )
    tokens = None
    if request.model is not None:
        session.phase("loading the tokenizer")
        tokens = TemplateTokens(request.model, request.max_length)
        methods = replace(
            methods,
            measure=tokens.measure,
            token_method=tokens.method,
            token_notes=tokens.notes,
        )
    find = _search(session, request, progress)

    def find_near(scanned: Scan, asked: AuditRequest) -> Near:
        session.phase("looking for near-duplicates")
        near = find(scanned, asked)
        session.phase("writing")
        return near

    session.phase("reading")
    try:
        report = perform(request, replace(methods, find_near=find_near))
    finally:
        if tokens is not None:
            tokens.close()
    if report.outputs is not None:
        session.artifact("dataset", Path(report.outputs.folder))
    return report


def _search(session: Session, request: AuditRequest, progress: Progress) -> FindNear:
    """Return how near-duplicates are searched: by meaning where asked, or of small data."""
    if request.near_duplicates not in {"auto", "semantic"}:
        return _lexical("")
    sources = find_sources(workspace.existing(request.path))
    size_bytes = sum(source.size_bytes for source in sources)
    minilm = minilm_for(request.near_duplicates, size_bytes)
    if minilm is None:
        return _lexical(note("by_words_because", why=why_by_words(size_bytes)))
    session.phase("loading MiniLM")
    # A search by words needs no torch.
    from ft_tools.data.worker.near_by_meaning import ByMeaning

    return ByMeaning(minilm, session.phase, progress.of).find


def _lexical(why: str) -> FindNear:
    """Return the search by words, which says why it is done."""
    return lambda scanned, asked: find_lexical(scanned, asked, why, MAX_WORK_OF_A_RUN)


if __name__ == "__main__":
    main(work)
