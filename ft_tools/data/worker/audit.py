"""Audit a dataset as a run: semantic near-duplicates with MiniLM, real tokens with a model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ft_tools import workspace
from ft_tools.data.audit import Methods, perform
from ft_tools.data.read.example_texts import lengths_of
from ft_tools.data.read.scan import Measure
from ft_tools.data.read.scanned import Scan
from ft_tools.data.readable_tokenizer import readable_tokenizer
from ft_tools.data.repeats.near import BY_WORDS, FindNear, Near, find_lexical
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.data.understand.lengths import METHOD
from ft_tools.data.worker.meaning_or_words import (
    comparing_seconds,
    encoding_seconds,
    is_quick_enough,
    reason_for,
    too_many_rows,
)
from ft_tools.data.worker.tokens import TemplateTokens
from ft_tools.formats.example import Example
from ft_tools.formats.readers.source import find_sources
from ft_tools.formats.trained_pieces import Masked, no_masks
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
    find = _search(session, request, progress)

    def find_near(scanned: Scan, asked: AuditRequest) -> Near:
        session.phase("looking for near-duplicates")
        near = find(scanned, asked)
        session.phase("writing")
        return near

    session.phase("reading")
    methods = Methods(
        find_near=find_near,
        measure=measure,
        token_method=method,
        masks=masks,
        token_notes=lambda: [*unread, *notes()],
        tick=progress.rows,
        named_model=asked.model,
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


def _search(session: Session, request: AuditRequest, progress: Progress) -> FindNear:
    """Return how near-duplicates are searched."""
    if request.near_duplicates not in {"auto", "semantic"}:
        return _lexical(BY_WORDS)
    sources = find_sources(workspace.existing(request.path))
    size_bytes = sum(source.size_bytes for source in sources)
    minilm = minilm_for(request.near_duplicates, size_bytes)
    if minilm is None:
        why = f"near-duplicates were compared by words: {why_by_words(size_bytes)}"
        return _lexical(why)
    session.phase("loading MiniLM")
    # A search by words needs no torch.
    from ft_tools.data.worker.near_by_meaning import ByMeaning
    from ft_tools.similarity.worker.candidates import pairs_per_second

    search = ByMeaning(minilm, session.phase, progress.of)
    if request.near_duplicates == "semantic":
        return search.find
    speed = search.model.tokens_per_second()
    seconds = encoding_seconds(size_bytes, speed)
    why = reason_for(seconds, speed)
    if not is_quick_enough(seconds):
        return _lexical(why)

    def find(scanned: Scan, asked: AuditRequest) -> Near:
        num_rows = sum(len(scanned.ledger.kept(validation=part)) for part in (False, True))
        whole = seconds + comparing_seconds(num_rows, pairs_per_second())
        if not is_quick_enough(whole):
            return _lexical(too_many_rows(num_rows, whole))(scanned, asked)
        near = search.find(scanned, asked)
        return replace(near, assumptions=(why, *near.assumptions))

    return find


def _lexical(why: str) -> FindNear:
    """Return the search by words, which says why it is done."""
    return lambda scanned, asked: find_lexical(scanned, asked, why, MAX_WORK_OF_A_RUN)


if __name__ == "__main__":
    main(work)
