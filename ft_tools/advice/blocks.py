"""What speaks against training, derived from the facts.

The rules are rows of facts/anti_patterns.toml; the rungs that a rule blocks name it in ladder.toml.
"""

from collections.abc import Callable, Mapping

from ft_tools import anti_patterns
from ft_tools.advice.facts import Facts
from ft_tools.advice.ladder import table, threshold
from ft_tools.advice.report import Block


def _adds_facts(facts: Facts) -> str:
    share = facts.numbers.get("adds_facts", 0.0)
    if share >= threshold("adds_facts").value:
        return f"{share:.0%} of the answers hold names or numbers that their prompts lack"
    return "training is meant to teach facts" if facts.words.get("purpose") == "facts" else ""


def _same_family(facts: Facts) -> str:
    if (
        facts.words.get("data_source") != "same_model_family"
        or facts.words.get("filtered") == "yes"
    ):
        return ""
    return "the same model family wrote the answers, and no check filters them"


def _terms(facts: Facts) -> str:
    said = facts.words.get("terms") == "forbidden"
    return "the terms of the model that wrote the answers forbid it" if said else ""


def _unfit(facts: Facts) -> str:
    return (
        "the audit finds errors that cleaning does not remove"
        if facts.words.get("audit") == "errors"
        else ""
    )


def _moving(facts: Facts) -> str:
    changes = facts.words.get("knowledge_changes")
    return f"facts or labels change {changes}" if changes in {"weekly", "daily", "hourly"} else ""


def _shortening(facts: Facts) -> str:
    tokens = facts.numbers.get("prompt_tokens", 0.0)
    is_meant = facts.words.get("purpose") == "shorter_prompt"
    if not is_meant or tokens < threshold("cacheable_prefix").value:
        return ""
    return f"the {tokens:,.0f} tokens that calls share can be cached at a tenth of the price"


def _no_thoughts(facts: Facts) -> str:
    is_lost = facts.words.get("reasoning") == "missing_in_examples"
    return "the model must keep reasoning, and the examples have none" if is_lost else ""


def _closed(facts: Facts) -> str:
    is_closed = facts.words.get("weights_access") == "api_only"
    return "only an API serves the model's weights" if is_closed else ""


def _raw_base(facts: Facts) -> str:
    return "it starts from a raw base" if facts.words.get("checkpoint") == "base" else ""


def _new_skill(facts: Facts) -> str:
    if facts.numbers.get("success_fraction") == 0:
        return "no sample of the model passes the check"
    return "training is meant to teach a new skill" if facts.words.get("purpose") == "skill" else ""


def _no_success(facts: Facts) -> str:
    passed = facts.numbers.get("success_fraction")
    if passed is None or passed >= threshold("some_success").value:
        return ""
    return f"{passed:.1%} of the samples pass the check"


def _instruct_or_small(facts: Facts) -> str:
    checkpoint = facts.words.get("checkpoint")
    if checkpoint in {"instruct", "sft_run"}:
        return f"it starts from {checkpoint}"
    tokens = facts.numbers.get("corpus_tokens")
    wanted = threshold("pretraining_tokens").value
    if tokens is None or tokens >= wanted:
        return ""
    return f"the corpus has {tokens:,.0f} of {wanted:,.0f} tokens"


DERIVED: Mapping[str, Callable[[Facts], str]] = {
    "knowledge_injection": _adds_facts,
    "same_family_data": _same_family,
    "teacher_terms": _terms,
    "no_quality_filter": _unfit,
    "moving_target": _moving,
    "prompt_shortening": _shortening,
    "thinking_lost": _no_thoughts,
    "closed_weights": _closed,
    "dpo_before_sft": _raw_base,
    "dpo_new_skill": _new_skill,
    "rl_zero_reward": _no_success,
    "pretraining_on_instruct": _instruct_or_small,
}
"""Rule -> why it holds under the facts; empty where it does not, or where that is unknown."""


def blocks(facts: Facts) -> list[Block]:
    """Return the rules that hold under the facts, with the rungs that each blocks."""
    found = []
    for rule_id, derive in DERIVED.items():
        why = derive(facts)
        rungs = [row.id for row in table().rungs if rule_id in row.blocked_by]
        if why:
            rule = anti_patterns.rule(rule_id)
            found.append(
                Block(id=rule_id, rungs=rungs, why=why, override=rule.override, source=rule.source)
            )
    return found
