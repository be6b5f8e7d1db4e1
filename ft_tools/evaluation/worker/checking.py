"""Score answers by the declared checks."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ft_tools import workspace
from ft_tools.evaluation.findings import warning
from ft_tools.evaluation.held_out import HeldOut, scored_rows
from ft_tools.evaluation.results import Scores
from ft_tools.evaluation.worker.state import State
from ft_tools.metrics.checks.scorer import Scorer
from ft_tools.metrics.table import CHECK


def check_scores(
    state: State, texts: Mapping[str, Sequence[str]], examples: Sequence[HeldOut]
) -> dict[str, Scores]:
    """Return system -> `checks`, and each of several, -> a value for each example.

    What a check breaks on is 0, and a note says so.
    """
    state.session.phase("checking the answers")
    rows, found = scored_rows(examples), {}
    with Scorer(state.request.checks, workspace.roots()[0], state.session.run_dir) as scorer:
        for system, answers in texts.items():
            scores = scorer.score(rows, answers)
            state.check_stop()
            broken = Counter(k for one in scores for k, v in one.parts.items() if v is None)
            if broken:
                num = sum(one.total is None for one in scores)
                names = ", ".join(broken)
                state.notes.append(
                    warning("checks_broken", num=num, total=len(rows), system=system, names=names)
                )
            found[system] = {"checks": [one.total or 0.0 for one in scores]}
            for name in scores[0].parts if len(state.request.checks) > 1 else ():
                found[system][CHECK + name] = [one.parts[name] or 0.0 for one in scores]
    return found
