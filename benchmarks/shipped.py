"""What is shipped against the tuned model: three training files, 100 held-out examples, a control.

    python -m benchmarks.shipped --examples 100

A small Llama is trained from nothing to sort mails, three times: with a system text, without one,
and with three wordings of it. Each run is shipped as GGUF, and every file answers the held-out
mails as a user of Ollama asks: only the question, and the Modelfile adds the rest. Then the first
run is shipped with a wrong system text, which the proof has to refuse.

Claims: the difference's 95% interval includes 0 for each file; the control is not recommended.
Writes shipped.json beside this file. Needs llama.cpp's converter.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.family_tokenizers import pieces
from ft_tools import workspace
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_sft

TEAMS = {
    "billing": ["invoice", "refund", "charge", "payment", "price"],
    "delivery": ["parcel", "courier", "shipment", "address", "tracking"],
    "technical": ["screen", "battery", "update", "cable", "error"],
    "account": ["password", "login", "profile", "newsletter", "email"],
}
WORDINGS = [
    "Sort the mail to a team.",
    "Name the team that handles this mail.",
    "Which team is it for? One word.",
]
FILES: dict[str, list[str | None]] = {"one": [WORDINGS[0]], "none": [None], "several": [*WORDINGS]}
WRONG = "You are a pirate. Talk about the sea."
OPENINGS = ["Hello,", "Hi there,", "Good morning,", "Dear team,", "Please help:"]
MIDDLES = ["there is a problem with my", "I have a question about the", "nobody answers about the",
           "I am waiting because of the", "something is wrong with the"]  # fmt: skip
ENDINGS = ["since Monday.", "again.", "and it is urgent.", "for two weeks.", "Thank you."]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRAINING = {
    "max_steps": 200,
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 1,
    "learning_rate": 2e-3,
    "max_length": 128,
    "logging_steps": 50,
    "warmup_steps": 20,
}
FORMATS = ["gguf:F16", "gguf:Q8_0"]
ACCEPTED = ["no_quality_filter", "no_eval_set", "too_few_examples", "validation_unwatched"]


def mails(count: int, seed: int) -> list[tuple[str, str]]:
    """Return different mails with their team."""
    dice = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        team = dice.choice(list(TEAMS))
        word = dice.choice(TEAMS[team])
        parts = (dice.choice(OPENINGS), dice.choice(MIDDLES), word, dice.choice(ENDINGS))
        found[f"{' '.join(parts)} Case {dice.randrange(10_000)}."] = team
    return list(found.items())


def write_rows(path: Path, rows: list[tuple[str, str]], systems: list[str | None]) -> None:
    """Write conversations, the system texts in turn."""
    lines = []
    for i, (mail, team) in enumerate(rows):
        system = systems[i % len(systems)]
        head = [] if system is None else [{"role": "system", "content": system}]
        talk = [{"role": "user", "content": mail}, {"role": "assistant", "content": team}]
        lines.append(json.dumps({"messages": [*head, *talk]}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_model(folder: Path) -> None:
    """Save a random Llama with a small SentencePiece tokenizer, which llama.cpp can convert."""
    folder.mkdir()
    lines = [f"{mail} {team}" for mail, team in mails(800, 7)] + [*WORDINGS, WRONG]
    controls = ["<|im_start|>", "<|im_end|>"]
    tokenizer = pieces("llama", folder, [*lines, "system", "user", "assistant"], 512, controls)
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.add_bos_token = False
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def confirmed(tool: Any, request: Any) -> dict[str, Any]:
    """Plan, confirm and follow a run to its end; returns the run."""
    plan = tool(request)
    run_id = tool(request.model_copy(update={"confirm": plan.plan_hash})).run_id
    while (run := get_run(RunRequest(run_id=run_id, log_lines=20))).state not in ENDED:
        time.sleep(0.5)
    if run.state != "succeeded":
        raise SystemExit(f"{run_id} {run.state}: {run.error} {run.log_tail}")
    return run.model_dump(mode="json")


def trained(folder: Path, name: str, examples: int) -> str:
    """Train on one kind of file; returns the run's id."""
    write_rows(folder / f"{name}.jsonl", mails(800, 1), FILES[name])
    write_rows(folder / f"{name}_held_out.jsonl", mails(examples, 2), FILES[name])
    request = SftRequest(
        model="model", dataset=f"{name}.jsonl", method="full", training=TRAINING,
        accept_findings=ACCEPTED, accept_reason="a benchmark", backend_options={"device": "cpu"},
    )  # fmt: skip
    return str(confirmed(launch_sft, request)["run_id"])


def shipped(run_id: str, name: str, examples: int, system: str | None = None) -> dict[str, Any]:
    """Ship a run and return what its proof says."""
    request = ShipRequest(
        source=run_id, formats=FORMATS, held_out=f"{name}_held_out.jsonl", max_examples=examples,
        system=system,
    )  # fmt: skip
    result = confirmed(merge_and_quantize, request)["result"]
    files = {}
    for made in result["formats"]:
        proof = made["shipped"]
        files[made["format"]] = {
            "accuracy": proof["task"][proof["metric"]],
            "prompts_equal": proof["prompts_equal"],
            "difference": proof["difference"],
            "interval": [proof["ci_low"], proof["ci_high"]],
        }
    metric = result["formats"][0]["shipped"]["metric"]
    return {
        "metric": metric,
        "tuned": result["task"][metric],
        "examples": result["num_task_examples"],
        "files": files,
        "recommended": result["recommended_format"],
        "said": result["answers_as_measured"],
        "system_text": result["system_text"],
    }


def main() -> None:
    """Train, ship and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[workspace.VARIABLE] = name
        make_model(folder / "model")
        runs = {kind: trained(folder, kind, arguments.examples) for kind in FILES}
        result: dict[str, Any] = {
            "claim": "shipped defaults answer like the tuned model; a wrong system text is refused",
            "training_files": {
                kind: shipped(run_id, kind, arguments.examples) for kind, run_id in runs.items()
            },
            "control_wrong_system": shipped(runs["one"], "one", arguments.examples, WRONG),
        }
    result["machine"] = f"{os.cpu_count()} cores, {platform.machine()}"
    text = json.dumps(result, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
