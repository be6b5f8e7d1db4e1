"""Tables about TRL's and PEFT's arguments: what this package sets itself, old names, limits."""

from typing import Any

# Arguments that a run sets itself, and why a request may not.
OURS: dict[str, str] = {
    "output_dir": "a run writes into its own directory; get_run names its artifacts",
    "run_name": "pass `name` to the launch",
    "trust_remote_code": "code that comes with a model is never executed",
    "push_to_hub": "nothing is uploaded; publish the artifact yourself",
    "hub_token": "nothing is uploaded, and tokens never enter a run directory",
    "hub_model_id": "nothing is uploaded; publish the artifact yourself",
    "hub_strategy": "nothing is uploaded; publish the artifact yourself",
    "hub_private_repo": "nothing is uploaded; publish the artifact yourself",
    "hub_always_push": "nothing is uploaded; publish the artifact yourself",
    "hub_revision": "nothing is uploaded; publish the artifact yourself",
    "trackio_space_id": "nothing is uploaded; metrics.jsonl and report.html are in the run",
    "trackio_bucket_id": "nothing is uploaded; metrics.jsonl and report.html are in the run",
    "trackio_static_space_id": "nothing is uploaded; metrics.jsonl and report.html are in the run",
    "resume_from_checkpoint": "resume_run continues a run from its last valid checkpoint",
    "auto_find_batch_size": "it changes the effective batch silently; when memory runs out, a run "
    "halves per_device_train_batch_size and doubles gradient_accumulation_steps by itself",
    "enable_jit_checkpoint": "a run saves on SIGTERM by itself",
    "save_strategy": "a run saves every `save_steps` steps; set that",
    "save_only_model": "without the optimizer's state a run could not be resumed",
    "save_total_limit": "a run keeps its last two checkpoints and the best one",
    "save_on_each_node": "a run writes one set of checkpoints",
    "activation_checkpointing": "pass gradient_checkpointing, its usual name",
    "load_best_model_at_end": "it is on whenever there is a validation set",
    "ignore_data_skip": "a resumed run would see other examples than the uninterrupted one",
    "restore_callback_states_from_checkpoint": "it is always on",
    "use_cpu": 'pass backend_options={"device": "cpu"}',
    "do_train": "a run trains",
    "do_eval": "pass `validation`",
    "do_predict": "evaluate measures a finished run",
    "dataset_text_field": "a dataset of plain text has the field `text`",
    "dataset_kwargs": "examples are tokenized, masked and checked by the run itself",
    "remove_unused_columns": "examples are tokenized, masked and checked by the run itself",
    "label_names": "examples are tokenized, masked and checked by the run itself",
    "logging_nan_inf_filter": "it would hide a loss that is not a number",
    "logging_strategy": "a run logs every `logging_steps` steps; set that",
    "disable_tqdm": "get_run shows the progress",
    "log_level": "the log is in log.txt of the run",
    "log_level_replica": "the log is in log.txt of the run",
    "local_rank": "the launcher sets it",
    "deepspeed": "several devices are chosen in backend_options",
    "fsdp": "several devices are chosen in backend_options",
    "fsdp_config": "several devices are chosen in backend_options",
    "parallelism_config": "several devices are chosen in backend_options",
    "accelerator_config": "several devices are chosen in backend_options",
    "eos_token": "the tokenizer's own is used, in training as in what is published",
    "pad_token": "the tokenizer's own is used; padding is masked by position",
    "base_model_name_or_path": "pass `model`",
    "revision": "the folder or snapshot that `model` resolves to is used",
    "inference_mode": "the adapter is trained",
    "auto_mapping": "it is set by PEFT",
    "peft_version": "it is set by PEFT",
    "loftq_config": "LoftQ needs a quantizing start that a reload would not repeat; use qlora",
    "eva_config": "EVA needs a pass over the data before training, which is not done here",
    "corda_config": "CorDA needs a pass over the data before training, which is not done here",
    "lora_ga_config": "LoRA-GA needs a pass over the data before training, which is not done here",
    "megatron_config": "Megatron layers are not supported",
    "megatron_core": "Megatron layers are not supported",
    "layer_replication": "it changes the base model, so the adapter would not fit the original",
}

# What a suggestion for PEFT and TRL has to say and a run says anyway: taken if it is this value.
FIXED: dict[str, Any] = {
    "task_type": "CAUSAL_LM",
    "peft_type": "LORA",
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
}
# What a suggestion for a certain GPU says and the plan decides anew for the device at hand.
DECIDED: frozenset[str] = frozenset({"bf16", "fp16"})

