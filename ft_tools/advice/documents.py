"""Facts of documents: their tokens, and what each way to answer from them reads per month."""

from ft_tools import workspace
from ft_tools.advice.facts import Facts, one_fact
from ft_tools.advice.ladder import threshold
from ft_tools.errors import BadInput
from ft_tools.formats.readers.documents import count_documents, is_documents

DAYS = 30
MINUTES_PER_DAY = 1440
REPEATED = {"prompt": "prompt_tokens", "long_context": "corpus_tokens"}
"""Way to answer -> the tokens that each of its calls repeats."""
RUNS_PER_MONTH = {"never": 0.0, "yearly": 1 / 12, "quarterly": 1 / 3, "monthly": 1.0}
RUNS_PER_MONTH |= {"weekly": 52 / 12, "daily": 365 / 12, "hourly": 365 * 24 / 12}


def document_facts(path: str) -> Facts:
    """Return how many tokens the documents have, estimated from their characters.

    Raises:
        NotFound: Nothing is there.
        OutsideWorkspace: It leaves the workspace.
        BadInput: There is no text in it.
    """
    root = workspace.existing(path)
    if not is_documents(root):
        raise BadInput(
            f"documents {path!r} is no text, Markdown, HTML, PDF or DOCX; convert it to text, or "
            "set corpus_tokens"
        )
    counts = count_documents(root)
    tokens, num_files = counts.num_tokens, sum(counts.kinds.values()) - counts.num_without_text
    limit = threshold("long_context_tokens")
    fits = "fits" if tokens <= limit else "does not fit"
    says = (
        f"{tokens:,} tokens (estimated) in {num_files:,} files; {fits} one cached prompt of "
        f"{limit:,.0f}"
    )
    return one_fact("documents", says, path, numbers={"corpus_tokens": float(tokens)})


def reading_facts(facts: Facts, price: float | None) -> Facts:
    """Return what a prompt, long context and retrieval read per month at these calls.

    In brackets what it would be with a cache: what every call repeats is read from it, and written
    anew where calls are further apart than the cache lives. Without a price the unit is tokens of
    uncached input. Answers are the same for all and left out.
    """
    known = facts.numbers
    calls = known.get("calls_per_day")
    full = {name: known[key] * DAYS for name, key in REPEATED.items() if key in known}
    if not calls or not full:
        return Facts()
    writes = 1.0 if calls >= MINUTES_PER_DAY / threshold("cache_minutes") else calls
    cached = (calls - writes) * threshold("cached_fraction")
    cached += writes * threshold("cache_write_fraction")
    least = threshold("cacheable_prefix") * DAYS
    numbers, shown = dict[str, float](), list[str]()
    for name, tokens in full.items():
        numbers[f"{name}_tokens_per_month"] = tokens * calls
        shown.append(f"{name} {_amount(tokens * calls, price)}")
        if tokens >= least and cached < calls:
            numbers[f"{name}_tokens_per_month_cached"] = tokens * cached
            shown[-1] += f" ({_amount(tokens * cached, price)} if cached)"
    if "corpus_tokens" in known:
        retrieved = threshold("retrieved_tokens") * DAYS * calls
        numbers["rag_tokens_per_month"] = retrieved
        numbers["context_tokens_per_day"] = known["corpus_tokens"] * calls
        shown.append(f"rag {_amount(retrieved, price)}")
    changes = facts.words.get("knowledge_changes")
    runs = f"{RUNS_PER_MONTH[changes]:.3g} runs" if changes else "a run per change of the facts"
    unit = "" if price else " tokens at the uncached price"
    says = f"per month: {', '.join(shown)}{unit}; training reads none, but takes {runs}"
    return one_fact("cost", says, "advice/ladder.toml: cached_fraction", numbers=numbers)


def _amount(tokens: float, price: float | None) -> str:
    if price is not None:
        return f"{tokens * price / 1e6:,.2f}"
    return f"{tokens / 1e6:,.0f}M" if tokens >= 1e8 else f"{tokens / 1e6:.3g}M"
