"""A local model as the teacher: loaded once, asked in batches, greedily."""

from collections.abc import Sequence
from pathlib import Path

from ft_tools.creation.requests import Requests
from ft_tools.creation.worker.teacher import Question
from ft_tools.endpoints.client import Reply, keep_reply
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.grammar import grammar_of
from ft_tools.evaluation.systems.models import find_model, load_plan
from ft_tools.evaluation.worker.answering import ModelSystem
from ft_tools.evaluation.worker.loaded_models import LoadedModels, prepare
from ft_tools.runs.processes.worker_session import Session, Stopped

BATCH = 16


def answer_locally(
    session: Session, requests: Requests, missing: Sequence[Question], path: Path
) -> None:
    """Let the model answer what is missing, and keep each reply.

    Raises:
        Stopped: It was requested; what was answered is kept.
    """
    files = requests.files
    assert files is not None and requests.teacher.model is not None  # noqa: PT018
    if not missing:
        return
    prepare(requests.request.seed, session.info.created_at)
    models = LoadedModels(load_plan([find_model(requests.teacher.model)]), [files])
    try:
        writer = models.writer(files)
        rendering = "chat" if writer.template is not None else "plain"
        grammar = grammar_of(requests.teacher.decoding, requests.schema, [])
        system = ModelSystem(
            writer,
            lambda question: writer.render(question, rendering),
            requests.max_tokens,
            BATCH,
            grammar,
        )
        asked = [HeldOut(line=i, messages=one.prompt.messages) for i, one in enumerate(missing)]
        done = 0
        for batch in system.answer(asked, lambda: session.should_stop):
            for i, answer in batch:
                reply = Reply(
                    text=answer.text,
                    prompt_tokens=answer.prompt_tokens,
                    completion_tokens=answer.num_tokens,
                    finished=answer.finished,
                    served_by=files.name,
                    seconds=answer.seconds,
                    finish_reason="stop" if answer.finished else "length",
                )
                keep_reply(path, missing[i].key, reply)
            done += len(batch)
            session.progress(done, len(missing))
    finally:
        models.close()
    if session.should_stop:
        raise Stopped
