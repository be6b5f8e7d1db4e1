"""Small data sets and runs for the tests that train."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ft_tools import workspace as workspace_module
from ft_tools.formats.training_rows import task_of
from ft_tools.publish import private_folder
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import ENDED, RunInfo
from ft_tools.runs.tool import get_run
from ft_tools.training.grpo.plan import plan_grpo
from ft_tools.training.plan import plan_dpo, plan_kto, plan_sft
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.tool import launch_dpo, launch_sft

PLANS = {"sft": plan_sft, "dpo": plan_dpo, "kto": plan_kto, "grpo": plan_grpo}
THINGS = ["parcel", "order", "invoice", "bicycle", "refund", "letter"]
# What the installed libraries warn of among themselves.
LIBRARY_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in ("`is_gradient_checkpointing` is deprecated",)
]
QUICK = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 3e-3,
    "max_length": 64,
    # Equivalences are looked at in float32, whatever the processor could do.
    "bf16": False,
}


WITH_TOOLS = """{% if tools is not none %}{{ tools | tojson }}{% endif %}
{%- for m in messages -%}
<|im_start|>{{ m.role }}
{{ m.content }}
{%- if m.tool_calls is defined %}{{ m.tool_calls | tojson }}{% endif %}<|im_end|>
{%- endfor -%}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def called(name, **arguments):
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return [{"role": "assistant", "content": "", "tool_calls": [call]}]


def asked(number):
    """Return a question of its own: different answers to one would contradict each other."""
    return [{"role": "user", "content": f"Where is parcel {number}?"}]


TOOLS = [
    [tool("track", number={"type": "integer", "default": 1})],
    json.dumps([tool("refund", order={"type": "string", "default": "none"})]),
    [],
    None,
]
# Calls, tools and arguments of different names and kinds, and rows without any.
TOOL_CALLS = [
    called("track", number=7),
    called("refund", order="A7", parts=["wheel"]),
    [{"role": "assistant", "content": "is late."}],
    [{"role": "assistant", "content": "is broken"}],
]
TOOL_FILES = {
    "messages": [
        {"messages": asked(i) + answer, "tools": tools}
        for i, (answer, tools) in enumerate(zip(TOOL_CALLS, TOOLS, strict=True))
    ],
    "pairs": [
        {"prompt": asked(i), "chosen": answer, "rejected": called("no", i=i), "tools": tools}
        for i, (answer, tools) in enumerate(zip(TOOL_CALLS, TOOLS, strict=True))
    ],
}


def conversations(num_examples, first=0):
    """Return examples with an answer that follows from the question."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"Where is the {THINGS[i % 6]} number {i}?"},
                {"role": "assistant", "content": f"The {THINGS[i % 6]} is late."},
            ]
        }
        for i in range(first, first + num_examples)
    ]


def pairs(num_examples):
    """Return the same questions with a good and a bad answer."""
    return [
        {
            "prompt": row["messages"][:1],
            "chosen": row["messages"][1:],
            "rejected": [{"role": "assistant", "content": "I do not know."}],
        }
        for row in conversations(num_examples)
    ]


def marks(num_examples, first=0):
    """Return questions, every second one answered well, the others badly; sorted by their marks."""
    rows = [
        {
            "prompt": row["messages"][:1],
            "completion": row["messages"][1:]
            if i % 2
            else [{"role": "assistant", "content": "I do not know."}],
            "label": bool(i % 2),
        }
        for i, row in enumerate(conversations(num_examples, first))
    ]
    return sorted(rows, key=lambda row: row["label"])


def write_jsonl(path, rows):
    """Write rows and return the file's name."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def launch(request):
    """Plan, confirm and start; the run id."""
    function = launch_sft if isinstance(request, SftRequest) else launch_dpo
    planned = function(request)
    assert not planned.started
    started = function(request.model_copy(update={"confirm": planned.plan_hash}))
    assert started.started
    return started.run_id


def wait_until(condition, run_id, seconds=300.0):
    """Poll a run until a condition on its report holds; the report."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        report = get_run(RunRequest(run_id=run_id))
        if condition(report):
            return report
        time.sleep(0.05)
    log = (workspace_module.runs_dir() / run_id / "log.txt").read_text(errors="replace")
    raise AssertionError(f"{run_id} is {report.state} after {seconds} s\n{log[-3000:]}")


def finished(run_id, seconds=300.0):
    """Wait for a run's end; the report."""
    return wait_until(lambda report: report.state in ENDED, run_id, seconds)


def run_here(work, request, name):
    """Run a worker's work in this process, over a run directory of its own; its report."""
    return work(prepared(request, name))


def prepared(request, name):
    """Write a run directory as a launch would, without starting anything; its session."""
    kind = "sft" if isinstance(request, SftRequest) else "grpo"
    if isinstance(request, DpoRequest):
        kind = task_of(workspace_module.existing(request.dataset))
    plan = PLANS[kind](request)
    run_dir = workspace_module.runs_dir() / f"{kind}-{name.encode().hex():0>16}"[:20]
    private_folder(run_dir)
    info = RunInfo(run_id=run_dir.name, kind=kind, created_at=time.time(), name=name)
    for file, record in {"run": info, "request": request, "plan": plan}.items():
        (run_dir / f"{file}.json").write_text(record.model_dump_json())
    return Session(run_dir)


def computing_in(precision, session):
    """Have a prepared run compute as on a card with this precision; its session."""
    file = session.run_dir / "plan.json"
    plan = json.loads(file.read_text())
    plan["device"]["precision"] = precision
    file.write_text(json.dumps(plan))
    return session


def stopped_in_step(step, session, work, trainer):
    """Ask a run to stop while it makes a step, counted from 0, and let it end."""
    usual = trainer.training_step

    def training_step(self, *arguments, **named):
        session.terminated = self.state.global_step == step
        return usual(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "training_step", training_step)
        with pytest.raises(Stopped):
            work(session)


def weights_of_script(session, folder):
    """Run the exported script of a run; the weights that it trains."""
    script = session.run_dir / "exports" / "train.py"
    subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, check=True)
    return weights_of(folder / "trl-output" / "final")


def weights_of(artifact):
    """Return the tensors of a published adapter or model."""
    folder = Path(artifact)
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def same_bits(first, second):
    """Tell whether two sets of tensors are equal bit for bit."""
    return first.keys() == second.keys() and all(
        first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first
    )


def losses(run_id):
    """Return step -> training loss as the run logged it; a repeated step counts once."""
    rows = directory.read_metrics(workspace_module.runs_dir() / run_id)
    return {row["step"]: row["loss"] for row in rows if "loss" in row}
