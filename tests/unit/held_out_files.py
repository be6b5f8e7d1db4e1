"""What the tests of evaluations share: files, models without weights, runs that have ended."""

import json

from tests.made_runs import made_run
from tests.unit.test_shipping import write_safetensors

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def chat(question, answer, **more):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns} | more


def questions(count):
    return [chat(f"Where is my parcel number {i}?", f"It is in town {i}.") for i in range(count)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def model_folder(folder, template=TEMPLATE, size=64):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    write_safetensors(folder / "model.safetensors", {"w": (size // 2,)})
    return folder.name


def trained_run(workspace, training_rows, form="messages"):
    """Make the directory of a finished run, as launch_sft leaves it."""
    data = write(workspace / "train.jsonl", training_rows)
    plan = {"dataset": {"path": str(data), "format": form}}
    lineage = {"base_model": "base"}
    run_dir = made_run("sft-0123456789abcdef", files={"plan": plan}, lineage=lineage)
    (run_dir / "artifacts").mkdir()
    model_folder(run_dir / "artifacts" / "model")
    return run_dir.name


def ids(warnings):
    """Return the ids of findings."""
    return {warning.split(":")[0] for warning in warnings}
