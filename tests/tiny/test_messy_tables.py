"""Ten messy tables, each from the file to a plan with a model in three tool calls."""

import pytest

from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.tool import launch_dpo, launch_sft
from tests.unit.messy_tables import TABLES
from tests.unit.taken_steps import taken

pytestmark = pytest.mark.tiny
LAUNCHES = {"launch_sft": (launch_sft, SftRequest), "launch_dpo": (launch_dpo, DpoRequest)}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_messy_table_becomes_a_plan_with_a_model_in_a_few_calls(workspace, tiny_model_in, table):
    table.write(workspace / table.name)
    shown = prepare_dataset(PrepareRequest(path=table.name))
    decided = shown.next_steps[0].arguments["mapping"] | table.decide
    made = taken(prepare_dataset(PrepareRequest(path=table.name, mapping=decided)))
    step = made.next_steps[0]
    launch, request = LAUNCHES[step.tool]
    report = launch(
        request(**step.arguments, model=tiny_model_in, backend_options={"device": "cpu"})
    )
    assert (report.plan["task"], report.started) == (table.task, False)
    assert report.plan["dataset"]["num_examples"] == made.outputs.num_train
    assert report.plan["counts"]["data"]["num_trained_tokens"] > 0
    assert not (workspace / "runs").exists()
