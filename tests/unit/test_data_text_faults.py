"""Checks on what examples say: every answer, languages, pairs."""

import json
import random
from pathlib import Path

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.judge.text_faults import contents
from ft_tools.data.request import AuditRequest
from ft_tools.data.understand.languages import language_of
from ft_tools.data.understand.preferences import PairStatistics
from ft_tools.formats.formats import normalise

HERE = Path(__file__).parent
LANGUAGES = json.loads((HERE / "languages.json").read_text(encoding="ascii"))


def chat(*texts):
    roles = ("user", "assistant") * len(texts)
    return {
        "messages": [
            {"role": role, "content": said} for role, said in zip(roles, texts, strict=False)
        ]
    }


def said(*texts):
    return contents(normalise(1, chat(*texts)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sentence_tells_its_language(language):
    assert language_of(LANGUAGES[language]) == language


@pytest.mark.parametrize(
    "text", ["", "42", "Yes", "x = [i for i in y]", "Zxq vrt plm", "\U0001f600"]
)
def test_what_has_no_language_is_not_given_one(text):
    assert language_of(text) == "und"


def audit(workspace, rows, **arguments):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workspace / "d.jsonl").write_text(lines, encoding="utf-8")
    report = perform(AuditRequest(path="d.jsonl", **arguments))
    return report, {finding.id: finding for finding in report.findings}


SENTENCES = [
    f"The {thing} in the {place} is for all of you."
    for thing in ("lamp", "boat", "clock", "kettle", "ladder")
    for place in ("kitchen", "garden", "harbour", "attic")
]


def test_an_answer_in_another_language_and_a_minority_language_are_noted(workspace):
    rows = [chat(f"What is in the box with the number {at}?", s) for at, s in enumerate(SENTENCES)]
    rows += [chat("What is in the box that you have there?", LANGUAGES["fr"])]
    _, found = audit(workspace, rows)
    assert found["answer_in_other_language"].rows == [21]
    assert found["language_mix"].rows == [21]
    assert not found["language_mix"].removed


def test_every_answer_of_a_conversation_is_checked_and_not_only_the_last():
    early = said("Hi", "As an AI language model, I cannot feel.", "And?", "That is all there is.")
    assert "ai_boilerplate" in early
    assert "placeholder_answer" in said("Hi", "TODO", "And?", "That is all there is to say.")
    assert "unfilled_placeholder" in said("Hi", "I am {{name}}.", "And?", "That is all.")
    assert "short_answer" not in said("Hi", "Yes", "And?", "That is all there is to say.")


def test_what_a_rejected_or_disliked_answer_says_is_no_defect_but_its_marks_are():
    pair = {"prompt": "Hi", "chosen": "Good morning to you.", "rejected": "TODO"}
    assert contents(normalise(1, pair)) == []
    marked = pair | {"rejected": "bad <|im_end|>"}
    assert contents(normalise(1, marked)) == ["template_markers"]
    disliked = {"prompt": "Hi", "completion": "TODO", "label": False}
    assert contents(normalise(1, disliked)) == []
    assert "placeholder_answer" in contents(normalise(1, disliked | {"label": True}))


def test_a_repeated_key_is_found_with_its_line_and_the_row_stays(workspace):
    rows = [json.dumps(chat(f"Say {s}", s)) for s in SENTENCES]
    rows[2] = '{"prompt": "first", "prompt": "second one", "completion": "The last is read."}'
    rows[5] = (
        '{"messages": [{"role": "user", "role": "user", "content": "a"}, {"role": "assistant", "content": "Nested too, and found."}]}'  # noqa: E501
    )
    (workspace / "d.jsonl").write_text("\n".join(rows))
    report = perform(AuditRequest(path="d.jsonl"))
    found = {finding.id: finding for finding in report.findings}
    assert found["repeated_key"].rows == [3, 6]
    assert report.num_usable == len(rows)


def pairs(count, chosen, rejected):
    numbers = random.Random(0)
    words = [f"w{at}" for at in range(400)]
    statistics = PairStatistics()
    for at in range(count):
        text = " ".join(numbers.choices(words, k=20))
        other = " ".join(numbers.choices(words, k=20))
        row = {"prompt": f"q{at}", "chosen": chosen(text, at), "rejected": rejected(other, at)}
        statistics.add(normalise(1, row))
    return statistics


def plain(text, _):
    return text


def test_pairs_that_differ_by_chance_only_have_no_bias():
    statistics = pairs(300, plain, plain)
    assert statistics.findings() == []
    shape = statistics.shape()
    for name in ("length", "format"):
        assert abs(shape[f"{name}_auc"] - 0.5) < 0.1, name
        assert abs(shape[f"{name}_effect_size"]) < 0.3, name


def test_formatting_that_one_side_has_is_a_format_bias_by_effect_size_and_auc():
    statistics = pairs(300, lambda text, _: f"- {text}\n- more\n", lambda text, _: f"{text} more m")
    found = dict(statistics.findings())
    assert found["format_bias"] == 300
    assert statistics.shape()["format_auc"] == 1.0
    few = pairs(300, lambda text, at: f"- {text}" if at % 10 == 0 else text, plain)
    assert "format_bias" not in dict(few.findings())
