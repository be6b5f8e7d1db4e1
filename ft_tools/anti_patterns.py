"""The mistakes that this package stops: one named rule each, where it fires, how to override it.

A tool that refuses names the rule (`refusal`), so that the same id is found in the error, in the
report, in references/choosing.md (whose table is generated from here) and in this file.
"""

from dataclasses import dataclass
from typing import Literal

from ft_tools.errors import Refused, UnknownName

Strength = Literal["blocks", "prevents", "warns", "advises"]
"""`blocks`: the tool refuses and names the rule. `prevents`: the tool does it right by itself.
`warns`: its report says so. `advises`: recommend_approach blocks it."""


@dataclass(frozen=True)
class AntiPattern:
    """A mistake with evidence against it.

    `override` is the argument by which a person accepts the risk; it is kept in the plan or the
    request of the run.
    """

    id: str
    rule: str
    tools: tuple[str, ...]
    strength: Strength
    override: str
    why: str
    source: str


_ON_LAUNCH = (
    "A launch with this `advice` needs `accept_findings` with this id; kept in the plan with "
    "`accept_reason`."
)


def _unless(argument: str) -> str:
    return f"Call again with {argument}. {_ON_LAUNCH}"


ANTI_PATTERNS = (
    AntiPattern(
        "knowledge_injection",
        "Do not train facts into the weights; put them in the context.",
        ("recommend_approach",),
        "advises",
        _ON_LAUNCH,
        "New facts are learned slowly and, once learned, raise hallucination in proportion. It can "
        "work for a stable corpus with many rewrites of each fact and a held-out test.",
        "https://arxiv.org/abs/2405.05904",
    ),
    AntiPattern(
        "same_family_data",
        "Do not replace real data with unchecked answers from the same model family.",
        ("recommend_approach",),
        "advises",
        _unless("`has_verifiable_reward=true` if a check filters the answers"),
        "Models collapse when real data is replaced generation after generation. Answers filtered "
        "by a verifier, or written by a stronger teacher, are standard practice.",
        "https://arxiv.org/abs/2404.01413",
    ),
    AntiPattern(
        "dpo_before_sft",
        "Do not start DPO from a raw base model.",
        ("launch_dpo", "recommend_approach"),
        "blocks",
        '`accept_findings=["dpo_before_sft"]`; kept in the plan with `accept_reason`.',
        "DPO learns only the difference between two answers; what is good in both is never "
        "learned. An instruct checkpoint has already had SFT.",
        "https://github.com/eric-mitchell/direct-preference-optimization/issues/58",
    ),
    AntiPattern(
        "no_quality_filter",
        "Do not train on data that failed or skipped the audit.",
        ("launch_sft", "launch_dpo", "recommend_approach"),
        "blocks",
        "`accept_findings` with this id, or those of the audit's errors; kept in the plan with "
        "`accept_reason`.",
        "Keeping only examples with a verified label moved a small student model from 51.5% to "
        "86.7% on one benchmark, with nothing else changed.",
        "https://dspy.ai/tutorials/classification_finetuning/",
    ),
    AntiPattern(
        "advised_against",
        "Do not start training that recommend_approach advises against.",
        ("launch_sft", "launch_dpo"),
        "blocks",
        "`accept_findings` with this id, or those of the rules that advise against it; kept in the "
        "plan with `accept_reason`.",
        "The advice is the cheapest approach likely to be enough; training before its first steps "
        "costs more and shows less.",
        "https://developers.openai.com/api/docs/guides/model-optimization",
    ),
    AntiPattern(
        "verdict_column",
        "Do not train on rows that may be marked bad before somebody decided what to do with them.",
        ("launch_sft", "launch_dpo"),
        "blocks",
        '`accept_findings=["verdict_column"]` to ignore the column; kept in the plan with '
        "`accept_reason`.",
        "A model learns each answer that it is trained on, the disliked ones too.",
        "https://arxiv.org/abs/2402.01306",
    ),
    AntiPattern(
        "validation_unwatched",
        "Do not train more than one epoch without validation examples.",
        ("launch_sft", "launch_dpo"),
        "blocks",
        '`accept_findings=["validation_unwatched"]`; kept in the plan with `accept_reason`.',
        "A falling training loss does not show overfitting; only held-out loss does.",
        "https://huggingface.co/docs/transformers/main_classes/callback#transformers.EarlyStoppingCallback",
    ),
    AntiPattern(
        "quantize_unmerged",
        "Do not quantize a base model under an adapter that is not merged.",
        ("merge_and_quantize",),
        "prevents",
        "None: the tool merges first, always.",
        "The quantized file would lack the training.",
        "https://github.com/hiyouga/LLaMA-Factory/pull/4950",
    ),
    AntiPattern(
        "merge_into_quantized",
        "Do not merge an adapter into quantized weights.",
        ("merge_and_quantize",),
        "blocks",
        "None: merge into the original or the dequantized base (`merge_base`).",
        "PEFT refuses a GPTQ base; merging into requantized 4-bit weights moved the output by a "
        "KL of 1.0e-1, into the dequantized base by 2e-6 (measured on a 1.27 M-parameter model).",
        "https://github.com/huggingface/peft/issues/2321",
    ),
    AntiPattern(
        "no_eval_set",
        "Do not train before a held-out set and a target exist.",
        ("recommend_approach",),
        "advises",
        _ON_LAUNCH,
        "Without it, neither the need nor the gain can be shown.",
        "https://developers.openai.com/api/docs/guides/model-optimization",
    ),
    AntiPattern(
        "prompt_not_tried",
        "Do not train before the best prompt has been measured.",
        ("recommend_approach",),
        "advises",
        _unless('`prompting_tried="optimized"` once it is'),
        "A frontier model with a 1,400-word prompt scored 4.7 of 5 where a tuned 70B model scored "
        "4.2, at 68 against 890 EUR a month (one firm, low volume).",
        "https://developers.openai.com/api/docs/guides/model-optimization",
    ),
    AntiPattern(
        "teacher_terms",
        "Do not train on answers from a provider that forbids it.",
        ("recommend_approach",),
        "advises",
        _unless('`teacher_terms="allowed"` if they do (not legal advice)'),
        "Several providers forbid training competing models on their output, and a permissive tag "
        "on a copied dataset does not change that.",
        "https://openai.com/policies/services-agreement/",
    ),
    AntiPattern(
        "too_few_examples",
        "Do not train on a handful of examples; put them in the prompt.",
        ("recommend_approach",),
        "advises",
        _unless("`num_demonstrations` when there are more"),
        "Gains start at 50 to 100 well-made examples.",
        "https://developers.openai.com/docs/guides/distillation",
    ),
    AntiPattern(
        "dpo_new_skill",
        "Do not use DPO to teach a task the model cannot do.",
        ("recommend_approach",),
        "advises",
        _ON_LAUNCH,
        "Preference pairs strengthen an existing ability; they do not create one.",
        "https://github.com/openai/openai-cookbook/blob/main/examples/Fine_tuning_direct_preference_optimization_guide.ipynb",
    ),
    AntiPattern(
        "rl_zero_reward",
        "Do not start reinforcement learning where the model never succeeds.",
        ("recommend_approach",),
        "advises",
        _unless("the measured `success_fraction`"),
        "If no sample succeeds, every advantage is zero and nothing is learned.",
        "https://github.com/unslothai/unsloth/issues/2614",
    ),
    AntiPattern(
        "pretraining_on_instruct",
        "Do not continue pretraining from an instruct checkpoint, or on a small corpus.",
        ("recommend_approach",),
        "advises",
        _unless('`checkpoint="base"` and a larger corpus'),
        "2B tokens of books on an instruct model gave incoherent output.",
        "https://github.com/Lightning-AI/litgpt/issues/1517",
    ),
    AntiPattern(
        "moving_target",
        "Do not train what changes every week; retrieve it.",
        ("recommend_approach",),
        "advises",
        _unless("another `knowledge_changes` if they are stable"),
        "Each change of labels or facts would need a new run and a new evaluation.",
        "https://arxiv.org/abs/2403.01432",
    ),
    AntiPattern(
        "prompt_shortening",
        "Do not train only to shorten a prompt that can be cached.",
        ("recommend_approach",),
        "advises",
        _ON_LAUNCH,
        "Cached input costs a tenth; a smaller model saves more than a shorter prompt.",
        "https://platform.claude.com/docs/en/build-with-claude/prompt-caching",
    ),
    AntiPattern(
        "thinking_lost",
        "Do not train a thinking model on answers without reasoning if it must keep thinking.",
        ("recommend_approach",),
        "advises",
        _unless("`examples_have_reasoning=true` if the examples contain it"),
        "Users report that a thinking model trained on plain answers stops thinking.",
        "https://github.com/QwenLM/Qwen3/issues/1487",
    ),
    AntiPattern(
        "closed_weights",
        "Do not plan training that needs weights which only an API serves.",
        ("recommend_approach",),
        "advises",
        _unless('`weights_access="open_weights"` with another model'),
        "Hosted tuning covers few methods, and a large provider is closing it.",
        "https://developers.openai.com/api/docs/deprecations",
    ),
    AntiPattern(
        "train_validation_leak",
        "Do not validate on examples that are also trained on.",
        ("launch_sft", "launch_dpo", "evaluate"),
        "blocks",
        '`accept_findings=["train_validation_leak"]`; kept in the plan with `accept_reason`.',
        "The score then measures memorization. audit_dataset lists the examples that leak.",
        "https://arxiv.org/abs/2411.15124",
    ),
    AntiPattern(
        "test_row",
        "Do not train on the rows of a test set.",
        ("launch_sft", "launch_dpo"),
        "blocks",
        '`accept_findings=["test_row"]`; kept in the plan with `accept_reason`.',
        "The score then measures memory. Rows are known by content, whatever file they are in.",
        "https://arxiv.org/abs/2411.15124",
    ),
    AntiPattern(
        "dpo_learning_rate",
        "Do not run DPO at the learning rate of SFT.",
        ("launch_dpo",),
        "blocks",
        '`accept_findings=["dpo_learning_rate"]`; kept in the plan with `accept_reason`.',
        "Runs at 5e-5 are reported to collapse; 5e-6 is usual for adapters.",
        "https://github.com/hiyouga/LLaMA-Factory/issues/6153",
    ),
    AntiPattern(
        "does_not_fit",
        "Do not start a run that does not fit on the GPU.",
        ("launch_sft", "launch_dpo"),
        "blocks",
        '`accept_findings=["does_not_fit"]`; kept in the plan with `accept_reason`.',
        "It would run out of memory after loading the model. Of 250 published runs, the estimate "
        "refused none that trained (benchmarks/vram.json).",
        "https://github.com/foundation-model-stack/fms-acceleration/tree/main/scripts/benchmarks",
    ),
    AntiPattern(
        "memory_unchecked",
        "Do not start a run whose memory could not be estimated.",
        ("launch_sft", "launch_dpo"),
        "blocks",
        '`accept_findings=["memory_unchecked"]`; kept in the plan with `accept_reason`.',
        "About 9% of the training jobs on two large GPU clusters failed out of memory.",
        "https://arxiv.org/abs/2504.03887",
    ),
    AntiPattern(
        "unrepeatable_start",
        "Do not start an adapter from a random decomposition that is not stored.",
        ("launch_sft", "launch_dpo", "merge_and_quantize"),
        "blocks",
        'None: use `init_lora_weights` "pissa" instead of "pissa_niter_N".',
        "Loaded again over the original base, the adapter gives a different model.",
        "https://huggingface.co/docs/peft/developer_guides/lora",
    ),
    AntiPattern(
        "unproven_merge",
        "Do not ship a merged model that differs from the one that was trained.",
        ("merge_and_quantize",),
        "blocks",
        "None: the run fails and ships nothing.",
        "A merge into the wrong base raises no error and answers differently.",
        "https://github.com/axolotl-ai-cloud/axolotl/issues/1267",
    ),
    AntiPattern(
        "unpaired_comparison",
        "Do not call a difference an improvement before its interval excludes zero.",
        ("evaluate",),
        "warns",
        "None: the verdict is `underpowered` or `no_detectable_change`.",
        "About 620 paired items are needed to see a 5-point change at a discordance of 0.2.",
        "https://arxiv.org/abs/2411.00640",
    ),
    AntiPattern(
        "general_ability_unwatched",
        "Do not ship a tuned model before general ability and refusals are measured again.",
        ("evaluate",),
        "warns",
        "None needed: the summary says that they were not measured.",
        "Ten harmful or identity-shifting examples removed the refusals of a chat model; benign "
        "data weakened them too.",
        "https://arxiv.org/abs/2310.03693",
    ),
)


def rule(rule_id: str) -> AntiPattern:
    """Return the rule with an id.

    Raises:
        UnknownName: No rule has that id; the message lists the known ones.
    """
    for pattern in ANTI_PATTERNS:
        if pattern.id == rule_id:
            return pattern
    raise UnknownName("rule", rule_id, (pattern.id for pattern in ANTI_PATTERNS))


def refusal(rule_id: str, observed: str, cure: str) -> Refused:
    """Return the error by which a tool refuses a mistake: what was seen, the fix, the override.

    Args:
        rule_id: A rule of this table.
        observed: What the tool saw, with its value.
        cure: What to do instead.
    """
    pattern = rule(rule_id)
    return Refused(f"{rule_id}: {observed}. {pattern.rule} {cure} Override: {pattern.override}")
