"""create_dataset: plan what is made, and start it when the plan is confirmed."""

from ft_tools.creation.plan import make_plan
from ft_tools.creation.request import CreateRequest
from ft_tools.runs.launch import Launch, launch


def create_dataset(request: CreateRequest) -> Launch:
    """Plan a dataset, or start the confirmed plan.

    Raises:
        BadData: A line of the source cannot be read as what it should be.
        BadInput: Arguments do not fit together, or the output folder is not empty.
        NotFound: The source or the test rows are not there.
        Refused: The teacher's terms forbid this use, and that was not accepted.
        PlanChanged: `confirm` belongs to another plan.
    """
    plan = make_plan(request)
    found = launch(
        "create_dataset",
        "create",
        request,
        plan,
        warnings=plan.warnings,
        slots=[],
        lineage={"source": request.source},
    )
    return found.model_copy(update={"next_steps": []}) if plan.is_open else found
