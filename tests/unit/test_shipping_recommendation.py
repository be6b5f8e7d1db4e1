"""Which file is recommended, by its task and its verdict."""

import pytest

from ft_tools.shipping.quality import recommend
from ft_tools.shipping.report import FormatResult, Quality, ShippedAnswers

TUNED = {"exact_match": 1.0}


def made(name, size, difference, low, high, *, verdict="good", value=None, prompts_equal=12):
    value = 1 + difference if value is None else value
    shipped = ShippedAnswers(
        num_examples=12, prompts_equal=prompts_equal, task={"exact_match": value},
        metric="exact_match", difference=difference, ci_low=low, ci_high=high,
    )  # fmt: skip
    quality = Quality(
        mean_kl=0.0, kl_standard_error=0.0, p99_kl=0.0, top1_agreement=1.0, perplexity_ratio=1.0,
        tokenizer_parity=True, num_tokens=9, verdict=verdict,
    )  # fmt: skip
    return FormatResult(
        format=name, state="made", size_bytes=size, shipped=shipped, quality=quality
    )


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
    found = recommend([large, small], TUNED)
    assert (found.format, list(found.reasons)) == (best, [])
    assert ("gguf:Q4_0 is smaller" in found.said) == (best == "gguf:Q8_0" and smaller[2] >= 0)


def test_a_file_that_answers_worse_or_whose_verdict_is_fail_is_never_recommended():
    broken = made("gguf:Q2_K", 50, -1.0, -1.0, -0.8)
    assert recommend([broken], TUNED).format == recommend([], {}).format == ""
    only = made("gguf:Q4_K_M", 100, -0.25, -0.53, 0.05)
    assert recommend([only, broken], TUNED).format == "gguf:Q4_K_M"
    small = made("gguf:Q2_K", 50, 0.0, -0.1, 0.1, verdict="fail")
    assert recommend([small, made("gguf:Q8_0", 99, 0.0, -0.1, 0.1)], TUNED).format == "gguf:Q8_0"
    alone = recommend([small], TUNED)
    assert (alone.format, [reason.id for reason in alone.reasons]) == ("", ["verdict_fail"])


@pytest.mark.parametrize(
    ("verdicts", "best"),
    [
        (("fail", "ok", "good"), "gguf:Q4_K_M"),
        (("ok", "ok", "good"), "gguf:Q2_K"),
        (("fail", "warn", "good"), "gguf:Q8_0"),
        (("fail", "warn", "fair"), ""),
    ],
)
def test_where_every_answer_is_wrong_the_verdict_decides_and_that_is_said(verdicts, best):
    names = {"gguf:Q2_K": 50, "gguf:Q4_K_M": 70, "gguf:Q8_0": 99}
    files = [
        made(name, size, 0.0, -0.2, 0.2, verdict=verdict, value=0.0)
        for (name, size), verdict in zip(names.items(), verdicts, strict=True)
    ]
    found = recommend(files, {"exact_match": 0.0})
    assert (found.format, [reason.id for reason in found.reasons]) == (best, ["task_cannot_tell"])


def test_files_that_build_none_of_the_measured_prompts_fail_the_proof():
    assert recommend([made("gguf:Q8_0", 9, 0, -0.1, 0.1, prompts_equal=0)], TUNED).format == ""
    assert recommend([made("gguf:Q8_0", 9, 0, -0.1, 0.1, prompts_equal=5)], TUNED).format
