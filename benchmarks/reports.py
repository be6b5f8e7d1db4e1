"""What the tools' reports put into an agent's context: tokens of both forms, per tool.

Makes the oracle's requests, and prints for each tool the median and the largest report in tokens
of o200k_base (with bpe-openai; else a token for 2.9 characters). Quoted rows count, too.

    python -m benchmarks.reports [--slow] [GROUP ...] [--show TOOL]
"""

import argparse
import json
from collections import ChainMap, defaultdict
from statistics import median
from typing import Any

from pydantic import BaseModel

from benchmarks.surface import num_tokens
from ft_tools.concise import presented
from ft_tools.contract import compact
from tests.oracle import cases, running

CHARS_A_TOKEN = 2.9


def size_of(content: Any) -> int:
    """Return the tokens of a report as a client gets it."""
    text = json.dumps(content)
    return num_tokens(text) or round(len(text) / CHARS_A_TOKEN)


def main() -> None:
    """Make the requests and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("groups", nargs="*", metavar="GROUP")
    parser.add_argument("--slow", action="store_true", help="also the cases that train")
    parser.add_argument("--show", default="", metavar="TOOL", help="print a tool's reports")
    given = parser.parse_args()
    sizes = defaultdict[str, dict[str, tuple[int, int]]](dict)

    def observe(tool: str, request: BaseModel, report: BaseModel) -> None:
        content: dict[str, Any] = presented(report, tool, request)
        size = size_of(content), size_of(compact(report))
        # Of a run that was waited for, the last report.
        sizes[tool][request.model_dump_json()] = size
        if tool == given.show:
            print(size, json.dumps(content, indent=1), sep="\n")

    running.OBSERVERS.append(observe)
    known = cases.read("0.2")
    with running.Runner() as runner:
        for case in cases.choose(known, [], given.groups, not given.slow):
            if found := runner.values(case).get("error"):
                print(case.id, str(found)[:150])
    print("| tool | reports | median tokens | most | detailed, median | most |")
    print("|---|---|---|---|---|---|")
    for tool, rows in [*sorted(sizes.items()), ("all", ChainMap(*sizes.values()))]:
        concise, detailed = zip(*rows.values(), strict=True)
        print(
            f"| {tool} | {len(rows)} | {median(concise):.0f} | {max(concise)} "
            f"| {median(detailed):.0f} | {max(detailed)} |"
        )


if __name__ == "__main__":
    main()
