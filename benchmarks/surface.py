"""What the tools put into an agent's context: bytes, and tokens where a tokenizer is installed.

Counts `{name, description, inputSchema}` of each tool, the server's `instructions`, SKILL.md and
every section of the references. `--check` fails if the list with the instructions, SKILL.md or a
section is above its budget: 2,500 tokens of o200k_base for the list, and for SKILL.md.

    python -m benchmarks.surface [--check]
"""

import json
import sys
from pathlib import Path
from typing import Any

from ft_tools.explain.sections import MAX_CHARS, sections
from ft_tools.tools import TOOLS
from mcp_server.server import INSTRUCTIONS, tool

SKILL = Path(__file__).parents[1] / "SKILL.md"
LIST_BYTES = 10_900
"""Of the tool list with the instructions: about 2,500 tokens, at 4.2 bytes each."""
SKILL_BYTES = 9_700
"""Of SKILL.md: about 2,500 tokens, at 3.9 bytes each."""
SECTION_CHARS = round(MAX_CHARS * 1.25)


def listed(name: str) -> str:
    """Return what a client puts into its model's context for a tool."""
    whole: dict[str, Any] = tool(name).model_dump(mode="json", by_alias=True, exclude_none=True)
    shown = {key: whole[key] for key in ("name", "description", "inputSchema")}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def num_tokens(text: str) -> int | None:
    """Return the number of o200k_base tokens; None without bpe-openai."""
    try:
        import bpe_openai
    except ImportError:
        return None
    return len(bpe_openai.get_encoding("o200k_base").encode(text))


def main() -> int:
    """Print the sizes; return 1 if `--check` finds one above its budget."""
    texts = {name: listed(name) for name in TOOLS} | {"instructions": INSTRUCTIONS}
    for name, text in texts.items():
        print(f"{len(text.encode()):7,} bytes {num_tokens(text) or ''!s:>6}  {name}")
    measured = {
        "tool list with instructions": (len("".join(texts.values()).encode()), LIST_BYTES),
        "SKILL.md": (SKILL.stat().st_size, SKILL_BYTES),
    }
    for name, (size, budget) in measured.items():
        print(f"{size:7,} bytes  {name} (budget {budget:,})")
    found = sorted(sections(), key=lambda each: -len(each.text))
    total = sum(len(each.text) for each in found)
    print(f"{total:7,} characters in {len(found)} sections; longest {len(found[0].text):,}")
    above = [name for name, (size, budget) in measured.items() if size > budget]
    above += [each.id for each in found if len(each.text) > SECTION_CHARS]
    for name in above:
        print(f"above its budget: {name}", file=sys.stderr)
    return 1 if above and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
