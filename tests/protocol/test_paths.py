"""No path argument of any tool leads out of the workspace (P14, at the tools' own door)."""

import json
import os

import pytest

from ft_tools.errors import FineTuningError
from ft_tools.tools import TOOLS
from tests.protocol.calls import GOOD, prepare

CANARY = "canary-7f3a"
PATHS = {
    "audit_dataset": ["path", "validation_path", "benchmark_paths", "output_dir", "model"],
    "prepare_dataset": ["path", "output_dir"],
    "create_dataset": ["source", "test", "output_dir"],
    "show_examples": ["path"],
    "suggest_lora_config": ["model", "dataset", "validation"],
    "estimate_vram": ["model"],
    "launch_sft": ["model", "dataset", "validation"],
    "launch_dpo": ["model", "dataset", "validation"],
    "launch_grpo": ["model", "dataset", "validation"],
    "merge_and_quantize": ["source", "base_model", "held_out", "calibration", "output_dir"],
    "evaluate": ["model", "baseline", "dataset", "task_paths"],
}
LISTS = {"benchmark_paths", "task_paths"}


@pytest.fixture
def places(workspace, tmp_path_factory):
    """Make a workspace, and beside it a folder that would answer every call if it were reached."""
    outside = tmp_path_factory.mktemp("outside")
    prepare(outside)
    text = (outside / "data.jsonl").read_text(encoding="utf-8")
    (outside / "data.jsonl").write_text(text.replace("parcel", CANARY), encoding="utf-8")
    prepare(workspace)
    (workspace / "inside").mkdir()
    (workspace / "link").symlink_to(outside)
    (workspace / "inside" / "chain").symlink_to("../link")
    (workspace / "file").symlink_to(outside / "data.jsonl")
    twin = workspace.with_name(workspace.name + "-twin")
    twin.symlink_to(outside)
    return workspace, outside


def routes(workspace, outside, leaf):
    """Return a few ways of naming a file of the folder outside; tests/faults has all of them."""
    up = os.path.relpath(outside, workspace)
    absolute, twin = f"{outside}/{leaf}", f"{workspace}-twin/{leaf}"
    return [absolute, twin, f"inside//..//{up}//{leaf}", f"inside/chain/{leaf}", f"{up}/{leaf}\0"]


def leaf_of(name, field):
    if field == "output_dir":
        return "new"
    if name == "create_dataset":
        return "data.jsonl"
    if field in {"model", "source", "base_model", "baseline"}:
        return "model"
    return "." if field == "task_paths" else "data.jsonl"


@pytest.mark.parametrize(("name", "field"), [(n, f) for n, fs in PATHS.items() for f in fs])
def test_every_way_out_is_refused_for(places, name, field):
    workspace, outside = places
    before = sorted(outside.rglob("*"))
    # The negative control: whoever does not look gets there.
    assert CANARY in (workspace / "inside" / "chain" / "data.jsonl").read_text("utf-8")
    spec = TOOLS[name]
    for route in routes(workspace, outside, leaf_of(name, field)):
        value = [route] if field in LISTS else route
        said = ""
        try:
            report = spec.function(spec.request.model_validate(GOOD[name] | {field: value}))
            said = report.model_dump_json()
            # An odd name may be a new folder of the workspace, never a file that is read.
            assert field == "output_dir", route
        except FineTuningError as error:
            said = str(error)
        assert CANARY not in said
    assert sorted(outside.rglob("*")) == before


KEPT_FOR_THE_RECORD = {("recommend_approach", "model"), ("recommend_approach", "dataset")}


def test_every_argument_that_names_a_path_is_attacked():
    words = ("path", "dataset", "model", "source", "output_dir", "held_out", "validation")
    for name, spec in TOOLS.items():
        for field, about in spec.request.model_fields.items():
            text = json.dumps(str(about.annotation))
            is_path = "str" in text and any(field == word or field == f"{word}s" for word in words)
            if is_path and "dict" not in text and (name, field) not in KEPT_FOR_THE_RECORD:
                assert field in PATHS.get(name, []), f"{name}.{field}"
