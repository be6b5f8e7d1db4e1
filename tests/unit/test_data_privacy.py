"""Keys and personal data: found anywhere in an example, and masked wherever it is shown."""

import json

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.judge import privacy
from ft_tools.data.request import AuditRequest, ShowRequest
from ft_tools.data.show.show_examples import show_examples
from ft_tools.redaction import PATTERNS
from tests.unit.jsonl import write
from tests.unit.test_redaction import EXAMPLES

KEY = EXAMPLES["hugging_face_token"]
MAIL = "ada.king@mail.internal"


def asked(*more, **columns):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How high is the tower?"},
        {"role": "assistant", "content": "It is forty metres high."},
    ]
    return {"messages": [*turns, *more], **columns}


def call(arguments):
    function = {"name": "send", "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}


def tool(**parts):
    return [{"type": "function", "function": {"name": "send", **parts}}]


# Name -> a row that holds a text, and the side of the example it is on.
PLACES = {
    "a turn behind the last answer": (
        lambda text: asked({"role": "user", "content": f"Use {text}"}),
        "prompt",
    ),
    "a tool's description": (lambda text: asked(tools=tool(description=f"Use {text}")), "prompt"),
    "a tool's default": (
        lambda text: asked(tools=tool(parameters={"to": {"default": [text]}})),
        "prompt",
    ),
    "tools as text": (
        lambda text: asked(tools=json.dumps(tool(description=f"-\n{text}"))),
        "prompt",
    ),
    "a tool turn's name": (
        lambda text: asked(call({}), {"role": "tool", "name": text, "content": "5"}),
        "prompt",
    ),
    "a system turn": (
        lambda text: {"system": f"Use {text}", "instruction": "Say a.", "output": "It is a."},
        "prompt",
    ),
    "an answer's name": (
        lambda text: asked({"role": "user", "content": "And?"}, {**call({}), "name": text}),
        "answer",
    ),
    "arguments": (lambda text: asked(call({"to": [f"Write:\n{text}"]})), "answer"),
    "arguments as JSON text": (
        lambda text: asked(call(json.dumps({"to": f"Write:\n{text}"}))),
        "answer",
    ),
    "an argument's name": (lambda text: asked(call({text: 1})), "answer"),
    "a rejected answer": (
        lambda text: {"prompt": "Say a.", "chosen": "It is a.", "rejected": f"It is {text}"},
        "answer",
    ),
}


def audit(workspace, row, **arguments):
    rows = [row, *({"prompt": f"Say {at}.", "completion": f"It is {at}."} for at in range(11))]
    write(workspace / "d.jsonl", rows)
    arguments = {"output_dir": "out", "max_removed_fraction": 1.0} | arguments
    report = perform(AuditRequest(path="d.jsonl", near_duplicates="off", **arguments))
    folder = workspace / arguments["output_dir"]
    written = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    return {finding.id for finding in report.findings if 1 in finding.rows}, written


@pytest.mark.parametrize("place", PLACES)
def test_keys_and_personal_data_anywhere_in_an_example_are_found_and_written_nowhere(
    workspace, place
):
    made, side = PLACES[place]
    found, written = audit(workspace, made(f"{KEY} or {MAIL}"), personal_data="mask")
    assert {name for name in found if "personal" in name} == {f"personal_data_in_{side}"}
    assert "secret" in found
    assert [name for name, text in written.items() if KEY in text or MAIL in text] == []
    shown = show_examples(ShowRequest(path="d.jsonl", lines=[1])).examples[0]
    assert KEY[:12] not in shown.value
    _, written = audit(workspace, made(MAIL), output_dir="mail", personal_data="mask")
    masked = any("[email]" in text for name, text in written.items() if name.endswith(".jsonl"))
    # The cleaned files leave out what stands behind the last answer, and the text of another task.
    left_out = {"a turn behind the last answer", "a tool turn's name", "a rejected answer"}
    assert masked or place in left_out


PERSONAL = {
    "email": MAIL,
    "phone": "+49 30 1234 5678",
    "card": "4111 1111 1111 1111",
    "iban": "GB82 WEST 1234 5698 7654 32",
}


@pytest.mark.parametrize("kind", [*PATTERNS, *PERSONAL])
@pytest.mark.parametrize("before", ["\n", "\t", "\r", "\u201c", "\u00a0", " ", "\\"])
def test_what_stands_behind_an_escape_of_json_text_is_masked_and_the_text_stays_json(kind, before):
    value = PERSONAL.get(kind) or EXAMPLES[kind]
    value = f"https://{value}@host/" if kind == "url_password" else value
    inner = json.dumps({"to": f"a:{before}{value}"})
    found = privacy.personal_data_in if kind in PERSONAL else privacy.secrets_in
    assert kind in found(inner)
    masked = json.loads(privacy.mask(inner))["to"]
    assert masked.startswith(f"a:{before}")
    assert value not in masked
    if kind in PERSONAL:
        assert masked == f"a:{before}[masked {kind}]"


@pytest.mark.parametrize("depth", [10, 100_000])
def test_a_value_of_any_depth_is_masked(depth):
    value = MAIL
    for at in range(depth):
        value = [value, True, None, 1.5] if at % 2 else {MAIL: value}
    masked = privacy.mask_all(value)
    for at in reversed(range(depth)):
        assert (masked[1:] if at % 2 else list(masked)) == (
            [True, None, 1.5] if at % 2 else ["[masked email]"]
        )
        masked = masked[0] if at % 2 else masked["[masked email]"]
    assert masked == "[masked email]"


STAND_INS = [
    "ftp://username:password@ftp.example.com",
    "postgres://user:your_password@localhost/db",
    "https://${USER}:${TOKEN}@host.com/x.git",
    "https://me:<token>@host.com/x.git",
    "redis://:{password}@host.com",
    "git clone git@github.com:ada/tower.git",
]
SECRETS = ["redis://:pa55word@host", "https://me:xK99secret@host", "ftp://me:$ecret9@host"]


@pytest.mark.parametrize("text", STAND_INS)
def test_what_documents_write_for_a_password_is_no_secret_and_no_mailbox(text):
    assert (privacy.secrets_in(text), privacy.personal_data_in(text)) == ([], [])
    assert privacy.mask(text) == text


@pytest.mark.parametrize("text", SECRETS)
def test_a_password_in_an_address_is_one_with_no_name_before_it_too(text):
    assert privacy.secrets_in(text) == ["url_password"]
    assert privacy.mask(f"{text}/x") == f"{text.split('://')[0]}://[masked secret]@host/x"


@pytest.mark.parametrize(
    "text",
    [
        *("ada@example.com", "ada@mail.example.org", "ada@shop.test"),
        *("555-123-4567", "123-456-7890", "(212) 555-0142", "+1 212 555 0142"),
    ],
)
def test_what_is_reserved_for_examples_is_nobodys_and_its_addresses_are_masked(text):
    assert privacy.personal_data_in(f"Write to {text}.") == []
    masked = "[masked email]" if "@" in text else text
    assert privacy.mask(f"Write to {text}.") == f"Write to {masked}."


@pytest.mark.parametrize(
    "text",
    [
        *("ada@example.company.fr", "ada@myexample.com", "(212) 736-5000", "212-736-5000"),
        *("+1 212 736 5000", "+44 20 7946 0958", "+49 30 1234 5678"),
    ],
)
def test_what_somebody_can_have_is_personal(text):
    assert len(privacy.personal_data_in(f"Write to {text}.")) == 1
    assert text not in privacy.mask(f"Write to {text}.")
