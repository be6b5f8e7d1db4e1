"""What an audit can find: one row an id, with its severity, what happens to the example, the cure.

A finding that `removes` takes the example out of the cleaned files. An error that does not remove
needs a person, so a file that has one is not ready. Texts here are constants: nothing that a
dataset says ever enters them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The gravest first."""

TRL_FORMATS = "https://huggingface.co/docs/trl/dataset_formats"
OPENAI_FORMAT = "https://cookbook.openai.com/examples/chat_finetuning_data_prep"
OPENAI_WEIGHTS = "https://platform.openai.com/docs/api-reference/fine-tuning/chat-input"
LLAMA_FACTORY = "https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md"
FACTS = "facts/thresholds.toml#audit"


@dataclass(frozen=True)
class Rule:
    """What one finding means."""

    severity: Severity
    removes: bool
    cure: str
    source: str | None = None


RULES: dict[str, Rule] = {
    # Reading
    "unreadable_line": Rule(
        "error",
        True,
        "mend or delete these lines: they are not valid JSON, or a second list beside the rows",
    ),
    "row_too_long": Rule("error", True, "split or delete rows above 4 MiB"),
    "not_utf8": Rule("error", True, "save the file as UTF-8 (iconv -t utf-8)"),
    "invalid_unicode": Rule("error", True, "re-export: lone surrogates cannot be written as UTF-8"),
    "repeated_key": Rule(
        "warning",
        False,
        "name each column once: of two values under one name only the last is read",
        "https://www.rfc-editor.org/rfc/rfc8259#section-4",
    ),
    "byte_order_mark": Rule("info", False, "save as UTF-8 without a byte-order mark"),
    "csv_columns": Rule("error", True, "quote fields that hold the separator or a line break"),
    "unknown_format": Rule(
        "error", True, "pass `columns`, such as {prompt: ..., completion: ...}", TRL_FORMATS
    ),
    "unread_column": Rule(
        "warning",
        False,
        "a long text of these rows is in no example: give its column one of our names if the task "
        "needs it; else nothing to do",
    ),
    "unread_label": Rule(
        "warning",
        False,
        "the label of these rows is not read: for classes give columns={prompt: TEXT, completion: "
        "LABEL} with their names; for good and bad answers (0, 1) name `label` in columns too",
    ),
    "other_task": Rule(
        "error", True, "keep conversations, plain texts and preference pairs in separate files"
    ),
    "mixed_formats": Rule("warning", False, "the cleaned files have one format; train on those"),
    # Structure
    "wrong_type": Rule("error", True, "turn contents into strings and turns into a list of turns"),
    "unknown_role": Rule("error", True, "use system, user, assistant or tool", TRL_FORMATS),
    "role_order": Rule(
        "error", True, "alternate user and assistant, system first, user before assistant"
    ),
    "empty_turn": Rule("error", True, "fill or delete the empty turn"),
    "missing_assistant": Rule(
        "error",
        True,
        "add an answer that is trained, or name its column in `columns`",
        OPENAI_FORMAT,
    ),
    "ends_with_user": Rule(
        "warning", False, "the cleaned files leave out the turns behind the last answer"
    ),
    "lone_turn": Rule(
        "error",
        True,
        "a text with a role is one turn: join the turns of a conversation (in OASST by parent_id) "
        "to a row of `messages`",
    ),
    "python_turns": Rule(
        "error",
        True,
        "turns as Python prints them, with single quotes, are no JSON: save JSONL or Parquet, or "
        "use json.dumps on the column before CSV",
    ),
    "untrained_answer": Rule(
        "warning",
        False,
        "train on the cleaned file: answers marked weight 0 or train false are not in its loss; "
        "launched as they are, these rows train them",
        OPENAI_WEIGHTS,
    ),
    "untrained_lost": Rule(
        "error",
        False,
        "answers that are not to be trained (weight 0, train false, in a prompt of turns) would "
        "be: give these rows a file of their own, each cut behind its last trained answer",
        OPENAI_WEIGHTS,
    ),
    "multimodal": Rule("error", True, "images and audio need another trainer; keep text parts"),
    "control_characters": Rule("warning", False, "strip control characters at their origin"),
    "unfilled_placeholder": Rule("error", False, "fill in the {{...}} placeholders", LLAMA_FACTORY),
    "template_markers": Rule(
        "warning", False, "take chat-template markers out of the text: the trainer adds them"
    ),
    # Content
    "empty_answer": Rule("error", True, "write the answer or delete the example"),
    "empty_prompt": Rule("error", True, "write the prompt or delete the example"),
    "placeholder_answer": Rule("error", True, "write the answer: it is TODO, N/A or the like"),
    "placeholder_input": Rule("info", False, "an input like <noinput> is read as no input"),
    "refusal": Rule(
        "warning",
        False,
        "keep refusals only at the rate you want to see; more teach over-refusal",
        "https://developers.openai.com/api/docs/guides/fine-tuning-best-practices.md",
    ),
    "ai_boilerplate": Rule(
        "warning", False, "rewrite or drop answers that talk about being an AI model"
    ),
    "truncated_answer": Rule("warning", False, "complete answers that stop in mid-sentence"),
    "repeated_text": Rule("warning", False, "drop answers that repeat themselves"),
    "merged_instruction": Rule(
        "warning",
        False,
        "split rows that hold more than one instruction",
        "https://github.com/gururise/AlpacaDataCleaned",
    ),
    "unseen_reference": Rule(
        "info", False, "drop prompts about an image, file or link that the model cannot see"
    ),
    "short_answer": Rule("info", False, "nothing to do: short answers are often right"),
    "model_generated": Rule(
        "info",
        False,
        "another model's answers teach its manner, not its skill: check them for truth, and the "
        "licence for what they may train",
        "https://arxiv.org/abs/2305.15717",
    ),
    "script_mix": Rule("info", False, "check that the minority writing system is wanted"),
    "language_mix": Rule("info", False, "check that the minority languages are wanted"),
    "answer_in_other_language": Rule(
        "info", False, "fine for translation; else answer in the language of the question"
    ),
    "one_topic": Rule(
        "info", False, "fine for a narrow task; a general model wants other topics too"
    ),
    "repeated_prompt": Rule("warning", False, "add different prompts: these repeat earlier ones"),
    # Secrets and personal data
    "secret": Rule("error", True, "revoke the key, then delete it from the data"),
    "personal_data_in_answer": Rule(
        "error", True, "a model repeats what it was taught: mask (personal_data='mask') or drop"
    ),
    "personal_data_in_prompt": Rule("warning", False, "mask it unless the task needs it"),
    # Duplicates and leaks
    "exact_duplicate": Rule("warning", True, "the first copy is kept"),
    "near_duplicate": Rule("warning", True, "the first of each group is kept"),
    "conflicting_targets": Rule("warning", False, "choose one answer, or say what decides"),
    "validation_leak": Rule(
        "error", True, "the validation example stays, its training twin is dropped"
    ),
    "benchmark_ngram": Rule("error", True, "drop: it holds a benchmark question, word by word"),
    "benchmark_semantic": Rule("error", True, "drop: it paraphrases a benchmark question"),
    # Preferences
    "identical_pair": Rule("error", True, "a pair needs two different answers"),
    "chosen_begins_rejected": Rule(
        "warning", False, "one answer is the start of the other: check for cut text"
    ),
    "prompts_differ": Rule("error", True, "chosen and rejected must answer the same prompt"),
    "implicit_prompt": Rule(
        "warning",
        False,
        "train on the cleaned file: it has an explicit prompt, so TRL need not guess it",
        TRL_FORMATS,
    ),
    "length_bias": Rule(
        "warning",
        False,
        "balance lengths, or use a length-normalised loss; the model may learn only length",
        "https://arxiv.org/abs/2403.19159",
    ),
    "format_bias": Rule(
        "warning", False, "one side uses lists, headings or code far more: balance it"
    ),
    "lexical_bias": Rule(
        "warning",
        False,
        "a few words tell chosen from rejected: balance them, or the model learns the words",
        "https://arxiv.org/abs/2310.03716",
    ),
    "label_balance": Rule("warning", False, "balance the labels, or set KTO's weights"),
    # Lengths and the model's template
    "template_refuses": Rule(
        "error",
        True,
        "the model's chat template refuses these: mind its roles and their order",
        "https://huggingface.co/docs/transformers/chat_templating",
    ),
    "template_too_slow": Rule(
        "error",
        False,
        "the model's chat template does not end or fills the memory: take one you trust",
    ),
    "end_not_trained": Rule(
        "warning",
        False,
        "no end-of-turn token is in the loss: the model may not learn to stop; mind the template",
    ),
    "tools_not_rendered": Rule(
        "warning",
        False,
        "the model's chat template leaves tools or calls of these out, and an empty answer is "
        "trained where a call should be: take a model or a template that writes them",
        "https://huggingface.co/docs/transformers/chat_templating",
    ),
    "answer_cut_off": Rule(
        "warning",
        False,
        "raise max_length or shorten: nothing of the last answer is left to train on",
    ),
    "over_max_length": Rule(
        "warning", False, "raise max_length or shorten: the end of these answers is cut off"
    ),
}
