"""The texts beside a shipped model: HANDOFF.md for whoever runs it, README.md for whoever finds it.

No path of this machine is in them: everything is relative to the file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ft_tools.shipping.modelfile import can_be_shipped
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.report import FormatResult, MergeCheck
from ft_tools.shipping.trained_system import MAX_OTHERS, TrainedSystem

# Commands: https://github.com/ollama/ollama/blob/main/docs/modelfile.md,
# https://lmstudio.ai/docs/cli/local-models/import, https://docs.vllm.ai/en/latest/cli/serve.html,
# https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
# What transformers needs to load a format, beside itself and what device_map="auto" needs.
NEEDS = dict.fromkeys(("gptq", "awq", "fp8"), "compressed-tensors") | {"bnb": "bitsandbytes"}


@dataclass(frozen=True)
class Asked:
    """How a shipped model has to be asked, and what was proved about it."""

    trained: TrainedSystem
    answers: str
    """Whether the shipped defaults answer as the tuned model was measured."""
    recommended: str
    proofs: Mapping[str, str]
    """For each program, whether the prompts it builds are those of training."""


def handoff(plan: ShipPlan, results: Sequence[FormatResult], asked: Asked, merged: str) -> str:
    """Return HANDOFF.md: the commands that run each file, and what was proved about it.

    Args:
        plan: Of the run.
        results: Formats, made or not.
        asked: How the model has to be asked, and what was proved about it.
        merged: Folder of the merged model, beside HANDOFF.md.
    """
    made = [r for r in results if r.state == "made"]
    parts = [
        f"# How to run {plan.name}\n",
        "Every command is meant for the folder that this file is in.\n",
        _table(results),
        _how_to_ask(asked),
    ]
    for result in made:
        method = result.format.partition(":")[0]
        if method == "gguf":
            parts.append(_gguf(plan, result, asked.trained.text))
        elif method in NEEDS:
            option = " --quantization bitsandbytes" if method == "bnb" else ""
            folder = Path(result.path).name
            parts.append(_transformers(result.format, folder, option, NEEDS[method], asked))
    parts.append(_transformers("safetensors", merged, "", "", asked))
    failed = [f"- {r.format}: {r.error}" for r in results if r.state == "failed"]
    if failed:
        parts.append("## Not made\n\n" + "\n".join(failed) + "\n")
    return "\n".join(parts)


def model_card(
    plan: ShipPlan, check: MergeCheck | None, licence: str, lineage: dict[str, str]
) -> str:
    """Return README.md of the merged folder, a Hugging Face model card.

    Args:
        plan: Of the run.
        check: Of the merge; None when there was nothing to merge.
        licence: Of the base, as its own card names it; "" when it names none.
        lineage: Ids and hashes that say where it comes from.

    Source: https://huggingface.co/docs/hub/model-cards
    """
    base = public_name(plan.base_model)
    head = {"license": licence or "other", "base_model": base, "library_name": "transformers"}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items())]
    lines += ["pipeline_tag: text-generation", "---", "", f"# {plan.name}", ""]
    lines.append(f"{base}, fine-tuned and merged with fine-tuning-llm.")
    if not licence:
        lines.append("The base names no licence in its files: look it up before passing this on.")
    lines += ["", "## Where it comes from", "", f"- base: {base}"]
    if plan.base_config_sha256:
        lines.append(f"- sha256 of the base's config.json: {plan.base_config_sha256}")
    if plan.adapter:
        lines.append(f"- adapter: {plan.adapter.variant}, rank {plan.adapter.rank}")
        lines.append(f"- sha256 of the adapter: {plan.adapter.sha256}")
    lines += [f"- {key}: {value}" for key, value in sorted(lineage.items())]
    if check:
        lines += ["", "## Is it what was trained", ""]
        lines.append(
            f"Compared with {check.reference} on {check.num_tokens} tokens, in "
            f"{check.compute_dtype}: mean KL {check.mean_kl:.2e} nats per token, the same first "
            f"choice for {check.top1_agreement:.1%} of them, {check.same_greedy_texts} of "
            f"{check.num_prompts} greedy continuations identical."
        )
    return "\n".join(lines) + "\n"


def public_name(base_model: str) -> str:
    """Return a model's name without a folder of this machine.

    >>> public_name("HuggingFaceTB/SmolLM2-135M-Instruct"), public_name("/home/me/models/mine")
    ('HuggingFaceTB/SmolLM2-135M-Instruct', 'mine')
    """
    parts = Path(base_model).parts
    return base_model if len(parts) <= 2 and not Path(base_model).is_absolute() else parts[-1]


def licence_of(readme: str) -> str:
    r"""Return the licence that a model card's front matter names; "" if none.

    >>> licence_of("---\nlicense: apache-2.0\n---\nhello")
    'apache-2.0'
    """
    head = readme.split("---")[1] if readme.startswith("---") else ""
    for line in head.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "license":
            return value.strip().strip("\"'")[:60]
    return ""


def _table(results: Sequence[FormatResult]) -> str:
    lines = [
        "| format | MB | mean KL | top-1 | perplexity | tokens/s | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        size = f"{r.size_bytes / 1e6:.1f}" if r.size_bytes else "-"
        q = r.quality
        cells = [r.format, size, "-", "-", "-", "-", r.state]
        if q is not None:
            speed = f"{r.tokens_per_second:.1f}" if r.tokens_per_second else "-"
            cells[2:] = [f"{q.mean_kl:.5f}", f"{q.top1_agreement:.1%}"]
            cells += [f"x{q.perplexity_ratio:.4f}", speed, q.verdict]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _gguf(plan: ShipPlan, result: FormatResult, system: str | None) -> str:
    path = Path(result.path)
    file = f"{path.parent.name}/{path.name}"
    name = f"{plan.name}-{result.format.partition(':')[2]}".lower()
    return f"""## {result.format}

