"""The reviewed listing of the tools; run as a module to write it anew after a review."""

import json
from pathlib import Path
from typing import Any

from ft_tools.tools import TOOLS
from mcp_server.server import tool

GOLDEN = Path(__file__).with_name("tools_list.json")


def listing() -> list[dict[str, Any]]:
    """Return the tools as they go over the wire."""
    return [tool(name).model_dump(mode="json", by_alias=True, exclude_none=True) for name in TOOLS]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(listing(), indent=1) + "\n", encoding="utf-8")
