"""What a person at a terminal is shown."""

import json
import shlex

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
