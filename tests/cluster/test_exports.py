"""Exported plans, read by the schemas and parsers of the tools that would train them."""

import json
import os
import subprocess
import sys

import pytest

from ft_tools.runs.launchers.table import parse, place_of
from ft_tools.training.exports import export
from ft_tools.training.plan import plan_dpo, plan_sft
from ft_tools.training.request import DpoRequest, SftRequest
from tests.cluster.conftest import environment_with
from tests.tiny.trainings import conversations, pairs, write_jsonl

# Only what their schemas import; torch, transformers and TRL are those of this package.
AXOLOTL = ("axolotl==0.19.0", "pillow", "colorama", "addict", "python-dotenv", "posthog",
           "backoff", "distro", "art", "fastcore", "einops")  # fmt: skip
READ_AXOLOTL = """
import json, sys, yaml
from axolotl.integrations.liger.args import LigerArgs
from axolotl.utils.schemas.config import AxolotlInputConfig
given = yaml.safe_load(open("axolotl.yaml"))
kind = AxolotlInputConfig
if given.get("plugins") == ["axolotl.integrations.liger.LigerPlugin"]:
    # Axolotl joins the arguments of a plugin to its own in the same way.
    kind = type("WithLiger", (LigerArgs, AxolotlInputConfig), {})
read = kind(**given)
unknown = sorted(set(given) - set(kind.model_fields))
print(json.dumps({"unknown": unknown, "rate": read.learning_rate, "r": read.lora_r,
                  "rl": read.rl and read.rl.value, "losses": read.dpo_loss_type,
                  "fsdp": bool(read.fsdp_config),
                  "bf16": read.bf16, "fp16": read.fp16, "four_bit": read.load_in_4bit,
                  "data": read.datasets[0].path}))
"""
# Examples as Axolotl's own strategies make tokens of them: all of the text, and what is trained.
READ_EXAMPLES = """
import json, yaml
from axolotl.prompt_strategies import load
from axolotl.prompt_strategies.dpo import load as load_pairs
from axolotl.utils.dict import DictDefault
from transformers import AutoTokenizer
given = DictDefault(yaml.safe_load(open("axolotl.yaml")))
tokenizer = AutoTokenizer.from_pretrained(given.base_model)
(about,) = given.datasets
own_form = not isinstance(about.type, str)
row = json.loads(open(about.path).readline())
if given.rl:
    found = load_pairs("user_defined.default" if own_form else about.type, given, dataset_idx=0)
    made = found(row) if own_form else found[0](row, tokenizer=tokenizer)
    print(json.dumps([made["prompt"], made["chosen"], made["rejected"]]))
else:
    strategy = load("user_defined" if own_form else about.type, tokenizer, given,
                    about.type if own_form else about)
    made = strategy.tokenize_prompt(row if about.type != "completion" else {"text": [row["text"]]})
    ids, labels = ((made[k][0] if about.type == "completion" else made[k])
                   for k in ("input_ids", "labels"))
    print(json.dumps([tokenizer.decode(ids), tokenizer.decode([x for x in labels if x != -100])]))
"""


def say(role, content):
    return {"role": role, "content": content}


@pytest.fixture(scope="session")
def axolotl():
    return environment_with("axolotl", *AXOLOTL, options=["--no-deps"])


@pytest.fixture
def supervised(workspace, tiny_model_in):
    return plan_sft(
        SftRequest(
            model=tiny_model_in,
            dataset=write_jsonl(workspace / "train.jsonl", conversations(32)),
            validation=write_jsonl(workspace / "held_out.jsonl", conversations(8, first=100)),
            training={"num_train_epochs": 2},
            peft={"r": 64},
        )
    )


@pytest.fixture
def preferred(workspace, tiny_model_in):
    dataset = write_jsonl(workspace / "pairs.jsonl", pairs(20))
    training = {"loss_type": ["ipo"]}
    return plan_dpo(DpoRequest(model=tiny_model_in, dataset=dataset, training=training))


def read(code, bin_folder, folder, *arguments):
    """Run a reader with the installed tool and this package's own libraries; its last line."""
    (packages,) = (bin_folder.parent / "lib").glob("python3*/site-packages")
    around = os.environ | {"PYTHONPATH": str(packages), "DISABLE_VERSION_CHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=around,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def on_four_gpus(plan, sharding):
    options = parse("slurm", {"processes": 4, "sharding": sharding, "gpu": "A100-80GB"})
    return plan.model_copy(update={"place": place_of("slurm", options)})


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_axolotl_knows_every_key_and_reads_the_same_numbers(
    axolotl, supervised, tmp_path, sharding
):
    export.write_exports(tmp_path, on_four_gpus(supervised, sharding))
    said = read(READ_AXOLOTL, axolotl, tmp_path)
    assert said["unknown"] == []
    assert (said["rate"], said["r"]) == (supervised.training["learning_rate"], 64)
    assert said["fsdp"] is (sharding == "fsdp")


def test_axolotl_reads_preferences(axolotl, preferred, tmp_path):
    export.write_exports(tmp_path, preferred)
    said = read(READ_AXOLOTL, axolotl, tmp_path)
    assert (said["unknown"], said["rl"], said["rate"]) == ([], "dpo", 5e-6)
    assert said["losses"] == ["ipo"]


USER, ANSWER, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"
ASKED = f"{USER}When?{END}\n{ANSWER}"
# Answers that occur nowhere in the template: Axolotl looks for them in the rendered text.
FORMS = {
    "messages": (
        {"messages": [say("user", "When?"), say("assistant", "Today."),
                      say("user", "Why?"), say("assistant", "Luck.")]},
        [f"{ASKED}Today.{END}\n{USER}Why?{END}\n{ANSWER}Luck.{END}\n", f"Today.{END}Luck.{END}"],
    ),
    "prompt and completion": (
        {"prompt": "When?", "completion": " Today."},
        [f"When? Today.{END}", f" Today.{END}"],
    ),
    "text": ({"text": "It is today."}, [f"It is today.{END}", f"It is today.{END}"]),
    "pairs": (
        {"prompt": [say("user", "When?")], "chosen": [say("assistant", "Today.")],
         "rejected": [say("assistant", "Luck.")]},
        [ASKED, f"Today.{END}", f"Luck.{END}"],
    ),
    "pairs of whole conversations": (
        {"chosen": [say("user", "When?"), say("assistant", "Today.")],
         "rejected": [say("user", "When?"), say("assistant", "Luck.")]},
        [ASKED, f"Today.{END}", f"Luck.{END}"],
    ),
    "pairs of texts": (
        {"prompt": "When?", "chosen": " Today.", "rejected": " Luck."},
        ["When?", " Today.", " Luck."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_axolotl_makes_the_same_texts_of_examples_and_trains_on_the_same(
    axolotl, workspace, tiny_model_in, tmp_path, form
):
    example, expected = FORMS[form]
    dataset = write_jsonl(workspace / "examples.jsonl", [example] * 20)
    accepted = {"accept_findings": ["duplicates"], "accept_reason": "a test"}
    ask, plan_of = (DpoRequest, plan_dpo) if "pairs" in form else (SftRequest, plan_sft)
    export.write_exports(tmp_path, plan_of(ask(model=tiny_model_in, dataset=dataset, **accepted)))
    assert read(READ_EXAMPLES, axolotl, tmp_path) == expected
