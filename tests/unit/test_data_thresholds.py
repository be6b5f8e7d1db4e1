"""The audit's lines are the ones that the facts give reasons for."""

from ft_tools import facts
from ft_tools.data.judge import text_faults
from ft_tools.data.request import AuditRequest
from ft_tools.data.understand import preferences
from ft_tools.similarity import ngrams, words


def test_each_line_of_the_audit_is_the_one_in_the_facts():
    used = {
        "audit.near_cosine": AuditRequest(path="x").near_duplicate_threshold,
        "audit.near_jaccard": words.JACCARD,
        "audit.benchmark_words": ngrams.SIZE,
        "audit.short_words": text_faults.SHORT_WORDS,
        "audit.length_effect": preferences.MAX_EFFECT,
        "audit.length_auc_off": preferences.MAX_AUC_OFF,
    }
    assert {name: facts.number(name) for name in used} == used
