"""launch_sft, launch_dpo: request -> plan (TRL/PEFT arguments) -> run."""
