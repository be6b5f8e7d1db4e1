"""TRL's fused head computes the model's own loss in classes that it does not find its way in."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from ft_tools.training.worker import loading

pytestmark = pytest.mark.tiny
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_local_experts": 4,
    "pad_token_id": 0,
}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
KINDS = {
    "llama4_text": {"head_dim": 16, "intermediate_size_mlp": 32},
    "granitemoehybrid": MAMBA
    | {"layer_types": ["mamba", "attention"], "output_router_logits": True}
    | {"router_aux_loss_coef": 0.0},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_fused_loss_is_the_models_own(kind):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **KINDS[kind]))
    ids = torch.randint(1, 64, (2, 12))
    model.eval().requires_grad_(False)
    own = model(input_ids=ids, labels=ids).loss
    add_fused_lm_head(model, outputs=("log_probs",))
    loading.fit_fused_head(model)
    fused = model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert float(-fused.log_probs.sum() / (ids.numel() - 2)) == pytest.approx(float(own), abs=1e-4)
    assert "num_experts" not in model.config.to_dict()