Ollama:

    ollama create {name} -f {path.parent.name}/Modelfile
    ollama run {name}

LM Studio (it leaves the file where it is; without --copy it would be moved):

    lms import --copy {file}

llama.cpp:

    llama-server -m {file} --jinja --port 8080
    llama-cli -m {file} --jinja -cnv --temp 0

LM Studio and llama-server send no system text by themselves; each request must bring it:

    curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
      -d {_shell(json.dumps(_request(system), ensure_ascii=False))}

Check the file first: `sha256sum {file}` gives {result.sha256}
"""


def _transformers(title: str, folder: str, option: str, needs: str, asked: Asked) -> str:
    messages = json.dumps(_messages(asked.trained.text), ensure_ascii=False)
    packages = " ".join(["accelerate", needs]).strip()
    return f"""## {title}

vLLM (needs a GPU; not run here):

    vllm serve ./{folder}{option}

transformers (pip install {packages}):

    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained("{folder}")
    model = AutoModelForCausalLM.from_pretrained("{folder}", dtype="auto", device_map="auto")
    prompt = tokenizer.apply_chat_template(
        {messages},
        add_generation_prompt=True, return_tensors="pt", return_dict=True).to(model.device)
    made = model.generate(**prompt, max_new_tokens=100, do_sample=False)
    print(tokenizer.decode(made[0]))
"""


def _how_to_ask(asked: Asked) -> str:
    lines = ["## How to ask", "", asked.answers, ""]
    if asked.recommended:
        lines += [f"Recommended format: {asked.recommended}.", ""]
    lines += [f"System text: {asked.trained.sentence()}.", ""]
    if asked.trained.text is not None:
        lines += [*(f"    {line}" for line in asked.trained.text.splitlines()), ""]
        if not can_be_shipped(asked.trained.text):
            lines += ["The Modelfile cannot hold this text: send it with each request.", ""]
    for text, count in asked.trained.others[:MAX_OTHERS]:
        first = text.splitlines()[0][:200] if text.strip() else ""
        lines += [f"- also in {count} examples: {json.dumps(first, ensure_ascii=False)}"]
    lines += ["Everything was measured greedily: use temperature 0.", ""]
    return "\n".join(lines) + "".join(f"- {who}: {said}\n" for who, said in asked.proofs.items())


def _messages(system: str | None) -> list[dict[str, str]]:
    own = [] if system is None else [{"role": "system", "content": system}]
    return [*own, {"role": "user", "content": "Hello"}]


def _request(system: str | None) -> dict[str, object]:
    return {"messages": _messages(system), "temperature": 0}


def _shell(text: str) -> str:
    r"""Quote a text for a shell.

    >>> print(_shell("it's"))
    'it'\''s'
    """
    return "'" + text.replace("'", "'\\''") + "'"
