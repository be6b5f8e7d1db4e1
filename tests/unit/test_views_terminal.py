"""What a person at a terminal is shown."""

import json
import shlex

import pytest

from ft_tools.cli import main as cli
from ft_tools.views.terminal import command_line


def test_a_next_step_with_a_list_of_objects_is_a_command_that_can_be_pasted():
    systems = [{"name": "base", "model": "org/m"}, {"name": "it's", "baseline": "majority"}]
    line = command_line(
        "evaluate", {"systems": systems, "formats": ["a b", "c"], "target": {"f": 1}}
    )
    words = shlex.split(line)
    assert words[:3] == ["fine-tuning-llm", "evaluate", "--systems"]
    assert json.loads(words[3]) == systems
    assert words[4:] == ["--formats", "a b", "--formats", "c", "--target.f", "1"]


def test_a_name_with_control_characters_is_not_obeyed_by_the_terminal(workspace, capsys):
    assert cli.run(["audit-dataset", "a\x1b[31mb.jsonl", "--format", "human"]) == 6
    said = capsys.readouterr().err
    assert "\x1b[31mb" not in said
    assert r"a\x1b[31mb.jsonl" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frobnicate", "--help"], "frobnicate: no such command; known: "),
        (["recommend-approach", "--tried"], "--tried: takes one value or several, got none"),
        (
            ["recommend-approach", "--tried", "--num-classes", "4"],
            "--tried: takes one value or several, got none",
        ),
        (["doctor", "--for"], "--for: takes one value or several, got none"),
        (["logs", "sft-0123456789abcdef", "--lines", "-5"], "--lines. Must be >= 0."),
        (
            ["audit-dataset", "x.jsonl", "--mapping.prompt", "q", "--mapping", '{"prompt": "q"}'],
            "--mapping was given as JSON and as --mapping.NAME; use one of them",
        ),
    ],
)
def test_a_command_line_that_says_nothing_or_too_much_is_refused(workspace, capsys, words, said):
    assert cli.run([*words, "--format", "agent"]) == 2
    assert said in capsys.readouterr().err
