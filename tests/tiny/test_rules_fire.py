"""The rules that only a worker can see to."""

import shutil

import pytest
import torch

from ft_tools.errors import Refused
from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import load
from ft_tools.shipping.formats import find
from ft_tools.shipping.plan import plan_of
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.worker import ship
from ft_tools.shipping.worker.proof import HeldOut, Proof
from ft_tools.shipping.worker.shipment import Shipment
from tests.tiny.measuring_gguf import write_adapter

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


def test_a_merge_that_lost_the_adapter_is_refused_by_its_rule(workspace, tiny_model_in):
    torch.manual_seed(0)
    base = workspace / tiny_model_in
    write_adapter(base, workspace / "adapter", tiny_model_in, std=0.2)
    plan = plan_of(ShipRequest(source="adapter"), [find("safetensors")])
    shutil.copytree(base, workspace / "merged")
    shipment = Shipment(None, plan, base, workspace, workspace)

    place, merged = Placement("cpu", "float32", 0), workspace / "merged"
    text = HeldOut("given", [[5, 17, 99, 3, 64, 20, 11, 42]], [], [])
    model = load(merged, place)
    proof = Proof(None, text, workspace / "rows.f32", model.config.vocab_size)
    proof.fill(model)
    with pytest.raises(Refused, match=r"^unproven_merge: .*Override: None"):
        ship.check_merge(shipment, workspace / "adapter", proof, place, merged)
