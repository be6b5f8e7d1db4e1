"""What a plan or a report warns about: one row each, filled with the numbers of the case."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["warning", "note"]


@dataclass(frozen=True)
class Finding:
    """A row: how serious it is, what is wrong, and what to do about it."""

    severity: Severity
    message: str
    cure: str = ""


FINDINGS = {
    # Examples
    "few_held_out_examples": Finding(
        "warning",
        "{num} examples detect a change of {shown:.2g}; a change of {effect:g} takes about "
        "{needed}",
        "add held-out examples, or read `underpowered` as not known",
    ),
    "answers_longer_than_limit": Finding(
        "warning",
        "about {num} of {total} expected answers are longer than max_new_tokens={most}, counted "
        "as {characters} characters per token, and would be cut off",
        "set max_new_tokens={enough}",
    ),
    "marked_bad": Finding("note", "{num} rows are skipped: their answer is marked bad"),
    "schema_mismatch": Finding(
        "warning", "{num} of {total} references do not conform to {name}", "correct either"
    ),
    "checkpoint_selected_here": Finding(
        "warning",
        "the run selected its checkpoint on this file, so the tuned model's score on it is "
        "slightly too high",
        "evaluate on a third file",
    ),
    # Contamination
    "near_copies": Finding(
        "warning",
        "{num} of {total} held-out examples are near copies of training examples, numbers aside: "
        "their score measures memory",
        "the report repeats every score without them",
    ),
    "training_files_missing": Finding(
        "warning",
        "some training files are missing or outside the workspace, so contamination is not "
        "checked against them",
    ),
    "training_data_unknown": Finding(
        "note",
        "the training data of the models is unknown; held-out questions are compared only with "
        "the examples that systems here learn from or are shown",
    ),
    "examples_removed": Finding(
        "note", "{system}: {num} rows of examples.path are held-out questions and are not used"
    ),
    # Models
    "measured_alone": Finding(
        "note",
        "the base model of {model} is unknown, so it is measured alone",
        "pass `baseline` for a comparison",
    ),
    "compared_with_itself": Finding(
        "warning",
        "baseline is the model itself, so every difference is zero",
        "leave `baseline` out, or name another model",
    ),
    "trained_on_4_bit": Finding(
        "note",
        "the adapter was trained on 4-bit weights and is evaluated on the full-precision ones, as "
        "merge_and_quantize ships it",
    ),
    "templates_differ": Finding(
        "note",
        "the chat templates differ: both models get prompts in the tuned model's template",
    ),
    "tokenizers_differ": Finding(
        "note", "the tokenizers differ: perplexity is compared as bits per byte"
    ),
    "loaded_in_4_bit": Finding(
        "warning",
        "16-bit weights do not fit on this machine: all models are measured in 4 bits, as the "
        "adapter was trained; merge_and_quantize ships it over 16-bit weights",
    ),
    "mac_gpu_idle": Finding(
        "warning", "runs on the CPU with torch, not on the Mac's GPU with MLX: {why}"
    ),
    # What leaves the machine, and what is not counted
    "texts_sent": Finding("warning", "{system}: {num} texts, {size}, {where} ({budget})"),
    "answers_reused": Finding(
        "note",
        "{system}: {num} answers are reused from {run}",
        "pass reuse=false to measure again",
    ),
    "tasks_downloaded": Finding(
        "note", "lm-eval tasks without task_paths are downloaded from the Hub"
    ),
    "tasks_not_timed": Finding(
        "note",
        "the estimated time excludes lm_eval_tasks, which can take hours on a CPU",
        "limit them with lm_eval_limit",
    ),
    # Reports
    "endpoint_changed": Finding(
        "warning",
        "{system}: the endpoint reported {num} models or fingerprints, so the remote model "
        "changed during the measurement",
    ),
    "answers_cut_off": Finding(
        "warning",
        "{system}: {fraction:.0%} of its answers were cut off",
        "raise max_new_tokens, or train with whole answers if the model did not learn to end them",
    ),
    "trivially_different": Finding(
        "note",
        "{system}: {num} of {total} answers differ from the reference only by null against empty "
        "and count as wrong in exact_match",
        "tell the user both scores, {without:.3g} and {value:.3g}",
    ),
    "judge_unfinished": Finding("warning", "the judge saw {num} of {total} examples: {why}"),
    "judge_agreement": Finding(
        "note",
        "judge: both orders agreed on {fraction:.0%} of {num} pairs; half would agree by chance",
    ),
    "judge_length": Finding(
        "note",
        "judge: the preferred answer was the longer one in {fraction:.0%} of {num} decided pairs",
    ),
}


def finding(id_: str, **fields: object) -> str:
    """Return a finding as a sentence that begins with its id.

    >>> finding("marked_bad", num=3)
    'marked_bad: 3 rows are skipped: their answer is marked bad'
    """
    row = FINDINGS[id_]
    parts = [part for part in (row.message, row.cure) if part]
    return f"{id_}: " + "; ".join(part.format(**fields) for part in parts)
