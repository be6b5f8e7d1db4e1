"""Audit a dataset as a run: semantic near-duplicates with MiniLM, real tokens with a model."""

from collections.abc import Callable
from pathlib import Path

from ft_tools.data.audit import Methods, perform
from ft_tools.data.read.scan import Measure, Scan, lengths_of
from ft_tools.data.repeats.lexical import MAX_WORK_OF_A_RUN
from ft_tools.data.repeats.minilm import minilm_for, why_by_words
from ft_tools.data.repeats.near import BY_WORDS, Near, find_lexical
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.data.understand.lengths import METHOD
from ft_tools.data.worker.tokens import TemplateTokens
from ft_tools.examples.example import Example
from ft_tools.examples.source import find_sources
from ft_tools.examples.trained_pieces import Masked, no_masks
from ft_tools.runs.session import Session, Stopped, main
from ft_tools.workspace import existing


class Progress:
    """Tells the run how far it is, and stops it when that was asked."""

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
    request = AuditRequest.model_validate_json(session.request_json())
    progress = Progress(session)
    measure: Measure = lengths_of
    method = METHOD
    notes: Callable[[], list[str]] = list
    masks: Callable[[Example], list[Masked]] = no_masks
    tokens = None
    if request.model is not None:
        session.phase("loading the tokenizer")
        tokens = TemplateTokens(request.model, request.max_length)
        measure, method, notes = tokens.measure, tokens.method, tokens.notes
        masks = tokens.masks
    minilm = minilm_for(request.near_duplicates, _size_bytes(request))

    def find_near(scanned: Scan, asked: AuditRequest) -> Near:
        session.phase("looking for near-duplicates")
        if minilm is None:
            return _lexical(scanned, asked)
        # A search by words needs no torch.
        from ft_tools.data.worker.search import semantic as search

        near = search(minilm, session.phase, progress.of).find(scanned, asked)
        session.phase("writing")
        return near

    session.phase("reading")
    methods = Methods(
        find_near=find_near,
        with_pairs=minilm is None,
        measure=measure,
        token_method=method,
        masks=masks,
        token_notes=notes,
        tick=progress.rows,
        page_to=Path(session.run_dir) / "report.html",
    )
    try:
        report = perform(request, methods)
    finally:
        if tokens is not None:
            tokens.close()
    if report.outputs is not None:
        session.artifact("dataset", Path(report.outputs.train).parent)
    return report


def _size_bytes(request: AuditRequest) -> int:
    return sum(source.size_bytes for source in find_sources(existing(request.path)))


def _lexical(scanned: Scan, request: AuditRequest) -> Near:
    why = BY_WORDS
    if request.near_duplicates == "auto":
        why = f"near-duplicates were compared by words: {why_by_words(_size_bytes(request))}"
    return find_lexical(scanned, request, why, MAX_WORK_OF_A_RUN)


if __name__ == "__main__":
    main(work)
