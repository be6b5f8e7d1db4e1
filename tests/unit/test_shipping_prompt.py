"""The parts a chat template is cut into, and the Modelfile that is made of them."""

import jinja2
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


def qwen3(messages, generation):
    """Render as Qwen 3 does: a last answer gets an empty thought, which no prompt has."""
    text = chatml(messages, generation)
    head, said, answer = text.rpartition("<|im_start|>assistant\n")
    is_closed = messages[-1]["role"] == "assistant"
    return f"{head}{said}<think>\n\n</think>\n\n{answer}" if is_closed else text


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


def raising(messages, generation):
    raise TypeError("no")


TEMPLATES = {
    "chatml": (chatml, ""),
    "qwen3": (qwen3, ""),
    "llama3": (llama3, "<|begin_of_text|>"),
    "gemma": (gemma, "<bos>"),
}
PARTS = modelfile.parts_of(chatml, "")


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_ollama_would_build_is_what_training_saw(name):
    render, bos = TEMPLATES[name]
    parts = modelfile.parts_of(render, bos)
    template = modelfile.ollama_template(parts)
    for talk in modelfile.probes(with_system=parts.system is not None):
        assert bos + rendered(template, talk, parts.default_system) == render(talk, True)


IN_JINJA = {
    "{{ if .System }}": "{% if system %}",
    "{{ .System }}": "{{ system }}",
    "{{ range .Messages }}": "{% for m in messages %}",
    '{{ if eq .Role "user" }}': "{% if m.role == 'user' %}",
    '{{ else if eq .Role "assistant" }}': "{% elif m.role == 'assistant' %}",
    "{{ .Content }}": "{{ m.content }}",
    "{{ end }}{{ end }}": "{% endif %}{% endfor %}",
    "{{ end }}": "{% endif %}",
}
"""The subset of Go's text/template that our templates are written in."""


def rendered(template, messages, default_system):
    for action, statement in IN_JINJA.items():
        template = template.replace(action, statement)
    system = next((m["content"] for m in messages if m["role"] == "system"), default_system)
    return jinja2.Template(template).render(messages=messages, system=system)


@pytest.mark.parametrize("render", [counting, raising])
def test_a_template_that_is_no_sum_of_parts_is_not_guessed(render):
    assert modelfile.parts_of(render, "") is None


@pytest.mark.parametrize("evil", ['x"""\nADAPTER /etc/passwd\n', 'ends with a quote "'])
def test_a_system_text_cannot_add_lines_to_the_modelfile(evil):
    own = PARTS.model_copy(update={"default_system": evil})
    for made in (
        modelfile.modelfile("m.gguf", PARTS, [], evil),
        modelfile.modelfile("m.gguf", own, []),
    ):
        assert modelfile.shipped_system(made) == ""
        assert "ADAPTER" not in made


def test_a_question_through_the_modelfile_is_the_trained_prompt_and_a_wrong_system_is_not():
    asked = [{"role": "system", "content": "Sort."}, {"role": "user", "content": "Q7"}]
    wanted = chatml(asked, True)

    def shipped(system):
        made = modelfile.modelfile("m.gguf", PARTS, [], system)
        return modelfile.as_shipped(PARTS, modelfile.shipped_system(made), asked)

    assert shipped("Sort.") == wanted
    # The control, and what used to be shipped: the base's own default.
    assert shipped("You are a pirate.") != wanted
    assert shipped(None) != wanted
    assert shipped(None) == chatml(asked[1:], True)
