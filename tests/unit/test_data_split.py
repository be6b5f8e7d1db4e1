"""What is near stays on one side of the split."""

from ft_tools.data.audit import perform
from ft_tools.data.request import AuditRequest
from tests.unit.jsonl import read, write

NUM_TOPICS = 40
WORDINGS = (
    "Tell me in a few short words what colour the {} house number {} at the lake has got",
    "Tell me in a few short words what colour the {} house number {} at the lake has got now",
    "Now tell me in a few short words what colour the {} house number {} at the lake has got",
)


def split(workspace, near_duplicates):
    """Audit groups of prompts that are near; each has an answer of its own, so all stay."""
    rows = [
        {
            "prompt": text.format(chr(97 + topic % 26) * 5, topic),
            "completion": f"{topic} {at} so",
        }
        for at, text in enumerate(WORDINGS)
        for topic in range(NUM_TOPICS)
    ]
    write(workspace / "d.jsonl", rows)
    asked = {"near_duplicates": near_duplicates, "output_dir": near_duplicates, "seed": 1}
    perform(AuditRequest(path="d.jsonl", **asked))
    return [
        [
            one["messages"][1]["content"].split()[0]
            for one in read(workspace / near_duplicates / name)
        ]
        for name in ("train.jsonl", "validation.jsonl")
    ]


def test_prompts_that_are_near_are_never_on_both_sides_as_without_the_search_they_are(workspace):
    train, validation = split(workspace, "lexical")
    assert len(train) + len(validation) == NUM_TOPICS * len(WORDINGS)
    assert len(validation) == 12
    assert not set(train) & set(validation)
    assert set.intersection(*map(set, split(workspace, "off")))


def test_conversations_that_begin_alike_are_never_on_both_sides(workspace):
    rows = []
    for topic in range(60):
        turns = [{"role": "user", "content": f"Tell me about subject {topic}."}]
        for turn in range(3):
            turns += [{"role": "assistant", "content": f"Part {turn} of {topic}, as asked."}]
            rows.append({"messages": list(turns)})
            turns += [{"role": "user", "content": f"And then? ({turn})"}]
    write(workspace / "data.jsonl", rows)
    perform(AuditRequest(path="data.jsonl", output_dir="out", near_duplicates="off"))
    sides = [
        {one["messages"][0]["content"] for one in read(workspace / "out" / name)}
        for name in ("train.jsonl", "validation.jsonl")
    ]
    assert len(sides[1]) == 6
    assert not sides[0] & sides[1]
