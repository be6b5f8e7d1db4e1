"""What is reported equals what the original libraries say of the same outputs."""

from statistics import fmean

import pytest
from rouge_score import rouge_scorer

from ft_tools.evaluation.worker import evaluate as worker
from ft_tools.runs.processes.worker_session import Session
from tests.tiny.evaluating import (
    LIBRARY_WARNINGS,
    TOWNS,
    answered_beforehand,
    by_metric,
)

pytestmark = [
    pytest.mark.tiny,
    *LIBRARY_WARNINGS,
]


def as_reported(value):
    return float(f"{value:.6g}")


def test_the_reported_rouge_is_rouge_scores_own(workspace, taught_model):
    references = [f"The parcel {i} lies in the depot of {TOWNS[i % 4]} today" for i in range(12)]
    texts = {
        "baseline": [f"Your parcel {i} is in a depot" for i in range(12)],
        "tuned": [f"The parcels {i} lay in {TOWNS[i % 3]}'s depot, today!" for i in range(12)],
    }
    run_dir = answered_beforehand(workspace, taught_model, references, texts, metrics=["rouge"])
    found = by_metric(worker.work(Session(run_dir)).comparisons)
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = rouge_scorer.RougeScorer(names)
    for name in names:
        for side in ("baseline", "tuned"):
            own = [
                scorer.score(reference, text)[name].fmeasure
                for reference, text in zip(references, texts[side], strict=True)
            ]
            assert getattr(found[name], side) == as_reported(fmean(own)), name
    assert found["rougeL"].baseline != found["rougeL"].tuned