# Old names, as articles and scripts still have them. Source: TRL 1.16 and transformers 5.24, by
# trying each of them (TypeError).
RENAMED: dict[str, str] = {
    "max_seq_length": "it is `max_length` now",
    "max_prompt_length": "`max_length` bounds prompt and answer together",
    "max_completion_length": "`max_length` bounds prompt and answer together",
    "evaluation_strategy": "it is `eval_strategy` now",
    "warmup_ratio": "`warmup_steps` below 1 is a fraction of all steps",
    "group_by_length": 'it is train_sampling_strategy="group_by_length" now',
    "no_cuda": 'pass backend_options={"device": "cpu"}',
    "torch_dtype": "the plan chooses the precision of the device",
    "tokenizer": "the model's own tokenizer is used",
    "rpo_alpha": 'combine losses: loss_type=["sigmoid", "sft"] with loss_weights',
    "reference_free": "it is gone; the reference is the model before training",
    "lora_rank": "the rank is `r`",
    "lora_r": "the rank is `r`",
    "rank": "the rank is `r`",
    "alpha": "it is `lora_alpha`",
    "dropout": "it is `lora_dropout`",
    "batch_size": "it is `per_device_train_batch_size`",
    "epochs": "it is `num_train_epochs`",
    "lr": "it is `learning_rate`",
    "lr_scheduler": "it is `lr_scheduler_type`",
    "num_epochs": "it is `num_train_epochs`",
}

# Lowest value, highest value, advice. Wide: they catch slips of the keyboard, not bad choices.
LIMITS: dict[str, tuple[float, float, str]] = {
    "r": (1, 1024, "ranks of 8 to 64 are usual"),
    "lora_alpha": (1, 4096, "once or twice the rank is usual"),
    "lora_dropout": (0.0, 0.9, "0 to 0.1 is usual"),
    "learning_rate": (1e-9, 1e-1, "2e-4 is usual for LoRA, 2e-5 for full, 5e-6 for DPO with LoRA"),
    "per_device_train_batch_size": (1, 4096, "examples per micro-batch and device"),
    "per_device_eval_batch_size": (1, 4096, "examples per micro-batch and device"),
    "gradient_accumulation_steps": (1, 65536, "micro-batches per optimizer step"),
    "num_train_epochs": (0.001, 1000, "1 to 3 is usual"),
    "max_steps": (1, 10_000_000, "leave it out, or pass -1, to let num_train_epochs decide"),
    "max_length": (8, 4_194_304, "tokens of prompt and answer together"),
    "warmup_steps": (0, 1_000_000, "below 1 it is a fraction of all steps; 0.03 to 0.1 is usual"),
    "weight_decay": (0.0, 1.0, "0 to 0.1 is usual"),
    "max_grad_norm": (0.0, 1000.0, "1 is usual"),
    "logging_steps": (1, 1_000_000, "steps between two lines of metrics.jsonl"),
    "eval_steps": (1, 1_000_000, "whole steps between two evaluations, no share of all"),
    "save_steps": (1, 1_000_000, "whole steps between two checkpoints, no share of all"),
    "beta": (1e-4, 10.0, "0.1 is usual, 0.01 to 0.5 is seen"),
    "label_smoothing": (0.0, 0.499, "0, or 1e-3 for exo_pair"),
    "desirable_weight": (0.0, 1000.0, "see references/preference.md"),
    "undesirable_weight": (0.0, 1000.0, "see references/preference.md"),
    "ld_alpha": (0.0, 1.0, "the weight of the tokens by which the longer answer is longer"),
    "seed": (0, 2**32 - 1, "any integer in this range works"),
    "data_seed": (0, 2**32 - 1, "any integer in this range works"),
    "neftune_noise_alpha": (0.0, 100.0, "5 is usual"),
}
UNSET = {"max_steps": -1}
"""Values with which the trainer takes an argument as not given."""
WHOLE = {"logging_steps", "eval_steps", "save_steps"}
"""Numbers that transformers takes as floats, and refuses above 1 unless they are whole."""

# What a text argument may be, where the trainer would find a wrong one late or not at all.
# Source: TRL 1.16 and transformers 5.24, sft_trainer.py, dpo_trainer.py, trainer_utils.py.
CHOICES: dict[tuple[str, str], frozenset[Any]] = {
    ("sft", "loss_type"): frozenset({"nll", "dft"}),
    ("dpo", "loss_type"): frozenset(
        {
            "sigmoid",
            "hinge",
            "ipo",
            "exo_pair",
            "nca_pair",
            "robust",
            "bco_pair",
            "sppo_hard",
            "aot",
            "aot_unpaired",
            "apo_zero",
            "apo_down",
            "discopop",
            "sft",
            "sigmoid_norm",
        }
    ),
    ("kto", "loss_type"): frozenset({"kto", "apo_zero_unpaired"}),
    ("dpo", "f_divergence_type"): frozenset(
        {"reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"}
    ),
    ("dpo", "f_divergence_losses"): frozenset(
        {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
    ),
    ("sft", "packing_strategy"): frozenset({"bfd", "bfd_split", "wrapped"}),
    ("any", "truncation_mode"): frozenset({"keep_start"}),
    ("any", "eval_strategy"): frozenset({"no", "steps", "epoch"}),
    ("any", "bias"): frozenset({"none", "all", "lora_only"}),
    ("any", "train_sampling_strategy"): frozenset({"random", "sequential", "group_by_length"}),
    ("any", "lr_scheduler_type"): frozenset(
        {
            "linear",
            "cosine",
            "cosine_with_restarts",
            "polynomial",
            "constant",
            "constant_with_warmup",
            "inverse_sqrt",
            "cosine_with_min_lr",
            "cosine_warmup_with_min_lr",
            "warmup_stable_decay",
        }
    ),
}
