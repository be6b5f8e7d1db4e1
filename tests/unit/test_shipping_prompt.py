"""The parts a chat template is cut into, and the Ollama template that is made of them."""

import json
import os
import re
import shutil
import subprocess

import pytest

from ft_tools.shipping import modelfile


def chatml(messages, generation):
    """Render as Qwen and SmolLM2 do, with a system message of their own."""
    text = ""
    if messages[0]["role"] != "system":
        text += "<|im_start|>system\nYou are helpful<|im_end|>\n"
    for message in messages:
        text += f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
    return text + ("<|im_start|>assistant\n" if generation else "")


def llama3(messages, generation):
    text = "<|begin_of_text|>"
    for message in messages:
        role, content = message["role"], message["content"].strip()
        text += f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>"
    head = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    return text + (head if generation else "")


def gemma(messages, generation):
    """Render as Gemma does: no system role; the first message would carry it."""
    if messages[0]["role"] == "system":
        raise ValueError("System role not supported")
    text = "<bos>"
    for message in messages:
        role = "model" if message["role"] == "assistant" else "user"
        text += f"<start_of_turn>{role}\n{message['content']}<end_of_turn>\n"
    return text + ("<start_of_turn>model\n" if generation else "")


def counting(messages, generation):
    """Number the messages: text that no fixed part can stand for."""
    return "".join(f"{i}:{m['role']}:{m['content']};" for i, m in enumerate(messages))


TEMPLATES = {
    "chatml": (chatml, ""),
    "llama3": (llama3, "<|begin_of_text|>"),
    "gemma": (gemma, "<bos>"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_of_fixed_parts_is_rebuilt_exactly(name):
    render, bos = TEMPLATES[name]
    parts = modelfile.parts_of(render, bos)
    assert parts is not None
    assert modelfile.differences(parts, render) == []


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_ollama_would_build_is_what_training_saw(name):
    render, bos = TEMPLATES[name]
    parts = modelfile.parts_of(render, bos)
    template = modelfile.ollama_template(parts)
    for messages, generation in modelfile.probes(with_system=parts.system is not None):
        if generation:
            built = run_go(template, messages, parts.default_system)
            assert bos + built == render(messages, generation)


def test_a_beginning_that_programs_do_not_add_stays_in_the_template():
    parts = modelfile.parts_of(chatml, "")
    assert parts.system == ("<|im_start|>system\n", "<|im_end|>\n")
    assert parts.default_system == "You are helpful"


def test_a_template_that_is_no_sum_of_parts_is_not_guessed():
    assert modelfile.parts_of(counting, "") is None


def test_a_template_that_raises_is_not_guessed():
    def broken(messages, generation):
        raise TypeError("no")

    assert modelfile.parts_of(broken, "") is None


def test_the_modelfile_has_template_system_and_stops():
    parts = modelfile.parts_of(chatml, "")
    text = modelfile.modelfile("model-Q8_0.gguf", parts, ["<|im_end|>", 'a "quoted" one'])
    assert text.startswith("FROM ./model-Q8_0.gguf\nTEMPLATE ")
    assert 'SYSTEM """You are helpful"""\n' in text
    assert 'PARAMETER stop "<|im_end|>"\nPARAMETER stop "a \\"quoted\\" one"\n' in text


def test_a_default_system_message_cannot_add_lines_to_the_modelfile():
    parts = modelfile.parts_of(chatml, "")
    evil = parts.model_copy(update={"default_system": 'x"""\nADAPTER /etc/passwd\n'})
    assert "ADAPTER" not in modelfile.modelfile("m.gguf", evil, [])


def run_go(template, messages, default_system):  # noqa: C901 - a small interpreter
    """Run the subset of Go's text/template that Ollama templates of ours are written in.

    An independent reading of the text: `if eq .Role`, `else if`, `range`, strings and fields.
    """
    system = next((m["content"] for m in messages if m["role"] == "system"), default_system)
    actions = re.findall(r"\{\{ (.*?) \}\}", template)
    assert "".join("{{ " + a + " }}" for a in actions) == template

    def run(actions, message):
        out, i = "", 0
        while i < len(actions):
            action = actions[i]
            if action.startswith(("if ", "range ")):
                end = closing(actions, i)
                out += block(action, actions[i + 1 : end], message)
                i = end
            elif action == ".System":
                out += system
            elif action == ".Content":
                out += message["content"]
            else:
                out += json.loads(action)
            i += 1
        return out

    def block(action, inside, message):
        if action == "range .Messages":
            return "".join(run(inside, each) for each in messages)
        if action == "if .System":
            return run(inside, message) if system else ""
        branches, condition, current = [], action, []
        for each in inside:
            if each.startswith("else if "):
                branches.append((condition, current))
                condition, current = each.removeprefix("else "), []
            else:
                current.append(each)
        branches.append((condition, current))
        for condition, body in branches:
            if condition == f'if eq .Role "{message["role"]}"':
                return run(body, message)
        return ""

    def closing(actions, start):
        depth = 0
        for i in range(start, len(actions)):
            depth += actions[i].startswith(("if ", "range "))
            depth -= actions[i] == "end"
            if depth == 0:
                return i
        raise AssertionError("unbalanced")

    return run(actions, None)


# What Ollama hands to a template: all system texts as .System, and every message.
# Source: https://github.com/ollama/ollama/blob/main/template/template.go
GO = """package main
import ("encoding/json"; "os"; "strings"; "text/template")
type Message struct { Role, Content string }
func main() {
	var job struct { Template string; Talks [][]Message }
	if err := json.NewDecoder(os.Stdin).Decode(&job); err != nil { panic(err) }
	t := template.Must(template.New("").Parse(job.Template))
	prompts := []string{}
	for _, talk := range job.Talks {
		system := ""
		for _, m := range talk { if m.Role == "system" { system = m.Content } }
		var out strings.Builder
		values := map[string]any{"System": system, "Messages": talk, "Response": ""}
		if err := t.Execute(&out, values); err != nil { panic(err) }
		prompts = append(prompts, out.String())
	}
	json.NewEncoder(os.Stdout).Encode(prompts)
}
"""


@pytest.mark.environments
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_language_of_ollama_builds_the_prompts_of_training(tmp_path, name):
    """Go's own text/template, where it is installed, runs the template of the Modelfile."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed: the template is checked by its parts alone")
    render, bos = TEMPLATES[name]
    parts = modelfile.parts_of(render, bos)
    talks = [t for t, generation in modelfile.probes(with_system=bool(parts.system)) if generation]
    if parts.default_system:
        # The Modelfile's SYSTEM, which Ollama puts before a conversation without one.
        started = {"role": "system", "content": parts.default_system}
        given = [t if t[0]["role"] == "system" else [started, *t] for t in talks]
    else:
        given = talks
    (tmp_path / "main.go").write_text(GO)
    job = {"Template": modelfile.ollama_template(parts), "Talks": given}
    made = subprocess.run(
        ["go", "run", "main.go"],
        cwd=tmp_path,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod"},
    )
    # llama.cpp adds the beginning of the text itself.
    wanted = [render(talk, True).removeprefix(parts.bos) for talk in talks]
    assert json.loads(made.stdout) == wanted
