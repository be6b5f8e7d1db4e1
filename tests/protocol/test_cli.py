"""The command line as a person, a script or an agent uses it."""

import json
import subprocess
import sys

import pytest

from ft_tools.cli import main as cli
from ft_tools.tools import TOOLS
from tests.protocol.calls import GOOD, RUN_ID, prepare
from tests.test_boundaries import HEAVY


@pytest.fixture(autouse=True)
def prepared(workspace):
    prepare(workspace)
    return workspace


def test_every_tool_is_a_command_with_an_option_for_each_argument(capsys):
    for name, spec in TOOLS.items():
        assert cli.run([name.replace("_", "-"), "--help-all"]) == 0
        shown = capsys.readouterr().out
        for field in spec.request.model_fields:
            assert f"--{field.replace('_', '-')}"[:20] in shown, f"{name} {field}"


def test_help_describes_the_main_arguments_and_names_the_others(capsys):
    assert cli.run(["launch-sft", "--help"]) == 0
    described = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert "  --training" in described
    assert not any(line.startswith("  --export-dir") for line in described)
    assert any(line.startswith("More options") for line in described)


def test_a_pipe_gets_compact_json_and_a_person_the_next_command(capsys):
    assert cli.run(["get-run", RUN_ID]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "interrupted"
    assert cli.run(["get-run", RUN_ID, "--format", "human"]) == 0
    assert f"fine-tuning-llm resume-run --run-id {RUN_ID}" in capsys.readouterr().out


@pytest.mark.parametrize("tool", ["launch_dpo", "launch_grpo"])
def test_a_launch_takes_the_model_and_then_the_dataset(tool, capsys):
    arguments = dict(GOOD[tool])
    argv = [tool.replace("_", "-"), arguments.pop("model"), arguments.pop("dataset")]
    for key, value in arguments.items():
        argv += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    assert cli.run(argv) == 0
    assert json.loads(capsys.readouterr().out)["plan_hash"]


def test_quiet_prints_the_hash_to_confirm_and_then_the_folder_that_was_written(capsys, workspace):
    argv = ["prepare-dataset", "data.jsonl", "--output-dir", "out", "--format", "quiet"]
    assert cli.run(argv) == 0
    (shown,) = capsys.readouterr().out.splitlines()
    assert cli.run([*argv, "--confirm", shown]) == 0
    assert capsys.readouterr().out.splitlines() == [shown, str(workspace / "out")]


SFT = ["launch-sft", "model", "data.jsonl"]


@pytest.mark.parametrize(
    "options",
    [
        ["--training.max-steps", "2", "--peft.target-modules", '["q_proj", "v_proj"]'],
        ["--training", '{"max-steps": 2}', "--peft", '{"target-modules": ["q_proj", "v_proj"]}'],
    ],
    ids=["dots", "json"],
)
def test_an_object_is_the_same_in_json_with_dots_and_with_hyphens(capsys, options):
    assert cli.run([*SFT, *options, "--format", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["training"]["max_steps"] == 2
    assert sorted(plan["peft"]["target_modules"]) == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    "lines",
    [
        ["1", "2"],
        ["--lines", "1", "2"],
        ["--lines", "1", "--lines", "2"],
        ["--lines", "[1, 2]"],
        ["--lines", "1, 2"],
        ["--lines", "1-2"],
    ],
)
def test_several_values_follow_one_flag(capsys, lines):
    assert cli.run(["show-examples", "data.jsonl", *lines, "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {each["row"] for each in shown["examples"]} == {1, 2}


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["get-run", "sft-0123456789abcdef", "--format", "agent"], 6, '"not_found"'),
        (["get-run", "../../etc"], 2, "run id"),
        (["recommend-approach", "--tried", "ragg"], 2, "'rag'"),
        (["show-examples", "data.jsonl", "first"], 2, "'first'"),
        (["get-run", "--limit", "many"], 2, "'many'"),
        (["evaluate", "--systems", '[{"name":'], 2, "JSON"),
        (["open", RUN_ID], 6, "report.html"),
        (["wait", RUN_ID], 5, ""),
    ],
)
def test_what_is_wrong_is_said_on_stderr_and_in_the_exit_code(capsys, argv, code, said):
    assert cli.run(argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert "errors.pydantic.dev" not in captured.err


def test_help_and_status_load_nothing_heavy():
    code = "from ft_tools.cli import main; main.run(['status']); import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & {*done.stdout.split()}
