"""suggest_lora_config: what to train, how, and why."""
