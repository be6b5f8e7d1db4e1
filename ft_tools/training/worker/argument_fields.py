"""Print the fields of the installed trainers' configurations as JSON: name -> JSON schema.

A process of its own, because these imports load torch; `ft_tools.training.arguments` keeps the
answer until a package changes.
"""

import dataclasses
import json
import sys
from typing import Any, get_type_hints

from peft import LoraConfig
from pydantic import TypeAdapter
from trl import DPOConfig, GRPOConfig, KTOConfig, SFTConfig

CONFIGS = {
    "sft": SFTConfig,
    "dpo": DPOConfig,
    "kto": KTOConfig,
    "grpo": GRPOConfig,
    "lora": LoraConfig,
}


def schemas(config: type[Any]) -> dict[str, Any]:
    """Return the JSON schema of each field's type."""
    hints = get_type_hints(config)
    fields = dataclasses.fields(config)
    return {field.name: TypeAdapter(hints[field.name]).json_schema() for field in fields}


if __name__ == "__main__":
    found = {name: schemas(config) for name, config in CONFIGS.items()}
    # Imports of libraries may print before it.
    sys.stdout.write("\n" + json.dumps(found))
