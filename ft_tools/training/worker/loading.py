"""What a training worker loads: checked inputs, tokenizer, model, the trainer's arguments."""

from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, load_peft_weights, set_peft_model_state_dict
from peft.tuners import lora
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    Trainer,
    TrainingArguments,
    set_seed,
)

from ft_tools.models.model_folder import tokenizer_folder
from ft_tools.models.quantized import DEQUANTIZED, prequantized
from ft_tools.models.worker.build import text_path
from ft_tools.models.worker.loading import (
    NO_HUB_KERNELS,
    model_class,
    repeat_heads_on_old_cards,
    use_kept_kernel,
)
from ft_tools.runs.processes.worker_session import Session
from ft_tools.training import defaults
from ft_tools.training.exports.script import trainer_arguments
from ft_tools.training.micro_batches import MicroBatch
from ft_tools.training.training_plan import TrainingPlan
from ft_tools.training.worker import ranks_agree

CHECKPOINTS = "checkpoints"
# What a configuration calls its experts.
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def load_tokenizer(plan: TrainingPlan) -> Any:
    """Load the tokenizer, with the chat template that the plan names."""
    folder = tokenizer_folder(plan.model.adapter, plan.model.load_from)
    revision = revision_of(plan) if folder == plan.model.load_from else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, **revision)
    template = plan.training.get("chat_template_path")
    if template is not None:
        tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def model_parts(plan: TrainingPlan, args: TrainingArguments) -> dict[str, Any]:
    """Return the trainer's configuration, model and new adapter, as its arguments.

    The configuration comes first: a sharded run's loading goes by it.
    """
    adapter = None
    if plan.peft is not None and plan.model.adapter is None:
        adapter = LoraConfig(task_type="CAUSAL_LM", **plan.peft)
    if plan.place.sharding == "fsdp" and plan.device.precision != "float32":
        # accelerate's own policy also rounds what the model returns, its log-probabilities, and the
        # gradients that are added up. Source: accelerate 1.15, dataclasses.py, set_mixed_precision.
        args.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy(
            param_dtype=getattr(torch, plan.device.precision), reduce_dtype=torch.float32
        )
    return {"args": args, "model": load_model(plan), "peft_config": adapter}


def load_model(plan: TrainingPlan) -> Any:
    """Load the base, with the adapter that training continues.

    The seed is set first: a new adapter's start is random and must be the same in each attempt.
    """
    if plan.engine == "mlx":
        return _hollow_model(plan)
    set_seed(plan.training["seed"])
    given = plan.training.get("model_init_kwargs") or {}
    extra = NO_HUB_KERNELS | {k: v for k, v in given.items() if k != "dtype"}
    if plan.quantization is not None:
        compute = getattr(torch, plan.device.precision)
        extra["quantization_config"] = BitsAndBytesConfig(
            **plan.quantization, bnb_4bit_compute_dtype=compute
        )
    use_kept_kernel(given.get("attn_implementation", ""))
    extra |= placement(plan)
    if plan.device.name == "cuda":
        repeat_heads_on_old_cards()
    dtype = getattr(torch, plan.weights_dtype)
    extra |= revision_of(plan)
    config = AutoConfig.from_pretrained(plan.model.load_from, **revision_of(plan))
    extra |= in_16_bits(config)
    loads = model_class(config)
    model = loads.from_pretrained(plan.model.load_from, dtype=dtype, **extra)
    model.config.use_cache = False
    fit_fused_head(model)
    if plan.place.sharding == "fsdp":
        # The trainer would take a model without weights for one that is spread over devices.
        model.__dict__.pop("hf_device_map", None)
    if plan.model.adapter is not None:
        model = PeftModel.from_pretrained(model, plan.model.adapter, is_trainable=True)
        # The preference trainers copy the adapter when they are made.
        _give_addresses(model)
    return model


def in_16_bits(config: PretrainedConfig) -> dict[str, Any]:
    """Return what makes transformers load FP8 and MXFP4 weights in 16 bits, as its arguments.

    Left to itself it keeps them packed where the GPU has kernels for them, and packed MXFP4 weights
    take no gradient. bitsandbytes, GPTQ and AWQ weights stay as they are.

    Source: https://huggingface.co/docs/transformers/quantization/mxfp4, .../finegrained_fp8
    """
    found = prequantized({"quantization_config": getattr(config, "quantization_config", None)})
    if found not in DEQUANTIZED:
        return {}
    return {"quantization_config": getattr(transformers, DEQUANTIZED[found])(dequantize=True)}


def placement(plan: TrainingPlan) -> dict[str, Any]:
    """Return where the base's weights go while they are loaded, as arguments of transformers.

    Of a run that FSDP shards, one rank of a machine reads them; the others get their parts from
    rank 0. transformers 5.24 leaves that to its caller.
    """
    if plan.place.sharding == "fsdp":
        return {"device_map": {"": "meta"}} if ranks_agree.local_rank() else {}
    if plan.device.name != "cpu" and plan.place.sharding == "ddp":
        return {"device_map": {"": f"cuda:{ranks_agree.local_rank()}"}}
    return {}


