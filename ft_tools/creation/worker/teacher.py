"""Ask the teacher what is missing: each reply is kept before it counts."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ft_tools.creation.asking import AskingPlan
from ft_tools.creation.findings import refusal
from ft_tools.creation.pilots import CALLS, REPLIES
from ft_tools.creation.prompts import Asking, Prompt
from ft_tools.creation.worker.batches import ask_batches
from ft_tools.endpoints.budget import Budget, BudgetUsedUp
from ft_tools.endpoints.client import Client, Question, Reply, keep_reply, read_replies
from ft_tools.endpoints.spec import Price
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory

TEACHER = "the teacher"
"""Under which name its attempts are counted: no check can have it."""
HTTP = re.compile(r"http_[0-9]{3}")
"""Reason of a question that the server refused."""
BATCH = 16
"""Prompts that a local model answers at a time."""


def ask(
    session: Session, plan: AskingPlan, asking: Asking, prompts: Sequence[Prompt]
) -> dict[str, Reply]:
    """Return the replies to all prompts by key, as far as the budget allows.

    Raises:
        EndpointUnavailable: Several requests in a row failed after retries; resume_run goes on.
        Refused: The endpoint refused every request.
        Stopped: It was requested; what was in flight is kept.
    """
    endpoint, path = asking.teacher.endpoint, session.run_dir / REPLIES
    # Equal requests are one.
    asked = {one.key: one for prompt in prompts for one in asking.questions(prompt)}
    taken = take_over(path, plan.reused_from)
    known = {key: reply for key, reply in taken.items() if key in asked}
    missing = [one for key, one in asked.items() if key not in known]
    session.phase("asking the teacher")
    session.progress(len(known), len(asked))
    most_calls, price = endpoint.max_calls if endpoint else 0, plan.price or Price()
    most_usd = max((one.most_usd(price) for one in missing), default=0.0)
    limits = asking.max_usd(plan.judge_fraction, most_usd), asking.request.budget_usd
    budget = Budget(session.run_dir / CALLS, TEACHER, most_calls, *limits)
    if endpoint is None:
        answers = _answered_here(session, asking, missing)
    elif asking.request.batch:
        answers = ask_batches(session, endpoint, price, budget, missing)
    else:
        client = Client(endpoint, price, budget, path, keeps_refused=True)
        answers = _one_by_one(session, client, missing)
    try:
        for found in answers:
            known |= {missing[at].key: reply for at, reply in found}
            session.progress(len(known), len(asked))
    except BudgetUsedUp as error:
        session.event(f"{error}; what was answered is used", "warning")
    if session.should_stop:
        raise Stopped
    reasons = {reply.finish_reason for reply in known.values()}
    if endpoint is not None and reasons and all(map(HTTP.fullmatch, reasons)):
        # The fault is in all of them.
        raise refusal("all_refused", host=endpoint.host, reasons=", ".join(sorted(reasons)))
    return known


def take_over(path: Path, runs: Sequence[str]) -> dict[str, Reply]:
    """Copy the replies of earlier runs into a file of this run; return all that it has then."""
    known = read_replies(path)
    for run_id in runs:
        for key, reply in read_replies(directory.find(run_id) / path.name).items():
            if key not in known:
                keep_reply(path, key, reply)
                known[key] = reply
    return known


def _one_by_one(
    session: Session, client: Client, missing: Sequence[Question]
) -> Iterator[list[tuple[int, Reply]]]:
    """Yield replies with their places as they arrive; the client keeps each before."""
    with closing(client):
        yield from client.ask_all(missing, lambda: session.should_stop)


def _answered_here(
    session: Session, asking: Asking, missing: Sequence[Question]
) -> Iterator[list[tuple[int, Reply]]]:
    """Yield what a model of this machine answers; each reply is kept before."""
    files, name = asking.files, asking.teacher.model
    if not missing or files is None or name is None:
        return
    # Their imports take seconds, which whoever asks an endpoint does without.
    from ft_tools.evaluation.held_out import HeldOut
    from ft_tools.evaluation.systems.grammar import grammar_of
    from ft_tools.evaluation.systems.models import find_model, load_plan
    from ft_tools.evaluation.worker.loaded_models import LoadedModels, prepare
    from ft_tools.evaluation.worker.writer import ask_model

    prepare(asking.request.seed, session.info.created_at)
    asked = [HeldOut(at, list(map(dict, one.messages))) for at, one in enumerate(missing)]
    with closing(LoadedModels(load_plan([find_model(name)]), [files])) as models:
        writer = models.writer(files)
        rendering = "chat" if writer.template is not None else "plain"
        answers = ask_model(
            writer,
            lambda one: writer.render(one, rendering),
            asking.max_tokens,
            BATCH,
            asked,
            should_stop=lambda: session.should_stop,
            grammar=grammar_of(asking.teacher.decoding, asking.schema, []),
        )
        for batch in answers:
            for at, one in batch:
                reply = Reply(
                    text=one.text,
                    prompt_tokens=one.prompt_tokens,
                    completion_tokens=one.num_tokens,
                    finished=one.finished,
                    served_by=files.name,
                    seconds=one.seconds,
                    finish_reason="stop" if one.finished else "length",
                )
                keep_reply(session.run_dir / REPLIES, missing[at].key, reply)
                yield [(at, reply)]
