"""Score the tool calls of an agent against tests/skill/evals.json. No model judges here.

A transcript is a list of {"tool": name, "arguments": {...}} in the order of the calls;
`python -m tests.skill.checker TRANSCRIPTS.json` reads {eval id: transcript} and prints the score.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

MATCHERS = {
    "present": lambda wanted, value: wanted is (value is not None),
    "any_of": lambda wanted, value: value in wanted,
    "contains": lambda wanted, value: wanted in value,
    "contains_match": lambda wanted, value: any(re.search(wanted, str(each)) for each in value),
    "ends_with": lambda wanted, value: str(value).endswith(wanted),
    "matches": lambda wanted, value: re.search(wanted, str(value)) is not None,
}
"""How an argument is compared when the expectation is {matcher: wanted}; else by equality."""


def check(calls: list[dict[str, Any]], expected: dict[str, Any]) -> list[str]:
    """Return what is wrong with the calls; an empty list is a pass.

    Every required call must be among them, in order if `ordered`; no call may fit a forbidden one.
    """
    problems = []
    position = 0
    for wanted in expected["required"]:
        start = position if expected["ordered"] else 0
        found = next((i for i in range(start, len(calls)) if fits(calls[i], wanted)), None)
        if found is None:
            problems.append(f"no call {wanted['tool']}({wanted['arguments']})")
        else:
            position = found + 1
    return problems + [
        f"forbidden call {forbidden['tool']}({forbidden['arguments']})"
        for forbidden in expected["forbidden"]
        if any(fits(call, forbidden) for call in calls)
    ]


def fits(call: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Tell whether a call is the one described; arguments not described may be anything."""
    if call["tool"] != wanted["tool"]:
        return False
    given = call.get("arguments", {})
    return all(_matches(given.get(name), value) for name, value in wanted["arguments"].items())


def _matches(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict) and len(wanted) == 1:
        (matcher, argument), *_ = wanted.items()
        if matcher in MATCHERS:
            return (value is not None or matcher == "present") and MATCHERS[matcher](
                argument, value
            )
    return bool(value == wanted)


def evals() -> list[dict[str, Any]]:
    """Return the written tasks."""
    return json.loads((HERE / "evals.json").read_text(encoding="utf-8"))["evals"]


def score(transcripts: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Return the problems of each task; a task without a transcript has one."""
    return {
        task["id"]: check(transcripts[task["id"]], task["tool_calls"])
        if task["id"] in transcripts
        else ["no transcript"]
        for task in evals()
    }


if __name__ == "__main__":
    result = score(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    passed = sum(not problems for problems in result.values())
    sys.stdout.write(json.dumps(result, indent=1) + f"\n{passed} of {len(result)} passed\n")
    sys.exit(passed != len(result))
