"""Secrets are found and masked, in time linear in the text."""

import pytest

from ft_tools import redaction

# Made up, in the issuers' shapes; put together here so that no scanner takes them for real ones.
EXAMPLES = {
    "hugging_face_token": "hf_" + "aB3" * 11,
    "openai_key": "sk-" + "proj-" + "aB3_" * 10,
    "anthropic_key": "sk-" + "ant-" + "api03-" + "aB3-" * 10,
    "github_token": "ghp" + "_" + "aB3x" * 9,
    "aws_access_key": "AKIA" + "ABCDEFGH12345678",
    "google_api_key": "AIza" + "aB3_x" * 7,
    "slack_token": "xoxb" + "-123456789012-abcdef",
    "gitlab_token": "glpat" + "-" + "aB3_" * 5,
    "stripe_key": "sk" + "_live_" + "aB3x" * 6,
    "npm_token": "npm" + "_" + "aB3x" * 9,
    "webhook_secret": "whsec" + "_" + "aB3x" * 8,
    "unknown_token": "rwk" + "_live_" + "WyvRh7uhTjusC4bGcYaw" + "knPxZuh65bTr553J",
    "jwt": "eyJ" + "hbGciOiJIUzI1" + ".eyJ" + "zdWIiOiIxMjM0" + "." + "SflKxwRJSMeKKF2QT4",
    "private_key": "-----BEGIN RSA PRIVATE" + " KEY-----\nMIIE-x\n-----END RSA PRIVATE KEY-----",
    "url_password": "user:pa55word",
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_secret_is_masked_and_counts_as_its_own_kind_only(kind):
    text = f"https://{EXAMPLES[kind]}@host/" if kind == "url_password" else f"x {EXAMPLES[kind]} y"
    assert [name for name, pattern in redaction.PATTERNS.items() if pattern.search(text)] == [kind]
    masked = redaction.redact(text)
    assert redaction.MASK in masked
    assert EXAMPLES[kind] not in masked
    assert masked[0] == text[0]
    assert masked[-1] == text[-1]


@pytest.mark.parametrize(
    "text",
    [
        "the task-force asked for a risk-assessment-of-everything-in-the-house",
        "https://host:8080/path@version",
        "http://:8080/path@version",
        "a commit 9ac38d5e0f1a2b3c4d5e6f708192a3b4c5d6e7f8",
        "loss 0.123 hf_short sk-short eyJ.eyJ.x",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert redaction.redact(text) == text


def test_secrets_of_the_environment_are_masked_the_longest_first(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "hunter22")
    monkeypatch.setenv("MY_PASSWORD", "hunter22-and-more")
    assert redaction.redact("a hunter22-and-more b hunter22") == "a [redacted] b [redacted]"
