"""All facts of a request: what it gives, and in its place what was measured."""

from dataclasses import replace

from ft_tools.advice.dataset import dataset_facts
from ft_tools.advice.documents import document_facts, reading_facts
from ft_tools.advice.evaluations import evaluation_facts
from ft_tools.advice.facts import Facts
from ft_tools.advice.given import given_facts
from ft_tools.advice.hardware import hardware_facts
from ft_tools.advice.request import ApproachRequest


def gather(request: ApproachRequest) -> Facts:
    """Return the facts of a request.

    Raises:
        NotFound: The dataset, the documents or an evaluation is not there.
        BadInput: A run is no finished evaluation, or the documents hold no text.
        OutsideWorkspace: A path leaves the workspace.
    """
    facts = given_facts(request)
    if request.dataset is not None:
        facts = facts.replaced_by(dataset_facts(request.dataset))
        if "test_rows" in facts.numbers:
            # What the caller counts may be another test.
            tested = {"eval_rows": facts.numbers["test_rows"]}
            facts = replace(facts, numbers=tested | dict(facts.numbers))
    if request.documents is not None:
        facts = facts.replaced_by(document_facts(request.documents))
    if request.evaluations:
        facts = facts.replaced_by(evaluation_facts(request.evaluations))
    facts = facts.replaced_by(hardware_facts(request.model, request.gpu))
    return facts.replaced_by(reading_facts(facts, request))
