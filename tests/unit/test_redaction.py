"""Secrets are found and masked, in time linear in the text."""

import re
import time

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


HOSTILE = {
    "jwt starts": "-eyJ",
    "key headers": "-----BEGIN PRIVATE" + " KEY-----",
    "schemes": "a://",
    "openai starts": "sk-",
    "begins": "-----BEGIN ",
    "dashes": "-a",
    "underscores": "hf_",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_text_of_a_megabyte_takes_no_longer_than_a_harmless_one_would(kind):
    text = HOSTILE[kind] * (2**20 // len(HOSTILE[kind]))
    began = time.process_time()
    redaction.redact(text)
    assert time.process_time() - began < 3.0


def test_the_bound_on_time_would_catch_a_quadratic_pattern():
    """The pattern for JWTs as one would first write it, on a sixty-fourth of the text."""
    naive = re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ")

    def seconds(size: int) -> float:
        """Return the least CPU time of three: what other programs take is not counted."""
        times = []
        for _ in range(3):
            began = time.process_time()
            naive.search("-eyJ" * (size // 4))
            times.append(time.process_time() - began)
        return min(times)

    # Eight times the text: 64 times as long if it is quadratic, eight times if it is linear.
    assert seconds(2**14) > 20 * seconds(2**11)
