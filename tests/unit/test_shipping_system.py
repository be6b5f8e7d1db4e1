"""What is shipped is asked as it was trained: system text, Modelfile, proof, recommendation."""

import json

import pytest

from ft_tools.runs.state.records import RunInfo
from ft_tools.shipping import modelfile
from ft_tools.shipping.answers_as_measured import next_steps, shipped_answers
from ft_tools.shipping.report import FormatResult, ShippedAnswers
from ft_tools.shipping.trained_system import system_of, trained_system


def talk(question, system=None):
    own = [] if system is None else [{"role": "system", "content": system}]
    return [*own, {"role": "user", "content": question}, {"role": "assistant", "content": "A"}]


def write(path, systems):
    rows = [{"messages": talk(f"Q{i}", system)} for i, system in enumerate(systems)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chatml(messages, generation):
    text = "" if messages[0]["role"] == "system" else "<s>system\nDefault</s>\n"
    text += "".join(f"<s>{m['role']}\n{m['content']}</s>\n" for m in messages)
    return text + ("<s>assistant\n" if generation else "")


PARTS = modelfile.parts_of(chatml, "")


def test_the_system_text_that_most_training_examples_have_is_shipped(workspace):
    found = system_of(write(workspace / "t.jsonl", ["Sort.", "Sort.", "Other.", "Sort."]))
    assert (found.text, found.num_examples, found.num_with_text) == ("Sort.", 4, 3)
    assert found.others == [("Other.", 1)]
    assert found.sentence() == (
        "shipped: the system text of 3 of 4 training examples; 1 other system texts were used "
        "(1 examples)"
    )
    none = system_of(write(workspace / "n.jsonl", [None, None, "Sort."]))
    assert none.text is None
    assert "2 of 3 training examples have no system text; none is shipped" in none.sentence()


def test_only_unchanged_training_data_of_a_run_says_what_the_system_text_was(workspace):
    assert trained_system("some/folder").num_examples == 0
    run = workspace / "runs" / "sft-0123456789abcdef"
    run.mkdir(parents=True)
    data = write(workspace / "train.jsonl", ["Sort."])
    info = RunInfo(run_id=run.name, kind="sft", created_at=0.0)
    (run / "run.json").write_text(info.model_dump_json())
    (run / "plan.json").write_text(json.dumps({"dataset": {"path": str(data)}}))
    assert trained_system(run.name).text == "Sort."
    (run / "plan.json").write_text(json.dumps({"dataset": {"path": str(data), "sha256": "0"}}))
    assert trained_system(run.name).num_examples == 0


def test_the_modelfile_sends_the_trained_system_text_and_decodes_greedily():
    text = modelfile.modelfile("m.gguf", PARTS, ["</s>"], "Sort.\nBriefly.")
    assert modelfile.shipped_system(text) == "Sort.\nBriefly."
    assert "PARAMETER temperature 0\n" in text
    assert modelfile.shipped_system(modelfile.modelfile("m.gguf", PARTS, [])) == "Default"
    for evil in ('x"""\nADAPTER /etc/passwd\n', 'ends with a quote "'):
        made = modelfile.modelfile("m.gguf", PARTS, [], evil)
        assert modelfile.shipped_system(made) == ""
        assert "ADAPTER" not in made


def test_a_question_through_the_modelfile_is_the_trained_prompt_and_a_wrong_system_is_not():
    asked = talk("Q7", "Sort.")[:-1]
    wanted = chatml(asked, True)

    def shipped(system):
        made = modelfile.modelfile("m.gguf", PARTS, [], system)
        return modelfile.as_shipped(PARTS, modelfile.shipped_system(made), asked)

    assert shipped("Sort.") == wanted
    # The control, and what used to be shipped: the base's own default.
    assert shipped("You are a pirate.") != wanted
    assert shipped(None) != wanted
    assert modelfile.as_shipped(PARTS, "Default", talk("Q")[:-1]) == chatml(talk("Q")[:-1], True)


def made(name, size, difference, low, high, prompts_equal=12):
    shipped = ShippedAnswers(
        num_examples=12, prompts_equal=prompts_equal, task={"exact_match": 1 + difference},
        metric="exact_match", difference=difference, ci_low=low, ci_high=high,
    )  # fmt: skip
    return FormatResult(format=name, state="made", size_bytes=size, shipped=shipped)


@pytest.mark.parametrize(
    ("smaller", "best"),
    [
        # A dozen examples cannot tell a loss of a quarter from none.
        ((-0.25, -0.53, 0.05), "gguf:Q8_0"),
        ((-0.08, -0.3, 0.1), "gguf:Q8_0"),
        # As many right answers as the larger file's.
        ((0.0, -0.2, 0.2), "gguf:Q4_0"),
        ((0.1, -0.1, 0.3), "gguf:Q4_0"),
        # A loss, but shown to be small.
        ((-0.01, -0.04, 0.02), "gguf:Q4_0"),
        ((-0.03, -0.04, -0.02), "gguf:Q4_0"),
        # Shown to be worse, and perhaps by more.
        ((-0.05, -0.09, -0.01), "gguf:Q8_0"),
    ],
)
def test_a_smaller_format_is_recommended_if_it_is_shown_to_lose_little(smaller, best):
    large, small = made("gguf:Q8_0", 200, 0.0, -0.2, 0.2), made("gguf:Q4_0", 100, *smaller)
    said, recommended = shipped_answers([large, small], {"exact_match": 1.0})
    assert recommended == best
    unknown = "gguf:Q4_0 is smaller than gguf:Q8_0, but 12 examples do not show that it loses less"
    assert (unknown in said) == (best == "gguf:Q8_0" and smaller[2] >= 0)


def test_a_format_that_answers_worse_is_never_recommended():
    broken = made("gguf:Q2_K", 50, -1.0, -1.0, -0.8)
    said, best = shipped_answers([broken], {"exact_match": 1.0})
    assert best == ""
    assert "gguf:Q2_K 0 (-1, 95% interval [-1, -0.8])" in said
    assert "tuned model 1." in said
    assert "do not ship" in said
    assert "not checked" in shipped_answers([], {})[0]
    only = made("gguf:Q4_K_M", 100, -0.25, -0.53, 0.05)
    assert shipped_answers([only, broken], {"exact_match": 1.0})[1] == "gguf:Q4_K_M"


def test_the_recommended_file_is_the_one_to_measure_next_and_else_the_last():
    results = [
        FormatResult(format=name, state=state, path=name.lower())
        for name, state in (
            ("safetensors", "made"), ("gguf:Q4_K_M", "made"), ("gguf:Q8_0", "made"),
            ("gguf:Q2_K", "failed"),
        )
    ]  # fmt: skip
    for recommended, path in (("gguf:Q4_K_M", "gguf:q4_k_m"), ("", "gguf:q8_0")):
        (step,) = next_steps(results, recommended)
        assert (step.tool, step.arguments) == ("evaluate", {"model": path})
    assert next_steps(results[:1], "") == []


def test_files_that_build_none_of_the_measured_prompts_fail_the_proof():
    said, best = shipped_answers([made("gguf:Q8_0", 9, 0.0, -0.1, 0.1, 0)], {"exact_match": 1.0})
    assert best == ""
    assert "no prompt is the measured one" in said
    assert "do not ship" in said
    assert shipped_answers([made("gguf:Q8_0", 9, 0.0, -0.1, 0.1, 5)], {"exact_match": 1.0})[1]
