"""TRL's fused head computes the model's own loss in classes that it does not find its way in."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl.trainer.utils import add_fused_lm_head

from ft_tools.training.request import DpoRequest
from ft_tools.training.worker import dpo, loading
from tests.tiny.trainings import LIBRARY_WARNINGS, QUICK, pairs, run_here, write_jsonl

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]
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
    # No experts, and a coefficient for their router as Granite's published configs have it.
    "granitemoehybrid-dense": MAMBA
    | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 32}
    | {"num_local_experts": 0, "num_experts_per_tok": 0, "output_router_logits": True}
    | {"router_aux_loss_coef": 0.01},
}


def model_of(kind, **sizes):
    torch.manual_seed(0)
    given = SIZES | KINDS[kind] | sizes
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind.removesuffix("-dense"), **given)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_fused_loss_is_the_models_own(kind):
    model = model_of(kind)
    ids = torch.randint(1, 64, (2, 12))
    model.eval().requires_grad_(False)
    loading.fit_fused_head(model)
    own = model(input_ids=ids, labels=ids).loss
    add_fused_lm_head(model, outputs=("log_probs",))
    fused = model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert float(-fused.log_probs.sum() / (ids.numel() - 2)) == pytest.approx(float(own), abs=1e-4)
    assert "num_experts" not in model.config.to_dict()


@pytest.mark.usefixtures("one_thread")
def test_preferences_train_a_model_whose_language_model_has_a_name_of_its_own(
    workspace, tiny_model_in
):
    # The reference of a full run is a second model, which TRL loads.
    folder = workspace / "llama4"
    words = AutoTokenizer.from_pretrained(workspace / tiny_model_in)
    words.save_pretrained(folder)
    model_of("llama4_text", vocab_size=len(words)).save_pretrained(folder)
    asked = DpoRequest(
        model=folder.name,
        dataset=write_jsonl(workspace / "pairs.jsonl", pairs(8)),
        method="full",
        training=QUICK | {"learning_rate": 1e-5, "max_steps": 1},
        accept_findings=["validation_unwatched"],
        accept_reason="a test",
    )
    assert run_here(dpo.work, asked, "llama4").steps == 1
