"""The rules that only a worker can see to."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from ft_tools.errors import Refused
from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import load
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.shipping.worker import ship
from ft_tools.shipping.worker.proof import HeldOut, Proof
from ft_tools.shipping.worker.shipment import Shipment

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


def test_a_merge_that_lost_the_adapter_is_refused_by_its_rule(workspace, tiny_model_in):
    torch.manual_seed(0)
    base = workspace / tiny_model_in
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(workspace / "adapter")
    about = workspace / "adapter" / "adapter_config.json"
    config = json.loads(about.read_bytes()) | {"base_model_name_or_path": tiny_model_in}
    about.write_text(json.dumps(config))
    plan = ShipPlan.model_validate(merge_and_quantize(ShipRequest(source="adapter")).plan)
    shutil.copytree(base, workspace / "merged")
    shipment = Shipment(None, plan, base, workspace, workspace)

    place, merged = Placement("cpu", "float32", 0), workspace / "merged"
    text = HeldOut("given", [[5, 17, 99, 3, 64, 20, 11, 42]], [], [])
    model = load(merged, place)
    proof = Proof(None, text, workspace / "rows.f32", model.config.vocab_size)
    proof.fill(model)
    with pytest.raises(Refused, match=r"^unproven_merge: .*Override: None"):
        ship.check_merge(shipment, workspace / "adapter", proof, place)
