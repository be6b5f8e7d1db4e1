"""launch_sft and launch_dpo: from a request to a plan, and exports to other trainers."""
