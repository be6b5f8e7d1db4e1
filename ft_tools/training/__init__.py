"""launch_sft, launch_dpo, launch_grpo: request -> plan (TRL/PEFT arguments) -> run."""
