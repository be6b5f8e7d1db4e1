"""A model that thinks, trained on answers without thoughts, and the reverse."""

import json

import pytest

from ft_tools.formats.training_rows import survey
from ft_tools.models.resolve import ModelSource
from ft_tools.training.thinking import about_thoughts

PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
THINKING = PLAIN + "{{ m.reasoning_content }}{% if enable_thinking %}<think>\n{% endif %}"
ALWAYS = PLAIN + "{{ m.reasoning_content }}<think>\n"


@pytest.fixture
def said(workspace):
    """Return what is said of a template and of as many answers with a thought of ten."""

    def about(template, num_thoughts, thought=None):
        thought = thought or {"reasoning_content": "Two and two."}
        rows = []
        for place in range(10):
            answer = {"role": "assistant", "content": f"It is {place}."}
            answer |= thought if place < num_thoughts else {}
            question = {"role": "user", "content": f"What is 1 times {place}?"}
            rows.append({"messages": [question, answer]})
        file = workspace / "train.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        folder = workspace / "model"
        folder.mkdir(exist_ok=True)
        (folder / "chat_template.jinja").write_text(template)
        source = ModelSource(kind="folder", name="model", path=str(folder))
        return about_thoughts(source, survey(file, "sft"), None)

    return about


def test_a_thinking_model_trained_on_answers_without_thoughts_is_said_with_two_cures(said):
    (warning,) = said(THINKING, 0)
    assert warning.startswith("thinking_lost: model thinks before it answers, and 0 of 10 answers")
    assert "Keep thoughts in the data" in warning
    assert warning.endswith("`enable_thinking`")
    (warning,) = said(ALWAYS, 0)
    assert warning.endswith("a checkpoint of the same family that does not think")


@pytest.mark.parametrize(
    "thought", [{"reasoning_content": "Two."}, {"content": "<think>Two.</think>It is 2."}]
)
def test_a_thinking_model_that_keeps_its_thoughts_is_fine(said, thought):
    assert said(THINKING, 10, thought) == []


def test_thoughts_that_a_template_has_no_place_for_are_said(said):
    (warning,) = said(PLAIN, 3)
    assert warning.startswith(
        "thinking_lost: 3 of 10 answers have a thought, and the chat template"
    )
    # The control: a model that does not think, and answers without thoughts.
    assert said(PLAIN, 0) == []


@pytest.mark.parametrize(
    "mark",
    [
        "<think>",
        "<|channel|>analysis",
        "<|START_THINKING|>",
        "<seed:think>",
        "[THINK]",
        "<|channel>thought",
    ],
)
def test_thoughts_are_known_by_the_marks_of_each_family(said, mark):
    assert said(PLAIN + mark, 0)