def train_in_float32(plan: TrainingPlan, model: Any) -> None:
    """Hold every weight that is trained in float32, and with it the optimizer's state.

    TRL casts the adapters of a 4-bit base to bfloat16, whose 8 bits round small updates away: of
    200 steps of 5e-6 an eighth of the weights notices anything. A full run keeps
    the number format of its plan.
    """
    _give_addresses(model)
    if plan.method == "full":
        return
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    # A reinforcement run writes its answers outside autocast: PEFT's `generate` calls the base, and
    # accelerate wraps the forward pass around it. Source: peft 0.21.2, peft_model.py, generate.
    if plan.device.precision != "float32" and plan.task != "grpo":
        for module in model.modules():
            if type(module) is lora.Linear and not any(module.use_dora.values()):
                # Autocast takes their product in 16 bits anyway: a float32 copy of each layer's
                # input, for each of its adapters, is memory and time for the same bits.
                module.cast_input_dtype_enabled = not _is_plain(module)
    if plan.quantization is not None and plan.model.adapter is not None:
        # What TRL's cast rounded away of an adapter that was trained before.
        set_peft_model_state_dict(model, load_peft_weights(plan.model.adapter, device="cpu"))


def _give_addresses(model: Any) -> None:
    """Take trained weights off the meta device, where each has the address 0; rank 0 fills them.

    accelerate tells an optimizer which sharded weights are its own by the addresses from before:
    ranks other than 0 of a run that FSDP shards would leave their parts of all of them untrained.

    Source: accelerate 1.15, accelerator.py, _prepare_fsdp2; PEFT puts an adapter beside its base.
    """
    for weight in model.parameters():
        if weight.requires_grad and weight.is_meta:
            held = torch.nn.Parameter(torch.empty_like(weight, device="cpu"))
            torch.utils.swap_tensors(weight, held)  # type: ignore[no-untyped-call]


def _is_plain(module: Any) -> bool:
    """Return whether a layer's adapters have no dropout, whose scaling rounds in 16 bits."""
    return all(isinstance(one, torch.nn.Identity) for one in module.lora_dropout.values())


def _hollow_model(plan: TrainingPlan) -> Any:
    """Return the model that MLX will compute: real names and shapes, no weights of its own."""
    from ft_tools.models.worker.mlx.peft_adapter import hollow

    model = hollow(AutoConfig.from_pretrained(plan.model.load_from), torch.float32)
    model.config.use_cache = False
    # A new adapter starts as with the torch engine: from this seed.
    set_seed(plan.training["seed"])
    if plan.model.adapter is not None:
        return PeftModel.from_pretrained(model, plan.model.adapter, is_trainable=True)
    return model


def connect_engine(plan: TrainingPlan, trainer: Trainer) -> None:
    """Give the trainer's model what computes it, where that is not torch."""
    if plan.engine == "mlx":
        from ft_tools.training.worker.mlx import bridge

        bridge.connect(plan, trainer)


def revision_of(plan: TrainingPlan) -> dict[str, str]:
    """Return the commit that was planned, as an argument of from_pretrained."""
    return {"revision": plan.model.revision} if plan.model.revision else {}


def fit_fused_head(model: Any) -> None:
    """Let TRL's fused head find the language model and the number of experts.

    It asks for `base_model`, which is the whole model in Llama 4's and Mllama's text classes, and
    for `num_experts`, which Granite's hybrid has under another name. Where that has no experts
    there is no router to balance, though its config says so; trainers read it when they are made.
    Nothing else of it is saved.

    Source: trl 1.16, trainer/utils.py, add_fused_lm_head
    """
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    path = text_path(whole)
    if whole.base_model is whole and "." not in path:
        whole.base_model_prefix = path
    config = whole.config.get_text_config(decoder=True)
    named = next((name for name in EXPERT_COUNTS if getattr(config, name, None)), None)
    if named is None and hasattr(config, "output_router_logits"):
        config.output_router_logits, config.router_aux_loss_coef = False, 0.0
    if named and not hasattr(config, "num_experts"):
        type(config).num_experts = property(lambda self: getattr(self, named))


def run_arguments(session: Session, plan: TrainingPlan, batch: MicroBatch) -> dict[str, Any]:
    """Return the arguments of the trainer's configuration that the run decides."""
    metric = defaults.best_metric(plan.task) if plan.patience is not None else None
    given = trainer_arguments(plan)
    own: dict[str, Any] = {
        # MLX recomputes blocks by itself.
        "activation_checkpointing": given["activation_checkpointing"] and plan.engine == "torch",
        "output_dir": str(session.run_dir / CHECKPOINTS),
        "save_total_limit": None,
        "metric_for_best_model": metric,
        "greater_is_better": metric and metric != "eval_loss",
        "restore_callback_states_from_checkpoint": True,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        **batch.arguments,
        "per_device_eval_batch_size": _evaluated_together(plan, batch),
        # A process of its own sends the metrics on: a tracker cannot hurt the run.
        "report_to": [],
    }
    if batch.group:
        # Where fewer answers are written together, fewer prompts are left out of an epoch, and the
        # same epochs would be more steps, of a longer schedule.
        own["max_steps"] = plan.estimate.steps
    if plan.place.num_processes > 1 and plan.place.sharding == "ddp":
        # Every trained weight is used in every step; looking for others would cost time.
        own["ddp_find_unused_parameters"] = False
    return given | own


def _evaluated_together(plan: TrainingPlan, batch: MicroBatch) -> int:
    """Return the examples of an evaluation's batch: as planned, unless memory ran out since."""
    planned: int = plan.training["per_device_train_batch_size"]
    asked: int = plan.training.get("per_device_eval_batch_size", planned)
    if batch.group:
        # Whole groups, which are answered and not trained on.
        held: int = plan.training["num_generations_eval"]
        return min(asked, max(held, batch.together // held * held))
    return asked if batch.size == planned else min(asked, batch.size)
