"""Let a judge compare the answers; verdicts are saved as they come (judge.jsonl)."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from ft_tools.evaluation.intervals.comparing import compare
from ft_tools.evaluation.intervals.comparison_verdict import Paired
from ft_tools.evaluation.intervals.length_control import preference_at_equal_length
from ft_tools.evaluation.metrics.judge import Judged, JudgeUnavailable, endpoint, judge_all
from ft_tools.evaluation.systems.system import Answered
from ft_tools.evaluation.worker.state import State
from ft_tools.publish import append_line

# Two coins agree this often: below it a judge answers by position.
CONSISTENT = 0.5

Measured = dict[str, tuple[Paired, tuple[float, float]]]
"""Measure -> what was found, and the values of baseline and tuned model."""


def judge_answers(state: State, answers: Mapping[str, list[Answered]]) -> Measured:
    """Compare the answers; if the judge fails, `state.unfinished` says so, its verdicts count."""
    state.session.phase("judging")
    path = state.session.run_dir / "judge.jsonl"
    done = read_verdicts(path)
    texts = [
        (e.asked, b.text, a.text)
        for e, b, a in zip(state.examples, answers["baseline"], answers["tuned"], strict=True)
    ]
    request = state.request
    assert request.judge_url is not None and request.judge_model is not None  # noqa: PT018
    try:
        ask = endpoint(request.judge_url, request.judge_model, request.judge_key_variable)
        budget = request.judge_max_calls
        for one in judge_all(ask, request.judge_criterion, texts, max_calls=budget, done=done):
            append_line(path, json.dumps(one.__dict__))
            done[one.index] = one
            state.session.progress(len(done), len(texts))
            state.check_stop()
    except JudgeUnavailable as error:
        state.unfinished = f"judged {len(done)} of {len(texts)} examples: {error}"
        state.session.event(state.unfinished, "warning")
    if len(done) < len(texts):
        why = "it failed" if state.unfinished else "judge_max_calls is used up"
        state.notes.append(f"the judge saw {len(done)} of {len(texts)} examples: {why}")
    return _measured(state, done, [len(after) - len(before) for _, before, after in texts])


def read_verdicts(path: Path) -> dict[int, Judged]:
    """Read what an earlier attempt was told; a torn last line is dropped."""
    done: dict[int, Judged] = {}
    for row in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            one = Judged(**json.loads(row))
        except (ValueError, TypeError):
            continue
        done[one.index] = one
    return done


def _measured(state: State, done: Mapping[int, Judged], longer: list[int]) -> Measured:
    if len(done) < 2:
        return {}
    order = sorted(done)
    wins = [done[i].score for i in order]
    known = state.settings.clusters
    clusters = [known[i] for i in order] if known else None
    seed = state.request.seed
    paired = compare([1 - win for win in wins], wins, clusters=clusters, seed=seed)
    found: Measured = {"judge": (paired, (1 - fmean(wins), fmean(wins)))}
    equal = preference_at_equal_length(wins, [longer[i] for i in order], seed, clusters=clusters)
    if equal is not None:
        preferred = (1 + equal.difference) / 2
        found["judge_equal_length"] = (equal, (1 - preferred, preferred))
    else:
        state.notes.append(
            "too few of the judge's verdicts are decisive to correct them for length"
        )
    asked = [one for one in done.values() if one.calls]
    if asked:
        agreed = fmean(one.consistent for one in asked)
        doubt = "; it mostly answers by position" if agreed < CONSISTENT else ""
        state.notes.append(
            f"judge: both orders agreed on {agreed:.0%} of {len(asked)} pairs{doubt}"
        )
    return found
