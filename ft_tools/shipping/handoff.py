"""HANDOFF.md, for whoever runs a shipped model.

No path of this machine is in it: everything is relative to the file.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_tools.shipping.asking import FORMAT_INPUT, MAPPING, SCHEMA, Asking
from ft_tools.shipping.context_length import MIN_CONTEXT
from ft_tools.shipping.modelfile import can_be_shipped
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.report import FormatResult
from ft_tools.shipping.trained_system import MAX_OTHERS

# Commands: https://github.com/ollama/ollama/blob/main/docs/modelfile.md,
# https://lmstudio.ai/docs/cli/local-models/import, https://docs.vllm.ai/en/latest/cli/serve.html,
# https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
# What transformers needs to load a format, beside itself and what device_map="auto" needs.
NEEDS = dict.fromkeys(("gptq", "awq", "fp8"), "compressed-tensors") | {"bnb": "bitsandbytes"}
# vLLM samples at temperature 1 where neither request nor generation_config.json has one.
GREEDY = """ --override-generation-config '{"temperature": 0}'"""
MAX_NEW_TOKENS = 100
PROGRAMS_NOT_RUN = "Ollama, LM Studio and vLLM were not run"


@dataclass(frozen=True)
class Asked:
    """How a shipped model has to be asked, and what was proved about it."""

    how: Asking
    stops: Sequence[str]
    """Texts that end an answer."""
    answers: str
    """Whether the shipped defaults answer as the tuned model was measured."""
    recommended: str
    proofs: Mapping[str, str]
    """For each program, whether the prompts it builds are those of training."""
    num_ctx: int = MIN_CONTEXT
    """Context that training and measuring fit into, in tokens."""
    default_system: str = ""
    """What the chat template puts before a conversation without a system text."""
    example: str = "Hello"
    """What the commands ask: a question of the held-out examples, where there is a short one."""


def handoff(plan: ShipPlan, results: Sequence[FormatResult], asked: Asked, merged: str) -> str:
    """Return HANDOFF.md: the commands that run each file, and what was proved about it.

    Args:
        plan: Of the run.
        results: Formats, made or not.
        asked: How the model has to be asked, and what was proved about it.
        merged: Folder of the merged model, beside HANDOFF.md.
    """
    made = [r for r in results if r.state == "made"]
    best = f" Recommended format: {asked.recommended}." if asked.recommended else ""
    parts = [
        f"# How to run {plan.name}\n",
        f"Run every command in the folder that this file is in.{best}\n",
        _table(results),
        _copy(made, asked),
        _how_to_ask(asked),
    ]
    for result in made:
        method = result.format.partition(":")[0]
        if method == "gguf":
            parts.append(_gguf(plan, result, asked))
        elif method == "mlx":
            parts.append(_mlx(plan, result, asked))
        elif method in NEEDS:
            option = " --quantization bitsandbytes" if method == "bnb" else ""
            folder = Path(result.path).name
            parts.append(_transformers(result.format, folder, option, NEEDS[method], asked))
    parts.append(_transformers("safetensors", merged, "", "", asked))
    failed = [f"- {r.format}: {r.error}" for r in results if r.state == "failed"]
    if failed:
        parts.append("## Not made\n\n" + "\n".join(failed) + "\n")
    return "\n".join(parts)


def settings_of(how: Asking, stops: Sequence[str]) -> list[str]:
    """Return the settings that answers depend on, one per line; no system text is in them."""
    lines = ["- temperature: 0; everything was measured greedily"]
    if how.max_new_tokens:
        lines.append(f"- longest answer: {how.max_new_tokens} tokens")
    if stops:
        quoted = ", ".join(f"`{stop}`" for stop in stops)
        lines.append(f"- stop at: {quoted}")
    if how.schema is not None:
        lines.append(f"- answers follow the JSON Schema in {SCHEMA}")
    if how.template is not None:
        lines.append(f"- user turn: {json.dumps(how.template, ensure_ascii=False)}")
    if how.columns:
        columns = ", ".join(how.columns)
        lines.append(f"- {FORMAT_INPUT} makes the messages of a row with these columns: {columns}")
    if how.measured is not None:
        lines.append(f"- measured by {how.measured.evaluation}, system {how.measured.system}")
        if how.measured.num_shots:
            lines.append(
                f"- measured with {how.measured.num_shots} few-shot examples in each prompt, which "
                "are not shipped: add them to each request"
            )
    return lines


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
    about = "Mean KL (0: the same), top-1 and perplexity compare a format with the merged model; "
    about += "tokens/s were measured on the machine that made it."
    return "\n".join([*lines, "", about]) + "\n"


def _copy(made: Sequence[FormatResult], asked: Asked) -> str:
    """Return which files another machine needs; empty where all of them are one folder anyway."""
    parts = [r for r in made if r.format.partition(":")[0] in ("gguf", "mlx")]
    if not parts:
        return ""
    chosen = next((r for r in parts if r.format == asked.recommended), parts[0])
    is_file = chosen.format.startswith("gguf")
    folder = Path(chosen.path).parent.name if is_file else Path(chosen.path).name
    files = ["HANDOFF.md", *([SCHEMA] if asked.how.schema is not None else [])]
    files += [FORMAT_INPUT, MAPPING] if asked.how.columns else []
    programs = "Ollama, LM Studio or llama.cpp" if is_file else "mlx-lm or LM Studio"
    return f"""## Copy it to another machine, such as a Mac

