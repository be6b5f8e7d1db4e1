"""Score the tool calls of an agent against tests/skill/evals.json. No model judges here.

`python -m tests.skill.checker FOLDER` scores the calls that the commands of `tests.skill.lay`
recorded; `python -m tests.skill.checker TRANSCRIPTS.json` reads {eval id: [{"tool": name,
"arguments": {...}}, ...]} from any other source, such as an MCP client.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from ft_tools.cli.main import app
from ft_tools.cli.options import as_flags
from ft_tools.tools import TOOLS

HERE = Path(__file__).parent
CHARACTERS_PER_TOKEN = 4
ANSWERED = (0, 3)
"""Exit codes of calls that were answered; 3 is a gate that said no."""

MATCHERS = {
    "present": lambda wanted, value: wanted is (value is not None),
    "any_of": lambda wanted, value: value in wanted,
    "contains": lambda wanted, value: wanted in value,
    "overlaps": lambda wanted, value: not set(wanted).isdisjoint(value),
    "contains_match": lambda wanted, value: any(re.search(wanted, str(each)) for each in value),
    "ends_with": lambda wanted, value: str(value).endswith(wanted),
    "matches": lambda wanted, value: re.search(wanted, str(value)) is not None,
}
"""How an argument is compared when the expectation is {matcher: wanted}; else by equality."""

OF_RUNS = {"status": "get_run", "logs": "get_run", "wait": "get_run", "open": "get_run"}
OF_RUNS |= {"cancel": "cancel_run"}
"""Commands for people that do what a tool does."""


def check(calls: list[dict[str, Any]], expected: dict[str, Any]) -> list[str]:
    """Return what is wrong with the calls; an empty list is a pass.

    Every required call must be among them, in order if `ordered`; no call may fit a forbidden one.
    A required call may be a list: one of them is enough.
    """
    problems = []
    position = 0
    for wanted in expected["required"]:
        start = position if expected["ordered"] else 0
        options = wanted if isinstance(wanted, list) else [wanted]
        found = next(
            (i for i in range(start, len(calls)) if any(fits(calls[i], each) for each in options)),
            None,
        )
        if found is None:
            problems.append(f"no call {' or '.join(map(_said, options))}")
        else:
            position = found + 1
    return problems + [
        f"forbidden call {_said(forbidden)}"
        for forbidden in expected["forbidden"]
        if any(fits(call, forbidden) for call in calls)
    ]


def fits(call: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Tell whether a call is the one described; arguments not described may be anything."""
    if call["tool"] != wanted["tool"]:
        return False
    given = call.get("arguments", {})
    return all(_matches(given.get(name), value) for name, value in wanted["arguments"].items())


def _said(call: dict[str, Any]) -> str:
    return f"{call['tool']}({call['arguments']})"


def _matches(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict) and len(wanted) == 1:
        (matcher, argument), *_ = wanted.items()
        if matcher in MATCHERS:
            return (value is not None or matcher == "present") and MATCHERS[matcher](
                argument, value
            )
    return bool(value == wanted)


def call_of(argv: list[str]) -> dict[str, Any] | None:
    """Return the tool call that a command line is; None for help and what is no tool.

    `--yes` confirms a plan, so it counts as `confirm`.
    """
    words = _without_options(argv)
    if not words or {"--help", "-h"} & set(words):
        return None
    name = words[0].replace("-", "_")
    if name in OF_RUNS:
        run_id = next((word for word in words[1:] if not word.startswith("-")), None)
        tool = OF_RUNS[name] if run_id else "get_run"
        return {"tool": tool, "arguments": {"run_id": run_id} if run_id else {}}
    if name not in TOOLS:
        return None
    words = as_flags(words, TOOLS[name].request.model_fields)
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    given = {key: value for key, value in bound.arguments.items() if value is not None}
    given = {key: given[key] for key in given.keys() - {"yes", "detach"}} | (
        {"confirm": "--yes"} if given.get("yes") else {}
    )
    request = TOOLS[name].request.model_validate(given)
    return {"tool": name, "arguments": request.model_dump(mode="json", exclude_unset=True)}


def _without_options(argv: list[str]) -> list[str]:
    """Leave out what says how a result is printed."""
    words = [word for word in argv if word != "--debug" and not word.startswith("--format=")]
    if "--format" in words:
        place = words.index("--format")
        words = words[:place] + words[place + 2 :]
    return words


def recorded(record: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the tool calls of a record, and counts: calls, errors, tokens of the answers."""
    text = record.read_text(encoding="utf-8") if record.is_file() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    calls = []
    for line in lines:
        try:
            call = call_of(line["argv"])
        except Exception:  # What the command line refuses is an error of the agent, counted below.
            continue
        calls += [call] if call else []
    return calls, {
        "calls": len(lines),
        "errors": sum(line["exit_code"] not in ANSWERED for line in lines),
        "tokens": sum(line["bytes"] for line in lines) // CHARACTERS_PER_TOKEN,
    }


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


def score_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the problems and the counts of each task that was laid out."""
    laid = json.loads((folder / "laid.json").read_text(encoding="utf-8"))
    result = {}
    for name, task in sorted(laid.items()):
        calls, counts = recorded(folder / "calls" / f"{name}.jsonl")
        problems = check(calls, task["tool_calls"])
        wrong = sum(each.startswith("forbidden call launch") for each in problems)
        result[task["id"]] = {"problems": problems, **counts, "wrong_launches": wrong}
    return result


def main(source: Path) -> int:
    """Print the score of a folder or of transcripts; 1 unless all passed."""
    if source.is_dir():
        result: dict[str, Any] = score_folder(source)
        passed = sum(not each["problems"] for each in result.values())
        totals = {
            key: sum(each[key] for each in result.values())
            for key in ("calls", "errors", "tokens", "wrong_launches")
        }
    else:
        result = score(json.loads(source.read_text(encoding="utf-8")))
        passed, totals = sum(not problems for problems in result.values()), {}
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    said = "".join(f", {count} {key}" for key, count in totals.items())
    sys.stdout.write(f"{passed} of {len(result)} passed{said}\n")
    return int(passed != len(result))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
