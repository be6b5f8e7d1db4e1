"""What is near stays on one side of the split."""

import json

from ft_tools.data.audit import perform
from ft_tools.data.request import AuditRequest

NUM_TOPICS = 40
WORDINGS = (
    "Tell me in a few short words what colour the {} house number {} at the lake has got",
    "Tell me in a few short words what colour the {} house number {} at the lake has got now",
    "Now tell me in a few short words what colour the {} house number {} at the lake has got",
)


def write(path):
    """Write groups of prompts that are near; each has an answer of its own, so all stay."""
    rows = [
        {
            "prompt": text.format(chr(97 + topic % 26) * 5, topic),
            "completion": f"{topic} {at} so",
        }
        for at, text in enumerate(WORDINGS)
        for topic in range(NUM_TOPICS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def topics(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"][1]["content"].split()[0] for line in lines]


def split(workspace, near_duplicates):
    write(workspace / "data.jsonl")
    perform(
        AuditRequest(path="data.jsonl", output_dir="out", near_duplicates=near_duplicates, seed=1)
    )
    return topics(workspace / "out" / "train.jsonl"), topics(workspace / "out" / "validation.jsonl")


def test_prompts_that_are_near_are_never_on_both_sides(workspace):
    train, validation = split(workspace, "lexical")
    assert len(train) + len(validation) == NUM_TOPICS * len(WORDINGS)
    assert len(validation) == 12
    assert not set(train) & set(validation)


def test_without_a_search_for_near_prompts_they_are(workspace):
    train, validation = split(workspace, "off")
    assert set(train) & set(validation)


def test_conversations_that_begin_alike_are_never_on_both_sides(workspace):
    rows = []
    for topic in range(60):
        turns = [{"role": "user", "content": f"Tell me about subject {topic}."}]
        for turn in range(3):
            turns += [{"role": "assistant", "content": f"Part {turn} of {topic}, as asked."}]
            rows.append({"messages": list(turns)})
            turns += [{"role": "user", "content": f"And then? ({turn})"}]
    (workspace / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    perform(AuditRequest(path="data.jsonl", output_dir="out", near_duplicates="off"))
    sides = []
    for name in ("train", "validation"):
        lines = (workspace / "out" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        sides.append({json.loads(line)["messages"][0]["content"] for line in lines})
    assert len(sides[1]) == 6
    assert not sides[0] & sides[1]