{programs}, installed there, needs only these; the merged model is for vLLM and transformers:

    scp -r {" ".join([*files, folder])} USER@MACHINE:FOLDER/

Then run the commands of {chosen.format} below, there, in that folder.
"""


def _how_to_ask(asked: Asked) -> str:
    how = asked.how
    lines = ["## How to ask", "", asked.answers, ""]
    if how.measured is not None and how.measured.sentence():
        lines += [f"The tuned model: {how.measured.sentence()}", ""]
    said = how.sentence(has_default=bool(asked.default_system))
    lines += [f"The system text. {said[:1].upper()}{said[1:]}.", ""]
    if how.system is not None:
        lines += [*(f"    {line}" for line in how.system.splitlines()), ""]
        if not can_be_shipped(how.system):
            lines += ["The Modelfile cannot hold this text: send it with each request.", ""]
    elif asked.default_system:
        lines += ["The chat template then adds its own, as in training; so does the Modelfile:", ""]
        lines += [*(f"    {line}" for line in asked.default_system.splitlines()), ""]
    for text, count in how.trained.others[:MAX_OTHERS]:
        first = text.splitlines()[0][:200] if text.strip() else ""
        lines += [f"- also in {count} examples: {json.dumps(first, ensure_ascii=False)}", ""]
    context = f"- context: {asked.num_ctx} tokens hold every example of training and measuring"
    lines += ["Settings:", "", *settings_of(how, asked.stops), context, ""]
    brings = ", which send no system text by themselves" if how.system else ""
    lines += [
        f"The request for llama-server, LM Studio (port 1234) and vLLM (port 8000){brings}:",
        "",
        "    curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\",
        f"      -d {_shell(_openai_request(asked))}",
        "",
        f"Prompts as each program builds them ({PROGRAMS_NOT_RUN}), compared with training's:",
        "",
        *(f"- {who}: {said}" for who, said in asked.proofs.items()),
    ]
    return "\n".join(lines) + "\n"


def _gguf(plan: ShipPlan, result: FormatResult, asked: Asked) -> str:
    how, path = asked.how, Path(result.path)
    file = f"{path.parent.name}/{path.name}"
    name = f"{plan.name}-{result.format.partition(':')[2]}".lower()
    chat = f"{_option('-n', how.max_new_tokens)}{_option('-sys', how.system)}"
    enforced = ""
    if how.schema is not None:
        chat += f" --json-schema-file {SCHEMA}"
        enforced = "`ollama run` does not enforce the schema; the request does.\n"
    llama_cpp = _commands(
        f"llama-server -m {file} --jinja -c {asked.num_ctx} --port 8080",
        f"llama-cli -m {file} --jinja -c {asked.num_ctx} -cnv --temp 0{chat}",
    )
    return f"""## {result.format}

Ollama:

    ollama create {name} -f {path.parent.name}/Modelfile
    ollama run {name}
    curl http://127.0.0.1:11434/api/chat -d {_shell(_ollama_request(name, asked))}

The Modelfile sets system text, template, stops, temperature and context, and is used by /api/chat.
Ollama's OpenAI route (/v1) ignores its temperature: send the request above there.
{enforced}
LM Studio (--copy leaves the file where it is); then load it and send it the request above:

    lms import --copy {file}

llama.cpp:

{llama_cpp}

Check the file first: `sha256sum {file}` gives {result.sha256}
"""


def _commands(*lines: str) -> str:
    """Return commands as a code block: fenced where a quoted text goes over several lines.

    Indented, its further lines would end the block, or begin with blanks that nobody trained.
    """
    text = "\n".join(lines)
    if len(text.splitlines()) == len(lines):
        return "\n".join(f"    {line}" for line in lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def _option(name: str, value: str | int | None) -> str:
    """Return an option of a command with its value; nothing without one."""
    return f" {name} {shlex.quote(str(value))}" if value else ""


def _transformers(title: str, folder: str, option: str, needs: str, asked: Asked) -> str:
    how = asked.how
    packages = " ".join(["accelerate", needs]).strip()
    tokens = how.max_new_tokens or MAX_NEW_TOKENS
    return f"""## {title}

vLLM (needs a GPU; not run here), asked with the request above:

    vllm serve ./{folder}{option}{GREEDY}

transformers (pip install {packages}):

    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained("{folder}")
    model = AutoModelForCausalLM.from_pretrained("{folder}", dtype="auto", device_map="auto")
{_messages(asked)}
    prompt = tokenizer.apply_chat_template(
        messages,
        add_generation_prompt=True, return_tensors="pt", return_dict=True).to(model.device)
    made = model.generate(**prompt, max_new_tokens={tokens}, do_sample=False)
    answer = tokenizer.decode(made[0, prompt.input_ids.shape[1]:], skip_special_tokens=True)
    print(answer)
{_check(how)}"""


def _messages(asked: Asked) -> str:
    """Return the lines of Python that make `messages`."""
    how = asked.how
    if not how.columns:
        return f"    messages = {json.dumps(how.messages(asked.example), ensure_ascii=False)}"
    row = json.dumps(dict.fromkeys(how.columns, "..."), ensure_ascii=False)
    return f"    from format_input import format_input\n    messages = format_input({row})"


def _check(how: Asking) -> str:
    """Return the lines that check an answer: generate() of transformers enforces no schema."""
    if how.schema is None:
        return ""
    return f"""
generate() does not enforce the schema; check each answer (pip install jsonschema):

    import json, jsonschema
    jsonschema.validate(json.loads(answer), json.load(open("{SCHEMA}")))
"""


def _ollama_request(name: str, asked: Asked) -> dict[str, Any]:
    """Return a request without system text: the Modelfile adds it."""
    how = asked.how
    request: dict[str, Any] = {
        "model": name,
        "messages": [{"role": "user", "content": how.turn(asked.example)}],
        "stream": False,
    }
    return request | ({"format": how.schema} if how.schema is not None else {})


def _mlx(plan: ShipPlan, result: FormatResult, asked: Asked) -> str:
    """Return the commands of mlx-lm and LM Studio, which take a folder."""
    folder = Path(result.path).name
    name = shlex.quote(f"{plan.name}-{folder}")
    system = _option("--system-prompt", asked.how.system)
    question = shlex.quote(asked.how.turn(asked.example))
    commands = _commands(
        "pip install mlx-lm",
        f"mlx_lm.generate --model ./{folder}{system} --temp 0 --prompt {question}",
        f"mlx_lm.server --model ./{folder}",
    )
    return f"""## {result.format}: mlx-lm and LM Studio, on a Mac

{commands}

For LM Studio, copy the folder:

    mkdir -p ~/.lmstudio/models/local && cp -R ./{folder} ~/.lmstudio/models/local/{name}
"""


def _openai_request(asked: Asked) -> dict[str, Any]:
    how = asked.how
    request: dict[str, Any] = {"messages": how.messages(asked.example), "temperature": 0}
    if how.max_new_tokens:
        request["max_tokens"] = how.max_new_tokens
    if how.schema is not None:
        named = {"name": "answer", "strict": True, "schema": how.schema}
        request["response_format"] = {"type": "json_schema", "json_schema": named}
    return request


def _shell(request: Mapping[str, Any]) -> str:
    """Quote a request for a shell."""
    return shlex.quote(json.dumps(request, ensure_ascii=False))
